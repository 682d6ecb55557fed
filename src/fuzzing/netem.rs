//! The network emulator: the syntax of its specification, and its behaviour.

use std::time::{Duration, Instant};

use crate::{
    clock,
    net::netem::{Netem, NetemSpec, REORDER_HOLD},
};

/// The bytes are a specification. The network it describes carries some datagrams.
pub fn netem(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(spec) = text.parse::<NetemSpec>() else { return };
    let NetemSpec { loss, burst, delay, jitter, reorder, duplicate, corrupt, rate, queue, .. } =
        spec;
    for share in [loss, reorder, duplicate, corrupt] {
        assert!((0.0..=1.0).contains(&share), "{spec:?}");
    }
    assert!((1.0..=1000.0).contains(&burst) && delay.max(jitter).max(queue) <= MINUTE, "{spec:?}");
    assert!(rate.is_none_or(|rate| (8000..=1_000_000_000_000).contains(&rate.bps())), "{spec:?}");
    let now = clock::now();
    assert_eq!(carried(now, spec), carried(now, spec), "one seed, one network");
}

/// Sends some datagrams and returns those that arrive, with their times. Each datagram sent is
/// accounted for.
fn carried(start: Instant, spec: NetemSpec) -> Vec<(Instant, Vec<u8>)> {
    let mut netem = Netem::new(spec);
    let mut arrived = Vec::new();
    for number in 0..DATAGRAMS {
        let now = start + Duration::from_millis(number);
        netem.push(now, &number.to_be_bytes(), ());
        while let Some((datagram, ())) = netem.poll(now) {
            arrived.push((now, datagram));
        }
        assert!(netem.poll_timeout().is_none_or(|at| at > now));
    }
    let slowest =
        Duration::from_millis(DATAGRAMS) + SLOWEST + spec.queue + spec.delay + spec.jitter;
    while let Some(at) = netem.poll_timeout() {
        assert!(at <= start + slowest, "it is never that slow");
        arrived.extend(netem.poll(at).map(|(datagram, ())| (at, datagram)));
    }
    let counters = netem.counters();
    let left = counters.seen + counters.duplicated - counters.lost - counters.overflowed;
    assert_eq!((counters.seen, arrived.len() as u64), (DATAGRAMS, left), "{counters:?}");
    let is_damaged = |(_, bytes): &&(Instant, Vec<u8>)| bytes[..7] != [0; 7] || bytes[7] >= 64;
    let damaged = arrived.iter().filter(is_damaged).count() as u64;
    assert!(damaged <= counters.corrupted, "{damaged}: {counters:?}");
    arrived
}

const DATAGRAMS: u64 = 64;

const MINUTE: Duration = Duration::from_secs(60);

/// A bound on the delay besides the configured ones: the hold time of reordering, 8 ms for a
/// datagram of 8 bytes at 8 kbit/s, and a margin.
const SLOWEST: Duration = REORDER_HOLD.saturating_add(Duration::from_millis(110));
