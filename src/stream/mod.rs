//! What every verb is made of: a source whose pictures are encoded and sent, and received frames
//! that are decoded on time.
//!
//! - [`adaptation`], [`quality`]: how pictures are encoded to fit the path.
//! - `decode`: decodes received frames on a thread of its own.
//! - `playout`: holds frames back, for smoothness.
//! - `latency`, `encode_times`, `counters`: what is measured.

pub mod adaptation;
pub(crate) mod counters;
pub(crate) mod decode;
pub(crate) mod encode_times;
pub(crate) mod latency;
pub(crate) mod playout;
pub mod quality;
