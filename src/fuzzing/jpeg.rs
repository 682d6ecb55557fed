//! JPEGs from a pipe, from a camera and from a peer.

use std::{
    io::{BufRead, BufReader},
    sync::LazyLock,
};

use crate::video::{
    image::{Image, PixelFormat, Size},
    jpeg::{
        Decoder, Encoder, Header, JpegError, JpegStream, OutputFormat, PartialDecode, StreamItem,
        Strips, normalize,
    },
};

/// The bytes are read as a stream of JPEGs, and as one frame of a camera. Each frame found is a
/// part of the stream. Each frame that can be normalized becomes a JPEG that needs no further
/// normalizing.
pub fn jpeg_stream(bytes: &[u8]) {
    let items = items(bytes);
    assert!(items == self::items(BufReader::with_capacity(3, bytes)), "whole or in pieces");
    let mut rest = bytes;
    for item in items {
        match item {
            StreamItem::Frame(frame) => {
                assert!(frame.starts_with(&[0xFF, 0xD8]) && frame.ends_with(&[0xFF, 0xD9]));
                let at = memchr::memmem::find(rest, &frame).expect("a part of the rest");
                rest = &rest[at + frame.len()..];
                check_normalized(frame);
            }
            StreamItem::Unended(beginning) => {
                assert!(beginning.starts_with(&[0xFF, 0xD8]));
                let at = memchr::memmem::find(rest, &beginning).expect("a part of the rest");
                rest = &rest[at + beginning.len()..];
                check_normalized(beginning);
            }
            StreamItem::TooLong | StreamItem::Damaged(_) => {}
            StreamItem::Interrupted(len) | StreamItem::Truncated(len) => {
                assert!(len <= rest.len());
            }
        }
    }
    check_normalized(bytes.to_vec());
}

fn items(reader: impl BufRead) -> Vec<StreamItem> {
    let mut stream = JpegStream::new(reader);
    std::iter::from_fn(|| stream.next_item().expect("memory does not fail")).collect()
}

fn check_normalized(mut frame: Vec<u8>) {
    let len = frame.len();
    if normalize(&mut frame).is_err() {
        return;
    }
    assert!(frame.len() <= len + NORMALIZE_OVERHEAD, "{} bytes of {len}", frame.len());
    assert!(frame.starts_with(&[0xFF, 0xD8]) && frame.ends_with(&[0xFF, 0xD9]));
    let header = Header::parse(&frame);
    assert!(header.is_ok_and(|header| header.has_huffman_tables), "{header:?} once normalized");
    let before = frame.clone();
    assert_eq!(normalize(&mut frame), Ok(()));
    assert!(frame == before, "nothing is left to normalize");
}

/// The first byte selects the output format and the number of pieces in which the rest, a frame,
/// arrives. Decoding in strips gives the same picture or none, whether the frame is complete or
/// still arriving. If it gives one, decoding without strips gives the same planar picture (in BGR,
/// colours differ where strips meet), or reports a bad code. In any case, a good frame is decoded
/// afterwards.
pub fn jpeg_decode(bytes: &[u8]) {
    let Some((&mode, frame)) = bytes.split_first() else { return };
    let want = if mode & 1 == 0 { OutputFormat::Planar } else { OutputFormat::Bgr };
    let pieces = usize::from(mode >> 1) % 8 + 1;
    let Ok(Header { size, .. }) = Header::parse(frame) else {
        assert!(Decoder::alone().decode(frame, want, &mut Image::empty()).is_err());
        return;
    };
    if size.width * size.height > MAX_PIXELS {
        return;
    }
    let split = outcome(0, size, |decoder, image| decoder.decode(frame, want, image));
    let arriving = outcome(0x5a, size, |decoder, image| {
        let mut ahead = PartialDecode::default();
        for piece in 1..pieces {
            let prefix = &frame[..frame.len() * piece / pieces];
            decoder.decode_ahead(&mut ahead, prefix, want, image);
        }
        decoder.decode_rest(ahead, frame, want, image)
    });
    assert!(split.is_ok() == arriving.is_ok(), "at once: {}", split.is_ok());
    assert!(split.as_ref().ok() == arriving.as_ref().ok(), "a different picture while it arrives");
    let whole = outcome(0xa5, size, |decoder, image| decoder.decode_whole(frame, want, image));
    let Ok(split) = split else { return };
    assert_eq!(split.size(), size);
    match whole {
        Ok(whole) => {
            assert!(want == OutputFormat::Bgr || split == whole, "a different picture in strips");
        }
        // libjpeg reports a bad code only where restart markers may follow; a strip has none.
        Err(error) => assert!(error.is_bad_code(), "only strips accept it: {error}"),
    }
}

/// The result of `decode` for a frame of this size, in memory that held `filler`.
fn outcome(
    filler: u8,
    size: Size,
    decode: impl FnOnce(&mut Decoder, &mut Image) -> Result<(), JpegError>,
) -> Result<Image, JpegError> {
    let Size { width, height } = size;
    let held = vec![filler; PixelFormat::Bgr.data_len(width, height)];
    let mut image = Image::new(width, height, PixelFormat::Bgr, held);
    let mut decoder = Decoder::alone();
    let outcome = match decode(&mut decoder, &mut image) {
        Err(JpegError::Panicked) => panic!("the decoder has panicked"),
        result => result.map(|()| image),
    };
    decoder
        .decode(&GOOD, OutputFormat::Planar, &mut Image::empty())
        .expect("no frame affects the next");
    outcome
}

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut frame = Vec::new();
    let image = Image::blank(16, 16, PixelFormat::Yuv420);
    Encoder::alone(80, Strips::Count(1)).encode(&image, &mut frame).expect("encodes");
    frame
});

/// The length of the standard Huffman tables and an end marker, in bytes.
const NORMALIZE_OVERHEAD: usize = 422;

/// Enough to decode in strips; larger frames only take longer.
const MAX_PIXELS: usize = 130_000;
