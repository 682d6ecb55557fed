//! A sandboxed thread that does work while its caller waits.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use log::warn;
use rayon_core::{ThreadPool, ThreadPoolBuilder};

use super::sandbox::sandbox_this_thread;
use crate::clock;

/// A [sandboxed](super::sandbox) thread, started when first needed.
#[derive(Default)]
pub(super) struct SandboxThread {
    /// `None`: it could not be started, or is not wanted.
    thread: OnceLock<Option<ThreadPool>>,
    /// Processor time that it has used, in nanoseconds.
    cpu: AtomicU64,
}

impl SandboxThread {
    /// Creates one without a thread of its own or a sandbox: the work runs on the calling thread.
    pub(super) fn unsandboxed() -> Self {
        Self { thread: OnceLock::from(None), cpu: AtomicU64::new(0) }
    }

    /// Runs `work` on the thread and waits for it. A panic is propagated.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let Some(thread) = self.thread.get_or_init(start) else { return work() };
        thread.install(|| {
            let before = clock::thread_cpu();
            let result = work();
            let used = clock::thread_cpu().saturating_sub(before);
            self.cpu.fetch_add(used.as_nanos() as u64, Ordering::Relaxed);
            result
        })
    }

    /// Processor time that the thread has used so far.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Ordering::Relaxed))
    }
}

fn start() -> Option<ThreadPool> {
    let thread = ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "decode".into())
        .start_handler(|_| {
            sandbox_this_thread();
        })
        .build();
    thread.inspect_err(|error| warn!("cannot start the decoding thread: {error}")).ok()
}

impl fmt::Debug for SandboxThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxThread").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn work_runs_on_one_other_thread_and_its_cpu_time_counts() {
        let sandbox_thread = SandboxThread::default();
        let mut threads = Vec::new();
        for _ in 0..3 {
            sandbox_thread.run(|| threads.push(thread::current().id()));
        }
        assert!(threads.iter().all(|id| *id == threads[0] && *id != thread::current().id()));
        assert!(sandbox_thread.cpu() > Duration::ZERO);
    }

    #[test]
    fn a_panic_propagates_and_the_thread_survives() {
        let sandbox_thread = SandboxThread::default();
        let run = std::panic::AssertUnwindSafe(|| sandbox_thread.run(|| panic!("ours")));
        assert!(std::panic::catch_unwind(run).is_err());
        assert_eq!(sandbox_thread.run(|| 7), 7);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn work_in_the_sandbox_cannot_open_files() {
        let could = SandboxThread::default().run(|| std::fs::File::open("/dev/null").is_ok());
        assert_eq!(
            could,
            crate::video::jpeg::sandbox_status() == crate::video::jpeg::SandboxStatus::default()
        );
    }
}
