//! The process: its signals, file descriptors and standard output, and when it ends.

pub(crate) mod descriptors;
pub(crate) mod signals;
pub(crate) mod stdout;
pub(crate) mod stop;
