//! The answers to a receiver's NACKs.

use std::time::{Duration, Instant};

use super::outbound::{Batch, Burst, Outbound};
use crate::net::{
    framing::fec::ParityEncoder,
    recovery::retransmit_buffer::{AnswerCounters, RetransmitBuffer, SentFrame},
    units::Bitrate,
    wire::{checksum::Hashed, datagram::Kind, nack::Nack},
};

/// Keeps the frames sent to one receiver, and answers its NACKs.
#[derive(Debug)]
pub(super) struct Retransmitter {
    buffer: RetransmitBuffer,
    /// Makes fresh parity. Created on first use.
    encoder: Option<ParityEncoder>,
    answers_with_parity: bool,
    keeps: bool,
}

impl Retransmitter {
    /// `answers_with_parity`: NACKs may be answered with fresh parity. `keeps`: sent frames are
    /// kept for NACKs.
    pub(super) fn new(answers_with_parity: bool, keeps: bool) -> Self {
        Self { buffer: RetransmitBuffer::new(), encoder: None, answers_with_parity, keeps }
    }

    /// Whether answers are waiting to be sent.
    pub(super) fn has_answers(&self) -> bool {
        self.buffer.next_body_len().is_some()
    }

    pub(super) fn counters(&self) -> AnswerCounters {
        self.buffer.counters()
    }

    /// Keeps a completely sent frame, if frames are kept.
    pub(super) fn keep(&mut self, now: Instant, sent: SentFrame) {
        if self.keeps {
            self.buffer.keep(sent, now + KEPT_FOR);
        }
    }

    /// Handles a NACK, in a stream that sends at `rate`.
    pub(super) fn handle_nack(&mut self, now: Instant, nack: &Nack, rate: Bitrate) {
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
            let fits = batch.push(Kind::Video, body_len, |body| {
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

/// How long a frame is kept after it was sent. By default, receivers give a frame up 250 ms after
/// its last chunk, and usually sooner, when the next one is complete.
const KEPT_FOR: Duration = Duration::from_millis(250);
