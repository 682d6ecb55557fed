//! Joins separately encoded strips into one JPEG.
//!
//! Each strip is a JPEG of its own. The result has the first one's header and the coded data of
//! all. Only that header is moved, by a few bytes:
//!
//! ```text
//! first   header, DRI, SOS │ data          the header moves down by HEADROOM; DRI fills the gap
//! others           FF D0+n │ data          the marker replaces the header's last two bytes
//! last       as the others │ data FF D9
//! ```

use std::ops::Range;

use super::super::{
    header::FRAME_HEIGHT,
    marker::{DRI, RST0, SOF0, SOS, segment_at},
};

/// A strip's position in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Place {
    /// Its number, from 0.
    pub(in super::super) index: usize,
    /// The number of strips.
    pub(in super::super) count: usize,
    /// The frame's height in rows.
    pub(in super::super) height: usize,
    /// MCUs in a strip.
    pub(in super::super) restart_interval: u16,
}

/// Turns the JPEG in `room`, which begins after [`HEADROOM`] bytes, into a strip of a frame.
/// Returns the strip's range in `room`. Concatenated in order, the strips are the frame.
pub(in super::super) fn stitch(room: &mut [u8], jpeg: Range<usize>, place: Place) -> Range<usize> {
    if place.count == 1 {
        return jpeg;
    }
    let landmarks = Landmarks::of(&room[jpeg.clone()]);
    let is_last = place.index + 1 == place.count;
    let end = if is_last { jpeg.end } else { jpeg.end - END_LEN };
    if let Some(before) = place.index.checked_sub(1) {
        let start = jpeg.start + landmarks.scan_data - MARKER_LEN;
        room[start..][..MARKER_LEN].copy_from_slice(&[0xFF, RST0 + (before % 8) as u8]);
        return start..end;
    }
    let height = (place.height as u16).to_be_bytes();
    room[jpeg.start + landmarks.height_at..][..height.len()].copy_from_slice(&height);
    let start = jpeg.start - HEADROOM;
    room.copy_within(jpeg.start..jpeg.start + landmarks.scan_marker, start);
    let [high, low] = place.restart_interval.to_be_bytes();
    let segment = [0xFF, DRI, 0, 4, high, low];
    room[start + landmarks.scan_marker..][..HEADROOM].copy_from_slice(&segment);
    start..end
}

/// The positions in a header at which it is changed or cut.
struct Landmarks {
    height_at: usize,
    scan_marker: usize,
    scan_data: usize,
}

impl Landmarks {
    /// Finds them in a JPEG of our own encoder.
    fn of(jpeg: &[u8]) -> Self {
        let mut height_at = 0;
        let mut at = 2;
        loop {
            let segment = segment_at(jpeg, at).expect("libjpeg writes whole headers");
            at = segment.payload.end;
            match segment.marker {
                SOF0 => height_at = segment.payload.start + FRAME_HEIGHT.start,
                SOS => return Self { height_at, scan_marker: segment.start, scan_data: at },
                _ => {}
            }
        }
    }
}

/// The length of a DRI segment, reserved before a strip's JPEG.
pub(in super::super) const HEADROOM: usize = 6;

const MARKER_LEN: usize = 2;
const END_LEN: usize = MARKER_LEN;

#[cfg(test)]
mod tests {
    use super::*;

    /// The minimum that `stitch` needs: a frame header, a scan header, three bytes of data.
    const JPEG: [u8; 24] = [
        0xFF, 0xD8, 0xFF, SOF0, 0, 8, 8, 0, 16, 0, 32, 1, 0xFF, SOS, 0, 5, 7, 7, 7, 1, 2, 3, 0xFF,
        0xD9,
    ];

    fn stitched(index: usize, count: usize) -> Vec<u8> {
        let mut room = [&[0xA5; HEADROOM][..], &JPEG, &[0xA5; 3]].concat();
        let place = Place { index, count, height: 0x0102, restart_interval: 0x0304 };
        let strip = stitch(&mut room, HEADROOM..HEADROOM + JPEG.len(), place);
        room[strip].to_vec()
    }

    #[test]
    fn a_single_strip_is_the_jpeg_itself() {
        assert_eq!(stitched(0, 1), JPEG);
    }

    #[test]
    fn the_first_strip_carries_the_header_and_restart_interval() {
        let expected = [
            0xFF, 0xD8, 0xFF, SOF0, 0, 8, 8, 1, 2, 0, 32, 1, 0xFF, DRI, 0, 4, 3, 4, 0xFF, SOS, 0,
            5, 7, 7, 7, 1, 2, 3,
        ];
        assert_eq!(stitched(0, 2), expected);
    }

    #[test]
    fn later_strips_begin_with_a_restart_marker() {
        assert_eq!(stitched(1, 3), [0xFF, 0xD0, 1, 2, 3]);
        assert_eq!(stitched(8, 12), [0xFF, 0xD7, 1, 2, 3]);
        assert_eq!(stitched(9, 12), [0xFF, 0xD0, 1, 2, 3]);
        assert_eq!(stitched(2, 3), [0xFF, 0xD1, 1, 2, 3, 0xFF, 0xD9]);
    }
}
