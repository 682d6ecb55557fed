//! The user's choice of a source and its options.

use std::{
    convert::Infallible,
    ffi::OsString,
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::playback_clock::PlaybackClock;
use crate::video::image::Size;

/// A source. Every argument is valid: anything that is not a keyword, a URL or a camera device is a
/// path (`./pattern` is a file of that name), which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// `camera` is the first one; `camera:2` or `/dev/video2` is the one with that number.
    Camera(Option<u32>),
    /// The built-in test pattern.
    Pattern,
    /// A video file, an image, or a named pipe.
    Path(PathBuf),
    /// `rtsp://…`, `http://…`: any URL that `FFmpeg` can open. `file:` URLs of this machine are
    /// paths.
    Url(String),
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
    /// Parses a keyword, a URL or a camera device.
    fn named(text: &str) -> Option<Self> {
        if let Some(path) = path_of_file_url(text) {
            return Some(Self::Path(path));
        }
        match text {
            "camera" => Some(Self::Camera(None)),
            "pattern" => Some(Self::Pattern),
            "-" => Some(Self::Stdin),
            _ if is_url(text) => Some(Self::Url(text.to_owned())),
            _ => {
                let number = text.strip_prefix("camera:").and_then(|number| number.parse().ok());
                number.or_else(|| camera_of_device(text)).map(|number| Self::Camera(Some(number)))
            }
        }
    }

    /// Whether it reads standard input. If so, nothing else may.
    pub fn reads_stdin(&self) -> bool {
        let names = ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];
        match self {
            Self::Stdin => true,
            Self::Path(path) => names.iter().any(|name| path == Path::new(name)),
            Self::Camera(_) | Self::Pattern | Self::Url(_) => false,
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
            Self::Url(url) => f.write_str(url),
            Self::Stdin => f.write_str("-"),
        }
    }
}

/// What the user probably meant by the name of a file that does not exist.
pub(super) fn meant(path: &Path) -> Option<String> {
    let original = path.to_str()?;
    let typed = original.to_lowercase();
    if let Some(url) = meant_url(original) {
        return Some(url);
    }
    if typed.parse::<u8>().is_ok() {
        return Some(format!("camera:{typed}"));
    }
    let synonym = SYNONYMS.iter().find(|(synonym, _)| *synonym == typed).map(|(_, name)| *name);
    synonym.or_else(|| closest(&NAMES, &typed, MAX_TYPOS)).map(str::to_owned)
}

/// The name closest to `typed`, if at most `max_typos` letters are missing, extra, wrong or
/// swapped.
fn closest(names: &[&'static str], typed: &str, max_typos: usize) -> Option<&'static str> {
    let typos = |name: &str| strsim::damerau_levenshtein(name, typed);
    let name = names.iter().copied().min_by_key(|name| typos(name))?;
    (typos(name) <= max_typos).then_some(name)
}

/// The named sources, without `-`, which resembles every short word.
const NAMES: [&str; 2] = ["camera", "pattern"];

/// Other words for the sources.
const SYNONYMS: [(&str, &str); 4] =
    [("stdin", "-"), ("webcam", "camera"), ("test", "pattern"), ("testsrc", "pattern")];

/// The most typos in a source's name. In a scheme, which is shorter, one is accepted.
const MAX_TYPOS: usize = 2;

/// The number of the camera with this device path.
pub(super) fn camera_of_device(path: &str) -> Option<u32> {
    path.strip_prefix("/dev/video")?.parse().ok()
}

/// Whether `FFmpeg` may support the scheme; that depends on how it was built.
pub(super) fn is_known_scheme(scheme: &str) -> bool {
    SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
}

/// The schemes that may work, as a list for an error message.
pub(super) fn known_schemes() -> String {
    SCHEMES.join(", ")
}

/// The known scheme that resembles `typed`.
pub(super) fn meant_scheme(typed: &str) -> Option<String> {
    if closest(&["file"], &typed.to_lowercase(), 1).is_some() {
        return Some(FILE_SCHEME.to_owned());
    }
    closest(&SCHEMES, &typed.to_lowercase(), 1).map(|scheme| format!("{scheme}://"))
}

/// The URL, or for a relative `file:` the path, that was probably meant by a known scheme with a
/// wrong separator instead of `://`.
fn meant_url(typed: &str) -> Option<String> {
    let (scheme, rest) = typed.split_at(typed.find([':', '/', ';', '\\'])?);
    let rest_at = rest.find(|c| ![':', '/', ';', '\\'].contains(&c))?;
    let (separator, rest) = rest.split_at(rest_at);
    // The file may be in a folder of this name.
    if separator == "/" {
        return None;
    }
    match scheme {
        "file" if separator.ends_with('/') => Some(format!("file:///{rest}")),
        // A `file:` URL has an absolute path; a relative one is typed without a scheme.
        "file" => Some(rest.to_owned()),
        _ => SCHEMES.contains(&scheme).then(|| format!("{scheme}://{rest}")),
    }
}

/// `FFmpeg`'s protocols that carry video, the usual ones first.
const SCHEMES: [&str; 30] = [
    "http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp", "tls", "unix",
    "rist", "srtp", "udplite", "sctp", "hls", "ftp", "sftp", "smb", "mmsh", "mmst", "rtmpe",
    "rtmpt", "rtmpts", "satip", "sap", "ipfs", "gopher", "data",
];

const FILE_SCHEME: &str = "file://";

/// The path of a `file:` URL of this machine.
fn path_of_file_url(url: &str) -> Option<PathBuf> {
    let (host, path) = split_file_url(url)?;
    if !is_this_machine(host) {
        return None;
    }
    let decoded = percent_decoded(if path.is_empty() { "/" } else { path });
    #[cfg(unix)]
    let path = <OsString as std::os::unix::ffi::OsStringExt>::from_vec(decoded);
    #[cfg(not(unix))]
    let path = OsString::from(String::from_utf8(decoded).ok()?);
    Some(path.into())
}

/// The host of a `file:` URL of another machine, and its path.
pub(super) fn other_host(url: &str) -> Option<(&str, &str)> {
    split_file_url(url).filter(|(host, _)| !is_this_machine(host))
}

/// The host and the path of `file:/path` or `file://host/path` (RFC 8089). Either may be empty, but
/// not both.
fn split_file_url(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("file") || !rest.starts_with('/') {
        return None;
    }
    let Some(rest) = rest.strip_prefix("//") else { return Some(("", rest)) };
    let path_at = rest.find('/').unwrap_or(rest.len());
    (!rest.is_empty()).then_some(rest.split_at(path_at))
}

fn is_this_machine(host: &str) -> bool {
    host.is_empty() || host.eq_ignore_ascii_case("localhost")
}

/// Decodes percent-encoding: `%41` is `A` (RFC 3986, 2.1).
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.first_chunk::<2>().filter(|_| byte == b'%').and_then(|digits| {
            let value = digits.map(|digit| char::from(digit).to_digit(16));
            Some((value[0]? * 16 + value[1]?) as u8)
        });
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    bytes
}

/// A scheme (RFC 3986) followed by `://`. File names do not normally look like this.
fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(is_scheme)
            && !rest.is_empty()
    })
}

/// Options of a source.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SourceOptions {
    /// The exact size to send, ignoring the aspect ratio. Not applied to frames that are passed
    /// through, except that it is requested from a camera.
    pub size: Option<Size>,
    /// Frames/s, within [`FPS_RANGE`]: requested from a camera, and the rate of generated pictures
    /// and files.
    pub fps: Option<f64>,
    /// No pacing: generated pictures and files deliver the next picture on request. Cameras, URLs,
    /// named pipes and standard input keep their own rate.
    pub unpaced: bool,
    /// Play a file or URL once, instead of looping or reconnecting.
    pub once: bool,
    /// The requested JPEG quality, if any. Frames that are passed through keep their own.
    pub quality: Option<u8>,
    /// Omit chroma where that saves work here. The encoder must be told too.
    pub gray: bool,
}

impl SourceOptions {
    /// The clock of a source that plays at `fps` frames a second: its own rate, or the requested
    /// one.
    pub(super) fn playback_clock(&self, fps: f64) -> PlaybackClock {
        if self.unpaced { PlaybackClock::unpaced() } else { PlaybackClock::new(fps) }
    }

    /// The rate of that clock, for a source's description.
    pub(super) fn rate_text(&self, fps: f64) -> String {
        if self.unpaced { "as fast as possible".to_owned() } else { format!("{fps} frames/s") }
    }

    /// The part of a description about scaling from `found` to `size`; empty if the size is
    /// unchanged.
    pub(super) fn scaling_text(&self, found: Size, size: Size) -> String {
        match self.size {
            _ if found == size => String::new(),
            None => format!(" scaled to {size}, since its pixels are not square,"),
            Some(_) => format!(" scaled to {size}"),
        }
    }
}

/// The accepted rates: 0.1 frames/s is a slide show, and a millisecond is the limit of accurate
/// pacing.
pub const FPS_RANGE: RangeInclusive<f64> = 0.1..=1000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_round_trip_through_text() {
        for (text, spec) in [
            ("camera", SourceSpec::Camera(None)),
            ("camera:2", SourceSpec::Camera(Some(2))),
            ("pattern", SourceSpec::Pattern),
            ("-", SourceSpec::Stdin),
            ("./pattern", SourceSpec::Path("./pattern".into())),
            ("camera:x", SourceSpec::Path("camera:x".into())),
            ("rtsp://cam/live", SourceSpec::Url("rtsp://cam/live".into())),
            ("http:film.avi", SourceSpec::Path("http:film.avi".into())),
            ("./a://b", SourceSpec::Path("./a://b".into())),
            ("/dev/videos", SourceSpec::Path("/dev/videos".into())),
        ] {
            assert_eq!(text.parse(), Ok(spec.clone()));
            assert_eq!(spec.to_string(), text);
        }
    }

    #[test]
    fn a_file_url_is_a_path() {
        for (url, path) in [
            ("file:///tmp/a.mkv", "/tmp/a.mkv"),
            ("file://localhost/tmp/a.mkv", "/tmp/a.mkv"),
            ("file:///tmp/my%20film%2c%C3%A4.mkv", "/tmp/my film,ä.mkv"),
            ("file:///100%", "/100%"),
            ("file:///%zz%4", "/%zz%4"),
            ("file:/tmp/a.mkv", "/tmp/a.mkv"),
            ("FILE://LocalHost/tmp/a.mkv", "/tmp/a.mkv"),
            ("file:////tmp/a%2541.mkv", "//tmp/a%41.mkv"),
            ("file://localhost", "/"),
            ("file://", "file://"),
            ("file:a.mkv", "file:a.mkv"),
        ] {
            assert_eq!(url.parse(), Ok(SourceSpec::Path(path.into())), "{url}");
        }
    }

    #[test]
    fn a_mistyped_url_separator_is_recognized() {
        for (typed, url) in [
            ("http:/x/y", "http://x/y"),
            ("rtsp:cam/live", "rtsp://cam/live"),
            ("http//x", "http://x"),
            ("https;//x", "https://x"),
            ("rtmp:\\\\x", "rtmp://x"),
            ("file//tmp/x", "file:///tmp/x"),
            ("file:x", "x"),
        ] {
            assert_eq!(meant(Path::new(typed)).as_deref(), Some(url), "{typed}");
        }
        for typed in ["http/x", "foo:/x", "C:/film.mkv", "http:", "http"] {
            assert_ne!(meant(Path::new(typed)).map(|it| it.contains("://")), Some(true), "{typed}");
        }
    }

    #[test]
    fn a_video_device_path_is_a_camera() {
        assert_eq!("/dev/video2".parse(), Ok(SourceSpec::Camera(Some(2))));
    }

    #[test]
    fn standard_input_has_several_names() {
        for (text, expected) in
            [("-", true), ("/dev/stdin", true), ("/dev/fd/0", true), ("/dev/fd/63", false)]
        {
            let Ok(spec) = text.parse::<SourceSpec>();
            assert_eq!(spec.reads_stdin(), expected, "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let name = OsString::from_vec(b"video-\xff.avi".to_vec());
        assert_eq!(SourceSpec::from(name.clone()), SourceSpec::Path(name.into()));
    }
}
