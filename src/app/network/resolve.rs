//! The target to call, and the address at which others can call us.

use std::net::{IpAddr, UdpSocket};

use anyhow::{Context, Result};

use crate::net::{io::HostPort, session::Target};

/// The target to call.
pub(crate) fn target(to: &HostPort) -> Result<Target> {
    let host = &to.host;
    to.clone().target().with_context(|| {
        format!("cannot call port 0 of {host}: give the port that the other side listens on")
    })
}

/// The address at which other machines can most likely reach this one. Connecting a UDP socket
/// sends nothing; it only queries the routing table. 192.0.2.1 is for documentation (RFC 5737).
///
/// Without an IPv4 route, it is an IPv6 address (`2001:db8::/32` is for documentation, RFC 3849),
/// unless `only_v4`. Without a default route, as on a cable between two machines, it is an
/// interface's address.
pub(crate) fn own_address(only_v4: bool) -> Option<IpAddr> {
    let routed = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    };
    let v6 = || routed("[::]:0", "[2001:db8::1]:9").filter(|_| !only_v4);
    let local = || most_reachable(interface_addresses(), only_v4);
    routed("0.0.0.0:0", "192.0.2.1:9").or_else(v6).or_else(local)
}

/// The address that a neighbour can most easily call. Prefers IPv4, which is shorter to type.
/// Excludes link-local IPv6, which needs the name of the caller's own interface.
fn most_reachable(addresses: impl Iterator<Item = IpAddr>, only_v4: bool) -> Option<IpAddr> {
    let is_candidate = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !only_v4 && !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_link_local());
    addresses.filter(is_candidate).min_by_key(|ip| (is_link_local(ip), ip.is_ipv6()))
}

/// The addresses of the interfaces that are up.
#[cfg(unix)]
fn interface_addresses() -> impl Iterator<Item = IpAddr> {
    use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

    let interfaces = getifaddrs().into_iter().flatten();
    let up = interfaces.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    up.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
    })
}

#[cfg(not(unix))]
fn interface_addresses() -> impl Iterator<Item = IpAddr> {
    std::iter::empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most_reachable_of(addresses: &[&str], only_v4: bool) -> Option<String> {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap());
        most_reachable(addresses, only_v4).map(|ip| ip.to_string())
    }

    #[test]
    fn the_most_reachable_address_is_chosen() {
        let all = ["127.0.0.1", "::1", "fe80::1", "169.254.3.4", "fd00::1", "10.0.0.7"];
        for (count, only_v4, expected) in [
            (6, false, Some("10.0.0.7")),
            (5, false, Some("fd00::1")),
            (5, true, Some("169.254.3.4")),
            (4, false, Some("169.254.3.4")),
            (3, false, None),
        ] {
            let best = most_reachable_of(&all[..count], only_v4);
            assert_eq!(best.as_deref(), expected, "of {count}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn interface_addresses_include_the_loopback() {
        assert!(interface_addresses().any(|ip| ip.is_loopback()));
    }
}
