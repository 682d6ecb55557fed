//! How a picture is divided into strips.

use super::super::header::Sampling;
use crate::video::image::Size;

/// The number of strips for encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strips {
    /// Depends on the machine's cores and the picture's size.
    #[default]
    Auto,
    /// About this number, from one to [`MAX_STRIPS`]: all strips but the last have the same number of
    /// MCU rows.
    Count(usize),
}

impl Strips {
    /// The number of strips for a picture of this size and this number of threads. It may be larger
    /// if each strip is sent as soon as it is encoded.
    pub(in super::super) fn count(self, size: Size, threads: usize, pipelined: bool) -> usize {
        let pixels = size.width * size.height;
        match self {
            Self::Auto if threads < 2 || pixels < MIN_PIXELS => 1,
            Self::Auto if !pipelined && pixels < MIN_UNPIPELINED_PIXELS => 1,
            Self::Auto if !pipelined => (STRIPS_PER_THREAD * threads).min(MAX_AUTO_STRIPS),
            Self::Auto => {
                let enough = STRIPS_PER_THREAD * threads;
                (pixels / STRIP_PIXELS).clamp(enough, 2 * enough).min(MAX_AUTO_STRIPS)
            }
            Self::Count(count) => count.clamp(1, MAX_STRIPS),
        }
    }
}

/// The strips of pictures of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Layout {
    /// Pixel rows in each strip except the last, which may have fewer.
    pub(in super::super) rows: usize,
    /// The number of strips.
    pub(in super::super) count: usize,
    /// MCUs in each strip except the last; zero if there is only one strip.
    pub(in super::super) restart_interval: u16,
}

impl Layout {
    /// Divides a picture into `count` strips. All but the last have the same number of MCU rows, so
    /// there may be fewer; there are more if a restart interval could not express their length.
    pub(in super::super) fn new(size: Size, sampling: Sampling, count: usize) -> Self {
        let whole = Self { rows: size.height, count: 1, restart_interval: 0 };
        let Some((mcu_width, mcu_height)) = sampling.mcu() else { return whole };
        let (mcus_per_row, mcu_rows) =
            (size.width.div_ceil(mcu_width), size.height.div_ceil(mcu_height));
        if count < 2 || mcu_rows < 2 {
            return whole;
        }
        let mcu_rows_per_strip = mcu_rows.div_ceil(count).min(usize::from(u16::MAX) / mcus_per_row);
        Self {
            rows: mcu_rows_per_strip * mcu_height,
            count: mcu_rows.div_ceil(mcu_rows_per_strip),
            restart_interval: (mcu_rows_per_strip * mcus_per_row) as u16,
        }
    }
}

/// The largest number of strips that may be requested: with more, their headers cost more than they
/// save.
pub const MAX_STRIPS: usize = 16;

/// The largest number chosen automatically.
const MAX_AUTO_STRIPS: usize = 8;

/// Pixels in a strip. Down to this size, twice as many strips as the threads need cost little, and
/// on a slow link the first one is sent sooner: at 20 Mbit/s a frame of 720p arrives 0.6 ms
/// earlier.
const STRIP_PIXELS: usize = 100_000;

/// Two, so that a thread that finishes early can take over work.
pub(in super::super) const STRIPS_PER_THREAD: usize = 2;

/// Pixels in a picture whose strips are not sent one by one. Then both sides share the machine's
/// cores, and below this, a second thread is not worth its processor time: at 640x480 on two cores,
/// it adds 0.33 ms (13 %) per frame over both sides, and saves only 0.5 ms of latency.
const MIN_UNPIPELINED_PIXELS: usize = 320_000;

/// Pixels in a picture. Below this, waking another thread takes as long as it saves. Measured on
/// two cores with 30 ms between frames: 320x240 pixels gain nothing from strips, 480x360 a quarter,
/// 1280x720 over a third.
pub(super) const MIN_PIXELS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(width: usize, height: usize, sampling: Sampling, count: usize) -> [usize; 3] {
        let layout = Layout::new(Size { width, height }, sampling, count);
        [layout.rows, layout.count, usize::from(layout.restart_interval)]
    }

    #[test]
    fn strips_are_whole_rows_of_mcus() {
        assert_eq!(layout(1280, 720, Sampling::S420, 4), [192, 4, 960]);
        assert_eq!(layout(1280, 720, Sampling::S422, 4), [184, 4, 1840]);
        assert_eq!(layout(33, 35, Sampling::Gray, 2), [24, 2, 15]);
    }

    #[test]
    fn a_picture_has_no_more_strips_than_rows_of_mcus() {
        assert_eq!(layout(16, 16, Sampling::S420, 4), [16, 1, 0]);
        assert_eq!(layout(16, 17, Sampling::S420, 16), [16, 2, 1]);
        assert_eq!(layout(16, 40, Sampling::S444, 16), [8, 5, 2]);
        assert_eq!(layout(1280, 720, Sampling::S420, 1), [720, 1, 0]);
        assert_eq!(layout(0, 0, Sampling::S420, 4), [0, 1, 0]);
    }

    #[test]
    fn a_strip_fits_the_16_bit_restart_interval() {
        let [rows, count, interval] = layout(8192, 8192, Sampling::S444, 2);
        assert_eq!([rows, count, interval], [504, 17, 63 * 1024]);
    }

    #[test]
    fn auto_needs_cores_and_pixels() {
        let (small, large) = (Size { width: 160, height: 120 }, Size { width: 1280, height: 720 });
        assert_eq!(Strips::Auto.count(large, 1, true), 1);
        assert_eq!(Strips::Auto.count(small, 8, true), 1);
        let middle = Size { width: 640, height: 480 };
        assert_eq!([middle, large].map(|size| Strips::Auto.count(size, 2, true)), [4, 8]);
        assert_eq!([middle, large].map(|size| Strips::Auto.count(size, 2, false)), [1, 4]);
        assert_eq!(Strips::Auto.count(large, 64, true), MAX_AUTO_STRIPS);
        assert_eq!(Strips::Count(3).count(small, 1, true), 3);
        assert_eq!(Strips::Count(99).count(small, 1, true), MAX_STRIPS);
    }
}
