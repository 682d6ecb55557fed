//! Latency from capture to display, stage by stage.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{encoded_frame::EncodedFrame, received::Received};
use crate::net::units::DataSize;

/// The stages of a frame, in order, and their total.
///
/// - `Capture`: from the start of the capture until the encoder took the picture.
/// - `Encode`: until the frame was complete.
/// - `Send`: until its first chunk was handed to the socket. A receiver cannot tell it from the two
///   stages before, and includes them; a sender in the same process measures all three.
/// - `Network`: until the first chunk arrived.
/// - `Reassemble`: until the frame was complete again.
/// - `Playout`: until it left the playout buffer, if frames are held back.
/// - `Decode`: until it was decoded, including the wait for the decoder.
/// - `Show`: until the window had taken it; zero without a window.
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
    /// The stages of a received frame, which was shown at `shown`.
    pub(crate) fn of_received(received: &Received, shown: Instant) -> Self {
        let Received { delivered, played, decoded, .. } = received;
        let frame = &delivered.frame;
        let captured = delivered.local(frame.captured);
        let captured_at = captured.map(|t| t.at);
        let first_sent = delivered.local(frame.first_sent).map(|t| t.at);
        let (first_received, completed) = (Some(frame.first_received), Some(frame.completed));
        let mut times = Self::unmeasured();
        times.set(Stage::Send, captured_at, first_sent);
        times.set(Stage::Network, first_sent, first_received);
        times.set(Stage::Reassemble, first_received, completed);
        times.set(Stage::Playout, completed, *played);
        times.set(Stage::Decode, played.or(completed), Some(*decoded));
        times.set(Stage::Show, Some(*decoded), Some(shown));
        times.set(Stage::EndToEnd, captured_at, Some(shown));
        times.repair = frame.repair_delay;
        times.error = captured.map_or(Duration::ZERO, |t| t.error);
        times
    }

    /// The sender's stages of a frame.
    pub(crate) fn of_encoded(frame: &EncodedFrame) -> Self {
        let EncodedFrame { data, captured, began, ended } = frame;
        let mut times = Self::unmeasured();
        times.set(Stage::Capture, Some(*captured), Some(*began));
        times.set(Stage::Encode, Some(*began), Some(*ended));
        times.set(Stage::Send, Some(*ended), data.first_sent());
        times
    }

    fn unmeasured() -> Self {
        Self { times: [None; Stage::ALL.len()], repair: None, error: Duration::ZERO }
    }

    fn set(&mut self, stage: Stage, from: Option<Instant>, to: Option<Instant>) {
        self.times[stage as usize] =
            from.zip(to).map(|(from, to)| to.saturating_duration_since(from));
    }

    #[cfg(test)]
    fn get(&self, stage: Stage) -> Option<Duration> {
        self.times[stage as usize]
    }
}

/// The distribution of every stage.
#[derive(Clone, Debug)]
pub(crate) struct LatencyStats {
    histograms: [Histogram<u32>; Stage::ALL.len()],
    /// Repair delays of repaired frames.
    repairs: Histogram<u32>,
    shown: u64,
    size: DataSize,
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
        Self {
            histograms,
            repairs: histogram(),
            shown: 0,
            size: DataSize::default(),
            error: Duration::ZERO,
        }
    }

    pub(crate) fn record(&mut self, times: &StageTimes, len: usize) {
        self.shown += 1;
        self.size += DataSize::from_len(len);
        self.error = times.error;
        self.record_stages(times);
    }

    fn record_stages(&mut self, times: &StageTimes) {
        let stages = self.histograms.iter_mut().zip(times.times);
        for (histogram, time) in stages.chain([(&mut self.repairs, times.repair)]) {
            if let Some(time) = time {
                histogram.saturating_record(time.as_micros() as u64);
            }
        }
    }

    /// Replaces the stages that only a sender can tell apart with those that it has measured.
    fn set_sender_stages(&mut self, sender: &Self) {
        for stage in SENDER_STAGES {
            self.histograms[stage as usize].clone_from(&sender.histograms[stage as usize]);
        }
    }

    /// Clears everything but the error.
    fn reset(&mut self) {
        self.histograms.iter_mut().for_each(Histogram::reset);
        self.repairs.reset();
        (self.shown, self.size) = (0, DataSize::default());
    }

    /// Frames shown.
    pub(crate) fn shown(&self) -> u64 {
        self.shown
    }

    /// The size of the frames shown, together.
    pub(crate) fn size(&self) -> DataSize {
        self.size
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

/// The stages of the frames sent, measured by the sender for a receiver in the same process. Clones
/// share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SenderLatency(Arc<Mutex<Periods>>);

impl SenderLatency {
    /// Records a frame; ignores one that has not been sent.
    pub(crate) fn record(&self, frame: &EncodedFrame) {
        if frame.data.first_sent().is_some() {
            let times = StageTimes::of_encoded(frame);
            locked(&self.0).each(|stats| stats.record_stages(&times));
        }
    }
}

/// Latencies since the last statistics, and since the start.
#[derive(Debug)]
struct Periods {
    interval: LatencyStats,
    total: LatencyStats,
}

impl Periods {
    fn each(&mut self, change: impl Fn(&mut LatencyStats)) {
        change(&mut self.interval);
        change(&mut self.total);
    }

    fn take_interval(&mut self) -> LatencyStats {
        let taken = self.interval.clone();
        self.interval.reset();
        taken
    }
}

impl Default for Periods {
    fn default() -> Self {
        Self { interval: LatencyStats::new(), total: LatencyStats::new() }
    }
}

/// The frames shown, recorded by the thread that shows them. Clones share the records.
#[derive(Clone, Debug)]
pub(crate) struct ShownFrames {
    shown: Arc<Mutex<Shown>>,
    /// The sender's stages, if it is in this process.
    sender: Option<SenderLatency>,
}

#[derive(Debug)]
struct Shown {
    latency: Periods,
    began: Instant,
    first: Option<Instant>,
    /// When the last frame of the current sender was shown.
    last: Option<Instant>,
}

impl ShownFrames {
    /// No frames yet; the time until the first one is counted from `began`.
    pub(crate) fn new(began: Instant, sender: Option<SenderLatency>) -> Self {
        let shown = Shown { latency: Periods::default(), began, first: None, last: None };
        Self { shown: Arc::new(Mutex::new(shown)), sender }
    }

    /// Records a frame that was shown at `shown`.
    pub(crate) fn record(&self, received: &Received, shown: Instant) {
        let times = StageTimes::of_received(received, shown);
        let len = received.delivered.frame.data.len();
        let mut state = locked(&self.shown);
        state.latency.each(|stats| stats.record(&times, len));
        state.first.get_or_insert(shown);
        state.last = Some(shown);
    }

    /// When the last frame of the current sender was shown.
    pub(crate) fn last(&self) -> Option<Instant> {
        locked(&self.shown).last
    }

    /// Called when another sender begins: none of its frames has been shown yet.
    pub(crate) fn expect_another(&self) {
        locked(&self.shown).last = None;
    }

    /// The time from the start until the first frame was shown.
    pub(crate) fn first_after(&self) -> Option<Duration> {
        let state = locked(&self.shown);
        state.first.map(|at| at.saturating_duration_since(state.began))
    }

    /// The number of frames, and the percentiles of `stage`, since the start.
    pub(crate) fn summary(&self, stage: Stage) -> (u64, Option<Percentiles>) {
        let state = locked(&self.shown);
        (state.latency.total.shown(), state.latency.total.percentiles(stage))
    }

    /// The delay that repairs have added to repaired frames since the start; `None` if there were
    /// none.
    pub(crate) fn repairs(&self) -> Option<Percentiles> {
        locked(&self.shown).latency.total.repairs()
    }

    /// Latencies since the last call.
    pub(crate) fn take_interval(&self) -> LatencyStats {
        let taken = locked(&self.shown).latency.take_interval();
        self.with_sender(taken, Periods::take_interval)
    }

    /// Latencies since the start.
    pub(crate) fn total(&self) -> LatencyStats {
        let total = locked(&self.shown).latency.total.clone();
        self.with_sender(total, |periods| periods.total.clone())
    }

    fn with_sender(
        &self,
        mut stats: LatencyStats,
        of: impl Fn(&mut Periods) -> LatencyStats,
    ) -> LatencyStats {
        if let Some(sender) = &self.sender {
            stats.set_sender_stages(&of(&mut locked(&sender.0)));
        }
        stats
    }
}

/// Poisoning is ignored, since no code panics under these locks.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stages that a receiver cannot tell apart.
const SENDER_STAGES: [Stage; 3] = [Stage::Capture, Stage::Encode, Stage::Send];

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
    use crate::{
        clock,
        net::{
            frame::FrameBytes, path::clock_offset::LocalTime, session::Delivered, time::MediaTime,
        },
    };

    const MS: Duration = Duration::from_millis(1);

    /// A frame that was captured at `epoch`, sent after 5 ms, complete after 8 ms, and decoded
    /// `decoded` ms after `epoch`.
    fn received(epoch: Instant, played: Option<u32>, decoded: u32) -> Received {
        let mut delivered = Delivered::example(0, &[0; 10], epoch + 8 * MS);
        delivered.frame.first_sent = MediaTime::from_micros(5000);
        delivered.frame.first_received = epoch + 6 * MS;
        delivered.media_epoch = Some(LocalTime { at: epoch, error: Duration::ZERO });
        Received {
            delivered: Arc::new(delivered),
            image: None,
            played: played.map(|ms| epoch + ms * MS),
            decoded: epoch + decoded * MS,
        }
    }

    /// The same frame at its sender: the encoder took it after 1 ms and completed it after 4 ms.
    fn encoded(epoch: Instant) -> EncodedFrame {
        let data = FrameBytes::from(vec![0; 10]);
        data.note_sent(epoch + 5 * MS);
        EncodedFrame { data, captured: epoch, began: epoch + MS, ended: epoch + 4 * MS }
    }

    #[test]
    fn the_stages_add_up_to_the_total() {
        let epoch = clock::now();
        let times = StageTimes::of_received(&received(epoch, Some(10), 11), epoch + 13 * MS);
        let parts: Duration = Stage::PARTS.iter().filter_map(|&stage| times.get(stage)).sum();
        assert_eq!(Some(parts), times.get(Stage::EndToEnd));
        assert_eq!(times.get(Stage::Playout), Some(2 * MS));
        let at_sender = StageTimes::of_encoded(&encoded(epoch));
        let parts: Duration = SENDER_STAGES.iter().filter_map(|&stage| at_sender.get(stage)).sum();
        assert_eq!(Some(parts), times.get(Stage::Send), "together they are one stage here");
        let times = StageTimes::of_received(&received(epoch, None, 11), epoch + 13 * MS);
        assert_eq!((times.get(Stage::Playout), times.get(Stage::Decode)), (None, Some(3 * MS)));
    }

    #[test]
    fn stages_across_unknown_clocks_are_none() {
        let epoch = clock::now();
        let mut received = received(epoch, None, 11);
        let times = StageTimes::of_received(&received, epoch + 13 * MS);
        assert_eq!(times.times[..3], [None, None, Some(5 * MS)]);
        Arc::get_mut(&mut received.delivered).unwrap().media_epoch = None;
        let times = StageTimes::of_received(&received, epoch + 13 * MS);
        assert_eq!(times.times[2..5], [None, None, Some(2 * MS)]);
    }

    #[test]
    fn percentiles_match_the_recorded_times() {
        let epoch = clock::now();
        let mut stats = LatencyStats::new();
        for ms in 1..=100 {
            let times = StageTimes::of_received(&received(epoch, None, 8), epoch + MS * (8 + ms));
            stats.record(&times, 10);
        }
        let show = stats.percentiles(Stage::Show).unwrap();
        assert!((show.p50 - 50.0).abs() < 0.1 && (show.p95 - 95.0).abs() < 0.1, "{show:?}");
        assert_eq!(stats.percentiles(Stage::Capture), None);
        assert_eq!((stats.shown(), stats.size().bytes()), (100, 1000));
    }

    #[test]
    fn only_repaired_frames_have_a_repair_delay() {
        let epoch = clock::now();
        let mut stats = LatencyStats::new();
        let mut received = received(epoch, None, 8);
        stats.record(&StageTimes::of_received(&received, epoch + 8 * MS), 10);
        assert_eq!(stats.repairs(), None);
        Arc::get_mut(&mut received.delivered).unwrap().frame.repair_delay = Some(3 * MS);
        stats.record(&StageTimes::of_received(&received, epoch + 8 * MS), 10);
        let repairs = stats.repairs().unwrap();
        assert!((repairs.p50 - 3.0).abs() < 0.1 && (repairs.max - 3.0).abs() < 0.1, "{repairs:?}");
        stats.reset();
        assert_eq!(stats.repairs(), None);
    }

    #[test]
    fn a_sender_in_the_process_adds_its_stages() {
        let epoch = clock::now();
        let sender = SenderLatency::default();
        let shown = ShownFrames::new(epoch, Some(sender.clone()));
        shown.record(&received(epoch, None, 11), epoch + 13 * MS);
        sender.record(&encoded(epoch));
        let unsent = FrameBytes::from(vec![0; 10]);
        sender.record(&EncodedFrame { data: unsent, ended: epoch + 50 * MS, ..encoded(epoch) });
        let p50 = |stats: &LatencyStats, stage| stats.percentiles(stage).map(|p| p.p50.round());
        let interval = shown.take_interval();
        let stages = SENDER_STAGES.map(|stage| p50(&interval, stage));
        assert_eq!(stages, [Some(1.0), Some(3.0), Some(1.0)], "the unsent frame does not count");
        let interval = shown.take_interval();
        assert_eq!((interval.shown(), p50(&interval, Stage::Encode)), (0, None));
        assert_eq!((shown.total().shown(), p50(&shown.total(), Stage::Encode)), (1, Some(3.0)));
        assert_eq!((shown.last(), shown.first_after()), (Some(epoch + 13 * MS), Some(13 * MS)));
        shown.expect_another();
        assert_eq!((shown.last(), shown.first_after()), (None, Some(13 * MS)));
    }
}
