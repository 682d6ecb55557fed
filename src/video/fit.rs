//! Fits images into another size and sampling, for a recording, which has only one of each, and for
//! sources with `--size`.

use std::fmt;

use super::{
    image::{Image, PixelFormat, Size},
    scale::Scaler,
};

/// The size and pixel format of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Width and height.
    pub size: Size,
    /// The pixel format.
    pub format: PixelFormat,
}

impl Layout {
    /// The layout of an image.
    pub fn of(image: &Image) -> Self {
        Self { size: image.size(), format: image.format }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sampling = match self.format {
            PixelFormat::Bgr => "BGR",
            PixelFormat::Gray => "gray",
            PixelFormat::Yuv420 => "4:2:0",
            PixelFormat::Yuv422 => "4:2:2",
            PixelFormat::Yuv444 => "4:4:4",
        };
        write!(f, "{} {sampling}", self.size)
    }
}

/// Converts images to a planar layout, reusing its buffers.
#[derive(Debug)]
pub struct Fitter {
    scaler: Scaler,
    spare: Image,
    columns: Vec<Tap>,
}

impl Fitter {
    /// A fitter without buffers yet.
    pub fn new() -> Self {
        Self { scaler: Scaler::new(), spare: Image::empty(), columns: Vec::new() }
    }

    /// Converts a planar `image` to a planar `layout`. The whole picture is kept, with its aspect
    /// ratio or nearly so; black bars fill the rest. Returns false if `image` already had the
    /// format and the size, or a half, a quarter, twice or four times the size.
    ///
    /// Bilinear, after halving. Only recorders need this.
    pub fn fit(&mut self, image: &mut Image, layout: Layout) -> bool {
        if image.format == layout.format && self.scaler.match_size(image, layout.size) {
            return false;
        }
        let place = Rect::within(image.size(), layout.size);
        self.draw(image, layout, place);
        true
    }

    /// Scales a planar `image` to `size`, ignoring the aspect ratio.
    pub(super) fn stretch(&mut self, image: &mut Image, size: Size) {
        if image.size() != size {
            let Size { width, height } = size;
            self.draw(
                image,
                Layout { size, format: image.format },
                Rect { left: 0, top: 0, width, height },
            );
        }
    }

    /// Redraws `image` at `place` in an image of this `layout`.
    fn draw(&mut self, image: &mut Image, layout: Layout, place: Rect) {
        // A bilinear sample uses two rows and two columns, so an image at least twice as large in
        // both dimensions is averaged first.
        while image.width >= 2 * place.width && image.height >= 2 * place.height {
            image.halve_into(&mut self.spare);
            std::mem::swap(image, &mut self.spare);
        }
        self.spare.reshape(layout.size.width, layout.size.height, layout.format);
        if place.size() != layout.size {
            fill_black(&mut self.spare);
        }
        self.resample(image, place);
        std::mem::swap(image, &mut self.spare);
    }

    /// Resamples each plane of `image` to `place` in the spare image.
    fn resample(&mut self, image: &Image, place: Rect) {
        let Self { spare, columns, .. } = self;
        let (from_widths, widths) = (plane_sizes(image), plane_sizes(spare));
        let places = [place, place.in_chroma(spare), place.in_chroma(spare)];
        let planes = image.planes().into_iter().zip(from_widths);
        let targets = spare.planes_mut().into_iter().zip(widths);
        for (((from, from_size), (to, size)), place) in planes.zip(targets).zip(places) {
            if to.is_empty() {
                continue;
            }
            if from.is_empty() {
                to.fill(NEUTRAL);
            } else {
                resample_plane(from, from_size, to, size.width, place, columns);
            }
        }
    }
}

impl Default for Fitter {
    fn default() -> Self {
        Self::new()
    }
}

/// A rectangle in pixels, or in samples of a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rect {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Rect {
    /// The largest centred rectangle in `to` with the aspect ratio of `from`, or all of `to` if the
    /// ratios nearly agree.
    fn within(from: Size, to: Size) -> Self {
        let scaled = |side: usize, by: usize, of: usize| ((side * by + of / 2) / of).max(1);
        let nearly =
            |side: usize, whole: usize| if whole - side <= whole / 32 { whole } else { side };
        let (mut width, mut height) = (to.width, to.height);
        if from.width * to.height >= from.height * to.width {
            height = nearly(scaled(from.height, to.width, from.width).min(height), height);
        } else {
            width = nearly(scaled(from.width, to.height, from.height).min(width), width);
        }
        // Even, so that each chroma sample belongs either to the picture or to a bar.
        let even = |side: usize| side / 2 * 2;
        let (left, top) = (even((to.width - width) / 2), even((to.height - height) / 2));
        Self { left, top, width, height }
    }

    fn size(self) -> Size {
        Size { width: self.width, height: self.height }
    }

    /// The same rectangle in the chroma planes of `image`.
    fn in_chroma(self, image: &Image) -> Self {
        let (across, down) = match image.format {
            PixelFormat::Yuv420 => (2, 2),
            PixelFormat::Yuv422 => (2, 1),
            PixelFormat::Bgr | PixelFormat::Gray | PixelFormat::Yuv444 => (1, 1),
        };
        Self {
            left: self.left / across,
            top: self.top / down,
            width: self.width.div_ceil(across),
            height: self.height.div_ceil(down),
        }
    }
}

/// Two neighbouring samples and the weight of the second, in 256ths.
#[derive(Debug, Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    share: u32,
}

impl Tap {
    /// For sample `index` of `to`, resampled from `from` samples. The centres are aligned.
    fn at(index: usize, from: usize, to: usize) -> Self {
        let centre = (2 * index + 1) * from * 128 / to;
        let position = centre.saturating_sub(128).min((from - 1) * 256);
        let first = position / 256;
        Self { first, second: (first + 1).min(from - 1), share: (position % 256) as u32 }
    }
}

fn plane_sizes(image: &Image) -> [Size; 3] {
    let (width, height) = image.format.chroma_size(image.width, image.height);
    let chroma = Size { width, height };
    [image.size(), chroma, chroma]
}

/// Resamples the plane `from` to `place` in the plane `to`, which is `width` samples wide.
fn resample_plane(
    from: &[u8],
    from_size: Size,
    to: &mut [u8],
    width: usize,
    place: Rect,
    columns: &mut Vec<Tap>,
) {
    columns.clear();
    columns.extend((0..place.width).map(|x| Tap::at(x, from_size.width, place.width)));
    let row = |y: usize| &from[y * from_size.width..][..from_size.width];
    for y in 0..place.height {
        let Tap { first, second, share } = Tap::at(y, from_size.height, place.height);
        let (upper, lower) = (row(first), row(second));
        let to = &mut to[(place.top + y) * width + place.left..][..place.width];
        for (sample, column) in to.iter_mut().zip(&*columns) {
            let across = |row: &[u8]| {
                let [first, second] = [row[column.first], row[column.second]].map(u32::from);
                first * (256 - column.share) + second * column.share
            };
            let sum = across(upper) * (256 - share) + across(lower) * share;
            *sample = ((sum + (1 << 15)) >> 16) as u8;
        }
    }
}

fn fill_black(image: &mut Image) {
    let [luma, cb, cr] = image.planes_mut();
    luma.fill(0);
    cb.fill(NEUTRAL);
    cr.fill(NEUTRAL);
}

/// Neutral chroma.
const NEUTRAL: u8 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{jpeg::tests::texture, source::pattern};

    const PLANAR: [PixelFormat; 4] =
        [PixelFormat::Gray, PixelFormat::Yuv420, PixelFormat::Yuv422, PixelFormat::Yuv444];

    fn layout(width: usize, height: usize, format: PixelFormat) -> Layout {
        Layout { size: Size { width, height }, format }
    }

    fn flat(width: usize, height: usize, format: PixelFormat) -> Image {
        let mut image = Image::blank(width, height, format);
        let [luma, cb, cr] = image.planes_mut();
        luma.fill(100);
        cb.fill(180);
        cr.fill(70);
        image
    }

    #[test]
    fn a_uniform_colour_is_kept_in_every_layout() {
        let sizes = [(64, 48), (48, 64), (17, 19), (640, 480), (33, 500), (16, 16), (641, 359)];
        for format in PLANAR {
            for (wanted, (width, height)) in PLANAR.into_iter().flat_map(|f| sizes.map(|s| (f, s)))
            {
                let mut image = flat(120, 90, format);
                let layout = layout(width, height, wanted);
                Fitter::new().fit(&mut image, layout);
                assert_eq!(Layout::of(&image), layout, "{format:?}");
                assert_eq!(image.data.len(), wanted.data_len(width, height));
                assert_eq!(image.luma_at(width / 2, height / 2), 100, "{format:?} {layout}");
                let [_, cb, cr] = image.planes();
                if !cb.is_empty() {
                    let (columns, rows) = wanted.chroma_size(width, height);
                    let middle = (rows / 2) * columns + columns / 2;
                    let expected = match format {
                        PixelFormat::Gray => (128, 128),
                        _ => (180, 70),
                    };
                    assert_eq!((cb[middle], cr[middle]), expected, "{format:?} {layout}");
                }
            }
        }
    }

    #[test]
    fn fitting_keeps_the_aspect_ratio_with_black_bars() {
        let mut image = flat(90, 160, PixelFormat::Yuv420);
        assert!(Fitter::new().fit(&mut image, layout(160, 90, PixelFormat::Yuv420)));
        // 51 of 160 columns, starting at index 54.
        let row: Vec<u8> = (0..160).map(|x| image.luma_at(x, 45)).collect();
        let (left, right) = (row.iter().position(|&l| l > 0), row.iter().rposition(|&l| l > 0));
        assert_eq!((left, right), (Some(54), Some(104)));
        assert_eq!((image.luma_at(80, 0), image.luma_at(80, 89)), (100, 100));
        let [_, cb, _] = image.planes();
        assert_eq!((cb[0], cb[40], cb[79]), (128, 180, 128));
    }

    #[test]
    fn stretching_does_not_keep_the_aspect_ratio() {
        let mut image = flat(90, 160, PixelFormat::Yuv422);
        Fitter::new().stretch(&mut image, Size { width: 33, height: 17 });
        assert_eq!(image, flat(33, 17, PixelFormat::Yuv422));
    }

    #[test]
    fn a_scaled_pattern_stays_readable() {
        let picture = |width, height| {
            let size = Size { width, height };
            pattern::Pattern::new(size, "test").render(7, std::time::Duration::ZERO)
        };
        for (from, to) in
            [((1280, 720), (960, 540)), ((640, 360), (1280, 720)), ((1920, 1080), (704, 396))]
        {
            let mut image = picture(from.0, from.1);
            Fitter::new().fit(&mut image, layout(to.0, to.1, PixelFormat::Yuv422));
            let plain = picture(to.0, to.1);
            let differences = image.planes()[0].iter().zip(plain.planes()[0]);
            let sum: u64 = differences.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = sum as f64 / (to.0 * to.1) as f64;
            assert!(mean < 12.0, "{from:?} to {to:?}: {mean}");
            assert_eq!(pattern::read_number(&image), Some(7), "{from:?} to {to:?}");
        }
    }

    #[test]
    fn an_image_in_the_wanted_layout_is_unchanged() {
        for format in PLANAR {
            let mut image = texture(64, 48, format);
            assert!(!Fitter::new().fit(&mut image, layout(64, 48, format)));
            assert_eq!(image, texture(64, 48, format));
        }
    }
}
