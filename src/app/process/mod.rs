//! The process: its signals, its file descriptors, and when it ends.

pub(crate) mod descriptors;
pub(crate) mod signals;
pub(crate) mod stdout;
pub(crate) mod stop;
