//! Non-square pixels. Video is scaled to square ones before it is sent.

use crate::video::image::Size;

/// A pixel's aspect ratio, unchecked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PixelAspect {
    pub(super) width: f64,
    pub(super) height: f64,
}

impl PixelAspect {
    /// The size at which the picture has square pixels. One side is stretched, so that no detail is
    /// lost, or the other is shortened if the stretched size is beyond the limits.
    pub(super) fn squared(self, size: Size) -> Size {
        let ratio = self.width / self.height;
        if !SANE_RATIOS.contains(&ratio) || (ratio - 1.0).abs() < NEARLY_SQUARE {
            return size;
        }
        let Size { width, height } = size;
        let by = |side: usize, factor: f64| (side as f64 * factor).round() as usize;
        let stretched = if ratio > 1.0 {
            Size { width: by(width, ratio), height }
        } else {
            Size { width, height: by(height, 1.0 / ratio) }
        };
        let shortened = if ratio > 1.0 {
            Size { width, height: by(height, 1.0 / ratio) }
        } else {
            Size { width: by(width, ratio), height }
        };
        let fits = |size: &&Size| Size::new(size.width, size.height).is_ok();
        *[stretched, shortened].iter().find(fits).unwrap_or(&size)
    }
}

/// Ratios outside this range are treated as damage: anamorphic film has 2, and 16:9 PAL
/// television 64/45.
const SANE_RATIOS: std::ops::RangeInclusive<f64> = 0.125..=8.0;

/// Smaller deviations are an encoder's rounding and not visible.
const NEARLY_SQUARE: f64 = 0.005;

#[cfg(test)]
mod tests {
    use super::*;

    fn squared(size: (usize, usize), aspect: (f64, f64)) -> (usize, usize) {
        let size = Size { width: size.0, height: size.1 };
        let aspect = PixelAspect { width: aspect.0, height: aspect.1 };
        let squared = aspect.squared(size);
        (squared.width, squared.height)
    }

    #[test]
    fn one_side_is_stretched() {
        assert_eq!(squared((720, 576), (64.0, 45.0)), (1024, 576), "16:9 PAL");
        assert_eq!(squared((720, 480), (8.0, 9.0)), (720, 540), "4:3 NTSC");
        assert_eq!(squared((320, 240), (2.0, 1.0)), (640, 240));
    }

    #[test]
    fn beyond_the_size_limit_the_other_side_is_shortened() {
        assert_eq!(squared((8000, 4000), (2.0, 1.0)), (8000, 2000));
        assert_eq!(squared((4000, 8000), (1.0, 2.0)), (2000, 8000));
    }

    #[test]
    fn square_unknown_and_invalid_ratios_change_nothing() {
        for aspect in [
            (1.0, 1.0),
            (0.0, 1.0),
            (0.0, 0.0),
            (1.0, 0.0),
            (-1.0, 2.0),
            (f64::NAN, 1.0),
            (1e9, 1.0),
            (401.0, 400.0),
        ] {
            assert_eq!(squared((640, 480), aspect), (640, 480), "{aspect:?}");
        }
    }
}
