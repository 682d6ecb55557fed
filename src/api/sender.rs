//! The sending side of a link.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Access, Event, Peer, StartError, access::NetworkParts, event::Events};
use crate::{
    clock,
    net::{
        io::{HostPort, host_port},
        session::{Role, Target},
        wire::control::StreamParams,
    },
    stream::{
        adaptation::Quality,
        counters::Progress,
        encode::{EncodeError, EncoderConfig, FrameEncoder, Outputs, Pipeline},
        network_thread::NetworkThread,
    },
    video::{
        image::Image,
        jpeg::{self, Header, JpegError, Strips},
        source::FPS_RANGE,
    },
};

/// Sends pictures to one or more receivers: other programs with a [`Receiver`](super::Receiver), or
/// `udpchat recv`.
///
/// Dropping it says goodbye to the receivers.
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
    progress: Arc<Progress>,
    events: Events,
}

/// The configuration of a [`Sender`].
#[derive(Clone, Debug)]
pub struct SenderBuilder {
    hosts: Vec<String>,
    access: Access,
    quality: Option<u8>,
    fps: f64,
    max_bitrate: Option<u64>,
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
    /// The encoded picture is over 8 MiB.
    #[error("a frame is over the limit of 8 MiB: lower the quality or the size")]
    TooLarge,
    /// The width or height of the picture is zero or over 65,535 pixels.
    #[error("a picture of {width}x{height} pixels cannot be sent")]
    Size {
        /// In pixels.
        width: usize,
        /// In pixels.
        height: usize,
    },
    /// The network thread has ended.
    #[error("the network thread has ended")]
    Closed,
}

/// Counters of a [`Sender`] since its start.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SenderStatistics {
    /// Pictures encoded.
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
    /// The bitrate available for pictures, in bits a second, if it is limited.
    pub picture_bitrate: Option<u64>,
}

impl Sender {
    /// Sends to `receiver`, a host name or address with an optional port (default 7722), with the
    /// default configuration. Returns at once; the receiver is called in the background until it
    /// answers.
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
    /// Returns when the picture is encoded; its last parts may not have been sent yet. If the path
    /// has no room for it, it is skipped. A newer picture replaces one of which nothing has been
    /// sent.
    pub fn send(&mut self, image: &Image) -> Result<(), SendError> {
        self.send_captured(image, clock::now())
    }

    /// Like [`send`](Self::send), for a picture whose capture began at `captured`.
    pub fn send_captured(&mut self, image: &Image, captured: Instant) -> Result<(), SendError> {
        let quality = Some(self.config.quality.highest());
        let encoder = self.encoder_for(image.width, image.height, quality)?;
        Ok(encoder.encode_image(image, captured)?)
    }

    /// Sends a baseline JPEG as it is, or smaller if the path has no room for it.
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
        let encoder = self.encoder_for(header.size.width, header.size.height, None)?;
        Ok(encoder.encode_jpeg(jpeg, captured)?)
    }

    /// The connected receivers.
    pub fn receivers(&mut self) -> Vec<Peer> {
        self.drain_events();
        self.events.peers().cloned().collect()
    }

    /// Waits up to `timeout` until a receiver is connected. Returns whether one is.
    pub fn wait_connected(&mut self, timeout: Duration) -> bool {
        let until = clock::now() + timeout;
        self.drain_events();
        while self.events.peers().next().is_none() {
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
        let (made, net) = (self.progress.read(), self.network.handle.stats().totals);
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
        width: usize,
        height: usize,
        quality: Option<u8>,
    ) -> Result<&mut FrameEncoder, SendError> {
        if self.network.is_finished() {
            return Err(SendError::Closed);
        }
        let side = |len: usize| u16::try_from(len).ok().filter(|&len| len > 0);
        let (Some(w), Some(h)) = (side(width), side(height)) else {
            return Err(SendError::Size { width, height });
        };
        let stream = StreamParams { width: w, height: h, millifps: self.millifps, quality };
        let is_same = self.encoder.as_ref().is_some_and(|(of, _)| *of == stream);
        if !is_same {
            let inlet = self.network.handle.inlet();
            inlet.set_stream(stream);
            let outputs = Outputs { inlet, others: Vec::new(), latency: None };
            let progress = Arc::clone(&self.progress);
            let encoder = FrameEncoder::new(self.config, outputs, stream, true, progress);
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

    /// Who we are, and which receivers are accepted. Default: a new identity, any receiver.
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

    /// The nominal frame rate, in frames a second, at which pictures will be sent. Default: 30.
    #[must_use]
    pub fn fps(mut self, fps: f64) -> Self {
        self.fps = fps;
        self
    }

    /// Sends at most this many bits a second to each receiver, with all headers and repairs.
    /// Default: limited only by the path.
    #[must_use]
    pub fn max_bitrate(mut self, bits_a_second: u64) -> Self {
        self.max_bitrate = Some(bits_a_second);
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
        let targets = self.hosts.iter().map(|host| Ok(target(host_port(host)?)));
        let targets = targets.collect::<Result<Vec<Target>, StartError>>()?;
        let millifps = (self.fps * 1000.0) as u32;
        // A placeholder: the first picture sets the real parameters.
        let stream = StreamParams { width: 1280, height: 720, millifps, quality: None };
        let parts = NetworkParts {
            role: Role::Send { targets, control: true },
            listen: None,
            stream: Some(stream),
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
            progress: Arc::new(Progress::default()),
            events: Events::default(),
        })
    }
}

/// The target to call. A host name is looked up for each attempt.
fn target(HostPort { host, port }: HostPort) -> Target {
    let addr = host.parse().ok().map(|ip| std::net::SocketAddr::new(ip, port));
    Target { host, port, addrs: addr.into_iter().collect() }
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLarge => Self::TooLarge,
            EncodeError::Decode(error) | EncodeError::Encode(error) => Self::Encode(error),
        }
    }
}
