//! udpchat: face-to-face video over UDP without audio, built as the lowest-latency camera link
//! between two machines.
//!
//! The layers, with the only direction in which they may import each other:
//!
//! ```text
//! net::{wire, frame, time} ◄─ mechanisms in net ◄─ net::session ◄─ net::io ◄─┐
//!                                                                        stream ◄─ cli ◄─ app
//!                                                                   video ◄─┘
//! ```
//!
//! `net` does not depend on JPEG or OpenCV, `video` does not depend on sockets, and `stream` connects
//! the two. `cli` is what the user types, `app` what the program does. `fuzzing` is only for tests
//! and fuzz targets.

pub mod app;
pub mod cli;
pub mod clock;
pub mod fuzzing;
pub mod latest;
pub mod net;
pub mod stream;
pub mod video;
