//! The integration tests, in one binary.
#![expect(
    clippy::unwrap_used,
    clippy::unchecked_time_subtraction,
    reason = "in a test, a panic reports a failure"
)]

mod layering;
mod loopback;

mod caller;
mod congestion;
mod contract;
mod endpoint;
mod error_texts;
#[cfg(unix)]
mod file_names;
mod fuzzing;
mod loss_table;
mod pacing;
mod paths;
mod side;
mod sim;
mod simulation;
mod vectors;

mod allocations;
mod api;
mod attacks;
mod background;
mod bad_input;
mod crossing;
mod hostile;
mod machines;
mod namespaces;
mod narrow;
mod odd_files;
mod odd_jpegs;
#[cfg(unix)]
mod opencv_process;
mod people;
mod program;
mod relay;
mod repair;
#[cfg(unix)]
mod sources;
mod trust;
mod video_files;
#[cfg(feature = "opencv")]
mod windows;
#[cfg(target_os = "linux")]
mod wiping;
