//! YUV4MPEG2 from a pipe, as full-range images.

use std::io::{self, BufRead, Chain, Cursor, Read};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::video::image::{Image, MAX_PIXELS, PixelFormat, Size, SizeError};

/// Reads pictures from a YUV4MPEG2 stream.
pub(crate) struct Y4mReader {
    pub(crate) header: Header,
    decoder: y4m::Decoder<Counted<Replayed>>,
    read: Arc<AtomicU64>,
}

impl Y4mReader {
    /// Reads the header, and checks it before anything is allocated by what it says.
    pub(crate) fn open(mut reader: Box<dyn BufRead + Send>) -> Result<Self, Y4mError> {
        let mut line = Vec::new();
        (&mut reader).take(MAX_HEADER_LEN).read_until(b'\n', &mut line).map_err(Y4mError::Read)?;
        let header = Header::parse(&line)?;
        let read = Arc::new(AtomicU64::new(0));
        let reader = Counted { reader: Cursor::new(line).chain(reader), read: Arc::clone(&read) };
        let limits = y4m::Limits { bytes: 3 * MAX_PIXELS };
        let decoder = y4m::Decoder::new_with_limits(reader, limits).map_err(Y4mError::of)?;
        Ok(Self { header, decoder, read })
    }

    /// The next picture; `None` at the end.
    pub(crate) fn next_image(&mut self) -> Result<Option<Image>, Y4mError> {
        let before = self.read.load(Ordering::Relaxed);
        let Header { size, format, full_range, .. } = self.header;
        let frame = match self.decoder.read_frame() {
            Ok(frame) => frame,
            Err(y4m::Error::EOF) if self.read.load(Ordering::Relaxed) == before => return Ok(None),
            Err(y4m::Error::EOF) => return Err(Y4mError::Truncated),
            Err(error) => return Err(Y4mError::of(error)),
        };
        let planes = [frame.get_y_plane(), frame.get_u_plane(), frame.get_v_plane()];
        let mut image = Image::new(size.width, size.height, format, planes.concat());
        if !full_range {
            stretch(&mut image);
        }
        Ok(Some(image))
    }
}

/// The header line, which was read already, and what follows it.
type Replayed = Chain<Cursor<Vec<u8>>, Box<dyn BufRead + Send>>;

/// What the stream's first line says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Header {
    pub(crate) size: Size,
    /// Frames/s, if it says something sensible.
    pub(crate) fps: Option<f64>,
    pub(crate) format: PixelFormat,
    pub(crate) full_range: bool,
}

impl Header {
    fn parse(line: &[u8]) -> Result<Self, Y4mError> {
        let line = line.strip_suffix(b"\n").ok_or(Y4mError::Header("it has no end"))?;
        let line = std::str::from_utf8(line).map_err(|_| Y4mError::Header("it is not text"))?;
        let fields = line.strip_prefix("YUV4MPEG2 ").ok_or(Y4mError::Header("it says nothing"))?;
        let (mut width, mut height, mut fps) = (None, None, None);
        let (mut format, mut full_range) = (PixelFormat::Yuv420, false);
        for field in fields.split(' ').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_at(field.chars().next().map_or(0, char::len_utf8));
            match name {
                "W" => width = value.parse().ok(),
                "H" => height = value.parse().ok(),
                "F" => fps = rate(value),
                "C" => format = layout(value)?,
                "X" if value == "COLORRANGE=FULL" => full_range = true,
                _ => {}
            }
        }
        let width = width.ok_or(Y4mError::Header("it has no width"))?;
        let height = height.ok_or(Y4mError::Header("it has no height"))?;
        Ok(Self { size: Size::new(width, height)?, fps, format, full_range })
    }
}

/// Why a YUV4MPEG2 stream is refused, or ends early.
#[derive(Debug, thiserror::Error)]
pub enum Y4mError {
    /// The header does not say what it must.
    #[error("the YUV4MPEG2 header is malformed: {0}")]
    Header(&'static str),
    /// A side beyond the limits.
    #[error("a YUV4MPEG2 picture of {0}")]
    Size(SizeError),
    /// More than 8 bits, alpha, or a sampling that we have no layout for.
    #[error(
        "YUV4MPEG2 of {0:?} is not supported: use 8 bits in 420, 422, 444 or mono, for example `ffmpeg … -pix_fmt yuv420p`"
    )]
    Layout(String),
    /// A picture does not begin as it must.
    #[error("the YUV4MPEG2 stream is damaged: no FRAME where one must be")]
    Damaged,
    /// The stream ends within a picture.
    #[error("the YUV4MPEG2 stream ends within a picture")]
    Truncated,
    /// It cannot be read.
    #[error("cannot read: {0}")]
    Read(io::Error),
}

impl From<SizeError> for Y4mError {
    fn from(error: SizeError) -> Self {
        Self::Size(error)
    }
}

impl Y4mError {
    fn of(error: y4m::Error) -> Self {
        match error {
            y4m::Error::EOF => Self::Truncated,
            y4m::Error::IoError(error) => Self::Read(error),
            _ => Self::Damaged,
        }
    }
}

/// Counts what is read, to tell an end between pictures from one within.
struct Counted<R> {
    reader: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.reader.read(to) {
                // The crate takes an interrupted read for a failed one.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(len) => {
                    self.read.fetch_add(len as u64, Ordering::Relaxed);
                    return Ok(len);
                }
            }
        }
    }
}

fn rate(value: &str) -> Option<f64> {
    let (numerator, denominator) = value.split_once(':')?;
    let fps = numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?;
    super::FPS_RANGE.contains(&fps).then_some(fps)
}

fn layout(value: &str) -> Result<PixelFormat, Y4mError> {
    match value {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Ok(PixelFormat::Yuv420),
        "422" => Ok(PixelFormat::Yuv422),
        "444" => Ok(PixelFormat::Yuv444),
        "mono" => Ok(PixelFormat::Gray),
        _ => Err(Y4mError::Layout(value.to_owned())),
    }
}

/// Stretches studio range (luma 16 to 235, chroma 16 to 240) to full range.
fn stretch(image: &mut Image) {
    let luma = table(|v| (v - 16.0) * 255.0 / 219.0);
    let chroma = table(|v| (v - 128.0) * 255.0 / 224.0 + 128.0);
    let [y, cb, cr] = image.planes_mut();
    for (plane, table) in [(y, &luma), (cb, &chroma), (cr, &chroma)] {
        for value in plane {
            *value = table[usize::from(*value)];
        }
    }
}

fn table(of: impl Fn(f64) -> f64) -> [u8; 256] {
    std::array::from_fn(|value| of(value as f64).round().clamp(0.0, 255.0) as u8)
}

/// What the y4m crate reads at most.
const MAX_HEADER_LEN: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(bytes: &[u8]) -> Result<Y4mReader, Y4mError> {
        Y4mReader::open(Box::new(Cursor::new(bytes.to_vec())))
    }

    #[test]
    fn pictures_of_each_layout_come_out_whole() {
        let layouts = [
            ("C420jpeg", PixelFormat::Yuv420),
            ("C422", PixelFormat::Yuv422),
            ("C444", PixelFormat::Yuv444),
            ("Cmono", PixelFormat::Gray),
            ("", PixelFormat::Yuv420),
        ];
        for (name, format) in layouts {
            let picture: Vec<u8> = (0..format.data_len(17, 19)).map(|i| i as u8).collect();
            let header = format!("YUV4MPEG2 W17 H19 F30000:1001 {name} XCOLORRANGE=FULL\n");
            let frame = [b"FRAME Ip\n", &picture[..]].concat();
            let stream = [header.as_bytes(), &frame, &frame].concat();
            let mut reader = open(&stream).expect("valid");
            assert!((reader.header.fps.expect("says so") - 29.97).abs() < 0.01);
            for _ in 0..2 {
                let image = reader.next_image().expect("whole").expect("there");
                assert_eq!(image, Image::new(17, 19, format, picture.clone()));
            }
            assert!(reader.next_image().expect("the end").is_none());
        }
    }

    #[test]
    fn studio_range_is_stretched() {
        let stream = [&b"YUV4MPEG2 W16 H16 Cmono\nFRAME\n"[..], &[16; 128], &[235; 128]].concat();
        let image = open(&stream).expect("valid").next_image().expect("whole").expect("there");
        assert_eq!((image.data[0], image.data[255]), (0, 255));
    }

    #[test]
    fn lying_headers_are_refused_before_anything_is_allocated() {
        let said = |line: &str| open(line.as_bytes()).err().expect(line).to_string();
        assert!(said("YUV4MPEG2 W99999999999 H99999999999 F30:1\n").contains("out of range"));
        assert!(said("YUV4MPEG2 W18446744073709551615 H3 F30:1\n").contains("out of range"));
        assert!(said("YUV4MPEG2 W3 H3\n").contains("out of range"));
        assert!(said("YUV4MPEG2 H720 F30:1\n").contains("no width"));
        assert!(said("YUV4MPEG2 W64 H64 C420p10\n").contains("420p10"));
        assert!(said("YUV4MPEG2 W64").contains("no end"));
        assert!(said("YUV4MPEG2\n").contains("says nothing"));
    }

    #[test]
    fn a_silly_rate_is_no_rate() {
        for rate in ["F0:0", "F1:0", "F30", "F-1:1"] {
            let stream = format!("YUV4MPEG2 W16 H16 {rate}\n");
            match open(stream.as_bytes()) {
                Ok(reader) => assert_eq!(reader.header.fps, None, "{rate}"),
                Err(error) => assert!(matches!(error, Y4mError::Damaged), "{rate}: {error}"),
            }
        }
    }

    #[test]
    fn an_end_within_a_picture_is_not_one_between() {
        let whole = [&b"YUV4MPEG2 W16 H16 Cmono\nFRAME\n"[..], &[0; 256]].concat();
        for cut in [1, 255, 256, 258] {
            let mut reader = open(&whole[..whole.len() - cut]).expect("valid");
            assert!(matches!(reader.next_image(), Err(Y4mError::Truncated)), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(tail in "[ -~]{0,60}", body in proptest::collection::vec(any::<u8>(), 0..600)) {
            let stream = [b"YUV4MPEG2 W16 H16 ", tail.as_bytes(), b"\nFRAME\n", &body].concat();
            if let Ok(mut reader) = open(&stream) {
                while let Ok(Some(_)) = reader.next_image() {}
            }
        }
    }
}
