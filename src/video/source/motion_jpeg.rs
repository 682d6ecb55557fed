//! A file of Motion JPEG without a container, looping: JPEGs one after another.
//!
//! It is read as the same bytes from a pipe are: `FFmpeg` would conceal what is missing of a
//! truncated or damaged frame, and wrong pictures would be sent. Such frames are dropped here. The
//! others are decoded, so that size, quality and the path's bitrate hold as for any film.

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
    Captured, Picture, SourceError, SourceInfo, SourceOptions,
    jpegs::{JpegReader, Next},
    pace::Pacer,
    scale,
};
use crate::video::{
    image::{Image, Size},
    jpeg::{Decoder, Want},
};

/// A file that is being played.
pub(super) struct MotionJpeg {
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

impl MotionJpeg {
    /// Reads up to the first frame that can be used.
    pub(super) fn open(
        path: &Path,
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Self), SourceError> {
        let damaged = Arc::default();
        let name = path.display().to_string();
        let reader = open_file(path).map_err(unreadable(path))?;
        let fps = options.fps.unwrap_or(RAW_FPS);
        let mut frames = Frames {
            path: path.into(),
            reader: JpegReader::new(&name, reader, Arc::clone(&damaged)),
            decoder: Decoder::new(),
        };
        let first = frames.next()?.ok_or_else(|| frames.reader.unusable())?;
        let found = first.size();
        let size = options.size.unwrap_or(found);
        let scaling = if found == size { String::new() } else { format!(" scaled to {size}") };
        let rate = options.rate_text(fps);
        let info = SourceInfo {
            width: size.width,
            height: size.height,
            fps,
            description: format!("{name}, Motion JPEG {found}{scaling} at {rate}"),
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
            next = Some(self.frames.next()?.ok_or_else(|| self.frames.reader.unusable())?);
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

/// The frames of the file, decoded.
struct Frames {
    path: PathBuf,
    reader: JpegReader<BufReader<File>>,
    decoder: Decoder,
}

impl Frames {
    /// The next picture, or `None` at the end.
    fn next(&mut self) -> Result<Option<Image>, SourceError> {
        // The file ends for us where another format begins.
        while let Next::Jpeg(frame) = self.reader.next().map_err(unreadable(&self.path))? {
            let mut image = Image::empty();
            match self.decoder.decode(&frame, Want::Planar, &mut image) {
                Ok(()) => return Ok(Some(image)),
                Err(error) => self.reader.drop_frame(error.to_string()),
            }
        }
        Ok(None)
    }

    fn begin_again(&mut self) -> Result<(), SourceError> {
        self.reader.restart(open_file(&self.path).map_err(unreadable(&self.path))?);
        Ok(())
    }
}

fn open_file(path: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(READ_LEN, File::open(path)?))
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> SourceError {
    move |error| SourceError::Unreadable { path: path.into(), error }
}

/// JPEGs without a container have no rate; this is what `FFmpeg` plays them at.
const RAW_FPS: f64 = 25.0;

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
