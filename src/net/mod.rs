//! Networking: frames to datagrams and back, and the sessions that carry them.
//!
//! - [`wire`]: parsing and emitting; no state and no clock.
//! - [`frame`], [`pool`], [`time`], [`route`], [`recent`], [`fec`]: shared types and code.
//! - One mechanism per file: [`packetizer`], [`reassembler`], [`redundancy`], [`repair`],
//!   [`repair_store`], [`feedback`], [`first_flight`], [`gaps`], [`pacer`], [`rate`], [`quality`],
//!   [`path_mtu`], [`path_validation`], [`probed_queue`], [`clock_offset`], [`sequence`],
//!   [`crypto`], [`netem`]. All are pure: time and bytes are arguments. They do not import each
//!   other.
//! - [`session`]: the state machines that combine them.
//! - [`io`]: sockets and the clock. No other module of `net` uses either.

pub mod clock_offset;
pub mod crypto;
pub mod fec;
pub mod feedback;
pub mod first_flight;
pub mod frame;
pub mod gaps;
pub mod io;
pub mod netem;
pub mod pacer;
pub mod packetizer;
pub mod path_mtu;
pub mod path_validation;
pub mod pool;
pub mod probed_queue;
pub mod quality;
pub mod rate;
pub mod reassembler;
pub mod recent;
pub mod redundancy;
pub mod repair;
pub mod repair_store;
pub mod route;
pub mod sequence;
pub mod session;
pub mod time;
pub mod wire;
