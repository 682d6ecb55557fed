//! Encodes images to frames.

use std::{ops::Range, time::Duration};

use super::{
    header::Sampling,
    strips::{HEADROOM, Layout, Place, Strip, StripPool, Strips, stitch},
    turbo::{JpegError, TurboEncoder},
};
use crate::video::image::{Image, PixelFormat};

/// Encodes images.
#[derive(Debug)]
pub struct Encoder {
    quality: u8,
    gray: bool,
    strips: Strips,
    sharers: usize,
    pipelined: bool,
    encoders: Vec<StripEncoder>,
    pool: StripPool,
}

impl Encoder {
    /// An encoder of quality 1 (worst) to 100. Panics for other numbers.
    pub fn new(quality: u8, strips: Strips) -> Self {
        let (encoders, pool) = (Vec::new(), StripPool::new());
        let (gray, sharers, pipelined) = (false, 1, false);
        let mut encoder = Self { quality, gray, strips, sharers, pipelined, encoders, pool };
        encoder.set_quality(quality);
        encoder
    }

    /// Uses the calling thread only.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn alone(quality: u8, strips: Strips) -> Self {
        Self { pool: StripPool::of(1), ..Self::new(quality, strips) }
    }

    /// Sets the quality, 1 to 100, from the next frame.
    pub fn set_quality(&mut self, quality: u8) {
        assert!((1..=100).contains(&quality), "quality {quality}");
        self.quality = quality;
    }

    /// From the next frame, encodes only the luma of any image, as one component.
    pub fn set_gray(&mut self, gray: bool) {
        self.gray = gray;
    }

    /// From the next frame, expects `sharers` equally busy encoders or decoders, including this
    /// one, to share the machine's cores. Reduces the number of automatic strips.
    pub fn set_sharers(&mut self, sharers: usize) {
        self.sharers = sharers.max(1);
    }

    /// Sets whether, from the next frame, each strip is sent as soon as it is encoded. If all are
    /// sent together, fewer automatic strips are used.
    pub fn set_pipelined(&mut self, pipelined: bool) {
        self.pipelined = pipelined;
    }

    /// Processor time used so far by threads other than the calling one.
    pub fn helpers_cpu(&self) -> Duration {
        self.pool.helpers_cpu()
    }

    /// Encodes `image` into `frame`, replacing its content.
    ///
    /// BGR becomes 4:2:0. Planes keep their sampling and are passed to the encoder unchanged.
    #[cfg(any(test, feature = "internals"))]
    pub fn encode(&mut self, image: &Image, frame: &mut Vec<u8>) -> Result<(), JpegError> {
        frame.clear();
        self.encode_strips(image, |_, strip| frame.extend_from_slice(strip))
    }

    /// Encodes `image` like [`encode`](Self::encode), and calls `ready` with each strip and its
    /// bytes in order, as soon as it and those before it are encoded. The concatenated bytes are
    /// the frame.
    ///
    /// `ready` is not called after an error.
    pub fn encode_strips(
        &mut self,
        image: &Image,
        mut ready: impl FnMut(StripIndex, &[u8]),
    ) -> Result<(), JpegError> {
        let sampling = if self.gray { Sampling::Gray } else { sampling(image.format) };
        let strips =
            self.strips.count(image.size(), self.pool.threads() / self.sharers, self.pipelined);
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
        self.pool.run(
            &mut jobs,
            |job| job.result = job.encoder.encode(&job.strip, job.place, quality, sampling),
            |job| match std::mem::replace(&mut job.result, Ok(0..0)) {
                Ok(bytes) if result.is_ok() => {
                    let nth = StripIndex { index: job.place.index, count };
                    ready(nth, &job.encoder.room[bytes]);
                }
                Err(error) if result.is_ok() => result = Err(error),
                _ => {}
            },
        );
        result
    }
}

/// A strip's number in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StripIndex {
    /// Its number, from 0.
    pub index: usize,
    /// The number of strips.
    pub count: usize,
}

impl StripIndex {
    /// Whether it is the frame's last strip.
    pub fn is_last(self) -> bool {
        self.index + 1 == self.count
    }
}

/// The work on one strip.
struct Job<'a> {
    encoder: &'a mut StripEncoder,
    strip: Strip<'a>,
    place: Place,
    result: Result<Range<usize>, JpegError>,
}

#[derive(Debug)]
struct StripEncoder {
    turbo: TurboEncoder,
    /// [`HEADROOM`], and space for the longest JPEG of the strip's size.
    room: Vec<u8>,
}

impl StripEncoder {
    fn new() -> Self {
        Self { turbo: TurboEncoder::new(), room: Vec::new() }
    }

    /// Returns the range of the strip's bytes in `room`.
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
