//! Splits a stream of concatenated JPEGs into frames by their markers.

mod frame_boundaries;
mod walk;

use std::{
    io::{self, BufRead},
    ops::Range,
};

use self::{
    frame_boundaries::FrameBoundaries,
    walk::{Failure, Walk, Walker},
};
use super::{
    MAX_JPEG_LEN,
    header::{HeaderError, MAX_SEGMENTS},
    lookahead::Lookahead,
    marker::{SOI, Segment, WalkError, segment_at},
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
    reported_len: usize,
    /// The range of a damaged frame's thumbnail.
    thumbnail: Option<Range<usize>>,
    boundaries: FrameBoundaries,
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
    #[cfg(any(test, feature = "internals"))]
    pub fn new(reader: R) -> Self {
        Self::ending_at(&[], reader)
    }

    /// Like [`new`](Self::new), but the stream also ends where one of `marks` begins. A mark must
    /// not contain `FF`.
    pub fn ending_at(marks: &'static [&'static [u8]], reader: R) -> Self {
        let ahead = Lookahead::new(reader, marks);
        Self { ahead, reported_len: 0, thumbnail: None, boundaries: FrameBoundaries::default() }
    }

    /// Marks the first `len` bytes as damaged; damage in them is not reported again.
    #[must_use]
    pub fn with_reported_damage(self, len: usize) -> Self {
        Self { reported_len: len, ..self }
    }

    /// The next frame or error, or `None` at the end.
    pub fn next_item(&mut self) -> io::Result<Option<StreamItem>> {
        while self.find_start()? {
            let mut walker = Walker { ahead: &mut self.ahead, boundaries: &mut self.boundaries };
            let item = match walker.walk() {
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

    /// The bytes read but not consumed, and the reader.
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
        self.reported_len = 0;
        self.consume(len);
        Some(item)
    }

    /// Skips the start marker of a frame with a damaged header. Damage within another damaged
    /// header has already been reported.
    fn skip_start(&mut self, error: HeaderError, reached: usize) -> Option<StreamItem> {
        let is_reported = self.reported_len > 0;
        let len = self.ahead.bytes().len();
        let is_truncated = error == HeaderError::Truncated;
        self.reported_len = self.reported_len.max(if is_truncated { len } else { reached });
        self.thumbnail = self.find_thumbnail().or(self.thumbnail.take());
        self.consume(2);
        match error {
            _ if is_reported => None,
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

    fn consume(&mut self, len: usize) {
        self.ahead.consume(len);
        self.reported_len = self.reported_len.saturating_sub(len);
        let thumbnail = self.thumbnail.take();
        self.thumbnail =
            thumbnail.filter(|it| it.start >= len).map(|it| it.start - len..it.end - len);
        self.boundaries.consume(len);
    }
}

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
mod tests;
