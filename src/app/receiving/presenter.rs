//! The receiving side on the main thread: shows the pictures. The
//! [subscriber](crate::stream::subscriber)'s thread decodes and records them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{display::Display, recording::Recording};
use crate::{
    app::terminal::messages::Messages,
    cli::args::SinkArgs,
    clock,
    latest::{Latest, Taken},
    net::io::Handle,
    stream::{
        check::Check,
        latency::{SenderLatency, ShownFrames},
        received::{Received, Update},
        subscriber::{RecordingSink, Subscriber, SubscriberConfig},
    },
    video::{image::Image, jpeg::OutputFormat, sink::Recorder},
};

/// A received stream with its windows and its recording.
#[derive(Debug)]
pub(crate) struct Presenter {
    subscriber: Subscriber,
    updates: Latest<Update>,
    display: Display,
    recording: Option<Recording>,
    shown: ShownFrames,
    /// Whether the program continues without a window or a recording.
    has_other_purpose: bool,
}

/// A presenter's configuration.
#[derive(Debug)]
pub(crate) struct PresenterConfig<'a> {
    pub(crate) handle: &'a Handle,
    pub(crate) sink: &'a SinkArgs,
    pub(crate) display: Display,
    /// Nominal frame rate, in frames a second, for a recording's header.
    pub(crate) fps: f64,
    /// Decodes pictures even without a window, and checks them.
    pub(crate) check: Option<Check>,
    /// The sender's stage times, if it is in this process.
    pub(crate) sender_latency: Option<SenderLatency>,
    /// Whether the program is useful without a window or a recording: in a chat, the other side
    /// still sees us.
    pub(crate) has_other_purpose: bool,
}

/// Outcomes of the frames received so far, besides being shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PresenterCounters {
    /// Complete frames that could not be decoded, or did not show the expected test pattern.
    pub(crate) undecodable: u64,
    /// Partial frames from which strips were shown.
    pub(crate) concealed: u64,
    /// Complete frames that were not shown because a newer one was available.
    pub(crate) superseded: u64,
}

impl Presenter {
    /// Opens the recording, and starts to receive.
    pub(crate) fn start(config: PresenterConfig<'_>) -> Result<Self> {
        let PresenterConfig { handle, sink, check, display, .. } = config;
        let recorder = sink.output.as_ref();
        let recorder =
            recorder.map(|spec| Recorder::create(spec, config.fps, sink.overwrite)).transpose()?;
        let recorder = recorder.map(Arc::new);
        let epoch = clock::now();
        let is_displayed = display.is_open() || check.is_some();
        // If only a pipe of decoded pictures takes the frames, they are decoded for it while they
        // arrive.
        let as_planes = !is_displayed && recorder.as_ref().is_some_and(|r| r.takes_planes());
        let planes = as_planes.then_some(OutputFormat::Planar);
        let shown = ShownFrames::new(epoch, config.sender_latency);
        let subscriber = Subscriber::start(
            handle,
            SubscriberConfig {
                decodes_to: if is_displayed { Some(OutputFormat::Bgr) } else { planes },
                check,
                conceals: sink.conceal && is_displayed,
                playout_delay: sink.playout_delay,
                recording: recorder.clone().map(|recorder| RecordingSink {
                    recorder,
                    as_planes,
                    epoch,
                }),
                counts: (!display.is_open()).then(|| shown.clone()),
            },
        )
        .context("cannot start the receiving thread")?;
        let updates = if display.is_open() {
            subscriber.subscribe()
        } else {
            subscriber.subscribe_to_events()
        };
        Ok(Self {
            subscriber,
            updates,
            display,
            recording: recorder.map(Recording::new),
            shown,
            has_other_purpose: config.has_other_purpose || check.is_some(),
        })
    }

    /// Whether windows are open.
    pub(crate) fn shows(&self) -> bool {
        self.display.is_open()
    }

    /// Waits for the next update, up to `timeout`. Also woken for urgent events.
    pub(crate) fn wait(&self, timeout: Duration) -> Taken<Update> {
        self.updates.take(timeout)
    }

    /// How long to wait for an update before other work is due, such as keys in a window.
    pub(crate) fn wait_limit(&self) -> Duration {
        if self.display.is_open() { WINDOW_WAIT_LIMIT } else { WAIT_LIMIT }
    }

    /// Shows an update.
    pub(crate) fn present(&mut self, update: Update) {
        match update {
            Update::Frame(received) => self.present_frame(&received),
            Update::Concealed(image, concealed) => self.display.show_concealed(&image, concealed),
        }
    }

    fn present_frame(&mut self, received: &Received) {
        let shown = received.image.as_ref().and_then(|image| self.display.show(image));
        self.shown.record(received, shown.unwrap_or(received.decoded));
    }

    /// Shows one of our own pictures in the self view.
    pub(crate) fn present_own(&mut self, image: &Image) {
        self.display.show_own(image);
    }

    /// Shows a card instead of the picture. `lines` is called only if a window is open.
    pub(crate) fn show_card(&mut self, lines: impl FnOnce() -> Vec<String>) {
        self.display.show_card(lines);
    }

    /// Shows `text` over the picture for a few seconds.
    pub(crate) fn caption(&mut self, text: String) {
        self.display.caption(text);
    }

    /// Sets the lines of the statistics overlay.
    pub(crate) fn set_statistics(&mut self, lines: Vec<String>) {
        self.display.set_statistics(lines);
    }

    /// Handles keys, captions and the state of the recording. Returns true if the program
    /// should end.
    pub(crate) fn tick(&mut self, now: Instant, messages: &Messages) -> Result<bool> {
        self.display.report_loss(messages);
        let is_only_purpose = !self.display.is_open() && !self.has_other_purpose;
        let mut quit = false;
        if let Some(recording) = &mut self.recording {
            quit = recording.check(is_only_purpose, messages)?;
        }
        Ok(self.display.pump(now, messages) || quit)
    }

    /// Records that another sender begins: none of its pictures has been shown yet.
    pub(crate) fn expect_another(&self) {
        self.shown.expect_another();
    }

    /// When the last frame was shown.
    pub(crate) fn last_shown(&self) -> Option<Instant> {
        self.shown.last()
    }

    /// The frames shown so far.
    pub(crate) fn shown(&self) -> &ShownFrames {
        &self.shown
    }

    /// Processor time of the decoding threads.
    pub(crate) fn helpers_cpu(&self) -> Duration {
        self.subscriber.cpu()
    }

    pub(crate) fn counters(&self) -> PresenterCounters {
        PresenterCounters {
            undecodable: self.subscriber.undecodable(),
            concealed: self.subscriber.concealed(),
            superseded: self.subscriber.superseded(),
        }
    }

    /// Whether the program does anything useful besides writing statistics.
    pub(crate) fn is_useful(&self) -> bool {
        let records = self.recording.as_ref().is_some_and(Recording::is_fine);
        self.display.is_open() || self.has_other_purpose || records
    }

    /// Finishes the recording and reports it.
    pub(crate) fn finish(self, messages: &Messages) -> Result<()> {
        let Self { subscriber, recording, .. } = self;
        // Every frame received so far is then in the recorder's queue.
        drop(subscriber);
        recording.map_or(Ok(()), |recording| recording.finish(messages))
    }
}

const WINDOW_WAIT_LIMIT: Duration = Duration::from_millis(10);

/// How long the main loop waits for an event or a frame if there is no window. Ctrl-C, typed lines
/// and the end of a source or a recording are noticed within that time. At 20 ms, the loop took 3 % of
/// the sender's processor time at 640x480.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_millis(100);
