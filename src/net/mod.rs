//! The network half: frames to datagrams and back, and the sessions around them.
//!
//! - [`wire`]: bytes to values and back; no state, no clock.
//! - [`frame`], [`pool`], [`time`], [`route`], [`recent`], [`fec`]: the types and the code that everything
//!   here speaks of.
//! - one mechanism a file: [`packetizer`], [`reassembler`], [`redundancy`], [`repair`],
//!   [`repair_store`], [`feedback`], [`first_flight`], [`gaps`], [`pacer`], [`rate`], [`quality`], [`path_mtu`],
//!   [`path_validation`], [`probed_queue`], [`clock_offset`], [`sequence`], [`crypto`],
//!   [`netem`]. Pure: time and bytes come in as arguments. They do not import each other.
//! - [`session`]: the state machines that compose them.
//! - [`io`]: sockets and the clock; the only place here that has any.

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
