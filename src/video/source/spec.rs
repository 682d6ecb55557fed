//! What a user says about a source.

use std::{
    convert::Infallible, ffi::OsString, fmt, ops::RangeInclusive, path::PathBuf, str::FromStr,
};

use super::pace::Pacer;
use crate::video::image::Size;

/// Which source. Every argument is one: what has no meaning of its own is a path
/// (`./pattern` is a file of that name), which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// `camera` is the first one that there is, `camera:2` the one of that number.
    Camera(Option<u32>),
    /// The built-in test picture.
    Pattern,
    /// A video file or an image.
    Path(PathBuf),
    /// `-`: YUV4MPEG2 or a stream of JPEGs.
    Stdin,
}

impl FromStr for SourceSpec {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(OsString::from(text).into())
    }
}

impl From<OsString> for SourceSpec {
    fn from(argument: OsString) -> Self {
        let named = argument.to_str().and_then(Self::named);
        named.unwrap_or_else(|| Self::Path(argument.into()))
    }
}

impl SourceSpec {
    /// A text that has a meaning of its own.
    fn named(text: &str) -> Option<Self> {
        match text {
            "camera" => Some(Self::Camera(None)),
            "pattern" => Some(Self::Pattern),
            "-" => Some(Self::Stdin),
            _ => text.strip_prefix("camera:")?.parse().ok().map(|n| Self::Camera(Some(n))),
        }
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Camera(None) => f.write_str("camera"),
            Self::Camera(Some(index)) => write!(f, "camera:{index}"),
            Self::Pattern => f.write_str("pattern"),
            Self::Path(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("-"),
        }
    }
}

/// How the source should be.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SourceOptions {
    /// Exactly this size; the aspect ratio is not kept. Where frames are passed
    /// through it does nothing, except that a camera is asked for it.
    pub size: Option<Size>,
    /// Frames/s, within [`FPS_RANGE`]: asked of a camera, given to what is made
    /// here or read from a file.
    pub fps: Option<f64>,
    /// No rate: what is made here or read from a file gives the next picture as soon as it is
    /// asked for one. Cameras and standard input have a rate of their own, and keep it.
    pub unpaced: bool,
    /// Play a file once instead of again and again.
    pub once: bool,
    /// Leave out the colour where that saves work here. The encoder must be told too.
    pub gray: bool,
}

impl SourceOptions {
    /// When the pictures of a source are due whose own rate, or the one asked for, is `fps`.
    pub(super) fn pacer(&self, fps: f64) -> Pacer {
        if self.unpaced { Pacer::unpaced() } else { Pacer::new(fps) }
    }

    /// The same for people.
    pub(super) fn rate_text(&self, fps: f64) -> String {
        if self.unpaced { "as fast as possible".to_owned() } else { format!("{fps} frames/s") }
    }
}

/// The rates that can be asked for: one picture in ten seconds is a slide show,
/// and a millisecond is what pacing can keep.
pub const FPS_RANGE: RangeInclusive<f64> = 0.1..=1000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_parse_and_print_the_same() {
        for (text, spec) in [
            ("camera", SourceSpec::Camera(None)),
            ("camera:2", SourceSpec::Camera(Some(2))),
            ("pattern", SourceSpec::Pattern),
            ("-", SourceSpec::Stdin),
            ("./pattern", SourceSpec::Path("./pattern".into())),
            ("camera:x", SourceSpec::Path("camera:x".into())),
        ] {
            assert_eq!(text.parse(), Ok(spec.clone()));
            assert_eq!(spec.to_string(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let name = OsString::from_vec(b"film-\xff.avi".to_vec());
        assert_eq!(SourceSpec::from(name.clone()), SourceSpec::Path(name.into()));
    }
}
