//! Datagrams that belong to no call.

use crate::net::wire::datagram::DatagramError;

/// Datagrams that belong to no call, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StrayCounters {
    /// Not of this protocol.
    pub foreign: u64,
    /// Of another protocol version.
    pub other_version: u64,
    /// Damaged in transit: wrong checksum.
    pub checksum: u64,
    /// Malformed.
    pub malformed: u64,
    /// Of an unknown session.
    pub unknown_session: u64,
    /// Of a new session, but not sealed with our key.
    pub forged: u64,
}

impl StrayCounters {
    pub(super) fn count(&mut self, error: DatagramError) {
        match error {
            DatagramError::Foreign => self.foreign += 1,
            DatagramError::Version(_) => self.other_version += 1,
            DatagramError::Checksum => self.checksum += 1,
            DatagramError::Malformed => self.malformed += 1,
        }
    }
}
