//! Latency from capture to display, stage by stage.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::encode_times::Encoding;
use crate::net::session::Delivered;

/// The stages of a frame, in order, and their total.
///
/// - `Capture`: from the start of the capture until the encoder took the picture.
/// - `Encode`: until the frame was complete.
/// - `Send`: until its first chunk was handed to the socket. If the sender is another process, this
///   includes the two stages before.
/// - `Network`: until the first chunk arrived.
/// - `Reassemble`: until the last missing chunk arrived.
/// - `Playout`: until it was due to be shown, if frames are held back.
/// - `Decode`: until it was decoded, including the wait for the decoder.
/// - `Show`: until it was on the window, or handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Capture,
    Encode,
    Send,
    Network,
    Reassemble,
    Playout,
    Decode,
    Show,
    EndToEnd,
}

impl Stage {
    pub(crate) const ALL: [Self; 9] = [
        Self::Capture,
        Self::Encode,
        Self::Send,
        Self::Network,
        Self::Reassemble,
        Self::Playout,
        Self::Decode,
        Self::Show,
        Self::EndToEnd,
    ];

    /// All stages but the total.
    pub(crate) const PARTS: &[Self] = Self::ALL.split_at(Self::ALL.len() - 1).0;

    /// The name in reports; stable.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Encode => "encode",
            Self::Send => "send",
            Self::Network => "network",
            Self::Reassemble => "reassemble",
            Self::Playout => "playout",
            Self::Decode => "decode",
            Self::Show => "show",
            Self::EndToEnd => "end_to_end",
        }
    }
}

/// One frame's stage times. Those across clocks with unknown offset are `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageTimes {
    times: [Option<Duration>; Stage::ALL.len()],
    /// The repair delay, if it was repaired.
    repair: Option<Duration>,
    error: Duration,
}

impl StageTimes {
    /// Computes the stages from the encode times (`encoding`, if the sender is this process), the
    /// network's times, the playout time (`due`, if it was held back), and the times of decoding
    /// and display.
    pub(crate) fn of(
        delivered: &Delivered,
        encoding: Option<Encoding>,
        due: Option<Instant>,
        decoded: Instant,
        shown: Instant,
    ) -> Self {
        let frame = &delivered.frame;
        let captured = delivered.local(frame.captured);
        let first_sent = delivered.local(frame.first_sent).map(|t| t.at);
        let between =
            |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let captured_at = captured.map(|t| t.at);
        let began = encoding.map(|e| e.began);
        let ended = encoding.map(|e| e.ended);
        let first_received = Some(frame.first_received);
        let times = [
            between(captured_at, began),
            between(began, ended),
            between(ended.or(captured_at), first_sent),
            between(first_sent, first_received),
            between(first_received, Some(frame.completed)),
            between(Some(frame.completed), due),
            between(due.or(Some(frame.completed)), Some(decoded)),
            between(Some(decoded), Some(shown)),
            between(captured_at, Some(shown)),
        ];
        Self {
            times,
            repair: frame.repair_delay,
            error: captured.map_or(Duration::ZERO, |t| t.error),
        }
    }
}

/// The distribution of every stage.
#[derive(Clone, Debug)]
pub(crate) struct LatencyStats {
    histograms: [Histogram<u32>; Stage::ALL.len()],
    /// Repair delays of repaired frames.
    repairs: Histogram<u32>,
    shown: u64,
    bytes: u64,
    error: Duration,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl LatencyStats {
    pub(crate) fn new() -> Self {
        let histogram = || {
            Histogram::new_with_max(LONGEST.as_micros() as u64, SIGNIFICANT_DIGITS)
                .expect("a valid range")
        };
        let histograms = std::array::from_fn(|_| histogram());
        Self { histograms, repairs: histogram(), shown: 0, bytes: 0, error: Duration::ZERO }
    }

    pub(crate) fn record(&mut self, times: &StageTimes, bytes: usize) {
        self.shown += 1;
        self.bytes += bytes as u64;
        self.error = times.error;
        let stages = self.histograms.iter_mut().zip(times.times);
        for (histogram, time) in stages.chain([(&mut self.repairs, times.repair)]) {
            if let Some(time) = time {
                histogram.saturating_record(time.as_micros() as u64);
            }
        }
    }

    /// Clears everything.
    pub(crate) fn reset(&mut self) {
        self.histograms.iter_mut().for_each(Histogram::reset);
        self.repairs.reset();
        (self.shown, self.bytes) = (0, 0);
    }

    /// Frames shown.
    pub(crate) fn shown(&self) -> u64 {
        self.shown
    }

    /// Bytes of the frames shown.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The uncertainty of times across two machines, as of the last frame.
    pub(crate) fn error(&self) -> Duration {
        self.error
    }

    /// `None` if the stage was not measured.
    pub(crate) fn percentiles(&self, stage: Stage) -> Option<Percentiles> {
        Percentiles::of(&self.histograms[stage as usize])
    }

    /// The delay that repairs have added to repaired frames; `None` if there were none.
    pub(crate) fn repairs(&self) -> Option<Percentiles> {
        Percentiles::of(&self.repairs)
    }
}

impl Percentiles {
    /// `None` if the histogram is empty. Its values are in microseconds.
    fn of(histogram: &Histogram<u32>) -> Option<Self> {
        let ms = |micros: u64| micros as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Self {
            p50: ms(histogram.value_at_quantile(0.50)),
            p95: ms(histogram.value_at_quantile(0.95)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        })
    }
}

/// The longest time recorded; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(60);

const SIGNIFICANT_DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{path::clock_offset::LocalTime, time::MediaTime};

    const MS: Duration = Duration::from_millis(1);

    fn delivered(epoch: Instant) -> Delivered {
        let mut delivered = Delivered::example(0, &[0; 10], epoch + 8 * MS);
        delivered.frame.first_sent = MediaTime::from_micros(5000);
        delivered.frame.first_received = epoch + 6 * MS;
        delivered.media_epoch = Some(LocalTime { at: epoch, error: Duration::ZERO });
        delivered
    }

    #[test]
    fn the_stages_add_up_to_the_total() {
        let epoch = crate::clock::now();
        let encoding = Encoding { began: epoch + MS, ended: epoch + 4 * MS };
        let due = Some(epoch + 10 * MS);
        let (decoded, shown) = (epoch + 11 * MS, epoch + 13 * MS);
        let times = StageTimes::of(&delivered(epoch), Some(encoding), due, decoded, shown);
        let parts: Duration = times.times[..Stage::PARTS.len()].iter().map(|t| t.unwrap()).sum();
        assert_eq!(Some(parts), times.times[8]);
        assert_eq!(times.times[Stage::Playout as usize], Some(2 * MS));
        let times = StageTimes::of(&delivered(epoch), Some(encoding), None, decoded, shown);
        assert_eq!(times.times[Stage::Playout as usize], None);
        assert_eq!(times.times[Stage::Decode as usize], Some(3 * MS));
        assert_eq!(times.times[1], Some(3 * MS));
    }

    #[test]
    fn stages_across_unknown_clocks_are_none() {
        let epoch = crate::clock::now();
        let mut delivered = delivered(epoch);
        let times = StageTimes::of(&delivered, None, None, epoch + 11 * MS, epoch + 13 * MS);
        assert_eq!(times.times[..3], [None, None, Some(5 * MS)]);
        delivered.media_epoch = None;
        let times = StageTimes::of(&delivered, None, None, epoch + 11 * MS, epoch + 13 * MS);
        assert_eq!(times.times[2..5], [None, None, Some(2 * MS)]);
    }

    #[test]
    fn percentiles_match_the_recorded_times() {
        let epoch = crate::clock::now();
        let mut meters = LatencyStats::new();
        for ms in 1..=100 {
            let times = StageTimes::of(
                &delivered(epoch),
                None,
                None,
                epoch + 8 * MS,
                epoch + MS * (8 + ms),
            );
            meters.record(&times, 10);
        }
        let show = meters.percentiles(Stage::Show).unwrap();
        assert!((show.p50 - 50.0).abs() < 0.1 && (show.p95 - 95.0).abs() < 0.1, "{show:?}");
        assert_eq!(meters.percentiles(Stage::Capture), None);
        assert_eq!((meters.shown(), meters.bytes()), (100, 1000));
    }

    #[test]
    fn only_repaired_frames_have_a_repair_delay() {
        let epoch = crate::clock::now();
        let mut meters = LatencyStats::new();
        let mut frame = delivered(epoch);
        meters.record(&StageTimes::of(&frame, None, None, epoch, epoch), 10);
        assert_eq!(meters.repairs(), None);
        frame.frame.repair_delay = Some(3 * MS);
        meters.record(&StageTimes::of(&frame, None, None, epoch, epoch), 10);
        let repairs = meters.repairs().unwrap();
        assert!((repairs.p50 - 3.0).abs() < 0.1 && (repairs.max - 3.0).abs() < 0.1, "{repairs:?}");
        meters.reset();
        assert_eq!(meters.repairs(), None);
    }
}
