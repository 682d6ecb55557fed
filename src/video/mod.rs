//! Pictures: sources, coding and sinks.
//!
//! A *frame* is one encoded picture, an *image* its decoded pixels. This module does not use `net`;
//! `stream` and `app` carry frames between the two.

pub mod fit;
pub mod image;
pub(crate) mod image_pool;
pub mod jpeg;
pub mod opencv_process;
pub mod scale;
pub mod sink;
pub mod source;
