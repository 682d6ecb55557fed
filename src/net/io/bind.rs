//! Binds UDP and TCP to one port.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::{
    options::SocketOptions,
    udp::UdpSocket,
    zone::{shown, shown_ip},
};

/// The address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address and port; the unspecified IPv6 address stands for all, IPv6 and IPv4.
    pub addr: SocketAddr,
    /// Whether to listen on TCP as well.
    pub control: bool,
}

/// Why an address or port cannot be used.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another program uses the port.
    #[error("port {port} is already in use on {ip}: end the other program, or choose another port", port = addr.port(), ip = bracketed(*addr))]
    InUse {
        /// The requested address.
        addr: SocketAddr,
    },
    /// The address does not belong to this machine.
    #[error(
        "{} is not an address of this machine: choose one that `ip addr` lists",
        shown(*addr)
    )]
    NotOurs {
        /// The requested address.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {}: {error}", shown(*addr))]
    Other {
        /// The requested address.
        addr: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The event loop or the sending socket could not be created.
    #[error("cannot set up the network: {0}")]
    Setup(io::Error),
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        Self::Setup(error)
    }
}

/// Binds TCP and UDP to one port. With port 0 the system chooses one for UDP; if that is in use for
/// TCP, it chooses again.
pub(super) fn bind_both(
    listen: Listen,
    options: SocketOptions,
) -> Result<(UdpSocket, Option<TcpListener>), BindError> {
    let mut result = try_bind_both(listen, options);
    for _ in 0..PORT_ATTEMPTS {
        if result.is_ok() || listen.addr.port() != 0 {
            break;
        }
        result = try_bind_both(listen, options);
    }
    result.map_err(|error| bind_error(listen.addr, error))
}

fn try_bind_both(
    listen: Listen,
    options: SocketOptions,
) -> io::Result<(UdpSocket, Option<TcpListener>)> {
    let udp = bind_udp(listen.addr, options)?;
    let listener = if listen.control { Some(bind_tcp(udp.local_addr()?)?) } else { None };
    Ok((udp, listener))
}

/// Without IPv6, the unspecified IPv6 address falls back to the IPv4 one.
fn bind_udp(addr: SocketAddr, options: SocketOptions) -> io::Result<UdpSocket> {
    match UdpSocket::bind_with(addr, options) {
        Err(error)
            if addr.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse =>
        {
            UdpSocket::bind_with((Ipv4Addr::UNSPECIFIED, addr.port()).into(), options)
        }
        result => result,
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restarted receiver need not wait until its old connections have expired. On Windows this
    // option would let two programs share the port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn bind_error(addr: SocketAddr, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { addr },
        io::ErrorKind::AddrNotAvailable => BindError::NotOurs { addr },
        _ => BindError::Other { addr, error },
    }
}

pub(crate) fn bracketed(addr: SocketAddr) -> String {
    if addr.is_ipv6() { format!("[{}]", shown_ip(addr)) } else { shown_ip(addr) }
}

/// Connections waiting in the kernel: enough for a flood of a few thousand a second while this
/// thread is busy. Further ones are dropped, and the caller's kernel retries after a second (RFC
/// 6298).
const LISTEN_BACKLOG: i32 = 128;

const PORT_ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_in_the_error() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = taken.local_addr().expect("bound");
        let error = bind_both(Listen { addr, control: true }, SocketOptions::default())
            .expect_err("in use");
        let message = error.to_string();
        assert!(message.contains(&format!("port {} is already in use", addr.port())), "{message}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn link_local_errors_name_the_interface() {
        let addr = crate::net::io::scoped_ip("fe80::1%lo").expect("an address").with_port(7722);
        let error = io::ErrorKind::Other.into();
        for said in [
            BindError::InUse { addr },
            BindError::NotOurs { addr },
            BindError::Other { addr, error },
        ] {
            assert!(said.to_string().contains("fe80::1%lo"), "{said}");
        }
    }

    #[test]
    fn udp_and_tcp_share_one_port() {
        let listen = Listen { addr: "127.0.0.1:0".parse().expect("an address"), control: true };
        let (udp, tcp) = bind_both(listen, SocketOptions::default()).expect("bound");
        let tcp = tcp.expect("a listener").local_addr().expect("bound");
        assert_eq!(udp.local_addr().expect("bound"), tcp);
    }
}
