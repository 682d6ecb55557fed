//! Frames to datagrams and back.
//!
//! - [`packetizer`]: cuts a frame into chunks.
//! - [`fec`]: parity chunks, and source chunks recovered from them.
//! - [`reassembler`]: chunks to complete frames.

pub mod fec;
pub mod packetizer;
pub mod reassembler;
