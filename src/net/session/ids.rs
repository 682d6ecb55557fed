//! Identifiers of calls and control connections, and the targets to call.

use std::net::SocketAddr;

/// Identifies a call within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// Identifies a control connection within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A peer to call or to send to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The host as the user gave it.
    pub host: String,
    /// The UDP and TCP port.
    pub port: u16,
    /// Its addresses, all of which are tried. Empty: `host` is a name, which is looked up
    /// repeatedly until the target answers.
    pub addrs: Vec<SocketAddr>,
}
