//! The frame number as a barcode along the top and the bottom edge.
//!
//! ```text
//!  bit 31                                8 7             0
//! ┌───────────────────────────────────────┬───────────────┐
//! │ frame number, 24 bits                 │ check, 8 bits │   one cell a bit: black 0, white 1
//! └───────────────────────────────────────┴───────────────┘
//! ```
//!
//! Both rows encode the same number. A picture composed of two frames has two different numbers,
//! and a stale picture has an old one, so a test can detect both from the decoded pixels alone. The
//! check prevents other pictures from being read as a number.

use std::ops::Range;

use crate::video::image::Image;

/// Frame numbers are counted modulo this: six days at 30 frames/s.
pub const NUMBERS: u32 = 1 << 24;

/// Reads the frame number from a decoded picture of the pattern, in any layout.
///
/// `None` if there is no barcode, it is damaged, or the two rows differ.
pub fn read_number(image: &Image) -> Option<u32> {
    if image.width < CELLS || image.height < 2 * row_height(image.height) {
        return None;
    }
    // A row is at least a 30th of the height, even if the picture was scaled.
    let inset = image.height / 60;
    let top = read_row(image, inset)?;
    let bottom = read_row(image, image.height - 1 - inset)?;
    (top == bottom).then_some(top)
}

/// The height of one row of cells, in pixels: whole JPEG blocks, so that neighbouring content
/// cannot smear into it.
pub(super) fn row_height(height: usize) -> usize {
    (height / 30).next_multiple_of(16).min(height / 4)
}

/// The cells of a row: pixel columns, and whether they are white.
pub(super) fn cells(number: u32, width: usize) -> impl Iterator<Item = (Range<usize>, bool)> {
    let word = word(number);
    (0..CELLS).map(move |i| (columns(i, width), word >> (CELLS - 1 - i) & 1 == 1))
}

fn read_row(image: &Image, y: usize) -> Option<u32> {
    let mut read = 0;
    for i in 0..CELLS {
        let columns = columns(i, image.width);
        // Uses the middle half only, to avoid ringing and chroma bleed at the cells' edges.
        let margin = columns.len() / 4;
        let middle = columns.start + margin..columns.end - margin;
        let pixels = middle.len() as u32;
        let sum: u32 = middle.map(|x| u32::from(image.luma_at(x, y))).sum();
        read = read << 1 | u32::from(sum > THRESHOLD * pixels);
    }
    let number = read >> 8;
    (word(number) == read).then_some(number)
}

fn columns(cell: usize, width: usize) -> Range<usize> {
    cell * width / CELLS..(cell + 1) * width / CELLS
}

/// Number and check. The CRC's start value makes all-black and all-white invalid.
fn word(number: u32) -> u32 {
    let number = number % NUMBERS;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_be_bytes());
    number << 8 | crc.finalize() & 0xFF
}

/// Bits of the word.
const CELLS: usize = 32;

/// Brighter than this is white.
const THRESHOLD: u32 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::image::PixelFormat;
    use proptest::prelude::*;

    #[test]
    fn plain_pictures_have_no_number() {
        for value in [0, 90, 255] {
            let mut image = Image::blank(640, 480, PixelFormat::Gray);
            image.data.fill(value);
            assert_eq!(read_number(&image), None);
        }
        assert_eq!(read_number(&Image::empty()), None);
        assert_eq!(read_number(&Image::blank(16, 16, PixelFormat::Bgr)), None);
    }

    #[test]
    fn every_changed_cell_is_detected() {
        for number in [0, 1, 77_777, NUMBERS - 1] {
            for bit in 0..CELLS {
                let changed = word(number) ^ 1 << bit;
                assert_ne!(word(changed >> 8), changed, "{number} bit {bit}");
            }
        }
    }

    #[test]
    fn cells_cover_the_width_without_gaps() {
        let mut end = 0;
        for (columns, _) in cells(12_345, 1000) {
            assert_eq!(columns.start, end);
            end = columns.end;
        }
        assert_eq!(end, 1000);
    }

    proptest! {
        #[test]
        fn arbitrary_pixels_never_panic(
            width in 1_usize..70, height in 1_usize..40, seed in any::<u8>(),
        ) {
            let mut image = Image::blank(width, height, PixelFormat::Yuv420);
            for (i, value) in image.data.iter_mut().enumerate() {
                *value = (i as u8).wrapping_mul(seed);
            }
            let _ = read_number(&image);
        }
    }
}
