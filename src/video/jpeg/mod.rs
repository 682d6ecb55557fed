//! JPEG: parsing headers, normalizing cameras' JPEGs, encoding and decoding.

mod decode_watch;
mod decoder;
mod encoder;
mod header;
mod huffman_tables;
mod lookahead;
mod marker;
mod normalize;
mod photograph;
mod sandbox;
mod sandbox_thread;
mod scan;
mod stream;
mod strips;
mod thumbnail;
mod turbo;

pub use decode_watch::DecodeWatch;
pub use decoder::{Concealed, Decoder, OutputFormat, PartialDecode};
pub use encoder::{Encoder, StripIndex};
pub use header::{Header, HeaderError, Interrupted, Sampling};
pub use normalize::{NormalizeError, normalize};
pub use photograph::MotionJpegTest;
pub use sandbox::{SandboxStatus, sandbox_status};
pub use scan::ScanError;
pub use stream::{JpegStream, StreamItem, begins_jpegs};
pub use strips::{MAX_STRIPS, Strips};
pub use turbo::JpegError;

/// The maximum length of a frame, in bytes. A 4K picture at quality 95 takes half of that.
pub const MAX_JPEG_LEN: usize = 8 << 20;

#[cfg(test)]
pub(in crate::video) mod tests {
    use super::{Encoder, Strips};
    use crate::video::image::{Image, PixelFormat};

    /// A picture with some texture in every plane.
    pub(in crate::video) fn texture(width: usize, height: usize, format: PixelFormat) -> Image {
        let len = format.data_len(width, height);
        let data = (0..len).map(|i| ((i % 61) * 3 + (i / 61 % 29) * 2) as u8).collect();
        Image::new(width, height, format, data)
    }

    /// The same, encoded.
    pub(in crate::video) fn textured(width: usize, height: usize, format: PixelFormat) -> Vec<u8> {
        let mut jpeg = Vec::new();
        let image = texture(width, height, format);
        Encoder::new(80, Strips::Auto).encode(&image, &mut jpeg).expect("encodes");
        jpeg
    }
}
