//! The TCP connections of the control channel, indexed by the endpoint's connection ids.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Interest, Registry, Token, net::TcpStream};

use super::faults::not_dialled;
use crate::net::session::{ConnId, Endpoint};

/// All control connections, open or being established.
#[derive(Debug)]
pub(super) struct Connections {
    first_token: usize,
    open: BTreeMap<ConnId, Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    outbox: Vec<u8>,
    /// The destination, until the connection is established.
    connecting_to: Option<SocketAddr>,
    /// The deadline for closing, if it is closing.
    closing_until: Option<Instant>,
}

impl Connections {
    /// Creates an empty set that uses the poll tokens from `first_token` up.
    pub(super) fn new(first_token: usize) -> Self {
        Self { first_token, open: BTreeMap::new() }
    }

    /// The connection that a poll event belongs to.
    pub(super) fn of_token(&self, token: Token) -> Option<ConnId> {
        let conn = ConnId(token.0.checked_sub(self.first_token)? as u64);
        self.open.contains_key(&conn).then_some(conn)
    }

    /// Starts connecting. The result arrives as a poll event, unless an error is returned.
    pub(super) fn dial(
        &mut self,
        registry: &Registry,
        conn: ConnId,
        to: SocketAddr,
    ) -> io::Result<()> {
        self.add(registry, conn, TcpStream::connect(to)?, Some(to))
    }

    /// Takes over an incoming connection.
    pub(super) fn accept(
        &mut self,
        registry: &Registry,
        conn: ConnId,
        stream: TcpStream,
    ) -> io::Result<()> {
        self.add(registry, conn, stream, None)
    }

    /// Writes `bytes` as soon as the peer accepts them.
    pub(super) fn write(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(connection) = self.open.get_mut(&conn) {
            connection.outbox.extend_from_slice(bytes);
            connection.flush();
        }
    }

    /// Closes `conn` once pending bytes are written, or at a deadline.
    pub(super) fn close(&mut self, now: Instant, registry: &Registry, conn: ConnId) {
        if let Some(connection) = self.open.get_mut(&conn) {
            connection.closing_until = Some(now + CLOSE_DEADLINE);
            connection.flush();
            if connection.outbox.is_empty() {
                self.remove(registry, conn);
            }
        }
    }

    /// Closes the connections that have reached their deadline.
    pub(super) fn handle_timeout(&mut self, now: Instant, registry: &Registry) {
        let is_over = |c: &Connection| c.closing_until.is_some_and(|until| until <= now);
        let over: Vec<_> =
            self.open.iter().filter(|(_, c)| is_over(c)).map(|(id, _)| *id).collect();
        for conn in over {
            self.remove(registry, conn);
        }
    }

    /// The earliest closing deadline.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.open.values().filter_map(|c| c.closing_until).min()
    }

    /// Whether no established connection has bytes left to write.
    pub(super) fn is_flushed(&self) -> bool {
        self.open.values().all(|c| c.outbox.is_empty() || c.connecting_to.is_some())
    }

    /// Handles a poll event for `conn`.
    pub(super) fn handle_ready(
        &mut self,
        registry: &Registry,
        conn: ConnId,
        endpoint: &mut Endpoint,
    ) {
        let Some(connection) = self.open.get_mut(&conn) else { return };
        let now = crate::clock::now();
        if let Some(to) = connection.connecting_to {
            match connection.finish_connecting() {
                Ok(false) => return,
                Ok(true) => endpoint.handle_connected(now, conn),
                Err(error) => {
                    self.remove(registry, conn);
                    not_dialled(endpoint, now, conn, to, &error);
                    return;
                }
            }
        }
        connection.flush();
        if connection.closing_until.is_some() {
            if connection.outbox.is_empty() {
                self.remove(registry, conn);
            }
            return;
        }
        let still_open = connection.read(|bytes| endpoint.handle_data(now, conn, bytes));
        if !still_open {
            self.remove(registry, conn);
            endpoint.handle_disconnected(now, conn, false);
        }
    }

    fn add(
        &mut self,
        registry: &Registry,
        conn: ConnId,
        mut stream: TcpStream,
        connecting_to: Option<SocketAddr>,
    ) -> io::Result<()> {
        let token = Token(self.first_token + conn.0 as usize);
        // Disable Nagle's algorithm (RFC 896), so that a message does not wait for another.
        let _ = stream.set_nodelay(true);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let connection =
            Connection { stream, outbox: Vec::new(), connecting_to, closing_until: None };
        self.open.insert(conn, connection);
        Ok(())
    }

    fn remove(&mut self, registry: &Registry, conn: ConnId) {
        if let Some(mut connection) = self.open.remove(&conn) {
            let _ = registry.deregister(&mut connection.stream);
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }
}

impl Connection {
    /// Whether the connection is established now. Returns an error if it has failed.
    fn finish_connecting(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.connecting_to = None;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) {
        while !self.outbox.is_empty() && self.connecting_to.is_none() {
            match self.stream.write(&self.outbox) {
                Ok(written) => {
                    self.outbox.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A peer that reads nothing counts as gone; the next read reports it.
                    if self.outbox.len() > MAX_OUTBOX_LEN {
                        let _ = self.stream.shutdown(Shutdown::Both);
                        self.outbox.clear();
                    }
                    return;
                }
                // The next read reports the error.
                Err(_) => self.outbox.clear(),
            }
        }
    }

    /// Reads what is available. Returns false when the connection has ended.
    fn read(&mut self, mut handle: impl FnMut(&[u8])) -> bool {
        let mut buf = [0; 4096];
        for _ in 0..READS_AT_ONCE {
            match self.stream.read(&mut buf) {
                Ok(0) => return false,
                Ok(len) => handle(&buf[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        // No legitimate peer sends so much control data at once.
        false
    }
}

/// How long a closing connection waits for the peer to accept pending bytes.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

const MAX_OUTBOX_LEN: usize = 64 << 10;
const READS_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_reads_nothing_is_closed_at_the_deadline() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _silent = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let poll = mio::Poll::new().unwrap();
        let mut connections = Connections::new(0);
        let conn = ConnId(1);
        connections.accept(poll.registry(), conn, TcpStream::from_std(stream)).unwrap();
        // Until the kernel accepts no more.
        for _ in 0..10_000 {
            if !connections.is_flushed() {
                break;
            }
            connections.write(conn, &vec![7; MAX_OUTBOX_LEN / 2]);
        }
        assert!(!connections.is_flushed());
        let now = crate::clock::now();
        connections.close(now, poll.registry(), conn);
        assert_eq!(connections.poll_timeout(), Some(now + CLOSE_DEADLINE));
        connections.handle_timeout(now + CLOSE_DEADLINE / 2, poll.registry());
        assert!(!connections.open.is_empty());
        connections.handle_timeout(now + CLOSE_DEADLINE, poll.registry());
        assert!(connections.open.is_empty());
    }
}
