//! Accepts incoming connections: a few in each turn, with a pause when the system lacks the
//! resources.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use log::{debug, warn};
use mio::net::{TcpListener, TcpStream};

/// A listening socket, and when to accept from it.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: TcpListener,
    /// Whether connections may be waiting; no event will report them again.
    has_more: bool,
    /// When to accept again, after the system lacked the resources to accept.
    retry_at: Option<Instant>,
    /// Whether the lack of resources was reported; reset once no connection is waiting.
    exhaustion_reported: bool,
}

impl Acceptor {
    /// Accepts from `listener`, which is registered with a poll.
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, has_more: false, retry_at: None, exhaustion_reported: false }
    }

    /// Records an event of the poll: connections are waiting.
    pub(super) fn note_ready(&mut self) {
        self.has_more = true;
    }

    /// Whether to accept more in the next turn, which must not wait for an event.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// When to accept again after a pause.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Accepts a few of the waiting connections, and passes them to `handle`.
    pub(super) fn accept(&mut self, now: Instant, handle: impl FnMut(TcpStream, SocketAddr)) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.has_more = true;
        }
        if self.has_more {
            self.retry_at = None;
            self.has_more = self.accept_some(now, TcpListener::accept, handle);
        }
    }

    /// Accepts up to [`ACCEPTS_AT_ONCE`] connections; returns whether to go on in the next turn.
    /// `accept` takes one connection from the listener.
    fn accept_some<T>(
        &mut self,
        now: Instant,
        mut accept: impl FnMut(&TcpListener) -> io::Result<(T, SocketAddr)>,
        mut handle: impl FnMut(T, SocketAddr),
    ) -> bool {
        for _ in 0..ACCEPTS_AT_ONCE {
            match accept(&self.listener) {
                Ok((stream, from)) => handle(stream, from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.exhaustion_reported = false;
                    return false;
                }
                Err(error) if is_exhaustion(&error) => {
                    self.pause(now, &error);
                    return false;
                }
                // The error concerns this connection, which failed before it was accepted.
                Err(error) => debug!("accepting a connection failed: {error}"),
            }
        }
        true
    }

    /// Schedules a retry: the poll reports a waiting connection only once, and no event tells when
    /// a file descriptor is free.
    fn pause(&mut self, now: Instant, error: &io::Error) {
        self.retry_at = Some(now + ACCEPT_PAUSE);
        if !self.exhaustion_reported {
            self.exhaustion_reported = true;
            warn!("cannot accept a connection, will retry: {error} (see `ulimit -n`)");
        }
    }
}

/// Whether the system or this process lacks a file descriptor or memory for a connection.
fn is_exhaustion(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;

        let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        let errno = Errno::from_io_error(error);
        errno.is_some_and(|errno| exhausted.contains(&errno))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::OutOfMemory
    }
}

/// The maximum number of connections accepted in one turn, so that a flood does not delay the
/// stream.
pub(super) const ACCEPTS_AT_ONCE: usize = 16;

/// The pause before accepting again, after the system lacked the resources. A new connection ends
/// it early.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn acceptor() -> Acceptor {
        Acceptor::new(TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap())
    }

    fn caller() -> SocketAddr {
        ([192, 0, 2, 1], 7).into()
    }

    #[test]
    fn a_few_connections_are_accepted_at_once() {
        let now = crate::clock::now();
        let mut acceptor = acceptor();
        let mut waiting = (0..ACCEPTS_AT_ONCE + 3).map(|_| Ok(((), caller())));
        let mut accept = |_: &TcpListener| {
            waiting.next().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
        };
        let mut accepted = 0;
        assert!(acceptor.accept_some(now, &mut accept, |(), _| accepted += 1));
        assert!(!acceptor.accept_some(now, &mut accept, |(), _| accepted += 1));
        assert_eq!(accepted, ACCEPTS_AT_ONCE + 3);
    }

    #[test]
    fn a_failed_connection_does_not_delay_the_next() {
        let now = crate::clock::now();
        let mut acceptor = acceptor();
        let mut results = vec![
            Err(io::ErrorKind::WouldBlock.into()),
            Ok(((), caller())),
            Err(io::ErrorKind::ConnectionAborted.into()),
        ];
        let mut accepted = 0;
        let accept = |_: &TcpListener| results.pop().expect("not asked again");
        assert!(!acceptor.accept_some(now, accept, |(), _| accepted += 1));
        assert_eq!((accepted, acceptor.poll_timeout()), (1, None));
    }

    #[test]
    #[cfg(unix)]
    fn without_file_descriptors_it_pauses_and_says_so_once() {
        let now = crate::clock::now();
        let mut acceptor = acceptor();
        let exhausted = |_: &TcpListener| Err(nix::errno::Errno::EMFILE.into());
        let refuse = |(), _| panic!("nothing is accepted");
        for turn in 0..2 {
            let now = now + turn * ACCEPT_PAUSE;
            assert!(!acceptor.accept_some(now, exhausted, refuse));
            assert_eq!(acceptor.poll_timeout(), Some(now + ACCEPT_PAUSE));
            assert!(acceptor.exhaustion_reported);
        }
        acceptor.accept(now, |_, _| panic!("nobody is waiting"));
        assert!(acceptor.exhaustion_reported, "it is too early");
        let later = now + 2 * ACCEPT_PAUSE;
        acceptor.accept(later, |_, _| panic!("nobody is waiting"));
        assert_eq!((acceptor.poll_timeout(), acceptor.exhaustion_reported), (None, false));
    }

    #[test]
    fn without_an_event_nothing_is_accepted() {
        let now = crate::clock::now();
        let mut acceptor = acceptor();
        let to = acceptor.listener.local_addr().unwrap();
        // The connection is established when `connect` returns.
        let _caller = std::net::TcpStream::connect(to).unwrap();
        acceptor.accept(now, |_, _| panic!("no event"));
        acceptor.note_ready();
        assert!(acceptor.has_more());
        let mut accepted = 0;
        acceptor.accept(now, |_, _| accepted += 1);
        assert_eq!((accepted, acceptor.has_more()), (1, false));
    }
}
