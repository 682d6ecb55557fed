//! udpchat: face-to-face video over UDP without audio, built as the lowest-latency camera link
//! between two machines. This is the library of the program `udpchat`.
//!
//! A [`Sender`] takes pictures, encodes them as JPEG, and sends them to one or more receivers. A
//! [`Receiver`] takes the newest frame, with its pixels on demand. Either side can also be the
//! program: `udpchat recv` shows what a `Sender` sends, and a `Receiver` gets the camera of
//! `udpchat send`.
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
//! // On the other one: 640 x 480 pixels of blue, green and red.
//! let mut sender = Sender::connect("desk.local")?;
//! sender.send(&Image::new(640, 480, PixelFormat::Bgr, vec![90; 640 * 480 * 3]))?;
//! # Ok(())
//! # }
//! ```
//!
//! - **The newest wins.** Nothing is queued: a frame that cannot be sent or is not taken in time is
//!   replaced by the next one, and counted.
//! - **Pictures fit the path.** Quality, size and rate follow what the path can carry, unless the
//!   quality is [fixed](SenderBuilder::quality). Lost datagrams are repaired by parity and requests.
//! - **Everything is encrypted.** [`Access`] says how peers prove who they are; by default any peer
//!   is accepted.
//! - **Threads.** Each side has a network thread and some for the codec. They end when it is dropped.
//!
//! # Features
//!
//! - `cli` (default): the program, and the crates that only it needs. Other programs switch it off:
//!   `default-features = false`.
//! - `opencv` (default): cameras, video files and windows. `Sender` and `Receiver` do not need it.

mod api;
#[cfg(feature = "cli")]
pub mod app;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod latest;
pub mod net;
#[cfg_attr(
    not(feature = "cli"),
    expect(dead_code, reason = "playout, statistics and the subscriber serve only the program")
)]
pub mod stream;
mod threads;
pub mod video;

pub use api::{
    Access, Event, EventKind, Frame, Identity, Peer, PublicKey, Receiver, ReceiverBuilder,
    ReceiverStatistics, RecvError, SendError, Sender, SenderBuilder, SenderStatistics, Stages,
    StartError,
};
pub use video::{
    image::{Image, PixelFormat, Size},
    jpeg::JpegError,
};
