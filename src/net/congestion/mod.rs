//! How much may be sent, and how evenly.
//!
//! - [`feedback`]: the receiver's measurements for its reports.
//! - [`train_meter`]: how fast the path carries a frame, for the same reports.
//! - [`rate`]: the target bitrate, from those reports.
//! - [`queue_delay`]: the queue that probes find on the path.
//! - [`delivery_watch`]: whether anything arrives.
//! - [`startup_probe`]: whether the path carries what is sent first.
//! - [`pacer`]: when each datagram may leave, and the budget of all of them.
//! - [`bitrates`]: what is left for pictures.

pub mod bitrates;
pub mod delivery_watch;
pub mod feedback;
pub mod pacer;
pub mod queue_delay;
pub mod rate;
pub mod startup_probe;
pub mod train_meter;
