//! The main loop of a receiving side: frames, events, keys and statistics.

use std::{
    io::Write,
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use log::debug;

use super::presenter::Presenter;
use crate::{
    app::{
        network::{
            Network,
            events::{describe, who},
            is_over,
        },
        telemetry::statistics::Statistics,
        terminal::{invitation::Advice, messages::Messages, typing::Typing},
        trust::Trust,
    },
    clock,
    latest::Latest,
    net::{
        frame::FrameBytes,
        io::RECEIVE_BUFFER_WANTED,
        session::{Event, Peer},
        wire::control::StreamParams,
    },
    stream::{publisher::Publisher, stop_flag::StopFlag},
};

/// The state of the main loop.
pub(crate) struct EventLoop<'a> {
    pub(crate) network: &'a Network,
    pub(crate) trust: &'a mut Trust,
    pub(crate) presenter: &'a mut Presenter,
    pub(crate) statistics: &'a mut Statistics,
    pub(crate) messages: &'a Messages,
    pub(crate) stop: &'a StopFlag,
    pub(crate) until: Option<Instant>,
    /// The port that we listen on, if we do.
    pub(crate) listening: Option<u16>,
    /// The card's lines while nobody is connected.
    pub(crate) waiting: Vec<String>,
    /// The command that helps if a call fails.
    pub(crate) advice: Advice,
    /// Our own side, if we send.
    pub(crate) own: Option<OwnSide<'a>>,
    /// Whether a peer's text is printed on standard output, which may carry something else.
    pub(crate) text_to_stdout: bool,
    /// The peer that the window's card is about.
    pub(crate) presence: Presence,
    /// Whether the user has been told that our own video has ended.
    pub(crate) own_end_reported: bool,
}

/// The sending half of a chat.
pub(crate) struct OwnSide<'a> {
    pub(crate) capture: &'a Publisher,
    pub(crate) self_view: Latest<FrameBytes>,
    /// Lines typed in the terminal.
    pub(crate) typing: Typing,
}

/// The current or last peer.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    peer: Option<Peer>,
    /// The peer's current stream parameters.
    stream: Option<StreamParams>,
    left: Option<(String, Instant)>,
    /// The callers refused since the last connection, which call again and again.
    refused: Vec<IpAddr>,
    noticed: Option<Instant>,
    drops_told: bool,
}

impl EventLoop<'_> {
    /// Runs until the user, the time limit or a failure ends it.
    pub(crate) fn run(&mut self) -> Result<()> {
        let mut incoming = self.presenter.incoming(&self.network.handle);
        while !self.stop.is_requested() && !is_over(self.until) {
            let taken = incoming.take(self.presenter.patience());
            // Events first: they may say whose frame it is, and its rate.
            while let Some(event) = self.network.handle.try_event() {
                self.handle_event(&event)?;
            }
            self.presenter.take(taken)?;
            self.presenter.play();
            self.show_own();
            self.report_own_end();
            let now = clock::now();
            self.say_typed(now);
            self.trust.tick(self.messages);
            self.notice(now);
            if self.presenter.tick(now, self.messages)? {
                break;
            }
            self.report(now);
            if self.statistics.reader_has_gone() && !self.presenter.is_of_use() {
                break;
            }
        }
        Ok(())
    }

    fn show_own(&mut self) {
        if let Some(frame) = self.own.as_ref().and_then(|own| own.self_view.try_take()) {
            self.presenter.present_own(&frame);
        }
    }

    /// Tells the user that our own video has ended. The chat continues without it.
    fn report_own_end(&mut self) {
        let ended = self.own.as_ref().is_some_and(|own| own.capture.is_finished());
        // Not worth telling a user who ends the chat.
        if ended && !self.own_end_reported && !self.stop.is_requested() {
            self.own_end_reported = true;
            self.messages.info("your video has ended; the other side no longer sees you");
        }
    }

    fn handle_event(&mut self, event: &Event) -> Result<()> {
        self.trust.handle_event(event, &self.network.handle, self.messages);
        match event {
            Event::Connected { peer, stream, .. } => {
                self.presence.arrive(peer);
                self.presence.stream = *stream;
                if let Some(stream) = stream {
                    self.presenter.set_rate(f64::from(stream.millifps) / 1000.0);
                }
                self.presenter.expect_another();
            }
            Event::Ended { .. } => {
                let why = describe(event, self.listening);
                self.presence.leave(why.unwrap_or_default(), clock::now());
            }
            Event::Text { from, line } => {
                self.print_text(&format!("{from}: {line}"));
                self.presenter.caption(format!("{from}: {line}"));
            }
            Event::Refused { peer, .. } if !self.presence.refuse(peer.addr.ip()) => return Ok(()),
            Event::ProtocolViolation { from, .. } if !self.presence.refuse(from.ip()) => {
                return Ok(());
            }
            Event::StreamChanged { stream, .. } => {
                self.presenter.set_rate(f64::from(stream.millifps) / 1000.0);
                if !self.presence.change(*stream) {
                    debug!("{}", describe(event, self.listening).unwrap_or_default());
                    return Ok(());
                }
            }
            Event::GivenUp { .. } => {
                let why = self.trust.explain(event).or_else(|| describe(event, self.listening));
                bail!(self.advice.add(why.unwrap_or_default(), event));
            }
            _ => {}
        }
        if let Some(line) = describe(event, self.listening) {
            self.messages.info(&self.advice.add(line, event));
        }
        Ok(())
    }

    fn print_text(&self, text: &str) {
        if self.text_to_stdout {
            self.messages.end_status();
            // A closed standard output must not end the call.
            let _ = writeln!(std::io::stdout(), "{text}");
        } else {
            self.messages.info(text);
        }
    }

    fn say_typed(&mut self, now: Instant) {
        let Some(own) = &mut self.own else { return };
        let (handle, messages) = (&self.network.handle, self.messages);
        let answers = |text: &str| self.trust.take_typed(text, handle, messages);
        let is_connected = self.presence.peer.is_some();
        own.typing.poll(now, is_connected, messages, answers, |line| handle.say(line));
    }

    /// Shows a card while there is no picture. Updated once a second, since it shows the elapsed
    /// time.
    fn notice(&mut self, now: Instant) {
        let stalled_since = self.presenter.last_shown().filter(|&at| now - at >= STALL);
        let has_picture = self.presenter.last_shown().is_some() && stalled_since.is_none();
        // The last picture of a call may be shown after the event that ends the call.
        let is_covered = |at| self.presenter.last_shown().is_some_and(|shown| shown > at);
        let noticed = self.presence.noticed;
        let due = noticed.is_none_or(|at| now - at >= NOTICE_INTERVAL || is_covered(at));
        if !due || (has_picture && self.presence.left.is_none()) {
            return;
        }
        self.presence.noticed = Some(now);
        let mut lines = self.presence.lines(now, stalled_since, &self.waiting);
        if let Some(caller) = self.trust.caller() {
            lines = vec![
                format!("{} is calling.", who(caller)),
                "Answer in the terminal: yes or no".into(),
            ];
        }
        self.presenter.notice(|| lines);
    }

    /// Reports datagrams that the kernel dropped for want of buffer space, once, with the remedy.
    fn tell_kernel_drops(&mut self, now: Instant) {
        if self.presence.drops_told || !self.statistics.is_due(now) {
            return;
        }
        let stats = self.network.handle.stats();
        let overruns = stats.kernel_drops.map(|drops| drops.overruns);
        let (Some(drops @ 1..), Some(buffers)) = (overruns, stats.buffers) else {
            return;
        };
        self.presence.drops_told = true;
        let remedy = if buffers.receive < RECEIVE_BUFFER_WANTED {
            format!("sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER_WANTED}")
        } else {
            "this machine is too slow for the stream: lower its size or rate".into()
        };
        self.messages.info(&format!(
            "the kernel has dropped {drops} datagrams, since its buffer of {} KB was full: {remedy}",
            buffers.receive >> 10,
        ));
    }

    fn report(&mut self, now: Instant) {
        self.tell_kernel_drops(now);
        let (network, own) = (self.network, &self.own);
        self.presenter.report(now, self.statistics, self.messages, || {
            let capture = own.as_ref().map(|own| own.capture.counters());
            (network.handle.stats(), capture, network.handle.superseded())
        });
    }
}

impl Presence {
    /// Records a refusal; returns false if it need not be reported.
    fn refuse(&mut self, from: IpAddr) -> bool {
        let is_news = !self.refused.contains(&from) && self.refused.len() < MAX_REFUSED;
        if is_news {
            self.refused.push(from);
        }
        is_news
    }

    /// Records the peer's stream parameters; returns false if only the quality has changed, which
    /// happens often on a narrow path.
    fn change(&mut self, stream: StreamParams) -> bool {
        let before = self.stream.replace(stream);
        before.is_none_or(|before| StreamParams { quality: stream.quality, ..before } != stream)
    }

    fn arrive(&mut self, peer: &Peer) {
        self.peer = Some(peer.clone());
        self.refused.clear();
        self.left = None;
        self.noticed = None;
    }

    fn leave(&mut self, why: String, now: Instant) {
        self.peer = None;
        self.left = Some((why, now));
        self.noticed = None;
    }

    fn lines(&self, now: Instant, stalled: Option<Instant>, waiting: &[String]) -> Vec<String> {
        let ago = |at: Instant| format!("{} s ago", now.saturating_duration_since(at).as_secs());
        match (&self.peer, &self.left, stalled) {
            (Some(peer), _, Some(at)) => vec![
                format!("{} is connected, but sends no picture", who(peer)),
                format!("the last one came {}", ago(at)),
            ],
            (Some(peer), _, None) => {
                vec![format!("{} is connected", who(peer)), "waiting for the first picture".into()]
            }
            (None, Some((why, at)), _) => {
                let mut lines = vec![format!("{why}, {}", ago(*at)), String::new()];
                lines.extend_from_slice(waiting);
                lines
            }
            (None, None, _) => waiting.to_vec(),
        }
    }
}

/// A picture older than this counts as stalled.
const STALL: Duration = Duration::from_secs(2);

/// The most refusals reported between two connections.
const MAX_REFUSED: usize = 16;

const NOTICE_INTERVAL: Duration = Duration::from_secs(1);
