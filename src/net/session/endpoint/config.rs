//! The configuration of an endpoint.

use std::time::{Duration, Instant};

use crate::net::{
    crypto::keys::{Identity, PublicKey, SharedSecret},
    link::UDP_BASE_LEN,
    path::mtu::FLOOR_LEN,
    recovery::parity_control::FecMode,
    session::{
        DEFAULT_REASSEMBLY_DEADLINE, Target, Verdict, boot_local_epoch, sender::SenderConfig,
    },
    units::Bitrate,
    wire::{
        control::{Epoch, Purpose, StreamParams},
        datagram::Form,
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
    /// [`MIN_DATAGRAM_LEN`](crate::net::link::MIN_DATAGRAM_LEN).
    pub max_datagram_len: Option<usize>,
    /// The parity sent to the receivers.
    pub fec: FecMode,
    /// The maximum bitrate to one receiver, with all headers and repairs. `None`: limited only by
    /// the path.
    pub max_bitrate: Option<Bitrate>,
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
    /// The minimal configuration: datagrams of 1200 bytes, without parity, secrets or trust
    /// decisions. The media clock starts at `epoch`, which is not shared with peers.
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

    /// The sender's configuration for a peer that gives feedback and accepts datagrams of up to
    /// `accepted` bytes.
    pub(super) fn sender(&self, accepted: u16) -> SenderConfig {
        let without_feedback = self.sender_without_feedback();
        let limit = without_feedback.max_datagram_len.min(accepted_len(accepted));
        SenderConfig {
            max_datagram_len: limit,
            has_feedback: true,
            form: Form::Sealed,
            ..without_feedback
        }
    }

    /// The sender's configuration for a peer that gives no feedback.
    pub(super) fn sender_without_feedback(&self) -> SenderConfig {
        let is_sealed = matches!(self.one_way, OneWay::Sealed(_));
        SenderConfig {
            max_datagram_len: self.max_datagram_len.unwrap_or(UDP_BASE_LEN),
            fec: self.fec,
            max_bitrate: self.max_bitrate,
            has_feedback: false,
            form: if is_sealed { Form::Sealed } else { Form::Clear },
        }
    }

    /// The upper limit of path MTU probing to a peer that accepts datagrams of up to `accepted`
    /// bytes, unless the datagram length is configured.
    pub(super) fn probed_len(&self, accepted: u16) -> Option<usize> {
        self.max_datagram_len.is_none().then_some(accepted_len(accepted))
    }

    /// The peer's media epoch on our clock, if it runs on this machine.
    pub(super) fn same_machine_epoch(&self, peer: Epoch) -> Option<Instant> {
        boot_local_epoch(self.shared_epoch, self.epoch, peer)
    }
}

/// The maximum datagram length for a peer that accepts `accepted` bytes of UDP payload. A limit
/// below [`FLOOR_LEN`] is ignored, since it would only cost us more datagrams.
fn accepted_len(accepted: u16) -> usize {
    FLOOR_LEN.max(accepted.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EndpointConfig {
        let identity = Identity::from_bytes([1; 32]);
        EndpointConfig::new("ann", Role::Receive, identity, crate::clock::now())
    }

    #[test]
    fn the_datagram_length_respects_the_peer_and_the_configuration() {
        for (configured, accepted, sent, probed) in [
            (None, 65_507, UDP_BASE_LEN, Some(65_507)),
            (None, 1, FLOOR_LEN, Some(FLOOR_LEN)),
            (Some(1400), 65_507, 1400, None),
            (Some(1400), 1300, 1300, None),
            (Some(1400), 1, FLOOR_LEN, None),
        ] {
            let config = EndpointConfig { max_datagram_len: configured, ..config() };
            let sender = config.sender(accepted);
            assert_eq!(sender.max_datagram_len, sent, "{configured:?} to {accepted}");
            assert_eq!(config.probed_len(accepted), probed, "{configured:?} to {accepted}");
            assert!(sender.has_feedback && sender.form == Form::Sealed);
        }
    }

    #[test]
    fn without_feedback_datagrams_are_sealed_only_with_a_key() {
        let key = SharedSecret::from_bytes([9; 32]);
        for (one_way, form) in [(OneWay::Clear, Form::Clear), (OneWay::Sealed(key), Form::Sealed)] {
            let sender = EndpointConfig { one_way, ..config() }.sender_without_feedback();
            assert_eq!((sender.form, sender.has_feedback), (form, false));
        }
    }

    #[test]
    fn admission_decides_or_leaves_it_to_the_user() {
        let [ann, bob] = [1, 2].map(|byte| Identity::from_bytes([byte; 32]).public_key());
        assert_eq!(Admission::Anyone.verdict(&ann), Some(Verdict::Admit));
        assert_eq!(Admission::Keys(vec![ann]).verdict(&ann), Some(Verdict::Admit));
        assert_eq!(Admission::Keys(vec![ann]).verdict(&bob), Some(Verdict::Refuse));
        assert_eq!(Admission::Asked.verdict(&ann), None);
    }
}
