//! The configuration of an endpoint.

use std::time::{Duration, Instant};

use crate::net::{
    crypto::keys::{Identity, PublicKey, SharedSecret},
    link::UDP_BASE_LEN,
    recovery::parity_control::FecMode,
    session::{DEFAULT_REASSEMBLY_DEADLINE, Target, Verdict},
    wire::{
        control::{Epoch, Purpose, StreamParams},
        text::Name,
    },
};

/// The configuration of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// The name that it announces to peers.
    pub name: Name,
    /// Whether it dials or listens, and whether it sends video.
    pub role: Role,
    /// The key pair that identifies it on control channels.
    pub identity: Identity,
    /// The shared code required on the control channel; `None`: none is required.
    pub secret: Option<SharedSecret>,
    /// Which peers are accepted, of those that know the code.
    pub admission: Admission,
    /// How sessions without a control channel are treated.
    pub one_way: OneWay,
    /// The time since the Unix epoch. Sealed sessions without a control channel number their
    /// datagrams from it, so that no number is ever reused.
    pub wall_clock: Duration,
    /// The parameters of the stream it sends, once known.
    pub stream: Option<StreamParams>,
    /// The maximum length of the datagrams it sends, in bytes of UDP payload; it receives any
    /// length. `None`: discovered for each path, starting with 1200, which fits every IPv6 path
    /// (RFC 8200: 1280, minus headers), and never below
    /// [`MIN_MAX_DATAGRAM_LEN`](super::MIN_MAX_DATAGRAM_LEN).
    pub max_datagram_len: Option<usize>,
    /// The parity sent to the receivers.
    pub fec: FecMode,
    /// The maximum bitrate to one receiver, with all headers and repairs, in bits a second. `None`:
    /// limited only by the path.
    pub max_bitrate: Option<u64>,
    /// How long a frame may be incomplete; see [`DEFAULT_REASSEMBLY_DEADLINE`].
    pub reassembly_deadline: Duration,
    /// Media time zero of its media clock.
    pub epoch: Instant,
    /// The same instant, in the form exchanged with peers on this machine.
    pub shared_epoch: Epoch,
    /// The seed of the random number generator, for example for session ids.
    pub seed: u64,
}

impl EndpointConfig {
    /// The minimal configuration: datagrams of 1200 bytes, no parity, no secret, no trust
    /// decisions, and a media clock that starts at `epoch`, which is not shared with peers.
    #[cfg(any(test, feature = "internals"))]
    pub fn new(name: &str, role: Role, identity: Identity, epoch: Instant) -> Self {
        Self {
            name: Name::new(name),
            role,
            identity,
            secret: None,
            admission: Admission::Anyone,
            one_way: OneWay::Clear,
            wall_clock: Duration::ZERO,
            stream: None,
            max_datagram_len: Some(UDP_BASE_LEN),
            fec: FecMode::Off,
            max_bitrate: None,
            reassembly_deadline: DEFAULT_REASSEMBLY_DEADLINE,
            epoch,
            shared_epoch: Epoch { boot: 0, monotonic_us: 0 },
            seed: 1,
        }
    }
}

/// The role of an endpoint.
#[derive(Clone, Debug)]
pub enum Role {
    /// Sends to each target. Without `control`, it sends at once and does not call.
    Send {
        /// The receivers.
        targets: Vec<Target>,
        /// Whether to call over TCP first.
        control: bool,
    },
    /// Waits for one sender at a time.
    Receive,
    /// Calls a peer, then sends and receives.
    ChatDial(Target),
    /// Waits for a call, then sends and receives.
    ChatListen,
}

/// Which peers an endpoint accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Everybody.
    Anyone,
    /// Those who prove possession of one of these keys.
    Keys(Vec<PublicKey>),
    /// Those the user admits: see [`Event::Asked`](crate::net::session::Event::Asked).
    Asked,
}

impl Admission {
    /// The verdict on a peer that has proved possession of `key`; `None`: the user decides.
    pub(super) fn verdict(&self, key: &PublicKey) -> Option<Verdict> {
        match self {
            Self::Anyone => Some(Verdict::Admit),
            Self::Keys(keys) if keys.contains(key) => Some(Verdict::Admit),
            Self::Keys(_) => Some(Verdict::Refuse),
            Self::Asked => None,
        }
    }
}

/// How an endpoint treats sessions without a control channel.
#[derive(Clone, Debug)]
pub enum OneWay {
    /// They are rejected.
    Refused,
    /// They are in the clear: anybody can read or forge them.
    Clear,
    /// They are sealed with a pre-shared key.
    Sealed(SharedSecret),
}

impl Role {
    /// The purpose on which a caller and its peer must agree.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Send { .. } | Self::Receive => Purpose::Send,
            Self::ChatDial(_) | Self::ChatListen => Purpose::Chat,
        }
    }
}
