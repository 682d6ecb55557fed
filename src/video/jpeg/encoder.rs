//! Images to frames.

use std::{ops::Range, time::Duration};

use super::{
    header::Sampling,
    strips::{Crew, HEADROOM, Layout, Place, Strip, Strips, stitch},
    turbo::{JpegError, TurboEncoder},
};
use crate::video::image::{Image, PixelFormat};

/// Makes frames of images.
#[derive(Debug)]
pub struct Encoder {
    quality: u8,
    gray: bool,
    strips: Strips,
    sharers: usize,
    leave_early: bool,
    encoders: Vec<StripEncoder>,
    crew: Crew,
}

impl Encoder {
    /// An encoder of quality 1 (worst) to 100; other numbers are a bug of the caller.
    pub fn new(quality: u8, strips: Strips) -> Self {
        let (encoders, crew) = (Vec::new(), Crew::new());
        let (gray, sharers, leave_early) = (false, 1, false);
        let mut encoder = Self { quality, gray, strips, sharers, leave_early, encoders, crew };
        encoder.set_quality(quality);
        encoder
    }

    /// On the calling thread alone.
    pub(crate) fn alone(quality: u8, strips: Strips) -> Self {
        Self { crew: Crew::of(1), ..Self::new(quality, strips) }
    }

    /// From the next frame on, encodes with this quality, 1 to 100.
    pub fn set_quality(&mut self, quality: u8) {
        assert!((1..=100).contains(&quality), "quality {quality}");
        self.quality = quality;
    }

    /// From the next frame on, encodes only the luma of any image, as one component.
    pub fn set_gray(&mut self, gray: bool) {
        self.gray = gray;
    }

    /// From the next frame on, counts on an equal share of this machine's cores, with so many
    /// who are as busy, this encoder being one; automatic strips are fewer then.
    pub fn set_sharers(&mut self, sharers: usize) {
        self.sharers = sharers.max(1);
    }

    /// From the next frame on, expects that each strip leaves as soon as it is encoded, or that
    /// all leave together; automatic strips are fewer then.
    pub fn set_leave_early(&mut self, leave_early: bool) {
        self.leave_early = leave_early;
    }

    /// Processor time used so far by threads other than the calling one.
    pub fn helpers_cpu(&self) -> Duration {
        self.crew.helpers_cpu()
    }

    /// Encodes `image` into `frame`, replacing what was in it.
    ///
    /// BGR becomes 4:2:0; planes keep their own sampling and are given to the
    /// encoder as they are.
    pub fn encode(&mut self, image: &Image, frame: &mut Vec<u8>) -> Result<(), JpegError> {
        frame.clear();
        self.encode_strips(image, |_, strip| frame.extend_from_slice(strip))
    }

    /// Encodes `image` as [`encode`](Self::encode), and calls `ready` with each strip and its
    /// bytes in order, as soon as it and those before it are there. All bytes one after another
    /// are the frame.
    ///
    /// After an error the rest of the frame does not come.
    pub fn encode_strips(
        &mut self,
        image: &Image,
        mut ready: impl FnMut(Nth, &[u8]),
    ) -> Result<(), JpegError> {
        let sampling = if self.gray { Sampling::Gray } else { sampling(image.format) };
        let strips =
            self.strips.count(image.size(), self.crew.threads() / self.sharers, self.leave_early);
        let Layout { rows, count, restart_interval } = Layout::new(image.size(), sampling, strips);
        self.encoders.resize_with(count.max(self.encoders.len()), StripEncoder::new);
        let (quality, height) = (self.quality, image.height);
        let job = |(index, encoder)| Job {
            encoder,
            strip: Strip::new(image, index * rows, rows),
            place: Place { index, count, height, restart_interval },
            result: Ok(0..0),
        };
        let mut jobs: Vec<Job<'_>> =
            self.encoders.iter_mut().take(count).enumerate().map(job).collect();
        let mut result = Ok(());
        self.crew.run(
            &mut jobs,
            |job| job.result = job.encoder.encode(&job.strip, job.place, quality, sampling),
            |job| match std::mem::replace(&mut job.result, Ok(0..0)) {
                Ok(bytes) if result.is_ok() => {
                    let nth = Nth { index: job.place.index, count };
                    ready(nth, &job.encoder.room[bytes]);
                }
                Err(error) if result.is_ok() => result = Err(error),
                _ => {}
            },
        );
        result
    }
}

/// Which strip of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nth {
    /// Its number, from zero.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl Nth {
    /// Whether the frame ends with it.
    pub fn is_last(self) -> bool {
        self.index + 1 == self.count
    }
}

/// One strip's share of the work.
struct Job<'a> {
    encoder: &'a mut StripEncoder,
    strip: Strip<'a>,
    place: Place,
    result: Result<Range<usize>, JpegError>,
}

#[derive(Debug)]
struct StripEncoder {
    turbo: TurboEncoder,
    /// [`HEADROOM`], and the longest JPEG of the strip's size.
    room: Vec<u8>,
}

impl StripEncoder {
    fn new() -> Self {
        Self { turbo: TurboEncoder::new(), room: Vec::new() }
    }

    /// Where in `room` the strip's bytes of the frame are.
    fn encode(
        &mut self,
        strip: &Strip<'_>,
        place: Place,
        quality: u8,
        sampling: Sampling,
    ) -> Result<Range<usize>, JpegError> {
        self.turbo.set_quality(quality);
        strip.fetch();
        let jpeg = self.turbo.encode(strip, sampling, &mut self.room, HEADROOM)?;
        Ok(stitch(&mut self.room, jpeg, place))
    }
}

fn sampling(format: PixelFormat) -> Sampling {
    match format {
        PixelFormat::Gray => Sampling::Gray,
        PixelFormat::Bgr | PixelFormat::Yuv420 => Sampling::S420,
        PixelFormat::Yuv422 => Sampling::S422,
        PixelFormat::Yuv444 => Sampling::S444,
    }
}
