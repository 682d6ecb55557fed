//! Counters of the sending side's threads.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::quality::EncodingPlan;
use crate::{clock, net::units::Bitrate};

/// Counters that the grab and encode threads update.
#[derive(Debug, Default)]
pub(crate) struct SharedCounters {
    pub(crate) captured: AtomicU64,
    pub(crate) encoded: AtomicU64,
    pub(crate) jpeg_bytes: AtomicU64,
    pub(crate) superseded: AtomicU64,
    pub(crate) thinned: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Pictures replaced before they were grabbed.
    pub(crate) superseded_in_source: AtomicU64,
    /// Counted by the source.
    damaged: Arc<AtomicU64>,
    cpu_us: AtomicU64,
    plan: Mutex<Option<EncodingPlan>>,
    error: Mutex<Option<String>>,
}

/// A snapshot of [`SharedCounters`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CaptureCounters {
    /// Pictures that the source delivered.
    pub(crate) captured: u64,
    /// Frames encoded, or passed through as the source delivered them.
    pub(crate) encoded: u64,
    /// Bytes of these frames.
    pub(crate) jpeg_bytes: u64,
    /// Pictures and frames replaced by newer ones before they reached the network.
    pub(crate) superseded: u64,
    /// Pictures skipped on purpose, to fit the path's bitrate.
    pub(crate) thinned: u64,
    /// Pictures that could not be encoded, or whose frame was too large.
    pub(crate) failed: u64,
    /// Frames that the source delivered truncated or damaged, and that were dropped.
    pub(crate) damaged: u64,
    /// Processor time of the threads that have ended.
    pub(crate) cpu: Duration,
    /// The plan of the last frame; `None` if it is as the source delivered it.
    pub(crate) plan: Option<EncodingPlan>,
    /// The bitrate available to frames, if limited.
    pub(crate) picture_bitrate: Option<Bitrate>,
}

impl SharedCounters {
    /// For a source that counts its dropped frames in `damaged`.
    pub(crate) fn new(damaged: Arc<AtomicU64>) -> Self {
        Self { damaged, ..Self::default() }
    }

    /// The values now. `picture_bitrate` is left to the network side.
    pub(crate) fn read(&self) -> CaptureCounters {
        let superseded_in_source = self.superseded_in_source.load(Ordering::Relaxed);
        CaptureCounters {
            captured: self.captured.load(Ordering::Relaxed) + superseded_in_source,
            encoded: self.encoded.load(Ordering::Relaxed),
            jpeg_bytes: self.jpeg_bytes.load(Ordering::Relaxed),
            superseded: self.superseded.load(Ordering::Relaxed) + superseded_in_source,
            thinned: self.thinned.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            damaged: self.damaged.load(Ordering::Relaxed),
            cpu: Duration::from_micros(self.cpu_us.load(Ordering::Relaxed)),
            plan: *self.plan.lock().unwrap_or_else(PoisonError::into_inner),
            picture_bitrate: None,
        }
    }

    /// Records how a frame was encoded; `None`: as the source delivered it.
    pub(crate) fn note_plan(&self, plan: Option<EncodingPlan>) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// Records the error that ended the stream; the first one is kept.
    pub(crate) fn fail(&self, error: String) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Takes the error that ended the stream, if any.
    pub(crate) fn take_error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Adds the processor time of the calling thread and of its `helpers`.
    pub(crate) fn add_cpu(&self, helpers: Duration) {
        let used = clock::thread_cpu() + helpers;
        self.cpu_us.fetch_add(used.as_micros() as u64, Ordering::Relaxed);
    }
}
