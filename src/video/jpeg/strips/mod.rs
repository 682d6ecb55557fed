//! Pictures in strips: horizontal bands that are coded on several cores at once.
//!
//! A frame of strips is one standard JPEG. Each strip is one restart interval of it: the
//! coder's state begins anew there, so a strip can be coded without its neighbours.
//!
//! ```text
//! SOI … SOF (whole height) … DRI (MCUs in a strip) SOS strip 0 RST0 strip 1 RST1 strip 2 … EOI
//! ```

mod crew;
mod layout;
mod placement;
mod split;
mod stitch;
#[cfg(test)]
mod tests;
mod torn;
mod view;

pub(super) use crew::Crew;
pub(super) use layout::{Layout, STRIPS_A_THREAD};
pub use layout::{MAX_STRIPS, Strips};
pub(super) use split::Split;
pub(super) use stitch::{HEADROOM, Place, stitch};
pub(super) use view::{Strip, StripMut, strips_mut};
