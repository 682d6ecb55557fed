//! Walks over the markers of a JPEG (ITU-T T.81, Annex B) without decoding.
//!
//! ```text
//! FF D8 | FF xx len payload | … | FF DA len payload | entropy-coded data     | FF D9
//!  SOI       a segment              SOS               (with FF 00, FF D0..D7)    EOI
//! ```

use std::ops::Range;

/// One marker with its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// The byte after `FF`.
    pub marker: u8,
    /// The position of its `FF`.
    pub start: usize,
    /// The payload after the two length bytes; empty for markers without one.
    pub payload: Range<usize>,
}

/// Why the walk ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WalkError {
    /// The bytes end within a segment, or before the next one.
    Truncated,
    /// Neither a marker nor fill bytes at this position, where a marker is required, or a marker
    /// with an impossible length.
    NotAMarker(usize),
}

/// The segment at `at`, after any fill bytes.
pub(super) fn segment_at(bytes: &[u8], at: usize) -> Result<Segment, WalkError> {
    if *bytes.get(at).ok_or(WalkError::Truncated)? != 0xFF {
        return Err(WalkError::NotAMarker(at));
    }
    let filled = bytes[at..].iter().take_while(|&&b| b == 0xFF).count();
    let code = at + filled;
    let marker = *bytes.get(code).ok_or(WalkError::Truncated)?;
    let start = code - 1;
    if marker == 0 {
        return Err(WalkError::NotAMarker(start));
    }
    if stands_alone(marker) {
        return Ok(Segment { marker, start, payload: code + 1..code + 1 });
    }
    let len = bytes.get(code + 1..code + 3).ok_or(WalkError::Truncated)?;
    let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
    let (from, to) = (code + 3, code + 1 + len);
    match len {
        0 | 1 => Err(WalkError::NotAMarker(start)),
        _ if to > bytes.len() => Err(WalkError::Truncated),
        _ => Ok(Segment { marker, start, payload: from..to }),
    }
}

/// Where the entropy-coded data from `from` ends: at the `FF` of the first marker other than a
/// restart; `None` if the bytes end first.
pub(super) fn scan_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(0xFF, bytes.get(at..)?)?;
        match *bytes.get(at + 1)? {
            0 | RST0..=RST7 => at += 2,
            0xFF => at += 1,
            _ => return Some(at),
        }
    }
}

/// Whether a marker has no length and no payload.
pub(super) fn stands_alone(marker: u8) -> bool {
    matches!(marker, TEM | RST0..=RST7 | SOI | EOI)
}

pub(super) const TEM: u8 = 0x01;
pub(super) const SOF0: u8 = 0xC0;
pub(super) const SOF1: u8 = 0xC1;
pub(super) const SOF2: u8 = 0xC2;
pub(super) const DHT: u8 = 0xC4;
pub(super) const DQT: u8 = 0xDB;
pub(super) const JPG: u8 = 0xC8;
pub(super) const SOF15: u8 = 0xCF;
pub(super) const RST0: u8 = 0xD0;
pub(super) const RST7: u8 = 0xD7;
pub(super) const SOI: u8 = 0xD8;
pub(super) const EOI: u8 = 0xD9;
pub(super) const SOS: u8 = 0xDA;
pub(super) const DRI: u8 = 0xDD;
pub(super) const APP0: u8 = 0xE0;
pub(super) const APP14: u8 = 0xEE;
pub(super) const APP15: u8 = 0xEF;
pub(super) const COM: u8 = 0xFE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_bytes_before_a_segment_are_skipped() {
        let bytes = [0xFF, 0xFF, 0xE0, 0, 4, 7, 8, 0xFF, EOI];
        let segment = segment_at(&bytes, 0).expect("a segment");
        assert_eq!(segment, Segment { marker: 0xE0, start: 1, payload: 5..7 });
        assert_eq!(segment_at(&bytes, 7).expect("the end").marker, EOI);
    }

    #[test]
    fn truncated_segments_and_foreign_bytes_are_distinguished() {
        assert_eq!(segment_at(&[], 0), Err(WalkError::Truncated));
        assert_eq!(segment_at(&[0xFF], 0), Err(WalkError::Truncated));
        assert_eq!(segment_at(&[0xFF, 0xE0, 0, 9, 1], 0), Err(WalkError::Truncated));
        assert_eq!(segment_at(&[0xFF, 0xE0, 0, 1], 0), Err(WalkError::NotAMarker(0)));
        assert_eq!(segment_at(&[1, 2], 0), Err(WalkError::NotAMarker(0)));
    }

    #[test]
    fn a_scan_ends_at_a_marker_and_not_at_stuffing_or_restarts() {
        let scan = [1, 0xFF, 0, 2, 0xFF, RST0, 3, 0xFF, 0xFF, EOI];
        assert_eq!(scan_end(&scan, 0), Some(8));
        assert_eq!(scan_end(&scan[..8], 0), None);
        assert_eq!(scan_end(&scan, 99), None);
    }
}
