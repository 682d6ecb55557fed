//! Fuzz bodies. Each drives one part of the program with arbitrary bytes, as a stranger, a user or a
//! damaged file could, and panics if an invariant is violated.
//!
//! Every body runs in two ways: under libFuzzer, which searches for bytes that reach new code
//! (`fuzz/`, `make fuzz`), and in the ordinary tests, on the corpora and seeded mutations of them
//! (`tests/it/fuzzing.rs`). Nothing else uses this module, and it may use everything. It exists
//! only with the feature `internals`, and is not part of the API.
//!
//! Some bodies use their bytes directly, others as a sequence of operations, read by
//! [`arbitrary::Unstructured`], for which any bytes are a valid sequence.

#[cfg(feature = "cli")]
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

#[cfg(feature = "cli")]
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

/// A fuzz target: its name, which is also that of its corpus in `fuzz/corpus`, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All fuzz targets. `config` parses the program's files and options, so it needs the feature
/// `cli`.
pub const TARGETS: &[Target] = &[
    ("wire", wire),
    ("control", control),
    ("text", text),
    #[cfg(feature = "cli")]
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
