//! Encoding and decoding, by libjpeg-turbo's own interface.
//!
//! Measured at 720p, quality 80: 2.1 ms to encode, 2.0 ms to decode, against
//! 2.7 and 5.4 ms by OpenCV.

use turbojpeg::{
    Colorspace, Compressor, DecompressHeader, Decompressor, Subsamp, YuvImage, YuvPlanesImage,
    compressed_buf_len, yuv_pixels_len,
};

use super::header::{Header, HeaderError};
use crate::video::image::{Image, PixelFormat};

/// Makes frames of images.
#[derive(Debug)]
pub struct Encoder {
    compressor: Compressor,
    gray: bool,
    /// Room for the longest frame of the current size.
    room: Vec<u8>,
    /// Planes of an odd-sized image, padded to whole chroma samples.
    padded: Vec<u8>,
}

impl Encoder {
    /// An encoder of quality 1 (worst) to 100; other numbers are a bug of the caller.
    pub fn new(quality: u8) -> Self {
        let compressor = Compressor::new().expect("libjpeg-turbo needs memory for its state");
        let mut encoder = Self { compressor, gray: false, room: Vec::new(), padded: Vec::new() };
        encoder.set_quality(quality);
        encoder
    }

    /// From the next frame on, encodes with this quality, 1 to 100.
    pub fn set_quality(&mut self, quality: u8) {
        assert!((1..=100).contains(&quality), "quality {quality}");
        self.compressor.set_quality(i32::from(quality)).expect("a quality of 1 to 100 is valid");
    }

    /// From the next frame on, encodes only the luma of any image, as one component.
    pub fn set_gray(&mut self, gray: bool) {
        self.gray = gray;
    }

    /// Encodes `image` into `frame`, replacing what was in it.
    ///
    /// BGR becomes 4:2:0; planes keep their own sampling and are given to the
    /// encoder as they are.
    pub fn encode(&mut self, image: &Image, frame: &mut Vec<u8>) -> Result<(), JpegError> {
        let sampling = if self.gray { Subsamp::Gray } else { subsamp(image.format) };
        let longest = compressed_buf_len(image.width, image.height, sampling)?;
        self.room.resize(longest.max(self.room.len()), 0);
        let len = match image.format {
            PixelFormat::Bgr => self.encode_pixels(image, &image.data, sampling)?,
            _ if sampling == Subsamp::Gray => {
                self.encode_pixels(image, image.planes()[0], sampling)?
            }
            _ => self.encode_planes(image, sampling)?,
        };
        frame.clear();
        frame.extend_from_slice(&self.room[..len]);
        Ok(())
    }

    fn encode_pixels(
        &mut self,
        image: &Image,
        pixels: &[u8],
        sampling: Subsamp,
    ) -> Result<usize, JpegError> {
        let format = match image.format {
            PixelFormat::Bgr => turbojpeg::PixelFormat::BGR,
            _ => turbojpeg::PixelFormat::GRAY,
        };
        let (width, height, pitch) = (image.width, image.height, image.width * format.size());
        let image = turbojpeg::Image { pixels, width, pitch, height, format };
        self.compressor.set_subsamp(sampling)?;
        Ok(self.compressor.compress_to_slice(image, &mut self.room)?)
    }

    fn encode_planes(&mut self, image: &Image, subsamp: Subsamp) -> Result<usize, JpegError> {
        let (width, height) = (image.width, image.height);
        let (chroma_width, chroma_height) = image.format.chroma_size(width, height);
        let [y, u_plane, v_plane] = image.planes();
        // The encoder reads luma for whole chroma samples.
        let y_stride = width.next_multiple_of(subsamp.width());
        let y_rows = height.next_multiple_of(subsamp.height());
        let y_plane = if (y_stride, y_rows) == (width, height) {
            y
        } else {
            pad(y, width, (y_stride, y_rows), &mut self.padded);
            &self.padded
        };
        debug_assert_eq!(u_plane.len(), chroma_width * chroma_height);
        let (u_stride, v_stride) = (chroma_width, chroma_width);
        let planes = YuvPlanesImage {
            y_plane,
            u_plane,
            v_plane,
            width,
            height,
            y_stride,
            u_stride,
            v_stride,
            subsamp,
        };
        Ok(self.compressor.compress_yuv_planes_to_slice(&planes, &mut self.room)?)
    }
}

/// What a frame is decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Interleaved BGR, whatever the frame has: for showing.
    Bgr,
    /// The frame's own planes, without any conversion: for recording.
    Planar,
}

/// Makes images of frames.
#[derive(Debug)]
pub struct Decoder {
    decompressor: Decompressor,
    /// Planes as the decoder pads them, of odd-sized frames.
    padded: Vec<u8>,
}

impl Decoder {
    /// A decoder.
    pub fn new() -> Self {
        let decompressor = Decompressor::new().expect("libjpeg-turbo needs memory for its state");
        Self { decompressor, padded: Vec::new() }
    }

    /// Decodes `frame` into `image`, whose allocation is used again.
    ///
    /// A frame that libjpeg only warns of is damaged too: the warning is the
    /// error. Then `image` holds no picture.
    pub fn decode(&mut self, frame: &[u8], want: Want, image: &mut Image) -> Result<(), JpegError> {
        let header = Header::parse(frame)?;
        let seen = self.decompressor.read_header(frame)?;
        if (seen.width, seen.height) != (header.size.width, header.size.height) {
            return Err(JpegError::Contradiction);
        }
        match (want, planar_format(&seen)) {
            (Want::Planar, Some(format)) => self.decode_planes(frame, &seen, format, image),
            (Want::Planar, None) => self.decode_other_planes(frame, &seen, image),
            (Want::Bgr, _) => self.decode_bgr(frame, &seen, image),
        }
    }

    fn decode_bgr(
        &mut self,
        frame: &[u8],
        header: &DecompressHeader,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        let (width, height) = (header.width, header.height);
        image.reshape(width, height, PixelFormat::Bgr);
        let format = turbojpeg::PixelFormat::BGR;
        let pixels = &mut image.data[..];
        let output = turbojpeg::Image { pixels, width, pitch: 3 * width, height, format };
        Ok(self.decompressor.decompress(frame, output)?)
    }

    fn decode_planes(
        &mut self,
        frame: &[u8],
        header: &DecompressHeader,
        format: PixelFormat,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        let &DecompressHeader { width, height, subsamp, .. } = header;
        image.reshape(width, height, format);
        // The decoder writes luma for whole chroma samples.
        let padded_len = yuv_pixels_len(width, 1, height, subsamp)?;
        let is_packed = padded_len == image.data.len();
        let pixels = if is_packed {
            &mut image.data[..]
        } else {
            self.padded.resize(padded_len, 0);
            &mut self.padded[..]
        };
        let output = YuvImage { pixels, width, align: 1, height, subsamp };
        self.decompressor.decompress_to_yuv(frame, output)?;
        if !is_packed {
            unpad(&self.padded, subsamp, image);
        }
        Ok(())
    }

    /// A sampling or colour space that we have no layout for: by way of BGR, to 4:4:4.
    fn decode_other_planes(
        &mut self,
        frame: &[u8],
        header: &DecompressHeader,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        self.decode_bgr(frame, header, image)?;
        let mut planes = Image::blank(image.width, image.height, PixelFormat::Yuv444);
        let [y, cb, cr] = planes.planes_mut();
        for (i, pixel) in image.data.chunks_exact(3).enumerate() {
            [y[i], cb[i], cr[i]] = yuv_of_bgr([pixel[0], pixel[1], pixel[2]]);
        }
        *image = planes;
        Ok(())
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a frame or an image could not be coded.
#[derive(Debug, thiserror::Error)]
pub enum JpegError {
    /// The header is not acceptable.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Our reading of the header and libjpeg's differ.
    #[error("the JPEG's headers contradict each other")]
    Contradiction,
    /// What libjpeg says, errors and warnings alike.
    #[error("the JPEG is damaged: {0}")]
    Codec(#[from] turbojpeg::Error),
}

fn subsamp(format: PixelFormat) -> Subsamp {
    match format {
        PixelFormat::Gray => Subsamp::Gray,
        PixelFormat::Bgr | PixelFormat::Yuv420 => Subsamp::Sub2x2,
        PixelFormat::Yuv422 => Subsamp::Sub2x1,
        PixelFormat::Yuv444 => Subsamp::None,
    }
}

/// The layout that holds this frame's planes as they are, if we have one.
fn planar_format(header: &DecompressHeader) -> Option<PixelFormat> {
    match (header.colorspace, header.subsamp) {
        (Colorspace::Gray, Subsamp::Gray) => Some(PixelFormat::Gray),
        (Colorspace::YCbCr, Subsamp::Sub2x2) => Some(PixelFormat::Yuv420),
        (Colorspace::YCbCr, Subsamp::Sub2x1) => Some(PixelFormat::Yuv422),
        (Colorspace::YCbCr, Subsamp::None) => Some(PixelFormat::Yuv444),
        _ => None,
    }
}

/// Copies a plane of rows of `width`, repeating its last column and row to fill `to`.
fn pad(plane: &[u8], width: usize, to: (usize, usize), padded: &mut Vec<u8>) {
    let (stride, rows) = to;
    padded.clear();
    for row in plane.chunks_exact(width) {
        padded.extend_from_slice(row);
        padded.resize(padded.len().next_multiple_of(stride), row[width - 1]);
    }
    while padded.len() < stride * rows {
        padded.extend_from_within(padded.len() - stride..);
    }
}

/// Copies planes that are padded to whole chroma samples into an image of packed rows.
fn unpad(padded: &[u8], subsamp: Subsamp, image: &mut Image) {
    let (width, height) = (image.width, image.height);
    let (y_stride, y_rows) =
        (width.next_multiple_of(subsamp.width()), height.next_multiple_of(subsamp.height()));
    let (padded_y, chroma) = padded.split_at(y_stride * y_rows);
    for (to, from) in
        image.data.chunks_exact_mut(width).zip(padded_y.chunks_exact(y_stride)).take(height)
    {
        to.copy_from_slice(&from[..width]);
    }
    image.data[width * height..].copy_from_slice(chroma);
}

fn yuv_of_bgr([b, g, r]: [u8; 3]) -> [u8; 3] {
    let [b, g, r] = [b, g, r].map(i32::from);
    let y = 19_595 * r + 38_470 * g + 7_471 * b;
    let cb = -11_059 * r - 21_709 * g + 32_768 * b + (128 << 16);
    let cr = 32_768 * r - 27_439 * g - 5_329 * b + (128 << 16);
    [y, cb, cr].map(|v| ((v + 0x8000) >> 16).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{texture, textured},
        *,
    };
    use proptest::prelude::*;

    fn decoded(frame: &[u8], want: Want) -> Image {
        let mut image = Image::empty();
        Decoder::new().decode(frame, want, &mut image).expect("decodes");
        image
    }

    /// A picture without edges, which JPEG hardly changes.
    fn smooth(width: usize, height: usize, format: PixelFormat) -> Image {
        let mut image = Image::blank(width, height, format);
        image.data.fill(140);
        for (i, value) in image.data[..width * height].iter_mut().enumerate() {
            *value = (60 + i % width + i / width) as u8;
        }
        image
    }

    fn largest_difference(a: &Image, b: &Image) -> u8 {
        assert_eq!((a.size(), a.format), (b.size(), b.format));
        a.data.iter().zip(&b.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
    }

    #[test]
    fn planes_survive_encoding_at_odd_and_even_sizes() {
        use PixelFormat::{Gray, Yuv420, Yuv422, Yuv444};
        for (width, height) in [(32, 32), (33, 32), (32, 33), (35, 17), (16, 16)] {
            for format in [Gray, Yuv420, Yuv422, Yuv444] {
                let image = smooth(width, height, format);
                let mut frame = Vec::new();
                Encoder::new(100).encode(&image, &mut frame).expect("encodes");
                let difference = largest_difference(&decoded(&frame, Want::Planar), &image);
                assert!(difference <= 2, "{width}x{height} {format:?}: {difference}");
            }
        }
    }

    #[test]
    fn colour_goes_the_right_way_round() {
        let blue = Image::new(16, 16, PixelFormat::Bgr, [250, 20, 10].repeat(256));
        let mut frame = Vec::new();
        Encoder::new(95).encode(&blue, &mut frame).expect("encodes");
        assert!(largest_difference(&decoded(&frame, Want::Bgr), &blue) < 6);
        let planes = decoded(&frame, Want::Planar);
        assert!(largest_difference(&planes.to_bgr(), &blue) < 6);
    }

    #[test]
    fn gray_frames_have_one_component_whatever_they_are_made_of() {
        for format in [PixelFormat::Bgr, PixelFormat::Yuv420, PixelFormat::Gray] {
            let mut encoder = Encoder::new(80);
            encoder.set_gray(true);
            let mut frame = Vec::new();
            encoder.encode(&texture(40, 24, format), &mut frame).expect("encodes");
            assert_eq!(decoded(&frame, Want::Planar).format, PixelFormat::Gray);
            assert_eq!(decoded(&frame, Want::Bgr).format, PixelFormat::Bgr);
        }
    }

    #[test]
    fn quality_changes_the_length() {
        let image = texture(320, 240, PixelFormat::Yuv420);
        let (mut encoder, mut low, mut high) = (Encoder::new(20), Vec::new(), Vec::new());
        encoder.encode(&image, &mut low).expect("encodes");
        encoder.set_quality(90);
        encoder.encode(&image, &mut high).expect("encodes");
        assert!(low.len() * 2 < high.len());
    }

    #[test]
    fn a_truncated_frame_is_damage_even_with_an_end_marker() {
        let frame = textured(320, 240, PixelFormat::Yuv420);
        let torn = [&frame[..frame.len() / 2], &[0xFF, 0xD9]].concat();
        let mut image = Image::empty();
        let result = Decoder::new().decode(&torn, Want::Bgr, &mut image);
        assert!(matches!(result, Err(JpegError::Codec(_))), "{result:?}");
    }

    #[test]
    fn samplings_without_a_layout_become_444() {
        let mut compressor = Compressor::new().expect("memory");
        compressor.set_subsamp(Subsamp::Sub1x2).expect("valid");
        let pixels = [90_u8, 120, 60].repeat(32 * 32);
        let format = turbojpeg::PixelFormat::BGR;
        let image =
            turbojpeg::Image { pixels: &pixels[..], width: 32, pitch: 96, height: 32, format };
        let frame = compressor.compress_to_vec(image).expect("encodes");
        let planes = decoded(&frame, Want::Planar);
        assert_eq!(planes.format, PixelFormat::Yuv444);
        assert_eq!(planes.to_bgr().size(), planes.size());
    }

    proptest! {
        #[test]
        fn damaged_frames_never_panic(at in 0_usize..20_000, value: u8, want_bgr: bool) {
            let mut frame = textured(64, 48, PixelFormat::Yuv420);
            let at = at % frame.len();
            frame[at] = value;
            let want = if want_bgr { Want::Bgr } else { Want::Planar };
            let _ = Decoder::new().decode(&frame, want, &mut Image::empty());
        }
    }
}
