//! Identities, the handshake, and the encryption of datagrams.
//!
//! - [`code`]: codes that two people share.
//! - [`keys`]: identities, their fingerprints, shared secrets.
//! - [`handshake`]: mutual authentication and encryption of the control channel.
//! - [`seal`]: authenticated encryption of UDP datagrams.
//! - `wiping`: wipes key material in memory.

pub mod code;
pub mod handshake;
pub mod keys;
pub mod seal;
mod wiping;
