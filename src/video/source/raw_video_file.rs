//! A video file without a container, of Motion JPEG (concatenated JPEGs) or of YUV4MPEG2. It loops
//! unless it is to be played once.
//!
//! It is read like the same bytes from a pipe. `FFmpeg` would conceal the missing part of a
//! truncated or damaged JPEG, and wrong pictures would be sent. `OpenCV` treats full-range
//! YUV4MPEG2, such as our own recordings, as studio range. JPEGs are decoded, so that size, quality
//! and the path's bitrate apply as for any video.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    playback_clock::PlaybackClock,
    pushback::Pushback,
    raw_stream::{RawError, RawPicture, RawStream},
    scale, y4m,
};
use crate::video::{
    image::{Image, Size},
    jpeg::{Decoder, OutputFormat},
};

/// A file being played.
pub(super) struct RawVideoFile {
    frames: Frames,
    damaged: Arc<AtomicU64>,
    size: Size,
    gray: bool,
    once: bool,
    playback_clock: PlaybackClock,
    /// The next picture, if it is already decoded.
    ahead: Option<Image>,
    number: u64,
}

impl RawVideoFile {
    /// Reads up to the first usable picture.
    pub(super) fn open(
        path: &Path,
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Self), SourceError> {
        let damaged = Arc::default();
        let mut frames = Frames::open(path, Arc::clone(&damaged))?;
        let Some((first, header)) = frames.next()? else { return Err(frames.stream.unusable()) };
        let found = first.size();
        let (format, square, own_fps) = match header {
            None => ("Motion JPEG", found, JPEGS_FPS),
            Some(header) => ("YUV4MPEG2", header.square_size(), header.fps.unwrap_or(DEFAULT_FPS)),
        };
        let size = options.size.unwrap_or(square);
        let fps = options.fps.unwrap_or(own_fps);
        let scaling = options.scaling_text(found, size);
        let (name, rate) = (&frames.name, options.rate_text(fps));
        let info = SourceInfo {
            width: size.width,
            height: size.height,
            fps,
            description: format!("{name}, {format} {found}{scaling} at {rate}"),
            passthrough: false,
            notes: Vec::new(),
        };
        let mut video = Self {
            frames,
            damaged,
            size,
            gray: options.gray,
            once: options.once,
            playback_clock: options.playback_clock(fps),
            ahead: None,
            number: 0,
        };
        video.ahead = Some(video.fit(first));
        Ok((info, video))
    }

    pub(super) fn next(&mut self, stop: &AtomicBool) -> Result<Option<Captured>, SourceError> {
        let next = match self.ahead.take() {
            Some(image) => Some(image),
            None => self.read_next()?,
        };
        let Some(image) = next else { return Ok(None) };
        let Some(due) = self.playback_clock.wait(stop) else {
            self.ahead = Some(image);
            return Ok(None);
        };
        // If the consumer is late, playback continues from there: no picture is skipped, even if
        // the playback clock skips due times.
        let number = self.number;
        self.number += 1;
        let picture = Picture::Image(image.into());
        Ok(Some(Captured { picture, captured: due.at, number }))
    }

    /// Whether pictures are delivered at a frame rate, rather than on request.
    pub(super) fn is_paced(&self) -> bool {
        self.playback_clock.is_paced()
    }

    pub(super) fn damaged(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.damaged)
    }

    /// The next picture; starts again after the last one, unless the file is played once.
    fn read_next(&mut self) -> Result<Option<Image>, SourceError> {
        let mut next = self.frames.next()?;
        if next.is_none() && !self.once {
            self.frames.begin_again()?;
            next = Some(self.frames.next()?.ok_or_else(|| self.frames.stream.unusable())?);
        }
        Ok(next.map(|(image, _)| self.fit(image)))
    }

    fn fit(&self, mut image: Image) -> Image {
        if self.gray {
            image.drop_chroma();
        }
        scale(image, self.size)
    }
}

/// The decoded pictures of the file.
struct Frames {
    path: PathBuf,
    /// The path for messages.
    name: String,
    stream: RawStream,
    decoder: Decoder,
}

/// A picture, and the header of its YUV4MPEG2 stream; `None` for a JPEG.
type FilePicture = (Image, Option<y4m::Header>);

impl Frames {
    fn open(path: &Path, damaged: Arc<AtomicU64>) -> Result<Self, SourceError> {
        let name = path.display().to_string();
        let stream = RawStream::new(&name, open_file(path)?, damaged);
        Ok(Self { path: path.into(), name, stream, decoder: Decoder::new() })
    }

    /// The next picture, or `None` at the end.
    fn next(&mut self) -> Result<Option<FilePicture>, SourceError> {
        loop {
            let refused =
                |error: RawError| error.into_source_error(&self.name, unreadable(&self.path));
            let jpeg = match self.stream.next().map_err(refused)? {
                None => return Ok(None),
                Some(RawPicture::Image(image, header)) => return Ok(Some((image, Some(header)))),
                Some(RawPicture::Jpeg(jpeg)) => jpeg,
            };
            let mut image = Image::empty();
            match self.decoder.decode(&jpeg, OutputFormat::Planar, &mut image) {
                Ok(()) => return Ok(Some((image, None))),
                Err(error) => self.stream.drop_jpeg(error.to_string()),
            }
        }
    }

    fn begin_again(&mut self) -> Result<(), SourceError> {
        self.stream.restart(open_file(&self.path)?);
        Ok(())
    }
}

fn open_file(path: &Path) -> Result<Pushback, SourceError> {
    let file = File::open(path).map_err(unreadable(path))?;
    Ok(Pushback::new(Box::new(BufReader::with_capacity(READ_LEN, file))))
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> SourceError {
    move |error| SourceError::Unreadable { path: path.into(), error }
}

/// The frame rate of JPEGs without a container, since they do not specify one: `FFmpeg`'s default.
const JPEGS_FPS: f64 = 25.0;

/// Buffer size, in bytes.
const READ_LEN: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::{Captured, Picture, Source, SourceError, SourceOptions};
    use crate::video::{
        image::{Image, PixelFormat, Size},
        jpeg::{Decoder, OutputFormat, tests::textured},
    };

    static NEVER_STOP: AtomicBool = AtomicBool::new(false);

    const ONCE: SourceOptions = SourceOptions {
        size: None,
        fps: None,
        unpaced: true,
        once: true,
        quality: None,
        gray: false,
    };

    /// Opens a video and deletes its file, which only restarting needs.
    fn open(bytes: &[u8], options: &SourceOptions) -> Result<Source, SourceError> {
        open_in(&tempfile::tempdir().expect("a temporary folder"), bytes, options)
    }

    fn open_in(
        folder: &tempfile::TempDir,
        bytes: &[u8],
        options: &SourceOptions,
    ) -> Result<Source, SourceError> {
        let path = folder.path().join("film.mjpeg");
        std::fs::write(&path, bytes).expect("writes");
        Source::open(&path.into_os_string().into(), options)
    }

    fn play(source: &mut Source) -> Vec<Captured> {
        std::iter::from_fn(|| source.next(&NEVER_STOP).expect("plays")).collect()
    }

    fn good() -> Vec<u8> {
        textured(64, 48, PixelFormat::Yuv420)
    }

    fn decoded(jpeg: &[u8]) -> Image {
        let mut image = Image::empty();
        Decoder::new().decode(jpeg, OutputFormat::Planar, &mut image).expect("a good one");
        image
    }

    /// Plays `bytes`, in which each picture must be the good one. Returns the number of pictures
    /// and of dropped frames.
    fn count(bytes: &[u8]) -> (usize, u64) {
        let mut source = open(bytes, &ONCE).expect("opens");
        let damaged = source.damaged();
        let (played, expected) = (play(&mut source), decoded(&good()));
        for (number, captured) in played.iter().enumerate() {
            assert_eq!(captured.number, number as u64);
            // Not by `assert_eq!`, which would print the pixels.
            let is_good = captured.picture == Picture::Image(expected.clone().into());
            assert!(is_good, "picture {number} differs");
        }
        (played.len(), damaged.load(Ordering::Relaxed))
    }

    #[test]
    fn damaged_frames_are_dropped_and_counted_and_never_shown() {
        let (good, unusable) = (good(), [0xFF, 0xD8, 0xFF, 0xFE, 0, 2, 0xFF, 0xD9]);
        let cut = &good[..good.len() * 2 / 3];
        let mut overwritten = good.clone();
        overwritten[good.len() / 2..][..90].fill(0);
        assert_eq!(count(&good.repeat(3)), (3, 0));
        assert_eq!(count(&[&good[..], cut, &good, &unusable, &good].concat()), (3, 2));
        assert_eq!(count(&[cut, &good, &good].concat()), (2, 1));
        assert_eq!(count(&[&good[..], &good, cut].concat()), (2, 1));
        assert_eq!(count(&[&good[..], &overwritten, &good].concat()), (2, 1));
        assert_eq!(count(&[&overwritten[..], &good, &good].concat()), (2, 1));
    }

    #[test]
    fn junk_before_and_between_frames_is_skipped() {
        let part = [&good()[..], b"\r\n--next\r\nContent-Type: image/jpeg\r\n\r\n"].concat();
        for start in [
            &b"\r\n"[..],
            b"--next\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n--next\r\n",
            b"\xFF\xD8\xFF\xD9\xFF\xD8",
            &[0; 4000],
        ] {
            assert_eq!(count(&[start, &part.repeat(3)].concat()), (3, 0), "{start:?}");
            assert_eq!(count(&[start, &good()].concat()), (1, 0), "{start:?}");
        }
    }

    #[test]
    fn without_once_a_video_restarts() {
        let large = textured(96, 48, PixelFormat::Yuv444);
        let options = SourceOptions { once: false, ..ONCE };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bytes = [&good()[..], &good(), &large].concat();
        let mut source = open_in(&folder, &bytes, &options).expect("opens");
        for number in 0..8 {
            let captured = source.next(&NEVER_STOP).expect("plays").expect("no end");
            let Picture::Image(image) = captured.picture else { panic!("pixels") };
            assert_eq!((captured.number, image.size()), (number, Size { width: 64, height: 48 }));
        }
        assert!(source.next(&AtomicBool::new(true)).expect("no error").is_none());
        assert!(
            source.next(&NEVER_STOP).expect("plays").is_some_and(|c| c.number == 8),
            "none is lost"
        );
    }

    #[test]
    fn options_apply_to_raw_video_files() {
        let size = Size { width: 40, height: 32 };
        let options =
            SourceOptions { size: Some(size), fps: Some(500.0), gray: true, once: true, ..ONCE };
        let options = SourceOptions { unpaced: false, ..options };
        let mut source = open(&good().repeat(3), &options).expect("opens");
        let info = source.info().clone();
        assert_eq!((info.width, info.height, info.fps), (40, 32, 500.0));
        assert!(source.is_paced() && !info.passthrough);
        let played = play(&mut source);
        assert_eq!(played.len(), 3);
        for Captured { picture, .. } in played {
            let Picture::Image(image) = picture else { panic!("pixels") };
            assert_eq!((image.size(), image.format), (size, PixelFormat::Gray));
        }
        let paced = SourceOptions { unpaced: false, ..ONCE };
        let description =
            open(&good().repeat(2), &paced).expect("opens").info().description.clone();
        assert!(description.ends_with("film.mjpeg, Motion JPEG 64x48 at 25 frames/s"));
    }

    #[test]
    fn a_file_without_a_valid_frame_is_refused_with_the_reason() {
        let good = good();
        let cut = good[..good.len() * 2 / 3].repeat(3);
        let said = open(&cut, &ONCE).err().expect("refused").to_string();
        assert!(said.contains("film.mjpeg") && said.contains("can be used"), "{said}");
    }

    /// Pictures of luma 77, in the range that the header specifies.
    fn y4m(header: &str, pictures: usize) -> Vec<u8> {
        let picture = [&b"FRAME\n"[..], &[77; 64 * 48]].concat();
        [format!("YUV4MPEG2 W64 H48 {header}\n").as_bytes(), &picture.repeat(pictures)].concat()
    }

    fn luma(captured: &Captured) -> (Size, u8) {
        let Picture::Image(image) = &captured.picture else { panic!("pixels") };
        (image.size(), image.data[0])
    }

    #[test]
    fn y4m_keeps_its_levels_and_its_rate() {
        let size = Size { width: 64, height: 48 };
        for (header, expected) in [
            ("F50:1 Cmono XCOLORRANGE=FULL", (size, 77)),
            ("F50:1 Cmono", (size, 71)),
            ("F50:1 A2:1 Cmono", (Size { width: 128, ..size }, 71)),
        ] {
            let mut source = open(&y4m(header, 3), &ONCE).expect("opens");
            assert_eq!(source.info().width, expected.0.width, "{header}");
            let played = play(&mut source);
            assert_eq!(played.iter().map(luma).collect::<Vec<_>>(), [expected; 3], "{header}");
            let paced = SourceOptions { unpaced: false, ..ONCE };
            let description =
                open(&y4m(header, 3), &paced).expect("opens").info().description.clone();
            assert!(description.ends_with("at 50 frames/s"), "{description}");
        }
    }

    #[test]
    fn without_once_a_y4m_restarts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (whole, options) = (y4m("F50:1 Cmono", 3), SourceOptions { once: false, ..ONCE });
        let cut = &whole[..whole.len() - 99];
        let mut source = open_in(&folder, &[cut, &whole].concat(), &options).expect("opens");
        let damaged = source.damaged();
        for number in 0..12 {
            let captured = source.next(&NEVER_STOP).expect("plays").expect("no end");
            assert_eq!((captured.number, luma(&captured).1), (number, 71));
        }
        assert_eq!(damaged.load(Ordering::Relaxed), 2, "one of six in each of two whole passes");
        assert_eq!(
            play(&mut open(&[&whole[..], b"junk\n"].concat(), &ONCE).expect("opens")).len(),
            3
        );
        assert_eq!(play(&mut open(cut, &ONCE).expect("opens")).len(), 2);
        let said = open(&whole[..99], &ONCE).err().expect("refused").to_string();
        assert!(said.contains("film.mjpeg: the YUV4MPEG2 stream ends within"), "{said}");
    }

    #[test]
    fn both_formats_may_follow_each_other() {
        let (jpegs, video) = (good().repeat(3), y4m("F50:1 Cmono", 3));
        let (cut_jpeg, cut_video) = (&good()[..900], &video[..video.len() - 2000]);
        for (pieces, played, damaged) in [
            ([&jpegs[..], &video, &jpegs], 9, 0),
            ([&video, &jpegs, &video], 9, 0),
            ([&jpegs, cut_jpeg, &video], 6, 1),
            ([cut_jpeg, &video, &jpegs], 6, 1),
            ([&good(), &video, b""], 4, 0),
            ([cut_video, &jpegs, b""], 5, 1),
            ([&jpegs, &[7; 1000], &video], 6, 0),
        ] {
            let mut source = open(&pieces.concat(), &ONCE).expect("opens");
            let count = source.damaged();
            assert_eq!(play(&mut source).len(), played);
            assert_eq!(count.load(Ordering::Relaxed), damaged);
        }
    }

    /// Changes of a few header bytes that make a JPEG undecodable.
    #[test]
    fn an_undecodable_first_frame_is_dropped_like_any_other() {
        let good = good();
        let frame_header = good.windows(2).position(|w| w == [0xFF, 0xC0]).expect("baseline");
        for (at, value) in [(5, &[0xFF; 4][..]), (1, &[0xC2]), (1, &[0xC9]), (9, &[4])] {
            let mut bad = good.clone();
            bad[frame_header + at..][..value.len()].copy_from_slice(value);
            assert_eq!(count(&[&bad[..], &good.repeat(3)].concat()), (3, 1), "{at}: {value:?}");
            assert_eq!(count(&[&bad.repeat(3)[..], &good.repeat(3)].concat()), (3, 3));
        }
    }

    #[test]
    #[cfg(feature = "opencv")]
    fn ten_bit_y4m_is_played_by_ffmpeg() {
        let header = b"YUV4MPEG2 W64 H48 F50:1 C420p10\n";
        let picture = [&b"FRAME\n"[..], &[1; 64 * 48 * 3]].concat();
        let mut source = open(&[header, &picture.repeat(3)[..]].concat(), &ONCE).expect("opens");
        assert_eq!(play(&mut source).len(), 3);
    }

    #[test]
    #[cfg(feature = "opencv")]
    fn progressive_jpegs_are_played_by_ffmpeg() {
        use opencv::{
            core::{self, Mat},
            imgcodecs,
            prelude::*,
        };
        let picture = Mat::zeros(48, 64, core::CV_8UC3).expect("made").to_mat().expect("made");
        let progressive = [imgcodecs::IMWRITE_JPEG_PROGRESSIVE, 1].into_iter().collect();
        let mut jpeg = core::Vector::new();
        assert!(imgcodecs::imencode(".jpg", &picture, &mut jpeg, &progressive).expect("encodes"));
        let mut source = open(&jpeg.as_slice().repeat(3), &ONCE).expect("opens");
        assert_eq!(play(&mut source).len(), 3);
    }
}
