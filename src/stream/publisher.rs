//! The sending side's threads: one grabs pictures, one encodes them. The newest wins in both
//! mailboxes, before and after the encoder.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use log::{debug, warn};

use super::{
    counters::{CaptureCounters, SharedCounters},
    encode::{EncodeError, EncoderConfig, FrameEncoder, Outputs, stream_params},
    gate::{Gate, Pass},
    stop_flag::StopFlag,
};
use crate::{
    latest::{Latest, Taken},
    net::io::FrameInlet,
    threads::spawn,
    video::source::{Captured, FRESH, Source},
};

/// Publishes a source: one thread grabs its pictures, another encodes them for the network.
#[derive(Debug)]
pub(crate) struct Publisher {
    grabber: JoinHandle<()>,
    encoder: JoinHandle<()>,
    counters: Arc<SharedCounters>,
    inlet: FrameInlet,
    is_live: bool,
}

/// A publisher's encoder and outputs.
#[derive(Debug)]
pub(crate) struct PublisherConfig {
    pub(crate) encoder: EncoderConfig,
    pub(crate) outputs: Outputs,
    pub(crate) gate: Gate,
    pub(crate) stop: StopFlag,
}

impl Publisher {
    /// Starts both threads.
    pub(crate) fn start(source: Source, config: PublisherConfig) -> std::io::Result<Self> {
        let counters = Arc::new(SharedCounters::new(source.damaged()));
        let stream = stream_params(source.info(), config.encoder.quality);
        let inlet = config.outputs.inlet.clone();
        let (is_paced, is_live) = (source.is_paced(), source.is_live());
        let (pictures, sends_again) = (Latest::new(), Arc::new(AtomicBool::new(false)));
        let grabber = GrabberThread {
            source,
            pictures: pictures.clone(),
            gate: config.gate,
            stop: config.stop,
            counters: Arc::clone(&counters),
            sends_again: Arc::clone(&sends_again),
        };
        let encoder = EncoderThread {
            pictures,
            encoder: FrameEncoder::new(
                config.encoder,
                config.outputs,
                stream,
                is_paced,
                Arc::clone(&counters),
            ),
            counters: Arc::clone(&counters),
            sends_again,
        };
        Ok(Self {
            grabber: spawn("grab", || grabber.run())?,
            encoder: spawn("encode", || encoder.run())?,
            counters,
            inlet,
            is_live,
        })
    }

    /// Whether encoding is over: the source has ended, failed or been stopped, and its last frame
    /// has been handed over.
    pub(crate) fn is_finished(&self) -> bool {
        self.encoder.is_finished()
    }

    /// Whether pictures come even if nobody takes them.
    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    pub(crate) fn counters(&self) -> CaptureCounters {
        CaptureCounters {
            picture_bitrate: self.inlet.picture_bitrates().path,
            ..self.counters.read()
        }
    }

    /// Waits for both threads. Returns the counters, and the error that ended the stream, if any.
    pub(crate) fn join(self) -> (CaptureCounters, Option<String>) {
        for thread in [self.grabber, self.encoder] {
            if thread.join().is_err() {
                self.counters.fail("a capture thread panicked: please report this".into());
            }
        }
        let error = self.counters.take_error();
        let picture_bitrate = self.inlet.picture_bitrates().path;
        (CaptureCounters { picture_bitrate, ..self.counters.read() }, error)
    }
}

struct GrabberThread {
    source: Source,
    pictures: Latest<Captured>,
    gate: Gate,
    stop: StopFlag,
    counters: Arc<SharedCounters>,
    /// Set at the end if the only frame is to be sent again.
    sends_again: Arc<AtomicBool>,
}

impl GrabberThread {
    fn run(mut self) {
        // Whether the only picture so far passed the gate early.
        let mut only_early = false;
        loop {
            let is_early = self.await_gate() == Some(Pass::Early);
            self.await_demand();
            match self.source.next(self.stop.flag()) {
                Ok(Some(picture)) => {
                    self.counters.captured.fetch_add(1, Ordering::Relaxed);
                    self.counters
                        .superseded_in_source
                        .store(self.source.superseded(), Ordering::Relaxed);
                    if self.pictures.is_closed() {
                        break;
                    }
                    only_early = is_early;
                    if self.pictures.put(picture).is_some() {
                        self.counters.superseded.fetch_add(1, Ordering::Relaxed);
                    }
                    // A source may be much faster than the encoder.
                    self.pictures.wait_empty(FRESH);
                }
                Ok(None) => {
                    let is_lost = only_early && self.gate.lost_early();
                    self.sends_again.store(is_lost, Ordering::Relaxed);
                    break;
                }
                Err(error) => {
                    self.counters.fail(error.to_string());
                    break;
                }
            }
        }
        self.pictures.close();
        self.counters.add_cpu(Duration::ZERO);
    }

    /// Waits until a picture may be grabbed. `None` if asked to stop.
    fn await_gate(&self) -> Option<Pass> {
        while !self.stop.is_requested() {
            let pass = self.gate.pass(GATE_INTERVAL);
            if pass.is_some() {
                return pass;
            }
        }
        None
    }

    /// If the source has no frame rate, waits until the encoder has taken the previous picture:
    /// without this wait, the source would produce pictures that are never used. The next picture is
    /// made while the previous one is encoded.
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
    encoder: FrameEncoder,
    counters: Arc<SharedCounters>,
    sends_again: Arc<AtomicBool>,
}

impl EncoderThread {
    fn run(mut self) {
        loop {
            self.await_receivers();
            match self.pictures.take(Duration::from_secs(1)) {
                Taken::Value(Captured { picture, captured, number }) => {
                    if let Err(error) = self.encoder.encode(picture, captured) {
                        debug!("picture {number}: {error}");
                        self.skip(&error);
                    }
                }
                Taken::TimedOut | Taken::Nudged => {}
                Taken::Closed => break,
            }
        }
        if self.sends_again.load(Ordering::Relaxed) {
            self.encoder.send_first_again();
        }
        let helpers = self.encoder.finish();
        self.counters.add_cpu(helpers);
    }

    /// Waits until a receiver will take another frame. Newer pictures replace the waiting one
    /// meanwhile, so the one that is encoded then is fresh.
    fn await_receivers(&self) {
        while !self.encoder.wait_demand(DEMAND_CHECK_INTERVAL) && !self.pictures.is_closed() {}
    }

    /// Counts a picture that was not encoded, and warns of the first only. A source is given up if a
    /// frame is too large before any picture has been encoded.
    fn skip(&self, error: &EncodeError) {
        if matches!(error, EncodeError::TooLarge)
            && self.counters.encoded.load(Ordering::Relaxed) == 0
        {
            self.counters.fail(error.to_string());
            self.pictures.close();
        }
        if self.counters.failed.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!("{error}");
        }
    }
}

/// How often a wait for demand checks whether to stop.
const DEMAND_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How often the wait for the gate checks whether to stop.
const GATE_INTERVAL: Duration = Duration::from_millis(50);
