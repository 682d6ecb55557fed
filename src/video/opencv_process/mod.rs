//! OpenCV in a process of its own: `udpchat-opencv`.
//!
//! OpenCV and what it needs are some 250 shared libraries. Loading them takes 0.1 s and 60 MB, also
//! for a program that then uses none of them. So only `udpchat-opencv` is linked with OpenCV. It is
//! started when a camera, a video file, an image, a URL or a window is opened, and ends with it.
//!
//! Each process serves one of these. It answers every [`Request`] with one [`Reply`], in order. A
//! library that crashes ends only that process, which is reported like any other failure.

mod error;
mod message;
mod process;

pub use error::OpenCvError;
pub use message::{
    Input, MessageError, Picture, PictureKind, Properties, Reply, Request, VERSION, read_message,
    write_message,
};
pub(in crate::video) use process::OpenCvProcess;

/// The clocks, for both programs.
pub mod clock {
    pub use crate::clock::{monotonic, now, wall};
}
