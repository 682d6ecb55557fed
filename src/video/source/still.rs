//! One image, again and again.

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

/// An image that was decoded once.
pub(super) struct Still {
    image: Arc<Image>,
    pacer: Pacer,
    once: bool,
    shown: bool,
}

impl Still {
    /// Decodes the file, which is of the format named.
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
            Verdict::Size(error) => return Err(oversized(path)(error)),
        }
        let flags =
            if options.gray { imgcodecs::IMREAD_GRAYSCALE } else { imgcodecs::IMREAD_COLOR };
        // From memory, so that the file is read once, whatever its name is.
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

    /// Whether there is a rate to keep.
    pub(super) fn is_paced(&self) -> bool {
        self.pacer.is_paced()
    }
}

/// Says which limit a file's picture is over.
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

/// What can be told of an image before OpenCV decodes it. Its decoders allocate what
/// the header says, and write their complaints to standard error themselves.
enum Verdict {
    Fine,
    Damaged,
    Size(SizeError),
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
    match Size::new(width, height) {
        Err(error) => Verdict::Size(error),
        Ok(_) if memchr::memmem::rfind(bytes, b"IEND").is_none() => Verdict::Damaged,
        Ok(_) => Verdict::Fine,
    }
}

fn check_jpeg(bytes: &[u8]) -> Verdict {
    match Decoder::new().decode(bytes, Want::Planar, &mut Image::empty()) {
        Err(JpegError::Header(HeaderError::Size(width, height))) => {
            Size::new(width, height).map_or_else(Verdict::Size, |_| Verdict::Fine)
        }
        // A photograph may be what a frame may not: OpenCV knows these.
        Ok(())
        | Err(JpegError::Header(
            HeaderError::Progressive
            | HeaderError::Coding
            | HeaderError::Components(_)
            | HeaderError::TooLong,
        )) => Verdict::Fine,
        Err(_) => Verdict::Damaged,
    }
}

/// Names of which nobody expects an image.
const FILM_EXTENSIONS: [&str; 8] = ["avi", "mp4", "mkv", "mov", "webm", "mpg", "mjpeg", "y4m"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{image::PixelFormat, jpeg::tests::textured, source::SourceOptions};

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

    #[test]
    fn once_shows_it_once() {
        let options = SourceOptions { once: true, ..SourceOptions::default() };
        let jpeg = textured(64, 48, PixelFormat::Yuv420);
        let (_, mut still) = open("a.jpg", &jpeg, &options).expect("decodes");
        assert!(still.next(&RUN).is_some());
        assert!(still.next(&RUN).is_none());
    }

    #[test]
    fn a_truncated_image_is_refused() {
        let jpeg = textured(64, 48, PixelFormat::Yuv420);
        let error = open("a.jpg", &jpeg[..jpeg.len() / 2], &SourceOptions::default()).err();
        assert!(matches!(error, Some(SourceError::DamagedImage { .. })), "{error:?}");
    }
}
