//! The inputs of the statistics.

use crate::{
    net::{
        io::NetStats,
        session::{CallCounters, RepairStats},
    },
    stream::{
        counters::CaptureCounters,
        latency::{LatencyStats, Percentiles},
    },
};

/// The inputs of one second's statistics.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    /// Network counters since the start.
    pub(crate) net: &'a NetStats,
    /// Latencies of the frames shown in this interval, if this side shows any.
    pub(crate) shown: Option<&'a LatencyStats>,
    /// Repair delays since the start; one second may have too few.
    pub(crate) repairs: Option<Percentiles>,
    /// Capture counters since the start, if this side sends.
    pub(crate) capture: Option<CaptureCounters>,
    /// Complete frames replaced before they were shown, since the start.
    pub(crate) superseded: u64,
    /// Complete frames that could not be decoded, or did not show the expected test pattern, since
    /// the start.
    pub(crate) undecodable: u64,
    /// Partial frames from which strips were shown, since the start.
    pub(crate) concealed: u64,
}

impl Sources<'_> {
    /// A capture counter; 0 if this side does not send.
    pub(crate) fn of_capture(&self, counter: fn(&CaptureCounters) -> u64) -> u64 {
        self.capture.as_ref().map_or(0, counter)
    }
}

/// Merges the statistics of the demo's two sides. The totals of what was sent, the measurements of
/// the path and the netem counters are the sender's; everything else is the receiver's.
pub(crate) fn both_sides(sender: &NetStats, receiver: NetStats) -> NetStats {
    let (sent, received) = (sender.totals, receiver.totals);
    let repair = RepairStats {
        parity_chunks: sent.repair.parity_chunks,
        answered: sent.repair.answered,
        picture_bitrate: sent.repair.picture_bitrate,
        queueing_delay: sent.repair.queueing_delay,
        max_datagram_len: sent.repair.max_datagram_len,
        ..received.repair
    };
    let totals = CallCounters {
        frames_sent: sent.frames_sent,
        picture_bytes_sent: sent.picture_bytes_sent,
        frames_superseded: sent.frames_superseded,
        frames_unsendable: sent.frames_unsendable,
        datagrams_sent: sent.datagrams_sent,
        bytes_sent: sent.bytes_sent,
        rtt: sent.rtt,
        repair,
        ..received
    };
    NetStats { totals, netem: sender.netem, ..receiver }
}
