//! A seeded network emulator, for `--netem` and the simulation tests.
//!
//! Each datagram is subject to, in this order: a rate limit (a bottleneck with a bounded queue),
//! loss (independent, or in bursts by the Gilbert–Elliott model), duplication, corruption, delay
//! with jitter, and reordering. The same seed and input give the same output.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    str::FromStr,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use thiserror::Error;

use super::units::{Bitrate, DataSize};

/// The impairments. By default there are none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetemSpec {
    /// Share of datagrams lost, 0 to 1.
    pub loss: f64,
    /// Mean length of a run of losses, in datagrams; 1 is independent loss.
    pub burst: f64,
    /// Delay of every datagram.
    pub delay: Duration,
    /// Additional delay, uniform between zero and this, without reordering.
    pub jitter: Duration,
    /// Share of datagrams held back by up to [`REORDER_HOLD`], so that later ones overtake them.
    pub reorder: f64,
    /// Share of datagrams that arrive twice.
    pub duplicate: f64,
    /// Share of datagrams in which one bit is flipped.
    pub corrupt: f64,
    /// Rate of the bottleneck, of UDP payload; `None` is unlimited.
    pub rate: Option<Bitrate>,
    /// Maximum wait of a datagram at the bottleneck; one that would wait longer is dropped.
    pub queue: Duration,
    /// Seed of the random numbers.
    pub seed: u64,
}

/// One direction of an emulated network. Each datagram carries a tag of type `T`, such as its
/// address.
#[derive(Debug)]
pub struct Netem<T> {
    spec: NetemSpec,
    rng: Pcg64Mcg,
    in_burst: bool,
    bottleneck_free: Option<Instant>,
    last_due: Option<Instant>,
    last_order: u64,
    in_flight: BinaryHeap<Reverse<InFlight<T>>>,
    counters: NetemCounters,
}

/// Counts of datagrams by what happened to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetemCounters {
    /// Datagrams pushed.
    pub seen: u64,
    /// Lost at random.
    pub lost: u64,
    /// Dropped because the bottleneck's queue was full.
    pub overflowed: u64,
    /// Duplicated.
    pub duplicated: u64,
    /// Corrupted.
    pub corrupted: u64,
    /// Held back.
    pub reordered: u64,
}

impl<T: Clone> Netem<T> {
    /// Creates a network with these impairments.
    pub fn new(spec: NetemSpec) -> Self {
        Self {
            spec,
            rng: Pcg64Mcg::seed_from_u64(spec.seed),
            in_burst: false,
            bottleneck_free: None,
            last_due: None,
            last_order: 0,
            in_flight: BinaryHeap::new(),
            counters: NetemCounters::default(),
        }
    }

    /// Sets the bottleneck's rate. Datagrams already queued leave at the old rate.
    #[cfg(any(test, feature = "internals"))]
    pub fn set_rate(&mut self, rate: Option<Bitrate>) {
        self.spec.rate = rate;
    }

    /// Sends one datagram at `now`.
    pub fn push(&mut self, now: Instant, datagram: &[u8], tag: T) {
        self.counters.seen += 1;
        let Some(through) = self.pass_bottleneck(now, datagram.len()) else {
            self.counters.overflowed += 1;
            return;
        };
        if self.is_lost() {
            self.counters.lost += 1;
            return;
        }
        let mut datagram = datagram.to_vec();
        if self.chance(self.spec.duplicate) {
            self.counters.duplicated += 1;
            self.deliver(through, datagram.clone(), tag.clone());
        }
        if self.chance(self.spec.corrupt) && !datagram.is_empty() {
            self.counters.corrupted += 1;
            let bit = self.rng.random_range(0..datagram.len() * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        self.deliver(through, datagram, tag);
    }

    /// The next datagram that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<(Vec<u8>, T)> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.in_flight.pop().map(|Reverse(o)| (o.datagram, o.tag))
    }

    /// When the next datagram arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse(o)| o.due)
    }

    /// Counts so far.
    pub fn counters(&self) -> NetemCounters {
        self.counters
    }

    /// When a datagram that reaches the bottleneck at `now` has passed it; `None` if the queue is
    /// full.
    fn pass_bottleneck(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let Some(rate) = self.spec.rate else { return Some(now) };
        let starts = self.bottleneck_free.map_or(now, |free| free.max(now));
        if starts - now > self.spec.queue {
            return None;
        }
        let through = starts + DataSize::from_len(len) / rate;
        self.bottleneck_free = Some(through);
        Some(through)
    }

    /// Draws whether the next datagram is lost. The model has two states, one of which loses
    /// everything; the transition probabilities follow from the loss ratio and the mean burst
    /// length (Gilbert 1960).
    fn is_lost(&mut self) -> bool {
        let NetemSpec { loss, burst, .. } = self.spec;
        if burst <= 1.0 || loss >= 1.0 {
            return self.chance(loss);
        }
        let flips = if self.in_burst { 1.0 / burst } else { loss / (burst * (1.0 - loss)) };
        if self.chance(flips) {
            self.in_burst = !self.in_burst;
        }
        self.in_burst
    }

    fn deliver(&mut self, from: Instant, datagram: Vec<u8>, tag: T) {
        let jitter = self.spec.jitter.mul_f64(self.rng.random::<f64>());
        let mut due = from + self.spec.delay + jitter;
        if let Some(last) = self.last_due {
            due = due.max(last);
        }
        self.last_due = Some(due);
        if self.chance(self.spec.reorder) {
            self.counters.reordered += 1;
            due += REORDER_HOLD.mul_f64(self.rng.random::<f64>());
        }
        self.last_order += 1;
        self.in_flight.push(Reverse(InFlight { due, order: self.last_order, datagram, tag }));
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random::<f64>() < probability
    }
}

#[derive(Debug)]
struct InFlight<T> {
    due: Instant,
    order: u64,
    datagram: Vec<u8>,
    tag: T,
}

impl<T> InFlight<T> {
    fn key(&self) -> (Instant, u64) {
        (self.due, self.order)
    }
}

impl<T> PartialEq for InFlight<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for InFlight<T> {}

impl<T> PartialOrd for InFlight<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for InFlight<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Default for NetemSpec {
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst: 1.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            rate: None,
            queue: DEFAULT_QUEUE,
            seed: 1,
        }
    }
}

/// An error in an emulator specification.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NetemError {
    /// Not a known `key=value`.
    #[error(
        "unknown setting '{0}'; expected one of loss=2%, burst=4, delay=5ms, jitter=2ms, reorder=1%, \
         duplicate=1%, corrupt=0.1%, rate=20mbit, queue=20ms, seed=7"
    )]
    UnknownKey(String),
    /// A value that the key does not accept.
    #[error("invalid value '{value}' for {key}: expected {takes}")]
    Value {
        /// The key.
        key: &'static str,
        /// The given value.
        value: String,
        /// What the key accepts.
        takes: &'static str,
    },
}

impl FromStr for NetemSpec {
    type Err = NetemError;

    /// Parses `loss=2%,burst=4,delay=5ms,…`; other keys keep their defaults.
    fn from_str(text: &str) -> Result<Self, NetemError> {
        let mut spec = Self::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            spec.set(part)?;
        }
        Ok(spec)
    }
}

impl NetemSpec {
    fn set(&mut self, part: &str) -> Result<(), NetemError> {
        let unknown = || NetemError::UnknownKey(part.to_owned());
        let (key, value) = part.split_once('=').ok_or_else(unknown)?;
        let wrong = |key, takes| NetemError::Value { key, value: value.to_owned(), takes };
        let share = |key| share(value).ok_or(wrong(key, "a percentage such as 1.5%, at most 100%"));
        let time =
            |key| time(value).ok_or(wrong(key, "a time such as 500us, 5ms or 1s, at most 60s"));
        match key.trim() {
            "loss" => self.loss = share("loss")?,
            "burst" => {
                self.burst = burst(value).ok_or(wrong("burst", "a number from 1 to 1000"))?;
            }
            "delay" => self.delay = time("delay")?,
            "jitter" => self.jitter = time("jitter")?,
            "reorder" => self.reorder = share("reorder")?,
            "duplicate" => self.duplicate = share("duplicate")?,
            "corrupt" => self.corrupt = share("corrupt")?,
            "rate" => {
                let takes = "a rate such as 500kbit, 20mbit or 1gbit, at least 8kbit";
                self.rate = Some(rate(value).ok_or(wrong("rate", takes))?);
            }
            "queue" => self.queue = time("queue")?,
            "seed" => {
                let seed = value.trim().parse();
                self.seed = seed.map_err(|_| wrong("seed", "a whole number"))?;
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

fn share(text: &str) -> Option<f64> {
    let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn burst(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|b| (1.0..=1000.0).contains(b))
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = number * [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)].iter().find(|u| u.0 == unit)?.1;
    (0.0..=60.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Option<Bitrate> {
    let (number, unit) = split_unit(text)?;
    let units = [("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];
    let bits = number * units.iter().find(|u| u.0 == unit)?.1;
    (8e3..=1e12).contains(&bits).then(|| Bitrate::from_f64(bits))
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    Some((text[..unit_at].trim().parse().ok()?, &text[unit_at..]))
}

/// The maximum time for which a reordered datagram is held back.
pub const REORDER_HOLD: Duration = Duration::from_millis(3);

/// A moderate queue: those of home routers range from 20 ms to seconds (bufferbloat).
const DEFAULT_QUEUE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn run(spec: &str, datagrams: u32, gap: Duration) -> (Vec<(u32, Vec<u8>)>, NetemCounters) {
        let mut netem = Netem::new(spec.parse().unwrap());
        let (start, mut out) = (crate::clock::now(), Vec::new());
        for i in 0..datagrams {
            let now = start + gap * i;
            while let Some((bytes, i)) = netem.poll(now) {
                out.push((i, bytes));
            }
            netem.push(now, &[0; 100], i);
        }
        let end = start + gap * datagrams + Duration::from_secs(60);
        out.extend(std::iter::from_fn(|| netem.poll(end)).map(|(b, i)| (i, b)));
        (out, netem.counters())
    }

    const GAP: Duration = Duration::from_micros(300);

    #[test]
    fn the_default_passes_everything_at_once_and_in_order() {
        let mut netem = Netem::new(NetemSpec::default());
        let now = crate::clock::now();
        for i in 0..10 {
            netem.push(now, &[i], i);
        }
        for i in 0..10 {
            assert_eq!(netem.poll(now), Some((vec![i], i)));
        }
        assert_eq!((netem.poll(now), netem.poll_timeout()), (None, None));
    }

    #[test]
    fn loss_and_bursts_match_the_specification() {
        for (spec, burst) in [("loss=5%", 1.05), ("loss=5%,burst=8", 8.0)] {
            let (out, counters) = run(spec, 200_000, GAP);
            let lost = counters.lost as f64 / 200_000.0;
            assert!((0.045..0.055).contains(&lost), "{spec}: {lost}");
            let runs = out.windows(2).filter(|w| w[1].0 != w[0].0 + 1).count();
            let mean = counters.lost as f64 / runs as f64;
            assert!((mean / burst - 1.0).abs() < 0.15, "{spec}: mean burst {mean}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_traces() {
        let spec = "loss=3%,jitter=2ms,reorder=2%,duplicate=1%,corrupt=1%,seed=";
        let trace = |seed: u64| run(&format!("{spec}{seed}"), 5000, GAP).0;
        assert_eq!(trace(7), trace(7));
        assert_ne!(trace(7), trace(8));
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let in_order = |spec| {
            let (out, _) = run(spec, 5000, GAP);
            out.windows(2).all(|w| w[0].0 < w[1].0)
        };
        assert!(in_order("delay=5ms,jitter=20ms"));
        assert!(!in_order("reorder=5%"));
    }

    #[test]
    fn corruption_flips_one_bit() {
        let (out, counters) = run("corrupt=10%", 5000, GAP);
        let flipped =
            out.iter().filter(|(_, b)| b.iter().map(|x| x.count_ones()).sum::<u32>() == 1);
        assert_eq!(flipped.count() as u64, counters.corrupted);
        assert!(counters.corrupted > 300);
    }

    #[test]
    fn the_bottleneck_delays_and_then_drops() {
        let mut netem = Netem::new("rate=1mbit".parse().unwrap());
        let now = crate::clock::now();
        for i in 0..100 {
            netem.push(now, &[0; 1250], i);
        }
        assert_eq!(netem.poll_timeout(), Some(now + Duration::from_millis(10)));
        assert_eq!(netem.counters().overflowed, 100 - 11);
        let mut short = Netem::new("rate=1mbit,queue=20ms".parse().unwrap());
        (0..100).for_each(|i| short.push(now, &[0; 1250], i));
        assert_eq!(short.counters().overflowed, 100 - 3);
    }

    #[test]
    fn a_full_specification_parses() {
        let spec = "loss=2%,burst=4,delay=5ms,jitter=2ms,reorder=1%,duplicate=1%,corrupt=0.1%,rate=20mbit,queue=30ms,seed=7";
        let expected = NetemSpec {
            loss: 0.02,
            burst: 4.0,
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(2),
            reorder: 0.01,
            duplicate: 0.01,
            corrupt: 0.001,
            rate: Some(Bitrate::from_mbps(20)),
            queue: Duration::from_millis(30),
            seed: 7,
        };
        assert_eq!(spec.parse(), Ok(expected));
    }

    #[test]
    fn parse_errors_name_the_faulty_part() {
        for (spec, named) in [
            ("los=2%", "unknown setting 'los=2%'; expected one of loss"),
            ("loss", "unknown setting 'loss'"),
            ("loss=2", "invalid value '2' for loss: expected a percentage"),
            ("loss=101%", "101%"),
            ("delay=5", "expected a time"),
            ("delay=-5ms", "expected a time"),
            ("delay=NaNms", "expected a time"),
            ("rate=fast", "expected a rate"),
            ("rate=0mbit", "expected a rate"),
            ("burst=0", "from 1 to 1000"),
            ("seed=x", "a whole number"),
        ] {
            let message = spec.parse::<NetemSpec>().unwrap_err().to_string();
            assert!(message.contains(named), "{spec}: {message}");
        }
    }
}
