//! How a frame's datagrams spread on their way: the dispersion of a packet train.
//!
//! Datagrams that leave faster than the slowest hop forwards them queue there, and arrive at that
//! hop's rate (Jain and Dovrolis, "End-to-end available bandwidth", IEEE/ACM Transactions on
//! Networking 11(4), 2003). So the one-way delay grows within the frame, and the rate of arrival is
//! what the path carries. Each delay is compared with the smallest of the same frame so far:
//! neither the clocks nor a queue that stood before the frame matter.
//!
//! The rate counts from the last datagram that met no queue, since the hop may have been idle
//! before. The growth is that of the train's last datagram: a datagram that was late on its own,
//! because a thread was descheduled, does not delay those that leave after it.

use std::time::{Duration, Instant};

use crate::net::{
    frame::FrameId,
    time::MediaTime,
    units::DataSize,
    wire::{report::Train, video::VideoHeader},
};

/// Measures the trains that one receiver gets.
#[derive(Clone, Debug, Default)]
pub struct TrainMeter {
    /// The newest frame of which a chunk has arrived.
    newest: Option<FrameId>,
    /// Its train, until it ends.
    current: Option<Arriving>,
    finished: Option<Train>,
}

/// The newest frame's datagrams so far.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    frame: FrameId,
    /// The highest index of a source chunk, and of a parity chunk. `None` before the first.
    source: Option<u16>,
    parity: Option<u16>,
    datagrams: u32,
    /// The last datagram that met no queue: no earlier one had a smaller delay.
    start: Point,
    last: Point,
    /// Bytes that arrived from `start` on, and before `last` did.
    size: DataSize,
    /// Bytes that arrived when `last` did. The kernel stamps coalesced datagrams with the arrival
    /// of the first.
    size_at_last: DataSize,
}

/// A datagram's arrival.
#[derive(Clone, Copy, Debug)]
struct Point {
    arrived: Instant,
    sent: MediaTime,
}

impl Point {
    /// How much longer than `other` the datagram took, in µs.
    fn delay_beyond(self, other: Self) -> i64 {
        let between = |later: Instant, earlier: Instant| {
            later.saturating_duration_since(earlier).as_micros() as i64
        };
        let arrived = between(self.arrived, other.arrived) - between(other.arrived, self.arrived);
        arrived - (self.sent.as_micros() as i64 - other.sent.as_micros() as i64)
    }
}

impl TrainMeter {
    /// Records the arrival of a chunk in a datagram of `len` bytes.
    pub fn handle_chunk(&mut self, arrived: Instant, header: &VideoHeader, len: usize) {
        if self.newest.is_some_and(|newest| header.frame.is_before(newest)) {
            return;
        }
        let (point, size) = (Point { arrived, sent: header.sent() }, DataSize::from_len(len));
        if self.newest.replace(header.frame) == Some(header.frame) {
            // After the end of the train come retransmissions and reordered chunks.
            let Some(current) = &mut self.current else { return };
            current.push(header, point, size);
        } else {
            self.finish();
            self.current = Some(Arriving::new(header, point, size));
        }
        if header.is_last_source() {
            self.finish();
        }
    }

    /// Records that chunks of `frame` are requested. Those that still arrive may be answers, which
    /// meet no queue, so they do not count.
    pub fn handle_request(&mut self, frame: FrameId) {
        if self.current.as_ref().is_some_and(|current| current.frame == frame) {
            self.finish();
        }
    }

    /// The newest train that has ended. Each is returned once.
    pub fn take(&mut self) -> Option<Train> {
        self.finished.take()
    }

    fn finish(&mut self) {
        let train = self.current.take().and_then(|current| current.train());
        self.finished = train.or(self.finished);
    }
}

impl Arriving {
    fn new(header: &VideoHeader, point: Point, size: DataSize) -> Self {
        let mut arriving = Self {
            frame: header.frame,
            source: None,
            parity: None,
            datagrams: 1,
            start: point,
            last: point,
            size: DataSize::default(),
            size_at_last: size,
        };
        *arriving.newest_index(header) = Some(header.chunk);
        arriving
    }

    fn push(&mut self, header: &VideoHeader, point: Point, size: DataSize) {
        let pause = point.sent - self.last.sent;
        let newest = self.newest_index(header);
        // Retransmissions repeat earlier chunks, or follow after a pause. Reordered chunks are
        // ignored, too.
        if Some(header.chunk) <= *newest || pause > MAX_PAUSE {
            return;
        }
        *newest = Some(header.chunk);
        self.datagrams += 1;
        if point.arrived > self.last.arrived {
            self.size += self.size_at_last;
            self.size_at_last = size;
        } else {
            self.size_at_last += size;
        }
        if point.delay_beyond(self.start) <= 0 {
            self.start = point;
            self.size = DataSize::default();
        }
        self.last = point;
    }

    /// The highest index so far of the chunks of the header's kind. Each kind is sent in order.
    fn newest_index(&mut self, header: &VideoHeader) -> &mut Option<u16> {
        if header.is_parity() { &mut self.parity } else { &mut self.source }
    }

    /// The train, if it is long enough to show anything.
    fn train(&self) -> Option<Train> {
        if self.datagrams < MIN_DATAGRAMS {
            return None;
        }
        let growth = Duration::from_micros(self.last.delay_beyond(self.start).max(0) as u64);
        let span = self.last.arrived.saturating_duration_since(self.start.arrived);
        Some(Train { frame: self.frame, growth, size: self.size, span })
    }
}

/// A shorter train says little about the path.
const MIN_DATAGRAMS: u32 = 8;

/// The longest time between two datagrams of a train. Strips are sent as they are encoded, each
/// within a few milliseconds of the last; an answer to a NACK comes after a round trip.
const MAX_PAUSE: Duration = Duration::from_millis(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{units::Bitrate, wire::video::Extent};

    const LEN: usize = 1200;
    const CHUNKS: u16 = 98;
    const PARITY: u16 = 20;
    const MBPS: Bitrate = Bitrate::from_mbps(1);

    /// A hop that takes datagrams at `rate`, in front of a receiver.
    struct Hop {
        start: Instant,
        rate: Bitrate,
        free: Duration,
        meter: TrainMeter,
    }

    impl Hop {
        fn new(rate: Bitrate) -> Self {
            let (start, free) = (crate::clock::now(), Duration::ZERO);
            Self { start, rate, free, meter: TrainMeter::default() }
        }

        /// When a datagram that leaves at `sent` has passed the hop.
        fn pass(&mut self, sent: Duration) -> Duration {
            self.free = self.free.max(sent) + DataSize::from_len(LEN) / self.rate;
            self.free
        }

        /// Passes a chunk that leaves at `sent` and arrives at `arrived` to the meter. Both times
        /// count from the start.
        fn arrive(&mut self, frame: u32, chunk: u16, sent: Duration, arrived: Duration) {
            let extent = Extent {
                body_len: u32::from(CHUNKS) * 1160,
                source_chunks: CHUNKS,
                parity_chunks: PARITY,
            };
            let header = VideoHeader {
                frame: FrameId(frame),
                captured: MediaTime::from_micros(1_000_000),
                age: sent,
                extent: Some(extent),
                chunk_len: 1160,
                chunk,
            };
            self.meter.handle_chunk(self.start + arrived, &header, LEN);
        }

        /// Sends a frame at `pace`, in groups of eight datagrams.
        fn send(&mut self, frame: u32, pace: Bitrate) -> Option<Train> {
            let begin = Duration::from_millis(33) * frame;
            for chunk in 0..CHUNKS {
                let group = DataSize::from_len(usize::from(chunk / 8) * 8 * LEN);
                let sent = begin + group / pace;
                let arrived = self.pass(sent);
                self.arrive(frame, chunk, sent, arrived);
            }
            self.meter.take()
        }
    }

    fn assert_carried(train: Option<Train>, rate: Bitrate) {
        let train = train.expect("a train");
        let carried = train.size / train.span;
        assert!((carried.mbps() / rate.mbps() - 1.0).abs() < 0.02, "{carried} of {rate}");
    }

    #[test]
    fn a_train_that_queues_shows_what_the_hop_carries() {
        for mbps in [10.0, 100.0, 900.0] {
            let mut hop = Hop::new(MBPS * mbps);
            let train = hop.send(1, MBPS * mbps * 1.5);
            assert_carried(train, MBPS * mbps);
            // A third of the frame has queued at the hop.
            let queued = (MBPS * mbps) * train.expect("a train").growth;
            assert!((36_000..42_000).contains(&queued.bytes()), "{queued:?}");
            assert_eq!(hop.meter.take(), None, "once");
        }
    }

    #[test]
    fn a_train_at_the_rate_of_the_hop_does_not_grow() {
        let mut hop = Hop::new(MBPS * 100.0);
        for frame in 1..4 {
            let train = hop.send(frame, MBPS * 100.0).expect("a train");
            // Only a group of datagrams queues behind each other.
            assert!(train.growth < DataSize::from_len(8 * LEN) / (MBPS * 100.0), "{train:?}");
        }
    }

    #[test]
    fn a_hop_that_was_idle_within_the_frame_is_measured_after_that() {
        let mut hop = Hop::new(MBPS * 100.0);
        for chunk in 0..CHUNKS {
            // The second half of the frame is encoded 10 ms after the first. Each leaves at once.
            let sent = Duration::from_millis(if chunk < CHUNKS / 2 { 0 } else { 10 });
            let arrived = hop.pass(sent);
            hop.arrive(1, chunk, sent, arrived);
        }
        assert_carried(hop.meter.take(), MBPS * 100.0);
    }

    #[test]
    fn one_late_datagram_is_not_growth() {
        let mut hop = Hop::new(MBPS * 1000.0);
        for chunk in 0..CHUNKS {
            let sent = Duration::from_micros(100) * u32::from(chunk);
            let late = Duration::from_millis(if chunk == 50 { 3 } else { 0 });
            let arrived = hop.pass(sent + late);
            hop.arrive(1, chunk, sent, arrived);
        }
        let train = hop.meter.take().expect("a train");
        assert!(train.growth < Duration::from_micros(20), "{train:?}");
    }

    #[test]
    fn a_kernel_that_coalesces_datagrams_does_not_raise_the_rate() {
        let mut hop = Hop::new(MBPS * 100.0);
        let mut stamp = Duration::ZERO;
        for chunk in 0..CHUNKS {
            let sent = DataSize::from_len(usize::from(chunk) * LEN) / (MBPS * 300.0);
            let arrived = hop.pass(sent);
            if chunk % 16 == 0 {
                stamp = arrived;
            }
            hop.arrive(1, chunk, sent, stamp);
        }
        assert_carried(hop.meter.take(), MBPS * 100.0);
    }

    #[test]
    fn retransmissions_and_late_chunks_of_older_frames_are_ignored() {
        let mut hop = Hop::new(MBPS * 100.0);
        for chunk in (0..CHUNKS).filter(|chunk| chunk % 10 != 3) {
            let sent = DataSize::from_len(usize::from(chunk) * LEN) / (MBPS * 300.0);
            let arrived = hop.pass(sent);
            hop.arrive(1, chunk, sent, arrived);
        }
        let later = Duration::from_millis(20);
        for chunk in [3, 13, 23] {
            hop.arrive(1, chunk, later, later);
        }
        let train = hop.meter.take();
        assert_carried(train, MBPS * 100.0);
        assert!(hop.send(2, MBPS * 50.0).is_some());
        hop.arrive(1, 33, later, later);
        assert_eq!(hop.meter.take(), None);
    }

    #[test]
    fn a_train_without_its_tail_ends_with_the_next_frame() {
        let mut hop = Hop::new(MBPS * 100.0);
        for chunk in 0..60 {
            let sent = DataSize::from_len(usize::from(chunk) * LEN) / (MBPS * 900.0);
            let arrived = hop.pass(sent);
            hop.arrive(1, chunk, sent, arrived);
        }
        assert_eq!(hop.meter.take(), None);
        let next = Duration::from_millis(33);
        hop.arrive(2, 0, next, next);
        assert_carried(hop.meter.take(), MBPS * 100.0);
    }

    #[test]
    fn answers_to_a_request_for_the_tail_do_not_hide_the_queue() {
        let mut hop = Hop::new(MBPS * 100.0);
        for chunk in 0..80 {
            let sent = DataSize::from_len(usize::from(chunk) * LEN) / (MBPS * 300.0);
            let arrived = hop.pass(sent);
            hop.arrive(1, chunk, sent, arrived);
        }
        hop.meter.handle_request(FrameId(1));
        for chunk in 80..CHUNKS {
            let sent = Duration::from_millis(12);
            let arrived = hop.pass(sent);
            hop.arrive(1, chunk, sent, arrived);
        }
        let train = hop.meter.take();
        assert_carried(train, MBPS * 100.0);
        assert!(train.is_some_and(|train| train.growth > Duration::from_millis(4)), "{train:?}");
    }

    #[test]
    fn source_chunks_after_parity_belong_to_the_train() {
        let mut hop = Hop::new(MBPS * 100.0);
        // Two strips, each followed by its parity, but the last source chunk is last of all.
        let second = CHUNKS..CHUNKS + PARITY / 2;
        let fourth = CHUNKS + PARITY / 2..CHUNKS + PARITY;
        let order = (0..40).chain(second).chain(40..CHUNKS - 1).chain(fourth).chain([CHUNKS - 1]);
        for (nth, chunk) in order.enumerate() {
            let sent = DataSize::from_len(nth * LEN) / (MBPS * 300.0);
            let arrived = hop.pass(sent);
            hop.arrive(1, chunk, sent, arrived);
        }
        let train = hop.meter.take();
        assert_carried(train, MBPS * 100.0);
        let size = DataSize::from_len(usize::from(CHUNKS + PARITY - 1) * LEN);
        assert_eq!(train.map(|train| train.size), Some(size), "the whole train");
    }

    #[test]
    fn a_few_datagrams_are_no_train() {
        let mut hop = Hop::new(MBPS);
        for chunk in 0..7 {
            hop.arrive(1, chunk, Duration::ZERO, Duration::from_millis(u64::from(chunk)));
        }
        hop.arrive(2, 0, Duration::from_millis(33), Duration::from_millis(33));
        assert_eq!(hop.meter.take(), None);
    }
}
