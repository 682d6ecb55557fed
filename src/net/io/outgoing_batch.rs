//! The batch of datagrams between the endpoint and the socket.

use super::{socket_errors::SendFailure, udp::SendError};
use crate::net::{
    link::PeerAddr, route::Route, session::Transmit, wire::datagram::MAX_DATAGRAM_LEN,
};

/// The datagrams that the endpoint has written and the socket has not accepted yet. They leave
/// before any later ones.
#[derive(Debug)]
pub(super) struct OutgoingBatch {
    buf: Vec<u8>,
    rest: Option<Rest>,
}

/// A transmit at the head of the buffer, which the socket has not accepted completely.
#[derive(Clone, Copy, Debug)]
struct Rest {
    transmit: Transmit,
    /// Bytes accepted, in complete datagrams.
    taken: usize,
}

impl OutgoingBatch {
    pub(super) fn new() -> Self {
        Self { buf: vec![0; BATCH_LEN], rest: None }
    }

    /// Whether a part waits until the socket is writable.
    pub(super) fn is_blocked(&self) -> bool {
        self.rest.is_some()
    }

    /// Passes the waiting part to `send`, or else the next batch, which `poll` writes. Returns the
    /// peer that it was sent to, or why sending failed; a batch that failed is dropped. `None`:
    /// there is nothing to send, or the socket is blocked.
    pub(super) fn send(
        &mut self,
        poll: impl FnOnce(&mut [u8]) -> Option<Transmit>,
        send: impl FnOnce(Route, &[u8], usize) -> Result<(), SendError>,
    ) -> Option<Result<PeerAddr, SendFailure>> {
        let next = self.rest.take().or_else(|| {
            let transmit = poll(&mut self.buf)?;
            Some(Rest { transmit, taken: 0 })
        });
        let Rest { transmit, taken } = next?;
        let Transmit { to, len, segment_len, .. } = transmit;
        match send(transmit.route(), &self.buf[taken..len], segment_len) {
            Ok(()) => Some(Ok(to)),
            Err(error) if error.is_blocked() => {
                self.rest = Some(Rest { transmit, taken: taken + error.taken });
                None
            }
            Err(SendError { error, .. }) => Some(Err(SendFailure { to, len: segment_len, error })),
        }
    }
}

/// The largest UDP payload, which is also the kernel's limit for a batch.
const BATCH_LEN: usize = MAX_DATAGRAM_LEN;

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr};

    use super::*;

    fn peer() -> PeerAddr {
        SocketAddr::from(([192, 0, 2, 1], 7)).into()
    }

    /// A batch of three datagrams of 10 bytes, each filled with its index.
    fn three(buf: &mut [u8]) -> Transmit {
        for (index, datagram) in buf.chunks_mut(10).take(3).enumerate() {
            datagram.fill(index as u8);
        }
        Transmit { to: peer(), local: None, len: 30, segment_len: 10 }
    }

    fn failed(taken: usize, kind: io::ErrorKind) -> Result<(), SendError> {
        Err(SendError { taken, error: kind.into() })
    }

    #[test]
    fn a_blocked_batch_continues_where_it_stopped_before_another_is_written() {
        let mut batch = OutgoingBatch::new();
        for taken in [10, 0] {
            assert!(
                batch
                    .send(
                        |buf| Some(three(buf)),
                        |_, _, _| failed(taken, io::ErrorKind::WouldBlock)
                    )
                    .is_none()
            );
            assert!(batch.is_blocked());
        }
        let refill = |_: &mut [u8]| -> Option<Transmit> { panic!("a part is waiting") };
        let sent = batch.send(refill, |to, contents, segment_len| {
            assert_eq!((to, segment_len), (peer().into(), 10));
            assert_eq!(contents, [[1; 10], [2; 10]].concat());
            Ok(())
        });
        assert_eq!(sent.unwrap().unwrap(), peer());
        assert!(!batch.is_blocked());
    }

    #[test]
    fn a_batch_that_fails_is_dropped() {
        let mut batch = OutgoingBatch::new();
        let result = batch
            .send(|buf| Some(three(buf)), |_, _, _| failed(30, io::ErrorKind::NetworkUnreachable));
        let failure = result.unwrap().unwrap_err();
        assert_eq!((failure.to, failure.len), (peer(), 10));
        assert_eq!(failure.error.kind(), io::ErrorKind::NetworkUnreachable);
        assert!(!batch.is_blocked());
    }

    #[test]
    fn without_datagrams_nothing_is_sent() {
        let mut batch = OutgoingBatch::new();
        assert!(batch.send(|_| None, |_, _, _| panic!("there is nothing to send")).is_none());
        assert!(!batch.is_blocked());
    }
}
