//! Streams of whole, damaged and truncated JPEGs.

use std::io::BufReader;

use proptest::prelude::*;

use super::{
    super::{
        header::Header,
        marker::{EOI, SOS},
        tests::textured,
        thumbnail::tests::exif,
    },
    *,
};
use crate::{clock, video::image::PixelFormat};

fn items(bytes: &[u8], buffer: usize) -> Vec<StreamItem> {
    let mut stream = JpegStream::new(BufReader::with_capacity(buffer, bytes));
    std::iter::from_fn(|| stream.next_item().expect("memory does not fail")).collect()
}

fn frame(width: usize) -> Vec<u8> {
    textured(width, 32, PixelFormat::Yuv420)
}

#[test]
fn frames_are_read_unchanged_at_any_buffer_size() {
    let (a, b) = (frame(32), frame(48));
    let bytes = [&a[..], &[0, 0xFF, 0xFF], &b, &a, b"\r\n"].concat();
    for buffer in [1, 2, 3, 100, 1 << 16] {
        let expected = [&a, &b, &a].map(|f| StreamItem::Frame(f.clone()));
        assert_eq!(items(&bytes, buffer), expected);
    }
}

#[test]
fn a_thumbnail_does_not_split_its_frame() {
    let (outer, inner) = (frame(64), frame(16));
    let len = ((inner.len() + 2) as u16).to_be_bytes();
    let frame = [&outer[..2], &[0xFF, 0xE1], &len, &inner, &outer[2..]].concat();
    assert_eq!(items(&frame, 64), [StreamItem::Frame(frame.clone())]);
}

#[test]
fn a_truncated_frame_does_not_lose_the_next() {
    let good = frame(48);
    let cut = good.len() - 20;
    let bytes = [&good[..cut], &good].concat();
    let beginning = good[..cut].to_vec();
    assert_eq!(items(&bytes, 64), [StreamItem::Unended(beginning), StreamItem::Frame(good)]);
}

#[test]
fn empty_frames_repeated_start_markers_and_text_are_skipped() {
    let good = frame(48);
    let text = b"\r\n--next\r\nContent-Type: image/jpeg\r\nContent-Length: 900\r\n\r\n";
    for between in [
        &[0xFF, SOI][..],
        &[0xFF, SOI, 0xFF, EOI],
        &[0xFF, SOI, 0xFF, 0xFF, EOI, 0, 0xFF, SOI, 0xFF, EOI],
        &[0xFF, SOI].repeat(9),
        text,
    ] {
        let bytes = [between, &good, between, &good].concat();
        for buffer in [1, 7, 4096] {
            let expected = [&good, &good].map(|frame| StreamItem::Frame(frame.clone()));
            assert_eq!(items(&bytes, buffer), expected, "{between:?}");
        }
    }
}

/// The number of frames, each of which must be `good`, and of damage reports.
fn count(bytes: &[u8], good: &[u8]) -> (usize, usize) {
    let counts = [1, 7, 4096, 1 << 16].map(|buffer| {
        let (frames, others): (Vec<_>, Vec<_>) =
            items(bytes, buffer).into_iter().partition(|item| matches!(item, StreamItem::Frame(_)));
        assert!(frames.iter().all(|item| *item == StreamItem::Frame(good.to_vec())));
        (frames.len(), others.len())
    });
    assert_eq!(counts, [counts[0]; 4], "whole or in pieces");
    counts[0]
}

/// `jpeg` with another segment after its start marker.
fn with_segment(jpeg: &[u8], marker: u8, payload: &[u8]) -> Vec<u8> {
    let len = ((payload.len() + 2) as u16).to_be_bytes();
    [&jpeg[..2], &[0xFF, marker], &len, payload, &jpeg[2..]].concat()
}

/// Whether `item` is the frame `good`, possibly without the beginning of its header.
fn is_end_of(item: &StreamItem, good: &[u8]) -> bool {
    matches!(item, StreamItem::Frame(frame) if frame.ends_with(&good[20..]))
}

#[test]
fn a_damaged_length_loses_no_good_frame() {
    let good = frame(48);
    for damaged in [
        &[0xFF, SOI, 0xFF, 0xE1, 0xFF, 0xFF][..],
        &[0xFF, SOI, 0xFF, 0xE1, 0x10, 0x00],
        &[0xFF, SOI, 0xFF, 0xE1, 0, 0],
        &[&good[..2], &[0xFF, 0xDB, 0x3F, 0xFF], &good[6..]].concat(),
    ] {
        for many in [1, 99] {
            let bytes = [&good[..], &good, damaged, &good.repeat(many)].concat();
            assert_eq!(count(&bytes, &good), (2 + many, 1), "{:?}", &damaged[..6]);
            let bytes = [&good[..], &bytes, &bytes].concat();
            assert_eq!(count(&bytes, &good), (5 + 2 * many, 2), "{:?}", &damaged[..6]);
        }
    }
}

/// Tries lengths that point to every byte of the first three frames.
#[test]
fn any_damaged_length_loses_no_good_frame() {
    let (good, text) = (frame(16), b"\r\n--next\r\nContent-Type: image/jpeg\r\n\r\n");
    for between in [&b""[..], &[0], text] {
        let frames = [&good[..], between].concat().repeat(4);
        for len in 2..3 * frames.len() / 4 {
            let damaged = [&[0xFF, SOI, 0xFF, 0xE1][..], &(len as u16).to_be_bytes()].concat();
            let items = items(&[&damaged[..], &frames].concat(), 4096);
            // A frame whose beginning was taken by the damaged one may still be valid.
            assert_eq!(
                items.iter().filter(|item| is_end_of(item, &good)).count(),
                4,
                "{len} {}",
                between.len()
            );
        }
    }
}

#[test]
fn the_thumbnail_of_a_truncated_frame_is_not_a_frame() {
    let (good, small) = (frame(64), frame(16));
    for is_big_endian in [false, true] {
        let exif = exif(Some(&small), is_big_endian);
        let whole = with_segment(&good, 0xE1, &exif);
        for cut in 4..4 + exif.len() + 40 {
            let items = items(&[&whole[..cut], &good.repeat(30)].concat(), 4096);
            let (frames, others): (Vec<_>, Vec<_>) =
                items.iter().partition(|item| is_end_of(item, &good));
            // The length may point into the next frame's header, and is then valid.
            assert!(frames.len() == 30 && others.len() <= 1, "{cut}: {others:?}");
        }
        assert_eq!(count(&whole.repeat(3), &whole), (3, 0));
    }
    // Exif without a thumbnail, and Exif that cannot be parsed.
    let whole = with_segment(&good, 0xE1, &[&exif(None, true)[..], &[0; 3000]].concat());
    let odd = with_segment(&good, 0xE1, &[b"Exif\0\0odd.", &small[..]].concat());
    for (whole, cut) in [(&whole, 30), (&odd, 200), (&odd, small.len() + 16)] {
        assert_eq!(count(&[&whole[..cut], &good.repeat(30)].concat(), &good), (30, 1), "{cut}");
    }
}

#[test]
fn truncation_anywhere_does_not_lose_the_next_frame() {
    let (first, good) = (frame(64), textured(48, 48, PixelFormat::Yuv444));
    let len = first.len();
    for cut in 4..len {
        let items = items(&[&first[..cut], &good].concat(), 4096);
        let is_good = |item: &StreamItem| is_end_of(item, &good);
        assert!(items.len() <= 2 && items.last().is_some_and(is_good), "{cut} of {len}");
    }
}

#[test]
fn a_mark_ends_the_stream_even_within_a_frame() {
    let (good, mark) = (frame(48), &b"YUV4MPEG2 "[..]);
    let scan_data = Header::parse(&good).expect("ours").scan_data;
    for cut in 0..=good.len() {
        let bytes = [&good[..], &good[..cut], mark, &good].concat();
        let reader = BufReader::with_capacity(99, &bytes[..]);
        let mut stream = JpegStream::ending_at(&[b"YUV4MPEG2 "], reader);
        let items: Vec<_> = std::iter::from_fn(|| stream.next_item().expect("memory")).collect();
        let expected = match cut {
            0 | 1 => None,
            _ if cut == good.len() => Some(StreamItem::Frame(good.clone())),
            _ if cut < scan_data => Some(StreamItem::Truncated(cut)),
            _ => Some(StreamItem::Unended(good[..cut].to_vec())),
        };
        let expected: Vec<_> =
            [StreamItem::Frame(good.clone())].into_iter().chain(expected).collect();
        assert!(items == expected && stream.is_at_mark(), "{cut}");
        let (front, mut rest) = stream.into_parts();
        let mut left = front;
        io::Read::read_to_end(&mut rest, &mut left).expect("memory does not fail");
        assert_eq!(left, bytes[good.len() + cut..]);
    }
}

/// A search that reads bytes again for each start marker would take minutes.
#[test]
fn many_damaged_lengths_are_parsed_in_linear_time() {
    let chain = [0xFF, 0xE1, 0, 2].repeat(300);
    let scan = [&frame(16)[2..], &vec![1; MAX_JPEG_LEN]].concat();
    let began = clock::now();
    for bytes in [
        [0xFF, SOI, 0xFF, 0xE1, 0xFF, 0xFD].repeat(500_000),
        [&[0xFF, SOI, 0xFF, 0xE1, 0x40, 0].repeat(10_000)[..], &chain.repeat(500)].concat(),
        [&[0xFF, SOI].repeat(100_000)[..], &scan].concat(),
        [&[0xFF, SOI, 0xFF, 0xE1, 0xF0, 0].repeat(10_000)[..], &vec![0xFF; 3 << 20]].concat(),
        [0xFF, SOI, 0xFF, 0xE1, 0xF0, 0, 0xFF, EOI].repeat(400_000),
    ] {
        assert_eq!(items(&bytes, 1 << 16).len(), 1);
    }
    assert!(clock::now() - began < std::time::Duration::from_secs(30));
}

#[test]
fn a_jpeg_stream_is_recognized_by_its_first_bytes() {
    let jpegs: [&[u8]; 8] = [
        &[0xFF, SOI, 0xFF],
        b"\r\n\xFF\xD8",
        b"\r\n\r\n--bound",
        b"--boundary",
        b"content-ty",
        b"HTTP/1.1 2",
        b"\n\n\n\n\n\n\n\n\n\n",
        &[0, 0, 0xFF, SOI],
    ];
    assert!(jpegs.into_iter().all(begins_jpegs));
    for other in [&b""[..], b"GIF89a....", b"YUV4MPEG2 ", b"\x89PNG\r\n\x1a\n", b"-x", b"\xFF\xFB"]
    {
        assert!(!begins_jpegs(other), "{other:?}");
    }
}

#[test]
fn a_truncated_last_frame_is_reported() {
    let good = frame(48);
    let scan_data = Header::parse(&good).expect("ours").scan_data;
    for len in 2..good.len() {
        let beginning = good[..len].to_vec();
        let is_in_header = len < scan_data;
        let expected =
            if is_in_header { StreamItem::Truncated(len) } else { StreamItem::Unended(beginning) };
        assert_eq!(items(&good[..len], 512), [expected]);
    }
}

#[test]
fn a_frame_over_the_limit_is_skipped_without_being_kept() {
    let good = frame(48);
    let scan = good.len() - 2;
    let bytes = [&good[..scan], &vec![1; MAX_JPEG_LEN], &good[scan..], &good].concat();
    assert_eq!(items(&bytes, 4096), [StreamItem::TooLong, StreamItem::Frame(good.clone())]);
    let unended = [&good[..scan], &vec![1; MAX_JPEG_LEN], &good].concat();
    assert_eq!(items(&unended, 4096), [StreamItem::TooLong, StreamItem::Frame(good)]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_parsing_terminates(
        bytes in proptest::collection::vec(prop_oneof![Just(0xFF), Just(SOI), Just(SOS), any::<u8>()], 0..300),
    ) {
        let kept: usize = items(&bytes, 7).iter().map(|item| match item {
            StreamItem::Frame(frame) => frame.len(),
            _ => 0,
        }).sum();
        prop_assert!(kept <= bytes.len());
    }
}
