//! What the system says of an address that cannot be reached, told apart.

use std::{io, net::SocketAddr, time::Instant};

use super::zone::lacks_zone;
use crate::net::session::{ConnId, Endpoint, LocalFault};

/// Why this machine cannot reach `to`, if `error` says more than that nobody answers.
pub(super) fn fault(error: &io::Error, to: SocketAddr) -> Option<LocalFault> {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
        PermissionDenied, TimedOut, Unsupported,
    };
    if lacks_zone(&to) {
        return Some(LocalFault::NoZone);
    }
    match error.kind() {
        ConnectionRefused | ConnectionReset | TimedOut => None,
        NetworkUnreachable => Some(LocalFault::NoRoute),
        HostUnreachable => Some(LocalFault::Unreachable),
        PermissionDenied => Some(LocalFault::Forbidden),
        AddrNotAvailable => Some(LocalFault::NoAddress),
        Unsupported => Some(LocalFault::NoFamily),
        _ => Some(by_number(error)),
    }
}

#[cfg(unix)]
fn by_number(error: &io::Error) -> LocalFault {
    use nix::errno::Errno;

    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT) => LocalFault::NoFamily,
        Some(Errno::EMFILE | Errno::ENFILE) => LocalFault::Exhausted,
        _ => LocalFault::Other,
    }
}

#[cfg(not(unix))]
fn by_number(_: &io::Error) -> LocalFault {
    LocalFault::Other
}

/// What to do when a socket could not be made, behind the system's word; empty if that must do.
pub(super) fn remedy_of(error: &io::Error) -> String {
    match by_number(error) {
        fault @ LocalFault::Exhausted => format!(": {}", fault.remedy()),
        _ => String::new(),
    }
}

/// Tells `endpoint` that `conn` could not be made, and why.
pub(super) fn not_dialled(
    endpoint: &mut Endpoint,
    now: Instant,
    conn: ConnId,
    to: SocketAddr,
    error: &io::Error,
) {
    match fault(error, to) {
        Some(fault) => endpoint.handle_not_dialled(now, conn, fault, said(error)),
        None => endpoint.handle_disconnected(now, conn, is_refusal(error)),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

/// The system's words without their number.
fn said(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_the_system_says_is_told_apart() {
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
        assert_eq!(
            said(&io::Error::from_raw_os_error(libc::ENETUNREACH)),
            "Network is unreachable"
        );
    }
}
