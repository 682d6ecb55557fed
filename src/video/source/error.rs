//! Why a source cannot be opened or read.

use std::{io, path::PathBuf};

use super::{
    spec::{known_schemes, meant, meant_scheme},
    y4m::Y4mError,
};
use crate::video::image::SizeError;

/// Why a source cannot be opened or read: what, where, and what to do, in one line.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No such file.
    #[error("cannot open {path:?}: no such file{}", hint(meant(path)))]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {path:?}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is a folder.
    #[error("{path:?} is a folder, not a video or an image")]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing in the file.
    #[error("cannot play {path:?}: it is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It begins like an image, but cannot be decoded.
    #[error("cannot show {path:?}: the {format} image is damaged or truncated")]
    DamagedImage {
        /// The file.
        path: PathBuf,
        /// What kind of image it is.
        format: String,
    },
    /// Neither an image nor a video that can be decoded.
    #[error("cannot play {path:?}: it is neither an image nor a video that FFmpeg can decode")]
    Unplayable {
        /// The file.
        path: PathBuf,
    },
    /// A URL that cannot be opened.
    #[error(
        "cannot play {url}: it does not answer, or brings no video that FFmpeg can decode; `ffmpeg -i URL -f yuv4mpegpipe - | udpchat … --source -` says why"
    )]
    Url {
        /// The URL, without a password.
        url: String,
    },
    /// A URL of a kind that is not known.
    #[error(
        "cannot play {url}: {scheme}:// is unknown{}; these may work: {}",
        hint(meant_scheme(scheme)),
        known_schemes()
    )]
    Scheme {
        /// The URL, without a password.
        url: String,
        /// What it begins with.
        scheme: String,
    },
    /// The picture of a URL is beyond the limits.
    #[error("cannot send {url} as it is: {error}; scale it with --size")]
    UrlSize {
        /// The URL, without a password.
        url: String,
        /// Which limits.
        error: SizeError,
    },
    /// The picture's size is beyond the limits.
    #[error("cannot send {path:?} as it is: {error}; scale it with --size")]
    Size {
        /// The file.
        path: PathBuf,
        /// Which limits.
        error: SizeError,
    },
    /// There is no camera at all.
    #[error("no camera was found: plug one in, or use `--source pattern` or `--source FILE`")]
    NoCamera,
    /// This camera is not there.
    #[error("there is no camera {index}; there are: {others} (`udpchat devices` says more)")]
    NoSuchCamera {
        /// The number asked for.
        index: u32,
        /// What there is.
        others: String,
    },
    /// The camera is there, but gives nothing.
    #[error(
        "cannot get pictures from camera {index} ({name}): is another program using it, and may you read {path}?"
    )]
    Camera {
        /// Its number.
        index: u32,
        /// What it is called.
        name: String,
        /// Its device.
        path: String,
    },
    /// What was asked for needs OpenCV.
    #[error(
        "this udpchat was built without OpenCV: {0} cannot be opened; use `--source pattern` or `--source -`"
    )]
    WithoutOpenCv(&'static str),
    /// A rate that makes no sense.
    #[error("a rate of {0} frames/s is out of range: it must be 0.1 to 1000")]
    Fps(f64),
    /// Nothing comes from a pipe.
    #[error(
        "{name} is empty: pipe YUV4MPEG2 or JPEGs into it, as `ffmpeg -i FILE -f yuv4mpegpipe -` writes"
    )]
    PipeEmpty {
        /// Which pipe.
        name: String,
    },
    /// A pipe brings something else.
    #[error(
        "{name} is neither YUV4MPEG2 (`ffmpeg … -f yuv4mpegpipe -`) nor a stream of JPEGs (`ffmpeg … -f mjpeg -`)"
    )]
    PipeFormat {
        /// Which pipe.
        name: String,
    },
    /// A pipe or a file is a stream of JPEGs, but none of them can be used.
    #[error("no JPEG in {name} can be used: {complaint}")]
    PipeJpeg {
        /// Which pipe or file.
        name: String,
        /// Why the last one cannot be used.
        complaint: String,
    },
    /// The YUV4MPEG2 is not acceptable.
    #[error("{name}: {error}")]
    Y4m {
        /// Which pipe.
        name: String,
        /// Why.
        error: Y4mError,
    },
    /// A pipe cannot be read.
    #[error("cannot read {name}: {error}")]
    Pipe {
        /// Which pipe.
        name: String,
        /// What the system says.
        error: io::Error,
    },
    /// `OpenCV` failed at something that it is not expected to fail at.
    #[error("OpenCV failed to {what}: {error}")]
    OpenCv {
        /// At what.
        what: &'static str,
        /// What it says.
        error: String,
    },
}

/// What was probably meant, as it is said after an error.
fn hint(meant: Option<String>) -> String {
    meant.map(|meant| format!(": did you mean {meant}?")).unwrap_or_default()
}
