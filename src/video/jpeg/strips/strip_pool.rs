//! A thread pool that processes the strips of one frame.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use log::warn;
use rayon_core::{Scope, ThreadPool};

use super::placement::Placement;
use crate::clock;

/// The calling thread and its helpers.
///
/// The helpers sleep between frames. They are started with the first work to share, or earlier by
/// [`start_helpers`](Self::start_helpers).
pub(in crate::video::jpeg) struct StripPool {
    threads: usize,
    pool: Option<ThreadPool>,
    placement: Placement,
    /// Processor time of the helpers, in nanoseconds.
    helpers_cpu: AtomicU64,
}

impl StripPool {
    /// As many threads as the machine has cores, up to [`MAX_THREADS`].
    pub(in crate::video::jpeg) fn new() -> Self {
        Self::of(std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS))
    }

    /// `threads` threads, including the calling one.
    pub(in crate::video::jpeg) fn of(threads: usize) -> Self {
        Self {
            threads,
            pool: None,
            placement: Placement::default(),
            helpers_cpu: AtomicU64::new(0),
        }
    }

    /// The number of threads, including the calling one.
    pub(in crate::video::jpeg) fn threads(&self) -> usize {
        self.threads
    }

    /// Processor time that the helpers have used so far.
    pub(in crate::video::jpeg) fn helpers_cpu(&self) -> Duration {
        Duration::from_nanos(self.helpers_cpu.load(Ordering::Relaxed))
    }

    /// Runs `work` on each of `jobs`; each thread takes the next one when it is free. Calls
    /// `finished` on this thread for each job in order, as early as possible.
    pub(in crate::video::jpeg) fn run<J: Send>(
        &mut self,
        jobs: &mut [J],
        work: impl Fn(&mut J) + Sync,
        finished: impl FnMut(&mut J),
    ) {
        let helpers = self.threads.min(jobs.len()) - usize::from(!jobs.is_empty());
        if helpers == 0 {
            return run_alone(jobs, work, finished);
        }
        self.start_helpers();
        let Some(pool) = &self.pool else { return run_alone(jobs, work, finished) };
        let queue = Queue(Mutex::new(jobs.iter_mut().enumerate()));
        let (queue, work, helpers_cpu) = (&queue, &work, &self.helpers_cpu);
        let mut in_order = InOrder { waiting: BTreeMap::new(), next: 0, finished };
        pool.in_place_scope(|scope| {
            let (done, others) = mpsc::channel();
            let help = move |_: &Scope<'_>| {
                let before = clock::thread_cpu();
                while let Some((index, job)) = queue.take() {
                    work(job);
                    // Fails only if the calling thread has panicked.
                    let _ = done.send((index, job));
                }
                let used = clock::thread_cpu().saturating_sub(before);
                helpers_cpu.fetch_add(used.as_nanos() as u64, Ordering::Relaxed);
            };
            self.placement.wake_elsewhere(|| {
                std::iter::repeat_n(help, helpers).for_each(|help| scope.spawn(help));
            });
            while let Some((index, job)) = queue.take() {
                work(job);
                in_order.put(index, job);
                for (index, job) in others.try_iter() {
                    in_order.put(index, job);
                }
            }
            for (index, job) in others {
                in_order.put(index, job);
            }
        });
    }

    /// Starts the helpers now. Call it before sandboxing the calling thread, which cannot start
    /// threads after that.
    pub(in crate::video::jpeg) fn start_helpers(&mut self) {
        if self.pool.is_none() && self.threads > 1 {
            match self.placement.pool(self.threads - 1) {
                Ok(pool) => self.pool = Some(pool),
                Err(error) => {
                    warn!("no threads to share the work on a picture: {error}");
                    self.threads = 1;
                }
            }
        }
    }
}

impl fmt::Debug for StripPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripPool").field("threads", &self.threads).finish_non_exhaustive()
    }
}

fn run_alone<J>(jobs: &mut [J], work: impl Fn(&mut J), mut finished: impl FnMut(&mut J)) {
    for job in jobs {
        work(job);
        finished(job);
    }
}

/// The remaining jobs.
struct Queue<I>(Mutex<I>);

impl<I: Iterator> Queue<I> {
    fn take(&self) -> Option<I::Item> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// Reorders finished jobs.
struct InOrder<'a, J, F> {
    waiting: BTreeMap<usize, &'a mut J>,
    next: usize,
    finished: F,
}

impl<'a, J, F: FnMut(&mut J)> InOrder<'a, J, F> {
    fn put(&mut self, index: usize, job: &'a mut J) {
        self.waiting.insert(index, job);
        while let Some(job) = self.waiting.remove(&self.next) {
            (self.finished)(job);
            self.next += 1;
        }
    }
}

/// More threads are not useful: there are few strips.
const MAX_THREADS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once_and_finishes_in_order() {
        for (threads, count) in [(1, 5), (2, 0), (2, 1), (3, 2), (4, 100)] {
            let mut pool = StripPool::of(threads);
            for _ in 0..20 {
                let mut jobs: Vec<(usize, u32)> = (0..count).map(|i| (i, 0)).collect();
                let mut order = Vec::new();
                pool.run(&mut jobs, |job| job.1 += 1, |job| order.push(job.0));
                assert_eq!(order, (0..count).collect::<Vec<_>>());
                assert!(jobs.iter().all(|job| job.1 == 1));
            }
        }
    }

    #[test]
    fn helpers_share_the_work_and_their_cpu_time_counts() {
        let mut pool = StripPool::of(2);
        let own = std::thread::current().id();
        let meeting = std::sync::Barrier::new(2);
        let mut jobs = [own; 2];
        let work = |job: &mut std::thread::ThreadId| {
            meeting.wait();
            *job = std::thread::current().id();
        };
        pool.run(&mut jobs, work, |_| {});
        assert_eq!(jobs.iter().filter(|&&id| id == own).count(), 1);
        assert!(pool.helpers_cpu() > Duration::ZERO);
    }

    #[test]
    fn a_panic_in_a_job_propagates() {
        let mut pool = StripPool::of(2);
        let mut jobs = [0; 8];
        let run = std::panic::AssertUnwindSafe(|| {
            pool.run(&mut jobs, |_| panic!("ours"), |_| {});
        });
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
