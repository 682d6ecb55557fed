//! The thread that owns the sockets and the protocol state.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    clock,
    net::{
        io::{Driver, Handle, NetStats},
        session::Event,
        wire::control::CloseReason,
    },
    threads::spawn,
};

/// A driver on a thread of its own. Dropping it says goodbye to the peers, and waits for the
/// thread.
#[derive(Debug)]
pub(crate) struct NetworkThread {
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<()>>,
    cpu_us: Arc<AtomicU64>,
}

/// The final state of a network thread.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Processor time used by it.
    pub(crate) cpu: Duration,
    pub(crate) stats: NetStats,
    /// Complete frames replaced by newer ones before they were taken.
    pub(crate) superseded: u64,
    /// The events that were not fetched.
    pub(crate) events: Vec<Event>,
}

impl NetworkThread {
    /// Runs `driver`, which `handle` belongs to.
    pub(crate) fn start(driver: Driver, handle: Handle) -> io::Result<Self> {
        let cpu_us = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cpu_us);
        let thread = spawn("network", move || {
            driver.run();
            counted.store(clock::thread_cpu().as_micros() as u64, Ordering::Relaxed);
        })?;
        Ok(Self { handle, thread: Some(thread), cpu_us })
    }

    /// Closes the sessions, waits for the thread, and returns the final statistics.
    pub(crate) fn finish(mut self, reason: CloseReason) -> Finished {
        self.end(reason);
        Finished {
            cpu: Duration::from_micros(self.cpu_us.load(Ordering::Relaxed)),
            stats: self.handle.stats(),
            superseded: self.handle.superseded(),
            events: std::iter::from_fn(|| self.handle.try_event()).collect(),
        }
    }

    /// Whether the thread has ended by itself.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&mut self, reason: CloseReason) {
        let Some(thread) = self.thread.take() else { return };
        self.handle.close(reason);
        if thread.join().is_err() {
            log::error!("the network thread panicked: please report this");
        }
    }
}

impl Drop for NetworkThread {
    fn drop(&mut self) {
        self.end(CloseReason::Quit);
    }
}
