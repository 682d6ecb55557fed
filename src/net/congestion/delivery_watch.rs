//! Detects a receiver that answers but gets next to nothing of the stream.
//!
//! A path may pass reports and probes but no video: it carries only short datagrams, or loses
//! almost everything. Such a receiver must not lower the bitrate of the others. A receiver that is
//! silent is not judged here.

use std::time::{Duration, Instant};

/// Judges the delivery of one stream to one receiver.
#[derive(Clone, Debug, Default)]
pub struct DeliveryWatch {
    is_starved: bool,
    /// Whether a chunk was sent since the last window.
    has_sent: bool,
    /// When the window began: at the first reply or report after a chunk was sent.
    began: Option<Instant>,
    /// The last counts received, and those before the window.
    newest: DeliveryCounts,
    before: DeliveryCounts,
}

/// A receiver's counts since the stream began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Datagrams that arrived.
    pub received: u64,
    /// Datagrams that were lost.
    pub lost: u64,
    /// Frames that were completed. Wraps around.
    pub frames: u32,
}

impl DeliveryWatch {
    /// Whether next to nothing arrives: in the last window no frame was completed, and fewer than
    /// one datagram in ten arrived. Stays true until a frame is completed, or until the end of a
    /// window in which more arrive.
    pub fn is_starved(&self) -> bool {
        self.is_starved
    }

    /// Records that a chunk was sent.
    pub fn record_sent(&mut self) {
        self.has_sent = true;
    }

    /// Handles the reply to a probe.
    pub fn handle_probe_reply(&mut self, now: Instant) {
        if self.has_sent && self.began.is_none() {
            self.began = Some(now);
            self.before = self.newest;
        }
    }

    /// Handles the counts of a report.
    pub fn handle_report(&mut self, now: Instant, delivery: DeliveryCounts) {
        self.handle_probe_reply(now);
        self.is_starved &= delivery.frames == self.newest.frames;
        self.newest = delivery;
    }

    /// Ends the window, if it is over by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        (self.began, self.has_sent) = (None, false);
        let received = self.newest.received.saturating_sub(self.before.received);
        let lost = self.newest.lost.saturating_sub(self.before.lost);
        let arrives = received > 0 && received * SENT_PER_ARRIVAL >= received + lost;
        self.is_starved = self.newest.frames == self.before.frames && !arrives;
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.began? + WINDOW)
    }
}

/// Long enough for path MTU discovery, and for several rounds of rate control on a narrow path.
const WINDOW: Duration = Duration::from_secs(2);

/// One datagram in this many must arrive.
const SENT_PER_ARRIVAL: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends a chunk and reports `each` more, every 50 ms for `time`.
    fn run(watch: &mut DeliveryWatch, now: &mut Instant, time: Duration, each: DeliveryCounts) {
        let end = *now + time;
        while *now < end {
            watch.record_sent();
            let DeliveryCounts { received, lost, frames } = watch.newest;
            watch.handle_report(
                *now,
                DeliveryCounts {
                    received: received + each.received,
                    lost: lost + each.lost,
                    frames: frames.wrapping_add(each.frames),
                },
            );
            *now += 50 * MS;
            watch.handle_timeout(*now);
        }
    }

    #[test]
    fn a_receiver_is_starved_after_a_window_with_next_to_nothing() {
        let (mut watch, mut now) = (DeliveryWatch::default(), crate::clock::now());
        run(&mut watch, &mut now, 5 * WINDOW, DeliveryCounts { received: 20, lost: 0, frames: 1 });
        assert!(!watch.is_starved());
        let nothing = DeliveryCounts { received: 1, lost: 19, frames: 0 };
        run(&mut watch, &mut now, 1900 * MS, nothing);
        assert!(!watch.is_starved(), "a short outage");
        run(&mut watch, &mut now, WINDOW, nothing);
        assert!(watch.is_starved());
        run(&mut watch, &mut now, 50 * MS, DeliveryCounts { received: 5, lost: 15, frames: 1 });
        assert!(!watch.is_starved(), "a frame has arrived");
    }

    #[test]
    fn heavy_loss_is_not_starvation() {
        let (mut watch, mut now) = (DeliveryWatch::default(), crate::clock::now());
        run(&mut watch, &mut now, 3 * WINDOW, DeliveryCounts { received: 4, lost: 16, frames: 0 });
        assert!(!watch.is_starved(), "a fifth arrives");
        // One frame in a window, as on a very slow path.
        for frames in [0, 1] {
            let each = DeliveryCounts { received: 1, lost: 19, frames };
            run(&mut watch, &mut now, if frames == 1 { 50 * MS } else { 1900 * MS }, each);
        }
        assert!(!watch.is_starved(), "a frame arrives");
    }

    #[test]
    fn a_silent_receiver_is_not_judged_and_one_that_answers_probes_is() {
        let (mut watch, now) = (DeliveryWatch::default(), crate::clock::now());
        watch.handle_probe_reply(now);
        assert_eq!(watch.poll_timeout(), None, "nothing was sent");
        watch.record_sent();
        assert_eq!(watch.poll_timeout(), None, "silent");
        watch.handle_probe_reply(now);
        assert_eq!(watch.poll_timeout(), Some(now + WINDOW));
        watch.handle_timeout(now + 1999 * MS);
        assert!(!watch.is_starved());
        watch.handle_timeout(now + WINDOW);
        assert_eq!((watch.is_starved(), watch.poll_timeout()), (true, None));
    }

    #[test]
    fn the_first_report_after_a_frame_counts() {
        let (mut watch, mut now) = (DeliveryWatch::default(), crate::clock::now());
        for frames in 1..5 {
            watch.record_sent();
            watch.handle_report(
                now,
                DeliveryCounts { received: 20 * u64::from(frames), lost: 0, frames },
            );
            watch.handle_timeout(now + WINDOW);
            assert!(!watch.is_starved());
            now += 3 * WINDOW;
        }
    }
}
