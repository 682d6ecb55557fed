//! The sending half of a call: frames in; video datagrams, parity and retransmissions out.

use std::time::{Duration, Instant};

use super::{
    frame_credit::FrameCredit,
    in_flight_frame::InFlightFrame,
    outbound::{Burst, Outbound},
    retransmitter::Retransmitter,
    send_rate::{ReportContext, SendRate},
    stream_estimates::StreamEstimates,
};
use crate::net::{
    congestion::bitrates::PictureBitrates,
    frame::{FrameId, Progress},
    framing::{
        packetizer::{ChunkCache, Next, Packetizer, SharedFrame},
        reassembler::LONGEST_ASSEMBLY,
    },
    recovery::{
        parity_control::{FecMode, ParityControl},
        retransmit_buffer::AnswerCounters,
    },
    time::MediaClock,
    units::{Bitrate, DataSize},
    wire::{
        datagram::{Form, chunk_len_for},
        nack::Nack,
        report::Report,
    },
};

/// Sends one stream to one peer. The frame being sent is finished, unless that takes too long; of
/// the frames waiting behind it, only the newest is kept.
#[derive(Debug)]
pub(super) struct Sender {
    clock: MediaClock,
    next_id: FrameId,
    current: Option<InFlightFrame>,
    waiting: Option<SharedFrame>,
    rate: SendRate,
    /// When [`poll_transmit`](Self::poll_transmit) last sent nothing.
    drained: Instant,
    config: SenderConfig,
    max_datagram_len: usize,
    parity_control: ParityControl,
    /// The parity count of the last frame for which it was decided.
    last_parity: u16,
    retransmitter: Retransmitter,
    estimates: StreamEstimates,
    credit: FrameCredit,
    counters: SenderCounters,
    /// Frames dropped because they took too long, since the last one that was sent whole.
    expired_in_a_row: u32,
    /// The estimated transmission time of the last of them, once there are enough to report.
    expired: Option<Duration>,
}

/// How a stream is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderConfig {
    /// The maximum datagram length, in bytes of UDP payload.
    pub(super) max_datagram_len: usize,
    pub(super) fec: FecMode,
    /// Of UDP payload.
    pub(super) max_bitrate: Option<Bitrate>,
    /// Whether the receiver sends reports and NACKs.
    pub(super) has_feedback: bool,
    pub(super) form: Form,
}

/// Counters of the frames given to a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SenderCounters {
    /// Frames whose chunks were all sent.
    pub(super) frames: u64,
    /// Bytes of those frames, as encoded.
    pub(super) picture_bytes: u64,
    /// Frames replaced by newer ones before their first chunk was sent, or dropped because they
    /// took too long to send.
    pub(super) superseded: u64,
    /// Frames that are empty, too large, or were abandoned by the encoder.
    pub(super) unsendable: u64,
    /// Parity chunks sent with their frames.
    pub(super) parity_chunks: u64,
}

impl Sender {
    pub(super) fn new(now: Instant, clock: MediaClock, config: SenderConfig) -> Self {
        let SenderConfig { max_datagram_len, fec, max_bitrate, has_feedback, .. } = config;
        Self {
            clock,
            next_id: FrameId::default(),
            current: None,
            waiting: None,
            rate: SendRate::new(now, max_datagram_len, max_bitrate, has_feedback),
            drained: now,
            config,
            max_datagram_len,
            parity_control: ParityControl::new(fec),
            last_parity: 0,
            retransmitter: Retransmitter::new(fec != FecMode::Off, has_feedback),
            estimates: StreamEstimates::new(),
            credit: FrameCredit::default(),
            counters: SenderCounters::default(),
            expired_in_a_row: 0,
            expired: None,
        }
    }

    /// Forgets what is known of the path, and drops the frames that are not sent. Later frames are
    /// numbered on.
    pub(super) fn restart(&mut self, now: Instant) {
        let fresh = Self::new(now, self.clock, self.config);
        let old = std::mem::replace(self, fresh);
        self.next_id = old.next_id;
        self.counters = old.counters;
        let unsent = [old.current.is_some(), old.waiting.is_some()];
        self.counters.superseded += unsent.into_iter().map(u64::from).sum::<u64>();
    }

    pub(super) fn counters(&self) -> SenderCounters {
        self.counters
    }

    /// The maximum datagram length, in bytes of UDP payload.
    pub(super) fn max_datagram_len(&self) -> usize {
        self.max_datagram_len
    }

    /// Sets the maximum datagram length, from the next frame.
    pub(super) fn set_max_datagram_len(&mut self, now: Instant, len: usize) {
        if len != self.max_datagram_len {
            self.max_datagram_len = len;
            self.rate.set_datagram_len(now, len);
        }
    }

    pub(super) fn answers(&self) -> AnswerCounters {
        self.retransmitter.counters()
    }

    /// The bitrates available for pictures, given the path and the user's limit.
    pub(super) fn picture_bitrates(&self) -> PictureBitrates {
        let pictures = |rate| self.estimates.picture_share(rate);
        PictureBitrates {
            path: self.rate.target().map(pictures),
            bound: self.rate.bound().map(pictures),
            limit: self.rate.max_bitrate().map(pictures),
        }
    }

    /// Records a datagram other than video: a probe, a report, a NACK.
    pub(super) fn record_other(&mut self, now: Instant, len: usize) {
        self.rate.record_other(now, DataSize::from_len(len));
    }

    /// Handles the receiver's message that it has taken a frame.
    pub(super) fn handle_taken(
        &mut self,
        now: Instant,
        frame: FrameId,
        waited: Duration,
        rtt: Option<Duration>,
    ) {
        let intervals = rtt.zip(self.estimates.interval());
        let intervals = intervals.map_or(0.0, |(rtt, interval)| rtt.div_duration_f64(interval));
        self.credit.handle_taken(now, frame, waited, intervals);
    }

    /// Whether the receiver will take another frame.
    pub(super) fn wants_frame(&self) -> bool {
        self.credit.wants_frame()
    }

    /// Whether a frame waits until the one before it is sent.
    pub(super) fn has_waiting_frame(&self) -> bool {
        self.waiting.is_some()
    }

    /// Handles the reply to one of our probes.
    pub(super) fn handle_probe_reply(&mut self, now: Instant) {
        let was_silent = self.is_unreported();
        self.rate.handle_probe_reply(now);
        if was_silent {
            self.drop_older(now, STALE);
        }
    }

    /// Drops the frame in transmission if it has taken `age` or longer.
    fn drop_older(&mut self, now: Instant, age: Duration) -> Option<InFlightFrame> {
        let dropped = self.current.take_if(|c| c.age(now) >= age)?;
        self.counters.superseded += 1;
        Some(dropped)
    }

    /// Drops a frame that the receiver has given up by `now`, because the path is too slow for it.
    fn drop_expired(&mut self, now: Instant) {
        let Some(expired) = self.drop_older(now, LONGEST_ASSEMBLY) else { return };
        if self.is_unreported() {
            return;
        }
        self.expired_in_a_row += 1;
        let cap = self.picture_bitrates().cap();
        if let Some(cap) = cap.filter(|_| self.expired_in_a_row >= EXPIRED_TO_REPORT) {
            let size = DataSize::from_len(expired.shared.frame.data.view().bytes().len());
            self.expired = Some((size / cap).max(LONGEST_ASSEMBLY));
        }
    }

    /// How long the path takes to carry a picture, if several in a row were dropped for taking too
    /// long.
    pub(super) fn take_too_slow(&mut self) -> Option<Duration> {
        self.expired.take()
    }

    /// Whether the receiver's reports are overdue.
    pub(super) fn is_unreported(&self) -> bool {
        self.rate.is_unreported()
    }

    /// Whether the receiver's reports are not overdue, and do not show that next to nothing
    /// arrives. True without feedback.
    pub(super) fn is_reached(&self) -> bool {
        self.rate.is_reached()
    }

    /// The mean interval between clock probes, while a queue is suspected or reports are overdue.
    /// `None`: the usual interval.
    pub(super) fn probe_interval(&self) -> Option<Duration> {
        self.rate.probe_interval()
    }

    /// Handles a report from the receiver, newer than all before.
    pub(super) fn handle_report(&mut self, now: Instant, report: &Report, seen: &ReportContext) {
        let rtt = seen.rtt.zip(self.estimates.interval());
        self.parity_control.set_nacks_help(rtt.is_some_and(|(rtt, interval)| rtt < interval));
        let was_silent = self.is_unreported();
        let is_congested = self.rate.handle_report(now, report, seen);
        self.parity_control.handle_report(now, report, is_congested);
        if was_silent {
            self.drop_older(now, STALE);
        }
    }

    /// Handles a NACK from the receiver.
    pub(super) fn handle_nack(&mut self, now: Instant, nack: &Nack) {
        self.retransmitter.handle_nack(now, nack, self.estimates.rate());
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.credit.handle_timeout(now);
        self.retransmitter.handle_timeout(now);
        self.drop_expired(now);
        self.rate.handle_timeout(now);
    }

    /// Turns pacing on or off.
    pub(super) fn set_paced(&mut self, now: Instant, paced: bool) {
        self.rate.set_paced(now, paced);
    }

    /// Sets the speed of our interface, if it is known. It bounds the pace.
    pub(super) fn set_link_speed(&mut self, now: Instant, speed: Option<Bitrate>) {
        self.rate.set_link_speed(now, speed);
    }

    /// Whether frames are paced, which loopback does not need.
    pub(super) fn is_paced(&self) -> bool {
        self.rate.gate().is_paced()
    }

    /// Whether a frame, or part of one, is still to be sent.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some() || self.waiting.is_some()
    }

    pub(super) fn push_frame(&mut self, now: Instant, frame: SharedFrame) {
        self.estimates.record_pushed(now);
        if let Some(untouched) = self.current.take_if(|c| c.packetizer.is_untouched()) {
            // Its id is free again: a gap would look like a loss to the receiver.
            self.next_id = untouched.packetizer.frame();
            self.counters.superseded += 1;
        }
        if self.waiting.replace(frame).is_some() {
            self.counters.superseded += 1;
        }
        self.start_waiting(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.current.as_ref().and_then(|c| Some(c.begun? + LONGEST_ASSEMBLY));
        let (rate, answers) = (self.rate.poll_timeout(), self.retransmitter.poll_timeout());
        let credit = self.credit.poll_timeout();
        [self.gate_due(), rate, answers, expiry, credit].into_iter().flatten().min()
    }

    /// When the gate opens for the next datagrams, if any are waiting for it.
    fn gate_due(&self) -> Option<Instant> {
        let answers = self.retransmitter.has_answers();
        let answers = answers.then(|| self.rate.gate().answers(self.drained, 1).next).flatten();
        let current = self.current.as_ref().filter(|c| c.begun.is_some());
        let frame = current.and_then(|c| self.rate.gate().frame(self.drained, c.ready()).next);
        answers.into_iter().chain(frame).min()
    }

    /// Writes up to `max_datagrams` datagrams to `buf`. Answers to NACKs go first. `cache` holds
    /// the chunk hashes and the parity that this receiver shares with others.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        cache: &mut ChunkCache,
        outbound: &mut Outbound,
        buf: &mut [u8],
        max_datagrams: usize,
    ) -> Option<Burst> {
        let may_begin = self.rate.gate().may_begin();
        let allowed =
            if may_begin { self.rate.gate().answers(now, max_datagrams).datagrams } else { 0 };
        let answer = self.retransmitter.poll_answer(now, outbound, buf, allowed);
        if let Some(burst) = answer {
            self.rate.record_sent(now, DataSize::from_len(burst.len));
            return answer;
        }
        let burst = self.poll_frame(now, cache, outbound, buf, max_datagrams);
        if burst.is_none() {
            self.drained = now;
        }
        burst
    }

    fn poll_frame(
        &mut self,
        now: Instant,
        cache: &mut ChunkCache,
        outbound: &mut Outbound,
        buf: &mut [u8],
        max_datagrams: usize,
    ) -> Option<Burst> {
        loop {
            self.start_waiting(now);
            let current = self.current.as_ref()?;
            if let Some(source_chunks) = current.unprotected() {
                let parity = self.parity_control.parity_for(now, source_chunks);
                let parity = parity.min(self.parity_room(source_chunks));
                let current = self.current.as_mut()?;
                current.has_parity_decided = true;
                self.last_parity = parity;
                if parity > 0 {
                    current.protect(parity);
                    self.counters.parity_chunks += u64::from(parity);
                }
            }
            let ready = self.current.as_ref()?.ready();
            let allowed = self.rate.gate().frame(now, ready).datagrams.min(max_datagrams);
            let current = self.current.as_mut()?;
            let (burst, next) = current.emit(now, cache, outbound, buf, allowed);
            current.begun.get_or_insert(now);
            if let Some(burst) = burst {
                self.rate.record_sent(now, DataSize::from_len(burst.len));
            }
            if matches!(next, Next::Chunk(_) | Next::Waiting) {
                return burst;
            }
            let done = self.current.take()?;
            if next == Next::Finished {
                self.finish(now, &done, cache, outbound);
            } else {
                self.counters.unsendable += 1;
            }
            if burst.is_some() {
                return burst;
            }
        }
    }

    /// How many parity chunks the path can carry beside a frame's source chunks in one frame
    /// interval. More parity would only cause losses.
    fn parity_room(&self, source_chunks: u16) -> u16 {
        let bound = self.rate.bound();
        let (Some(bound), Some(interval)) = (bound, self.estimates.interval()) else {
            return u16::MAX;
        };
        let chunks = (bound * interval).bytes() / self.max_datagram_len as u64;
        u16::try_from(chunks).unwrap_or(u16::MAX).saturating_sub(source_chunks)
    }

    /// Records that a frame was sent completely, and keeps it for retransmission.
    fn finish(
        &mut self,
        now: Instant,
        done: &InFlightFrame,
        cache: &mut ChunkCache,
        outbound: &Outbound,
    ) {
        self.counters.frames += 1;
        self.expired_in_a_row = 0;
        self.rate.record_frame(now);
        let picture_len = done.shared.frame.data.view().bytes().len();
        self.counters.picture_bytes += picture_len as u64;
        self.estimates.record_sent(picture_len, outbound.sent().1);
        if let Some(sent) = done.sent(cache) {
            self.retransmitter.keep(now, sent);
        }
    }

    /// The chunk length of the next frame. Chunks are shorter on a lossy path, because two parity
    /// chunks for six long chunks add a third.
    fn chunk_len(&self) -> u16 {
        let limit = if self.last_parity > 0 { LOSSY_DATAGRAM_LEN } else { usize::MAX };
        chunk_len_for(self.max_datagram_len.min(limit), self.config.form)
    }

    /// Starts the waiting frame, if no frame is being sent and one may begin.
    fn start_waiting(&mut self, now: Instant) {
        if self.current.is_none()
            && self.rate.gate().may_begin()
            && let Some(waiting) = self.waiting.take()
        {
            self.start(now, waiting);
        }
    }

    fn start(&mut self, now: Instant, shared: SharedFrame) {
        let frame = &shared.frame;
        let captured = self.clock.media_time(frame.captured);
        let packetizer = Packetizer::new(self.next_id, captured, self.chunk_len());
        if packetizer.next(&frame.data.view()) == Next::Abandoned {
            self.counters.unsendable += 1;
            return;
        }
        self.next_id = self.next_id.next();
        self.credit.record_begun(now, packetizer.frame());
        let len = match frame.data.view().progress() {
            Progress::Whole(len) => Some(len),
            Progress::Partial(_) | Progress::Abandoned => None,
        };
        self.rate.begin_frame(now, packetizer.frame(), len);
        self.current =
            Some(InFlightFrame { packetizer, shared, begun: None, has_parity_decided: false });
    }
}

/// In bytes of UDP payload: the limit on a lossy path, from the MTU of IPv4 over Ethernet.
const LOSSY_DATAGRAM_LEN: usize = 1472;

/// How many frames in a row must expire before that is reported. With `--quality auto` the first
/// makes the next ones smaller.
const EXPIRED_TO_REPORT: u32 = 2;

/// When a silent path returns, a frame in transmission for this long is dropped: by default, the
/// receiver has given it up.
const STALE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        frame::{FrameBytes, OutgoingFrame, SessionId},
        wire::datagram::Direction,
    };

    /// A sender, with the parts that its call and its endpoint lend it.
    struct Fixture {
        sender: Sender,
        cache: ChunkCache,
        outbound: Outbound,
        buf: Vec<u8>,
        now: Instant,
    }

    impl Fixture {
        fn new(fec: FecMode) -> Self {
            let now = crate::clock::now();
            let config = SenderConfig {
                max_datagram_len: 1200,
                fec,
                max_bitrate: None,
                has_feedback: true,
                form: Form::Clear,
            };
            let session = SessionId::new(1).unwrap();
            Self {
                sender: Sender::new(now, MediaClock::starting(now), config),
                cache: ChunkCache::new(),
                outbound: Outbound::clear(session, Direction::FromDialler),
                buf: vec![0; 65_000],
                now,
            }
        }

        fn push(&mut self, data: impl Into<FrameBytes>) {
            let frame = OutgoingFrame { data: data.into(), captured: self.now };
            let shared = self.cache.share(frame, 1);
            self.sender.push_frame(self.now, shared);
        }

        fn poll(&mut self) -> Option<Burst> {
            let Self { sender, cache, outbound, buf, now } = self;
            sender.poll_transmit(*now, cache, outbound, buf, 64)
        }

        fn poll_len(&mut self) -> Option<usize> {
            self.poll().map(|burst| burst.len)
        }
    }

    #[test]
    fn a_frame_is_sent_as_one_batch() {
        let mut f = Fixture::new(FecMode::Off);
        f.push(vec![7; 5 * 1160]);
        let burst = f.poll().unwrap();
        assert_eq!(burst, Burst { len: 5 * 1200 + 44, segment_len: 1200 });
        assert_eq!(f.poll(), None);
        assert_eq!(f.outbound.sent(), (6, 6044));
        assert_eq!(f.sender.counters().frames, 1);
    }

    #[test]
    fn only_the_newest_waiting_frame_is_sent() {
        let mut f = Fixture::new(FecMode::Off);
        f.buf.truncate(2400);
        f.push(vec![7; 5000]);
        f.push(vec![7; 5001]);
        assert_eq!(f.sender.counters().superseded, 1, "none of its chunks had left");
        f.poll();
        f.push(vec![7; 5002]);
        f.push(vec![7; 10]);
        assert_eq!(f.sender.counters().superseded, 2);
        while f.poll().is_some() {}
        assert_eq!(f.sender.counters().frames, 2, "what had begun was finished");
        assert_eq!(f.sender.next_id, FrameId(2), "no number was skipped");
    }

    #[test]
    fn a_frame_is_sent_while_it_grows() {
        let mut f = Fixture::new(FecMode::Off);
        let data = FrameBytes::growing(0);
        f.push(data.clone());
        assert_eq!(f.poll_len(), None);
        data.append(&[7; 2 * 1160 + 500]);
        assert_eq!(f.poll_len(), Some(2400));
        assert_eq!(f.poll_len(), None);
        f.push(vec![7; 10]);
        data.finish();
        assert_eq!(f.poll_len(), Some(500 + 44));
        assert_eq!(f.poll_len(), Some(10 + 44), "then the one that waited");
        assert_eq!(f.sender.counters().frames, 2);
    }

    #[test]
    fn an_abandoned_frame_makes_room_for_the_next() {
        let mut f = Fixture::new(FecMode::Off);
        let data = FrameBytes::growing(0);
        data.append(&[7; 1160]);
        f.push(data.clone());
        assert!(f.poll().is_some());
        f.push(vec![7; 10]);
        data.abandon();
        assert!(f.poll().is_some());
        assert_eq!((f.sender.counters().frames, f.sender.counters().unsendable), (1, 1));
    }

    #[test]
    fn a_paced_frame_is_sent_in_groups() {
        let mut f = Fixture::new(FecMode::Off);
        assert_eq!(f.sender.gate_due(), None);
        let groups = paced_groups(&mut f);
        assert_eq!((groups[0], groups.iter().sum()), (16, 98), "{groups:?}");
    }

    #[test]
    fn parity_is_paced_in_groups_too() {
        let groups = paced_groups(&mut Fixture::new(FecMode::Percent(25)));
        assert_eq!((groups[0], groups.iter().sum::<usize>()), (16, 98 + 24), "{groups:?}");
        let before_last = &groups[..groups.len() - 1];
        assert!(before_last.iter().all(|&group| group >= 8), "{groups:?}");
    }

    /// The sizes of the paced groups in which the datagrams of a frame of 98 source chunks are
    /// sent.
    fn paced_groups(f: &mut Fixture) -> Vec<usize> {
        f.sender.set_paced(f.now, true);
        f.push(vec![7; 98 * 1160 - 4]);
        let mut groups = Vec::new();
        while f.sender.counters().frames == 0 {
            while let Some(burst) = f.poll() {
                groups.push(burst.len / 1200);
            }
            let next = f.sender.gate_due();
            assert!(next.is_none_or(|at| at > f.now), "{next:?}");
            f.now = next.unwrap_or(f.now);
        }
        assert!(groups.iter().all(|&group| group <= 16), "{groups:?}");
        assert_eq!(f.sender.gate_due(), None);
        groups
    }

    #[test]
    fn an_unsendable_frame_is_counted_and_skipped() {
        let mut f = Fixture::new(FecMode::Off);
        f.push(vec![]);
        assert_eq!(f.sender.counters().unsendable, 1);
        assert_eq!(f.poll(), None);
    }
}
