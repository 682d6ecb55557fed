//! The prelude at the head of every datagram, and the checksum or tag at its end.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     magic     |version|D| kind|                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+     sequence (48 bits)        +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          session id                           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          body, by kind, then CRC-32 (4) or tag (16)           |
//! ```
//!
//! The magic is 0xD5 for a clear body followed by a CRC-32, and 0xD6 for a sealed one. Both differ
//! from the first bytes of STUN (0–3), DTLS (20–63), TURN (64–79) and RTP (128–191), by which RFC
//! 7983 tells protocols apart.

use thiserror::Error;

use super::{
    VERSION,
    big_endian::{read_u32, read_u48, write_u48},
    checksum::{CrcCombiner, Hashed},
    video::VideoHeader,
};
use crate::net::frame::SessionId;

/// The head of every datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prelude {
    /// The type of the body.
    pub kind: Kind,
    /// The side that sent it.
    pub direction: Direction,
    /// The number of the datagram in this direction of the session, 48 bits. It starts at zero, or
    /// at a higher number in a sealed session without a control channel, and never repeats.
    pub sequence: u64,
    /// The session it belongs to.
    pub session: SessionId,
}

/// The type of a datagram's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A chunk of a frame: [`super::video`].
    Video,
    /// A clock probe: [`super::probe::Probe`].
    Probe,
    /// A reply to a clock probe: [`super::probe::ProbeReply`].
    ProbeReply,
    /// A receiver's feedback on the path: [`super::report::Report`].
    Report,
    /// A request for missing chunks: [`super::nack::Nack`].
    Nack,
    /// A test of whether the path carries this length: [`super::path_probe::PathProbe`].
    PathProbe,
    /// The acknowledgement of a path probe: [`super::path_probe::PathProbeAck`].
    PathProbeAck,
}

/// The side of a session that sent a datagram, so that a reflected one is not taken for the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the side that dialled.
    FromDialler,
    /// From the side that answered.
    FromAnswerer,
}

impl Direction {
    /// The other direction.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn reversed(self) -> Self {
        match self {
            Self::FromDialler => Self::FromAnswerer,
            Self::FromAnswerer => Self::FromDialler,
        }
    }
}

/// How a datagram's body is protected, according to its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// In the clear, followed by a checksum, which detects damage but not forgery.
    Clear,
    /// Encrypted, followed by an authentication tag: [`crate::net::crypto::seal`].
    Sealed,
}

impl Form {
    /// The form of a datagram with the right magic, minimum length and version. Nothing else is
    /// checked.
    #[inline(always)]
    pub fn of(datagram: &[u8]) -> Result<Self, DatagramError> {
        let form = match datagram.first() {
            Some(&CLEAR_MAGIC) => Self::Clear,
            Some(&SEALED_MAGIC) => Self::Sealed,
            _ => return Err(DatagramError::Foreign),
        };
        if datagram.len() < form.overhead() {
            return Err(DatagramError::Foreign);
        }
        match datagram[TYPE] >> 4 {
            VERSION => Ok(form),
            other => Err(DatagramError::Version(other)),
        }
    }

    /// The length of the checksum or tag, in bytes.
    pub const fn trailer_len(self) -> usize {
        match self {
            Self::Clear => CRC_LEN,
            Self::Sealed => TAG_LEN,
        }
    }

    /// The length of prelude and trailer together, in bytes.
    pub const fn overhead(self) -> usize {
        Prelude::LEN + self.trailer_len()
    }

    fn magic(self) -> u8 {
        match self {
            Self::Clear => CLEAR_MAGIC,
            Self::Sealed => SEALED_MAGIC,
        }
    }
}

/// A verified datagram's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// The bytes of the body.
    pub bytes: &'a [u8],
    /// For a chunk: the CRC-32 of the bytes after the chunk's header.
    pub payload_crc: u32,
}

/// Why a datagram is not valid.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DatagramError {
    /// Too short, or another magic: another protocol.
    #[error("not a udpchat datagram")]
    Foreign,
    /// Another version of this protocol.
    #[error("protocol version {0}, this is version {VERSION}")]
    Version(u8),
    /// The checksum does not match.
    #[error("checksum mismatch")]
    Checksum,
    /// An unknown kind, or session zero.
    #[error("malformed prelude")]
    Malformed,
}

impl Prelude {
    /// The length of the prelude, in bytes.
    pub const LEN: usize = SESSION.end;

    /// Parses a clear datagram into prelude and body, and verifies its checksum.
    #[inline(always)]
    pub fn parse<'a>(
        datagram: &'a [u8],
        crc_combiner: &mut CrcCombiner,
    ) -> Result<(Self, Body<'a>), DatagramError> {
        if Form::of(datagram)? != Form::Clear {
            return Err(DatagramError::Foreign);
        }
        let (content, crc) =
            datagram.split_last_chunk::<CRC_LEN>().ok_or(DatagramError::Foreign)?;
        let (head, payload) = content.split_at(HEAD_LEN.min(content.len()));
        let payload = Hashed::of(payload);
        if crc_combiner.combine(Hashed::of(head).crc, payload) != u32::from_be_bytes(*crc) {
            return Err(DatagramError::Checksum);
        }
        let prelude = Self::read(content)?;
        Ok((prelude, Body { bytes: &content[Self::LEN..], payload_crc: payload.crc }))
    }

    /// Reads the prelude of a datagram that has a [`Form`]. It is not authenticated.
    #[inline(always)]
    pub fn read(datagram: &[u8]) -> Result<Self, DatagramError> {
        Ok(Self {
            kind: Kind::from_bits(datagram[TYPE] & 0x07).ok_or(DatagramError::Malformed)?,
            direction: if datagram[TYPE] & DIRECTION_BIT == 0 {
                Direction::FromDialler
            } else {
                Direction::FromAnswerer
            },
            sequence: read_u48(datagram, SEQUENCE.start),
            session: SessionId::new(read_u32(datagram, SESSION.start))
                .ok_or(DatagramError::Malformed)?,
        })
    }

    /// Writes the prelude to the head of `datagram`.
    pub fn write(&self, form: Form, datagram: &mut [u8]) {
        let direction = match self.direction {
            Direction::FromDialler => 0,
            Direction::FromAnswerer => DIRECTION_BIT,
        };
        datagram[MAGIC] = form.magic();
        datagram[TYPE] = VERSION << 4 | direction | self.kind.bits();
        write_u48(datagram, SEQUENCE.start, self.sequence);
        datagram[SESSION].copy_from_slice(&self.session.get().to_be_bytes());
    }

    /// Completes the clear datagram whose body is at `datagram[LEN .. len - CRC_LEN]`: writes the
    /// prelude before it and the checksum into the last four bytes. `tail` is the hash of the
    /// body's last `tail.len` bytes.
    pub fn emit(&self, datagram: &mut [u8], tail: Hashed, crc_combiner: &mut CrcCombiner) {
        let (content, crc) = datagram
            .split_last_chunk_mut::<CRC_LEN>()
            .expect("the caller sized the datagram with its overhead");
        self.write(Form::Clear, content);
        let head = Hashed::of(&content[..content.len() - tail.len]);
        *crc = crc_combiner.combine(head.crc, tail).to_be_bytes();
    }
}

impl<'a> Body<'a> {
    /// The body of a sealed datagram, from its decrypted bytes.
    pub fn opened(bytes: &'a [u8]) -> Self {
        let payload = bytes.get(VideoHeader::LEN..).unwrap_or_default();
        Self { bytes, payload_crc: crc32fast::hash(payload) }
    }
}

impl Kind {
    fn bits(self) -> u8 {
        match self {
            Self::Video => 1,
            Self::Probe => 2,
            Self::ProbeReply => 3,
            Self::Report => 4,
            Self::Nack => 5,
            Self::PathProbe => 6,
            Self::PathProbeAck => 7,
        }
    }

    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::Video),
            2 => Some(Self::Probe),
            3 => Some(Self::ProbeReply),
            4 => Some(Self::Report),
            5 => Some(Self::Nack),
            6 => Some(Self::PathProbe),
            7 => Some(Self::PathProbeAck),
            _ => None,
        }
    }
}

/// The chunk length that fills datagrams of this form and of `max_datagram_len` bytes. It is even,
/// since parity works on 16-bit symbols.
pub fn chunk_len_for(max_datagram_len: usize, form: Form) -> u16 {
    let headers = form.overhead() + VideoHeader::LEN;
    let room = max_datagram_len.min(MAX_DATAGRAM_LEN).saturating_sub(headers);
    (room & !1).max(2) as u16
}

/// The length of the checksum: CRC-32 (ISO-HDLC, as in Ethernet and zlib) of all bytes before it.
pub const CRC_LEN: usize = 4;

/// The length of the authentication tag of AES-GCM and ChaCha20-Poly1305, in bytes.
pub const TAG_LEN: usize = 16;

/// The maximum UDP payload over IPv4, in bytes: 65,535 minus the IP and UDP headers.
pub const MAX_DATAGRAM_LEN: usize = 65_507;

/// The length of the headers before a chunk's payload. They are hashed apart from the payload, so
/// that the payload's hash can be reused for the frame.
const HEAD_LEN: usize = Prelude::LEN + VideoHeader::LEN;

const MAGIC: usize = 0;
const TYPE: usize = 1;
const SEQUENCE: std::ops::Range<usize> = 2..8;
const SESSION: std::ops::Range<usize> = 8..12;

const CLEAR_MAGIC: u8 = 0xd5;
const SEALED_MAGIC: u8 = 0xd6;
const DIRECTION_BIT: u8 = 0x08;

#[cfg(test)]
mod tests {
    use super::*;

    fn prelude() -> Prelude {
        Prelude {
            kind: Kind::Probe,
            direction: Direction::FromAnswerer,
            sequence: 0x0102_0304_0506,
            session: SessionId::new(0xaabb_ccdd).unwrap(),
        }
    }

    fn emitted() -> Vec<u8> {
        let mut datagram = vec![0xa5; Form::Clear.overhead() + 3];
        datagram[Prelude::LEN..][..3].copy_from_slice(b"abc");
        prelude().emit(&mut datagram, Hashed::of(b"bc"), &mut CrcCombiner::default());
        datagram
    }

    fn parse(datagram: &[u8]) -> Result<(Prelude, Body<'_>), DatagramError> {
        Prelude::parse(datagram, &mut CrcCombiner::default())
    }

    #[test]
    fn the_payload_crc_covers_only_the_payload() {
        let mut datagram = vec![0; HEAD_LEN + 50 + CRC_LEN];
        datagram[HEAD_LEN..].fill(7);
        prelude().emit(&mut datagram, Hashed::of(&[7; 50]), &mut CrcCombiner::default());
        assert_eq!(parse(&datagram).unwrap().1.payload_crc, crc32fast::hash(&[7; 50]));
    }

    #[test]
    fn emits_the_bytes_of_the_diagram() {
        let datagram = emitted();
        assert_eq!(
            datagram[..15],
            [0xd5, 0x2a, 1, 2, 3, 4, 5, 6, 0xaa, 0xbb, 0xcc, 0xdd, b'a', b'b', b'c']
        );
        assert_eq!(datagram[15..], crc32fast::hash(&datagram[..15]).to_be_bytes());
    }

    #[test]
    fn parses_what_it_emits() {
        let datagram = emitted();
        let (parsed, body) = parse(&datagram).unwrap();
        assert_eq!((parsed, body.bytes), (prelude(), &b"abc"[..]));
    }

    #[test]
    fn every_truncation_is_refused() {
        let datagram = emitted();
        for len in 0..datagram.len() {
            assert!(parse(&datagram[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn every_single_bit_flip_is_refused() {
        let datagram = emitted();
        for bit in 0..datagram.len() * 8 {
            let mut flipped = datagram.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_sealed_datagram_is_recognized_by_its_first_byte() {
        let mut datagram = [0; 40];
        prelude().write(Form::Sealed, &mut datagram);
        assert_eq!(Form::of(&datagram), Ok(Form::Sealed));
        assert_eq!(Prelude::read(&datagram), Ok(prelude()));
        assert_eq!(parse(&datagram), Err(DatagramError::Foreign));
        assert_eq!(Form::of(&datagram[..27]), Err(DatagramError::Foreign), "no room for a tag");
    }

    #[test]
    fn an_opened_chunk_has_the_same_payload_crc_as_a_clear_one() {
        let body = [7; VideoHeader::LEN + 50];
        assert_eq!(Body::opened(&body).payload_crc, crc32fast::hash(&[7; 50]));
        assert_eq!(Body::opened(b"short").payload_crc, 0);
    }

    #[test]
    fn another_version_is_reported() {
        let mut datagram = emitted();
        datagram[TYPE] = 0x1a;
        assert_eq!(parse(&datagram), Err(DatagramError::Version(1)));
    }

    #[test]
    fn unknown_kinds_and_session_zero_are_malformed() {
        for (at, value) in [(TYPE, vec![0x20]), (SESSION.start, vec![0; 4])] {
            let mut datagram = emitted();
            datagram[at..at + value.len()].copy_from_slice(&value);
            let end = datagram.len() - CRC_LEN;
            let crc = crc32fast::hash(&datagram[..end]).to_be_bytes();
            datagram[end..].copy_from_slice(&crc);
            assert_eq!(parse(&datagram), Err(DatagramError::Malformed));
        }
    }

    #[test]
    fn a_chunk_fills_its_datagram_but_for_headers_and_trailer() {
        assert_eq!(chunk_len_for(1200, Form::Clear), 1160);
        assert_eq!(chunk_len_for(1200, Form::Sealed), 1148);
        assert_eq!(chunk_len_for(0, Form::Clear), 2);
    }
}
