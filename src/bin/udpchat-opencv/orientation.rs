//! Turns photographs upright, as their Exif orientation says.
//!
//! Which formats OpenCV turns depends on its release: 4.6 turns JPEG and PNG, but not WebP. It is
//! therefore told to ignore the orientation.

use std::io::Cursor;

use exif::{In, Reader, Tag};
use opencv::core::{self, Mat};

/// Turns `stored` upright. It was decoded from `file` without regard to the orientation there.
/// Without a valid orientation, it is assumed to be upright.
pub(crate) fn upright(stored: Mat, file: &[u8]) -> opencv::Result<Mat> {
    match of_file(file) {
        Some(2) => flipped(&stored, AROUND_THE_VERTICAL),
        Some(3) => flipped(&stored, AROUND_BOTH),
        Some(4) => flipped(&stored, AROUND_THE_HORIZONTAL),
        Some(5) => transposed(&stored),
        Some(6) => flipped(&transposed(&stored)?, AROUND_THE_VERTICAL),
        Some(7) => flipped(&transposed(&stored)?, AROUND_BOTH),
        Some(8) => flipped(&transposed(&stored)?, AROUND_THE_HORIZONTAL),
        _ => Ok(stored),
    }
}

/// The orientation of the main image (Exif 2.32, tag 0112).
fn of_file(file: &[u8]) -> Option<u32> {
    let exif = Reader::new()
        .continue_on_error(true)
        .read_from_container(&mut Cursor::new(file))
        // Damage elsewhere in Exif does not matter.
        .or_else(|error| error.distill_partial_result(|_| ()));
    exif.ok()?.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0)
}

fn flipped(mat: &Mat, axis: i32) -> opencv::Result<Mat> {
    let mut flipped = Mat::default();
    core::flip(mat, &mut flipped, axis)?;
    Ok(flipped)
}

fn transposed(mat: &Mat) -> opencv::Result<Mat> {
    let mut transposed = Mat::default();
    core::transpose(mat, &mut transposed)?;
    Ok(transposed)
}

const AROUND_THE_VERTICAL: i32 = 1;
const AROUND_THE_HORIZONTAL: i32 = 0;
const AROUND_BOTH: i32 = -1;
