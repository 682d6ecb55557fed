//! `Latest<T>`: a one-slot mailbox between threads, in which the newest value wins.
//!
//! A queue of pictures adds latency: a slow consumer should skip to the newest. The mailbox
//! therefore holds one value. Putting another replaces a value that was not taken, and counts it.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A one-slot mailbox. Clones share the slot.
#[derive(Debug)]
pub struct Latest<T> {
    shared: Arc<Shared<T>>,
}

/// The result of a wait for a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// The newest value.
    Value(T),
    /// No value, but the waiter was woken to check something else.
    Nudged,
    /// No value within the timeout.
    TimedOut,
    /// No value, and the mailbox is closed.
    Closed,
}

impl<T> Taken<T> {
    /// Maps the value, if there is one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Taken<U> {
        match self {
            Self::Value(value) => Taken::Value(change(value)),
            Self::Nudged => Taken::Nudged,
            Self::TimedOut => Taken::TimedOut,
            Self::Closed => Taken::Closed,
        }
    }
}

impl<T> Latest<T> {
    /// An empty mailbox.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `value`, and returns the value that it replaced, if that was not taken.
    ///
    /// On a closed mailbox, returns `value` itself.
    pub fn put(&self, value: T) -> Option<T> {
        let mut slot = self.lock();
        if slot.closed {
            return Some(value);
        }
        let replaced = slot.value.replace(value);
        slot.superseded += u64::from(replaced.is_some());
        drop(slot);
        self.shared.put.notify_one();
        replaced
    }

    /// Takes the value, if there is one.
    pub fn try_take(&self) -> Option<T> {
        self.hand_out(&mut self.lock())
    }

    /// Wakes the current or next waiter without a value.
    pub fn nudge(&self) {
        self.lock().nudged = true;
        self.shared.put.notify_one();
    }

    /// Waits up to `timeout` for a value or a nudge. A value put before the mailbox was closed is
    /// still returned. Returning a value also clears a pending nudge.
    pub fn take(&self, timeout: Duration) -> Taken<T> {
        let slot = self.lock();
        let (mut slot, _) = self
            .shared
            .put
            .wait_timeout_while(slot, timeout, |s| s.value.is_none() && !s.closed && !s.nudged)
            .unwrap_or_else(PoisonError::into_inner);
        let nudged = std::mem::take(&mut slot.nudged);
        match self.hand_out(&mut slot) {
            Some(value) => Taken::Value(value),
            None if slot.closed => Taken::Closed,
            None if nudged => Taken::Nudged,
            None => Taken::TimedOut,
        }
    }

    /// Waits up to `timeout` for a value or a nudge, and leaves both.
    pub fn wait(&self, timeout: Duration) {
        let is_idle = |s: &mut Slot<T>| s.value.is_none() && !s.closed && !s.nudged;
        drop(self.shared.put.wait_timeout_while(self.lock(), timeout, is_idle));
    }

    /// Waits up to `timeout` for a nudge, and leaves the value, if there is one.
    pub fn wait_nudge(&self, timeout: Duration) -> Taken<T> {
        let is_idle = |s: &mut Slot<T>| !s.closed && !s.nudged;
        let waited = self.shared.put.wait_timeout_while(self.lock(), timeout, is_idle);
        let (mut slot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut slot.nudged) { Taken::Nudged } else { Taken::TimedOut }
    }

    /// Waits up to `timeout` until the value is taken or the mailbox is closed. Returns true if the
    /// mailbox is empty.
    ///
    /// For a producer that makes values on demand.
    pub fn wait_empty(&self, timeout: Duration) -> bool {
        let mut slot = self.lock();
        slot.awaited = true;
        let (mut slot, _) = self
            .shared
            .taken
            .wait_timeout_while(slot, timeout, |s| s.value.is_some() && !s.closed)
            .unwrap_or_else(PoisonError::into_inner);
        slot.awaited = false;
        slot.value.is_none()
    }

    /// Closes the mailbox and wakes all waiters.
    pub fn close(&self) {
        self.lock().closed = true;
        self.shared.put.notify_all();
        self.shared.taken.notify_all();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The number of values replaced before they were taken.
    pub fn superseded(&self) -> u64 {
        self.lock().superseded
    }

    fn hand_out(&self, slot: &mut Slot<T>) -> Option<T> {
        let value = slot.value.take();
        // Most mailboxes have no thread waiting for this, and waking costs a system call.
        if slot.awaited && value.is_some() {
            self.shared.taken.notify_all();
        }
        value
    }

    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        // No foreign code runs under the lock, so a poisoned slot is still consistent.
        self.shared.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        let slot =
            Slot { value: None, superseded: 0, closed: false, nudged: false, awaited: false };
        let (put, taken) = (Condvar::new(), Condvar::new());
        Self { shared: Arc::new(Shared { slot: Mutex::new(slot), put, taken }) }
    }
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<T> {
    slot: Mutex<Slot<T>>,
    put: Condvar,
    taken: Condvar,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    superseded: u64,
    closed: bool,
    nudged: bool,
    /// Whether a thread waits until the value is taken.
    awaited: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn the_newest_value_wins_and_superseded_ones_are_counted() {
        let mailbox = Latest::new();
        assert_eq!(mailbox.put(1), None);
        assert_eq!(mailbox.put(2), Some(1));
        assert_eq!(mailbox.put(3), Some(2));
        assert_eq!(mailbox.take(LONG), Taken::Value(3));
        assert_eq!(mailbox.try_take(), None);
        assert_eq!(mailbox.superseded(), 2);
    }

    #[test]
    fn take_returns_at_the_timeout() {
        assert_eq!(Latest::<u8>::new().take(Duration::from_millis(1)), Taken::TimedOut);
    }

    #[test]
    fn a_value_put_before_closing_is_still_delivered() {
        let mailbox = Latest::new();
        mailbox.put(7);
        mailbox.close();
        assert_eq!(mailbox.put(8), Some(8));
        assert_eq!(mailbox.take(LONG), Taken::Value(7));
        assert_eq!(mailbox.take(LONG), Taken::Closed);
    }

    #[test]
    fn a_nudge_wakes_once_and_a_value_replaces_it() {
        let mailbox = Latest::new();
        mailbox.nudge();
        assert_eq!(mailbox.take(LONG), Taken::Nudged);
        mailbox.nudge();
        mailbox.put(7);
        assert_eq!(mailbox.take(LONG), Taken::Value(7));
        assert_eq!(mailbox.take(Duration::from_millis(1)), Taken::TimedOut);
    }

    #[test]
    fn waiting_leaves_the_value() {
        let mailbox = Latest::new();
        mailbox.put(1);
        mailbox.wait(LONG);
        assert_eq!(mailbox.wait_nudge(Duration::ZERO), Taken::TimedOut);
        mailbox.nudge();
        mailbox.wait(LONG);
        assert_eq!(mailbox.wait_nudge(LONG), Taken::Nudged);
        assert_eq!(mailbox.take(LONG), Taken::Value(1));
        mailbox.wait(Duration::ZERO);
        mailbox.close();
        mailbox.wait(LONG);
        assert_eq!(mailbox.wait_nudge(LONG), Taken::TimedOut);
    }

    #[test]
    fn wait_empty_returns_once_the_value_is_taken() {
        let mailbox = Latest::new();
        assert!(mailbox.wait_empty(LONG));
        mailbox.put(7);
        assert!(!mailbox.wait_empty(Duration::from_millis(1)));
        let waiting = mailbox.clone();
        let thread = std::thread::spawn(move || waiting.wait_empty(LONG));
        assert_eq!(mailbox.take(LONG), Taken::Value(7));
        assert!(thread.join().expect("no panic"));
    }

    #[test]
    fn closing_wakes_the_waiting_thread() {
        let mailbox = Latest::<u8>::new();
        let waiting = mailbox.clone();
        let thread = std::thread::spawn(move || waiting.take(LONG));
        mailbox.close();
        assert_eq!(thread.join().expect("no panic"), Taken::Closed);
    }
}
