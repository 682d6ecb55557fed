//! When NACKs are due, and what they request, as chunks arrive or are lost.

use super::*;
use crate::net::{time::MediaTime, wire::video::Extent};

const MS: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_millis(33);
const SOURCE: u16 = 10;

struct Bench {
    start: Instant,
    scheduler: NackScheduler,
}

impl Bench {
    /// The state after a second of complete frames of 10 chunks, each within 2 ms.
    fn new(rtt: Duration) -> Self {
        let start = crate::clock::now();
        let mut bench = Self { start, scheduler: NackScheduler::new(250 * MS) };
        bench.set_path(Some(rtt), 0.0, 0);
        for frame in 0..30 {
            for chunk in 0..SOURCE {
                bench.chunk(frame, chunk, MS * 2 * chunk.into() / 9);
            }
            bench.scheduler.handle_done(FrameId(frame));
        }
        bench
    }

    fn set_path(&mut self, rtt: Option<Duration>, loss_ratio: f64, burst: u16) {
        self.scheduler.set_path(PathState { rtt, grace: MS, loss_ratio, burst });
    }

    fn at(&self, frame: u32, after: Duration) -> Instant {
        self.start + INTERVAL * frame + after
    }

    /// Chunk `chunk` of `frame` arrives `after` that frame's time.
    fn chunk(&mut self, frame: u32, chunk: u16, after: Duration) {
        let header = VideoHeader {
            frame: FrameId(frame),
            captured: MediaTime::default(),
            age: Duration::ZERO,
            extent: Some(Extent { body_len: 95, source_chunks: SOURCE, parity_chunks: 2 }),
            chunk_len: 10,
            chunk,
        };
        let at = self.at(frame, after);
        self.scheduler.handle_chunk(at, &header);
    }

    /// When the next NACK is due, in µs after `frame`'s time.
    fn due(&mut self, frame: u32) -> Option<u128> {
        let since = self.at(frame, Duration::ZERO);
        self.scheduler.poll_timeout().map(|at| (at - since).as_micros())
    }

    /// Polls for a NACK `after` `frame`'s time, when every frame lacks `needed` chunks.
    fn ask(&mut self, frame: u32, after: Duration, needed: u16) -> Option<Request> {
        let at = self.at(frame, after);
        self.scheduler.poll_request(at, |frame| {
            let mut missing = MissingChunks::of(frame);
            missing.push_block(needed);
            Some(missing)
        })
    }
}

fn needed(request: &Request) -> Vec<(FrameId, u8)> {
    request.nack.frames().iter().map(|m| (m.frame, m.needed()[0])).collect()
}

#[test]
fn missing_chunks_are_requested_one_grace_period_after_the_last_chunk() {
    let mut bench = Bench::new(2 * MS);
    for chunk in [0, 1, 2, 9] {
        bench.chunk(30, chunk, MS);
    }
    assert_eq!(bench.due(30), Some(2000));
    assert_eq!(bench.ask(30, MS, 4), None);
    let request = bench.ask(30, 2 * MS, 4).unwrap();
    assert_eq!(needed(&request), [(FrameId(30), 4)]);
    assert_eq!((request.nack.request, request.copies), (1, 1));
    assert_eq!(bench.scheduler.rounds(FrameId(30)), 1);
}

#[test]
fn a_lost_tail_is_detected_by_silence_or_the_next_frame() {
    let mut bench = Bench::new(MS / 2);
    bench.chunk(30, 0, MS);
    assert_eq!(bench.due(30), Some(3000), "2 ms of silence");
    bench.chunk(30, 1, 2 * MS);
    bench.chunk(31, 0, Duration::ZERO);
    assert!(bench.ask(31, MS, 1).is_some());
}

#[test]
fn a_burst_loss_within_a_slow_frame_is_not_its_end() {
    let mut bench = Bench::new(2 * MS);
    for (frame, chunk) in (30..33).flat_map(|frame| (0..SOURCE).map(move |c| (frame, c))) {
        bench.chunk(frame, chunk, MS * chunk.into());
        if chunk == SOURCE - 1 {
            bench.scheduler.handle_done(FrameId(frame));
        }
    }
    bench.chunk(33, 0, Duration::ZERO);
    bench.chunk(33, 1, MS);
    assert_eq!(bench.due(33), Some(9000), "the sender is still sending it");
    bench.chunk(33, 8, 8 * MS);
    assert_eq!(bench.due(33), Some(10_000), "2 ms of silence");
    bench.chunk(33, 9, 9 * MS);
    assert_eq!(bench.due(33), Some(10_000), "one grace period after its last chunk");
}

#[test]
fn repeated_pauses_extend_the_silence_timeout() {
    let mut bench = Bench::new(MS);
    for frame in 30..33 {
        bench.chunk(frame, 0, MS);
        assert!(bench.ask(frame, 4 * MS, 1).is_some(), "{frame}");
        bench.chunk(frame, 1, 7 * MS);
        bench.scheduler.handle_done(FrameId(frame));
    }
    bench.chunk(33, 0, MS);
    assert_eq!(bench.due(33), Some(7000), "6 ms of silence");
}

#[test]
fn a_single_pause_does_not_extend_the_silence_timeout() {
    let mut bench = Bench::new(MS);
    bench.chunk(30, 0, Duration::ZERO);
    (1..SOURCE).for_each(|chunk| bench.chunk(30, chunk, 8 * MS));
    bench.scheduler.handle_done(FrameId(30));
    bench.chunk(31, 0, Duration::ZERO);
    assert_eq!(bench.due(31), Some(2000), "2 ms of silence");
}

#[test]
fn the_silence_timeout_is_at_least_the_reorder_grace() {
    let mut bench = Bench::new(MS);
    let (rtt, grace) = (Some(MS), 5 * MS);
    bench.scheduler.set_path(PathState { rtt, grace, loss_ratio: 0.0, burst: 0 });
    bench.chunk(30, 0, Duration::ZERO);
    assert_eq!(bench.due(30), Some(5000));
}

#[test]
fn a_chunk_within_a_round_trip_cancels_the_premature_request() {
    let mut bench = Bench::new(5 * MS);
    bench.chunk(30, 0, Duration::ZERO);
    assert!(bench.ask(30, 2 * MS, 9).is_some());
    bench.chunk(30, 1, 6 * MS);
    bench.chunk(30, 9, 7 * MS + MS / 2);
    assert_eq!(bench.scheduler.rounds(FrameId(30)), 0);
    assert_eq!(bench.due(30), Some(8500), "one grace period after its last chunk");
    let asked = [9 * MS, 20 * MS].map(|after| bench.ask(30, after, 7).is_some());
    assert_eq!((asked, bench.due(30)), ([true; 2], None), "two rounds, as usual");
    assert_eq!(bench.scheduler.counters().frames, 1);

    let mut bench = Bench::new(5 * MS);
    bench.chunk(30, 0, Duration::ZERO);
    assert!(bench.ask(30, 2 * MS, 9).is_some());
    bench.chunk(30, 1, 7 * MS);
    assert_eq!(bench.scheduler.rounds(FrameId(30)), 1, "an answer may have arrived by now");
}

#[test]
fn a_burst_loss_is_not_a_sender_pause() {
    let mut bench = Bench::new(MS);
    bench.chunk(30, 0, MS);
    bench.chunk(30, 7, 7 * MS);
    bench.scheduler.handle_done(FrameId(30));
    bench.chunk(31, 0, MS);
    assert_eq!(bench.due(31), Some(3000), "2 ms of silence, as before");
}

#[test]
fn chunks_no_longer_missing_are_not_requested() {
    let mut bench = Bench::new(2 * MS);
    bench.chunk(30, 9, MS);
    assert_eq!(bench.ask(30, 2 * MS, 0), None);
    assert_eq!(bench.due(30), None);
    bench.chunk(31, 9, MS);
    bench.scheduler.handle_done(FrameId(31));
    assert_eq!(bench.due(31), None);
    bench.chunk(31, 8, MS);
    bench.chunk(30, 8, MS);
    assert_eq!(bench.due(31), None, "done and older than done");
}

#[test]
fn a_second_round_is_requested_only_if_time_allows() {
    let mut bench = Bench::new(10 * MS);
    bench.chunk(30, 9, MS);
    assert!(bench.ask(30, 2 * MS, 3).is_some());
    assert_eq!(bench.due(30), Some(2000 + 12_500 + 1000));
    let second = bench.ask(30, 16 * MS, 3).unwrap();
    assert_eq!((second.nack.request, bench.due(30)), (2, None));

    let mut bench = Bench::new(20 * MS);
    bench.chunk(30, 9, MS);
    assert!(bench.ask(30, 2 * MS, 3).is_some());
    assert_eq!(bench.ask(30, 28 * MS, 3), None);
    assert_eq!(bench.scheduler.counters().pointless, 1);
}

#[test]
fn nothing_is_requested_that_would_arrive_too_late() {
    let mut bench = Bench::new(40 * MS);
    assert!(!bench.scheduler.nacks_help());
    bench.chunk(30, 9, MS);
    assert_eq!(bench.ask(30, 2 * MS, 3), None);
    assert_eq!(
        bench.scheduler.counters(),
        RepairCounters { pointless: 1, ..RepairCounters::default() }
    );
    assert!(Bench::new(2 * MS).scheduler.nacks_help());
}

#[test]
fn without_a_known_rtt_there_is_one_round() {
    let mut bench = Bench::new(MS);
    bench.set_path(None, 0.0, 0);
    bench.chunk(30, 9, MS);
    assert!(bench.ask(30, 2 * MS, 3).is_some());
    assert_eq!(bench.due(30), None);
}

#[test]
fn reordered_chunks_delay_the_request() {
    let mut bench = Bench::new(2 * MS);
    bench.chunk(30, 9, MS);
    bench.chunk(30, 4, MS * 3 / 2);
    assert_eq!(bench.due(30), Some(2500));
}

#[test]
fn lossy_paths_get_two_copies_and_a_margin() {
    let mut bench = Bench::new(2 * MS);
    bench.set_path(Some(2 * MS), 0.1, 20);
    bench.chunk(30, 9, MS);
    let request = bench.ask(30, 2 * MS, 5).unwrap();
    assert_eq!((request.copies, needed(&request)), (2, vec![(FrameId(30), 5 + 1 + 1)]));
    bench.chunk(31, 0, MS);
    let request = bench.ask(31, 5 * MS, 5).unwrap();
    assert_eq!(needed(&request), [(FrameId(31), 37)], "the end was lost");
    assert_eq!(bench.scheduler.counters().pointless, 1, "frame 30 is about to be superseded");
}

#[test]
fn the_budget_bounds_the_nack_bytes() {
    let mut bench = Bench::new(2 * MS);
    let mut bytes = 0;
    for frame in 30..30 + 300 {
        bench.chunk(frame, 9, MS);
        let at = bench.at(frame, 2 * MS);
        let request = bench.scheduler.poll_request(at, |frame| {
            let mut missing = MissingChunks::of(frame);
            (0..300).for_each(|i| _ = missing.push_chunk(i * 2));
            (0..64).for_each(|_| _ = missing.push_block(1));
            Some(missing)
        });
        bytes += request.map_or(0, |r| r.nack.body_len() * r.copies as usize);
        bench.scheduler.handle_done(FrameId(frame));
    }
    let allowed = (NACK_BURST + 10.0 * NACK_RATE) as usize;
    assert!(bytes <= allowed, "{bytes} of {allowed}");
    assert_eq!(bench.scheduler.counters().over_budget, 0, "even the longest, once a frame");
}

/// The budget is empty at the first NACK, and allows it 0.67 ms later.
#[test]
fn a_nack_over_budget_is_sent_later_and_costs_no_round() {
    let mut bench = Bench::new(2 * MS);
    bench.chunk(30, 9, MS);
    let at = bench.at(30, 2 * MS);
    let mut empty = TokenBucket::new(at, NACK_RATE, NACK_BURST);
    assert!(empty.take(at, NACK_BURST));
    bench.scheduler.budget = Some(empty);
    assert_eq!(bench.ask(30, 2 * MS, 3), None);
    let over_budget = RepairCounters { over_budget: 1, ..RepairCounters::default() };
    assert_eq!(bench.scheduler.counters(), over_budget);
    assert_eq!(bench.scheduler.rounds(FrameId(30)), 0);

    // A NACK for one block is 11 bytes, which the budget earns in 671.4 µs.
    assert_eq!(bench.due(30), Some(2672));
    assert_eq!(bench.ask(30, Duration::from_micros(2671), 3), None);
    assert_eq!(bench.scheduler.counters(), over_budget, "not requested before it is due");
    let first = bench.ask(30, Duration::from_micros(2673), 3).unwrap();
    assert_eq!((first.nack.request, bench.scheduler.rounds(FrameId(30))), (1, 1));
    let second = bench.ask(30, 10 * MS, 3).unwrap();
    assert_eq!((second.nack.request, bench.scheduler.rounds(FrameId(30))), (2, 2));
    let RepairCounters { frames, nacks, .. } = bench.scheduler.counters();
    assert_eq!((frames, nacks), (1, 2));
}

#[test]
fn a_frame_never_requested_has_no_rounds() {
    let mut bench = Bench::new(40 * MS);
    bench.chunk(30, 9, MS);
    assert_eq!(bench.ask(30, 2 * MS, 3), None);
    assert_eq!((bench.scheduler.rounds(FrameId(30)), bench.due(30)), (0, None), "too late");

    let mut bench = Bench::new(2 * MS);
    bench.chunk(30, 9, MS);
    assert_eq!(bench.ask(30, 2 * MS, 0), None);
    assert_eq!((bench.scheduler.rounds(FrameId(30)), bench.due(30)), (0, None), "complete");
}

#[test]
fn the_number_of_tracked_frames_is_bounded() {
    let mut bench = Bench::new(2 * MS);
    for frame in 30..60 {
        bench.chunk(frame, 0, Duration::ZERO);
    }
    bench.chunk(40, 0, Duration::ZERO);
    assert_eq!(bench.scheduler.frames.len(), MAX_NACK_FRAMES);
    let request = bench.ask(59, 5 * MS, 1).unwrap();
    assert_eq!(request.nack.frames().last().map(|m| m.frame), Some(FrameId(59)));
}

#[test]
fn frames_that_do_not_fit_in_a_short_datagram_are_requested_in_further_nacks() {
    let mut bench = Bench::new(2 * MS);
    bench.set_path(None, 0.0, 0);
    for frame in 30..33 {
        bench.chunk(frame, 0, Duration::ZERO);
        bench.chunk(frame, SOURCE - 1, MS);
    }
    let at = bench.at(32, 2 * MS);
    let requests = std::iter::from_fn(|| {
        bench.scheduler.poll_request(at, |frame| {
            let mut missing = MissingChunks::of(frame);
            while missing.push_block(1) {}
            (0..32).for_each(|run| assert!(missing.push_chunk(2 * run)));
            Some(missing)
        })
    });
    let requests: Vec<_> = requests.collect();
    let frames: Vec<_> = requests.iter().flat_map(needed).map(|(frame, _)| frame.0).collect();
    assert_eq!((frames, requests.len()), (vec![30, 31, 32], 3));
    for (request, number) in requests.iter().zip(1..) {
        assert_eq!((request.nack.request, request.nack.body_len()), (number, 170));
    }
}
