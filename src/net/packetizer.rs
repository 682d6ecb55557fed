//! Packetize: one frame to chunks, each the body of one video datagram.
//!
//! Knows no peer: the session puts its own prelude and checksum around each body,
//! so one frame can go to several receivers. A frame may still grow while its first chunks
//! leave; then those do not say how long it will be.

use std::time::Duration;

use crate::net::{
    frame::{FrameId, FrameView, MAX_FRAME_LEN, Progress},
    time::MediaTime,
    wire::{
        checksum::{Hashed, Joiner},
        video::{Extent, FRAME_CRC_LEN, VideoHeader},
    },
};

/// A cursor over the chunks of one frame, whose bytes it is shown each time.
#[derive(Clone, Debug)]
pub struct Packetizer {
    frame: FrameId,
    captured: MediaTime,
    /// The CRC of the data that is out.
    crc: u32,
    chunk_len: u16,
    next_chunk: u16,
}

/// What a packetizer has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A chunk, to be emitted.
    Chunk(NextChunk),
    /// Nothing, until the frame has grown.
    Waiting,
    /// Nothing any more: all chunks are out.
    Finished,
    /// Nothing any more, though chunks are missing: the frame was abandoned, or has grown
    /// beyond [`MAX_FRAME_LEN`] or 65,535 chunks.
    Abandoned,
}

/// The next chunk of a frame, as it stands.
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
    /// Starts on a frame that is cut into chunks of `chunk_len` bytes, even and not zero.
    pub fn new(frame: FrameId, captured: MediaTime, chunk_len: u16) -> Self {
        Self { frame, captured, crc: 0, chunk_len, next_chunk: 0 }
    }

    /// The frame's number.
    pub fn frame(&self) -> FrameId {
        self.frame
    }

    /// Whether the first chunk is yet to come.
    pub fn is_untouched(&self) -> bool {
        self.next_chunk == 0
    }

    /// What comes next of the frame whose data is this.
    pub fn next(&self, data: &FrameView<'_>) -> Next {
        let (len, extent) = match data.progress() {
            Progress::Abandoned | Progress::Whole(0) => return Next::Abandoned,
            Progress::SoFar(len) => (len, None),
            Progress::Whole(len) => match Extent::of(len + FRAME_CRC_LEN, self.chunk_len) {
                None => return Next::Abandoned,
                Some(extent) if self.next_chunk == extent.source_chunks => return Next::Finished,
                extent => (len, extent),
            },
        };
        let header = self.header(extent);
        // While the frame grows, a chunk that the data fills is surely not the last, since the
        // CRC comes behind it.
        let full_at = header.offset() + usize::from(self.chunk_len);
        match extent {
            None if full_at > MAX_FRAME_LEN || self.next_chunk == u16::MAX => Next::Abandoned,
            None if full_at > len => Next::Waiting,
            _ => Next::Chunk(NextChunk { header }),
        }
    }

    /// How many chunks of this data can be emitted now.
    pub fn ready(&self, data: &FrameView<'_>) -> usize {
        let (len, chunk_len) = (data.bytes().len(), usize::from(self.chunk_len));
        let chunks = match data.progress() {
            Progress::Abandoned => 0,
            Progress::SoFar(_) => len / chunk_len,
            Progress::Whole(_) => (len + FRAME_CRC_LEN).div_ceil(chunk_len),
        };
        chunks.saturating_sub(self.next_chunk.into())
    }

    /// Writes `chunk`, which [`next`](Self::next) gave of the same `data`, to `body`, which is as
    /// long, stamped with the frame's `age`: the time from its capture to now. Returns the
    /// chunk's bytes, which stand at the body's end, as hashed on the way: once, for the frame's
    /// CRC and for the datagram's.
    pub fn emit(
        &mut self,
        data: &FrameView<'_>,
        chunk: NextChunk,
        age: Duration,
        body: &mut [u8],
        joiner: &mut Joiner,
    ) -> Hashed {
        let header = VideoHeader { age, ..chunk.header };
        let (head, payload) = body.split_at_mut(VideoHeader::LEN);
        header.emit(head);
        self.next_chunk += 1;
        self.copy_chunk(data.bytes(), header.offset(), payload, joiner)
    }

    fn header(&self, extent: Option<Extent>) -> VideoHeader {
        VideoHeader {
            frame: self.frame,
            captured: self.captured,
            age: Duration::ZERO,
            extent,
            chunk_len: self.chunk_len,
            chunk: self.next_chunk,
        }
    }

    /// Copies the frame body from `offset` on: the data, then its CRC.
    fn copy_chunk(
        &mut self,
        data: &[u8],
        offset: usize,
        payload: &mut [u8],
        joiner: &mut Joiner,
    ) -> Hashed {
        let len = payload.len();
        let rest = &data[offset.min(data.len())..];
        let (of_data, of_crc) = payload.split_at_mut(rest.len().min(len));
        of_data.copy_from_slice(&rest[..of_data.len()]);
        let hashed = Hashed::of(of_data);
        self.crc = joiner.join(self.crc, hashed);
        if of_crc.is_empty() {
            return hashed;
        }
        let crc_offset = (offset + of_data.len()) - data.len();
        of_crc.copy_from_slice(&self.crc.to_be_bytes()[crc_offset..][..of_crc.len()]);
        Hashed { len, crc: joiner.join(hashed.crc, Hashed::of(of_crc)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::frame::FrameBytes;

    fn numbered(len: usize) -> Vec<u8> {
        (0..len).map(|i| i as u8).collect()
    }

    fn packetizer(chunk_len: u16) -> Packetizer {
        Packetizer::new(FrameId(1), MediaTime::default(), chunk_len)
    }

    /// The bodies that can be had now, and what is said afterwards.
    fn take(packetizer: &mut Packetizer, data: &FrameBytes) -> (Vec<Vec<u8>>, Next) {
        let data = data.view();
        let (mut all, mut joiner) = (Vec::new(), Joiner::default());
        while let Next::Chunk(chunk) = packetizer.next(&data) {
            let mut body = vec![0xa5; chunk.body_len()];
            let hashed = packetizer.emit(&data, chunk, Duration::ZERO, &mut body, &mut joiner);
            assert_eq!(hashed, Hashed::of(&body[VideoHeader::LEN..]));
            all.push(body);
        }
        (all, packetizer.next(&data))
    }

    fn bodies(len: usize, chunk_len: u16) -> Vec<Vec<u8>> {
        let (bodies, next) = take(&mut packetizer(chunk_len), &numbered(len).into());
        assert_eq!(next, Next::Finished);
        bodies
    }

    fn header(body: &[u8]) -> VideoHeader {
        VideoHeader::parse(body).unwrap().0
    }

    fn joined(bodies: &[Vec<u8>]) -> Vec<u8> {
        bodies.iter().flat_map(|body| VideoHeader::parse(body).unwrap().1.to_vec()).collect()
    }

    #[test]
    fn chunks_in_order_are_the_data_and_its_crc_wherever_the_cut_falls() {
        for len in 1..40 {
            let data = numbered(len);
            let expected = [data.clone(), crc32fast::hash(&data).to_be_bytes().into()].concat();
            assert_eq!(joined(&bodies(len, 10)), expected, "{len} bytes");
        }
    }

    #[test]
    fn every_header_places_all_chunks() {
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
    fn a_growing_frame_leaves_as_far_as_its_chunks_are_full() {
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
    fn an_abandoned_frame_ends_without_its_last_chunk() {
        let (growing, mut packetizer) = (FrameBytes::growing(0), packetizer(10));
        growing.append(&[0; 15]);
        assert_eq!(take(&mut packetizer, &growing).1, Next::Waiting);
        growing.abandon();
        assert_eq!(take(&mut packetizer, &growing), (vec![], Next::Abandoned));
    }

    #[test]
    fn frames_that_cannot_be_numbered_are_refused() {
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
