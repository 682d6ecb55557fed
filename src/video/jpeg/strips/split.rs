//! Splitting a JPEG at its restart markers into strips that decode apart.
//!
//! Any JPEG may have such markers, also those of cameras, and at any distance. As many
//! intervals go to a strip as it takes to have few strips of whole rows of MCUs.

use std::ops::Range;

use super::{
    super::{
        header::Header,
        marker::{EOI, RST0, RST7},
    },
    layout::MIN_PIXELS,
};

/// How a frame is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Split {
    /// Rows of pixels in each strip but the last, which may have fewer.
    pub(in super::super) rows: usize,
    /// How many strips there are, at least two.
    pub(in super::super) count: usize,
    /// The coded data between the markers, all of the frame's.
    intervals: Vec<Range<usize>>,
    intervals_a_strip: usize,
}

impl Split {
    /// Splits `frame` into at most so many strips. `None`: it is to be decoded whole, since
    /// it is too small, has no markers where rows begin, or anything about them is not as its
    /// header says; then the decoder finds out whether it is damaged.
    pub(in super::super) fn plan(frame: &[u8], header: &Header, most: usize) -> Option<Self> {
        let (mcu_width, mcu_height) = header.sampling.mcu()?;
        let (width, height) = (header.size.width, header.size.height);
        let interval = usize::from(header.restart_interval);
        let fits = width * height >= MIN_PIXELS && header.scan_data <= MAX_HEADER_LEN;
        if most < 2 || interval == 0 || !fits {
            return None;
        }
        let mcus_a_row = width.div_ceil(mcu_width);
        let intervals = (mcus_a_row * height.div_ceil(mcu_height)).div_ceil(interval);
        let intervals_in_whole_rows = mcus_a_row / common_divisor(mcus_a_row, interval);
        let intervals_a_strip = intervals.div_ceil(most).next_multiple_of(intervals_in_whole_rows);
        if intervals > MAX_INTERVALS || intervals_a_strip >= intervals {
            return None;
        }
        Some(Self {
            rows: intervals_a_strip * interval / mcus_a_row * mcu_height,
            count: intervals.div_ceil(intervals_a_strip),
            intervals: find_intervals(frame, header.scan_data, intervals)?,
            intervals_a_strip,
        })
    }

    /// Makes `jpeg` a whole JPEG of the strip `index` of `frame`.
    pub(in super::super) fn write_strip(
        &self,
        frame: &[u8],
        header: &Header,
        index: usize,
        jpeg: &mut Vec<u8>,
    ) {
        jpeg.clear();
        jpeg.extend_from_slice(&frame[..header.scan_data]);
        let height = self.rows.min(header.size.height - index * self.rows);
        let height = (height as u16).to_be_bytes();
        jpeg[header.height_at..][..height.len()].copy_from_slice(&height);
        let intervals = self.intervals.chunks(self.intervals_a_strip).nth(index);
        for (i, interval) in intervals.expect("one of the strips").iter().enumerate() {
            if let Some(before) = i.checked_sub(1) {
                jpeg.extend([0xFF, restart_marker(before)]);
            }
            jpeg.extend_from_slice(&frame[interval.clone()]);
        }
        jpeg.extend([0xFF, EOI]);
    }
}

/// The coded data from `from` on, if exactly the right restart markers divide it into `count`
/// intervals, and the end follows.
fn find_intervals(frame: &[u8], from: usize, count: usize) -> Option<Vec<Range<usize>>> {
    let mut intervals = Vec::with_capacity(count);
    let (mut start, mut at) = (from, from);
    loop {
        at += memchr::memchr(0xFF, frame.get(at..)?)?;
        match *frame.get(at + 1)? {
            0 => at += 2,
            marker @ RST0..=RST7 => {
                if marker != restart_marker(intervals.len()) || intervals.len() + 1 == count {
                    return None;
                }
                intervals.push(start..at);
                at += 2;
                start = at;
            }
            EOI => {
                intervals.push(start..at);
                return (intervals.len() == count).then_some(intervals);
            }
            _ => return None,
        }
    }
}

/// The marker after the interval of this number: they count modulo eight.
fn restart_marker(interval: usize) -> u8 {
    RST0 + (interval % 8) as u8
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Each strip gets a copy of the header, so one that is mostly thumbnail is not worth it.
const MAX_HEADER_LEN: usize = 4096;

/// Cameras that set markers set one a row of MCUs, 135 at 2160p, or one every few MCUs.
const MAX_INTERVALS: usize = 1024;
