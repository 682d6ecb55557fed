//! Partial frames: the received parts of a frame that is unlikely to be complete before the next is
//! due.
//!
//! A frame is partial when its last source chunk, which is sent last, has arrived and what is
//! missing cannot be retransmitted in time; when a newer frame has begun; or at its reassembly
//! deadline. Its received parts can be shown, and a retransmission may still complete it.
//!
//! The bytes of each chunk have been verified, those of the frame have not. The gaps have
//! unspecified contents.

use std::time::{Duration, Instant};

use super::{Reassembler, frame_assembly::FrameAssembly};
use crate::net::frame::PartialFrame;

impl Reassembler {
    /// Returns the newest frame that is partial by `now` and newer than all completed frames.
    /// `repairs`: a retransmission can arrive before the next frame. Each frame is returned once,
    /// and none after a newer one. Call this before [`handle_timeout`](Self::handle_timeout), which
    /// gives frames up.
    pub fn poll_partial(&mut self, now: Instant, repairs: bool) -> Option<PartialFrame> {
        let is_due = |f: &&FrameAssembly| self.partial_at(f, repairs).is_some_and(|at| at <= now);
        let newest =
            self.assemblies.iter().filter(is_due).max_by(|a, b| a.frame.serial_cmp(b.frame));
        let partial = self.copy_of(newest?);
        for assembly in &mut self.assemblies {
            assembly.was_reported |= !partial.id.is_before(assembly.frame);
        }
        Some(partial)
    }

    /// When [`poll_partial`](Self::poll_partial) will return a frame.
    pub fn partial_due(&self, repairs: bool) -> Option<Instant> {
        self.assemblies.iter().filter_map(|f| self.partial_at(f, repairs)).min()
    }

    /// When a frame will be partial; `None` if it has been returned, or parity will recover it.
    fn partial_at(&self, assembly: &FrameAssembly, repairs: bool) -> Option<Instant> {
        if assembly.was_reported || assembly.chunks.is_recoverable() {
            return None;
        }
        let newer = self.assemblies.iter().filter(|f| assembly.frame.is_before(f.frame));
        let followed = newer.map(|f| f.first_received + REORDER_WAIT);
        let has_ended = !repairs && assembly.has_last_chunk();
        let ended = has_ended.then(|| assembly.last_received + REORDER_WAIT);
        followed.chain(ended).chain([self.deadline_of(assembly)]).min()
    }

    fn copy_of(&self, assembly: &FrameAssembly) -> PartialFrame {
        let present = assembly.present();
        let len = present.last().map_or(0, |last| last.end);
        let mut data = self.pool.take(len);
        data.as_mut_slice().copy_from_slice(&assembly.body[..len]);
        PartialFrame { id: assembly.frame, data, present }
    }
}

/// How long reordered chunks may arrive after the last chunk of their frame or the first of the
/// next.
const REORDER_WAIT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        frame::FrameId,
        framing::reassembler::tests::{DEADLINE, chunks, data, handle},
    };

    /// Handles all chunks of frame `id`, 95 bytes in chunks of 10, except `lost`.
    fn deliver(r: &mut Reassembler, now: Instant, id: u32, lost: &[usize]) {
        for (i, body) in chunks(id, 95, 10).iter().enumerate().filter(|(i, _)| !lost.contains(i)) {
            assert_eq!(handle(r, now, body).is_some(), lost.is_empty() && i == 9);
        }
    }

    #[test]
    fn a_partial_frame_is_returned_once_after_the_next_has_begun() {
        let (now, mut r) = (crate::clock::now(), Reassembler::new(DEADLINE));
        deliver(&mut r, now, 7, &[0, 4, 5]);
        assert_eq!((r.poll_partial(now, true), r.partial_due(true)), (None, Some(now + DEADLINE)));
        let next = now + DEADLINE / 3;
        handle(&mut r, next, &chunks(8, 95, 10)[0]);
        assert_eq!(
            (r.poll_partial(next, true), r.partial_due(true)),
            (None, Some(next + REORDER_WAIT))
        );
        let partial = r.poll_partial(next + REORDER_WAIT, true).expect("partial");
        assert_eq!((partial.id, &partial.present[..]), (FrameId(7), &[10..40, 60..95][..]));
        for range in partial.present {
            assert_eq!(partial.data[range.clone()], data(7, 95)[range]);
        }
        assert_eq!(r.poll_partial(next + REORDER_WAIT, true), None, "returned already");
        assert_eq!(r.partial_due(true), Some(next + DEADLINE), "the next one's");
    }

    #[test]
    fn without_nacks_a_partial_frame_follows_its_last_chunk() {
        let (now, mut r) = (crate::clock::now(), Reassembler::new(DEADLINE));
        deliver(&mut r, now, 7, &[4, 9]);
        assert_eq!(r.partial_due(false), Some(now + DEADLINE), "more of it may arrive");
        handle(&mut r, now, &chunks(7, 95, 10)[9]);
        assert_eq!(r.partial_due(true), Some(now + DEADLINE), "missing chunks may arrive");
        assert_eq!(r.partial_due(false), Some(now + REORDER_WAIT));
        assert_eq!(r.poll_partial(now + REORDER_WAIT, true), None);
        let partial = r.poll_partial(now + REORDER_WAIT, false).expect("partial");
        assert_eq!(partial.present, [0..40, 50..95]);
    }

    #[test]
    fn the_newest_frame_becomes_partial_at_its_deadline() {
        let (now, mut r) = (crate::clock::now(), Reassembler::new(DEADLINE));
        deliver(&mut r, now, 7, &[9]);
        let partial = r.poll_partial(now + DEADLINE, true).expect("partial");
        let range = 0..90;
        assert_eq!(partial.present, [range]);
        r.handle_timeout(now + DEADLINE);
        assert_eq!(r.partial_due(true), None);
    }

    #[test]
    fn no_partial_frame_follows_a_complete_one() {
        let (now, mut r) = (crate::clock::now(), Reassembler::new(DEADLINE));
        deliver(&mut r, now, 7, &[3]);
        deliver(&mut r, now, 8, &[]);
        assert_eq!((r.poll_partial(now + DEADLINE, true), r.partial_due(true)), (None, None));
        deliver(&mut r, now, 9, &[3]);
        handle(&mut r, now, &chunks(10, 95, 10)[0]);
        handle(&mut r, now, &chunks(9, 95, 10)[3]).expect("whole");
        assert_eq!(r.partial_due(true), Some(now + DEADLINE), "only that of frame 10");
    }

    #[test]
    fn only_the_newest_partial_frame_is_returned() {
        let (now, mut r) = (crate::clock::now(), Reassembler::new(DEADLINE));
        for id in 7..10 {
            deliver(&mut r, now, id, &[2]);
        }
        assert_eq!(r.poll_partial(now + REORDER_WAIT, true).map(|t| t.id), Some(FrameId(8)));
        assert_eq!(r.poll_partial(now + REORDER_WAIT, true), None);
        assert_eq!(r.poll_partial(now + DEADLINE, true).map(|t| t.id), Some(FrameId(9)));
    }

    #[test]
    fn a_partial_frame_ends_at_its_last_received_byte() {
        let (now, mut r) = (crate::clock::now(), Reassembler::new(DEADLINE));
        // The last chunk carries the frame's length; with 101 bytes, it holds 1 byte of the
        // picture.
        for (len, range) in [(95, 90..95), (101, 100..101), (88, 80..88), (87, 80..87)] {
            let mut reassembler = Reassembler::new(DEADLINE);
            handle(&mut reassembler, now, &chunks(1, len, 10)[len / 10]);
            let partial = reassembler.poll_partial(now + DEADLINE, true).expect("partial");
            assert_eq!((partial.data.len(), &partial.present[..]), (range.end, &[range][..]));
        }
        handle(&mut r, now, &chunks(1, 88, 10)[9]);
        let partial =
            r.poll_partial(now + DEADLINE, true).expect("partial, with nothing but its CRC");
        assert_eq!((partial.data.len(), partial.present.len()), (0, 0));
    }
}
