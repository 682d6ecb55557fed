//! Names to addresses, on threads of their own: a name service may take many seconds.

use std::{
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::Builder,
};

use mio::Waker;

use super::{
    faults::reason,
    zone::{AddrError, scoped_ip},
};
use crate::net::session::{LocalFault, LookupId, WaitReason};

/// What a name was found to stand for, or why that is not known.
pub(super) type Found = (LookupId, Result<Vec<SocketAddr>, WaitReason>);

/// Looks names up while others wait for nothing.
#[derive(Debug)]
pub(super) struct Resolver {
    waker: Arc<Waker>,
    found: Sender<Found>,
    finds: Receiver<Found>,
}

impl Resolver {
    /// Wakes with `waker` when something was found.
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        let (found, finds) = channel();
        Self { waker, found, finds }
    }

    /// Begins to look `host` up. An endpoint asks once for each of its targets at a time, so there are
    /// no more threads than targets.
    pub(super) fn look_up(&self, id: LookupId, host: String, port: u16) {
        let (waker, found) = (Arc::clone(&self.waker), self.found.clone());
        let look_up = move || {
            // The errors are a driver and a poll that are gone, and then nobody wants to know.
            let _ = found.send((id, addresses(&host, port)));
            let _ = waker.wake();
        };
        if let Err(error) = Builder::new().name("resolver".into()).spawn(look_up) {
            let _ = self.found.send((id, Err(unresolved(error.to_string()))));
            let _ = self.waker.wake();
        }
    }

    /// The next that was found.
    pub(super) fn try_found(&self) -> Option<Found> {
        self.finds.try_recv().ok()
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

/// Whether a lookup may have failed for want of descriptors: the system then calls every name unknown.
fn exhaustion() -> Option<WaitReason> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    // Held together: a lookup needs several, and those that it had are free again.
    let sockets: Result<Vec<_>, _> =
        (0..LOOKUP_DESCRIPTORS).map(|_| UdpSocket::bind(any)).collect();
    match reason(&sockets.err()?, any) {
        reason @ WaitReason::Local { fault: LocalFault::Exhausted, .. } => Some(reason),
        _ => None,
    }
}

/// For the files of the name service, its sockets, and the order of the addresses.
const LOOKUP_DESCRIPTORS: usize = 3;

fn unresolved(error: String) -> WaitReason {
    WaitReason::Unresolved { error }
}

/// The system's words without Rust's prefix.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_found() {
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
