//! Video outputs: files, pipes and windows.

mod avi;
mod backlog;
mod destination;
mod output;
mod recorder;
pub mod screen;
mod spec;
pub mod window;
mod written;
mod y4m;

pub use recorder::{RecordError, RecordSummary, Recorder};
pub use spec::{Container, OutputSpec, OutputSpecError};
