//! The path to a peer: its MTU, whether an address is the peer's, its clock, and its datagrams'
//! numbers.

pub mod clock_offset;
pub mod mtu;
pub mod replay_window;
pub mod validation;
