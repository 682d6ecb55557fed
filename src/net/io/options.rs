//! Options of the UDP socket.

/// Options of a [`UdpSocket`](super::UdpSocket). The default is the fastest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// How many datagrams a system call transfers.
    pub offload: Offload,
    /// The priority that the network should give our datagrams.
    pub dscp: Dscp,
}

/// How many datagrams a system call transfers. Each mode uses only the features it names, and falls
/// back where the system lacks one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// Sends batches that the kernel or the device segments (GSO), receives coalesced batches
    /// (GRO), and several of those in one call. Sends the datagrams of a refused batch one by one.
    #[default]
    Auto,
    /// Sends one datagram in each call, receives several.
    Batched,
    /// Sends and receives one datagram in each call.
    Single,
}

/// The differentiated services codepoint (DSCP) of outgoing datagrams: 0 to 63 (RFC 2474), 0 for
/// none.
///
/// The default is AF41, which RFC 8837 assigns to interactive video and RFC 4594 to multimedia
/// conferencing: above best effort, below the most urgent traffic. Wi-Fi maps it to its video queue
/// (RFC 8325).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dscp(u8);

impl Dscp {
    /// Best effort, the default for other traffic.
    pub const NONE: Self = Self(0);

    /// The codepoint `value`; `None` above 63.
    pub fn new(value: u8) -> Option<Self> {
        (value <= MAX_DSCP).then_some(Self(value))
    }

    /// The traffic class byte of the IP header, with the two ECN bits clear.
    pub(super) fn traffic_class(self) -> u32 {
        u32::from(self.0) << 2
    }
}

impl Default for Dscp {
    fn default() -> Self {
        Self(AF41)
    }
}

/// The largest codepoint: six bits.
pub const MAX_DSCP: u8 = 63;

/// Assured forwarding, class 4, lowest drop precedence (RFC 2597).
const AF41: u8 = 34;
