//! The user's choice of an output.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
    str::FromStr,
};

/// Where to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputSpec {
    /// `-`: YUV4MPEG2 on standard output, which players and ffmpeg can read from a pipe.
    Stdout,
    /// A file, in the container given by its extension.
    File {
        /// The file. An existing one is kept unless it may be overwritten.
        path: PathBuf,
        /// The container.
        container: Container,
    },
}

/// The container format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// `.y4m`: decoded, uncompressed planes, full range.
    Y4m,
    /// `.mjpeg`, `.mjpg`: the received frames, concatenated.
    MotionJpeg,
    /// `.avi`: the received frames, with a rate.
    Avi,
}

impl OutputSpec {
    /// Whether it writes to standard output. If so, nothing else may.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }
}

impl FromStr for OutputSpec {
    type Err = OutputSpecError;

    fn from_str(text: &str) -> Result<Self, OutputSpecError> {
        OsString::from(text).try_into()
    }
}

impl TryFrom<OsString> for OutputSpec {
    type Error = OutputSpecError;

    /// The name need not be UTF-8.
    fn try_from(argument: OsString) -> Result<Self, OutputSpecError> {
        if argument == OsStr::new("-") {
            return Ok(Self::Stdout);
        }
        let path = PathBuf::from(argument);
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let container = match &extension[..] {
            "y4m" => Container::Y4m,
            "mjpeg" | "mjpg" => Container::MotionJpeg,
            "avi" => Container::Avi,
            _ => return Err(OutputSpecError { name: path }),
        };
        Ok(Self::File { path, container })
    }
}

impl fmt::Display for OutputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("-"),
            Self::File { path, .. } => path.display().fmt(f),
        }
    }
}

/// A name without a known extension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} does not say how to record: end the name in .y4m (decoded), .mjpeg or .avi (frames as they come), or use - for YUV4MPEG2 on standard output"
)]
pub struct OutputSpecError {
    name: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_selects_the_container() {
        let file = |path: &str, container| OutputSpec::File { path: path.into(), container };
        assert_eq!("-".parse(), Ok(OutputSpec::Stdout));
        assert_eq!("a.y4m".parse(), Ok(file("a.y4m", Container::Y4m)));
        assert_eq!("x/b.MJPG".parse(), Ok(file("x/b.MJPG", Container::MotionJpeg)));
        assert_eq!("c.mjpeg".parse(), Ok(file("c.mjpeg", Container::MotionJpeg)));
        assert_eq!("d.e.avi".parse(), Ok(file("d.e.avi", Container::Avi)));
    }

    #[cfg(unix)]
    #[test]
    fn a_name_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let name = OsString::from_vec(b"video-\xff.avi".to_vec());
        let file = OutputSpec::File { path: name.clone().into(), container: Container::Avi };
        assert_eq!(OutputSpec::try_from(name), Ok(file));
    }

    #[test]
    fn other_extensions_are_refused_with_the_supported_ones() {
        for text in ["", "a", "a.mp4", ".avi", "avi"] {
            let said = text.parse::<OutputSpec>().expect_err(text).to_string();
            assert!([".y4m", ".mjpeg", ".avi"].iter().all(|e| said.contains(e)), "{said}");
        }
    }
}
