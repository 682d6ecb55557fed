//! Finds complete restart intervals in a frame with gaps.
//!
//! An interval is complete if the markers at both ends and everything between them have been
//! received. Markers count modulo eight, so after a gap a marker does not determine its position.
//! But the markers of all runs (stretches without a gap) must fit between the beginning and the end
//! of the frame: an interval is used only if exactly one position is possible.

use std::ops::{Range, RangeInclusive};

use super::restart_marker::{next_marker, restart_marker};
use crate::video::jpeg::marker::EOI;

/// The complete intervals of `frame`, which has `count` in all. `present` are the received ranges,
/// which are in order, do not touch, and lie within the frame. Its coded data starts at
/// `scan_data`. Returns each interval's number and its range in `frame`. `None`: the markers do not
/// match such a frame.
pub(super) fn whole_intervals(
    frame: &[u8],
    present: &[Range<usize>],
    scan_data: usize,
    count: usize,
) -> Option<Vec<(usize, Range<usize>)>> {
    let mut runs = Vec::new();
    for range in present.iter().filter(|range| range.end > scan_data) {
        let run = Run::find(frame, range.start.max(scan_data)..range.end);
        if !run.markers.is_empty() {
            runs.push(run);
        }
    }
    let mut least = 0;
    for run in &mut runs {
        run.first = if run.start == scan_data { 0..=0 } else { least..=count };
        let first = run.first.clone().find(|&first| run.fits(first, count))?;
        run.first = first..=first;
        least = first + run.markers.len();
    }
    let mut end = count;
    for run in runs.iter_mut().rev() {
        let earliest = *run.first.start();
        let latest = end.checked_sub(run.markers.len())?;
        let latest = if run.start == scan_data { 0 } else { latest };
        let first = (earliest..=latest).rev().find(|&first| run.fits(first, count))?;
        run.first = earliest..=first;
        end = first;
    }
    let placed = runs.iter().filter(|run| run.first.start() == run.first.end());
    Some(placed.flat_map(|run| run.intervals(scan_data)).collect())
}

/// A stretch of coded data without a gap.
struct Run {
    start: usize,
    /// The position and the second byte of each marker.
    markers: Vec<(usize, u8)>,
    /// The possible numbers of the interval that the first marker ends.
    first: RangeInclusive<usize>,
}

impl Run {
    fn find(frame: &[u8], range: Range<usize>) -> Self {
        let (bytes, mut from) = (&frame[..range.end], range.start);
        let mut markers = Vec::new();
        while let Some(at) = next_marker(bytes, from) {
            markers.push((at, bytes[at + 1]));
            from = at + 2;
        }
        Self { start: range.start, markers, first: 0..=0 }
    }

    /// Whether its markers can be those of the intervals from `first` on, of `count`.
    fn fits(&self, first: usize, count: usize) -> bool {
        let mut numbered = (first..).zip(&self.markers);
        numbered.all(|(interval, &(_, marker))| {
            interval < count
                && marker == if interval + 1 == count { EOI } else { restart_marker(interval) }
        })
    }

    /// Its complete intervals: one before each marker. The interval before the first marker is
    /// complete only if the run starts where the coded data does.
    fn intervals(&self, scan_data: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let from_start = (self.start == scan_data).then_some(scan_data);
        let starts = from_start.into_iter().chain(self.markers.iter().map(|(at, _)| at + 2));
        let skipped = usize::from(from_start.is_none());
        let ends = self.markers.iter().skip(skipped).map(|(at, _)| *at);
        let numbers = *self.first.start() + skipped..;
        numbers.zip(starts.zip(ends).map(|(start, end)| start..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

    const SCAN_DATA: usize = 20;

    /// A frame of `count` intervals of ten bytes each, without the markers, and the range of each.
    fn frame(count: usize) -> (Vec<u8>, Vec<Range<usize>>) {
        let mut frame = vec![7; SCAN_DATA];
        let mut intervals = Vec::new();
        for interval in 0..count {
            intervals.push(frame.len()..frame.len() + 10);
            frame.extend([1, 2, 0xFF, 0, 5, 6, 7, 0xFF, 0, 8]);
            let is_last = interval + 1 == count;
            frame.extend([0xFF, if is_last { EOI } else { restart_marker(interval) }]);
        }
        (frame, intervals)
    }

    fn found(frame: &[u8], gaps: &[Range<usize>], count: usize) -> Option<Vec<usize>> {
        let (mut start, mut present) = (0, Vec::new());
        // The content of a gap must not matter.
        let mut damaged = frame.to_vec();
        for gap in gaps {
            present.push(start..gap.start);
            start = gap.end;
            damaged[gap.clone()].fill(0xFF);
        }
        present.push(start..frame.len());
        present.retain(|range| !range.is_empty());
        let whole = whole_intervals(&damaged, &present, SCAN_DATA, count)?;
        for (_, interval) in &whole {
            assert_eq!(damaged[interval.clone()], frame[interval.clone()]);
        }
        let places = self::frame(count).1;
        assert!(whole.iter().all(|(number, interval)| places[*number] == *interval));
        Some(whole.into_iter().map(|(number, _)| number).collect())
    }

    #[test]
    fn all_intervals_outside_a_gap_are_found() {
        for count in [2, 5, 8, 16, 45] {
            let (frame, intervals) = frame(count);
            for start in SCAN_DATA..frame.len() {
                for end in start + 1..=frame.len().min(start + 40) {
                    // Including the markers before and after it.
                    let is_whole = |i: &usize| {
                        let first = if *i == 0 { 0 } else { 2 };
                        let interval = intervals[*i].start - first..intervals[*i].end + 2;
                        interval.end <= start || end <= interval.start
                    };
                    let whole: Vec<usize> = (0..count).filter(is_whole).collect();
                    let gap = start..end;
                    assert_eq!(
                        found(&frame, &[gap], count),
                        Some(whole),
                        "{count}: {start}..{end}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_interval_between_gaps_needs_an_unambiguous_number() {
        let (frame, at) = frame(40);
        let gap = |from: usize, to: usize| at[from].start + 3..at[to].end - 3;
        // Seven markers are missing on each side, so those between have only one possible position.
        let found_with = |gaps: [Range<usize>; 2]| {
            let found = found(&frame, &gaps, 40).expect("its own markers");
            found.into_iter().filter(|i| (10..30).contains(i)).count()
        };
        assert_eq!(found_with([gap(3, 10), gap(25, 32)]), 14);
        // Eight are missing on both sides: the position could be eight later or earlier.
        assert_eq!(found_with([gap(2, 10), gap(25, 33)]), 0);
        // Eight on one side are enough for that.
        assert_eq!(found_with([gap(2, 10), gap(25, 30)]), 0);
    }

    #[test]
    fn ambiguous_intervals_before_a_missing_end_are_omitted() {
        let (eight, at) = frame(8);
        let gaps = [at[1].start + 1..at[2].end, at[4].start..eight.len()];
        assert_eq!(found(&eight, &gaps, 8), Some(vec![0, 3]));
        let (sixteen, at) = frame(16);
        let gaps = [at[1].start + 1..at[2].end, at[4].start..sixteen.len()];
        assert_eq!(found(&sixteen, &gaps, 16), Some(vec![0]), "3 might be 11");
    }

    #[test]
    fn markers_that_contradict_the_count_are_refused() {
        let (frame, at) = frame(6);
        let all = 0..frame.len();
        for count in [1, 2, 5, 7, 14] {
            assert_eq!(whole_intervals(&frame, slice::from_ref(&all), SCAN_DATA, count), None);
        }
        let mut wrong = frame.clone();
        wrong[at[2].end + 1] = restart_marker(3);
        assert_eq!(whole_intervals(&wrong, &[0..at[3].end, at[4].end..90], SCAN_DATA, 6), None);
    }
}
