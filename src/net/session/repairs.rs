//! Loss repair of a stream: parity with the frames, and answers to NACKs.

use std::time::{Duration, Instant};

use super::outbound::{Batch, Burst, Outbound};
use crate::net::{
    frame::OutgoingFrame,
    framing::{fec::ParityEncoder, packetizer::Packetizer},
    recovery::retransmit_buffer::{AnswerCounters, RetransmitBuffer, SentFrame},
    wire::{checksum::Hashed, datagram::Kind, nack::Nack},
};

/// Creates the parity of one stream, and keeps its frames for retransmission.
#[derive(Debug)]
pub(super) struct Retransmitter {
    buffer: RetransmitBuffer,
    /// Created on first use.
    encoder: Option<ParityEncoder>,
    answers_with_parity: bool,
    keeps: bool,
    /// The buffer of the previous frame's parity, for reuse.
    memory: Vec<u8>,
}

impl Retransmitter {
    /// `answers_with_parity`: NACKs may be answered with fresh parity. `keeps`: sent frames are
    /// kept for NACKs.
    pub(super) fn new(answers_with_parity: bool, keeps: bool) -> Self {
        Self {
            buffer: RetransmitBuffer::new(),
            encoder: None,
            answers_with_parity,
            keeps,
            memory: Vec::new(),
        }
    }

    /// Whether answers are waiting to be sent.
    pub(super) fn has_answers(&self) -> bool {
        self.buffer.next_body_len().is_some()
    }

    pub(super) fn counters(&self) -> AnswerCounters {
        self.buffer.counters()
    }

    /// Adds `parity` parity chunks to `frame`, which `packetizer` is sending.
    pub(super) fn protect(
        &mut self,
        packetizer: &mut Packetizer,
        frame: &OutgoingFrame,
        parity: u16,
        outbound: &mut Outbound,
    ) {
        let memory = std::mem::take(&mut self.memory);
        let encoder = self.encoder.get_or_insert_with(ParityEncoder::new);
        packetizer.protect(&frame.data.view(), parity, encoder, outbound.crc_combiner(), memory);
    }

    /// Takes over a completely sent frame.
    pub(super) fn keep(&mut self, now: Instant, packetizer: Packetizer, frame: OutgoingFrame) {
        let extent = packetizer.extent(&frame.data.view()).filter(|_| self.keeps);
        if let Some(extent) = extent {
            let sent = SentFrame {
                id: packetizer.frame(),
                captured: packetizer.captured(),
                captured_at: frame.captured,
                data: frame.data,
                crc: packetizer.crc(),
                extent,
                chunk_len: packetizer.chunk_len(),
            };
            self.buffer.keep(sent, now + KEPT_FOR);
        }
        self.memory = packetizer.into_memory();
    }

    /// Handles a NACK, in a stream that sends `rate` bytes a second.
    pub(super) fn handle_nack(&mut self, now: Instant, nack: &Nack, rate: f64) {
        let encoder =
            self.answers_with_parity.then(|| self.encoder.get_or_insert_with(ParityEncoder::new));
        self.buffer.handle_nack(now, nack, rate, encoder);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.buffer.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.buffer.poll_timeout()
    }

    /// Writes answers to `buf`, all of one length but the last.
    pub(super) fn poll_answer(
        &mut self,
        now: Instant,
        outbound: &mut Outbound,
        buf: &mut [u8],
        max_datagrams: usize,
    ) -> Option<Burst> {
        let mut batch = Batch::new(outbound, buf);
        for _ in 0..max_datagrams {
            let Some(body_len) = self.buffer.next_body_len() else { break };
            let fits = batch.push(Kind::Video, body_len, |body, _| {
                self.buffer.emit_next(now, body);
                Hashed::default()
            });
            if !fits {
                break;
            }
        }
        batch.finish()
    }
}

/// How long a frame is kept after it was sent. Receivers give a frame up after 250 ms, and usually
/// when the next one is complete.
const KEPT_FOR: Duration = Duration::from_millis(250);
