//! Paints on a 4:2:0 or grey image: rectangles, blended masks, digits and small text.

use std::ops::Range;

use font8x8::legacy::BASIC_LEGACY;

use crate::video::image::Image;

/// A colour as luma and chroma, full range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour {
    pub y: u8,
    pub cb: u8,
    pub cr: u8,
}

impl Colour {
    /// Converts with BT.601's weights, as JPEG does.
    pub(super) fn rgb(r: u8, g: u8, b: u8) -> Self {
        let [r, g, b] = [r, g, b].map(f32::from);
        let y = 0.299 * r + 0.587 * g + 0.114 * b;
        let (cb, cr) = (128.0 + 0.564 * (b - y), 128.0 + 0.713 * (r - y));
        Self { y: y.round() as u8, cb: cb.round() as u8, cr: cr.round() as u8 }
    }

    pub(super) const fn gray(y: u8) -> Self {
        Self { y, cb: 128, cr: 128 }
    }
}

/// A shape's coverage of each pixel, 0 to 255.
#[derive(Debug, Clone)]
pub(super) struct Mask {
    pub width: usize,
    pub height: usize,
    alpha: Vec<u8>,
    /// The same for each 2x2 block.
    chroma_alpha: Vec<u8>,
}

impl Mask {
    /// The mask of a shape given by `inside`, with 4x4 samples per pixel.
    pub(super) fn of(width: usize, height: usize, inside: impl Fn(f32, f32) -> bool) -> Self {
        let mut alpha = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let covered = SAMPLES
                    .iter()
                    .flat_map(|dy| SAMPLES.iter().map(move |dx| (x as f32 + dx, y as f32 + dy)))
                    .filter(|&(x, y)| inside(x, y))
                    .count();
                alpha.push((covered * 255 / (SAMPLES.len() * SAMPLES.len())) as u8);
            }
        }
        Self::new(width, height, alpha)
    }

    fn new(width: usize, height: usize, alpha: Vec<u8>) -> Self {
        let mut mask = Self { width, height, alpha, chroma_alpha: Vec::new() };
        for (y, x) in
            (0..height.div_ceil(2)).flat_map(|y| (0..width.div_ceil(2)).map(move |x| (y, x)))
        {
            let square = [(0, 0), (1, 0), (0, 1), (1, 1)];
            let sum: u32 = square.iter().map(|(dx, dy)| mask.at(2 * x + dx, 2 * y + dy)).sum();
            mask.chroma_alpha.push((sum / 4) as u8);
        }
        mask
    }

    pub(super) fn at(&self, x: usize, y: usize) -> u32 {
        if x < self.width && y < self.height { self.alpha[y * self.width + x].into() } else { 0 }
    }
}

/// Fills a rectangle, clipped to the image. Chroma is set for each 2x2 block whose top left pixel
/// is in the rectangle.
pub(super) fn fill(image: &mut Image, columns: Range<usize>, rows: Range<usize>, colour: Colour) {
    let (width, height) = (image.width, image.height);
    let (right, bottom) = (columns.end.min(width), rows.end.min(height));
    if columns.start >= right {
        return;
    }
    let chroma_width = width.div_ceil(2);
    let chroma = columns.start.div_ceil(2)..right.div_ceil(2);
    let [luma, cb, cr] = image.planes_mut();
    for y in rows.start..bottom {
        luma[y * width..][columns.start..right].fill(colour.y);
    }
    if cb.is_empty() {
        return;
    }
    for y in rows.start.div_ceil(2)..bottom.div_ceil(2) {
        cb[y * chroma_width..][chroma.clone()].fill(colour.cb);
        cr[y * chroma_width..][chroma.clone()].fill(colour.cr);
    }
}

/// Blends a colour through a mask with its top left corner at (`left`, `top`), rounded down to even
/// numbers so that luma and chroma agree. Clipped to the image.
pub(super) fn blend(image: &mut Image, mask: &Mask, left: usize, top: usize, colour: Colour) {
    let under = Under::new(image, mask, left, top);
    let [luma, cb, cr] = image.planes_mut();
    for (to, y) in under.luma_rows() {
        mix_row(&mut luma[to], colour.y, &mask.alpha[y * mask.width..]);
    }
    if cb.is_empty() {
        return;
    }
    for (to, y) in under.chroma_rows() {
        let alpha = &mask.chroma_alpha[y * mask.width.div_ceil(2)..];
        mix_row(&mut cb[to.clone()], colour.cb, alpha);
        mix_row(&mut cr[to], colour.cr, alpha);
    }
}

/// Restores the area that [`blend`] changes from `background`, an image of the same size and
/// layout.
pub(super) fn restore(image: &mut Image, background: &Image, mask: &Mask, left: usize, top: usize) {
    let under = Under::new(image, mask, left, top);
    let [luma, chroma @ ..] = image.planes_mut();
    let [from_luma, from_chroma @ ..] = background.planes();
    for (row, _) in under.luma_rows() {
        luma[row.clone()].copy_from_slice(&from_luma[row]);
    }
    for (plane, from) in chroma.into_iter().zip(from_chroma).filter(|(_, from)| !from.is_empty()) {
        for (row, _) in under.chroma_rows() {
            plane[row.clone()].copy_from_slice(&from[row]);
        }
    }
}

/// The part of an image under a mask.
struct Under {
    width: usize,
    left: usize,
    top: usize,
    columns: usize,
    rows: usize,
}

impl Under {
    fn new(image: &Image, mask: &Mask, left: usize, top: usize) -> Self {
        let (left, top) = (left & !1, top & !1);
        let columns = mask.width.min(image.width.saturating_sub(left));
        let rows = mask.height.min(image.height.saturating_sub(top));
        // Beyond the right edge, a row's range may lie beyond the end of the plane.
        let rows = if columns == 0 { 0 } else { rows };
        Self { width: image.width, left, top, columns, rows }
    }

    /// Each row's range in the luma plane, and its row in the mask.
    fn luma_rows(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        let (at, len) = (self.top * self.width + self.left, self.columns);
        (0..self.rows).map(move |y| (at + y * self.width..at + y * self.width + len, y))
    }

    /// The same for a chroma plane.
    fn chroma_rows(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        let (width, len) = (self.width.div_ceil(2), self.columns.div_ceil(2));
        let at = self.top / 2 * width + self.left / 2;
        (0..self.rows.div_ceil(2)).map(move |y| (at + y * width..at + y * width + len, y))
    }
}

/// Blends each sample with `to` by its alpha.
pub(super) fn mix_row(row: &mut [u8], to: u8, alpha: &[u8]) {
    for (value, &alpha) in row.iter_mut().zip(alpha) {
        *value = mix(*value, to, alpha);
    }
}

/// A disc as a mask.
pub(super) fn disc(diameter: usize) -> Mask {
    let diameter = diameter.max(2);
    let radius = diameter as f32 / 2.0;
    Mask::of(diameter, diameter, |x, y| (x - radius).hypot(y - radius) <= radius)
}

/// A line of small text as a mask, magnified by `scale` from an 8x8 font.
pub(super) fn text_mask(text: &str, scale: usize) -> Mask {
    let glyphs: Vec<[u8; 8]> = text
        .chars()
        .map(|c| BASIC_LEGACY[if c.is_ascii() { c as usize } else { b'?'.into() }])
        .collect();
    let (width, height) = (glyphs.len() * 8 * scale, 8 * scale);
    let mut alpha = vec![0; width * height];
    for (i, value) in alpha.iter_mut().enumerate() {
        let (x, y) = (i % width / scale, i / width / scale);
        *value = if glyphs[x / 8][y] >> (x % 8) & 1 == 1 { 255 } else { 0 };
    }
    Mask::new(width, height, alpha)
}

/// The ten digits in seven segments, slightly slanted, each `height` pixels high and
/// [`digit_width`] wide.
pub(super) fn digit_masks(height: usize) -> [Mask; 10] {
    SEGMENTS_OF_DIGITS.map(|lit| segments_mask(height, lit))
}

/// All seven segments, as an unlit digit.
pub(super) fn unlit_mask(height: usize) -> Mask {
    segments_mask(height, 0b111_1111)
}

/// The width of a digit's mask, in pixels.
pub(super) fn digit_width(height: usize) -> usize {
    (height * 11 / 16).next_multiple_of(2)
}

fn segments_mask(height: usize, lit: u8) -> Mask {
    let thickness = height as f32 * 0.125;
    let (left, right) = (thickness * 0.6, height as f32 * 0.46);
    let (upper, lower) = (thickness * 0.5, height as f32 - thickness * 0.5);
    let middle = f32::midpoint(upper, lower);
    // The ends of the segments a, b, c, d, e, f, g.
    let ends = [
        ((left, upper), (right, upper)),
        ((right, upper), (right, middle)),
        ((right, middle), (right, lower)),
        ((left, lower), (right, lower)),
        ((left, middle), (left, lower)),
        ((left, upper), (left, middle)),
        ((left, middle), (right, middle)),
    ];
    Mask::of(digit_width(height), height, |x, y| {
        let x = x - (height as f32 - y) * SLANT;
        ends.iter()
            .enumerate()
            .any(|(i, &segment)| lit >> i & 1 == 1 && in_segment(x, y, segment, thickness * 0.5))
    })
}

/// Whether a point is in a bar with pointed ends, which runs horizontally or vertically between two
/// points.
fn in_segment(x: f32, y: f32, ((x1, y1), (x2, y2)): ((f32, f32), (f32, f32)), half: f32) -> bool {
    let is_level = x2 - x1 > y2 - y1;
    let (across, along, length) = if is_level {
        ((y - y1).abs(), (x - f32::midpoint(x1, x2)).abs(), x2 - x1)
    } else {
        ((x - x1).abs(), (y - f32::midpoint(y1, y2)).abs(), y2 - y1)
    };
    across <= half && along + across <= length / 2.0 - half * 0.18
}

fn mix(from: u8, to: u8, alpha: u8) -> u8 {
    let [from, to, alpha] = [from, to, alpha].map(u16::from);
    div_255(from * (255 - alpha) + to * alpha + 127)
}

/// `value / 255`, rounded down, for values up to 65,279. It uses 16-bit arithmetic without a
/// division, which vectorizes well.
pub(super) fn div_255(value: u16) -> u8 {
    ((value + 1 + (value >> 8)) >> 8) as u8
}

/// Sample positions within a pixel.
const SAMPLES: [f32; 4] = [0.125, 0.375, 0.625, 0.875];

/// A digit's slant, in pixels to the right for each pixel up.
const SLANT: f32 = 0.09;

/// The lit segments of each digit, a in bit 0 to g in bit 6.
const SEGMENTS_OF_DIGITS: [u8; 10] = [0x3F, 0x06, 0x5B, 0x4F, 0x66, 0x6D, 0x7D, 0x07, 0x7F, 0x6F];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::image::PixelFormat;

    /// The visible part is as on a larger image, where nothing is clipped.
    #[test]
    fn painting_is_clipped_at_the_edges() {
        let mask = Mask::of(9, 9, |x, y| x + y < 12.0);
        let painted = |width, height| {
            let mut image = Image::blank(width, height, PixelFormat::Yuv420);
            fill(&mut image, 10..99, 10..99, Colour::rgb(0, 200, 0));
            fill(&mut image, 30..40, 0..5, Colour::gray(200));
            fill(&mut image, 0..5, 30..40, Colour::gray(200));
            for at in [0, 8, 12, 16, 40] {
                blend(&mut image, &mask, at, at, Colour::rgb(255, 0, 0));
            }
            image
        };
        let large = painted(128, 128);
        assert_eq!(large.luma_at(16, 12), 76, "red");
        for (width, height) in [(17, 13), (16, 12), (18, 40), (42, 9), (9, 42)] {
            let mut small = painted(width, height);
            let widths = [(width, 128), (width.div_ceil(2), 64), (width.div_ceil(2), 64)];
            for ((plane, whole), (width, whole_width)) in
                small.planes().into_iter().zip(large.planes()).zip(widths)
            {
                let rows = plane.chunks_exact(width).zip(whole.chunks_exact(whole_width));
                assert!(rows.into_iter().all(|(row, whole)| row == &whole[..width]), "{width}");
            }
            let background = Image::blank(width, height, PixelFormat::Yuv420);
            for at in [0, 8, 12, 16, 40] {
                restore(&mut small, &background, &mask, at, at);
            }
            fill(&mut small, 0..99, 0..99, Colour { y: 0, cb: 0, cr: 0 });
            assert!(small == background, "all of {width}x{height} is reached");
        }
    }

    #[test]
    fn division_by_255_is_exact() {
        assert!((0..=255 * 255 + 127).all(|value| u16::from(div_255(value)) == value / 255));
    }

    #[test]
    fn digit_masks_are_distinct_and_of_one_size() {
        let digits = digit_masks(40);
        for (i, a) in digits.iter().enumerate() {
            assert_eq!((a.width, a.height), (digit_width(40), 40));
            let others = digits.iter().skip(i + 1);
            assert!(others.into_iter().all(|b| a.alpha != b.alpha));
        }
    }

    #[test]
    fn any_text_yields_a_mask() {
        let mask = text_mask("Aé", 2);
        assert_eq!((mask.width, mask.height), (32, 16));
        assert!(mask.alpha.contains(&255));
        assert_eq!(text_mask("", 3).alpha.len(), 0);
    }
}
