//! The main thread's loop, shared by `send`, `recv`, `chat` and `demo`: frames, events, typed
//! lines, keys and statistics.

pub(crate) mod conversation;

use std::time::Instant;

use anyhow::{Result, bail};

use super::{
    network::is_over,
    receiving::presenter::{Presenter, WAIT_LIMIT},
    telemetry::{
        kernel_drops::KernelDropNotice,
        progress::ProgressLine,
        sources::{Sources, both_sides},
        statistics::Statistics,
    },
    terminal::{messages::Messages, typing::Typing},
};
use crate::{
    clock,
    latest::Taken,
    net::{io::NetStats, session::Event, wire::control::CloseReason},
    stream::{
        counters::CaptureCounters, gate::Gate, network_thread::NetworkThread, publisher::Publisher,
        received::Update, self_view::SelfView, stop_flag::StopFlag,
    },
};
use conversation::Conversation;

/// A running verb.
pub(crate) struct EventLoop<'a> {
    pub(crate) network: NetworkThread,
    /// The sending side, if the verb has one.
    pub(crate) sending: Option<Sending>,
    /// The final counters of a sending side that has ended.
    pub(crate) sent: Option<CaptureCounters>,
    /// The receiving side, if the verb has one.
    pub(crate) presenter: Option<Presenter>,
    /// `None`: the user is not told about peers.
    pub(crate) conversation: Option<Conversation>,
    pub(crate) demo: Option<DemoSender>,
    pub(crate) statistics: Statistics,
    pub(crate) kernel_drops: KernelDropNotice,
    pub(crate) messages: &'a Messages,
    pub(crate) stop: StopFlag,
    pub(crate) until: Option<Instant>,
}

/// The sending side of a verb.
pub(crate) struct Sending {
    pub(crate) publisher: Publisher,
    pub(crate) self_view: Option<SelfView>,
    /// Lines typed in the terminal, in a chat.
    pub(crate) typing: Option<Typing>,
    pub(crate) gate: Gate,
    pub(crate) at_end: AtSourceEnd,
}

/// What happens when our source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtSourceEnd {
    /// The program ends.
    Quit,
    /// The program goes on, and the user is told.
    Tell,
    /// The user has been told.
    Told,
}

/// The sender of a demo, whose receiver is in this process too.
pub(crate) struct DemoSender {
    pub(crate) network: NetworkThread,
    pub(crate) progress: ProgressLine,
}

/// Why a wait ended.
enum Woken {
    Update(Update),
    Event(Event),
    Nothing,
}

impl Sending {
    /// Lets the publisher begin when someone may receive its pictures.
    fn handle_event(&self, event: &Event) {
        match event {
            Event::Connected { .. } => self.gate.open(),
            Event::SendingEarly { .. } if self.publisher.is_live() => self.gate.let_one_pass(),
            Event::EarlyFrameLost => self.gate.record_loss(),
            _ => {}
        }
    }
}

impl<'a> EventLoop<'a> {
    /// A verb on `network` that neither sends nor receives yet.
    pub(crate) fn new(
        network: NetworkThread,
        statistics: Statistics,
        messages: &'a Messages,
        stop: StopFlag,
        until: Option<Instant>,
    ) -> Self {
        Self {
            network,
            sending: None,
            sent: None,
            presenter: None,
            conversation: None,
            demo: None,
            statistics,
            kernel_drops: KernelDropNotice::default(),
            messages,
            stop,
            until,
        }
    }

    /// Runs the verb to its end.
    pub(crate) fn run_to_end(mut self) -> Result<()> {
        let result = self.run();
        self.finish(result)
    }
}

impl EventLoop<'_> {
    /// Runs until the user, the time limit, the end of the source or a failure ends it. Returns
    /// true if the user has closed the window, or if nothing useful is left to do.
    pub(crate) fn run(&mut self) -> Result<bool> {
        while !self.stop.is_requested() && !is_over(self.until) && !self.is_source_over() {
            if self.turn()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends both sides and the session, writes the last statistics, and finishes the recording.
    /// `result` is that of the loop.
    fn finish(mut self, result: Result<bool>) -> Result<()> {
        let is_source_over = !self.stop.is_requested() && self.is_source_over();
        let reason = if is_source_over { CloseReason::SourceEnded } else { CloseReason::Quit };
        self.stop.request();
        let failure = self.end_sending();
        let captured = self.sent;
        let Self { network, mut presenter, conversation, mut statistics, messages, .. } = self;
        let ended = network.finish(reason);
        if let Some(conversation) = conversation {
            conversation.print_last_texts(&ended.events, messages);
        }
        let counted = Counted { net: &ended.stats, captured, superseded: ended.superseded };
        write_rest(&mut statistics, presenter.as_mut(), &counted, messages);
        let recorded = presenter.map_or(Ok(()), |presenter| presenter.finish(messages));
        result?;
        recorded?;
        match failure {
            Some(failure) => bail!(failure),
            None => Ok(()),
        }
    }

    /// Ends our sending side, if any. Returns the failure of its source.
    pub(crate) fn end_sending(&mut self) -> Option<String> {
        let (sent, failure) = self.sending.take()?.publisher.join();
        self.sent = Some(sent);
        failure
    }

    /// Waits for something to happen, and handles it. Returns true if the user has closed the
    /// window, or if nothing useful is left to do.
    fn turn(&mut self) -> Result<bool> {
        let woken = self.wait()?;
        // Events first: they may say whose frame it is.
        let update = match woken {
            Woken::Update(update) => Some(update),
            Woken::Event(event) => {
                self.handle_event(&event)?;
                None
            }
            Woken::Nothing => None,
        };
        while let Some(event) = self.network.handle.try_event() {
            self.handle_event(&event)?;
        }
        let now = clock::now();
        self.handle_sending(now);
        if let Some(conversation) = &mut self.conversation {
            conversation.trust.tick(self.messages);
        }
        let has_quit = self.present(update, now)?;
        self.report(now);
        Ok(has_quit)
    }

    fn wait(&self) -> Result<Woken> {
        let limit = self.presenter.as_ref().map_or(WAIT_LIMIT, Presenter::wait_limit);
        let due = self.until.into_iter().chain([self.statistics.next_due()]).min();
        let left = due.map(|at| at.saturating_duration_since(clock::now()));
        let timeout = left.map_or(limit, |left| left.min(limit));
        let Some(presenter) = &self.presenter else {
            return match self.network.handle.wait_event(timeout) {
                Some(event) => Ok(Woken::Event(event)),
                None if self.network.is_finished() => bail!(ENDED_UNEXPECTEDLY),
                None => Ok(Woken::Nothing),
            };
        };
        match presenter.wait(timeout) {
            Taken::Value(update) => Ok(Woken::Update(update)),
            Taken::Nudged | Taken::TimedOut => Ok(Woken::Nothing),
            Taken::Closed => bail!(ENDED_UNEXPECTEDLY),
        }
    }

    fn handle_event(&mut self, event: &Event) -> Result<()> {
        if let Some(sending) = &self.sending {
            sending.handle_event(event);
        }
        let Some(conversation) = &mut self.conversation else { return Ok(()) };
        let (handle, presenter) = (&self.network.handle, self.presenter.as_mut());
        conversation.handle_event(event, handle, presenter, self.messages)
    }

    fn handle_sending(&mut self, now: Instant) {
        let Some(sending) = &mut self.sending else { return };
        let own = sending.self_view.as_ref().and_then(SelfView::try_take);
        if let (Some(image), Some(presenter)) = (own, &mut self.presenter) {
            presenter.present_own(&image);
        }
        // Not worth telling a user who ends the program.
        let is_over = sending.publisher.is_finished() && !self.stop.is_requested();
        if is_over && sending.at_end == AtSourceEnd::Tell {
            sending.at_end = AtSourceEnd::Told;
            self.messages.info("your video has ended; the other side no longer sees you");
        }
        if let (Some(typing), Some(conversation)) = (&mut sending.typing, &mut self.conversation) {
            let (handle, messages) = (&self.network.handle, self.messages);
            let is_connected = conversation.is_connected();
            let answers = |text: &str| conversation.trust.take_typed(text, handle, messages);
            typing.poll(now, is_connected, messages, answers, |line| handle.say(line));
        }
    }

    /// Shows an update or a card, and handles keys. Returns true if the program is to end.
    fn present(&mut self, update: Option<Update>, now: Instant) -> Result<bool> {
        let Some(presenter) = &mut self.presenter else { return Ok(false) };
        if let Some(update) = update {
            presenter.present(update);
        }
        if let Some(conversation) = &mut self.conversation {
            conversation.show_card(now, presenter);
        }
        let has_quit = presenter.tick(now, self.messages)?;
        Ok(has_quit || self.statistics.reader_has_gone() && !presenter.is_useful())
    }

    /// Writes the statistics if they are due.
    fn report(&mut self, now: Instant) {
        if let (Some(demo), Some(presenter)) = (&mut self.demo, &self.presenter) {
            // Its events are those of our receiver, seen from the other side.
            while demo.network.handle.try_event().is_some() {}
            demo.progress.update(now, presenter.shown(), self.messages);
        }
        if !self.statistics.is_due(now) {
            return;
        }
        let (stats, captured) = (self.net_stats(), self.captured());
        if self.presenter.is_some() && self.conversation.is_some() {
            self.kernel_drops.update(&stats, self.messages);
        }
        let superseded = self.network.handle.superseded();
        let counted = Counted { net: &stats, captured, superseded };
        write_statistics(
            now,
            &mut self.statistics,
            self.presenter.as_mut(),
            &counted,
            self.messages,
        );
    }

    fn net_stats(&self) -> NetStats {
        let stats = self.network.handle.stats();
        match &self.demo {
            Some(demo) => both_sides(&demo.network.handle.stats(), stats),
            None => stats,
        }
    }

    fn captured(&self) -> Option<CaptureCounters> {
        let running = self.sending.as_ref().map(|sending| sending.publisher.counters());
        running.or(self.sent)
    }

    /// Whether our source has ended, and the program with it.
    fn is_source_over(&self) -> bool {
        let ends = |sending: &Sending| {
            sending.at_end == AtSourceEnd::Quit && sending.publisher.is_finished()
        };
        self.sending.as_ref().is_some_and(ends)
    }
}

/// Counters of the network and the sending side.
pub(crate) struct Counted<'a> {
    pub(crate) net: &'a NetStats,
    pub(crate) captured: Option<CaptureCounters>,
    /// Complete frames replaced before they were taken from the network.
    pub(crate) superseded: u64,
}

/// At the end, writes the statistics since the last interval.
pub(crate) fn write_rest(
    statistics: &mut Statistics,
    presenter: Option<&mut Presenter>,
    counted: &Counted<'_>,
    messages: &Messages,
) {
    let now = clock::now();
    if statistics.has_rest(now) {
        write_statistics(now, statistics, presenter, counted, messages);
    }
}

/// Writes the statistics of the interval that ends now, and updates the overlay.
fn write_statistics(
    now: Instant,
    statistics: &mut Statistics,
    presenter: Option<&mut Presenter>,
    counted: &Counted<'_>,
    messages: &Messages,
) {
    let shown = presenter.as_ref().map(|presenter| presenter.shown().take_interval());
    let presented = presenter.as_ref().map(|presenter| presenter.counters()).unwrap_or_default();
    let sources = Sources {
        net: counted.net,
        shown: shown.as_ref(),
        repairs: presenter.as_ref().and_then(|presenter| presenter.shown().repairs()),
        capture: counted.captured,
        superseded: counted.superseded + presented.superseded,
        undecodable: presented.undecodable,
        concealed: presented.concealed,
    };
    let lines = statistics.write(now, &sources, messages);
    if let Some(presenter) = presenter {
        presenter.set_statistics(lines);
    }
}

const ENDED_UNEXPECTEDLY: &str = "a thread ended unexpectedly: run with -v to see why";
