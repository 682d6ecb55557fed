//! The path to a peer.
//!
//! - [`mtu`]: the longest datagram that the path carries.
//! - [`validation`]: follows a peer to a new address, once the peer has proved that it is there.
//! - [`clock_offset`]: converts the peer's clock to the local one.
//! - [`replay_window`]: duplicates and losses among the peer's sequence numbers.

pub mod clock_offset;
pub mod mtu;
pub mod replay_window;
pub mod validation;
