//! Counters and measurements of a call.

use std::time::Duration;

use crate::net::{framing::reassembler::ReassemblyCounters, units::Bitrate};

/// Counters and measurements of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallCounters {
    /// Frames sent completely.
    pub frames_sent: u64,
    /// Bytes of those frames, before packetization.
    pub picture_bytes_sent: u64,
    /// Frames replaced by newer ones before they were sent, withheld from a silent peer, or dropped
    /// because they took too long to send.
    pub frames_superseded: u64,
    /// Frames that could not be sent: empty, too large, or abandoned by the encoder.
    pub frames_unsendable: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Distinct datagrams received.
    pub datagrams_received: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// The peer's datagrams that have not arrived.
    pub datagrams_lost: u64,
    /// Datagrams received more than once.
    pub duplicates: u64,
    /// Datagrams too old to be checked for duplication.
    pub too_old: u64,
    /// Our own datagrams reflected to us.
    pub reflected: u64,
    /// Verified datagrams with a malformed body.
    pub malformed: u64,
    /// Datagrams of this session that were not sealed by the peer.
    pub forged: u64,
    /// Text lines and stream changes from the peer that were too many to be shown.
    pub rate_limited: u64,
    /// Counters of the received frames.
    pub reassembly: ReassemblyCounters,
    /// The shortest recent round trip, if the peer answers probes.
    pub rtt: Option<Duration>,
    /// Loss repair.
    pub repair: RepairStats,
}

/// Loss repair, on both sides of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RepairStats {
    /// Received frames recovered by the parity sent with them.
    pub by_parity: u64,
    /// Received frames completed only after a NACK.
    pub by_nack: u64,
    /// NACKs sent.
    pub nacks: u64,
    /// The ratio of the peer's datagrams lost in the last second, 0 to 1.
    pub loss_ratio: f64,
    /// Parity chunks sent with their frames.
    pub parity_chunks: u64,
    /// Frames of ours that the peer requested by NACK and that were answered.
    pub answered: u64,
    /// The bitrate available for pictures; `None` without feedback.
    pub picture_bitrate: Option<Bitrate>,
    /// The queueing delay towards the peer, from its last report.
    pub queueing_delay: Option<Duration>,
    /// The current maximum datagram length, in bytes of UDP payload, if we send.
    pub max_datagram_len: Option<usize>,
}

impl RepairStats {
    /// Combines two calls: counters are added and the larger loss ratio is kept. Of each other
    /// measurement, takes `other`'s if present.
    #[must_use]
    fn plus(self, other: Self) -> Self {
        Self {
            by_parity: self.by_parity + other.by_parity,
            by_nack: self.by_nack + other.by_nack,
            nacks: self.nacks + other.nacks,
            loss_ratio: self.loss_ratio.max(other.loss_ratio),
            parity_chunks: self.parity_chunks + other.parity_chunks,
            answered: self.answered + other.answered,
            picture_bitrate: other.picture_bitrate.or(self.picture_bitrate),
            queueing_delay: other.queueing_delay.or(self.queueing_delay),
            max_datagram_len: other.max_datagram_len.or(self.max_datagram_len),
        }
    }
}

impl CallCounters {
    /// Combines two calls: counters are added. Takes `other`'s round-trip time if present.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            frames_sent: self.frames_sent + other.frames_sent,
            picture_bytes_sent: self.picture_bytes_sent + other.picture_bytes_sent,
            frames_superseded: self.frames_superseded + other.frames_superseded,
            frames_unsendable: self.frames_unsendable + other.frames_unsendable,
            datagrams_sent: self.datagrams_sent + other.datagrams_sent,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            datagrams_received: self.datagrams_received + other.datagrams_received,
            bytes_received: self.bytes_received + other.bytes_received,
            datagrams_lost: self.datagrams_lost + other.datagrams_lost,
            duplicates: self.duplicates + other.duplicates,
            too_old: self.too_old + other.too_old,
            reflected: self.reflected + other.reflected,
            malformed: self.malformed + other.malformed,
            forged: self.forged + other.forged,
            rate_limited: self.rate_limited + other.rate_limited,
            reassembly: self.reassembly.plus(other.reassembly),
            rtt: other.rtt.or(self.rtt),
            repair: self.repair.plus(other.repair),
        }
    }
}
