//! Events that an endpoint reports.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::net::{
    crypto::keys::PublicKey,
    frame::{ReceivedFrame, SessionId},
    path::clock_offset::LocalTime,
    session::CallId,
    time::MediaTime,
    wire::{
        control::{CloseReason, ControlError, Purpose, RejectReason, StreamParams},
        text::{Line, Name},
    },
};

/// Something to report to the user.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A target does not accept our call yet; we keep trying. Repeated only when the reason
    /// changes.
    Waiting {
        /// The target's host.
        host: String,
        /// The target's port.
        port: u16,
        /// What prevents the call.
        reason: WaitReason,
    },
    /// After [`Waiting`](Self::Waiting): datagrams to a target without a control channel are being
    /// sent again, without failures.
    Sending {
        /// The target's host.
        host: String,
    },
    /// A target will never accept our call, which has been given up.
    GivenUp {
        /// The target's host.
        host: String,
        /// Why.
        reason: GiveUpReason,
    },
    /// A peer has proved possession of a key; a trust decision is needed. Nothing more happens with
    /// it until [`Endpoint::answer`](super::Endpoint::answer). A caller may ring indefinitely; a
    /// target that we called is called again after 35 seconds without an answer.
    Asked {
        /// Identifies the question.
        ask: AskId,
        /// The peer. A target that we called has not sent its name yet.
        peer: Peer,
        /// Its key.
        key: PublicKey,
        /// The host that we called; `None`: the peer calls us.
        host: Option<String>,
        /// Whether it has proved that it knows our code.
        has_code: bool,
    },
    /// A pending question is withdrawn: its peer has gone or was rejected.
    AskEnded {
        /// Identifies the question.
        ask: AskId,
    },
    /// Our hello was sent to a target. One frame will be sent to it before it accepts the call.
    SendingEarly {
        /// The target's host.
        host: String,
    },
    /// The target to which a frame is sent early does not accept the call at once: the frame may be
    /// lost.
    EarlyFrameLost,
    /// A session has begun.
    Connected {
        /// Its id in this endpoint.
        call: CallId,
        /// Its id on the wire.
        session: SessionId,
        /// The peer.
        peer: Peer,
        /// The parameters of the peer's stream, if it has sent them.
        stream: Option<StreamParams>,
        /// Whether datagrams are sealed.
        is_sealed: bool,
    },
    /// We rejected a caller.
    Refused {
        /// The caller.
        peer: Peer,
        /// Why.
        reason: RejectReason,
    },
    /// Video arrives that we cannot show: it is sealed with a key that we do not have, or not
    /// sealed although we have a key. Reported once.
    CannotOpen {
        /// Its source.
        from: SocketAddr,
        /// Whether it is sealed.
        is_sealed: bool,
    },
    /// A caller violated the protocol, used another protocol or version, or had a wrong code, and
    /// was disconnected.
    ProtocolViolation {
        /// Its address.
        from: SocketAddr,
        /// The violation.
        error: ControlError,
    },
    /// The parameters of the peer's stream have changed.
    StreamChanged {
        /// The call.
        call: CallId,
        /// The new parameters.
        stream: StreamParams,
    },
    /// The peer sent a text line.
    Text {
        /// The peer's name.
        from: Name,
        /// The line.
        line: Line,
    },
    /// The control channel is active, but no datagram has arrived for two seconds.
    UdpBlocked {
        /// The peer.
        peer: Peer,
    },
    /// Datagrams of the minimum length that the protocol needs do not reach the peer, though
    /// shorter ones do. Reported once per session.
    PathTooNarrow {
        /// The peer.
        peer: Peer,
    },
    /// Datagrams arrive again after `UdpBlocked`.
    UdpUnblocked {
        /// The peer.
        peer: Peer,
    },
    /// Pictures take longer to reach a peer than it waits for them, so they are dropped. Repeated
    /// only after a minute without such pictures.
    PicturesTooSlow {
        /// The peer.
        peer: Peer,
        /// How long a picture takes.
        takes: Duration,
    },
    /// A session has ended.
    Ended {
        /// Its id in this endpoint.
        call: CallId,
        /// The peer.
        peer: Peer,
        /// Why.
        reason: EndReason,
    },
}

/// The other side of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name; `None` until it has sent one, and always without a control channel.
    pub name: Option<Name>,
    /// Its address.
    pub addr: SocketAddr,
    /// The key that it has proved possession of; `None` without a control channel.
    pub key: Option<PublicKey>,
}

/// Identifies a pending trust decision within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AskId(pub u64);

/// The answer to [`Event::Asked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accept the peer.
    Admit,
    /// Reject the caller, or do not call the target again.
    Refuse,
}

/// Why a call has not been accepted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The connection is refused: nothing listens there yet.
    NobodyListens,
    /// There is no answer: the host is down, or a firewall drops our traffic.
    NoAnswer,
    /// A fault that the operating system reports.
    Local {
        /// The kind of fault.
        fault: LocalFault,
        /// The system's message.
        error: String,
    },
    /// The name has no address yet.
    Unresolved {
        /// The system's message.
        error: String,
    },
    /// The name resolves only to addresses at which no machine can be called.
    Uncallable {
        /// The first of them.
        ip: IpAddr,
    },
    /// The peer accepted the connection and closed it without an answer: it is limiting calls from
    /// our network after a wrong code, or it has too many callers.
    HungUp,
    /// The peer is in another session.
    Busy {
        /// The other session's peer.
        with: Name,
    },
    /// The peer's user is being asked whether to accept the call.
    Ringing,
    /// The connection was lost while the peer's user was being asked.
    ConnectionLost,
}

impl WaitReason {
    /// How informative this failure is, among several.
    pub(super) fn weight(&self) -> u32 {
        match self {
            Self::Unresolved { .. } | Self::Uncallable { .. } => 0,
            Self::Local { fault: LocalFault::NoRoute | LocalFault::NoFamily, .. } => 1,
            Self::Local { .. } => 2,
            Self::NoAnswer => 3,
            Self::NobodyListens => 4,
            Self::HungUp | Self::ConnectionLost | Self::Busy { .. } | Self::Ringing => 5,
        }
    }
}

/// Why this machine cannot reach an address, according to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalFault {
    /// There is no route.
    NoRoute,
    /// The destination is unreachable: the host is off or elsewhere, or a firewall rejects us.
    Unreachable,
    /// The address is valid on one interface only, which was not given.
    NoZone,
    /// It is a broadcast or multicast address.
    NotUnicast,
    /// A firewall of this machine, or a sandbox, forbids it.
    Forbidden,
    /// The address family is not supported.
    NoFamily,
    /// There is no source address.
    NoAddress,
    /// Too many files and connections are open.
    Exhausted,
    /// Something else.
    Other,
}

impl LocalFault {
    /// Advice for the user; empty if there is none beyond the system's message.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoRoute => {
                "this machine has no route there: connect it to a network, see `ip route`"
            }
            Self::Unreachable => {
                "check that it is on, on this network, and not blocked by a firewall"
            }
            Self::NoZone => {
                "a link-local address needs the interface: ADDRESS%eth0, with the name that `ip link` shows"
            }
            Self::NotUnicast => {
                "cannot call a broadcast or multicast address: give the address of one machine"
            }
            Self::Forbidden => "a firewall or sandbox of this machine forbids it",
            Self::NoFamily => {
                "this machine does not support this address family: use an IPv4 address, or enable IPv6"
            }
            Self::NoAddress => {
                "this machine has no address to call from: see `ip address`, and use another network or address"
            }
            Self::Exhausted => "raise the limit with `ulimit -n`, or close other programs",
            Self::Other => "",
        }
    }
}

/// Why a call will never be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GiveUpReason {
    /// The control channel failed: the peer violates the protocol, uses another protocol or
    /// version, or has another code.
    Control(ControlError),
    /// The peer's purpose differs from ours.
    Unwanted {
        /// The peer's purpose.
        wants: Purpose,
    },
    /// The peer found our hello malformed.
    Malformed,
    /// The peer rejects us.
    Refused,
    /// We rejected the peer: [`Verdict::Refuse`].
    Untrusted,
}

/// A received frame and its call.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The call.
    pub call: CallId,
    /// The frame.
    pub frame: ReceivedFrame,
    /// The sender's media epoch on our clock, if known.
    pub media_epoch: Option<LocalTime>,
    /// The parameters of the stream, if the sender has announced them.
    pub stream: Option<StreamParams>,
}

impl Delivered {
    /// Converts the sender's media time `at` to our clock, with its error; `None` while the clock
    /// offset is unknown.
    pub fn local(&self, at: MediaTime) -> Option<LocalTime> {
        let epoch = self.media_epoch?;
        Some(LocalTime { at: epoch.at + at.as_duration(), error: epoch.error })
    }
}

#[cfg(test)]
impl Delivered {
    /// Frame `id` of call 1, captured and sent at media time zero, with an unknown media epoch, and
    /// received completely at `at`.
    pub(crate) fn example(id: u32, data: &[u8], at: std::time::Instant) -> Self {
        let zero = MediaTime::from_micros(0);
        let frame = ReceivedFrame {
            id: crate::net::frame::FrameId(id),
            data: data.to_vec().into(),
            captured: zero,
            first_sent: zero,
            first_received: at,
            completed: at,
            recovered_chunks: 0,
            repair_delay: None,
        };
        Self { call: CallId(1), frame, media_epoch: None, stream: None }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The peer said goodbye.
    Closed(CloseReason),
    /// The connection broke: the peer or the network failed.
    ConnectionLost,
    /// Nothing was received from the peer for too long.
    Silent,
    /// Another caller took over from a peer that was silent or may be replaced.
    TakenOver,
    /// The peer violated the protocol.
    Protocol(ControlError),
    /// We ended it.
    Local,
}
