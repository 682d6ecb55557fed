//! The interface towards a peer: how long datagrams may be, and how fast it is.

use std::net::SocketAddr;

use crate::net::units::Bitrate;

/// The longest datagram that the interface towards `to` accepts, or less if the kernel has learned
/// a lower path MTU, in bytes of UDP payload; `None` where the system does not report it.
pub(super) fn interface_len(to: SocketAddr) -> Option<usize> {
    system::interface_len(to)
}

/// The speed of the interface towards `to`. `None` if it is unknown or varies, as that of Wi-Fi
/// does, or if the interface is virtual: a tunnel reports 10 Mbit/s whatever it carries.
pub(super) fn interface_speed(to: SocketAddr) -> Option<Bitrate> {
    system::interface_speed(to)
}

#[cfg(target_os = "linux")]
mod system {
    use std::{
        fs,
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
        path::Path,
    };

    use nix::ifaddrs::{InterfaceAddress, getifaddrs};
    use rustix::net::sockopt::{ip_mtu, ipv6_mtu};

    use super::super::ip::header_len;
    use crate::net::units::Bitrate;

    pub(super) fn interface_len(to: SocketAddr) -> Option<usize> {
        let socket = socket_towards(to)?;
        let mtu = if to.is_ipv4() { ip_mtu(&socket).ok()? } else { ipv6_mtu(&socket).ok()? };
        (mtu as usize).checked_sub(header_len(to))
    }

    pub(super) fn interface_speed(to: SocketAddr) -> Option<Bitrate> {
        let local = socket_towards(to)?.local_addr().ok()?;
        let interface = getifaddrs().ok()?.find(|interface| has_addr(interface, local))?;
        speed_of(&Path::new("/sys/class/net").join(interface.interface_name))
    }

    /// A socket that is bound to the interface's address. Only the route is looked up; nothing is
    /// sent.
    fn socket_towards(to: SocketAddr) -> Option<UdpSocket> {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(to).ok()?;
        Some(socket)
    }

    /// Whether the interface has `addr`. Several may have the same link-local address.
    fn has_addr(interface: &InterfaceAddress, addr: SocketAddr) -> bool {
        let Some(of_interface) = &interface.address else { return false };
        match addr {
            SocketAddr::V4(addr) => {
                of_interface.as_sockaddr_in().is_some_and(|v4| v4.ip() == *addr.ip())
            }
            SocketAddr::V6(addr) => of_interface.as_sockaddr_in6().is_some_and(|v6| {
                let same_zone = addr.scope_id() == 0 || v6.scope_id() == addr.scope_id();
                v6.ip() == *addr.ip() && same_zone
            }),
        }
    }

    /// The speed in an interface's directory in sysfs. Only a physical interface has a `device`;
    /// one that is down has the speed -1.
    fn speed_of(interface: &Path) -> Option<Bitrate> {
        interface.join("device").exists().then_some(())?;
        let mbps: u64 = fs::read_to_string(interface.join("speed")).ok()?.trim().parse().ok()?;
        (mbps > 0).then(|| Bitrate::from_mbps(mbps))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_a_physical_interface_with_a_known_speed_has_one() {
            let dir = tempfile::tempdir().expect("a directory");
            let speed = |text: &str| {
                fs::write(dir.path().join("speed"), text).expect("written");
                speed_of(dir.path())
            };
            assert_eq!(speed("10\n"), None, "virtual");
            fs::create_dir(dir.path().join("device")).expect("created");
            assert_eq!(speed("1000\n"), Some(Bitrate::from_mbps(1000)));
            for unknown in ["-1\n", "0\n", "4294967296000000000000\n", ""] {
                assert_eq!(speed(unknown), None, "{unknown:?}");
            }
            assert_eq!(speed_of(&dir.path().join("none")), None);
        }

        #[test]
        fn loopback_is_long_and_has_no_speed() {
            let to = "127.0.0.1:9".parse().expect("an address");
            assert!(interface_len(to).is_some_and(|len| len >= 1200));
            assert_eq!(interface_speed(to), None);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::net::SocketAddr;

    use crate::net::units::Bitrate;

    pub(super) fn interface_len(_: SocketAddr) -> Option<usize> {
        None
    }

    pub(super) fn interface_speed(_: SocketAddr) -> Option<Bitrate> {
        None
    }
}
