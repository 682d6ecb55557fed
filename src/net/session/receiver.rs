//! The receiving half of a call: video datagrams in, complete frames out, and feedback to the
//! sender.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::{
    congestion::{
        feedback::{Counts, ReportGenerator},
        train_meter::TrainMeter,
    },
    frame::{FrameId, FramePrefix, PartialFrame, ReceivedFrame},
    framing::reassembler::{Reassembler, ReassemblyCounters},
    path::replay_window::ReplayWindow,
    recovery::{
        loss_bursts::LossBursts,
        nack_scheduler::{NackScheduler, PathState, RepairCounters, Request},
    },
    windowed_max::WindowedMax,
    wire::{
        datagram::Body,
        nack::{MAX_NACK_FRAMES, Nack},
        report::{FrameCounts, Report},
        video::VideoHeader,
    },
};

/// Receives one stream from one peer.
#[derive(Debug)]
pub(super) struct Receiver {
    reassembler: Reassembler,
    /// `None` in a session without feedback.
    feedback: Option<FeedbackState>,
    repaired_by_parity: u64,
    repaired_by_nack: u64,
    malformed: u64,
}

/// Produces reports and NACKs.
#[derive(Debug)]
struct FeedbackState {
    reports: ReportGenerator,
    trains: TrainMeter,
    loss_bursts: LossBursts,
    nack_scheduler: NackScheduler,
    recent_loss: RecentLoss,
    /// When the scheduler is due next, as of its last update.
    nack_due: Option<Instant>,
    /// The NACKs to be sent, and how many copies of each remain.
    nacks: VecDeque<(Nack, u32)>,
}

impl Receiver {
    /// A receiver. `has_feedback`: reports and NACKs may be sent.
    pub(super) fn new(reassembly_deadline: Duration, has_feedback: bool) -> Self {
        let feedback = || FeedbackState {
            reports: ReportGenerator::new(),
            trains: TrainMeter::default(),
            loss_bursts: LossBursts::new(),
            nack_scheduler: NackScheduler::new(reassembly_deadline),
            recent_loss: RecentLoss::new(),
            nack_due: None,
            nacks: VecDeque::with_capacity(MAX_WAITING_NACKS),
        };
        Self {
            reassembler: Reassembler::new(reassembly_deadline),
            feedback: has_feedback.then(feedback),
            repaired_by_parity: 0,
            repaired_by_nack: 0,
            malformed: 0,
        }
    }

    /// Records a datagram of any kind that was received for the first time.
    pub(super) fn handle_arrival(&mut self, now: Instant, sequence: u64, len: usize) {
        if let Some(feedback) = &mut self.feedback {
            feedback.loss_bursts.record(now, sequence);
            feedback.reports.handle_datagram(len);
        }
    }

    /// Handles the body of a video datagram of `len` bytes that arrived at `arrived`.
    pub(super) fn handle_video(
        &mut self,
        now: Instant,
        arrived: Instant,
        body: &Body,
        len: usize,
    ) -> Option<ReceivedFrame> {
        let Ok((header, payload)) = VideoHeader::parse(body.bytes) else {
            self.malformed += 1;
            return None;
        };
        if let Some(feedback) = &mut self.feedback {
            feedback.reports.handle_chunk(now, arrived, header.frame, header.sent());
            feedback.trains.handle_chunk(arrived, &header, len);
            feedback.nack_scheduler.handle_chunk(now, &header);
        }
        let frame = self.reassembler.handle_chunk(now, &header, payload, body.payload_crc);
        self.record_completed(frame)
    }

    /// Does what is due by `now`. Returns a frame if parity completes one.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        rtt: Option<Duration>,
    ) -> Option<ReceivedFrame> {
        let frame = self.reassembler.handle_timeout(now);
        let frame = if frame.is_some() { self.record_completed(frame) } else { None };
        if let Some(feedback) = &mut self.feedback {
            feedback.schedule_nack(now, rtt, &mut self.reassembler);
        }
        frame
    }

    /// When something is due. Reports are ignored unless `can_report`.
    pub(super) fn poll_timeout(&self, can_report: bool) -> Option<Instant> {
        let feedback = self.feedback.as_ref();
        let report = feedback.filter(|_| can_report).and_then(|f| f.reports.poll_timeout());
        let nack_scheduler = feedback.and_then(|f| f.nack_due);
        [self.reassembler.poll_timeout(), report, nack_scheduler].into_iter().flatten().min()
    }

    /// The NACK to be sent now, if any.
    pub(super) fn poll_nack(&mut self) -> Option<Nack> {
        let nacks = &mut self.feedback.as_mut()?.nacks;
        let (nack, copies) = nacks.front_mut()?;
        let nack = *nack;
        *copies -= 1;
        if *copies == 0 {
            nacks.pop_front();
        }
        Some(nack)
    }

    /// The report that is due by `now`, if any.
    pub(super) fn poll_report(
        &mut self,
        now: Instant,
        arrivals: &ReplayWindow,
        kernel_drops: u64,
    ) -> Option<Report> {
        let frames = self.frame_counts();
        let feedback = self.feedback.as_mut()?;
        let FeedbackState { reports, trains, loss_bursts, recent_loss, .. } = feedback;
        reports.poll_report(now, || {
            let counts = Counts {
                highest_sequence: arrivals.highest(),
                received: arrivals.received(),
                lost: arrivals.lost().saturating_sub(loss_bursts.undecided(now)),
                largest_burst: loss_bursts.take_largest_burst(now),
                frames,
                kernel_drops: kernel_drops as u32,
                train: trains.take(),
            };
            recent_loss.record(now, &counts);
            counts
        })
    }

    pub(super) fn newest_prefix(&self) -> Option<FramePrefix<'_>> {
        self.reassembler.newest_prefix()
    }

    pub(super) fn poll_partial(&mut self, now: Instant) -> Option<PartialFrame> {
        self.reassembler.poll_partial(now, self.repairs())
    }

    pub(super) fn partial_due(&self) -> Option<Instant> {
        self.reassembler.partial_due(self.repairs())
    }

    /// Whether a retransmission can arrive before the next frame.
    fn repairs(&self) -> bool {
        self.feedback.as_ref().is_some_and(|f| f.nack_scheduler.nacks_help())
    }

    pub(super) fn counters(&self) -> ReassemblyCounters {
        self.reassembler.counters()
    }

    /// Counters of the NACKs sent.
    pub(super) fn requests(&self) -> RepairCounters {
        self.feedback.as_ref().map(|f| f.nack_scheduler.counters()).unwrap_or_default()
    }

    /// Frames recovered by the parity sent with them.
    pub(super) fn repaired_by_parity(&self) -> u64 {
        self.repaired_by_parity
    }

    /// Frames completed only after a NACK.
    pub(super) fn repaired_by_nack(&self) -> u64 {
        self.repaired_by_nack
    }

    /// The ratio of datagrams lost between the first and the last of the last second's reports, 0
    /// to 1.
    pub(super) fn loss_ratio(&self) -> f64 {
        self.feedback.as_ref().map_or(0.0, |f| f.recent_loss.ratio())
    }

    /// Video datagrams whose body is not a valid chunk.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Counts the completed frame, if any, and updates the scheduler and its due time.
    fn record_completed(&mut self, frame: Option<ReceivedFrame>) -> Option<ReceivedFrame> {
        let Some(feedback) = &mut self.feedback else {
            self.repaired_by_parity +=
                u64::from(frame.as_ref().is_some_and(|f| f.recovered_chunks > 0));
            return frame;
        };
        if let Some(frame) = &frame {
            if feedback.nack_scheduler.rounds(frame.id) > 0 {
                self.repaired_by_nack += 1;
            } else {
                self.repaired_by_parity += u64::from(frame.recovered_chunks > 0);
            }
            feedback.nack_scheduler.handle_done(frame.id);
            feedback.drop_nacks_up_to(frame.id);
        }
        feedback.nack_due = feedback.nack_scheduler.poll_timeout();
        frame
    }

    fn frame_counts(&self) -> FrameCounts {
        let counters = self.reassembler.counters();
        FrameCounts {
            completed: counters.completed as u32,
            repaired_by_parity: self.repaired_by_parity as u32,
            repaired_by_nack: self.repaired_by_nack as u32,
            incomplete: (counters.incomplete + counters.unseen) as u32,
            late: counters.late as u32,
        }
    }
}

impl FeedbackState {
    /// Drops the NACKs that request nothing newer than `frame`.
    fn drop_nacks_up_to(&mut self, frame: FrameId) {
        let is_wanted = |nack: &Nack| nack.frames().iter().any(|m| frame.is_before(m.frame));
        self.nacks.retain(|(nack, _)| is_wanted(nack));
    }

    /// Queues the NACKs that are due by `now`.
    fn schedule_nack(
        &mut self,
        now: Instant,
        rtt: Option<Duration>,
        reassembler: &mut Reassembler,
    ) {
        if self.nack_due.is_none_or(|due| due > now) {
            return;
        }
        self.nack_scheduler.set_path(PathState {
            rtt,
            grace: self.loss_bursts.grace(now),
            loss_ratio: self.recent_loss.ratio(),
            burst: self.recent_loss.longest_burst(now),
        });
        while let Some(Request { nack, copies }) =
            self.nack_scheduler.poll_request(now, |frame| reassembler.missing(frame))
        {
            for missing in nack.frames() {
                reassembler.note_requested(missing.frame);
                self.trains.handle_request(missing.frame);
            }
            if self.nacks.len() == MAX_WAITING_NACKS {
                self.nacks.pop_front();
            }
            self.nacks.push_back((nack, copies));
        }
        self.nack_due = self.nack_scheduler.poll_timeout().filter(|&due| due > now);
    }
}

/// Recent losses, from the counts in our reports.
#[derive(Debug)]
struct RecentLoss {
    /// Cumulative received and lost datagrams of the last second's reports, oldest first.
    reports: VecDeque<(u64, u64)>,
    burst: WindowedMax<u16>,
}

impl RecentLoss {
    fn new() -> Self {
        Self { reports: VecDeque::with_capacity(REPORTS), burst: WindowedMax::new(BURST_MEMORY) }
    }

    fn record(&mut self, now: Instant, counts: &Counts) {
        if self.reports.len() == REPORTS {
            self.reports.pop_front();
        }
        self.reports.push_back((counts.received, counts.lost));
        self.burst.record(now, counts.largest_burst);
    }

    fn ratio(&self) -> f64 {
        let (Some(first), Some(last)) = (self.reports.front(), self.reports.back()) else {
            return 0.0;
        };
        let (received, lost) = (last.0 - first.0, last.1.saturating_sub(first.1));
        lost as f64 / (received + lost).max(1) as f64
    }

    fn longest_burst(&self, now: Instant) -> u16 {
        self.burst.max(now).unwrap_or(0)
    }
}

/// How long a frame may receive no chunk before it is given up. In a running stream a newer frame
/// is usually complete much sooner, which gives it up too. A NACK must be answered within this time
/// of the frame's first chunk: 440 KB (2160p) take 176 ms at 20 Mbit/s.
pub const DEFAULT_REASSEMBLY_DEADLINE: Duration = Duration::from_millis(250);

/// The maximum number of NACKs that wait to be sent: one for each frame in reassembly.
const MAX_WAITING_NACKS: usize = MAX_NACK_FRAMES;

/// One second of reports.
const REPORTS: usize = 20;

/// The minimum time for which the longest burst is remembered; bursts are rare.
const BURST_MEMORY: Duration = Duration::from_secs(5);
