//! Messages for people, on standard error. Standard output is for the program's results, such as
//! video, JSON, lists, reports, and text from a peer.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Writes messages. Clones share the status line.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    quiet: bool,
    is_terminal: bool,
    status_shown: Arc<AtomicBool>,
}

impl Messages {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, is_terminal: std::io::stderr().is_terminal(), status_shown: Arc::default() }
    }

    /// Prints a line, unless `--quiet` is given.
    pub(crate) fn info(&self, line: &str) {
        if !self.quiet {
            self.print(line);
        }
    }

    /// Prints a question or another line that the user must see, even with `--quiet`.
    pub(crate) fn prompt(&self, question: &str) {
        self.print(question);
    }

    /// Prints the one line that says why the program failed.
    pub(crate) fn error(&self, line: &str) {
        self.print(&format!("udpchat: {}", line.replace('\n', " ")));
    }

    /// Prints a line that the next one replaces, on a terminal only and not with `--quiet`.
    pub(crate) fn status(&self, line: &str) {
        if !self.quiet && self.is_terminal {
            self.status_shown.store(true, Ordering::Relaxed);
            write(&format!("{CLEAR_LINE}{line}"));
        }
    }

    /// Removes the status line.
    pub(crate) fn end_status(&self) {
        if self.status_shown.swap(false, Ordering::Relaxed) {
            write(CLEAR_LINE);
        }
    }

    fn print(&self, line: &str) {
        self.end_status();
        write(&format!("{line}\n"));
    }
}

/// A single write, so that lines from several threads do not mix. Errors are ignored: there is
/// nowhere to report them.
fn write(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

const CLEAR_LINE: &str = "\r\u{1b}[2K";
