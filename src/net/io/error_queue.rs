//! Errors that routers and hosts report for our datagrams: the error queue of a socket (Linux).
//!
//! On other systems, and on paths that report nothing, only probes find the path MTU. Anyone who
//! knows the addresses can forge such a report, so it is only a hint: see
//! [`PathMtu`](crate::net::path::mtu::PathMtu).

use std::net::SocketAddr;

/// A report about a datagram to `to`.
#[derive(Debug)]
pub(super) struct IcmpReport {
    pub(super) to: SocketAddr,
    pub(super) error: DeliveryError,
}

/// Why a datagram was not delivered.
#[derive(Debug)]
pub(super) enum DeliveryError {
    /// The path carries at most this many bytes of UDP payload.
    TooBig(usize),
    /// The host is unreachable, or nothing listens on the port.
    Unreachable(std::io::Error),
}

#[cfg(target_os = "linux")]
pub(super) use linux::{take, watch};

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        io::{self, IoSliceMut},
        net::{SocketAddr, SocketAddrV4, SocketAddrV6},
        os::fd::{AsFd, AsRawFd},
    };

    use nix::{
        libc::{self, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, sock_extended_err},
        sys::socket::{
            ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
            sockopt::{Ipv4RecvErr, Ipv6RecvErr},
        },
    };

    use super::{DeliveryError, IcmpReport};
    use crate::net::io::ip::{canonical, header_len};

    /// Enables the error queue. From then on, each report also makes one later call on the socket
    /// fail.
    pub(in crate::net::io) fn watch(socket: &impl AsFd, is_v6: bool) -> io::Result<()> {
        // On an IPv6 socket, this covers its IPv4 traffic.
        setsockopt(socket, Ipv4RecvErr, &true)?;
        if is_v6 {
            setsockopt(socket, Ipv6RecvErr, &true)?;
        }
        Ok(())
    }

    /// Takes up to [`TAKEN_AT_ONCE`] reports from the queue and passes the ICMP errors among them to
    /// `handle`.
    pub(in crate::net::io) fn take(socket: &impl AsRawFd, mut handle: impl FnMut(IcmpReport)) {
        let mut space = nix::cmsg_space!(sock_extended_err, libc::sockaddr_in6, [u8; 128]);
        for _ in 0..TAKEN_AT_ONCE {
            let mut quoted = [0; 0];
            let mut slices = [IoSliceMut::new(&mut quoted)];
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let fd = socket.as_raw_fd();
            let got = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut space), flags);
            let Ok(got) = got else { return };
            let Some(to) = got.address.and_then(addr) else { continue };
            let Ok(messages) = got.cmsgs() else { continue };
            for message in messages {
                if let ControlMessageOwned::Ipv4RecvErr(error, _)
                | ControlMessageOwned::Ipv6RecvErr(error, _) = message
                    && let Some(error) = parse(to, &error)
                {
                    handle(IcmpReport { to, error });
                }
            }
        }
    }

    /// Interprets `error`, which concerns a datagram to `to`. `None` unless it came by ICMP and is
    /// one that matters here.
    fn parse(to: SocketAddr, error: &sock_extended_err) -> Option<DeliveryError> {
        if !matches!(error.ee_origin, SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6) {
            return None;
        }
        match error.ee_errno as i32 {
            libc::EMSGSIZE => {
                let headers = header_len(to);
                Some(DeliveryError::TooBig((error.ee_info as usize).checked_sub(headers)?))
            }
            errno @ (libc::EHOSTUNREACH | libc::ECONNREFUSED) => {
                Some(DeliveryError::Unreachable(io::Error::from_raw_os_error(errno)))
            }
            _ => None,
        }
    }

    fn addr(addr: SockaddrStorage) -> Option<SocketAddr> {
        let v4 = addr.as_sockaddr_in().map(|&addr| SocketAddrV4::from(addr).into());
        let v6 = || addr.as_sockaddr_in6().map(|&addr| SocketAddrV6::from(addr).into());
        v4.or_else(v6).map(canonical)
    }

    /// The maximum number of reports taken per call. The rest stay in the queue until the next call,
    /// so that a flood cannot hold up the loop.
    const TAKEN_AT_ONCE: usize = 64;

    #[cfg(test)]
    mod tests {
        use super::*;

        fn error(origin: u8, errno: i32, info: u32) -> sock_extended_err {
            sock_extended_err {
                ee_errno: errno as u32,
                ee_origin: origin,
                ee_type: 3,
                ee_code: 4,
                ee_pad: 0,
                ee_info: info,
                ee_data: 0,
            }
        }

        #[test]
        fn only_icmp_too_big_reports_carry_a_length() {
            let v4: SocketAddr = "10.0.0.1:7722".parse().unwrap();
            let v6: SocketAddr = "[2001:db8::1]:7722".parse().unwrap();
            let len = |to, error: &_| match parse(to, error) {
                Some(DeliveryError::TooBig(len)) => Some(len),
                _ => None,
            };
            assert_eq!(len(v4, &error(SO_EE_ORIGIN_ICMP, libc::EMSGSIZE, 1500)), Some(1472));
            assert_eq!(len(v6, &error(SO_EE_ORIGIN_ICMP6, libc::EMSGSIZE, 1280)), Some(1232));
            assert_eq!(len(v4, &error(SO_EE_ORIGIN_ICMP, libc::EMSGSIZE, 27)), None);
            assert_eq!(len(v4, &error(SO_EE_ORIGIN_ICMP, libc::ECONNREFUSED, 1500)), None);
            let local = libc::SO_EE_ORIGIN_LOCAL;
            assert_eq!(len(v4, &error(local, libc::EMSGSIZE, 1500)), None);
        }

        #[test]
        fn an_unreachable_port_is_reported_and_the_socket_still_sends() {
            let bind = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let (socket, gone) = (bind(), bind().local_addr().unwrap());
            watch(&socket, false).unwrap();
            socket.send_to(b"anybody?", gone).unwrap();
            let error = socket.send_to(b"hello?", gone).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            let mut reports = Vec::new();
            take(&socket, |report| reports.push(report));
            let kind = |report: &IcmpReport| match &report.error {
                DeliveryError::Unreachable(error) => Some(error.kind()),
                DeliveryError::TooBig(_) => None,
            };
            assert!(
                reports.iter().any(|r| r.to == gone && kind(r) == Some(error.kind())),
                "{reports:?}"
            );
            socket.send_to(b"hello?", gone).expect("an error is reported once");
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn watch(_: &impl std::any::Any, _: bool) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn take(_: &impl std::any::Any, _: impl FnMut(IcmpReport)) {}
