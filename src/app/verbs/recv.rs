//! `udpchat recv`: waits for a sender, and shows, records or pipes its stream.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::{
    app::{
        network::{Network, NetworkConfig, deadline},
        process::{
            stdout::{Stdout, stdout_owner},
            stop::stop_on_signals,
        },
        receiving::{
            event_loop::{EventLoop, Presence},
            presenter::{Check, Presenter, PresenterConfig, wants_windows},
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
        wire::control::CloseReason,
    },
    video::sink::window::{self, WindowSpec},
};

pub(crate) fn run(args: &RecvArgs, messages: &Messages) -> Result<()> {
    let stdout = stdout_owner(args.sink.output.as_ref(), args.report.stats_json.as_deref(), false)?;
    let (control, key_file) = (!args.no_control, args.key_file.as_deref());
    let mut trust =
        Trust::new(&args.trust, control, args.accept, key_file, CallRole::Shows, messages)?;
    let mut statistics = Statistics::new(&args.report, messages)?;
    let shows = wants_windows(&args.sink, messages);
    // Until here a signal ends the program at once.
    let stop = stop_on_signals()?;
    let network = Network::start(NetworkConfig {
        role: Role::Receive,
        credentials: trust.credentials().clone(),
        stream: None,
        epoch: clock::now(),
        listen: Some(Listen { addr: listen_addr(args.bind), control: !args.no_control }),
        egress: None,
        ingress: args.network.netem,
        name: args.trust.name.as_deref(),
        sending: None,
        args: &args.network,
    })?;
    let addr = network.handle.local_addr();
    let mut presenter = Presenter::new(
        PresenterConfig {
            sink: &args.sink,
            shows,
            windows: vec![WindowSpec { title: "udpchat".into(), role: window::Pane::Peer }],
            fps: UNKNOWN_RATE,
            check: (args.sink.show == Some(Show::Decode)).then_some(Check::Decodes),
            encode_times: None,
            has_other_purpose: false,
        },
        messages,
    )?;
    let invitation = Invitation::to_send(args, addr);
    messages.info(&format!("listening on port {}; {}", addr.port(), invitation.line()));
    let result = EventLoop {
        network: &network,
        trust: &mut trust,
        presenter: &mut presenter,
        statistics: &mut statistics,
        messages,
        stop: &stop,
        until: deadline(args.seconds),
        listening: Some(addr.port()),
        waiting: vec![
            format!("Waiting for a stream on port {}", addr.port()),
            invitation.heading(),
            invitation.command(),
        ],
        advice: Advice::default(),
        own: None,
        text_to_stdout: stdout == Stdout::Free,
        own_end_reported: false,
        presence: Presence::default(),
    }
    .run();
    let ended = network.finish(CloseReason::Quit);
    let rest = (ended.stats, None, ended.superseded);
    presenter.report_rest(&mut statistics, messages, rest);
    result.and(presenter.finish(messages))
}

/// The default listening address: all interfaces, the default port.
pub(crate) fn listen_addr(bind: Option<SocketAddr>) -> SocketAddr {
    bind.unwrap_or_else(|| (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into())
}

/// The frame rate, in frames a second, in a recording's header if the sender does not announce one.
pub(crate) const UNKNOWN_RATE: f64 = 30.0;
