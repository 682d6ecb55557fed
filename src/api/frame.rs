//! A received frame.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Peer;
use crate::{
    net::session::Delivered,
    video::{
        image::Image,
        jpeg::{Decoder, JpegError, OutputFormat},
    },
};

/// A complete received frame. Its pixels are decoded on demand.
pub struct Frame {
    delivered: Delivered,
    peer: Option<Peer>,
    decoder: Arc<Mutex<Decoder>>,
}

/// How long a frame took at each stage. `None`: the offset of the sender's clock, which the stage
/// needs, is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stages {
    /// From the start of the capture until its first datagram was sent: capture, encoding and
    /// waiting at the sender.
    pub send: Option<Duration>,
    /// Until its first datagram arrived.
    pub network: Option<Duration>,
    /// Until it was complete.
    pub reassemble: Duration,
}

impl Frame {
    pub(super) fn new(
        delivered: Delivered,
        peer: Option<Peer>,
        decoder: Arc<Mutex<Decoder>>,
    ) -> Self {
        Self { delivered, peer, decoder }
    }

    /// The frame's number. Numbers count up from 0 in each connection, and wrap around.
    pub fn number(&self) -> u32 {
        self.delivered.frame.id.0
    }

    /// The JPEG, byte for byte as it was sent.
    pub fn jpeg(&self) -> &[u8] {
        &self.delivered.frame.data
    }

    /// Decodes the pixels, as interleaved BGR, on sandboxed threads, and waits for them. After an
    /// error, skip the frame: the next one is independent of it.
    pub fn image(&self) -> Result<Image, JpegError> {
        let mut image = Image::empty();
        self.decode_into(&mut image)?;
        Ok(image)
    }

    /// Decodes the pixels into `image`, as interleaved BGR, and reuses its memory. After an error,
    /// its contents are unspecified.
    pub fn decode_into(&self, image: &mut Image) -> Result<(), JpegError> {
        // A panic leaves no state that the next frame depends on.
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        decoder.decode(self.jpeg(), OutputFormat::Bgr, image)
    }

    /// Who sent it; `None` if the session has already ended.
    pub fn sender(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// When its capture began, on our clock: `captured.elapsed()` is the frame's age. `None` while
    /// the offset of the sender's clock is not known, at most for about the first second.
    pub fn captured(&self) -> Option<Instant> {
        self.delivered.local(self.delivered.frame.captured).map(|time| time.at)
    }

    /// When it was complete. What comes after, waiting and decoding, is up to the program.
    pub fn completed(&self) -> Instant {
        self.delivered.frame.completed
    }

    /// How long it took at each stage.
    pub fn stages(&self) -> Stages {
        let frame = &self.delivered.frame;
        let sent = self.delivered.local(frame.first_sent).map(|time| time.at);
        let between =
            |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        Stages {
            send: between(self.captured(), sent),
            network: between(sent, Some(frame.first_received)),
            reassemble: frame.completed.saturating_duration_since(frame.first_received),
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("number", &self.number())
            .field("bytes", &self.jpeg().len())
            .field("sender", &self.peer)
            .finish_non_exhaustive()
    }
}
