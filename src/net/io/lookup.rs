//! Lookups that may block, each on a thread of its own.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::Builder,
};

use mio::Waker;

/// Runs lookups without blocking, and collects their results.
#[derive(Debug)]
pub(super) struct Lookups<T> {
    waker: Arc<Waker>,
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl<T: Send + 'static> Lookups<T> {
    /// Wakes `waker` for each result.
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        let (sender, receiver) = channel();
        Self { waker, sender, receiver }
    }

    /// Starts a lookup on a thread called `name`. The caller bounds their number.
    pub(super) fn start(
        &self,
        name: &str,
        look_up: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<()> {
        let (waker, sender) = (Arc::clone(&self.waker), self.sender.clone());
        let run = move || {
            // These fail only if the driver has ended.
            let _ = sender.send(look_up());
            let _ = waker.wake();
        };
        Builder::new().name(name.into()).spawn(run).map(drop)
    }

    /// Adds a result that needed no thread.
    pub(super) fn put(&self, result: T) {
        let _ = self.sender.send(result);
        let _ = self.waker.wake();
    }

    /// The next result.
    pub(super) fn try_take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}
