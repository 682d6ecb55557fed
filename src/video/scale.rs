//! Halves and doubles images: for a sender on a narrow path, and for a receiver that records such a
//! stream at a single size.

use super::image::{Image, PixelFormat, Size};

/// Scales images by powers of two, reusing its buffers.
#[derive(Debug)]
pub struct Scaler {
    image: Image,
    spare: Image,
}

impl Scaler {
    /// A scaler without buffers yet.
    pub fn new() -> Self {
        Self { image: Image::empty(), spare: Image::empty() }
    }

    /// `image` with width and height divided by `divisor`, a power of two, rounded up at each
    /// halving. With 1 it is the image itself.
    pub fn divide<'a>(&'a mut self, image: &'a Image, divisor: u32) -> &'a Image {
        assert!(divisor.is_power_of_two(), "a division by {divisor}");
        if divisor == 1 {
            return image;
        }
        image.halve_into(&mut self.image);
        for _ in 1..divisor.ilog2() {
            self.image.halve_into(&mut self.spare);
            std::mem::swap(&mut self.image, &mut self.spare);
        }
        &self.image
    }

    /// Scales `image` to `size` if one is the other divided by 1, 2 or 4. Returns false, leaving
    /// `image` unchanged, if not.
    pub fn match_size(&mut self, image: &mut Image, size: Size) -> bool {
        let steps = |from: Size, to: Size| (0..=MAX_HALVINGS).find(|&n| halved(from, n) == to);
        if let Some(halvings) = steps(image.size(), size) {
            for _ in 0..halvings {
                image.halve_into(&mut self.spare);
                std::mem::swap(image, &mut self.spare);
            }
        } else if let Some(doublings) = steps(size, image.size()) {
            for left in (0..doublings).rev() {
                image.double_into(halved(size, left), &mut self.spare);
                std::mem::swap(image, &mut self.spare);
            }
        } else {
            return false;
        }
        true
    }
}

impl Default for Scaler {
    fn default() -> Self {
        Self::new()
    }
}

impl Image {
    /// Halves width and height into `target`, rounded up. Each sample is the mean of four, or of
    /// two at an odd edge. The format is the same.
    ///
    /// Takes as long as seven copies of planar data, or five of BGR: 0.3 and 0.6 ms at 720p.
    pub fn halve_into(&self, target: &mut Self) {
        target.reshape(self.width.div_ceil(2), self.height.div_ceil(2), self.format);
        if self.format == PixelFormat::Bgr {
            return halve_plane::<3>(&self.data, self.width, &mut target.data);
        }
        let (chroma_width, _) = self.format.chroma_size(self.width, self.height);
        let widths = [self.width, chroma_width, chroma_width];
        for ((from, width), to) in self.planes().into_iter().zip(widths).zip(target.planes_mut()) {
            halve_plane::<1>(from, width, to);
        }
    }

    /// Doubles width and height into `target` by repeating samples, cropped to `size`. This image
    /// must be half of `size`, rounded up.
    pub fn double_into(&self, size: Size, target: &mut Self) {
        assert_eq!(halved(size, 1), self.size(), "half of {size}");
        target.reshape(size.width, size.height, self.format);
        if self.format == PixelFormat::Bgr {
            return double_plane::<3>(&self.data, &mut target.data, size.width);
        }
        let (chroma_width, _) = self.format.chroma_size(size.width, size.height);
        let widths = [size.width, chroma_width, chroma_width];
        for ((from, to), width) in self.planes().into_iter().zip(target.planes_mut()).zip(widths) {
            double_plane::<1>(from, to, width);
        }
    }
}

/// `size` halved `times` times, rounded up each time.
fn halved(size: Size, times: u32) -> Size {
    let side = |side: usize| side.div_ceil(1 << times);
    Size { width: side(size.width), height: side(size.height) }
}

/// Halves one plane. `width` is that of `from`, in pixels of `N` samples.
fn halve_plane<const N: usize>(from: &[u8], width: usize, to: &mut [u8]) {
    let rows = to.chunks_exact_mut((N * width.div_ceil(2)).max(1));
    for (row, pair) in rows.zip(from.chunks((2 * N * width).max(1))) {
        let (upper, lower) = pair.split_at(N * width);
        halve_rows::<N>(upper, if lower.is_empty() { upper } else { lower }, row);
    }
}

fn halve_rows<const N: usize>(upper: &[u8], lower: &[u8], row: &mut [u8]) {
    let (uppers, lowers) = (upper.chunks_exact(2 * N), lower.chunks_exact(2 * N));
    let edge = (uppers.remainder(), lowers.remainder());
    let mut pixels = row.chunks_exact_mut(N);
    for ((upper, lower), pixel) in uppers.zip(lowers).zip(pixels.by_ref()) {
        for i in 0..N {
            let sum = [upper[i], upper[N + i], lower[i], lower[N + i]].map(u16::from);
            pixel[i] = ((sum.iter().sum::<u16>() + 2) / 4) as u8;
        }
    }
    let Some(pixel) = pixels.next() else { return };
    for ((&upper, &lower), sample) in edge.0.iter().zip(edge.1).zip(pixel) {
        *sample = (u16::from(upper) + u16::from(lower)).div_ceil(2) as u8;
    }
}

/// Doubles one plane. `width` is that of `to`, in pixels of `N` samples.
fn double_plane<const N: usize>(from: &[u8], to: &mut [u8], width: usize) {
    let from_rows = from.chunks_exact((N * width.div_ceil(2)).max(1));
    for (rows, row) in to.chunks_mut((2 * N * width).max(1)).zip(from_rows) {
        let (upper, lower) = rows.split_at_mut(N * width);
        for (pair, pixel) in upper.chunks_mut(2 * N).zip(row.chunks_exact(N)) {
            pair.chunks_exact_mut(N).for_each(|copy| copy.copy_from_slice(pixel));
        }
        let len = lower.len();
        lower.copy_from_slice(&upper[..len]);
    }
}

/// A division by 4 in each direction, the most that a sender uses.
const MAX_HALVINGS: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::source::pattern::{Pattern, read_number};
    use proptest::prelude::*;
    use std::time::Duration;

    const FORMATS: [PixelFormat; 5] = [
        PixelFormat::Bgr,
        PixelFormat::Gray,
        PixelFormat::Yuv420,
        PixelFormat::Yuv422,
        PixelFormat::Yuv444,
    ];

    fn halved_image(image: &Image) -> Image {
        let mut half = Image::empty();
        image.halve_into(&mut half);
        half
    }

    /// The definition, sample by sample.
    fn mean(plane: &[u8], width: usize, samples: usize, x: usize, y: usize, i: usize) -> u8 {
        let height = plane.len() / (samples * width);
        let (xs, ys) = (2 * x..(2 * x + 2).min(width), 2 * y..(2 * y + 2).min(height));
        let at = |x: usize, y: usize| u32::from(plane[samples * (y * width + x) + i]);
        let count = (xs.len() * ys.len()) as u32;
        let sum: u32 = ys.flat_map(|y| xs.clone().map(move |x| at(x, y))).sum();
        ((sum + count / 2) / count) as u8
    }

    proptest! {
        #[test]
        fn halving_averages_the_source_samples(
            width in 1_usize..40, height in 1_usize..20, which in 0..FORMATS.len(), seed: u64,
        ) {
            let format = FORMATS[which];
            let mut state = seed;
            let data = (0..format.data_len(width, height)).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            });
            let image = Image::new(width, height, format, data.collect());
            let half = halved_image(&image);
            prop_assert_eq!((half.width, half.height), (width.div_ceil(2), height.div_ceil(2)));
            prop_assert_eq!(half.data.len(), format.data_len(half.width, half.height));
            let samples = if format == PixelFormat::Bgr { 3 } else { 1 };
            let chroma = (format.chroma_size(width, height).0, format.chroma_size(half.width, half.height).0);
            let planes = if samples == 3 {
                vec![(&image.data[..], width, &half.data[..], half.width)]
            } else {
                let ([y, cb, cr], [hy, hcb, hcr]) = (image.planes(), half.planes());
                vec![(y, width, hy, half.width), (cb, chroma.0, hcb, chroma.1), (cr, chroma.0, hcr, chroma.1)]
            };
            for (from, width, to, half_width) in planes {
                for (at, &sample) in to.iter().enumerate() {
                    let (pixel, i) = (at / samples, at % samples);
                    let expected = mean(from, width, samples, pixel % half_width, pixel / half_width, i);
                    prop_assert!(sample.abs_diff(expected) == 0, "{at}: {sample}, {expected}");
                }
            }
            // Doubling and halving again changes nothing.
            let (mut doubled, mut scaler) = (half.clone(), Scaler::new());
            prop_assert!(scaler.match_size(&mut doubled, image.size()));
            prop_assert_eq!(doubled.size(), image.size());
            prop_assert_eq!(halved_image(&doubled), half);
        }
    }

    #[test]
    fn the_pattern_number_survives_scaling() {
        for (width, height) in [(640, 480), (1280, 720), (721, 1281)] {
            let image = Pattern::new(Size { width, height }, "test").render(7, Duration::ZERO);
            for divisor in [1, 2, 4] {
                let mut scaler = Scaler::new();
                let mut small = scaler.divide(&image, divisor).clone();
                assert_eq!(small.width, width.div_ceil(divisor as usize));
                assert_eq!(read_number(&small), Some(7), "{width}x{height} / {divisor}");
                assert!(scaler.match_size(&mut small, image.size()));
                assert_eq!((small.size(), read_number(&small)), (image.size(), Some(7)));
            }
        }
    }

    #[test]
    fn only_sizes_related_by_2_or_4_are_matched() {
        let mut image = Image::blank(64, 48, PixelFormat::Yuv420);
        for (width, height) in [(64, 24), (63, 48), (8, 6), (640, 480), (0, 0)] {
            assert!(!Scaler::new().match_size(&mut image, Size { width, height }));
            assert_eq!(image, Image::blank(64, 48, PixelFormat::Yuv420));
        }
        assert_eq!(halved_image(&Image::empty()), Image::empty());
    }
}
