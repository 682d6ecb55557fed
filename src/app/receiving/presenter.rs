//! The receiving end on the main thread: shows and records the newest frame, and decodes it unless
//! the [decoding thread](crate::stream::decode) has.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use log::{debug, warn};

use super::window_trial;
use crate::{
    app::{
        process::descriptors::{ensure_free, with_remedy},
        telemetry::{sources::Sources, statistics::Statistics},
        terminal::messages::Messages,
    },
    cli::args::{Show, SinkArgs},
    clock,
    latest::Taken,
    net::{
        frame::{FrameBytes, FrameId, PartialFrame},
        io::{Handle, NetStats},
        session::{CallId, Delivered},
    },
    stream::{
        counters::CaptureCounters,
        decode::{Arrived, Decoded, Decoding, Incoming},
        encode_times::EncodeTimes,
        latency::{LatencyStats, StageTimes},
        playout::Playout,
    },
    video::{
        image::Image,
        jpeg::{Concealed, DecodeWatch, Decoder, Want},
        sink::{
            RecordError, Recorder,
            window::{Action, Overlay, Pane, Screen, WindowError, WindowSpec},
        },
        source::pattern,
    },
};

/// Shows, checks and records received frames.
#[derive(Debug)]
pub(crate) struct Presenter {
    screen: Option<Screen>,
    /// Why the windows were lost, until this is reported.
    window_lost: Option<WindowError>,
    recorder: Option<Recorder>,
    recording: Recording,
    /// Whether the program continues without a window and a recording.
    has_other_purpose: bool,
    check: Option<Check>,
    playout: Playout,
    decoder: Decoder,
    /// The displayed picture.
    image: Image,
    /// The buffer for the next picture, if it is decoded on this thread.
    canvas: Image,
    /// The thread that decodes frames shown without a playout delay.
    decoding: Option<Decoding>,
    own_image: Image,
    watch: DecodeWatch,
    own_watch: DecodeWatch,
    encode_times: Option<EncodeTimes>,
    overlay: Overlay,
    caption_until: Option<Instant>,
    began: Instant,
    first_shown: Option<Instant>,
    last_shown: Option<Instant>,
    interval: LatencyStats,
    total: LatencyStats,
    undecodable: u64,
    /// Whether the received strips of partial frames are shown.
    conceals: bool,
    /// The frame that is shown, completely or in part.
    newest: Option<(CallId, FrameId)>,
    concealed: u64,
}

/// The state of the recording.
#[derive(Debug, PartialEq, Eq)]
enum Recording {
    Fine,
    /// The reader of the pipe has closed it, which is not a failure.
    Ended,
    /// Already reported; what was written is kept.
    Failed,
}

/// What a decoded picture must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Anything that decodes.
    Decodes,
    /// The test pattern, with the same number at top and bottom, increasing from frame to frame.
    Pattern {
        /// The highest number so far.
        newest: Option<u32>,
    },
}

/// A presenter's configuration.
#[derive(Debug)]
pub(crate) struct PresenterConfig<'a> {
    pub(crate) sink: &'a SinkArgs,
    /// Whether windows are wanted and [available](wants_windows).
    pub(crate) shows: bool,
    pub(crate) windows: Vec<WindowSpec>,
    /// Nominal frame rate, in frames a second, for a recording's header.
    pub(crate) fps: f64,
    /// Decode without a window too, to measure and to check.
    pub(crate) check: Option<Check>,
    pub(crate) encode_times: Option<EncodeTimes>,
    /// Whether the program is useful without a window and a recording: in a chat, the other side
    /// still sees us.
    pub(crate) has_other_purpose: bool,
}

impl Presenter {
    pub(crate) fn new(config: PresenterConfig<'_>, messages: &Messages) -> Result<Self> {
        let recorder = config.sink.output.as_ref();
        let overwrite = config.sink.overwrite;
        let recorder =
            recorder.map(|spec| Recorder::create(spec, config.fps, overwrite)).transpose()?;
        Ok(Self {
            screen: if config.shows { open_screen(&config.windows, messages) } else { None },
            window_lost: None,
            recorder,
            recording: Recording::Fine,
            has_other_purpose: config.has_other_purpose || config.check.is_some(),
            check: config.check,
            playout: Playout::new(config.sink.playout_delay),
            decoder: Decoder::new(),
            image: Image::empty(),
            canvas: Image::empty(),
            decoding: None,
            own_image: Image::empty(),
            watch: DecodeWatch::default(),
            own_watch: DecodeWatch::default(),
            encode_times: config.encode_times,
            overlay: Overlay::default(),
            caption_until: None,
            began: clock::now(),
            first_shown: None,
            last_shown: None,
            interval: LatencyStats::new(),
            total: LatencyStats::new(),
            undecodable: 0,
            conceals: config.sink.conceal,
            newest: None,
            concealed: 0,
        })
    }

    /// How long to wait for a frame before other work is due: keys in a window, or a frame that is
    /// held back.
    pub(crate) fn patience(&self) -> Duration {
        let patience = if self.screen.is_some() { WINDOW_PATIENCE } else { PATIENCE };
        let due = self.playout.next_due();
        due.map_or(patience, |due| patience.min(due.saturating_duration_since(clock::now())))
    }

    /// Where to wait for frames that `handle` receives.
    pub(crate) fn incoming(&mut self, handle: &Handle) -> Incoming {
        // A frame that is held back leaves time to decode it later.
        if self.decodes() && !self.playout.is_delayed() && self.decoding.is_none() {
            let started = Decoding::start(handle, self.conceals());
            self.decoding =
                started.inspect_err(|error| warn!("decoding on the main thread: {error}")).ok();
        }
        let pictures = self.decoding.as_ref().map(Decoding::pictures);
        pictures.unwrap_or_else(|| Incoming::frames(handle, self.conceals()))
    }

    /// Shows a picture or the strips of a partial frame. Queues an undecoded frame for
    /// [`play`](Self::play).
    pub(crate) fn take(&mut self, taken: Taken<Arrived>) -> Result<()> {
        match taken {
            Taken::Value(Arrived::Frame(delivered)) => {
                self.playout.push(delivered);
                Ok(())
            }
            Taken::Value(Arrived::Picture(Decoded { delivered, picture, at })) => {
                if self.accept(&delivered, picture) {
                    self.present(delivered, None, at);
                }
                Ok(())
            }
            Taken::Value(Arrived::Partial(call, frame)) => {
                self.conceal(call, &frame);
                Ok(())
            }
            Taken::Nudged | Taken::TimedOut => Ok(()),
            Taken::Closed => bail!("a thread ended unexpectedly: run with -v to see why"),
        }
    }

    /// Decodes, shows and records the newest frame that is due, if any.
    pub(crate) fn play(&mut self) {
        let now = clock::now();
        let due = self.playout.is_delayed().then_some(now);
        let Some(delivered) = self.playout.take_due(now) else { return };
        if self.decodes() {
            let mut picture = std::mem::replace(&mut self.canvas, Image::empty());
            let decoded = self.decoder.decode(&delivered.frame.data, Want::Bgr, &mut picture);
            if let Err(error) = decoded {
                debug!("frame {} is damaged: {error}", delivered.frame.id);
                if let Some(why) = self.watch.failed(&error, clock::now()) {
                    warn!("{why}");
                }
                self.undecodable += 1;
                self.canvas = picture;
                return;
            }
            self.watch.succeeded();
            if !self.accept(&delivered, picture) {
                return;
            }
        }
        self.present(delivered, due, clock::now());
    }

    /// Whether partial frames are wanted.
    fn conceals(&self) -> bool {
        self.conceals && self.decodes()
    }

    /// Draws the received strips of a partial frame over the displayed picture, unless that picture
    /// is newer or of another call. The result neither counts as shown nor is recorded.
    fn conceal(&mut self, call: CallId, partial: &PartialFrame) {
        let follows = |(of, newest): (CallId, FrameId)| of == call && newest.is_before(partial.id);
        if !self.newest.is_some_and(follows) {
            return;
        }
        let concealed = self.decoder.conceal(&partial.data, &partial.present, &mut self.image);
        if concealed.shown == 0 {
            return;
        }
        self.newest = Some((call, partial.id));
        self.concealed += 1;
        if let Some(screen) = &mut self.screen {
            let Concealed { shown, of } = concealed;
            self.overlay.statistics.push(format!("concealed: {shown} of {of} strips are new"));
            let result = screen.show(Pane::Peer, &self.image, &self.overlay);
            self.overlay.statistics.pop();
            self.keep_screen(result);
        }
    }

    fn present(&mut self, delivered: Delivered, due: Option<Instant>, decoded: Instant) {
        let shown = match &mut self.screen {
            Some(screen) => {
                let result = screen.show(Pane::Peer, &self.image, &self.overlay);
                self.keep_screen(result);
                clock::now()
            }
            None => decoded,
        };
        let encoding = self.encode_times.as_ref().and_then(|l| l.take(delivered.frame.captured));
        let times = StageTimes::of(&delivered, encoding, due, decoded, shown);
        let bytes = delivered.frame.data.len();
        self.interval.record(&times, bytes);
        self.total.record(&times, bytes);
        self.first_shown.get_or_insert(shown);
        self.last_shown = Some(shown);
        if let Some(recorder) = &mut self.recorder {
            // By our own clock: each sender's media time has another origin.
            let at = delivered.frame.completed.saturating_duration_since(self.began);
            recorder.record(delivered.frame.data, at);
        }
    }

    /// Shows one of our own frames in the self view.
    pub(crate) fn present_own(&mut self, frame: &FrameBytes) {
        let Some(screen) = &mut self.screen else { return };
        match self.decoder.decode(frame.view().bytes(), Want::Bgr, &mut self.own_image) {
            Ok(()) => {
                self.own_watch.succeeded();
                let result = screen.show(Pane::SelfView, &self.own_image, &Overlay::default());
                self.keep_screen(result);
            }
            Err(error) => {
                debug!("our own frame is damaged: {error}");
                if let Some(why) = self.own_watch.failed(&error, clock::now()) {
                    warn!("{why}");
                }
            }
        }
    }

    /// Shows a card instead of the picture. `lines` is called only if a window is open.
    pub(crate) fn notice(&mut self, lines: impl FnOnce() -> Vec<String>) {
        if let Some(screen) = &mut self.screen {
            let result = screen.notice(Pane::Peer, &lines());
            self.keep_screen(result);
        }
    }

    /// Shows `text` over the picture for [`CAPTION_TIME`].
    pub(crate) fn caption(&mut self, text: String) {
        self.overlay.caption = Some(text);
        self.caption_until = Some(clock::now() + CAPTION_TIME);
    }

    /// Handles keys, captions and the state of the recording. Returns true if the program is to
    /// end.
    pub(crate) fn tick(&mut self, now: Instant, messages: &Messages) -> Result<bool> {
        if self.caption_until.is_some_and(|until| until <= now) {
            (self.overlay.caption, self.caption_until) = (None, None);
        }
        if let Some(error) = self.window_lost.take() {
            messages.info(&format!("{error}; continuing without it"));
        }
        let mut quit = self.check_recording(messages)?;
        let Some(screen) = &mut self.screen else { return Ok(quit) };
        let actions = match screen.pump() {
            Ok(actions) => actions,
            Err(error) => {
                self.keep_screen(Err(error));
                return Ok(quit);
            }
        };
        for action in actions {
            match action {
                Action::Quit => quit = true,
                Action::Saved(path) => messages.info(&format!("saved {}", path.display())),
                Action::SaveFailed(why) => messages.info(&format!("no snapshot: {why}")),
                _ => {}
            }
        }
        Ok(quit)
    }

    /// Sets the stream's nominal frame rate, in frames a second, for a recording's header.
    pub(crate) fn set_rate(&mut self, fps: f64) {
        if let Some(recorder) = &mut self.recorder {
            recorder.set_rate(fps);
        }
    }

    /// Called when another sender begins: none of its pictures has been shown yet.
    pub(crate) fn expect_another(&mut self) {
        self.last_shown = None;
    }

    /// When the last frame was shown.
    pub(crate) fn last_shown(&self) -> Option<Instant> {
        self.last_shown
    }

    /// The time from the start until the first frame was shown.
    pub(crate) fn first_picture(&self) -> Option<Duration> {
        self.first_shown.map(|at| at.saturating_duration_since(self.began))
    }

    pub(crate) fn total(&self) -> &LatencyStats {
        &self.total
    }

    /// Processor time of the decoding threads.
    pub(crate) fn helpers_cpu(&self) -> Duration {
        self.decoder.helpers_cpu() + self.decoding.as_ref().map_or(Duration::ZERO, Decoding::cpu)
    }

    /// Complete frames that could not be decoded, or failed the check.
    pub(crate) fn undecodable(&self) -> u64 {
        self.undecodable + self.decoding.as_ref().map_or(0, Decoding::damaged)
    }

    /// Partial frames of which strips were shown.
    pub(crate) fn concealed(&self) -> u64 {
        self.concealed
    }

    /// Complete frames that were not shown because a newer one was available.
    pub(crate) fn superseded(&self) -> u64 {
        self.playout.superseded() + self.decoding.as_ref().map_or(0, Decoding::superseded)
    }

    /// Writes the statistics if they are due, and updates the overlay.
    pub(crate) fn report(
        &mut self,
        now: Instant,
        statistics: &mut Statistics,
        messages: &Messages,
        sources: impl FnOnce() -> (NetStats, Option<CaptureCounters>, u64),
    ) {
        if statistics.is_due(now) {
            self.write(now, statistics, messages, sources());
        }
    }

    /// At the end, writes the statistics since the last interval.
    pub(crate) fn report_rest(
        &mut self,
        statistics: &mut Statistics,
        messages: &Messages,
        sources: (NetStats, Option<CaptureCounters>, u64),
    ) {
        let now = clock::now();
        if statistics.has_rest(now) {
            self.write(now, statistics, messages, sources);
        }
    }

    fn write(
        &mut self,
        now: Instant,
        statistics: &mut Statistics,
        messages: &Messages,
        (net, capture, superseded): (NetStats, Option<CaptureCounters>, u64),
    ) {
        let sources = Sources {
            net: &net,
            shown: Some(&self.interval),
            repairs: self.total.repairs(),
            capture,
            superseded: superseded + self.superseded(),
            undecodable: self.undecodable(),
            concealed: self.concealed,
        };
        self.overlay.statistics = statistics.write(now, &sources, messages);
        self.interval.reset();
    }

    /// Finishes the recording and reports it.
    pub(crate) fn finish(self, messages: &Messages) -> Result<()> {
        let Some(recorder) = self.recorder else { return Ok(()) };
        let finished = recorder.finish();
        recorder.notes().iter().for_each(|note| messages.info(note));
        match self.recording {
            Recording::Fine => {}
            Recording::Ended => return Ok(()),
            Recording::Failed => bail!("the recording is not complete"),
        }
        let summary = match finished {
            Ok(summary) => summary,
            Err(RecordError::ReaderGone { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        messages.info(&format!(
            "recorded {} frames, {:.1} MB{}{}{}",
            summary.frames,
            summary.bytes as f64 / 1e6,
            note(summary.dropped, "dropped, since writing was too slow"),
            note(summary.unread, "left out, since nobody read it yet"),
            note(summary.damaged, "left out, since they could not be decoded"),
        ));
        Ok(())
    }

    /// Drops the screen if showing has failed.
    fn keep_screen(&mut self, shown: Result<(), WindowError>) {
        if let Err(error) = shown {
            self.screen = None;
            self.window_lost = Some(error);
        }
    }

    /// Whether the program does anything useful besides writing statistics.
    pub(crate) fn is_of_use(&self) -> bool {
        let records = self.recorder.is_some() && self.recording == Recording::Fine;
        self.screen.is_some() || self.has_other_purpose || records
    }

    /// Whether pixels are needed here. A recorder decodes for itself.
    fn decodes(&self) -> bool {
        self.screen.is_some() || self.check.is_some()
    }

    /// Makes `picture`, decoded from `delivered`, the displayed one. Returns false if it fails the
    /// check.
    fn accept(&mut self, delivered: &Delivered, picture: Image) -> bool {
        let before = std::mem::replace(&mut self.image, picture);
        match &self.decoding {
            Some(decoding) => decoding.give_back(before),
            None => self.canvas = before,
        }
        self.newest = Some((delivered.call, delivered.frame.id));
        let passes = self.check.as_mut().is_none_or(|check| check.passes(&self.image));
        self.undecodable += u64::from(!passes);
        passes
    }

    /// Reports the state of the recording. If the recording is the program's only purpose, its end
    /// ends the program: with success if a pipe's reader has closed it, else with an error. Returns
    /// true if the program is to end.
    fn check_recording(&mut self, messages: &Messages) -> Result<bool> {
        let Some(recorder) = &self.recorder else { return Ok(false) };
        recorder.notes().iter().for_each(|note| messages.info(note));
        let Some(failure) = recorder.failure() else { return Ok(false) };
        let is_end = matches!(failure, RecordError::ReaderGone { .. });
        self.recording = if is_end { Recording::Ended } else { Recording::Failed };
        if self.is_of_use() {
            messages.info(&format!("{failure}; continuing without the recording"));
            return Ok(false);
        }
        if !is_end {
            return Err(failure.into());
        }
        messages.info(&format!("{failure}: stopping"));
        Ok(true)
    }
}

impl Check {
    fn passes(&mut self, image: &Image) -> bool {
        let Self::Pattern { newest } = self else { return true };
        let number = pattern::read_number(image);
        let passes = number.is_some() && number > *newest;
        *newest = number.max(*newest);
        passes
    }
}

/// Whether to open windows: they are wanted, and the display and the toolkit work. Reports why they
/// do not.
pub(crate) fn wants_windows(sink: &SinkArgs, messages: &Messages) -> bool {
    if matches!(sink.show, Some(Show::None | Show::Decode)) {
        return false;
    }
    let works = ensure_window_descriptors().and_then(|()| Ok(window_trial::windows_work()?));
    if let Err(why) = &works {
        messages.info(&format!("no window: {why}"));
    }
    works.is_ok()
}

fn open_screen(windows: &[WindowSpec], messages: &Messages) -> Option<Screen> {
    let opened = ensure_window_descriptors().and_then(|()| Ok(Screen::open(windows)?));
    if let Err(why) = &opened {
        messages.info(&format!("no window: {why}"));
    }
    opened.ok()
}

/// Checks for free descriptors, since a window toolkit that lacks one ends the whole process.
fn ensure_window_descriptors() -> Result<()> {
    ensure_free(WINDOW_DESCRIPTORS).map_err(|error| anyhow!(with_remedy(format!("{error:#}"))))
}

fn note(count: u64, what: &str) -> String {
    if count == 0 { String::new() } else { format!(", {count} {what}") }
}

/// A window of Qt 5.15 on X11 keeps up to five descriptors open, and needs more while it starts.
const WINDOW_DESCRIPTORS: usize = 10;

const WINDOW_PATIENCE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a line of chat stays over the picture.
const CAPTION_TIME: Duration = Duration::from_secs(6);
