//! The sending side of a link.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Access, Event, Peer, StartError, access::NetworkParts, deadline::deadline, event::Events,
};
use crate::{
    clock,
    net::{
        io::{HostPort, host_port},
        session::{Role, Target},
        units::Bitrate,
        wire::control::StreamParams,
    },
    stream::{
        adaptation::Quality,
        counters::SharedCounters,
        encode::{EncodeError, EncoderConfig, FrameEncoder, Outputs, Pipeline},
        network_thread::NetworkThread,
    },
    video::{
        image::{Image, Size, SizeError},
        jpeg::{self, Header, JpegError, Strips},
        source::FPS_RANGE,
    },
};

/// Sends pictures to one or more receivers: other programs with a [`Receiver`](super::Receiver), or
/// `udpchat recv`.
///
/// Dropping it finishes the frame that is being sent, and says goodbye to the receivers.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = udpchat::Image::blank(640, 480, udpchat::PixelFormat::Bgr);
/// let mut sender = udpchat::Sender::connect("desk.local")?;
/// sender.send(&image)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sender {
    network: NetworkThread,
    config: EncoderConfig,
    millifps: u32,
    encoder: Option<(StreamParams, FrameEncoder)>,
    counters: Arc<SharedCounters>,
    events: Events,
    /// The number of receivers configured.
    targets: usize,
}

/// The configuration of a [`Sender`].
#[derive(Clone, Debug)]
pub struct SenderBuilder {
    hosts: Vec<String>,
    access: Access,
    quality: Option<u8>,
    fps: f64,
    max_bitrate: Option<Bitrate>,
}

/// Why a picture was not sent. The sender can still be used, unless it is
/// [closed](Self::Closed).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The picture could not be encoded.
    #[error("a picture could not be encoded: {0}")]
    Encode(JpegError),
    /// The JPEG is damaged, or of a kind that receivers do not decode.
    #[error("a JPEG cannot be sent: {0}")]
    Jpeg(jpeg::NormalizeError),
    /// The encoded picture is over 8 MiB: lower the quality or the size.
    #[error("a frame is over the limit of 8 MiB: lower the quality or the size")]
    TooLarge,
    /// A side is not from 16 to 8192 pixels, or there are more than 2²⁵ pixels: no receiver decodes
    /// that.
    #[error("a picture cannot be sent: {0}")]
    Size(SizeError),
    /// An [`Image`]'s data does not have the length that its size and format need.
    #[error("a picture of {size} needs {expected} bytes in its format, not {actual}")]
    DataLen {
        /// The image's size.
        size: Size,
        /// The bytes that it needs.
        expected: usize,
        /// The bytes that it has.
        actual: usize,
    },
    /// The network thread has stopped. This is a bug in udpchat. Drop the sender and start a new
    /// one.
    #[error("the network thread has ended")]
    Closed,
}

/// Counters of a [`Sender`] since its start.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SenderStatistics {
    /// Pictures encoded, and JPEGs sent as they are.
    pub encoded: u64,
    /// Pictures skipped on purpose, because the path has no room for them.
    pub thinned: u64,
    /// Frames sent, to all receivers together.
    pub sent: u64,
    /// Frames replaced by newer ones before they were sent.
    pub superseded: u64,
    /// Bytes of UDP payload sent, with all headers and repairs.
    pub bytes_sent: u64,
    /// The shortest recent round trip, if a receiver answers.
    pub rtt: Option<Duration>,
    /// The bitrate available for pictures, if it is limited.
    pub picture_bitrate: Option<Bitrate>,
}

impl Sender {
    /// Sends to `receiver`, a host name or address with an optional port (default 7722), with the
    /// default configuration. An IPv6 address with a port needs brackets: `[::1]:7722`.
    ///
    /// Returns at once. The receiver is called in the background, repeatedly until it answers, and
    /// again after it has gone. A name that cannot be resolved is retried likewise; see
    /// [`next_event`](Self::next_event).
    pub fn connect(receiver: &str) -> Result<Self, StartError> {
        Self::builder().to(receiver).start()
    }

    /// The default configuration.
    pub fn builder() -> SenderBuilder {
        SenderBuilder {
            hosts: Vec::new(),
            access: Access::new(),
            quality: None,
            fps: 30.0,
            max_bitrate: None,
        }
    }

    /// Encodes a picture and sends it to every connected receiver. The time of the call counts as
    /// the capture time.
    ///
    /// Returns when the picture is encoded, a few milliseconds later, while its last parts are still
    /// being sent. It does not pace: the caller sends at its own rate. If no receiver is connected,
    /// the picture is lost. If the path has no room for it, it is skipped. A picture of which nothing
    /// has been sent yet is replaced by a newer one.
    pub fn send(&mut self, image: &Image) -> Result<(), SendError> {
        self.send_captured(image, clock::now())
    }

    /// Like [`send`](Self::send), for a picture whose capture began at `captured`.
    pub fn send_captured(&mut self, image: &Image, captured: Instant) -> Result<(), SendError> {
        let Image { width, height, format, ref data } = *image;
        let size = Size::new(width, height).map_err(SendError::Size)?;
        let (expected, actual) = (format.data_len(width, height), data.len());
        if actual != expected {
            return Err(SendError::DataLen { size, expected, actual });
        }
        let quality = Some(self.config.quality.highest());
        let encoder = self.encoder_for(size, quality)?;
        Ok(encoder.encode_image(image, captured)?)
    }

    /// Sends a baseline JPEG as it is. If the path has no room for it, it is made smaller or
    /// skipped.
    pub fn send_jpeg(&mut self, jpeg: Vec<u8>) -> Result<(), SendError> {
        self.send_jpeg_captured(jpeg, clock::now())
    }

    /// Like [`send_jpeg`](Self::send_jpeg), for a picture whose capture began at `captured`.
    pub fn send_jpeg_captured(
        &mut self,
        mut jpeg: Vec<u8>,
        captured: Instant,
    ) -> Result<(), SendError> {
        jpeg::normalize(&mut jpeg).map_err(SendError::Jpeg)?;
        let header = Header::parse(&jpeg).map_err(|error| SendError::Jpeg(error.into()))?;
        let encoder = self.encoder_for(header.size, None)?;
        Ok(encoder.encode_jpeg(jpeg, captured)?)
    }

    /// The connected receivers.
    pub fn receivers(&mut self) -> Vec<Peer> {
        self.drain_events();
        self.events.peers().cloned().collect()
    }

    /// Waits up to `timeout` until a receiver is connected, and returns whether one is. Returns
    /// false at once if every receiver has been [given up](super::EventKind::GivenUp).
    pub fn wait_connected(&mut self, timeout: Duration) -> bool {
        let until = deadline(timeout);
        self.drain_events();
        while self.events.peers().next().is_none() {
            if self.events.given_up() == self.targets {
                return false;
            }
            let left = until.saturating_duration_since(clock::now());
            match self.network.handle.wait_event(left) {
                Some(event) => self.events.push(&event),
                None => return false,
            }
        }
        true
    }

    /// The next event, if there is one. Events may be ignored.
    pub fn next_event(&mut self) -> Option<Event> {
        self.drain_events();
        self.events.pop()
    }

    /// Counters since the start. Those of the network are up to 250 ms old.
    pub fn statistics(&self) -> SenderStatistics {
        let (made, net) = (self.counters.read(), self.network.handle.stats().totals);
        SenderStatistics {
            encoded: made.encoded,
            thinned: made.thinned,
            sent: net.frames_sent,
            superseded: made.superseded + net.frames_superseded,
            bytes_sent: net.bytes_sent,
            rtt: net.rtt,
            picture_bitrate: self.network.handle.inlet().picture_bitrates().path,
        }
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.network.handle.try_event() {
            self.events.push(&event);
        }
    }

    /// The encoder for pictures of this size and quality, replaced if either has changed. `quality`
    /// is `None` for JPEGs.
    fn encoder_for(
        &mut self,
        size: Size,
        quality: Option<u8>,
    ) -> Result<&mut FrameEncoder, SendError> {
        if self.network.is_finished() {
            return Err(SendError::Closed);
        }
        let (width, height) = (size.width as u16, size.height as u16);
        let stream = StreamParams { width, height, millifps: self.millifps, quality };
        let is_same = self.encoder.as_ref().is_some_and(|(of, _)| *of == stream);
        if !is_same {
            let inlet = self.network.handle.inlet();
            inlet.set_stream(stream);
            let outputs = Outputs { inlet, others: Vec::new(), latency: None };
            let counters = Arc::clone(&self.counters);
            let encoder = FrameEncoder::new(self.config, outputs, stream, true, counters);
            self.encoder = Some((stream, encoder));
        }
        Ok(&mut self.encoder.as_mut().expect("it was just made").1)
    }
}

impl SenderBuilder {
    /// Sends to this receiver, a host name or address with an optional port (default 7722); repeat
    /// for several.
    #[must_use]
    pub fn to(mut self, receiver: &str) -> Self {
        self.hosts.push(receiver.to_owned());
        self
    }

    /// The identity of this side, and which receivers it accepts. Default: a new identity, any
    /// receiver.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Encodes with this JPEG quality, 1 to 100, and skips pictures if the path has no room for
    /// them. Default: at most 80; quality, size and frame rate are reduced as the path requires.
    #[must_use]
    pub fn quality(mut self, quality: u8) -> Self {
        self.quality = Some(quality);
        self
    }

    /// The nominal frame rate, in frames a second, at which pictures will be sent. It is a hint:
    /// the caller paces. Default: 30.
    #[must_use]
    pub fn fps(mut self, fps: f64) -> Self {
        self.fps = fps;
        self
    }

    /// Limits what is sent to each receiver, with all headers and repairs. At least 100 kbit/s.
    /// Default: limited only by the path.
    ///
    /// ```no_run
    /// use udpchat::{Bitrate, Sender};
    ///
    /// # fn main() -> Result<(), udpchat::StartError> {
    /// let limit = Bitrate::from_mbps(5);
    /// let sender = Sender::builder().to("desk.local").max_bitrate(limit).start()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_bitrate(mut self, limit: Bitrate) -> Self {
        self.max_bitrate = Some(limit);
        self
    }

    /// Starts to call the receivers.
    pub fn start(self) -> Result<Sender, StartError> {
        if !FPS_RANGE.contains(&self.fps) {
            return Err(StartError::FrameRate(self.fps));
        }
        let quality = match self.quality {
            Some(quality @ 1..=100) => Quality::Fixed(quality),
            Some(quality) => return Err(StartError::Quality(quality)),
            None => Quality::Auto,
        };
        if self.hosts.is_empty() {
            return Err(StartError::NoReceiver);
        }
        if let Some(bitrate) = self.max_bitrate.filter(|&bitrate| bitrate < MIN_BITRATE) {
            return Err(StartError::Bitrate(bitrate));
        }
        let targets = self.hosts.iter().map(|host| target(host_port(host)?));
        let targets = targets.collect::<Result<Vec<Target>, StartError>>()?;
        let millifps = (self.fps * 1000.0) as u32;
        let parts = NetworkParts {
            role: Role::Send { targets, control: true },
            listen: None,
            // Announced with the first picture.
            stream: None,
            max_bitrate: self.max_bitrate,
        };
        let network = parts.start(&self.access)?;
        Ok(Sender {
            network,
            config: EncoderConfig {
                quality,
                strips: Strips::Auto,
                gray: false,
                pipeline: Pipeline::Auto,
            },
            millifps,
            encoder: None,
            counters: Arc::new(SharedCounters::default()),
            events: Events::default(),
            targets: self.hosts.len(),
        })
    }
}

fn target(to: HostPort) -> Result<Target, StartError> {
    let host = to.host.clone();
    to.target().ok_or(StartError::NoPort(host))
}

/// No useful video fits into less.
const MIN_BITRATE: Bitrate = Bitrate::from_kbps(100);

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLarge => Self::TooLarge,
            EncodeError::Decode(error) | EncodeError::Encode(error) => Self::Encode(error),
        }
    }
}
