//! A lower bound on the cost: libjpeg-turbo alone, on whole pictures.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use udpchat::{
    clock,
    video::{
        image::{Image, Size},
        jpeg::{Encoder, Strips},
        source::pattern::Pattern,
    },
};

use crate::measure::{Samples, timed};

/// An encoder, a decoder, and the pattern as their source.
pub(crate) struct Floor {
    pattern: Pattern,
    encoder: Encoder,
    decoder: BareDecoder,
    frame: Vec<u8>,
    next: u32,
}

/// libjpeg-turbo on the calling thread. Our own decoder uses separate, sandboxed threads.
struct BareDecoder {
    decompressor: turbojpeg::Decompressor,
    size: Size,
    pixels: Vec<u8>,
}

impl BareDecoder {
    fn new(size: Size) -> Self {
        let decompressor = turbojpeg::Decompressor::new().expect("memory");
        Self { decompressor, size, pixels: vec![0; 3 * size.width * size.height] }
    }

    fn decode(&mut self, frame: &[u8]) {
        let Size { width, height } = self.size;
        let (pixels, format) = (&mut self.pixels[..], turbojpeg::PixelFormat::BGR);
        let image = turbojpeg::Image { pixels, width, pitch: 3 * width, height, format };
        self.decompressor.decompress(frame, image).expect("decodes");
    }
}

/// The cost of each picture of a series, in ms unless stated.
#[derive(Default)]
pub(crate) struct Run {
    /// Painting a picture of the pattern over an old one; not included in the other times.
    pub(crate) paint: Samples,
    pub(crate) encode: Samples,
    pub(crate) decode: Samples,
    /// Encoding plus decoding.
    pub(crate) both: Samples,
    cpu: Samples,
    /// Frame length in bytes.
    pub(crate) len: Samples,
}

impl Run {
    /// Mean processor time of encoding plus decoding, ms. The program reports means, too.
    pub(crate) fn cpu(&self) -> f64 {
        let (sum, count) = self.cpu.into_iter().fold((0.0, 0.0), |(s, n), ms| (s + ms, n + 1.0));
        sum / count
    }
}

impl Floor {
    pub(crate) fn new(size: Size, quality: u8) -> Self {
        Self {
            pattern: Pattern::new(size, &format!("udpchat {size} 30 fps")),
            encoder: Encoder::new(quality, Strips::Count(1)),
            decoder: BareDecoder::new(size),
            frame: Vec::new(),
            next: 0,
        }
    }

    /// Runs at `fps` pictures a second, as a stream does.
    pub(crate) fn paced(&mut self, fps: f64, frames: usize) -> Run {
        let (mut run, began) = (Run::default(), clock::now());
        for i in 0..frames {
            wait_until(began + Duration::from_secs_f64(i as f64 / fps));
            let mut picture = None;
            run.paint.push(timed(|| picture = Some(self.picture())));
            self.measure(&picture.expect("painted"), &mut run);
        }
        run
    }

    /// Like [`paced`](Self::paced), but decodes on a separate thread, as a receiver must, so that
    /// encoder and decoder do not share warm caches.
    pub(crate) fn apart(&mut self, fps: f64, frames: usize) -> Run {
        let (mut run, began) = (Run::default(), clock::now());
        let Self { pattern, encoder, decoder, next, .. } = self;
        let (to_decoder, arrived) = mpsc::channel::<Vec<u8>>();
        let decoded = thread::scope(|scope| {
            let receiver = scope.spawn(move || {
                let decode = |frame: Vec<u8>| cost(|| decoder.decode(&frame));
                arrived.into_iter().map(decode).collect::<Vec<_>>()
            });
            for i in 0..frames {
                wait_until(began + Duration::from_secs_f64(i as f64 / fps));
                *next += 1;
                let picture = pattern.picture(*next, clock::wall());
                let mut frame = Vec::new();
                let (ms, cpu) = cost(|| encoder.encode(&picture, &mut frame).expect("encodes"));
                run.encode.push(ms);
                run.cpu.push(cpu);
                run.len.push(frame.len() as f64);
                to_decoder.send(frame).expect("it waits for more");
            }
            drop(to_decoder);
            receiver.join().expect("decodes")
        });
        let encoded = std::mem::take(&mut run.cpu);
        run.cpu =
            encoded.into_iter().zip(&decoded).map(|(encode, (_, cpu))| encode + cpu).collect();
        for (encode, (decode, _)) in run.encode.into_iter().zip(decoded) {
            run.decode.push(decode);
            run.both.push(encode + decode);
        }
        run
    }

    /// Like [`paced`](Self::paced), on two threads at once: the cost when a second core is equally
    /// busy, as when threads share the strips of a picture.
    pub(crate) fn beside(floors: [&mut Self; 2], fps: f64, frames: usize) -> Run {
        let runs = thread::scope(|scope| {
            floors
                .map(|floor| scope.spawn(move || floor.paced(fps, frames)))
                .map(|thread| thread.join().expect("encodes and decodes"))
        });
        let all = |of: fn(&Run) -> &Samples| runs.iter().flat_map(of).copied().collect();
        Run {
            encode: all(|run| &run.encode),
            decode: all(|run| &run.decode),
            both: all(|run| &run.both),
            cpu: all(|run| &run.cpu),
            ..Run::default()
        }
    }

    /// Runs without pauses, on pictures painted beforehand.
    pub(crate) fn hot(&mut self, frames: usize) -> Run {
        let pictures = self.pictures();
        let mut run = Run::default();
        pictures.iter().cycle().take(frames).for_each(|picture| self.measure(picture, &mut run));
        run
    }

    /// Like [`hot`](Self::hot), for at least `time`. Returns pictures a second.
    fn rate(&mut self, time: Duration) -> f64 {
        let pictures = self.pictures();
        let (mut run, mut done, began) = (Run::default(), 0_u32, clock::now());
        loop {
            for picture in &pictures {
                self.measure(picture, &mut run);
                done += 1;
            }
            let taken = clock::now() - began;
            if taken >= time {
                return f64::from(done) / taken.as_secs_f64();
            }
        }
    }

    /// Four pictures, so that none stays in the fastest caches.
    fn pictures(&mut self) -> [Arc<Image>; 4] {
        std::array::from_fn(|_| self.picture())
    }

    fn picture(&mut self) -> Arc<Image> {
        self.next += 1;
        self.pattern.picture(self.next, clock::wall())
    }

    fn measure(&mut self, picture: &Image, run: &mut Run) {
        let cpu = clock::thread_cpu();
        let encode = timed(|| self.encoder.encode(picture, &mut self.frame).expect("encodes"));
        let decode = timed(|| self.decoder.decode(&self.frame));
        run.cpu.push(clock::thread_cpu().saturating_sub(cpu).as_secs_f64() * 1e3);
        run.encode.push(encode);
        run.decode.push(decode);
        run.both.push(encode + decode);
        run.len.push(self.frame.len() as f64);
    }
}

/// Pictures a second that all `floors` together encode and decode, each on its own thread, without
/// pauses, for at least `time`.
pub(crate) fn rate(floors: &mut [Floor], time: Duration) -> f64 {
    thread::scope(|scope| {
        let start = |floor| scope.spawn(move || Floor::rate(floor, time));
        let threads: Vec<_> = floors.iter_mut().map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("encodes and decodes")).sum()
    })
}

fn wait_until(due: Instant) {
    while clock::now() < due {
        thread::park_timeout(due.saturating_duration_since(clock::now()));
    }
}

/// The elapsed time of `work` and the processor time of this thread, both in ms.
fn cost(work: impl FnOnce()) -> (f64, f64) {
    let before = clock::thread_cpu();
    let ms = timed(work);
    (ms, clock::thread_cpu().saturating_sub(before).as_secs_f64() * 1e3)
}
