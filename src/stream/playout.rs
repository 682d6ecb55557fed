//! The playout buffer: shows received frames at once, or after a delay that absorbs the network's
//! jitter.
//!
//! Transit is the time from capture to completion, with an unknown offset between the two clocks.
//! The smallest transit of the last 10 to 20 s is that of a frame without extra delay. A frame is
//! shown `delay` after the time at which it would have arrived with that transit. If it arrives
//! later than that, it is shown at once.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::{
    session::{CallId, Delivered},
    windowed_max::WindowedMax,
};

/// Holds frames until they are due. Of several due frames, the newest wins.
#[derive(Debug)]
pub(crate) struct Playout {
    delay: Duration,
    /// Oldest first, each with the time from which it may be shown.
    held: VecDeque<(Instant, Delivered)>,
    call: Option<CallId>,
    /// Our clock at the first frame, the arbitrary zero of transits.
    origin: Option<Instant>,
    /// In microseconds.
    least_transit: WindowedMax<Reverse<i128>>,
    superseded: u64,
}

impl Playout {
    /// Shows frames `delay` after an undelayed frame would arrive; at once if `delay` is zero.
    pub(crate) fn new(delay: Duration) -> Self {
        Self {
            delay,
            held: VecDeque::new(),
            call: None,
            origin: None,
            least_transit: WindowedMax::new(TRANSIT_SPAN),
            superseded: 0,
        }
    }

    /// Whether frames are held at all.
    pub(crate) fn is_delayed(&self) -> bool {
        !self.delay.is_zero()
    }

    /// Whether no frame is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Adds a frame.
    pub(crate) fn push(&mut self, delivered: Delivered) {
        let since = self.due_at(&delivered);
        if self.held.len() == MAX_HELD {
            self.held.pop_front();
            self.superseded += 1;
        }
        self.held.push_back((since, delivered));
    }

    /// Takes the newest frame that is due at `now` and discards those before it.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Delivered> {
        let newest = self.held.iter().rposition(|(since, _)| *since <= now)?;
        self.superseded += newest as u64;
        self.held.drain(..=newest).next_back().map(|(_, delivered)| delivered)
    }

    /// When the next frame is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.held.iter().map(|(since, _)| *since).min()
    }

    /// Frames that were never shown, because a newer one was due or the buffer was full.
    pub(crate) fn superseded(&self) -> u64 {
        self.superseded
    }

    /// The time from which a frame may be shown.
    fn due_at(&mut self, delivered: &Delivered) -> Instant {
        let completed = delivered.frame.completed;
        if self.delay.is_zero() {
            return completed;
        }
        // Another sender's clock has another origin.
        if self.call.replace(delivered.call) != Some(delivered.call) {
            self.least_transit = WindowedMax::new(TRANSIT_SPAN);
        }
        let origin = *self.origin.get_or_insert(completed);
        let arrived = completed.saturating_duration_since(origin).as_micros() as i128;
        let transit = arrived - i128::from(delivered.frame.captured.as_micros());
        self.least_transit.record(completed, Reverse(transit));
        let least = self.least_transit.max(completed).map_or(transit, |Reverse(least)| least);
        let held_up = Duration::from_micros(u64::try_from(transit - least).unwrap_or(u64::MAX));
        completed + self.delay.saturating_sub(held_up)
    }
}

/// The smallest transit is kept for this long to twice this long. In 20 s, clocks with a
/// relative error of 0.1 ‰ drift by 2 ms. A path that has become longer takes effect after that
/// time.
const TRANSIT_SPAN: Duration = Duration::from_secs(10);

/// The most frames held; beyond it, the oldest is dropped. The longest delay is one second, in
/// which a camera at 60 frames a second delivers half that many.
const MAX_HELD: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, net::time::MediaTime};

    const MS: Duration = Duration::from_millis(1);

    /// Frame `id` of `call`, captured `captured_ms` after that sender's zero and complete at
    /// `arrived`.
    fn frame(call: u64, id: u32, captured_ms: u64, arrived: Instant) -> Delivered {
        let mut delivered = Delivered::example(id, &[0; 10], arrived);
        delivered.call = CallId(call);
        delivered.frame.captured = MediaTime::from_micros(captured_ms * 1000);
        delivered
    }

    fn id(taken: Option<Delivered>) -> Option<u32> {
        taken.map(|delivered| delivered.frame.id.0)
    }

    #[test]
    fn without_a_playout_delay_frames_are_due_on_arrival() {
        let now = clock::now();
        let mut playout = Playout::new(Duration::ZERO);
        for (i, held_up) in [(0, 0), (1, 50), (2, 20)] {
            let at = now + MS * (33 * i + held_up);
            playout.push(frame(1, i, u64::from(33 * i), at));
            assert_eq!(id(playout.take_due(at)), Some(i));
        }
        assert_eq!((playout.superseded(), playout.next_due()), (0, None));
    }

    #[test]
    fn jitter_below_the_playout_delay_is_smoothed() {
        let now = clock::now();
        let mut playout = Playout::new(40 * MS);
        // The first is the fastest; captured every 33 ms on a clock that began 7 s before ours.
        for (i, held_up) in [(0, 0), (1, 25), (2, 3), (3, 39), (4, 12)] {
            let at = now + MS * (33 * i + held_up);
            playout.push(frame(1, i, u64::from(7000 + 33 * i), at));
            let due = now + MS * (33 * i + 40);
            assert_eq!(playout.next_due(), Some(due), "frame {i}");
            assert_eq!(id(playout.take_due(now + MS * (33 * i + 39))), None);
            assert_eq!(id(playout.take_due(due)), Some(i));
        }
        assert_eq!(playout.superseded(), 0);
    }

    #[test]
    fn after_a_stall_the_newest_due_frame_is_shown_at_once() {
        let now = clock::now();
        let mut playout = Playout::new(40 * MS);
        playout.push(frame(1, 0, 0, now));
        assert_eq!(id(playout.take_due(now + 40 * MS)), Some(0));
        // A stall: three arrive together.
        let at = now + 120 * MS;
        for (i, captured) in [(1, 33), (2, 66), (3, 99)] {
            playout.push(frame(1, i, captured, at));
        }
        assert_eq!(playout.next_due(), Some(at));
        assert_eq!(id(playout.take_due(at)), Some(2), "frame 3 is only due at 139 ms");
        assert_eq!(playout.superseded(), 1);
        assert_eq!(id(playout.take_due(now + 138 * MS)), None);
        assert_eq!(id(playout.take_due(now + 139 * MS)), Some(3));
    }

    #[test]
    fn each_sender_has_its_own_playout_clock() {
        let now = clock::now();
        let mut playout = Playout::new(40 * MS);
        playout.push(frame(1, 0, 1_000_000, now));
        // By the first sender's clock it would be far overdue and not held.
        playout.push(frame(2, 0, 5, now + 10 * MS));
        assert_eq!(id(playout.take_due(now + 49 * MS)), Some(0));
        assert_eq!(playout.next_due(), Some(now + 50 * MS));
    }

    #[test]
    fn the_number_of_held_frames_is_bounded() {
        let now = clock::now();
        let mut playout = Playout::new(1000 * MS);
        for i in 0..500 {
            playout.push(frame(1, i, u64::MAX / 1000, now));
        }
        assert_eq!((playout.held.len(), playout.superseded()), (MAX_HELD, 380));
        assert_eq!(id(playout.take_due(now + 1000 * MS)), Some(499));
        assert_eq!(playout.superseded(), 499);
    }
}
