//! The stop flag that every thread checks: set by Ctrl-C, `q`, or the time limit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};

use super::signals;
use crate::clock;

/// Whether to stop. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that Ctrl-C, SIGTERM and SIGHUP set, unless they were ignored at the start. A second
    /// signal ends the program at once, in case something hangs. Signals within [`AT_ONCE`] of the
    /// first count as the same request: `timeout` sends two, and the peer should still receive the
    /// goodbye.
    pub(crate) fn on_signals() -> Result<Self> {
        let stop = Self::default();
        let raised = stop.clone();
        let mut first = None;
        signals::on_termination(move |exit_code| {
            let now = clock::now();
            if raised.is_requested() && first.is_none_or(|first| now - first >= AT_ONCE) {
                std::process::exit(exit_code);
            }
            first.get_or_insert(now);
            raised.request();
        })
        .context("cannot listen for signals")?;
        Ok(stop)
    }

    pub(crate) fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// Shorter than the time between two deliberate presses of Ctrl-C.
const AT_ONCE: Duration = Duration::from_millis(300);
