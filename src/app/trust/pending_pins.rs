//! Keys to pin once a call with their owner has begun.
//!
//! Not earlier: until then a host has not proved that it knows the code, and a caller may have
//! gone.

use std::net::SocketAddr;

use crate::net::{crypto::keys::PublicKey, session::Peer, wire::text::Name};

/// The role under which a key is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The key of a host that we call by this name.
    Host(String),
    /// The key of a caller that may call us.
    Caller(Name),
}

/// The pending pins.
#[derive(Debug, Default)]
pub(super) struct Promises(Vec<Promise>);

#[derive(Debug, PartialEq, Eq)]
struct Promise {
    addr: SocketAddr,
    key: PublicKey,
    role: Role,
}

impl Promises {
    /// Adds a pending pin for `key` at `addr`; returns whether it is new.
    pub(super) fn make(&mut self, addr: SocketAddr, key: PublicKey, role: Role) -> bool {
        let promise = Promise { addr, key, role };
        if self.0.contains(&promise) {
            return false;
        }
        if self.0.len() == MAX_PROMISES {
            self.0.remove(0);
        }
        self.0.push(promise);
        true
    }

    /// Takes the pins that are due because a call with `peer` has begun.
    pub(super) fn keep(&mut self, peer: &Peer) -> Vec<(PublicKey, Role)> {
        let is_due =
            |promise: &mut Promise| promise.addr == peer.addr && peer.key == Some(promise.key);
        self.0.extract_if(.., is_due).map(|promise| (promise.key, promise.role)).collect()
    }
}

/// Bounds pins of callers that were admitted and left at once; the oldest is dropped.
const MAX_PROMISES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::crypto::keys::KEY_LEN;

    #[test]
    fn a_promise_is_kept_once_to_whom_it_was_made() {
        let key = |byte| PublicKey::from_bytes([byte; KEY_LEN]);
        let addr: SocketAddr = ([10, 0, 0, 1], 5).into();
        let peer = |addr, byte| Peer { name: None, addr, key: Some(key(byte)) };
        let desk = || Role::Host("desk:7722".into());
        let mut promises = Promises::default();
        assert!(promises.make(addr, key(1), desk()));
        assert!(!promises.make(addr, key(1), desk()));
        assert_eq!(promises.keep(&peer(addr, 2)), []);
        assert_eq!(promises.keep(&peer(([10, 0, 0, 2], 5).into(), 1)), []);
        assert_eq!(promises.keep(&peer(addr, 1)), [(key(1), desk())]);
        assert_eq!(promises.keep(&peer(addr, 1)), []);
    }
}
