//! Receives a stream for its consumers, and decodes it once.
//!
//! One thread waits for the network. It begins to decode a frame while its last chunks are still
//! arriving, holds frames back if a playout delay is set, checks and records them, and gives them
//! to every consumer. Each consumer has a mailbox of its own, in which the newest frame wins.
//!
//! If nothing but a pipe takes the frames, each is taken when the pipe's reader is ready for it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use log::{debug, error, warn};

use super::{
    check::Check,
    latency::ShownFrames,
    playout::Playout,
    received::{Received, Update},
};
use crate::{
    clock,
    latest::{Latest, Taken},
    net::{
        frame::{FrameId, PartialFrame},
        io::{ArrivingCopy, ArrivingFrame, Handle, TakenNotices},
        session::{CallId, Delivered},
    },
    threads::spawn,
    video::{
        image::Image,
        image_pool::ImagePool,
        jpeg::{Concealed, DecodeWatch, Decoder, OutputFormat, PartialDecode},
        sink::Recorder,
    },
};

/// A received stream. Its thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Subscriber {
    received: Latest<Delivered>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What a subscriber does with each frame, besides handing it to its consumers.
#[derive(Debug)]
pub(crate) struct SubscriberConfig {
    /// What frames are decoded to. `None`: they are not.
    pub(crate) decodes_to: Option<OutputFormat>,
    /// What decoded pictures must contain; the others count as undecodable. Needs `decodes_to`.
    pub(crate) check: Option<Check>,
    /// Whether the strips of partial frames are drawn over the last picture. Needs `decodes_to`.
    pub(crate) conceals: bool,
    /// How long frames are held back, to absorb the network's jitter.
    pub(crate) playout_delay: Duration,
    /// Records each complete frame that is handed out.
    pub(crate) recording: Option<RecordingSink>,
    /// If no consumer displays frames: where each is counted as shown when it is decoded or,
    /// without decoding, when it is handed out. `None`: a consumer counts the frames that it shows.
    pub(crate) counts: Option<ShownFrames>,
}

/// A recording of the stream.
#[derive(Debug)]
pub(crate) struct RecordingSink {
    pub(crate) recorder: Arc<Recorder>,
    /// Whether frames are recorded as decoded planes. Requires a recorder that takes planes, and
    /// frames that are decoded to planes.
    pub(crate) as_planes: bool,
    /// Time zero of the recording, on our own clock: each sender's media time has another origin.
    pub(crate) epoch: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    consumers: Mutex<Vec<Consumer>>,
    is_over: AtomicBool,
    /// Processor time of the thread and its helpers, in nanoseconds.
    cpu: AtomicU64,
    undecodable: AtomicU64,
    superseded: AtomicU64,
    concealed: AtomicU64,
}

#[derive(Debug)]
struct Consumer {
    mailbox: Latest<Update>,
    /// Whether frames are put into the mailbox. Otherwise its waiter is only woken for urgent
    /// events and the end of the stream.
    takes_frames: bool,
}

impl Subscriber {
    /// Starts to receive what `handle` delivers.
    pub(crate) fn start(handle: &Handle, config: SubscriberConfig) -> std::io::Result<Self> {
        // With a playout delay, the arriving frame is not the next one to be decoded.
        let decodes = config.decodes_to.is_some();
        let is_early = decodes && config.playout_delay.is_zero();
        let input = Input {
            whole: handle.received(),
            partial: (decodes && config.conceals).then(|| handle.partial()),
            held: None,
            arriving: is_early.then(|| handle.arriving()),
            urgent: handle.urgent(),
            notices: Some(handle.taken_notices()?),
        };
        Self::of(input, config)
    }

    fn of(input: Input, config: SubscriberConfig) -> std::io::Result<Self> {
        let (received, shared) = (input.whole.clone(), Arc::<Shared>::default());
        let SubscriberConfig { decodes_to, check, conceals, playout_delay, recording, counts } =
            config;
        let is_for_display = |sink: &RecordingSink| decodes_to.is_some() && !sink.as_planes;
        let pipe = recording.as_ref().filter(|sink| !is_for_display(sink));
        let pipe = pipe.map(|sink| Arc::clone(&sink.recorder));
        if let Some(pipe) = &pipe {
            let mailbox = received.clone();
            pipe.set_on_ready(move || mailbox.nudge());
        }
        let thread = SubscriberThread {
            input,
            pipe,
            playout: Playout::new(playout_delay),
            check,
            recording,
            counts,
            recorded_millifps: 0,
            shared: Arc::clone(&shared),
        };
        let thread = match decodes_to {
            Some(format) => Decoder::on_a_thread(move |decoder| {
                thread.run(Some(FrameDecoder::new(decoder, format, conceals)));
            })?,
            None => spawn("receive", || thread.run(None))?,
        };
        Ok(Self { received, shared, thread: Some(thread) })
    }

    /// Adds a consumer, and returns its mailbox. Its waiter is also woken for urgent events. The
    /// mailbox is closed when the stream ends.
    pub(crate) fn subscribe(&self) -> Latest<Update> {
        self.add_consumer(true)
    }

    /// Adds a mailbox that stays empty. Its waiter is woken only for urgent events and when the
    /// stream ends.
    pub(crate) fn subscribe_to_events(&self) -> Latest<Update> {
        self.add_consumer(false)
    }

    fn add_consumer(&self, takes_frames: bool) -> Latest<Update> {
        let mailbox = Latest::new();
        self.shared.consumers().push(Consumer { mailbox: mailbox.clone(), takes_frames });
        // The thread may already have ended.
        if self.shared.is_over.load(Ordering::Relaxed) {
            mailbox.close();
        }
        mailbox
    }

    /// Frames that were replaced by newer ones in the playout buffer, or before a consumer took
    /// them. The latter count once for each such consumer.
    pub(crate) fn superseded(&self) -> u64 {
        self.shared.superseded.load(Ordering::Relaxed)
    }

    /// Frames that could not be decoded, or failed the check.
    pub(crate) fn undecodable(&self) -> u64 {
        self.shared.undecodable.load(Ordering::Relaxed)
    }

    /// Partial frames from which strips were handed out.
    pub(crate) fn concealed(&self) -> u64 {
        self.shared.concealed.load(Ordering::Relaxed)
    }

    /// Processor time used so far by the thread and its helpers.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.shared.cpu.load(Ordering::Relaxed))
    }
}

/// Ends the thread, and waits for it: afterwards it records no more.
impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.received.nudge();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the receiving thread panicked: please report this");
        }
    }
}

impl Shared {
    fn consumers(&self) -> MutexGuard<'_, Vec<Consumer>> {
        // No code panics under the lock.
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(&self, update: &Update) {
        for consumer in self.consumers().iter().filter(|consumer| consumer.takes_frames) {
            if let Some(Update::Frame(_)) = consumer.mailbox.put(update.clone()) {
                self.superseded.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Complete and partial frames. A partial frame comes after the complete ones that were put before
/// it.
#[derive(Debug)]
struct Input {
    whole: Latest<Delivered>,
    /// `None`: partial frames are not wanted.
    partial: Option<PartialFrames>,
    /// A partial frame, while the complete frame before it is taken.
    held: Option<(CallId, PartialFrame)>,
    /// `None`: frames are not decoded while they arrive.
    arriving: Option<ArrivingFrame>,
    urgent: Arc<AtomicBool>,
    /// Tells senders which frames were taken; `None` in tests.
    notices: Option<TakenNotices>,
}

/// The mailbox of partial frames.
type PartialFrames = Latest<(CallId, PartialFrame)>;

/// The next frame.
#[derive(Debug)]
enum Next {
    Whole(Delivered),
    Partial(CallId, PartialFrame),
}

impl Input {
    /// Waits up to `timeout` for the next frame: the newest complete one, then the newest partial
    /// one.
    fn take(&mut self, timeout: Duration) -> Taken<Next> {
        let fetch = || self.partial.as_ref().and_then(Latest::try_take);
        let Some((call, partial)) = self.held.take().or_else(fetch) else {
            return self.whole.take(timeout).map(Next::Whole);
        };
        // A preceding complete frame was put first, so it is here now unless already taken.
        match self.whole.try_take() {
            Some(whole) => {
                self.held = Some((call, partial));
                Taken::Value(Next::Whole(whole))
            }
            None => Taken::Value(Next::Partial(call, partial)),
        }
    }
}

struct SubscriberThread {
    input: Input,
    /// The recorder, if it is the only consumer of the frames. A frame taken before the recorder is
    /// ready for it may be replaced, and its sender would not know.
    pipe: Option<Arc<Recorder>>,
    playout: Playout,
    check: Option<Check>,
    recording: Option<RecordingSink>,
    counts: Option<ShownFrames>,
    /// The stream's nominal rate, for the recording's header; 0 until a recorded frame has one.
    recorded_millifps: u32,
    shared: Arc<Shared>,
}

impl SubscriberThread {
    fn run(mut self, mut decoder: Option<FrameDecoder>) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let taken = self.take();
            // Consumers wait for frames, so urgent events are passed on to them.
            if self.input.urgent.swap(false, Ordering::Relaxed) {
                self.shared.consumers().iter().for_each(|consumer| consumer.mailbox.nudge());
            }
            match taken {
                Taken::Value(Next::Whole(delivered)) => {
                    if let Some(notices) = &self.input.notices {
                        notices.note(&delivered);
                    }
                    self.playout.push(delivered);
                }
                Taken::Value(Next::Partial(call, frame)) => {
                    let concealed = decoder.as_mut().and_then(|d| d.conceal(call, &frame));
                    if let Some((image, concealed)) = concealed {
                        self.shared.concealed.fetch_add(1, Ordering::Relaxed);
                        self.shared.hand_out(&Update::Concealed(image, concealed));
                    }
                }
                Taken::Nudged => {
                    if let (Some(decoder), Some(arriving)) = (&mut decoder, &self.input.arriving) {
                        decoder.decode_ahead(arriving);
                    }
                }
                Taken::TimedOut => {}
                Taken::Closed => break,
            }
            self.play(decoder.as_mut());
            let helpers = decoder.as_ref().map(FrameDecoder::helpers_cpu).unwrap_or_default();
            let used = clock::thread_cpu() + helpers;
            self.shared.cpu.store(used.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// Waits for the next frame. If only a pipe takes the frames, also waits until it is ready for
    /// one.
    fn take(&mut self) -> Taken<Next> {
        let Some(pipe) = &self.pipe else { return self.input.take(self.wait_limit()) };
        self.input.whole.wait(self.wait_limit());
        if pipe.is_ready() || self.input.whole.is_closed() {
            self.input.take(Duration::ZERO)
        } else {
            self.input.whole.wait_nudge(IDLE_WAIT).map(Next::Whole)
        }
    }

    /// How long to wait for the next frame: until a frame that is held back is due.
    fn wait_limit(&self) -> Duration {
        let due = self.playout.next_due();
        due.map_or(IDLE_WAIT, |due| due.saturating_duration_since(clock::now()))
    }

    /// Decodes and hands out the newest frame that is due, if any.
    fn play(&mut self, decoder: Option<&mut FrameDecoder>) {
        if self.playout.is_empty() {
            return;
        }
        let now = clock::now();
        let before = self.playout.superseded();
        let delivered = self.playout.take_due(now);
        let superseded = self.playout.superseded() - before;
        self.shared.superseded.fetch_add(superseded, Ordering::Relaxed);
        let Some(delivered) = delivered else { return };
        let image = match decoder.map(|decoder| decoder.decode(&delivered)) {
            Some(Some(image)) if self.check.as_mut().is_none_or(|c| c.passes(&image)) => {
                Some(image)
            }
            Some(_) => {
                self.shared.undecodable.fetch_add(1, Ordering::Relaxed);
                return;
            }
            None => None,
        };
        let played = self.playout.is_delayed().then_some(now);
        let delivered = Arc::new(delivered);
        self.finish(Received { delivered, image, played, decoded: clock::now() });
    }

    /// Records, counts and hands out a frame.
    fn finish(&mut self, received: Received) {
        if let Some(RecordingSink { recorder, as_planes, epoch }) = &self.recording {
            let Delivered { frame, stream, .. } = &*received.delivered;
            let millifps = stream.map_or(self.recorded_millifps, |stream| stream.millifps);
            if std::mem::replace(&mut self.recorded_millifps, millifps) != millifps {
                recorder.set_rate(f64::from(millifps) / 1000.0);
            }
            let at = frame.completed.saturating_duration_since(*epoch);
            match received.image.as_ref().filter(|_| *as_planes) {
                Some(planes) => recorder.record_planes(Arc::clone(planes), at),
                None => recorder.record(&frame.data[..], at),
            }
        }
        if let Some(counts) = &self.counts {
            counts.record(&received, received.decoded);
        }
        self.shared.hand_out(&Update::Frame(received));
    }
}

/// Closes the mailboxes however the thread ends, so that no consumer waits forever.
impl Drop for SubscriberThread {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.consumers().iter().for_each(|consumer| consumer.mailbox.close());
    }
}

/// Decodes frames, beginning while they arrive.
struct FrameDecoder {
    decoder: Decoder,
    format: OutputFormat,
    /// The frame still arriving, and the part of it that is decoded into the canvas.
    prefix: ArrivingCopy,
    ahead: PartialDecode,
    canvas: Image,
    pool: ImagePool,
    /// Whether partial frames are drawn.
    conceals: bool,
    /// The picture handed out last, over which partial frames are drawn.
    last: Option<(CallId, FrameId, Arc<Image>)>,
    watch: DecodeWatch,
}

impl FrameDecoder {
    fn new(decoder: Decoder, format: OutputFormat, conceals: bool) -> Self {
        Self {
            decoder,
            format,
            prefix: ArrivingCopy::default(),
            ahead: PartialDecode::default(),
            canvas: Image::empty(),
            pool: ImagePool::default(),
            conceals,
            last: None,
            watch: DecodeWatch::default(),
        }
    }

    /// Decodes a complete frame. `None` if it is damaged.
    fn decode(&mut self, delivered: &Delivered) -> Option<Arc<Image>> {
        // What was decoded ahead of another frame is lost, since the canvas is overwritten.
        let ahead = std::mem::take(&mut self.ahead);
        let (call, id) = (delivered.call, delivered.frame.id);
        let is_begun = self.prefix.of.take() == Some((call, id));
        let ahead = if is_begun { ahead } else { PartialDecode::default() };
        let (data, canvas) = (&delivered.frame.data, &mut self.canvas);
        if let Err(error) = self.decoder.decode_rest(ahead, data, self.format, canvas) {
            debug!("frame {id} is damaged: {error}");
            if let Some(why) = self.watch.failed(&error, clock::now()) {
                warn!("{why}");
            }
            return None;
        }
        self.watch.succeeded();
        Some(self.share_canvas(call, id))
    }

    /// Decodes the received part of the frame that is still arriving.
    fn decode_ahead(&mut self, arriving: &ArrivingFrame) {
        if arriving.update(&mut self.prefix) {
            self.ahead = PartialDecode::default();
        }
        let (bytes, canvas) = (&self.prefix.bytes, &mut self.canvas);
        self.decoder.decode_ahead(&mut self.ahead, bytes, self.format, canvas);
    }

    /// Draws the received strips of a partial frame over the last picture, if that is an older one
    /// of the same call. `None` if nothing could be drawn.
    fn conceal(&mut self, call: CallId, partial: &PartialFrame) -> Option<(Arc<Image>, Concealed)> {
        let follows = |of: CallId, newest: FrameId| of == call && newest.is_before(partial.id);
        let (.., last) = self.last.as_ref().filter(|(of, newest, _)| follows(*of, *newest))?;
        // The canvas may hold strips of the next frame, decoded ahead.
        let mut picture = self.pool.reclaim();
        picture.clone_from(last);
        let concealed = self.decoder.conceal(&partial.data, &partial.present, &mut picture);
        let shared = self.pool.share(picture);
        if concealed.shown == 0 {
            return None;
        }
        self.last = Some((call, partial.id, Arc::clone(&shared)));
        Some((shared, concealed))
    }

    /// Hands out the canvas as the picture of this frame, and takes another one.
    fn share_canvas(&mut self, call: CallId, id: FrameId) -> Arc<Image> {
        self.last = None;
        let next = self.pool.reclaim();
        let image = self.pool.share(std::mem::replace(&mut self.canvas, next));
        self.last = self.conceals.then(|| (call, id, Arc::clone(&image)));
        image
    }

    fn helpers_cpu(&self) -> Duration {
        self.decoder.helpers_cpu()
    }
}

/// Effectively forever: only frames, nudges or the end of the stream end the wait.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::wire::control::StreamParams,
        video::{
            image::PixelFormat,
            jpeg::{Encoder, Strips},
            sink::OutputSpec,
        },
    };

    const WAIT_LIMIT: Duration = Duration::from_secs(20);

    /// The mailboxes of a subscriber, without a network.
    #[derive(Default)]
    struct Network {
        received: Latest<Delivered>,
        partial: PartialFrames,
        urgent: Arc<AtomicBool>,
    }

    impl Network {
        fn start(&self) -> (Subscriber, Latest<Update>) {
            self.start_with(SubscriberConfig {
                decodes_to: Some(OutputFormat::Bgr),
                check: None,
                conceals: true,
                playout_delay: Duration::ZERO,
                recording: None,
                counts: None,
            })
        }

        fn input(&self) -> Input {
            Input {
                whole: self.received.clone(),
                partial: Some(self.partial.clone()),
                held: None,
                arriving: Some(ArrivingFrame::default()),
                urgent: Arc::clone(&self.urgent),
                notices: None,
            }
        }

        fn start_with(&self, config: SubscriberConfig) -> (Subscriber, Latest<Update>) {
            let subscriber = Subscriber::of(self.input(), config).expect("a thread");
            let updates = subscriber.subscribe();
            (subscriber, updates)
        }

        fn deliver(&self, id: u32, data: &[u8]) {
            self.received.put(Delivered::example(id, data, clock::now()));
        }

        /// Delivers `frame` without the end of its last strip.
        fn deliver_partial(&self, id: u32, frame: Vec<u8>) {
            let present = std::iter::once(0..frame.len() - 10).collect();
            self.partial
                .put((CallId(1), PartialFrame { id: FrameId(id), data: frame.into(), present }));
            self.received.nudge();
        }
    }

    /// A grey frame in four strips: smaller frames are decoded whole.
    fn frame(luma: u8) -> Vec<u8> {
        let mut image = Image::blank(640, 256, PixelFormat::Gray);
        // Some texture, so that all strips have about the same number of bytes.
        image
            .data
            .iter_mut()
            .enumerate()
            .for_each(|(at, luma_at)| *luma_at = luma + (at % 7) as u8);
        let mut frame = Vec::new();
        Encoder::new(90, Strips::Count(4)).encode(&image, &mut frame).expect("encodes");
        frame
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let until = clock::now() + WAIT_LIMIT;
        while !condition() && clock::now() < until {
            std::thread::yield_now();
        }
    }

    fn take_frame(updates: &Latest<Update>) -> Received {
        match updates.take(WAIT_LIMIT) {
            Taken::Value(Update::Frame(received)) => received,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn frames_are_decoded_and_damaged_ones_are_counted() {
        let network = Network::default();
        let (subscriber, updates) = network.start();
        for (id, luma) in [(1, 40), (3, 200)] {
            network.deliver(id, &frame(luma));
            let received = take_frame(&updates);
            let image = received.image.expect("a picture");
            assert_eq!(received.delivered.frame.id, FrameId(id));
            assert!(image.data[0].abs_diff(luma) < 8, "{}", image.data[0]);
            network.deliver(id + 1, &[0; 9]);
            wait_until(|| subscriber.undecodable() >= u64::from(id.div_ceil(2)));
        }
        assert_eq!((subscriber.undecodable(), subscriber.superseded()), (2, 0));
        assert!(subscriber.cpu() > Duration::ZERO);
    }

    #[test]
    fn every_consumer_gets_every_frame() {
        let network = Network::default();
        let (subscriber, updates) = network.start();
        let second = subscriber.subscribe();
        for id in 1..4 {
            network.deliver(id, &frame(40));
            assert_eq!(take_frame(&updates).delivered.frame.id, FrameId(id));
        }
        wait_until(|| subscriber.superseded() == 2);
        assert_eq!(subscriber.superseded(), 2, "a slow consumer has missed two frames");
        assert_eq!(take_frame(&second).delivered.frame.id, FrameId(3));
    }

    #[test]
    fn frames_without_a_decoder_are_handed_out_and_counted() {
        let network = Network::default();
        let counts = ShownFrames::new(clock::now(), None);
        let (_subscriber, updates) = network.start_with(SubscriberConfig {
            decodes_to: None,
            check: None,
            conceals: false,
            playout_delay: Duration::ZERO,
            recording: None,
            counts: Some(counts.clone()),
        });
        network.deliver(1, b"not a picture");
        let received = take_frame(&updates);
        assert_eq!(
            (received.image, &received.delivered.frame.data[..]),
            (None, &b"not a picture"[..])
        );
        assert_eq!((counts.total().shown(), counts.last()), (1, Some(received.decoded)));
    }

    #[test]
    fn held_frames_are_handed_out_when_they_are_due() {
        let network = Network::default();
        let playout_delay = Duration::from_millis(30);
        let (subscriber, updates) = network.start_with(SubscriberConfig {
            decodes_to: Some(OutputFormat::Bgr),
            check: None,
            conceals: false,
            playout_delay,
            recording: None,
            counts: None,
        });
        network.deliver(1, &frame(40));
        let received = take_frame(&updates);
        let held = received.played.expect("it was held") - received.delivered.frame.completed;
        assert!(held >= playout_delay, "{held:?}");
        assert_eq!(subscriber.superseded(), 0);
    }

    #[test]
    fn a_recording_has_the_rate_of_the_stream() {
        let network = Network::default();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.y4m");
        let output = OutputSpec::try_from(path.clone().into_os_string()).expect("a y4m file");
        let recorder = Arc::new(Recorder::create(&output, 30.0, false).expect("it can be created"));
        let recording = RecordingSink {
            recorder: Arc::clone(&recorder),
            as_planes: false,
            epoch: clock::now(),
        };
        let (subscriber, updates) = network.start_with(SubscriberConfig {
            decodes_to: None,
            check: None,
            conceals: false,
            playout_delay: Duration::ZERO,
            recording: Some(recording),
            counts: None,
        });
        let mut delivered = Delivered::example(1, &frame(40), clock::now());
        delivered.stream =
            Some(StreamParams { width: 640, height: 256, millifps: 25_000, quality: None });
        network.received.put(delivered);
        take_frame(&updates);
        drop(subscriber);
        assert_eq!(recorder.finish().expect("it is written").frames, 1);
        let recorded = std::fs::read(path).expect("it exists");
        let header = String::from_utf8_lossy(&recorded[..60]);
        assert!(header.contains(" F25:1 ") || header.contains(" F25000:1000 "), "{header}");
    }

    #[test]
    fn a_pipe_gets_frames_that_were_decoded_for_it() {
        let network = Network::default();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe.y4m");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("coreutils").success());
        let output = OutputSpec::try_from(path.clone().into_os_string()).expect("a y4m file");
        let recorder = Arc::new(Recorder::create(&output, 30.0, false).expect("it can be created"));
        assert!(recorder.takes_planes());
        let reader = std::thread::spawn(move || std::fs::read(path).expect("it can be read"));
        let recording =
            RecordingSink { recorder: Arc::clone(&recorder), as_planes: true, epoch: clock::now() };
        let (subscriber, updates) = network.start_with(SubscriberConfig {
            decodes_to: Some(OutputFormat::Planar),
            check: None,
            conceals: false,
            playout_delay: Duration::ZERO,
            recording: Some(recording),
            counts: None,
        });
        let mut id = 0;
        // The first may come before the FIFO has its reader.
        while recorder.summary().frames < 3 {
            id += 1;
            network.deliver(id, &frame(40));
            let received = take_frame(&updates);
            assert_eq!(received.image.expect("a picture").format, PixelFormat::Gray);
        }
        network.deliver(id + 1, b"damaged");
        wait_until(|| subscriber.undecodable() == 1);
        drop(subscriber);
        assert!(recorder.finish().expect("it is written").frames >= 3);
        drop(recorder);
        let written = reader.join().expect("it reads");
        assert!(written.len() > 3 * 640 * 256, "{} bytes", written.len());
    }

    #[test]
    fn a_picture_that_fails_the_check_is_not_handed_out() {
        let network = Network::default();
        let (subscriber, updates) = network.start_with(SubscriberConfig {
            decodes_to: Some(OutputFormat::Bgr),
            check: Some(Check::Pattern { newest: None }),
            conceals: false,
            playout_delay: Duration::ZERO,
            recording: None,
            counts: None,
        });
        network.deliver(1, &frame(40));
        wait_until(|| subscriber.undecodable() == 1);
        assert_eq!((subscriber.undecodable(), updates.try_take().is_some()), (1, false));
    }

    #[test]
    fn a_partial_frame_follows_the_complete_ones_before_it() {
        let network = Network::default();
        // Both are waiting, as during the decoding of an earlier frame.
        network.deliver(1, &frame(40));
        network.deliver_partial(2, frame(200));
        let mut input = network.input();
        let mut next = || input.take(WAIT_LIMIT);
        assert!(matches!(next(), Taken::Value(Next::Whole(whole)) if whole.frame.id == FrameId(1)));
        let partial = next();
        assert!(matches!(partial, Taken::Value(Next::Partial(_, of)) if of.id == FrameId(2)));
    }

    #[test]
    fn a_partial_frame_is_drawn_over_the_last_picture() {
        let network = Network::default();
        let (subscriber, updates) = network.start();
        network.deliver(1, &frame(40));
        assert_eq!(take_frame(&updates).delivered.frame.id, FrameId(1));
        network.deliver_partial(2, frame(200));
        let Taken::Value(Update::Concealed(image, Concealed { shown, of })) =
            updates.take(WAIT_LIMIT)
        else {
            panic!("nothing was drawn")
        };
        assert!(0 < shown && shown < of, "{shown} of {of}");
        let (first, last) = (image.data[0], image.data[image.data.len() - 1]);
        assert!(first.abs_diff(200) < 8 && last.abs_diff(40) < 8, "{first} {last}");
        assert_eq!(subscriber.concealed(), 1);
        // Older than the picture, so it is not drawn.
        network.deliver_partial(1, frame(100));
        network.deliver(3, &frame(50));
        assert_eq!(take_frame(&updates).delivered.frame.id, FrameId(3));
        assert_eq!(subscriber.concealed(), 1);
    }

    #[test]
    fn urgent_events_and_the_end_wake_the_consumers() {
        let network = Network::default();
        let (_subscriber, updates) = network.start();
        network.urgent.store(true, Ordering::Relaxed);
        network.received.nudge();
        assert!(matches!(updates.take(WAIT_LIMIT), Taken::Nudged));
        network.received.close();
        assert!(matches!(updates.take(WAIT_LIMIT), Taken::Closed));
    }
}
