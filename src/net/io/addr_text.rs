//! Hosts and addresses as people write them.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::{
    DEFAULT_PORT,
    zone::{AddrError, scoped_ip},
};
use crate::net::session::{Target, Uncallable, uncallable};

/// `HOST[:PORT]`, not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port, or [`DEFAULT_PORT`].
    pub port: u16,
}

impl HostPort {
    /// The target to call; `None` for port 0, which cannot be called. A host name is resolved again
    /// while it does not answer, and so is an address with an interface, since the interface may
    /// appear later.
    pub fn target(self) -> Option<Target> {
        let Self { host, port } = self;
        let addr = host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, port));
        (port != 0).then(|| Target { host, port, addrs: addr.into_iter().collect() })
    }
}

/// Why a text is not a host.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostPortError {
    /// It is neither a name nor an address.
    #[error("'{0}' is not a host: give a name or an address, such as 192.168.1.20")]
    NotAHost(String),
    /// It is the unspecified address.
    #[error(
        "'{host}' is not a machine's address: give the other machine's, or {loopback} for this one"
    )]
    Unspecified {
        /// The text.
        host: String,
        /// The loopback address of its family.
        loopback: &'static str,
    },
    /// It is a broadcast or multicast address.
    #[error("'{host}' is a {kind} address: give the address of one machine")]
    ManyMachines {
        /// The text.
        host: String,
        /// Which of the two.
        kind: &'static str,
    },
    /// It cannot be divided into a host and a port.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Why a text is not an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BindAddrError {
    /// It is not an IP address.
    #[error(
        "'{0}' is not an IP address: give one of this machine's, 0.0.0.0 or [::] for all of them, or only :PORT"
    )]
    NotAnAddress(String),
    /// It needs an interface.
    #[error("'{0}' is link-local: name the interface, such as [{0}%eth0]")]
    LacksZone(String),
    /// Its interface is unknown.
    #[error(transparent)]
    Zone(AddrError),
    /// It cannot be divided into a host and a port.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Why a text cannot be divided into a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PortError {
    /// A bracket is not closed.
    #[error("'{0}' has a [ without its ]")]
    UnclosedBracket(String),
    /// What follows the bracket does not begin with a colon.
    #[error("'{0}' after ] is not a :PORT")]
    NoColon(String),
    /// The port is not a number up to 65535.
    #[error("'{0}' is not a port: give a number up to 65535")]
    NotANumber(String),
}

/// Parses `HOST`, `HOST:PORT` or `[V6]:PORT`.
pub fn host_port(text: &str) -> Result<HostPort, HostPortError> {
    let (host, port) = split_port(text)?;
    if host.is_empty() || host.chars().any(|c| c.is_whitespace() || "/[]".contains(c)) {
        return Err(HostPortError::NotAHost(text.to_owned()));
    }
    if let Ok(ip) = scoped_ip(host) {
        check_is_one_machine(host, ip.with_port(0).ip())?;
    }
    Ok(HostPort { host: host.to_owned(), port: port.unwrap_or(DEFAULT_PORT) })
}

/// Fails if the address `ip`, written as `host`, cannot belong to a single machine.
fn check_is_one_machine(host: &str, ip: IpAddr) -> Result<(), HostPortError> {
    let kind = match uncallable(ip) {
        None => return Ok(()),
        Some(Uncallable::Unspecified) => {
            let loopback = if ip.to_canonical().is_ipv4() { "127.0.0.1" } else { "::1" };
            return Err(HostPortError::Unspecified { host: host.to_owned(), loopback });
        }
        Some(Uncallable::Broadcast) => "broadcast",
        Some(Uncallable::Multicast) => "multicast",
    };
    Err(HostPortError::ManyMachines { host: host.to_owned(), kind })
}

/// Parses `ADDR`, `ADDR:PORT`, `[V6]:PORT`, `[V6%INTERFACE]:PORT` or `:PORT`. An address of `*`, or
/// none, is the unspecified IPv6 address.
pub fn bind_addr(text: &str) -> Result<SocketAddr, BindAddrError> {
    let (host, port) = split_port(text)?;
    let host = match host {
        "" | "*" => "::",
        host => host,
    };
    let ip = scoped_ip(host).map_err(|error| match error {
        AddrError::NotAnAddress => BindAddrError::NotAnAddress(host.to_owned()),
        AddrError::Zone(_) => BindAddrError::Zone(error),
    })?;
    if ip.lacks_zone() {
        return Err(BindAddrError::LacksZone(host.to_owned()));
    }
    Ok(ip.with_port(port.unwrap_or(DEFAULT_PORT)))
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), PortError> {
    if let Some(rest) = text.strip_prefix('[') {
        let unclosed = || PortError::UnclosedBracket(text.to_owned());
        let (host, rest) = rest.split_once(']').ok_or_else(unclosed)?;
        return match rest.strip_prefix(':') {
            Some(text) => Ok((host, Some(port(text)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(PortError::NoColon(rest.to_owned())),
        };
    }
    // With more than one colon it is an IPv6 address without a port.
    match text.split_once(':') {
        Some((host, rest)) if !rest.contains(':') => Ok((host, Some(port(rest)?))),
        _ => Ok((text, None)),
    }
}

fn port(text: &str) -> Result<u16, PortError> {
    text.parse().map_err(|_| PortError::NotANumber(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_parse_with_and_without_ports() {
        let host = |text: &str| host_port(text).map(|h| (h.host, h.port));
        assert_eq!(host("192.168.1.20"), Ok(("192.168.1.20".into(), DEFAULT_PORT)));
        assert_eq!(host("desk:99"), Ok(("desk".into(), 99)));
        assert_eq!(host("fe80::1"), Ok(("fe80::1".into(), DEFAULT_PORT)));
        assert_eq!(host("[fe80::1]:99"), Ok(("fe80::1".into(), 99)));
        for wrong in
            ["", ":99", "desk:x", "desk:70000", "[::1", "[::1]x", "fe80::1]:7722", "http://desk"]
        {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bind_addresses_may_be_only_a_port() {
        assert_eq!(bind_addr(":99"), Ok("[::]:99".parse().unwrap()));
        assert_eq!(
            bind_addr("127.0.0.1"),
            Ok(SocketAddr::new([127, 0, 0, 1].into(), DEFAULT_PORT))
        );
        assert_eq!(bind_addr("[::1]:5"), Ok("[::1]:5".parse().unwrap()));
        assert!(bind_addr("desk").is_err());
        assert_eq!(bind_addr("[fe80::1%3]:5"), Ok("[fe80::1%3]:5".parse().unwrap()));
        assert!(bind_addr("[fe80::1]:5").unwrap_err().to_string().contains("[fe80::1%eth0]"));
        assert!(bind_addr("fe80::1%nowhere").unwrap_err().to_string().contains("'nowhere'"));
    }
}
