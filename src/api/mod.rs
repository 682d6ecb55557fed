//! A camera link for other programs: [`Sender`] and [`Receiver`].

mod access;
mod deadline;
mod event;
mod frame;
mod receiver;
mod sender;

use std::io;

pub use access::{Access, Identity, PublicKey};
pub use event::{Event, EventKind, Peer};
pub use frame::{Frame, Stages};
pub use receiver::{Receiver, ReceiverBuilder, ReceiverStatistics, RecvError};
pub use sender::{SendError, Sender, SenderBuilder, SenderStatistics};

use crate::net::{
    crypto::code::CodeTooShort,
    io::{BindAddrError, BindError, HostPortError},
    units::Bitrate,
};

/// Why a [`Sender`] or [`Receiver`] cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A sender has no receiver to send to.
    #[error("give at least one receiver")]
    NoReceiver,
    /// The text is not a host to send to.
    #[error(transparent)]
    Host(#[from] HostPortError),
    /// The text is not an address to listen on.
    #[error(transparent)]
    Address(#[from] BindAddrError),
    /// The code is so short that it can be guessed.
    #[error(transparent)]
    Code(#[from] CodeTooShort),
    /// The port of a receiver is 0.
    #[error("a receiver cannot have port 0: give the port that {0} listens on")]
    NoPort(String),
    /// The maximum bitrate is less than 100 kbit/s, into which no useful video fits.
    #[error("a maximum of {0} is too little for video: give at least 100 kbit/s")]
    Bitrate(Bitrate),
    /// The frame rate is not between 0.1 and 1000 frames a second.
    #[error("a frame rate of {0} is out of range: give 0.1 to 1000 frames a second")]
    FrameRate(f64),
    /// The JPEG quality is not between 1 and 100.
    #[error("a quality of {0} is out of range: give 1 to 100")]
    Quality(u8),
    /// The address or port cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The network thread cannot be started.
    #[error("cannot start the network thread: {0}")]
    Thread(io::Error),
}
