//! Names to addresses.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use anyhow::{Result, anyhow, bail};

use crate::{cli::HostPort, net::session::Target};

/// Looks `host` up.
pub(super) fn resolve(host: &HostPort) -> Result<Target> {
    let HostPort { host, port } = host;
    if *port == 0 {
        bail!("port 0 of {host} cannot be called: give the port that the other side listens on");
    }
    let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| {
        anyhow!(
            "cannot find host '{host}' ({}): check the name, or give its address",
            plain(&error)
        )
    })?;
    let addrs: Vec<SocketAddr> = found.collect();
    if addrs.is_empty() {
        bail!("host '{host}' has no address: check the name, or give its address");
    }
    Ok(Target { host: host.clone(), addrs })
}

/// The address that other machines most likely reach this one by. Connecting a UDP socket sends
/// nothing; it only asks the routing table. 192.0.2.1 is for documentation (RFC 5737).
pub(super) fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// The system's words without Rust's prefix.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}
