//! What is asked of the UDP socket besides its address.

/// Options of a [`UdpSocket`](super::UdpSocket). The default is the best that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// How datagrams and system calls go together.
    pub offload: Offload,
    /// What the network is told of our datagrams.
    pub dscp: Dscp,
}

/// How many datagrams a system call moves. A level asks for no more than its name says; what the
/// system does not have, it does without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// Sends batches that the kernel or the device segments (GSO), receives what they have
    /// coalesced (GRO), and many of those a call. A batch that is refused goes singly.
    #[default]
    Auto,
    /// Sends one datagram a call, receives many.
    Batched,
    /// One datagram a call, both ways.
    Single,
}

/// The differentiated services codepoint of what is sent: 0 to 63 (RFC 2474), 0 for none.
///
/// Default AF41, which RFC 8837 gives interactive video and RFC 4594 multimedia conferencing:
/// ahead of what can wait, behind what must not. Wi-Fi takes it for its video queue (RFC 8325).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dscp(u8);

impl Dscp {
    /// Best effort, as any other traffic.
    pub const NONE: Self = Self(0);

    /// The codepoint `value`; `None` above 63.
    pub fn new(value: u8) -> Option<Self> {
        (value <= MAX_DSCP).then_some(Self(value))
    }

    /// The byte of the IP header that it stands in, above the two bits of ECN.
    pub(super) fn traffic_class(self) -> u32 {
        u32::from(self.0) << 2
    }
}

impl Default for Dscp {
    fn default() -> Self {
        Self(AF41)
    }
}

/// The largest codepoint: it has six bits.
pub const MAX_DSCP: u8 = 63;

/// Assured forwarding, class 4, lowest drop precedence (RFC 2597).
const AF41: u8 = 34;
