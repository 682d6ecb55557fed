//! Normalizes the JPEGs of cameras and of Motion JPEG streams.
//!
//! These defects are found in practice, and corrected without computing pixels:
//!
//! - before the JPEG: padding, an empty JPEG, or the beginning of another;
//! - in the header: no Huffman tables (AVI's Motion JPEG omits the standard ones), or versions and
//!   parameters that decoders warn about;
//! - at the end: no end marker, or padding or an older picture's bytes after the picture.
//!
//! Other defects of the header and the markers are refused with a specific error. Damage within the
//! coded data or the Huffman tables may be left to the decoder.
//!
//! A truncated frame looks like one without an end marker, or like a padded one. The coded data of
//! such frames is checked to be complete, by decoding its Huffman codes. For other frames a search
//! for markers suffices, which takes a few microseconds.

use super::{
    MAX_JPEG_LEN,
    header::{Header, HeaderError, Interrupted},
    huffman_tables::standard_huffman_tables,
    marker::{EOI, RST0, RST7, SOI},
    scan::{ScanError, walk_scan},
};

/// Turns `frame` into a single JPEG without the defects listed above, or says why that is not
/// possible. After an error, the contents of `frame` are unspecified.
pub fn normalize(frame: &mut Vec<u8>) -> Result<(), NormalizeError> {
    if frame.len() > MAX_JPEG_LEN {
        return Err(NormalizeError::TooLong(frame.len()));
    }
    cut_padding_in_front(frame)?;
    let mut starts_left = MAX_STARTS;
    let header = loop {
        match terminate(frame) {
            Ok(header) => break header,
            Err((_, Some(next))) if starts_left > 0 => {
                starts_left -= 1;
                frame.drain(..next);
            }
            Err((error, _)) => return Err(error),
        }
    };
    header.correct_oddities(frame);
    if !header.has_huffman_tables {
        let at = header.scan_marker;
        frame.splice(at..at, standard_huffman_tables());
    }
    Ok(())
}

/// Why a frame cannot be normalized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NormalizeError {
    /// The frame is over the length limit.
    #[error("a frame of {0} bytes is over the limit of {MAX_JPEG_LEN}")]
    TooLong(usize),
    /// The header is not acceptable.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The coded data is interrupted.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The coded data is incomplete or damaged.
    #[error(transparent)]
    Scan(#[from] ScanError),
}

/// Makes `frame` end with the end marker of its first JPEG. If that JPEG is not usable, returns the
/// reason, and where another may begin.
fn terminate(frame: &mut Vec<u8>) -> Result<Header, (NormalizeError, Option<usize>)> {
    let header = Header::parse(frame).map_err(|error| {
        let next = match error {
            HeaderError::SecondStart(at) => Some(at),
            // A damaged segment may have swallowed the next beginning.
            HeaderError::NoScan | HeaderError::NoMarker(_) | HeaderError::Malformed => {
                memchr::memmem::find(&frame[2..], &[0xFF, SOI, 0xFF]).map(|at| at + 2)
            }
            _ => None,
        };
        (error.into(), next)
    })?;
    let end = match header.end(frame) {
        Ok(Some(end)) if is_likely_whole(&header, &frame[..end]) => {
            frame.truncate(end);
            end - 2
        }
        Ok(_) => walk_scan(frame).map_err(|error| (error.into(), None))?,
        Err(interrupted) => {
            let is_start = frame[interrupted.0 + 1] == SOI;
            let next = is_start.then_some(interrupted.0);
            let whole = if is_start { walk_scan(&frame[..interrupted.0]).ok() } else { None };
            whole.ok_or((interrupted.into(), next))?
        }
    };
    frame.truncate(end);
    frame.extend([0xFF, EOI]);
    // Parsed again, because the first check of its length counted the bytes that are now cut off.
    Header::parse(frame).map_err(|error| (error.into(), None))
}

/// Whether a frame with an end marker has the restart markers that its header requires, and no
/// padding before its end.
fn is_likely_whole(header: &Header, frame: &[u8]) -> bool {
    let data = &frame[header.scan_data.min(frame.len() - 2)..frame.len() - 2];
    if data.ends_with(&PADDING) {
        return false;
    }
    let Some(expected) = header.restarts() else { return true };
    let is_restart = |at: &usize| data.get(at + 1).is_some_and(|code| (RST0..=RST7).contains(code));
    expected == 0 || memchr::memchr_iter(0xFF, data).filter(is_restart).count() >= expected
}

fn cut_padding_in_front(frame: &mut Vec<u8>) -> Result<(), NormalizeError> {
    let padding = frame.windows(2).take(MAX_PADDING_IN_FRONT).position(|w| w == [0xFF, SOI]);
    let padding = padding.ok_or(HeaderError::NotAJpeg)?;
    frame.drain(..padding);
    Ok(())
}

/// This many zeros at the end of a frame's data are most likely padding.
const PADDING: [u8; 16] = [0; 16];

/// The maximum number of JPEG beginnings that are skipped to find a complete JPEG. Each skip moves
/// the following bytes.
const MAX_STARTS: usize = 16;

/// In bytes. With more padding than this, the data is not a camera's JPEG.
const MAX_PADDING_IN_FRONT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{
        image::{Image, PixelFormat},
        jpeg::{
            Decoder, Encoder, OutputFormat, Strips,
            marker::{DHT, segment_at},
            tests::{texture, textured},
        },
    };
    use proptest::prelude::*;

    fn decodes(frame: &[u8]) -> Image {
        let mut image = Image::empty();
        Decoder::new().decode(frame, OutputFormat::Planar, &mut image).expect("decodes");
        image
    }

    fn without_huffman_tables(frame: &[u8]) -> Vec<u8> {
        let mut bare = frame.to_vec();
        let mut at = 2;
        while at < Header::parse(frame).expect("ours").scan_marker && at < bare.len() {
            let segment = segment_at(&bare, at).expect("a segment");
            match segment.marker {
                DHT => drop(bare.drain(segment.start..segment.payload.end)),
                crate::video::jpeg::marker::SOS => break,
                _ => at = segment.payload.end,
            }
        }
        bare
    }

    #[test]
    fn a_complete_frame_is_unchanged() {
        for format in [PixelFormat::Yuv420, PixelFormat::Gray] {
            let good = textured(64, 48, format);
            let mut frame = good.clone();
            normalize(&mut frame).expect("whole");
            assert_eq!(frame, good);
        }
    }

    #[test]
    fn padding_on_both_sides_is_removed() {
        let good = textured(64, 48, PixelFormat::Yuv422);
        let mut frame = [&[0, 0, 0xFF, 0xFF][..], &good, &[0; 100], &good].concat();
        normalize(&mut frame).expect("padded");
        assert_eq!(frame, good);
    }

    #[test]
    fn a_missing_end_marker_is_appended() {
        let good = textured(64, 48, PixelFormat::Yuv420);
        for tail in [&[][..], &[0xFF], &[0; 33]] {
            let mut frame = [&good[..good.len() - 2], tail].concat();
            normalize(&mut frame).expect("no end");
            assert_eq!(frame, good);
        }
    }

    #[test]
    fn a_truncated_frame_is_refused_however_it_ends() {
        for format in [PixelFormat::Yuv420, PixelFormat::Gray] {
            let good = textured(64, 48, format);
            let data = Header::parse(&good).expect("ours").scan_data;
            for cut in [data + 60, good.len() / 2, good.len() - 40] {
                for tail in [&[][..], &[0xFF], &[0; 3], &[0; 9000]] {
                    let mut frame = [&good[..cut], tail].concat();
                    assert_eq!(normalize(&mut frame), Err(ScanError::Truncated.into()), "{cut}");
                }
                let mut padded = [&good[..cut], &[0; 40], &[0xFF, EOI]].concat();
                assert_eq!(normalize(&mut padded), Err(ScanError::Truncated.into()), "{cut}");
            }
        }
    }

    #[test]
    fn missing_restart_markers_mean_a_truncated_frame() {
        let (mut good, image) = (Vec::new(), texture(64, 64, PixelFormat::Yuv422));
        Encoder::new(80, Strips::Count(8)).encode(&image, &mut good).expect("encodes");
        normalize(&mut good.clone()).expect("whole");
        let at = good.windows(2).position(|pair| pair == [0xFF, RST0 + 5]).expect("has eight");
        let mut cut = [&good[..at - 3], &[0xFF, EOI]].concat();
        assert_eq!(normalize(&mut cut), Err(ScanError::Truncated.into()));
    }

    #[test]
    fn padding_before_the_end_marker_is_removed() {
        let good = textured(64, 48, PixelFormat::Yuv420);
        let mut frame = [&good[..good.len() - 2], &[0; 500], &[0xFF, EOI]].concat();
        normalize(&mut frame).expect("padded");
        assert_eq!(frame, good);
    }

    #[test]
    fn leading_junk_before_a_frame_is_skipped() {
        let good = textured(64, 48, PixelFormat::Yuv420);
        let half = &good[..good.len() / 2];
        let (start, empty) = (&[0xFF, SOI][..], &[0xFF, SOI, 0xFF, EOI][..]);
        let text = &b"\r\n--boundary\r\nContent-Type: image/jpeg\r\n\r\n"[..];
        for front in [start, &start.repeat(5), empty, &empty.repeat(3), &good[..40], half, text] {
            let mut frame = [front, &good].concat();
            assert_eq!(normalize(&mut frame), Ok(()), "{} bytes in front", front.len());
            assert_eq!(frame, good);
        }
    }

    #[test]
    fn the_first_of_two_unseparated_frames_is_taken() {
        let [first, second] =
            [PixelFormat::Yuv420, PixelFormat::Gray].map(|format| textured(64, 48, format));
        let mut frame = [&first[..first.len() - 2], &second].concat();
        normalize(&mut frame).expect("two frames");
        assert_eq!(frame, first);
    }

    #[test]
    fn a_wrong_jfif_version_is_corrected() {
        let good = textured(64, 48, PixelFormat::Yuv420);
        let mut frame = good.clone();
        let version = frame.windows(5).position(|w| w == b"JFIF\0").expect("has one") + 5;
        frame[version] = 2;
        normalize(&mut frame).expect("an odd version");
        assert_eq!(frame, good);
    }

    #[test]
    fn padding_is_not_searched_for_in_the_header() {
        let good = textured(64, 48, PixelFormat::Gray);
        let scan_data = Header::parse(&good).expect("ours").scan_data;
        let mut frame = [&good[..scan_data], &[0; 100]].concat();
        frame[scan_data - 2] = 0;
        assert_eq!(normalize(&mut frame), Err(ScanError::Truncated.into()));
    }

    #[test]
    fn bytes_after_the_end_marker_do_not_lengthen_a_frame() {
        let good = textured(64, 48, PixelFormat::Gray);
        let scan_data = Header::parse(&good).expect("ours").scan_data;
        let mut frame = [&good[..scan_data], &[0xFF, EOI], &[7; 100]].concat();
        assert_eq!(normalize(&mut frame), Err(HeaderError::TooShort(64, 48).into()));
    }

    #[test]
    fn standard_huffman_tables_replace_missing_ones() {
        for format in [PixelFormat::Yuv420, PixelFormat::Yuv422, PixelFormat::Gray] {
            let good = textured(64, 48, format);
            let mut frame = without_huffman_tables(&good);
            assert!(frame.len() < good.len());
            normalize(&mut frame).expect("no tables");
            assert_eq!(decodes(&frame), decodes(&good));
        }
    }

    #[test]
    fn frames_that_cannot_be_normalized_are_reported() {
        let error = |bytes: &[u8]| normalize(&mut bytes.to_vec()).expect_err("not a frame");
        assert_eq!(error(&[]), NormalizeError::Header(HeaderError::NotAJpeg));
        assert_eq!(error(&[0xFF, SOI]), NormalizeError::Header(HeaderError::Truncated));
        assert_eq!(error(&vec![7; MAX_JPEG_LEN + 1]), NormalizeError::TooLong(MAX_JPEG_LEN + 1));
        let good = textured(64, 48, PixelFormat::Yuv420);
        let cut = [&good[..good.len() / 2], &[0xFF, DHT, 0, 2, 0xFF, EOI]].concat();
        assert!(matches!(error(&cut), NormalizeError::Interrupted(_)));
        assert_eq!(error(&[0xFF, SOI, 0xFF, EOI].repeat(3)), HeaderError::NoScan.into());
    }

    proptest! {
        #[test]
        fn normalizing_damaged_frames_never_panics_and_is_idempotent(
            cut in 0_usize..4000,
            changes in proptest::collection::vec((0_usize..4000, any::<u8>()), 0..8),
        ) {
            let mut frame = textured(64, 48, PixelFormat::Yuv420);
            for (at, value) in changes {
                let at = at % frame.len();
                frame[at] = value;
            }
            frame.truncate(cut);
            if normalize(&mut frame).is_ok() {
                let once = frame.clone();
                prop_assert!(normalize(&mut frame).is_ok());
                prop_assert_eq!(frame, once);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = normalize(&mut bytes);
        }
    }
}
