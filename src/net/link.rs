//! Links: how datagrams reach a peer.
//!
//! Sessions know a peer on the media path only by an opaque address, and a link by what matters for
//! sending. UDP is the only kind of link. A link whose longest datagrams are shorter than UDP's
//! base length, such as an encrypted tunnel, would be another.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// A peer's address on its link.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr(SocketAddr);

/// The properties of a link that matter for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Whether the peer has a loopback address, so that no next hop has a queue that a burst could
    /// overrun.
    pub is_local: bool,
    /// The datagram length to begin with, in bytes, which practically every path carries.
    pub base_datagram_len: usize,
    /// Lengths that paths often carry, in bytes, the shorter one first. Longer ones are not tried.
    pub usual_datagram_lens: [usize; 2],
}

impl PeerAddr {
    /// The peer's IP address and UDP port.
    pub fn socket_addr(self) -> SocketAddr {
        self.0
    }

    /// Whether the peer is the host `ip`, whatever its port.
    pub fn is_host(self, ip: IpAddr) -> bool {
        self.0.ip() == ip
    }

    /// The link to this peer.
    pub fn link(self) -> LinkInfo {
        LinkInfo {
            is_local: self.0.ip().is_loopback(),
            base_datagram_len: UDP_BASE_LEN,
            usual_datagram_lens: if self.0.is_ipv6() { USUAL_IPV6 } else { USUAL_IPV4 },
        }
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        Self(addr)
    }
}

impl fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl LinkInfo {
    /// The longest datagram length worth trying, in bytes.
    pub fn max_datagram_len(&self) -> usize {
        self.usual_datagram_lens[1]
    }
}

/// The base length of a UDP link, in bytes of payload. Every IPv6 path carries it (RFC 8200: an MTU
/// of 1280, minus headers).
pub const UDP_BASE_LEN: usize = 1200;

/// The shortest maximum datagram length, in bytes. A frame of 8 MiB in much shorter datagrams has
/// too many chunks, and the headers take a quarter of this already. Reports take 116 bytes.
pub const MIN_DATAGRAM_LEN: usize = 200;

/// Ethernet and jumbo Ethernet, less the headers of IP and UDP.
const USUAL_IPV4: [usize; 2] = [1472, 8972];
const USUAL_IPV6: [usize; 2] = [1452, 8952];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_udp_link_depends_on_the_address() {
        let link = |addr: &str| PeerAddr::from(addr.parse::<SocketAddr>().unwrap()).link();
        assert!(link("127.0.0.1:5").is_local && link("[::1]:5").is_local);
        let ethernet = link("192.0.2.7:5");
        assert!(!ethernet.is_local);
        // 20 and 40 bytes of IP, 8 of UDP.
        assert_eq!(ethernet.usual_datagram_lens, [1500 - 28, 9000 - 28]);
        let v6 = link("[2001:db8::1]:5");
        assert_eq!((v6.usual_datagram_lens[0], v6.max_datagram_len()), (1500 - 48, 9000 - 48));
        assert_eq!(v6.base_datagram_len, 1280 - 48 - 32);
    }

    #[test]
    fn a_peer_is_on_its_host_at_any_port() {
        let peer = PeerAddr::from("192.0.2.7:5".parse::<SocketAddr>().unwrap());
        assert!(peer.is_host("192.0.2.7".parse().unwrap()));
        assert!(!peer.is_host("192.0.2.8".parse().unwrap()));
    }
}
