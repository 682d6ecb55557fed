//! A video file at its own rate, looping.
//!
//! Each picture is decoded ahead, and delivered when it is due: by its timestamp, or at the
//! requested rate. If the consumer is late, playback continues from there, so that each picture is
//! delivered exactly once and never in a burst.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    capture::{Content, Grabbed, VideoCapture, pixel_aspect},
    playback_clock::PlaybackClock,
    still::out_of_range,
    timeline::Timeline,
};
use crate::video::{
    image::{Image, Size},
    opencv_process::{Input, OpenCvError, Properties},
};

/// A video file being played.
pub(super) struct VideoFile {
    path: PathBuf,
    capture: VideoCapture,
    size: Size,
    once: bool,
    pace: Pace,
    /// The next picture, if it is already decoded.
    ahead: Option<TimedPicture>,
    number: u64,
}

/// When pictures are due.
enum Pace {
    /// At the requested rate, or unpaced.
    Asked(PlaybackClock),
    /// By their timestamps.
    Own(Timeline),
}

impl Pace {
    fn wait(&mut self, stamp: Duration, stop: &AtomicBool) -> Option<Instant> {
        match self {
            Self::Asked(playback_clock) => playback_clock.wait(stop).map(|due| due.at),
            Self::Own(timeline) => timeline.wait(stamp, stop),
        }
    }
}

/// A picture and its timestamp.
pub(super) struct TimedPicture {
    pub(super) image: Image,
    /// The size before scaling.
    pub(super) found: Size,
    pub(super) stamp: Duration,
}

impl VideoFile {
    pub(super) fn open(
        path: &Path,
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Self), SourceError> {
        let mut capture = VideoCapture::start()?;
        let properties = open_capture(&mut capture, path)?;
        let unplayable = || SourceError::Unplayable { path: path.into() };
        let first = read(&mut capture, options.size)?.ok_or_else(unplayable)?;
        let found = first.found;
        let square = pixel_aspect(&properties).squared(found);
        let size = match options.size {
            Some(size) => size,
            None => Size::new(square.width, square.height).map_err(out_of_range(path))?,
        };
        // The first picture of a video without square pixels is read again, scaled.
        let first = if first.image.size() == size {
            first
        } else {
            open_capture(&mut capture, path)?;
            read(&mut capture, Some(size))?.ok_or_else(unplayable)?
        };
        let own_fps = properties.fps;
        let fps = options.fps.unwrap_or_else(|| sane(own_fps));
        let scaling = options.scaling_text(found, size);
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
        let video = Self {
            path: path.into(),
            capture,
            size,
            once: options.once,
            pace: match options.fps {
                None if !options.unpaced => Pace::Own(Timeline::new(fps)),
                _ => Pace::Asked(options.playback_clock(fps)),
            },
            ahead: Some(first),
            number: 0,
        };
        Ok((info, video))
    }

    pub(super) fn next(&mut self, stop: &AtomicBool) -> Result<Option<Captured>, SourceError> {
        let next = match self.ahead.take() {
            Some(decoded) => Some(decoded),
            None => self.read_next()?,
        };
        let Some(next) = next else { return Ok(None) };
        let Some(captured) = self.pace.wait(next.stamp, stop) else {
            self.ahead = Some(next);
            return Ok(None);
        };
        let (picture, number) = (Picture::Image(next.image.into()), self.number);
        self.number += 1;
        Ok(Some(Captured { picture, captured, number }))
    }

    /// Whether pictures are delivered at a frame rate, rather than on request.
    pub(super) fn is_paced(&self) -> bool {
        match &self.pace {
            Pace::Asked(playback_clock) => playback_clock.is_paced(),
            Pace::Own(_) => true,
        }
    }

    /// Decodes the next picture; starts again after the last one.
    fn read_next(&mut self) -> Result<Option<TimedPicture>, SourceError> {
        let mut next = read(&mut self.capture, Some(self.size))?;
        if next.is_none() && !self.once {
            open_capture(&mut self.capture, &self.path)?;
            next = read(&mut self.capture, Some(self.size))?;
        }
        Ok(next)
    }
}

fn open_capture(capture: &mut VideoCapture, path: &Path) -> Result<Properties, SourceError> {
    let unplayable = || SourceError::Unplayable { path: path.into() };
    // FFmpeg takes an absolute path for a path, but the start of `12:30.mp4` for a protocol.
    let absolute = std::path::absolute(path).map_err(|_| unplayable())?;
    capture.open(Input::File(absolute.into()))?.ok_or_else(unplayable)
}

/// The next picture, scaled, or `None` at the end or where the file is damaged.
pub(super) fn read(
    capture: &mut VideoCapture,
    scale_to: Option<Size>,
) -> Result<Option<TimedPicture>, OpenCvError> {
    let Some(Grabbed { content: Content::Image(image), found, position_ms, .. }) =
        capture.read(scale_to)?
    else {
        return Ok(None);
    };
    // A video without timestamps gives none, or a meaningless one, for each picture.
    let stamp = Duration::try_from_secs_f64(position_ms / 1000.0).unwrap_or_default();
    Ok(Some(TimedPicture { image, found, stamp }))
}

pub(super) fn sane(fps: f64) -> f64 {
    if SANE_FPS.contains(&fps) { fps } else { DEFAULT_FPS }
}

/// Plausible nominal rates; some files say 1000 or 90000, meaning their time base.
const SANE_FPS: RangeInclusive<f64> = 1.0..=240.0;

#[cfg(all(test, feature = "opencv"))]
mod tests {
    use super::*;
    use crate::video::{image::PixelFormat, jpeg::tests::textured};

    static NEVER_STOP: AtomicBool = AtomicBool::new(false);

    /// A Motion JPEG file of three pictures.
    fn video(options: SourceOptions, cut: usize) -> (SourceInfo, VideoFile, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("three.mjpeg");
        let mut frames = textured(64, 48, PixelFormat::Yuv420).repeat(3);
        frames.truncate(frames.len() - cut);
        std::fs::write(&path, frames).expect("writes");
        let fps = Some(options.fps.unwrap_or(500.0));
        let options = SourceOptions { fps, ..options };
        let (info, video) = VideoFile::open(&path, &options).expect("plays");
        (info, video, folder)
    }

    #[test]
    fn once_plays_each_picture_once() {
        let (info, mut video, _folder) =
            video(SourceOptions { once: true, ..SourceOptions::default() }, 0);
        assert_eq!((info.width, info.height, info.fps), (64, 48, 500.0));
        let played = std::iter::from_fn(|| video.next(&NEVER_STOP).expect("plays"));
        assert_eq!(played.map(|c| c.number).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn without_once_a_video_loops_and_is_scaled() {
        let size = Size { width: 32, height: 40 };
        let options = SourceOptions { size: Some(size), ..SourceOptions::default() };
        let (_, mut video, _folder) = video(options, 0);
        for number in 0..8 {
            let captured = video.next(&NEVER_STOP).expect("plays").expect("no end");
            let Picture::Image(image) = captured.picture else { panic!("pixels") };
            assert_eq!((captured.number, image.size()), (number, size));
        }
    }

    #[test]
    fn a_truncated_video_plays_its_remaining_frames() {
        let (_, mut video, _folder) =
            video(SourceOptions { once: true, ..SourceOptions::default() }, 1500);
        let played = std::iter::from_fn(|| video.next(&NEVER_STOP).expect("plays")).count();
        assert!((1..=3).contains(&played), "{played}");
    }

    #[test]
    fn implausible_rates_are_replaced() {
        let rates = [25.0, 90_000.0, 0.0, f64::NAN].map(|fps| sane(fps).to_string());
        assert_eq!(rates, ["25", "30", "30", "30"]);
    }
}
