//! One open camera, through OpenCV.

use std::time::{Duration, Instant};

use opencv::{
    core::{Mat, MatTraitConst, MatTraitConstManual, Vector},
    videoio::{self, VideoCapture, VideoCaptureTrait, VideoCaptureTraitConst},
};

use super::super::{
    DEFAULT_FPS, DEFAULT_SIZE, Picture, SourceOptions,
    mat::{image_of, quieten, scale},
};
use crate::{
    clock,
    video::{
        image::Size,
        jpeg::{Header, NormalizeError, normalize},
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
    /// Opens a camera, with JPEGs if it supports them, and waits for its first picture.
    pub(super) fn open(index: u32, options: &SourceOptions) -> Option<(Self, Given)> {
        quieten();
        Self::open_as(index, options, true).or_else(|| Self::open_as(index, options, false))
    }

    fn open_as(index: u32, options: &SourceOptions, is_jpeg: bool) -> Option<(Self, Given)> {
        let wanted = options.size.unwrap_or(DEFAULT_SIZE);
        let fps = options.fps.unwrap_or(DEFAULT_FPS);
        let parameters = [
            (videoio::CAP_PROP_FOURCC, if is_jpeg { MJPG } else { 0 }),
            (videoio::CAP_PROP_FRAME_WIDTH, wanted.width as i32),
            (videoio::CAP_PROP_FRAME_HEIGHT, wanted.height as i32),
            (videoio::CAP_PROP_FPS, fps.round().max(1.0) as i32),
            (videoio::CAP_PROP_CONVERT_RGB, i32::from(!is_jpeg)),
        ];
        let device = if is_jpeg {
            let flat = parameters.into_iter().flat_map(|(property, value)| [property, value]);
            VideoCapture::new_with_params(index as i32, API, &Vector::from_iter(flat)).ok()?
        } else {
            let mut device = VideoCapture::new(index as i32, API).ok()?;
            for (property, value) in parameters.into_iter().skip(1) {
                // Rejected values show when the properties are read back below.
                let _ = device.set(property, value.into());
            }
            device
        };
        if !device.is_opened().unwrap_or(false) {
            return None;
        }
        let size = options.size.filter(|_| !is_jpeg);
        let mut capture = Self { device, is_jpeg, size, gray: options.gray };
        let first = capture.first()?;
        let given = capture.given(&first)?;
        Some((capture, given))
    }

    /// Waits for the next picture.
    pub(super) fn grab(&mut self) -> Grabbed {
        if !self.device.grab().unwrap_or(false) {
            return Grabbed::Nothing;
        }
        let grabbed = clock::now();
        let position = self.device.get(videoio::CAP_PROP_POS_MSEC).unwrap_or(0.0);
        let captured = capture_time(position, grabbed);
        let mut mat = Mat::default();
        if !self.device.retrieve_def(&mut mat).unwrap_or(false) || mat.empty() {
            return Grabbed::Nothing;
        }
        if self.is_jpeg { frame_of(&mat, captured) } else { self.image_of(&mat, captured) }
    }

    fn image_of(&self, mat: &Mat, captured: Instant) -> Grabbed {
        let Ok(mut image) = image_of(mat) else { return Grabbed::Nothing };
        if let Some(size) = self.size {
            let Ok(scaled) = scale(image, size) else { return Grabbed::Nothing };
            image = scaled;
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
            Grabbed::Damaged(_) | Grabbed::Nothing => None,
        })
    }

    fn given(&self, first: &Picture) -> Option<Given> {
        let size = match first {
            Picture::Image(image) => image.size(),
            Picture::Jpeg(frame) => Header::parse(frame).ok()?.size,
        };
        let get = |property| self.device.get(property).unwrap_or(0.0);
        let fps = Some(get(videoio::CAP_PROP_FPS)).filter(|fps| (1.0..=1000.0).contains(fps));
        let fourcc = (get(videoio::CAP_PROP_FOURCC) as u32).to_le_bytes();
        let fourcc = String::from_utf8_lossy(&fourcc).trim_matches(['\0', ' ']).to_owned();
        Some(Given { size, fps: fps.unwrap_or(DEFAULT_FPS), fourcc, is_jpeg: self.is_jpeg })
    }
}

fn frame_of(mat: &Mat, captured: Instant) -> Grabbed {
    let Ok(bytes) = mat.data_bytes() else { return Grabbed::Nothing };
    let mut frame = bytes.to_vec();
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

/// The OpenCV backend.
const API: i32 = if cfg!(target_os = "linux") { videoio::CAP_V4L2 } else { videoio::CAP_ANY };

/// The four-character code of Motion JPEG.
const MJPG: i32 = i32::from_le_bytes(*b"MJPG");

/// An older timestamp is of another clock: no driver holds a picture that long.
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
