//! The terminal on standard input, which is not read while the program runs in the background.

use std::{
    io::{self, BufReader, Read},
    time::Duration,
};

/// Whether this program receives what is typed at the terminal. Also true if standard input is not
/// a terminal.
#[cfg(unix)]
pub(crate) fn is_foreground() -> bool {
    // Fails if standard input is not a terminal, or not this program's controlling terminal.
    let foreground = rustix::termios::tcgetpgrp(io::stdin());
    foreground.is_ok_and(|group| group == rustix::process::getpgrp()) || foreground.is_err()
}

/// Job control exists on Unix only.
#[cfg(not(unix))]
pub(crate) fn is_foreground() -> bool {
    true
}

/// Waits until the program runs in the foreground.
pub(crate) fn wait_for_foreground() {
    while !is_foreground() {
        std::thread::park_timeout(FOREGROUND_INTERVAL);
    }
}

/// Standard input. A read in the background waits for the foreground.
pub(crate) fn typed_input() -> BufReader<impl Read> {
    BufReader::new(Typed(io::stdin().lock()))
}

/// Discards typed but unread input when dropped; otherwise the shell would read it.
#[derive(Debug)]
pub(crate) struct DropsUnread;

impl Drop for DropsUnread {
    fn drop(&mut self) {
        // In the background, the input belongs to the foreground job.
        if is_foreground() {
            drop_unread();
        }
    }
}

#[cfg(unix)]
fn drop_unread() {
    use rustix::termios::{QueueSelector, tcflush};

    // Fails if standard input is not a terminal; then there is nothing to discard.
    let _ = tcflush(io::stdin(), QueueSelector::IFlush);
}

#[cfg(not(unix))]
fn drop_unread() {}

struct Typed(io::StdinLock<'static>);

impl Read for Typed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            wait_for_foreground();
            match self.0.read(buf) {
                // The program was moved to the background during the read. SIGTTIN is blocked, so
                // the read fails.
                Err(_) if !is_foreground() => {}
                result => return result,
            }
        }
    }
}

/// How often a program in the background checks for the foreground.
const FOREGROUND_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) mod invitation;
pub(crate) mod messages;
pub(crate) mod typing;
