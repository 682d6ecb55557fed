//! udpchat: face-to-face video over UDP without audio, built as the lowest-latency camera link
//! between two machines. This is the library of the program `udpchat`.
//!
//! A [`Sender`] encodes the pictures that it is given as JPEG, and sends them to one or more
//! receivers. A [`Receiver`] returns the newest frame, which is decoded on demand. Either side can
//! also be the program: `udpchat recv` shows what a `Sender` sends, and a `Receiver` receives the
//! stream of `udpchat send`.
//!
//! ```no_run
//! use udpchat::{Image, PixelFormat, Receiver, Sender};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // On one machine: listen on the default port, 7722.
//! let mut receiver = Receiver::listen(":7722")?;
//! let frame = receiver.recv()?;
//! let image = frame.image()?;
//!
//! // On the other one: a gray picture of 640x480, 3 bytes (B, G, R) a pixel.
//! let mut sender = Sender::connect("desk.local")?;
//! sender.send(&Image::new(640, 480, PixelFormat::Bgr, vec![90; 640 * 480 * 3]))?;
//! # Ok(())
//! # }
//! ```
//!
//! - **The newest wins.** Nothing is queued: a frame that cannot be sent or is not taken in time is
//!   replaced by the next one, and counted.
//! - **Pictures fit the path.** Quality, size and frame rate follow what the path can carry. With a
//!   [fixed quality](SenderBuilder::quality), pictures are skipped instead. Losses are repaired by
//!   parity and retransmission.
//! - **Everything is encrypted.** [`Access`] says how peers prove who they are; by default any peer
//!   is accepted.
//! - **Threads.** Each side has a network thread and some for the codec. They end when it is
//!   dropped, except that a [`Frame`] keeps the threads that decode it. `Sender` and `Receiver` are
//!   each used from one thread at a time.
//!
//! # Features
//!
//! - `cli` (default): the program `udpchat`, and the crates that only it needs. Programs that use
//!   only the library switch it off: `default-features = false`. On Linux `libclang` is still
//!   needed to build the crate.
//! - `opencv` (default): the program `udpchat-opencv`, which `udpchat` starts for cameras, video
//!   files, images, URLs and windows. `Sender` and `Receiver` do not need it.

#![cfg_attr(
    not(feature = "internals"),
    allow(
        unreachable_pub,
        unused_imports,
        clippy::struct_field_names,
        clippy::trivially_copy_pass_by_ref,
        reason = "items that only the tests of this repository use are public for them"
    )
)]
#![cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        reason = "sources, windows, recordings and statistics serve only the program"
    )
)]

mod api;
#[cfg(feature = "internals")]
pub mod fuzzing;
mod threads;

// The tests, benches and fuzz targets of this repository use the internals.
#[cfg(all(feature = "cli", feature = "internals"))]
pub mod app;
#[cfg(all(feature = "cli", feature = "internals"))]
pub mod cli;
#[cfg(feature = "internals")]
pub mod clock;
#[cfg(feature = "internals")]
pub mod latest;
#[cfg(feature = "internals")]
pub mod net;
#[cfg(feature = "internals")]
pub mod stream;
#[cfg(feature = "internals")]
pub mod video;

#[cfg(all(feature = "cli", not(feature = "internals")))]
mod app;
#[cfg(all(feature = "cli", not(feature = "internals")))]
mod cli;
#[cfg(not(feature = "internals"))]
mod clock;
#[cfg(not(feature = "internals"))]
mod latest;
#[cfg(not(feature = "internals"))]
mod net;
#[cfg(not(feature = "internals"))]
mod stream;
#[cfg(not(feature = "internals"))]
mod video;

/// For the program `udpchat-opencv` only: its messages, and the clock that both programs read.
#[doc(hidden)]
pub mod opencv_process {
    pub use crate::video::{
        opencv_process::{
            Input, Picture, PictureKind, Properties, Reply, Request, VERSION, clock, read_message,
            write_message,
        },
        sink::window::{Action, NoDisplay, Overlay, Pane, WindowError, WindowSpec},
    };
}

/// Runs the program with the arguments of this process.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub fn run() -> std::process::ExitCode {
    match cli::parse() {
        Ok(cli) => app::main(cli),
        Err(code) => code,
    }
}

pub use api::{
    Access, Event, EventKind, Frame, Identity, Peer, PublicKey, Receiver, ReceiverBuilder,
    ReceiverStatistics, RecvError, SendError, Sender, SenderBuilder, SenderStatistics, Stages,
    StartError,
};
pub use net::units::{Bitrate, DataSize};
pub use video::{
    image::{Image, PixelFormat, Size},
    jpeg::JpegError,
};

/// The error types that [`StartError`], [`SendError`] and [`JpegError`] contain, and that of
/// parsing a [`PublicKey`].
pub mod error {
    pub use crate::{
        net::{
            crypto::{code::CodeTooShort, keys::InvalidPublicKey},
            io::{AddrError, BindAddrError, BindError, HostPortError, PortError},
        },
        video::{
            image::SizeError,
            jpeg::{HeaderError, Interrupted, NormalizeError, ScanError},
        },
    };
}
