//! Frames to images.

use std::{
    ops::Range,
    thread::{self, JoinHandle},
    time::Duration,
};

use turbojpeg::DecompressHeader;

use super::{
    MAX_JPEG_LEN,
    cage::Cage,
    confine::confine_this_thread,
    header::Header,
    strips::{Crew, STRIPS_A_THREAD, Split, StripMut, strips_mut},
    turbo::{JpegError, TurboDecoder, contained, planar_format},
};
use crate::video::image::{Image, PixelFormat, Size};

/// What a frame is decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Interleaved BGR, whatever the frame has: for showing.
    Bgr,
    /// The frame's own planes, without any conversion: for recording.
    Planar,
}

/// Makes images of frames.
///
/// Whatever reads their bytes is done by threads of its own, which may do nothing else (see
/// [`Confinement`](super::Confinement)); the calling thread waits for them.
#[derive(Debug)]
pub struct Decoder {
    cage: Cage,
    work: Box<Work>,
}

/// What is done in the cage.
#[derive(Debug)]
struct Work {
    whole: TurboDecoder,
    strips: Vec<StripDecoder>,
    crew: Crew,
    /// What strips of torn frames are decoded into, until it is known that they are undamaged.
    trial: Image,
    /// A frame, or its header, with its oddities corrected.
    corrected: Vec<u8>,
}

/// How much of a torn frame could be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concealed {
    /// Strips that are now in the picture.
    pub shown: usize,
    /// Strips that the frame has.
    pub of: usize,
}

/// How far a frame has been decoded while it was still arriving; one for each frame.
#[derive(Debug, Default)]
pub struct Ahead {
    plan: Option<Plan>,
    /// Strips that are in the image.
    done: usize,
    error: Option<JpegError>,
}

/// How a frame is decoded, as its header has it.
#[derive(Debug)]
struct Plan {
    header: Header,
    /// What libjpeg says of it.
    seen: DecompressHeader,
    /// The layout of its planes, if they are wanted and we have one.
    format: Option<PixelFormat>,
    /// `None`: whole, or its markers have turned out to be wrong.
    split: Option<Split>,
}

impl Decoder {
    /// A decoder. Frames with restart markers it decodes on all cores.
    pub fn new() -> Self {
        Self::of(Crew::new())
    }

    /// On the calling thread alone, which is not confined: for pictures that are one's own.
    pub fn alone() -> Self {
        Self { cage: Cage::open(), ..Self::of(Crew::of(1)) }
    }

    /// Starts a thread that does `body`, and gives it a decoder to decode with on that very thread.
    /// It is confined as those of any decoder are: `body` can do nothing but compute, and wait for
    /// other threads.
    pub fn on_a_thread(
        body: impl FnOnce(Self) + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("decode".into()).spawn(move || {
            let mut decoder = Self { cage: Cage::open(), ..Self::of(Crew::new()) };
            decoder.work.crew.start_helpers();
            confine_this_thread();
            body(decoder);
        })
    }

    /// On so many threads, whatever the machine has.
    #[cfg(test)]
    pub(super) fn with_threads(threads: usize) -> Self {
        Self::of(Crew::of(threads))
    }

    fn of(crew: Crew) -> Self {
        let work = Box::new(Work {
            whole: TurboDecoder::new(),
            strips: Vec::new(),
            crew,
            trial: Image::empty(),
            corrected: Vec::new(),
        });
        Self { cage: Cage::default(), work }
    }

    /// Processor time used so far by threads other than the calling one.
    pub fn helpers_cpu(&self) -> Duration {
        self.work.crew.helpers_cpu() + self.cage.cpu()
    }

    /// Decodes `frame` into `image`, whose allocation is used again.
    ///
    /// A frame that libjpeg warns of is damaged, unless its scan holds the whole picture. Of a damaged
    /// one `image` holds no picture.
    ///
    /// Where strips meet, the colours of two rows of BGR may differ by a few levels from
    /// those of other decoders, since the rows across are not looked at to smooth them.
    pub fn decode(&mut self, frame: &[u8], want: Want, image: &mut Image) -> Result<(), JpegError> {
        self.decode_rest(Ahead::default(), frame, want, image)
    }

    /// Decodes `frame` as [`decode`](Self::decode), but all of it at once: what that must agree with.
    pub(crate) fn decode_whole(
        &mut self,
        frame: &[u8],
        want: Want,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        self.confined(|work| work.decode_whole(frame, want, image))
    }

    /// Decodes into `image` what there is to decode in the beginning of a frame, of which more
    /// may come, and notes in `ahead` how far it came. The same image, want and frame must be
    /// given each time; a beginning may only grow. What is wrong with it is said at its end.
    pub fn decode_ahead(
        &mut self,
        ahead: &mut Ahead,
        beginning: &[u8],
        want: Want,
        image: &mut Image,
    ) {
        self.confined(|work| work.decode_ahead(ahead, beginning, want, image));
    }

    /// Decodes of a whole frame into `image` what was not decoded ahead, as
    /// [`decode`](Self::decode).
    pub fn decode_rest(
        &mut self,
        ahead: Ahead,
        frame: &[u8],
        want: Want,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        self.confined(|work| work.decode_rest(ahead, frame, want, image))
    }

    /// Decodes the strips of a torn `frame` that are whole in the ranges `present` of it over
    /// `picture`, the one before it: interleaved BGR of the same size, or nothing is done. The
    /// ranges are in order, do not touch, and lie within the frame.
    ///
    /// Nothing is done either without the frame's header, which stands at its beginning, and
    /// without restart markers. A damaged strip is left out.
    pub fn conceal(
        &mut self,
        frame: &[u8],
        present: &[Range<usize>],
        picture: &mut Image,
    ) -> Concealed {
        self.confined(|work| work.conceal(frame, present, picture))
    }

    fn confined<T: Send>(&mut self, job: impl FnOnce(&mut Work) -> T + Send) -> T {
        self.work.crew.start_helpers();
        let work = &mut *self.work;
        self.cage.run(|| job(work))
    }
}

impl Work {
    fn decode_whole(
        &mut self,
        frame: &[u8],
        want: Want,
        image: &mut Image,
    ) -> Result<(), JpegError> {
        let plan = Plan { split: None, ..self.plan(frame, want)? };
        plan.reshape(image);
        let ahead = Ahead { plan: Some(plan), ..Ahead::default() };
        self.decode_rest(ahead, frame, want, image)
    }

    fn decode_ahead(&mut self, ahead: &mut Ahead, beginning: &[u8], want: Want, image: &mut Image) {
        if ahead.plan.is_none() && ahead.error.is_none() {
            match self.plan(beginning, want) {
                Ok(plan) => {
                    plan.reshape(image);
                    ahead.plan = Some(plan);
                }
                // Perhaps its header has not come yet.
                Err(JpegError::Header(_)) => {}
                Err(error) => ahead.error = Some(error),
            }
        }
        if let Some(plan) = &mut ahead.plan
            && ahead.error.is_none()
        {
            let there = plan.split.as_mut().and_then(|split| split.find_strips(beginning));
            match (&plan.split, there) {
                (Some(split), Some(there)) => {
                    let new = ahead.done..there;
                    ahead.done = there;
                    let is_new = |strip: usize| new.contains(&strip);
                    let results = self.decode_strips(beginning, plan, split, is_new, image);
                    ahead.error = results.into_iter().find_map(|(_, result)| result.err());
                }
                _ => plan.split = None,
            }
        }
    }

    fn decode_rest(
        &mut self,
        mut ahead: Ahead,
        frame: &[u8],
        want: Want,
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
            // What follows its end the decoder does not see.
            let end = plan.header.end(frame)?.unwrap_or(frame.len());
            let frame = correct(&plan.header, &frame[..end], &mut self.corrected);
            contained(|| self.whole.decode(frame, &plan.seen, image))?;
        }
        if want == Want::Planar && plan.format.is_none() {
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
        let plan = self.plan(frame, Want::Bgr).ok();
        let there = present.first().filter(|first| first.start == 0).map_or(0, |first| first.end);
        let plan = plan.filter(|plan| plan.header.scan_data <= there);
        let Some(plan) = plan else { return Concealed::default() };
        // As fine as its markers are, and not as coarse as is quickest.
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

    fn plan(&mut self, beginning: &[u8], want: Want) -> Result<Plan, JpegError> {
        let header = Header::parse(beginning)?;
        let corrected = correct(&header, &beginning[..header.scan_data], &mut self.corrected);
        let seen = contained(|| self.whole.read_header(corrected))?;
        if (seen.width, seen.height) != (header.size.width, header.size.height) {
            return Err(JpegError::Contradiction);
        }
        let format = match want {
            Want::Bgr => None,
            Want::Planar => planar_format(&seen),
        };
        let split = Split::plan(&header, self.crew.threads() * STRIPS_A_THREAD);
        Ok(Plan { header, seen, format, split })
    }

    /// Decodes the strips that are wanted, on all cores if they are several: the number of each,
    /// and what became of it.
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
        self.crew.run(
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

    /// Frees the room for strips, if frames whose strips were of very different lengths have
    /// left more than two frames of the greatest length would need.
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

/// `bytes`, which begin with `header`, without its oddities: themselves if there are none, or a copy in `room`.
fn correct<'a>(header: &Header, bytes: &'a [u8], room: &'a mut Vec<u8>) -> &'a [u8] {
    if !header.is_odd {
        return bytes;
    }
    room.clear();
    room.extend_from_slice(bytes);
    header.correct_oddities(room);
    room
}

/// One strip's share of the work.
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

    /// `whole` is what libjpeg says of the frame.
    fn decode(&mut self, whole: &DecompressHeader, strip: StripMut<'_>) -> Result<(), JpegError> {
        let mut expected = *whole;
        expected.height = strip.height;
        // Into pixels it looks for itself whether they have room, into planes it does not.
        if strip.format != PixelFormat::Bgr && self.turbo.read_header(&self.jpeg)? != expected {
            return Err(JpegError::Contradiction);
        }
        self.turbo.decode_strip(&self.jpeg, &expected, strip)
    }
}

/// For a sampling or colour space that we have no layout for: by way of BGR, to 4:4:4.
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

/// Bytes that strips may take between two frames.
const MAX_ROOM: usize = 2 * MAX_JPEG_LEN;

#[cfg(test)]
mod tests;
