//! Video sources: [`Source`] and its kinds.

mod aspect;
mod barcode;
pub mod camera;
mod capture;
mod error;
mod file;
mod padding;
mod paint;
pub mod pattern;
mod picture;
mod pipe;
mod playback_clock;
pub(crate) mod pushback;
mod raw_stream;
mod raw_video_file;
mod second_hand;
mod sniff;
mod spec;
mod still;
mod timeline;
mod url;
mod warnings;
pub(crate) mod y4m;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

pub use error::SourceError;
pub use picture::{Captured, Picture, SourceInfo};
pub use playback_clock::FRESH;
pub use spec::{FPS_RANGE, SourceOptions, SourceSpec};

use self::{
    pattern::Pattern,
    picture::{DEFAULT_FPS, DEFAULT_SIZE, scale},
    pipe::Pipe,
    playback_clock::PlaybackClock,
    raw_video_file::RawVideoFile,
    sniff::{Content, sniff},
    warnings::RateLimitedWarnings,
};
use super::image::Size;
use crate::clock;

/// A sequence of pictures.
pub struct Source {
    info: SourceInfo,
    kind: Kind,
}

impl Source {
    /// Opens the source `spec`, and reads enough to know that it works: it waits for the first
    /// picture of a file, pipe, URL or camera.
    pub fn open(spec: &SourceSpec, options: &SourceOptions) -> Result<Self, SourceError> {
        if let Some(fps) = options.fps.filter(|fps| !FPS_RANGE.contains(fps)) {
            return Err(SourceError::Fps(fps));
        }
        match spec {
            SourceSpec::Pattern => Ok(open_pattern(options)),
            SourceSpec::Stdin => {
                let (info, pipe) =
                    Pipe::open("standard input", Box::new(std::io::stdin()), options)?;
                Ok(Self { info, kind: Kind::Pipe(pipe) })
            }
            SourceSpec::Path(path) => open_path(path, options),
            SourceSpec::Url(url) => match spec::other_host(url) {
                Some((host, path)) => {
                    Err(SourceError::OtherHost { host: host.to_owned(), path: path.to_owned() })
                }
                None => open_url(url, options),
            },
            SourceSpec::Camera(index) => open_camera(*index, options),
        }
    }

    /// The source's properties.
    pub fn info(&self) -> &SourceInfo {
        &self.info
    }

    /// Waits for the next picture. `None` at the end, or once `stop` is set, which is checked every
    /// 50 ms.
    pub fn next(&mut self, stop: &AtomicBool) -> Result<Option<Captured>, SourceError> {
        match &mut self.kind {
            Kind::Pattern(source) => Ok(source.next(stop)),
            Kind::Pipe(source) => source.next(stop),
            Kind::RawVideoFile(source) => source.next(stop),
            Kind::VideoFile(source) => source.next(stop),
            Kind::Still(source) => Ok(source.next(stop)),
            Kind::Camera(source) => Ok(source.next(stop)),
            Kind::Url(source) => Ok(source.next(stop)),
        }
    }

    /// Whether pictures arrive at a frame rate. Otherwise each is made on request, so request only
    /// pictures that will be used.
    pub fn is_paced(&self) -> bool {
        match &self.kind {
            Kind::Pattern(source) => source.playback_clock.is_paced(),
            Kind::RawVideoFile(source) => source.is_paced(),
            Kind::VideoFile(source) => source.is_paced(),
            Kind::Still(source) => source.is_paced(),
            _ => true,
        }
    }

    /// Whether pictures come even if they are not taken. Those of a video file do not.
    pub fn is_live(&self) -> bool {
        !matches!(self.kind, Kind::RawVideoFile(_) | Kind::VideoFile(_))
    }

    /// Pictures so far that were replaced by newer ones before [`next`](Self::next) returned them.
    /// A separate thread reads cameras, pipes and URLs. It waits for the caller only for a pipe, up
    /// to [`FRESH`] a picture.
    pub fn superseded(&self) -> u64 {
        match &self.kind {
            Kind::Pipe(source) => source.superseded(),
            Kind::Camera(source) => source.superseded(),
            Kind::Url(source) => source.superseded(),
            _ => 0,
        }
    }

    /// The counter of truncated or damaged frames that were dropped (cameras, pipes, Motion JPEG
    /// and YUV4MPEG2 files).
    pub fn damaged(&self) -> Arc<AtomicU64> {
        match &self.kind {
            Kind::Pipe(source) => source.damaged(),
            Kind::RawVideoFile(source) => source.damaged(),
            Kind::Camera(source) => source.damaged(),
            _ => Arc::default(),
        }
    }
}

/// Whether opening the source loads OpenCV and waits for no other program: a camera, or a file that
/// OpenCV decodes. A URL loads OpenCV too, but may then be silent for any length of time.
pub fn is_local_opencv_source(spec: &SourceSpec) -> bool {
    match spec {
        SourceSpec::Camera(_) => true,
        SourceSpec::Path(path) => match sniff(path) {
            Ok(Content::Image(_) | Content::Video) => true,
            Ok(Content::Pipe) => camera_of(path).is_some(),
            Ok(Content::Raw) | Err(_) => false,
        },
        SourceSpec::Pattern | SourceSpec::Stdin | SourceSpec::Url(_) => false,
    }
}

enum Kind {
    Pattern(Box<PacedPattern>),
    Pipe(Pipe),
    RawVideoFile(Box<RawVideoFile>),
    VideoFile(file::VideoFile),
    Still(still::Still),
    Camera(camera::Camera),
    Url(url::Stream),
}

/// The test pattern and the clock that paces it.
struct PacedPattern {
    pattern: Pattern,
    playback_clock: PlaybackClock,
}

impl PacedPattern {
    fn next(&mut self, stop: &AtomicBool) -> Option<Captured> {
        let due = self.playback_clock.wait(stop)?;
        // The clock in the picture shows the due time, to match `captured`.
        let late = clock::now().saturating_duration_since(due.at);
        let wall = clock::wall().checked_sub(late).unwrap_or(Duration::ZERO);
        let image = self.pattern.picture(due.number as u32, wall);
        Some(Captured { picture: Picture::Image(image), captured: due.at, number: due.number })
    }
}

fn open_pattern(options: &SourceOptions) -> Source {
    let Size { width, height } = options.size.unwrap_or(DEFAULT_SIZE);
    let fps = options.fps.unwrap_or(DEFAULT_FPS);
    let rate = options.rate_text(fps);
    let label = format!("udpchat {width}x{height} {fps} fps");
    let pattern = Pattern::new(Size { width, height }, &label);
    let pattern = if options.gray { pattern.into_gray() } else { pattern };
    let info = SourceInfo {
        width,
        height,
        fps,
        description: format!("pattern, {width}x{height} at {rate}"),
        passthrough: false,
        notes: Vec::new(),
    };
    let source = PacedPattern { pattern, playback_clock: options.playback_clock(fps) };
    Source { info, kind: Kind::Pattern(Box::new(source)) }
}

fn open_path(path: &Path, options: &SourceOptions) -> Result<Source, SourceError> {
    match sniff(path)? {
        Content::Raw => {
            let (info, video) = RawVideoFile::open(path, options)?;
            Ok(Source { info, kind: Kind::RawVideoFile(Box::new(video)) })
        }
        Content::Image(format) => open_still(path, format, options),
        Content::Video => open_video_file(path, options),
        Content::Pipe => match camera_of(path) {
            Some(index) => open_camera(Some(index), options),
            None => open_pipe(path, options),
        },
    }
}

/// Opens a file that can be read only once, such as a FIFO, for which it blocks until there is a
/// writer.
fn open_pipe(path: &Path, options: &SourceOptions) -> Result<Source, SourceError> {
    log::info!("reading {} as a pipe", path.display());
    let unreadable = |error| SourceError::Unreadable { path: path.into(), error };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let (info, pipe) = Pipe::open(&path.display().to_string(), Box::new(file), options)?;
    Ok(Source { info, kind: Kind::Pipe(pipe) })
}

/// The number of the camera behind a link, such as those in `/dev/v4l/by-id`.
fn camera_of(path: &Path) -> Option<u32> {
    spec::camera_of_device(path.canonicalize().ok()?.to_str()?)
}

fn open_still(path: &Path, format: &str, options: &SourceOptions) -> Result<Source, SourceError> {
    let (info, still) = still::Still::open(path, format, options)?;
    Ok(Source { info, kind: Kind::Still(still) })
}

fn open_video_file(path: &Path, options: &SourceOptions) -> Result<Source, SourceError> {
    let (info, video) = file::VideoFile::open(path, options)?;
    Ok(Source { info, kind: Kind::VideoFile(video) })
}

fn open_camera(index: Option<u32>, options: &SourceOptions) -> Result<Source, SourceError> {
    let (info, camera) = camera::Camera::open(index, options)?;
    Ok(Source { info, kind: Kind::Camera(camera) })
}

fn open_url(url: &str, options: &SourceOptions) -> Result<Source, SourceError> {
    let (info, stream) = url::Stream::open(url, options)?;
    Ok(Source { info, kind: Kind::Url(stream) })
}

#[cfg(test)]
mod tests {
    use super::*;

    static NEVER_STOP: AtomicBool = AtomicBool::new(false);

    fn open(spec: &str, options: &SourceOptions) -> Result<Source, SourceError> {
        Source::open(&spec.parse().expect("any text is a source"), options)
    }

    fn said(spec: &str) -> String {
        let error = open(spec, &SourceOptions::default()).err().expect(spec);
        let said = error.to_string();
        assert!(!said.contains('\n'), "{said}");
        said
    }

    #[test]
    fn the_pattern_counts_its_frames() {
        let options = SourceOptions {
            size: Some(Size { width: 160, height: 120 }),
            fps: Some(240.0),
            gray: true,
            ..SourceOptions::default()
        };
        let mut source = open("pattern", &options).expect("built in");
        assert_eq!(source.info().description, "pattern, 160x120 at 240 frames/s");
        for _ in 0..5 {
            let captured = source.next(&NEVER_STOP).expect("no error").expect("no end");
            let Picture::Image(image) = captured.picture else { panic!("not pixels") };
            assert_eq!(image.format, super::super::image::PixelFormat::Gray);
            assert_eq!(pattern::read_number(&image), Some(captured.number as u32));
            assert!(captured.captured <= clock::now());
        }
        assert!(source.next(&AtomicBool::new(true)).expect("no error").is_none());
    }

    #[test]
    fn an_invalid_rate_is_refused() {
        for fps in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            let options = SourceOptions { fps: Some(fps), ..SourceOptions::default() };
            assert!(matches!(open("pattern", &options), Err(SourceError::Fps(_))));
        }
    }

    #[test]
    fn bad_files_are_reported_in_one_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("empty.avi"), b"").expect("writes");
        std::fs::write(path("text.avi"), b"this is not a video at all\n".repeat(99))
            .expect("writes");
        std::fs::write(path("half.png"), b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0").expect("writes");
        std::fs::write(path("huge.png"), png_header(100_000, 9)).expect("writes");
        assert!(said(&path("none.avi")).ends_with("no such file"));
        assert!(said(&path("")).ends_with("is a folder, not a video or an image"));
        assert!(said(&path("empty.avi")).ends_with("it is empty"));
        #[cfg(feature = "opencv")]
        {
            assert!(said(&path("text.avi")).contains("cannot play"));
            assert!(said(&path("half.png")).contains("damaged or truncated"));
            assert!(said(&path("huge.png")).contains("100000x9 is out of range"));
        }
    }

    /// At its end the file starts again; this is not reported as a lost connection.
    #[test]
    fn a_file_url_is_played_like_its_path() {
        use crate::video::{image::PixelFormat, jpeg::tests::textured};
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("my film.mjpeg");
        std::fs::write(&path, textured(32, 32, PixelFormat::Gray).repeat(2)).expect("writes");
        let path = path.display().to_string();
        let urls = ["file://", "file:", "file://localhost"]
            .map(|start| format!("{start}{}", path.replace(' ', "%20")));
        let options = SourceOptions { unpaced: true, ..SourceOptions::default() };
        let [by_path, by_url @ ..] = [&path, &urls[0], &urls[1], &urls[2]].map(|spec| {
            let mut source = open(spec, &options).expect("plays");
            for number in 0..5 {
                let captured = source.next(&NEVER_STOP).expect("no error").expect("no end");
                assert_eq!(captured.number, number);
            }
            source.info().clone()
        });
        assert!(by_url.iter().all(|by_url| *by_url == by_path), "{by_url:?}");
    }

    /// The host is refused even if the current folder has a file of that name, as for `Cargo.toml`.
    #[test]
    fn a_file_url_with_a_host_is_refused_with_a_suggestion() {
        for (url, meant) in [
            ("file://films/a.mkv", "file:///films/a.mkv"),
            ("FILE://Cargo.toml", "file:///Cargo.toml"),
            ("file://127.0.0.1/a%20b", "file:///127.0.0.1/a%20b"),
        ] {
            let said = said(url);
            assert!(said.contains(meant) && said.contains("the path alone"), "{said}");
        }
    }

    #[test]
    fn a_mistyped_source_gets_a_suggestion() {
        for (typed, meant) in [
            ("patern", "did you mean pattern?"),
            ("Pattern", "did you mean pattern?"),
            ("camra", "did you mean camera?"),
            ("camera:x", "did you mean camera?"),
            ("0", "did you mean camera:0?"),
            ("webcam", "did you mean camera?"),
            ("stdin", "did you mean -?"),
        ] {
            let said = said(typed);
            assert!(said.contains("no such file") && said.ends_with(meant), "{said}");
        }
        assert!(said("http:/host/x").ends_with("did you mean http://host/x?"));
        for typed in ["./patern", "film.mp4", "holiday", "x"] {
            assert!(said(typed).ends_with("no such file"));
        }
    }

    #[test]
    #[cfg(feature = "opencv")]
    fn an_unknown_scheme_is_reported_with_the_supported_ones() {
        let foo = said("foo://me:secret@host/x");
        assert!(foo.contains("http, https, rtsp") && !foo.contains("secret"), "{foo}");
        assert!(
            foo.contains("smb") && foo.contains("tcp"),
            "every supported scheme is listed: {foo}"
        );
        assert!(!foo.contains("did you mean"), "{foo}");
        assert!(said("htpp://host/x").contains("did you mean http://?"));
        assert!(said("rstp://host/x").contains("did you mean rtsp://?"));
        assert!(!said("http://127.0.0.1:9/").contains("unknown"));
    }

    fn png_header(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }
}
