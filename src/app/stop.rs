//! One flag that every thread looks at: Ctrl-C, `q`, the end of the time.

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
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that Ctrl-C, SIGTERM and SIGHUP raise, unless they were ignored at the start. The
    /// second signal ends the program on the spot, in case something hangs. Signals that come at
    /// once with the first are the same request: `timeout` sends two, and the peer should still
    /// hear a goodbye.
    pub(super) fn on_signals() -> Result<Self> {
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

    pub(super) fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// Nobody presses Ctrl-C a second time sooner and means it.
const AT_ONCE: Duration = Duration::from_millis(300);
