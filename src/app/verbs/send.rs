//! `udpchat send`: streams a source to one or more receivers.

use anyhow::Result;

use crate::{
    app::{
        event_loop::{
            AtSourceEnd, EventLoop, Sending,
            conversation::{Conversation, Presence},
        },
        network::{NetworkConfig, deadline, resolve::target},
        process::stop::stop_on_signals,
        source_opening::SourceOpening,
        telemetry::statistics::Statistics,
        terminal::{invitation::Advice, messages::Messages},
        trust::{CallRole, Trust},
    },
    cli::args::SendArgs,
    clock,
    net::session::{Role, Target},
    stream::{
        encode::{EncoderConfig, Outputs, stream_params},
        gate::Gate,
        publisher::{Publisher, PublisherConfig},
    },
};

pub(crate) fn run(args: &SendArgs, messages: &Messages) -> Result<()> {
    let targets = args.to.iter().map(target).collect::<Result<Vec<Target>>>()?;
    let opening = SourceOpening::start(&args.source.source, &args.source.encoding, messages)?;
    let encoder = encoder(args);
    let control = !args.no_control;
    let key_file = args.key_file.as_deref();
    let trust = Trust::new(&args.trust, control, None, key_file, CallRole::Calls, messages)?;
    let statistics = Statistics::new(&args.report, messages)?;
    let stop = stop_on_signals()?;
    let hosts: Vec<String> = targets.iter().map(|t| t.host.clone()).collect();
    let network = NetworkConfig {
        role: Role::Send { targets, control },
        credentials: trust.credentials().clone(),
        stream: opening.stream_params(encoder.quality),
        epoch: clock::now(),
        listen: None,
        egress: args.network.netem,
        ingress: None,
        name: args.trust.name.as_deref(),
        sending: Some(&args.sending),
        args: &args.network,
    }
    .start()?;
    let Some(source) = opening.wait(&stop, messages)? else { return Ok(()) };
    network.handle.inlet().set_stream(stream_params(source.info(), encoder.quality));
    if args.no_control {
        let how = match args.key_file {
            Some(_) => "one-way, encrypted with the shared key",
            None => {
                "one-way and NOT ENCRYPTED: anyone on the path can read and change it (--key-file FILE encrypts)"
            }
        };
        messages.info(&format!("sending to {}, {how}", hosts.join(", ")));
    }
    let gate = if args.no_control { Gate::opened() } else { Gate::closed() };
    let publisher = Publisher::start(
        source,
        PublisherConfig {
            encoder,
            outputs: Outputs { inlet: network.handle.inlet(), others: Vec::new(), latency: None },
            gate: gate.clone(),
            stop: stop.clone(),
        },
    )?;
    let at_end = AtSourceEnd::Quit;
    let conversation = Conversation {
        trust,
        listening: None,
        waiting: Vec::new(),
        advice: Advice::of_send(args),
        text_to_stdout: false,
        announces: control,
        targets: hosts.len(),
        presence: Presence::default(),
    };
    let event_loop = EventLoop {
        sending: Some(Sending { publisher, self_view: None, typing: None, gate, at_end }),
        conversation: Some(conversation),
        ..EventLoop::new(network, statistics, messages, stop, deadline(args.seconds))
    };
    event_loop.run_to_end()
}

/// The options of the encoder. Without a control channel there are no receiver reports, so nothing
/// adapts.
fn encoder(args: &SendArgs) -> EncoderConfig {
    let encoder = args.source.encoding.encoder();
    let quality = if args.no_control { encoder.quality.unreported() } else { encoder.quality };
    EncoderConfig { quality, ..encoder }
}
