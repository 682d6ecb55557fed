use super::{
    super::{
        Encoder, Strips,
        marker::RST0,
        tests::{texture, textured},
    },
    *,
};
use proptest::prelude::*;

fn decoded(frame: &[u8], want: OutputFormat) -> Image {
    let mut image = Image::empty();
    Decoder::new().decode(frame, want, &mut image).expect("decodes");
    image
}

/// A picture without edges, which JPEG hardly changes.
fn smooth(width: usize, height: usize, format: PixelFormat) -> Image {
    let mut image = Image::blank(width, height, format);
    image.data.fill(140);
    for (i, value) in image.data[..width * height].iter_mut().enumerate() {
        *value = (60 + i % width + i / width) as u8;
    }
    image
}

fn largest_difference(a: &Image, b: &Image) -> u8 {
    assert_eq!((a.size(), a.format), (b.size(), b.format));
    a.data.iter().zip(&b.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn planes_survive_encoding_at_odd_and_even_sizes() {
    use PixelFormat::{Gray, Yuv420, Yuv422, Yuv444};
    for (width, height) in [(32, 32), (33, 32), (32, 33), (35, 17), (16, 16)] {
        for format in [Gray, Yuv420, Yuv422, Yuv444] {
            let image = smooth(width, height, format);
            let mut frame = Vec::new();
            Encoder::new(100, Strips::Auto).encode(&image, &mut frame).expect("encodes");
            let difference = largest_difference(&decoded(&frame, OutputFormat::Planar), &image);
            assert!(difference <= 2, "{width}x{height} {format:?}: {difference}");
        }
    }
}

#[test]
fn red_and_blue_are_not_swapped() {
    let blue = Image::new(16, 16, PixelFormat::Bgr, [250, 20, 10].repeat(256));
    let mut frame = Vec::new();
    Encoder::new(95, Strips::Auto).encode(&blue, &mut frame).expect("encodes");
    assert!(largest_difference(&decoded(&frame, OutputFormat::Bgr), &blue) < 6);
    let planes = decoded(&frame, OutputFormat::Planar);
    assert!(largest_difference(&planes.to_bgr(), &blue) < 6);
}

#[test]
fn gray_encoding_yields_one_component_from_any_format() {
    for format in [PixelFormat::Bgr, PixelFormat::Yuv420, PixelFormat::Gray] {
        let mut encoder = Encoder::new(80, Strips::Auto);
        encoder.set_gray(true);
        let mut frame = Vec::new();
        encoder.encode(&texture(40, 24, format), &mut frame).expect("encodes");
        assert_eq!(decoded(&frame, OutputFormat::Planar).format, PixelFormat::Gray);
        assert_eq!(decoded(&frame, OutputFormat::Bgr).format, PixelFormat::Bgr);
    }
}

#[test]
fn a_higher_quality_yields_a_longer_frame() {
    let image = texture(320, 240, PixelFormat::Yuv420);
    let (mut encoder, mut low, mut high) = (Encoder::new(20, Strips::Auto), Vec::new(), Vec::new());
    encoder.encode(&image, &mut low).expect("encodes");
    encoder.set_quality(90);
    encoder.encode(&image, &mut high).expect("encodes");
    assert!(low.len() * 2 < high.len());
}

#[test]
fn decoding_while_a_frame_arrives_yields_the_same_image() {
    let image = texture(640, 480, PixelFormat::Yuv420);
    for (strips, want) in
        [(4, OutputFormat::Bgr), (8, OutputFormat::Planar), (1, OutputFormat::Bgr)]
    {
        let mut frame = Vec::new();
        Encoder::new(80, Strips::Count(strips)).encode(&image, &mut frame).expect("encodes");
        let mut decoder = Decoder::with_threads(2);
        let (mut ahead, mut arriving) = (PartialDecode::default(), Image::empty());
        for end in (0..frame.len()).step_by(997) {
            decoder.decode_ahead(&mut ahead, &frame[..end], want, &mut arriving);
        }
        assert_eq!(ahead.done, strips - 1, "all but the last");
        decoder.decode_rest(ahead, &frame, want, &mut arriving).expect("decodes");
        let mut at_once = Image::empty();
        decoder.decode(&frame, want, &mut at_once).expect("decodes");
        assert!(arriving == at_once, "{strips} {want:?}");
    }
}

/// Removes data from the first strip. libjpeg ignores bad codes where there are no markers, but
/// always reports missing data.
fn cut_short_the_first_strip(frame: &mut Vec<u8>) {
    let start = Header::parse(frame).expect("ours").scan_data;
    let len = frame[start..].windows(2).position(|pair| pair == [0xFF, 0xD0]);
    frame.drain(start + 40..start + len.expect("has several"));
}

#[test]
fn damage_found_while_decoding_ahead_fails_the_frame() {
    let image = texture(640, 480, PixelFormat::Yuv420);
    let (mut frame, mut ahead, mut arriving) =
        (Vec::new(), PartialDecode::default(), Image::empty());
    Encoder::new(80, Strips::Count(4)).encode(&image, &mut frame).expect("encodes");
    cut_short_the_first_strip(&mut frame);
    let mut decoder = Decoder::with_threads(2);
    decoder.decode_ahead(&mut ahead, &frame[..frame.len() / 2], OutputFormat::Bgr, &mut arriving);
    assert!(ahead.error.is_some(), "{ahead:?}");
    decoder.decode_rest(ahead, &frame, OutputFormat::Bgr, &mut arriving).expect_err("damaged");
}

#[test]
fn complete_strips_of_a_partial_frame_replace_the_old_ones() {
    let image = texture(640, 480, PixelFormat::Yuv420);
    let (mut frame, mut whole) = (Vec::new(), Image::empty());
    Encoder::new(80, Strips::Count(8)).encode(&image, &mut frame).expect("encodes");
    let mut decoder = Decoder::with_threads(4);
    decoder.decode(&frame, OutputFormat::Bgr, &mut whole).expect("decodes");
    let before = Image::new(640, 480, PixelFormat::Bgr, vec![9; whole.data.len()]);
    let header = Header::parse(&frame).expect("ours").scan_data;
    for start in (header..frame.len()).step_by(611) {
        let end = frame.len().min(start + 1300);
        let mut damaged = frame.clone();
        damaged[start..end].fill(0x55);
        let mut picture = before.clone();
        let concealed = decoder.conceal(&damaged, &[0..start, end..frame.len()], &mut picture);
        let strips = |of: &Image| of.data.chunks(64 * 640 * 3).map(<[u8]>::to_vec).collect();
        let [now, new, old]: [Vec<Vec<u8>>; 3] = [&picture, &whole, &before].map(strips);
        let shown_new = now.iter().zip(&new).filter(|(a, b)| a == b).count();
        let shown_old = now.iter().zip(&old).filter(|(a, b)| a == b).count();
        assert_eq!((shown_new, shown_new + shown_old), (concealed.shown, 8), "{start}");
        assert!((5..8).contains(&concealed.shown), "{start}: {concealed:?}");
    }
}

#[test]
fn concealment_needs_a_header_and_an_image_of_the_same_size() {
    let image = texture(640, 480, PixelFormat::Yuv420);
    let (mut frame, mut decoder) = (Vec::new(), Decoder::with_threads(2));
    Encoder::new(80, Strips::Count(4)).encode(&image, &mut frame).expect("encodes");
    let header = Header::parse(&frame).expect("ours").scan_data;
    let (all, but_one) = (0..frame.len(), 1..frame.len());
    for (width, present) in [
        (640, vec![]),
        (640, vec![but_one]),
        (640, vec![0..header - 1, header..frame.len()]),
        (480, vec![all.clone()]),
    ] {
        let mut picture = Image::blank(width, 480, PixelFormat::Bgr);
        let before = picture.clone();
        assert_eq!(decoder.conceal(&frame, &present, &mut picture).shown, 0);
        assert!(picture == before);
    }
    let mut picture = Image::blank(640, 480, PixelFormat::Bgr);
    let everything = Concealed { shown: 4, of: 4 };
    assert_eq!(decoder.conceal(&frame, &[all], &mut picture), everything);
}

#[test]
fn a_damaged_strip_of_a_partial_frame_is_not_shown() {
    let image = texture(640, 480, PixelFormat::Yuv420);
    let (mut frame, mut decoder) = (Vec::new(), Decoder::with_threads(2));
    Encoder::new(80, Strips::Count(4)).encode(&image, &mut frame).expect("encodes");
    cut_short_the_first_strip(&mut frame);
    let mut picture = Image::new(640, 480, PixelFormat::Bgr, vec![9; 640 * 480 * 3]);
    let there = 0..frame.len() - 50;
    let concealed = decoder.conceal(&frame, &[there], &mut picture);
    assert_eq!(concealed, Concealed { shown: 2, of: 4 }, "neither the first nor the last");
    assert!(picture.data[..640 * 3].iter().all(|&byte| byte == 9));
}

#[test]
fn a_truncated_frame_with_an_end_marker_is_an_error() {
    let frame = textured(320, 240, PixelFormat::Yuv420);
    let damaged = [&frame[..frame.len() / 2], &[0xFF, 0xD9]].concat();
    let mut image = Image::empty();
    let result = Decoder::new().decode(&damaged, OutputFormat::Bgr, &mut image);
    assert!(matches!(result, Err(JpegError::Codec(_))), "{result:?}");
}

#[test]
fn unusual_samplings_are_decoded_as_444() {
    let mut compressor = turbojpeg::Compressor::new().expect("memory");
    compressor.set_subsamp(turbojpeg::Subsamp::Sub1x2).expect("valid");
    let pixels = [90_u8, 120, 60].repeat(32 * 32);
    let format = turbojpeg::PixelFormat::BGR;
    let image = turbojpeg::Image { pixels: &pixels[..], width: 32, pitch: 96, height: 32, format };
    let frame = compressor.compress_to_vec(image).expect("encodes");
    let planes = decoded(&frame, OutputFormat::Planar);
    assert_eq!(planes.format, PixelFormat::Yuv444);
    assert_eq!(planes.to_bgr().size(), planes.size());
}

/// A baseline JPEG with these sampling factors and flat colours: a DC value in the first block of
/// each component, and no other coefficient.
fn flat(width: u16, height: u16, factors: &[(u8, u8)], values: &[i16]) -> Vec<u8> {
    let segment = |marker: u8, payload: &[u8]| {
        [&[0xFF, marker], &(payload.len() as u16 + 2).to_be_bytes()[..], payload].concat()
    };
    let count = factors.len() as u8;
    let size = [height.to_be_bytes(), width.to_be_bytes()].concat();
    let mut frame = [&[8], &size[..], &[count]].concat();
    let mut scan = vec![count];
    for (i, (h, v)) in factors.iter().enumerate() {
        frame.extend([i as u8 + 1, h << 4 | v, 0]);
        scan.extend([i as u8 + 1, 0]);
    }
    scan.extend([0, 63, 0]);
    // DC differences of size 0 and 8 have the codes 0 and 10; the end of a block has the code 0.
    let dc_table = [&[0, 1, 1][..], &[0; 14], &[0, 8]].concat();
    let ac_table = [&[0x10, 1][..], &[0; 15], &[0]].concat();
    let (widest, highest) = factors.iter().fold((1, 1), |a, f| (a.0.max(f.0), a.1.max(f.1)));
    let mcus = usize::from(width.div_ceil(8 * u16::from(widest)))
        * usize::from(height.div_ceil(8 * u16::from(highest)));
    let mut bits = String::new();
    for mcu in 0..mcus {
        for (&(h, v), &value) in factors.iter().zip(values) {
            for block in 0..h * v {
                match (mcu, block) {
                    (0, 0) => bits.extend(["10", &format!("{value:08b}"), "0"]),
                    _ => bits += "00",
                }
            }
        }
    }
    bits.extend(std::iter::repeat_n('1', bits.len().next_multiple_of(8) - bits.len()));
    let bytes = bits.as_bytes().chunks(8);
    let data: Vec<u8> =
        bytes.map(|byte| byte.iter().fold(0, |all, bit| all << 1 | (bit - b'0'))).collect();
    assert!(!data.contains(&0xFF), "needs no stuffing");
    let quantization = [&[0], &[8; 64][..]].concat();
    [
        &[0xFF, 0xD8][..],
        &segment(0xDB, &quantization),
        &segment(0xC0, &frame),
        &segment(0xC4, &dc_table),
        &segment(0xC4, &ac_table),
        &segment(0xDA, &scan),
        &data,
        &[0xFF, 0xD9],
    ]
    .concat()
}

/// Everything that libjpeg can decode is shown, even samplings that no [`PixelFormat`] represents.
#[test]
fn every_sampling_that_libjpeg_decodes_is_decoded() {
    let samplings: [&[(u8, u8)]; 10] = [
        &[(2, 2), (1, 1), (1, 2)],
        &[(2, 2), (1, 2), (1, 1)],
        &[(1, 1), (2, 2), (1, 1)],
        &[(2, 1), (1, 1), (2, 1)],
        &[(2, 2), (2, 2), (1, 1)],
        &[(4, 2), (1, 1), (1, 1)],
        &[(1, 4), (1, 1), (1, 1)],
        &[(1, 1), (1, 1), (2, 2)],
        &[(2, 2), (2, 1), (2, 1)],
        &[(3, 1), (1, 1), (1, 1)],
    ];
    for factors in samplings {
        // Each unit of DC adds one level to 128, so all components are at their maximum: pink.
        let frame = flat(65, 43, factors, &[160, 128, 200]);
        assert_eq!(crate::video::jpeg::normalize(&mut frame.clone()), Ok(()), "{factors:?}");
        for want in [OutputFormat::Bgr, OutputFormat::Planar] {
            let picture = decoded(&frame, want);
            let [b, g, r] = match want {
                OutputFormat::Bgr => picture.data[..3].try_into().expect("a pixel"),
                OutputFormat::Planar => picture.to_bgr().data[..3].try_into().expect("a pixel"),
            };
            assert!(r > 230 && g < 200 && b > 100, "{factors:?} {want:?}: {b} {g} {r}");
        }
    }
}

proptest! {
    #[test]
    fn damaged_frames_never_panic(at in 0_usize..20_000, value: u8, want_bgr: bool) {
        let mut frame = textured(64, 48, PixelFormat::Yuv420);
        let at = at % frame.len();
        frame[at] = value;
        let want = if want_bgr { OutputFormat::Bgr } else { OutputFormat::Planar };
        let _ = Decoder::new().decode(&frame, want, &mut Image::empty());
    }
}

/// `frame`, which has restart markers, with `len` surplus bytes at the start of this interval.
fn lopsided(frame: &[u8], interval: u8, len: usize) -> Vec<u8> {
    let scan = Header::parse(frame).expect("ours").scan_data;
    let at = interval.checked_sub(1).map_or(0, |before| {
        let marker = [0xFF, RST0 + before];
        2 + frame[scan..].windows(2).position(|bytes| bytes == marker).expect("a marker")
    });
    [&frame[..scan + at], &vec![1; len], &frame[scan + at..]].concat()
}

#[test]
fn strip_buffers_are_bounded_after_lopsided_frames() {
    let mut frame = Vec::new();
    let image = texture(512, 256, PixelFormat::Yuv420);
    Encoder::new(80, Strips::Count(4)).encode(&image, &mut frame).expect("encodes");
    let (mut decoder, mut image) = (Decoder::with_threads(4), Image::empty());
    for interval in 0..4 {
        let frame = lopsided(&frame, interval, MAX_JPEG_LEN * 7 / 8);
        assert!(decoder.decode(&frame, OutputFormat::Bgr, &mut image).is_err());
        let room: usize = decoder.work.strips.iter().map(|strip| strip.jpeg.capacity()).sum();
        assert!(room <= MAX_ROOM, "{room} after {interval}");
    }
    assert_eq!(decoder.work.strips.len(), 4);
    decoder.decode(&frame, OutputFormat::Bgr, &mut image).expect("decodes");
}
