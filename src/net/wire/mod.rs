//! Bytes to values and back: the normative text is `docs/PROTOCOL.md`.
//!
//! Every datagram is a [`datagram::Prelude`], a body by its kind, and a checksum or a seal:
//!
//! ```text
//! ┌──────────────┬─────────────────────────────────────┬─────────────────────┐
//! │ prelude (12) │ body: video chunk, probe, report, … │ CRC (4) or tag (16) │
//! └──────────────┴─────────────────────────────────────┴─────────────────────┘
//! ```
//!
//! The control channel carries [`control::Message`]s. Parsing returns a value that
//! cannot be wrong, or an error that is a reason to count; nothing here panics on
//! any input, and nothing allocates before it has checked.

pub mod checksum;
pub mod control;
pub mod datagram;
pub mod nack;
pub mod path_probe;
pub mod probe;
pub mod report;
pub mod text;
pub mod video;

/// The version of this protocol, on every datagram and at the head of each control connection.
pub const VERSION: u8 = 2;
