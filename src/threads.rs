//! Named threads.

use std::{io, thread::JoinHandle};

/// Starts a thread, named for debuggers and `top -H`.
pub(crate) fn spawn<F: FnOnce() + Send + 'static>(
    name: &str,
    body: F,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(body)
}
