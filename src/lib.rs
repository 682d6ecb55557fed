//! udpchat: face-to-face video without voice over UDP, and the lowest-latency
//! camera link between two machines.
//!
//! The layers, and the one direction in which they may import each other:
//!
//! ```text
//! net::wire, net::frame, net::time ◄─ one mechanism a file in net ◄─ net::session ◄─ net::io ◄─ app ◄─ cli, main
//!                                                                     video ◄──────────────────┘
//! ```
//!
//! `net` knows no JPEG and no OpenCV; `video` knows no sockets; `app` wires them. `fuzzing` is for tests.

pub mod app;
pub mod cli;
pub mod clock;
pub mod fuzzing;
pub mod latest;
pub mod net;
pub mod video;
