//! The sending side's threads: one grabs pictures, one encodes them; between them, and behind
//! them, the newest wins.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use log::warn;

use super::{
    fitting::{Announcement, Fitting},
    ledger::{Encoding, Ledger},
    progress::{CaptureCounters, Progress},
    stop::Stop,
};
use crate::{
    cli::{
        Quality,
        args::{EncodingArgs, Pipeline},
    },
    clock,
    latest::{Latest, Taken},
    net::{
        frame::{FrameBytes, MAX_FRAME_LEN, OutgoingFrame},
        io::FrameInlet,
        time::MediaClock,
        wire::control::StreamParams,
    },
    video::{
        image::Image,
        jpeg::Encoder,
        scale::Shrinker,
        source::{Captured, Picture, Source, SourceInfo},
    },
};

/// A source that is being grabbed, encoded and handed to the network.
#[derive(Debug)]
pub(super) struct Capture {
    grabber: JoinHandle<()>,
    encoder: JoinHandle<()>,
    progress: Arc<Progress>,
    inlet: FrameInlet,
    changed: Latest<StreamParams>,
}

/// How the frames are made and where they go.
#[derive(Debug)]
pub(super) struct CaptureConfig {
    pub(super) encoding: EncodingArgs,
    pub(super) inlet: FrameInlet,
    pub(super) clock: MediaClock,
    /// Where each frame's encoding is noted, for a receiver in this process.
    pub(super) ledger: Option<Ledger>,
    /// Where our own frames go, to be shown to ourselves.
    pub(super) self_view: Option<Latest<FrameBytes>>,
    /// Raised when grabbing may begin; a file should not play to nobody.
    pub(super) gate: Arc<AtomicBool>,
    pub(super) stop: Stop,
}

impl Capture {
    /// Starts both threads.
    pub(super) fn start(source: Source, config: CaptureConfig) -> std::io::Result<Self> {
        let progress = Arc::new(Progress::new(source.damaged()));
        let stream = stream_params(source.info(), config.encoding.quality);
        let (inlet, changed) = (config.inlet.clone(), Latest::new());
        let is_paced = source.is_paced();
        let pictures = Latest::new();
        let grabber = GrabberThread {
            source,
            pictures: pictures.clone(),
            gate: Arc::clone(&config.gate),
            stop: config.stop.clone(),
            progress: Arc::clone(&progress),
        };
        let encoder = EncoderThread {
            pictures,
            config,
            stream,
            is_paced,
            changed: changed.clone(),
            progress: Arc::clone(&progress),
        };
        Ok(Self {
            grabber: spawn("grab", || grabber.run())?,
            encoder: spawn("encode", || encoder.run())?,
            progress,
            inlet,
            changed,
        })
    }

    /// Whether the source has ended, and its last frame has been handed over.
    pub(super) fn is_finished(&self) -> bool {
        self.encoder.is_finished()
    }

    pub(super) fn counters(&self) -> CaptureCounters {
        CaptureCounters {
            picture_bitrate: self.inlet.picture_bitrates().path,
            ..self.progress.read()
        }
    }

    /// Where it is said that the stream is another now, which the peer is to be told.
    pub(super) fn changed(&self) -> Latest<StreamParams> {
        self.changed.clone()
    }

    /// Waits for both threads; what made the source fail, if it did.
    pub(super) fn join(self) -> (CaptureCounters, Option<String>) {
        for thread in [self.grabber, self.encoder] {
            if thread.join().is_err() {
                self.progress.fail("a capture thread panicked: please report this".into());
            }
        }
        let error = self.progress.take_error();
        let picture_bitrate = self.inlet.picture_bitrates().path;
        (CaptureCounters { picture_bitrate, ..self.progress.read() }, error)
    }
}

/// What the peer is told of a source at first.
pub(super) fn stream_params(info: &SourceInfo, quality: Quality) -> StreamParams {
    StreamParams {
        width: info.width as u16,
        height: info.height as u16,
        millifps: (info.fps * 1000.0) as u32,
        quality: (!info.passthrough).then_some(quality.highest()),
    }
}

struct GrabberThread {
    source: Source,
    pictures: Latest<Captured>,
    gate: Arc<AtomicBool>,
    stop: Stop,
    progress: Arc<Progress>,
}

impl GrabberThread {
    fn run(mut self) {
        while !self.gate.load(Ordering::Relaxed) && !self.stop.is_requested() {
            std::thread::park_timeout(GATE_INTERVAL);
        }
        loop {
            self.await_demand();
            match self.source.next(self.stop.flag()) {
                Ok(Some(picture)) => {
                    self.progress.captured.fetch_add(1, Ordering::Relaxed);
                    if self.pictures.is_closed() {
                        break;
                    }
                    if self.pictures.put(picture).is_some() {
                        self.progress.superseded.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.progress.fail(error.to_string());
                    break;
                }
            }
        }
        self.pictures.close();
        self.progress.add_cpu(Duration::ZERO);
    }

    /// A source without a rate would make pictures that nobody takes: the next one is made while
    /// the encoder works on the last.
    fn await_demand(&self) {
        while !self.source.is_paced()
            && !self.stop.is_requested()
            && !self.pictures.is_closed()
            && !self.pictures.wait_empty(DEMAND_LOOK)
        {}
    }
}

struct EncoderThread {
    pictures: Latest<Captured>,
    config: CaptureConfig,
    /// What the source gives.
    stream: StreamParams,
    /// Whether the source has a rate of its own.
    is_paced: bool,
    /// Where it is said that the stream is another now.
    changed: Latest<StreamParams>,
    progress: Arc<Progress>,
}

/// What frames are made with.
struct Workshop {
    encoder: Encoder,
    shrinker: Shrinker,
    fitting: Fitting,
    announcement: Announcement,
}

/// What became of a picture.
enum Made {
    Frame(FrameBytes),
    /// It was left out, on purpose.
    Thinned,
}

impl EncoderThread {
    fn run(self) {
        let EncodingArgs { quality, strips, gray, .. } = self.config.encoding;
        let mut workshop = Workshop {
            encoder: Encoder::new(quality.highest(), strips),
            shrinker: Shrinker::new(),
            fitting: Fitting::new(quality, &self.stream),
            announcement: Announcement::new(self.stream),
        };
        workshop.encoder.set_gray(gray);
        loop {
            match self.pictures.take(Duration::from_secs(1)) {
                Taken::Value(picture) => self.hand_over(&mut workshop, picture),
                Taken::TimedOut | Taken::Nudged => {}
                Taken::Closed => break,
            }
        }
        self.progress.add_cpu(workshop.encoder.helpers_cpu());
    }

    fn hand_over(&self, workshop: &mut Workshop, Captured { picture, captured, .. }: Captured) {
        let began = clock::now();
        let made = match picture {
            Picture::Jpeg(jpeg) => self.pass_through(workshop, jpeg, captured),
            Picture::Image(image) => self.fit(workshop, &image, captured),
        };
        let data = match made {
            Ok(Made::Frame(data)) => data,
            Ok(Made::Thinned) => {
                self.progress.thinned.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(why) => return self.skip(&why),
        };
        let len = data.view().bytes().len();
        self.progress.encoded.fetch_add(1, Ordering::Relaxed);
        self.progress.jpeg_bytes.fetch_add(len as u64, Ordering::Relaxed);
        if let Some(ledger) = &self.config.ledger {
            let captured = self.config.clock.media_time(captured);
            ledger.enter(captured, Encoding { began, ended: clock::now() });
        }
        if let Some(self_view) = &self.config.self_view {
            self_view.put(data);
        }
    }

    fn pass_through(
        &self,
        workshop: &mut Workshop,
        jpeg: Vec<u8>,
        captured: Instant,
    ) -> Result<Made, String> {
        if jpeg.len() > MAX_FRAME_LEN {
            return Err(self.too_large());
        }
        let bitrates = self.config.inlet.picture_bitrates();
        if !workshop.fitting.admits(captured, jpeg.len(), bitrates) {
            return Ok(Made::Thinned);
        }
        let data = FrameBytes::from(jpeg);
        self.push(&data, captured);
        Ok(Made::Frame(data))
    }

    /// Encodes a picture as the path can bear it, or leaves it out.
    fn fit(
        &self,
        workshop: &mut Workshop,
        image: &Image,
        captured: Instant,
    ) -> Result<Made, String> {
        let Workshop { encoder, shrinker, fitting, announcement } = workshop;
        let Some(plan) = fitting.plan(captured, self.config.inlet.picture_bitrates()) else {
            return Ok(Made::Thinned);
        };
        let image = shrinker.divide(image, plan.size_divisor);
        encoder.set_quality(plan.quality);
        let data = self.encode(encoder, image, captured)?;
        fitting.record(plan, data.view().bytes().len());
        self.progress.note_plan(plan);
        let stream = StreamParams {
            width: image.width as u16,
            height: image.height as u16,
            millifps: self.stream.millifps / plan.frame_divisor,
            quality: Some(plan.quality),
        };
        if let Some(stream) = announcement.note(captured, stream) {
            self.changed.put(stream);
        }
        Ok(Made::Frame(data))
    }

    /// Each strip may leave while the next is encoded.
    fn encode(
        &self,
        encoder: &mut Encoder,
        image: &Image,
        captured: Instant,
    ) -> Result<FrameBytes, String> {
        let is_pipelined = self.is_pipelined();
        encoder.set_sharers(self.sharers());
        encoder.set_leave_early(is_pipelined);
        let data = FrameBytes::growing(self.usual_len());
        let mut len = 0;
        let result = encoder.encode_strips(image, |nth, strip| {
            len += strip.len();
            if len > MAX_FRAME_LEN {
                return;
            }
            data.append(strip);
            if nth.is_last() {
                data.finish();
            }
            let begins = if is_pipelined { nth.index == 0 } else { nth.is_last() };
            if begins {
                self.push(&data, captured);
            } else if is_pipelined {
                self.config.inlet.wake();
            }
        });
        let failure = match result {
            Ok(()) if len <= MAX_FRAME_LEN => None,
            Ok(()) => Some(self.too_large()),
            Err(error) => Some(format!("a picture could not be encoded: {error}")),
        };
        let Some(failure) = failure else { return Ok(data) };
        data.abandon();
        self.config.inlet.wake();
        Err(failure)
    }

    /// On one machine there is no way that strips could be on meanwhile, and their hand-overs are
    /// in the way of the encoder: at 720p they cost 0.3 to 0.6 ms of processor time a frame.
    fn is_pipelined(&self) -> bool {
        match self.config.encoding.pipeline {
            Pipeline::Auto => self.config.inlet.sends_away(),
            Pipeline::On => true,
            Pipeline::Off => false,
        }
    }

    /// How many share this machine's cores. As fast as possible on one machine, the receiver
    /// always has a frame to decode while we encode the next: half of the cores each, and fewer
    /// hand-overs, carry 284 frames of 1080p a second instead of 225 on two.
    fn sharers(&self) -> usize {
        if self.is_paced || self.config.inlet.sends_away() { 1 } else { 2 }
    }

    fn push(&self, data: &FrameBytes, captured: Instant) {
        if self.config.inlet.push(OutgoingFrame { data: data.clone(), captured }) {
            self.progress.superseded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A source that begins with such a frame never gets better, and is given up.
    fn too_large(&self) -> String {
        let limit = MAX_FRAME_LEN >> 20;
        let why = format!("a frame is over the limit of {limit} MiB: lower --quality or --size");
        if self.progress.encoded.load(Ordering::Relaxed) == 0 {
            self.progress.fail(why.clone());
            self.pictures.close();
        }
        why
    }

    /// Frames of one stream are of like length, so this is room for the next.
    fn usual_len(&self) -> usize {
        let frames = self.progress.encoded.load(Ordering::Relaxed).max(1);
        (self.progress.jpeg_bytes.load(Ordering::Relaxed) / frames * 5 / 4) as usize
    }

    /// The first is said; a source that does it once does it always.
    fn skip(&self, why: &str) {
        if self.progress.failed.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!("{why}");
        }
    }
}

/// A thread of ours, named for debuggers and `top -H`.
pub(super) fn spawn<F: FnOnce() + Send + 'static>(
    name: &str,
    body: F,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(body)
}

/// How often who waits for demand looks whether it should stop.
const DEMAND_LOOK: Duration = Duration::from_millis(50);

const GATE_INTERVAL: Duration = Duration::from_millis(5);
