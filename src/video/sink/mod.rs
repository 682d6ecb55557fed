//! Video outputs: files, pipes and windows.

mod avi;
mod backlog;
mod destination;
pub mod display;
#[cfg(feature = "opencv")]
mod highgui;
#[cfg(all(target_os = "linux", feature = "opencv"))]
mod key_watch;
#[cfg(feature = "opencv")]
mod keys;
mod output;
#[cfg(feature = "opencv")]
mod overlay;
mod recorder;
mod spec;
pub mod window;
mod written;
mod y4m;

pub use recorder::{RecordError, RecordSummary, Recorder};
pub use spec::{Container, OutputSpec, OutputSpecError};
