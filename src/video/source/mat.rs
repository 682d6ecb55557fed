//! Converts between OpenCV's matrices and our images.

use opencv::{
    core::{self, Mat, MatTraitConst, MatTraitConstManual},
    imgproc,
};

use super::SourceError;
use crate::video::image::{Image, PixelFormat, Size};

/// The pixels of an 8-bit BGR or grey matrix.
pub(super) fn image_of(mat: &Mat) -> Result<Image, SourceError> {
    let format = if mat.channels() == 1 { PixelFormat::Gray } else { PixelFormat::Bgr };
    let (width, height) = (mat.cols().max(0) as usize, mat.rows().max(0) as usize);
    let data = mat.data_bytes().map_err(failed("read a picture's pixels"))?.to_vec();
    if data.len() != format.data_len(width, height) {
        let error = format!("{} bytes for {width}x{height} pixels", data.len());
        return Err(SourceError::OpenCv { what: "decode a picture", error });
    }
    Ok(Image::new(width, height, format, data))
}

/// Scales the image plane by plane, unless it already has that size.
pub(super) fn scale(image: Image, size: Size) -> Result<Image, SourceError> {
    if image.size() == size {
        return Ok(image);
    }
    let format = image.format;
    let mut scaled = Image::blank(size.width, size.height, format);
    if matches!(format, PixelFormat::Bgr) {
        scale_plane::<core::Vec3b>(&image.data, image.size(), &mut scaled.data, size)?;
        return Ok(scaled);
    }
    let chroma = |Size { width, height }: Size| {
        let (width, height) = format.chroma_size(width, height);
        Size { width, height }
    };
    let (from, to) = (chroma(image.size()), chroma(size));
    let sizes = [(image.size(), size), (from, to), (from, to)];
    for ((plane, scaled), (from, to)) in image.planes().iter().zip(scaled.planes_mut()).zip(sizes) {
        scale_plane::<u8>(plane, from, scaled, to)?;
    }
    Ok(scaled)
}

/// Converts an error of OpenCV, without line breaks.
pub(super) fn failed(what: &'static str) -> impl Fn(opencv::Error) -> SourceError {
    move |error| {
        let error = error.message.split_whitespace().collect::<Vec<_>>().join(" ");
        SourceError::OpenCv { what, error }
    }
}

/// Silences OpenCV's log on standard error. Errors that matter are returned as [`SourceError`].
pub(super) fn quieten() {
    // A failure only leaves OpenCV's log on.
    let _ = core::set_log_level(core::LogLevel::LOG_LEVEL_SILENT);
}

fn scale_plane<T: core::DataType>(
    from: &[u8],
    from_size: Size,
    to: &mut [u8],
    to_size: Size,
) -> Result<(), SourceError> {
    if from.is_empty() {
        return Ok(());
    }
    let failed = failed("scale a picture");
    let (rows, columns) = (from_size.height as i32, from_size.width as i32);
    let source = Mat::new_rows_cols_with_bytes::<T>(rows, columns, from).map_err(&failed)?;
    let mut scaled = Mat::default();
    let size = core::Size::new(to_size.width as i32, to_size.height as i32);
    imgproc::resize(&source, &mut scaled, size, 0.0, 0.0, imgproc::INTER_AREA).map_err(&failed)?;
    to.copy_from_slice(scaled.data_bytes().map_err(&failed)?);
    Ok(())
}
