//! What an endpoint is to do, where a test does not care.

use std::time::{Duration, Instant};

use udpchat::net::{
    crypto::keys::Identity,
    redundancy::FecMode,
    session::{Admission, Bare, DEFAULT_REASSEMBLY_DEADLINE, EndpointConfig, Role},
    wire::{control::Epoch, text::Name},
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
        name: Name::new(name),
        role,
        identity: identity(name),
        secret: None,
        admission: Admission::Anyone,
        bare: Bare::Clear,
        wall_clock: Duration::from_secs(1_800_000_000),
        stream: None,
        max_datagram_len: Some(1200),
        fec: FecMode::Off,
        max_bitrate: None,
        reassembly_deadline: DEFAULT_REASSEMBLY_DEADLINE,
        epoch,
        shared_epoch: Epoch { boot: 0, monotonic_us: 0 },
        seed: 1,
    }
}
