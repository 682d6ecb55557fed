//! What threads tell the network thread, and hear from it, so that no frame is encoded in vain.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mio::Waker;

use crate::{
    clock,
    latest::{Latest, Taken},
    net::{
        frame::FrameId,
        session::{CallId, Delivered},
    },
};

/// What the network thread would do with another frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// Send it to receivers that will not take it.
    None,
    /// Let it replace the one that waits to be sent.
    Newer,
    /// Send it next.
    Next,
}

/// The demand for frames, shared with the threads that encode them.
#[derive(Clone, Debug)]
pub(super) struct SharedDemand(Arc<(Mutex<Demand>, Condvar)>);

impl SharedDemand {
    pub(super) fn new() -> Self {
        Self(Arc::new((Mutex::new(Demand::Next), Condvar::new())))
    }

    pub(super) fn set(&self, demand: Demand) {
        let mut state = self.lock();
        if std::mem::replace(&mut *state, demand) != demand {
            self.0.1.notify_all();
        }
    }

    /// Waits for at least this demand. Returns false after `timeout`.
    pub(super) fn wait(&self, least: Demand, timeout: Duration) -> bool {
        let waited = self.0.1.wait_timeout_while(self.lock(), timeout, |demand| *demand < least);
        *waited.unwrap_or_else(PoisonError::into_inner).0 >= least
    }

    fn lock(&self) -> MutexGuard<'_, Demand> {
        // No code panics under the lock.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A frame that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenFrame {
    pub(super) call: CallId,
    pub(super) frame: FrameId,
    /// How long it had waited since it was complete.
    pub(super) waited: Duration,
}

impl TakenFrame {
    /// A frame that is taken now.
    pub(super) fn of(delivered: &Delivered) -> Self {
        let Delivered { call, frame, .. } = delivered;
        let waited = clock::now().saturating_duration_since(frame.completed);
        Self { call: *call, frame: frame.id, waited }
    }
}

/// The frame that was taken last, for the network thread, while its sender is to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct TakenFrames {
    are_wanted: Arc<AtomicBool>,
    last: Latest<TakenFrame>,
}

impl TakenFrames {
    pub(super) fn are_wanted(&self) -> bool {
        self.are_wanted.load(Ordering::Relaxed)
    }

    pub(super) fn try_take(&self) -> Option<TakenFrame> {
        self.last.try_take()
    }

    /// Passes on what is `noted`, and wakes the network thread, until `noted` is closed.
    pub(super) fn relay(&self, noted: &Latest<TakenFrame>, waker: &Waker) {
        loop {
            match noted.take(IDLE_WAIT) {
                Taken::Value(frame) => {
                    self.last.put(frame);
                    // Waking fails only if the driver has ended.
                    let _ = waker.wake();
                }
                Taken::Closed => return,
                Taken::TimedOut | Taken::Nudged => {}
            }
        }
    }
}

/// Decides when senders are told which frames are taken: while several in a second are replaced by
/// newer ones before that, and for a while after, since a sender that is told no longer sends too
/// many.
#[derive(Debug, Default)]
pub(super) struct Saturation {
    /// Frames replaced since this time, which is less than a second ago.
    replaced: Option<(u32, Instant)>,
    until: Option<Instant>,
}

impl Saturation {
    /// Records that a frame was replaced.
    pub(super) fn record(&mut self, now: Instant, taken: &TakenFrames) {
        let recent = self.replaced.filter(|(_, since)| now < *since + COUNTED);
        let (count, since) = recent.unwrap_or((0, now));
        self.replaced = Some((count + 1, since));
        if count + 1 >= TOO_MANY {
            self.until = Some(now + KEPT);
            taken.are_wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the interest in frames taken when its time is over.
    pub(super) fn check(&mut self, now: Instant, taken: &TakenFrames) {
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            taken.are_wanted.store(false, Ordering::Relaxed);
        }
    }
}

/// Effectively forever.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

/// Fewer are replaced when a machine is busy for a moment.
const TOO_MANY: u32 = 4;
const COUNTED: Duration = Duration::from_secs(1);

/// When the messages stop, a few frames are replaced before they resume. So that is rare.
const KEPT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_wakes_the_one_who_waits() {
        let demand = SharedDemand::new();
        assert!(demand.wait(Demand::Next, Duration::ZERO));
        demand.set(Demand::Newer);
        assert!(demand.wait(Demand::Newer, Duration::ZERO));
        assert!(!demand.wait(Demand::Next, Duration::from_millis(1)));
        let waiter = demand.clone();
        let waiting =
            std::thread::spawn(move || waiter.wait(Demand::Next, Duration::from_secs(20)));
        demand.set(Demand::Next);
        assert!(waiting.join().expect("it waits"));
    }

    #[test]
    fn frames_taken_are_reported_for_a_while_after_one_was_replaced() {
        let (mut saturation, taken, now) =
            (Saturation::default(), TakenFrames::default(), clock::now());
        for second in 0..TOO_MANY {
            saturation.record(now + second * COUNTED, &taken);
            assert!(!taken.are_wanted(), "rarely");
        }
        let now = now + TOO_MANY * COUNTED;
        (0..TOO_MANY).for_each(|_| saturation.record(now, &taken));
        saturation.check(now + KEPT / 2, &taken);
        assert!(taken.are_wanted());
        saturation.check(now + KEPT, &taken);
        assert!(!taken.are_wanted());
    }
}
