//! Who somebody is, and what only two sides know.
//!
//! - [`keys`]: identities, their fingerprints, shared secrets.
//! - [`handshake`]: two sides meet, and prove who they are.
//! - [`seal`]: what they send each other afterwards, over UDP.
//! - `wiping`: what they compute with leaves no keys behind.

pub mod handshake;
pub mod keys;
pub mod seal;
mod wiping;
