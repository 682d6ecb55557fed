//! A frame on its way to the outputs of a publisher.

use std::time::Instant;

use crate::net::frame::FrameBytes;

/// A complete encoded frame with its stage times. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct EncodedFrame {
    /// The frame's bytes, with the time at which the network first sent some of them.
    pub(crate) data: FrameBytes,
    /// When the picture's capture began.
    pub(crate) captured: Instant,
    /// When the encoder took the picture.
    pub(crate) began: Instant,
    /// When the frame was complete.
    pub(crate) ended: Instant,
}
