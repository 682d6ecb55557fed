//! Encoding and decoding in strips: what must be equal, and what must be refused.

use std::{io::Write, process::Command};

use proptest::prelude::*;
use turbojpeg::Subsamp;

use super::{
    super::{
        Decoder, Encoder, Header, JpegError, OutputFormat, StripIndex, Strips,
        marker::{EOI, RST0, RST7},
        turbo::TurboDecoder,
    },
    split::Split,
};
use crate::video::image::{Image, PixelFormat, Size};

use PixelFormat::{Bgr, Gray, Yuv420, Yuv422, Yuv444};

const FORMATS: [PixelFormat; 5] = [Bgr, Gray, Yuv420, Yuv422, Yuv444];

/// Large enough to be split.
const WIDTH: usize = 352;
const HEIGHT: usize = 288;

/// A reproducible picture with edges and noise in every plane.
fn busy(width: usize, height: usize, format: PixelFormat) -> Image {
    let len = format.data_len(width, height);
    let mut noise = 0x2545_F491_u32;
    let data = (0..len).map(|i| {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        let edges = if i / 40 % 3 == 0 { 90 } else { 0 };
        (40 + edges + i % 61 + (noise % 24) as usize) as u8
    });
    Image::new(width, height, format, data.collect())
}

fn encoded(image: &Image, count: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    Encoder::new(80, Strips::Count(count)).encode(image, &mut frame).expect("encodes");
    frame
}

/// The result of libjpeg for the whole frame.
fn decoded_whole(frame: &[u8], want: OutputFormat) -> Image {
    let mut turbo = TurboDecoder::new();
    let seen = turbo.read_header(frame).expect("a header");
    let format = match (want, seen.subsamp) {
        (OutputFormat::Bgr, _) => Bgr,
        (_, Subsamp::Gray) => Gray,
        (_, Subsamp::Sub2x2) => Yuv420,
        (_, Subsamp::Sub2x1) => Yuv422,
        _ => Yuv444,
    };
    let mut image = Image::blank(seen.width, seen.height, format);
    turbo.decode(frame, &seen, &mut image).expect("libjpeg decodes it");
    image
}

fn decoder() -> Decoder {
    Decoder::with_threads(2)
}

fn decoded(frame: &[u8], want: OutputFormat) -> Image {
    let mut image = Image::empty();
    decoder().decode(frame, want, &mut image).expect("decodes");
    image
}

fn plan(frame: &[u8], most: usize) -> Option<Split> {
    let mut split = Split::plan(&Header::parse(frame).expect("a header"), most)?;
    (split.find_strips(frame) == Some(split.count)).then_some(split)
}

/// The positions of a frame's restart markers.
fn restarts(frame: &[u8]) -> Vec<usize> {
    let from = Header::parse(frame).expect("a header").scan_data;
    let is_restart = |&at: &usize| frame[at] == 0xFF && (RST0..=RST7).contains(&frame[at + 1]);
    (from..frame.len() - 1).filter(is_restart).collect()
}

#[test]
fn strip_encoding_does_not_change_the_decoded_pixels() {
    for (width, height) in [(16, 16), (17, 33), (64, 48), (99, 161), (352, 287)] {
        for format in FORMATS {
            let image = busy(width, height, format);
            let whole = encoded(&image, 1);
            assert!(restarts(&whole).is_empty());
            for count in [2, 3, 4, 16] {
                let frame = encoded(&image, count);
                for want in [OutputFormat::Bgr, OutputFormat::Planar] {
                    let context = format!("{width}x{height} {format:?} {count} {want:?}");
                    assert!(
                        decoded_whole(&frame, want) == decoded_whole(&whole, want),
                        "{context}"
                    );
                }
            }
        }
    }
}

#[test]
fn gray_frames_are_split_too() {
    for format in FORMATS {
        let image = busy(100, 70, format);
        let [whole, frame] = [1, 4].map(|count| {
            let mut encoder = Encoder::new(80, Strips::Count(count));
            encoder.set_gray(true);
            let mut frame = Vec::new();
            encoder.encode(&image, &mut frame).expect("encodes");
            frame
        });
        assert_eq!(restarts(&frame).len(), 2, "nine rows of MCUs, three per strip");
        assert_eq!(
            decoded_whole(&frame, OutputFormat::Planar),
            decoded_whole(&whole, OutputFormat::Planar)
        );
    }
}

#[test]
fn strips_are_emitted_in_order_and_form_the_frame() {
    let image = busy(WIDTH, HEIGHT, Yuv420);
    let mut encoder = Encoder::new(80, Strips::Count(5));
    let (mut numbers, mut joined, mut frame) = (Vec::new(), Vec::new(), Vec::new());
    let ready = |nth: StripIndex, strip: &[u8]| {
        numbers.push((nth.index, nth.is_last()));
        joined.extend_from_slice(strip);
    };
    encoder.encode_strips(&image, ready).expect("encodes");
    encoder.encode(&image, &mut frame).expect("encodes");
    assert_eq!(numbers, [(0, false), (1, false), (2, false), (3, false), (4, true)]);
    assert_eq!(joined, frame);
}

#[test]
fn an_encoder_adapts_to_new_sizes_formats_and_qualities() {
    let mut encoder = Encoder::new(50, Strips::Count(4));
    let mut frame = Vec::new();
    for (quality, size, format) in
        [(90, 160, Bgr), (20, 300, Yuv420), (60, 16, Gray), (90, 160, Bgr)]
    {
        let image = busy(size, size, format);
        encoder.set_quality(quality);
        encoder.encode(&image, &mut frame).expect("encodes");
        let mut fresh = Vec::new();
        Encoder::new(quality, Strips::Count(4)).encode(&image, &mut fresh).expect("encodes");
        assert!(frame == fresh, "{quality} {size} {format:?}");
    }
}

#[test]
fn planes_decoded_in_strips_are_bit_exact() {
    for (width, height) in [(WIDTH, HEIGHT), (351, 287), (333, 401)] {
        for format in FORMATS {
            for count in [2, 4, 7, 16] {
                let frame = encoded(&busy(width, height, format), count);
                assert!(plan(&frame, 4).is_some_and(|split| split.count > 1));
                let context = format!("{width}x{height} {format:?} {count}");
                assert!(
                    decoded(&frame, OutputFormat::Planar)
                        == decoded_whole(&frame, OutputFormat::Planar),
                    "{context}"
                );
            }
        }
    }
}

#[test]
fn bgr_decoded_in_strips_differs_only_at_strip_edges() {
    for format in FORMATS {
        let frame = encoded(&busy(WIDTH, HEIGHT, format), 4);
        let split = plan(&frame, 4).expect("is split");
        let [ours, whole] =
            [decoded(&frame, OutputFormat::Bgr), decoded_whole(&frame, OutputFormat::Bgr)];
        let rows = ours.data.chunks(3 * WIDTH).zip(whole.data.chunks(3 * WIDTH));
        for (y, (ours, whole)) in rows.enumerate() {
            let is_edge = matches!(y % split.rows, 0) || y % split.rows == split.rows - 1;
            let is_smoothed = matches!(format, Bgr | Yuv420);
            assert!(ours == whole || is_edge && is_smoothed, "{format:?} row {y}");
        }
    }
}

#[test]
fn smooth_colours_differ_little_at_strip_edges() {
    let mut image = Image::blank(WIDTH, HEIGHT, Yuv420);
    for (plane, width) in image.planes_mut().into_iter().zip([WIDTH, WIDTH / 2, WIDTH / 2]) {
        for (i, sample) in plane.iter_mut().enumerate() {
            *sample = (30 + (i % width + i / width) / 4) as u8;
        }
    }
    let frame = encoded(&image, 4);
    let [ours, whole] =
        [decoded(&frame, OutputFormat::Bgr), decoded_whole(&frame, OutputFormat::Bgr)];
    let largest = ours.data.iter().zip(&whole.data).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(largest <= Some(3), "{largest:?}");
}

#[test]
fn a_strip_declares_a_restart_interval_only_if_it_has_markers() {
    let frame = encoded(&busy(WIDTH, HEIGHT, Yuv420), 6);
    let header = Header::parse(&frame).expect("ours");
    assert_eq!(header.restart_interval, 22 * 3);
    for (most, count, interval) in [(6, 6, 0), (3, 6, 0), (2, 2, 22 * 3)] {
        let split = plan(&frame, most).expect("is split");
        assert_eq!(split.count, count);
        for index in 0..count {
            let mut strip = Vec::new();
            split.write_strip(&frame, &header, index, &mut strip);
            let header = Header::parse(&strip).expect("a JPEG of its own");
            assert_eq!((header.size.height, header.restart_interval), (split.rows, interval));
            assert_eq!(restarts(&strip).len(), if interval == 0 { 0 } else { 2 });
        }
    }
    let nine = encoded(&busy(WIDTH, HEIGHT, Yuv420), 9);
    assert_eq!([4, 5].map(|most| plan(&nine, most).map(|split| split.count)), [Some(3), Some(9)]);
}

#[test]
fn short_restart_intervals_are_grouped_into_few_strips() {
    let image = busy(WIDTH, 16 * 40, Yuv420);
    let frame = row_by_row(&image);
    assert_eq!(restarts(&frame).len(), 39);
    for (most, rows, count) in [(4, 160, 4), (3, 224, 3), (16, 48, 14), (64, 16, 40)] {
        let split = plan(&frame, most).expect("is split");
        assert_eq!((split.rows, split.count), (rows, count));
    }
    assert_eq!(decoded(&frame, OutputFormat::Planar), decoded_whole(&frame, OutputFormat::Planar));
    assert_eq!(
        decoded_whole(&frame, OutputFormat::Planar),
        decoded_whole(&encoded(&image, 1), OutputFormat::Planar)
    );
}

/// A frame with a restart marker after each row of MCUs, as some cameras send. Our encoder sets
/// fewer.
fn row_by_row(image: &Image) -> Vec<u8> {
    let rows: Vec<Vec<u8>> = (0..image.height / 16)
        .map(|row| {
            let strip = super::Strip::new(image, 16 * row, 16);
            let row = Image::new(strip.width, 16, strip.format, strip.planes.concat());
            encoded(&row, 1)
        })
        .collect();
    let header = Header::parse(&rows[0]).expect("a header");
    let mut frame = rows[0][..header.scan_data].to_vec();
    frame[header.height_at..][..2].copy_from_slice(&(image.height as u16).to_be_bytes());
    let mcus = (image.width.div_ceil(16) as u16).to_be_bytes();
    let interval = [0xFF, 0xDD, 0, 4, mcus[0], mcus[1]];
    frame.splice(header.scan_marker..header.scan_marker, interval);
    for (i, row) in rows.iter().enumerate() {
        if i > 0 {
            frame.extend([0xFF, RST0 + ((i - 1) % 8) as u8]);
        }
        frame.extend_from_slice(&row[header.scan_data..row.len() - 2]);
    }
    frame.extend([0xFF, EOI]);
    frame
}

#[test]
fn only_frames_with_usable_restart_intervals_are_split() {
    let image = busy(WIDTH, HEIGHT, Yuv420);
    let frame = encoded(&image, 4);
    assert!(plan(&frame, 4).is_some());
    assert_eq!(plan(&frame, 1), None, "one thread");
    assert_eq!(plan(&encoded(&image, 1), 4), None, "no markers");
    assert_eq!(plan(&encoded(&busy(64, 64, Yuv420), 4), 4), None, "too small");
    let interval = |mcus: u16| {
        let at = Header::parse(&frame).expect("a header").scan_marker - 2;
        let mut frame = frame.clone();
        frame[at..][..2].copy_from_slice(&mcus.to_be_bytes());
        plan(&frame, 4)
    };
    assert_eq!(interval(0), None);
    assert_eq!(interval(1), None);
    assert_eq!(interval(7), None);
    assert_eq!(interval(u16::MAX), None);
}

/// Missing, repeated, reordered or misnumbered markers: such a frame is not split, so that libjpeg
/// decodes it whole and reports the damage.
#[test]
fn wrong_restart_markers_fail_the_frame() {
    let good = encoded(&busy(WIDTH, HEIGHT, Yuv420), 6);
    let at = restarts(&good);
    assert_eq!(at.len(), 5);
    let mut swapped = good.clone();
    (swapped[at[0] + 1], swapped[at[1] + 1]) = (RST0 + 1, RST0);
    let mut renumbered = good.clone();
    renumbered[at[4] + 1] = RST0;
    let mut doubled = good.clone();
    doubled.splice(at[2]..at[2], [0xFF, RST0 + 2]);
    let missing = [&good[..at[1]], &good[at[1] + 2..]].concat();
    let strip_lost = [&good[..at[1]], &good[at[2]..]].concat();
    let strips_swapped =
        [&good[..at[0]], &good[at[1]..at[2]], &good[at[0]..at[1]], &good[at[2]..]].concat();
    let damaged = [swapped, renumbered, doubled, missing, strip_lost, strips_swapped];
    for (i, frame) in damaged.iter().enumerate() {
        assert_eq!(plan(frame, 6), None, "{i}");
        for want in [OutputFormat::Bgr, OutputFormat::Planar] {
            let result = decoder().decode(frame, want, &mut Image::empty());
            let is_damage = matches!(result, Err(JpegError::Codec(_) | JpegError::Scan(_)));
            assert!(is_damage, "{i}: {result:?}");
        }
    }
}

#[test]
fn a_surplus_final_marker_is_left_to_libjpeg() {
    let good = encoded(&busy(WIDTH, HEIGHT, Yuv420), 4);
    let end = good.len() - 2;
    let extra = [&good[..end], &[0xFF, RST0 + 3], &good[end..]].concat();
    assert_eq!(plan(&extra, 4), None);
    assert!(
        decoded(&extra, OutputFormat::Planar) == decoded(&good, OutputFormat::Planar),
        "nothing is missing"
    );
}

#[test]
fn damage_in_any_strip_fails_the_frame() {
    let good = encoded(&busy(WIDTH, HEIGHT, Bgr), 4);
    let starts = restarts(&good);
    assert_eq!(starts.len(), 3);
    for start in starts {
        // The first 400 bytes of the strip's data are missing.
        let end = start + 2 + 400;
        let frame = [&good[..start + 2], &good[end..]].concat();
        assert!(plan(&frame, 4).is_some());
        let result = decoder().decode(&frame, OutputFormat::Bgr, &mut Image::empty());
        assert!(matches!(result, Err(JpegError::Codec(_))), "{result:?}");
    }
}

#[test]
fn a_decoder_is_reusable_after_damage_and_for_other_sizes() {
    let mut decoder = decoder();
    let mut image = Image::empty();
    for (width, height, count) in [(640, 480, 4), (64, 48, 4), (352, 288, 16), (640, 480, 2)] {
        let frame = encoded(&busy(width, height, Yuv420), count);
        decoder
            .decode(&frame[..frame.len() / 2], OutputFormat::Bgr, &mut image)
            .expect_err("truncated");
        decoder.decode(&frame, OutputFormat::Planar, &mut image).expect("decodes");
        assert_eq!(image.size(), Size { width, height });
        assert!(image == decoded_whole(&frame, OutputFormat::Planar));
    }
}

#[test]
fn ffmpeg_decodes_frames_of_strips() {
    let image = busy(351, 287, Yuv422);
    let planes = [1, 4].map(|count| {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&encoded(&image, count)).expect("written");
        let output = Command::new("ffmpeg")
            .args(["-v", "warning", "-xerror", "-f", "mjpeg", "-i"])
            .arg(file.path())
            .args(["-f", "rawvideo", "-"])
            .output()
            .expect("ffmpeg is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
        output.stdout
    });
    assert!(planes[0] == planes[1] && !planes[0].is_empty());
}

#[cfg(feature = "opencv")]
#[test]
fn opencv_decodes_frames_of_strips() {
    use opencv::{core::Vector, imgcodecs, prelude::*};
    let image = busy(WIDTH, HEIGHT, Yuv420);
    let pixels = [1, 4].map(|count| {
        let bytes = Vector::<u8>::from_iter(encoded(&image, count));
        let mat = imgcodecs::imdecode(&bytes, imgcodecs::IMREAD_COLOR).expect("OpenCV decodes it");
        mat.data_bytes().expect("continuous").to_vec()
    });
    assert!(pixels[0] == pixels[1] && pixels[0].len() == 3 * WIDTH * HEIGHT);
}

/// Stray bytes before restart markers, as some webcams leave them, do not change the picture, in
/// strips or whole.
#[test]
fn stray_bytes_before_markers_do_not_change_the_image() {
    for format in [Yuv420, Yuv422, Gray] {
        let good = encoded(&busy(WIDTH, HEIGHT, format), 6);
        let mut places = restarts(&good);
        places.push(good.len() - 2);
        for stray in [&[0][..], &[0x5A], &[0; 7], &[1, 2, 3, 0xFF, 0, 4], &[0; 300], &[0xFF; 5]] {
            for every in [1, 3] {
                let (mut frame, mut from) = (Vec::new(), 0);
                for &at in places.iter().step_by(every) {
                    frame.extend([&good[from..at], stray].concat());
                    from = at;
                }
                frame.extend(&good[from..]);
                let context = format!("{format:?} {stray:?} {every}");
                for want in [OutputFormat::Planar, OutputFormat::Bgr] {
                    let (mut split, mut whole) = (Image::empty(), Image::empty());
                    decoder().decode(&frame, want, &mut split).expect(&context);
                    decoder().decode_whole(&frame, want, &mut whole).expect(&context);
                    assert!(split == decoded(&good, want), "{context}");
                    assert!(whole == decoded_whole(&good, want), "{context}");
                }
                let mut passed_on = frame.clone();
                crate::video::jpeg::normalize(&mut passed_on).expect(&context);
                assert!(
                    decoded(&passed_on, OutputFormat::Planar)
                        == decoded(&good, OutputFormat::Planar)
                );
            }
        }
    }
}

/// A changed byte leaves surplus bytes. A whole decode warns of them; at the end of a strip they
/// are still in libjpeg's bit buffer. The picture is equal and complete, so both accept it.
#[test]
fn surplus_bytes_are_accepted_in_strips_and_whole() {
    let mut frame = encoded(&busy(WIDTH, HEIGHT, Yuv422), 4);
    let at = (13_888_300_141_784_936_829_u128 * frame.len() as u128) >> 64;
    frame[at as usize] = 90;
    let (mut ours, mut whole) = (Image::empty(), Image::empty());
    decoder().decode(&frame, OutputFormat::Planar, &mut ours).expect("in strips");
    decoder().decode_whole(&frame, OutputFormat::Planar, &mut whole).expect("whole");
    assert!(ours == whole);
}

/// libjpeg reads several FF before a zero as one byte in data with markers, and as a marker in data
/// without.
#[test]
fn repeated_ff_before_a_zero_decodes_as_in_the_whole_frame() {
    let good = encoded(&busy(WIDTH, HEIGHT, Yuv422), 4);
    let from = Header::parse(&good).expect("ours").scan_data;
    let is_stuffed = |&at: &usize| good[at..].starts_with(&[0xFF, 0]);
    for at in (from..good.len() - 2).filter(is_stuffed).step_by(17) {
        let mut frame = good.clone();
        frame.insert(at, 0xFF);
        let (mut ours, mut whole) = (Image::empty(), Image::empty());
        decoder().decode(&frame, OutputFormat::Planar, &mut ours).expect("libjpeg decodes it");
        decoder()
            .decode_whole(&frame, OutputFormat::Planar, &mut whole)
            .expect("libjpeg decodes it");
        assert!(ours == whole, "{at}");
    }
}

#[test]
fn header_oddities_do_not_change_the_image() {
    let good = encoded(&busy(WIDTH, HEIGHT, Yuv420), 4);
    let version = good.windows(5).position(|w| w == b"JFIF\0").expect("has one") + 5;
    let scan = Header::parse(&good).expect("ours").scan_data;
    for (at, odd) in [(version, 2), (version, 9), (scan - 2, 0), (scan - 1, 0x11)] {
        let mut frame = good.clone();
        frame[at] = odd;
        for want in [OutputFormat::Planar, OutputFormat::Bgr] {
            let (mut split, mut whole) = (Image::empty(), Image::empty());
            decoder().decode(&frame, want, &mut split).expect("in strips");
            decoder().decode_whole(&frame, want, &mut whole).expect("whole");
            assert!(split == decoded(&good, want) && whole == decoded_whole(&good, want), "{at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        ..ProptestConfig::default()
    })]

    /// If changed bytes are accepted, the picture equals libjpeg's decode of the whole frame, or
    /// what that would be if it ignored bad codes, as it does in frames without markers.
    #[test]
    fn damaged_frames_decode_as_a_whole_decode_does_or_fail(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: Option<prop::sample::Index>,
    ) {
        let mut frame = encoded(&busy(WIDTH, HEIGHT, Yuv422), 4);
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        if let Some(cut) = cut {
            let at = cut.index(frame.len());
            frame.drain(at..(at + 50).min(frame.len()));
        }
        let (mut ours, mut whole) = (Image::empty(), Image::empty());
        let ours_result = decoder().decode(&frame, OutputFormat::Planar, &mut ours);
        let whole_result = decoder().decode_whole(&frame, OutputFormat::Planar, &mut whole);
        if ours_result.is_ok() && !whole_result.as_ref().is_err_and(JpegError::is_bad_code) {
            prop_assert!(whole_result.is_ok(), "only strips accept it");
            prop_assert!(ours == whole);
        }
    }

    #[test]
    fn any_size_and_strip_count_decodes_to_the_same_planes(
        width in 16_usize..400, height in 16_usize..400, count in 1_usize..=16, format in 0_usize..5,
    ) {
        let image = busy(width, height, FORMATS[format]);
        let (frame, whole) = (encoded(&image, count), encoded(&image, 1));
        let planes = decoded(&frame, OutputFormat::Planar);
        prop_assert!(planes == decoded_whole(&frame, OutputFormat::Planar));
        prop_assert!(planes == decoded_whole(&whole, OutputFormat::Planar));
    }
}
