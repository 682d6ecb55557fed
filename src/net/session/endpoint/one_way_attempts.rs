//! Limits how often datagrams of unknown one-way sessions are tried with the pre-shared key.

use std::{net::IpAddr, time::Instant};

use crate::net::token_bucket::TokenBucket;

/// Two token buckets: one for everybody, and one for the address of the last authentic stream.
#[derive(Debug)]
pub(super) struct OneWayAttempts {
    anybody: TokenBucket,
    /// Reserved for the address of the last stream sealed with our key, so that strangers cannot
    /// delay its return.
    known: TokenBucket,
    known_ip: Option<IpAddr>,
}

impl OneWayAttempts {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            anybody: TokenBucket::new(now, ONE_WAY_ATTEMPTS_PER_SECOND, ONE_WAY_ATTEMPTS_BURST),
            known: TokenBucket::new(now, KNOWN_ATTEMPTS_PER_SECOND, ONE_WAY_ATTEMPTS_BURST),
            known_ip: None,
        }
    }

    /// Whether a datagram from `ip` may be tried now. If so, takes a token for it.
    pub(super) fn take(&mut self, now: Instant, ip: IpAddr) -> bool {
        (self.known_ip == Some(ip) && self.known.take(now, 1.0)) || self.anybody.take(now, 1.0)
    }

    /// Records that a datagram from `ip` was sealed with our key.
    pub(super) fn note_opened(&mut self, ip: IpAddr) {
        self.known_ip = Some(ip);
    }
}

/// How many datagrams of unknown sessions per second are tried with the pre-shared key. Each costs
/// five HMACs and the setup of two keys, some 5 µs, so all together cost a few hundredths of a
/// core. A flood of 9,000 per second still leaves each datagram of a new stream a chance of one in
/// two.
pub(super) const ONE_WAY_ATTEMPTS_PER_SECOND: f64 = 5000.0;
pub(super) const ONE_WAY_ATTEMPTS_BURST: f64 = 64.0;

/// The same for the address of the last stream sealed with our key.
const KNOWN_ATTEMPTS_PER_SECOND: f64 = 500.0;
