//! A second hand: a comet that runs around a ring once a second. Its tail covers half of the ring.

use std::time::Duration;

use super::paint::{Colour, Mask, blend, div_255, mix_row};
use crate::video::image::Image;

/// The ring and its position.
#[derive(Debug)]
pub(super) struct SecondHand {
    ring: Mask,
    left: usize,
    top: usize,
    /// The ring's pixels, row by row.
    runs: Vec<Run>,
    /// For each pixel of the runs, its angle in 1/256 turn.
    turns: Vec<u8>,
    /// For each pixel, how much of it the ring covers.
    cover: Vec<u8>,
    /// For each pixel, its luma in the background. Stored contiguously, so that the processor can
    /// prefetch it, unlike rows that are a picture's width apart.
    luma: Vec<u8>,
}

/// Adjacent pixels of the ring in one row.
#[derive(Debug)]
struct Run {
    /// Index of the first pixel in the luma plane.
    at: usize,
    len: usize,
    /// The range of their angles in 1/256 turn, inclusive.
    turns: (u8, u8),
}

impl SecondHand {
    /// A ring of `side` pixels in diameter, with its box's top left corner at (`left`, `top`), in
    /// an image of `width` pixels a row.
    pub(super) fn new(width: usize, left: usize, top: usize, side: usize) -> Self {
        let outer = side as f32 / 2.0;
        let inner = outer * 0.66;
        let ring = Mask::of(side, side, |x, y| {
            let r = (x - outer).hypot(y - outer);
            r <= outer && r >= inner
        });
        let (runs, turns, cover, luma) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut hand = Self { ring, left, top, runs, turns, cover, luma };
        hand.find_runs(width);
        hand
    }

    fn find_runs(&mut self, width: usize) {
        let (side, centre) = (self.ring.width, self.ring.width as f32 / 2.0);
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let cover = self.ring.at(x, y) as u8;
            if cover == 0 {
                continue;
            }
            let at = (self.top + y) * width + self.left + x;
            let (right, up) = (x as f32 + 0.5 - centre, centre - y as f32 - 0.5);
            let turn = right.atan2(up) / std::f32::consts::TAU;
            let turn = (turn.rem_euclid(1.0) * 256.0) as u8;
            match self.runs.last_mut() {
                Some(Run { at: start, len, turns: (first, last) }) if *start + *len == at => {
                    *len += 1;
                    (*first, *last) = (turn.min(*first), turn.max(*last));
                }
                _ => self.runs.push(Run { at, len: 1, turns: (turn, turn) }),
            }
            self.turns.push(turn);
            self.cover.push(cover);
        }
    }

    /// Paints the ring's constant colour; only its luma is animated.
    pub(super) fn paint_ring(&self, background: &mut Image) {
        blend(background, &self.ring, self.left, self.top, Colour::rgb(30, 74, 104));
    }

    /// Stores the luma of the finished background under the ring.
    pub(super) fn note_background(&mut self, background: &Image) {
        let runs = self.runs.iter().map(|run| &background.data[run.at..][..run.len]);
        self.luma = runs.collect::<Vec<_>>().concat();
    }

    /// Paints the ring's luma: the background, and the comet at its position at the time `wall`.
    /// Runs that are dark then and were dark at the time `was` are skipped.
    pub(super) fn paint(&self, image: &mut Image, wall: Duration, was: Option<Duration>) {
        let (phase, was) = (phase_at(wall), was.map(phase_at));
        let glow: [u8; 256] = std::array::from_fn(|turn| glow(phase.wrapping_sub(turn as u8)));
        let mut alpha = vec![0; self.ring.width];
        let (mut turns, mut cover, mut luma) = (&self.turns[..], &self.cover[..], &self.luma[..]);
        for run in &self.runs {
            if was.is_none_or(|was| run.is_lit(was)) || run.is_lit(phase) {
                let alpha = &mut alpha[..run.len];
                // A separate lookup loop, so that the rest can be vectorized.
                for (alpha, &turn) in alpha.iter_mut().zip(turns) {
                    *alpha = glow[usize::from(turn)];
                }
                for (alpha, &cover) in alpha.iter_mut().zip(cover) {
                    *alpha = div_255(u16::from(*alpha) * u16::from(cover));
                }
                let row = &mut image.data[run.at..][..run.len];
                row.copy_from_slice(&luma[..run.len]);
                mix_row(row, BRIGHTEST, alpha);
            }
            (turns, cover, luma) = (&turns[run.len..], &cover[run.len..], &luma[run.len..]);
        }
    }
}

impl Run {
    /// Whether the comet may cover any of these pixels when its head is at `phase`.
    fn is_lit(&self, phase: u8) -> bool {
        let (first, last) = self.turns;
        let tail = phase.wrapping_sub(TAIL - 1);
        first.wrapping_sub(tail) < TAIL || tail.wrapping_sub(first) <= last - first
    }
}

/// The angle of the comet's head in 1/256 turn.
fn phase_at(wall: Duration) -> u8 {
    (wall.subsec_millis() * 256 / 1000) as u8
}

/// The comet's brightness `behind` 1/256 turns behind its head.
fn glow(behind: u8) -> u8 {
    let (left, tail) = (u32::from(TAIL.saturating_sub(behind)), u32::from(TAIL));
    (left * left * 255 / (tail * tail)) as u8
}

/// The comet's length, in 1/256 turn.
const TAIL: u8 = 128;

/// The luma of the comet's head.
const BRIGHTEST: u8 = 235;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::image::PixelFormat;

    #[test]
    fn the_comet_is_brightest_at_its_head_and_stays_on_the_ring() {
        let mut hand = SecondHand::new(100, 10, 20, 40);
        let mut image = Image::blank(100, 80, PixelFormat::Yuv420);
        hand.note_background(&image);
        // At a quarter of a second: on the right.
        hand.paint(&mut image, Duration::from_millis(250), None);
        let [before, head, tail] = [(32, 23), (46, 38), (46, 43)].map(|(x, y)| image.luma_at(x, y));
        assert!(head > 200 && before < head && tail < 10, "{before} {head} {tail}");
        assert_eq!(image.luma_at(30, 40), 0, "the middle");
        hand.paint(&mut image, Duration::from_millis(750), Some(Duration::from_millis(250)));
        assert!(image.luma_at(46, 38) < image.luma_at(14, 42), "half a second on");
    }

    #[test]
    fn a_run_is_lit_if_any_of_its_pixels_may_be() {
        for (phase, first, last) in (0..=255_u8).flat_map(|phase| {
            [(0, 0), (0, 255), (3, 9), (100, 130), (250, 255)].map(|(f, l)| (phase, f, l))
        }) {
            let run = Run { at: 0, len: 1, turns: (first, last) };
            let lit = (first..=last).any(|turn| glow(phase.wrapping_sub(turn)) > 0);
            // At its very end the comet is too faint to be visible.
            let may_be = (first..=last).any(|turn| phase.wrapping_sub(turn) < TAIL);
            assert!(run.is_lit(phase) == may_be && (may_be || !lit), "{phase} {first} {last}");
        }
    }
}
