//! Access to the frame that is still arriving, for decoding it early.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::net::{
    frame::{FrameId, FramePrefix},
    session::CallId,
};

/// The contiguous prefix of the newest frame. Clones share it.
///
/// The driver's thread appends to it, and a reader copies what it does not have yet, so neither
/// waits for the other longer than it takes to copy a few kilobytes.
#[derive(Clone, Debug, Default)]
pub struct ArrivingFrame(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wanted: AtomicBool,
    copy: Mutex<ArrivingCopy>,
}

/// The contiguous prefix of a frame.
#[derive(Debug, Default)]
pub struct ArrivingCopy {
    /// The call and the frame; `None` before the first.
    pub of: Option<(CallId, FrameId)>,
    /// Its first bytes. Each chunk has been verified; the frame has not.
    pub bytes: Vec<u8>,
}

impl ArrivingFrame {
    /// Updates `mine`. Returns true if it is now another frame.
    pub fn update(&self, mine: &mut ArrivingCopy) -> bool {
        let newest = self.lock();
        let is_another = mine.of != newest.of;
        mine.follow(newest.of, &newest.bytes);
        is_another
    }

    /// Enables copying, which is off until then.
    pub(super) fn want(&self) {
        self.0.wanted.store(true, Ordering::Relaxed);
    }

    /// Copies the prefix of the newest frame. Returns true if it has grown enough to wake the
    /// reader.
    pub(super) fn note(&self, newest: Option<(CallId, FramePrefix<'_>)>) -> bool {
        let Some((call, newest)) = newest.filter(|_| self.0.wanted.load(Ordering::Relaxed)) else {
            return false;
        };
        let mut copy = self.lock();
        let of = Some((call, newest.id));
        let known = if copy.of == of { copy.bytes.len() } else { 0 };
        if newest.bytes.len() < known + WORTH_TELLING {
            return false;
        }
        copy.follow(of, newest.bytes);
        true
    }

    fn lock(&self) -> MutexGuard<'_, ArrivingCopy> {
        self.0.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ArrivingCopy {
    /// Extends this with `bytes`, the prefix of frame `of`, or starts over if that is another
    /// frame.
    fn follow(&mut self, of: Option<(CallId, FrameId)>, bytes: &[u8]) {
        if self.of != of {
            self.of = of;
            self.bytes.clear();
        }
        let known = self.bytes.len().min(bytes.len());
        self.bytes.extend_from_slice(&bytes[known..]);
    }
}

/// In bytes: the smallest growth worth decoding. One strip of eight at 720p has this much at 20
/// Mbit/s and 30 frames a second.
const WORTH_TELLING: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn note(arriving: &ArrivingFrame, id: u32, bytes: &[u8]) -> bool {
        arriving.note(Some((CallId(1), FramePrefix { id: FrameId(id), bytes })))
    }

    #[test]
    fn the_newest_frame_is_copied_as_it_grows() {
        let (arriving, mut mine) = (ArrivingFrame::default(), ArrivingCopy::default());
        let frame: Vec<u8> = (0..60_000).map(|i| (i % 251) as u8).collect();
        assert!(!note(&arriving, 1, &frame[..20_000]), "it is not wanted");
        arriving.want();
        assert!(note(&arriving, 1, &frame[..20_000]));
        assert!(!note(&arriving, 1, &frame[..20_100]), "hardly more");
        assert!(arriving.update(&mut mine));
        assert_eq!(mine.bytes, frame[..20_000]);
        assert!(note(&arriving, 1, &frame[..50_000]));
        assert!(!arriving.update(&mut mine), "still the same frame");
        assert_eq!(mine.bytes, frame[..50_000]);
        assert!(note(&arriving, 2, &frame[7..10_007]));
        assert!(arriving.update(&mut mine));
        assert_eq!((mine.of, &mine.bytes[..]), (Some((CallId(1), FrameId(2))), &frame[7..10_007]));
    }
}
