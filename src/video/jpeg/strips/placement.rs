//! On which core helpers wake.
//!
//! Some kernels wake a thread on the core that it last ran on, or on that of its waker, and
//! look no further, although others are idle: there it waits until its waker sleeps, and what
//! was to be parallel is serial. Measured on two virtual cores with 30 ms between frames and
//! 0.5 ms of work for each of two threads: 1.04 ms until both are done, 0.56 ms with this.

use rayon_core::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use super::super::confine::confine_this_thread;

pub(super) use imp::Placement;

impl Placement {
    /// A pool of so many helpers that this places. They are confined: they do nothing but code.
    pub(super) fn pool(&self, helpers: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
        let placement = self.clone();
        ThreadPoolBuilder::new()
            .num_threads(helpers)
            .thread_name(|i| format!("strips {i}"))
            .start_handler(move |_| {
                placement.enroll();
                confine_this_thread();
            })
            .build()
    }

    /// Calls `wake`, which wakes helpers, so that they do not wake on the core of the calling
    /// thread. Afterwards they may go where they like, also there.
    pub(super) fn wake_elsewhere<T>(&self, wake: impl FnOnce() -> T) -> T {
        self.keep_off_this_core();
        let result = wake();
        self.allow_all_cores();
        result
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use rustix::{
        process::Pid,
        thread::{CpuSet, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity},
    };

    /// The helpers, each with the cores that it may use. Clones share the list.
    ///
    /// To move a thread is a favour of the kernel's; where it is refused, nothing is lost.
    #[derive(Clone, Debug, Default)]
    pub(in super::super) struct Placement(Arc<Mutex<Vec<(Pid, CpuSet)>>>);

    impl Placement {
        /// Adds the calling thread.
        pub(super) fn enroll(&self) {
            if let Ok(cores) = sched_getaffinity(None) {
                self.helpers().push((gettid(), cores));
            }
        }

        pub(super) fn keep_off_this_core(&self) {
            let here = sched_getcpu();
            for (helper, cores) in self.helpers().iter() {
                let mut others = *cores;
                others.unset(here);
                if others.count() > 0 {
                    let _ = sched_setaffinity(Some(*helper), &others);
                }
            }
        }

        pub(super) fn allow_all_cores(&self) {
            for (helper, cores) in self.helpers().iter() {
                let _ = sched_setaffinity(Some(*helper), cores);
            }
        }

        fn helpers(&self) -> MutexGuard<'_, Vec<(Pid, CpuSet)>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    /// Other kernels are left to themselves.
    #[derive(Clone, Debug, Default)]
    pub(in super::super) struct Placement;

    impl Placement {
        #[expect(clippy::unused_self, reason = "as on Linux")]
        pub(super) fn enroll(&self) {}

        #[expect(clippy::unused_self, reason = "as on Linux")]
        pub(super) fn keep_off_this_core(&self) {}

        #[expect(clippy::unused_self, reason = "as on Linux")]
        pub(super) fn allow_all_cores(&self) {}
    }
}
