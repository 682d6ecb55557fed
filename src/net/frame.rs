//! Frames, their ids, and session ids.

use std::{
    cmp::Ordering,
    fmt,
    ops::Range,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use crate::net::{pool::FrameBuf, time::MediaTime};

/// The number of a frame in its session. It wraps around, and compares as in RFC 1982.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrameId(pub u32);

impl FrameId {
    /// The next id.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// The number of ids from this one to a `later` one.
    pub fn distance_to(self, later: Self) -> u64 {
        u64::from(later.0.wrapping_sub(self.0))
    }

    /// Whether this frame comes before `other`, across a wrap-around (RFC 1982: valid while the two
    /// are less than 2³¹ apart).
    pub fn is_before(self, other: Self) -> bool {
        self.serial_cmp(other) == Ordering::Less
    }

    /// Serial-number order of two ids of one session. Not `Ord`, since serial order is not
    /// transitive.
    pub fn serial_cmp(self, other: Self) -> Ordering {
        (self.0.wrapping_sub(other.0) as i32).cmp(&0)
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A session's id, chosen at random by the dialling side; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(u32);

impl SessionId {
    /// `None` for zero, which is not a session's id.
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

/// One encoded picture to be sent. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct OutgoingFrame {
    /// The encoded picture of at most [`MAX_FRAME_LEN`] bytes; it may be incomplete.
    pub data: FrameBytes,
    /// When the picture's capture began.
    pub captured: Instant,
}

/// The bytes of a frame to be sent, which may still grow: the encoder appends while each session
/// sends the bytes available. Clones share them.
#[derive(Clone, Debug)]
pub struct FrameBytes(Arc<SharedBytes>);

/// Read access to the bytes of a frame at one moment.
#[derive(Debug)]
pub struct FrameView<'a>(RwLockReadGuard<'a, Growth>);

/// How much of a frame is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes so far; more will follow.
    Partial(usize),
    /// Complete, with this many bytes.
    Whole(usize),
    /// The frame will never be complete.
    Abandoned,
}

#[derive(Debug)]
struct SharedBytes {
    growth: RwLock<Growth>,
    first_sent: OnceLock<Instant>,
}

#[derive(Debug)]
struct Growth {
    bytes: Vec<u8>,
    state: WriteState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteState {
    Growing,
    Whole,
    Abandoned,
}

impl FrameBytes {
    /// Creates an empty frame with room for `capacity` bytes.
    pub fn growing(capacity: usize) -> Self {
        Self::of(Growth { bytes: Vec::with_capacity(capacity), state: WriteState::Growing })
    }

    fn of(growth: Growth) -> Self {
        Self(Arc::new(SharedBytes { growth: RwLock::new(growth), first_sent: OnceLock::new() }))
    }

    /// Appends bytes. Panics if the frame is complete or abandoned.
    pub fn append(&self, bytes: &[u8]) {
        let mut growth = self.write();
        assert_eq!(growth.state, WriteState::Growing, "append to a complete or abandoned frame");
        growth.bytes.extend_from_slice(bytes);
    }

    /// Marks the frame as complete.
    pub fn finish(&self) {
        self.write().state = WriteState::Whole;
    }

    /// Marks the frame as abandoned: it will never be complete.
    pub fn abandon(&self) {
        self.write().state = WriteState::Abandoned;
    }

    /// Records that a session sends the first bytes now. Only the first call has an effect.
    pub fn note_sent(&self, now: Instant) {
        // Another session may have been first.
        let _ = self.0.first_sent.set(now);
    }

    /// When the first session sent its first bytes; `None` if none has.
    pub fn first_sent(&self) -> Option<Instant> {
        self.0.first_sent.get().copied()
    }

    /// Locks the bytes for reading; they cannot grow meanwhile.
    pub fn view(&self) -> FrameView<'_> {
        // Only the assertion in `append` can panic under the lock, before any change.
        FrameView(self.0.growth.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> RwLockWriteGuard<'_, Growth> {
        self.0.growth.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FrameView<'_> {
    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// How much of the frame is available.
    pub fn progress(&self) -> Progress {
        match self.0.state {
            WriteState::Growing => Progress::Partial(self.0.bytes.len()),
            WriteState::Whole => Progress::Whole(self.0.bytes.len()),
            WriteState::Abandoned => Progress::Abandoned,
        }
    }
}

/// Creates a complete frame.
impl From<Vec<u8>> for FrameBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::of(Growth { bytes, state: WriteState::Whole })
    }
}

/// A complete frame with a correct CRC, as returned by the reassembler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// The frame's number.
    pub id: FrameId,
    /// The encoded picture, byte for byte as it was sent.
    pub data: FrameBuf,
    /// When its capture began, on the sender's clock.
    pub captured: MediaTime,
    /// When the first-sent of the chunks received was handed to the sender's socket, on the
    /// sender's clock.
    pub first_sent: MediaTime,
    /// When its first chunk arrived.
    pub first_received: Instant,
    /// When its last missing chunk arrived, or enough parity to recover it.
    pub completed: Instant,
    /// The number of chunks recovered from parity.
    pub recovered_chunks: u16,
    /// How long the frame waited for repair: from the last source chunk before any NACK to
    /// `completed`. If the frame's end was lost and requested, the wait starts when the end was
    /// due, extrapolated from the pace of the chunks before. This is about the delay that the
    /// repair added, since the lost chunks were mostly due by then. `None` if the frame was neither
    /// recovered from parity nor requested.
    pub repair_delay: Option<Duration>,
}

/// The contiguous prefix of a frame in reassembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePrefix<'a> {
    /// The frame's number.
    pub id: FrameId,
    /// Its first bytes. Each chunk has been verified, but not the frame.
    pub bytes: &'a [u8],
}

/// The received parts of an incomplete frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialFrame {
    /// The frame's number.
    pub id: FrameId,
    /// The encoded picture up to the last byte received; gaps have unspecified contents.
    pub data: FrameBuf,
    /// Ranges of received bytes, in order, with gaps between them. Each chunk has been verified,
    /// but not the frame.
    pub present: Vec<Range<usize>>,
}

/// The maximum size of a frame, in bytes.
///
/// Noisy 2160p video at quality 95 takes 5 MB. This bounds the memory that one hostile datagram can
/// make a receiver allocate.
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
    fn a_growing_frame_reports_its_progress() {
        let frame = FrameBytes::growing(8);
        let seen_by_a_session = frame.clone();
        frame.append(b"ab");
        assert_eq!(seen_by_a_session.view().progress(), Progress::Partial(2));
        frame.append(b"c");
        frame.finish();
        assert_eq!(seen_by_a_session.view().progress(), Progress::Whole(3));
        assert_eq!(seen_by_a_session.view().bytes(), b"abc");
        frame.abandon();
        assert_eq!(seen_by_a_session.view().progress(), Progress::Abandoned);
    }

    #[test]
    fn the_first_session_to_send_a_frame_sets_its_send_time() {
        let (frame, now) = (FrameBytes::growing(8), crate::clock::now());
        assert_eq!(frame.first_sent(), None);
        frame.clone().note_sent(now);
        frame.note_sent(now + Duration::from_millis(1));
        assert_eq!(frame.first_sent(), Some(now));
    }

    #[test]
    fn zero_is_not_a_session_id() {
        assert_eq!(SessionId::new(0), None);
        assert_eq!(SessionId::new(7).map(SessionId::get), Some(7));
    }
}
