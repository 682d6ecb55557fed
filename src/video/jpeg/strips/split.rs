//! Splits a JPEG at its restart markers into strips that are decoded separately.
//!
//! Any JPEG, including a camera's, may have such markers, at any interval. Several intervals are
//! combined into a strip, so that there are few strips of whole MCU rows.

use std::ops::Range;

use super::{
    super::{header::Header, marker::EOI},
    layout::MIN_PIXELS,
    restart_marker::{next_marker, restart_marker},
    restart_resync::whole_intervals,
};

/// How a frame is split, and how much of it has been found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Split {
    /// Pixel rows in each strip except the last, which may have fewer.
    pub(in super::super) rows: usize,
    /// The number of strips, at least two.
    pub(in super::super) count: usize,
    intervals: usize,
    intervals_per_strip: usize,
    /// The ranges of coded data between markers found so far.
    found: Vec<Range<usize>>,
    /// Where the next interval begins.
    start: usize,
    /// How far the frame has been searched.
    seen: usize,
}

impl Split {
    /// Splits a frame with this header into at most `most` strips, or up to twice as many if no
    /// strip then contains a marker, since libjpeg reads those faster. `None`: decode it whole.
    /// It is too small, has no suitable markers, exceeds a limit below, or `most` is less than two.
    pub(in super::super) fn plan(header: &Header, most: usize) -> Option<Self> {
        let (mcu_width, mcu_height) = header.sampling.mcu()?;
        let (width, height) = (header.size.width, header.size.height);
        let interval = usize::from(header.restart_interval);
        let fits = width * height >= MIN_PIXELS && header.scan_data <= MAX_HEADER_LEN;
        if most < 2 || interval == 0 || !fits {
            return None;
        }
        let mcus_per_row = width.div_ceil(mcu_width);
        let intervals = (mcus_per_row * height.div_ceil(mcu_height)).div_ceil(interval);
        let intervals_in_whole_rows = mcus_per_row / gcd(mcus_per_row, interval);
        let intervals_per_strip = if intervals_in_whole_rows == 1 && intervals.div_ceil(2) <= most {
            1
        } else {
            intervals.div_ceil(most).next_multiple_of(intervals_in_whole_rows)
        };
        if intervals > MAX_INTERVALS || intervals_per_strip >= intervals {
            return None;
        }
        Some(Self {
            rows: intervals_per_strip * interval / mcus_per_row * mcu_height,
            count: intervals.div_ceil(intervals_per_strip),
            intervals,
            intervals_per_strip,
            found: Vec::with_capacity(intervals),
            start: header.scan_data,
            seen: header.scan_data,
        })
    }

    /// Searches `frame`, which may be incomplete, from where the last call ended. Returns the
    /// number of complete strips. `None`: its markers do not match its header. Then it must be
    /// decoded whole, and the decoder detects damage.
    pub(in super::super) fn find_strips(&mut self, frame: &[u8]) -> Option<usize> {
        while self.found.len() < self.intervals {
            let Some(at) = next_marker(frame, self.seen) else {
                let filled = frame.iter().rev().take_while(|&&byte| byte == 0xFF).count();
                self.seen = (frame.len() - filled).max(self.seen);
                break;
            };
            let is_last = self.found.len() + 1 == self.intervals;
            let expected = if is_last { EOI } else { restart_marker(self.found.len()) };
            if frame[at + 1] != expected {
                return None;
            }
            self.found.push(self.start..at);
            self.start = at + 2;
            self.seen = self.start;
        }
        let all = self.found.len() == self.intervals;
        Some(if all { self.count } else { self.found.len() / self.intervals_per_strip })
    }

    /// Finds the strips of `frame` that are complete in the ranges `present`, which are in order
    /// and do not touch. Returns their numbers; none if the markers do not match the header.
    pub(in super::super) fn find_whole_strips(
        &mut self,
        frame: &[u8],
        present: &[Range<usize>],
    ) -> Vec<usize> {
        let whole = whole_intervals(frame, present, self.start, self.intervals);
        let mut is_whole = vec![false; self.intervals];
        self.found = vec![0..0; self.intervals];
        for (number, interval) in whole.into_iter().flatten() {
            is_whole[number] = true;
            self.found[number] = interval;
        }
        let strips = is_whole.chunks(self.intervals_per_strip).enumerate();
        strips.filter(|(_, are_whole)| are_whole.iter().all(|&is| is)).map(|(i, _)| i).collect()
    }

    /// Writes the strip `index` of `frame` to `jpeg` as a complete JPEG, followed by [`RUN_OUT`]
    /// zeros.
    ///
    /// A strip without markers says so in its header. libjpeg then reads it faster, as long as that
    /// many bytes follow.
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
        if let (1, Some(at)) = (self.intervals_per_strip, header.restart_interval_at) {
            jpeg[at..][..2].fill(0);
        }
        header.correct_oddities(jpeg);
        let intervals = self.found.chunks(self.intervals_per_strip).nth(index);
        for (i, interval) in
            intervals.expect("one of the strips that were found").iter().enumerate()
        {
            if let Some(before) = i.checked_sub(1) {
                jpeg.extend([0xFF, restart_marker(before)]);
            }
            jpeg.extend_from_slice(&frame[interval.clone()]);
        }
        jpeg.extend([0xFF, EOI]);
        jpeg.resize(jpeg.len() + RUN_OUT, 0);
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The bytes that must follow for libjpeg-turbo to read an MCU without checking for the end at each
/// byte: 512 for each of six blocks (`BUFSIZE` in its `jdhuff.c`).
const RUN_OUT: usize = 512 * 6;

/// In bytes. Each strip gets a copy of the header, which a large thumbnail would make too
/// expensive.
const MAX_HEADER_LEN: usize = 4096;

/// Cameras that use markers set one per row of MCUs, 135 at 2160p, or one every few MCUs.
const MAX_INTERVALS: usize = 1024;
