//! Fuzz bodies: each takes any bytes, does something with them that a stranger or a broken file could
//! make us do, and panics if what must hold then does not.
//!
//! Every body is run in two ways: by libFuzzer, which looks for bytes that reach new code (`fuzz/`,
//! `make fuzz`), and by the ordinary tests on what a seed makes of the corpora (`tests/it/fuzzing.rs`).
//! Nothing else uses this module, and it may use everything.
//!
//! Some bodies take their bytes as they are, some as a sequence of operations, read by
//! [`arbitrary::Unstructured`]: then any bytes are some sequence.

mod config;
mod control;
mod endpoints;
mod jpeg;
mod netem;
mod reassembler;
mod seal;
mod strips;
mod text;
mod wire;
mod y4m;

pub use config::config;
pub use control::control;
pub use endpoints::endpoints;
pub use jpeg::{jpeg_decode, jpeg_stream};
pub use netem::netem;
pub use reassembler::reassembler;
pub use seal::seal;
pub use strips::strips;
pub use text::text;
pub use wire::wire;
pub use y4m::y4m;

/// A body, and what it and its corpus in `fuzz/corpus` are called.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 12] = [
    ("wire", wire),
    ("control", control),
    ("text", text),
    ("config", config),
    ("netem", netem),
    ("seal", seal),
    ("reassembler", reassembler),
    ("endpoints", endpoints),
    ("y4m", y4m),
    ("jpeg_stream", jpeg_stream),
    ("jpeg_decode", jpeg_decode),
    ("strips", strips),
];
