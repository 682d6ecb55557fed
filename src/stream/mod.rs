//! Connects `video` and `net`: fits pictures to the path, decodes received frames in time, and
//! measures both. Every verb that streams uses it.
//!
//! - `publisher`: grabs a source's pictures and encodes them, on two threads.
//! - [`encode`]: encodes a picture, and hands it to the network and other outputs.
//! - [`adaptation`], [`quality`]: how pictures are encoded to fit the path's bitrate.
//! - `subscriber`: receives frames, decodes them on a thread, and hands them to its consumers.
//! - `self_view`: decodes our own frames.
//! - `playout`: delays frames to absorb the network's jitter.
//! - `encoded_frame`, `received`: a frame with its stage times, at the two sides.
//! - `network_thread`: the thread that owns the sockets. `describe`: its events in words.
//! - `latency`, `counters`, `check`: measurements.
//! - `gate`, `stop_flag`: when the threads may begin, and when they stop.

pub mod adaptation;
pub(crate) mod check;
pub(crate) mod counters;
pub(crate) mod describe;
pub mod encode;
pub(crate) mod encoded_frame;
pub(crate) mod gate;
pub(crate) mod latency;
pub(crate) mod network_thread;
pub(crate) mod playout;
pub(crate) mod publisher;
pub mod quality;
pub(crate) mod received;
pub(crate) mod self_view;
pub(crate) mod stop_flag;
pub(crate) mod subscriber;
