//! Classifies the system's errors about unreachable addresses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Instant,
};

#[cfg(unix)]
use nix::{net::if_::InterfaceFlags, sys::socket::SockaddrStorage};

use super::zone::lacks_zone;
use crate::net::session::{ConnId, Endpoint, LocalFault, WaitReason};

/// Why this machine cannot reach `to`; `None` if `error` means only a refusal or a missing answer.
fn fault(error: &io::Error, to: SocketAddr) -> Option<LocalFault> {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
        PermissionDenied, TimedOut, Unsupported,
    };
    if lacks_zone(&to) {
        return Some(LocalFault::NoZone);
    }
    match error.kind() {
        ConnectionRefused | ConnectionReset | TimedOut => None,
        // Systems report different errors for these addresses.
        NetworkUnreachable | HostUnreachable | PermissionDenied | AddrNotAvailable
            if is_broadcast_or_multicast(to.ip()) =>
        {
            Some(LocalFault::NotUnicast)
        }
        NetworkUnreachable => Some(LocalFault::NoRoute),
        HostUnreachable => Some(LocalFault::Unreachable),
        PermissionDenied => Some(LocalFault::Forbidden),
        AddrNotAvailable => Some(LocalFault::NoAddress),
        Unsupported => Some(LocalFault::NoFamily),
        _ => Some(by_errno(error)),
    }
}

/// Whether `ip` is a broadcast or multicast address.
fn is_broadcast_or_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_multicast() || is_broadcast_of_a_network(v4),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Whether `ip` is the broadcast address of a network of this machine.
#[cfg(unix)]
fn is_broadcast_of_a_network(ip: Ipv4Addr) -> bool {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return false };
    let mut networks = interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_BROADCAST))
        .filter_map(|interface| {
            let ip = |of: Option<SockaddrStorage>| Some(of?.as_sockaddr_in()?.ip());
            Some((ip(interface.address)?, ip(interface.netmask)?))
        });
    networks.any(|(own, mask)| is_broadcast(ip, own, mask))
}

/// Whether `ip` is the broadcast address of `own`'s network. A network of two addresses has none
/// (RFC 3021).
#[cfg(unix)]
fn is_broadcast(ip: Ipv4Addr, own: Ipv4Addr, mask: Ipv4Addr) -> bool {
    let host_bits = !mask.to_bits();
    host_bits > 1 && ip.to_bits() == own.to_bits() | host_bits
}

#[cfg(not(unix))]
fn is_broadcast_of_a_network(_: Ipv4Addr) -> bool {
    false
}

/// The system's error for a link-local address without an interface. The system reports it only for
/// connections; it would send a datagram through any interface.
pub(super) fn no_zone() -> io::Error {
    #[cfg(unix)]
    {
        nix::errno::Errno::EINVAL.into()
    }
    #[cfg(not(unix))]
    {
        io::ErrorKind::InvalidInput.into()
    }
}

#[cfg(unix)]
fn by_errno(error: &io::Error) -> LocalFault {
    use nix::errno::Errno;

    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT) => LocalFault::NoFamily,
        Some(Errno::EMFILE | Errno::ENFILE) => LocalFault::Exhausted,
        _ => LocalFault::Other,
    }
}

#[cfg(not(unix))]
fn by_errno(_: &io::Error) -> LocalFault {
    LocalFault::Other
}

/// Why a datagram to `to` cannot be sent.
pub(super) fn reason(error: &io::Error, to: SocketAddr) -> WaitReason {
    match fault(error, to) {
        Some(fault) => WaitReason::Local { fault, error: message_of(error) },
        None if is_refusal(error) => WaitReason::NobodyListens,
        None => WaitReason::NoAnswer,
    }
}

/// Reports to `endpoint` that `conn` could not be established, and why.
pub(super) fn not_dialled(
    endpoint: &mut Endpoint,
    now: Instant,
    conn: ConnId,
    to: SocketAddr,
    error: &io::Error,
) {
    match fault(error, to) {
        Some(fault) => endpoint.handle_not_dialled(now, conn, fault, message_of(error)),
        None => endpoint.handle_disconnected(now, conn, is_refusal(error)),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

/// The system's message without its number.
fn message_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_network_of_more_than_two_addresses_has_a_broadcast_address() {
        let is_broadcast = |ip: &str, own: &str, mask: &str| {
            is_broadcast(ip.parse().unwrap(), own.parse().unwrap(), mask.parse().unwrap())
        };
        assert!(is_broadcast("10.0.0.255", "10.0.0.7", "255.255.255.0"));
        assert!(is_broadcast("10.0.0.3", "10.0.0.1", "255.255.255.252"));
        assert!(!is_broadcast("10.0.1.255", "10.0.0.7", "255.255.255.0"));
        assert!(!is_broadcast("10.0.0.1", "10.0.0.0", "255.255.255.254"));
        assert!(!is_broadcast("10.0.0.1", "10.0.0.1", "255.255.255.255"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn system_errors_are_classified() {
        let fault_of =
            |number, to: &str| fault(&io::Error::from_raw_os_error(number), to.parse().unwrap());
        for (number, expected) in [
            (libc::ENETUNREACH, Some(LocalFault::NoRoute)),
            (libc::EHOSTUNREACH, Some(LocalFault::Unreachable)),
            (libc::EACCES, Some(LocalFault::Forbidden)),
            (libc::EPERM, Some(LocalFault::Forbidden)),
            (libc::EADDRNOTAVAIL, Some(LocalFault::NoAddress)),
            (libc::EAFNOSUPPORT, Some(LocalFault::NoFamily)),
            (libc::EMFILE, Some(LocalFault::Exhausted)),
            (libc::EINVAL, Some(LocalFault::Other)),
            (libc::ECONNREFUSED, None),
            (libc::ETIMEDOUT, None),
        ] {
            assert_eq!(fault_of(number, "10.0.0.1:7"), expected, "{number}");
        }
        assert_eq!(fault_of(libc::EINVAL, "[fe80::1]:7"), Some(LocalFault::NoZone));
        for (number, to) in [
            (libc::EACCES, "255.255.255.255:7"),
            (libc::ENETUNREACH, "255.255.255.255:7"),
            (libc::ENETUNREACH, "224.0.0.1:7"),
            (libc::ENETUNREACH, "[ff02::1]:7"),
        ] {
            assert_eq!(fault_of(number, to), Some(LocalFault::NotUnicast), "{to}");
        }
        assert_eq!(
            message_of(&io::Error::from_raw_os_error(libc::ENETUNREACH)),
            "Network is unreachable"
        );
    }
}
