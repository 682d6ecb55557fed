//! Decodes frames to images.

use std::{
    ops::Range,
    thread::{self, JoinHandle},
    time::Duration,
};

use turbojpeg::DecompressHeader;

use super::{
    MAX_JPEG_LEN,
    header::Header,
    sandbox::sandbox_this_thread,
    sandbox_thread::SandboxThread,
    strips::{STRIPS_PER_THREAD, Split, StripMut, StripPool, strips_mut},
    turbo::{JpegError, TurboDecoder, contained, planar_format},
};
use crate::video::image::{Image, PixelFormat, Size};

/// The pixel format to decode to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Interleaved BGR, whatever the frame's format: for display.
    Bgr,
    /// The frame's own planes, without conversion: for recording.
    Planar,
}

/// Decodes frames.
///
/// Only sandboxed threads read the frames' bytes (see [`SandboxStatus`](super::SandboxStatus)); the
/// calling thread waits for them.
#[derive(Debug)]
pub struct Decoder {
    sandbox_thread: SandboxThread,
    work: Box<Work>,
}

/// The decoding state used on the sandboxed thread.
#[derive(Debug)]
struct Work {
    whole: TurboDecoder,
    strips: Vec<StripDecoder>,
    pool: StripPool,
    /// The target of strips of partial frames, until they are known to be undamaged.
    trial: Image,
    /// A frame, or its header, with its oddities corrected.
    corrected: Vec<u8>,
}

/// How much of a partial frame could be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concealed {
    /// Strips that are now in the picture.
    pub shown: usize,
    /// Strips of the frame.
    pub of: usize,
}

/// The progress of decoding a frame while it arrives; one for each frame.
#[derive(Debug, Default)]
pub struct PartialDecode {
    plan: Option<Plan>,
    /// Strips decoded into the image.
    done: usize,
    error: Option<JpegError>,
}

/// How to decode a frame, from its header.
#[derive(Debug)]
struct Plan {
    header: Header,
    /// The header as parsed by libjpeg.
    seen: DecompressHeader,
    /// The layout of its planes, if they are wanted and supported.
    format: Option<PixelFormat>,
    /// `None`: the frame is decoded whole, since it cannot be split, or its restart markers are
    /// wrong.
    split: Option<Split>,
}

impl Decoder {
    /// A decoder. Frames with restart markers are decoded on several cores.
    pub fn new() -> Self {
        Self::of(StripPool::new())
    }

    /// Decodes on the calling thread only, without a sandbox: for trusted pictures.
    #[cfg(any(test, feature = "internals"))]
    pub fn alone() -> Self {
        Self { sandbox_thread: SandboxThread::unsandboxed(), ..Self::of(StripPool::of(1)) }
    }

    /// Runs `body` on a new thread, with a decoder that decodes on that thread. The thread is
    /// sandboxed like those of any decoder: `body` can only compute and wait for other threads.
    pub fn on_a_thread(
        body: impl FnOnce(Self) + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("decode".into()).spawn(move || {
            let mut decoder =
                Self { sandbox_thread: SandboxThread::unsandboxed(), ..Self::of(StripPool::new()) };
            decoder.work.pool.start_helpers();
            sandbox_this_thread();
            body(decoder);
        })
    }

    /// Uses this number of threads, whatever the machine has.
    #[cfg(test)]
    pub(super) fn with_threads(threads: usize) -> Self {
        Self::of(StripPool::of(threads))
    }

    fn of(pool: StripPool) -> Self {
        let work = Box::new(Work {
            whole: TurboDecoder::new(),
            strips: Vec::new(),
            pool,
            trial: Image::empty(),
            corrected: Vec::new(),
        });
        Self { sandbox_thread: SandboxThread::default(), work }
    }

    /// Processor time used so far by threads other than the calling one.
    pub fn helpers_cpu(&self) -> Duration {
        self.work.pool.helpers_cpu() + self.sandbox_thread.cpu()
    }

    /// Decodes `frame` into `image`, reusing its allocation.
    ///
    /// A frame that libjpeg warns about counts as damaged, unless the warning may be harmless and
    /// the scan holds the whole picture.
    /// After an error, the content of `image` is unspecified.
    ///
    /// Where strips meet, the colours of two rows of BGR may differ by a few levels from those of
    /// other decoders, since chroma is not interpolated across strips.
    pub fn decode(
        &mut self,
        frame: &[u8],
        want: OutputFormat,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        self.decode_rest(PartialDecode::default(), frame, want, image)
    }

    /// Decodes `frame` like [`decode`](Self::decode), but not in strips: the reference for tests.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn decode_whole(
        &mut self,
        frame: &[u8],
        want: OutputFormat,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        self.sandboxed(|work| work.decode_whole(frame, want, image))
    }

    /// Decodes into `image` as much as possible of the prefix of a frame that is still arriving,
    /// and records the progress in `ahead`. The image, `want` and frame must be the same in each
    /// call, and the prefix may only grow. Errors are reported by
    /// [`decode_rest`](Self::decode_rest).
    pub fn decode_ahead(
        &mut self,
        ahead: &mut PartialDecode,
        prefix: &[u8],
        want: OutputFormat,
        image: &mut Image,
    ) {
        self.sandboxed(|work| work.decode_ahead(ahead, prefix, want, image));
    }

    /// Decodes what [`decode_ahead`](Self::decode_ahead) has left of a frame that is now complete.
    /// Otherwise like [`decode`](Self::decode).
    pub fn decode_rest(
        &mut self,
        ahead: PartialDecode,
        frame: &[u8],
        want: OutputFormat,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        self.sandboxed(|work| work.decode_rest(ahead, frame, want, image))
    }

    /// Decodes the strips of a partial `frame` that are complete in the ranges `present`, and draws
    /// them over `picture`, the previous one, which must be interleaved BGR of the same size. The
    /// ranges are in order, do not touch, and lie within the frame.
    ///
    /// Does nothing if the picture does not match, or if the frame's header is missing or the frame
    /// cannot be split at restart markers. A damaged strip is skipped.
    pub fn conceal(
        &mut self,
        frame: &[u8],
        present: &[Range<usize>],
        picture: &mut Image,
    ) -> Concealed {
        self.sandboxed(|work| work.conceal(frame, present, picture))
    }

    fn sandboxed<T: Send>(&mut self, job: impl FnOnce(&mut Work) -> T + Send) -> T {
        self.work.pool.start_helpers();
        let work = &mut *self.work;
        self.sandbox_thread.run(|| job(work))
    }
}

impl Work {
    #[cfg(any(test, feature = "internals"))]
    fn decode_whole(
        &mut self,
        frame: &[u8],
        want: OutputFormat,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        let plan = Plan { split: None, ..self.plan(frame, want)? };
        plan.reshape(image);
        let ahead = PartialDecode { plan: Some(plan), ..PartialDecode::default() };
        self.decode_rest(ahead, frame, want, image)
    }

    fn decode_ahead(
        &mut self,
        ahead: &mut PartialDecode,
        prefix: &[u8],
        want: OutputFormat,
        image: &mut Image,
    ) {
        if ahead.plan.is_none() && ahead.error.is_none() {
            match self.plan(prefix, want) {
                Ok(plan) => {
                    plan.reshape(image);
                    ahead.plan = Some(plan);
                }
                // Its header may be incomplete.
                Err(JpegError::Header(_)) => {}
                Err(error) => ahead.error = Some(error),
            }
        }
        if let Some(plan) = &mut ahead.plan
            && ahead.error.is_none()
        {
            let found = plan.split.as_mut().and_then(|split| split.find_strips(prefix));
            match (&plan.split, found) {
                (Some(split), Some(found)) => {
                    let new = ahead.done..found;
                    ahead.done = found;
                    let is_new = |strip: usize| new.contains(&strip);
                    let results = self.decode_strips(prefix, plan, split, is_new, image);
                    ahead.error = results.into_iter().find_map(|(_, result)| result.err());
                }
                _ => plan.split = None,
            }
        }
    }

    fn decode_rest(
        &mut self,
        mut ahead: PartialDecode,
        frame: &[u8],
        want: OutputFormat,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        if ahead.plan.is_none() && ahead.error.is_none() {
            let plan = self.plan(frame, want)?;
            plan.reshape(image);
            ahead.plan = Some(plan);
        }
        self.decode_ahead(&mut ahead, frame, want, image);
        if let Some(error) = ahead.error {
            return Err(error);
        }
        let plan = ahead.plan.expect("made above, if not before");
        if plan.split.is_none_or(|split| ahead.done < split.count) {
            // The decoder does not see anything after the frame's end.
            let end = plan.header.end(frame)?.unwrap_or(frame.len());
            let frame = correct(&plan.header, &frame[..end], &mut self.corrected);
            contained(|| self.whole.decode(frame, &plan.seen, image))?;
        }
        if want == OutputFormat::Planar && plan.format.is_none() {
            *image = planes_of_bgr(image);
        }
        Ok(())
    }

    fn conceal(
        &mut self,
        frame: &[u8],
        present: &[Range<usize>],
        picture: &mut Image,
    ) -> Concealed {
        let plan = self.plan(frame, OutputFormat::Bgr).ok();
        let prefix_len =
            present.first().filter(|first| first.start == 0).map_or(0, |first| first.end);
        let plan = plan.filter(|plan| plan.header.scan_data <= prefix_len);
        let Some(plan) = plan else { return Concealed::default() };
        // One strip for each marker interval where possible, rather than the fastest division.
        let Some(mut split) = Split::plan(&plan.header, usize::MAX) else {
            return Concealed::default();
        };
        if (picture.size(), picture.format) != (plan.header.size, PixelFormat::Bgr) {
            return Concealed { shown: 0, of: split.count };
        }
        let whole = split.find_whole_strips(frame, present);
        let mut trial = std::mem::replace(&mut self.trial, Image::empty());
        plan.reshape(&mut trial);
        let is_whole = |strip: usize| whole.contains(&strip);
        let results = self.decode_strips(frame, &plan, &split, is_whole, &mut trial);
        let strip_len = 3 * picture.width * split.rows;
        let mut shown = 0;
        for (strip, _) in results.into_iter().filter(|(_, result)| result.is_ok()) {
            let start = strip * strip_len;
            let rows = start..(start + strip_len).min(picture.data.len());
            picture.data[rows.clone()].copy_from_slice(&trial.data[rows]);
            shown += 1;
        }
        self.trial = trial;
        Concealed { shown, of: split.count }
    }

    fn plan(&mut self, prefix: &[u8], want: OutputFormat) -> Result<Plan, JpegError> {
        let header = Header::parse(prefix)?;
        let corrected = correct(&header, &prefix[..header.scan_data], &mut self.corrected);
        let seen = contained(|| self.whole.read_header(corrected))?;
        if (seen.width, seen.height) != (header.size.width, header.size.height) {
            return Err(JpegError::Contradiction);
        }
        let format = match want {
            OutputFormat::Bgr => None,
            OutputFormat::Planar => planar_format(&seen),
        };
        let split = Split::plan(&header, self.pool.threads() * STRIPS_PER_THREAD);
        Ok(Plan { header, seen, format, split })
    }

    /// Decodes the wanted strips, in parallel if there are several. Returns the index and the
    /// result of each.
    fn decode_strips(
        &mut self,
        frame: &[u8],
        plan: &Plan,
        split: &Split,
        is_wanted: impl Fn(usize) -> bool,
        image: &mut Image,
    ) -> Vec<(usize, Result<(), JpegError>)> {
        let Plan { header, seen, .. } = plan;
        self.strips.resize_with(split.count.max(self.strips.len()), StripDecoder::new);
        let strips = self.strips.iter_mut().zip(strips_mut(image, split.rows)).enumerate();
        let mut jobs: Vec<Job<'_>> = strips
            .filter(|(index, _)| is_wanted(*index))
            .map(|(index, (decoder, strip))| Job {
                decoder,
                index,
                strip: Some(strip),
                result: Ok(()),
            })
            .collect();
        self.pool.run(
            &mut jobs,
            |job| {
                let strip = job.strip.take().expect("each job is done once");
                job.result = contained(|| {
                    split.write_strip(frame, header, job.index, &mut job.decoder.jpeg);
                    job.decoder.decode(seen, strip)
                });
            },
            |_| {},
        );
        let results = jobs.into_iter().map(|job| (job.index, job.result)).collect();
        self.trim();
        results
    }

    /// Frees the strips' buffers if they exceed [`MAX_ROOM`]. If strips vary in length, the buffers
    /// could otherwise grow beyond what two of the longest frames need.
    fn trim(&mut self) {
        let room: usize = self.strips.iter().map(|strip| strip.jpeg.capacity()).sum();
        if room > MAX_ROOM {
            self.strips.iter_mut().for_each(|strip| strip.jpeg = Vec::new());
        }
    }
}

impl Plan {
    fn reshape(&self, image: &mut Image) {
        let Size { width, height } = self.header.size;
        image.reshape(width, height, self.format.unwrap_or(PixelFormat::Bgr));
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Corrects the oddities of `header`, with which `bytes` begin. Returns `bytes` unchanged if there
/// are none, otherwise a corrected copy in `room`.
fn correct<'a>(header: &Header, bytes: &'a [u8], room: &'a mut Vec<u8>) -> &'a [u8] {
    if !header.is_odd {
        return bytes;
    }
    room.clear();
    room.extend_from_slice(bytes);
    header.correct_oddities(room);
    room
}

/// The work on one strip.
struct Job<'a> {
    decoder: &'a mut StripDecoder,
    index: usize,
    strip: Option<StripMut<'a>>,
    result: Result<(), JpegError>,
}

#[derive(Debug)]
struct StripDecoder {
    turbo: TurboDecoder,
    /// The strip as a JPEG of its own.
    jpeg: Vec<u8>,
}

impl StripDecoder {
    fn new() -> Self {
        Self { turbo: TurboDecoder::new(), jpeg: Vec::new() }
    }

    /// `whole` is libjpeg's header of the frame.
    fn decode(&mut self, whole: &DecompressHeader, strip: StripMut<'_>) -> Result<(), JpegError> {
        let mut expected = *whole;
        expected.height = strip.height;
        // libjpeg checks the room for pixels itself, but not that for planes.
        if strip.format != PixelFormat::Bgr && self.turbo.read_header(&self.jpeg)? != expected {
            return Err(JpegError::Contradiction);
        }
        self.turbo.decode_strip(&self.jpeg, &expected, strip)
    }
}

/// Converts BGR to 4:4:4, for a sampling or colour space that no [`PixelFormat`] represents.
fn planes_of_bgr(bgr: &Image) -> Image {
    let mut planes = Image::blank(bgr.width, bgr.height, PixelFormat::Yuv444);
    let [y, cb, cr] = planes.planes_mut();
    for (i, pixel) in bgr.data.chunks_exact(3).enumerate() {
        [y[i], cb[i], cr[i]] = yuv_of_bgr([pixel[0], pixel[1], pixel[2]]);
    }
    planes
}

fn yuv_of_bgr([b, g, r]: [u8; 3]) -> [u8; 3] {
    let [b, g, r] = [b, g, r].map(i32::from);
    let y = 19_595 * r + 38_470 * g + 7_471 * b;
    let cb = -11_059 * r - 21_709 * g + 32_768 * b + (128 << 16);
    let cr = 32_768 * r - 27_439 * g - 5_329 * b + (128 << 16);
    [y, cb, cr].map(|v| ((v + 0x8000) >> 16).clamp(0, 255) as u8)
}

/// The maximum capacity of the strips' buffers that is kept between two frames, in bytes.
const MAX_ROOM: usize = 2 * MAX_JPEG_LEN;

#[cfg(test)]
mod tests;
