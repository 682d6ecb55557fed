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
///
/// Without a route for IPv4 it is an IPv6 address (`2001:db8::/32` is for documentation, RFC 3849), unless
/// `only_v4`.
pub(super) fn own_address(only_v4: bool) -> Option<IpAddr> {
    let routed = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    };
    let v6 = || routed("[::]:0", "[2001:db8::1]:9").filter(|_| !only_v4);
    routed("0.0.0.0:0", "192.0.2.1:9").or_else(v6)
}
