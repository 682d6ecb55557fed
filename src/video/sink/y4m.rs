//! Recording decoded planes as YUV4MPEG2.

use std::io;

use y4m::{Colorspace, EncoderBuilder, Ratio, VendorExtensionString};

use super::{output::Output, recorder::Written};
use crate::video::{
    image::{Image, PixelFormat, Size},
    jpeg::{Decoder, Want},
    scale::Shrinker,
};

/// Decodes frames and writes their planes.
pub(super) struct Y4mWriter {
    output: Output,
    rate: (u32, u32),
    decoder: Decoder,
    image: Image,
    shrinker: Shrinker,
    /// What the header says, once it is written.
    layout: Option<(Size, PixelFormat)>,
}

impl Y4mWriter {
    /// `rate` is frames/s as numerator and denominator.
    pub(super) fn new(output: Output, rate: (u32, u32)) -> Self {
        let (decoder, image, shrinker) = (Decoder::new(), Image::empty(), Shrinker::new());
        Self { output, rate, decoder, image, shrinker, layout: None }
    }

    /// For the next header.
    pub(super) fn set_rate(&mut self, rate: (u32, u32)) {
        self.rate = rate;
    }

    /// Writes a frame's planes, at the size of the first: a sender on a narrow path halves its
    /// pictures, and later no longer, and the film should go on.
    pub(super) fn write(&mut self, frame: &[u8]) -> io::Result<Written> {
        if self.decoder.decode(frame, Want::Planar, &mut self.image).is_err() {
            return Ok(Written::Damaged);
        }
        match self.layout {
            None => {
                let layout = (self.image.size(), self.image.format);
                self.output.write(&[&header(layout, self.rate)])?;
                self.layout = Some(layout);
            }
            Some((size, format)) => {
                let Self { image, shrinker, .. } = self;
                if image.format != format || !shrinker.match_size(image, size) {
                    return Ok(Written::OtherLayout);
                }
            }
        }
        self.output.write(&[b"FRAME\n", &self.image.data])?;
        Ok(Written::Whole)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.output.len()
    }
}

fn header((size, format): (Size, PixelFormat), (numerator, denominator): (u32, u32)) -> Vec<u8> {
    let colorspace = match format {
        PixelFormat::Gray => Colorspace::Cmono,
        PixelFormat::Yuv420 => Colorspace::C420jpeg,
        PixelFormat::Yuv422 => Colorspace::C422,
        PixelFormat::Yuv444 => Colorspace::C444,
        PixelFormat::Bgr => unreachable!("planes were asked of the decoder"),
    };
    let full = VendorExtensionString::new(b"COLORRANGE=FULL".to_vec()).expect("has no space");
    let mut header = Vec::new();
    let rate = Ratio::new(numerator as usize, denominator as usize);
    EncoderBuilder::new(size.width, size.height, rate)
        .with_colorspace(colorspace)
        .append_vendor_extension(full)
        .write_header(&mut header)
        .expect("memory does not fail");
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_size_rate_range_and_sampling() {
        let layout = (Size { width: 17, height: 19 }, PixelFormat::Yuv422);
        let line = String::from_utf8(header(layout, (30_000, 1001))).expect("text");
        assert_eq!(line, "YUV4MPEG2 W17 H19 F30000:1001 XCOLORRANGE=FULL C422\n");
    }
}
