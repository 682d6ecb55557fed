//! Pictures in strips: horizontal bands that are encoded and decoded on several cores in parallel.
//!
//! A frame of strips is one standard JPEG. Each strip is one restart interval. The coder's state is
//! reset there, so each strip can be coded independently.
//!
//! ```text
//! SOI … SOF (whole height) … DRI (MCUs in a strip) SOS strip 0 RST0 strip 1 RST1 strip 2 … EOI
//! ```

mod layout;
mod placement;
mod restart_marker;
mod restart_resync;
mod split;
mod stitch;
mod strip_pool;
#[cfg(test)]
mod tests;
mod view;

pub(super) use layout::{Layout, STRIPS_PER_THREAD};
pub use layout::{MAX_STRIPS, Strips};
pub(super) use split::Split;
pub(super) use stitch::{HEADROOM, Place, stitch};
pub(super) use strip_pool::StripPool;
pub(super) use view::{Strip, StripMut, strips_mut};
