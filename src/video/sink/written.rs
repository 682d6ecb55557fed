//! The outcome of a frame in a recording.

use crate::video::fit::Layout;

/// The result of writing one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Written, unchanged or scaled by 2 or 4 to the recording's size.
    Whole,
    /// Not written: it cannot be decoded.
    Damaged,
    /// Converted to the recording's layout and written.
    Converted { from: Layout, to: Layout },
    /// The FIFO has no reader yet.
    NoReader,
}
