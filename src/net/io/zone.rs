//! Addresses in text form, with the interface of a link-local one: `fe80::1%eth0`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use thiserror::Error;

/// An IP address, with the interface of a link-local one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopedIp {
    ip: IpAddr,
    /// The interface index; 0 if none is given.
    zone: u32,
}

/// Why a text cannot be parsed as an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddrError {
    /// Not an address; it may be a host name.
    #[error("not an IP address")]
    NotAnAddress,
    /// It names an interface that does not exist.
    #[error("no interface is called '{0}': see `ip link`")]
    Zone(String),
}

impl ScopedIp {
    /// The address with a port.
    pub fn with_port(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.zone).into(),
        }
    }

    /// Whether it is a link-local address without an interface.
    pub fn lacks_zone(self) -> bool {
        lacks_zone(&self.with_port(0))
    }
}

/// Whether `addr` is a link-local address without an interface.
pub(super) fn lacks_zone(addr: &SocketAddr) -> bool {
    matches!(addr, SocketAddr::V6(addr) if addr.ip().is_unicast_link_local() && addr.scope_id() == 0)
}

/// Parses `10.0.0.1`, `2001:db8::1`, `fe80::1%eth0` or `fe80::1%2`.
pub fn scoped_ip(text: &str) -> Result<ScopedIp, AddrError> {
    let Some((ip, zone)) = text.split_once('%') else {
        let ip = text.parse().map_err(|_| AddrError::NotAnAddress)?;
        return Ok(ScopedIp { ip, zone: 0 });
    };
    let ip: Ipv6Addr = ip.parse().map_err(|_| AddrError::NotAnAddress)?;
    let number = zone.parse().ok().or_else(|| interface_number(zone));
    let zone = number.ok_or_else(|| AddrError::Zone(zone.to_owned()))?;
    Ok(ScopedIp { ip: ip.into(), zone })
}

/// Formats `addr`, with the interface name of a link-local one.
pub fn shown(addr: SocketAddr) -> String {
    match interface_of(addr) {
        Some(_) => format!("[{}]:{}", shown_ip(addr), addr.port()),
        None => addr.to_string(),
    }
}

/// Like [`shown`], without port and brackets.
pub fn shown_ip(addr: SocketAddr) -> String {
    match interface_of(addr) {
        Some(interface) => format!("{}%{interface}", addr.ip()),
        None => addr.ip().to_string(),
    }
}

/// The interface name of a link-local address, if one is given.
pub fn interface_of(addr: SocketAddr) -> Option<String> {
    match addr {
        SocketAddr::V6(addr) if addr.scope_id() != 0 => Some(interface_name(addr.scope_id())),
        _ => None,
    }
}

#[cfg(unix)]
fn interface_name(number: u32) -> String {
    let name = nix::net::if_::if_indextoname(number).ok();
    let name = name.and_then(|name| name.into_string().ok());
    // The name is empty if there is no such interface.
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| number.to_string())
}

#[cfg(not(unix))]
fn interface_name(number: u32) -> String {
    number.to_string()
}

#[cfg(unix)]
fn interface_number(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

#[cfg(not(unix))]
fn interface_number(_: &str) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_7(text: &str) -> Result<SocketAddr, AddrError> {
        scoped_ip(text).map(|ip| ip.with_port(7))
    }

    #[test]
    fn addresses_parse_with_and_without_a_zone() {
        let scoped =
            |zone| SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, zone));
        assert_eq!(at_7("fe80::1%3"), Ok(scoped(3)));
        assert_eq!(at_7("fe80::1"), Ok(scoped(0)));
        assert_eq!(at_7("10.0.0.1"), Ok("10.0.0.1:7".parse().unwrap()));
        assert_eq!(at_7("fe80::1%no such"), Err(AddrError::Zone("no such".into())));
        assert_eq!(at_7("10.0.0.1%3"), Err(AddrError::NotAnAddress));
        assert_eq!(at_7("desk"), Err(AddrError::NotAnAddress));
        assert!(scoped_ip("fe80::1").unwrap().lacks_zone());
        assert!(!scoped_ip("fe80::1%3").unwrap().lacks_zone());
        assert!(!scoped_ip("2001:db8::1").unwrap().lacks_zone());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_interface_is_shown_by_its_name() {
        assert_eq!(shown(at_7("fe80::1%lo").unwrap()), "[fe80::1%lo]:7");
        assert_eq!(shown_ip(at_7("fe80::1%lo").unwrap()), "fe80::1%lo");
        assert_eq!(shown_ip(at_7("fe80::1%4000000000").unwrap()), "fe80::1%4000000000");
        assert_eq!(shown(at_7("::1").unwrap()), "[::1]:7");
        assert_eq!(shown(at_7("10.0.0.1").unwrap()), "10.0.0.1:7");
        assert_eq!(shown_ip(at_7("10.0.0.1").unwrap()), "10.0.0.1");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_loopback_interface_has_a_number() {
        let SocketAddr::V6(addr) = at_7("fe80::1%lo").unwrap() else { panic!() };
        assert!(addr.scope_id() > 0);
    }
}
