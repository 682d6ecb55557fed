//! What the stream layer carries: frames, their ids, and the session they belong to.

use std::{
    cmp::Ordering,
    fmt,
    ops::Range,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use crate::net::{pool::FrameBuf, time::MediaTime};

/// The number of a frame in its session. Wraps around; compared as in RFC 1982.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrameId(pub u32);

impl FrameId {
    /// The id that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// How many ids lie from this one to a `later` one.
    pub fn distance_to(self, later: Self) -> u64 {
        u64::from(later.0.wrapping_sub(self.0))
    }

    /// Whether this frame came before `other`, across a wrap-around (RFC 1982:
    /// true while the two are less than 2³¹ apart).
    pub fn is_before(self, other: Self) -> bool {
        self.serial_cmp(other) == Ordering::Less
    }

    /// The order of two ids of one session. Not `Ord`, since serial order is not transitive.
    pub fn serial_cmp(self, other: Self) -> Ordering {
        (self.0.wrapping_sub(other.0) as i32).cmp(&0)
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a session: drawn at random by the side that dials, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(u32);

impl SessionId {
    /// `None` for zero, which no session has.
    pub fn new(id: u32) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// The number on the wire.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// One encoded picture on its way out. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct OutgoingFrame {
    /// The encoded picture, [`MAX_FRAME_LEN`] bytes at most, perhaps not yet to its end.
    pub data: FrameBytes,
    /// When the picture's capture began.
    pub captured: Instant,
}

/// The bytes of a frame on its way out, of which more may come: the encoder appends, and each
/// session sends what is there. Clones share them.
#[derive(Clone, Debug)]
pub struct FrameBytes(Arc<RwLock<Growth>>);

/// A look at the bytes of a frame, at one moment.
#[derive(Debug)]
pub struct FrameView<'a>(RwLockReadGuard<'a, Growth>);

/// How far the bytes of a frame have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many are there, and more come.
    SoFar(usize),
    /// All are there: so many.
    Whole(usize),
    /// The rest will never come.
    Abandoned,
}

#[derive(Debug)]
struct Growth {
    bytes: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Growing,
    Whole,
    Abandoned,
}

impl FrameBytes {
    /// No bytes yet, and room for `capacity` of them.
    pub fn growing(capacity: usize) -> Self {
        let growth = Growth { bytes: Vec::with_capacity(capacity), stage: Stage::Growing };
        Self(Arc::new(RwLock::new(growth)))
    }

    /// Adds bytes; on a frame that is whole or abandoned, a bug.
    pub fn append(&self, bytes: &[u8]) {
        let mut growth = self.write();
        assert_eq!(growth.stage, Stage::Growing, "a frame that has ended grows no more");
        growth.bytes.extend_from_slice(bytes);
    }

    /// Says that all bytes are there.
    pub fn finish(&self) {
        self.write().stage = Stage::Whole;
    }

    /// Says that the rest will never come.
    pub fn abandon(&self) {
        self.write().stage = Stage::Abandoned;
    }

    /// Looks at what is there; it cannot grow meanwhile.
    pub fn view(&self) -> FrameView<'_> {
        // Nothing of ours panics under the lock but the assertion, which changes nothing.
        FrameView(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> RwLockWriteGuard<'_, Growth> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FrameView<'_> {
    /// The bytes that are there.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// How far the frame has come.
    pub fn progress(&self) -> Progress {
        match self.0.stage {
            Stage::Growing => Progress::SoFar(self.0.bytes.len()),
            Stage::Whole => Progress::Whole(self.0.bytes.len()),
            Stage::Abandoned => Progress::Abandoned,
        }
    }
}

/// Of a whole frame.
impl From<Vec<u8>> for FrameBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(RwLock::new(Growth { bytes, stage: Stage::Whole })))
    }
}

/// A whole, verified frame as it left the reassembler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// Its number.
    pub id: FrameId,
    /// The encoded picture, byte for byte as it was sent.
    pub data: FrameBuf,
    /// When its capture began, on the sender's clock.
    pub captured: MediaTime,
    /// When the sender handed the first chunk that arrived to its socket, on the sender's clock.
    pub first_sent: MediaTime,
    /// When its first chunk arrived.
    pub first_received: Instant,
    /// When its last missing chunk arrived, or enough parity to make it.
    pub completed: Instant,
    /// How many of its chunks were made from parity.
    pub repaired_chunks: u16,
    /// How long it waited for its repair: from the last source chunk that came by itself to
    /// `completed`. Where the last of the frame was lost and asked for, from when it would have
    /// come, at the pace of what came before it. That is hardly less than what the repair has
    /// added, since the chunk that was lost would mostly not have come after those. `None` if it
    /// was neither mended nor asked for.
    pub repair_delay: Option<Duration>,
}

/// What of a frame that is being put together is there without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBeginning<'a> {
    /// Its number.
    pub id: FrameId,
    /// Its first bytes. Each chunk has been verified, the frame has not.
    pub bytes: &'a [u8],
}

/// What has come of a frame that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornFrame {
    /// Its number.
    pub id: FrameId,
    /// The encoded picture up to the last byte that has come; in the gaps there is anything.
    pub data: FrameBuf,
    /// Where there are bytes of it: ranges in order, with gaps between them. Each chunk has been
    /// verified, the frame has not.
    pub present: Vec<Range<usize>>,
}

/// The largest frame, in bytes.
///
/// 2160p at quality 95 of noisy video is 5 MB. What one hostile datagram can make
/// a receiver set aside is bounded by this.
pub const MAX_FRAME_LEN: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_ids_are_ordered_across_the_wrap() {
        let (last, first) = (FrameId(u32::MAX), FrameId(u32::MAX).next());
        assert_eq!(first, FrameId(0));
        assert!(last.is_before(first));
        assert!(!first.is_before(last));
        assert!(FrameId(5).is_before(FrameId(6)));
        assert!(!FrameId(5).is_before(FrameId(5)));
    }

    #[test]
    fn a_growing_frame_says_how_far_it_has_come() {
        let frame = FrameBytes::growing(8);
        let seen_by_a_session = frame.clone();
        frame.append(b"ab");
        assert_eq!(seen_by_a_session.view().progress(), Progress::SoFar(2));
        frame.append(b"c");
        frame.finish();
        assert_eq!(seen_by_a_session.view().progress(), Progress::Whole(3));
        assert_eq!(seen_by_a_session.view().bytes(), b"abc");
        frame.abandon();
        assert_eq!(seen_by_a_session.view().progress(), Progress::Abandoned);
    }

    #[test]
    fn zero_is_no_session() {
        assert_eq!(SessionId::new(0), None);
        assert_eq!(SessionId::new(7).map(SessionId::get), Some(7));
    }
}
