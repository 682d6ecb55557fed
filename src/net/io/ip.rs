//! Addresses and headers of IPv4 and IPv6.

use std::net::{IpAddr, SocketAddr};

/// Converts an IPv4-mapped address to IPv4. Other addresses are unchanged, including their scope.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// The length of the IP and UDP headers of a datagram to `to`, in bytes.
pub(super) fn header_len(to: SocketAddr) -> usize {
    if canonical(to).is_ipv4() { IPV4_UDP_HEADERS } else { IPV6_UDP_HEADERS }
}

const IPV4_UDP_HEADERS: usize = 20 + 8;
const IPV6_UDP_HEADERS: usize = 40 + 8;
