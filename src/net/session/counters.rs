//! What calls have seen and done, in numbers.

use std::time::Duration;

use crate::net::reassembler::ReassemblyCounters;

/// What a call has seen and done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallCounters {
    /// Frames sent whole.
    pub frames_sent: u64,
    /// The bytes of those frames, before they were cut into datagrams.
    pub picture_bytes_sent: u64,
    /// Frames replaced by newer ones before they left.
    pub frames_superseded: u64,
    /// Frames that could not be sent: empty or too large.
    pub frames_unsendable: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Different datagrams received.
    pub datagrams_received: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Datagrams sent by the peer that have not come.
    pub datagrams_lost: u64,
    /// Datagrams that came twice.
    pub duplicates: u64,
    /// Datagrams too old to tell.
    pub too_old: u64,
    /// Our own datagrams, come back to us.
    pub reflected: u64,
    /// Whole datagrams with a malformed body.
    pub malformed: u64,
    /// Datagrams of this session that the peer has not sealed.
    pub forged: u64,
    /// Lines and changes of the stream that the peer has sent too often, and that were dropped.
    pub unheard: u64,
    /// What became of the received frames.
    pub reassembly: ReassemblyCounters,
    /// The shortest recent round trip, if the peer answers probes.
    pub rtt: Option<Duration>,
    /// What was done against losses.
    pub repair: RepairStats,
}

/// What was done against losses, on both sides of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RepairStats {
    /// Frames received that were mended by the parity that came with them.
    pub by_parity: u64,
    /// Frames received that were complete only after they had been asked for.
    pub by_nack: u64,
    /// NACKs sent.
    pub nacks: u64,
    /// Of the peer's datagrams of the last second, how many were lost, 0 to 1.
    pub loss_ratio: f64,
    /// Parity chunks sent with their frames.
    pub parity_chunks: u64,
    /// Frames of ours that the peer asked for, and got an answer.
    pub answered: u64,
    /// How much may be sent, in bits a second, pictures alone; `None`: nobody tells.
    pub picture_bitrate: Option<u64>,
    /// The queue on the way to the peer, as it last reported.
    pub queueing_delay: Option<Duration>,
    /// How long a datagram is at most, in bytes of UDP payload, if we send.
    pub max_datagram_len: Option<usize>,
}

impl RepairStats {
    /// The counters of two calls together; of the measurements, the other's if it has them.
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
    /// The counters of two calls together; of the round trips, the other's if it has one.
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
            unheard: self.unheard + other.unheard,
            reassembly: self.reassembly.plus(other.reassembly),
            rtt: other.rtt.or(self.rtt),
            repair: self.repair.plus(other.repair),
        }
    }
}
