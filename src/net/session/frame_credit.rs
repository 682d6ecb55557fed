//! Keeps a sender from sending frames that the receiver will never show.
//!
//! A receiver that cannot decode frames as fast as they come shows only the newest, and the others
//! were encoded and sent for nothing. It then tells the sender which frames it takes
//! ([`Message::Taken`]), and the sender begins the next frame when the last one was taken: one
//! credit. Over a path with a round-trip time, one credit leaves the receiver without work, since
//! its message and the next frame must cross the path first. So there is one more for each frame
//! interval of the round trip. A frame that is still taken as soon as it has arrived (the message
//! says how long it waited) shows that the receiver has no work: several in a row earn another
//! credit. A skipped frame costs one.
//!
//! A frame that begins at once would be old when a slow receiver takes it. So it is held back by
//! about the time that the frames before it have waited at the receiver.
//!
//! A receiver that keeps up sends no such messages, and nothing limits its sender.
//!
//! [`Message::Taken`]: crate::net::wire::control::Message::Taken

use std::time::{Duration, Instant};

use crate::net::frame::FrameId;

/// The credits for one receiver.
#[derive(Debug, Default)]
pub(super) struct FrameCredit {
    /// The newest frame that has begun, and when.
    begun: Option<(FrameId, Instant)>,
    /// `None`: the receiver takes every frame.
    limit: Option<Limit>,
    /// Whether the time of [`poll_timeout`](Self::poll_timeout) has come.
    is_released: bool,
}

/// The limit for a receiver that is slower than the source.
#[derive(Debug)]
struct Limit {
    /// The newest frame taken, and when its message arrived.
    taken: FrameId,
    at: Instant,
    /// The mean time between two frames taken.
    interval: Duration,
    /// How long after a message the next frame may begin.
    hold: Duration,
    /// Frames that may be begun and not taken yet.
    credits: u64,
    /// Frames in a row that were taken as soon as they had arrived.
    prompt: u32,
    /// How many of those earn another credit.
    needed: u32,
}

impl FrameCredit {
    /// Records that a frame begins.
    pub(super) fn record_begun(&mut self, now: Instant, frame: FrameId) {
        self.begun = Some((frame, now));
        self.is_released = false;
    }

    /// Handles the receiver's message that it has taken `frame`, which had `waited` there.
    /// `intervals`: the round-trip time in frame intervals.
    pub(super) fn handle_taken(
        &mut self,
        now: Instant,
        frame: FrameId,
        waited: Duration,
        intervals: f64,
    ) {
        let Some((begun, _)) = self.begun else { return };
        if begun.is_before(frame) {
            return;
        }
        let Some(limit) = &mut self.limit else {
            self.limit = Some(Limit::new(now, frame, intervals));
            return;
        };
        if !limit.taken.is_before(frame) {
            return;
        }
        limit.handle_taken(now, frame, waited, begun);
    }

    /// Whether the receiver will take another frame.
    pub(super) fn wants_frame(&self) -> bool {
        self.poll_timeout().is_none()
    }

    /// Ends the wait if its time has come.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.is_released |= self.poll_timeout().is_some_and(|until| until <= now);
    }

    /// When the next frame may begin without another message; `None`: now.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_released {
            return None;
        }
        let (limit, (begun, at)) = self.limit.as_ref().zip(self.begun)?;
        let is_blocked =
            limit.taken.is_before(begun) && limit.taken.distance_to(begun) >= limit.credits;
        if !is_blocked {
            return (!limit.hold.is_zero()).then(|| limit.at + limit.hold);
        }
        // The frame or the message may be lost, and the receiver may have become fast enough.
        let wait = (LOST_INTERVALS * limit.interval).clamp(MIN_WAIT, MAX_WAIT);
        Some((at + wait).min(limit.at + MAX_WAIT))
    }
}

impl Limit {
    fn new(now: Instant, taken: FrameId, intervals: f64) -> Self {
        Self {
            taken,
            at: now,
            interval: MAX_WAIT,
            hold: Duration::ZERO,
            credits: (1 + (intervals + ROUNDING) as u64).min(MAX_CREDITS),
            prompt: 0,
            needed: FIRST_NEEDED,
        }
    }

    fn handle_taken(&mut self, now: Instant, frame: FrameId, waited: Duration, begun: FrameId) {
        let had_none = self.taken.distance_to(begun) >= self.credits;
        let is_skipped = self.taken.next() != frame;
        let since = now.saturating_duration_since(self.at).min(MAX_WAIT);
        self.interval = (3 * self.interval + since) / 4;
        (self.taken, self.at) = (frame, now);
        // Frames should wait a little, so that the receiver is never without work.
        let wanted = (self.interval / 4).max(MIN_WAITED);
        self.hold = (self.hold + waited / 2).saturating_sub(wanted / 2).min(self.interval);
        if is_skipped && self.credits > 1 {
            // What was earned was too much: the next time takes longer.
            self.credits -= 1;
            self.needed = (2 * self.needed).min(MAX_NEEDED);
        }
        let is_prompt = had_none && !is_skipped && waited < PROMPT;
        self.prompt = if is_prompt { self.prompt + 1 } else { 0 };
        if self.prompt >= self.needed {
            self.prompt = 0;
            self.credits = (self.credits + 1).min(MAX_CREDITS);
        }
    }
}

/// A round trip of less than a quarter of an interval needs no credit of its own.
const ROUNDING: f64 = 0.75;

/// A frame that waits less than this has found the receiver without work.
const PROMPT: Duration = Duration::from_micros(200);

/// How long frames should wait at the receiver at least, since messages and frames are not always
/// equally fast.
const MIN_WAITED: Duration = Duration::from_millis(1);

/// Frames in a row that must be taken promptly before there is another credit.
const FIRST_NEEDED: u32 = 16;
const MAX_NEEDED: u32 = 1024;

/// Enough for 200 frames/s over a round trip of 80 ms.
const MAX_CREDITS: u64 = 16;

/// A frame not taken after so many intervals is lost, or its message is.
const LOST_INTERVALS: u32 = 4;
const MIN_WAIT: Duration = Duration::from_millis(10);

/// After this time without a message, nothing is limited.
const MAX_WAIT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    /// A sender and a receiver in virtual time.
    struct Run {
        credit: FrameCredit,
        now: Instant,
        next: u32,
    }

    impl Run {
        fn new() -> Self {
            Self { credit: FrameCredit::default(), now: clock::now(), next: 0 }
        }

        fn begin(&mut self) {
            assert!(self.credit.wants_frame());
            self.credit.record_begun(self.now, FrameId(self.next));
            self.next += 1;
        }

        fn take(&mut self, frame: u32, waited: Duration) {
            self.now += MS;
            self.credit.handle_taken(self.now, FrameId(frame), waited, 0.1);
        }
    }

    #[test]
    fn nothing_is_limited_without_messages() {
        let mut run = Run::new();
        (0..100).for_each(|_| run.begin());
        assert_eq!(run.credit.poll_timeout(), None);
    }

    #[test]
    fn the_next_frame_begins_when_the_last_one_was_taken() {
        let mut run = Run::new();
        run.begin();
        run.take(0, MS);
        for frame in 1..200 {
            run.begin();
            assert!(!run.credit.wants_frame(), "{frame}");
            run.take(frame, MS);
        }
    }

    #[test]
    fn frames_taken_promptly_earn_another_credit_and_a_skipped_one_costs_it() {
        let mut run = Run::new();
        run.begin();
        run.take(0, Duration::ZERO);
        for frame in 1..=FIRST_NEEDED {
            run.begin();
            assert!(!run.credit.wants_frame());
            run.take(frame, Duration::ZERO);
        }
        run.begin();
        run.begin();
        assert!(!run.credit.wants_frame(), "two credits");
        run.take(run.next - 1, MS);
        run.begin();
        assert!(!run.credit.wants_frame(), "one again");
    }

    /// A call over a long path, whose receiver was slow for a moment.
    #[test]
    fn a_round_trip_does_not_slow_a_stream() {
        let mut run = Run::new();
        run.begin();
        run.credit.handle_taken(run.now, FrameId(0), MS, 3.2);
        (0..4).for_each(|_| run.begin());
        assert!(!run.credit.wants_frame());
    }

    #[test]
    fn a_lost_frame_or_message_stops_the_sender_only_for_a_moment() {
        let mut run = Run::new();
        run.begin();
        run.take(0, MS);
        for frame in 1..50 {
            run.begin();
            run.take(frame, MS);
        }
        run.begin();
        let until = run.credit.poll_timeout().expect("blocked");
        assert!((MIN_WAIT..2 * MIN_WAIT).contains(&(until - run.now)), "{:?}", until - run.now);
        run.now = until;
        run.credit.handle_timeout(run.now);
        run.begin();
        run.take(99, MS);
        assert!(!run.credit.wants_frame(), "a frame that was never sent is not taken");
    }

    /// The receiver takes a frame every 100 ms, and frames cross in 5 ms.
    #[test]
    fn frames_for_a_slow_receiver_are_not_old_when_it_takes_them() {
        let mut run = Run::new();
        let began = run.now;
        run.begin();
        let mut waited = Duration::ZERO;
        for tick in 1..50 {
            run.now = began + 100 * tick * MS;
            run.credit.handle_taken(run.now, FrameId(run.next - 1), waited, 0.0);
            let hold = run.credit.poll_timeout().map_or(Duration::ZERO, |until| until - run.now);
            run.now += hold;
            run.credit.handle_timeout(run.now);
            run.begin();
            waited = (began + 100 * (tick + 1) * MS) - (run.now + 5 * MS);
        }
        assert!((10 * MS..40 * MS).contains(&waited), "{waited:?}");
    }

    #[test]
    fn a_receiver_that_falls_silent_limits_nothing() {
        let mut run = Run::new();
        run.begin();
        run.take(0, MS);
        for _ in 0..100 {
            run.begin();
            run.now += MAX_WAIT;
            run.credit.handle_timeout(run.now);
        }
    }
}
