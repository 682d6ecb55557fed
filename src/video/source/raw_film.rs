//! A film without a container, looping: a file of Motion JPEG, which is JPEGs one after another, or
//! of YUV4MPEG2.
//!
//! It is read as the same bytes from a pipe are. `FFmpeg` would conceal what is missing of a
//! truncated or damaged JPEG, and wrong pictures would be sent; and `OpenCV` takes YUV4MPEG2 of the
//! full range for studio range, which is what our own recordings are. JPEGs are decoded, so that
//! size, quality and the path's bitrate hold as for any film.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    jpegs::{JpegReader, Next},
    pace::Pacer,
    pipe::square,
    scale,
    sniff::RawFormat,
    unread::Unread,
    y4m::{Y4mError, Y4mReader},
};
use crate::video::{
    image::{Image, Size},
    jpeg::{Decoder, Want},
};

/// A file that is being played.
pub(super) struct RawFilm {
    frames: Frames,
    damaged: Arc<AtomicU64>,
    size: Size,
    gray: bool,
    once: bool,
    pacer: Pacer,
    /// The picture that is due next, if it is decoded already.
    ahead: Option<Image>,
    number: u64,
}

impl RawFilm {
    /// Reads up to the first picture that can be used.
    pub(super) fn open(
        path: &Path,
        format: RawFormat,
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Self), SourceError> {
        let damaged = Arc::default();
        let mut frames = Frames::open(path, format, Arc::clone(&damaged))?;
        let first = frames.next()?.ok_or_else(|| frames.empty())?;
        let (found, square) = (first.size(), frames.square(first.size()));
        let size = options.size.unwrap_or(square);
        let fps = options.fps.unwrap_or(frames.own_fps());
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
        let mut film = Self {
            frames,
            damaged,
            size,
            gray: options.gray,
            once: options.once,
            pacer: options.pacer(fps),
            ahead: None,
            number: 0,
        };
        film.ahead = Some(film.fit(first)?);
        Ok((info, film))
    }

    pub(super) fn next(&mut self, stop: &AtomicBool) -> Result<Option<Captured>, SourceError> {
        let next = match self.ahead.take() {
            Some(image) => Some(image),
            None => self.read_next()?,
        };
        let Some(image) = next else { return Ok(None) };
        let Some(due) = self.pacer.wait(stop) else {
            self.ahead = Some(image);
            return Ok(None);
        };
        // Who is late plays on from there: no picture is left out, whatever the pacer skips.
        let number = self.number;
        self.number += 1;
        let picture = Picture::Image(image.into());
        Ok(Some(Captured { picture, captured: due.at, number }))
    }

    /// Whether there is a rate to keep.
    pub(super) fn is_paced(&self) -> bool {
        self.pacer.is_paced()
    }

    pub(super) fn damaged(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.damaged)
    }

    /// The next picture, from the beginning again after the last one.
    fn read_next(&mut self) -> Result<Option<Image>, SourceError> {
        let mut next = self.frames.next()?;
        if next.is_none() && !self.once {
            self.frames.begin_again()?;
            next = Some(self.frames.next()?.ok_or_else(|| self.frames.empty())?);
        }
        next.map(|image| self.fit(image)).transpose()
    }

    fn fit(&self, mut image: Image) -> Result<Image, SourceError> {
        if self.gray {
            image.drop_chroma();
        }
        scale(image, self.size)
    }
}

/// What the file has of pictures, decoded.
struct Frames {
    path: PathBuf,
    /// The path for people.
    name: String,
    reader: Reader,
    damaged: Arc<AtomicU64>,
}

enum Reader {
    Jpegs(Box<JpegReader>, Decoder),
    Y4m(Y4mReader),
}

impl Frames {
    fn open(path: &Path, format: RawFormat, damaged: Arc<AtomicU64>) -> Result<Self, SourceError> {
        let name = path.display().to_string();
        let file = open_file(path)?;
        let reader = match format {
            RawFormat::MotionJpeg => {
                let reader = JpegReader::new(&name, file, Arc::clone(&damaged));
                Reader::Jpegs(Box::new(reader), Decoder::new())
            }
            RawFormat::Y4m => Reader::Y4m(open_y4m(&name, file)?),
        };
        Ok(Self { path: path.into(), name, reader, damaged })
    }

    /// The next picture, or `None` at the end, which is also where another format begins.
    fn next(&mut self) -> Result<Option<Image>, SourceError> {
        match &mut self.reader {
            Reader::Jpegs(reader, decoder) => {
                while let Next::Jpeg(frame) = reader.next().map_err(unreadable(&self.path))? {
                    let mut image = Image::empty();
                    match decoder.decode(&frame, Want::Planar, &mut image) {
                        Ok(()) => return Ok(Some(image)),
                        Err(error) => reader.drop_frame(error.to_string()),
                    }
                }
                Ok(None)
            }
            Reader::Y4m(reader) => loop {
                let error = match reader.next_image() {
                    Ok(image) => return Ok(image),
                    Err(Y4mError::Read(error)) => return Err(unreadable(&self.path)(error)),
                    Err(error) => error,
                };
                log::warn!("{}: {error}", self.name);
                self.damaged.fetch_add(1, Ordering::Relaxed);
                // A file ends for us where it is damaged.
                if !matches!(error, Y4mError::BrokenOff) {
                    return Ok(None);
                }
            },
        }
    }

    fn begin_again(&mut self) -> Result<(), SourceError> {
        let file = open_file(&self.path)?;
        match &mut self.reader {
            Reader::Jpegs(reader, _) => reader.restart(file),
            Reader::Y4m(reader) => *reader = open_y4m(&self.name, file)?,
        }
        Ok(())
    }

    /// Why there is no picture.
    fn empty(&self) -> SourceError {
        match &self.reader {
            Reader::Jpegs(reader, _) => reader.unusable(),
            Reader::Y4m(_) => {
                SourceError::Y4m { name: self.name.clone(), error: Y4mError::Truncated }
            }
        }
    }

    /// The size of a picture with its pixels made square.
    fn square(&self, found: Size) -> Size {
        match &self.reader {
            Reader::Jpegs(..) => found,
            Reader::Y4m(reader) => square(&reader.header),
        }
    }

    fn own_fps(&self) -> f64 {
        match &self.reader {
            Reader::Jpegs(..) => JPEGS_FPS,
            Reader::Y4m(reader) => reader.header.fps.unwrap_or(DEFAULT_FPS),
        }
    }
}

fn open_file(path: &Path) -> Result<Unread, SourceError> {
    let file = File::open(path).map_err(unreadable(path))?;
    Ok(Unread::new(Box::new(BufReader::with_capacity(READ_LEN, file))))
}

fn open_y4m(name: &str, file: Unread) -> Result<Y4mReader, SourceError> {
    Y4mReader::open(file).map_err(|error| SourceError::Y4m { name: name.to_owned(), error })
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> SourceError {
    move |error| SourceError::Unreadable { path: path.into(), error }
}

/// JPEGs without a container have no rate; this is what `FFmpeg` plays them at.
const JPEGS_FPS: f64 = 25.0;

/// What is read at once.
const READ_LEN: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::{Captured, Picture, Source, SourceError, SourceOptions};
    use crate::video::{
        image::{Image, PixelFormat, Size},
        jpeg::{Decoder, Want, tests::textured},
    };

    static RUN: AtomicBool = AtomicBool::new(false);

    const ONCE: SourceOptions = SourceOptions {
        size: None,
        fps: None,
        unpaced: true,
        once: true,
        quality: None,
        gray: false,
    };

    /// The file is open from then on: its name is needed only to begin again.
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
        std::iter::from_fn(|| source.next(&RUN).expect("plays")).collect()
    }

    fn good() -> Vec<u8> {
        textured(64, 48, PixelFormat::Yuv420)
    }

    fn decoded(jpeg: &[u8]) -> Image {
        let mut image = Image::empty();
        Decoder::new().decode(jpeg, Want::Planar, &mut image).expect("a good one");
        image
    }

    /// Plays `bytes`, each picture of which must be the good one: how many there were, and how
    /// many frames were dropped.
    fn count(bytes: &[u8]) -> (usize, u64) {
        let mut source = open(bytes, &ONCE).expect("opens");
        let damaged = source.damaged();
        let (played, expected) = (play(&mut source), decoded(&good()));
        for (number, captured) in played.iter().enumerate() {
            assert_eq!(captured.number, number as u64);
            // Not by `assert_eq!`, which would print the pixels.
            let is_good = captured.picture == Picture::Image(expected.clone().into());
            assert!(is_good, "picture {number} is another one");
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
    fn what_is_between_frames_and_in_front_of_them_is_skipped() {
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
    fn without_once_it_begins_again() {
        let large = textured(96, 48, PixelFormat::Yuv444);
        let options = SourceOptions { once: false, ..ONCE };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bytes = [&good()[..], &good(), &large].concat();
        let mut source = open_in(&folder, &bytes, &options).expect("opens");
        for number in 0..8 {
            let captured = source.next(&RUN).expect("plays").expect("no end");
            let Picture::Image(image) = captured.picture else { panic!("pixels") };
            assert_eq!((captured.number, image.size()), (number, Size { width: 64, height: 48 }));
        }
        assert!(source.next(&AtomicBool::new(true)).expect("no error").is_none());
        assert!(source.next(&RUN).expect("plays").is_some_and(|c| c.number == 8), "none is lost");
    }

    #[test]
    fn options_hold_as_for_any_film() {
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
    fn a_file_without_a_good_frame_is_refused_with_the_reason() {
        let good = good();
        let cut = good[..good.len() * 2 / 3].repeat(3);
        let said = open(&cut, &ONCE).err().expect("refused").to_string();
        assert!(said.contains("film.mjpeg") && said.contains("can be used"), "{said}");
    }

    /// Luma 77, in the range that the header says.
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
    fn y4m_begins_again_and_ends_where_it_is_damaged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (whole, options) = (y4m("F50:1 Cmono", 3), SourceOptions { once: false, ..ONCE });
        let cut = &whole[..whole.len() - 99];
        let mut source = open_in(&folder, &[cut, &whole].concat(), &options).expect("opens");
        let damaged = source.damaged();
        for number in 0..12 {
            let captured = source.next(&RUN).expect("plays").expect("no end");
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
    #[cfg(feature = "opencv")]
    fn ffmpeg_plays_y4m_of_more_bits() {
        let header = b"YUV4MPEG2 W64 H48 F50:1 C420p10\n";
        let picture = [&b"FRAME\n"[..], &[1; 64 * 48 * 3]].concat();
        let mut source = open(&[header, &picture.repeat(3)[..]].concat(), &ONCE).expect("opens");
        assert_eq!(play(&mut source).len(), 3);
    }

    #[test]
    #[cfg(feature = "opencv")]
    fn ffmpeg_plays_what_no_frame_may_be() {
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
