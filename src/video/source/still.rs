//! One image, again and again.

use std::{fs::File, io::Read, path::Path, sync::atomic::AtomicBool};

use opencv::{core::MatTraitConst, imgcodecs};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    mat::{failed, image_of, quieten, scale},
    pace::Pacer,
};
use crate::video::image::{Image, Size, SizeError};

/// An image that was decoded once.
pub(super) struct Still {
    image: Image,
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
        refuse_huge_png(path)?;
        let damaged =
            || SourceError::DamagedImage { path: path.into(), format: format.to_owned() };
        let flags = if options.gray { imgcodecs::IMREAD_GRAYSCALE } else { imgcodecs::IMREAD_COLOR };
        let mat = imgcodecs::imread(path, flags).map_err(|_| damaged())?;
        if mat.empty() {
            return Err(damaged());
        }
        let image = image_of(&mat)?;
        let found = image.size();
        let size = match options.size {
            Some(size) => size,
            None => Size::new(found.width, found.height).map_err(oversized(path))?,
        };
        let image = scale(image, size)?;
        let fps = options.fps.unwrap_or(DEFAULT_FPS);
        let info = describe(path, format, found, size, fps);
        Ok((info, Self { image, pacer: Pacer::new(fps), once: options.once, shown: false }))
    }

    pub(super) fn next(&mut self, stop: &AtomicBool) -> Option<Captured> {
        if self.once && std::mem::replace(&mut self.shown, true) {
            return None;
        }
        let due = self.pacer.wait(stop)?;
        let picture = Picture::Image(self.image.clone());
        Some(Captured { picture, captured: due.at, number: due.number })
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
        description: format!(
            "{}, {format} image {found}{scaling}, {fps} times/s",
            path.display()
        ),
        passthrough: false,
        notes,
    }
}

/// Decoding allocates by what the header says: gigabytes, if OpenCV may.
fn refuse_huge_png(path: &Path) -> Result<(), SourceError> {
    let unreadable = |error| SourceError::Unreadable { path: path.into(), error };
    let mut header = Vec::new();
    File::open(path).and_then(|f| f.take(24).read_to_end(&mut header)).map_err(unreadable)?;
    let side = |at: usize| {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes) as usize)
    };
    match (header.starts_with(b"\x89PNG"), side(16), side(20)) {
        (true, Some(width), Some(height)) => {
            Size::new(width, height).map(drop).map_err(oversized(path))
        }
        _ => Ok(()),
    }
}

/// Names of which nobody expects an image.
const FILM_EXTENSIONS: [&str; 8] = ["avi", "mp4", "mkv", "mov", "webm", "mpg", "mjpeg", "y4m"];
