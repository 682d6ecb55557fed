//! Chooses how many parity chunks the next frame gets.
//!
//! If losses are independent, the number of lost chunks among a block's source and parity chunks is
//! binomial. The count is the smallest with which at most one frame in 100 loses more chunks than
//! it has parity chunks; a NACK then repairs that frame. When NACKs cannot help, the target is one
//! frame in 1000. The minimum is 2, or 0 after ten seconds without loss. For 98 chunks:
//!
//! | loss ratio | parity | frames that need a NACK | overhead with headers |
//! |---|---|---|---|
//! | 0.1 % | 2 | 0.02 % | 5.6 % |
//! | 1 % | 4 | 0.4 % | 7.7 % |
//! | 5 % | 11 | 0.8 % | 15.1 % |
//! | 10 % | 20 | 0.7 % | 24.6 % |
//!
//! Bursts are left to NACKs; parity is raised to cover only short ones. While too many frames need
//! NACKs, the target is ten times as strict. When reports stop, NACKs do not arrive either, so
//! parity covers longer bursts too. The count changes between frames only.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::{
    framing::fec::Blocks,
    windowed_max::WindowedMax,
    wire::report::{FrameCounts, Report},
};

/// How parity is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FecMode {
    /// According to receiver reports; [`UNREPORTED_PERCENT`] before the first one.
    #[default]
    Auto,
    /// This many parity chunks per 100 source chunks, rounded down, but at least one per block;
    /// none at 0.
    Percent(u8),
    /// None.
    Off,
}

/// Chooses the parity of each frame of one stream to one receiver.
#[derive(Clone, Debug)]
pub struct ParityControl {
    mode: FecMode,
    /// Reports, oldest first.
    reports: VecDeque<(Instant, Totals)>,
    started: Option<Instant>,
    /// Datagrams lost to a full queue. More parity would only lengthen the queue.
    overflowed: u64,
    lost_before: u64,
    last_loss: Option<Instant>,
    /// The longest burst in each of the last [`SHORT`] reports.
    recent_bursts: VecDeque<u16>,
    /// The maximum burst of the last ten to twenty seconds.
    longest_burst: WindowedMax<u16>,
    nacks_help: bool,
}

#[derive(Clone, Copy, Debug)]
struct Totals {
    received: u64,
    lost: u64,
    frames: FrameCounts,
}

impl ParityControl {
    /// Creates a controller without reports.
    pub fn new(mode: FecMode) -> Self {
        Self {
            mode,
            reports: VecDeque::with_capacity(REPORTS),
            started: None,
            overflowed: 0,
            lost_before: 0,
            last_loss: None,
            recent_bursts: VecDeque::with_capacity(SHORT),
            longest_burst: WindowedMax::new(QUIET),
            nacks_help: false,
        }
    }

    /// Sets whether the answer to a NACK can arrive before the frame is superseded: the round trip
    /// is known and shorter than a frame interval.
    pub fn set_nacks_help(&mut self, helps: bool) {
        self.nacks_help = helps;
    }

    /// Handles a report; one that is not newer than the last is ignored. Losses since the last
    /// report do not raise parity if `is_congested`.
    pub fn handle_report(&mut self, now: Instant, report: &Report, is_congested: bool) {
        if self.reports.back().is_some_and(|(_, last)| report.received <= last.received) {
            return;
        }
        if is_congested {
            self.overflowed += report.lost.saturating_sub(self.lost_before);
        }
        self.lost_before = report.lost;
        let lost = report.lost.saturating_sub(self.overflowed);
        let totals = Totals { received: report.received, lost, frames: report.frames };
        let burst = if is_congested { 0 } else { report.largest_burst };
        if let Some((_, last)) = self.reports.back() {
            if totals.lost > last.lost {
                self.last_loss = Some(now);
            }
        } else if totals.lost > 0 {
            self.last_loss = Some(now);
        }
        self.started.get_or_insert(now);
        push(&mut self.reports, REPORTS, (now, totals));
        push(&mut self.recent_bursts, SHORT, burst);
        self.longest_burst.record(now, burst);
    }

    /// The number of parity chunks for a frame of `source_chunks` at `now`, at most
    /// [`Blocks::parity_capacity`].
    pub fn parity_for(&self, now: Instant, source_chunks: u16) -> u16 {
        let blocks = Blocks::of(source_chunks);
        let wanted = match self.mode {
            FecMode::Off => 0,
            FecMode::Percent(percent) => by_percent(blocks, source_chunks, percent),
            FecMode::Auto if self.started.is_none() => {
                by_percent(blocks, source_chunks, UNREPORTED_PERCENT)
            }
            FecMode::Auto => self.by_reports(now, blocks),
        };
        wanted.min(blocks.parity_capacity())
    }

    /// The loss ratio that parity is chosen for: over the last half second or the last two seconds,
    /// whichever is higher.
    pub fn loss_ratio(&self) -> f64 {
        self.loss_over(SHORT).max(self.loss_over(REPORTS))
    }

    fn by_reports(&self, now: Instant, blocks: Blocks) -> u16 {
        let quiet = match (self.last_loss, self.started) {
            (Some(lost), _) => now.saturating_duration_since(lost) >= QUIET,
            (None, Some(started)) => now.saturating_duration_since(started) >= QUIET_START,
            (None, None) => false,
        };
        if quiet {
            return 0;
        }
        let tolerated = if self.nacks_help { NACKED_FRAMES } else { LOST_FRAMES };
        let strictness = if self.is_exceeding_target() { STRICTER } else { 1.0 };
        let target = tolerated * strictness / f64::from(blocks.count());
        let each =
            parity_against(blocks.source_in(0), self.loss_ratio(), target, blocks.capacity());
        let burst = if self.is_unreported(now) {
            self.longest_burst.max(now).unwrap_or(0)
        } else {
            self.recent_bursts.iter().copied().max().unwrap_or(0).min(COVERED_BURST)
        };
        (each * blocks.count()).max(burst).max(FLOOR)
    }

    /// Whether reports are overdue, so that NACKs probably do not arrive either.
    fn is_unreported(&self, now: Instant) -> bool {
        let heard = self.reports.back().map(|(at, _)| *at);
        heard.is_some_and(|heard| now.saturating_duration_since(heard) >= OVERDUE)
    }

    fn loss_over(&self, reports: usize) -> f64 {
        let Some((then, now)) = self.span(reports) else { return 0.0 };
        let lost = now.lost.saturating_sub(then.lost) as f64;
        let received = now.received.saturating_sub(then.received) as f64;
        if lost + received > 0.0 { lost / (lost + received) } else { 0.0 }
    }

    /// Whether more frames than expected needed a NACK or stayed incomplete.
    fn is_exceeding_target(&self) -> bool {
        let Some((then, now)) = self.span(REPORTS) else { return false };
        let since = |count: fn(&FrameCounts) -> u32| {
            f64::from(count(&now.frames).wrapping_sub(count(&then.frames)))
        };
        let fec_failures = since(|f| f.repaired_by_nack) + since(|f| f.incomplete);
        let all = since(|f| f.completed) + since(|f| f.incomplete);
        fec_failures > MIN_FEC_FAILURES && fec_failures > all * MAX_FEC_FAILURES
    }

    /// The totals `reports` reports ago, or the oldest kept, and the newest.
    fn span(&self, reports: usize) -> Option<(Totals, Totals)> {
        let (_, now) = self.reports.back()?;
        let (_, then) = self.reports.get(self.reports.len().saturating_sub(reports + 1))?;
        Some((*then, *now))
    }
}

/// The smallest parity with which at most the share `target` of blocks of `source_chunks` lose more
/// chunks than they have parity chunks, when each chunk is lost with probability `loss`; `most` if
/// nothing below it suffices.
pub fn parity_against(source_chunks: u16, loss: f64, target: f64, most: u16) -> u16 {
    (0..most).find(|&parity| tail(source_chunks + parity, loss, parity) <= target).unwrap_or(most)
}

/// The probability that more than `more_than` of `count` are lost: 1 minus the binomial terms up to
/// it.
fn tail(count: u16, loss: f64, more_than: u16) -> f64 {
    let odds = loss / (1.0 - loss).max(f64::MIN_POSITIVE);
    let mut term = (1.0 - loss).powi(count.into());
    let mut sum = term;
    for lost in 1..=more_than.min(count) {
        term *= odds * f64::from(count - lost + 1) / f64::from(lost);
        sum += term;
    }
    1.0 - sum
}

fn by_percent(blocks: Blocks, source_chunks: u16, percent: u8) -> u16 {
    if percent == 0 {
        return 0;
    }
    let share = u32::from(source_chunks) * u32::from(percent) / 100;
    (share as u16).max(blocks.count())
}

fn push<T>(queue: &mut VecDeque<T>, limit: usize, item: T) {
    if queue.len() == limit {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// The percentage of `Auto` before the first report. A frame of 98 chunks gets 9, which leaves 1
/// frame in 10,000 broken at 2 % loss.
pub const UNREPORTED_PERCENT: u8 = 10;

/// The minimum parity of a frame while there is loss.
const FLOOR: u16 = 2;

/// Share of frames that may need a NACK.
const NACKED_FRAMES: f64 = 0.01;

/// Share of frames that may be lost when NACKs cannot help.
const LOST_FRAMES: f64 = 0.001;

/// Factor on both while too many frames need NACKs.
const STRICTER: f64 = 0.1;

/// Share of frames above which too many needed a NACK or stayed incomplete.
const MAX_FEC_FAILURES: f64 = 0.03;

/// Up to this many frames are never too many, whatever their share.
const MIN_FEC_FAILURES: f64 = 2.0;

/// The longest burst that raises parity. Against a longer one, parity would cost more than NACKs.
const COVERED_BURST: u16 = 6;

/// After this time without a report, the return path counts as cut: two reports were due.
const OVERDUE: Duration = Duration::from_millis(120);

/// After this time without loss, there is no parity.
const QUIET: Duration = Duration::from_secs(10);

/// The same before the first loss, from the first report on.
const QUIET_START: Duration = Duration::from_secs(1);

/// Reports kept: two seconds.
const REPORTS: usize = 40;

/// Reports in the short window: half a second.
const SHORT: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    const SOURCE: u16 = 98;
    const FRAMES: u32 = 1800;

    /// Decides which datagrams of a path are lost.
    struct Loss {
        rng: Pcg64Mcg,
        ratio: f64,
        mean_burst: f64,
        in_burst: bool,
    }

    impl Loss {
        /// Independent loss if the mean burst is 1, otherwise the Gilbert model.
        fn loses(&mut self) -> bool {
            if self.mean_burst <= 1.0 {
                return self.rng.random::<f64>() < self.ratio;
            }
            let leave = 1.0 / self.mean_burst;
            let enter = leave * self.ratio / (1.0 - self.ratio);
            let change = if self.in_burst { leave } else { enter };
            self.in_burst ^= self.rng.random::<f64>() < change;
            self.in_burst
        }
    }

    /// The result of a minute.
    struct Outcome {
        delivered: f64,
        overhead: f64,
    }

    /// One direction of a path, and its receiver's report.
    struct Path {
        loss: Loss,
        report: Report,
        burst: u16,
        /// The maximum bursts of the latest frames.
        bursts: VecDeque<u16>,
    }

    impl Path {
        fn new(ratio: f64, mean_burst: f64, seed: u64) -> Self {
            let rng = Pcg64Mcg::seed_from_u64(seed);
            let loss = Loss { rng, ratio, mean_burst, in_burst: false };
            Self { loss, report: Report::default(), burst: 0, bursts: VecDeque::new() }
        }

        /// Sends `count` datagrams; returns how many arrive.
        fn send(&mut self, count: u64) -> u64 {
            let before = self.report.received;
            for _ in 0..count {
                let lost = self.loss.loses();
                self.burst = if lost { self.burst + 1 } else { 0 };
                self.report.largest_burst = self.report.largest_burst.max(self.burst);
                self.report.lost += u64::from(lost);
                self.report.received += u64::from(!lost);
            }
            self.report.received - before
        }

        /// How many chunks the receiver requests beyond `needed`.
        fn margin(&self, needed: u64) -> u64 {
            let ratio = self.loss.ratio;
            let random = (needed as f64 * ratio * 2.0).round() as u64 + u64::from(ratio >= 0.02);
            let burst = self.bursts.iter().copied().max().unwrap_or(0).max(self.burst);
            if self.burst > 0 { random + u64::from(burst * 3 / 2).min(48) } else { random }
        }
    }

    /// A minute of frames of 98 chunks, with a report every other frame, and up to `rounds` NACKs
    /// per frame.
    fn minute(mode: FecMode, ratio: f64, mean_burst: f64, rounds: u32, seed: u64) -> Outcome {
        let (mut there, mut back) =
            (Path::new(ratio, mean_burst, seed), Path::new(ratio, mean_burst, !seed));
        let mut parity_control = ParityControl::new(mode);
        parity_control.set_nacks_help(rounds > 0);
        let start = crate::clock::now();
        let (mut sent, mut delivered) = (0, 0);
        for i in 0..FRAMES {
            let now = start + Duration::from_millis(33) * i;
            let parity = parity_control.parity_for(now, SOURCE);
            let mut burst = u64::from(SOURCE + parity);
            let mut needed = u64::from(SOURCE);
            needed -= needed.min(there.send(burst));
            let asked = needed > 0;
            sent += burst;
            for _ in 0..rounds {
                // The NACK itself may be lost.
                if needed > 0 && back.send(1) == 1 {
                    burst = needed + there.margin(needed);
                    needed -= needed.min(there.send(burst));
                    sent += burst;
                }
            }
            delivered += u64::from(needed == 0);
            let frames = &mut there.report.frames;
            frames.completed += u32::from(needed == 0);
            frames.repaired_by_nack += u32::from(asked && needed == 0);
            frames.incomplete += u32::from(needed > 0);
            push(&mut there.bursts, 60, there.report.largest_burst);
            if i % 2 == 1 && rounds > 0 && back.send(1) == 1 {
                parity_control.handle_report(now, &there.report, false);
                there.report.largest_burst = 0;
            }
        }
        Outcome {
            delivered: delivered as f64 / f64::from(FRAMES),
            overhead: sent as f64 * 1200.0 / (f64::from(FRAMES) * 113_676.0) - 1.0,
        }
    }

    #[track_caller]
    fn assert_holds(
        mode: FecMode,
        (ratio, burst, rounds): (f64, f64, u32),
        delivered: f64,
        overhead: f64,
    ) {
        for seed in 1..5 {
            let outcome = minute(mode, ratio, burst, rounds, seed);
            let (is, costs) = (outcome.delivered, outcome.overhead);
            assert!(is >= delivered && costs <= overhead, "seed {seed}: {is:.5} at {costs:.4}");
        }
    }

    #[test]
    fn random_loss_is_recovered_within_the_overhead_limit() {
        assert_holds(FecMode::Auto, (0.0, 1.0, 2), 1.0, 0.04);
        assert_holds(FecMode::Auto, (0.001, 1.0, 2), 0.9999, 0.06);
        assert_holds(FecMode::Auto, (0.01, 1.0, 2), 0.9995, 0.10);
        assert_holds(FecMode::Auto, (0.05, 1.0, 2), 0.999, 0.20);
        assert_holds(FecMode::Auto, (0.10, 1.0, 2), 0.99, 0.35);
    }

    #[test]
    fn bursts_are_recovered_in_two_rounds() {
        assert_holds(FecMode::Auto, (0.02, 20.0, 2), 0.995, 0.25);
    }

    #[test]
    fn a_fixed_25_percent_works_without_reports() {
        assert_holds(FecMode::Percent(25), (0.05, 1.0, 0), 0.995, 0.30);
    }

    #[test]
    fn fec_off_sends_no_parity() {
        let outcome = minute(FecMode::Off, 0.05, 1.0, 0, 1);
        assert!(outcome.delivered < 0.02 && outcome.overhead < 0.035);
    }

    #[test]
    fn parity_for_a_loss_ratio_matches_the_table() {
        // `FLOOR` raises the first to the table's 2.
        for (loss, parity) in [(0.001, 1), (0.01, 4), (0.05, 11), (0.1, 20)] {
            assert_eq!(parity_against(SOURCE, loss, NACKED_FRAMES, 64), parity, "{loss}");
        }
        assert_eq!(parity_against(SOURCE, 1.0, 0.01, 64), 64);
        assert_eq!(parity_against(SOURCE, 0.0, 0.01, 64), 0);
    }

    fn report(received: u64, lost: u64) -> Report {
        Report { received, lost, ..Report::default() }
    }

    #[test]
    fn overdue_reports_raise_parity_to_the_largest_burst() {
        let (start, mut parity_control) = (crate::clock::now(), ParityControl::new(FecMode::Auto));
        let with_burst = |largest_burst| Report { largest_burst, ..report(5000, 20) };
        parity_control.handle_report(start, &with_burst(20), false);
        for i in 1..=20 {
            parity_control.handle_report(start, &report(5000 + i * 100, 20), false);
        }
        let before = parity_control.parity_for(start + OVERDUE / 2, SOURCE);
        assert!(before < 20, "NACKs recover longer bursts");
        assert_eq!(parity_control.parity_for(start + OVERDUE, SOURCE), 20);
        parity_control.handle_report(start + OVERDUE, &report(9000, 20), false);
        assert!(parity_control.parity_for(start + OVERDUE, SOURCE) < 20);
    }

    #[test]
    fn parity_stops_ten_seconds_after_the_last_loss() {
        let (start, mut parity_control) = (crate::clock::now(), ParityControl::new(FecMode::Auto));
        assert_eq!(parity_control.parity_for(start, SOURCE), 9, "nothing is known");
        let at = |seconds| start + Duration::from_secs(seconds);
        parity_control.handle_report(start, &report(100, 0), false);
        assert_eq!(parity_control.parity_for(start, SOURCE), FLOOR);
        assert_eq!(parity_control.parity_for(at(1), SOURCE), 0);
        parity_control.handle_report(at(2), &report(3000, 1), false);
        assert_eq!(parity_control.parity_for(at(2), SOURCE), FLOOR);
        for i in 0..50 {
            parity_control.handle_report(at(3), &report(4000 + i * 100, 1), false);
        }
        assert_eq!(parity_control.parity_for(at(11), SOURCE), FLOOR);
        assert_eq!(parity_control.parity_for(at(12), SOURCE), 0);
    }

    #[test]
    fn losses_to_queue_overflow_add_no_parity() {
        let (start, mut parity_control) = (crate::clock::now(), ParityControl::new(FecMode::Auto));
        let at = |ms| start + Duration::from_millis(ms);
        parity_control.handle_report(start, &report(100, 0), false);
        for i in 1..=60 {
            let overflow = Report { largest_burst: 40, ..report(100 + i * 10, i * 30) };
            parity_control.handle_report(at(i * 50), &overflow, true);
        }
        assert_eq!(parity_control.parity_for(at(3000), SOURCE), 0, "all lost to a full queue");
        assert!(parity_control.loss_ratio() < 1e-9);
        parity_control.handle_report(at(3050), &report(1000, 1900), false);
        assert!(parity_control.parity_for(at(3050), SOURCE) >= 11, "lost in transit");
    }

    #[test]
    fn an_old_report_changes_nothing() {
        let (now, mut parity_control) = (crate::clock::now(), ParityControl::new(FecMode::Auto));
        parity_control.handle_report(now, &report(1000, 0), false);
        parity_control.handle_report(now, &report(2000, 100), false);
        let parity = parity_control.parity_for(now, SOURCE);
        parity_control.handle_report(now, &report(1500, 1500), false);
        assert_eq!(parity_control.parity_for(now, SOURCE), parity);
    }

    #[test]
    fn parity_is_bounded_by_the_capacity_at_total_loss() {
        let (now, mut parity_control) = (crate::clock::now(), ParityControl::new(FecMode::Auto));
        parity_control.handle_report(now, &report(1, 0), false);
        parity_control.handle_report(now, &report(2, u64::MAX / 2), false);
        for source in [1, 98, 400, u16::MAX] {
            let capacity = Blocks::of(source).parity_capacity();
            assert_eq!(parity_control.parity_for(now, source), capacity, "{source}");
        }
    }

    #[test]
    fn percentages_round_down_but_protect_every_block() {
        let now = crate::clock::now();
        let parity =
            |percent, source| ParityControl::new(FecMode::Percent(percent)).parity_for(now, source);
        assert_eq!(parity(25, 98), 24);
        assert_eq!(parity(0, 98), 0);
        assert_eq!(parity(1, 5), 1);
        assert_eq!(parity(0, 400), 0);
        assert_eq!(parity(1, 250), 2);
        assert_eq!(parity(100, 98), 64);
    }
}
