//! The receiving side on the main thread: its windows and its recording.

pub(crate) mod display;
pub(crate) mod presenter;
pub(crate) mod recording;
