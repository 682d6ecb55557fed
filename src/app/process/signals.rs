//! Signal handling: which signals end the program and which are blocked.

#[cfg(unix)]
pub(crate) use unix::{block_stop_signals, on_termination};

/// No signals to block on this platform.
#[cfg(not(unix))]
pub(crate) fn block_stop_signals() {}

/// Calls `handler` with an exit code for each Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn on_termination(mut handler: impl FnMut(i32) + Send + 'static) -> anyhow::Result<()> {
    Ok(ctrlc::set_handler(move || handler(130))?)
}

#[cfg(unix)]
mod unix {
    use std::thread;

    use anyhow::Result;
    use log::debug;
    use nix::sys::signal::{SigSet, Signal};
    use signal_hook::{
        consts::{SIGHUP, SIGINT, SIGTERM},
        iterator::Signals,
    };

    /// Blocks signals that would stop or kill the program, so that the system call that caused them
    /// returns instead. Must run on the main thread before any other thread starts, since threads
    /// inherit the mask.
    ///
    /// A read from the terminal in the background then fails with `EIO` (SIGTTIN would stop the
    /// program and the video), a write to a terminal set to `tostop` succeeds (SIGTTOU), and a
    /// write to a file at its size limit fails with `EFBIG` (SIGXFSZ).
    pub(crate) fn block_stop_signals() {
        let mut blocked = SigSet::empty();
        blocked.extend([Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGXFSZ]);
        if let Err(error) = blocked.thread_block() {
            debug!("cannot block signals: {error}");
        }
    }

    /// Calls `handler` on its own thread with the exit code for each SIGINT, SIGTERM and SIGHUP. A
    /// signal that was ignored when the program started stays ignored: `nohup` ignores SIGHUP, and
    /// a shell without job control ignores SIGINT for background commands.
    pub(crate) fn on_termination(mut handler: impl FnMut(i32) + Send + 'static) -> Result<()> {
        let ignored = Ignored::now();
        let taken = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !ignored.has(signal));
        let mut signals = Signals::new(taken)?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                handler(SIGNAL_EXIT_BASE + signal);
            }
        })?;
        Ok(())
    }

    /// The signals that this process ignores, one bit each.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Ignored(u64);

    impl Ignored {
        /// Reads them from `/proc`; empty where there is none. `sigaction` would be portable, but
        /// it is unsafe in every crate that offers it.
        fn now() -> Self {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            Self::parse(&status)
        }

        fn parse(status: &str) -> Self {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
            let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            Self(mask.unwrap_or_default())
        }

        fn has(self, signal: i32) -> bool {
            self.0 >> (signal - 1) & 1 == 1
        }
    }

    /// A shell reports the death of a program by a signal as this plus the signal's number.
    const SIGNAL_EXIT_BASE: i32 = 128;

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_mask_of_ignored_signals_is_parsed() {
            let status = "Name:\tudpchat\nSigBlk:\t0000000000000003\nSigIgn:\t0000000000001001\n";
            let ignored = Ignored::parse(status);
            assert!(ignored.has(SIGHUP) && !ignored.has(SIGINT) && !ignored.has(SIGTERM));
            assert_eq!(Ignored::parse("Name:\tudpchat\n"), Ignored::default());
        }
    }
}
