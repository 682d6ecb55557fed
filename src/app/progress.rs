//! What the threads of the sending side have done, for who counts.

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

/// A [`Progress`], read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CaptureCounters {
    /// Pictures grabbed.
    pub(super) captured: u64,
    /// Frames encoded.
    pub(super) encoded: u64,
    /// Bytes of them.
    pub(super) jpeg_bytes: u64,
    /// Pictures and frames replaced by newer ones before they reached the network.
    pub(super) superseded: u64,
    /// Pictures left out on purpose, since the path cannot bear more.
    pub(super) thinned: u64,
    /// Pictures that could not be encoded, or gave too large a frame.
    pub(super) failed: u64,
    /// Frames that the source gave truncated or damaged, and that were dropped.
    pub(super) damaged: u64,
    /// Processor time of the threads that have ended.
    pub(super) cpu: Duration,
    /// How the last frame was made, if it was encoded here.
    pub(super) plan: Option<EncodingPlan>,
    /// Bits a second that frames may take, if there is a limit.
    pub(super) picture_bitrate: Option<u64>,
}

impl Progress {
    /// Of a source that counts in `damaged` the frames that it drops.
    pub(super) fn new(damaged: Arc<AtomicU64>) -> Self {
        Self { damaged, ..Self::default() }
    }

    /// As of now; what the path bears is the network's to say.
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

    /// A frame was made by `plan`.
    pub(super) fn note_plan(&self, plan: EncodingPlan) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }

    /// The source failed; the first reason counts.
    pub(super) fn fail(&self, error: String) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// What made the source fail, if it did.
    pub(super) fn take_error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Adds what the calling thread used, and those that helped it.
    pub(super) fn add_cpu(&self, helpers: Duration) {
        let used = clock::thread_cpu() + helpers;
        self.cpu_us.fetch_add(used.as_micros() as u64, Ordering::Relaxed);
    }
}
