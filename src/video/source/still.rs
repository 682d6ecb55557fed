//! A single image, repeated.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use opencv::{core::MatTraitConst, imgcodecs};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    mat::{image_of, quieten, scale},
    pace::Pacer,
};
use crate::video::{
    image::{Image, Size, SizeError},
    jpeg::{Decoder, HeaderError, JpegError, Want},
};

/// An image that is decoded once.
pub(super) struct Still {
    image: Arc<Image>,
    pacer: Pacer,
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
        quieten();
        let damaged = || SourceError::DamagedImage { path: path.into(), format: format.to_owned() };
        let unreadable = |error| SourceError::Unreadable { path: path.into(), error };
        let bytes = fs::read(path).map_err(unreadable)?;
        match check(format, &bytes) {
            Verdict::Fine => {}
            Verdict::Damaged => return Err(damaged()),
            Verdict::Size(_, pixels) if options.size.is_some() && pixels <= MAX_SCALED_PIXELS => {}
            Verdict::Size(error, _) => return Err(oversized(path)(error)),
        }
        let flags =
            if options.gray { imgcodecs::IMREAD_GRAYSCALE } else { imgcodecs::IMREAD_COLOR };
        // Decoded from memory, so that the file is read once and its name does not matter.
        let mat = imgcodecs::imdecode(&&bytes[..], flags).map_err(|_| damaged())?;
        if mat.empty() {
            return Err(damaged());
        }
        let image = image_of(&mat)?;
        let found = image.size();
        let size = match options.size {
            Some(size) => size,
            None => Size::new(found.width, found.height).map_err(oversized(path))?,
        };
        let image = scale(image, size)?.into();
        let fps = options.fps.unwrap_or(DEFAULT_FPS);
        let info = describe(path, format, found, size, fps);
        Ok((info, Self { image, pacer: options.pacer(fps), once: options.once, shown: false }))
    }

    pub(super) fn next(&mut self, stop: &AtomicBool) -> Option<Captured> {
        if self.once && std::mem::replace(&mut self.shown, true) {
            return None;
        }
        let due = self.pacer.wait(stop)?;
        let picture = Picture::Image(Arc::clone(&self.image));
        Some(Captured { picture, captured: due.at, number: due.number })
    }

    /// Whether pictures come at a rate.
    pub(super) fn is_paced(&self) -> bool {
        self.pacer.is_paced()
    }
}

/// The error for a file whose picture is beyond the size limits.
pub(super) fn oversized(path: &Path) -> impl Fn(SizeError) -> SourceError {
    move |error| SourceError::Size { path: path.into(), error }
}

fn describe(path: &Path, format: &str, found: Size, size: Size, fps: f64) -> SourceInfo {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut notes = Vec::new();
    if FILM_EXTENSIONS.contains(&&extension[..]) {
        notes.push(format!("{} is a {format} image, whatever its name says", path.display()));
    }
    let scaling = if found == size { String::new() } else { format!(" scaled to {size}") };
    SourceInfo {
        width: size.width,
        height: size.height,
        fps,
        description: format!("{}, {format} image {found}{scaling}, {fps} times/s", path.display()),
        passthrough: false,
        notes,
    }
}

/// The result of checks before OpenCV decodes an image. Its decoders allocate what the header says,
/// and write their own messages to standard error.
enum Verdict {
    Fine,
    Damaged,
    /// Beyond the limits, with this number of pixels.
    Size(SizeError, usize),
}

impl Verdict {
    fn of_size(width: usize, height: usize) -> Self {
        let pixels = width.saturating_mul(height);
        Size::new(width, height).map_or_else(|error| Self::Size(error, pixels), |_| Self::Fine)
    }
}

fn check(format: &str, bytes: &[u8]) -> Verdict {
    match format {
        "PNG" => check_png(bytes),
        "JPEG" => check_jpeg(bytes),
        _ => Verdict::Fine,
    }
}

fn check_png(bytes: &[u8]) -> Verdict {
    let side = |at: usize| {
        let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes) as usize)
    };
    let (Some(width), Some(height)) = (side(16), side(20)) else { return Verdict::Damaged };
    match Verdict::of_size(width, height) {
        Verdict::Fine if memchr::memmem::rfind(bytes, b"IEND").is_none() => Verdict::Damaged,
        verdict => verdict,
    }
}

fn check_jpeg(bytes: &[u8]) -> Verdict {
    match Decoder::new().decode(bytes, Want::Planar, &mut Image::empty()) {
        Err(JpegError::Header(HeaderError::Size(width, height))) => Verdict::of_size(width, height),
        // A photograph may be a JPEG that is not valid as a frame; OpenCV decodes these.
        Err(JpegError::Header(error)) if error.is_unsupported() => Verdict::Fine,
        Ok(()) => Verdict::Fine,
        Err(_) => Verdict::Damaged,
    }
}

/// The most pixels of an image scaled with `--size`: slightly more than a photograph of 200
/// megapixels. Decoding takes three bytes for each.
const MAX_SCALED_PIXELS: usize = 1 << 28;

/// Extensions that suggest a film, not an image.
const FILM_EXTENSIONS: [&str; 8] = ["avi", "mp4", "mkv", "mov", "webm", "mpg", "mjpeg", "y4m"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{
        image::PixelFormat,
        jpeg::{Encoder, Strips, tests::textured},
        source::SourceOptions,
    };
    use opencv::core::MatExprTraitConst;

    static RUN: AtomicBool = AtomicBool::new(false);

    fn open(
        name: &str,
        bytes: &[u8],
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Still), SourceError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("writes");
        Still::open(&path, "JPEG", options)
    }

    #[test]
    fn an_image_is_repeated_scaled_and_grey() {
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
            let Picture::Image(image) = still.next(&RUN).expect("no end").picture else { panic!() };
            assert_eq!((image.format, image.width), (PixelFormat::Gray, 32));
        }
    }

    /// A photograph with a white upper left part, stored with the Exif `orientation` (Exif 2.32,
    /// tag 0112) and followed by a gain map.
    fn photograph(orientation: u8, is_big_endian: bool) -> Vec<u8> {
        let mut image = Image::blank(64, 32, PixelFormat::Gray);
        image.data[..16 * 64].chunks_exact_mut(64).for_each(|row| row[..32].fill(255));
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(90, Strips::Count(1));
        encoder.encode(&image, &mut jpeg).expect("encodes");
        let exif: &[u8] = if is_big_endian {
            &[b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]
        } else {
            &[b'I', b'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]
        };
        let exif = [&b"Exif\0\0"[..], exif, &[0; 4]].concat();
        let len = ((exif.len() + 2) as u16).to_be_bytes();
        let gain_map = textured(16, 16, PixelFormat::Gray);
        [&jpeg[..2], &[0xFF, 0xE1], &len, &exif, &jpeg[2..], &gain_map].concat()
    }

    #[test]
    fn a_photograph_is_upright_whichever_way_the_camera_was_held() {
        // The position of the white part: (is right, is at the bottom).
        let expected = [
            (1, (false, false)),
            (2, (true, false)),
            (3, (true, true)),
            (4, (false, true)),
            (5, (false, false)),
            (6, (true, false)),
            (7, (true, true)),
            (8, (false, true)),
        ];
        for (orientation, white) in expected {
            for (is_big_endian, gray) in [(false, false), (true, false), (true, true)] {
                let options = SourceOptions { gray, ..SourceOptions::default() };
                let jpeg = photograph(orientation, is_big_endian);
                let (info, mut still) = open("a.jpg", &jpeg, &options).expect("decodes");
                let size = if orientation < 5 { (64, 32) } else { (32, 64) };
                assert_eq!((info.width, info.height), size, "{orientation}");
                let Picture::Image(image) = still.next(&RUN).expect("no end").picture else {
                    panic!("pixels")
                };
                let is_white = |right: bool, bottom: bool| {
                    let quarter = |side: usize, far| side / 4 + if far { side / 2 } else { 0 };
                    image.luma_at(quarter(size.0, right), quarter(size.1, bottom)) > 128
                };
                for (right, bottom) in [(false, false), (true, false), (false, true), (true, true)]
                {
                    let here = (right, bottom);
                    assert_eq!(is_white(right, bottom), here == white, "{orientation} at {here:?}");
                }
            }
        }
    }

    #[test]
    fn once_shows_it_once() {
        let options = SourceOptions { once: true, ..SourceOptions::default() };
        let jpeg = textured(64, 48, PixelFormat::Yuv420);
        let (_, mut still) = open("a.jpg", &jpeg, &options).expect("decodes");
        assert!(still.next(&RUN).is_some());
        assert!(still.next(&RUN).is_none());
    }

    #[test]
    fn an_image_over_the_limits_is_scaled_if_that_is_asked_for() {
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
