//! Clock probes: four timestamps that give round-trip time and clock offset (RFC 5905 §8).
//!
//! ```text
//! probe:   origin (8) | zero (16)           at t1
//! reply:   origin (8) | received t2 (8) | sent t3 (8)
//! ```
//!
//! The origin is opaque to the peer. t2 and t3 are media times of the replying side, in µs. A probe
//! is as long as its reply, so it cannot be used for amplification.

use thiserror::Error;

use crate::net::time::MediaTime;

/// Requests a reading of the peer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Opaque; returned in the reply.
    pub origin: u64,
}

/// The reply to a [`Probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeReply {
    /// The probe's origin.
    pub origin: u64,
    /// When the probe arrived, on the replying side's media clock.
    pub received: MediaTime,
    /// When the reply was sent, on the same clock.
    pub sent: MediaTime,
}

/// The body does not have the length of a probe, or its times are reversed or out of range.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed probe")]
pub struct ProbeError;

impl Probe {
    /// Parses the body of a probe.
    pub fn parse(body: &[u8]) -> Result<Self, ProbeError> {
        let [origin, _, _] = parse_words(body)?;
        Ok(Self { origin })
    }

    /// Writes the probe to the first [`PROBE_LEN`] bytes of `body`.
    pub fn emit(&self, body: &mut [u8]) {
        emit_words(body, [self.origin, 0, 0]);
    }
}

impl ProbeReply {
    /// Parses the body of a reply.
    pub fn parse(body: &[u8]) -> Result<Self, ProbeError> {
        let [origin, received, sent] = parse_words(body)?;
        if received > sent || sent > MediaTime::MAX.as_micros() {
            return Err(ProbeError);
        }
        Ok(Self {
            origin,
            received: MediaTime::from_micros(received),
            sent: MediaTime::from_micros(sent),
        })
    }

    /// Writes the reply to the first [`PROBE_LEN`] bytes of `body`.
    pub fn emit(&self, body: &mut [u8]) {
        emit_words(body, [self.origin, self.received.as_micros(), self.sent.as_micros()]);
    }
}

/// The length of the body of a probe or a reply, in bytes.
pub const PROBE_LEN: usize = 24;

fn parse_words(body: &[u8]) -> Result<[u64; 3], ProbeError> {
    if body.len() != PROBE_LEN {
        return Err(ProbeError);
    }
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(body.chunks_exact(8)) {
        *word = u64::from_be_bytes(bytes.try_into().map_err(|_| ProbeError)?);
    }
    Ok(words)
}

fn emit_words(body: &mut [u8], words: [u64; 3]) {
    for (bytes, word) in body.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_and_reply_parse_what_they_emit() {
        let mut body = [0xa5; PROBE_LEN];
        let probe = Probe { origin: 0x0102_0304_0506_0708 };
        probe.emit(&mut body);
        assert_eq!(body[..9], [1, 2, 3, 4, 5, 6, 7, 8, 0]);
        assert_eq!(Probe::parse(&body), Ok(probe));

        let reply = ProbeReply {
            origin: 9,
            received: MediaTime::from_micros(500),
            sent: MediaTime::from_micros(510),
        };
        reply.emit(&mut body);
        assert_eq!(body[14..], [[1, 0xf4].as_slice(), &[0; 6], &[1, 0xfe]].concat());
        assert_eq!(ProbeReply::parse(&body), Ok(reply));
    }

    #[test]
    fn other_lengths_and_reversed_times_are_refused() {
        for len in (0..PROBE_LEN).chain([PROBE_LEN + 1]) {
            assert_eq!(Probe::parse(&vec![0; len]), Err(ProbeError));
        }
        let mut body = [0; PROBE_LEN];
        body[15] = 2;
        body[23] = 1;
        assert_eq!(ProbeReply::parse(&body), Err(ProbeError));
    }
}
