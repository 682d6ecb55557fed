//! The body of a video datagram: one chunk of one frame.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                           frame id                            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |               capture time, media clock, µs (48 bits)         |
//! +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               |      age at sending, 16 µs    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             body length, with its CRC; 0 = not known yet      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         chunk length          |          chunk index          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         source chunks         |         parity chunks         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                           chunk bytes                         |
//! ```
//!
//! Chunks are pieces of the *frame body*: the encoded picture followed by its CRC-32. All source
//! chunks but the last have the chunk length, so a chunk's offset is index × chunk length, and any
//! chunk can be placed on its own.

use std::time::Duration;

use thiserror::Error;

use super::big_endian::{read_u16, read_u32, read_u48, write_u48};
use crate::net::{
    frame::{FrameId, MAX_FRAME_LEN},
    time::MediaTime,
};

/// The header of a chunk. [`VideoHeader::parse`] returns only consistent headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoHeader {
    /// The frame that the chunk belongs to.
    pub frame: FrameId,
    /// When the frame's capture began.
    pub captured: MediaTime,
    /// The time from capture until this chunk was passed to the socket, in steps of 16 µs,
    /// saturating at 1.05 s. The ages of two chunks of a frame differ by the time between their
    /// sending.
    pub age: Duration,
    /// The extent of the complete frame, unless it was not known when this chunk was sent.
    pub extent: Option<Extent>,
    /// The length in bytes of every source chunk but the last, and of every parity chunk; even.
    pub chunk_len: u16,
    /// The chunk's index: source chunks first, then parity chunks from `source_chunks`.
    pub chunk: u16,
}

/// The size of a complete frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The length in bytes of the frame body: the picture and its CRC.
    pub body_len: u32,
    /// The number of chunks of the body: `body_len / chunk_len`, rounded up.
    pub source_chunks: u16,
    /// Parity chunks created so far; grows when NACKs request more.
    pub parity_chunks: u16,
}

/// Why a video body is not a chunk.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChunkError {
    /// Shorter than its header.
    #[error("truncated chunk header")]
    Truncated,
    /// Fields contradict each other or exceed a limit.
    #[error("inconsistent chunk header")]
    Inconsistent,
    /// The payload length does not match the header.
    #[error("chunk payload of the wrong length")]
    PayloadLength,
}

impl VideoHeader {
    /// The length of the header, in bytes.
    pub const LEN: usize = 24;

    /// Parses the body of a video datagram into its header and payload.
    #[inline(always)]
    pub fn parse(body: &[u8]) -> Result<(Self, &[u8]), ChunkError> {
        let Some((bytes, payload)) = body.split_first_chunk::<{ Self::LEN }>() else {
            return Err(ChunkError::Truncated);
        };
        let header = Self {
            frame: FrameId(read_u32(bytes, FRAME)),
            captured: MediaTime::from_micros(read_u48(bytes, CAPTURED)),
            age: Duration::from_micros(u64::from(AGE_UNIT_US * u32::from(read_u16(bytes, AGE)))),
            extent: Extent::parse(bytes)?,
            chunk_len: read_u16(bytes, CHUNK_LEN),
            chunk: read_u16(bytes, CHUNK),
        };
        header.check()?;
        if payload.len() != header.payload_len() {
            return Err(ChunkError::PayloadLength);
        }
        Ok((header, payload))
    }

    /// Writes the header to the first [`VideoHeader::LEN`] bytes of `body`.
    pub fn emit(&self, body: &mut [u8]) {
        let age = self.age.as_micros().min(u128::from(u32::MAX)) as u32 / AGE_UNIT_US;
        let age = u16::try_from(age).unwrap_or(u16::MAX);
        let (body_len, source, parity) =
            self.extent.map_or((0, 0, 0), |e| (e.body_len, e.source_chunks, e.parity_chunks));
        body[FRAME..FRAME + 4].copy_from_slice(&self.frame.0.to_be_bytes());
        write_u48(body, CAPTURED, self.captured.as_micros());
        body[AGE..AGE + 2].copy_from_slice(&age.to_be_bytes());
        body[BODY_LEN..BODY_LEN + 4].copy_from_slice(&body_len.to_be_bytes());
        body[CHUNK_LEN..CHUNK_LEN + 2].copy_from_slice(&self.chunk_len.to_be_bytes());
        body[CHUNK..CHUNK + 2].copy_from_slice(&self.chunk.to_be_bytes());
        body[SOURCE..SOURCE + 2].copy_from_slice(&source.to_be_bytes());
        body[PARITY..PARITY + 2].copy_from_slice(&parity.to_be_bytes());
    }

    /// The offset of the chunk in the frame body; meaningless for parity.
    pub fn offset(&self) -> usize {
        usize::from(self.chunk) * usize::from(self.chunk_len)
    }

    /// Whether this is a parity chunk.
    pub fn is_parity(&self) -> bool {
        self.parity_index().is_some()
    }

    /// The index among the parity chunks, from 0; `None` for a source chunk.
    pub fn parity_index(&self) -> Option<u16> {
        self.extent.and_then(|e| self.chunk.checked_sub(e.source_chunks))
    }

    /// Whether this is the last source chunk, which is sent last: parity chunks come before it.
    pub fn is_last_source(&self) -> bool {
        // Index 65,535 never is: there are at most 65,535 source chunks.
        self.extent.is_some_and(|e| self.chunk.checked_add(1) == Some(e.source_chunks))
    }

    /// When the chunk was passed to the sender's socket, or 1.05 s after the capture if that is
    /// earlier.
    pub fn sent(&self) -> MediaTime {
        self.captured.after(self.age)
    }

    /// The payload length in bytes: the chunk length, except for the last source chunk.
    pub fn payload_len(&self) -> usize {
        match self.extent {
            Some(e) if self.is_last_source() => e.body_len as usize - self.offset(),
            _ => usize::from(self.chunk_len),
        }
    }

    fn check(&self) -> Result<(), ChunkError> {
        let chunk_len = usize::from(self.chunk_len);
        if chunk_len == 0 || chunk_len % 2 != 0 {
            return Err(ChunkError::Inconsistent);
        }
        let agrees = match self.extent {
            None => self.offset() + chunk_len <= MAX_BODY_LEN,
            Some(e) => {
                let (body_len, source_chunks) = (e.body_len as usize, usize::from(e.source_chunks));
                // Exactly `body_len / chunk_len`, rounded up, checked without a division.
                body_len <= source_chunks * chunk_len
                    && body_len + chunk_len > source_chunks * chunk_len
                    && u32::from(self.chunk)
                        < u32::from(e.source_chunks) + u32::from(e.parity_chunks)
            }
        };
        if agrees { Ok(()) } else { Err(ChunkError::Inconsistent) }
    }
}

impl Extent {
    /// The extent of a frame body of `body_len` bytes without parity; `None` if it exceeds the
    /// maximum or would need more chunks than can be numbered.
    pub fn of(body_len: usize, chunk_len: u16) -> Option<Self> {
        let chunks = body_len.div_ceil(usize::from(chunk_len));
        let source_chunks = u16::try_from(chunks).ok()?;
        let body_len = u32::try_from(body_len).ok().filter(|&l| l as usize <= MAX_BODY_LEN)?;
        Some(Self { body_len, source_chunks, parity_chunks: 0 })
    }

    fn parse(bytes: &[u8; VideoHeader::LEN]) -> Result<Option<Self>, ChunkError> {
        let extent = Self {
            body_len: read_u32(bytes, BODY_LEN),
            source_chunks: read_u16(bytes, SOURCE),
            parity_chunks: read_u16(bytes, PARITY),
        };
        match extent {
            Self { body_len: 0, source_chunks: 0, parity_chunks: 0 } => Ok(None),
            Self { body_len, .. }
                if (MIN_BODY_LEN..=MAX_BODY_LEN).contains(&(body_len as usize)) =>
            {
                Ok(Some(extent))
            }
            _ => Err(ChunkError::Inconsistent),
        }
    }
}

/// Copies the frame body of a picture with this CRC, from `offset`, to the head of `out`. Bytes of
/// `out` beyond the body's end are unchanged.
pub fn copy_body(picture: &[u8], crc: [u8; FRAME_CRC_LEN], offset: usize, out: &mut [u8]) {
    let from_picture = &picture[offset.min(picture.len())..];
    let (head, tail) = out.split_at_mut(from_picture.len().min(out.len()));
    head.copy_from_slice(&from_picture[..head.len()]);
    let crc_offset = (offset + head.len()).saturating_sub(picture.len()).min(FRAME_CRC_LEN);
    let from_crc = &crc[crc_offset..];
    let len = from_crc.len().min(tail.len());
    tail[..len].copy_from_slice(&from_crc[..len]);
}

/// The length of the CRC-32 at the end of a frame body, in bytes.
pub const FRAME_CRC_LEN: usize = 4;

/// The maximum length of a frame body, in bytes.
pub const MAX_BODY_LEN: usize = MAX_FRAME_LEN + FRAME_CRC_LEN;

const MIN_BODY_LEN: usize = FRAME_CRC_LEN + 1;

const FRAME: usize = 0;
const CAPTURED: usize = 4;
const AGE: usize = 10;
const BODY_LEN: usize = 12;
const CHUNK_LEN: usize = 16;
const CHUNK: usize = 18;
const SOURCE: usize = 20;
const PARITY: usize = 22;

const AGE_UNIT_US: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> VideoHeader {
        VideoHeader {
            frame: FrameId(0x0102_0304),
            captured: MediaTime::from_micros(0x0a0b_0c0d_0e0f),
            age: Duration::from_micros(32),
            extent: Some(Extent { body_len: 25, source_chunks: 3, parity_chunks: 1 }),
            chunk_len: 10,
            chunk: 2,
        }
    }

    fn emitted(header: &VideoHeader) -> Vec<u8> {
        let mut body = vec![0xa5; VideoHeader::LEN + header.payload_len()];
        header.emit(&mut body);
        body
    }

    #[test]
    fn emits_the_bytes_of_the_diagram() {
        let expected =
            [1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 0, 2, 0, 0, 0, 25, 0, 10, 0, 2, 0, 3, 0, 1, 0xa5];
        assert_eq!(emitted(&header())[..25], expected);
    }

    #[test]
    fn parses_what_it_emits_with_and_without_an_extent() {
        for header in [header(), VideoHeader { extent: None, ..header() }] {
            let body = emitted(&header);
            let (parsed, payload) = VideoHeader::parse(&body).unwrap();
            assert_eq!(parsed, header);
            assert_eq!(payload.len(), header.payload_len());
        }
    }

    #[test]
    fn copied_body_ranges_match_the_picture_and_its_crc() {
        let whole = [1, 2, 3, 4, 5, 9, 9, 9, 8];
        for offset in 0..12 {
            for len in 0..12 {
                let mut out = vec![0xa5; len];
                copy_body(&whole[..5], [9, 9, 9, 8], offset, &mut out);
                let rest = whole.iter().skip(offset).copied().chain(std::iter::repeat(0xa5));
                assert_eq!(out, rest.take(len).collect::<Vec<_>>(), "{len} from {offset}");
            }
        }
    }

    #[test]
    fn the_last_source_chunk_is_the_rest_and_parity_is_full() {
        assert_eq!(header().payload_len(), 5);
        assert_eq!(VideoHeader { chunk: 0, ..header() }.payload_len(), 10);
        let parity = VideoHeader { chunk: 3, ..header() };
        assert_eq!(parity.payload_len(), 10);
        assert!(parity.is_parity());
    }

    #[test]
    fn every_truncation_is_refused() {
        let body = emitted(&header());
        for len in 0..body.len() {
            assert!(VideoHeader::parse(&body[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn fields_that_contradict_each_other_are_refused() {
        let wrong = |at: usize, value: [u8; 2]| {
            let mut body = emitted(&header());
            body[at..at + 2].copy_from_slice(&value);
            VideoHeader::parse(&body).unwrap_err()
        };
        assert_eq!(wrong(CHUNK_LEN, [0, 0]), ChunkError::Inconsistent);
        assert_eq!(wrong(CHUNK_LEN, [0, 11]), ChunkError::Inconsistent);
        assert_eq!(wrong(CHUNK, [0, 4]), ChunkError::Inconsistent);
        assert_eq!(wrong(SOURCE, [0, 4]), ChunkError::Inconsistent);
        assert_eq!(wrong(BODY_LEN, [0xff, 0xff]), ChunkError::Inconsistent);
        assert_eq!(wrong(BODY_LEN + 2, [0, 4]), ChunkError::Inconsistent);
    }

    #[test]
    fn the_highest_chunk_index_may_be_a_parity_chunk() {
        let extent = Extent { body_len: 131_070, source_chunks: u16::MAX, parity_chunks: 1 };
        let last = VideoHeader { extent: Some(extent), chunk_len: 2, chunk: u16::MAX, ..header() };
        let body = emitted(&last);
        assert_eq!(VideoHeader::parse(&body), Ok((last, &[0xa5; 2][..])));
    }

    #[test]
    fn an_extent_beyond_the_limits_is_none() {
        assert!(Extent::of(MAX_BODY_LEN, 1160).is_some());
        assert!(Extent::of(MAX_BODY_LEN + 1, 1160).is_none());
        assert!(Extent::of(MAX_BODY_LEN, 10).is_none(), "too many chunks to number");
    }
}
