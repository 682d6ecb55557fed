//! Default endpoint configurations for tests.

use std::time::{Duration, Instant};

use udpchat::net::{
    crypto::keys::Identity,
    session::{EndpointConfig, Role},
};

/// A fixed identity derived from `name`.
pub(crate) fn identity(name: &str) -> Identity {
    let mut key = [0; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    Identity::from_bytes(key)
}

/// Datagrams of 1200 bytes, no parity, any caller is admitted, and the clock is not shared with
/// any peer.
pub(crate) fn config(name: &str, role: Role, epoch: Instant) -> EndpointConfig {
    EndpointConfig {
        wall_clock: Duration::from_secs(1_800_000_000),
        ..EndpointConfig::new(name, role, identity(name), epoch)
    }
}
