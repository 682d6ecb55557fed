//! A camera, a video file, a URL or an image, opened by OpenCV in
//! [its process](crate::video::opencv_process).

use std::time::Instant;

use super::aspect::PixelAspect;
use crate::{
    clock,
    video::{
        image::{Image, PixelFormat, Size},
        opencv_process::{
            Input, OpenCvError, OpenCvProcess, Picture, PictureKind, Properties, Reply, Request,
        },
    },
};

/// An OpenCV process, with at most one open input.
pub(super) struct VideoCapture {
    process: OpenCvProcess,
}

/// A picture that OpenCV has read.
pub(super) struct Grabbed {
    pub(super) content: Content,
    /// The size before scaling; unspecified for a JPEG.
    pub(super) found: Size,
    /// The input's timestamp in ms, unchecked: for a camera on the monotonic clock, for a video
    /// from its start.
    pub(super) position_ms: f64,
    /// When the picture arrived.
    pub(super) at: Instant,
}

/// The content of a picture.
pub(super) enum Content {
    /// Pixels; none if the size is beyond the limits.
    Image(Image),
    /// An encoded frame, unchecked.
    Jpeg(Vec<u8>),
}

impl VideoCapture {
    /// Starts OpenCV's process. Does not wait for it.
    pub(super) fn start() -> Result<Self, OpenCvError> {
        OpenCvProcess::start().map(|process| Self { process })
    }

    /// Closes the open input, if any, and opens `input`. `None` if it cannot be opened.
    pub(super) fn open(&mut self, input: Input) -> Result<Option<Properties>, OpenCvError> {
        match self.call("open an input", &Request::Open(input), &[])? {
            (Reply::Opened(properties), _) => Ok(Some(properties)),
            _ => Ok(None),
        }
    }

    /// Waits for the next picture, and scales its pixels. `None` at the end, or if none came.
    pub(super) fn read(&mut self, scale_to: Option<Size>) -> Result<Option<Grabbed>, OpenCvError> {
        let request = Request::Read { scale_to: scale_to.map(pair) };
        self.picture("read a picture", &request, &[])
    }

    /// Decodes an image file. `turns`: turns it upright, as its Exif orientation says. `None` if it
    /// is damaged.
    pub(super) fn decode_image(
        &mut self,
        file: &[u8],
        gray: bool,
        turns: bool,
        scale_to: Option<Size>,
    ) -> Result<Option<Grabbed>, OpenCvError> {
        let request = Request::DecodeImage { gray, turns, scale_to: scale_to.map(pair) };
        self.picture("decode an image", &request, file)
    }

    fn picture(
        &mut self,
        what: &'static str,
        request: &Request,
        data: &[u8],
    ) -> Result<Option<Grabbed>, OpenCvError> {
        match self.call(what, request, data)? {
            (Reply::Picture(picture), data) => grabbed(picture, data).map(Some).ok_or_else(|| {
                OpenCvError::Failed { what, error: "it has the wrong length".to_owned() }
            }),
            _ => Ok(None),
        }
    }

    fn call(
        &mut self,
        what: &'static str,
        request: &Request,
        data: &[u8],
    ) -> Result<(Reply, Vec<u8>), OpenCvError> {
        match self.process.call(request, data)? {
            (Reply::Failed(error), _) => Err(OpenCvError::Failed { what, error }),
            reply => Ok(reply),
        }
    }
}

/// The cameras that OpenCV can open, by number.
#[cfg(not(target_os = "linux"))]
pub(super) fn find_cameras() -> Result<Vec<u32>, OpenCvError> {
    match VideoCapture::start()?.call("find cameras", &Request::FindCameras, &[])? {
        (Reply::Cameras(indices), _) => Ok(indices),
        _ => Ok(Vec::new()),
    }
}

/// The aspect ratio of pixels as read, which OpenCV has already rotated upright.
pub(super) fn pixel_aspect(properties: &Properties) -> PixelAspect {
    let (width, height) = properties.pixel_aspect;
    let turns = (properties.rotation / 90.0).round() as i64;
    if turns % 2 == 0 {
        PixelAspect { width, height }
    } else {
        PixelAspect { width: height, height: width }
    }
}

/// `None` if the length of `data` is wrong.
fn grabbed(picture: Picture, data: Vec<u8>) -> Option<Grabbed> {
    let Picture { kind, width, height, found, position_ms, grabbed } = picture;
    let format = match kind {
        PictureKind::Jpeg => None,
        PictureKind::Bgr => Some(PixelFormat::Bgr),
        PictureKind::Gray => Some(PixelFormat::Gray),
    };
    let content = match format {
        None => Content::Jpeg(data),
        Some(format) => {
            let (width, height) = (width as usize, height as usize);
            if data.is_empty() && Size::new(width, height).is_err() {
                Content::Image(Image::empty())
            } else {
                let is_whole = data.len() == format.data_len(width, height);
                Content::Image(is_whole.then(|| Image::new(width, height, format, data))?)
            }
        }
    };
    let found = Size { width: found.0 as usize, height: found.1 as usize };
    let at = clock::instant_of_monotonic(grabbed).unwrap_or_else(clock::now);
    Some(Grabbed { content, found, position_ms, at })
}

fn pair(Size { width, height }: Size) -> (u32, u32) {
    (width as u32, height as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aspect_of_rotated_pictures_is_rotated() {
        let mut properties = Properties {
            fps: 25.0,
            fourcc: 0,
            frame_count: 1.0,
            pixel_aspect: (4.0, 3.0),
            rotation: 0.0,
        };
        for (rotation, width) in [(0.0, 4.0), (90.0, 3.0), (180.0, 4.0), (-90.0, 3.0), (270.0, 3.0)]
        {
            properties.rotation = rotation;
            let PixelAspect { width: actual, .. } = pixel_aspect(&properties);
            assert!((actual - width).abs() < 0.1, "{rotation}: {actual}");
        }
    }

    #[test]
    fn a_picture_of_the_wrong_length_is_refused() {
        let picture = Picture {
            kind: PictureKind::Bgr,
            width: 16,
            height: 16,
            found: (16, 16),
            position_ms: 0.0,
            grabbed: clock::monotonic(),
        };
        assert!(grabbed(picture, vec![0; 3 * 16 * 16]).is_some());
        assert!(grabbed(picture, vec![0; 3 * 16 * 16 - 1]).is_none());
        assert!(grabbed(picture, Vec::new()).is_none());
        let huge = Picture { width: 1 << 20, height: 1 << 20, ..picture };
        assert!(grabbed(huge, Vec::new()).is_some(), "it is reported by its size");
    }
}
