//! `udpchat chat`: video both ways, two windows, and text.

use anyhow::{Context, Result};

use super::recv::{UNKNOWN_RATE, listen_addr};
use crate::{
    app::{
        event_loop::{
            AtSourceEnd, EventLoop, Sending,
            conversation::{Conversation, Presence},
        },
        network::{NetworkConfig, deadline, resolve::target},
        process::{
            stdout::{Stdout, stdout_use},
            stop::stop_on_signals,
        },
        receiving::{
            display::Display,
            presenter::{Presenter, PresenterConfig},
        },
        source_opening::SourceOpening,
        telemetry::statistics::Statistics,
        terminal::{
            DropsUnread,
            invitation::{Advice, Invitation, capitalized},
            messages::Messages,
            typing::Typing,
        },
        trust::{CallRole, Trust},
    },
    cli::args::{Accept, ChatArgs},
    clock,
    net::{io::Listen, session::Role},
    stream::{
        encode::{Outputs, stream_params},
        gate::Gate,
        publisher::{Publisher, PublisherConfig},
        self_view::SelfView,
    },
    video::sink::window::{Pane, WindowSpec},
};

pub(crate) fn run(args: &ChatArgs, messages: &Messages) -> Result<()> {
    let stdout = stdout_use(args.sink.output.as_ref(), args.report.stats_json.as_deref(), false)?;
    let role = match &args.host {
        Some(host) => Role::ChatDial(target(host)?),
        None => Role::ChatListen,
    };
    let reads_text = !args.source.source.reads_stdin();
    // Kept until the call has ended: lines typed by then must not reach the shell.
    let _unread = reads_text.then_some(DropsUnread);
    let opening = SourceOpening::start(&args.source.source, &args.source.encoding, messages)?;
    let side = if args.host.is_some() { CallRole::Calls } else { CallRole::SendsCamera };
    let trust = Trust::new(&args.trust, true, args.accept, None, side, messages)?;
    if args.accept == Some(Accept::Any) {
        messages.info("ANYONE who calls will see your camera (--accept any)");
    }
    let statistics = Statistics::new(&args.report, messages)?;
    let windows = [
        WindowSpec { title: "udpchat".into(), pane: Pane::Peer },
        WindowSpec { title: "udpchat: you".into(), pane: Pane::SelfView },
    ];
    let display = Display::open(&windows, &args.sink, messages);
    // Until here, a signal ends the program at once.
    let stop = stop_on_signals()?;
    let listens = args.host.is_none();
    let network = NetworkConfig {
        role,
        credentials: trust.credentials().clone(),
        stream: opening.stream_params(args.source.encoding.quality),
        epoch: clock::now(),
        listen: listens.then(|| Listen { addr: listen_addr(args.bind), control: true }),
        egress: args.network.netem,
        ingress: None,
        name: args.trust.name.as_deref(),
        sending: Some(&args.sending),
        args: &args.network,
    }
    .start()?;
    let presenter = Presenter::start(PresenterConfig {
        handle: &network.handle,
        sink: &args.sink,
        display,
        fps: UNKNOWN_RATE,
        check: None,
        sender_latency: None,
        has_other_purpose: true,
    })?;
    let Some(source) = opening.wait(&stop, messages)? else { return Ok(()) };
    let stream = stream_params(source.info(), args.source.encoding.quality);
    network.handle.inlet().set_stream(stream);
    let addr = network.handle.local_addr();
    let (line, waiting) = if let Some(host) = &args.host {
        let calling = format!("calling {} on port {}", host.host, host.port);
        let card = vec![capitalized(&calling)];
        (calling, card)
    } else {
        let invitation = Invitation::to_chat(args, addr);
        let waiting = format!("waiting for a call on port {}", addr.port());
        let card = vec![capitalized(&waiting), invitation.heading(), invitation.command()];
        (format!("{waiting}; {}", invitation.line()), card)
    };
    messages.info(&line);
    let self_view = presenter.shows().then(SelfView::start).transpose();
    let self_view = self_view.context("cannot start the self view")?;
    // Open from the start, since the self view is useful before the call.
    let gate = Gate::opened();
    let publisher = Publisher::start(
        source,
        PublisherConfig {
            encoder: args.source.encoding.encoder(),
            outputs: Outputs {
                inlet: network.handle.inlet(),
                others: self_view.iter().map(SelfView::output).collect(),
                latency: None,
            },
            gate: gate.clone(),
            stop: stop.clone(),
        },
    )?;
    let typing = Some(Typing::start(reads_text, clock::now(), messages)?);
    let conversation = Conversation {
        trust,
        listening: listens.then(|| addr.port()),
        waiting,
        advice: Advice::of_chat(args),
        text_to_stdout: stdout == Stdout::Free,
        announces: true,
        targets: 1,
        presence: Presence::default(),
    };
    let event_loop = EventLoop {
        sending: Some(Sending { publisher, self_view, typing, gate, at_end: AtSourceEnd::Tell }),
        presenter: Some(presenter),
        conversation: Some(conversation),
        ..EventLoop::new(network, statistics, messages, stop, deadline(args.seconds))
    };
    event_loop.run_to_end()
}
