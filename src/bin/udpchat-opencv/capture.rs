//! Cameras, video files and URLs.

use opencv::{
    core::{Mat, MatTraitConst, MatTraitConstManual, Vector},
    videoio::{self, CAP_ANY, CAP_FFMPEG, VideoCapture, VideoCaptureTrait, VideoCaptureTraitConst},
};
use udpchat::opencv_process::{Input, Picture, PictureKind, Properties, clock};

use crate::image::{Read, pixels};

/// An open input.
pub(crate) struct Capture {
    device: VideoCapture,
    /// Whether it delivers JPEGs instead of pixels.
    is_jpeg: bool,
}

impl Capture {
    /// `None` if the input cannot be opened.
    pub(crate) fn open(input: &Input) -> Option<Self> {
        let (device, is_jpeg) = match *input {
            Input::Camera { index, width, height, fps, as_jpeg } => {
                (open_camera(index, (width, height), fps, as_jpeg), as_jpeg)
            }
            Input::File(ref path) => (VideoCapture::from_file(path, CAP_FFMPEG), false),
            Input::Url { ref url, open_timeout_ms, read_timeout_ms } => {
                let parameters = Vector::from_iter([
                    videoio::CAP_PROP_OPEN_TIMEOUT_MSEC,
                    open_timeout_ms as i32,
                    videoio::CAP_PROP_READ_TIMEOUT_MSEC,
                    read_timeout_ms as i32,
                ]);
                (VideoCapture::from_file_with_params(url, CAP_FFMPEG, &parameters), false)
            }
        };
        let device = device.ok().filter(|device| device.is_opened().unwrap_or(false))?;
        Some(Self { device, is_jpeg })
    }

    pub(crate) fn properties(&self) -> Properties {
        Properties {
            fps: self.number(videoio::CAP_PROP_FPS),
            fourcc: self.number(videoio::CAP_PROP_FOURCC) as u32,
            frame_count: self.number(videoio::CAP_PROP_FRAME_COUNT),
            pixel_aspect: (
                self.number(videoio::CAP_PROP_SAR_NUM),
                self.number(videoio::CAP_PROP_SAR_DEN),
            ),
            rotation: self.number(videoio::CAP_PROP_ORIENTATION_META),
        }
    }

    /// Waits for the next picture.
    pub(crate) fn read(&mut self, scale_to: Option<(u32, u32)>) -> opencv::Result<Option<Read>> {
        if !self.device.grab().unwrap_or(false) {
            return Ok(None);
        }
        let grabbed = clock::monotonic();
        let mut mat = Mat::default();
        if !self.device.retrieve_def(&mut mat).unwrap_or(false) || mat.empty() {
            return Ok(None);
        }
        let position_ms = self.number(videoio::CAP_PROP_POS_MSEC);
        let (picture, data) = if self.is_jpeg {
            let picture = Picture {
                kind: PictureKind::Jpeg,
                width: 0,
                height: 0,
                found: (0, 0),
                position_ms,
                grabbed,
            };
            (picture, mat.data_bytes()?.to_vec())
        } else {
            pixels(&mat, scale_to)?
        };
        Ok(Some((Picture { position_ms, grabbed, ..picture }, data)))
    }

    fn number(&self, property: i32) -> f64 {
        self.device.get(property).unwrap_or(0.0)
    }
}

/// The cameras that can be opened.
pub(crate) fn find_cameras() -> Vec<u32> {
    let opens = |&index: &u32| {
        let capture = VideoCapture::new(index as i32, CAP_ANY);
        capture.and_then(|capture| capture.is_opened()).unwrap_or(false)
    };
    (0..MAX_TRIED).filter(opens).collect()
}

fn open_camera(
    index: u32,
    (width, height): (u32, u32),
    fps: u32,
    as_jpeg: bool,
) -> opencv::Result<VideoCapture> {
    let parameters = [
        (videoio::CAP_PROP_FOURCC, if as_jpeg { MJPG } else { 0 }),
        (videoio::CAP_PROP_FRAME_WIDTH, width as i32),
        (videoio::CAP_PROP_FRAME_HEIGHT, height as i32),
        (videoio::CAP_PROP_FPS, fps as i32),
        (videoio::CAP_PROP_CONVERT_RGB, i32::from(!as_jpeg)),
    ];
    if as_jpeg {
        let flat = parameters.into_iter().flat_map(|(property, value)| [property, value]);
        return VideoCapture::new_with_params(index as i32, API, &Vector::from_iter(flat));
    }
    let mut device = VideoCapture::new(index as i32, API)?;
    for (property, value) in parameters.into_iter().skip(1) {
        // Rejected values show in the properties and the pictures.
        let _ = device.set(property, value.into());
    }
    Ok(device)
}

/// The backend for cameras.
const API: i32 = if cfg!(target_os = "linux") { videoio::CAP_V4L2 } else { CAP_ANY };

/// The four-character code of Motion JPEG.
const MJPG: i32 = i32::from_le_bytes(*b"MJPG");

/// Few machines have more cameras, and each attempt takes a while.
const MAX_TRIED: u32 = 4;
