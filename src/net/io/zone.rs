//! Addresses as people write them, with the interface of a link-local one: `fe80::1%eth0`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use thiserror::Error;

/// An address, and the interface that it holds on if that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopedIp {
    ip: IpAddr,
    /// Number of the interface; 0: none is named.
    zone: u32,
}

/// Why a text is no address of this machine's world.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddrError {
    /// It may be a name.
    #[error("no address")]
    NotAnAddress,
    /// It names an interface that is not there.
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

    /// Whether it holds on one interface only, and that is not named.
    pub fn lacks_zone(self) -> bool {
        lacks_zone(&self.with_port(0))
    }
}

/// Whether `addr` holds on one interface only, and that is not named.
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

/// `addr` as people write it, with the name of the interface of a link-local one.
pub fn shown(addr: SocketAddr) -> String {
    match interface_of(addr) {
        Some(_) => format!("[{}]:{}", shown_ip(addr), addr.port()),
        None => addr.to_string(),
    }
}

/// The same without the port, and without brackets.
pub fn shown_ip(addr: SocketAddr) -> String {
    match interface_of(addr) {
        Some(interface) => format!("{}%{interface}", addr.ip()),
        None => addr.ip().to_string(),
    }
}

/// The name of the interface that a link-local address holds on, if one is given.
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
    // It is empty where there is no such interface.
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
    fn interfaces_are_named_or_numbered() {
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
