//! The gate before a publisher's source.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Lets a publisher grab pictures only once someone may receive them, so that a file does not play
/// before. Clones share the state.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug)]
struct State {
    lets: Lets,
    /// Whether a receiver may not have taken a picture that passed early.
    early_lost: bool,
}

/// Why a picture may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// A receiver may accept the call.
    Early,
    /// A receiver is connected.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lets {
    /// No picture passes.
    None,
    /// One picture may pass, the first.
    One,
    /// It has passed.
    Passed,
    /// All pass.
    All,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self::new(Lets::None)
    }

    pub(crate) fn opened() -> Self {
        Self::new(Lets::All)
    }

    fn new(lets: Lets) -> Self {
        let state = State { lets, early_lost: false };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    /// Opens it for good: a receiver is connected.
    pub(crate) fn open(&self) {
        self.lock().lets = Lets::All;
        self.0.1.notify_all();
    }

    /// Lets one picture pass, unless one has: a receiver may accept the call. A second one may be
    /// the last of its source, and lost if the call rings.
    pub(crate) fn let_one_pass(&self) {
        let mut state = self.lock();
        if state.lets == Lets::None {
            state.lets = Lets::One;
            self.0.1.notify_all();
        }
    }

    /// Records that a receiver may not have taken the picture that passed early.
    pub(crate) fn record_loss(&self) {
        self.lock().early_lost = true;
    }

    /// Whether a receiver may not have taken a picture that passed early.
    pub(crate) fn lost_early(&self) -> bool {
        self.lock().early_lost
    }

    /// Waits until a picture may pass. `None` after `timeout`.
    pub(crate) fn pass(&self, timeout: Duration) -> Option<Pass> {
        let is_closed = |state: &mut State| matches!(state.lets, Lets::None | Lets::Passed);
        let waited = self.0.1.wait_timeout_while(self.lock(), timeout, is_closed);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.lets {
            Lets::None | Lets::Passed => None,
            Lets::One => {
                state.lets = Lets::Passed;
                Some(Pass::Early)
            }
            Lets::All => Some(Pass::Open),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics under the lock.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_picture_passes_before_the_gate_is_open() {
        let gate = Gate::closed();
        let pass = || gate.pass(Duration::ZERO);
        assert_eq!(pass(), None);
        gate.let_one_pass();
        assert_eq!(pass(), Some(Pass::Early));
        gate.let_one_pass();
        assert_eq!(pass(), None);
        gate.open();
        gate.let_one_pass();
        assert_eq!((pass(), pass()), (Some(Pass::Open), Some(Pass::Open)));
    }

    #[test]
    fn opening_wakes_the_one_who_waits() {
        let gate = Gate::closed();
        let waiter = gate.clone();
        let waiting = std::thread::spawn(move || waiter.pass(Duration::from_secs(20)));
        gate.open();
        assert_eq!(waiting.join().expect("it waits"), Some(Pass::Open));
    }
}
