//! What the user is told and asked about peers: messages, questions, and the card that is shown
//! while there is no picture.

use std::{
    io::Write,
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use log::debug;

use crate::{
    app::{
        receiving::presenter::Presenter,
        terminal::{invitation::Advice, messages::Messages},
        trust::Trust,
    },
    clock,
    net::{
        io::Handle,
        session::{Event, Peer},
        wire::control::StreamParams,
    },
    stream::describe::{describe, who},
};

/// Tells the user about the peers.
pub(crate) struct Conversation {
    pub(crate) trust: Trust,
    /// The port that we listen on, if we do.
    pub(crate) listening: Option<u16>,
    /// The card's lines while nobody is connected.
    pub(crate) waiting: Vec<String>,
    /// The command that helps if a call fails.
    pub(crate) advice: Advice,
    /// Whether a peer's text goes to standard output: not if that carries other data.
    pub(crate) text_to_stdout: bool,
    /// Whether new connections are announced. False without a control channel, where no peer has
    /// answered.
    pub(crate) announces: bool,
    /// The number of hosts that have not been given up. The program ends when the last is given up.
    pub(crate) targets: usize,
    /// The peer that the window's card is about.
    pub(crate) presence: Presence,
}

/// The current or last peer.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    peer: Option<Peer>,
    /// The peer's current stream parameters.
    stream: Option<StreamParams>,
    left: Option<(String, Instant)>,
    /// The callers refused since the last connection. They keep calling, and are reported once.
    refused: Vec<IpAddr>,
    card_shown_at: Option<Instant>,
}

impl Conversation {
    /// Handles an event. Fails if it leaves nobody to talk to.
    pub(super) fn handle_event(
        &mut self,
        event: &Event,
        handle: &Handle,
        mut presenter: Option<&mut Presenter>,
        messages: &Messages,
    ) -> Result<()> {
        self.trust.handle_event(event, handle, messages);
        match event {
            Event::Connected { peer, stream, .. } => {
                self.presence.arrive(peer);
                self.presence.stream = *stream;
                if let Some(presenter) = &mut presenter {
                    presenter.expect_another();
                }
                if !self.announces {
                    return Ok(());
                }
            }
            Event::Ended { .. } => {
                let why = describe(event, self.listening);
                self.presence.leave(why.unwrap_or_default(), clock::now());
            }
            Event::Text { from, line } => {
                self.print_text(&format!("{from}: {line}"), messages);
                if let Some(presenter) = &mut presenter {
                    presenter.caption(format!("{from}: {line}"));
                }
            }
            Event::Refused { peer, .. } if !self.presence.refuse(peer.addr.ip()) => return Ok(()),
            Event::ProtocolViolation { from, .. } if !self.presence.refuse(from.ip()) => {
                return Ok(());
            }
            Event::StreamChanged { stream, .. } if !self.presence.change(*stream) => {
                debug!("{}", describe(event, self.listening).unwrap_or_default());
                return Ok(());
            }
            Event::GivenUp { .. } => {
                let why =
                    self.trust.take_refusal(event).or_else(|| describe(event, self.listening));
                let line = self.advice.add(why.unwrap_or_default(), event);
                self.targets = self.targets.saturating_sub(1);
                if self.targets == 0 {
                    bail!(line);
                }
                messages.info(&line);
                return Ok(());
            }
            _ => {}
        }
        if let Some(line) = describe(event, self.listening) {
            messages.info(&self.advice.add(line, event));
        }
        Ok(())
    }

    /// Whether a peer is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.presence.peer.is_some()
    }

    /// Shows a card while there is no recent picture, or once the peer has left. Updated once a
    /// second, since it shows the elapsed time.
    pub(super) fn show_card(&mut self, now: Instant, presenter: &mut Presenter) {
        let last_shown = presenter.last_shown();
        let stalled_since = last_shown.filter(|&at| now.saturating_duration_since(at) >= STALL);
        let has_picture = last_shown.is_some() && stalled_since.is_none();
        // The last picture of a call may be shown after the event that ends the call.
        let is_covered = |at| last_shown.is_some_and(|shown| shown > at);
        let card_shown_at = self.presence.card_shown_at;
        let due = card_shown_at.is_none_or(|at| now - at >= CARD_INTERVAL || is_covered(at));
        if !due || (has_picture && self.presence.left.is_none()) {
            return;
        }
        self.presence.card_shown_at = Some(now);
        let mut lines = self.presence.lines(now, stalled_since, &self.waiting);
        if let Some(caller) = self.trust.caller() {
            lines = vec![
                format!("{} is calling.", who(caller)),
                "Answer in the terminal: yes or no".into(),
            ];
        }
        presenter.show_card(|| lines);
    }

    /// Prints the text lines among `events`, the last ones of the call.
    pub(super) fn print_last_texts(&self, events: &[Event], messages: &Messages) {
        for event in events {
            if let Event::Text { from, line } = event {
                self.print_text(&format!("{from}: {line}"), messages);
            }
        }
    }

    fn print_text(&self, text: &str, messages: &Messages) {
        if self.text_to_stdout {
            messages.end_status();
            // A closed standard output must not end the call.
            let _ = writeln!(std::io::stdout(), "{text}");
        } else {
            messages.info(text);
        }
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
        self.card_shown_at = None;
    }

    fn leave(&mut self, why: String, now: Instant) {
        self.peer = None;
        self.left = Some((why, now));
        self.card_shown_at = None;
    }

    fn lines(&self, now: Instant, stalled: Option<Instant>, waiting: &[String]) -> Vec<String> {
        let ago = |at: Instant| format!("{} s ago", now.saturating_duration_since(at).as_secs());
        match (&self.peer, &self.left, stalled) {
            (Some(peer), _, Some(at)) => vec![
                format!("{} is connected, but sends no picture", who(peer)),
                format!("the last one arrived {}", ago(at)),
            ],
            (Some(peer), _, None) => {
                vec![format!("{} is connected", who(peer)), "waiting for the first picture".into()]
            }
            (None, Some((why, at)), _) => {
                let mut lines = vec![format!("{why} ({})", ago(*at)), String::new()];
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

const CARD_INTERVAL: Duration = Duration::from_secs(1);
