//! The sending side's threads: one grabs pictures, one encodes them. The newest wins in both
//! mailboxes, before and after the encoder.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use log::warn;

use super::{
    adaptation::{Adaptation, JpegPlan, ParamsAnnouncer, Quality},
    counters::{CaptureCounters, Progress},
    encoded_frame::EncodedFrame,
    latency::SenderLatency,
    quality::EncodingPlan,
    stop_flag::StopFlag,
};
use crate::{
    clock,
    latest::{Latest, Taken},
    net::{
        frame::{FrameBytes, MAX_FRAME_LEN, OutgoingFrame},
        io::FrameInlet,
        wire::control::StreamParams,
    },
    threads::spawn,
    video::{
        image::Image,
        jpeg::{Decoder, Encoder, JpegError, Strips, Want},
        scale::Shrinker,
        source::{Captured, Picture, Source, SourceInfo},
    },
};

/// Publishes a source: one thread grabs its pictures, another encodes them for the network.
#[derive(Debug)]
pub(crate) struct Publisher {
    grabber: JoinHandle<()>,
    encoder: JoinHandle<()>,
    progress: Arc<Progress>,
    inlet: FrameInlet,
}

/// How pictures are encoded.
#[derive(Clone, Copy, Debug)]
pub struct EncoderConfig {
    /// The JPEG quality.
    pub quality: Quality,
    /// The strips of each picture, which are encoded in parallel.
    pub strips: Strips,
    /// Whether only the luma is encoded.
    pub gray: bool,
    /// When the strips of a frame are sent.
    pub pipeline: Pipeline,
}

/// When the strips of a frame are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipeline {
    /// Each as soon as it is encoded, unless the receiver is on this machine.
    Auto,
    /// Each as soon as it is encoded.
    On,
    /// All of them when the last is encoded.
    Off,
}

/// A publisher's encoder and outputs.
#[derive(Debug)]
pub(crate) struct PublisherConfig {
    pub(crate) encoder: EncoderConfig,
    /// The network, which takes frames while they are encoded.
    pub(crate) inlet: FrameInlet,
    /// Other outputs, which take complete frames; in each the newest wins.
    pub(crate) outputs: Vec<Latest<EncodedFrame>>,
    /// Where the stage times of the frames sent are recorded, if they are wanted.
    pub(crate) latency: Option<SenderLatency>,
    /// Receives a value when grabbing may begin, so that a file does not play before anyone
    /// receives it.
    pub(crate) gate: Latest<()>,
    pub(crate) stop: StopFlag,
}

impl Publisher {
    /// Starts both threads.
    pub(crate) fn start(source: Source, config: PublisherConfig) -> std::io::Result<Self> {
        let progress = Arc::new(Progress::new(source.damaged()));
        let stream = stream_params(source.info(), config.encoder.quality);
        let inlet = config.inlet.clone();
        let is_paced = source.is_paced();
        let pictures = Latest::new();
        let grabber = GrabberThread {
            source,
            pictures: pictures.clone(),
            gate: config.gate.clone(),
            stop: config.stop.clone(),
            progress: Arc::clone(&progress),
        };
        let encoder =
            EncoderThread { pictures, config, stream, is_paced, progress: Arc::clone(&progress) };
        Ok(Self {
            grabber: spawn("grab", || grabber.run())?,
            encoder: spawn("encode", || encoder.run())?,
            progress,
            inlet,
        })
    }

    /// Whether the source has ended and its last frame has been handed over.
    pub(crate) fn is_finished(&self) -> bool {
        self.encoder.is_finished()
    }

    pub(crate) fn counters(&self) -> CaptureCounters {
        CaptureCounters {
            picture_bitrate: self.inlet.picture_bitrates().path,
            ..self.progress.read()
        }
    }

    /// Waits for both threads; returns the counters, and the source's failure if any.
    pub(crate) fn join(self) -> (CaptureCounters, Option<String>) {
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

/// The stream parameters initially announced for a source.
pub(crate) fn stream_params(info: &SourceInfo, quality: Quality) -> StreamParams {
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
    gate: Latest<()>,
    stop: StopFlag,
    progress: Arc<Progress>,
}

impl GrabberThread {
    fn run(mut self) {
        while !self.stop.is_requested() && self.gate.take(GATE_INTERVAL) != Taken::Value(()) {}
        loop {
            self.await_demand();
            match self.source.next(self.stop.flag()) {
                Ok(Some(picture)) => {
                    self.progress.captured.fetch_add(1, Ordering::Relaxed);
                    self.progress.replaced.store(self.source.replaced(), Ordering::Relaxed);
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

    /// Waits until the encoder has taken the last picture, for a source without a rate. Otherwise
    /// it would produce pictures that are never used. The next picture is made while the last is
    /// encoded.
    fn await_demand(&self) {
        while !self.source.is_paced()
            && !self.stop.is_requested()
            && !self.pictures.is_closed()
            && !self.pictures.wait_empty(DEMAND_CHECK_INTERVAL)
        {}
    }
}

struct EncoderThread {
    pictures: Latest<Captured>,
    config: PublisherConfig,
    /// The source's stream parameters.
    stream: StreamParams,
    /// Whether the source has its own rate.
    is_paced: bool,
    progress: Arc<Progress>,
}

/// The encoder thread's state.
struct EncoderState {
    encoder: Encoder,
    shrinker: Shrinker,
    adaptation: Adaptation,
    announcer: ParamsAnnouncer,
    /// Decodes the source's JPEGs into `decoded`, if they are too large for the path.
    decoder: Decoder,
    decoded: Image,
    /// The last frame, whose stage times are complete when the network has sent it.
    last: Option<EncodedFrame>,
}

/// Why a picture was not encoded.
#[derive(Debug, thiserror::Error)]
enum EncodeError {
    #[error("a frame is over the limit of {} MiB: lower --quality or --size", MAX_FRAME_LEN >> 20)]
    TooLarge,
    #[error("a picture could not be decoded: {0}")]
    Decode(JpegError),
    #[error("a picture could not be encoded: {0}")]
    Encode(JpegError),
}

/// The result for a picture.
enum EncodeOutcome {
    Frame(FrameBytes),
    /// Skipped on purpose.
    Thinned,
}

impl EncoderThread {
    fn run(self) {
        let EncoderConfig { quality, strips, gray, .. } = self.config.encoder;
        let mut state = EncoderState {
            encoder: Encoder::new(quality.highest(), strips),
            shrinker: Shrinker::new(),
            adaptation: Adaptation::new(quality, &self.stream),
            announcer: ParamsAnnouncer::new(self.stream),
            decoder: Decoder::new(),
            decoded: Image::empty(),
            last: None,
        };
        state.encoder.set_gray(gray);
        loop {
            match self.pictures.take(Duration::from_secs(1)) {
                Taken::Value(picture) => self.hand_over(&mut state, picture),
                Taken::TimedOut | Taken::Nudged => {}
                Taken::Closed => break,
            }
        }
        self.record_last(&mut state);
        self.progress.add_cpu(state.encoder.helpers_cpu() + state.decoder.helpers_cpu());
    }

    fn hand_over(&self, state: &mut EncoderState, Captured { picture, captured, .. }: Captured) {
        let began = clock::now();
        self.record_last(state);
        let made = match picture {
            Picture::Jpeg(jpeg) => self.fit_jpeg(state, jpeg, captured),
            Picture::Image(image) => self.fit(state, &image, captured),
        };
        let data = match made {
            Ok(EncodeOutcome::Frame(data)) => data,
            Ok(EncodeOutcome::Thinned) => {
                self.progress.thinned.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => return self.skip(&error),
        };
        let len = data.view().bytes().len();
        self.progress.encoded.fetch_add(1, Ordering::Relaxed);
        self.progress.jpeg_bytes.fetch_add(len as u64, Ordering::Relaxed);
        let frame = EncodedFrame { data, captured, began, ended: clock::now() };
        for output in &self.config.outputs {
            output.put(frame.clone());
        }
        state.last = self.config.latency.is_some().then_some(frame);
    }

    /// Records the stage times of the last frame, which the network has sent by now.
    fn record_last(&self, state: &mut EncoderState) {
        if let Some((latency, frame)) = self.config.latency.as_ref().zip(state.last.take()) {
            latency.record(&frame);
        }
    }

    /// Sends the source's JPEG as it is, or smaller to fit the path's bitrate, or skips it.
    fn fit_jpeg(
        &self,
        state: &mut EncoderState,
        jpeg: Vec<u8>,
        captured: Instant,
    ) -> Result<EncodeOutcome, EncodeError> {
        let bitrates = self.config.inlet.picture_bitrates();
        match state.adaptation.plan_jpeg(captured, jpeg.len(), bitrates) {
            JpegPlan::Pass if jpeg.len() > MAX_FRAME_LEN => Err(EncodeError::TooLarge),
            JpegPlan::Pass => {
                self.note_stream(state, None, self.stream, captured);
                let data = FrameBytes::from(jpeg);
                self.push(&data, captured);
                Ok(EncodeOutcome::Frame(data))
            }
            JpegPlan::Skip => Ok(EncodeOutcome::Thinned),
            JpegPlan::Reencode(plan) => {
                let mut image = std::mem::replace(&mut state.decoded, Image::empty());
                let result = match state.decoder.decode(&jpeg, Want::Planar, &mut image) {
                    Ok(()) => self.encode_by(state, plan, &image, captured),
                    Err(error) => Err(EncodeError::Decode(error)),
                };
                state.decoded = image;
                result
            }
        }
    }

    /// Encodes a picture to fit the path's bitrate, or skips it.
    fn fit(
        &self,
        state: &mut EncoderState,
        image: &Image,
        captured: Instant,
    ) -> Result<EncodeOutcome, EncodeError> {
        match state.adaptation.plan(captured, self.config.inlet.picture_bitrates()) {
            Some(plan) => self.encode_by(state, plan, image, captured),
            None => Ok(EncodeOutcome::Thinned),
        }
    }

    fn encode_by(
        &self,
        state: &mut EncoderState,
        plan: EncodingPlan,
        image: &Image,
        captured: Instant,
    ) -> Result<EncodeOutcome, EncodeError> {
        let EncoderState { encoder, shrinker, adaptation, .. } = state;
        let image = shrinker.divide(image, plan.size_divisor);
        encoder.set_quality(plan.quality);
        let data = self.encode(encoder, image, captured)?;
        adaptation.record(plan, data.view().bytes().len());
        let stream = StreamParams {
            width: image.width as u16,
            height: image.height as u16,
            millifps: self.stream.millifps / plan.frame_divisor,
            quality: Some(plan.quality),
        };
        self.note_stream(state, Some(plan), stream, captured);
        Ok(EncodeOutcome::Frame(data))
    }

    /// Publishes the plan and the parameters of the frame made last.
    fn note_stream(
        &self,
        state: &mut EncoderState,
        plan: Option<EncodingPlan>,
        stream: StreamParams,
        captured: Instant,
    ) {
        self.progress.note_plan(plan);
        if let Some(stream) = state.announcer.note(captured, stream) {
            self.config.inlet.set_stream(stream);
        }
    }

    /// Encodes a picture. If pipelined, each strip may be sent while the next is encoded.
    fn encode(
        &self,
        encoder: &mut Encoder,
        image: &Image,
        captured: Instant,
    ) -> Result<FrameBytes, EncodeError> {
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
            Ok(()) => Some(EncodeError::TooLarge),
            Err(error) => Some(EncodeError::Encode(error)),
        };
        let Some(failure) = failure else { return Ok(data) };
        data.abandon();
        self.config.inlet.wake();
        Err(failure)
    }

    /// Whether strips are handed over one by one. To a receiver on this machine there is no
    /// transmission time to overlap, and the hand-overs cost the encoder 0.3 to 0.6 ms of processor
    /// time a frame at 720p.
    fn is_pipelined(&self) -> bool {
        match self.config.encoder.pipeline {
            Pipeline::Auto => self.config.inlet.sends_away(),
            Pipeline::On => true,
            Pipeline::Off => false,
        }
    }

    /// How many programs share this machine's cores. With an unpaced source and both sides on one
    /// machine, the receiver always has a frame to decode while we encode the next. Half of the
    /// cores each, with fewer hand-overs, carry 284 frames of 1080p a second on two cores instead
    /// of 225.
    fn sharers(&self) -> usize {
        if self.is_paced || self.config.inlet.sends_away() { 1 } else { 2 }
    }

    fn push(&self, data: &FrameBytes, captured: Instant) {
        if self.config.inlet.push(OutgoingFrame { data: data.clone(), captured }) {
            self.progress.superseded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Capacity for the next frame, in bytes: 5/4 of the mean so far.
    fn usual_len(&self) -> usize {
        let frames = self.progress.encoded.load(Ordering::Relaxed).max(1);
        (self.progress.jpeg_bytes.load(Ordering::Relaxed) / frames * 5 / 4) as usize
    }

    /// Counts a picture that failed, and logs the first only. A source whose first frame is too
    /// large is given up.
    fn skip(&self, error: &EncodeError) {
        if matches!(error, EncodeError::TooLarge)
            && self.progress.encoded.load(Ordering::Relaxed) == 0
        {
            self.progress.fail(error.to_string());
            self.pictures.close();
        }
        if self.progress.failed.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!("{error}");
        }
    }
}

/// How often a wait for demand checks whether to stop.
const DEMAND_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How often the wait to begin checks whether to stop.
const GATE_INTERVAL: Duration = Duration::from_millis(50);
