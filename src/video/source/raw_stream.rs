//! Reads a byte stream without a container: JPEGs and YUV4MPEG2, also one after the other, as when
//! several programs write to one pipe.
//!
//! Truncated or damaged data is dropped, counted, and logged at most once a second. The search for
//! the next JPEG or YUV4MPEG2 header continues from there, so that no complete picture is lost.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Complaints, SourceError,
    unread::Unread,
    y4m::{self, HEADER_START, Y4mError, Y4mReader},
};
use crate::video::{
    image::Image,
    jpeg::{JpegStream, MAX_JPEG_LEN, StreamItem, mend},
};

/// Reads complete pictures.
pub(super) struct RawStream {
    name: String,
    /// The current format; `None` after the end.
    format: Option<Format>,
    /// Whether a picture has been read.
    has_begun: bool,
    damaged: Arc<AtomicU64>,
    /// Why the last picture was dropped.
    complaint: Option<Complaint>,
    complaints: Complaints,
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
    Jpegs(Box<JpegStream<Unread>>),
    Y4m(Box<Y4mReader>),
}

enum Complaint {
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
    /// Converts to a [`SourceError`]. `unreadable` makes one of an I/O error.
    pub(super) fn of(
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
    /// `name` is for messages; `damaged` counts the dropped pictures.
    pub(super) fn new(name: &str, reader: Unread, damaged: Arc<AtomicU64>) -> Self {
        Self {
            name: name.to_owned(),
            format: Some(search(reader)),
            has_begun: false,
            damaged,
            complaint: None,
            complaints: Complaints::default(),
        }
    }

    /// Continues with another reader.
    pub(super) fn restart(&mut self, reader: Unread) {
        self.format = Some(search(reader));
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

    /// The error if the stream has no usable picture.
    pub(super) fn unusable(&mut self) -> SourceError {
        let name = self.name.clone();
        match self.complaint.take() {
            Some(Complaint::Y4m(error)) => SourceError::Y4m { name, error },
            Some(Complaint::Jpeg(complaint)) => SourceError::PipeJpeg { name, complaint },
            None => SourceError::PipeJpeg { name, complaint: "there is none".to_owned() },
        }
    }

    /// Counts an unusable JPEG, and logs why.
    pub(super) fn drop_jpeg(&mut self, complaint: String) {
        self.say_dropped(&complaint);
        self.complaint = Some(Complaint::Jpeg(complaint));
    }

    fn drop_image(&mut self, error: Y4mError) {
        self.say_dropped(&error.to_string());
        self.complaint = Some(Complaint::Y4m(error));
    }

    fn say_dropped(&mut self, complaint: &str) {
        let Self { name, complaints, .. } = self;
        complaints.say(|| format!("{name}: {complaint}; that frame is dropped"));
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    fn next_jpeg(&mut self, mut stream: Box<JpegStream<Unread>>) -> Result<Step, RawError> {
        while let Some(item) = stream.next_item()? {
            match usable(item) {
                Ok(jpeg) => {
                    return Ok((Some(RawPicture::Jpeg(jpeg)), Some(Format::Jpegs(stream))));
                }
                Err(complaint) => self.drop_jpeg(complaint),
            }
        }
        if !stream.is_at_mark() {
            return Ok((None, None));
        }
        let (front, mut reader) = stream.into_parts();
        reader.unread(&front);
        let format = match y4m::Header::read(&mut reader) {
            Ok(header) => {
                if self.has_begun {
                    log::info!("{} goes on with YUV4MPEG2 {}", self.name, header.size);
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

    fn next_image(&mut self, mut reader: Box<Y4mReader>) -> Result<Step, RawError> {
        match reader.next_image() {
            Ok(Some(image)) => {
                let picture = RawPicture::Image(image, reader.header);
                return Ok((Some(picture), Some(Format::Y4m(reader))));
            }
            Ok(None) if !self.has_begun && self.complaint.is_none() => {
                self.complaint = Some(Complaint::Y4m(Y4mError::Truncated));
            }
            Ok(None) => {}
            Err(Y4mError::Read(error)) => return Err(error.into()),
            Err(error @ Y4mError::BrokenOff) => {
                self.drop_image(error);
                return Ok((None, Some(Format::Y4m(reader))));
            }
            Err(error) => self.drop_image(error),
        }
        let (reader, damaged_len) = reader.into_parts();
        let stream = JpegStream::ending_at(HEADER_START, reader).told(damaged_len);
        Ok((None, Some(Format::Jpegs(Box::new(stream)))))
    }
}

fn search(reader: Unread) -> Format {
    Format::Jpegs(Box::new(JpegStream::ending_at(HEADER_START, reader)))
}

/// A frame that any decoder accepts, or why the item is not usable.
fn usable(item: StreamItem) -> Result<Vec<u8>, String> {
    match item {
        StreamItem::Frame(mut frame) | StreamItem::Unended(mut frame) => {
            mend(&mut frame).map(|()| frame).map_err(|error| error.to_string())
        }
        StreamItem::TooLong => Err(format!("a JPEG is over the limit of {MAX_JPEG_LEN} bytes")),
        StreamItem::Torn(len) => Err(format!("a JPEG breaks off after {len} bytes")),
        StreamItem::Damaged(error) => Err(error.to_string()),
        StreamItem::Truncated(len) => Err(format!("it ended {len} bytes into a JPEG")),
    }
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
        fn is_like(&self, came: &Self) -> bool {
            match (self, came) {
                (Self::Jpeg(jpeg), Self::Jpeg(came)) => came.ends_with(&jpeg[20..]),
                _ => self == came,
            }
        }
    }

    fn read(bytes: &[u8], buffer: usize) -> (Vec<Whole>, u64) {
        let damaged = Arc::default();
        let reader = BufReader::with_capacity(buffer, Cursor::new(bytes.to_vec()));
        let mut stream = RawStream::new("x", Unread::new(Box::new(reader)), Arc::clone(&damaged));
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
        Jpegs { width: usize, many: usize },
        CutJpeg { width: usize, len: usize },
        Images { width: usize, many: usize },
        CutImages { width: usize, len: usize },
        Other(Vec<u8>),
    }

    impl Piece {
        fn bytes(&self) -> Vec<u8> {
            match *self {
                Self::Jpegs { width, many } => jpeg(width).repeat(many),
                Self::CutJpeg { width, len } => {
                    let jpeg = jpeg(width);
                    jpeg[..len.min(jpeg.len() - 40)].to_vec()
                }
                Self::Images { width, many } => y4m(width, LUMA, many),
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
                Self::Jpegs { width, many } => {
                    (0..many).map(|_| Whole::Jpeg(jpeg(width))).collect()
                }
                Self::Images { width, many } => {
                    (0..many).map(|_| Whole::Image(width, LUMA)).collect()
                }
                Self::CutImages { width, .. } => {
                    let header_len = y4m(width, LUMA, 0).len();
                    let many = self.bytes().len().saturating_sub(header_len) / (width * 32 + 6);
                    (0..many).map(|_| Whole::Image(width, LUMA)).collect()
                }
                Self::CutJpeg { .. } | Self::Other(_) => Vec::new(),
            }
        }
    }

    const LUMA: u8 = 99;

    fn piece() -> impl Strategy<Value = Piece> {
        let width = prop_oneof![Just(32_usize), Just(48)];
        let many = 1_usize..4;
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
            3 => (width.clone(), many.clone()).prop_map(|(width, many)| Piece::Jpegs { width, many }),
            3 => (width.clone(), 0_usize..2000).prop_map(|(width, len)| Piece::CutJpeg { width, len }),
            3 => (width.clone(), many).prop_map(|(width, many)| Piece::Images { width, many }),
            3 => (width, 1_usize..3200).prop_map(|(width, len)| Piece::CutImages { width, len }),
            1 => junk.prop_map(Piece::Other),
            2 => other.prop_map(|bytes| Piece::Other(bytes.to_vec())),
        ]
    }

    proptest! {
        /// All complete pictures are read in order, whatever is damaged and however it is buffered.
        #[test]
        fn no_whole_picture_is_lost(pieces in proptest::collection::vec(piece(), 1..9)) {
            let bytes = pieces.iter().map(Piece::bytes).collect::<Vec<_>>().concat();
            // Begins with a JPEG, since an unsupported beginning may be refused.
            let bytes = [&jpeg(48)[..], &bytes].concat();
            let whole: Vec<_> = pieces.iter().flat_map(Piece::whole).collect();
            let read = [1 << 16, 7].map(|buffer| read(&bytes, buffer));
            prop_assert!(read[0] == read[1], "whole or in pieces");
            // More pictures may be read if junk completes damaged ones.
            let mut came = read[0].0.iter();
            for picture in &whole {
                prop_assert!(came.any(|came| picture.is_like(came)), "{} of {}", whole.len(), read[0].0.len());
            }
        }
    }
}
