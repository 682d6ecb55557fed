//! `udpchat demo`: sender and receiver in one process, over real UDP sockets on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::send::open_source;
use crate::{
    app::{
        network::{Network, NetworkConfig, is_over},
        process::{
            descriptors::ensure_free,
            stdout::{Stdout, stdout_owner},
            stop::stop_on_signals,
        },
        receiving::presenter::{Check, Presenter, PresenterConfig, wants_windows},
        telemetry::{report::Report, statistics::Statistics},
        terminal::messages::Messages,
        trust::Credentials,
    },
    cli::args::DemoArgs,
    clock,
    latest::Latest,
    net::{
        io::{Listen, NetStats},
        netem::NetemSpec,
        session::{CallCounters, Event, RepairStats, Role, Target},
        time::MediaClock,
        wire::control::{CloseReason, StreamParams},
    },
    stream::{
        counters::CaptureCounters,
        encode_times::EncodeTimes,
        publisher::{Publisher, PublisherConfig, stream_params},
        stop_flag::StopFlag,
    },
    video::{
        sink::window::{self, WindowSpec},
        source::SourceSpec,
    },
};

pub(crate) fn run(args: &DemoArgs, messages: &Messages) -> Result<()> {
    let stdout =
        stdout_owner(args.sink.output.as_ref(), args.report.stats_json.as_deref(), args.json)?;
    let source = open_source(&args.source.source, &args.source.encoding, messages)?;
    let shows = wants_windows(&args.sink, messages);
    // Two flags, so that the sender can stop while the receiver still takes frames in flight.
    let stop = stop_on_signals()?;
    let sender_stop = StopFlag::default();
    let stream = stream_params(source.info(), args.source.encoding.quality);
    let mut statistics = Statistics::new(&args.report, messages)?;
    let epoch = clock::now();
    let receiver = start_receiver(args, epoch)?;
    let sender = start_sender(args, epoch, stream, receiver.handle.local_addr())?;
    let encode_times = EncodeTimes::default();
    let check = match args.source.source {
        SourceSpec::Pattern => Check::Pattern { newest: None },
        _ => Check::Decodes,
    };
    let mut presenter = Presenter::new(
        PresenterConfig {
            sink: &args.sink,
            shows,
            windows: vec![WindowSpec { title: "udpchat demo".into(), role: window::Pane::Peer }],
            fps: f64::from(stream.millifps) / 1000.0,
            check: Some(check),
            encode_times: Some(encode_times.clone()),
            has_other_purpose: true,
        },
        messages,
    )?;
    wait_connected(&sender, &stop)?;
    let began = clock::now();
    let own_cpu = clock::thread_cpu();
    let capture = Publisher::start(
        source,
        PublisherConfig {
            encoder: args.source.encoding.encoder(),
            inlet: sender.handle.inlet(),
            clock: MediaClock::starting(epoch),
            encode_times: Some(encode_times),
            self_view: None,
            gate: Latest::holding(()),
            stop: sender_stop.clone(),
        },
    )?;
    let mut stage = DemoLoop {
        receiver: &receiver,
        sender: &sender,
        presenter: &mut presenter,
        statistics: &mut statistics,
        messages,
        began,
        last_status: began,
    };
    let watched = stage.run(
        Some(began + args.seconds),
        || stop.is_requested() || capture.is_finished(),
        || capture.counters(),
    );
    sender_stop.request();
    let seconds = clock::now() - began;
    let (captured, failure) = capture.join();
    let settled = clock::now() + settle_time(args.network.netem, args.sink.playout_delay);
    let result = watched.and_then(|quit| {
        if quit { Ok(()) } else { stage.run(Some(settled), || false, || captured).map(drop) }
    });
    messages.end_status();
    let stats = both_sides(&sender.handle.stats(), receiver.handle.stats());
    let rest = (stats, Some(captured), receiver.handle.superseded());
    presenter.report_rest(&mut statistics, messages, rest);
    let receiver_cpu = clock::thread_cpu().saturating_sub(own_cpu) + presenter.helpers_cpu();
    let report = finish(sender, receiver, &presenter, captured, seconds, receiver_cpu);
    // The recording is finished even after a failure.
    let recorded = presenter.finish(messages);
    result?;
    if let Some(failure) = failure {
        bail!(failure);
    }
    let printed = match (args.json, stdout) {
        (true, _) => report.print_json(),
        (false, Stdout::Free) => report.print_text(),
        (false, Stdout::Taken) => {
            messages.info(&report.text());
            Ok(())
        }
    };
    printed.and(recorded)
}

struct DemoLoop<'a> {
    receiver: &'a Network,
    sender: &'a Network,
    presenter: &'a mut Presenter,
    statistics: &'a mut Statistics,
    messages: &'a Messages,
    began: Instant,
    last_status: Instant,
}

impl DemoLoop<'_> {
    /// Shows frames until the deadline `until`, or until `over` returns true. Returns true if the
    /// user has quit.
    fn run(
        &mut self,
        until: Option<Instant>,
        over: impl Fn() -> bool,
        captured: impl Fn() -> CaptureCounters,
    ) -> Result<bool> {
        let mut incoming = self.presenter.incoming(&self.receiver.handle);
        while !is_over(until) && !over() {
            let left = until.map_or(PATIENCE, |at| at.saturating_duration_since(clock::now()));
            self.presenter.take(incoming.take(self.presenter.patience().min(left)))?;
            self.presenter.play();
            // Drains the events; the report has their content.
            while self.receiver.handle.try_event().is_some() {}
            while self.sender.handle.try_event().is_some() {}
            let now = clock::now();
            if self.presenter.tick(now, self.messages)? {
                return Ok(true);
            }
            self.status(now);
            let (sender, receiver) = (self.sender, self.receiver);
            self.presenter.report(now, self.statistics, self.messages, || {
                let stats = both_sides(&sender.handle.stats(), receiver.handle.stats());
                (stats, Some(captured()), receiver.handle.superseded())
            });
        }
        Ok(false)
    }

    fn status(&mut self, now: Instant) {
        if now - self.last_status < STATUS_INTERVAL {
            return;
        }
        self.last_status = now;
        let shown = self.presenter.total().shown();
        let seconds = (now - self.began).as_secs_f64();
        let latency = self.presenter.total().percentiles(crate::stream::latency::Stage::EndToEnd);
        let latency =
            latency.map_or_else(String::new, |l| format!(", latency p50 {:.1} ms", l.p50));
        self.messages.status(&format!(
            "{seconds:4.1} s: {shown} frames shown, {:.1} a second{latency}",
            shown as f64 / seconds
        ));
    }
}

fn start_receiver(args: &DemoArgs, epoch: Instant) -> Result<Network> {
    Network::start(NetworkConfig {
        role: Role::Receive,
        credentials: Credentials::temporary(),
        stream: None,
        epoch,
        listen: Some(Listen { addr: (Ipv4Addr::LOCALHOST, 0).into(), control: true }),
        egress: None,
        ingress: None,
        name: None,
        sending: None,
        args: &args.network,
    })
}

fn start_sender(
    args: &DemoArgs,
    epoch: Instant,
    stream: StreamParams,
    to: SocketAddr,
) -> Result<Network> {
    let target = Target { host: "this machine".into(), port: to.port(), addrs: vec![to] };
    Network::start(NetworkConfig {
        role: Role::Send { targets: vec![target], control: true },
        credentials: Credentials::temporary(),
        stream: Some(stream),
        epoch,
        listen: None,
        egress: args.network.netem,
        ingress: None,
        name: None,
        sending: Some(&args.sending),
        args: &args.network,
    })
}

/// Merges the statistics of both sides: sent counts from the sender, received counts from the
/// receiver.
fn both_sides(sender: &NetStats, receiver: NetStats) -> NetStats {
    let (sent, received) = (sender.totals, receiver.totals);
    let repair = RepairStats {
        parity_chunks: sent.repair.parity_chunks,
        answered: sent.repair.answered,
        picture_bitrate: sent.repair.picture_bitrate,
        queueing_delay: sent.repair.queueing_delay,
        max_datagram_len: sent.repair.max_datagram_len,
        ..received.repair
    };
    let totals = CallCounters {
        frames_sent: sent.frames_sent,
        picture_bytes_sent: sent.picture_bytes_sent,
        frames_superseded: sent.frames_superseded,
        frames_unsendable: sent.frames_unsendable,
        datagrams_sent: sent.datagrams_sent,
        bytes_sent: sent.bytes_sent,
        rtt: sent.rtt,
        repair,
        ..received
    };
    NetStats { totals, netem: sender.netem, ..receiver }
}

fn wait_connected(sender: &Network, stop: &StopFlag) -> Result<()> {
    let until = clock::now() + CONNECT_DEADLINE;
    while !stop.is_requested() && clock::now() < until {
        if let Some(Event::Connected { .. }) = sender.handle.wait_event(PATIENCE) {
            return Ok(());
        }
    }
    if stop.is_requested() {
        return Ok(());
    }
    ensure_free(CONNECTION_DESCRIPTORS).context("the receiver did not answer on loopback")?;
    bail!("the receiver did not answer on loopback: see `udpchat doctor`")
}

fn finish(
    sender: Network,
    receiver: Network,
    presenter: &Presenter,
    captured: CaptureCounters,
    seconds: Duration,
    main_cpu: Duration,
) -> Report {
    let sender_handle_stats = sender.handle.stats();
    let receiver_stats = receiver.handle.stats();
    let superseded = receiver.handle.superseded() + presenter.superseded();
    let sender_cpu = sender.finish(CloseReason::SourceEnded).cpu + captured.cpu;
    let receiver_cpu = receiver.finish(CloseReason::Quit).cpu + main_cpu;
    Report::new(
        &captured,
        &sender_handle_stats,
        &receiver_stats,
        presenter,
        superseded,
        [sender_cpu, receiver_cpu],
        seconds,
    )
}

/// How long to wait for frames in flight after the last one was sent: the emulated network's delay
/// and jitter, the playout delay, and the time until a frame counts as incomplete.
fn settle_time(netem: Option<NetemSpec>, playout_delay: Duration) -> Duration {
    let netem = netem.unwrap_or_default();
    SETTLE + netem.delay + netem.jitter + playout_delay
}

const PATIENCE: Duration = Duration::from_millis(50);
const STATUS_INTERVAL: Duration = Duration::from_millis(200);

/// Each side has one socket for the control connection.
const CONNECTION_DESCRIPTORS: usize = 2;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Twice the reassembly deadline, plus the longest time until the counters are published.
const SETTLE: Duration = Duration::from_millis(800);
