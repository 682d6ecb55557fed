//! A stream of JPEGs one after another, cut into frames by their markers.

use std::io::{self, BufRead};

use super::{
    MAX_JPEG_LEN,
    marker::{EOI, RST0, RST7, SOI, SOS, stands_alone},
};

/// Reads frames from a byte stream that has nothing but JPEGs in it
/// (`ffmpeg -f mjpeg`, a `.mjpeg` file), with or without padding between, and text as
/// HTTP servers of cameras put it there (`multipart/x-mixed-replace`). Empty JPEGs and
/// start markers that nothing follows are padding too.
///
/// Frames are found by walking over the markers, so that a thumbnail inside of
/// one does not split it. What is read into memory is bounded by [`MAX_JPEG_LEN`].
#[derive(Debug)]
pub struct JpegStream<R> {
    reader: R,
    frame: Vec<u8>,
    /// The bytes that the current frame would have, also when they are no longer kept.
    len: usize,
}

/// What comes next in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamItem {
    /// One frame, from its first marker to its last.
    Frame(Vec<u8>),
    /// A frame of so many bytes, which is over the limit, was skipped.
    TooLong(usize),
    /// A frame without an end marker, or its beginning, and another began.
    Unended(Vec<u8>),
    /// A frame broke off within, at so many bytes, where something foreign came.
    Torn(usize),
    /// The stream ended within a frame, of which so many bytes were there.
    Truncated(usize),
}

impl<R: BufRead> JpegStream<R> {
    /// A stream of what `reader` gives.
    pub fn new(reader: R) -> Self {
        Self { reader, frame: Vec::new(), len: 0 }
    }

    /// The next frame or accident, or `None` at the end.
    pub fn next_item(&mut self) -> io::Result<Option<StreamItem>> {
        loop {
            match self.next_piece()? {
                Some(StreamItem::Frame(frame) | StreamItem::Unended(frame)) if is_empty(&frame) => {
                }
                piece => return Ok(piece),
            }
        }
    }

    /// Takes these bytes if they come next, between two frames. Of what only begins like them, the
    /// beginning is skipped, as is all that is no frame.
    pub fn take_if_next(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.len > 0 {
            return Ok(false);
        }
        for &byte in bytes {
            if peek(&mut self.reader)? != Some(byte) {
                return Ok(false);
            }
            self.reader.consume(1);
        }
        Ok(true)
    }

    /// The reader, for what follows the frames.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn next_piece(&mut self) -> io::Result<Option<StreamItem>> {
        // A torn frame may already have brought the next one's first marker.
        if self.len == 0 && !self.find_start()? {
            return Ok(None);
        }
        let whole = self.read_frame();
        let mut len = std::mem::take(&mut self.len);
        let mut frame = std::mem::take(&mut self.frame);
        if let Ok(Walk::NewStart) = whole {
            len -= 2;
            frame.truncate(len);
            self.keep(&[0xFF, SOI]);
        }
        match whole {
            Ok(_) if len > MAX_JPEG_LEN => Ok(Some(StreamItem::TooLong(len))),
            Ok(Walk::Whole) => Ok(Some(StreamItem::Frame(frame))),
            Ok(Walk::Foreign) => Ok(Some(StreamItem::Torn(len))),
            Ok(Walk::NewStart) => Ok(Some(StreamItem::Unended(frame))),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Some(StreamItem::Truncated(len)))
            }
            Err(e) => Err(e),
        }
    }

    /// Skips to the next start marker; false at the end of the stream.
    fn find_start(&mut self) -> io::Result<bool> {
        loop {
            let bytes = fill(&mut self.reader)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let Some(at) = memchr::memchr(0xFF, bytes) else {
                let len = bytes.len();
                self.reader.consume(len);
                continue;
            };
            self.reader.consume(at + 1);
            while peek(&mut self.reader)? == Some(0xFF) {
                self.reader.consume(1);
            }
            match peek(&mut self.reader)? {
                Some(SOI) => {
                    self.reader.consume(1);
                    self.keep(&[0xFF, SOI]);
                    return Ok(true);
                }
                Some(_) => {}
                None => return Ok(false),
            }
        }
    }

    /// Reads on from the start marker to the end marker.
    fn read_frame(&mut self) -> io::Result<Walk> {
        let mut in_scan = false;
        loop {
            if in_scan {
                self.read_to_ff()?;
            } else if self.byte()? != 0xFF {
                return Ok(Walk::Foreign);
            }
            let mut marker = self.byte()?;
            while marker == 0xFF {
                marker = self.byte()?;
            }
            match marker {
                EOI => return Ok(Walk::Whole),
                SOI => return Ok(Walk::NewStart),
                0 | RST0..=RST7 if in_scan => continue,
                0 => return Ok(Walk::Foreign),
                _ if stands_alone(marker) => {}
                _ => self.read_segment()?,
            }
            in_scan = marker == SOS;
        }
    }

    fn read_segment(&mut self) -> io::Result<()> {
        let len = u16::from_be_bytes([self.byte()?, self.byte()?]);
        let mut left = usize::from(len).saturating_sub(2);
        while left > 0 {
            let available = self.some()?.len().min(left);
            self.take(available);
            left -= available;
        }
        Ok(())
    }

    /// Reads coded data up to and with the next `FF`.
    fn read_to_ff(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.some()?;
            let found = memchr::memchr(0xFF, bytes);
            let len = found.map_or(bytes.len(), |at| at + 1);
            self.take(len);
            if found.is_some() {
                return Ok(());
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let byte = self.some()?[0];
        self.take(1);
        Ok(byte)
    }

    /// The bytes that can be had without waiting, at least one; else the stream is truncated.
    fn some(&mut self) -> io::Result<&[u8]> {
        let bytes = fill(&mut self.reader)?;
        if bytes.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }

    /// Moves the first `len` buffered bytes to the frame, unless that is too long already.
    fn take(&mut self, len: usize) {
        let bytes = self.reader.fill_buf().expect("these bytes were just buffered");
        if self.len + len <= MAX_JPEG_LEN {
            self.frame.extend_from_slice(&bytes[..len]);
        }
        self.len += len;
        self.reader.consume(len);
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.frame.extend_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// Whether nothing is between the markers of its start and, perhaps, its end but padding.
fn is_empty(frame: &[u8]) -> bool {
    let rest = frame.strip_suffix(&[EOI]).unwrap_or(frame);
    rest.iter().skip(2).all(|&byte| byte == 0xFF)
}

/// Whether bytes that begin so may be a stream of JPEGs: at once, after blank lines or padding, or with what an HTTP
/// server sends in front of each.
pub fn begins_jpegs(first: &[u8]) -> bool {
    let padding = |byte: &&u8| byte.is_ascii_whitespace() || **byte == 0;
    let text = &first[first.iter().take_while(padding).count()..];
    let is = |start: &[u8]| {
        let len = start.len().min(text.len());
        text[..len].eq_ignore_ascii_case(&start[..len])
    };
    !first.is_empty() && [&[0xFF, SOI][..], b"--", b"Content-", b"HTTP/"].into_iter().any(is)
}

/// How the walk over one frame ended.
enum Walk {
    Whole,
    NewStart,
    Foreign,
}

fn peek(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    Ok(fill(reader)?.first().copied())
}

/// [`BufRead::fill_buf`], tried again when a signal interrupts it.
fn fill(reader: &mut impl BufRead) -> io::Result<&[u8]> {
    loop {
        match reader.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(_) => break,
        }
    }
    reader.fill_buf()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::textured, *};
    use crate::video::image::PixelFormat;
    use proptest::prelude::*;
    use std::io::BufReader;

    fn items(bytes: &[u8], buffer: usize) -> Vec<StreamItem> {
        let mut stream = JpegStream::new(BufReader::with_capacity(buffer, bytes));
        std::iter::from_fn(|| stream.next_item().expect("memory does not fail")).collect()
    }

    fn frame(width: usize) -> Vec<u8> {
        textured(width, 32, PixelFormat::Yuv420)
    }

    #[test]
    fn frames_come_out_as_they_went_in_whatever_the_buffer() {
        let (a, b) = (frame(32), frame(48));
        let bytes = [&a[..], &[0, 0xFF, 0xFF], &b, &a, b"\r\n"].concat();
        for buffer in [1, 2, 3, 100, 1 << 16] {
            let expected = [&a, &b, &a].map(|f| StreamItem::Frame(f.clone()));
            assert_eq!(items(&bytes, buffer), expected);
        }
    }

    #[test]
    fn a_thumbnail_does_not_split_its_frame() {
        let (outer, inner) = (frame(64), frame(16));
        let len = ((inner.len() + 2) as u16).to_be_bytes();
        let frame = [&outer[..2], &[0xFF, 0xE1], &len, &inner, &outer[2..]].concat();
        assert_eq!(items(&frame, 64), [StreamItem::Frame(frame.clone())]);
    }

    #[test]
    fn a_torn_frame_does_not_take_the_next_one_with_it() {
        let good = frame(48);
        let cut = good.len() - 20;
        let bytes = [&good[..cut], &good].concat();
        let beginning = good[..cut].to_vec();
        assert_eq!(items(&bytes, 64), [StreamItem::Unended(beginning), StreamItem::Frame(good)]);
    }

    #[test]
    fn empty_frames_second_starts_and_text_are_skipped() {
        let good = frame(48);
        let text = b"\r\n--next\r\nContent-Type: image/jpeg\r\nContent-Length: 900\r\n\r\n";
        for between in [
            &[0xFF, SOI][..],
            &[0xFF, SOI, 0xFF, EOI],
            &[0xFF, SOI, 0xFF, 0xFF, EOI, 0, 0xFF, SOI, 0xFF, EOI],
            &[0xFF, SOI].repeat(9),
            text,
        ] {
            let bytes = [between, &good, between, &good].concat();
            for buffer in [1, 7, 4096] {
                let expected = [&good, &good].map(|frame| StreamItem::Frame(frame.clone()));
                assert_eq!(items(&bytes, buffer), expected, "{between:?}");
            }
        }
    }

    #[test]
    fn a_stream_is_known_by_what_it_begins_with() {
        let jpegs: [&[u8]; 8] = [
            &[0xFF, SOI, 0xFF],
            b"\r\n\xFF\xD8",
            b"\r\n\r\n--bound",
            b"--boundary",
            b"content-ty",
            b"HTTP/1.1 2",
            b"\n\n\n\n\n\n\n\n\n\n",
            &[0, 0, 0xFF, SOI],
        ];
        assert!(jpegs.into_iter().all(begins_jpegs));
        for other in
            [&b""[..], b"GIF89a....", b"YUV4MPEG2 ", b"\x89PNG\r\n\x1a\n", b"-x", b"\xFF\xFB"]
        {
            assert!(!begins_jpegs(other), "{other:?}");
        }
    }

    #[test]
    fn a_truncated_last_frame_is_said() {
        let good = frame(48);
        for len in 2..good.len() {
            assert_eq!(items(&good[..len], 512), [StreamItem::Truncated(len)]);
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_skipped_without_being_kept() {
        let good = frame(48);
        let scan = good.len() - 2;
        let bytes = [&good[..scan], &vec![1; MAX_JPEG_LEN], &good[scan..], &good].concat();
        let too_long = StreamItem::TooLong(good.len() + MAX_JPEG_LEN);
        assert_eq!(items(&bytes, 4096), [too_long, StreamItem::Frame(good.clone())]);
        let unended = [&good[..scan], &vec![1; MAX_JPEG_LEN], &good].concat();
        let too_long = StreamItem::TooLong(scan + MAX_JPEG_LEN);
        assert_eq!(items(&unended, 4096), [too_long, StreamItem::Frame(good)]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_always_end(
            bytes in proptest::collection::vec(prop_oneof![Just(0xFF), Just(SOI), Just(SOS), any::<u8>()], 0..300),
        ) {
            let kept: usize = items(&bytes, 7).iter().map(|item| match item {
                StreamItem::Frame(frame) => frame.len(),
                _ => 0,
            }).sum();
            prop_assert!(kept <= bytes.len());
        }
    }
}
