//! OpenCV in a process of its own: `udpchat-opencv`.
//!
//! OpenCV and its dependencies are about 250 shared libraries. Loading them takes 0.1 s and 60 MB,
//! even for a program that uses none of them. So only `udpchat-opencv` is linked with OpenCV. One
//! such process is started for each camera, video file, image or URL that is opened, and one for
//! all windows. It ends when they are closed.
//!
//! The process answers every [`Request`] with one [`Reply`], in order. A crash in a library ends
//! only that process, which is reported like any other failure.

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
