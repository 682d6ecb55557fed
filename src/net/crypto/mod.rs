//! Identities, the handshake, and the encryption of datagrams.
//!
//! - [`keys`]: identities, their fingerprints, shared secrets.
//! - [`handshake`]: mutual authentication and encryption of the control channel.
//! - [`seal`]: authenticated encryption of UDP datagrams.
//! - `wiping`: wipes key material in memory.

pub mod handshake;
pub mod keys;
pub mod seal;
mod wiping;
