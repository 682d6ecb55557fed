//! The two ends of a path: where a peer is, and the address of ours that it calls.
//!
//! A host may have several addresses. A stateful firewall at the peer lets in only what comes from the address
//! that was called, so an answer must leave from there; the kernel alone would take the route's preferred
//! address. A side that dials leaves the choice to the kernel, so that its stream moves to another
//! interface when one goes down.

use std::net::{IpAddr, SocketAddr};

/// A path to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Where the peer is.
    pub peer: SocketAddr,
    /// The address of ours that it calls; `None`: the kernel's choice.
    pub local: Option<LocalIp>,
}

/// An address of this machine that a datagram came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalIp {
    /// The address.
    pub ip: IpAddr,
    /// The interface of a link-local one, which may stand at several; else 0.
    pub interface: u32,
}

impl LocalIp {
    /// The address `ip`, at interface number `interface`, as a source of datagrams; `None` if it is
    /// everybody's, such as a multicast group.
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

impl From<SocketAddr> for Route {
    fn from(peer: SocketAddr) -> Self {
        Self { peer, local: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_one_machine_is_a_source() {
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
