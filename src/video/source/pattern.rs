//! The built-in test pattern: colour bars, a bouncing ball, a second hand, a running clock and the
//! frame number, for people and (see [`read_number`]) for programs.
//!
//! The static parts are painted once, as the background. A picture that is no longer in use is
//! painted over to make the next one: each moving part repaints its own box if its content has
//! changed, and the ball is erased first. At 720p that takes 0.2 ms, and a new picture 0.5 ms, both
//! with cold caches. Pictures are planar, as the encoder expects.

use std::{sync::Arc, time::Duration};

use super::{
    barcode,
    paint::{
        Colour, Mask, blend, digit_masks, digit_width, disc, fill, restore, text_mask, unlit_mask,
    },
    second_hand::SecondHand,
};
use crate::video::image::{Image, PixelFormat, Size};

pub use super::barcode::{NUMBERS, read_number};

/// Paints pictures of the pattern at one size.
#[derive(Debug)]
pub struct Pattern {
    background: Image,
    layout: Layout,
    number_digits: Digits,
    clock_digits: Digits,
    dot: Mask,
    ball: Ball,
    second_hand: SecondHand,
    given: Vec<Given>,
}

/// A picture that was delivered.
#[derive(Debug)]
struct Given {
    image: Arc<Image>,
    content: Content,
}

/// The content of a picture.
#[derive(Clone, Copy, Debug)]
struct Content {
    /// Below [`NUMBERS`].
    number: u32,
    wall: Duration,
}

impl Content {
    fn new(number: u32, wall: Duration) -> Self {
        Self { number: number % NUMBERS, wall }
    }

    fn number_text(self) -> String {
        format!("{:>NUMBER_DIGITS$}", self.number % 10_u32.pow(NUMBER_DIGITS as u32))
    }
}

impl Pattern {
    /// A pattern of this size, with `label` in small letters at the bottom.
    pub fn new(size: Size, label: &str) -> Self {
        let layout = Layout::of(size);
        let number_digits = Digits::new(layout.number_height);
        let clock_digits = Digits::new(layout.clock_height);
        let ball = Ball::new(layout.bars.len() * 2 / 11);
        let (left, top, side) = layout.second_hand();
        let mut second_hand = SecondHand::new(size.width, left, top, side);
        let dot = disc(layout.clock_height / 7);
        let mut background = Image::blank(size.width, size.height, PixelFormat::Yuv420);
        paint_backdrop(&mut background);
        paint_bars(&mut background, &layout);
        paint_labels(&mut background, &layout, label);
        second_hand.paint_ring(&mut background);
        for i in 0..NUMBER_DIGITS {
            let left = layout.left + i * digit_width(layout.number_height);
            blend(&mut background, &number_digits.unlit, left, layout.number_top, UNLIT);
        }
        second_hand.note_background(&background);
        let given = Vec::new();
        Self { background, layout, number_digits, clock_digits, dot, ball, second_hand, given }
    }

    /// The same pattern in shades of grey.
    #[must_use]
    pub fn into_gray(mut self) -> Self {
        self.background.drop_chroma();
        self.given.clear();
        self
    }

    /// The picture of this number (modulo [`NUMBERS`]) with the wall clock at `wall` (UTC).
    pub fn render(&self, number: u32, wall: Duration) -> Image {
        let mut image = self.background.clone();
        self.paint_movers(&mut image, Content::new(number, wall), None);
        image
    }

    /// The same picture as [`render`](Self::render), painted over an earlier one that is no longer
    /// in use, if there is one.
    pub fn picture(&mut self, number: u32, wall: Duration) -> Arc<Image> {
        let content = Content::new(number, wall);
        let image = self.paint_over(content).unwrap_or_else(|| self.render(number, wall).into());
        if self.given.len() == MAX_GIVEN {
            self.given.remove(0);
        }
        self.given.push(Given { image: Arc::clone(&image), content });
        image
    }

    fn paint_over(&mut self, content: Content) -> Option<Arc<Image>> {
        let at =
            self.given.iter_mut().position(|given| Arc::get_mut(&mut given.image).is_some())?;
        let Given { mut image, content: was } = self.given.remove(at);
        let over = Arc::get_mut(&mut image)?;
        let (left, top) = self.ball.place(&self.layout, was.number);
        restore(over, &self.background, &self.ball.disc, left, top);
        let keeps = (self.layout.number_height >= MIN_KEPT_HEIGHT).then_some(was);
        self.paint_movers(over, content, keeps);
        Some(image)
    }

    /// Paints the moving parts on a picture without a ball. Parts unchanged since `was`, if given,
    /// are skipped.
    fn paint_movers(&self, image: &mut Image, content: Content, was: Option<Content>) {
        self.ball.paint(image, &self.layout, content.number);
        self.second_hand.paint(image, content.wall, was.map(|was| was.wall));
        self.paint_number(image, &content.number_text(), was.map(Content::number_text));
        self.paint_clock(image, &time_of_day(content.wall), was.map(|was| time_of_day(was.wall)));
        paint_barcode(image, content.number, was.map(|was| was.number));
    }

    fn paint_number(&self, image: &mut Image, text: &str, was: Option<String>) {
        let (width, top) = (digit_width(self.layout.number_height), self.layout.number_top);
        for (i, (c, is_new)) in with_changes(text, was).enumerate() {
            let left = self.layout.left + i * width;
            if is_new {
                restore(image, &self.background, &self.number_digits.unlit, left, top);
            }
            if let Some(digit) = c.to_digit(10).filter(|_| is_new) {
                blend(image, &self.number_digits.lit[digit as usize], left, top, AMBER);
            }
        }
    }

    fn paint_clock(&self, image: &mut Image, text: &str, was: Option<String>) {
        let (top, mut left) = (self.layout.clock_top, self.layout.left);
        for (c, is_new) in with_changes(text, was) {
            let (masks, width) = self.clock_masks(c);
            for (mask, below) in masks.into_iter().flatten().filter(|_| is_new) {
                restore(image, &self.background, mask, left, top + below);
                blend(image, mask, left, top + below, CYAN);
            }
            left += width;
        }
    }

    /// The masks of a character of the clock, each with its offset below the clock's top, and the
    /// character's width.
    fn clock_masks(&self, c: char) -> ([Option<(&Mask, usize)>; 2], usize) {
        let (dot, height) = (&self.dot, self.layout.clock_height);
        if let Some(digit) = c.to_digit(10) {
            let digit = &self.clock_digits.lit[digit as usize];
            return ([Some((digit, 0)), None], digit_width(height));
        }
        let masks = match c {
            ':' => [Some((dot, height * 2 / 7)), Some((dot, height * 4 / 7))],
            _ => [Some((dot, height.saturating_sub(dot.height))), None],
        };
        (masks, dot.width * 2)
    }
}

/// The characters of a text, and whether each has changed.
fn with_changes(text: &str, was: Option<String>) -> impl Iterator<Item = (char, bool)> {
    text.chars().enumerate().map(move |(i, c)| {
        let is_unchanged = was.as_deref().is_some_and(|was| was.as_bytes()[i] == c as u8);
        (c, !is_unchanged)
    })
}

/// The position of each part, in pixels from the top left.
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
        // The digits take at most the left two thirds.
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

    /// The ring's left, top and side, all even.
    fn second_hand(&self) -> (usize, usize, usize) {
        let room = self.width - self.width * 10 / 17 - 3 * self.left;
        let side = (self.panel.len() * 4 / 5).min(room) & !1;
        let left = (self.width - side - self.left * 3 / 2) & !1;
        (left, (self.panel.start + (self.panel.len() - side) / 2) & !1, side)
    }
}

/// Masks of the ten digits at one height.
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

    /// Left and top of the ball's box.
    fn place(&self, layout: &Layout, number: u32) -> (usize, usize) {
        let side = self.disc.width;
        let (x_room, y_room) =
            (layout.width.saturating_sub(side), layout.bars.len().saturating_sub(side));
        let step = layout.width as f32 / 150.0;
        let left = bounce(number as f32 * step, x_room);
        (left, layout.bars.start + bounce(number as f32 * step * 0.61, y_room))
    }

    fn paint(&self, image: &mut Image, layout: &Layout, number: u32) {
        let (side, (left, top)) = (self.disc.width, self.place(layout, number));
        blend(image, &self.disc, left, top, Colour::rgb(168, 40, 46));
        blend(image, &self.shine, left + side / 8, top + side / 12, Colour::rgb(226, 66, 60));
        blend(image, &self.gleam, left + side / 4, top + side / 6, Colour::rgb(255, 214, 196));
    }
}

/// A position that moves back and forth in `0..=room`.
fn bounce(travelled: f32, room: usize) -> usize {
    let room = room.max(1) as f32;
    let at = travelled.rem_euclid(2.0 * room);
    (if at > room { 2.0 * room - at } else { at }) as usize
}

/// A dark blue gradient that brightens downwards.
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

/// Paints only cells that have changed: the two rows are an eleventh of a 720p picture.
fn paint_barcode(image: &mut Image, number: u32, was: Option<u32>) {
    let (width, height) = (image.width, image.height);
    let row = barcode::row_height(height);
    let mut previous_cells = was.map(|was| barcode::cells(was, width));
    for (columns, white) in barcode::cells(number, width) {
        let previous = previous_cells.as_mut().and_then(Iterator::next);
        if previous.is_some_and(|(_, was_white)| was_white == white) {
            continue;
        }
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

/// Digits of the frame number. [`NUMBERS`] has eight, but the eighth takes more than three days at
/// 30 frames/s to reach.
const NUMBER_DIGITS: usize = 7;

/// Delivered pictures that are remembered: while one is encoded and one waits for the encoder, a
/// third is painted, and one is spare.
const MAX_GIVEN: usize = 4;

/// In pixels. At this digit height or more, nothing else is painted in a digit's box, so unchanged
/// parts can be kept.
const MIN_KEPT_HEIGHT: usize = 16;

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
    use crate::video::jpeg::{Decoder, Encoder, OutputFormat, Strips};
    use proptest::prelude::*;

    fn pattern(width: usize, height: usize) -> Pattern {
        Pattern::new(Size { width, height }, "test")
    }

    /// The number read after encoding and decoding.
    fn through_jpeg(image: &Image, quality: u8, gray: bool, want: OutputFormat) -> Option<u32> {
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
                for (gray, want) in [(false, OutputFormat::Bgr), (true, OutputFormat::Planar)] {
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
    fn a_repainted_image_equals_a_fresh_one() {
        let sizes = [(320, 240), (161, 121), (33, 17), (16, 16), (640, 34), (16, 200), (1280, 720)];
        for ((width, height), gray) in
            sizes.into_iter().flat_map(|size| [(size, false), (size, true)])
        {
            let pattern = pattern(width, height);
            let mut pattern = if gray { pattern.into_gray() } else { pattern };
            let rounds = if width == 1280 { 20 } else { 200 };
            for round in 0..rounds {
                let number = if round % 7 == 6 { NUMBERS - round } else { round * round };
                let wall = Duration::from_millis(u64::from(round) * 12_345_677 % 86_400_000);
                let picture = pattern.picture(number, wall);
                assert!(
                    *picture == pattern.render(number, wall),
                    "{width}x{height} gray {gray} {number}"
                );
            }
            assert_eq!(pattern.given.len(), 1, "each is painted over the previous one");
        }
    }

    #[test]
    fn an_image_in_use_is_not_repainted() {
        let mut pattern = pattern(160, 120);
        let held: Vec<_> = (0..6).map(|number| pattern.picture(number, Duration::ZERO)).collect();
        for (number, image) in held.iter().enumerate() {
            assert_eq!(read_number(image), Some(number as u32));
        }
        assert_eq!(pattern.given.len(), MAX_GIVEN, "not all are kept");
    }

    #[test]
    fn an_image_mixed_from_two_frames_has_no_number() {
        let pattern = pattern(320, 240);
        let [mut a, b] = [41, 42].map(|n| pattern.render(n, Duration::ZERO));
        let half = 320 * 120;
        a.data[..half].copy_from_slice(&b.data[..half]);
        assert_eq!(read_number(&a), None);
    }

    #[test]
    fn the_pattern_moves_with_number_and_time() {
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
        #![proptest_config(ProptestConfig {
            cases: ProptestConfig::default().cases / 6,
            ..ProptestConfig::default()
        })]
        #[test]
        fn a_repainted_image_of_any_size_equals_a_fresh_one(width in 16_usize..1400, height in 16_usize..800) {
            let mut pattern = pattern(width, height);
            for round in 0..6 {
                let (number, wall) = (round * 37, Duration::from_millis(u64::from(round) * 61));
                prop_assert!(*pattern.picture(number, wall) == pattern.render(number, wall));
            }
        }

        #[test]
        fn any_number_survives_encoding(number in 0..NUMBERS, quality in 30_u8..=100, gray: bool) {
            let image = pattern(160, 120).render(number, Duration::from_millis(number.into()));
            prop_assert_eq!(through_jpeg(&image, quality, gray, OutputFormat::Planar), Some(number));
        }
    }
}
