//! `udpchat recv`: waits for a sender, and shows, records or pipes its stream.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::{
    app::{
        event_loop::{
            EventLoop,
            conversation::{Conversation, Presence},
        },
        network::{NetworkConfig, deadline},
        process::{
            stdout::{Stdout, stdout_use},
            stop::stop_on_signals,
        },
        receiving::{
            display::Display,
            presenter::{Presenter, PresenterConfig},
        },
        telemetry::statistics::Statistics,
        terminal::{
            invitation::{Advice, Invitation},
            messages::Messages,
        },
        trust::{CallRole, Trust},
    },
    cli::args::{RecvArgs, Show},
    clock,
    net::{
        io::{DEFAULT_PORT, Listen},
        session::Role,
    },
    stream::check::Check,
    video::sink::window::{Pane, WindowSpec},
};

pub(crate) fn run(args: &RecvArgs, messages: &Messages) -> Result<()> {
    let stdout = stdout_use(args.sink.output.as_ref(), args.report.stats_json.as_deref(), false)?;
    let (control, key_file) = (!args.no_control, args.key_file.as_deref());
    let trust =
        Trust::new(&args.trust, control, args.accept, key_file, CallRole::Receives, messages)?;
    let statistics = Statistics::new(&args.report, messages)?;
    let windows = [WindowSpec { title: "udpchat".into(), pane: Pane::Peer }];
    let display = Display::open(&windows, &args.sink, messages);
    // Until here a signal ends the program at once.
    let stop = stop_on_signals()?;
    let network = NetworkConfig {
        role: Role::Receive,
        credentials: trust.credentials().clone(),
        stream: None,
        epoch: clock::now(),
        listen: Some(Listen { addr: listen_addr(args.bind), control }),
        egress: None,
        ingress: args.network.netem,
        name: args.trust.name.as_deref(),
        sending: None,
        args: &args.network,
    }
    .start()?;
    let presenter = Presenter::start(PresenterConfig {
        handle: &network.handle,
        sink: &args.sink,
        display,
        fps: UNKNOWN_RATE,
        check: (args.sink.show == Some(Show::Decode)).then_some(Check::Decodes),
        sender_latency: None,
        has_other_purpose: false,
    })?;
    let addr = network.handle.local_addr();
    let invitation = Invitation::to_send(args, addr);
    messages.info(&format!("listening on port {}; {}", addr.port(), invitation.line()));
    let conversation = Conversation {
        trust,
        listening: Some(addr.port()),
        waiting: vec![
            format!("Waiting for a stream on port {}", addr.port()),
            invitation.heading(),
            invitation.command(),
        ],
        advice: Advice::default(),
        text_to_stdout: stdout == Stdout::Free,
        announces: true,
        targets: 0,
        presence: Presence::default(),
    };
    let event_loop = EventLoop {
        presenter: Some(presenter),
        conversation: Some(conversation),
        ..EventLoop::new(network, statistics, messages, stop, deadline(args.seconds))
    };
    event_loop.run_to_end()
}

/// The address to listen on: `bind`, or by default all interfaces and the default port.
pub(crate) fn listen_addr(bind: Option<SocketAddr>) -> SocketAddr {
    bind.unwrap_or_else(|| (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into())
}

/// The frame rate, in frames a second, in a recording's header if the sender does not announce one.
pub(crate) const UNKNOWN_RATE: f64 = 30.0;
