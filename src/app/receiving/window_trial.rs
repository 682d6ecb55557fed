//! Tests whether the window toolkit works, where that is in doubt.
//!
//! A toolkit that cannot start ends the whole process (Qt aborts), and nothing in the process can
//! prevent that. A child process therefore opens a window first, but only in an unusual
//! environment, since that takes a tenth of a second.

use std::{
    io::Read,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Result;
use log::debug;
use thiserror::Error;

use crate::{
    cli::WINDOW_TRIAL,
    clock,
    video::sink::{
        display::{self, NoDisplay},
        window::{Pane, Screen, WindowSpec},
    },
};

/// Why windows cannot be opened.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum NoWindows {
    #[error(transparent)]
    NoDisplay(#[from] NoDisplay),
    /// The toolkit ended the child process with a message.
    #[error("the window toolkit does not start: {0}")]
    ToolkitFailed(String),
    /// The toolkit ended the child process without a message, or did not start in time.
    #[error("the window toolkit does not start")]
    ToolkitSilent,
}

/// Checks whether windows can be opened.
pub(crate) fn windows_work() -> Result<(), NoWindows> {
    display::available()?;
    if display::is_in_doubt() { try_in_child() } else { Ok(()) }
}

/// The child's work: opens a window.
pub(crate) fn run() -> Result<()> {
    let window = WindowSpec { title: "udpchat".into(), pane: Pane::Peer };
    Screen::open(&[window])?;
    Ok(())
}

fn try_in_child() -> Result<(), NoWindows> {
    let spawned = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.arg(WINDOW_TRIAL).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped()).spawn()
    });
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            debug!("cannot test the window toolkit before using it: {error}");
            return Ok(());
        }
    };
    let status = wait(&mut child);
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let mut output = String::new();
    if let (Some(_), Some(stderr)) = (status, &mut child.stderr) {
        let _ = stderr.take(MAX_OUTPUT_LEN).read_to_string(&mut output);
    }
    Err(reason(&output).map_or(NoWindows::ToolkitSilent, NoWindows::ToolkitFailed))
}

/// Waits for `child` to end; `None`: it took too long, or the wait failed, and it was killed.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    let until = clock::now() + START_TIMEOUT;
    while clock::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::park_timeout(POLL_INTERVAL),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// The line of a toolkit's output that names the cause, or else the last line.
fn reason(output: &str) -> Option<String> {
    let names_cause =
        |line: &&str| line.to_lowercase().contains("could not") || line.contains("cannot");
    let mut lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    let cause = lines.clone().find(names_cause).or_else(|| lines.next_back())?;
    let cause = cause.strip_prefix("qt.qpa.plugin: ").unwrap_or(cause);
    Some(cause.strip_prefix("udpchat: ").unwrap_or(cause).chars().take(MAX_REASON_LEN).collect())
}

/// A toolkit on a slow machine takes a second to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

const MAX_OUTPUT_LEN: u64 = 16 << 10;
const MAX_REASON_LEN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_extracted_from_toolkit_output() {
        let qt = "QStandardPaths: XDG_RUNTIME_DIR not set\n\
            qt.qpa.plugin: Could not find the Qt platform plugin \"x\" in \"\"\n\
            This application failed to start because no Qt platform plugin could be initialized.\n\n";
        let cause = "Could not find the Qt platform plugin \"x\" in \"\"";
        assert_eq!(reason(qt).as_deref(), Some(cause));
        assert_eq!(reason("one\ntwo\n\n").as_deref(), Some("two"));
        assert_eq!(reason("\n"), None);
    }
}
