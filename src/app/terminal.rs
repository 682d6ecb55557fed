//! The terminal that standard input may be: while the program runs in the background, nobody types.

use std::{
    io::{self, BufReader, Read},
    time::Duration,
};

/// Whether what is typed at the terminal comes to this program. Also true if standard input is no
/// terminal.
#[cfg(unix)]
pub(super) fn is_foreground() -> bool {
    // Fails if it is no terminal, or not the one that controls this program.
    let foreground = rustix::termios::tcgetpgrp(io::stdin());
    foreground.is_ok_and(|group| group == rustix::process::getpgrp()) || foreground.is_err()
}

/// Job control is a matter of Unix.
#[cfg(not(unix))]
pub(super) fn is_foreground() -> bool {
    true
}

/// Waits until the program runs in the foreground.
pub(super) fn wait_for_foreground() {
    while !is_foreground() {
        std::thread::park_timeout(FOREGROUND_INTERVAL);
    }
}

/// Standard input, which waits in the background for the foreground.
pub(super) fn typed_input() -> BufReader<impl Read> {
    BufReader::new(Typed(io::stdin().lock()))
}

/// Discards typed but unread input when dropped; the shell would take a half-typed line as its own.
#[derive(Debug)]
pub(super) struct DropsUnread;

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

    // Fails if standard input is no terminal, and then there is nothing to do.
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
                // The program was sent to the background meanwhile: SIGTTIN is held back, and the
                // read fails instead.
                Err(_) if !is_foreground() => {}
                result => return result,
            }
        }
    }
}

/// How often a program in the background looks whether it is in the foreground again.
const FOREGROUND_INTERVAL: Duration = Duration::from_millis(200);
