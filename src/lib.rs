//! udpchat: face-to-face video over UDP without audio, built as the lowest-latency camera link
//! between two machines.
//!
//! The layers, with the only direction in which they may import each other:
//!
//! ```text
//! net base ◄─ net mechanisms ◄─ net::session ◄─ net::io ◄─┐
//!                                                         stream ◄─ cli ◄─ app ◄─ main
//!                                               video ◄───┘
//! ```
//!
//! `net` does not depend on JPEG or OpenCV, `video` does not depend on sockets, and `stream` connects
//! the two. `cli` parses the command line, and `app` implements the verbs. `fuzzing` is only for
//! tests and fuzz targets. `docs/ARCHITECTURE.md` describes the layers.

pub mod app;
pub mod cli;
pub mod clock;
pub mod fuzzing;
pub mod latest;
pub mod net;
pub mod stream;
mod threads;
pub mod video;
