//! Whom to call, and where others can call us.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Result, bail};

use crate::{cli::HostPort, net::session::Target};

/// Whom to call. A name is looked up when it is called, again and again; an address with an interface as well,
/// since that may be plugged in later.
pub(super) fn target(host: &HostPort) -> Result<Target> {
    let HostPort { host, port } = host;
    if *port == 0 {
        bail!("port 0 of {host} cannot be called: give the port that the other side listens on");
    }
    let addr = host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, *port));
    Ok(Target { host: host.clone(), port: *port, addrs: addr.into_iter().collect() })
}

/// The address that other machines most likely reach this one by. Connecting a UDP socket sends
/// nothing; it only asks the routing table. 192.0.2.1 is for documentation (RFC 5737).
pub(super) fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}
