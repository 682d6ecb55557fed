//! How fast frames leave, over simulated links with the queue of a switch port.

use std::time::{Duration, Instant};

use udpchat::net::{netem::NetemSpec, session::Delivered};

use crate::{
    repair::{ANN, BOB, delay, links, percentile, start_pair},
    sim::{FRAME_INTERVAL, MS, SECOND, Sim, number_of},
};

/// 120 KB: about the length of a 720p frame at quality 80.
const FRAME_LEN: usize = 120_000;

/// A stream from Ann to Bob.
struct Stream {
    sim: Sim,
    start: Instant,
    frames: Vec<(Instant, Delivered)>,
}

impl Stream {
    fn over(spec: NetemSpec) -> Self {
        let mut sim = Sim::with_links(2, links("delay=100us"));
        start_pair(&mut sim, ANN, BOB);
        sim.run(SECOND);
        let start = sim.now;
        let mut stream = Self { sim, start, frames: Vec::new() };
        stream.switch_to(spec);
        stream.sim.start_video(ANN, FRAME_LEN);
        stream
    }

    /// Changes the link from Ann to Bob.
    fn switch_to(&mut self, spec: NetemSpec) {
        self.sim.set_link(ANN, BOB, spec);
    }

    /// Runs for `time`. Returns how many frames before the newest completed one were not completed,
    /// and the median delay from capture to completion of the others.
    fn run(&mut self, time: Duration) -> (u64, Duration) {
        let before = self.frames.len();
        let next = self.frames.last().map_or(0, |(_, d)| number_of(&d.frame.data) + 1);
        self.sim.run(time);
        self.frames.extend(self.sim.take_frames(BOB));
        let new = &self.frames[before..];
        let last = new.last().map_or(next, |(_, d)| number_of(&d.frame.data) + 1);
        let delays: Vec<_> = new.iter().map(|frame| delay(self.start, frame)).collect();
        let median = percentile(delays, 50).expect("frames");
        (last - next - new.len() as u64, median)
    }
}

/// `mbps` Mbit/s behind a queue of 64 KB.
fn port(mbps: f64) -> NetemSpec {
    let queue = Duration::from_secs_f64(64_000.0 * 8.0 / (mbps * 1e6));
    let rate = udpchat::Bitrate::from_bps((mbps * 1e6) as u64);
    NetemSpec { rate: Some(rate), queue, delay: MS / 10, seed: 3, ..NetemSpec::default() }
}

#[test]
fn the_pace_of_a_gigabit_path_is_found_within_half_a_second() {
    let mut stream = Stream::over(port(1000.0));
    let (missing, _) = stream.run(SECOND / 2);
    assert_eq!(missing, 0);
    let (missing, median) = stream.run(SECOND / 2);
    assert_eq!(missing, 0);
    assert!(median <= 3 * MS / 2, "in the second half second: {median:?}");
    let (missing, median) = stream.run(20 * SECOND);
    assert_eq!(missing, 0);
    assert!(median <= 3 * MS / 2, "{median:?}");
}

#[test]
fn no_frame_overruns_a_port_of_a_hundred_megabits() {
    let mut stream = Stream::over(port(100.0));
    let (missing, median) = stream.run(30 * SECOND);
    assert_eq!(missing, 0);
    assert!(median <= 11 * MS, "{median:?}");
}

#[test]
fn a_path_that_narrows_is_followed_at_once() {
    let mut stream = Stream::over(port(1000.0));
    stream.run(3 * SECOND);
    stream.switch_to(port(100.0));
    let (missing, _) = stream.run(SECOND);
    assert!(missing <= 3, "{missing} frames");
    let (missing, median) = stream.run(10 * SECOND);
    assert_eq!(missing, 0);
    assert!(median <= 11 * MS, "{median:?}");
    stream.switch_to(port(1000.0));
    let (missing, _) = stream.run(5 * SECOND);
    assert_eq!(missing, 0);
    let (missing, median) = stream.run(5 * SECOND);
    assert_eq!(missing, 0);
    assert!(median <= 3 * MS / 2, "{median:?}");
}

#[test]
fn random_loss_does_not_slow_the_pace() {
    let mut stream = Stream::over(NetemSpec { loss: 0.05, ..port(1000.0) });
    stream.run(2 * SECOND);
    let (missing, median) = stream.run(20 * SECOND);
    assert!(missing <= 1, "{missing} frames");
    assert!(median <= 3 * MS, "{median:?}");
}

#[test]
fn jitter_does_not_slow_the_pace_below_the_initial_one() {
    for loss in [0.0, 0.01] {
        for jitter in [5 * MS, 20 * MS] {
            let mut stream = Stream::over(NetemSpec { jitter, loss, ..port(1000.0) });
            stream.run(2 * SECOND);
            let (missing, median) = stream.run(20 * SECOND);
            eprintln!("jitter {jitter:?}, loss {loss}: {missing} missing, {median:?}");
            assert!(missing <= 1, "{missing} frames");
            assert!(median <= FRAME_INTERVAL / 4 + jitter + 2 * MS, "{median:?} with {jitter:?}");
        }
    }
}

#[test]
fn a_long_path_is_found_too() {
    let mut stream = Stream::over(NetemSpec { delay: 10 * MS, ..port(1000.0) });
    stream.run(2 * SECOND);
    let (missing, median) = stream.run(10 * SECOND);
    assert_eq!(missing, 0);
    assert!(median <= 10 * MS + 3 * MS / 2, "{median:?}");
}

#[test]
fn every_rate_is_met_without_loss() {
    for mbps in [40.0, 50.0, 60.0, 80.0, 100.0, 120.0, 200.0, 300.0, 500.0, 2500.0] {
        let mut stream = Stream::over(port(mbps));
        stream.run(SECOND);
        let (missing, median) = stream.run(5 * SECOND);
        let least = Duration::from_secs_f64(125_000.0 * 8.0 / (mbps * 1e6));
        eprintln!("{mbps} Mbit/s: {missing} missing, {median:?} of {least:?}");
        assert_eq!(missing, 0, "at {mbps} Mbit/s");
        assert!(median <= least + 2 * MS, "{median:?} at {mbps} Mbit/s");
        assert!(median < FRAME_INTERVAL);
    }
}
