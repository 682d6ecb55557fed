//! Passes frames from the network to the main thread, undecoded or decoded.
//!
//! Frames to be shown at once are decoded by a thread that waits for the network itself. It begins
//! with the first parts of a frame, and wakes the main thread only when a picture is ready. Frames
//! that are held back, or not shown, are passed on undecoded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use log::{debug, warn};

use crate::{
    clock,
    latest::{Latest, Taken},
    net::{
        frame::PartialFrame,
        io::{ArrivingCopy, ArrivingFrame, Handle},
        session::{CallId, Delivered},
    },
    video::{
        image::Image,
        jpeg::{Ahead, DecodeWatch, Decoder, Want},
    },
};

/// The mailbox of partial frames.
type PartialFrames = Latest<(CallId, PartialFrame)>;

/// Where the main thread waits for received frames.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Undecoded frames.
    Frames(InOrder<Delivered>),
    /// Decoded frames.
    Pictures(InOrder<Decoded>),
}

/// What was received.
#[derive(Debug)]
pub(crate) enum Arrived {
    Frame(Delivered),
    Picture(Decoded),
    /// The received parts of an incomplete frame.
    Partial(CallId, PartialFrame),
}

/// A frame and its decoded picture.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) delivered: Delivered,
    pub(crate) picture: Image,
    /// When it was decoded.
    pub(crate) at: Instant,
}

/// Complete and partial frames. A partial frame comes after the complete ones that were put before
/// it.
#[derive(Debug)]
pub(crate) struct InOrder<T> {
    whole: Latest<T>,
    partial: Option<PartialFrames>,
    /// A partial frame, while the complete frame before it is taken.
    held: Option<(CallId, PartialFrame)>,
}

/// The next frame.
#[derive(Debug)]
enum Next<T> {
    Whole(T),
    Partial(CallId, PartialFrame),
}

impl Incoming {
    /// The frames that `handle` receives, including partial ones if `with_partial`.
    pub(crate) fn frames(handle: &Handle, with_partial: bool) -> Self {
        Self::Frames(InOrder::received(handle, with_partial))
    }

    /// Waits up to `timeout` for the newest.
    pub(crate) fn take(&mut self, timeout: Duration) -> Taken<Arrived> {
        match self {
            Self::Frames(frames) => {
                frames.take(timeout).map(|next| next.into_arrived(Arrived::Frame))
            }
            Self::Pictures(pictures) => {
                pictures.take(timeout).map(|next| next.into_arrived(Arrived::Picture))
            }
        }
    }
}

impl InOrder<Delivered> {
    /// The frames that `handle` receives, including partial ones if `with_partial`.
    fn received(handle: &Handle, with_partial: bool) -> Self {
        Self::new(handle.received(), with_partial.then(|| handle.partial()))
    }
}

impl<T> InOrder<T> {
    fn new(whole: Latest<T>, partial: Option<PartialFrames>) -> Self {
        Self { whole, partial, held: None }
    }

    /// Waits up to `timeout` for the newest of either kind.
    fn take(&mut self, timeout: Duration) -> Taken<Next<T>> {
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

impl<T> Next<T> {
    fn into_arrived(self, whole: fn(T) -> Arrived) -> Arrived {
        match self {
            Self::Whole(frame) => whole(frame),
            Self::Partial(call, frame) => Arrived::Partial(call, frame),
        }
    }
}

/// The decoding thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Decoding {
    pictures: Latest<Decoded>,
    partial: Option<PartialFrames>,
    /// A picture that is no longer shown, whose buffer can be reused.
    spare: Latest<Image>,
    received: Latest<Delivered>,
    is_over: Arc<AtomicBool>,
    counters: Arc<DecodeCounters>,
}

/// The thread's counters.
#[derive(Debug, Default)]
struct DecodeCounters {
    /// Processor time of the thread and its helpers, in nanoseconds.
    cpu: AtomicU64,
    damaged: AtomicU64,
}

impl Decoding {
    /// Starts to decode what `handle` receives, to BGR. Passes partial frames on if `with_partial`.
    pub(crate) fn start(handle: &Handle, with_partial: bool) -> std::io::Result<Self> {
        Self::of(InOrder::received(handle, with_partial), handle.arriving(), handle.urgent())
    }

    fn of(
        received: InOrder<Delivered>,
        arriving: ArrivingFrame,
        urgent: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let decoding = Self {
            pictures: Latest::new(),
            partial: received.partial.as_ref().map(|_| Latest::new()),
            spare: Latest::new(),
            received: received.whole.clone(),
            is_over: Arc::default(),
            counters: Arc::default(),
        };
        let thread = DecodingThread {
            received,
            arriving,
            urgent,
            pictures: decoding.pictures.clone(),
            partial: decoding.partial.clone(),
            spare: decoding.spare.clone(),
            is_over: Arc::clone(&decoding.is_over),
            counters: Arc::clone(&decoding.counters),
            beginning: ArrivingCopy::default(),
            ahead: Ahead::default(),
            canvas: Image::empty(),
            watch: DecodeWatch::default(),
        };
        Decoder::on_a_thread(|decoder| thread.run(decoder))?;
        Ok(decoding)
    }

    /// The mailbox of pictures; the newest wins. Its waiter is also woken for urgent events.
    pub(crate) fn pictures(&self) -> Incoming {
        Incoming::Pictures(InOrder::new(self.pictures.clone(), self.partial.clone()))
    }

    /// Returns a picture's buffer for reuse.
    pub(crate) fn give_back(&self, picture: Image) {
        self.spare.put(picture);
    }

    /// Decoded frames that were replaced by newer ones before they were taken.
    pub(crate) fn superseded(&self) -> u64 {
        self.pictures.superseded()
    }

    /// Frames that could not be decoded.
    pub(crate) fn damaged(&self) -> u64 {
        self.counters.damaged.load(Ordering::Relaxed)
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.counters.cpu.load(Ordering::Relaxed))
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.received.nudge();
    }
}

struct DecodingThread {
    received: InOrder<Delivered>,
    arriving: ArrivingFrame,
    urgent: Arc<AtomicBool>,
    pictures: Latest<Decoded>,
    partial: Option<PartialFrames>,
    spare: Latest<Image>,
    is_over: Arc<AtomicBool>,
    counters: Arc<DecodeCounters>,
    /// The frame still arriving, and the part of it that is decoded on the canvas.
    beginning: ArrivingCopy,
    ahead: Ahead,
    canvas: Image,
    watch: DecodeWatch,
}

impl DecodingThread {
    fn run(mut self, mut decoder: Decoder) {
        while !self.is_over.load(Ordering::Relaxed) {
            let taken = self.received.take(LONG);
            // The main thread waits for pictures, so urgent events are passed on to it.
            if self.urgent.swap(false, Ordering::Relaxed) {
                self.pictures.nudge();
            }
            match taken {
                Taken::Value(Next::Whole(delivered)) => self.decode(&mut decoder, delivered),
                Taken::Value(Next::Partial(call, frame)) => self.pass_on(call, frame),
                Taken::Nudged => self.look_ahead(&mut decoder),
                Taken::TimedOut => {}
                Taken::Closed => break,
            }
            let used = clock::thread_cpu() + decoder.helpers_cpu();
            self.counters.cpu.store(used.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    fn decode(&mut self, decoder: &mut Decoder, delivered: Delivered) {
        // Whatever was decoded ahead belongs to this frame, or to one that will not be shown.
        let ahead = std::mem::take(&mut self.ahead);
        let is_begun = self.beginning.of.take() == Some((delivered.call, delivered.frame.id));
        let ahead = if is_begun { ahead } else { Ahead::default() };
        let (data, canvas) = (&delivered.frame.data, &mut self.canvas);
        if let Err(error) = decoder.decode_rest(ahead, data, Want::Bgr, canvas) {
            debug!("frame {} is damaged: {error}", delivered.frame.id);
            if let Some(why) = self.watch.failed(&error, clock::now()) {
                warn!("{why}");
            }
            self.counters.damaged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.watch.succeeded();
        let next = self.spare.try_take().unwrap_or_else(Image::empty);
        let picture = std::mem::replace(canvas, next);
        let replaced = self.pictures.put(Decoded { delivered, picture, at: clock::now() });
        if let Some(Decoded { picture, .. }) = replaced {
            self.canvas = picture;
        }
    }

    /// Decodes the received part of the frame that is still arriving.
    fn look_ahead(&mut self, decoder: &mut Decoder) {
        if self.arriving.update(&mut self.beginning) {
            self.ahead = Ahead::default();
        }
        let (bytes, canvas) = (&self.beginning.bytes, &mut self.canvas);
        decoder.decode_ahead(&mut self.ahead, bytes, Want::Bgr, canvas);
    }

    fn pass_on(&mut self, call: CallId, frame: PartialFrame) {
        if let Some(partial) = &self.partial {
            partial.put((call, frame));
            self.pictures.nudge();
        }
    }
}

/// Closes the mailbox however the thread ends, so that the main thread does not wait forever.
impl Drop for DecodingThread {
    fn drop(&mut self) {
        self.pictures.close();
    }
}

/// Effectively forever: only frames, nudges or the end finish the wait.
const LONG: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::frame::FrameId,
        video::{
            image::PixelFormat,
            jpeg::{Encoder, Strips},
        },
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The mailboxes of a decoding thread, without a network.
    #[derive(Default)]
    struct Network {
        received: Latest<Delivered>,
        partial: PartialFrames,
        urgent: Arc<AtomicBool>,
    }

    impl Network {
        fn start(&self) -> (Decoding, Incoming) {
            let received = InOrder::new(self.received.clone(), Some(self.partial.clone()));
            let decoding =
                Decoding::of(received, ArrivingFrame::default(), Arc::clone(&self.urgent));
            let decoding = decoding.expect("a thread");
            let pictures = decoding.pictures();
            (decoding, pictures)
        }

        fn deliver(&self, id: u32, data: &[u8]) {
            self.received.put(Delivered::example(id, data, clock::now()));
        }

        fn tear(&self, id: u32) {
            let frame =
                PartialFrame { id: FrameId(id), data: Vec::new().into(), present: Vec::new() };
            self.partial.put((CallId(1), frame));
            self.received.nudge();
        }
    }

    fn frame(luma: u8) -> Vec<u8> {
        let mut image = Image::blank(64, 48, PixelFormat::Gray);
        image.data.fill(luma);
        let mut frame = Vec::new();
        Encoder::new(90, Strips::Count(1)).encode(&image, &mut frame).expect("encodes");
        frame
    }

    #[test]
    fn frames_are_decoded_and_damaged_ones_are_counted() {
        let network = Network::default();
        let (decoding, mut pictures) = network.start();
        for (id, luma) in [(1, 40), (3, 200)] {
            network.deliver(id, &frame(luma));
            let Taken::Value(Arrived::Picture(decoded)) = pictures.take(PATIENCE) else {
                panic!("nothing arrived")
            };
            assert_eq!((decoded.delivered.frame.id, decoded.picture.data[0]), (FrameId(id), luma));
            decoding.give_back(decoded.picture);
            network.deliver(id + 1, &[0; 9]);
            let until = clock::now() + PATIENCE;
            while decoding.damaged() < u64::from(id.div_ceil(2)) && clock::now() < until {
                std::thread::yield_now();
            }
        }
        assert_eq!((decoding.damaged(), decoding.superseded()), (2, 0));
        assert!(decoding.cpu() > Duration::ZERO);
    }

    #[test]
    fn a_partial_frame_follows_the_complete_ones_before_it() {
        let network = Network::default();
        // Both are queued before the thread starts, as behind a frame that takes long to decode.
        network.deliver(1, &frame(40));
        network.tear(2);
        let (_decoding, mut pictures) = network.start();
        let mut came = Vec::new();
        while came.len() < 2 {
            match pictures.take(PATIENCE) {
                Taken::Value(Arrived::Picture(decoded)) => came.push(decoded.delivered.frame.id),
                Taken::Value(Arrived::Partial(_, partial)) => came.push(partial.id),
                Taken::Nudged => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, [FrameId(1), FrameId(2)]);
    }

    #[test]
    fn urgent_events_and_the_end_wake_the_waiting_thread() {
        let network = Network::default();
        let (_decoding, mut pictures) = network.start();
        network.urgent.store(true, Ordering::Relaxed);
        network.received.nudge();
        assert!(matches!(pictures.take(PATIENCE), Taken::Nudged));
        network.received.close();
        assert!(matches!(pictures.take(PATIENCE), Taken::Closed));
    }
}
