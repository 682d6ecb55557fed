//! Parses a JPEG's header, and checks it before a decoder sees the bytes.

use super::marker::{
    APP0, APP14, DHT, DQT, DRI, EOI, JPG, SOF0, SOF1, SOF2, SOF15, SOI, SOS, Segment, WalkError,
    scan_end, segment_at,
};
use crate::video::image::{MAX_PIXELS, MAX_SIDE, MIN_SIDE, Size};

/// Chroma subsampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// One component.
    Gray,
    /// 4:2:0, chroma halved in both directions.
    S420,
    /// 4:2:2, chroma halved in width.
    S422,
    /// 4:4:4, full chroma.
    S444,
    /// Any other that the decoder supports.
    Other,
}

impl Sampling {
    /// Width and height of one minimum coded unit (MCU) in pixels, the unit of restart intervals;
    /// `None` for samplings that are not split into strips.
    pub(super) fn mcu(self) -> Option<(usize, usize)> {
        match self {
            // A single component is not interleaved, so its MCU is one block, whatever its sampling
            // factors.
            Self::Gray | Self::S444 => Some((8, 8)),
            Self::S422 => Some((16, 8)),
            Self::S420 => Some((16, 16)),
            Self::Other => None,
        }
    }
}

/// The header of an accepted frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The picture's size, within the limits.
    pub size: Size,
    /// The chroma subsampling.
    pub sampling: Sampling,
    /// Whether it contains Huffman tables. Motion JPEG often omits the standard ones.
    pub has_huffman_tables: bool,
    /// MCUs between two restart markers; zero: there are none.
    pub restart_interval: u16,
    /// The position of the two bytes of the last restart interval; `None`: there is none.
    pub(super) restart_interval_at: Option<usize>,
    /// The position of the two bytes of the picture's height.
    pub(super) height_at: usize,
    /// Whether it has harmless oddities that decoders warn about.
    pub(super) is_odd: bool,
    /// The position of the first scan's marker.
    pub scan_marker: usize,
    /// The position of the entropy-coded data.
    pub scan_data: usize,
}

impl Header {
    /// Parses the header at the beginning of `bytes`.
    ///
    /// What is refused here never reaches the decoder: sizes beyond the limits, samples of other
    /// than 8 bits, other than 1 or 3 components, progressive, lossless and arithmetic coding,
    /// several scans, missing quantization tables, a size that needs more bytes than there are, and
    /// more segments or bytes before the scan than any camera writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        if !bytes.starts_with(&[0xFF, SOI]) {
            return Err(HeaderError::NotAJpeg);
        }
        let mut frame = None;
        let mut has_huffman_tables = false;
        let mut quantization = 0;
        let (mut restart_interval, mut restart_interval_at) = (0, None);
        let mut is_odd = false;
        let mut at = 2;
        for _ in 0..MAX_SEGMENTS {
            let segment = segment_at(&bytes[..bytes.len().min(MAX_HEADER_LEN)], at);
            let segment = segment.map_err(|error| HeaderError::of_walk(error, bytes.len()))?;
            let payload = &bytes[segment.payload.clone()];
            match segment.marker {
                SOF0 | SOF1 if frame.is_none() => {
                    let height_at = segment.payload.start + FRAME_HEIGHT.start;
                    frame = Some((Frame::parse(payload)?, height_at));
                }
                DHT => has_huffman_tables = true,
                DQT => quantization |= quantization_tables(payload)?,
                DRI => {
                    restart_interval = parse_restart_interval(payload)?;
                    restart_interval_at = Some(segment.payload.start);
                }
                APP0 | APP14 => is_odd |= odd_byte(&segment, payload).is_some(),
                SOS => {
                    is_odd |= odd_byte(&segment, payload).is_some();
                    let (frame, height_at) = frame.ok_or(HeaderError::NoScan)?;
                    let Frame { size, sampling, components, wanted_tables } = frame;
                    if wanted_tables & !quantization != 0 {
                        return Err(HeaderError::NoQuantization);
                    }
                    check_scan(bytes, &segment, size, components)?;
                    return Ok(Self {
                        size,
                        sampling,
                        has_huffman_tables,
                        restart_interval,
                        restart_interval_at,
                        height_at,
                        is_odd,
                        scan_marker: segment.start,
                        scan_data: segment.payload.end,
                    });
                }
                EOI => return Err(HeaderError::NoScan),
                SOI => return Err(HeaderError::SecondStart(segment.start)),
                SOF2 => return Err(HeaderError::Progressive),
                SOF0..=SOF15 if segment.marker != JPG => return Err(HeaderError::Coding),
                _ => {}
            }
            at = segment.payload.end;
        }
        Err(HeaderError::TooLong)
    }

    /// The number of restart markers in its scan; `None` for samplings that are not split.
    pub(super) fn restarts(&self) -> Option<usize> {
        let (width, height) = self.sampling.mcu()?;
        let mcus = self.size.width.div_ceil(width) * self.size.height.div_ceil(height);
        let intervals = mcus.div_ceil(usize::from(self.restart_interval).max(1));
        Some(if self.restart_interval == 0 { 0 } else { intervals - 1 })
    }

    /// Replaces odd header values with the usual ones, so that decoders do not warn.
    pub(super) fn correct_oddities(&self, bytes: &mut [u8]) {
        let mut at = 2;
        while self.is_odd && at < self.scan_data {
            let Ok(segment) = segment_at(bytes, at) else { return };
            let payload = segment.payload.clone();
            while let Some((offset, usual)) = odd_byte(&segment, &bytes[payload.clone()]) {
                bytes[payload.start + offset] = usual;
            }
            at = payload.end;
        }
    }

    /// The length of the frame `bytes`, including its end marker; `None` if the bytes end before
    /// it.
    ///
    /// An accepted frame has one scan, so any other marker in or after its coded data is damage,
    /// and the decoder must not read on from there.
    pub(super) fn end(&self, bytes: &[u8]) -> Result<Option<usize>, Interrupted> {
        let Some(at) = scan_end(bytes, self.scan_data) else { return Ok(None) };
        if bytes[at + 1] == EOI { Ok(Some(at + 2)) } else { Err(Interrupted(at)) }
    }
}

/// The coded data breaks off at this byte, for example where another frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the JPEG's coded data breaks off at byte {0}")]
pub struct Interrupted(pub usize);

/// Why a frame's header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame does not begin with `FF D8`.
    #[error("not a JPEG: it does not begin with FF D8")]
    NotAJpeg,
    /// The frame ends within its header.
    #[error("the JPEG ends within its header")]
    Truncated,
    /// There is no marker where one is required.
    #[error("the JPEG has no marker at byte {0}")]
    NoMarker(usize),
    /// Another JPEG begins within the header.
    #[error("another JPEG begins at byte {0}, within the header of the first")]
    SecondStart(usize),
    /// The frame has no picture.
    #[error("the JPEG has no scan")]
    NoScan,
    /// Progressive coding, which takes too long to decode.
    #[error("the JPEG is progressive; only baseline is accepted")]
    Progressive,
    /// Lossless, hierarchical or arithmetic coding.
    #[error("the JPEG is neither baseline nor extended with Huffman coding")]
    Coding,
    /// A segment is malformed.
    #[error("the JPEG has a malformed header segment")]
    Malformed,
    /// A quantization table is missing. Frames may not rely on those of earlier frames.
    #[error("the JPEG has no quantization tables of its own")]
    NoQuantization,
    /// Not 8 bits a sample.
    #[error("the JPEG has {0} bits a sample; only 8 are accepted")]
    Precision(u8),
    /// Neither one nor three components.
    #[error("the JPEG has {0} components; only 1 or 3 are accepted")]
    Components(u8),
    /// Too many bytes or segments before the scan.
    #[error("the JPEG's header has more than {MAX_HEADER_LEN} bytes or {MAX_SEGMENTS} segments")]
    TooLong,
    /// A size beyond the limits.
    #[error(
        "the JPEG is {0}x{1}; each side must be {MIN_SIDE} to {MAX_SIDE} pixels, \
         and at most {MAX_PIXELS} in all"
    )]
    Size(usize, usize),
    /// Fewer bytes than a picture of this size needs at least.
    #[error("the JPEG claims to be {0}x{1}, but is too short for that")]
    TooShort(usize, usize),
}

impl HeaderError {
    /// Whether it may be a valid JPEG for decoders that support more.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Progressive | Self::Coding | Self::Components(_) | Self::TooLong | Self::Size(..)
        )
    }

    /// Whether the header is malformed for any decoder.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::NotAJpeg
            | Self::Truncated
            | Self::NoMarker(_)
            | Self::SecondStart(_)
            | Self::NoScan
            | Self::Malformed
            | Self::NoQuantization => true,
            Self::Progressive
            | Self::Coding
            | Self::Precision(_)
            | Self::Components(_)
            | Self::TooLong
            | Self::Size(..)
            | Self::TooShort(..) => false,
        }
    }

    /// For a frame of which `len` bytes are available.
    fn of_walk(error: WalkError, len: usize) -> Self {
        match error {
            WalkError::Truncated if len > MAX_HEADER_LEN => Self::TooLong,
            WalkError::Truncated => Self::Truncated,
            WalkError::NotAMarker(at) => Self::NoMarker(at),
        }
    }
}

/// The first odd but harmless byte in a segment's payload: its offset and the usual value.
fn odd_byte(segment: &Segment, payload: &[u8]) -> Option<(usize, u8)> {
    match (segment.marker, payload) {
        // The only major version of JFIF is 1.
        (APP0, &[b'J', b'F', b'I', b'F', 0, version, ..])
            if version != 1 && payload.len() >= JFIF_LEN =>
        {
            Some((5, 1))
        }
        // Data with an unknown transform is treated as YCbCr.
        (APP14, &[b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..])
            if transform > 2 =>
        {
            Some((11, 1))
        }
        // A scan that is not progressive has all coefficients, whatever these bytes say.
        (SOS, &[.., first, last, bits]) => {
            let said = [first, last, bits].into_iter().zip([0, 63, 0]).enumerate();
            let mut odd = said.filter(|(_, (said, usual))| said != usual);
            odd.next().map(|(i, (_, usual))| (payload.len() - 3 + i, usual))
        }
        _ => None,
    }
}

/// The content of the frame header segment (SOF).
struct Frame {
    size: Size,
    sampling: Sampling,
    components: u8,
    /// A bit for each quantization table that its components use.
    wanted_tables: u8,
}

impl Frame {
    fn parse(payload: &[u8]) -> Result<Self, HeaderError> {
        let &[precision, h1, h0, w1, w0, components, ref rest @ ..] = payload else {
            return Err(HeaderError::Malformed);
        };
        if precision != 8 {
            return Err(HeaderError::Precision(precision));
        }
        if components != 1 && components != 3 {
            return Err(HeaderError::Components(components));
        }
        let number = |high, low| usize::from(u16::from_be_bytes([high, low]));
        let (width, height) = (number(w1, w0), number(h1, h0));
        let size = Size::new(width, height).map_err(|_| HeaderError::Size(width, height))?;
        let sampling = sampling(components, rest)?;
        let named = rest.chunks_exact(3).map(|component| component[2]);
        let wanted_tables = named.map(table_bit).try_fold(0, |all, bit| Ok(all | bit?))?;
        Ok(Self { size, sampling, components, wanted_tables })
    }
}

/// The tables that a quantization segment (DQT) defines, a bit each.
fn quantization_tables(mut payload: &[u8]) -> Result<u8, HeaderError> {
    let mut defined = 0;
    while let Some((&kind, rest)) = payload.split_first() {
        let len = match kind >> 4 {
            0 => 64,
            1 => 128,
            _ => return Err(HeaderError::Malformed),
        };
        defined |= table_bit(kind & 15)?;
        payload = rest.get(len..).ok_or(HeaderError::Malformed)?;
    }
    Ok(defined)
}

/// The bit of one of the four tables.
fn table_bit(table: u8) -> Result<u8, HeaderError> {
    if table < 4 { Ok(1 << table) } else { Err(HeaderError::Malformed) }
}

/// `specs` has three bytes a component: its id, its sampling factors, its quantization table.
fn sampling(components: u8, specs: &[u8]) -> Result<Sampling, HeaderError> {
    if specs.len() != 3 * usize::from(components) {
        return Err(HeaderError::Malformed);
    }
    let factors: Vec<(u8, u8)> = specs.chunks_exact(3).map(|c| (c[1] >> 4, c[1] & 15)).collect();
    if !factors.iter().all(|&(h, v)| (1..=4).contains(&h) && (1..=4).contains(&v)) {
        return Err(HeaderError::Malformed);
    }
    Ok(match factors[..] {
        [_] => Sampling::Gray,
        [(2, 2), (1, 1), (1, 1)] => Sampling::S420,
        [(2, 1), (1, 1), (1, 1)] => Sampling::S422,
        [(1, 1), (1, 1), (1, 1)] => Sampling::S444,
        _ => Sampling::Other,
    })
}

/// Parses a restart interval (DRI). The last one before the scan takes effect, as in every decoder.
fn parse_restart_interval(payload: &[u8]) -> Result<u16, HeaderError> {
    let payload = payload.try_into().map_err(|_| HeaderError::Malformed)?;
    Ok(u16::from_be_bytes(payload))
}

fn check_scan(bytes: &[u8], scan: &Segment, size: Size, components: u8) -> Result<(), HeaderError> {
    if bytes[scan.payload.clone()].first() != Some(&components) {
        return Err(HeaderError::Coding);
    }
    let blocks = size.width.div_ceil(8) * size.height.div_ceil(8);
    if (bytes.len() - scan.payload.end) * 8 < blocks * MIN_BITS_PER_BLOCK {
        return Err(HeaderError::TooShort(size.width, size.height));
    }
    Ok(())
}

/// The picture's height in the payload of a frame header (SOF).
pub(super) const FRAME_HEIGHT: std::ops::Range<usize> = 1..3;

/// The maximum length before the coded data, in bytes. Webcams that hide another stream in their
/// JPEGs have some 100 KB there. The header is parsed again with each piece of an arriving frame.
pub(super) const MAX_HEADER_LEN: usize = 1 << 20;

/// The shortest JFIF segment, in bytes.
const JFIF_LEN: usize = 14;

/// A camera writes about ten. libjpeg keeps a record of each, whatever its length.
pub(super) const MAX_SEGMENTS: usize = 256;

/// A block of 8x8 has a DC code and an end-of-block code, of at least one bit each.
const MIN_BITS_PER_BLOCK: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{
        image::{Image, PixelFormat},
        jpeg::{Encoder, Strips},
    };
    use proptest::prelude::*;

    fn encoded(format: PixelFormat) -> Vec<u8> {
        let mut jpeg = Vec::new();
        let image = Image::blank(48, 32, format);
        Encoder::new(50, Strips::Auto).encode(&image, &mut jpeg).expect("encodes");
        jpeg
    }

    /// The position of the payload of the frame header.
    fn frame_header(jpeg: &[u8]) -> usize {
        jpeg.windows(2).position(|w| w == [0xFF, SOF0]).expect("baseline") + 4
    }

    #[test]
    fn each_sampling_is_recognized() {
        let cases = [
            (PixelFormat::Bgr, Sampling::S420),
            (PixelFormat::Gray, Sampling::Gray),
            (PixelFormat::Yuv420, Sampling::S420),
            (PixelFormat::Yuv422, Sampling::S422),
            (PixelFormat::Yuv444, Sampling::S444),
        ];
        for (format, sampling) in cases {
            let header = Header::parse(&encoded(format)).expect("our own");
            assert_eq!(header.sampling, sampling);
            assert_eq!(header.size, Size { width: 48, height: 32 });
            assert!(header.has_huffman_tables);
        }
    }

    #[test]
    fn unsupported_headers_are_refused() {
        let good = encoded(PixelFormat::Yuv420);
        let at = frame_header(&good);
        let with = |offset: usize, value: &[u8]| {
            let mut bad = good.clone();
            bad[at + offset..][..value.len()].copy_from_slice(value);
            Header::parse(&bad).expect_err("must be refused")
        };
        assert_eq!(with(0, &[12]), HeaderError::Precision(12));
        assert_eq!(with(1, &[0, 8]), HeaderError::Size(48, 8));
        assert_eq!(with(3, &[0xFF, 0xFF]), HeaderError::Size(65535, 32));
        assert_eq!(with(1, &[0x20, 0, 0x10, 0]), HeaderError::TooShort(4096, 8192));
        assert_eq!(with(1, &[0x20, 0, 0x20, 0]), HeaderError::Size(8192, 8192));
        assert_eq!(with(5, &[4]), HeaderError::Components(4));
        assert_eq!(with(7, &[0x50]), HeaderError::Malformed);
        assert_eq!(Header::parse(b"GIF89a"), Err(HeaderError::NotAJpeg));
        assert_eq!(Header::parse(&[0xFF, SOI, 0xFF, EOI]), Err(HeaderError::NoScan));
        let second = [&[0xFF, SOI], &good[..]].concat();
        assert_eq!(Header::parse(&second), Err(HeaderError::SecondStart(2)));
    }

    #[test]
    fn the_last_restart_interval_counts() {
        let good = encoded(PixelFormat::Yuv420);
        let header = Header::parse(&good).expect("our own");
        assert_eq!(header.restart_interval, 0);
        assert_eq!(good[header.height_at..][..2], [0, 32]);
        let with = |segments: &[u8]| {
            let (head, scan) = good.split_at(header.scan_marker);
            Header::parse(&[head, segments, scan].concat()).map(|h| h.restart_interval)
        };
        assert_eq!(with(&[0xFF, DRI, 0, 4, 1, 2, 0xFF, DRI, 0, 4, 0, 3]), Ok(3));
        assert_eq!(with(&[0xFF, DRI, 0, 3, 1]), Err(HeaderError::Malformed));
        assert_eq!(with(&[0xFF, DRI, 0, 5, 0, 1, 0]), Err(HeaderError::Malformed));
    }

    #[test]
    fn oversized_headers_are_refused() {
        let good = encoded(PixelFormat::Yuv420);
        let with = |segments: &[u8]| {
            let (start, rest) = good.split_at(2);
            Header::parse(&[start, segments, rest].concat()).map(|header| header.size)
        };
        let size = Ok(Size { width: 48, height: 32 });
        let note = [0xFF, 0xE2, 0, 2];
        assert_eq!(with(&note.repeat(MAX_SEGMENTS / 2)), size);
        assert_eq!(with(&note.repeat(MAX_SEGMENTS)), Err(HeaderError::TooLong));
        let long = [vec![0xFF, 0xE2, 0xFF, 0xFF], vec![7; 0xFFFF - 2]].concat();
        assert_eq!(with(&long.repeat(MAX_HEADER_LEN / long.len() - 1)), size);
        assert_eq!(with(&long.repeat(MAX_HEADER_LEN / long.len() + 1)), Err(HeaderError::TooLong));
        assert_eq!(with(&vec![0xFF; MAX_HEADER_LEN / 2]), size, "fill bytes");
        assert_eq!(with(&vec![0xFF; MAX_HEADER_LEN]), Err(HeaderError::TooLong));
    }

    #[test]
    fn a_frame_ends_only_at_its_end_marker() {
        let good = encoded(PixelFormat::Yuv420);
        let header = Header::parse(&good).expect("our own");
        let (all, before) = (good.len(), good.len() - 2);
        assert_eq!(header.end(&good), Ok(Some(all)));
        assert_eq!(header.end(&[&good[..], &[1; 9]].concat()), Ok(Some(all)));
        assert_eq!(header.end(&good[..before]), Ok(None));
        for marker in [SOS, DHT, DRI, 0xE2, SOI, 0xDC] {
            let more = [&good[..before], &[0xFF, marker, 0, 2, 0xFF, EOI]].concat();
            assert_eq!(header.end(&more), Err(Interrupted(before)));
        }
    }

    #[test]
    fn a_frame_needs_its_own_quantization_tables() {
        let good = encoded(PixelFormat::Yuv420);
        let at = good.windows(2).position(|w| w == [0xFF, DQT]).expect("has some");
        let with = |offset: usize, value: u8| {
            let mut bad = good.clone();
            bad[at + offset] = value;
            Header::parse(&bad)
        };
        assert_eq!(with(1, 0xFE), Err(HeaderError::NoQuantization), "a comment in their place");
        assert_eq!(with(4, 2), Err(HeaderError::NoQuantization), "another number");
        assert_eq!(with(4, 4), Err(HeaderError::Malformed));
        assert_eq!(with(4, 0x10), Err(HeaderError::Malformed), "of 128 bytes");
        let mut bad = good.clone();
        bad[frame_header(&good) + 8] = 3;
        assert_eq!(Header::parse(&bad), Err(HeaderError::NoQuantization), "a missing one");
    }

    #[test]
    fn progressive_and_lossless_are_refused() {
        let good = encoded(PixelFormat::Yuv420);
        let at = frame_header(&good) - 3;
        for (marker, error) in [(SOF2, HeaderError::Progressive), (0xC3, HeaderError::Coding)] {
            let mut bad = good.clone();
            bad[at] = marker;
            assert_eq!(Header::parse(&bad), Err(error));
        }
    }

    #[test]
    fn every_truncation_of_the_header_is_an_error() {
        let good = encoded(PixelFormat::Yuv422);
        let end = Header::parse(&good).expect("our own").scan_data;
        for len in 0..end {
            Header::parse(&good[..len]).expect_err("truncated");
        }
    }

    #[test]
    fn harmless_header_oddities_are_corrected() {
        let good = encoded(PixelFormat::Yuv420);
        assert!(!Header::parse(&good).expect("our own").is_odd);
        let jfif = good.windows(5).position(|w| w == b"JFIF\0").expect("has one");
        let adobe = [&[0xFF, APP14, 0, 14], &b"Adobe\0\x64\0\0\0\0\x01"[..]].concat();
        let good = [&good[..2], &adobe, &good[2..]].concat();
        let (jfif, transform, scan) =
            (jfif + adobe.len(), 2 + 4 + 11, Header::parse(&good).expect("good").scan_data);
        for (at, odd) in [
            (jfif + 5, 2),
            (jfif + 5, 0),
            (transform, 7),
            (scan - 3, 1),
            (scan - 2, 0),
            (scan - 1, 9),
        ] {
            let mut frame = good.clone();
            frame[at] = odd;
            let header = Header::parse(&frame).expect("still accepted");
            assert!(header.is_odd, "{at}");
            header.correct_oddities(&mut frame);
            assert!(frame == good, "{at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let bytes = [&[0xFF, SOI, 0xFF][..], &tail].concat();
            let _ = Header::parse(&bytes);
            let _ = Header::parse(&tail);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0_usize..600, value: u8) {
            let mut bytes = encoded(PixelFormat::Yuv420);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = Header::parse(&bytes);
        }
    }
}
