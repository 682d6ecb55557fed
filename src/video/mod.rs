//! Pictures: sources, coding and sinks.
//!
//! A *frame* is one encoded picture, an *image* its decoded pixels. This module does not use the
//! network; the application carries frames between the two sides.

pub mod fit;
pub mod image;
pub mod jpeg;
pub mod scale;
pub mod sink;
pub mod source;
