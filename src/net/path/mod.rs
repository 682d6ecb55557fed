//! The path to a peer.
//!
//! - [`mtu`]: the longest datagram that the path carries.
//! - [`validation`]: follows a peer to a new address, once the peer has proved that it is there.
//! - [`clock_offset`]: the peer's clock, on ours.
//! - [`replay_window`]: the peer's sequence numbers: duplicates and losses.

pub mod clock_offset;
pub mod mtu;
pub mod replay_window;
pub mod validation;
