//! `udpchat chat`: video both ways, two windows, and text.

use anyhow::{Result, bail};

use super::{
    recv::{UNKNOWN_RATE, listen_addr},
    send::open_source,
};
use crate::{
    app::{
        network::{Network, NetworkConfig, deadline, resolve::target},
        process::{
            stdout::{Stdout, stdout_owner},
            stop::stop_on_signals,
        },
        receiving::{
            event_loop::{EventLoop, OwnSide, Presence},
            presenter::{Presenter, PresenterConfig, wants_windows},
        },
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
    latest::Latest,
    net::{io::Listen, session::Role, time::MediaClock, wire::control::CloseReason},
    stream::publisher::{Publisher, PublisherConfig, stream_params},
    video::sink::window::{self, WindowSpec},
};

pub(crate) fn run(args: &ChatArgs, messages: &Messages) -> Result<()> {
    let stdout = stdout_owner(args.sink.output.as_ref(), args.report.stats_json.as_deref(), false)?;
    let role = match &args.host {
        Some(host) => Role::ChatDial(target(host)?),
        None => Role::ChatListen,
    };
    let types = !args.source.source.reads_stdin();
    // Kept until the call has ended: lines typed by then must not reach the shell.
    let _unread = types.then_some(DropsUnread);
    let source = open_source(&args.source.source, &args.source.encoding, messages)?;
    let side = if args.host.is_some() { CallRole::Calls } else { CallRole::IsSeen };
    let mut trust = Trust::new(&args.trust, true, args.accept, None, side, messages)?;
    if args.accept == Some(Accept::Any) {
        messages.info("ANYONE who calls will see your camera (--accept any)");
    }
    let mut statistics = Statistics::new(&args.report, messages)?;
    let shows = wants_windows(&args.sink, messages);
    // Until here a signal ends the program at once.
    let stop = stop_on_signals()?;
    let epoch = clock::now();
    let listens = args.host.is_none();
    let network = Network::start(NetworkConfig {
        role,
        credentials: trust.credentials().clone(),
        stream: Some(stream_params(source.info(), args.source.encoding.quality)),
        epoch,
        listen: listens.then(|| Listen { addr: listen_addr(args.bind), control: true }),
        egress: args.network.netem,
        ingress: None,
        name: args.trust.name.as_deref(),
        sending: Some(&args.sending),
        args: &args.network,
    })?;
    let addr = network.handle.local_addr();
    let windows = vec![
        WindowSpec { title: "udpchat".into(), role: window::Pane::Peer },
        WindowSpec { title: "udpchat: you".into(), role: window::Pane::SelfView },
    ];
    let mut presenter = Presenter::new(
        PresenterConfig {
            sink: &args.sink,
            shows,
            windows,
            fps: UNKNOWN_RATE,
            check: None,
            encode_times: None,
            has_other_purpose: true,
        },
        messages,
    )?;
    let (said, waiting) = if let Some(host) = &args.host {
        let calling = format!("calling {} on port {}", host.host, host.port);
        let card = vec![capitalized(&calling)];
        (calling, card)
    } else {
        let invitation = Invitation::to_chat(args, addr);
        let waiting = format!("waiting for a call on port {}", addr.port());
        let card = vec![capitalized(&waiting), invitation.heading(), invitation.command()];
        (format!("{waiting}; {}", invitation.line()), card)
    };
    messages.info(&said);
    let self_view = Latest::new();
    let capture = Publisher::start(
        source,
        PublisherConfig {
            encoder: args.source.encoding.encoder(),
            inlet: network.handle.inlet(),
            clock: MediaClock::starting(epoch),
            encode_times: None,
            self_view: Some(self_view.clone()),
            // The self view is useful before the call.
            gate: Latest::holding(()),
            stop: stop.clone(),
        },
    )?;
    let typing = Typing::start(types, clock::now(), messages)?;
    let result = EventLoop {
        network: &network,
        trust: &mut trust,
        presenter: &mut presenter,
        statistics: &mut statistics,
        messages,
        stop: &stop,
        until: deadline(args.seconds),
        listening: listens.then(|| addr.port()),
        waiting,
        advice: Advice::of_chat(args),
        own: Some(OwnSide { capture: &capture, self_view, typing }),
        text_to_stdout: stdout == Stdout::Free,
        own_end_reported: false,
        presence: Presence::default(),
    }
    .run();
    stop.request();
    let (captured, failure) = capture.join();
    let ended = network.finish(CloseReason::Quit);
    let rest = (ended.stats, Some(captured), ended.superseded);
    presenter.report_rest(&mut statistics, messages, rest);
    result.and(presenter.finish(messages))?;
    match failure {
        Some(failure) => bail!(failure),
        None => Ok(()),
    }
}
