//! A receiver's report on the path, every 50 ms while frames flow.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |               highest sequence (48 bits)                      |
//! +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               |         largest burst         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |               datagrams received (48 bits)                    |
//! +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               |     interval, 100 µs          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |               datagrams lost (48 bits)                        |
//! +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               |       longest datagram        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |               bytes received (64 bits)                        |
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                         newest frame id                       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | frames completed (32), of them repaired by parity (32), of    |
//! | them repaired after a NACK (32); incomplete (32); late (32)   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                         kernel drops                          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   queueing delay, µs above the recent least; all ones: none   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             delay gradient, µs a second, signed               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             interarrival jitter, µs                           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                     frame id of the newest train              |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     growth of the delay in it, µs; all ones: no train         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 bytes that arrived while it queued            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                     time of their arrival, µs                 |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Counts are cumulative over the session, so a lost report only delays the information.

use std::time::Duration;

use thiserror::Error;

use super::big_endian::{read_u16, read_u32, read_u48, write_u48};
use crate::net::{frame::FrameId, units::DataSize};

/// The receiver's view of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The highest sequence number received from the sender, 48 bits.
    pub highest_sequence: u64,
    /// The most datagrams lost in one gap, among the gaps whose reorder grace ended since the last
    /// report; saturating.
    pub largest_burst: u16,
    /// Distinct datagrams received from the sender, 48 bits.
    pub received: u64,
    /// Time since the last report, or since the first chunk; in steps of 100 µs, saturating at
    /// 6.5 s.
    pub interval: Duration,
    /// Sequence numbers between the first and the highest that have not been received, without
    /// those that may still arrive reordered; 48 bits. It falls when a late datagram arrives.
    pub lost: u64,
    /// The length of the longest datagram since the last report, in bytes of UDP payload.
    pub longest_datagram: u16,
    /// Bytes of all datagrams received, including this protocol's headers.
    pub received_bytes: u64,
    /// The newest frame of which any chunk was received.
    pub newest_frame: FrameId,
    /// Counts of frames by outcome.
    pub frames: FrameCounts,
    /// Datagrams dropped by the receiver's kernel because a buffer was full; wraps.
    pub kernel_drops: u32,
    /// The minimum one-way delay of the first datagrams of frames begun since the last report,
    /// above the minimum over the last 30 to 60 s; in µs, saturating at 71 min. `None` if no frame
    /// began.
    pub queueing_delay: Option<Duration>,
    /// The growth of the one-way delay, in µs a second; negative while it falls.
    pub delay_gradient: i32,
    /// Interarrival jitter as in RFC 3550 §6.4.1; in µs, saturating at 71 min.
    pub jitter: Duration,
    /// The newest train of datagrams that ended since the last report, if any was long enough.
    pub train: Option<Train>,
}

/// How one frame's datagrams arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train {
    /// The frame.
    pub frame: FrameId,
    /// How much longer the last datagram took than the last one that met no queue; in µs,
    /// saturating at 71 min.
    pub growth: Duration,
    /// UDP payload that arrived from the one that met no queue (included) to the last (excluded);
    /// saturating at 4 GiB.
    pub size: DataSize,
    /// The time between the two arrivals, in µs, saturating at 71 min.
    pub span: Duration,
}

impl Train {
    fn parse(body: &[u8]) -> Result<Option<Self>, ReportError> {
        let field = |at| read_u32(body, at);
        if field(TRAIN_GROWTH) == NO_DELAY {
            let is_empty = [TRAIN_FRAME, TRAIN_SIZE, TRAIN_SPAN].map(field) == [0; 3];
            return if is_empty { Ok(None) } else { Err(ReportError) };
        }
        Ok(Some(Self {
            frame: FrameId(field(TRAIN_FRAME)),
            growth: Duration::from_micros(field(TRAIN_GROWTH).into()),
            size: DataSize::from_bytes(field(TRAIN_SIZE).into()),
            span: Duration::from_micros(field(TRAIN_SPAN).into()),
        }))
    }
}

/// Counts of a session's frames by outcome; each wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Complete in time, repaired or not.
    pub completed: u32,
    /// Of these, frames with chunks recovered from the parity sent with them.
    pub repaired_by_parity: u32,
    /// Of these, frames completed only after a NACK.
    pub repaired_by_nack: u32,
    /// Given up with chunks missing, or with none received.
    pub incomplete: u32,
    /// Completed only after they were given up.
    pub late: u32,
}

/// The body does not have the length of a report, or sets fields of a train although it reports
/// none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed report")]
pub struct ReportError;

impl Report {
    /// Parses the body of a report.
    pub fn parse(body: &[u8]) -> Result<Self, ReportError> {
        if body.len() != REPORT_LEN {
            return Err(ReportError);
        }
        let micros = |at| Duration::from_micros(read_u32(body, at).into());
        Ok(Self {
            highest_sequence: read_u48(body, HIGHEST),
            largest_burst: read_u16(body, BURST),
            received: read_u48(body, RECEIVED),
            interval: INTERVAL_UNIT * read_u16(body, INTERVAL).into(),
            lost: read_u48(body, LOST),
            longest_datagram: read_u16(body, LONGEST),
            received_bytes: u64::from(read_u32(body, BYTES)) << 32
                | u64::from(read_u32(body, BYTES + 4)),
            newest_frame: FrameId(read_u32(body, NEWEST)),
            frames: FrameCounts {
                completed: read_u32(body, COMPLETED),
                repaired_by_parity: read_u32(body, BY_PARITY),
                repaired_by_nack: read_u32(body, BY_NACK),
                incomplete: read_u32(body, INCOMPLETE),
                late: read_u32(body, LATE),
            },
            kernel_drops: read_u32(body, KERNEL_DROPS),
            queueing_delay: Some(read_u32(body, QUEUEING))
                .filter(|&micros| micros != NO_DELAY)
                .map(|micros| Duration::from_micros(micros.into())),
            delay_gradient: read_u32(body, GRADIENT).cast_signed(),
            jitter: micros(JITTER),
            train: Train::parse(body)?,
        })
    }

    /// Writes the report to the first [`REPORT_LEN`] bytes of `body`.
    pub fn emit(&self, body: &mut [u8]) {
        let mut put = |at: usize, value: u32| {
            body[at..at + 4].copy_from_slice(&value.to_be_bytes());
        };
        put(BYTES, (self.received_bytes >> 32) as u32);
        put(BYTES + 4, self.received_bytes as u32);
        put(NEWEST, self.newest_frame.0);
        put(COMPLETED, self.frames.completed);
        put(BY_PARITY, self.frames.repaired_by_parity);
        put(BY_NACK, self.frames.repaired_by_nack);
        put(INCOMPLETE, self.frames.incomplete);
        put(LATE, self.frames.late);
        put(KERNEL_DROPS, self.kernel_drops);
        let queueing = self.queueing_delay.map(|d| saturating_micros(d).min(NO_DELAY - 1));
        put(QUEUEING, queueing.unwrap_or(NO_DELAY));
        put(GRADIENT, self.delay_gradient.cast_unsigned());
        put(JITTER, saturating_micros(self.jitter));
        let train = self.train;
        put(TRAIN_FRAME, train.map_or(0, |train| train.frame.0));
        put(
            TRAIN_GROWTH,
            train.map_or(NO_DELAY, |t| saturating_micros(t.growth).min(NO_DELAY - 1)),
        );
        put(TRAIN_SIZE, train.map_or(0, |t| t.size.bytes().min(u32::MAX.into()) as u32));
        put(TRAIN_SPAN, train.map_or(0, |t| saturating_micros(t.span)));
        let interval = self.interval.as_micros() / INTERVAL_UNIT.as_micros();
        let interval = interval.min(u128::from(u16::MAX)) as u16;
        let longest = self.longest_datagram;
        for (at, value) in [(BURST, self.largest_burst), (INTERVAL, interval), (LONGEST, longest)] {
            body[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        write_u48(body, HIGHEST, self.highest_sequence);
        write_u48(body, RECEIVED, self.received);
        write_u48(body, LOST, self.lost);
    }
}

fn saturating_micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// The length of a report's body, in bytes.
pub const REPORT_LEN: usize = TRAIN_SPAN + 4;

const HIGHEST: usize = 0;
const BURST: usize = 6;
const RECEIVED: usize = 8;
const INTERVAL: usize = 14;
const LOST: usize = 16;
const LONGEST: usize = 22;
const BYTES: usize = 24;
const NEWEST: usize = 32;
const COMPLETED: usize = 36;
const BY_PARITY: usize = 40;
const BY_NACK: usize = 44;
const INCOMPLETE: usize = 48;
const LATE: usize = 52;
const KERNEL_DROPS: usize = 56;
const QUEUEING: usize = 60;
const GRADIENT: usize = 64;
const JITTER: usize = 68;
const TRAIN_FRAME: usize = 72;
const TRAIN_GROWTH: usize = 76;
const TRAIN_SIZE: usize = 80;
const TRAIN_SPAN: usize = 84;

/// In place of a queueing delay: no frame began. In place of a train's growth: there is no train.
const NO_DELAY: u32 = u32::MAX;

const INTERVAL_UNIT: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            highest_sequence: 0x0102_0304_0506,
            largest_burst: 0x0708,
            received: 0x1112_1314_1516,
            interval: Duration::from_millis(50),
            lost: 0x2122_2324_2526,
            longest_datagram: 0x2728,
            received_bytes: 0x3132_3334_3536_3738,
            newest_frame: FrameId(0x4142_4344),
            frames: FrameCounts {
                completed: 1,
                repaired_by_parity: 2,
                repaired_by_nack: 3,
                incomplete: 4,
                late: 5,
            },
            kernel_drops: 6,
            queueing_delay: Some(Duration::from_micros(7)),
            delay_gradient: -2,
            jitter: Duration::from_micros(9),
            train: Some(Train {
                frame: FrameId(0x4142_4343),
                growth: Duration::from_micros(10),
                size: DataSize::from_bytes(0x0b0c_0d0e),
                span: Duration::from_micros(15),
            }),
        }
    }

    #[test]
    fn emits_the_bytes_of_the_diagram() {
        let mut body = [0xa5; REPORT_LEN + 1];
        report().emit(&mut body);
        #[rustfmt::skip]
        let expected = [
            1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x01, 0xf4,
            0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38,
            0x41, 0x42, 0x43, 0x44, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5,
            0, 0, 0, 6, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 9,
            0x41, 0x42, 0x43, 0x43, 0, 0, 0, 10, 0x0b, 0x0c, 0x0d, 0x0e, 0, 0, 0, 15, 0xa5,
        ];
        assert_eq!(body[..], expected);
    }

    #[test]
    fn parses_what_it_emits() {
        for report in [report(), Report { queueing_delay: None, train: None, ..report() }] {
            let mut body = [0xa5; REPORT_LEN];
            report.emit(&mut body);
            assert_eq!(Report::parse(&body), Ok(report));
        }
    }

    #[test]
    fn long_durations_saturate() {
        let hour = Duration::from_secs(3600);
        let long =
            Report { interval: hour, queueing_delay: Some(2 * hour), jitter: 2 * hour, ..report() };
        let mut body = [0xa5; REPORT_LEN];
        long.emit(&mut body);
        let parsed = Report::parse(&body).unwrap();
        assert_eq!(parsed.interval, Duration::from_micros(6_553_500));
        assert_eq!(parsed.queueing_delay, Some(Duration::from_micros(u64::from(u32::MAX) - 1)));
        assert_eq!(parsed.jitter, Duration::from_micros(u32::MAX.into()));
    }

    #[test]
    fn fields_of_a_train_without_one_are_refused() {
        let mut body = [0; REPORT_LEN];
        Report { train: None, ..report() }.emit(&mut body);
        for at in [TRAIN_FRAME, TRAIN_SIZE, TRAIN_SPAN] {
            let mut body = body;
            body[at] = 1;
            assert_eq!(Report::parse(&body), Err(ReportError));
        }
    }

    #[test]
    fn other_lengths_are_refused() {
        for len in (0..REPORT_LEN).chain([REPORT_LEN + 1]) {
            assert_eq!(Report::parse(&vec![0; len]), Err(ReportError));
        }
    }
}
