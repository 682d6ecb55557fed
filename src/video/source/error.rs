//! Errors of sources.

use std::{io, path::PathBuf};

use super::{
    spec::{known_schemes, meant, meant_scheme},
    y4m::Y4mError,
};
use crate::video::{image::SizeError, opencv_process::OpenCvError};

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
        /// The system's error.
        error: io::Error,
    },
    /// The path is a folder.
    #[error("{path:?} is a folder, not a video or an image")]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file is empty.
    #[error("cannot play {path:?}: it is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file has an image's magic number, but cannot be decoded.
    #[error("cannot show {path:?}: the {format} image is damaged or truncated")]
    DamagedImage {
        /// The file.
        path: PathBuf,
        /// The image format.
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
        "cannot play {url}: it does not answer, or sends no video that FFmpeg can decode; run `ffmpeg -i URL -f yuv4mpegpipe - | udpchat … --source -` to see why"
    )]
    Url {
        /// The URL, without a password.
        url: String,
    },
    /// A URL with an unknown scheme.
    #[error(
        "cannot play {url}: {scheme}:// is unknown{}; these may work: {}",
        hint(meant_scheme(scheme)),
        known_schemes()
    )]
    Scheme {
        /// The URL, without a password.
        url: String,
        /// The scheme.
        scheme: String,
    },
    /// A `file:` URL with the host name of another machine.
    #[error(
        "cannot play file://{host}{path}: {host} is read as a host name; type file:///{host}{path} (three slashes), or the path alone"
    )]
    OtherHost {
        /// The host name.
        host: String,
        /// The path on it.
        path: String,
    },
    /// The picture of a URL is beyond the limits.
    #[error("cannot send {url} as it is: {error}; scale it with --size")]
    UrlSize {
        /// The URL, without a password.
        url: String,
        /// The limit.
        error: SizeError,
    },
    /// The picture's size is beyond the limits.
    #[error("cannot send {path:?} as it is: {error}; scale it with --size")]
    Size {
        /// The file.
        path: PathBuf,
        /// The limit.
        error: SizeError,
    },
    /// There is no camera.
    #[error("no camera was found: plug one in, or use `--source pattern` or `--source FILE`")]
    NoCamera,
    /// There is no camera of this number.
    #[error("there is no camera {index}; available: {others} (see `udpchat devices`)")]
    NoSuchCamera {
        /// The requested number.
        index: u32,
        /// The existing cameras.
        others: String,
    },
    /// The camera exists, but delivers no pictures.
    #[error(
        "cannot get pictures from camera {index} ({name}): is another program using it, or do you lack permission to read {path}?"
    )]
    Camera {
        /// The camera's number.
        index: u32,
        /// The camera's name.
        name: String,
        /// The camera's device.
        path: String,
    },
    /// The rate is out of range.
    #[error("a rate of {0} frames/s is out of range: it must be 0.1 to 1000")]
    Fps(f64),
    /// The pipe ended without data.
    #[error(
        "{name} is empty: pipe YUV4MPEG2 or JPEGs into it, for example from `ffmpeg -i FILE -f yuv4mpegpipe -`"
    )]
    PipeEmpty {
        /// The pipe's name.
        name: String,
    },
    /// The pipe's format is not supported.
    #[error(
        "{name} is neither YUV4MPEG2 (`ffmpeg … -f yuv4mpegpipe -`) nor a stream of JPEGs (`ffmpeg … -f mjpeg -`)"
    )]
    PipeFormat {
        /// The pipe's name.
        name: String,
    },
    /// A pipe or a file has no usable JPEG.
    #[error("no JPEG in {name} can be used: {warning}")]
    PipeJpeg {
        /// The name of the pipe or file.
        name: String,
        /// Why the last JPEG is not usable, or that there is none.
        warning: String,
    },
    /// The YUV4MPEG2 stream is damaged or not supported.
    #[error("{name}: {error}")]
    Y4m {
        /// The name of the pipe or file.
        name: String,
        /// The reason.
        error: Y4mError,
    },
    /// The pipe cannot be read.
    #[error("cannot read {name}: {error}")]
    Pipe {
        /// The pipe's name.
        name: String,
        /// The system's error.
        error: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {error}")]
    Thread {
        /// The system's error.
        error: io::Error,
    },
    /// OpenCV is not installed, or failed.
    #[error(transparent)]
    OpenCv(#[from] OpenCvError),
}

/// The suggestion appended to an error message.
fn hint(meant: Option<String>) -> String {
    meant.map(|meant| format!(": did you mean {meant}?")).unwrap_or_default()
}
