//! The frame that is still arriving, for whoever wants to begin on it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::net::{
    frame::{FrameBeginning, FrameId},
    session::CallId,
};

/// The beginning of the newest frame, as far as it has come without a gap. Clones share it.
///
/// The driver's thread adds to it, and another one copies what it does not have yet, so that
/// neither waits for the other longer than for a copy of some kilobytes.
#[derive(Clone, Debug, Default)]
pub struct Arriving(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wanted: AtomicBool,
    copy: Mutex<ArrivingFrame>,
}

/// The beginning of a frame.
#[derive(Debug, Default)]
pub struct ArrivingFrame {
    /// Whose frame; none before the first.
    pub of: Option<(CallId, FrameId)>,
    /// Its first bytes. Each chunk has been verified, the frame has not.
    pub bytes: Vec<u8>,
}

impl Arriving {
    /// Brings `mine` up to date. True: it is another frame than before.
    pub fn update(&self, mine: &mut ArrivingFrame) -> bool {
        let newest = self.lock();
        let is_another = mine.of != newest.of;
        mine.follow(newest.of, &newest.bytes);
        is_another
    }

    /// Says that somebody wants it; nothing is copied before.
    pub(super) fn want(&self) {
        self.0.wanted.store(true, Ordering::Relaxed);
    }

    /// Notes how far the newest frame has come. True: that is so much more than before that
    /// somebody should be told.
    pub(super) fn note(&self, newest: Option<(CallId, FrameBeginning<'_>)>) -> bool {
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

    fn lock(&self) -> MutexGuard<'_, ArrivingFrame> {
        self.0.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ArrivingFrame {
    /// Becomes `bytes`, the beginning of the frame `of`, of which it may have a part.
    fn follow(&mut self, of: Option<(CallId, FrameId)>, bytes: &[u8]) {
        if self.of != of {
            self.of = of;
            self.bytes.clear();
        }
        let known = self.bytes.len().min(bytes.len());
        self.bytes.extend_from_slice(&bytes[known..]);
    }
}

/// Bytes. Less is no strip of a picture that is worth beginning on: one of eight at 720p has
/// this much at 20 Mbit/s and 30 frames a second.
const WORTH_TELLING: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn note(arriving: &Arriving, id: u32, bytes: &[u8]) -> bool {
        arriving.note(Some((CallId(1), FrameBeginning { id: FrameId(id), bytes })))
    }

    #[test]
    fn the_newest_frame_is_followed_as_it_grows() {
        let (arriving, mut mine) = (Arriving::default(), ArrivingFrame::default());
        let frame: Vec<u8> = (0..60_000).map(|i| (i % 251) as u8).collect();
        assert!(!note(&arriving, 1, &frame[..20_000]), "nobody wants it");
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
