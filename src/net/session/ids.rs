//! Names of the parts of an endpoint: calls, control connections, targets.

use std::net::SocketAddr;

/// A handle on a call, unique within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// A control connection, unique within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A peer to call or to send to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The host as the user gave it.
    pub host: String,
    /// The UDP and TCP port.
    pub port: u16,
    /// Its addresses, all of which are tried. Empty: `host` is a name, which is looked up, again
    /// and again while it does not answer.
    pub addrs: Vec<SocketAddr>,
}
