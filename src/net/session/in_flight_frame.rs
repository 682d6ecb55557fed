//! The frame that is being sent to one peer.

use std::time::{Duration, Instant};

use super::outbound::{Batch, Burst, Outbound};
use crate::net::{
    framing::packetizer::{ChunkCache, Next, Packetizer, SharedFrame},
    recovery::retransmit_buffer::SentFrame,
    wire::datagram::Kind,
};

/// A frame being sent, and how far it has got.
#[derive(Debug)]
pub(super) struct InFlightFrame {
    pub(super) packetizer: Packetizer,
    pub(super) shared: SharedFrame,
    /// When sending was first attempted, even if nothing could leave yet.
    pub(super) begun: Option<Instant>,
    pub(super) has_parity_decided: bool,
}

impl InFlightFrame {
    /// How long it has been in transmission.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun))
    }

    /// The number of the frame's source chunks, once known and while its parity is undecided.
    pub(super) fn unprotected(&self) -> Option<u16> {
        if self.has_parity_decided {
            return None;
        }
        self.packetizer.unprotected(&self.shared.frame.data.view())
    }

    /// Adds `parity` parity chunks.
    pub(super) fn protect(&mut self, parity: u16) {
        self.packetizer.protect(&self.shared.frame.data.view(), parity);
    }

    /// How many of its datagrams are ready to be sent.
    pub(super) fn ready(&self) -> usize {
        self.packetizer.ready(&self.shared.frame.data.view())
    }

    /// Writes up to `max_datagrams` ready datagrams. Returns them and the packetizer's next step.
    pub(super) fn emit(
        &mut self,
        now: Instant,
        cache: &mut ChunkCache,
        outbound: &mut Outbound,
        buf: &mut [u8],
        max_datagrams: usize,
    ) -> (Option<Burst>, Next) {
        let SharedFrame { key, frame } = &self.shared;
        let age = now.saturating_duration_since(frame.captured);
        let data = frame.data.view();
        let mut chunks = cache.chunks(*key, self.packetizer.chunk_len());
        let mut batch = Batch::new(outbound, buf);
        for _ in 0..max_datagrams {
            let Next::Chunk(chunk) = self.packetizer.next(&data) else { break };
            let fits = batch.push(Kind::Video, chunk.body_len(), |body| {
                self.packetizer.emit(&data, &mut chunks, chunk, age, body)
            });
            if !fits {
                break;
            }
        }
        let burst = batch.finish();
        if burst.is_some() {
            frame.data.note_sent(now);
        }
        (burst, self.packetizer.next(&data))
    }

    /// The record kept for retransmission; `None` until the frame's end is known. It shares the
    /// frame's bytes.
    pub(super) fn sent(&self, cache: &mut ChunkCache) -> Option<SentFrame> {
        let (packetizer, SharedFrame { key, frame }) = (&self.packetizer, &self.shared);
        let data = frame.data.view();
        let chunk_len = packetizer.chunk_len();
        Some(SentFrame {
            id: packetizer.frame(),
            captured: packetizer.captured(),
            captured_at: frame.captured,
            data: frame.data.clone(),
            crc: cache.chunks(*key, chunk_len).picture_crc(&data),
            extent: packetizer.extent(&data)?,
            chunk_len,
        })
    }
}
