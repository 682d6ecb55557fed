//! The sender's encode times, for a receiver in the same process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use crate::net::time::MediaTime;

/// Encode times by a frame's capture time. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct EncodeTimes(Arc<Mutex<BTreeMap<u64, Encoding>>>);

/// When a frame was encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding {
    /// When the encoder took the picture.
    pub(crate) began: Instant,
    /// When the frame was complete.
    pub(crate) ended: Instant,
}

impl EncodeTimes {
    pub(crate) fn enter(&self, captured: MediaTime, encoding: Encoding) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(captured.as_micros(), encoding);
        if entries.len() > MAX_ENTRIES {
            entries.pop_first();
        }
    }

    pub(crate) fn take(&self, captured: MediaTime) -> Option<Encoding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&captured.as_micros())
    }
}

/// Entries of lost frames are never taken. Keeps the newest 256, eight seconds at 30 frames a
/// second.
const MAX_ENTRIES: usize = 256;
