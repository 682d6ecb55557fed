//! One open camera, through OpenCV.

use std::time::{Duration, Instant};

use super::super::{
    DEFAULT_FPS, DEFAULT_SIZE, Picture, SourceOptions,
    capture::{Content, Grabbed as Read, VideoCapture},
};
use crate::{
    clock,
    video::{
        image::{Image, Size},
        jpeg::{Header, NormalizeError, normalize},
        opencv_process::{Input, OpenCvError, Properties},
    },
};

/// An open camera that delivers pictures.
pub(super) struct Capture {
    device: VideoCapture,
    is_jpeg: bool,
    /// The size to which images are scaled; JPEG frames are not.
    size: Option<Size>,
    gray: bool,
}

/// The result of waiting for a picture.
pub(super) enum Grabbed {
    /// A picture, and when its capture began.
    Picture(Picture, Instant),
    /// A frame that cannot be normalized.
    Damaged(NormalizeError),
    /// No picture.
    Nothing,
    /// No picture, and no more will come.
    Gone,
}

/// The properties that an opened camera has chosen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given {
    pub size: Size,
    pub fps: f64,
    /// The pixel format's four-character code.
    pub fourcc: String,
    pub is_jpeg: bool,
}

impl Capture {
    /// Opens a camera, with JPEGs if it supports them, and waits for its first picture. `None` if
    /// it delivers none.
    pub(super) fn open(
        index: u32,
        options: &SourceOptions,
    ) -> Result<Option<(Self, Given)>, OpenCvError> {
        let device = VideoCapture::start()?;
        let mut capture = Self { device, is_jpeg: true, size: None, gray: options.gray };
        for is_jpeg in [true, false] {
            if let Some(given) = capture.open_as(index, options, is_jpeg)? {
                return Ok(Some((capture, given)));
            }
        }
        Ok(None)
    }

    fn open_as(
        &mut self,
        index: u32,
        options: &SourceOptions,
        is_jpeg: bool,
    ) -> Result<Option<Given>, OpenCvError> {
        let wanted = options.size.unwrap_or(DEFAULT_SIZE);
        let fps = options.fps.unwrap_or(DEFAULT_FPS);
        let input = Input::Camera {
            index,
            width: wanted.width as u32,
            height: wanted.height as u32,
            fps: fps.round().max(1.0) as u32,
            as_jpeg: is_jpeg,
        };
        let Some(properties) = self.device.open(input)? else { return Ok(None) };
        self.is_jpeg = is_jpeg;
        self.size = options.size.filter(|_| !is_jpeg);
        Ok(self.first().and_then(|first| self.given(&properties, &first)))
    }

    /// Waits for the next picture.
    pub(super) fn grab(&mut self) -> Grabbed {
        let Read { content, position_ms, at, .. } = match self.device.read(self.size) {
            Ok(Some(read)) => read,
            Ok(None) => return Grabbed::Nothing,
            Err(error) => {
                log::warn!("{error}");
                return Grabbed::Gone;
            }
        };
        let captured = capture_time(position_ms, at);
        match content {
            Content::Jpeg(frame) => frame_of(frame, captured),
            Content::Image(image) => self.image_of(image, captured),
        }
    }

    fn image_of(&self, mut image: Image, captured: Instant) -> Grabbed {
        if image.data.is_empty() {
            return Grabbed::Nothing;
        }
        if self.gray {
            image.drop_chroma();
        }
        Grabbed::Picture(Picture::Image(image.into()), captured)
    }

    /// The first complete picture: some cameras begin with a damaged one.
    fn first(&mut self) -> Option<Picture> {
        (0..FIRST_TRIES).find_map(|_| match self.grab() {
            Grabbed::Picture(picture, _) => Some(picture),
            Grabbed::Damaged(_) | Grabbed::Nothing | Grabbed::Gone => None,
        })
    }

    fn given(&self, properties: &Properties, first: &Picture) -> Option<Given> {
        let size = match first {
            Picture::Image(image) => image.size(),
            Picture::Jpeg(frame) => Header::parse(frame).ok()?.size,
        };
        let fps = Some(properties.fps).filter(|fps| (1.0..=1000.0).contains(fps));
        let fourcc = properties.fourcc.to_le_bytes();
        let fourcc = String::from_utf8_lossy(&fourcc).trim_matches(['\0', ' ']).to_owned();
        Some(Given { size, fps: fps.unwrap_or(DEFAULT_FPS), fourcc, is_jpeg: self.is_jpeg })
    }
}

fn frame_of(mut frame: Vec<u8>, captured: Instant) -> Grabbed {
    match normalize(&mut frame) {
        Ok(()) => Grabbed::Picture(Picture::Jpeg(frame), captured),
        Err(error) => Grabbed::Damaged(error),
    }
}

/// When the capture began: the driver's timestamp on the monotonic clock, in ms, or `grabbed` if
/// the timestamp is not plausible (another clock, or a time in the future).
fn capture_time(position_ms: f64, grabbed: Instant) -> Instant {
    let stamp = Duration::try_from_secs_f64(position_ms / 1000.0).ok();
    let stamp = stamp.and_then(clock::instant_of_monotonic);
    let is_plausible =
        |at: &Instant| *at <= grabbed && grabbed.saturating_duration_since(*at) < MAX_AGE;
    stamp.filter(is_plausible).unwrap_or(grabbed)
}

/// An older timestamp is from another clock: no driver holds a picture that long.
const MAX_AGE: Duration = Duration::from_secs(2);

/// Pictures to try before a camera counts as delivering none in a format.
const FIRST_TRIES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn implausible_capture_timestamps_are_ignored() {
        let now = clock::now();
        let stamp = clock::monotonic().as_secs_f64() * 1000.0;
        let taken = capture_time(stamp - 100.0, now);
        let age = now.saturating_duration_since(taken).as_secs_f64();
        assert!((0.09..0.11).contains(&age), "{age}");
        for wrong in [0.0, -5.0, f64::NAN, stamp - 2_500.0, stamp + 60_000.0, 1e300] {
            assert_eq!(capture_time(wrong, now), now, "{wrong}");
        }
    }
}
