//! Pictures from standard input or a named pipe: YUV4MPEG2 or a stream of JPEGs.
//!
//! A thread reads as fast as the writer writes and keeps only the newest picture, so a slow encoder
//! holds the writer up by a few milliseconds a picture at most.

use std::{
    io::{self, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    padding::{is_padding, read_beginning},
    playback_clock::{FRESH, STOP_CHECK_INTERVAL},
    pushback::Pushback,
    raw_stream::{RawError, RawPicture, RawStream},
    scale, y4m,
};
use crate::{
    clock,
    latest::{Latest, Taken},
    video::{
        image_pool::ImagePool,
        jpeg::{Header, begins_jpegs},
    },
};

/// A pipe read by a thread.
pub(super) struct Pipe {
    mailbox: Latest<Result<Captured, SourceError>>,
    damaged: Arc<AtomicU64>,
}

impl Pipe {
    /// Waits for the first picture and starts the thread. `name` is for messages.
    pub(super) fn open(
        name: &str,
        mut reader: Box<dyn Read + Send>,
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Self), SourceError> {
        let first = read_beginning(&mut reader).map_err(unreadable(name))?;
        let damaged = Arc::new(AtomicU64::new(0));
        let rest = BufReader::with_capacity(READ_LEN, reader);
        let mut bytes = Pushback::new(Box::new(rest));
        bytes.unread(&first);
        match &first[..] {
            [] => return Err(SourceError::PipeEmpty { name: name.to_owned() }),
            start if start.starts_with(y4m::HEADER_MAGIC) => {}
            start if begins_jpegs(start) && !is_padding(start) => {}
            _ => return Err(SourceError::PipeFormat { name: name.to_owned() }),
        }
        let refused = |error: RawError| error.into_source_error(name, unreadable(name));
        let mut stream = RawStream::new(name, bytes, Arc::clone(&damaged));
        let Some(first) = stream.next().map_err(refused)? else { return Err(stream.unusable()) };
        let info = match &first {
            RawPicture::Jpeg(jpeg) => describe_jpegs(name, jpeg, options),
            RawPicture::Image(_, header) => describe_y4m(name, header, options),
        };
        let first = Some(first);
        let (name, options, pool) = (name.to_owned(), *options, ImagePool::default());
        let pictures = Pictures { name, options, stream, first, pool };
        let mailbox = Latest::new();
        let mine = mailbox.clone();
        thread::Builder::new()
            .name("pipe".into())
            .spawn(move || read_all(pictures, &mine))
            .map_err(|error| SourceError::Thread { error })?;
        Ok((info, Self { mailbox, damaged }))
    }

    pub(super) fn next(&mut self, stop: &AtomicBool) -> Result<Option<Captured>, SourceError> {
        while !stop.load(Ordering::Relaxed) {
            match self.mailbox.take(STOP_CHECK_INTERVAL) {
                Taken::Value(captured) => return captured.map(Some),
                Taken::Closed => break,
                Taken::TimedOut | Taken::Nudged => {}
            }
        }
        Ok(None)
    }

    /// Pictures replaced by newer ones before they were taken.
    pub(super) fn superseded(&self) -> u64 {
        self.mailbox.superseded()
    }

    pub(super) fn damaged(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.damaged)
    }
}

impl Drop for Pipe {
    /// The thread notices with the next picture; a blocked read cannot be interrupted.
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

/// Reads picture by picture.
struct Pictures {
    name: String,
    options: SourceOptions,
    stream: RawStream,
    /// The first picture, read when opening.
    first: Option<RawPicture>,
    pool: ImagePool,
}

impl Pictures {
    /// The next picture, or `None` at the end.
    fn next(&mut self) -> Result<Option<Picture>, SourceError> {
        let refused = |error: RawError| error.into_source_error(&self.name, unreadable(&self.name));
        let next = if let Some(first) = self.first.take() {
            Some(first)
        } else {
            self.stream.recycle(self.pool.reclaim());
            self.stream.next().map_err(refused)?
        };
        Ok(next.map(|picture| self.fit(picture)))
    }

    /// Scales images, and drops their chroma if gray is requested; JPEGs are passed through.
    fn fit(&mut self, picture: RawPicture) -> Picture {
        match picture {
            RawPicture::Jpeg(jpeg) => Picture::Jpeg(jpeg),
            RawPicture::Image(mut image, header) => {
                if self.options.gray {
                    image.drop_chroma();
                }
                let size = self.options.size.unwrap_or_else(|| header.square_size());
                Picture::Image(self.pool.share(scale(image, size)))
            }
        }
    }
}

fn describe_y4m(name: &str, header: &y4m::Header, options: &SourceOptions) -> SourceInfo {
    let size = options.size.unwrap_or_else(|| header.square_size());
    let fps = options.fps.or(header.fps).unwrap_or(DEFAULT_FPS);
    let mut notes = Vec::new();
    if options.fps.is_some() {
        notes.push(FPS_NOTE.to_owned());
    }
    let scaling = options.scaling_text(header.size, size);
    SourceInfo {
        width: size.width,
        height: size.height,
        fps,
        description: format!("{name}, YUV4MPEG2 {}{scaling} at {fps:.4} frames/s", header.size),
        passthrough: false,
        notes,
    }
}

fn describe_jpegs(name: &str, first: &[u8], options: &SourceOptions) -> SourceInfo {
    let size = Header::parse(first).expect("a normalized frame has a good header").size;
    let fps = options.fps.unwrap_or(DEFAULT_FPS);
    let mut notes = Vec::new();
    if options.quality.is_some() {
        notes.push("--quality does nothing: JPEGs are passed through as they come".to_owned());
    }
    if options.size.is_some() {
        notes.push("--size does nothing: JPEGs are passed through as they come".to_owned());
    }
    if options.gray {
        notes.push("--gray has no effect while JPEGs are passed through as they come".to_owned());
    }
    if options.fps.is_some() {
        notes.push(FPS_NOTE.to_owned());
    }
    SourceInfo {
        width: size.width,
        height: size.height,
        fps,
        description: format!("{name}, JPEGs of {size}, passed through"),
        passthrough: true,
        notes,
    }
}

fn read_all(mut pictures: Pictures, mailbox: &Latest<Result<Captured, SourceError>>) {
    for number in 0.. {
        let captured = match pictures.next() {
            Ok(Some(picture)) => Ok(Captured { picture, captured: clock::now(), number }),
            Ok(None) => break,
            Err(error) => Err(error),
        };
        let is_last = captured.is_err();
        mailbox.put(captured);
        if is_last || mailbox.is_closed() {
            break;
        }
        // Another program may write much faster than pictures are taken, and reading them all would
        // cost more than encoding some. A live source is not held up by so short a wait.
        mailbox.wait_empty(FRESH);
    }
    mailbox.close();
}

fn unreadable(name: &str) -> impl Fn(io::Error) -> SourceError {
    move |error| SourceError::Pipe { name: name.to_owned(), error }
}

const FPS_NOTE: &str =
    "--fps sets only the announced frame rate: a pipe is read as fast as it is written";

/// Buffer size, in bytes: the default capacity of a pipe on Linux.
const READ_LEN: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::video::{
        image::{Image, PixelFormat, Size},
        jpeg::tests::textured,
    };

    static NEVER_STOP: AtomicBool = AtomicBool::new(false);

    fn open(bytes: &[u8], options: &SourceOptions) -> Result<(SourceInfo, Pipe), SourceError> {
        Pipe::open("standard input", Box::new(Cursor::new(bytes.to_vec())), options)
    }

    fn all(mut pipe: Pipe) -> Vec<Captured> {
        std::iter::from_fn(|| pipe.next(&NEVER_STOP).expect("no error")).collect()
    }

    fn y4m(frames: usize) -> Vec<u8> {
        let frame = [&b"FRAME\n"[..], &[77; 32 * 32 * 3 / 2]].concat();
        [&b"YUV4MPEG2 W32 H32 F50:1 C420jpeg XCOLORRANGE=FULL\n"[..], &frame.repeat(frames)]
            .concat()
    }

    #[test]
    fn y4m_is_read_to_its_last_picture() {
        let (info, pipe) = open(&y4m(20), &SourceOptions::default()).expect("valid");
        assert_eq!((info.width, info.height, info.fps), (32, 32, 50.0));
        assert!(!info.passthrough && info.notes.is_empty());
        let last = all(pipe).pop().expect("pictures");
        assert_eq!(last.number, 19);
        let expected = Image::new(32, 32, PixelFormat::Yuv420, vec![77; 1536]);
        assert_eq!(last.picture, Picture::Image(expected.into()));
    }

    #[test]
    fn jpegs_are_passed_through_with_notes_on_unused_options() {
        let frame = textured(48, 32, PixelFormat::Yuv422);
        let options = SourceOptions {
            size: Some(Size { width: 64, height: 64 }),
            quality: Some(80),
            gray: true,
            ..SourceOptions::default()
        };
        let (info, pipe) = open(&frame.repeat(3), &options).expect("valid");
        assert_eq!((info.width, info.height, info.fps, info.notes.len()), (48, 32, 30.0, 3));
        assert!(info.passthrough);
        let (plain, _) = open(&frame.repeat(3), &SourceOptions::default()).expect("valid");
        assert!(plain.notes.is_empty(), "{:?}", plain.notes);
        let last = all(pipe).pop().expect("pictures");
        assert_eq!((last.number, last.picture), (2, Picture::Jpeg(frame)));
    }

    #[test]
    fn a_truncated_end_drops_only_the_last_picture() {
        let frame = textured(48, 32, PixelFormat::Yuv420);
        let jpegs = frame.repeat(2);
        for stream in [&jpegs[..jpegs.len() - 9], &y4m(2)[..y4m(2).len() - 9]] {
            let (_, pipe) = open(stream, &SourceOptions::default()).expect("valid");
            assert_eq!(all(pipe).pop().expect("one picture").number, 0);
        }
    }

    #[test]
    fn an_unusable_jpeg_is_dropped_and_counted() {
        let good = textured(48, 32, PixelFormat::Yuv420);
        let bad = [0xFF, 0xD8, 0xFF, 0xFE, 0, 2, 0xFF, 0xD9];
        let (info, pipe) =
            open(&[&bad[..], &good].concat(), &SourceOptions::default()).expect("one");
        assert_eq!((info.width, pipe.damaged().load(Ordering::Relaxed)), (48, 1));
    }

    #[test]
    fn only_truncated_frames_are_dropped_and_counted() {
        let good = textured(48, 32, PixelFormat::Yuv420);
        let (unended, cut) = (&good[..good.len() - 2], &good[..good.len() * 2 / 3]);
        let (_, mut pipe) =
            open(&[cut, unended, cut, &good].concat(), &SourceOptions::default()).expect("two");
        let mut last = None;
        while let Some(captured) = pipe.next(&NEVER_STOP).expect("no error") {
            assert_eq!(captured.picture, Picture::Jpeg(good.clone()));
            last = Some(captured.number);
        }
        assert_eq!((last, pipe.damaged().load(Ordering::Relaxed)), (Some(1), 2));
    }

    #[test]
    fn http_headers_and_boundaries_around_frames_are_skipped() {
        let good = textured(48, 32, PixelFormat::Yuv420);
        let part = [b"Content-Type: image/jpeg\r\n\r\n", &good[..], b"\r\n--next\r\n"].concat();
        for start in [&b"\r\n"[..], b"--next\r\n", b"HTTP/1.1 200 OK\r\n\r\n--next\r\n"] {
            let bytes = [start, &part.repeat(3)].concat();
            let (_, pipe) = open(&bytes, &SourceOptions::default()).expect("JPEGs");
            let damaged = pipe.damaged();
            let last = all(pipe).pop().expect("pictures");
            assert_eq!((last.number, last.picture), (2, Picture::Jpeg(good.clone())));
            assert_eq!(damaged.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn each_stream_is_scaled_to_square_pixels() {
        let stream = |header: &str, len: usize| [header.as_bytes(), &vec![77; len]].concat();
        let wide = stream("YUV4MPEG2 W32 H32 F50:1 A2:1 Cmono\nFRAME\n", 1024);
        let tall = stream("YUV4MPEG2 W32 H64 F50:1 A1:1 Cmono\nFRAME\n", 2048);
        for (stream, first, last) in [
            (wide.clone(), (64, 32), (64, 32)),
            ([&wide[..], &tall].concat(), (64, 32), (32, 64)),
            ([&tall[..], &wide].concat(), (32, 64), (64, 32)),
        ] {
            let (info, pipe) = open(&stream, &SourceOptions::default()).expect("valid");
            assert_eq!((info.width, info.height), first);
            let Some(Picture::Image(image)) = all(pipe).pop().map(|c| c.picture) else { panic!() };
            assert_eq!((image.width, image.height), last);
        }
        let size = Some(Size { width: 40, height: 40 });
        let (info, _) =
            open(&wide, &SourceOptions { size, ..SourceOptions::default() }).expect("valid");
        assert_eq!((info.width, info.height), (40, 40), "as requested");
    }

    #[test]
    fn another_format_may_follow_on_the_same_pipe() {
        let (raw, jpeg) = (y4m(2), textured(48, 32, PixelFormat::Yuv422));
        let jpegs = jpeg.repeat(3);
        let is_jpeg = |bytes: &[u8]| {
            let (_, pipe) = open(bytes, &SourceOptions::default()).expect("valid");
            let damaged = pipe.damaged();
            let last = all(pipe).pop().expect("pictures");
            let is_jpeg = match last.picture {
                Picture::Jpeg(got) => {
                    assert_eq!(got, jpeg);
                    true
                }
                Picture::Image(image) => {
                    assert_eq!((image.width, image.data[0]), (32, 77));
                    false
                }
            };
            (is_jpeg, last.number, damaged.load(Ordering::Relaxed))
        };
        assert_eq!(is_jpeg(&[&raw[..], &jpegs].concat()), (true, 4, 0));
        assert_eq!(is_jpeg(&[&jpegs[..], &raw].concat()), (false, 4, 0));
        assert_eq!(is_jpeg(&[&jpegs[..], &raw, &jpegs, &raw].concat()), (false, 9, 0));
        // Text between JPEGs that only begins like a header.
        assert_eq!(is_jpeg(&[&jpegs[..], b"YUV4\r\n", &jpegs].concat()), (true, 5, 0));
        // The last JPEG before the header is not usable.
        let bad = [0xFF, 0xD8, 0xFF, 0xFE, 0, 2, 0xFF, 0xD9];
        assert_eq!(is_jpeg(&[&jpegs[..], &bad, &raw].concat()), (false, 4, 1));
        assert_eq!(is_jpeg(&[&raw[..], &bad].concat()), (false, 1, 1));
    }

    #[test]
    fn a_killed_writer_does_not_lose_the_next_stream() {
        let cut = &y4m(3)[..y4m(2).len() + 500];
        let next = [&b"YUV4MPEG2 W64 H64 F50:1 Cmono\nFRAME\n"[..], &[235; 4096]].concat();
        let (_, pipe) = open(&[cut, &next].concat(), &SourceOptions::default()).expect("valid");
        let damaged = pipe.damaged();
        let last = all(pipe).pop().expect("pictures");
        let Picture::Image(image) = last.picture else { panic!("pixels") };
        assert_eq!((last.number, image.width, image.data[0]), (2, 64, 255));
        assert_eq!(damaged.load(Ordering::Relaxed), 1);
    }

    /// The number of the last picture, and how many were damaged.
    fn last_and_damaged(bytes: &[u8]) -> (u64, u64) {
        let (_, pipe) = open(bytes, &SourceOptions::default()).expect("valid");
        let damaged = pipe.damaged();
        let last = all(pipe).pop().expect("pictures").number;
        (last, damaged.load(Ordering::Relaxed))
    }

    #[test]
    fn truncation_does_not_lose_pictures_of_the_next_format() {
        let (raw, jpeg) = (y4m(5), textured(48, 32, PixelFormat::Yuv422));
        let jpegs = jpeg.repeat(5);
        let (cut_raw, cut_jpeg) = (&raw[..raw.len() - 500], &jpeg[..jpeg.len() - 100]);
        assert_eq!(last_and_damaged(&[cut_raw, &jpegs].concat()), (8, 1));
        assert_eq!(last_and_damaged(&[&jpegs[..], cut_jpeg, &raw].concat()), (9, 1));
        assert_eq!(last_and_damaged(&[cut_jpeg, &raw].concat()), (4, 1));
        assert_eq!(last_and_damaged(&[&raw[..20], &jpegs].concat()), (4, 1), "a cut header");
        assert_eq!(last_and_damaged(&[&jpegs[..], &[7; 1000], &raw].concat()), (9, 0));
        let junk = [&raw[..], b"junk\n", &[7; 3000], &jpegs].concat();
        assert_eq!(last_and_damaged(&junk), (9, 1));
        let unsupported = [&raw[..], b"YUV4MPEG2 W64 H64 C420p10\nFRAME\n", &[7; 999], &jpegs];
        assert_eq!(last_and_damaged(&unsupported.concat()), (9, 1));
        let swallowed = [&jpegs[..], &[0xFF, 0xD8, 0xFF, 0xE1, 0xFF, 0xFF], &jpegs, &raw].concat();
        assert_eq!(last_and_damaged(&swallowed), (14, 1));
        // The truncated picture may be shorter or longer than what follows.
        for cut in 60..1500 {
            let (last, damaged) = last_and_damaged(&[&raw[..cut], &jpegs].concat());
            assert!(last == 4 && damaged <= 1, "{cut}: {last} {damaged}");
        }
    }

    #[test]
    fn y4m_is_scaled() {
        let size = Size { width: 48, height: 20 };
        let options = SourceOptions { size: Some(size), ..SourceOptions::default() };
        let (info, pipe) = open(&y4m(1), &options).expect("valid");
        assert_eq!((info.width, info.height), (48, 20));
        let Picture::Image(image) = &all(pipe)[0].picture else { panic!("pixels") };
        assert_eq!((image.size(), image.format), (size, PixelFormat::Yuv420));
    }

    #[test]
    fn bad_input_is_reported_in_one_line() {
        assert!(open(&vec![0; 100_000], &SourceOptions::default()).is_err(), "no JPEG in time");
        let cases: [(&[u8], &str); 7] = [
            (b"", "standard input is empty"),
            (b"G", "neither YUV4MPEG2"),
            (b"GIF89a........", "neither YUV4MPEG2"),
            (b"YUV4MPEG2 W100000 H9\n", "100000x9 is out of range"),
            (&[0xFF, 0xD8, 0xFF], "ended 3 bytes into a JPEG"),
            (&[0xFF, 0xD8, 0xFF, 0xFE, 0, 2, 0xFF, 0xD9], "has no scan"),
            (&[0xFF, 0xD8, 0xFF, 0xD9], "there is none"),
        ];
        for (bytes, words) in cases {
            let said = open(bytes, &SourceOptions::default()).err().expect(words).to_string();
            assert!(said.contains(words) && !said.contains('\n'), "{said}");
        }
    }
}
