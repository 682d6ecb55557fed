//! The built-in test picture: colour bars, a bouncing ball, a second hand, a
//! running clock and the frame number, for people and (see [`read_number`]) for programs.
//!
//! What does not move is painted once; a picture is a copy of it with the movers
//! painted on, 0.3 ms at 720p. It is made as planes, as the encoder wants them.

use std::time::Duration;

use super::{
    barcode,
    paint::{Colour, Mask, blend, digit_masks, digit_width, fill, text_mask, unlit_mask},
};
use crate::video::image::{Image, PixelFormat, Size};

pub use super::barcode::{NUMBERS, read_number};

/// Paints pictures of the pattern, of one size.
#[derive(Debug)]
pub struct Pattern {
    background: Image,
    layout: Layout,
    number_digits: Digits,
    clock_digits: Digits,
    dot: Mask,
    ball: Ball,
    hand: Hand,
}

impl Pattern {
    /// A pattern of this size, with `label` in small letters at its foot.
    pub fn new(size: Size, label: &str) -> Self {
        let layout = Layout::of(size);
        let number_digits = Digits::new(layout.number_height);
        let clock_digits = Digits::new(layout.clock_height);
        let ball = Ball::new(layout.bars.len() * 2 / 11);
        let hand = Hand::new(&layout);
        let dot = disc(layout.clock_height / 7);
        let mut background = Image::blank(size.width, size.height, PixelFormat::Yuv420);
        paint_backdrop(&mut background);
        paint_bars(&mut background, &layout);
        paint_labels(&mut background, &layout, label);
        hand.paint_ring(&mut background);
        for i in 0..NUMBER_DIGITS {
            let left = layout.left + i * digit_width(layout.number_height);
            blend(&mut background, &number_digits.unlit, left, layout.number_top, UNLIT);
        }
        Self { background, layout, number_digits, clock_digits, dot, ball, hand }
    }

    /// The picture of this number (modulo [`NUMBERS`]) with the wall clock at `wall` (UTC).
    pub fn render(&self, number: u32, wall: Duration) -> Image {
        let number = number % NUMBERS;
        let mut image = self.background.clone();
        self.ball.paint(&mut image, &self.layout, number);
        self.hand.paint(&mut image, wall);
        self.paint_number(&mut image, number);
        self.paint_clock(&mut image, wall);
        paint_barcode(&mut image, number);
        image
    }

    fn paint_number(&self, image: &mut Image, number: u32) {
        let width = digit_width(self.layout.number_height);
        let text = format!("{number:>NUMBER_DIGITS$}");
        for (i, digit) in text.chars().enumerate() {
            if let Some(digit) = digit.to_digit(10) {
                let mask = &self.number_digits.lit[digit as usize];
                blend(image, mask, self.layout.left + i * width, self.layout.number_top, AMBER);
            }
        }
    }

    fn paint_clock(&self, image: &mut Image, wall: Duration) {
        let height = self.layout.clock_height;
        let (top, mut left) = (self.layout.clock_top, self.layout.left);
        for c in time_of_day(wall).chars() {
            if let Some(digit) = c.to_digit(10) {
                blend(image, &self.clock_digits.lit[digit as usize], left, top, CYAN);
                left += digit_width(height);
                continue;
            }
            if c == ':' {
                blend(image, &self.dot, left, top + height * 2 / 7, CYAN);
            }
            let low = if c == ':' { top + height * 4 / 7 } else { top + height - self.dot.height };
            blend(image, &self.dot, left, low, CYAN);
            left += self.dot.width * 2;
        }
    }
}

/// Where things are, in pixels from the top left.
#[derive(Debug)]
struct Layout {
    width: usize,
    bars: std::ops::Range<usize>,
    ramp: std::ops::Range<usize>,
    panel: std::ops::Range<usize>,
    left: usize,
    number_top: usize,
    number_height: usize,
    clock_top: usize,
    clock_height: usize,
    text_scale: usize,
}

impl Layout {
    fn of(Size { width, height }: Size) -> Self {
        let row = barcode::row_height(height);
        let between = height - 2 * row;
        let bars = row..row + between * 2 / 5;
        let ramp = bars.end..bars.end + between / 18;
        let panel = ramp.end..height - row;
        // The digits take the left two thirds at most.
        let widest = width * 10 / 17 * 16 / 11 / NUMBER_DIGITS;
        let number_height = (panel.len() * 37 / 100).min(widest);
        let clock_height = number_height * 11 / 20;
        let text_scale = (panel.len() / 176).max(1);
        let gap = (panel.len() - number_height - clock_height) / 3;
        let number_top = panel.start + gap.max(1);
        let clock_top = number_top + number_height + gap * 4 / 5;
        let left = width / 26;
        Self {
            width,
            bars,
            ramp,
            panel,
            left,
            number_top,
            number_height,
            clock_top,
            clock_height,
            text_scale,
        }
    }
}

/// Ten digits of one height.
#[derive(Debug)]
struct Digits {
    lit: [Mask; 10],
    unlit: Mask,
}

impl Digits {
    fn new(height: usize) -> Self {
        Self { lit: digit_masks(height), unlit: unlit_mask(height) }
    }
}

/// A ball that bounces over the colour bars.
#[derive(Debug)]
struct Ball {
    disc: Mask,
    shine: Mask,
    gleam: Mask,
}

impl Ball {
    fn new(radius: usize) -> Self {
        Self { disc: disc(radius * 2), shine: disc(radius * 3 / 2), gleam: disc(radius / 2) }
    }

    fn paint(&self, image: &mut Image, layout: &Layout, number: u32) {
        let side = self.disc.width;
        let (x_room, y_room) =
            (layout.width.saturating_sub(side), layout.bars.len().saturating_sub(side));
        let step = layout.width as f32 / 150.0;
        let left = bounce(number as f32 * step, x_room);
        let top = layout.bars.start + bounce(number as f32 * step * 0.61, y_room);
        blend(image, &self.disc, left, top, Colour::rgb(168, 40, 46));
        blend(image, &self.shine, left + side / 8, top + side / 12, Colour::rgb(226, 66, 60));
        blend(image, &self.gleam, left + side / 4, top + side / 6, Colour::rgb(255, 214, 196));
    }
}

/// A ring around which a comet runs once a second.
#[derive(Debug)]
struct Hand {
    /// The ring's pixels: where, at which 256th of the turn, and how much they are covered.
    pixels: Vec<(usize, u8, u8)>,
    ring: Mask,
    left: usize,
    top: usize,
}

impl Hand {
    fn new(layout: &Layout) -> Self {
        let room = layout.width - layout.width * 10 / 17 - 3 * layout.left;
        let side = (layout.panel.len() * 4 / 5).min(room) & !1;
        let outer = side as f32 / 2.0;
        let inner = outer * 0.66;
        let ring = Mask::of(side, side, |x, y| {
            let r = (x - outer).hypot(y - outer);
            r <= outer && r >= inner
        });
        let left = (layout.width - side - layout.left * 3 / 2) & !1;
        let top = (layout.panel.start + (layout.panel.len() - side) / 2) & !1;
        let mut hand = Self { pixels: Vec::new(), ring, left, top };
        hand.pixels = hand.ring_pixels(layout.width);
        hand
    }

    fn ring_pixels(&self, width: usize) -> Vec<(usize, u8, u8)> {
        let centre = self.ring.width as f32 / 2.0;
        let every = (0..self.ring.height).flat_map(|y| (0..self.ring.width).map(move |x| (x, y)));
        every
            .filter_map(|(x, y)| {
                let alpha = self.ring.at(x, y) as u8;
                let (right, up) = (x as f32 + 0.5 - centre, centre - y as f32 - 0.5);
                let turn = right.atan2(up) / std::f32::consts::TAU;
                let turn = (turn.rem_euclid(1.0) * 256.0) as u8;
                let at = (self.top + y) * width + self.left + x;
                (alpha > 0).then_some((at, turn, alpha))
            })
            .collect()
    }

    /// The ring's colour, which stays; only its brightness runs.
    fn paint_ring(&self, background: &mut Image) {
        blend(background, &self.ring, self.left, self.top, Colour::rgb(30, 74, 104));
    }

    fn paint(&self, image: &mut Image, wall: Duration) {
        let phase = (wall.subsec_millis() * 256 / 1000) as u8;
        let glow: Vec<u32> = (0_u32..256).map(|behind| (255 - behind).pow(3) / 65_025).collect();
        for &(at, turn, alpha) in &self.pixels {
            let glow = glow[usize::from(phase.wrapping_sub(turn))] * u32::from(alpha) / 255;
            let base = u32::from(image.data[at]);
            image.data[at] = (base + (235_u32.saturating_sub(base)) * glow / 255) as u8;
        }
    }
}

/// A position that runs to and fro in `0..=room`.
fn bounce(travelled: f32, room: usize) -> usize {
    let room = room.max(1) as f32;
    let at = travelled.rem_euclid(2.0 * room);
    (if at > room { 2.0 * room - at } else { at }) as usize
}

fn disc(diameter: usize) -> Mask {
    let diameter = diameter.max(2);
    let radius = diameter as f32 / 2.0;
    Mask::of(diameter, diameter, |x, y| (x - radius).hypot(y - radius) <= radius)
}

/// Night blue that brightens downwards.
fn paint_backdrop(image: &mut Image) {
    let (width, height) = (image.width, image.height);
    for y in (0..height).step_by(2) {
        let down = (y * 255 / height) as u8;
        let colour = Colour::rgb(10 + down / 16, 15 + down / 12, 32 + down / 7);
        fill(image, 0..width, y..y + 2, colour);
    }
}

fn paint_bars(image: &mut Image, layout: &Layout) {
    let bar = |i: usize, count: usize| {
        (i * layout.width / count) & !1..((i + 1) * layout.width / count).next_multiple_of(2)
    };
    for (i, &(r, g, b)) in BARS.iter().enumerate() {
        fill(image, bar(i, BARS.len()), layout.bars.clone(), Colour::rgb(r, g, b));
    }
    for i in 0..RAMP_STEPS {
        let gray = Colour::gray((i * 255 / (RAMP_STEPS - 1)) as u8);
        fill(image, bar(i, RAMP_STEPS), layout.ramp.clone(), gray);
    }
}

fn paint_labels(image: &mut Image, layout: &Layout, label: &str) {
    let height = 8 * layout.text_scale;
    let above = |top: usize| top.saturating_sub(height + height / 2);
    let mut line = |text: &str, top: usize| {
        blend(image, &text_mask(text, layout.text_scale), layout.left, top, LABEL);
    };
    if layout.number_top - layout.panel.start > 2 * height {
        line("FRAME", above(layout.number_top));
        line("UTC", above(layout.clock_top));
        line(label, layout.panel.end.saturating_sub(2 * height));
    }
}

fn paint_barcode(image: &mut Image, number: u32) {
    let (width, height) = (image.width, image.height);
    let row = barcode::row_height(height);
    for (columns, white) in barcode::cells(number, width) {
        let colour = Colour::gray(if white { 255 } else { 0 });
        fill(image, columns.clone(), 0..row, colour);
        fill(image, columns, height - row..height, colour);
    }
}

/// `hh:mm:ss.mmm`, in UTC.
fn time_of_day(wall: Duration) -> String {
    let (s, ms) = (wall.as_secs(), wall.subsec_millis());
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600 % 24, s / 60 % 60, s % 60)
}

/// Digits of the frame number: [`NUMBERS`] has eight, but none gets that far in four days.
const NUMBER_DIGITS: usize = 7;

/// Grey steps from black to white under the bars.
const RAMP_STEPS: usize = 16;

/// The colour bars, left to right.
const BARS: [(u8, u8, u8); 8] = [
    (235, 235, 235),
    (238, 200, 60),
    (64, 190, 200),
    (88, 178, 88),
    (186, 92, 180),
    (206, 74, 66),
    (58, 92, 190),
    (24, 26, 36),
];

const AMBER: Colour = Colour { y: 200, cb: 58, cr: 167 };
const CYAN: Colour = Colour { y: 196, cb: 158, cr: 72 };
const UNLIT: Colour = Colour { y: 38, cb: 138, cr: 124 };
const LABEL: Colour = Colour { y: 150, cb: 140, cr: 122 };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::jpeg::{Decoder, Encoder, Strips, Want};
    use proptest::prelude::*;

    fn pattern(width: usize, height: usize) -> Pattern {
        Pattern::new(Size { width, height }, "test")
    }

    /// What the number reads as after the codec.
    fn through_jpeg(image: &Image, quality: u8, gray: bool, want: Want) -> Option<u32> {
        let (mut frame, mut decoded) = (Vec::new(), Image::empty());
        let mut encoder = Encoder::new(quality, Strips::Auto);
        encoder.set_gray(gray);
        encoder.encode(image, &mut frame).expect("encodes");
        Decoder::new().decode(&frame, want, &mut decoded).expect("decodes");
        read_number(&decoded)
    }

    #[test]
    fn the_number_survives_quality_30_at_all_sizes() {
        let sizes = [(160, 120), (176, 144), (161, 121), (320, 240), (640, 360), (1280, 720)];
        for (width, height) in sizes.into_iter().chain([(1920, 1080), (240, 426)]) {
            let pattern = pattern(width, height);
            for number in [0, 1, 0x55_5555, 0xAA_AAAA, NUMBERS - 1] {
                let image = pattern.render(number, Duration::from_millis(u64::from(number)));
                assert_eq!(read_number(&image), Some(number), "{width}x{height}");
                for (gray, want) in [(false, Want::Bgr), (true, Want::Planar)] {
                    let read = through_jpeg(&image, 30, gray, want);
                    assert_eq!(read, Some(number), "{width}x{height} gray {gray}");
                }
            }
        }
    }

    #[test]
    fn any_size_renders() {
        for (width, height) in [(16, 16), (17, 33), (8192, 16), (16, 2000), (31, 1080)] {
            let image = pattern(width, height).render(7, Duration::ZERO);
            assert_eq!((image.width, image.height), (width, height));
        }
    }

    #[test]
    fn a_picture_of_two_frames_has_no_number() {
        let pattern = pattern(320, 240);
        let [mut a, b] = [41, 42].map(|n| pattern.render(n, Duration::ZERO));
        let half = 320 * 120;
        a.data[..half].copy_from_slice(&b.data[..half]);
        assert_eq!(read_number(&a), None);
    }

    #[test]
    fn the_picture_moves() {
        let pattern = pattern(320, 240);
        let [a, b] = [1, 2].map(|n| pattern.render(n, Duration::ZERO));
        let [c, d] = [100, 200].map(|ms| pattern.render(1, Duration::from_millis(ms)));
        assert!(a != b && c != d);
    }

    #[test]
    fn the_clock_shows_the_time_of_day() {
        let wall = Duration::new(86_400 * 20_000 + 3_600 * 23 + 59 * 60 + 7, 42_000_000);
        assert_eq!(time_of_day(wall), "23:59:07.042");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_number_survives(number in 0..NUMBERS, quality in 30_u8..=100, gray: bool) {
            let image = pattern(160, 120).render(number, Duration::from_millis(number.into()));
            prop_assert_eq!(through_jpeg(&image, quality, gray, Want::Planar), Some(number));
        }
    }
}
