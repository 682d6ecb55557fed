//! Records decoded planes as YUV4MPEG2.

use std::{io, path::PathBuf};

use y4m::{Colorspace, EncoderBuilder, Ratio, VendorExtensionString};

use super::{output::Output, written::Written};
use crate::clock;
use crate::video::{
    fit::{Fitter, Layout},
    image::{Image, PixelFormat},
    jpeg::{DecodeWatch, Decoder, OutputFormat},
};

/// Decodes frames and writes their planes.
pub(super) struct Y4mWriter {
    output: Output,
    rate: (u32, u32),
    decoder: Decoder,
    image: Image,
    watch: DecodeWatch,
    fitter: Fitter,
    /// The layout in the header, once it is written.
    layout: Option<Layout>,
}

impl Y4mWriter {
    /// `rate` is frames/s as numerator and denominator.
    pub(super) fn new(output: Output, rate: (u32, u32)) -> Self {
        let (decoder, image, fitter) = (Decoder::new(), Image::empty(), Fitter::new());
        let watch = DecodeWatch::default();
        Self { output, rate, decoder, image, watch, fitter, layout: None }
    }

    /// Sets the rate in the header, if it is not written yet.
    pub(super) fn set_rate(&mut self, rate: (u32, u32)) {
        self.rate = rate;
    }

    /// Writes a frame's planes in the layout of the first, since YUV4MPEG2 has a single one. The
    /// layout of frames changes when a sender on a narrow path halves the size of its pictures, or
    /// when another sender takes over.
    pub(super) fn write(&mut self, frame: &[u8]) -> io::Result<Written> {
        if let Err(error) = self.decoder.decode(frame, OutputFormat::Planar, &mut self.image) {
            if let Some(why) = self.watch.failed(&error, clock::now()) {
                log::warn!("{why}");
            }
            return Ok(Written::Damaged);
        }
        self.watch.succeeded();
        if !self.output.open()? {
            return Ok(Written::NoReader);
        }
        let from = Layout::of(&self.image);
        let to = self.begin(from)?;
        self.write_fitted(from, to)
    }

    /// Like [`write`](Self::write), with a frame that is already decoded.
    pub(super) fn write_planes(&mut self, image: &Image) -> io::Result<Written> {
        if !self.output.open()? {
            return Ok(Written::NoReader);
        }
        let from = Layout::of(image);
        let to = self.begin(from)?;
        if from != to {
            self.image.clone_from(image);
            return self.write_fitted(from, to);
        }
        self.output.write(&[FRAME, &image.data]).map(|()| Written::Whole)
    }

    /// Fits `self.image`, and writes it.
    fn write_fitted(&mut self, from: Layout, to: Layout) -> io::Result<Written> {
        let is_converted = self.fitter.fit(&mut self.image, to) && from != to;
        self.output.write(&[FRAME, &self.image.data])?;
        Ok(if is_converted { Written::Converted { from, to } } else { Written::Whole })
    }

    /// The layout of the recording: that of the first frame, for which the header is written.
    fn begin(&mut self, first: Layout) -> io::Result<Layout> {
        if let Some(layout) = self.layout {
            return Ok(layout);
        }
        self.output.write(&[&header(first, self.rate)])?;
        self.layout = Some(first);
        Ok(first)
    }

    /// Whether the output is a pipe, or a file that is open.
    pub(super) fn is_open(&self) -> bool {
        self.output.is_open()
    }

    /// The name of the file opened since the last call.
    pub(super) fn take_opened(&mut self) -> Option<PathBuf> {
        self.output.take_opened()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.output.len()
    }
}

fn header(Layout { size, format }: Layout, (numerator, denominator): (u32, u32)) -> Vec<u8> {
    let colorspace = match format {
        PixelFormat::Gray => Colorspace::Cmono,
        PixelFormat::Yuv420 => Colorspace::C420jpeg,
        PixelFormat::Yuv422 => Colorspace::C422,
        PixelFormat::Yuv444 => Colorspace::C444,
        PixelFormat::Bgr => unreachable!("the decoder was asked for planes"),
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

/// Begins a frame.
const FRAME: &[u8] = b"FRAME\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::image::Size;

    #[test]
    fn the_header_gives_size_rate_range_and_sampling() {
        let size = Size { width: 17, height: 19 };
        let layout = Layout { size, format: PixelFormat::Yuv422 };
        let line = String::from_utf8(header(layout, (30_000, 1001))).expect("text");
        assert_eq!(line, "YUV4MPEG2 W17 H19 F30000:1001 XCOLORRANGE=FULL C422\n");
    }
}
