//! The sending half of a call: frames in, video datagrams out.

use std::time::Instant;

use super::outbound::Outbound;
use crate::net::{
    frame::{FrameId, OutgoingFrame, Progress},
    pacer::Pacer,
    packetizer::{Next, Packetizer},
    time::MediaClock,
    wire::{
        datagram::{Kind, OVERHEAD},
        video::chunk_len_for,
    },
};

/// Sends one stream to one peer. The frame on its way is finished; of those that wait behind
/// it, only the newest is kept.
#[derive(Debug)]
pub(super) struct Sender {
    clock: MediaClock,
    chunk_len: u16,
    next_id: FrameId,
    current: Option<OnItsWay>,
    waiting: Option<OutgoingFrame>,
    /// None: a frame leaves as fast as it can.
    pacer: Option<Pacer>,
    max_datagram_len: usize,
    counters: SenderCounters,
}

/// What became of the frames that were to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SenderCounters {
    /// Frames of which every chunk was handed out.
    pub(super) frames: u64,
    /// Frames replaced by newer ones before their first chunk left.
    pub(super) superseded: u64,
    /// Frames that are empty, too large, or were abandoned by whoever made them.
    pub(super) unsendable: u64,
}

#[derive(Debug)]
struct OnItsWay {
    packetizer: Packetizer,
    frame: OutgoingFrame,
    /// When it was last asked for what can leave.
    paused_at: Option<Instant>,
}

/// Datagrams written by one `poll_transmit`, back to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Burst {
    /// Bytes in all.
    pub(super) len: usize,
    /// Bytes of each datagram but the last.
    pub(super) segment_len: usize,
}

impl Sender {
    pub(super) fn new(clock: MediaClock, max_datagram_len: usize) -> Self {
        Self {
            clock,
            chunk_len: chunk_len_for(max_datagram_len),
            next_id: FrameId::default(),
            current: None,
            waiting: None,
            pacer: None,
            max_datagram_len,
            counters: SenderCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> SenderCounters {
        self.counters
    }

    /// From now on frames leave in groups, with pauses, or at once.
    pub(super) fn set_paced(&mut self, now: Instant, paced: bool) {
        self.pacer = paced.then(|| Pacer::new(now, self.max_datagram_len));
    }

    /// Whether a frame, or a part of one, is still to leave.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn push_frame(&mut self, now: Instant, frame: OutgoingFrame) {
        if let Some(untouched) = self.current.take_if(|c| c.packetizer.is_untouched()) {
            // Its number is free again: a gap would look like a loss to the receiver.
            self.next_id = untouched.packetizer.frame();
            self.counters.superseded += 1;
        }
        if self.current.is_none() {
            self.start(now, frame);
        } else if self.waiting.replace(frame).is_some() {
            self.counters.superseded += 1;
        }
    }

    /// When the pacer lets the next datagrams go, if they wait for that.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (pacer, current) = (self.pacer.as_ref()?, self.current.as_ref()?);
        pacer.poll(current.paused_at?, current.ready()).next
    }

    /// Writes up to `max_datagrams` datagrams of one frame to `buf`.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        outbound: &mut Outbound,
        buf: &mut [u8],
        max_datagrams: usize,
    ) -> Option<Burst> {
        loop {
            let current = self.current.as_mut()?;
            let allowed = match &self.pacer {
                Some(pacer) => pacer.poll(now, current.ready()).datagrams.min(max_datagrams),
                None => max_datagrams,
            };
            let (burst, next) = current.emit(now, outbound, buf, allowed);
            current.paused_at = Some(now);
            if let (Some(pacer), Some(burst)) = (&mut self.pacer, burst) {
                pacer.record_sent(now, burst.len);
            }
            match next {
                Next::Chunk(_) | Next::Waiting => return burst,
                Next::Finished => self.counters.frames += 1,
                Next::Abandoned => self.counters.unsendable += 1,
            }
            self.current = None;
            if let Some(waiting) = self.waiting.take() {
                self.start(now, waiting);
            }
            if burst.is_some() {
                return burst;
            }
        }
    }

    fn start(&mut self, now: Instant, frame: OutgoingFrame) {
        let captured = self.clock.media_time(frame.captured);
        let packetizer = Packetizer::new(self.next_id, captured, self.chunk_len);
        if packetizer.next(&frame.data.view()) == Next::Abandoned {
            self.counters.unsendable += 1;
            return;
        }
        self.next_id = self.next_id.next();
        if let Some(pacer) = &mut self.pacer {
            let len = match frame.data.view().progress() {
                Progress::Whole(len) => Some(len),
                Progress::SoFar(_) | Progress::Abandoned => None,
            };
            pacer.begin_frame(now, len);
        }
        self.current = Some(OnItsWay { packetizer, frame, paused_at: None });
    }
}

impl OnItsWay {
    /// How many of its datagrams could leave.
    fn ready(&self) -> usize {
        self.packetizer.ready(&self.frame.data.view())
    }

    /// Writes what there is, up to `max_datagrams`, and says what comes next.
    fn emit(
        &mut self,
        now: Instant,
        outbound: &mut Outbound,
        buf: &mut [u8],
        max_datagrams: usize,
    ) -> (Option<Burst>, Next) {
        let age = now.saturating_duration_since(self.frame.captured);
        let data = self.frame.data.view();
        let mut burst: Option<Burst> = None;
        for _ in 0..max_datagrams {
            let Next::Chunk(chunk) = self.packetizer.next(&data) else { break };
            let at = burst.map_or(0, |b| b.len);
            if buf.len() - at < OVERHEAD + chunk.body_len() {
                break;
            }
            let len =
                outbound.emit(Kind::Video, chunk.body_len(), &mut buf[at..], |body, joiner| {
                    self.packetizer.emit(&data, chunk, age, body, joiner)
                });
            let segment_len = burst.map_or(len, |b| b.segment_len);
            burst = Some(Burst { len: at + len, segment_len });
        }
        (burst, self.packetizer.next(&data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        frame::{FrameBytes, SessionId},
        wire::datagram::Direction,
    };

    fn sender() -> (Sender, Outbound, Instant) {
        let now = crate::clock::now();
        let sender = Sender::new(MediaClock::starting(now), 1200);
        let session = SessionId::new(1).unwrap();
        (sender, Outbound::new(session, Direction::FromDialer), now)
    }

    fn frame(len: usize, captured: Instant) -> OutgoingFrame {
        OutgoingFrame { data: vec![7; len].into(), captured }
    }

    #[test]
    fn a_frame_leaves_in_full_datagrams_and_a_rest() {
        let (mut sender, mut outbound, now) = sender();
        sender.push_frame(now, frame(5 * 1160, now));
        let mut buf = vec![0; 65_000];
        let burst = sender.poll_transmit(now, &mut outbound, &mut buf, 64).unwrap();
        assert_eq!(burst, Burst { len: 5 * 1200 + 44, segment_len: 1200 });
        assert_eq!(sender.poll_transmit(now, &mut outbound, &mut buf, 64), None);
        assert_eq!(outbound.sent(), (6, 6044));
        assert_eq!(sender.counters().frames, 1);
    }

    #[test]
    fn of_the_waiting_frames_only_the_newest_is_sent() {
        let (mut sender, mut outbound, now) = sender();
        let mut buf = vec![0; 2400];
        sender.push_frame(now, frame(5000, now));
        sender.push_frame(now, frame(5001, now));
        assert_eq!(sender.counters().superseded, 1, "none of its chunks had left");
        sender.poll_transmit(now, &mut outbound, &mut buf, 64);
        sender.push_frame(now, frame(5002, now));
        sender.push_frame(now, frame(10, now));
        assert_eq!(sender.counters().superseded, 2);
        while sender.poll_transmit(now, &mut outbound, &mut buf, 64).is_some() {}
        assert_eq!(sender.counters().frames, 2, "what had begun was finished");
        assert_eq!(sender.next_id, FrameId(2), "no number was skipped");
    }

    #[test]
    fn a_frame_leaves_while_it_grows() {
        let (mut sender, mut outbound, now) = sender();
        let data = FrameBytes::growing(0);
        sender.push_frame(now, OutgoingFrame { data: data.clone(), captured: now });
        let mut buf = vec![0; 65_000];
        let mut sent = |sender: &mut Sender| {
            sender.poll_transmit(now, &mut outbound, &mut buf, 64).map(|burst| burst.len)
        };
        assert_eq!(sent(&mut sender), None);
        data.append(&[7; 2 * 1160 + 500]);
        assert_eq!(sent(&mut sender), Some(2400));
        assert_eq!(sent(&mut sender), None);
        sender.push_frame(now, frame(10, now));
        data.finish();
        assert_eq!(sent(&mut sender), Some(500 + 44));
        assert_eq!(sent(&mut sender), Some(10 + 44), "then the one that waited");
        assert_eq!(sender.counters().frames, 2);
    }

    #[test]
    fn an_abandoned_frame_makes_room_for_the_next() {
        let (mut sender, mut outbound, now) = sender();
        let (data, mut buf) = (FrameBytes::growing(0), vec![0; 65_000]);
        data.append(&[7; 1160]);
        sender.push_frame(now, OutgoingFrame { data: data.clone(), captured: now });
        assert!(sender.poll_transmit(now, &mut outbound, &mut buf, 64).is_some());
        sender.push_frame(now, frame(10, now));
        data.abandon();
        assert!(sender.poll_transmit(now, &mut outbound, &mut buf, 64).is_some());
        assert_eq!((sender.counters().frames, sender.counters().unsendable), (1, 1));
    }

    #[test]
    fn a_paced_frame_leaves_in_groups_and_says_when_the_next_may() {
        let (mut sender, mut outbound, mut now) = sender();
        sender.set_paced(now, true);
        assert_eq!(sender.poll_timeout(), None);
        sender.push_frame(now, frame(98 * 1160 - 4, now));
        let (mut buf, mut groups) = (vec![0; 65_000], Vec::new());
        while sender.counters().frames == 0 {
            while let Some(burst) = sender.poll_transmit(now, &mut outbound, &mut buf, 64) {
                groups.push(burst.len / 1200);
            }
            let next = sender.poll_timeout();
            assert!(next.is_none_or(|at| at > now), "{next:?}");
            now = next.unwrap_or(now);
        }
        assert_eq!((groups[0], groups.iter().sum()), (16, 98), "{groups:?}");
        assert!(groups.iter().all(|&group| group <= 16), "{groups:?}");
        assert_eq!(sender.poll_timeout(), None);
    }

    #[test]
    fn an_unsendable_frame_is_counted_and_skipped() {
        let (mut sender, mut outbound, now) = sender();
        sender.push_frame(now, frame(0, now));
        assert_eq!(sender.counters().unsendable, 1);
        assert_eq!(sender.poll_transmit(now, &mut outbound, &mut [0; 1200], 64), None);
    }
}
