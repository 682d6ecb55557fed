//! A single image, repeated.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    capture::{Content, Grabbed, VideoCapture},
    playback_clock::PlaybackClock,
};
use crate::video::{
    image::{Image, Size, SizeError},
    jpeg::{Decoder, HeaderError, JpegError, OutputFormat},
};

/// An image that is decoded once.
pub(super) struct Still {
    image: Arc<Image>,
    playback_clock: PlaybackClock,
    once: bool,
    shown: bool,
}

impl Still {
    /// Decodes the file of the given format.
    pub(super) fn open(
        path: &Path,
        format: &str,
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Self), SourceError> {
        let damaged = || SourceError::DamagedImage { path: path.into(), format: format.to_owned() };
        let unreadable = |error| SourceError::Unreadable { path: path.into(), error };
        let bytes = fs::read(path).map_err(unreadable)?;
        match check(format, &bytes) {
            CheckOutcome::Fine => {}
            CheckOutcome::Damaged => return Err(damaged()),
            CheckOutcome::Size(_, pixels)
                if options.size.is_some() && pixels <= MAX_SCALED_PIXELS => {}
            CheckOutcome::Size(error, _) => return Err(out_of_range(path)(error)),
        }
        // The orientation of TIFF is not Exif but a tag of its own, which its decoder applies.
        let turns = format != "TIFF";
        // Decoded from memory, so that the file is read once and its name does not matter.
        let decoded =
            VideoCapture::start()?.decode_image(&bytes, options.gray, turns, options.size)?;
        let Some(Grabbed { content: Content::Image(image), found, .. }) = decoded else {
            return Err(damaged());
        };
        let size = match options.size {
            Some(size) => size,
            None => Size::new(found.width, found.height).map_err(out_of_range(path))?,
        };
        let image = image.into();
        let fps = options.fps.unwrap_or(DEFAULT_FPS);
        let info = describe(path, format, found, size, fps);
        Ok((
            info,
            Self {
                image,
                playback_clock: options.playback_clock(fps),
                once: options.once,
                shown: false,
            },
        ))
    }

    pub(super) fn next(&mut self, stop: &AtomicBool) -> Option<Captured> {
        if self.once && std::mem::replace(&mut self.shown, true) {
            return None;
        }
        let due = self.playback_clock.wait(stop)?;
        let picture = Picture::Image(Arc::clone(&self.image));
        Some(Captured { picture, captured: due.at, number: due.number })
    }

    /// Whether pictures are delivered at a frame rate, rather than on request.
    pub(super) fn is_paced(&self) -> bool {
        self.playback_clock.is_paced()
    }
}

/// The error for a file whose picture size is out of range.
pub(super) fn out_of_range(path: &Path) -> impl Fn(SizeError) -> SourceError {
    move |error| SourceError::Size { path: path.into(), error }
}

fn describe(path: &Path, format: &str, found: Size, size: Size, fps: f64) -> SourceInfo {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut notes = Vec::new();
    if VIDEO_EXTENSIONS.contains(&&extension[..]) {
        notes.push(format!("{} is a {format} image despite its name", path.display()));
    }
    let scaling = if found == size { String::new() } else { format!(" scaled to {size}") };
    SourceInfo {
        width: size.width,
        height: size.height,
        fps,
        description: format!(
            "{}, {format} image {found}{scaling}, shown {fps} times a second",
            path.display()
        ),
        passthrough: false,
        notes,
    }
}

/// The result of checks before OpenCV decodes an image. Its decoders allocate what the header says,
/// and write their own messages to standard error.
enum CheckOutcome {
    Fine,
    Damaged,
    /// Beyond the limits, with this number of pixels.
    Size(SizeError, usize),
}

impl CheckOutcome {
    fn of_size(width: usize, height: usize) -> Self {
        let pixels = width.saturating_mul(height);
        Size::new(width, height).map_or_else(|error| Self::Size(error, pixels), |_| Self::Fine)
    }
}

fn check(format: &str, bytes: &[u8]) -> CheckOutcome {
    match format {
        "PNG" => check_png(bytes),
        "JPEG" => check_jpeg(bytes),
        _ => CheckOutcome::Fine,
    }
}

fn check_png(bytes: &[u8]) -> CheckOutcome {
    let side = |at: usize| {
        let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes) as usize)
    };
    let (Some(width), Some(height)) = (side(16), side(20)) else { return CheckOutcome::Damaged };
    match CheckOutcome::of_size(width, height) {
        CheckOutcome::Fine if memchr::memmem::rfind(bytes, b"IEND").is_none() => {
            CheckOutcome::Damaged
        }
        verdict => verdict,
    }
}

fn check_jpeg(bytes: &[u8]) -> CheckOutcome {
    match Decoder::new().decode(bytes, OutputFormat::Planar, &mut Image::empty()) {
        Err(JpegError::Header(HeaderError::Size(width, height))) => {
            CheckOutcome::of_size(width, height)
        }
        // A photograph may be a JPEG that is not valid as a frame; OpenCV decodes it.
        Err(JpegError::Header(error)) if error.is_unsupported() => CheckOutcome::Fine,
        Ok(()) => CheckOutcome::Fine,
        Err(_) => CheckOutcome::Damaged,
    }
}

/// The most pixels of an image scaled with `--size`: more than a photograph of 200 megapixels has.
/// Decoding takes three bytes for each.
const MAX_SCALED_PIXELS: usize = 1 << 28;

/// Extensions that suggest a video, not an image.
const VIDEO_EXTENSIONS: [&str; 8] = ["avi", "mp4", "mkv", "mov", "webm", "mpg", "mjpeg", "y4m"];

#[cfg(all(test, feature = "opencv"))]
mod tests {
    use super::*;
    use crate::video::{
        image::PixelFormat,
        jpeg::{Encoder, Strips, tests::textured},
        source::SourceOptions,
    };
    use opencv::{core::MatExprTraitConst, imgcodecs, prelude::VectorToVec};

    static NEVER_STOP: AtomicBool = AtomicBool::new(false);

    fn open(
        name: &str,
        bytes: &[u8],
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Still), SourceError> {
        open_as("JPEG", name, bytes, options)
    }

    fn open_as(
        format: &str,
        name: &str,
        bytes: &[u8],
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Still), SourceError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("writes");
        Still::open(&path, format, options)
    }

    #[test]
    fn an_image_is_repeated_scaled_and_converted_to_gray() {
        let options = SourceOptions {
            size: Some(Size { width: 32, height: 20 }),
            fps: Some(500.0),
            gray: true,
            ..SourceOptions::default()
        };
        let jpeg = textured(64, 48, PixelFormat::Yuv420);
        let (info, mut still) = open("a.avi", &jpeg, &options).expect("decodes");
        assert_eq!((info.width, info.height, info.notes.len()), (32, 20, 1));
        for _ in 0..3 {
            let Picture::Image(image) = still.next(&NEVER_STOP).expect("no end").picture else {
                panic!()
            };
            assert_eq!((image.format, image.width), (PixelFormat::Gray, 32));
        }
    }

    /// An Exif block with only an orientation (Exif 2.32, tag 0112).
    fn exif(orientation: u8, is_big_endian: bool) -> Vec<u8> {
        let block: &[u8] = if is_big_endian {
            &[b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]
        } else {
            &[b'I', b'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]
        };
        [block, &[0; 4]].concat()
    }

    /// The stored pixels of a photograph whose upper left quarter is white.
    fn stored() -> Image {
        let mut image = Image::blank(64, 32, PixelFormat::Gray);
        image.data[..16 * 64].chunks_exact_mut(64).for_each(|row| row[..32].fill(255));
        image
    }

    fn encoded(extension: &str) -> Vec<u8> {
        let image = stored().to_bgr();
        let mat =
            opencv::core::Mat::new_rows_cols_with_bytes::<opencv::core::Vec3b>(32, 64, &image.data);
        let mut bytes = opencv::core::Vector::new();
        assert!(
            imgcodecs::imencode_def(extension, &mat.expect("pixels"), &mut bytes).expect("encodes")
        );
        bytes.to_vec()
    }

    /// A JPEG with Exif in APP1, followed by a gain map.
    fn jpeg_photograph(exif: &[u8]) -> Vec<u8> {
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(90, Strips::Count(1));
        encoder.encode(&stored(), &mut jpeg).expect("encodes");
        let exif = [b"Exif\0\0", exif].concat();
        let len = ((exif.len() + 2) as u16).to_be_bytes();
        let gain_map = textured(16, 16, PixelFormat::Gray);
        [&jpeg[..2], &[0xFF, 0xE1], &len, &exif, &jpeg[2..], &gain_map].concat()
    }

    /// A PNG with an `eXIf` chunk after the header chunk (PNG 3, 11.3.4.5).
    fn png_photograph(exif: &[u8]) -> Vec<u8> {
        let png = encoded(".png");
        let chunk = [b"eXIf", exif].concat();
        let (len, crc) = ((exif.len() as u32).to_be_bytes(), crc32fast::hash(&chunk).to_be_bytes());
        [&png[..33], &len, &chunk, &crc, &png[33..]].concat()
    }

    /// An extended WebP, with an `EXIF` chunk after the picture (RFC 9649, 2.7).
    fn webp_photograph(exif: &[u8]) -> Vec<u8> {
        let picture = &encoded(".webp")[12..];
        let chunk = |name: &[u8; 4], data: &[u8]| {
            [name, &(data.len() as u32).to_le_bytes()[..], data].concat()
        };
        let extended = chunk(b"VP8X", &[8, 0, 0, 0, 63, 0, 0, 31, 0, 0]);
        chunk(b"RIFF", &[b"WEBP", &extended[..], picture, &chunk(b"EXIF", exif)].concat())
    }

    /// An uncompressed TIFF of one strip, with the orientation in a tag of its own.
    fn tiff_photograph(exif: &[u8]) -> Vec<u8> {
        let orientation = u32::from(exif[18] | exif[19]);
        let tags = [
            (0x100, 64),
            (0x101, 32),
            (0x102, 8),
            (0x103, 1),
            (0x106, 1),
            (0x111, 134),
            (0x112, orientation),
            (0x115, 1),
            (0x116, 32),
            (0x117, 64 * 32),
        ];
        let mut tiff = b"II*\0\x08\0\0\0\x0a\0".to_vec();
        for (tag, value) in tags {
            tiff.extend(
                [&u16::to_le_bytes(tag)[..], &[4, 0, 1, 0, 0, 0], &value.to_le_bytes()].concat(),
            );
        }
        tiff.extend([0; 4]);
        [tiff, stored().data].concat()
    }

    #[test]
    fn a_photograph_is_rotated_by_its_exif_orientation() {
        // The position of the white quarter: (is right, is at the bottom).
        let expected = [
            (0, (false, false)),
            (1, (false, false)),
            (2, (true, false)),
            (3, (true, true)),
            (4, (false, true)),
            (5, (false, false)),
            (6, (true, false)),
            (7, (true, true)),
            (8, (false, true)),
            (9, (false, false)),
        ];
        for (format, photograph) in [
            ("JPEG", jpeg_photograph as fn(&[u8]) -> Vec<u8>),
            ("PNG", png_photograph),
            ("WebP", webp_photograph),
            ("TIFF", tiff_photograph),
        ] {
            for (orientation, white) in expected {
                for (is_big_endian, gray) in [(false, false), (true, false), (true, true)] {
                    let options = SourceOptions { gray, ..SourceOptions::default() };
                    let bytes = photograph(&exif(orientation, is_big_endian));
                    let is_turned = (5..=8).contains(&orientation);
                    let size = if is_turned { (32, 64) } else { (64, 32) };
                    let seen = seen(format, &bytes, &options);
                    assert_eq!(seen, (size, vec![white]), "{format}, orientation {orientation}");
                }
            }
        }
    }

    #[test]
    fn damage_elsewhere_in_exif_does_not_hide_the_orientation() {
        let options = SourceOptions::default();
        let mut damaged = exif(6, true);
        // A second entry is announced, but not there.
        damaged[9] = 2;
        for (format, bytes) in
            [("JPEG", jpeg_photograph(&damaged)), ("WebP", webp_photograph(&damaged))]
        {
            assert_eq!(seen(format, &bytes, &options).0, (32, 64), "{format}");
        }
        assert_eq!(seen("WebP", &webp_photograph(b"no Exif"), &options).0, (64, 32));
    }

    /// The size of the picture and its white quarters: (is right, is at the bottom).
    fn seen(
        format: &str,
        bytes: &[u8],
        options: &SourceOptions,
    ) -> ((usize, usize), Vec<(bool, bool)>) {
        let (info, mut still) = open_as(format, "a", bytes, options).expect("decodes");
        let Picture::Image(image) = still.next(&NEVER_STOP).expect("no end").picture else {
            panic!("pixels")
        };
        let is_white = |&(right, bottom): &(bool, bool)| {
            let quarter = |side: usize, far| side / 4 + if far { side / 2 } else { 0 };
            image.luma_at(quarter(info.width, right), quarter(info.height, bottom)) > 128
        };
        let quarters = [(false, false), (true, false), (false, true), (true, true)];
        ((info.width, info.height), quarters.into_iter().filter(is_white).collect())
    }

    #[test]
    fn with_once_an_image_is_shown_once() {
        let options = SourceOptions { once: true, ..SourceOptions::default() };
        let jpeg = textured(64, 48, PixelFormat::Yuv420);
        let (_, mut still) = open("a.jpg", &jpeg, &options).expect("decodes");
        assert!(still.next(&NEVER_STOP).is_some());
        assert!(still.next(&NEVER_STOP).is_none());
    }

    #[test]
    fn an_image_over_the_limits_is_scaled_on_request() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("large.png");
        let large = opencv::core::Mat::zeros(20, 9000, opencv::core::CV_8UC3).expect("made");
        let large = large.to_mat().expect("made");
        imgcodecs::imwrite_def(&path, &large).expect("writes");
        let options = SourceOptions::default();
        let error = Still::open(&path, "PNG", &options).err().expect("over the limits");
        assert!(error.to_string().contains("--size"), "{error}");
        let size = Some(Size { width: 900, height: 16 });
        let options = SourceOptions { size, ..options };
        let (info, _) = Still::open(&path, "PNG", &options).expect("is scaled");
        assert_eq!((info.width, info.height), (900, 16));
    }

    #[test]
    fn a_truncated_image_is_refused() {
        let jpeg = textured(64, 48, PixelFormat::Yuv420);
        let error = open("a.jpg", &jpeg[..jpeg.len() / 2], &SourceOptions::default()).err();
        assert!(matches!(error, Some(SourceError::DamagedImage { .. })), "{error:?}");
    }
}
