//! `udpchat send`: streams a source to one or more receivers.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use log::info;

use crate::{
    app::{
        network::{Network, NetworkConfig, deadline, events::describe, is_over, resolve::target},
        process::stop::stop_on_signals,
        telemetry::{sources::Sources, statistics::Statistics},
        terminal::{invitation::Advice, messages::Messages},
        trust::{CallRole, Trust},
    },
    cli::{
        Rate,
        args::{EncodingArgs, SendArgs},
    },
    clock,
    latest::Latest,
    net::{
        io::NetStats,
        session::{Event, Role, Target},
        time::MediaClock,
        wire::control::CloseReason,
    },
    stream::counters::CaptureCounters,
    stream::{
        adaptation::Quality,
        publisher::{EncoderConfig, Publisher, PublisherConfig, stream_params},
    },
    video::source::{Source, SourceOptions, SourceSpec},
};

pub(crate) fn run(args: &SendArgs, messages: &Messages) -> Result<()> {
    let targets = args.to.iter().map(target).collect::<Result<Vec<Target>>>()?;
    // Opening may block, for example until a pipe's first bytes. Until then Ctrl-C ends the
    // program.
    let source = open_source(&args.source.source, &args.source.encoding, messages)?;
    let encoder = encoder(args);
    let control = !args.no_control;
    let key_file = args.key_file.as_deref();
    let mut trust = Trust::new(&args.trust, control, None, key_file, CallRole::Calls, messages)?;
    let mut statistics = Statistics::new(&args.report, messages)?;
    let stop = stop_on_signals()?;
    let epoch = clock::now();
    let hosts: Vec<String> = targets.iter().map(|t| t.host.clone()).collect();
    let count = targets.len();
    let network = Network::start(NetworkConfig {
        role: Role::Send { targets, control: !args.no_control },
        credentials: trust.credentials().clone(),
        stream: Some(stream_params(source.info(), encoder.quality)),
        epoch,
        listen: None,
        egress: args.network.netem,
        ingress: None,
        name: args.trust.name.as_deref(),
        sending: Some(&args.sending),
        args: &args.network,
    })?;
    if args.no_control {
        let how = match args.key_file {
            Some(_) => "one-way, encrypted with the shared key",
            None => {
                "one-way and NOT ENCRYPTED: anyone on the path can read and change it (--key-file FILE encrypts)"
            }
        };
        messages.info(&format!("sending to {}, {how}", hosts.join(", ")));
    }
    let gate = if args.no_control { Latest::holding(()) } else { Latest::new() };
    let capture = Publisher::start(
        source,
        PublisherConfig {
            encoder,
            inlet: network.handle.inlet(),
            clock: MediaClock::starting(epoch),
            encode_times: None,
            self_view: None,
            gate: gate.clone(),
            stop: stop.clone(),
        },
    )?;
    let until = deadline(args.seconds);
    let advice = Advice::of_send(args);
    let mut given_up = 0;
    let mut result = Ok(());
    while !stop.is_requested() && !is_over(until) && !capture.is_finished() {
        if let Some(event) = network.handle.wait_event(PATIENCE) {
            match &event {
                Event::Connected { .. } => _ = gate.put(()),
                Event::GivenUp { .. } => given_up += 1,
                _ => {}
            }
            trust.handle_event(&event, &network.handle, messages);
            // Without a control channel no peer has answered, and the start was already announced.
            let is_news = !(args.no_control && matches!(event, Event::Connected { .. }));
            let line = || describe(&event, None).filter(|_| is_news);
            let line = trust.explain(&event).or_else(line);
            let line = line.map(|line| advice.add(line, &event));
            if given_up == count {
                result = Err(anyhow::anyhow!(line.unwrap_or_default()));
                break;
            }
            if let Some(line) = line {
                messages.info(&line);
            }
        } else if network.is_finished() {
            result = Err(anyhow::anyhow!("the network thread has ended: run with -v to see why"));
            break;
        }
        report(&mut statistics, clock::now(), &network, &capture, messages);
    }
    let ended = !stop.is_requested() && capture.is_finished();
    stop.request();
    let (captured, failure) = capture.join();
    let net =
        network.finish(if ended { CloseReason::SourceEnded } else { CloseReason::Quit }).stats;
    let now = clock::now();
    if statistics.has_rest(now) {
        write(&mut statistics, now, &net, captured, messages);
    }
    match failure {
        Some(failure) if result.is_ok() => bail!(failure),
        _ => result,
    }
}

/// Opens the source, logs its description and prints its notes.
pub(crate) fn open_source(
    spec: &SourceSpec,
    args: &EncodingArgs,
    messages: &Messages,
) -> Result<Source> {
    let options = SourceOptions {
        size: args.size,
        fps: match args.fps {
            Some(Rate::PerSecond(fps)) => Some(fps),
            Some(Rate::Max) | None => None,
        },
        unpaced: args.fps == Some(Rate::Max),
        once: args.once,
        quality: match args.quality {
            Quality::Fixed(quality) => Some(quality),
            Quality::Auto => None,
        },
        gray: args.gray,
    };
    let source = Source::open(spec, &options)?;
    info!("{}", source.info().description);
    for note in &source.info().notes {
        messages.info(note);
    }
    Ok(source)
}

/// The options of the encoder. Without a control channel there are no receiver reports, so nothing
/// adapts.
fn encoder(args: &SendArgs) -> EncoderConfig {
    let encoder = args.source.encoding.encoder();
    let quality = if args.no_control { encoder.quality.unreported() } else { encoder.quality };
    EncoderConfig { quality, ..encoder }
}

fn report(
    statistics: &mut Statistics,
    now: Instant,
    network: &Network,
    capture: &Publisher,
    messages: &Messages,
) {
    if statistics.is_due(now) {
        write(statistics, now, &network.handle.stats(), capture.counters(), messages);
    }
}

fn write(
    statistics: &mut Statistics,
    now: Instant,
    net: &NetStats,
    captured: CaptureCounters,
    messages: &Messages,
) {
    let capture = Some(captured);
    let sources = Sources {
        net,
        shown: None,
        repairs: None,
        capture,
        superseded: 0,
        undecodable: 0,
        concealed: 0,
    };
    statistics.write(now, &sources, messages);
}

const PATIENCE: Duration = Duration::from_millis(20);
