//! The receiving half of a call: video datagrams in, whole frames out.

use std::time::{Duration, Instant};

use crate::net::{
    frame::{FrameBeginning, ReceivedFrame},
    reassembler::{Reassembler, ReassemblyCounters},
    wire::{datagram::Body, video::VideoHeader},
};

/// Receives one stream from one peer.
#[derive(Debug)]
pub(super) struct Receiver {
    reassembler: Reassembler,
    malformed: u64,
}

impl Receiver {
    pub(super) fn new(reassembly_deadline: Duration) -> Self {
        Self { reassembler: Reassembler::new(reassembly_deadline), malformed: 0 }
    }

    pub(super) fn handle_video(&mut self, now: Instant, body: &Body) -> Option<ReceivedFrame> {
        if let Ok((header, payload)) = VideoHeader::parse(body.bytes) {
            self.reassembler.handle_chunk(now, &header, payload, body.payload_crc)
        } else {
            self.malformed += 1;
            None
        }
    }

    pub(super) fn newest_beginning(&self) -> Option<FrameBeginning<'_>> {
        self.reassembler.newest_beginning()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.reassembler.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.reassembler.poll_timeout()
    }

    pub(super) fn counters(&self) -> ReassemblyCounters {
        self.reassembler.counters()
    }

    /// Chunks whose header made no sense.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }
}

/// How long a frame may be incomplete while no newer one comes: long enough for 440 KB (2160p)
/// through 20 Mbit/s. In a running stream the next frame ends the wait much sooner.
pub const DEFAULT_REASSEMBLY_DEADLINE: Duration = Duration::from_millis(250);
