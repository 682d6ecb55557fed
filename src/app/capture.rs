//! The sending side's threads: one grabs pictures, one encodes them; between them, and behind
//! them, the newest wins.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use log::warn;

use super::{
    ledger::{Encoding, Ledger},
    stop::Stop,
};
use crate::{
    clock,
    latest::{Latest, Taken},
    net::{
        frame::{MAX_FRAME_LEN, OutgoingFrame},
        io::FrameInlet,
        time::MediaClock,
        wire::control::StreamParams,
    },
    video::{
        jpeg::{Encoder, Strips},
        source::{Captured, Picture, Source, SourceInfo},
    },
};

/// A source that is being grabbed, encoded and handed to the network.
#[derive(Debug)]
pub(super) struct Capture {
    grabber: JoinHandle<()>,
    encoder: JoinHandle<()>,
    progress: Arc<Progress>,
}

/// How the frames are made and where they go.
#[derive(Debug)]
pub(super) struct CaptureConfig {
    pub(super) quality: u8,
    pub(super) gray: bool,
    pub(super) strips: Strips,
    pub(super) inlet: FrameInlet,
    pub(super) clock: MediaClock,
    /// Where each frame's encoding is noted, for a receiver in this process.
    pub(super) ledger: Option<Ledger>,
    /// Where our own frames go, to be shown to ourselves.
    pub(super) self_view: Option<Latest<Arc<[u8]>>>,
    /// Raised when grabbing may begin; a file should not play to nobody.
    pub(super) gate: Arc<AtomicBool>,
    pub(super) stop: Stop,
}

/// What the sending side has done so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    captured: AtomicU64,
    encoded: AtomicU64,
    jpeg_bytes: AtomicU64,
    superseded: AtomicU64,
    failed: AtomicU64,
    cpu_us: AtomicU64,
    error: Mutex<Option<String>>,
}

/// A [`Progress`], read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CaptureCounters {
    /// Pictures grabbed.
    pub(super) captured: u64,
    /// Frames encoded.
    pub(super) encoded: u64,
    /// Bytes of them.
    pub(super) jpeg_bytes: u64,
    /// Pictures and frames replaced by newer ones before they reached the network.
    pub(super) superseded: u64,
    /// Pictures that could not be encoded, or gave too large a frame.
    pub(super) failed: u64,
    /// Processor time of the threads that have ended.
    pub(super) cpu: Duration,
}

impl Capture {
    /// Starts both threads.
    pub(super) fn start(source: Source, config: CaptureConfig) -> std::io::Result<Self> {
        let progress = Arc::new(Progress::default());
        let pictures = Latest::new();
        let grabber = GrabberThread {
            source,
            pictures: pictures.clone(),
            gate: Arc::clone(&config.gate),
            stop: config.stop.clone(),
            progress: Arc::clone(&progress),
        };
        let encoder = EncoderThread { pictures, config, progress: Arc::clone(&progress) };
        Ok(Self {
            grabber: spawn("grab", || grabber.run())?,
            encoder: spawn("encode", || encoder.run())?,
            progress,
        })
    }

    /// Whether the source has ended, and its last frame has been handed over.
    pub(super) fn is_finished(&self) -> bool {
        self.encoder.is_finished()
    }

    pub(super) fn counters(&self) -> CaptureCounters {
        self.progress.read()
    }

    /// Waits for both threads; what made the source fail, if it did.
    pub(super) fn join(self) -> (CaptureCounters, Option<String>) {
        for thread in [self.grabber, self.encoder] {
            if thread.join().is_err() {
                self.progress.fail("a capture thread panicked: please report this".into());
            }
        }
        let error = self.progress.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        (self.progress.read(), error)
    }
}

/// What the peer is told of a source.
pub(super) fn stream_params(info: &SourceInfo, quality: u8) -> StreamParams {
    StreamParams {
        width: info.width as u16,
        height: info.height as u16,
        millifps: (info.fps * 1000.0) as u32,
        quality: (!info.passthrough).then_some(quality),
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
    progress: Arc<Progress>,
}

impl EncoderThread {
    fn run(self) {
        let mut encoder = Encoder::new(self.config.quality, self.config.strips);
        encoder.set_gray(self.config.gray);
        let mut frame = Vec::new();
        loop {
            match self.pictures.take(Duration::from_secs(1)) {
                Taken::Value(picture) => self.encode(&mut encoder, picture, &mut frame),
                Taken::TimedOut => {}
                Taken::Closed => break,
            }
        }
        self.progress.add_cpu(encoder.helpers_cpu());
    }

    fn encode(&self, encoder: &mut Encoder, picture: Captured, frame: &mut Vec<u8>) {
        let began = clock::now();
        let data: Arc<[u8]> = match picture.picture {
            Picture::Jpeg(jpeg) => jpeg.into(),
            Picture::Image(image) => match encoder.encode(&image, frame) {
                Ok(()) => frame.as_slice().into(),
                Err(error) => {
                    return self.skip(&format!("a picture could not be encoded: {error}"));
                }
            },
        };
        if data.len() > MAX_FRAME_LEN {
            let limit = MAX_FRAME_LEN >> 20;
            let why = format!(
                "a frame of {} bytes is over the limit of {limit} MiB: lower --quality or --size",
                data.len()
            );
            if self.progress.encoded.load(Ordering::Relaxed) == 0 {
                // A source that begins so never gets better.
                self.progress.fail(why.clone());
                self.pictures.close();
            }
            return self.skip(&why);
        }
        self.progress.encoded.fetch_add(1, Ordering::Relaxed);
        self.progress.jpeg_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(ledger) = &self.config.ledger {
            let captured = self.config.clock.media_time(picture.captured);
            ledger.enter(captured, Encoding { began, ended: clock::now() });
        }
        if let Some(self_view) = &self.config.self_view {
            self_view.put(Arc::clone(&data));
        }
        if self.config.inlet.push(OutgoingFrame { data, captured: picture.captured }) {
            self.progress.superseded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The first is said; a source that does it once does it always.
    fn skip(&self, why: &str) {
        if self.progress.failed.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!("{why}");
        }
    }
}

impl Progress {
    fn read(&self) -> CaptureCounters {
        CaptureCounters {
            captured: self.captured.load(Ordering::Relaxed),
            encoded: self.encoded.load(Ordering::Relaxed),
            jpeg_bytes: self.jpeg_bytes.load(Ordering::Relaxed),
            superseded: self.superseded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            cpu: Duration::from_micros(self.cpu_us.load(Ordering::Relaxed)),
        }
    }

    fn fail(&self, error: String) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Adds what the calling thread used, and those that helped it.
    fn add_cpu(&self, helpers: Duration) {
        let used = clock::thread_cpu() + helpers;
        self.cpu_us.fetch_add(used.as_micros() as u64, Ordering::Relaxed);
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
