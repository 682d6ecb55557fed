//! The send budget: a hard limit on all bytes sent to one peer.
//!
//! Pictures, parity, answers to NACKs, NACKs, probes and reports share one token bucket. It holds
//! [`BURST`] at its rate, or [`EVEN_BURST`] for a path with a short queue. Frames and answers can
//! be ahead of the path by that much and one datagram: a link of 300 kbit/s with a queue of 100 ms
//! has room for three datagrams.

use std::time::{Duration, Instant};

use super::{Allowance, GROUP_DATAGRAMS, ROUNDING};
use crate::net::units::{Bitrate, DataSize};

/// A token bucket of bytes. Frames and answers wait for tokens. The rest is small and is sent when
/// due, if need be as a debt for which frames and answers then wait.
#[derive(Clone, Debug)]
pub struct SendBudget {
    /// Bytes per second.
    rate: f64,
    /// Seconds of sending at the rate that may leave as one burst.
    burst: f64,
    datagram_len: usize,
    /// Bytes that may be sent as of `updated`; negative is debt.
    tokens: f64,
    updated: Instant,
}

impl SendBudget {
    /// Creates a full bucket that fills at `rate`, for datagrams of up to `datagram_len` bytes of
    /// UDP payload.
    pub fn new(now: Instant, rate: Bitrate, datagram_len: usize) -> Self {
        let rate = bytes_per_second(rate);
        let datagram_len = datagram_len.max(1);
        let burst = BURST.as_secs_f64();
        Self { rate, burst, datagram_len, tokens: rate * burst, updated: now }
    }

    /// Sets the rate. Debt stays. `is_even` limits bursts to one group, for a path with a short
    /// queue. Setting the current values again has no effect.
    pub fn set_limits(&mut self, now: Instant, rate: Bitrate, is_even: bool) {
        let rate = bytes_per_second(rate);
        let burst = if is_even { EVEN_BURST } else { BURST }.as_secs_f64();
        if (rate, burst) != (self.rate, self.burst) {
            self.settle(now);
            (self.rate, self.burst) = (rate, burst);
            self.tokens = self.tokens.min(self.burst_len());
        }
    }

    /// Sets the maximum datagram length, in bytes of UDP payload.
    pub fn set_datagram_len(&mut self, datagram_len: usize) {
        self.datagram_len = datagram_len.max(1);
    }

    /// How many of `waiting` datagrams may be sent at `now`, and if none, when. Has no side effect.
    /// The last datagram may go into debt, so that none waits for a whole datagram's tokens.
    pub fn poll(&self, now: Instant, waiting: usize) -> Allowance {
        if waiting == 0 {
            return Allowance { datagrams: 0, next: None };
        }
        let tokens = self.tokens_at(now);
        let needed = ((self.group_datagrams().min(waiting) - 1) * self.datagram_len) as f64;
        if tokens + ROUNDING < needed {
            let wait = Duration::from_secs_f64((needed - self.tokens) / self.rate);
            let next = Some((self.updated + wait).max(now) + Duration::from_nanos(1));
            return Allowance { datagrams: 0, next };
        }
        let affordable = 1 + ((tokens + ROUNDING) / self.datagram_len as f64) as usize;
        Allowance { datagrams: affordable.min(waiting), next: None }
    }

    /// Records that `size` of UDP payload of any kind was sent at `now`.
    pub fn record_sent(&mut self, now: Instant, size: DataSize) {
        self.settle(now);
        let most_debt = -self.rate * MAX_DEBT.as_secs_f64();
        self.tokens = (self.tokens - size.bytes() as f64).max(most_debt);
    }

    fn settle(&mut self, now: Instant) {
        self.tokens = self.tokens_at(now);
        self.updated = self.updated.max(now);
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        let earned = now.saturating_duration_since(self.updated).as_secs_f64() * self.rate;
        (self.tokens + earned).min(self.burst_len())
    }

    fn burst_len(&self) -> f64 {
        self.rate * self.burst
    }

    /// The number of datagrams worth a wake-up.
    fn group_datagrams(&self) -> usize {
        let group = self.rate * GROUP_TIME.as_secs_f64() / self.datagram_len as f64;
        (group as usize).clamp(1, GROUP_DATAGRAMS)
    }
}

/// Never zero, so that every wait ends.
fn bytes_per_second(rate: Bitrate) -> f64 {
    rate.max(Bitrate::from_bps(1)).bytes_per_second()
}

/// The burst after a pause, as time at the budget's rate. It exceeds the frame interval at 30 per
/// second, so a frame that fills its interval does not wait for the budget.
const BURST: Duration = Duration::from_millis(40);

/// The burst on a path with a short queue: one group.
const EVEN_BURST: Duration = GROUP_TIME;

/// The maximum debt, as time at the budget's rate. More is forgiven, so that one long probe does
/// not stop a slow stream.
const MAX_DEBT: Duration = Duration::from_secs(1);

/// Datagrams wait until a group of this much time at the budget's rate may leave: at least one
/// datagram, at most [`GROUP_DATAGRAMS`].
const GROUP_TIME: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEN: usize = 1200;
    const MS: Duration = Duration::from_millis(1);

    fn datagrams(count: usize) -> DataSize {
        DataSize::from_len(count * LEN)
    }

    #[test]
    fn a_low_rate_sends_one_or_two_datagrams_at_a_time() {
        let start = crate::clock::now();
        let mut budget = SendBudget::new(start, Bitrate::from_kbps(300), LEN);
        let (mut now, mut sent) = (start, 0);
        while now < start + 1000 * MS {
            let allowance = budget.poll(now, 50);
            now = allowance.next.unwrap_or(now);
            budget.record_sent(now, datagrams(allowance.datagrams));
            sent += allowance.datagrams;
            assert!(allowance.datagrams <= 2);
        }
        assert!((31..=34).contains(&sent), "{sent} datagrams in a second");
    }

    #[test]
    fn other_traffic_is_charged_to_the_send_budget() {
        let start = crate::clock::now();
        let mut budget = SendBudget::new(start, Bitrate::from_kbps(800), LEN);
        budget.record_sent(start, DataSize::from_len(10_000));
        let next = budget.poll(start, 1).next.expect("in debt");
        assert!((next - start).abs_diff(60 * MS) < MS, "{:?}", next - start);
    }

    #[test]
    fn debt_is_capped() {
        let start = crate::clock::now();
        let mut budget = SendBudget::new(start, Bitrate::from_kbps(80), LEN);
        budget.record_sent(start, DataSize::from_len(1 << 20));
        assert_eq!(budget.poll(start + MAX_DEBT + MS, 9).datagrams, 1);
    }

    #[test]
    fn even_spacing_prevents_bursts_and_never_stalls() {
        let start = crate::clock::now();
        for rate in [100, 1000, 12_000, 900_000].map(Bitrate::from_kbps) {
            let mut budget = SendBudget::new(start, rate, LEN);
            budget.set_limits(start, rate, true);
            let now = start + MAX_DEBT;
            let most = 1 + (rate * EVEN_BURST).bytes() as usize / LEN;
            let first = budget.poll(now, 1000).datagrams;
            assert!((1..=most).contains(&first), "{first} of {most} at {rate}");
            budget.record_sent(now, datagrams(first));
            let next = budget.poll(now, 1000).next.unwrap_or(now);
            assert!(budget.poll(next, 1000).datagrams > 0, "{rate}");
        }
    }

    proptest! {
        #[test]
        fn no_window_exceeds_one_burst_plus_one_datagram_plus_the_rate(
            steps in proptest::collection::vec((0_u64..50_000, 0_usize..120), 1..200),
            rate in 50_000_u64..200_000_000,
        ) {
            let start = crate::clock::now();
            let mut budget = SendBudget::new(start, Bitrate::from_bps(rate), LEN);
            let (mut now, mut sent) = (start, Vec::new());
            for (us, waiting) in steps {
                now += Duration::from_micros(us);
                let asked = budget.poll(now, waiting);
                prop_assert_eq!(asked, budget.poll(now, waiting), "polling changes nothing");
                prop_assert!(asked.next.is_none_or(|at| at > now));
                prop_assert_eq!(asked.datagrams == 0 && waiting > 0, asked.next.is_some());
                if let Some(next) = asked.next {
                    prop_assert!(budget.poll(next, waiting).datagrams > 0);
                }
                if asked.datagrams > 0 {
                    budget.record_sent(now, datagrams(asked.datagrams));
                    sent.push((now, asked.datagrams * LEN));
                }
            }
            let burst = rate as f64 / 8.0 * BURST.as_secs_f64() + LEN as f64;
            for (i, &(from, _)) in sent.iter().enumerate() {
                let mut bytes = 0;
                for &(at, len) in &sent[i..] {
                    bytes += len;
                    let earned = (at - from).as_secs_f64() * rate as f64 / 8.0;
                    prop_assert!(bytes as f64 <= burst + earned + 1.0);
                }
            }
        }
    }
}
