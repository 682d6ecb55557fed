//! Counters of the sending side's threads.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{clock, net::quality::EncodingPlan};

/// What the sending side has done so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) captured: AtomicU64,
    pub(super) encoded: AtomicU64,
    pub(super) jpeg_bytes: AtomicU64,
    pub(super) superseded: AtomicU64,
    pub(super) thinned: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Counted by the source.
    damaged: Arc<AtomicU64>,
    cpu_us: AtomicU64,
    plan: Mutex<Option<EncodingPlan>>,
    error: Mutex<Option<String>>,
}

/// A snapshot of [`Progress`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CaptureCounters {
    /// Pictures grabbed.
    pub(super) captured: u64,
    /// Frames encoded.
    pub(super) encoded: u64,
    /// Bytes of the encoded frames.
    pub(super) jpeg_bytes: u64,
    /// Pictures and frames replaced by newer ones before they reached the network.
    pub(super) superseded: u64,
    /// Pictures skipped on purpose, to fit the path's bitrate.
    pub(super) thinned: u64,
    /// Pictures that could not be encoded, or whose frame was too large.
    pub(super) failed: u64,
    /// Frames that the source delivered truncated or damaged, and that were dropped.
    pub(super) damaged: u64,
    /// Processor time of the threads that have ended.
    pub(super) cpu: Duration,
    /// The plan of the last frame; `None` if it is as the source delivered it.
    pub(super) plan: Option<EncodingPlan>,
    /// The bitrate available to frames, in bit/s, if limited.
    pub(super) picture_bitrate: Option<u64>,
}

impl Progress {
    /// For a source that counts its dropped frames in `damaged`.
    pub(super) fn new(damaged: Arc<AtomicU64>) -> Self {
        Self { damaged, ..Self::default() }
    }

    /// The values now. `picture_bitrate` is left to the network side.
    pub(super) fn read(&self) -> CaptureCounters {
        CaptureCounters {
            captured: self.captured.load(Ordering::Relaxed),
            encoded: self.encoded.load(Ordering::Relaxed),
            jpeg_bytes: self.jpeg_bytes.load(Ordering::Relaxed),
            superseded: self.superseded.load(Ordering::Relaxed),
            thinned: self.thinned.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            damaged: self.damaged.load(Ordering::Relaxed),
            cpu: Duration::from_micros(self.cpu_us.load(Ordering::Relaxed)),
            plan: *self.plan.lock().unwrap_or_else(PoisonError::into_inner),
            picture_bitrate: None,
        }
    }

    /// Records how a frame was encoded; `None`: as the source delivered it.
    pub(super) fn note_plan(&self, plan: Option<EncodingPlan>) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// Records a failure of the source; the first one is kept.
    pub(super) fn fail(&self, error: String) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Takes the source's failure, if any.
    pub(super) fn take_error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Adds the processor time of the calling thread and of its `helpers`.
    pub(super) fn add_cpu(&self, helpers: Duration) {
        let used = clock::thread_cpu() + helpers;
        self.cpu_us.fetch_add(used.as_micros() as u64, Ordering::Relaxed);
    }
}
