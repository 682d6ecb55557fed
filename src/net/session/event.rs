//! What a session tells its user.

use std::net::SocketAddr;

use crate::net::{
    clock_offset::LocalTime,
    crypto::keys::PublicKey,
    frame::{ReceivedFrame, SessionId},
    session::CallId,
    time::MediaTime,
    wire::{
        control::{CloseReason, ControlError, Purpose, RejectReason, StreamParams},
        text::{Line, Name},
    },
};

/// Something that people would want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A target does not take our call yet; we go on trying. Said again only when the reason changes.
    Waiting {
        /// Whom we call.
        host: String,
        /// On which port.
        port: u16,
        /// What keeps us.
        reason: WaitReason,
    },
    /// Datagrams to a target that is sent to unasked leave this machine now, and nobody refuses them, after
    /// [`Waiting`](Self::Waiting).
    Sending {
        /// To whom.
        host: String,
    },
    /// A target will never take our call; we have given it up.
    GivenUp {
        /// Whom we called.
        host: String,
        /// Why.
        reason: GiveUpReason,
    },
    /// A peer has proved possession of a key; a trust decision is needed. Nothing more happens with
    /// it until [`Endpoint::answer`](super::Endpoint::answer). A caller rings as long as it likes; one
    /// that we called is called anew after half a minute without an answer.
    Asked {
        /// What to answer to.
        ask: AskId,
        /// Who it is. One that we called has not said its name yet.
        peer: Peer,
        /// Its key.
        key: PublicKey,
        /// As whom we called it; `None`: it calls us.
        host: Option<String>,
        /// Whether it has proved to know our code.
        has_code: bool,
    },
    /// Whoever was asked about has gone away.
    AskEnded {
        /// What was to be answered to.
        ask: AskId,
    },
    /// A session has begun.
    Connected {
        /// Its handle.
        call: CallId,
        /// Its id on the wire.
        session: SessionId,
        /// With whom.
        peer: Peer,
        /// What the peer sends, if it sends and has said so.
        stream: Option<StreamParams>,
        /// Whether the datagrams are sealed.
        is_sealed: bool,
    },
    /// We refused a caller.
    Refused {
        /// Whom.
        peer: Peer,
        /// Why.
        reason: RejectReason,
    },
    /// Video comes that we cannot show: it is sealed with a key that we do not have, or not sealed,
    /// though we have a key. Said once.
    CannotOpen {
        /// From where.
        from: SocketAddr,
        /// Whether it is sealed.
        is_sealed: bool,
    },
    /// A caller spoke something else, another version, or had another code, and was cut off.
    Misspoke {
        /// From where.
        from: SocketAddr,
        /// What was wrong.
        error: ControlError,
    },
    /// The peer's stream has changed.
    StreamChanged {
        /// Whose.
        call: CallId,
        /// To what.
        stream: StreamParams,
    },
    /// The peer said something.
    Text {
        /// Who.
        from: Name,
        /// What.
        line: Line,
    },
    /// The control channel is up, but no datagram has come for two seconds.
    UdpBlocked {
        /// From whom none has come.
        peer: Peer,
    },
    /// Datagrams have begun to come, after `UdpBlocked`.
    UdpUnblocked {
        /// From whom.
        peer: Peer,
    },
    /// A session has ended.
    Ended {
        /// Its handle.
        call: CallId,
        /// With whom it was.
        peer: Peer,
        /// Why.
        reason: EndReason,
    },
}

/// The other side of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it calls itself; a sender without a control channel does not say.
    pub name: Option<Name>,
    /// Where it is.
    pub addr: SocketAddr,
    /// What it has proved to be; not a sender without a control channel.
    pub key: Option<PublicKey>,
}

/// A question about somebody, unique within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AskId(pub u64);

/// The answer to [`Event::Asked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with it.
    Admit,
    /// Send it away, or do not speak with it.
    Refuse,
}

/// What keeps a call from being taken, for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Nobody listens there yet.
    NobodyListens,
    /// Nothing answers from there: no host, or a firewall.
    NoAnswer,
    /// This machine could not even try, or the system knows why nothing answers.
    Local {
        /// What kind of fault that is.
        fault: LocalFault,
        /// What the system said.
        said: String,
    },
    /// Its name has no address yet.
    Unresolved {
        /// What the system said.
        error: String,
    },
    /// The peer has taken the connection and closed it without an answer: our address must wait after a
    /// wrong code, or the peer has more callers than it can hear.
    HungUp,
    /// The peer is in another session.
    Busy {
        /// With whom.
        with: Name,
    },
    /// The peer asks somebody whether to take the call.
    Ringing,
    /// The connection was lost while the peer asked somebody.
    ConnectionLost,
}

impl WaitReason {
    /// Of several failures, how much this one says of what is wrong.
    pub(super) fn weight(&self) -> u32 {
        match self {
            Self::Unresolved { .. } => 0,
            Self::Local { fault: LocalFault::NoRoute | LocalFault::NoFamily, .. } => 1,
            Self::Local { .. } => 2,
            Self::NoAnswer => 3,
            Self::NobodyListens => 4,
            Self::HungUp | Self::ConnectionLost | Self::Busy { .. } | Self::Ringing => 5,
        }
    }
}

/// Why this machine cannot reach an address, as far as the system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalFault {
    /// It knows no way there.
    NoRoute,
    /// The way ends before the address: the host is off, is elsewhere, or something refuses.
    Unreachable,
    /// The address holds on one interface only, and it is not said which.
    NoZone,
    /// It is a broadcast or multicast address.
    Group,
    /// A firewall of this machine, or a sandbox, forbids it.
    Forbidden,
    /// It does not speak the address's protocol.
    NoFamily,
    /// It has no address to call from.
    NoAddress,
    /// It has too many files and connections open.
    Exhausted,
    /// Something else.
    Other,
}

impl LocalFault {
    /// What helps; empty where the system's word must do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoRoute => {
                "this machine has no route there: connect it to a network, see `ip route`"
            }
            Self::Unreachable => "is it on, in this network, and does no firewall refuse it?",
            Self::NoZone => {
                "a link-local address needs the interface: ADDRESS%eth0, with the name that `ip link` shows"
            }
            Self::Group => {
                "a broadcast or multicast address cannot be called: give the address of one machine"
            }
            Self::Forbidden => "a firewall or sandbox of this machine forbids it",
            Self::NoFamily => {
                "this machine does not speak the address's protocol: use an IPv4 address, or enable IPv6"
            }
            Self::NoAddress => {
                "this machine has no address to call from: see `ip address`, and use another network or address"
            }
            Self::Exhausted => "raise the limit with `ulimit -n`, or end other programs",
            Self::Other => "",
        }
    }
}

/// What keeps a call from ever being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GiveUpReason {
    /// The other side speaks something else.
    Control(ControlError),
    /// The other side does not want what we do.
    Unwanted {
        /// What it wants.
        wants: Purpose,
    },
    /// The other side found our hello malformed.
    Malformed,
    /// The other side does not want us.
    Refused,
    /// We do not want the other side: [`Verdict::Refuse`], or no answer.
    Untrusted,
}

/// A received frame, and whose it is.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Whose.
    pub call: CallId,
    /// The frame.
    pub frame: ReceivedFrame,
    /// The sender's media time zero on our clock, if known.
    pub media_epoch: Option<LocalTime>,
}

impl Delivered {
    /// `at` of the sender's media clock on our clock, with its error; `None` while the clocks
    /// have not been compared.
    pub fn local(&self, at: MediaTime) -> Option<LocalTime> {
        let epoch = self.media_epoch?;
        Some(LocalTime { at: epoch.at + at.as_duration(), error: epoch.error })
    }
}

#[cfg(test)]
impl Delivered {
    /// Frame `id` of call 1, taken and sent at its sender's zero, which nobody knows on our clock,
    /// and all there `at` once.
    pub(crate) fn example(id: u32, data: &[u8], at: std::time::Instant) -> Self {
        let zero = MediaTime::from_micros(0);
        let frame = ReceivedFrame {
            id: crate::net::frame::FrameId(id),
            data: data.to_vec().into(),
            captured: zero,
            first_sent: zero,
            first_received: at,
            completed: at,
            repaired_chunks: 0,
            repair_delay: None,
        };
        Self { call: CallId(1), frame, media_epoch: None }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The peer said goodbye.
    Closed(CloseReason),
    /// The connection broke: the peer died, or the network did.
    ConnectionLost,
    /// Nothing was heard from the peer for too long.
    Silent,
    /// Another sender took over, after this one had been silent.
    TakenOver,
    /// The peer broke the protocol.
    Protocol(ControlError),
    /// We ended it.
    Local,
}
