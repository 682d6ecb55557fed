//! Reads YUV4MPEG2 as full-range images.

use std::{
    io::{self, BufRead, ErrorKind, Read},
    sync::LazyLock,
};

use aho_corasick::packed::Searcher;

use super::{aspect::PixelAspect, padding::is_padding, pushback::Pushback};
use crate::video::{
    image::{Image, PixelFormat, Size, SizeError},
    jpeg::{self, HeaderError},
};

/// Reads pictures from a YUV4MPEG2 stream.
pub(crate) struct Y4mReader {
    /// The current header.
    pub(crate) header: Header,
    reader: Pushback,
    /// The last bytes of the last picture.
    tail: Vec<u8>,
    /// How many of the bytes pushed back are known to be damaged.
    damaged_len: usize,
    /// The buffer of a former picture, to be reused.
    spare: Vec<u8>,
}

impl Y4mReader {
    /// Reads the header, and checks it before allocating memory for a picture.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn open(mut reader: Pushback) -> Result<Self, Y4mError> {
        Ok(Self::new(Header::read(&mut reader)?, reader))
    }

    /// Reads the pictures that follow this header.
    pub(crate) fn new(header: Header, reader: Pushback) -> Self {
        Self { header, reader, tail: Vec::new(), damaged_len: 0, spare: Vec::new() }
    }

    /// Reuses the buffer of a picture for one of the next.
    pub(crate) fn recycle(&mut self, picture: Image) {
        self.spare = picture.data;
    }

    /// The next picture; `None` at the end, or where a JPEG begins. A header between pictures
    /// begins another stream, as when several programs write to one pipe.
    ///
    /// After [`Y4mError::InterruptedByHeader`] the next header follows. If the stream ends within a
    /// picture's pixels, nothing follows. After any other damage, the damaged bytes are pushed back,
    /// and the caller must search them for a header or a JPEG.
    pub(crate) fn next_image(&mut self) -> Result<Option<Image>, Y4mError> {
        loop {
            if self.is_at_jpeg()? {
                return Ok(None);
            }
            let line = read_line(&mut self.reader)?;
            if line.is_empty() {
                return Ok(None);
            }
            if is_padding(&line) {
                continue;
            }
            if line.starts_with(HEADER_START) {
                self.reader.unread(&line);
                self.header = Header::read(&mut self.reader)?;
                continue;
            }
            if is_frame(&line) {
                return self.read_image().map(Some);
            }
            return Err(self.classify_line(&line));
        }
    }

    /// Whether a picture comes next, at what may be its `FRAME` line after damage. Waits for all of
    /// it.
    ///
    /// The line may be text between two pictures, or pixels. If there is another `FRAME` line
    /// before the picture would end, this one counts only if the picture is followed by a valid
    /// start or by the end of the stream.
    pub(super) fn is_at_picture(&mut self) -> Result<bool, Y4mError> {
        let line = read_line(&mut self.reader)?;
        self.reader.unread(&line);
        if !is_frame(&line) {
            return Ok(false);
        }
        let Header { size, format, .. } = self.header;
        let len = line.len() + format.data_len(size.width, size.height);
        let picture = self.peek(len as u64)?;
        let pixels = &picture[line.len()..];
        if picture.len() < len || memchr::memmem::find(pixels, HEADER_START).is_some() {
            return Ok(false);
        }
        if frame_in(pixels).is_none() {
            return Ok(true);
        }
        let followed = self.peek(len as u64 + 5)?;
        Ok(may_follow(&followed[len..]))
    }

    /// Whether a JPEG comes next: no line begins with its first byte.
    fn is_at_jpeg(&mut self) -> Result<bool, Y4mError> {
        let is_at_jpeg = self.peek(1)?.starts_with(&[0xFF]);
        // A truncated picture has consumed the JPEG's first bytes.
        if is_at_jpeg && self.tail.ends_with(&JPEG_START[..2]) {
            self.reader.unread(&JPEG_START[..2]);
            self.tail.clear();
        }
        Ok(is_at_jpeg)
    }

    /// The reader, positioned after the pictures, and how many of the next bytes are known to be
    /// damaged.
    pub(super) fn into_parts(self) -> (Pushback, usize) {
        (self.reader, self.damaged_len)
    }

    /// Up to `len` bytes, which remain to be read.
    fn peek(&mut self, len: u64) -> Result<Vec<u8>, Y4mError> {
        let mut bytes = Vec::new();
        (&mut self.reader).take(len).read_to_end(&mut bytes).map_err(Y4mError::Read)?;
        self.reader.unread(&bytes);
        Ok(bytes)
    }

    fn push_back_damage(&mut self, damaged: &[u8]) {
        self.reader.unread(damaged);
        self.damaged_len = damaged.len();
    }

    /// Classifies a line that is not `FRAME`. A header or a JPEG in it, or across its beginning,
    /// was written by another program.
    fn classify_line(&mut self, line: &[u8]) -> Y4mError {
        let joined = [&std::mem::take(&mut self.tail)[..], line].concat();
        let jpeg = memchr::memmem::find(&joined, JPEG_START);
        match memchr::memmem::find(&joined, HEADER_START) {
            Some(at) if jpeg.is_none_or(|jpeg| jpeg > at) => {
                self.reader.unread(&joined[at..]);
                return Y4mError::InterruptedByHeader;
            }
            _ => self.push_back_damage(&joined),
        }
        let is_cut = line.len() < MAX_LINE_LEN && !line.ends_with(b"\n");
        if is_cut { Y4mError::Truncated } else { Y4mError::Damaged }
    }

    /// Reads a picture. A writer that is killed leaves it incomplete; its data then contains the
    /// beginning of the next writer's output.
    fn read_image(&mut self) -> Result<Image, Y4mError> {
        let Header { size, format, full_range, .. } = self.header;
        let len = format.data_len(size.width, size.height);
        let mut data = std::mem::take(&mut self.spare);
        data.resize(len, 0);
        let read = read_up_to(&mut self.reader, &mut data).map_err(Y4mError::Read)?;
        data.truncate(read);
        if read < len || has_start(&data) {
            self.check(&data, len)?;
        }
        self.tail.clear();
        self.tail.extend_from_slice(&data[len - HEADER_START.len().min(len)..]);
        let mut image = Image::new(size.width, size.height, format, data);
        if !full_range {
            stretch(&mut image);
        }
        Ok(image)
    }

    /// Refuses the data of a picture of `len` bytes if it is incomplete, or if something else
    /// begins in it.
    fn check(&mut self, data: &[u8], len: usize) -> Result<(), Y4mError> {
        let header = memchr::memmem::find(data, HEADER_START);
        let before = &data[..header.unwrap_or(data.len())];
        match jpeg_in(before) {
            Some((at, is_whole))
                if is_whole || header.is_some() || !self.has_valid_successor()? =>
            {
                self.push_back_damage(&data[at..]);
                return Err(Y4mError::InterruptedByJpeg);
            }
            _ => {}
        }
        if let Some(at) = header {
            self.reader.unread(&data[at..]);
            return Err(Y4mError::InterruptedByHeader);
        }
        if let Some(at) = frame_in(data)
            && !self.has_valid_successor()?
        {
            // Bytes are lost, and the next picture has begun.
            self.push_back_damage(&data[at..]);
            return Err(Y4mError::Damaged);
        }
        if data.len() < len { Err(Y4mError::Truncated) } else { Ok(()) }
    }

    /// Whether the next bytes are valid after a complete picture. Waits for them.
    fn has_valid_successor(&mut self) -> Result<bool, Y4mError> {
        self.peek(5).map(|next| may_follow(&next))
    }
}

/// Whether these five bytes, or none at the end, are valid after a complete picture.
fn may_follow(next: &[u8]) -> bool {
    let starts = [&b"FRAME"[..], &HEADER_START[..5], &JPEG_START[..2]];
    next.is_empty() || starts.iter().any(|start| next.starts_with(start))
}

/// Whether this is a `FRAME` line, which precedes each picture. Its parameters are `I`
/// (interlacing) and `X` (comments).
fn is_frame(line: &[u8]) -> bool {
    let fields = line.strip_prefix(b"FRAME").and_then(|rest| rest.strip_suffix(b"\n"));
    let mut fields = fields.into_iter().flat_map(|fields| fields.split(|&byte| byte == b' '));
    fields.next() == Some(b"") && fields.all(|field| matches!(field, [] | [b'I' | b'X', ..]))
}

/// Whether a header, a JPEG or a `FRAME` line may begin in the data. One pass, since pictures are
/// long: four took 5 % of the sender's processor time at 640x480.
fn has_start(data: &[u8]) -> bool {
    static STARTS: LazyLock<Option<Searcher>> =
        LazyLock::new(|| Searcher::new([HEADER_START, JPEG_START].iter().chain(&FRAME_STARTS)));
    STARTS.as_ref().is_none_or(|starts| starts.find(data).is_some())
}

/// Reads until the buffer is full or the stream ends. Returns how many bytes were read.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Where a possible `FRAME` line begins.
fn frame_in(data: &[u8]) -> Option<usize> {
    FRAME_STARTS.iter().filter_map(|start| memchr::memmem::find(data, start)).min()
}

/// Where a JPEG begins, or may begin, in a picture's data, and whether its whole header is there.
/// In pixels a whole header hardly ever occurs by accident; its first bytes do, at most about once
/// in a hundred megabytes.
fn jpeg_in(data: &[u8]) -> Option<(usize, bool)> {
    let mut first = None;
    let mut from = 0;
    while let Some(found) = memchr::memmem::find(&data[from..], JPEG_START) {
        let at = from + found;
        match jpeg::Header::parse(&data[at..]) {
            Ok(_) | Err(HeaderError::TooShort(..)) => return Some((first.unwrap_or(at), true)),
            Err(HeaderError::Truncated) => first = first.or(Some(at)),
            Err(_) => {}
        }
        // Its last byte may begin another one.
        from = at + 2;
    }
    first.map(|at| (at, false))
}

/// A line with its newline, unless the stream ends or the maximum length is reached first.
fn read_line(reader: &mut impl BufRead) -> Result<Vec<u8>, Y4mError> {
    let mut line = Vec::new();
    let bounded = &mut reader.take(MAX_LINE_LEN as u64);
    bounded.read_until(b'\n', &mut line).map_err(Y4mError::Read)?;
    Ok(line)
}

/// The stream's header line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Header {
    pub(crate) size: Size,
    /// Frames/s, if valid.
    pub(crate) fps: Option<f64>,
    pub(crate) format: PixelFormat,
    pub(crate) full_range: bool,
    /// `None` if the header does not state it.
    pub(super) pixel_aspect: Option<PixelAspect>,
}

impl Header {
    /// The size with square pixels.
    pub(super) fn square_size(&self) -> Size {
        self.pixel_aspect.map_or(self.size, |aspect| aspect.squared(self.size))
    }

    /// Reads a header. If a truncated header is followed by another in the same line, uses the
    /// latter. On an error, the bytes after the header's first word are pushed back.
    pub(super) fn read(reader: &mut Pushback) -> Result<Self, Y4mError> {
        let line = read_line(reader)?;
        let start = memchr::memmem::rfind(&line, HEADER_START).unwrap_or(0);
        Self::parse(&line[start..]).inspect_err(|_| {
            reader.unread(&line[line.len().min(start + HEADER_START.len())..]);
        })
    }

    fn parse(line: &[u8]) -> Result<Self, Y4mError> {
        let line = line.strip_suffix(b"\n").ok_or(Y4mError::CutHeader)?;
        let line = std::str::from_utf8(line).map_err(|_| Y4mError::CutHeader)?;
        let fields = line.strip_prefix("YUV4MPEG2 ").ok_or(Y4mError::Header("it has no fields"))?;
        let (mut width, mut height, mut fps) = (None, None, None);
        let (mut format, mut full_range) = (PixelFormat::Yuv420, false);
        let mut pixel_aspect = None;
        for field in fields.split(' ').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_at(field.chars().next().map_or(0, char::len_utf8));
            match name {
                "W" => width = value.parse().ok(),
                "H" => height = value.parse().ok(),
                "F" => fps = rate(value),
                "A" => pixel_aspect = aspect(value),
                "C" => format = layout(value)?,
                "X" if value == "COLORRANGE=FULL" => full_range = true,
                _ => {}
            }
        }
        let width = width.ok_or(Y4mError::Header("it has no width"))?;
        let height = height.ok_or(Y4mError::Header("it has no height"))?;
        Ok(Self { size: Size::new(width, height)?, fps, format, full_range, pixel_aspect })
    }
}

/// Why a YUV4MPEG2 stream is refused, or ends early.
#[derive(Debug, thiserror::Error)]
pub enum Y4mError {
    /// A required header field is missing.
    #[error("the YUV4MPEG2 header is malformed: {0}")]
    Header(&'static str),
    /// The header is not a complete line of text.
    #[error("the YUV4MPEG2 header has no end")]
    CutHeader,
    /// The size is beyond the limits.
    #[error("a YUV4MPEG2 picture of {0}")]
    Size(SizeError),
    /// More than 8 bits, alpha, or an unsupported sampling.
    #[error(
        "YUV4MPEG2 of {0:?} is not supported: use 8 bits in 420, 422, 444 or mono, for example `ffmpeg … -pix_fmt yuv420p`"
    )]
    Layout(String),
    /// A picture does not begin with `FRAME`.
    #[error("the YUV4MPEG2 stream is damaged: no FRAME where one is expected")]
    Damaged,
    /// Another stream begins within a picture, or before one.
    #[error("a picture breaks off where another YUV4MPEG2 stream begins")]
    InterruptedByHeader,
    /// A JPEG begins within a picture.
    #[error("a YUV4MPEG2 picture breaks off where a JPEG begins")]
    InterruptedByJpeg,
    /// The stream ends within a picture.
    #[error("the YUV4MPEG2 stream ends within a picture")]
    Truncated,
    /// The stream cannot be read.
    #[error("cannot read: {0}")]
    Read(io::Error),
}

impl Y4mError {
    /// Whether the stream is truncated or damaged, as opposed to unsupported.
    pub(super) fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::CutHeader
                | Self::Damaged
                | Self::InterruptedByHeader
                | Self::InterruptedByJpeg
                | Self::Truncated
        )
    }
}

impl From<SizeError> for Y4mError {
    fn from(error: SizeError) -> Self {
        Self::Size(error)
    }
}

fn rate(value: &str) -> Option<f64> {
    let (numerator, denominator) = value.split_once(':')?;
    let fps = numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?;
    super::FPS_RANGE.contains(&fps).then_some(fps)
}

fn aspect(value: &str) -> Option<PixelAspect> {
    let (width, height) = value.split_once(':')?;
    Some(PixelAspect { width: width.parse().ok()?, height: height.parse().ok()? })
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

/// The first bytes of a stream.
pub(super) const HEADER_MAGIC: &[u8] = b"YUV4MPEG2";

/// The same with the following space, which binary data is unlikely to contain by accident.
pub(super) const HEADER_START: &[u8] = b"YUV4MPEG2 ";

/// The first bytes of a `FRAME` line, without and with parameters.
pub(super) const FRAME_STARTS: [&[u8]; 2] = [b"FRAME\n", b"FRAME "];

/// The first bytes of a JPEG: the start marker, and the first byte of another marker.
const JPEG_START: &[u8] = &[0xFF, 0xD8, 0xFF];

/// The maximum length of a header or `FRAME` line, in bytes. Real ones are a tenth of it.
const MAX_LINE_LEN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn open(bytes: &[u8]) -> Result<Y4mReader, Y4mError> {
        Y4mReader::open(Pushback::new(Box::new(Cursor::new(bytes.to_vec()))))
    }

    #[test]
    fn pictures_of_every_layout_are_read_completely() {
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
    fn a_header_between_pictures_starts_another_stream() {
        let small = [&b"YUV4MPEG2 W16 H16 F30:1 Cmono XCOLORRANGE=FULL\nFRAME\n"[..], &[7; 256]];
        let large = [&b"YUV4MPEG2 W32 H16 F30:1 C444 XCOLORRANGE=FULL\nFRAME\n"[..], &[9; 3 * 512]];
        let (small, large) = (small.concat(), large.concat());
        let mut reader = open(&[&small[..], &large, &large, &small].concat()).expect("valid");
        let images = std::iter::from_fn(|| reader.next_image().expect("whole"));
        let layouts: Vec<_> = images.map(|i| (i.width, i.format, i.data[0])).collect();
        let (small_one, large_one) = ((16, PixelFormat::Gray, 7), (32, PixelFormat::Yuv444, 9));
        assert_eq!(layouts, [small_one, large_one, large_one, small_one]);
        let mut reader =
            open(&[&small[..], b"YUV4MPEG2 W16 H16 C420p10\n"].concat()).expect("valid");
        assert!(reader.next_image().expect("whole").is_some());
        assert!(matches!(reader.next_image(), Err(Y4mError::Layout(_))));
    }

    /// The first writer is killed after any number of bytes; all pictures of the second one are
    /// read.
    #[test]
    fn a_header_within_a_picture_starts_another_stream() {
        let header = &b"YUV4MPEG2 W16 H16 F30:1 Cmono XCOLORRANGE=FULL\n"[..];
        let first = [header, b"FRAME\n", &[7; 256], b"FRAME\n", &[8; 256]].concat();
        let picture = [&b"FRAME\n"[..], &[9; 512]].concat();
        for cut in header.len()..=first.len() {
            for pictures in [1, 3] {
                let rest = [&b"YUV4MPEG2 W32 H16 Cmono\n"[..], &picture.repeat(pictures)].concat();
                let mut reader = open(&[&first[..cut], &rest].concat()).expect("valid");
                let mut widths = Vec::new();
                loop {
                    match reader.next_image() {
                        Ok(Some(image)) => widths.push(image.width),
                        Ok(None) => break,
                        Err(error) => {
                            assert!(
                                matches!(error, Y4mError::InterruptedByHeader),
                                "{cut}: {error}"
                            );
                        }
                    }
                }
                let second_ones = widths.iter().filter(|&&width| width == 32).count();
                // One more picture is read if the next header's first bytes take the place of its
                // missing end.
                let whole = (cut - header.len()) / (256 + 6);
                let first_ones = widths.len() - second_ones;
                assert!(second_ones == pictures && first_ones - whole <= 1, "{cut}: {widths:?}");
            }
        }
    }

    #[test]
    fn data_that_is_not_a_frame_is_damage() {
        let header = b"YUV4MPEG2 W16 H16 Cmono\n";
        for junk in [&b"FRAMES\n"[..], b"junk\n", &[b'F'; 2000]] {
            let mut reader = open(&[&header[..], junk, &[0; 300]].concat()).expect("valid");
            assert!(matches!(reader.next_image(), Err(Y4mError::Damaged)), "{junk:?}");
        }
    }

    #[test]
    fn blank_lines_between_pictures_are_skipped() {
        let picture = [&b"FRAME\n"[..], &[7; 256], b"\r\n\n"].concat();
        let header = b"YUV4MPEG2 W16 H16 Cmono\n";
        let mut reader = open(&[&header[..], &picture.repeat(3)].concat()).expect("valid");
        let images = std::iter::from_fn(|| reader.next_image().expect("whole"));
        assert_eq!(images.count(), 3);
    }

    /// Pixels that contain the first bytes of a JPEG: three, or six.
    #[test]
    fn pixels_resembling_a_jpeg_are_read_as_pixels() {
        let header = b"YUV4MPEG2 W16 H16 Cmono XCOLORRANGE=FULL\n";
        for start in [&[0xFF, 0xD8, 0xFF][..], &[0xFF, 0xD8, 0xFF, 0xE0, 0xFF, 0xFF]] {
            for at in 0..=256 - start.len() {
                let mut pixels = [7; 256];
                pixels[at..][..start.len()].copy_from_slice(start);
                let picture = [&b"FRAME\n"[..], &pixels].concat();
                let mut reader = open(&[&header[..], &picture.repeat(3)].concat()).expect("valid");
                let images = std::iter::from_fn(|| reader.next_image().expect("whole"));
                assert_eq!(images.filter(|image| image.data == pixels).count(), 3);
            }
        }
    }

    #[test]
    fn the_pixel_aspect_is_read() {
        let aspect = |field: &str| {
            let stream = format!("YUV4MPEG2 W64 H48 {field} C420jpeg\n");
            open(stream.as_bytes()).expect("valid").header.pixel_aspect
        };
        assert_eq!(aspect("A64:45"), Some(PixelAspect { width: 64.0, height: 45.0 }));
        assert_eq!(aspect("A0:0").map(|aspect| aspect.width), Some(0.0), "unknown");
        assert_eq!((aspect("I?"), aspect("A1"), aspect("Ax:y")), (None, None, None));
    }

    #[test]
    fn studio_range_is_expanded_to_full_range() {
        let stream = [&b"YUV4MPEG2 W16 H16 Cmono\nFRAME\n"[..], &[16; 128], &[235; 128]].concat();
        let image = open(&stream).expect("valid").next_image().expect("whole").expect("there");
        assert_eq!((image.data[0], image.data[255]), (0, 255));
    }

    #[test]
    fn invalid_headers_are_refused() {
        let message = |line: &str| open(line.as_bytes()).err().expect(line).to_string();
        assert!(message("YUV4MPEG2 W99999999999 H99999999999 F30:1\n").contains("out of range"));
        assert!(message("YUV4MPEG2 W18446744073709551615 H3 F30:1\n").contains("out of range"));
        assert!(message("YUV4MPEG2 W3 H3\n").contains("out of range"));
        assert!(message("YUV4MPEG2 H720 F30:1\n").contains("no width"));
        assert!(message("YUV4MPEG2 W64 H64 C420p10\n").contains("420p10"));
        assert!(message("YUV4MPEG2 W64").contains("no end"));
        assert!(message("YUV4MPEG2\n").contains("no fields"));
    }

    #[test]
    fn an_invalid_rate_is_ignored() {
        for rate in ["F0:0", "F1:0", "F30", "F-1:1"] {
            let stream = format!("YUV4MPEG2 W16 H16 {rate}\n");
            assert_eq!(open(stream.as_bytes()).expect("valid").header.fps, None, "{rate}");
        }
    }

    #[test]
    fn an_end_within_a_picture_is_truncation() {
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
