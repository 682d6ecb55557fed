//! Frames on their way from the network to the main thread: as they came, or decoded.
//!
//! What is shown at once is decoded by a thread that waits for the network itself, as soon as the
//! frame is there or a part of it; the main thread is woken when there is a picture, and not before. A
//! frame that is held back, or that nobody looks at, comes as it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    clock,
    latest::{Latest, Taken},
    net::{
        frame::TornFrame,
        io::{Arriving, ArrivingFrame, Handle},
        session::{CallId, Delivered},
    },
    video::{
        image::Image,
        jpeg::{Ahead, Decoder, JpegError, Want},
    },
};

/// Where torn frames come out.
pub(super) type Torn = Latest<(CallId, TornFrame)>;

/// Where the main thread waits for what was received.
#[derive(Clone, Debug)]
pub(super) enum Incoming {
    /// Frames as they came.
    Frames(Latest<Delivered>),
    /// Frames that were decoded on their way.
    Pictures(Latest<Decoded>),
}

/// What has come.
#[derive(Debug)]
pub(super) enum Arrived {
    Frame(Delivered),
    Picture(Decoded),
}

/// A frame, and what it has become.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) delivered: Delivered,
    pub(super) picture: Result<Image, JpegError>,
    /// When that was.
    pub(super) at: Instant,
}

impl Incoming {
    /// Waits up to `timeout` for the newest.
    pub(super) fn take(&self, timeout: Duration) -> Taken<Arrived> {
        match self {
            Self::Frames(frames) => frames.take(timeout).map(Arrived::Frame),
            Self::Pictures(pictures) => pictures.take(timeout).map(Arrived::Picture),
        }
    }
}

/// The thread that decodes what comes. It ends with this.
#[derive(Debug)]
pub(super) struct Decoding {
    pictures: Latest<Decoded>,
    /// A picture that is shown no more, to be painted over.
    spare: Latest<Image>,
    received: Latest<Delivered>,
    is_over: Arc<AtomicBool>,
    /// Processor time that it used, with its helpers, in nanoseconds.
    cpu: Arc<AtomicU64>,
}

impl Decoding {
    /// Decodes from now on what `handle` receives, to BGR. Where there are `torn` frames, whoever
    /// waits for pictures is nudged.
    pub(super) fn start(handle: &Handle, torn: Option<Torn>) -> std::io::Result<Self> {
        Self::of(handle.received(), handle.arriving(), torn)
    }

    fn of(
        received: Latest<Delivered>,
        arriving: Arriving,
        torn: Option<Torn>,
    ) -> std::io::Result<Self> {
        let decoding = Self {
            pictures: Latest::new(),
            spare: Latest::new(),
            received,
            is_over: Arc::default(),
            cpu: Arc::default(),
        };
        let thread = DecodingThread {
            received: decoding.received.clone(),
            arriving,
            torn,
            pictures: decoding.pictures.clone(),
            spare: decoding.spare.clone(),
            is_over: Arc::clone(&decoding.is_over),
            cpu: Arc::clone(&decoding.cpu),
            beginning: ArrivingFrame::default(),
            ahead: Ahead::default(),
            canvas: Image::empty(),
        };
        Decoder::on_a_thread(|decoder| thread.run(decoder))?;
        Ok(decoding)
    }

    /// Where the pictures come out; the newest wins.
    pub(super) fn pictures(&self) -> Latest<Decoded> {
        self.pictures.clone()
    }

    /// Takes a picture that nobody needs any more.
    pub(super) fn give_back(&self, picture: Image) {
        self.spare.put(picture);
    }

    /// Frames that were decoded and never taken, since a newer one came.
    pub(super) fn superseded(&self) -> u64 {
        self.pictures.superseded()
    }

    /// Processor time used so far.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Ordering::Relaxed))
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.received.nudge();
    }
}

struct DecodingThread {
    received: Latest<Delivered>,
    arriving: Arriving,
    torn: Option<Torn>,
    pictures: Latest<Decoded>,
    spare: Latest<Image>,
    is_over: Arc<AtomicBool>,
    cpu: Arc<AtomicU64>,
    /// The frame that is still arriving, and what of it is on the canvas.
    beginning: ArrivingFrame,
    ahead: Ahead,
    canvas: Image,
}

impl DecodingThread {
    fn run(mut self, mut decoder: Decoder) {
        while !self.is_over.load(Ordering::Relaxed) {
            match self.received.take(LONG) {
                Taken::Value(delivered) => self.decode(&mut decoder, delivered),
                Taken::Nudged => self.look_ahead(&mut decoder),
                Taken::TimedOut => {}
                Taken::Closed => break,
            }
            let used = clock::thread_cpu() + decoder.helpers_cpu();
            self.cpu.store(used.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    fn decode(&mut self, decoder: &mut Decoder, delivered: Delivered) {
        // Whatever was begun on is this frame, or one that will not be shown any more.
        let ahead = std::mem::take(&mut self.ahead);
        let is_begun = self.beginning.of.take() == Some((delivered.call, delivered.frame.id));
        let ahead = if is_begun { ahead } else { Ahead::default() };
        let (data, canvas) = (&delivered.frame.data, &mut self.canvas);
        let picture = decoder.decode_rest(ahead, data, Want::Bgr, canvas).map(|()| {
            let next = self.spare.try_take().unwrap_or_else(Image::empty);
            std::mem::replace(canvas, next)
        });
        let replaced = self.pictures.put(Decoded { delivered, picture, at: clock::now() });
        if let Some(Decoded { picture: Ok(picture), .. }) = replaced {
            self.canvas = picture;
        }
    }

    /// Decodes what has come of the frame that is still arriving.
    fn look_ahead(&mut self, decoder: &mut Decoder) {
        if self.torn.as_ref().is_some_and(|torn| !torn.is_empty()) {
            self.pictures.nudge();
        }
        if self.arriving.update(&mut self.beginning) {
            self.ahead = Ahead::default();
        }
        let (bytes, canvas) = (&self.beginning.bytes, &mut self.canvas);
        decoder.decode_ahead(&mut self.ahead, bytes, Want::Bgr, canvas);
    }
}

/// However it ends, nobody waits for it.
impl Drop for DecodingThread {
    fn drop(&mut self) {
        self.pictures.close();
    }
}

/// Nothing ends the wait but what is waited for, or the end.
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

    /// A thread that hears of nothing but these.
    fn start(received: &Latest<Delivered>, torn: &Torn) -> Decoding {
        let (received, torn) = (received.clone(), Some(torn.clone()));
        Decoding::of(received, Arriving::default(), torn).expect("a thread")
    }

    fn frame(luma: u8) -> Vec<u8> {
        let mut image = Image::blank(64, 48, PixelFormat::Gray);
        image.data.fill(luma);
        let mut frame = Vec::new();
        Encoder::new(90, Strips::Count(1)).encode(&image, &mut frame).expect("encodes");
        frame
    }

    #[test]
    fn what_comes_comes_out_decoded_or_with_what_is_wrong_with_it() {
        let (received, torn) = (Latest::new(), Latest::new());
        let decoding = start(&received, &torn);
        let pictures = Incoming::Pictures(decoding.pictures());
        for (id, data, luma) in
            [(1, frame(40), Some(40)), (2, vec![0; 9], None), (3, frame(200), Some(200))]
        {
            received.put(Delivered::example(id, &data, clock::now()));
            let Taken::Value(Arrived::Picture(decoded)) = pictures.take(PATIENCE) else {
                panic!("nothing came")
            };
            assert_eq!(decoded.delivered.frame.id, FrameId(id));
            assert_eq!(decoded.picture.as_ref().ok().map(|image| image.data[0]), luma);
            if let Ok(image) = decoded.picture {
                decoding.give_back(image);
            }
        }
        assert!(decoding.cpu() > Duration::ZERO);
        assert_eq!(decoding.superseded(), 0);
    }

    #[test]
    fn who_waits_for_pictures_hears_of_torn_frames_and_of_the_end() {
        let (received, torn) = (Latest::new(), Latest::new());
        let decoding = start(&received, &torn);
        let pictures = decoding.pictures();
        let frame = TornFrame { id: FrameId(1), data: Vec::new().into(), present: Vec::new() };
        torn.put((CallId(1), frame));
        received.nudge();
        assert!(matches!(pictures.take(PATIENCE), Taken::Nudged));
        received.close();
        assert!(matches!(pictures.take(PATIENCE), Taken::Closed));
    }
}
