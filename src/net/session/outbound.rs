//! What one side of a session sends: bodies in, finished datagrams out.

use crate::net::{
    frame::SessionId,
    wire::{
        checksum::{Hashed, Joiner},
        datagram::{self, CRC_LEN, Direction, Kind, Prelude},
    },
};

/// Numbers and completes one side's datagrams.
#[derive(Debug)]
pub(super) struct Outbound {
    session: SessionId,
    direction: Direction,
    next_sequence: u64,
    datagrams: u64,
    bytes: u64,
    joiner: Joiner,
}

impl Outbound {
    pub(super) fn new(session: SessionId, direction: Direction) -> Self {
        Self {
            session,
            direction,
            next_sequence: 0,
            datagrams: 0,
            bytes: 0,
            joiner: Joiner::default(),
        }
    }

    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// What joins the CRCs of this side's chunks.
    pub(super) fn joiner(&mut self) -> &mut Joiner {
        &mut self.joiner
    }

    /// Datagrams and their bytes of UDP payload so far.
    pub(super) fn sent(&self) -> (u64, u64) {
        (self.datagrams, self.bytes)
    }

    /// Writes one datagram to the head of `buf`: `fill` writes its body of `body_len` bytes
    /// and returns what it has hashed of the body's end. Returns the datagram's length.
    pub(super) fn emit(
        &mut self,
        kind: Kind,
        body_len: usize,
        buf: &mut [u8],
        fill: impl FnOnce(&mut [u8], &mut Joiner) -> Hashed,
    ) -> usize {
        let len = datagram::OVERHEAD + body_len;
        let datagram = &mut buf[..len];
        let tail = fill(&mut datagram[Prelude::LEN..len - CRC_LEN], &mut self.joiner);
        let prelude = Prelude {
            kind,
            direction: self.direction,
            sequence: self.next_sequence,
            session: self.session,
        };
        prelude.emit(datagram, tail, &mut self.joiner);
        self.next_sequence += 1;
        self.datagrams += 1;
        self.bytes += len as u64;
        len
    }
}
