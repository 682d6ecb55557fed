//! A bounded queue between the receiver and a slow disk or pipe.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use crate::video::image::Image;

/// A frame and its time in the recording.
pub(super) type Entry = (Recorded, Duration);

/// What is recorded of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recorded {
    Jpeg(Arc<[u8]>),
    /// The decoded planes.
    Planes(Arc<Image>),
}

impl Recorded {
    /// In bytes.
    fn len(&self) -> usize {
        match self {
            Self::Jpeg(jpeg) => jpeg.len(),
            Self::Planes(image) => image.data.len(),
        }
    }
}

/// A bounded queue of frames.
pub(super) struct Backlog {
    policy: DropPolicy,
    state: Mutex<State>,
    changed: Condvar,
    /// Called when the writer becomes ready after [`is_ready`](Self::is_ready) has returned false.
    on_ready: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// What to drop when writing is slower than receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DropPolicy {
    /// For files: up to [`MAX_FRAMES`] frames and [`MAX_BYTES`] bytes are queued. When full, the
    /// newest frame is dropped.
    KeepOldest,
    /// For pipes, whose readers want live video: only the newest frame is queued.
    KeepNewest,
}

impl Backlog {
    pub(super) fn new(policy: DropPolicy) -> Self {
        let (state, changed, on_ready) = Default::default();
        Self { policy, state, changed, on_ready }
    }

    /// Adds a frame, and counts any frame that is dropped.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.lock();
        let len = entry.0.len();
        let is_full = state.entries.len() >= MAX_FRAMES || state.bytes + len > MAX_BYTES;
        match self.policy {
            _ if state.closed => state.abandoned += 1,
            DropPolicy::KeepOldest if is_full => state.dropped += 1,
            DropPolicy::KeepOldest => state.add(entry),
            DropPolicy::KeepNewest => {
                state.dropped += state.entries.len() as u64;
                state.entries.clear();
                state.bytes = 0;
                state.add(entry);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for the oldest frame and takes it; `None` once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Entry> {
        let mut state = self.lock();
        state.is_awaited = true;
        self.wake_if_ready(&mut state);
        let mut state = self
            .changed
            .wait_while(state, |s| s.entries.is_empty() && !s.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.is_awaited = false;
        let entry = state.entries.pop_front()?;
        state.bytes -= entry.0.len();
        self.wake_if_ready(&mut state);
        Some(entry)
    }

    /// Records how long the writer took for a frame.
    pub(super) fn note_written(&self, took: Duration) {
        self.lock().last_write = Some(took);
    }

    /// With [`DropPolicy::KeepNewest`], whether the writer would take a pushed frame at once, or in
    /// a moment. If not, the callback is called as soon as it would.
    pub(super) fn is_ready(&self) -> bool {
        let mut state = self.lock();
        let is_ready =
            self.policy == DropPolicy::KeepOldest || state.closed || state.is_nearly_idle();
        state.is_ready_wanted = !is_ready;
        is_ready
    }

    fn wake_if_ready(&self, state: &mut State) {
        if state.is_ready_wanted && state.is_nearly_idle() {
            state.is_ready_wanted = false;
            self.wake();
        }
    }

    /// Sets the callback for [`is_ready`](Self::is_ready). Only the first call has an effect.
    pub(super) fn set_on_ready(&self, wake: impl Fn() + Send + Sync + 'static) {
        // One that was set before stays.
        let _ = self.on_ready.set(Box::new(wake));
    }

    fn wake(&self) {
        if let Some(wake) = self.on_ready.get() {
            wake();
        }
    }

    /// Closes the queue: frames added from now on are abandoned.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
        self.wake();
    }

    /// Closes the queue and discards its frames, because nothing more will be taken.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.abandoned += state.entries.len() as u64;
        state.entries.clear();
        state.bytes = 0;
        drop(state);
        self.changed.notify_all();
        self.wake();
    }

    /// Frames added after the queue was closed, or still queued when it was abandoned.
    pub(super) fn abandoned(&self) -> u64 {
        self.lock().abandoned
    }

    /// Frames dropped because writing did not keep up.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    dropped: u64,
    abandoned: u64,
    closed: bool,
    /// Whether `take` is waiting.
    is_awaited: bool,
    /// How long the last frame took to be written.
    last_write: Option<Duration>,
    /// Whether `is_ready` has returned false since the writer was last ready.
    is_ready_wanted: bool,
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl State {
    /// Whether the writer is idle, or will be within about [`QUICK`]: then a frame that is decoded
    /// now hardly waits.
    fn is_nearly_idle(&self) -> bool {
        let is_quick = self.last_write.is_some_and(|took| took < QUICK);
        self.entries.is_empty() && (self.is_awaited || is_quick)
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.0.len();
        self.entries.push_back(entry);
    }
}

/// Two seconds at 30 frames/s: a longer stall of the disk loses frames.
const MAX_FRAMES: usize = 64;

/// The longest that a frame waits for the previous one, if that takes as long as the last write.
const QUICK: Duration = Duration::from_millis(3);

/// In bytes: bounds memory for large frames.
const MAX_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(len: usize, ms: u64) -> Entry {
        (Recorded::Jpeg(vec![0; len].into()), Duration::from_millis(ms))
    }

    #[test]
    fn a_file_keeps_the_oldest_and_counts_the_rest() {
        let backlog = Backlog::new(DropPolicy::KeepOldest);
        (0..MAX_FRAMES as u64 + 5).for_each(|ms| backlog.push(entry(1, ms)));
        assert_eq!(backlog.dropped(), 5);
        assert_eq!(backlog.take(), Some(entry(1, 0)));
        backlog.push(entry(MAX_BYTES, 0));
        assert_eq!(backlog.dropped(), 6);
    }

    #[test]
    fn a_pipe_keeps_the_newest() {
        let backlog = Backlog::new(DropPolicy::KeepNewest);
        (0..3).for_each(|ms| backlog.push(entry(9, ms)));
        assert_eq!((backlog.take(), backlog.dropped()), (Some(entry(9, 2)), 2));
    }

    #[test]
    fn a_pipe_is_ready_while_its_writer_waits() {
        let backlog = Backlog::new(DropPolicy::KeepNewest);
        let (wake, woken) = std::sync::mpsc::channel();
        backlog.set_on_ready(move || wake.send(()).expect("the test waits"));
        assert!(!backlog.is_ready(), "nobody waits yet");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| backlog.take());
            woken.recv_timeout(Duration::from_secs(20)).expect("the writer waits");
            assert!(backlog.is_ready());
            backlog.push(entry(9, 0));
            assert_eq!(writer.join().expect("it waits"), Some(entry(9, 0)));
        });
        backlog.push(entry(9, 1));
        assert!(!backlog.is_ready());
        assert!(woken.try_recv().is_err(), "once");
        backlog.abandon();
        woken.recv_timeout(Duration::from_secs(20)).expect("nothing more is taken");
        assert!(backlog.is_ready());
        assert!(Backlog::new(DropPolicy::KeepOldest).is_ready());
    }

    #[test]
    fn a_pipe_with_a_quick_reader_is_ready_while_its_writer_writes() {
        let backlog = Backlog::new(DropPolicy::KeepNewest);
        for (took, is_ready) in [(QUICK / 2, true), (2 * QUICK, false)] {
            backlog.push(entry(9, 0));
            backlog.note_written(took);
            assert!(!backlog.is_ready(), "one waits");
            assert!(backlog.take().is_some());
            assert_eq!(backlog.is_ready(), is_ready, "{took:?}");
        }
    }

    #[test]
    fn closing_delivers_queued_frames_and_abandoning_discards_them() {
        let backlog = Backlog::new(DropPolicy::KeepOldest);
        backlog.push(entry(1, 1));
        backlog.close();
        backlog.push(entry(1, 2));
        assert_eq!((backlog.take(), backlog.take()), (Some(entry(1, 1)), None));
        let backlog = Backlog::new(DropPolicy::KeepOldest);
        backlog.push(entry(1, 1));
        backlog.abandon();
        backlog.push(entry(1, 2));
        assert_eq!((backlog.take(), backlog.dropped(), backlog.abandoned()), (None, 0, 2));
    }
}
