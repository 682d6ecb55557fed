//! Frames to images.

use std::time::Duration;

use turbojpeg::DecompressHeader;

use super::{
    header::Header,
    strips::{Crew, STRIPS_A_THREAD, Split, StripMut, strips_mut},
    turbo::{JpegError, TurboDecoder, planar_format},
};
use crate::video::image::{Image, PixelFormat};

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
    whole: TurboDecoder,
    strips: Vec<StripDecoder>,
    crew: Crew,
}

impl Decoder {
    /// A decoder. Frames with restart markers it decodes on all cores.
    pub fn new() -> Self {
        Self { whole: TurboDecoder::new(), strips: Vec::new(), crew: Crew::new() }
    }

    /// On so many threads, whatever the machine has.
    #[cfg(test)]
    pub(super) fn with_threads(threads: usize) -> Self {
        Self { crew: Crew::of(threads), ..Self::new() }
    }

    /// Processor time used so far by threads other than the calling one.
    pub fn helpers_cpu(&self) -> Duration {
        self.crew.helpers_cpu()
    }

    /// Decodes `frame` into `image`, whose allocation is used again.
    ///
    /// A frame that libjpeg only warns of is damaged too: the warning is the
    /// error. Then `image` holds no picture.
    ///
    /// Where strips meet, the colours of two rows of BGR may differ by a few levels from
    /// those of other decoders, since the rows across are not looked at to smooth them.
    pub fn decode(&mut self, frame: &[u8], want: Want, image: &mut Image) -> Result<(), JpegError> {
        let header = Header::parse(frame)?;
        let seen = self.whole.read_header(frame)?;
        let (width, height) = (header.size.width, header.size.height);
        if (seen.width, seen.height) != (width, height) {
            return Err(JpegError::Contradiction);
        }
        let format = match want {
            Want::Bgr => Some(PixelFormat::Bgr),
            Want::Planar => planar_format(&seen),
        };
        image.reshape(width, height, format.unwrap_or(PixelFormat::Bgr));
        match Split::plan(frame, &header, self.crew.threads() * STRIPS_A_THREAD) {
            Some(split) => self.decode_strips(frame, &header, &seen, &split, image)?,
            None => self.whole.decode(frame, &seen, image)?,
        }
        if format.is_none() {
            *image = planes_of_bgr(image);
        }
        Ok(())
    }

    fn decode_strips(
        &mut self,
        frame: &[u8],
        header: &Header,
        seen: &DecompressHeader,
        split: &Split,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        self.strips.resize_with(split.count.max(self.strips.len()), StripDecoder::new);
        let strips = self.strips.iter_mut().zip(strips_mut(image, split.rows)).enumerate();
        let mut jobs: Vec<Job<'_>> = strips
            .map(|(index, (decoder, strip))| Job {
                decoder,
                index,
                strip: Some(strip),
                result: Ok(()),
            })
            .collect();
        self.crew.run(
            &mut jobs,
            |job| {
                let strip = job.strip.take().expect("each job is done once");
                split.write_strip(frame, header, job.index, &mut job.decoder.jpeg);
                job.result = job.decoder.decode(seen, strip);
            },
            |_| {},
        );
        jobs.into_iter().try_for_each(|job| job.result)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// One strip's share of the work.
struct Job<'a> {
    decoder: &'a mut StripDecoder,
    index: usize,
    strip: Option<StripMut<'a>>,
    result: Result<(), JpegError>,
}

#[derive(Debug)]
struct StripDecoder {
    turbo: TurboDecoder,
    /// The strip as a JPEG of its own.
    jpeg: Vec<u8>,
}

impl StripDecoder {
    fn new() -> Self {
        Self { turbo: TurboDecoder::new(), jpeg: Vec::new() }
    }

    /// `whole` is what libjpeg says of the frame.
    fn decode(&mut self, whole: &DecompressHeader, strip: StripMut<'_>) -> Result<(), JpegError> {
        let seen = self.turbo.read_header(&self.jpeg)?;
        let mut expected = *whole;
        expected.height = strip.height;
        if seen != expected {
            return Err(JpegError::Contradiction);
        }
        self.turbo.decode_strip(&self.jpeg, &seen, strip)
    }
}

/// For a sampling or colour space that we have no layout for: by way of BGR, to 4:4:4.
fn planes_of_bgr(bgr: &Image) -> Image {
    let mut planes = Image::blank(bgr.width, bgr.height, PixelFormat::Yuv444);
    let [y, cb, cr] = planes.planes_mut();
    for (i, pixel) in bgr.data.chunks_exact(3).enumerate() {
        [y[i], cb[i], cr[i]] = yuv_of_bgr([pixel[0], pixel[1], pixel[2]]);
    }
    planes
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
        super::{
            Encoder, Strips,
            tests::{texture, textured},
        },
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
                Encoder::new(100, Strips::Auto).encode(&image, &mut frame).expect("encodes");
                let difference = largest_difference(&decoded(&frame, Want::Planar), &image);
                assert!(difference <= 2, "{width}x{height} {format:?}: {difference}");
            }
        }
    }

    #[test]
    fn colour_goes_the_right_way_round() {
        let blue = Image::new(16, 16, PixelFormat::Bgr, [250, 20, 10].repeat(256));
        let mut frame = Vec::new();
        Encoder::new(95, Strips::Auto).encode(&blue, &mut frame).expect("encodes");
        assert!(largest_difference(&decoded(&frame, Want::Bgr), &blue) < 6);
        let planes = decoded(&frame, Want::Planar);
        assert!(largest_difference(&planes.to_bgr(), &blue) < 6);
    }

    #[test]
    fn gray_frames_have_one_component_whatever_they_are_made_of() {
        for format in [PixelFormat::Bgr, PixelFormat::Yuv420, PixelFormat::Gray] {
            let mut encoder = Encoder::new(80, Strips::Auto);
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
        let (mut encoder, mut low, mut high) =
            (Encoder::new(20, Strips::Auto), Vec::new(), Vec::new());
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
        let mut compressor = turbojpeg::Compressor::new().expect("memory");
        compressor.set_subsamp(turbojpeg::Subsamp::Sub1x2).expect("valid");
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
