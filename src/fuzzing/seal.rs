//! Sealed datagrams on a hostile path.

use std::collections::HashSet;

use arbitrary::{Result, Unstructured};

use crate::net::{
    crypto::seal::{MediaSecrets, Opener, Sealer},
    frame::SessionId,
    path::replay_window::{Arrival, ReplayWindow, WINDOW},
    wire::{
        control::{Cipher, SecretPart},
        datagram::{Direction, Form, Kind, Prelude},
    },
};

/// The bytes select what one side seals and what happens to it in transit. The other side opens
/// each datagram once, as it was sealed, and nothing else.
pub fn seal(bytes: &[u8]) {
    // No error ends a sequence early: bytes that run out read as zeros.
    let _ = HostilePath::new(&mut Unstructured::new(bytes)).and_then(HostilePath::play);
}

struct HostilePath<'a, 'b> {
    ops: &'a mut Unstructured<'b>,
    sealer: Sealer,
    opener: Opener,
    direction: Direction,
    next: u64,
    sealed: Vec<Sealed>,
    tracker: ReplayWindow,
    /// The sequence numbers opened.
    opened: HashSet<u64>,
    /// The newest key that has opened something, and whether the one before it is kept.
    epochs: (u64, bool),
}

#[derive(Clone)]
struct Sealed {
    sequence: u64,
    body: Vec<u8>,
    datagram: Vec<u8>,
}

impl<'a, 'b> HostilePath<'a, 'b> {
    fn new(ops: &'a mut Unstructured<'b>) -> Result<Self> {
        let direction = if ops.arbitrary()? { Direction::FromDialler } else { FROM_ANSWERER };
        let cipher = Cipher::chosen(ops.arbitrary()?);
        let near_next_key = (1 << EPOCH_BITS) - ops.int_in_range(0..=WINDOW * 2)?;
        let next = (ops.int_in_range(0..=3)? << EPOCH_BITS) + near_next_key;
        let part = |byte| SecretPart::from_bytes([byte; 32]);
        let secrets = || MediaSecrets::agreed(b"met", &part(1), &part(2));
        let (sealer, _) = secrets().into_keys(direction, cipher, next, 0);
        let (_, opener) = secrets().into_keys(direction.reversed(), cipher, 0, next);
        Ok(Self {
            ops,
            sealer,
            opener,
            direction,
            next,
            sealed: Vec::new(),
            tracker: ReplayWindow::new(),
            opened: HashSet::new(),
            epochs: (next >> EPOCH_BITS, false),
        })
    }

    fn play(mut self) -> Result<()> {
        while !self.ops.is_empty() {
            match self.ops.int_in_range(0..=9)? {
                0..=3 => self.seal()?,
                4..=6 => self.deliver(false)?,
                7 => self.deliver(true)?,
                8 => self.next += self.ops.int_in_range(0..=WINDOW * 2)?,
                _ => self.next += self.ops.int_in_range(0..=2)? << EPOCH_BITS,
            }
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<()> {
        let len = self.ops.int_in_range(0..=40)?;
        let body = self.ops.bytes(len.min(self.ops.len()))?.to_vec();
        let sequence = self.next;
        let mut datagram = vec![0xa5; Form::Sealed.overhead() + body.len()];
        datagram[Prelude::LEN..][..body.len()].copy_from_slice(&body);
        self.sealer.seal(&self.prelude(sequence), &mut datagram);
        self.next += 1;
        self.sealed.push(Sealed { sequence, body, datagram });
        Ok(())
    }

    /// Delivers any of the datagrams sealed so far, perhaps repeatedly, perhaps with a bit flipped.
    fn deliver(&mut self, flips: bool) -> Result<()> {
        if self.sealed.is_empty() {
            return Ok(());
        }
        let Sealed { sequence, body, mut datagram } = self.ops.choose(&self.sealed)?.clone();
        if flips {
            let bit = self.ops.choose_index(datagram.len() * 8)?;
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        let is_ours = Form::of(&datagram) == Ok(Form::Sealed);
        let Some(prelude) = is_ours.then(|| Prelude::read(&datagram).ok()).flatten() else {
            assert!(flips);
            return Ok(());
        };
        self.judge(prelude.sequence);
        if self.tracker.judge(prelude.sequence) != Arrival::Fresh {
            return Ok(());
        }
        let opened = self.opener.open(&prelude, &mut datagram);
        let epoch = sequence >> EPOCH_BITS;
        let (newest, has_before) = self.epochs;
        let has_key = epoch == newest || epoch == newest + 1 || (has_before && epoch + 1 == newest);
        assert_eq!(opened.ok(), (has_key && !flips).then_some(&body[..]), "{sequence}");
        if has_key && !flips {
            self.tracker.record(sequence);
            assert!(self.opened.insert(sequence), "{sequence} is opened once");
            if epoch > newest {
                self.epochs = (epoch, true);
            }
        }
        Ok(())
    }

    /// Checks the replay window against a simple reference implementation.
    fn judge(&self, sequence: u64) {
        let newest = self.opened.iter().max();
        let expected = match newest {
            Some(newest) if sequence + WINDOW <= *newest => Arrival::TooOld,
            _ if self.opened.contains(&sequence) => Arrival::Duplicate,
            _ => Arrival::Fresh,
        };
        assert_eq!(self.tracker.judge(sequence), expected, "{sequence} after {newest:?}");
        let tracker = &self.tracker;
        assert_eq!(tracker.received(), self.opened.len() as u64);
        let first = self.opened.iter().min();
        let sent = newest.zip(first).map_or(0, |(newest, first)| newest - first + 1);
        assert_eq!(tracker.lost(), sent - self.opened.len() as u64);
    }

    fn prelude(&self, sequence: u64) -> Prelude {
        let session = SessionId::new(7).expect("not zero");
        Prelude { kind: Kind::Video, direction: self.direction, sequence, session }
    }
}

const FROM_ANSWERER: Direction = Direction::FromAnswerer;

/// A key seals 2²² datagrams: the protocol's constant, restated.
const EPOCH_BITS: u32 = 22;
