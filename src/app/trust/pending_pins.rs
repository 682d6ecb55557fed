//! Keys to pin once a call with their owner has begun.
//!
//! They are not pinned earlier, because until then a host has not proved that it knows the code,
//! and a caller may have hung up.

use std::net::SocketAddr;

use crate::net::{crypto::keys::PublicKey, session::Peer, wire::text::Name};

/// The role under which a key is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PinRole {
    /// The key of a host that we call by this name.
    Host(String),
    /// The key of a caller that may call us.
    Caller(Name),
}

/// The pending pins.
#[derive(Debug, Default)]
pub(super) struct PendingPins(Vec<PendingPin>);

#[derive(Debug, PartialEq, Eq)]
struct PendingPin {
    addr: SocketAddr,
    key: PublicKey,
    role: PinRole,
}

impl PendingPins {
    /// Adds a pending pin for `key` at `addr`; returns whether it is new.
    pub(super) fn add(&mut self, addr: SocketAddr, key: PublicKey, role: PinRole) -> bool {
        let pin = PendingPin { addr, key, role };
        if self.0.contains(&pin) {
            return false;
        }
        if self.0.len() == MAX_PENDING_PINS {
            self.0.remove(0);
        }
        self.0.push(pin);
        true
    }

    /// Takes the pins that are due because a call with `peer` has begun.
    pub(super) fn take_for(&mut self, peer: &Peer) -> Vec<(PublicKey, PinRole)> {
        let is_due = |pin: &mut PendingPin| pin.addr == peer.addr && peer.key == Some(pin.key);
        self.0.extract_if(.., is_due).map(|pin| (pin.key, pin.role)).collect()
    }
}

/// Bounds the pins left behind by calls that never began, such as those of callers that were
/// admitted but had hung up. At the bound, the oldest is dropped.
const MAX_PENDING_PINS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::crypto::keys::KEY_LEN;

    #[test]
    fn a_pending_pin_is_taken_once_by_the_same_peer() {
        let key = |byte| PublicKey::from_bytes([byte; KEY_LEN]);
        let addr: SocketAddr = ([10, 0, 0, 1], 5).into();
        let peer = |addr, byte| Peer { name: None, addr, key: Some(key(byte)) };
        let desk = || PinRole::Host("desk:7722".into());
        let mut pending_pins = PendingPins::default();
        assert!(pending_pins.add(addr, key(1), desk()));
        assert!(!pending_pins.add(addr, key(1), desk()));
        assert_eq!(pending_pins.take_for(&peer(addr, 2)), []);
        assert_eq!(pending_pins.take_for(&peer(([10, 0, 0, 2], 5).into(), 1)), []);
        assert_eq!(pending_pins.take_for(&peer(addr, 1)), [(key(1), desk())]);
        assert_eq!(pending_pins.take_for(&peer(addr, 1)), []);
    }
}
