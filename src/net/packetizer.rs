//! Packetize: one frame to chunks, each the body of one video datagram.
//!
//! Knows no peer: the session puts its own prelude and checksum around each body,
//! so one frame can go to several receivers.

use std::{sync::Arc, time::Duration};

use crate::net::{
    frame::FrameId,
    time::MediaTime,
    wire::{
        checksum::{Hashed, Joiner},
        video::{Extent, FRAME_CRC_LEN, VideoHeader},
    },
};

/// A cursor over the chunks of one frame.
#[derive(Clone, Debug)]
pub struct Packetizer {
    frame: FrameId,
    captured: MediaTime,
    data: Arc<[u8]>,
    /// The CRC of the data that is out.
    crc: u32,
    extent: Extent,
    chunk_len: u16,
    next_chunk: u16,
}

impl Packetizer {
    /// Starts on `data`, cut into chunks of `chunk_len` bytes, which is even and not zero.
    ///
    /// `None` if the frame is empty, larger than [`crate::net::frame::MAX_FRAME_LEN`], or
    /// needs more than 65,535 chunks.
    pub fn new(
        frame: FrameId,
        captured: MediaTime,
        data: Arc<[u8]>,
        chunk_len: u16,
    ) -> Option<Self> {
        if data.is_empty() {
            return None;
        }
        let extent = Extent::of(data.len() + FRAME_CRC_LEN, chunk_len)?;
        Some(Self { frame, captured, data, crc: 0, extent, chunk_len, next_chunk: 0 })
    }

    /// The frame's number.
    pub fn frame(&self) -> FrameId {
        self.frame
    }

    /// Whether the first chunk is yet to come.
    pub fn is_untouched(&self) -> bool {
        self.next_chunk == 0
    }

    /// The length of the next chunk's body, header included; `None` when all are out.
    pub fn next_body_len(&self) -> Option<usize> {
        (self.next_chunk < self.extent.source_chunks)
            .then(|| VideoHeader::LEN + self.header(Duration::ZERO).payload_len())
    }

    /// Writes the next chunk's body, `next_body_len` bytes, stamped with the frame's `age`:
    /// the time from its capture to now. Returns the chunk's bytes, which stand at the body's
    /// end, as hashed on the way: once, for the frame's CRC and for the datagram's.
    pub fn emit_next(&mut self, age: Duration, body: &mut [u8], joiner: &mut Joiner) -> Hashed {
        let header = self.header(age);
        let (head, payload) = body.split_at_mut(VideoHeader::LEN);
        header.emit(head);
        self.next_chunk += 1;
        self.copy_chunk(header.offset(), payload, joiner)
    }

    fn header(&self, age: Duration) -> VideoHeader {
        VideoHeader {
            frame: self.frame,
            captured: self.captured,
            age,
            extent: Some(self.extent),
            chunk_len: self.chunk_len,
            chunk: self.next_chunk,
        }
    }

    /// Copies the frame body from `offset` on: the data, then its CRC.
    fn copy_chunk(&mut self, offset: usize, payload: &mut [u8], joiner: &mut Joiner) -> Hashed {
        let len = payload.len();
        let from_data = self.data.len().saturating_sub(offset).min(payload.len());
        let (data, crc) = payload.split_at_mut(from_data);
        data.copy_from_slice(&self.data[offset.min(self.data.len())..][..from_data]);
        let hashed = Hashed::of(data);
        self.crc = joiner.join(self.crc, hashed);
        if crc.is_empty() {
            return hashed;
        }
        let crc_offset = (offset + from_data).saturating_sub(self.data.len());
        crc.copy_from_slice(&self.crc.to_be_bytes()[crc_offset..][..crc.len()]);
        Hashed { len, crc: joiner.join(hashed.crc, Hashed::of(crc)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::frame::MAX_FRAME_LEN;

    fn packetizer(len: usize, chunk_len: u16) -> Packetizer {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        Packetizer::new(FrameId(1), MediaTime::default(), data.into(), chunk_len).unwrap()
    }

    fn bodies(mut packetizer: Packetizer) -> Vec<Vec<u8>> {
        let (mut all, mut joiner) = (Vec::new(), Joiner::default());
        while let Some(len) = packetizer.next_body_len() {
            let mut body = vec![0xa5; len];
            let hashed = packetizer.emit_next(Duration::ZERO, &mut body, &mut joiner);
            assert_eq!(hashed, Hashed::of(&body[VideoHeader::LEN..]));
            all.push(body);
        }
        all
    }

    #[test]
    fn chunks_in_order_are_the_data_and_its_crc_wherever_the_cut_falls() {
        for len in 1..40 {
            let joined: Vec<u8> = bodies(packetizer(len, 10))
                .iter()
                .flat_map(|body| VideoHeader::parse(body).unwrap().1.to_vec())
                .collect();
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let expected = [data.clone(), crc32fast::hash(&data).to_be_bytes().into()].concat();
            assert_eq!(joined, expected, "{len} bytes");
        }
    }

    #[test]
    fn every_header_places_all_chunks() {
        let bodies = bodies(packetizer(95, 10));
        assert_eq!(bodies.len(), 10);
        for (i, body) in bodies.iter().enumerate() {
            let (header, _) = VideoHeader::parse(body).unwrap();
            assert_eq!(usize::from(header.chunk), i);
            assert_eq!(header.extent.unwrap().source_chunks, 10);
            assert_eq!(header.extent.unwrap().body_len, 99);
        }
    }

    #[test]
    fn frames_that_cannot_be_numbered_are_refused() {
        let start = |data: Vec<u8>, chunk_len| {
            Packetizer::new(FrameId(0), MediaTime::default(), data.into(), chunk_len)
        };
        assert!(start(vec![], 10).is_none());
        assert!(start(vec![0; MAX_FRAME_LEN], 1160).is_some());
        assert!(start(vec![0; MAX_FRAME_LEN + 1], 1160).is_none());
        assert!(start(vec![0; 200_000], 2).is_none());
    }
}
