//! Splits a stream of concatenated JPEGs into frames by their markers.

use std::{
    io::{self, BufRead},
    ops::Range,
};

use super::{
    MAX_JPEG_LEN,
    header::{Header, HeaderError, MAX_HEADER_LEN, MAX_SEGMENTS},
    lookahead::Lookahead,
    marker::{
        APP0, APP15, COM, EOI, RST0, RST7, SOI, SOS, Segment, WalkError, segment_at, stands_alone,
    },
    thumbnail::thumbnail_in,
};

/// Reads frames from a byte stream of JPEGs (`ffmpeg -f mjpeg`, a `.mjpeg` file). Between them
/// there may be padding, or text as sent by HTTP servers of cameras (`multipart/x-mixed-replace`).
/// Empty JPEGs and isolated start markers count as padding.
///
/// Frames are found by walking over the markers, so that a thumbnail within a frame does not split
/// it. If the walk fails before the coded data, a damaged length may have led it across the
/// following frames, so the search continues just after the start marker. Coded data contains no
/// start marker, so it is read once, and the walk over a header is bounded by `MAX_SEGMENTS`. The
/// time is therefore linear in the length of the stream. Memory is bounded by [`MAX_JPEG_LEN`].
#[derive(Debug)]
pub struct JpegStream<R> {
    ahead: Lookahead<R>,
    /// Damage before this position has already been reported.
    told: usize,
    /// The range of a damaged frame's thumbnail.
    thumbnail: Option<Range<usize>>,
    borders: Borders,
}

/// The next item in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamItem {
    /// One frame, from its start marker to its end marker.
    Frame(Vec<u8>),
    /// A frame without an end marker, or its beginning: another began, or the stream ended.
    Unended(Vec<u8>),
    /// A frame over the length limit was skipped.
    TooLong,
    /// A frame broke off within its coded data, after this number of bytes, at foreign data.
    Interrupted(usize),
    /// A frame's segments are damaged.
    Damaged(HeaderError),
    /// The stream ended within a frame's segments, after this number of bytes.
    Truncated(usize),
}

impl<R: BufRead> JpegStream<R> {
    /// A stream of the bytes of `reader`.
    pub fn new(reader: R) -> Self {
        Self::ending_at(&[], reader)
    }

    /// The same, but the stream also ends where one of `marks` begins. A mark must not contain `FF`.
    pub fn ending_at(marks: &'static [&'static [u8]], reader: R) -> Self {
        let ahead = Lookahead::new(reader, marks);
        Self { ahead, told: 0, thumbnail: None, borders: Borders::default() }
    }

    /// Marks the first `len` bytes as damaged; damage in them is not reported again.
    #[must_use]
    pub fn told(self, len: usize) -> Self {
        Self { told: len, ..self }
    }

    /// The next frame or error, or `None` at the end.
    pub fn next_item(&mut self) -> io::Result<Option<StreamItem>> {
        while self.find_start()? {
            let item = match self.walk() {
                Ok(walk) => self.end_walk(&walk),
                Err(Failure::Header(error, reached)) => self.skip_start(error, reached),
                Err(Failure::Read(error)) => return Err(error),
            };
            if item.is_some() {
                return Ok(item);
            }
        }
        Ok(None)
    }

    /// Whether the stream has ended at a mark.
    pub fn is_at_mark(&self) -> bool {
        self.ahead.is_at_mark()
    }

    /// The bytes read that belong to no frame, and the reader.
    pub fn into_parts(self) -> (Vec<u8>, R) {
        self.ahead.into_parts()
    }

    /// Skips to the next start marker that is followed by another marker; false at the end of the
    /// stream. A start marker at the very end is accepted.
    fn find_start(&mut self) -> io::Result<bool> {
        loop {
            if let Some(start) = memchr::memmem::find(self.ahead.bytes(), &[0xFF, SOI]) {
                self.consume(start);
                if matches!(self.ahead.byte(2)?, None | Some(0xFF)) {
                    return Ok(true);
                }
                self.consume(2);
                continue;
            }
            // The last byte may begin a start marker.
            self.consume(self.ahead.bytes().len().saturating_sub(1));
            if !self.ahead.grow()? {
                self.consume(self.ahead.bytes().len());
                return Ok(false);
            }
        }
    }

    /// Consumes the result of a walk. The thumbnail of a damaged frame is neither a frame nor
    /// damage.
    fn end_walk(&mut self, walk: &Walk) -> Option<StreamItem> {
        let (Walk::Padding(len) | Walk::Whole(len) | Walk::Unended(len) | Walk::Interrupted(len)) =
            *walk;
        let len = len.min(self.ahead.bytes().len());
        let is_thumbnail = self.thumbnail.as_ref().is_some_and(|it| it.start == 0 && len <= it.end);
        if is_thumbnail || matches!(walk, Walk::Padding(_)) {
            self.consume(len);
            return None;
        }
        let frame = || self.ahead.bytes()[..len].to_vec();
        let item = match walk {
            _ if len > MAX_JPEG_LEN => StreamItem::TooLong,
            Walk::Whole(_) => StreamItem::Frame(frame()),
            Walk::Unended(_) => StreamItem::Unended(frame()),
            Walk::Padding(_) | Walk::Interrupted(_) => StreamItem::Interrupted(len),
        };
        self.told = 0;
        self.consume(len);
        Some(item)
    }

    /// Skips the start marker of a frame with a damaged header. Damage within another damaged
    /// header has already been reported.
    fn skip_start(&mut self, error: HeaderError, reached: usize) -> Option<StreamItem> {
        let is_told = self.told > 0;
        let len = self.ahead.bytes().len();
        let is_truncated = error == HeaderError::Truncated;
        self.told = self.told.max(if is_truncated { len } else { reached });
        self.thumbnail = self.find_thumbnail().or(self.thumbnail.take());
        self.consume(2);
        match error {
            _ if is_told => None,
            HeaderError::Truncated => Some(StreamItem::Truncated(len)),
            error => Some(StreamItem::Damaged(error)),
        }
    }

    /// The range of the thumbnail in the frame at the current position.
    fn find_thumbnail(&self) -> Option<Range<usize>> {
        let bytes = self.ahead.bytes();
        let mut at = 2;
        for _ in 0..MAX_SEGMENTS {
            let (marker, payload) = match (segment_at(bytes, at), bytes.get(at..)?) {
                (Ok(Segment { marker, payload, .. }), _) => (marker, payload),
                (Err(WalkError::Truncated), &[0xFF, marker, _, _, ..]) => {
                    (marker, at + 4..bytes.len())
                }
                _ => return None,
            };
            if let Some(found) = thumbnail_in(marker, &bytes[payload.clone()]) {
                return Some(payload.start + found.start..payload.start + found.end);
            }
            at = payload.end;
        }
        None
    }

    /// Walks over a frame from its start marker.
    fn walk(&mut self) -> Result<Walk, Failure> {
        let mut at = 2;
        for _ in 0..MAX_SEGMENTS {
            let Segment { marker, start, payload } = self.segment(at)?;
            match marker {
                SOI if at == 2 => return Ok(Walk::Padding(start)),
                EOI if at == 2 => return Ok(Walk::Padding(payload.end)),
                SOI => return Err(Failure::Header(HeaderError::SecondStart(start), start)),
                EOI => return Err(Failure::Header(HeaderError::NoScan, start)),
                SOS if self.ahead.bytes()[payload.clone()].contains(&0xFF) => {
                    return Err(Failure::Header(HeaderError::Malformed, start));
                }
                SOS => return self.walk_scans(payload.end),
                APP0..=APP15 | COM => {}
                _ => self.check_tables(&payload)?,
            }
            at = payload.end;
            if at > MAX_HEADER_LEN {
                break;
            }
        }
        Err(Failure::Header(HeaderError::TooLong, at))
    }

    /// Checks that a segment is no longer than tables can be, and contains no beginning of another
    /// frame.
    fn check_tables(&mut self, payload: &Range<usize>) -> Result<(), Failure> {
        if payload.len() > MAX_TABLES_LEN {
            return Err(Failure::Header(HeaderError::Malformed, payload.start));
        }
        // The next marker's first byte may belong to a start marker within.
        self.ahead.reaches(payload.end + 1)?;
        let bytes = self.ahead.bytes();
        let bytes = &bytes[payload.start..bytes.len().min(payload.end + 1)];
        match memchr::memmem::find(bytes, &[0xFF, SOI, 0xFF]) {
            Some(at) => {
                let at = payload.start + at;
                Err(Failure::Header(HeaderError::SecondStart(at), at))
            }
            None => Ok(()),
        }
    }

    /// Continues the walk after a header of this length.
    fn walk_scans(&mut self, header_len: usize) -> Result<Walk, Failure> {
        let header = &self.ahead.bytes()[..header_len];
        if let Some(border) = self.borders.first(header) {
            return Err(Failure::Header(HeaderError::SecondStart(border), header_len));
        }
        let has_one_scan = match Header::parse(header) {
            // The header only: its coded data follows.
            Ok(_) | Err(HeaderError::TooShort(..)) => true,
            Err(error) if error.is_damage() => return Err(Failure::Header(error, header_len)),
            Err(_) => false,
        };
        let mut scan = header_len;
        for _ in 0..MAX_SEGMENTS {
            let (marker, scan_end) = match self.scan_end(scan)? {
                ScanEnd::Marker(marker, at) => (marker, at),
                ScanEnd::Stream => return Ok(Walk::Unended(usize::MAX)),
                ScanEnd::TooLong(len) => return Ok(Walk::Interrupted(len)),
            };
            match marker {
                EOI => return Ok(Walk::Whole(scan_end + 2)),
                SOI => return Ok(Walk::Unended(scan_end)),
                _ if has_one_scan => return Ok(Walk::Interrupted(scan_end)),
                _ => {}
            }
            scan = match self.walk_to_scan(scan_end) {
                Ok((EOI, end)) => return Ok(Walk::Whole(end)),
                Ok((_, end)) => end,
                Err(Failure::Header(..)) => return Ok(Walk::Interrupted(scan_end)),
                Err(error) => return Err(error),
            };
        }
        Ok(Walk::Interrupted(scan))
    }

    /// Walks over the segments between two scans of a frame, to the coded data of the second one or
    /// to the end of the frame.
    fn walk_to_scan(&mut self, from: usize) -> Result<(u8, usize), Failure> {
        let mut at = from;
        for _ in 0..MAX_SEGMENTS {
            let Segment { marker, start, payload } = self.segment(at)?;
            match marker {
                SOS | EOI => return Ok((marker, payload.end)),
                SOI => return Err(Failure::Header(HeaderError::SecondStart(start), start)),
                _ => at = payload.end,
            }
            if at > from + MAX_HEADER_LEN {
                break;
            }
        }
        Err(Failure::Header(HeaderError::TooLong, at))
    }

    /// The segment at this position, after any fill bytes.
    fn segment(&mut self, at: usize) -> Result<Segment, Failure> {
        let truncated = Failure::Header(HeaderError::Truncated, at);
        let mut code_at = at;
        while self.ahead.byte(code_at)? == Some(0xFF) && code_at < at + MAX_FILL {
            code_at += 1;
        }
        let Some(marker) = self.ahead.byte(code_at)? else { return Err(truncated) };
        let no_marker = Failure::Header(HeaderError::NoMarker(at), at);
        if code_at == at || matches!(marker, 0 | 0xFF) {
            return Err(no_marker);
        }
        let (start, body) = (code_at - 1, code_at + 1);
        if stands_alone(marker) {
            return Ok(Segment { marker, start, payload: body..body });
        }
        if !self.ahead.reaches(body + 2)? {
            return Err(truncated);
        }
        let len = &self.ahead.bytes()[body..body + 2];
        let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
        match len {
            0 | 1 => Err(no_marker),
            _ if !self.ahead.reaches(body + len)? => Err(truncated),
            _ => Ok(Segment { marker, start, payload: body + 2..body + len }),
        }
    }

    /// Where the coded data from `from` ends.
    fn scan_end(&mut self, from: usize) -> io::Result<ScanEnd> {
        let mut at = from;
        while at <= MAX_JPEG_LEN {
            let bytes = self.ahead.bytes();
            let Some(found) = memchr::memchr(0xFF, bytes.get(at..).unwrap_or_default()) else {
                at = at.max(bytes.len());
                if self.ahead.grow()? {
                    continue;
                }
                return Ok(ScanEnd::Stream);
            };
            at += found;
            match self.ahead.byte(at + 1)? {
                None => return Ok(ScanEnd::Stream),
                Some(0 | RST0..=RST7) => at += 2,
                Some(0xFF) => at += 1,
                Some(marker) => return Ok(ScanEnd::Marker(marker, at)),
            }
        }
        Ok(ScanEnd::TooLong(at))
    }

    fn consume(&mut self, len: usize) {
        self.ahead.consume(len);
        self.told = self.told.saturating_sub(len);
        let thumbnail = self.thumbnail.take();
        self.thumbnail =
            thumbnail.filter(|it| it.start >= len).map(|it| it.start - len..it.end - len);
        self.borders.consume(len);
    }
}

/// How and where the walk over a frame ended.
enum Walk {
    /// No frame: an empty JPEG or another start marker.
    Padding(usize),
    Whole(usize),
    /// Without an end marker.
    Unended(usize),
    /// With another marker in its coded data, or with no marker within the limit.
    Interrupted(usize),
}

/// Why the walk over a frame failed before its coded data.
enum Failure {
    /// The header is damaged, detected at this position.
    Header(HeaderError, usize),
    Read(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// What ends coded data.
enum ScanEnd {
    /// This marker, at this position.
    Marker(u8, usize),
    /// The end of the stream.
    Stream,
    /// The length limit, at this position.
    TooLong(usize),
}

/// Finds where one frame ends and another begins.
#[derive(Debug, Default)]
struct Borders {
    found: Option<usize>,
    /// There is none before this position.
    searched: usize,
}

impl Borders {
    /// The first border in `bytes`: an end marker followed by a start marker, with only padding or
    /// text between them. Each byte is examined once over all calls.
    fn first(&mut self, bytes: &[u8]) -> Option<usize> {
        while self.found.is_none() && self.searched < bytes.len() {
            let end = memchr::memmem::find(&bytes[self.searched..], &[0xFF, EOI]);
            let Some(end) = end.map(|at| self.searched + at) else {
                self.searched = bytes.len() - 1;
                break;
            };
            let rest = &bytes[end + 2..];
            let is_between = |byte: &&u8| byte.is_ascii() && (**byte == 0 || **byte >= b'\t');
            let gap = rest.iter().take(MAX_GAP).take_while(is_between).count();
            match &rest[gap..] {
                [0xFF, SOI, 0xFF, ..] => self.found = Some(end),
                // More bytes may follow.
                [] | [0xFF] | [0xFF, SOI] => break,
                _ => self.searched = end + 2,
            }
        }
        self.found.filter(|&at| at < bytes.len())
    }

    fn consume(&mut self, len: usize) {
        self.found = self.found.and_then(|at| at.checked_sub(len));
        self.searched = self.searched.saturating_sub(len);
    }
}

/// Eight Huffman tables of 256 values are 2184 bytes.
const MAX_TABLES_LEN: usize = 1 << 12;

/// More fill bytes before a marker than this are damage.
const MAX_FILL: usize = 1024;

/// The longest text between two frames: an HTTP server sends a few hundred bytes.
const MAX_GAP: usize = 1024;

/// Whether these first bytes may begin a stream of JPEGs: directly, after blank lines or padding,
/// or with the text that an HTTP server sends before each.
pub fn begins_jpegs(first: &[u8]) -> bool {
    let padding = |byte: &&u8| byte.is_ascii_whitespace() || **byte == 0;
    let text = &first[first.iter().take_while(padding).count()..];
    let is = |start: &[u8]| {
        let len = start.len().min(text.len());
        text[..len].eq_ignore_ascii_case(&start[..len])
    };
    !first.is_empty() && [&[0xFF, SOI][..], b"--", b"Content-", b"HTTP/"].into_iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{tests::textured, thumbnail::tests::exif},
        *,
    };
    use crate::{clock, video::image::PixelFormat};
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
    fn frames_are_read_unchanged_at_any_buffer_size() {
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
    fn a_truncated_frame_does_not_lose_the_next() {
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

    /// The number of frames, each of which must be `good`, and of damage reports.
    fn count(bytes: &[u8], good: &[u8]) -> (usize, usize) {
        let counts = [1, 7, 4096, 1 << 16].map(|buffer| {
            let (frames, others): (Vec<_>, Vec<_>) = items(bytes, buffer)
                .into_iter()
                .partition(|item| matches!(item, StreamItem::Frame(_)));
            assert!(frames.iter().all(|item| *item == StreamItem::Frame(good.to_vec())));
            (frames.len(), others.len())
        });
        assert_eq!(counts, [counts[0]; 4], "whole or in pieces");
        counts[0]
    }

    /// `jpeg` with another segment after its start marker.
    fn with_segment(jpeg: &[u8], marker: u8, payload: &[u8]) -> Vec<u8> {
        let len = ((payload.len() + 2) as u16).to_be_bytes();
        [&jpeg[..2], &[0xFF, marker], &len, payload, &jpeg[2..]].concat()
    }

    /// Whether it is this frame, which may have lost the beginning of its header.
    fn is_end_of(item: &StreamItem, good: &[u8]) -> bool {
        matches!(item, StreamItem::Frame(frame) if frame.ends_with(&good[20..]))
    }

    #[test]
    fn a_damaged_length_loses_no_good_frame() {
        let good = frame(48);
        for damaged in [
            &[0xFF, SOI, 0xFF, 0xE1, 0xFF, 0xFF][..],
            &[0xFF, SOI, 0xFF, 0xE1, 0x10, 0x00],
            &[0xFF, SOI, 0xFF, 0xE1, 0, 0],
            &[&good[..2], &[0xFF, 0xDB, 0x3F, 0xFF], &good[6..]].concat(),
        ] {
            for many in [1, 99] {
                let bytes = [&good[..], &good, damaged, &good.repeat(many)].concat();
                assert_eq!(count(&bytes, &good), (2 + many, 1), "{:?}", &damaged[..6]);
                let bytes = [&good[..], &bytes, &bytes].concat();
                assert_eq!(count(&bytes, &good), (5 + 2 * many, 2), "{:?}", &damaged[..6]);
            }
        }
    }

    /// Whichever byte of the frames the length points to.
    #[test]
    fn any_damaged_length_loses_no_good_frame() {
        let (good, text) = (frame(16), b"\r\n--next\r\nContent-Type: image/jpeg\r\n\r\n");
        for between in [&b""[..], &[0], text] {
            let frames = [&good[..], between].concat().repeat(4);
            for len in 2..3 * frames.len() / 4 {
                let damaged = [&[0xFF, SOI, 0xFF, 0xE1][..], &(len as u16).to_be_bytes()].concat();
                let items = items(&[&damaged[..], &frames].concat(), 4096);
                // A frame whose beginning was taken by the damaged one may still be valid.
                assert_eq!(
                    items.iter().filter(|item| is_end_of(item, &good)).count(),
                    4,
                    "{len} {}",
                    between.len()
                );
            }
        }
    }

    #[test]
    fn the_thumbnail_of_a_truncated_frame_is_not_a_frame() {
        let (good, small) = (frame(64), frame(16));
        for is_big_endian in [false, true] {
            let exif = exif(Some(&small), is_big_endian);
            let whole = with_segment(&good, 0xE1, &exif);
            for cut in 4..4 + exif.len() + 40 {
                let items = items(&[&whole[..cut], &good.repeat(30)].concat(), 4096);
                let (frames, others): (Vec<_>, Vec<_>) =
                    items.iter().partition(|item| is_end_of(item, &good));
                // The length may point into the next frame's header, and is then valid.
                assert!(frames.len() == 30 && others.len() <= 1, "{cut}: {others:?}");
            }
            assert_eq!(count(&whole.repeat(3), &whole), (3, 0));
        }
        // Exif without a thumbnail, and Exif that cannot be parsed.
        let whole = with_segment(&good, 0xE1, &[&exif(None, true)[..], &[0; 3000]].concat());
        let odd = with_segment(&good, 0xE1, &[b"Exif\0\0odd.", &small[..]].concat());
        for (whole, cut) in [(&whole, 30), (&odd, 200), (&odd, small.len() + 16)] {
            assert_eq!(count(&[&whole[..cut], &good.repeat(30)].concat(), &good), (30, 1), "{cut}");
        }
    }

    #[test]
    fn truncation_anywhere_does_not_lose_the_next_frame() {
        let (first, good) = (frame(64), textured(48, 48, PixelFormat::Yuv444));
        let len = first.len();
        for cut in 4..len {
            let items = items(&[&first[..cut], &good].concat(), 4096);
            let is_good = |item: &StreamItem| is_end_of(item, &good);
            assert!(items.len() <= 2 && items.last().is_some_and(is_good), "{cut} of {len}");
        }
    }

    #[test]
    fn a_mark_ends_the_stream_even_within_a_frame() {
        let (good, mark) = (frame(48), &b"YUV4MPEG2 "[..]);
        let scan_data = Header::parse(&good).expect("ours").scan_data;
        for cut in 0..=good.len() {
            let bytes = [&good[..], &good[..cut], mark, &good].concat();
            let reader = BufReader::with_capacity(99, &bytes[..]);
            let mut stream = JpegStream::ending_at(&[b"YUV4MPEG2 "], reader);
            let items: Vec<_> =
                std::iter::from_fn(|| stream.next_item().expect("memory")).collect();
            let expected = match cut {
                0 | 1 => None,
                _ if cut == good.len() => Some(StreamItem::Frame(good.clone())),
                _ if cut < scan_data => Some(StreamItem::Truncated(cut)),
                _ => Some(StreamItem::Unended(good[..cut].to_vec())),
            };
            let expected: Vec<_> =
                [StreamItem::Frame(good.clone())].into_iter().chain(expected).collect();
            assert!(items == expected && stream.is_at_mark(), "{cut}");
            let (front, mut rest) = stream.into_parts();
            let mut left = front;
            io::Read::read_to_end(&mut rest, &mut left).expect("memory does not fail");
            assert_eq!(left, bytes[good.len() + cut..]);
        }
    }

    /// A search that reads bytes again for each start marker would take minutes.
    #[test]
    fn many_damaged_lengths_are_parsed_in_linear_time() {
        let chain = [0xFF, 0xE1, 0, 2].repeat(300);
        let scan = [&frame(16)[2..], &vec![1; MAX_JPEG_LEN]].concat();
        let began = clock::now();
        for bytes in [
            [0xFF, SOI, 0xFF, 0xE1, 0xFF, 0xFD].repeat(500_000),
            [&[0xFF, SOI, 0xFF, 0xE1, 0x40, 0].repeat(10_000)[..], &chain.repeat(500)].concat(),
            [&[0xFF, SOI].repeat(100_000)[..], &scan].concat(),
            [&[0xFF, SOI, 0xFF, 0xE1, 0xF0, 0].repeat(10_000)[..], &vec![0xFF; 3 << 20]].concat(),
            [0xFF, SOI, 0xFF, 0xE1, 0xF0, 0, 0xFF, EOI].repeat(400_000),
        ] {
            assert_eq!(items(&bytes, 1 << 16).len(), 1);
        }
        assert!(clock::now() - began < std::time::Duration::from_secs(30));
    }

    #[test]
    fn a_jpeg_stream_is_recognised_by_its_first_bytes() {
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
    fn a_truncated_last_frame_is_reported() {
        let good = frame(48);
        let scan_data = Header::parse(&good).expect("ours").scan_data;
        for len in 2..good.len() {
            let beginning = good[..len].to_vec();
            let is_in_header = len < scan_data;
            let expected = if is_in_header {
                StreamItem::Truncated(len)
            } else {
                StreamItem::Unended(beginning)
            };
            assert_eq!(items(&good[..len], 512), [expected]);
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_skipped_without_being_kept() {
        let good = frame(48);
        let scan = good.len() - 2;
        let bytes = [&good[..scan], &vec![1; MAX_JPEG_LEN], &good[scan..], &good].concat();
        assert_eq!(items(&bytes, 4096), [StreamItem::TooLong, StreamItem::Frame(good.clone())]);
        let unended = [&good[..scan], &vec![1; MAX_JPEG_LEN], &good].concat();
        assert_eq!(items(&unended, 4096), [StreamItem::TooLong, StreamItem::Frame(good)]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_parsing_terminates(
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
