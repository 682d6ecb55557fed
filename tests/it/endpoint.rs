//! What an endpoint is to do, where a test does not care.

use std::time::{Duration, Instant};

use udpchat::net::{
    crypto::keys::Identity,
    session::{EndpointConfig, Role},
};

/// Whoever is called so, in every test.
pub(crate) fn identity(name: &str) -> Identity {
    let mut key = [0; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    Identity::from_bytes(key)
}

/// Datagrams of 1200 bytes, no parity, anybody may come, and a clock that nobody else can know.
pub(crate) fn config(name: &str, role: Role, epoch: Instant) -> EndpointConfig {
    EndpointConfig {
        wall_clock: Duration::from_secs(1_800_000_000),
        ..EndpointConfig::new(name, role, identity(name), epoch)
    }
}
