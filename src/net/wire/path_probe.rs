//! Path probes test whether the path carries a datagram length (RFC 8899, packetization-layer path
//! MTU discovery).
//!
//! ```text
//! probe (kind 6):   id (4) | zeros, up to the length under test
//! ack (kind 7):     id (4) | datagram length (2) | zero (2)
//! ```
//!
//! The ack states the length of the received datagram, including prelude and checksum or tag. A
//! probe is never shorter than its ack, so it cannot be used for amplification.

use thiserror::Error;

use super::big_endian::{read_u16, read_u32};

/// A long datagram that tests the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathProbe {
    /// Returned in the ack.
    pub id: u32,
}

/// The acknowledgement of a [`PathProbe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathProbeAck {
    /// The probe's id.
    pub id: u32,
    /// The length of its datagram, in bytes of UDP payload.
    pub datagram_len: u16,
}

/// A probe that is too short, or an ack of the wrong length.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed path probe")]
pub struct PathProbeError;

impl PathProbe {
    /// Parses the body of a probe. Its padding is ignored.
    pub fn parse(body: &[u8]) -> Result<Self, PathProbeError> {
        if body.len() < MIN_PROBE_LEN {
            return Err(PathProbeError);
        }
        Ok(Self { id: read_u32(body, ID.start) })
    }

    /// Fills all of `body`, which is at least [`MIN_PROBE_LEN`] bytes long, with the probe and its
    /// padding.
    pub fn emit(&self, body: &mut [u8]) {
        assert!(body.len() >= MIN_PROBE_LEN, "a probe is at least as long as its ack");
        body.fill(0);
        body[ID].copy_from_slice(&self.id.to_be_bytes());
    }
}

impl PathProbeAck {
    /// Parses the body of an ack.
    pub fn parse(body: &[u8]) -> Result<Self, PathProbeError> {
        if body.len() != ACK_LEN {
            return Err(PathProbeError);
        }
        Ok(Self { id: read_u32(body, ID.start), datagram_len: read_u16(body, LENGTH.start) })
    }

    /// Writes the ack to `body`, [`ACK_LEN`] bytes.
    pub fn emit(&self, body: &mut [u8]) {
        body.fill(0);
        body[ID].copy_from_slice(&self.id.to_be_bytes());
        body[LENGTH].copy_from_slice(&self.datagram_len.to_be_bytes());
    }
}

/// The length of an ack's body, in bytes.
pub const ACK_LEN: usize = 8;

/// The minimum length of a probe's body, in bytes.
pub const MIN_PROBE_LEN: usize = ACK_LEN;

const ID: std::ops::Range<usize> = 0..4;
const LENGTH: std::ops::Range<usize> = 4..6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_padded_to_the_tested_length() {
        let mut body = [0xa5; 20];
        let probe = PathProbe { id: 0x0102_0304 };
        probe.emit(&mut body);
        assert_eq!(body, [[1, 2, 3, 4].as_slice(), &[0; 16]].concat()[..]);
        assert_eq!(PathProbe::parse(&body), Ok(probe));
    }

    #[test]
    fn an_ack_is_eight_bytes() {
        let mut body = [0xa5; ACK_LEN];
        let ack = PathProbeAck { id: 7, datagram_len: 1472 };
        ack.emit(&mut body);
        assert_eq!(body, [0, 0, 0, 7, 0x05, 0xc0, 0, 0]);
        assert_eq!(PathProbeAck::parse(&body), Ok(ack));
    }

    #[test]
    fn other_lengths_are_refused() {
        for len in 0..MIN_PROBE_LEN {
            assert_eq!(PathProbe::parse(&vec![0; len]), Err(PathProbeError));
        }
        for len in (0..ACK_LEN).chain([ACK_LEN + 1, 1472]) {
            assert_eq!(PathProbeAck::parse(&vec![0; len]), Err(PathProbeError));
        }
    }

    #[test]
    fn padding_is_ignored() {
        let mut body = [0xa5; 100];
        body[..4].copy_from_slice(&[0, 0, 0, 9]);
        assert_eq!(PathProbe::parse(&body), Ok(PathProbe { id: 9 }));
    }
}
