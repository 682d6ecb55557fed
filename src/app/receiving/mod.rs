//! The receiving side on the main thread: its loop, its windows and its recording.

pub(crate) mod event_loop;
pub(crate) mod presenter;
pub(crate) mod window_trial;
