//! The two ends of a path: the peer's address, and the local address that it sends to.
//!
//! A host may have several addresses. A stateful firewall at the peer admits only datagrams from
//! the address that the peer sent to, so answers must use that source address; by itself, the
//! kernel would use the route's preferred one. A dialling side leaves the choice to the kernel, so
//! that its stream moves to another interface when one goes down.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::link::PeerAddr;

/// A path to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The peer's address.
    pub peer: PeerAddr,
    /// The local address that the peer sends to; `None` leaves the choice to the kernel.
    pub local: Option<LocalIp>,
}

/// A local address at which a datagram arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalIp {
    /// The address.
    pub ip: IpAddr,
    /// The interface index of a link-local address, which may exist on several interfaces;
    /// otherwise 0.
    pub interface: u32,
}

impl LocalIp {
    /// The address `ip` on interface `interface`, for use as a source address. `None` for
    /// unspecified and multicast addresses, and for 255.255.255.255. The broadcast addresses of
    /// subnets are not recognized.
    pub fn new(ip: IpAddr, interface: u32) -> Option<Self> {
        let ip = ip.to_canonical();
        let is_shared = match ip {
            IpAddr::V4(ip) => ip.is_broadcast(),
            IpAddr::V6(_) => false,
        };
        let is_own = !(is_shared || ip.is_unspecified() || ip.is_multicast());
        let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        is_own.then_some(Self { ip, interface: if is_link_local { interface } else { 0 } })
    }
}

/// Where a received datagram came from, and when it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The path that it came by.
    pub route: Route,
    /// When the kernel received it; `None` where only the time of reading it is known.
    pub arrived: Option<Instant>,
}

impl<R: Into<Route>> From<R> for Inbound {
    fn from(route: R) -> Self {
        Self { route: route.into(), arrived: None }
    }
}

impl From<PeerAddr> for Route {
    fn from(peer: PeerAddr) -> Self {
        Self { peer, local: None }
    }
}

impl From<SocketAddr> for Route {
    fn from(peer: SocketAddr) -> Self {
        PeerAddr::from(peer).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_broadcast_and_multicast_are_not_source_addresses() {
        let local = |ip: &str| LocalIp::new(ip.parse().unwrap(), 3);
        let of = |ip: &str, interface| Some(LocalIp { ip: ip.parse().unwrap(), interface });
        assert_eq!(local("10.0.0.1"), of("10.0.0.1", 0));
        assert_eq!(local("::ffff:10.0.0.1"), of("10.0.0.1", 0));
        assert_eq!(local("2001:db8::1"), of("2001:db8::1", 0));
        assert_eq!(local("fe80::1"), of("fe80::1", 3));
        for shared in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"] {
            assert_eq!(local(shared), None, "{shared}");
        }
    }
}
