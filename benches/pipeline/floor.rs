//! The least that it can cost: libjpeg-turbo on whole pictures, one thread, nothing around it.

use std::{sync::Arc, thread, time::Duration};

use udpchat::{
    clock,
    video::{
        image::{Image, Size},
        jpeg::{Decoder, Encoder, Strips, Want},
        source::pattern::Pattern,
    },
};

use crate::measure::{Samples, timed};

/// An encoder and a decoder, and the pattern's pictures.
pub(crate) struct Floor {
    pattern: Pattern,
    encoder: Encoder,
    decoder: Decoder,
    frame: Vec<u8>,
    image: Image,
    next: u32,
}

/// What a series of pictures cost, each.
#[derive(Default)]
pub(crate) struct Run {
    /// To paint a picture of the pattern over an old one, which is no part of the others.
    pub(crate) paint: Samples,
    pub(crate) encode: Samples,
    pub(crate) decode: Samples,
    /// Encode and decode together, ms.
    pub(crate) both: Samples,
    cpu: Samples,
    /// Bytes of a frame.
    pub(crate) len: Samples,
}

impl Run {
    /// Processor time of both, ms: the mean, as the program reports it.
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
            decoder: Decoder::new(),
            frame: Vec::new(),
            image: Image::empty(),
            next: 0,
        }
    }

    /// `fps` a second, as a stream has them.
    pub(crate) fn paced(&mut self, fps: f64, frames: usize) -> Run {
        let (mut run, began) = (Run::default(), clock::now());
        for i in 0..frames {
            let due = began + Duration::from_secs_f64(i as f64 / fps);
            while clock::now() < due {
                thread::park_timeout(due.saturating_duration_since(clock::now()));
            }
            let mut picture = None;
            run.paint.push(timed(|| picture = Some(self.picture())));
            self.one(&picture.expect("painted"), &mut run);
        }
        run
    }

    /// One at once after another, painted beforehand.
    pub(crate) fn hot(&mut self, frames: usize) -> Run {
        let pictures: Vec<Arc<Image>> = (0..4).map(|_| self.picture()).collect();
        let mut run = Run::default();
        pictures.iter().cycle().take(frames).for_each(|picture| self.one(picture, &mut run));
        run
    }

    fn picture(&mut self) -> Arc<Image> {
        self.next += 1;
        self.pattern.picture(self.next, clock::wall())
    }

    fn one(&mut self, picture: &Image, run: &mut Run) {
        let cpu = clock::thread_cpu();
        let encode = timed(|| self.encoder.encode(picture, &mut self.frame).expect("encodes"));
        let decode = timed(|| {
            self.decoder.decode(&self.frame, Want::Bgr, &mut self.image).expect("decodes");
        });
        run.cpu.push(clock::thread_cpu().saturating_sub(cpu).as_secs_f64() * 1e3);
        run.encode.push(encode);
        run.decode.push(decode);
        run.both.push(encode + decode);
        run.len.push(self.frame.len() as f64);
    }
}
