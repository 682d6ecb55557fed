//! A source's pictures and properties.

use std::{sync::Arc, time::Instant};

use crate::video::{
    fit::Fitter,
    image::{Image, Size},
};

/// Properties of an opened source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceInfo {
    /// Width of the first picture, in pixels. It may change later: when a camera is plugged in
    /// again, or when another program writes to a pipe.
    pub width: usize,
    /// Height of the first picture, in pixels.
    pub height: usize,
    /// The nominal rate, frames/s.
    pub fps: f64,
    /// The requested and actual properties, in one line.
    pub description: String,
    /// Whether the pictures are already encoded. They are encoded again only if the path cannot
    /// carry them.
    pub passthrough: bool,
    /// Notes for the user about options without effect, a line each.
    pub notes: Vec<String>,
}

/// One picture and its capture time.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The picture.
    pub picture: Picture,
    /// When the capture began: the driver's timestamp for a camera, the due time for generated
    /// pictures and for video from a file or a server, the end of reading for pipes and live URLs.
    pub captured: Instant,
    /// The picture's number, counted from 0, skipped pictures included.
    pub number: u64,
}

/// A picture as its source delivers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picture {
    /// Pixels, to be encoded here. Shared, so that a source can send an image repeatedly, and reuse
    /// one that is no longer needed.
    Image(Arc<Image>),
    /// An encoded frame, checked and normalized.
    Jpeg(Vec<u8>),
}

/// Scales a planar image, unless it already has that size.
pub(super) fn scale(mut image: Image, size: Size) -> Image {
    Fitter::new().stretch(&mut image, size);
    image
}

/// The default size of the camera and the pattern.
pub(super) const DEFAULT_SIZE: Size = Size { width: 1280, height: 720 };

/// The frame rate of sources that have none of their own.
pub(super) const DEFAULT_FPS: f64 = 30.0;
