//! Pictures: where they come from, how they are coded, where they go.
//!
//! A *frame* is one encoded picture, an *image* its decoded pixels. Nothing
//! here knows a socket; the application carries frames between the two sides.

pub mod fit;
pub mod image;
pub mod jpeg;
pub mod scale;
pub mod sink;
pub mod source;
