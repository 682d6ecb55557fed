//! `udpchat demo`: sender and receiver in one process, over real UDP sockets on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    app::{
        event_loop::{AtSourceEnd, Counted, DemoSender, EventLoop, Sending, write_rest},
        network::NetworkConfig,
        process::{
            descriptors::ensure_free,
            stdout::{Stdout, stdout_use},
            stop::stop_on_signals,
        },
        receiving::{
            display::Display,
            presenter::{Presenter, PresenterConfig},
        },
        source_opening::open_source,
        telemetry::{
            progress::ProgressLine, report::Report, sources::both_sides, statistics::Statistics,
        },
        terminal::messages::Messages,
        trust::Credentials,
    },
    cli::args::DemoArgs,
    clock,
    net::{
        io::Listen,
        netem::NetemSpec,
        session::{Event, Role, Target},
        wire::control::{CloseReason, StreamParams},
    },
    stream::{
        check::Check,
        encode::{Outputs, stream_params},
        gate::Gate,
        latency::SenderLatency,
        network_thread::NetworkThread,
        publisher::{Publisher, PublisherConfig},
        stop_flag::StopFlag,
    },
    video::{
        sink::window::{Pane, WindowSpec},
        source::SourceSpec,
    },
};

pub(crate) fn run(args: &DemoArgs, messages: &Messages) -> Result<()> {
    let stdout =
        stdout_use(args.sink.output.as_ref(), args.report.stats_json.as_deref(), args.json)?;
    let source = open_source(&args.source.source, &args.source.encoding, messages)?;
    let windows = [WindowSpec { title: "udpchat demo".into(), pane: Pane::Peer }];
    let display = Display::open(&windows, &args.sink, messages);
    // Two flags, so that the sender can stop while the receiver still takes frames in flight.
    let stop = stop_on_signals()?;
    let sender_stop = StopFlag::default();
    let stream = stream_params(source.info(), args.source.encoding.quality);
    let statistics = Statistics::new(&args.report, messages)?;
    let epoch = clock::now();
    let receiver = start_receiver(args, epoch)?;
    let sender = start_sender(args, epoch, stream, receiver.handle.local_addr())?;
    let latency = SenderLatency::default();
    let check = match args.source.source {
        SourceSpec::Pattern => Check::Pattern { newest: None },
        _ => Check::Decodes,
    };
    let presenter = Presenter::start(PresenterConfig {
        handle: &receiver.handle,
        sink: &args.sink,
        display,
        fps: f64::from(stream.millifps) / 1000.0,
        check: Some(check),
        sender_latency: Some(latency.clone()),
        has_other_purpose: true,
    })?;
    wait_connected(&sender, &stop)?;
    let began = clock::now();
    let own_cpu = clock::thread_cpu();
    let gate = Gate::opened();
    let publisher = Publisher::start(
        source,
        PublisherConfig {
            encoder: args.source.encoding.encoder(),
            outputs: Outputs {
                inlet: sender.handle.inlet(),
                others: Vec::new(),
                latency: Some(latency),
            },
            gate: gate.clone(),
            stop: sender_stop.clone(),
        },
    )?;
    let at_end = AtSourceEnd::Quit;
    let progress = ProgressLine::new(began);
    let mut event_loop = EventLoop {
        sending: Some(Sending { publisher, self_view: None, typing: None, gate, at_end }),
        presenter: Some(presenter),
        demo: Some(DemoSender { network: sender, progress }),
        ..EventLoop::new(receiver, statistics, messages, stop, Some(began + args.seconds))
    };
    let mut result = event_loop.run();
    sender_stop.request();
    let seconds = clock::now() - began;
    let failure = event_loop.end_sending();
    if matches!(result, Ok(false)) {
        // Frames in flight are shown even if the user has interrupted the sender.
        event_loop.stop = StopFlag::default();
        let settle = settle_time(args.network.netem, args.sink.playout_delay);
        event_loop.until = Some(clock::now() + settle);
        result = event_loop.run();
    }
    messages.end_status();
    let main_cpu = clock::thread_cpu().saturating_sub(own_cpu);
    let (report, presenter) = finish(event_loop, seconds, main_cpu);
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

fn start_receiver(args: &DemoArgs, epoch: Instant) -> Result<NetworkThread> {
    NetworkConfig {
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
    }
    .start()
}

fn start_sender(
    args: &DemoArgs,
    epoch: Instant,
    stream: StreamParams,
    to: SocketAddr,
) -> Result<NetworkThread> {
    let target = Target { host: "this machine".into(), port: to.port(), addrs: vec![to] };
    NetworkConfig {
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
    }
    .start()
}

fn wait_connected(sender: &NetworkThread, stop: &StopFlag) -> Result<()> {
    let until = clock::now() + CONNECT_DEADLINE;
    while !stop.is_requested() && clock::now() < until {
        if let Some(Event::Connected { .. }) = sender.handle.wait_event(EVENT_WAIT) {
            return Ok(());
        }
    }
    if stop.is_requested() {
        return Ok(());
    }
    ensure_free(CONNECTION_DESCRIPTORS).context("the receiver did not answer on loopback")?;
    bail!("the receiver did not answer on loopback: see `udpchat doctor`")
}

/// Writes the last statistics, ends both sides and makes the report.
fn finish(event_loop: EventLoop<'_>, seconds: Duration, main_cpu: Duration) -> (Report, Presenter) {
    let EventLoop { network: receiver, demo, presenter, mut statistics, .. } = event_loop;
    let sender = demo.expect("the demo's sender").network;
    let mut presenter = presenter.expect("the demo's receiver");
    let captured = event_loop.sent.unwrap_or_default();
    let (sent, received) = (sender.handle.stats(), receiver.handle.stats());
    let superseded = receiver.handle.superseded();
    let counted =
        Counted { net: &both_sides(&sent, received.clone()), captured: Some(captured), superseded };
    write_rest(&mut statistics, Some(&mut presenter), &counted, event_loop.messages);
    let main_cpu = main_cpu + presenter.helpers_cpu();
    let sender_cpu = sender.finish(CloseReason::SourceEnded).cpu + captured.cpu;
    let receiver_cpu = receiver.finish(CloseReason::Quit).cpu + main_cpu;
    let cpu = [sender_cpu, receiver_cpu];
    let report = Report::new(&captured, &sent, &received, &presenter, superseded, cpu, seconds);
    (report, presenter)
}

/// How long to wait for frames in flight after the last one was sent: the emulated network's delay
/// and jitter, the playout delay, and the time until a frame counts as incomplete.
fn settle_time(netem: Option<NetemSpec>, playout_delay: Duration) -> Duration {
    let netem = netem.unwrap_or_default();
    SETTLE + netem.delay + netem.jitter + playout_delay
}

const EVENT_WAIT: Duration = Duration::from_millis(50);

/// Each side has one socket for the control connection.
const CONNECTION_DESCRIPTORS: usize = 2;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A little more than twice the reassembly deadline plus the longest time until the counters are
/// published.
const SETTLE: Duration = Duration::from_millis(800);
