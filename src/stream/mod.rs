//! Connects `video` and `net`: fits pictures to the path, decodes received frames in time, and
//! measures both. Every verb that streams uses it.
//!
//! - [`adaptation`], [`quality`]: how pictures are encoded to fit the path's bitrate.
//! - [`publisher`]: grabs a source's pictures and encodes them, on two threads.
//! - `decode`: decodes received frames on a thread of its own.
//! - `playout`: delays frames to absorb the network's jitter.
//! - `latency`, `encode_times`, `counters`: measurements.

pub mod adaptation;
pub(crate) mod counters;
pub(crate) mod decode;
pub(crate) mod encode_times;
pub(crate) mod latency;
pub(crate) mod playout;
pub mod publisher;
pub mod quality;
pub(crate) mod stop_flag;
