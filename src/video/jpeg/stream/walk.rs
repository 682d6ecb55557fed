//! Walks over the markers of one frame in a stream, from its start marker to its end.

use std::{
    io::{self, BufRead},
    ops::Range,
};

use super::frame_boundaries::FrameBoundaries;
use crate::video::jpeg::{
    MAX_JPEG_LEN,
    header::{Header, HeaderError, MAX_HEADER_LEN, MAX_SEGMENTS},
    lookahead::Lookahead,
    marker::{APP0, APP15, COM, EOI, RST0, RST7, SOI, SOS, Segment, stands_alone},
};

/// The walk over the frame that begins at the current position of a stream. Positions count from
/// there. Nothing is consumed.
pub(super) struct Walker<'a, R> {
    pub(super) ahead: &'a mut Lookahead<R>,
    pub(super) boundaries: &'a mut FrameBoundaries,
}

/// How and where the walk over a frame ended.
pub(super) enum Walk {
    /// No frame: an empty JPEG or another start marker.
    Padding(usize),
    Whole(usize),
    /// Without an end marker. At the end of the stream its length is `usize::MAX`.
    Unended(usize),
    /// With another marker in its coded data, or with no marker within the limit.
    Interrupted(usize),
}

/// Why the walk over a frame failed.
pub(super) enum Failure {
    /// The header is damaged; the damage was detected at this position.
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

impl<R: BufRead> Walker<'_, R> {
    /// Walks over a frame from its start marker.
    pub(super) fn walk(&mut self) -> Result<Walk, Failure> {
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
        if let Some(boundary) = self.boundaries.first(header) {
            return Err(Failure::Header(HeaderError::SecondStart(boundary), header_len));
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
}

/// Eight Huffman tables of 256 values are 2184 bytes.
const MAX_TABLES_LEN: usize = 1 << 12;

/// More fill bytes before a marker than this are damage.
const MAX_FILL: usize = 1024;
