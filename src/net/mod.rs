//! Networking: frames to datagrams and back, and the sessions that carry them.
//!
//! - [`wire`]: parsing and emitting; no state and no clock.
//! - [`frame`], [`pool`], [`time`], [`link`], [`route`], [`units`], [`windowed_max`],
//!   `token_bucket`, `frame_interval`: shared types.
//! - One mechanism per file, in [`framing`], [`recovery`], [`congestion`], [`path`], [`crypto`] and
//!   [`netem`]. All are pure: time and bytes are arguments, except that `crypto` reads the system's
//!   randomness. Mechanisms do not import each other, except that `framing` and `recovery` use
//!   [`framing::fec`].
//! - [`session`]: the state machines that combine them.
//! - [`io`]: sockets and the clock. No other module of `net` uses either.

pub mod congestion;
pub mod crypto;
pub mod frame;
pub(crate) mod frame_interval;
pub mod framing;
pub mod io;
pub mod link;
pub mod netem;
pub mod path;
pub mod pool;
pub mod recovery;
pub mod route;
pub mod session;
pub mod time;
mod token_bucket;
pub mod units;
pub mod windowed_max;
pub mod wire;
