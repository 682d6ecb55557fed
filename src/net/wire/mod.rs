//! The wire formats. `docs/PROTOCOL.md` is normative.
//!
//! Every datagram is a [`datagram::Prelude`], a body that depends on its kind, and a checksum or an
//! authentication tag:
//!
//! ```text
//! ┌──────────────┬─────────────────────────────────────┬─────────────────────┐
//! │ prelude (12) │ body: video chunk, probe, report, … │ CRC (4) or tag (16) │
//! └──────────────┴─────────────────────────────────────┴─────────────────────┘
//! ```
//!
//! The control channel carries [`control::Message`]s. Parsing returns a valid value or an error to
//! be counted. Nothing here panics on any input, or allocates before checking it.

mod big_endian;
pub mod checksum;
pub mod control;
pub mod datagram;
pub mod nack;
pub mod path_probe;
pub mod probe;
pub mod report;
pub mod text;
pub mod video;

/// The protocol version, in every datagram and in the preface of each control connection.
pub const VERSION: u8 = 2;
