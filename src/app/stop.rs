//! One flag that every thread looks at: Ctrl-C, `q`, the end of the time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};

/// Whether to stop. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that Ctrl-C, SIGTERM and SIGHUP raise. The second time they end the program on the
    /// spot, in case something hangs.
    pub(super) fn on_signals() -> Result<Self> {
        let stop = Self::default();
        let raised = stop.clone();
        ctrlc::set_handler(move || {
            if raised.is_requested() {
                std::process::exit(EXIT_INTERRUPTED);
            }
            raised.request();
        })
        .context("cannot listen for Ctrl-C")?;
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

/// 128 and the number of SIGINT, as shells report it.
const EXIT_INTERRUPTED: i32 = 130;
