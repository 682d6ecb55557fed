//! What one side of a session sends: bodies in, finished datagrams out.

use crate::net::{
    frame::SessionId,
    wire::datagram::{self, CRC_LEN, Direction, Kind, Prelude},
};

/// Numbers and completes one side's datagrams.
#[derive(Debug)]
pub(super) struct Outbound {
    session: SessionId,
    direction: Direction,
    next_sequence: u64,
    datagrams: u64,
    bytes: u64,
}

impl Outbound {
    pub(super) fn new(session: SessionId, direction: Direction) -> Self {
        Self { session, direction, next_sequence: 0, datagrams: 0, bytes: 0 }
    }

    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Datagrams and their bytes of UDP payload so far.
    pub(super) fn sent(&self) -> (u64, u64) {
        (self.datagrams, self.bytes)
    }

    /// Writes one datagram to the head of `buf`: `fill` writes its body of `body_len` bytes.
    /// Returns the datagram's length.
    pub(super) fn emit(
        &mut self,
        kind: Kind,
        body_len: usize,
        buf: &mut [u8],
        fill: impl FnOnce(&mut [u8]),
    ) -> usize {
        let len = datagram::OVERHEAD + body_len;
        let datagram = &mut buf[..len];
        fill(&mut datagram[Prelude::LEN..len - CRC_LEN]);
        let prelude = Prelude {
            kind,
            direction: self.direction,
            sequence: self.next_sequence,
            session: self.session,
        };
        prelude.emit(datagram);
        self.next_sequence += 1;
        self.datagrams += 1;
        self.bytes += len as u64;
        len
    }
}
