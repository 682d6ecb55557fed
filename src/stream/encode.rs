//! Encodes pictures to fit the path, and hands the frames to the network and to other outputs.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    adaptation::{Adaptation, JpegPlan, ParamsAnnouncer, Quality},
    counters::SharedCounters,
    encoded_frame::EncodedFrame,
    latency::SenderLatency,
    quality::EncodingPlan,
};
use crate::{
    clock,
    latest::Latest,
    net::{
        frame::{FrameBytes, MAX_FRAME_LEN, OutgoingFrame},
        io::{Demand, FrameInlet},
        wire::control::StreamParams,
    },
    video::{
        image::Image,
        jpeg::{Decoder, Encoder, JpegError, OutputFormat, Strips},
        scale::Scaler,
        source::{Picture, SourceInfo},
    },
};

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

/// Where encoded frames go.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// The network, which takes frames while they are encoded.
    pub(crate) inlet: FrameInlet,
    /// Others, which take complete frames; in each the newest wins.
    pub(crate) others: Vec<Latest<EncodedFrame>>,
    /// Where the stage times of the frames sent are recorded, if they are wanted.
    pub(crate) latency: Option<SenderLatency>,
}

/// An encoder with its outputs.
#[derive(Debug)]
pub(crate) struct FrameEncoder {
    setup: EncoderSetup,
    state: EncoderState,
}

/// The constant half of a [`FrameEncoder`].
#[derive(Debug)]
struct EncoderSetup {
    config: EncoderConfig,
    outputs: Outputs,
    /// The stream parameters of the pictures before any reduction.
    stream: StreamParams,
    /// Whether the source has a frame rate. Otherwise pictures come as fast as they are encoded.
    is_paced: bool,
    counters: Arc<SharedCounters>,
}

/// The changing half of a [`FrameEncoder`].
#[derive(Debug)]
struct EncoderState {
    encoder: Encoder,
    scaler: Scaler,
    adaptation: Adaptation,
    announcer: ParamsAnnouncer,
    /// Decodes the source's JPEGs into `decoded`, if they are too large for the path.
    decoder: Decoder,
    decoded: Image,
    /// The last frame, whose stage times are complete when the network has sent it.
    last: Option<EncodedFrame>,
    /// The first frame, while there is no other.
    only: Option<OutgoingFrame>,
}

/// Why a picture was not encoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("a frame is over the limit of {} MiB: lower --quality or --size", MAX_FRAME_LEN >> 20)]
    TooLarge,
    #[error("a picture could not be decoded: {0}")]
    Decode(JpegError),
    #[error("a picture could not be encoded: {0}")]
    Encode(JpegError),
}

/// The outcome of encoding a picture.
enum EncodeOutcome {
    Frame(FrameBytes),
    /// Skipped on purpose.
    Thinned,
}

impl FrameEncoder {
    /// Creates an encoder for pictures with the parameters `stream`, which counts in `counters`.
    /// `is_paced`: whether pictures come at a frame rate; otherwise they come as fast as they are
    /// encoded.
    pub(crate) fn new(
        config: EncoderConfig,
        outputs: Outputs,
        stream: StreamParams,
        is_paced: bool,
        counters: Arc<SharedCounters>,
    ) -> Self {
        let EncoderConfig { quality, strips, gray, .. } = config;
        let mut state = EncoderState {
            encoder: Encoder::new(quality.highest(), strips),
            scaler: Scaler::new(),
            adaptation: Adaptation::new(quality, &stream),
            announcer: ParamsAnnouncer::new(stream),
            decoder: Decoder::new(),
            decoded: Image::empty(),
            last: None,
            only: None,
        };
        state.encoder.set_gray(gray);
        Self { setup: EncoderSetup { config, outputs, stream, is_paced, counters }, state }
    }

    /// Waits until it makes sense to encode a picture. Returns false after `timeout`.
    ///
    /// At a usual frame rate, that is when a receiver will take another frame; meanwhile newer
    /// pictures replace the waiting one. If pictures come as fast as possible, one is encoded while
    /// the receiver decodes the one before it, and its frame waits to be handed over.
    pub(crate) fn wait_demand(&self, timeout: Duration) -> bool {
        let inlet = &self.setup.outputs.inlet;
        self.setup.encodes_ahead(&self.state.adaptation)
            || inlet.wait_demand(Demand::Newer, timeout)
    }

    /// Encodes a picture and hands it over, or skips it if the path has no room for it. `captured`:
    /// when its capture began.
    pub(crate) fn encode(
        &mut self,
        picture: Picture,
        captured: Instant,
    ) -> Result<(), EncodeError> {
        match picture {
            Picture::Image(image) => self.encode_image(&image, captured),
            Picture::Jpeg(jpeg) => self.encode_jpeg(jpeg, captured),
        }
    }

    /// Like [`encode`](Self::encode), for pixels.
    pub(crate) fn encode_image(
        &mut self,
        image: &Image,
        captured: Instant,
    ) -> Result<(), EncodeError> {
        let began = self.begin();
        let made = self.setup.fit(&mut self.state, image, captured)?;
        self.setup.hand_over(&mut self.state, made, captured, began);
        Ok(())
    }

    /// Like [`encode`](Self::encode), for a JPEG that has been checked and normalized.
    pub(crate) fn encode_jpeg(
        &mut self,
        jpeg: Vec<u8>,
        captured: Instant,
    ) -> Result<(), EncodeError> {
        let began = self.begin();
        let made = self.setup.fit_jpeg(&mut self.state, jpeg, captured)?;
        self.setup.hand_over(&mut self.state, made, captured, began);
        Ok(())
    }

    fn begin(&mut self) -> Instant {
        self.setup.record_last(&mut self.state);
        clock::now()
    }

    /// Sends the first frame again, if there has been no other.
    pub(crate) fn send_first_again(&mut self) {
        if let Some(frame) = self.state.only.take() {
            self.setup.outputs.inlet.push(frame);
        }
    }

    /// Records the stage times of the last frame, and returns the processor time of all helpers.
    pub(crate) fn finish(&mut self) -> Duration {
        self.setup.record_last(&mut self.state);
        self.state.encoder.helpers_cpu() + self.state.decoder.helpers_cpu()
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

impl EncoderSetup {
    /// Counts a picture, and hands its frame to the outputs that take complete ones.
    fn hand_over(
        &self,
        state: &mut EncoderState,
        made: EncodeOutcome,
        captured: Instant,
        began: Instant,
    ) {
        let data = match made {
            EncodeOutcome::Frame(data) => data,
            EncodeOutcome::Thinned => {
                self.counters.thinned.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let len = data.view().bytes().len();
        let is_first = self.counters.encoded.fetch_add(1, Ordering::Relaxed) == 0;
        self.counters.jpeg_bytes.fetch_add(len as u64, Ordering::Relaxed);
        state.only = is_first.then(|| OutgoingFrame { data: data.clone(), captured });
        let frame = EncodedFrame { data, captured, began, ended: clock::now() };
        for output in &self.outputs.others {
            output.put(frame.clone());
        }
        state.last = self.outputs.latency.is_some().then_some(frame);
    }

    /// Records the stage times of the last frame, which the network has sent by now.
    fn record_last(&self, state: &mut EncoderState) {
        if let Some((latency, frame)) = self.outputs.latency.as_ref().zip(state.last.take()) {
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
        let bitrates = self.outputs.inlet.picture_bitrates();
        match state.adaptation.plan_jpeg(captured, jpeg.len(), bitrates) {
            JpegPlan::Pass if jpeg.len() > MAX_FRAME_LEN => Err(EncodeError::TooLarge),
            JpegPlan::Pass => {
                self.note_stream(state, None, self.stream, captured);
                let data = FrameBytes::from(jpeg);
                self.push(&data, captured, self.encodes_ahead(&state.adaptation));
                Ok(EncodeOutcome::Frame(data))
            }
            JpegPlan::Skip => Ok(EncodeOutcome::Thinned),
            JpegPlan::Reencode(plan) => {
                let mut image = std::mem::replace(&mut state.decoded, Image::empty());
                let result = match state.decoder.decode(&jpeg, OutputFormat::Planar, &mut image) {
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
        match state.adaptation.plan(captured, self.outputs.inlet.picture_bitrates()) {
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
        let EncoderState { encoder, scaler, adaptation, .. } = state;
        let image = scaler.divide(image, plan.size_divisor);
        encoder.set_quality(plan.quality);
        let is_ahead = self.encodes_ahead(adaptation);
        let data = self.encode(encoder, image, captured, is_ahead)?;
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

    /// Publishes the plan, if the frame was encoded by one, and the frame's parameters.
    fn note_stream(
        &self,
        state: &mut EncoderState,
        plan: Option<EncodingPlan>,
        stream: StreamParams,
        captured: Instant,
    ) {
        self.counters.note_plan(plan);
        if let Some(stream) = state.announcer.note(captured, stream) {
            self.outputs.inlet.set_stream(stream);
        }
    }

    /// Encodes a picture. If pipelined, each strip may be sent while the next is encoded.
    fn encode(
        &self,
        encoder: &mut Encoder,
        image: &Image,
        captured: Instant,
        is_ahead: bool,
    ) -> Result<FrameBytes, EncodeError> {
        let is_pipelined = self.is_pipelined(is_ahead);
        encoder.set_sharers(self.sharers());
        encoder.set_pipelined(is_pipelined);
        let data = FrameBytes::growing(self.expected_len());
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
                self.push(&data, captured, is_ahead);
            } else if is_pipelined {
                self.outputs.inlet.wake();
            }
        });
        let failure = match result {
            Ok(()) if len <= MAX_FRAME_LEN => None,
            Ok(()) => Some(EncodeError::TooLarge),
            Err(error) => Some(EncodeError::Encode(error)),
        };
        let Some(failure) = failure else { return Ok(data) };
        data.abandon();
        self.outputs.inlet.wake();
        Err(failure)
    }

    /// Whether strips are handed over one by one. With a receiver on this machine there is no
    /// transmission time that encoding could overlap, and the hand-overs cost 0.3 to 0.6 ms of
    /// processor time a frame at 720p.
    fn is_pipelined(&self, is_ahead: bool) -> bool {
        match self.config.pipeline {
            // Whole frames are encoded ahead.
            Pipeline::Auto => !is_ahead && self.outputs.inlet.sends_off_host(),
            Pipeline::On => true,
            Pipeline::Off => false,
        }
    }

    /// How many programs share this machine's cores. With an unpaced source and both sides on one
    /// machine, the receiver always has a frame to decode while we encode the next. If each side
    /// uses half of the cores, there are fewer hand-overs: 284 frames of 1080p a second on two
    /// cores instead of 225.
    fn sharers(&self) -> usize {
        if self.is_paced || self.outputs.inlet.sends_off_host() { 1 } else { 2 }
    }

    /// Whether pictures come as fast as they are encoded, or nearly.
    fn encodes_ahead(&self, adaptation: &Adaptation) -> bool {
        !self.is_paced || adaptation.millifps() >= FAST_MILLIFPS
    }

    fn push(&self, data: &FrameBytes, captured: Instant, is_ahead: bool) {
        if is_ahead {
            // If there is no demand for so long, the frame replaces one that waits to be sent.
            self.outputs.inlet.wait_demand(Demand::Next, DEMAND_TIMEOUT);
        }
        if self.outputs.inlet.push(OutgoingFrame { data: data.clone(), captured }) {
            self.counters.superseded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Capacity for the next frame, in bytes: 5/4 of the mean so far.
    fn expected_len(&self) -> usize {
        let frames = self.counters.encoded.load(Ordering::Relaxed).max(1);
        (self.counters.jpeg_bytes.load(Ordering::Relaxed) / frames * 5 / 4) as usize
    }
}

/// Twice the rate of a fast camera. A frame encoded ahead then waits 8 ms at most.
const FAST_MILLIFPS: u32 = 120_000;

/// Longer than the network waits for a receiver that takes no frame.
const DEMAND_TIMEOUT: Duration = Duration::from_millis(500);
