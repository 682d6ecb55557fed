//! One side's outgoing datagrams: bodies in, complete datagrams out.

use crate::net::{
    crypto::seal::Sealer,
    frame::SessionId,
    wire::{
        checksum::{CrcCombiner, Hashed},
        datagram::{Direction, Form, Kind, Prelude},
    },
};

/// Numbers, completes and seals one side's datagrams.
#[derive(Debug)]
pub(super) struct Outbound {
    session: SessionId,
    direction: Direction,
    /// `None`: datagrams are not sealed.
    sealer: Option<Sealer>,
    next_sequence: u64,
    datagrams: u64,
    bytes: u64,
    crc_combiner: CrcCombiner,
}

/// Contiguous datagrams for one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Burst {
    /// Total bytes.
    pub(super) len: usize,
    /// Bytes of each datagram but the last.
    pub(super) segment_len: usize,
}

/// A burst being written: datagrams of equal length; a shorter one ends it.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    outbound: &'a mut Outbound,
    buf: &'a mut [u8],
    burst: Option<Burst>,
}

impl Outbound {
    /// The clear datagrams of `session` in this direction.
    pub(super) fn clear(session: SessionId, direction: Direction) -> Self {
        Self {
            session,
            direction,
            sealer: None,
            next_sequence: 0,
            datagrams: 0,
            bytes: 0,
            crc_combiner: CrcCombiner::default(),
        }
    }

    /// The same, sealed, and numbered from `first_sequence`.
    pub(super) fn sealed(
        session: SessionId,
        direction: Direction,
        sealer: Sealer,
        first_sequence: u64,
    ) -> Self {
        let clear = Self::clear(session, direction);
        Self { sealer: Some(sealer), next_sequence: first_sequence, ..clear }
    }

    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// The form of the session's datagrams, in both directions.
    pub(super) fn form(&self) -> Form {
        if self.sealer.is_some() { Form::Sealed } else { Form::Clear }
    }

    /// The sequence number of the next datagram.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Datagrams sent so far, and their bytes of UDP payload.
    pub(super) fn sent(&self) -> (u64, u64) {
        (self.datagrams, self.bytes)
    }

    /// Writes one datagram to the head of `buf`: `fill` writes its body of `body_len` bytes.
    pub(super) fn emit(
        &mut self,
        kind: Kind,
        body_len: usize,
        buf: &mut [u8],
        fill: impl FnOnce(&mut [u8]),
    ) -> Burst {
        let len = self.emit_hashed(kind, body_len, buf, |body| {
            fill(body);
            Hashed::default()
        });
        Burst { len, segment_len: len }
    }

    /// The same, but `fill` returns the CRC of the end of the body, as far as it is known. Returns
    /// the datagram's length.
    fn emit_hashed(
        &mut self,
        kind: Kind,
        body_len: usize,
        buf: &mut [u8],
        fill: impl FnOnce(&mut [u8]) -> Hashed,
    ) -> usize {
        let len = self.form().overhead() + body_len;
        let datagram = &mut buf[..len];
        let tail = fill(&mut datagram[Prelude::LEN..][..body_len]);
        let prelude = Prelude {
            kind,
            direction: self.direction,
            sequence: self.next_sequence,
            session: self.session,
        };
        match &mut self.sealer {
            Some(sealer) => sealer.seal(&prelude, datagram),
            None => prelude.emit(datagram, tail, &mut self.crc_combiner),
        }
        self.next_sequence += 1;
        self.datagrams += 1;
        self.bytes += len as u64;
        len
    }
}

impl<'a> Batch<'a> {
    /// An empty batch at the head of `buf`.
    pub(super) fn new(outbound: &'a mut Outbound, buf: &'a mut [u8]) -> Self {
        Self { outbound, buf, burst: None }
    }

    /// Appends a datagram, as [`Outbound::emit`] does, but `fill` returns the CRC of the end of the
    /// body, as far as it is known. Returns false and writes nothing if it does not fit.
    pub(super) fn push(
        &mut self,
        kind: Kind,
        body_len: usize,
        fill: impl FnOnce(&mut [u8]) -> Hashed,
    ) -> bool {
        let len = self.outbound.form().overhead() + body_len;
        let Burst { len: at, segment_len } =
            self.burst.unwrap_or(Burst { len: 0, segment_len: len });
        let is_full = !at.is_multiple_of(segment_len) || self.buf.len() - at < len;
        if is_full || len > segment_len {
            return false;
        }
        self.outbound.emit_hashed(kind, body_len, &mut self.buf[at..], fill);
        self.burst = Some(Burst { len: at + len, segment_len });
        true
    }

    /// The burst written, if any.
    pub(super) fn finish(self) -> Option<Burst> {
        self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_with_the_first_shorter_datagram() {
        let session = SessionId::new(7).unwrap();
        let mut outbound = Outbound::clear(session, Direction::FromDialler);
        let mut buf = [0; 200];
        let mut batch = Batch::new(&mut outbound, &mut buf);
        let mut push = |len| batch.push(Kind::Video, len, |_| Hashed::default());
        assert!(push(20) && push(20));
        assert!(!push(21), "longer than the first");
        assert!(push(19));
        assert!(!push(19), "one shorter has ended it");
        assert_eq!(batch.finish(), Some(Burst { len: 36 + 36 + 35, segment_len: 36 }));
        assert_eq!(outbound.sent(), (3, 107));
    }

    #[test]
    fn a_batch_ends_when_the_buffer_is_full() {
        let session = SessionId::new(7).unwrap();
        let mut outbound = Outbound::clear(session, Direction::FromDialler);
        let mut buf = [0; 71];
        let mut batch = Batch::new(&mut outbound, &mut buf);
        let mut push = |len| batch.push(Kind::Video, len, |_| Hashed::default());
        assert!(push(20));
        assert!(!push(20));
        assert_eq!(batch.finish(), Some(Burst { len: 36, segment_len: 36 }));
    }
}
