//! Resolves host names on separate threads, since a lookup may take many seconds.

use std::{
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::Arc,
};

use mio::Waker;

use super::{
    faults::reason,
    lookup::Lookups,
    zone::{AddrError, scoped_ip},
};
use crate::net::session::{LocalFault, LookupId, WaitReason};

/// The addresses of a name, or why they are unknown.
pub(super) type Found = (LookupId, Result<Vec<SocketAddr>, WaitReason>);

/// Resolves host names without blocking.
#[derive(Debug)]
pub(super) struct Resolver(Lookups<Found>);

impl Resolver {
    /// A resolver that wakes `waker` for each result.
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self(Lookups::new(waker))
    }

    /// Starts a lookup of `host`. An endpoint has at most one lookup for each target, which bounds
    /// the number of threads.
    pub(super) fn look_up(&self, id: LookupId, host: String, port: u16) {
        let started = self.0.start("resolver", move || (id, addresses(&host, port)));
        if let Err(error) = started {
            self.0.put((id, Err(unresolved(error.to_string()))));
        }
    }

    /// The next result.
    pub(super) fn try_found(&self) -> Option<Found> {
        self.0.try_take()
    }
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, WaitReason> {
    match scoped_ip(host) {
        Ok(ip) => Ok(vec![ip.with_port(port)]),
        Err(AddrError::Zone(zone)) => Err(unresolved(AddrError::Zone(zone).to_string())),
        Err(AddrError::NotAnAddress) => {
            let found = (host, port).to_socket_addrs();
            found
                .map(Iterator::collect)
                .map_err(|error| exhaustion().unwrap_or_else(|| unresolved(plain(&error))))
        }
    }
}

/// The fault, if a lookup may have failed for lack of file descriptors, which the system reports as
/// an unknown name.
fn exhaustion() -> Option<WaitReason> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    // Opened together, since a lookup needs several at once. The failed one has closed its own.
    let sockets: Result<Vec<_>, _> =
        (0..LOOKUP_DESCRIPTORS).map(|_| UdpSocket::bind(any)).collect();
    match reason(&sockets.err()?, any) {
        reason @ WaitReason::Local { fault: LocalFault::Exhausted, .. } => Some(reason),
        _ => None,
    }
}

/// The descriptors that a lookup has open at once: configuration files, its sockets, and those for
/// sorting the addresses.
const LOOKUP_DESCRIPTORS: usize = 3;

fn unresolved(error: String) -> WaitReason {
    WaitReason::Unresolved { error }
}

/// The system's message without Rust's prefix.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_resolve() {
        let found = addresses("localhost", 7).unwrap();
        assert!(found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 7), "{found:?}");
        assert!(!found.is_empty());
        assert_eq!(addresses("10.0.0.1", 7), Ok(vec!["10.0.0.1:7".parse().unwrap()]));
        let Err(WaitReason::Unresolved { error }) = addresses("fe80::1%nowhere", 7) else {
            panic!("no such interface")
        };
        assert!(error.contains("nowhere"), "{error}");
        // RFC 6761: never resolves.
        assert!(addresses("desk.invalid", 7).is_err());
    }
}
