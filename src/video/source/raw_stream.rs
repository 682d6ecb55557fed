//! Reads a byte stream without a container: JPEGs, YUV4MPEG2, or a sequence of both, as when
//! several programs write to one pipe.
//!
//! Truncated or damaged data is dropped, counted, and logged at most once a second. The search for
//! the next JPEG or YUV4MPEG2 header continues from there, so that no complete picture is lost.
//! After foreign data between two pictures of a YUV4MPEG2 stream, it also looks for the stream's
//! next `FRAME` line.

use std::{
    io::{self, BufRead},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    RateLimitedWarnings, SourceError,
    pushback::Pushback,
    y4m::{self, FRAME_STARTS, HEADER_START, Y4mError, Y4mReader},
};
use crate::video::{
    image::Image,
    jpeg::{JpegStream, MAX_JPEG_LEN, StreamItem, normalize},
};

/// Reads complete pictures.
pub(super) struct RawStream {
    name: String,
    /// The current format; `None` after the end or an error.
    format: Option<Format>,
    /// The YUV4MPEG2 stream that may continue after damaged or foreign data.
    suspended: Option<Suspended>,
    /// Whether a picture has been read.
    has_begun: bool,
    damaged: Arc<AtomicU64>,
    /// Why there is no usable picture so far: the last drop, or a header without pictures.
    warning: Option<DropReason>,
    warnings: RateLimitedWarnings,
}

/// A picture as read from the stream.
pub(super) enum RawPicture {
    /// A frame that any decoder accepts.
    Jpeg(Vec<u8>),
    /// Pixels, and the header of their YUV4MPEG2 stream.
    Image(Image, y4m::Header),
}

/// `Jpegs` is also the state of searching; it ends where YUV4MPEG2 begins.
enum Format {
    Jpegs(Box<JpegStream<Pushback>>),
    Y4m(Box<Y4mReader>),
}

struct Suspended {
    header: y4m::Header,
    /// How many more `FRAME` lines are tried.
    tries: u8,
}

enum DropReason {
    Jpeg(String),
    Y4m(Y4mError),
}

/// Why reading ended early.
pub(super) enum RawError {
    Read(io::Error),
    /// The stream begins with unsupported YUV4MPEG2.
    Y4m(Y4mError),
}

impl RawError {
    /// Converts to a [`SourceError`]. `unreadable` converts an I/O error.
    pub(super) fn into_source_error(
        self,
        name: &str,
        unreadable: impl FnOnce(io::Error) -> SourceError,
    ) -> SourceError {
        match self {
            Self::Read(error) => unreadable(error),
            Self::Y4m(error) => SourceError::Y4m { name: name.to_owned(), error },
        }
    }
}

impl From<io::Error> for RawError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// The picture read, if any, and the format to continue with.
type Step = (Option<RawPicture>, Option<Format>);

impl RawStream {
    /// `name` is for messages; `damaged` counts the places where data was dropped.
    pub(super) fn new(name: &str, reader: Pushback, damaged: Arc<AtomicU64>) -> Self {
        Self {
            name: name.to_owned(),
            format: Some(search(reader)),
            suspended: None,
            has_begun: false,
            damaged,
            warning: None,
            warnings: RateLimitedWarnings::default(),
        }
    }

    /// Continues with another reader.
    pub(super) fn restart(&mut self, reader: Pushback) {
        (self.format, self.suspended) = (Some(search(reader)), None);
    }

    /// The next picture, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<RawPicture>, RawError> {
        while let Some(format) = self.format.take() {
            let (picture, format) = match format {
                Format::Jpegs(stream) => self.next_jpeg(stream)?,
                Format::Y4m(reader) => self.next_image(reader)?,
            };
            self.format = format;
            if picture.is_some() {
                self.has_begun = true;
                return Ok(picture);
            }
        }
        Ok(None)
    }

    /// Reuses the buffer of a picture for one of the next.
    pub(super) fn recycle(&mut self, picture: Image) {
        if let Some(Format::Y4m(reader)) = &mut self.format {
            reader.recycle(picture);
        }
    }

    /// The error if the stream has no usable picture.
    pub(super) fn unusable(&mut self) -> SourceError {
        let name = self.name.clone();
        match self.warning.take() {
            Some(DropReason::Y4m(error)) => SourceError::Y4m { name, error },
            Some(DropReason::Jpeg(warning)) => SourceError::PipeJpeg { name, warning },
            None => SourceError::PipeJpeg { name, warning: "there is none".to_owned() },
        }
    }

    /// Counts an unusable JPEG, and logs why.
    pub(super) fn drop_jpeg(&mut self, warning: String) {
        self.report_dropped(&warning);
        self.warning = Some(DropReason::Jpeg(warning));
    }

    fn drop_image(&mut self, error: Y4mError) {
        self.report_dropped(&error.to_string());
        self.warning = Some(DropReason::Y4m(error));
    }

    fn report_dropped(&mut self, warning: &str) {
        let Self { name, warnings, .. } = self;
        warnings.warn(|| format!("{name}: {warning}; skipping to the next picture"));
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    fn next_jpeg(&mut self, mut stream: Box<JpegStream<Pushback>>) -> Result<Step, RawError> {
        while let Some(item) = stream.next_item()? {
            match usable(item) {
                Ok(jpeg) => {
                    self.suspended = None;
                    return Ok((Some(RawPicture::Jpeg(jpeg)), Some(Format::Jpegs(stream))));
                }
                Err(warning) => self.drop_jpeg(warning),
            }
        }
        if !stream.is_at_mark() {
            return Ok((None, None));
        }
        let (front, mut reader) = stream.into_parts();
        reader.unread(&front);
        if !front.starts_with(HEADER_START) {
            return Ok((None, Some(self.resume(reader)?)));
        }
        self.suspended = None;
        let format = match y4m::Header::read(&mut reader) {
            Ok(header) => {
                if self.has_begun {
                    log::info!("{} continues as YUV4MPEG2 {}", self.name, header.size);
                }
                Format::Y4m(Box::new(Y4mReader::new(header, reader)))
            }
            Err(Y4mError::Read(error)) => return Err(error.into()),
            Err(error) if !self.has_begun && !error.is_damage() => {
                return Err(RawError::Y4m(error));
            }
            Err(error) => {
                self.drop_image(error);
                search(reader)
            }
        };
        Ok((None, Some(format)))
    }

    /// Continues the suspended YUV4MPEG2 stream at a `FRAME` line, or else continues the search
    /// after the first byte of that line.
    fn resume(&mut self, mut reader: Pushback) -> Result<Format, RawError> {
        if let Some(Suspended { header, tries }) = self.suspended.take() {
            let mut pictures = Y4mReader::new(header, reader);
            match pictures.is_at_picture() {
                Ok(true) => return Ok(Format::Y4m(Box::new(pictures))),
                Ok(false) => {}
                Err(Y4mError::Read(error)) => return Err(error.into()),
                Err(error) => self.drop_image(error),
            }
            (reader, _) = pictures.into_parts();
            let tries = tries - 1;
            self.suspended = (tries > 0).then_some(Suspended { header, tries });
        }
        reader.consume(1);
        Ok(self.search_on(reader, 0))
    }

    /// Searches for a JPEG, a header, or the next picture of a suspended stream. The first
    /// `damaged_len` bytes are known to be damaged.
    fn search_on(&self, reader: Pushback, damaged_len: usize) -> Format {
        let marks: &[_] = if self.suspended.is_some() { &RESUME_MARKS } else { &[HEADER_START] };
        Format::Jpegs(Box::new(
            JpegStream::ending_at(marks, reader).with_reported_damage(damaged_len),
        ))
    }

    fn next_image(&mut self, mut reader: Box<Y4mReader>) -> Result<Step, RawError> {
        match reader.next_image() {
            Ok(Some(image)) => {
                let picture = RawPicture::Image(image, reader.header);
                return Ok((Some(picture), Some(Format::Y4m(reader))));
            }
            Ok(None) if !self.has_begun && self.warning.is_none() => {
                self.warning = Some(DropReason::Y4m(Y4mError::Truncated));
            }
            Ok(None) => {}
            Err(Y4mError::Read(error)) => return Err(error.into()),
            Err(error @ Y4mError::InterruptedByHeader) => {
                self.drop_image(error);
                return Ok((None, Some(Format::Y4m(reader))));
            }
            Err(error) => {
                let (header, tries) = (reader.header, MAX_TRIES);
                let continues = matches!(error, Y4mError::Damaged);
                self.suspended = continues.then_some(Suspended { header, tries });
                self.drop_image(error);
            }
        }
        let (reader, damaged_len) = reader.into_parts();
        Ok((None, Some(self.search_on(reader, damaged_len))))
    }
}

/// A frame that any decoder accepts, or why the item is not usable.
fn usable(item: StreamItem) -> Result<Vec<u8>, String> {
    match item {
        StreamItem::Frame(mut frame) | StreamItem::Unended(mut frame) => {
            normalize(&mut frame).map(|()| frame).map_err(|error| error.to_string())
        }
        StreamItem::TooLong => Err(format!("a JPEG is over the limit of {MAX_JPEG_LEN} bytes")),
        StreamItem::Interrupted(len) => Err(format!("a JPEG breaks off after {len} bytes")),
        StreamItem::Damaged(error) => Err(error.to_string()),
        StreamItem::Truncated(len) => Err(format!("it ended {len} bytes into a JPEG")),
    }
}

/// The marks at which `JpegStream` ends while a YUV4MPEG2 stream is suspended.
const RESUME_MARKS: [&[u8]; 3] = [HEADER_START, FRAME_STARTS[0], FRAME_STARTS[1]];

/// Bounds the time spent on text full of `FRAME` lines, since each try may read a whole picture.
const MAX_TRIES: u8 = 16;

fn search(reader: Pushback) -> Format {
    Format::Jpegs(Box::new(JpegStream::ending_at(&[HEADER_START], reader)))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use proptest::prelude::*;

    use super::*;
    use crate::video::{image::PixelFormat, jpeg::tests::textured};

    #[derive(Debug, PartialEq)]
    enum Whole {
        Jpeg(Vec<u8>),
        /// The width and the luma of an image.
        Image(usize, u8),
    }

    impl Whole {
        /// A damaged JPEG may have taken the start of a complete one's header; the rest decodes the
        /// same.
        fn is_like(&self, actual: &Self) -> bool {
            match (self, actual) {
                (Self::Jpeg(jpeg), Self::Jpeg(actual)) => actual.ends_with(&jpeg[20..]),
                _ => self == actual,
            }
        }
    }

    fn read(bytes: &[u8], buffer: usize) -> (Vec<Whole>, u64) {
        let damaged = Arc::default();
        let reader = BufReader::with_capacity(buffer, Cursor::new(bytes.to_vec()));
        let mut stream = RawStream::new("x", Pushback::new(Box::new(reader)), Arc::clone(&damaged));
        let mut pictures = Vec::new();
        while let Ok(Some(picture)) = stream.next() {
            pictures.push(match picture {
                RawPicture::Jpeg(jpeg) => Whole::Jpeg(jpeg),
                RawPicture::Image(image, _) => Whole::Image(image.width, image.data[0]),
            });
        }
        (pictures, damaged.load(Ordering::Relaxed))
    }

    fn jpeg(width: usize) -> Vec<u8> {
        textured(width, 32, if width == 32 { PixelFormat::Yuv420 } else { PixelFormat::Yuv444 })
    }

    fn y4m(width: usize, luma: u8, pictures: usize) -> Vec<u8> {
        let header = format!("YUV4MPEG2 W{width} H32 F30:1 Cmono XCOLORRANGE=FULL\n");
        let picture = [&b"FRAME\n"[..], &vec![luma; width * 32]].concat();
        [header.as_bytes(), &picture.repeat(pictures)].concat()
    }

    /// The output of one writer, appended to the one before.
    #[derive(Debug, Clone)]
    enum Piece {
        Jpegs { width: usize, count: usize },
        CutJpeg { width: usize, len: usize },
        Images { width: usize, count: usize },
        CutImages { width: usize, len: usize },
        Other(Vec<u8>),
    }

    impl Piece {
        fn bytes(&self) -> Vec<u8> {
            match *self {
                Self::Jpegs { width, count } => jpeg(width).repeat(count),
                Self::CutJpeg { width, len } => {
                    let jpeg = jpeg(width);
                    jpeg[..len.min(jpeg.len() - 40)].to_vec()
                }
                Self::Images { width, count } => y4m(width, LUMA, count),
                Self::CutImages { width, len } => {
                    let video = y4m(width, LUMA, 2);
                    video[..len.min(video.len() - 20)].to_vec()
                }
                Self::Other(ref bytes) => bytes.clone(),
            }
        }

        /// The complete pictures that must be read.
        fn whole(&self) -> Vec<Whole> {
            match *self {
                Self::Jpegs { width, count } => {
                    (0..count).map(|_| Whole::Jpeg(jpeg(width))).collect()
                }
                Self::Images { width, count } => {
                    (0..count).map(|_| Whole::Image(width, LUMA)).collect()
                }
                Self::CutImages { width, .. } => {
                    let header_len = y4m(width, LUMA, 0).len();
                    let count = self.bytes().len().saturating_sub(header_len) / (width * 32 + 6);
                    (0..count).map(|_| Whole::Image(width, LUMA)).collect()
                }
                Self::CutJpeg { .. } | Self::Other(_) => Vec::new(),
            }
        }
    }

    const LUMA: u8 = 99;

    fn piece() -> impl Strategy<Value = Piece> {
        let width = prop_oneof![Just(32_usize), Just(48)];
        let count = 1_usize..4;
        let junk = proptest::collection::vec(any::<u8>(), 0..1500);
        let other = prop::sample::select(vec![
            &b"\xFF\xD8\xFF\xD9"[..],
            b"\xFF\xD8",
            b"\xFF\xD8\xFF\xE1\xFF\xFF",
            b"\xFF\xD8\xFF\xE1\x05\x00",
            b"\r\n",
            b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 900\r\n\r\n",
            &[0; 700],
        ]);
        prop_oneof![
            3 => (width.clone(), count.clone()).prop_map(|(width, count)| Piece::Jpegs { width, count }),
            3 => (width.clone(), 0_usize..2000).prop_map(|(width, len)| Piece::CutJpeg { width, len }),
            3 => (width.clone(), count).prop_map(|(width, count)| Piece::Images { width, count }),
            3 => (width, 1_usize..3200).prop_map(|(width, len)| Piece::CutImages { width, len }),
            1 => junk.prop_map(Piece::Other),
            2 => other.prop_map(|bytes| Piece::Other(bytes.to_vec())),
        ]
    }

    /// The lumas of the pictures, and how many were dropped.
    fn lumas(bytes: &[u8]) -> (Vec<u8>, u64) {
        let read = [1 << 16, 7].map(|buffer| read(bytes, buffer));
        assert!(read[0] == read[1], "whole or in pieces");
        let [(pictures, dropped), _] = read;
        let lumas = pictures.into_iter().map(|picture| match picture {
            Whole::Image(_, luma) => luma,
            Whole::Jpeg(_) => panic!("an unexpected JPEG"),
        });
        (lumas.collect(), dropped)
    }

    fn picture(luma: u8) -> Vec<u8> {
        [&b"FRAME\n"[..], &[luma; 48 * 32]].concat()
    }

    #[test]
    fn junk_between_two_pictures_loses_neither() {
        let header = y4m(48, 0, 0);
        for junk in [
            &b"junk"[..],
            b"a line of a log\n",
            b"END OF FRAME\n",
            b"FRAME 7 is done\n",
            b"FRAMES\nFRAME",
            &[7; 3 * 48 * 32],
            &b"-FRAME\n".repeat(usize::from(MAX_TRIES - 1)),
        ] {
            let gaps = [&header[..], &picture(1), junk, &picture(2), junk, &picture(3)].concat();
            assert_eq!(
                lumas(&gaps),
                (vec![1, 2, 3], 2),
                "{}",
                junk[..20.min(junk.len())].escape_ascii()
            );
        }
    }

    #[test]
    fn a_picture_missing_bytes_does_not_lose_the_next() {
        let header = y4m(48, 0, 0);
        let cut = &picture(2)[..1000];
        let bytes = [&header[..], &picture(1), cut, &picture(3), &picture(4), &picture(5)].concat();
        assert_eq!(lumas(&bytes), (vec![1, 3, 4, 5], 1));
    }

    /// Pixels that look like the line before a picture.
    #[test]
    fn pixels_resembling_a_frame_line_do_not_mislead_the_search() {
        let header = y4m(48, 0, 0);
        let mut odd = picture(2);
        odd[600..606].copy_from_slice(b"FRAME\n");
        let bytes = [&header[..], &picture(1), b"junk", &odd, &odd, &picture(3)].concat();
        assert_eq!(lumas(&bytes), (vec![1, 2, 2, 3], 1));
    }

    #[test]
    fn junk_full_of_frame_lines_does_not_hide_the_next_stream() {
        let text = b"FRAME\n".repeat(1 << 20);
        let bytes = [&y4m(48, 1, 1)[..], b"junk\n", &text, &y4m(48, 2, 1)].concat();
        assert_eq!(lumas(&bytes).0.last(), Some(&2));
    }

    proptest! {
        /// All complete pictures are read in order, whatever is damaged and however it is buffered.
        #[test]
        fn no_complete_picture_is_lost(pieces in proptest::collection::vec(piece(), 1..9)) {
            let bytes = pieces.iter().map(Piece::bytes).collect::<Vec<_>>().concat();
            // Begins with a JPEG, since an unsupported beginning may be refused.
            let bytes = [&jpeg(48)[..], &bytes].concat();
            let whole: Vec<_> = pieces.iter().flat_map(Piece::whole).collect();
            let read = [1 << 16, 7].map(|buffer| read(&bytes, buffer));
            prop_assert!(read[0] == read[1], "whole or in pieces");
            // More pictures may be read if junk completes damaged ones.
            let mut actual = read[0].0.iter();
            for picture in &whole {
                prop_assert!(actual.any(|actual| picture.is_like(actual)), "{} of {}", whole.len(), read[0].0.len());
            }
        }
    }
}
