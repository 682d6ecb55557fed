//! Asks the program to stop on a signal.

use std::time::Duration;

use anyhow::{Context, Result};

use super::signals;
use crate::{clock, stream::stop_flag::StopFlag};

/// A flag that Ctrl-C, SIGTERM and SIGHUP set, unless they were ignored at the start. A second
/// signal, or one while the program is already ending, ends it at once, in case something hangs.
/// Signals within [`SAME_REQUEST_WINDOW`] of the first count as the same request: `timeout` sends
/// two, and the peer should still receive the goodbye.
pub(crate) fn stop_on_signals() -> Result<StopFlag> {
    let stop = StopFlag::default();
    let raised = stop.clone();
    let mut first = None;
    signals::on_termination(move |exit_code| {
        let now = clock::now();
        if raised.is_requested() && first.is_none_or(|first| now - first >= SAME_REQUEST_WINDOW) {
            std::process::exit(exit_code);
        }
        first.get_or_insert(now);
        raised.request();
    })
    .context("cannot listen for signals")?;
    Ok(stop)
}

/// Shorter than the time between two deliberate presses of Ctrl-C.
const SAME_REQUEST_WINDOW: Duration = Duration::from_millis(300);
