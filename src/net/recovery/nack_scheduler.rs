//! Schedules NACKs: when a receiver requests the missing chunks of a frame.
//!
//! A NACK is due when nothing of the frame's first transmission can still arrive. That is when its
//! last source chunk, which senders send last, or a chunk of a newer frame has arrived and the
//! reorder grace has passed. A NACK is also due when nothing has arrived for longer than the
//! stream's usual gaps, and more time has passed since the frame's first chunk than frames usually
//! take. The gap alone is not enough: a burst loss within a frame causes one too, and a sender does
//! not answer for what it has not sent yet. By then all parity has arrived or is lost, so what is
//! still missing must be requested. If the frame continues within a round trip of the NACK, it had
//! not ended, and the NACK does not count.
//!
//! A second NACK follows if the answer fails and time allows it. No NACK is sent when the answer
//! would arrive after the frame is superseded, which is when the next frame will be complete,
//! judging by earlier frames. A budget keeps NACKs from adding to congestion.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::{
    frame::FrameId,
    frame_interval::{FrameInterval, Smoothing},
    link::MIN_DATAGRAM_LEN,
    token_bucket::TokenBucket,
    wire::{
        datagram::Form,
        nack::{MAX_NACK_FRAMES, MissingChunks, Nack},
        video::VideoHeader,
    },
};

/// Decides when one receiver sends NACKs, and for what.
#[derive(Clone, Debug)]
pub struct NackScheduler {
    deadline: Duration,
    path: PathState,
    /// Frames in progress, oldest first.
    frames: Vec<TrackedFrame>,
    newest_done: Option<FrameId>,
    timing: StreamTiming,
    /// Bytes that NACKs may still take.
    budget: Option<TokenBucket>,
    /// After a NACK over budget: when the budget allows it.
    affordable: Option<Instant>,
    requests: u32,
    counters: RepairCounters,
}

/// What is known of the path when a decision is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathState {
    /// The round-trip time, if it has been measured.
    pub rtt: Option<Duration>,
    /// How long to wait for reordered datagrams.
    pub grace: Duration,
    /// Recent loss ratio of datagrams, 0 to 1.
    pub loss_ratio: f64,
    /// The longest recent burst loss, in datagrams.
    pub burst: u16,
}

/// Counts of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairCounters {
    /// Frames requested at least once.
    pub frames: u64,
    /// NACKs made, without their copies.
    pub nacks: u64,
    /// Requests for a frame not made because the answer would arrive too late.
    pub pointless: u64,
    /// Requests for a frame put off because the budget was used up.
    pub over_budget: u64,
}

/// A NACK, and how often to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The NACK.
    pub nack: Nack,
    /// 2 on a path that may lose the NACK itself, otherwise 1.
    pub copies: u32,
}

#[derive(Clone, Copy, Debug)]
struct TrackedFrame {
    frame: FrameId,
    first_seen: Instant,
    last_seen: Instant,
    ended: Option<Instant>,
    /// The highest source chunk received.
    highest: Option<u16>,
    has_last_chunk: bool,
    /// The longest time between two consecutive chunks.
    gap: Duration,
    /// NACKs sent, without those that were early.
    rounds: u32,
    asked: Option<Instant>,
    /// Whether no more NACKs are sent: the answer would be too late, or nothing is missing.
    closed: bool,
}

impl NackScheduler {
    /// Creates a scheduler. An answer that would arrive more than `deadline` after its frame's
    /// first chunk is not requested.
    pub fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            path: PathState { rtt: None, grace: UNKNOWN_GRACE, loss_ratio: 0.0, burst: 0 },
            frames: Vec::with_capacity(MAX_NACK_FRAMES),
            newest_done: None,
            timing: StreamTiming::new(),
            budget: None,
            affordable: None,
            requests: 0,
            counters: RepairCounters::default(),
        }
    }

    /// Sets what is known of the path.
    pub fn set_path(&mut self, path: PathState) {
        self.path = path;
    }

    /// Counts of requests so far.
    pub fn counters(&self) -> RepairCounters {
        self.counters
    }

    /// How often `frame` has been requested, if it is still tracked.
    pub fn rounds(&self, frame: FrameId) -> u32 {
        self.frames.iter().find(|f| f.frame == frame).map_or(0, |f| f.rounds)
    }

    /// Whether an answer can arrive before its frame is superseded.
    pub fn nacks_help(&self) -> bool {
        let usual = self.path.rtt.zip(self.timing.interval.get());
        usual.is_some_and(|(rtt, interval)| rtt + self.path.grace < interval)
    }

    /// Handles a chunk that is not a duplicate. It is ignored unless its frame is newer than all
    /// that are completed or given up.
    pub fn handle_chunk(&mut self, now: Instant, header: &VideoHeader) {
        if self.newest_done.is_some_and(|done| !done.is_before(header.frame)) {
            return;
        }
        let Some(index) = self.follow(now, header.frame) else { return };
        let tracked = &mut self.frames[index];
        // Answers are parity, or fill gaps, so they do not show at what pace the frame is sent.
        // Neither does a pause in which chunks were lost.
        let before = tracked.highest.map_or(0, |highest| highest.saturating_add(1));
        if !header.is_parity() && before <= header.chunk {
            tracked.highest = Some(header.chunk);
            if tracked.ended.is_none() && before == header.chunk {
                tracked.gap = tracked.gap.max(now.saturating_duration_since(tracked.last_seen));
            }
            tracked.discard_early_nack(now, &self.path);
        }
        tracked.last_seen = now;
        let is_last =
            header.extent.is_some_and(|e| header.chunk.checked_add(1) == Some(e.source_chunks));
        if is_last && !tracked.has_last_chunk {
            tracked.has_last_chunk = true;
            tracked.end(now, &mut self.timing);
            if tracked.rounds == 0 {
                let lasted = now.saturating_duration_since(tracked.first_seen);
                self.timing.duration.record(lasted);
            }
        }
    }

    /// Records that `frame` was completed or given up. No NACK requests it or an older one again.
    pub fn handle_done(&mut self, frame: FrameId) {
        if self.newest_done.is_none_or(|done| done.is_before(frame)) {
            self.newest_done = Some(frame);
        }
        for done in self.frames.iter_mut().filter(|f| !frame.is_before(f.frame)) {
            done.end(done.last_seen, &mut self.timing);
        }
        self.frames.retain(|f| frame.is_before(f.frame));
    }

    /// When [`poll_request`](Self::poll_request) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence = self.timing.silence();
        let due = self.frames.iter().filter_map(|f| f.due(&self.path, silence)).min();
        due.max(self.affordable.filter(|_| due.is_some()))
    }

    /// The NACK due at `now`, if any. Call until there is none: not all frames may fit in one.
    /// `missing` returns the missing chunks of a frame, without a
    /// margin, or `None` if the frame is not being reassembled.
    pub fn poll_request(
        &mut self,
        now: Instant,
        mut missing: impl FnMut(FrameId) -> Option<MissingChunks>,
    ) -> Option<Request> {
        if self.affordable.is_some_and(|affordable| now < affordable) {
            return None;
        }
        let nack = self.due_nack(now, &mut missing);
        if nack.is_empty() {
            self.affordable = None;
            return None;
        }
        let copies = if self.path.loss_ratio >= LOSSY { 2 } else { 1 };
        let bytes = (nack.body_len() * copies as usize) as f64;
        let new = || TokenBucket::new(now, NACK_RATE, NACK_BURST);
        let budget = self.budget.get_or_insert_with(new);
        let is_affordable = budget.take(now, bytes);
        self.affordable = (!is_affordable).then(|| budget.next_at(bytes));
        if !is_affordable {
            self.counters.over_budget += nack.frames().len() as u64;
            return None;
        }
        self.record(now, &nack);
        Some(Request { nack, copies })
    }

    /// The NACK that is due, whether or not the budget allows it, for as many frames as fit. Closes
    /// frames for which no more are sent.
    fn due_nack(
        &mut self,
        now: Instant,
        missing: &mut impl FnMut(FrameId) -> Option<MissingChunks>,
    ) -> Nack {
        let silence = self.timing.silence();
        let mut nack = Nack::new(self.requests.wrapping_add(1));
        for index in 0..self.frames.len() {
            if self.frames[index].due(&self.path, silence).is_none_or(|due| due > now) {
                continue;
            }
            if !self.is_in_time(now, index) {
                self.frames[index].closed = true;
                self.counters.pointless += 1;
                continue;
            }
            let tracked = &mut self.frames[index];
            let Some(mut wanted) = missing(tracked.frame).filter(|m| !m.is_empty()) else {
                tracked.closed = true;
                continue;
            };
            let tail_lost = !tracked.has_last_chunk || tracked.rounds > 0;
            wanted.add_margin(|needed| margin(&self.path, needed, tail_lost));
            if !nack.push_within(wanted, MAX_BODY_LEN) {
                break;
            }
        }
        nack
    }

    /// Counts a NACK that is sent now, and a round for each of its frames.
    fn record(&mut self, now: Instant, nack: &Nack) {
        self.requests = nack.request;
        self.counters.nacks += 1;
        for missing in nack.frames() {
            let asked = self.frames.iter_mut().filter(|f| f.frame == missing.frame);
            for tracked in asked {
                self.counters.frames += u64::from(tracked.asked.is_none());
                tracked.rounds += 1;
                tracked.asked = Some(now);
            }
        }
    }

    /// Whether an answer to a NACK sent now would arrive before the frame is superseded or given
    /// up. While the round-trip time is unknown, only a first NACK is in time.
    fn is_in_time(&self, now: Instant, index: usize) -> bool {
        let tracked = self.frames[index];
        let Some(rtt) = self.path.rtt else { return tracked.rounds == 0 };
        let given_up = tracked.first_seen + self.deadline;
        let next = self.frames.iter().find(|f| tracked.frame.is_before(f.frame));
        let next = next.map(|f| f.first_seen);
        let next =
            next.or(self.timing.interval.get().map(|interval| tracked.first_seen + interval));
        let duration = self.timing.duration.longest().unwrap_or_default();
        let superseded = next.map_or(given_up, |next| next + duration);
        now + rtt <= superseded.min(given_up)
    }

    /// The index of `frame`, which is tracked from now on if it is new.
    fn follow(&mut self, now: Instant, frame: FrameId) -> Option<usize> {
        if let Some(index) = self.frames.iter().position(|f| f.frame == frame) {
            return Some(index);
        }
        let index = self.frames.iter().take_while(|f| f.frame.is_before(frame)).count();
        if self.frames.len() == MAX_NACK_FRAMES && index == 0 {
            return None;
        }
        for older in &mut self.frames[..index] {
            older.end(now, &mut self.timing);
        }
        if index == self.frames.len() {
            self.timing.interval.record(now);
        }
        let tracked = TrackedFrame {
            frame,
            first_seen: now,
            last_seen: now,
            // A newer frame has begun, so this one has ended.
            ended: (index < self.frames.len()).then_some(now),
            highest: None,
            has_last_chunk: false,
            gap: Duration::ZERO,
            rounds: 0,
            asked: None,
            closed: false,
        };
        self.frames.insert(index, tracked);
        if self.frames.len() <= MAX_NACK_FRAMES {
            return Some(index);
        }
        self.frames.remove(0);
        index.checked_sub(1)
    }
}

impl TrackedFrame {
    /// Records that the whole frame has been sent.
    fn end(&mut self, now: Instant, timing: &mut StreamTiming) {
        if self.ended.is_none() {
            self.ended = Some(now);
            timing.gap.record(self.gap);
        }
    }

    /// Handles a chunk of the first transmission or of an answer. One that arrives within a round
    /// trip of the NACK is not an answer, so the NACK was early and does not count.
    fn discard_early_nack(&mut self, now: Instant, path: &PathState) {
        let answer = self.asked.zip(path.rtt).map(|(asked, rtt)| asked + rtt);
        if self.rounds == 1 && self.ended.is_none() && answer.is_some_and(|answer| now < answer) {
            self.rounds = 0;
        }
    }

    /// When a NACK for the frame is due; `None` after the last one.
    fn due(&self, path: &PathState, silence: Silence) -> Option<Instant> {
        match self.rounds {
            _ if self.closed => None,
            0 => {
                let silent = self.last_seen + silence.quiet.max(path.grace);
                let silent = silent.max(self.first_seen + silence.duration);
                let ended = self.ended.map(|ended| ended.max(self.last_seen) + path.grace);
                Some(ended.map_or(silent, |ended| ended.min(silent)))
            }
            1..MAX_ROUNDS => {
                let answer = self.asked? + path.rtt? * 5 / 4;
                Some(answer.max(self.last_seen) + path.grace)
            }
            _ => None,
        }
    }
}

/// The usual timing of a stream's frames.
#[derive(Clone, Debug)]
struct StreamTiming {
    /// Between the first chunks of consecutive frames.
    interval: FrameInterval,
    /// Time from a frame's first to its last chunk.
    duration: RecentDurations,
    /// The longest time between two chunks of a frame.
    gap: RecentDurations,
}

impl StreamTiming {
    fn new() -> Self {
        Self {
            interval: FrameInterval::new(Smoothing::QUICK),
            duration: RecentDurations::default(),
            gap: RecentDurations::default(),
        }
    }

    /// The silence after which a frame counts as ended.
    fn silence(&self) -> Silence {
        Silence {
            quiet: self.gap.upper().unwrap_or(UNKNOWN_QUIET).clamp(MIN_QUIET, MAX_QUIET),
            duration: self.duration.upper().unwrap_or_default(),
        }
    }
}

/// A duration, as measured in the latest frames.
#[derive(Clone, Debug, Default)]
struct RecentDurations {
    last: VecDeque<Duration>,
    upper: Option<Duration>,
}

impl RecentDurations {
    fn record(&mut self, value: Duration) {
        if self.last.len() == REMEMBERED_FRAMES {
            self.last.pop_front();
        }
        self.last.push_back(value);
        let mut sorted = [Duration::ZERO; REMEMBERED_FRAMES];
        let sorted = &mut sorted[..self.last.len()];
        sorted.iter_mut().zip(&self.last).for_each(|(to, from)| *to = *from);
        let rare = sorted.len() / RARE;
        sorted.sort_unstable();
        self.upper = sorted.iter().rev().nth(rare).copied();
    }

    /// The maximum without rare outliers, such as those that delayed threads cause.
    fn upper(&self) -> Option<Duration> {
        self.upper
    }

    fn longest(&self) -> Option<Duration> {
        self.last.iter().max().copied()
    }
}

/// How long without a chunk until a frame counts as ended. Both times must have passed.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// Since its latest chunk.
    quiet: Duration,
    /// Since its first chunk.
    duration: Duration,
}

/// The number of chunks requested beyond those `needed`, since the answer may suffer loss too:
/// twice the expected loss, one more on a lossy path, and if the end of the frame or of an earlier
/// answer was lost, one and a half times the longest burst, since that burst may continue.
fn margin(path: &PathState, needed: u8, tail_lost: bool) -> u8 {
    let random = (f64::from(needed) * path.loss_ratio * 2.0).round() as u16;
    let lossy = u16::from(path.loss_ratio >= LOSSY);
    let burst =
        if tail_lost { (path.burst.saturating_mul(3) / 2).min(MAX_BURST_MARGIN) } else { 0 };
    (random + lossy + burst).min(u8::MAX.into()) as u8
}

/// The maximum length of a NACK's body, in bytes. The path to the sender is not probed, so a NACK
/// takes the shortest maximum datagram length. That is enough for a frame's 32 runs, and 34 blocks.
const MAX_BODY_LEN: usize = MIN_DATAGRAM_LEN - Form::Sealed.overhead();

/// Maximum number of NACKs for a frame.
const MAX_ROUNDS: u32 = 2;

/// The loss ratio from which NACKs are sent twice and one more chunk is requested.
const LOSSY: f64 = 0.02;

/// Maximum margin for a burst that may continue, in chunks. With a mean burst of 20, 9 of 10 are
/// over by then.
const MAX_BURST_MARGIN: u16 = 48;

/// Maximum rate of NACKs, in bytes per second. One of 20 bytes for each of 30 frames per second,
/// sent twice, takes 1200.
const NACK_RATE: f64 = 16_384.0;

/// Maximum bytes of NACKs sent at once.
const NACK_BURST: f64 = 4096.0;

/// The reorder grace until one is set.
const UNKNOWN_GRACE: Duration = Duration::from_millis(1);

/// The assumed longest pause within a frame until pauses have been measured.
const UNKNOWN_QUIET: Duration = Duration::from_millis(10);

/// Shorter pauses are not significant: threads are late by as much.
const MIN_QUIET: Duration = Duration::from_millis(2);

/// After a pause this long, a frame has ended whatever its earlier pauses were.
const MAX_QUIET: Duration = Duration::from_millis(30);

/// Frames whose pauses and durations are kept.
const REMEMBERED_FRAMES: usize = 32;

/// One in this many of them counts as an outlier.
const RARE: usize = 12;

#[cfg(test)]
mod tests;
