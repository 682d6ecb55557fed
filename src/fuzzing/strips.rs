//! Our own frames, decoded in strips, whole, and with gaps.

use std::ops::Range;

use arbitrary::{Result, Unstructured};

use crate::video::{
    image::{Image, PixelFormat, Size},
    jpeg::{Decoder, Encoder, Header, MAX_STRIPS, OutputFormat, Strips},
};

/// The bytes select the picture, its encoding, and the lost parts of the frame.
pub fn strips(bytes: &[u8]) {
    // No error ends this early: once the bytes run out, zeros are read.
    let _ = round_trip(&mut Unstructured::new(bytes));
}

fn round_trip(ops: &mut Unstructured<'_>) -> Result<()> {
    let image = image(ops)?;
    let (quality, count) = (ops.int_in_range(1..=100)?, ops.int_in_range(1..=MAX_STRIPS)?);
    let mut encoder = Encoder::alone(quality, Strips::Count(count));
    encoder.set_gray(ops.ratio(1, 8)?);
    let (mut frame, mut joined) = (Vec::new(), Vec::new());
    encoder.encode(&image, &mut frame).expect("any image can be encoded");
    let again = encoder.encode_strips(&image, |_, strip| joined.extend_from_slice(strip));
    assert!(again.is_ok() && joined == frame, "strips one after another are the frame");
    let header = Header::parse(&frame).expect("our own frames are acceptable");
    assert_eq!((header.size, header.has_huffman_tables), (image.size(), true));

    let mut decoder = Decoder::alone();
    let (mut whole, mut split) = (Image::empty(), Image::empty());
    decoder.decode_whole(&frame, OutputFormat::Planar, &mut whole).expect("a JPEG");
    decoder.decode(&frame, OutputFormat::Planar, &mut split).expect("a JPEG");
    assert!(split == whole, "decoding in strips changes the picture");
    let present = present(ops, frame.len(), header.scan_data)?;
    conceal_gaps(&mut decoder, &mut frame, &present);
    Ok(())
}

/// Overwrites the parts of the frame outside `present`, and conceals them. Each row must then show
/// the frame or the previous contents, except with 4:2:0, whose chroma is interpolated across rows.
fn conceal_gaps(decoder: &mut Decoder, frame: &mut [u8], present: &[Range<usize>]) {
    let mut whole = Image::empty();
    decoder.decode_whole(frame, OutputFormat::Bgr, &mut whole).expect("a JPEG");
    for (at, byte) in frame.iter_mut().enumerate() {
        if !present.iter().any(|range| range.contains(&at)) {
            *byte = 0xa5;
        }
    }
    let Size { width, height } = whole.size();
    let before = Image::new(width, height, PixelFormat::Bgr, vec![BEFORE; 3 * width * height]);
    let mut after = before.clone();
    let concealed = decoder.conceal(frame, present, &mut after);
    assert!(concealed.shown <= concealed.of, "{concealed:?}");
    assert!(concealed.shown > 0 || after == before, "nothing shown, nothing changed");
    let is_sharp =
        Header::parse(frame).is_ok_and(|h| h.sampling != crate::video::jpeg::Sampling::S420);
    if is_sharp {
        let rows = after.data.chunks_exact(3 * width).zip(whole.data.chunks_exact(3 * width));
        for (row, expected) in rows {
            assert!(row == expected || row.iter().all(|&byte| byte == BEFORE), "a mixed-up row");
        }
    }
}

/// Mostly small images; the others are large enough to be decoded in strips.
fn image(ops: &mut Unstructured<'_>) -> Result<Image> {
    let width = ops.int_in_range(16..=400)?;
    let is_large = width > 150 && ops.ratio(1, 24)?;
    let height = if is_large {
        100_000_usize.div_ceil(width) + ops.int_in_range(0..=20)?
    } else {
        ops.int_in_range(16..=70)?
    };
    let format = *ops.choose(&[
        PixelFormat::Bgr,
        PixelFormat::Gray,
        PixelFormat::Yuv420,
        PixelFormat::Yuv422,
        PixelFormat::Yuv444,
    ])?;
    let len = ops.int_in_range(0..=48)?;
    let texture = [&[128, 96], ops.bytes(len.min(ops.len()))?].concat();
    let mut data = Vec::new();
    while data.len() < format.data_len(width, height) {
        data.extend_from_slice(&texture);
    }
    data.truncate(format.data_len(width, height));
    Ok(Image::new(width, height, format, data))
}

/// The ranges of a frame of `len` bytes that remain outside a few gaps. Most frames' gaps spare the
/// header.
fn present(ops: &mut Unstructured<'_>, len: usize, scan_data: usize) -> Result<Vec<Range<usize>>> {
    let from = if ops.ratio(7, 8)? { scan_data } else { 0 };
    let mut gaps = Vec::new();
    for _ in 0..ops.int_in_range(1..=4)? {
        let start = ops.int_in_range(from..=len)?;
        gaps.push(start..(start + ops.int_in_range(1..=400)?).min(len));
    }
    gaps.sort_by_key(|gap| gap.start);
    let (mut start, mut present) = (0, Vec::new());
    for gap in gaps {
        if start < gap.start {
            present.push(start..gap.start);
        }
        start = start.max(gap.end);
    }
    present.extend((start < len).then_some(start..len));
    Ok(present)
}

const BEFORE: u8 = 0x11;
