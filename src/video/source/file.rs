//! A video file at its own rate, looping.
//!
//! Each picture is decoded before it is due, and handed out when it is. A file
//! has no clock of its own that would be missed: who is late plays on from
//! there, so each picture comes exactly once and none in a burst.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use opencv::{
    core::Mat,
    videoio::{self, VideoCapture, VideoCaptureTrait, VideoCaptureTraitConst},
};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    mat::{image_of, quieten, scale},
    pace::Pacer,
    still::oversized,
};
use crate::video::image::{Image, Size};

/// A video file that is being played.
pub(super) struct Film {
    path: PathBuf,
    capture: VideoCapture,
    size: Size,
    once: bool,
    pacer: Pacer,
    /// The picture that is due next, if it is decoded already.
    ahead: Option<Image>,
    number: u64,
}

impl Film {
    pub(super) fn open(
        path: &Path,
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Self), SourceError> {
        quieten();
        let mut capture = open_capture(path)?;
        let unplayable = || SourceError::Unplayable { path: path.into() };
        let first = read(&mut capture)?.ok_or_else(unplayable)?;
        let found = first.size();
        let size = match options.size {
            Some(size) => size,
            None => Size::new(found.width, found.height).map_err(oversized(path))?,
        };
        let own_fps = capture.get(videoio::CAP_PROP_FPS).unwrap_or(0.0);
        let fps = options.fps.unwrap_or_else(|| sane(own_fps));
        let scaling = if found == size { String::new() } else { format!(" scaled to {size}") };
        let info = SourceInfo {
            width: size.width,
            height: size.height,
            fps,
            description: format!(
                "{}, video {found}{scaling} at {} (its own: {own_fps:.4})",
                path.display(),
                options.rate_text(fps)
            ),
            passthrough: false,
            notes: Vec::new(),
        };
        let film = Self {
            path: path.into(),
            capture,
            size,
            once: options.once,
            pacer: options.pacer(fps),
            ahead: Some(scale(first, size)?),
            number: 0,
        };
        Ok((info, film))
    }

    pub(super) fn next(&mut self, stop: &AtomicBool) -> Result<Option<Captured>, SourceError> {
        let image = match self.ahead.take() {
            Some(image) => image,
            None => match self.read_next()? {
                Some(image) => image,
                None => return Ok(None),
            },
        };
        let Some(due) = self.pacer.wait(stop) else {
            self.ahead = Some(image);
            return Ok(None);
        };
        let (picture, number) = (Picture::Image(image.into()), self.number);
        self.number += 1;
        Ok(Some(Captured { picture, captured: due.at, number }))
    }

    /// Whether there is a rate to keep.
    pub(super) fn is_paced(&self) -> bool {
        self.pacer.is_paced()
    }

    /// Decodes the next picture, from the beginning again after the last one.
    fn read_next(&mut self) -> Result<Option<Image>, SourceError> {
        let mut next = read(&mut self.capture)?;
        if next.is_none() && !self.once {
            self.capture = open_capture(&self.path)?;
            next = read(&mut self.capture)?;
        }
        next.map(|image| scale(image, self.size)).transpose()
    }
}

fn open_capture(path: &Path) -> Result<VideoCapture, SourceError> {
    let unplayable = || SourceError::Unplayable { path: path.into() };
    // An absolute path is one to FFmpeg as well; it takes the beginning of `12:30.mp4` for a protocol.
    let absolute = std::path::absolute(path).map_err(|_| unplayable())?;
    let capture =
        VideoCapture::from_file(absolute, videoio::CAP_FFMPEG).map_err(|_| unplayable())?;
    if capture.is_opened().unwrap_or(false) { Ok(capture) } else { Err(unplayable()) }
}

/// The next picture, or `None` at the end or where the file is damaged.
fn read(capture: &mut VideoCapture) -> Result<Option<Image>, SourceError> {
    let mut mat = Mat::default();
    match capture.read(&mut mat) {
        Ok(true) => image_of(&mat).map(Some),
        Ok(false) | Err(_) => Ok(None),
    }
}

fn sane(fps: f64) -> f64 {
    if SANE_FPS.contains(&fps) { fps } else { DEFAULT_FPS }
}

/// What a file may say of its own rate; some say 1000 or 90000, meaning their time base.
const SANE_FPS: RangeInclusive<f64> = 1.0..=240.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{image::PixelFormat, jpeg::tests::textured};

    static RUN: AtomicBool = AtomicBool::new(false);

    /// A Motion JPEG file of three pictures.
    fn film(options: SourceOptions, cut: usize) -> (SourceInfo, Film, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("three.mjpeg");
        let mut frames = textured(64, 48, PixelFormat::Yuv420).repeat(3);
        frames.truncate(frames.len() - cut);
        std::fs::write(&path, frames).expect("writes");
        let fps = Some(options.fps.unwrap_or(500.0));
        let options = SourceOptions { fps, ..options };
        let (info, film) = Film::open(&path, &options).expect("plays");
        (info, film, folder)
    }

    #[test]
    fn once_plays_each_picture_once() {
        let (info, mut film, _folder) =
            film(SourceOptions { once: true, ..SourceOptions::default() }, 0);
        assert_eq!((info.width, info.height, info.fps), (64, 48, 500.0));
        let played = std::iter::from_fn(|| film.next(&RUN).expect("plays"));
        assert_eq!(played.map(|c| c.number).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn without_once_it_loops_and_is_scaled() {
        let size = Size { width: 32, height: 40 };
        let options = SourceOptions { size: Some(size), ..SourceOptions::default() };
        let (_, mut film, _folder) = film(options, 0);
        for number in 0..8 {
            let captured = film.next(&RUN).expect("plays").expect("no end");
            let Picture::Image(image) = captured.picture else { panic!("pixels") };
            assert_eq!((captured.number, image.size()), (number, size));
        }
    }

    #[test]
    fn a_truncated_file_plays_what_it_has() {
        let (_, mut film, _folder) =
            film(SourceOptions { once: true, ..SourceOptions::default() }, 1500);
        let played = std::iter::from_fn(|| film.next(&RUN).expect("plays")).count();
        assert!((1..=3).contains(&played), "{played}");
    }

    #[test]
    fn rates_that_cannot_be_are_replaced() {
        let rates = [25.0, 90_000.0, 0.0, f64::NAN].map(|fps| sane(fps).to_string());
        assert_eq!(rates, ["25", "30", "30", "30"]);
    }
}
