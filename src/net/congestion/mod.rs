//! How much may be sent, and how evenly.
//!
//! - [`feedback`]: the receiver's measurements for its reports.
//! - [`train_meter`]: how fast the path carries a frame, for the same reports.
//! - [`rate`]: the target bitrate, from those reports.
//! - [`queue_delay`]: the queueing delay that probes meet on the path.
//! - [`delivery_watch`]: whether the stream arrives at a receiver that answers.
//! - [`startup_probe`]: whether the path carries the first frames.
//! - [`pacer`]: when datagrams may leave, and the send budget.
//! - [`bitrates`]: the bitrates available for pictures.

pub mod bitrates;
pub mod delivery_watch;
pub mod feedback;
pub mod pacer;
pub mod queue_delay;
pub mod rate;
pub mod startup_probe;
pub mod train_meter;
