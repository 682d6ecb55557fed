//! Pixels of pictures, and image files.

use opencv::{
    core::{Mat, MatTraitConst, MatTraitConstManual, Size},
    imgcodecs, imgproc,
};
use udpchat::opencv_process::{Picture, PictureKind};

use crate::orientation::upright;

/// A picture and its bytes.
pub(crate) type Read = (Picture, Vec<u8>);

/// Decodes an image file. `None` if it is damaged.
pub(crate) fn decode(
    file: &[u8],
    gray: bool,
    turns: bool,
    scale_to: Option<(u32, u32)>,
) -> opencv::Result<Option<Read>> {
    let colors = if gray { imgcodecs::IMREAD_GRAYSCALE } else { imgcodecs::IMREAD_COLOR };
    let flags = colors | imgcodecs::IMREAD_IGNORE_ORIENTATION;
    let mat = match imgcodecs::imdecode(&file, flags) {
        Ok(mat) if !mat.empty() => mat,
        _ => return Ok(None),
    };
    let mat = if turns { upright(mat, file)? } else { mat };
    pixels(&mat, scale_to).map(Some)
}

/// The pixels of an 8-bit BGR or gray matrix, scaled; none if the size is beyond udpchat's limits.
pub(crate) fn pixels(mat: &Mat, scale_to: Option<(u32, u32)>) -> opencv::Result<Read> {
    let found = (mat.cols().max(0) as u32, mat.rows().max(0) as u32);
    let (width, height) = scale_to.unwrap_or(found);
    let picture = Picture {
        kind: if mat.channels() == 1 { PictureKind::Gray } else { PictureKind::Bgr },
        width,
        height,
        found,
        position_ms: 0.0,
        grabbed: std::time::Duration::ZERO,
    };
    let data = if udpchat::Size::new(width as usize, height as usize).is_err() {
        Vec::new()
    } else if found == (width, height) {
        mat.data_bytes()?.to_vec()
    } else {
        let mut scaled = Mat::default();
        let size = Size::new(width as i32, height as i32);
        imgproc::resize(mat, &mut scaled, size, 0.0, 0.0, imgproc::INTER_AREA)?;
        scaled.data_bytes()?.to_vec()
    };
    Ok((picture, data))
}
