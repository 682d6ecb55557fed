//! Schedules clock probes, and estimates the clock offset and the queueing delay from their
//! replies.

use std::time::{Duration, Instant};

use crate::net::{
    congestion::queue_delay::QueueDelay,
    path::clock_offset::{ClockOffset, LocalTime},
    time::MediaTime,
    wire::{
        control::Epoch,
        probe::{Probe, ProbeReply},
    },
};

/// Probes one peer: a few times in quick succession, then once a second, or more often while the
/// queue is measured. Probes also keep NAT mappings and stateful firewalls on the path open.
#[derive(Debug)]
pub(super) struct Prober {
    started: Instant,
    sent: u32,
    due: Instant,
    /// The mean interval between probes while the queue is measured.
    mean_interval: Option<Duration>,
    offset: ClockOffset,
    queue: QueueDelay,
}

impl Prober {
    /// A prober of a peer whose media epoch on our clock is `same_machine_epoch`, if known exactly.
    pub(super) fn new(now: Instant, same_machine_epoch: Option<Instant>) -> Self {
        let offset = same_machine_epoch.map_or_else(ClockOffset::default, ClockOffset::exact);
        let queue = QueueDelay::new(now);
        Self { started: now, sent: 0, due: now, mean_interval: None, offset, queue }
    }

    /// Sets the peer's exact media epoch on our clock.
    pub(super) fn set_same_machine_epoch(&mut self, epoch: Instant) {
        self.offset = ClockOffset::exact(epoch);
    }

    /// The probe that is due at `now`.
    pub(super) fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        if self.due > now {
            return None;
        }
        self.sent += 1;
        self.due = now + self.interval();
        Some(Probe { origin: now.saturating_duration_since(self.started).as_micros() as u64 })
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// Sets the mean probe interval to `mean`, with varied gaps, to measure the queue. `None`: once
    /// a second.
    pub(super) fn set_mean_interval(&mut self, now: Instant, mean: Option<Duration>) {
        self.mean_interval = mean;
        if mean.is_some() && self.sent >= QUICK_PROBES {
            self.due = self.due.min(now + self.interval());
        }
    }

    /// The queueing delay towards the peer, from the fastest probe since the last call.
    pub(super) fn take_queue(&mut self, now: Instant) -> Option<Duration> {
        self.queue.take(now)
    }

    fn interval(&self) -> Duration {
        match self.mean_interval {
            _ if self.sent < QUICK_PROBES => QUICK_INTERVAL,
            Some(mean) => mean.mul_f64(0.5 + (f64::from(self.sent) * GOLDEN).fract()),
            None => INTERVAL,
        }
    }

    /// Handles a reply. A reply whose origin is not recent is ignored.
    pub(super) fn handle_reply(&mut self, now: Instant, reply: &ProbeReply) {
        let sent = self.started.checked_add(Duration::from_micros(reply.origin));
        let Some(sent) = sent.filter(|&s| s <= now && now - s < REPLY_DEADLINE) else { return };
        self.offset.record(sent, reply.received, reply.sent, now);
        self.queue.record(now, sent, reply.received);
    }

    /// The peer's media time zero on our clock.
    pub(super) fn media_epoch(&self, now: Instant) -> Option<LocalTime> {
        self.offset.local(now, MediaTime::default())
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.offset.rtt()
    }
}

/// The instant of the peer's epoch on our clock, if the peer runs on this machine: the same boot
/// means the same monotonic clock. `ours` is our own epoch, at `our_epoch`.
pub fn boot_local_epoch(ours: Epoch, our_epoch: Instant, peer: Epoch) -> Option<Instant> {
    if ours.boot == 0 || ours.boot != peer.boot {
        return None;
    }
    if peer.monotonic_us >= ours.monotonic_us {
        our_epoch.checked_add(Duration::from_micros(peer.monotonic_us - ours.monotonic_us))
    } else {
        our_epoch.checked_sub(Duration::from_micros(ours.monotonic_us - peer.monotonic_us))
    }
}

const QUICK_PROBES: u32 = 8;
const QUICK_INTERVAL: Duration = Duration::from_millis(20);
const INTERVAL: Duration = Duration::from_secs(1);

/// The fractional part of the golden ratio: its multiples modulo 1 are evenly distributed and not
/// periodic.
const GOLDEN: f64 = 0.618_033_988_75;

/// A reply that took longer is useless and may be forged.
const REPLY_DEADLINE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_frequent_at_first_and_then_one_per_second() {
        let start = crate::clock::now();
        let mut prober = Prober::new(start, None);
        let mut times = Vec::new();
        for ms in 0..3000 {
            let now = start + Duration::from_millis(ms);
            if prober.poll_probe(now).is_some() {
                times.push(ms);
            }
            assert!(prober.poll_timeout() > now);
        }
        assert_eq!(times, [0, 20, 40, 60, 80, 100, 120, 140, 1140, 2140]);
    }

    #[test]
    fn queue_probes_are_sent_at_scattered_phases() {
        let start = crate::clock::now();
        let mut prober = Prober::new(start, None);
        let mut phases = [0; 8];
        for us in (0..10_000_000).step_by(100) {
            let now = start + Duration::from_micros(us);
            prober.set_mean_interval(now, (us >= 1_000_000).then_some(Duration::from_millis(8)));
            if prober.poll_probe(now).is_some() && us >= 1_000_000 {
                phases[(us % 33_333 / 4167) as usize] += 1;
            }
        }
        assert!(phases.iter().all(|&count| (120..160).contains(&count)), "{phases:?}");
    }

    #[test]
    fn stale_and_impossible_probe_replies_are_ignored() {
        let start = crate::clock::now();
        let mut prober = Prober::new(start, None);
        let later = start + Duration::from_secs(9);
        let reply = |origin| ProbeReply {
            origin,
            received: MediaTime::default(),
            sent: MediaTime::default(),
        };
        prober.handle_reply(later, &reply(0));
        prober.handle_reply(later, &reply(u64::MAX));
        assert_eq!(prober.rtt(), None);
        prober.handle_reply(later, &reply(8_999_000));
        assert_eq!(prober.rtt(), Some(Duration::from_millis(1)));
    }

    #[test]
    fn peers_of_one_boot_share_a_clock() {
        let now = crate::clock::now();
        let epoch = |boot, monotonic_us| Epoch { boot, monotonic_us };
        let local = |peer| boot_local_epoch(epoch(5, 1000), now, peer);
        assert_eq!(local(epoch(5, 1300)), Some(now + Duration::from_micros(300)));
        assert_eq!(local(epoch(5, 700)), now.checked_sub(Duration::from_micros(300)));
        assert_eq!(local(epoch(6, 1300)), None);
        assert_eq!(boot_local_epoch(epoch(0, 0), now, epoch(0, 0)), None, "unknown is not equal");
    }
}
