//! Packetizer: cuts one frame into chunks, each the body of one video datagram.
//!
//! A packetizer is one receiver's position in a frame. The [`ChunkCache`] holds what the frame's
//! receivers share. A frame may still grow while its first chunks are sent; those chunks do not
//! carry its length.
//!
//! Parity chunks are sent among the source chunks of the frame's second half, so that a burst at
//! the end does not take all of them. They come before the last source chunk, which therefore ends
//! the frame and is the only chunk that may be short:
//!
//! ```text
//! 0  1  2  3  4  5  P0  6  7  P1  8  9  P2  10        11 source chunks, 3 parity chunks
//! ```

mod chunk_cache;

pub use self::chunk_cache::{ChunkCache, Chunks, FrameKey, SharedFrame};

use std::time::Duration;

use super::fec::Blocks;
use crate::net::{
    frame::{FrameId, FrameView, MAX_FRAME_LEN, Progress},
    time::MediaTime,
    wire::{
        checksum::Hashed,
        video::{Extent, FRAME_CRC_LEN, VideoHeader, copy_body},
    },
};

/// A cursor over the chunks of one frame. Each call takes the frame's data.
#[derive(Clone, Debug)]
pub struct Packetizer {
    frame: FrameId,
    captured: MediaTime,
    chunk_len: u16,
    /// The next source chunk.
    next_chunk: u16,
    parity: Parity,
}

/// The parity chunks of one frame for one receiver.
#[derive(Clone, Copy, Debug, Default)]
struct Parity {
    /// Whether their number has been decided.
    is_decided: bool,
    /// Their number.
    count: u16,
    /// How many have been sent.
    sent: u16,
    /// The source chunk before which the first may be sent.
    from: u16,
}

/// The next step of a packetizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A chunk to emit.
    Chunk(NextChunk),
    /// No chunk until the frame has grown.
    Waiting,
    /// All chunks have been emitted.
    Finished,
    /// No more chunks, though some are missing: the frame was abandoned, is empty, or exceeds
    /// [`MAX_FRAME_LEN`] or 65,535 chunks.
    Abandoned,
}

/// The next chunk of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextChunk {
    header: VideoHeader,
}

impl NextChunk {
    /// Bytes of the chunk's body, header included.
    pub fn body_len(&self) -> usize {
        VideoHeader::LEN + self.header.payload_len()
    }
}

impl Packetizer {
    /// Starts a frame with chunks of `chunk_len` bytes, which is even and not zero.
    pub fn new(frame: FrameId, captured: MediaTime, chunk_len: u16) -> Self {
        Self { frame, captured, chunk_len, next_chunk: 0, parity: Parity::default() }
    }

    /// The number of source chunks, once the frame's end is known and until parity has been
    /// decided: the time to call [`protect`](Self::protect).
    pub fn unprotected(&self, data: &FrameView<'_>) -> Option<u16> {
        let extent = self.extent(data).filter(|_| !self.parity.is_decided)?;
        (self.next_chunk < extent.source_chunks).then_some(extent.source_chunks)
    }

    /// Adds `count` parity chunks, at most [`Blocks::parity_capacity`]. Has no effect unless the
    /// frame is [`unprotected`](Self::unprotected).
    pub fn protect(&mut self, data: &FrameView<'_>, count: u16) {
        let Some(source_chunks) = self.unprotected(data) else { return };
        self.parity = Parity {
            is_decided: true,
            count: count.min(Blocks::of(source_chunks).parity_capacity()),
            sent: 0,
            from: self.next_chunk.max(source_chunks / 2).min(source_chunks - 1),
        };
    }

    /// The frame's size and the parity decided so far; `None` before its end is known, or if it is
    /// empty or too large.
    pub fn extent(&self, data: &FrameView<'_>) -> Option<Extent> {
        match data.progress() {
            Progress::Abandoned | Progress::Partial(_) | Progress::Whole(0) => None,
            Progress::Whole(len) => {
                let extent = Extent::of(len + FRAME_CRC_LEN, self.chunk_len)?;
                Some(Extent { parity_chunks: self.parity.count, ..extent })
            }
        }
    }

    /// Bytes of each chunk but the last.
    pub fn chunk_len(&self) -> u16 {
        self.chunk_len
    }

    /// When the frame's capture began.
    pub fn captured(&self) -> MediaTime {
        self.captured
    }

    /// The frame's number.
    pub fn frame(&self) -> FrameId {
        self.frame
    }

    /// Whether no source chunk has been emitted yet.
    pub fn is_untouched(&self) -> bool {
        self.next_chunk == 0
    }

    /// The next step for the frame with this `data`.
    #[inline(always)]
    pub fn next(&self, data: &FrameView<'_>) -> Next {
        let extent = self.extent(data);
        let len = match (data.progress(), extent) {
            (Progress::Abandoned, _) | (Progress::Whole(_), None) => return Next::Abandoned,
            (_, Some(extent)) if self.next_chunk == extent.source_chunks => return Next::Finished,
            (Progress::Partial(len) | Progress::Whole(len), _) => len,
        };
        if let Some(extent) = extent.filter(|e| self.parity.is_next(self.next_chunk, *e)) {
            let chunk = extent.source_chunks + self.parity.sent;
            return Next::Chunk(NextChunk { header: self.header(Some(extent), chunk) });
        }
        let header = self.header(extent, self.next_chunk);
        // While the frame grows, a chunk filled by the data cannot be the last, since the CRC
        // follows.
        let full_at = header.offset() + usize::from(self.chunk_len);
        match extent {
            None if full_at > MAX_FRAME_LEN || self.next_chunk == u16::MAX => Next::Abandoned,
            None if full_at > len => Next::Waiting,
            _ => Next::Chunk(NextChunk { header }),
        }
    }

    /// How many chunks of this data can be emitted now, with parity.
    pub fn ready(&self, data: &FrameView<'_>) -> usize {
        let (len, chunk_len) = (data.bytes().len(), usize::from(self.chunk_len));
        let chunks = match data.progress() {
            Progress::Abandoned => 0,
            Progress::Partial(_) => len / chunk_len,
            Progress::Whole(_) => (len + FRAME_CRC_LEN).div_ceil(chunk_len),
        };
        let source = chunks.saturating_sub(self.next_chunk.into());
        source + usize::from(if source > 0 { self.parity.count - self.parity.sent } else { 0 })
    }

    /// Writes `chunk`, which [`next`](Self::next) returned for the same `data`, to `body`, which
    /// has [`NextChunk::body_len`] bytes. `chunks` are those of the frame, of the same length.
    /// `age` is the time since the frame's capture. Returns the CRC of the end of `body`, as far as
    /// it is known: of the payload for a source chunk, of no bytes for a parity chunk.
    pub fn emit(
        &mut self,
        data: &FrameView<'_>,
        chunks: &mut Chunks<'_>,
        chunk: NextChunk,
        age: Duration,
        body: &mut [u8],
    ) -> Hashed {
        let header = VideoHeader { age, ..chunk.header };
        let (head, payload) = body.split_at_mut(VideoHeader::LEN);
        header.emit(head);
        if header.is_parity() {
            payload.copy_from_slice(chunks.parity(data, self.parity.sent, self.parity.count));
            self.parity.sent += 1;
            return Hashed::default();
        }
        self.next_chunk += 1;
        let hashed = chunks.source(data, header.chunk);
        let end = header.offset() + payload.len();
        let crc = if end > data.bytes().len() { chunks.picture_crc(data) } else { [0; _] };
        copy_body(data.bytes(), crc, header.offset(), payload);
        hashed
    }

    #[inline(always)]
    fn header(&self, extent: Option<Extent>, chunk: u16) -> VideoHeader {
        VideoHeader {
            frame: self.frame,
            captured: self.captured,
            age: Duration::ZERO,
            extent,
            chunk_len: self.chunk_len,
            chunk,
        }
    }
}

impl Parity {
    /// Whether a parity chunk comes before source chunk `source`. Parity chunks are spread evenly
    /// over the places before the source chunks from `from` to the last.
    fn is_next(self, source: u16, extent: Extent) -> bool {
        if self.sent == self.count {
            return false;
        }
        let places = u32::from(extent.source_chunks - self.from);
        let passed = u32::from(source.saturating_sub(self.from)) + u32::from(source >= self.from);
        u32::from(self.sent) < u32::from(self.count) * passed / places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{frame::FrameBytes, framing::fec::ParityEncoder};

    fn numbered(len: usize) -> Vec<u8> {
        (0..len).map(|i| i as u8).collect()
    }

    fn packetizer(chunk_len: u16) -> Packetizer {
        Packetizer::new(FrameId(1), MediaTime::default(), chunk_len)
    }

    /// The bodies available now, and the step after them.
    fn take(packetizer: &mut Packetizer, data: &FrameBytes) -> (Vec<Vec<u8>>, Next) {
        let data = data.view();
        let (mut all, mut cache) = (Vec::new(), ChunkCache::new());
        let mut chunks = cache.single(packetizer.chunk_len());
        while let Next::Chunk(chunk) = packetizer.next(&data) {
            let mut body = vec![0xa5; chunk.body_len()];
            let hashed = packetizer.emit(&data, &mut chunks, chunk, Duration::ZERO, &mut body);
            assert_eq!(hashed, hash_of(&body));
            all.push(body);
        }
        (all, packetizer.next(&data))
    }

    fn bodies(len: usize, chunk_len: u16) -> Vec<Vec<u8>> {
        let (bodies, next) = take(&mut packetizer(chunk_len), &numbered(len).into());
        assert_eq!(next, Next::Finished);
        bodies
    }

    /// What [`Packetizer::emit`] returns for `body`: parity chunks are not hashed.
    fn hash_of(body: &[u8]) -> Hashed {
        let payload = &body[VideoHeader::LEN..];
        if header(body).is_parity() { Hashed::default() } else { Hashed::of(payload) }
    }

    fn header(body: &[u8]) -> VideoHeader {
        VideoHeader::parse(body).unwrap().0
    }

    fn joined(bodies: &[Vec<u8>]) -> Vec<u8> {
        bodies.iter().flat_map(|body| VideoHeader::parse(body).unwrap().1.to_vec()).collect()
    }

    #[test]
    fn chunks_concatenate_to_the_data_and_its_crc() {
        for len in 1..40 {
            let data = numbered(len);
            let expected = [data.clone(), crc32fast::hash(&data).to_be_bytes().into()].concat();
            assert_eq!(joined(&bodies(len, 10)), expected, "{len} bytes");
        }
    }

    #[test]
    fn every_header_gives_the_extent() {
        let bodies = bodies(95, 10);
        assert_eq!(bodies.len(), 10);
        for (i, body) in bodies.iter().enumerate() {
            let header = header(body);
            assert_eq!(usize::from(header.chunk), i);
            assert_eq!(header.extent.unwrap().source_chunks, 10);
            assert_eq!(header.extent.unwrap().body_len, 99);
        }
    }

    #[test]
    fn a_growing_frame_is_sent_in_full_chunks() {
        let (data, growing) = (numbered(25), FrameBytes::growing(25));
        let mut packetizer = packetizer(10);
        assert_eq!(take(&mut packetizer, &growing), (vec![], Next::Waiting));
        growing.append(&data[..20]);
        assert_eq!(packetizer.ready(&growing.view()), 2);
        let (first, next) = take(&mut packetizer, &growing);
        assert_eq!((first.len(), next), (2, Next::Waiting));
        assert!(first.iter().all(|body| header(body).extent.is_none()));
        growing.append(&data[20..]);
        assert_eq!(take(&mut packetizer, &growing), (vec![], Next::Waiting));
        assert_eq!(packetizer.ready(&growing.view()), 0);
        growing.finish();
        assert_eq!(packetizer.ready(&growing.view()), 1);
        let (last, next) = take(&mut packetizer, &growing);
        assert_eq!(next, Next::Finished);
        assert_eq!(header(&last[0]).extent.map(|e| e.source_chunks), Some(3));
        let expected = [&data[..], &crc32fast::hash(&data).to_be_bytes()].concat();
        assert_eq!(joined(&[first, last].concat()), expected);
    }

    #[test]
    fn an_abandoned_frame_never_sends_its_last_chunk() {
        let (growing, mut packetizer) = (FrameBytes::growing(0), packetizer(10));
        growing.append(&[0; 15]);
        assert_eq!(take(&mut packetizer, &growing).1, Next::Waiting);
        growing.abandon();
        assert_eq!(take(&mut packetizer, &growing), (vec![], Next::Abandoned));
    }

    /// A frame of `len` bytes in chunks of 10, with `parity` chunks made after `before` chunks were
    /// sent.
    fn protected(len: usize, parity: u16, before: usize) -> Vec<Vec<u8>> {
        let (data, mut packetizer) = (FrameBytes::from(numbered(len)), packetizer(10));
        let mut cache = ChunkCache::new();
        let (data, mut chunks) = (data.view(), cache.single(10));
        let mut all = Vec::new();
        while let Next::Chunk(chunk) = packetizer.next(&data) {
            if all.len() == before && packetizer.unprotected(&data).is_some() {
                packetizer.protect(&data, parity);
                continue;
            }
            let mut body = vec![0xa5; chunk.body_len()];
            let hashed = packetizer.emit(&data, &mut chunks, chunk, Duration::ZERO, &mut body);
            assert_eq!(hashed, hash_of(&body));
            all.push(body);
        }
        assert_eq!(packetizer.next(&data), Next::Finished);
        assert_eq!(chunks.picture_crc(&data), crc32fast::hash(&numbered(len)).to_be_bytes());
        assert_eq!(packetizer.unprotected(&data), None);
        all
    }

    fn order(bodies: &[Vec<u8>]) -> Vec<u16> {
        bodies.iter().map(|body| header(body).chunk).collect()
    }

    #[test]
    fn parity_is_interleaved_with_the_second_half() {
        let expected = [0, 1, 2, 3, 4, 5, 11, 6, 7, 12, 8, 9, 13, 10];
        assert_eq!(order(&protected(101, 3, 0)), expected);
        for before in 1..=5 {
            assert_eq!(order(&protected(101, 3, before)), expected, "after {before}");
        }
        assert_eq!(order(&protected(101, 2, 9))[9..], [11, 9, 12, 10], "known late");
        assert_eq!(order(&protected(1, 2, 0)), [1, 2, 0], "one source chunk");
        assert_eq!(order(&protected(101, 0, 0)), (0..11).collect::<Vec<_>>());
        assert_eq!(protected(101, 99, 0).len(), 11 + 16, "its capacity");
    }

    #[test]
    fn ready_chunks_include_parity() {
        let (data, mut packetizer) = (FrameBytes::from(numbered(101)), packetizer(10));
        let mut cache = ChunkCache::new();
        let (data, mut chunks) = (data.view(), cache.single(10));
        assert_eq!(packetizer.ready(&data), 11);
        packetizer.protect(&data, 3);
        for left in (1..=14).rev() {
            assert_eq!(packetizer.ready(&data), left);
            let Next::Chunk(chunk) = packetizer.next(&data) else { panic!("{left} left") };
            let mut body = vec![0; chunk.body_len()];
            packetizer.emit(&data, &mut chunks, chunk, Duration::ZERO, &mut body);
        }
        assert_eq!((packetizer.ready(&data), packetizer.next(&data)), (0, Next::Finished));
    }

    #[test]
    fn parity_covers_the_frame_body_whenever_it_is_computed() {
        let (expected, late) = (protected(101, 3, 0), protected(101, 3, 4));
        let parity = |bodies: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let parity = bodies.iter().filter(|body| header(body).is_parity());
            parity.map(|body| VideoHeader::parse(body).unwrap().1.to_vec()).collect()
        };
        let body = [numbered(101), crc32fast::hash(&numbered(101)).to_be_bytes().into()].concat();
        let source = |chunk: u16, bytes: &mut [u8]| {
            let rest = &body[usize::from(chunk) * 10..];
            let len = rest.len().min(10);
            bytes[..len].copy_from_slice(&rest[..len]);
        };
        let mut made = Vec::new();
        ParityEncoder::new().encode(Blocks::of(11), 10, 0..3, source, &mut made);
        assert_eq!(parity(&expected).concat(), made);
        assert_eq!(parity(&late).concat(), made);
        assert!(expected.iter().all(|body| header(body).extent.unwrap().parity_chunks == 3));
    }

    #[test]
    fn a_growing_frame_is_protected_once_its_end_is_known() {
        let (data, mut packetizer) = (FrameBytes::growing(0), packetizer(10));
        data.append(&numbered(25));
        assert_eq!(packetizer.unprotected(&data.view()), None);
        take(&mut packetizer, &data);
        data.finish();
        assert_eq!(packetizer.unprotected(&data.view()), Some(3));
        packetizer.protect(&data.view(), 2);
        let (rest, next) = take(&mut packetizer, &data);
        assert_eq!((order(&rest), next), (vec![3, 4, 2], Next::Finished));
    }

    #[test]
    fn frames_too_large_to_number_are_abandoned() {
        let next = |data: FrameBytes, chunk_len| packetizer(chunk_len).next(&data.view());
        assert_eq!(next(vec![].into(), 10), Next::Abandoned);
        assert!(matches!(next(vec![0; MAX_FRAME_LEN].into(), 1160), Next::Chunk(_)));
        assert_eq!(next(vec![0; MAX_FRAME_LEN + 1].into(), 1160), Next::Abandoned);
        assert_eq!(next(vec![0; 200_000].into(), 2), Next::Abandoned);
        for (chunk_len, len) in [(32_768, MAX_FRAME_LEN + 32_768), (2, 140_000)] {
            let growing = FrameBytes::growing(0);
            growing.append(&vec![0; len]);
            assert_eq!(take(&mut packetizer(chunk_len), &growing).1, Next::Abandoned);
        }
    }
}
