//! Fuzz bodies. Each takes arbitrary bytes, does something with them that a stranger or a broken
//! file could cause, and panics if an invariant is violated.
//!
//! Every body runs in two ways: by libFuzzer, which searches for bytes that reach new code
//! (`fuzz/`, `make fuzz`), and by the ordinary tests on seeded mutations of the corpora
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

/// All fuzz targets. `config` parses files of the program, so it needs the feature `cli`.
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
