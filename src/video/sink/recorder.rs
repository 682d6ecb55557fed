//! Records on a thread, so that a slow disk never delays the display.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    avi::AviWriter,
    backlog::{Backlog, DropPolicy, Recorded},
    destination::{Destination, Kind},
    output::Output,
    spec::{Container, OutputSpec},
    written::Written,
    y4m::Y4mWriter,
};
use crate::{clock, video::image::Image};

/// Writes frames to a file or a pipe.
#[derive(Debug)]
pub struct Recorder {
    name: String,
    takes_planes: bool,
    shared: Arc<Shared>,
}

/// Counters of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordSummary {
    /// Frames written.
    pub frames: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Frames not written because writing was slower than receiving.
    pub dropped: u64,
    /// Frames not written because writing had failed or ended.
    pub abandoned: u64,
    /// Frames not written because the FIFO had no reader yet.
    pub unread: u64,
    /// Frames not written because they could not be decoded.
    pub damaged: u64,
}

impl Recorder {
    /// Starts a recording at the nominal rate `fps`, to standard output or to a file. The file is
    /// checked as far as possible, and created with the first frame. If it exists, another name is
    /// used, unless `overwrite` is set.
    pub fn create(spec: &OutputSpec, fps: f64, overwrite: bool) -> Result<Self, RecordError> {
        let rate = rate(fps);
        let name = name(spec);
        let created = |error| RecordError::Create { name: name.clone(), error };
        let (writer, policy) = match spec {
            OutputSpec::Stdout => {
                let output = Output::pipe(stdout().map_err(created)?);
                (Writer::Y4m(Y4mWriter::new(output, rate)), DropPolicy::KeepNewest)
            }
            OutputSpec::File { path, container } => {
                let destination = Destination::check(path, overwrite).map_err(created)?;
                let policy = match destination.kind() {
                    Kind::Fifo if *container == Container::Avi => {
                        let why = "an AVI cannot be written to a FIFO, but .y4m and .mjpeg can";
                        return Err(created(io::Error::other(why)));
                    }
                    Kind::Fifo => DropPolicy::KeepNewest,
                    Kind::File | Kind::Device => DropPolicy::KeepOldest,
                };
                (Writer::new(destination, *container, rate), policy)
            }
        };
        Self::start(name.clone(), writer, policy)
    }

    /// Sets the nominal rate in frames/s of files that are begun from now on.
    pub fn set_rate(&self, fps: f64) {
        if fps > 0.0 && fps < MAX_RATE {
            self.shared.lock().rate = Some(rate(fps));
        }
    }

    /// Queues a frame with its time in the recording. Never waits: if writing does not keep up, the
    /// frame is dropped and counted.
    pub fn record(&self, frame: impl Into<Arc<[u8]>>, at: Duration) {
        self.shared.backlog.push((Recorded::Jpeg(frame.into()), at));
    }

    /// Whether [`record_planes`](Self::record_planes) can be used: the output is a YUV4MPEG2 pipe.
    pub fn takes_planes(&self) -> bool {
        self.takes_planes
    }

    /// Like [`record`](Self::record), with a frame that is already decoded to planes. Panics unless
    /// the recorder [takes planes](Self::takes_planes).
    pub fn record_planes(&self, image: Arc<Image>, at: Duration) {
        assert!(self.takes_planes, "{} does not take planes", self.name);
        self.shared.backlog.push((Recorded::Planes(image), at));
    }

    /// Whether a frame would be written at once or within a few milliseconds; always true for a
    /// file. If not, the callback of [`set_on_ready`](Self::set_on_ready) is called once it would.
    pub fn is_ready(&self) -> bool {
        self.shared.backlog.is_ready()
    }

    /// Sets the callback for [`is_ready`](Self::is_ready). Only the first call has an effect.
    pub fn set_on_ready(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.shared.backlog.set_on_ready(wake);
    }

    /// Notes for the user about the files written; each is returned once.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().notes)
    }

    /// Why writing ended; returned once. What was written until then is kept and playable.
    pub fn failure(&self) -> Option<RecordError> {
        self.shared.lock().failure.take()
    }

    /// The counters so far.
    pub fn summary(&self) -> RecordSummary {
        let written = self.shared.lock().summary;
        let backlog = &self.shared.backlog;
        let abandoned = written.abandoned + backlog.abandoned();
        RecordSummary { dropped: backlog.dropped(), abandoned, ..written }
    }

    /// Writes the queued frames and ends the file. Returns an error that [`failure`](Self::failure)
    /// has not returned yet.
    pub fn finish(&self) -> Result<RecordSummary, RecordError> {
        self.shared.backlog.close();
        let state = self.shared.lock();
        let (mut state, _) = self
            .shared
            .ended
            .wait_timeout_while(state, FINISH_TIMEOUT, |s| !s.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let failure = state.failure.take();
        let has_ended = state.ended;
        drop(state);
        match failure {
            Some(error) => Err(error),
            None if !has_ended => Err(RecordError::Stalled { name: self.name.clone() }),
            None => Ok(self.summary()),
        }
    }

    fn start(name: String, writer: Writer, policy: DropPolicy) -> Result<Self, RecordError> {
        let shared = Arc::new(Shared {
            backlog: Backlog::new(policy),
            state: Mutex::default(),
            ended: Condvar::new(),
        });
        let takes_planes = matches!((&writer, policy), (Writer::Y4m(_), DropPolicy::KeepNewest));
        let (mine, called) = (Arc::clone(&shared), name.clone());
        thread::Builder::new()
            .name("recorder".into())
            .spawn(move || write_all(writer, &mine, &called))
            .map_err(|error| RecordError::Create { name: name.clone(), error })?;
        Ok(Self { name, takes_planes, shared })
    }
}

/// Why recording cannot begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The recording cannot begin.
    #[error("cannot record to {name}: {error}")]
    Create {
        /// The output's name.
        name: String,
        /// The system's error.
        error: io::Error,
    },
    /// Writing failed, for example on a full disk.
    #[error("recording to {name} ended: {}; what was written before is intact", reason(error))]
    Write {
        /// The output's name.
        name: String,
        /// The system's error.
        error: io::Error,
    },
    /// The pipe's reader has closed it, which is an ordinary end.
    #[error("the reader of {name} has closed it")]
    ReaderGone {
        /// The output's name.
        name: String,
    },
    /// The last frames could not be written in time.
    #[error("recording to {name} did not end within 5 s: its disk or reader is stuck")]
    Stalled {
        /// The output's name.
        name: String,
    },
}

#[derive(Debug)]
struct Shared {
    backlog: Backlog,
    state: Mutex<State>,
    ended: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    summary: RecordSummary,
    failure: Option<RecordError>,
    notes: Vec<String>,
    /// A new rate for the writer.
    rate: Option<(u32, u32)>,
    ended: bool,
}

enum Writer {
    MotionJpeg(Output),
    Y4m(Y4mWriter),
    Avi(AviWriter),
}

impl Writer {
    fn new(destination: Destination, container: Container, rate: (u32, u32)) -> Self {
        match container {
            Container::MotionJpeg => Self::MotionJpeg(Output::file(destination)),
            Container::Y4m => Self::Y4m(Y4mWriter::new(Output::file(destination), rate)),
            Container::Avi => Self::Avi(AviWriter::new(destination, rate)),
        }
    }

    fn write(&mut self, frame: &Recorded, at: Duration) -> io::Result<Written> {
        match (self, frame) {
            (Self::MotionJpeg(output), Recorded::Jpeg(jpeg)) => {
                if !output.open()? {
                    return Ok(Written::NoReader);
                }
                output.write(&[jpeg]).map(|()| Written::Whole)
            }
            (Self::Y4m(writer), Recorded::Jpeg(jpeg)) => writer.write(jpeg),
            (Self::Y4m(writer), Recorded::Planes(image)) => writer.write_planes(image),
            (Self::Avi(writer), Recorded::Jpeg(jpeg)) => writer.write(jpeg, at),
            (_, Recorded::Planes(_)) => unreachable!("`record_planes` has checked the writer"),
        }
    }

    fn set_rate(&mut self, rate: (u32, u32)) {
        match self {
            Self::MotionJpeg(_) => {}
            Self::Y4m(writer) => writer.set_rate(rate),
            Self::Avi(writer) => writer.set_rate(rate),
        }
    }

    /// The name of the file opened since the last call.
    fn take_opened(&mut self) -> Option<PathBuf> {
        match self {
            Self::MotionJpeg(output) => output.take_opened(),
            Self::Y4m(writer) => writer.take_opened(),
            Self::Avi(writer) => writer.take_opened(),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::MotionJpeg(_) | Self::Y4m(_) => Ok(()),
            Self::Avi(writer) => writer.finish(),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::MotionJpeg(output) => output.len(),
            Self::Y4m(writer) => writer.bytes(),
            Self::Avi(writer) => writer.bytes(),
        }
    }
}

/// The writing thread.
fn write_all(mut writer: Writer, shared: &Shared, name: &str) {
    let mut result = Ok(());
    let mut is_conversion_reported = false;
    let mut opened_name = name.to_owned();
    let mut has_begun = matches!(&writer, Writer::Y4m(writer) if writer.is_open());
    while let Some((frame, at)) = shared.backlog.take() {
        if let Some(rate) = shared.lock().rate.take() {
            writer.set_rate(rate);
        }
        let began = clock::now();
        let written = writer.write(&frame, at);
        shared.backlog.note_written(clock::now() - began);
        let opened = writer.take_opened();
        let mut state = shared.lock();
        state.summary.bytes = writer.bytes();
        if let Some(path) = opened {
            state.notes.extend(opened_note(&path, name, has_begun));
            opened_name = path.display().to_string();
            has_begun = true;
        }
        match written {
            Ok(Written::Whole) => state.summary.frames += 1,
            Ok(Written::Damaged) => state.summary.damaged += 1,
            Ok(Written::Converted { from, to }) => {
                state.summary.frames += 1;
                if !std::mem::replace(&mut is_conversion_reported, true) {
                    log::warn!(
                        "{name}: pictures are now {from}; they are converted to the recording's {to}"
                    );
                }
            }
            Ok(Written::NoReader) => {
                if state.summary.unread == 0 {
                    state.notes.push(format!(
                        "{name} has no reader yet; frames are written once it has one"
                    ));
                }
                state.summary.unread += 1;
            }
            Err(error) => {
                state.summary.abandoned += 1;
                result = Err(error);
                break;
            }
        }
    }
    let finished = writer.finish();
    shared.backlog.abandon();
    let mut state = shared.lock();
    state.summary.bytes = writer.bytes();
    state.failure = result.and(finished).err().map(|error| failure(error, &opened_name, has_begun));
    state.ended = true;
    shared.ended.notify_all();
}

/// A note about a file that was opened, if its name is not the requested one.
fn opened_note(path: &Path, name: &str, has_begun: bool) -> Option<String> {
    let opened = path.display().to_string();
    match has_begun {
        true => Some(format!("the recording continues in {opened}")),
        false if opened != name => Some(format!(
            "{name} exists and is kept: recording to {opened} (--overwrite replaces it)"
        )),
        false => None,
    }
}

fn failure(error: io::Error, name: &str, has_begun: bool) -> RecordError {
    let name = name.to_owned();
    match error.kind() {
        io::ErrorKind::BrokenPipe => RecordError::ReaderGone { name },
        _ if !has_begun => RecordError::Create { name, error },
        _ => RecordError::Write { name, error },
    }
}

/// The system's error, and where its limit is set.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::FileTooLarge => format!("{error}: see ulimit -f"),
        _ => error.to_string(),
    }
}

/// Standard output without the line buffer of [`io::stdout`], which would search pictures for
/// newlines.
#[cfg(unix)]
fn stdout() -> io::Result<Box<dyn io::Write + Send>> {
    use std::os::fd::AsFd;
    let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(Box::new(std::fs::File::from(descriptor)))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
fn stdout() -> io::Result<Box<dyn io::Write + Send>> {
    Ok(Box::new(io::stdout()))
}

fn name(spec: &OutputSpec) -> String {
    match spec {
        OutputSpec::Stdout => "standard output".to_owned(),
        OutputSpec::File { path, .. } => path.display().to_string(),
    }
}

/// Frames/s as a fraction: whole numbers, television's n·1000/1001, else thousandths.
fn rate(fps: f64) -> (u32, u32) {
    assert!(fps > 0.0 && fps < MAX_RATE, "{fps} frames/s");
    let is_near_whole = |x: f64| (x - x.round()).abs() < 1e-3 && x.round() > 0.0;
    if is_near_whole(fps) {
        (fps.round() as u32, 1)
    } else if is_near_whole(fps * 1.001) {
        ((fps * 1.001).round() as u32 * 1000, 1001)
    } else {
        ((fps * 1000.0).round().max(1.0) as u32, 1000)
    }
}

/// In frames/s. No source is faster, and a peer that announces more would make the writer repeat
/// frames endlessly.
const MAX_RATE: f64 = 1000.5;

/// How long to wait for the last frames. Nobody waits longer after Ctrl-C.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{
        image::PixelFormat,
        jpeg::{Decoder, OutputFormat, tests::textured},
    };
    use std::{fs, io::Read, process::Command};

    fn frame(width: usize) -> Vec<u8> {
        textured(width, 48, PixelFormat::Yuv420)
    }

    fn at(i: u64) -> Duration {
        Duration::from_millis(40 * i)
    }

    fn recorder(path: &Path) -> Recorder {
        let spec = path.to_str().expect("text").parse().expect("a known extension");
        Recorder::create(&spec, 25.0, false).expect("creates")
    }

    /// A recorder to the pipe `writer`.
    fn piped(writer: Box<dyn io::Write + Send>) -> Recorder {
        let writer = Writer::Y4m(Y4mWriter::new(Output::pipe(writer), (25, 1)));
        Recorder::start("a pipe".into(), writer, DropPolicy::KeepNewest).expect("starts")
    }

    #[test]
    fn an_mjpeg_file_contains_the_frames_unchanged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.mjpeg");
        let recorder = recorder(&path);
        let frames = [frame(64), b"anything".to_vec(), frame(32)];
        (0..).zip(&frames).for_each(|(i, f)| recorder.record(f.clone(), at(i)));
        let summary = recorder.finish().expect("writes");
        assert_eq!((summary.frames, summary.dropped), (3, 0));
        assert_eq!(fs::read(&path).expect("reads"), frames.concat());
    }

    #[test]
    fn a_y4m_file_contains_the_decoded_planes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.y4m");
        let recorder = recorder(&path);
        for (i, f) in [frame(64), b"junk".to_vec(), frame(64)].into_iter().enumerate() {
            recorder.record(f, at(i as u64));
        }
        let summary = recorder.finish().expect("writes");
        assert_eq!((summary.frames, summary.damaged), (2, 1));
        let mut image = Image::empty();
        Decoder::new().decode(&frame(64), OutputFormat::Planar, &mut image).expect("decodes");
        let mut expected = b"YUV4MPEG2 W64 H48 F25:1 XCOLORRANGE=FULL C420jpeg\n".to_vec();
        expected.extend([b"FRAME\n", &image.data[..]].concat().repeat(2));
        assert_eq!(fs::read(&path).expect("reads"), expected);
        let ffmpeg = Command::new("ffmpeg").arg("-i").arg(&path).args(["-f", "null", "-"]).output();
        if let Ok(output) = ffmpeg {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.contains("pc"), "{said}");
        }
    }

    #[test]
    fn a_pipe_gets_the_same_from_planes_as_from_jpegs() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let recorder = piped(Box::new(writer));
        assert!(recorder.takes_planes());
        let await_ready = || {
            let until = clock::now() + Duration::from_secs(20);
            while !recorder.is_ready() && clock::now() < until {
                thread::yield_now();
            }
        };
        let frames = [frame(64), frame(64), frame(32)];
        for jpeg in &frames {
            let mut image = Image::empty();
            Decoder::new().decode(jpeg, OutputFormat::Planar, &mut image).expect("decodes");
            let image = Arc::new(image);
            await_ready();
            recorder.record_planes(Arc::clone(&image), at(0));
            await_ready();
            recorder.record(jpeg.clone(), at(1));
        }
        assert_eq!(recorder.finish().expect("writes").frames, 6);
        drop(recorder);
        let mut written = Vec::new();
        { reader }.read_to_end(&mut written).expect("reads");
        let header = written.iter().position(|&b| b == b'\n').expect("a line") + 1;
        let frames: Vec<_> = written[header..].chunks(6 + 64 * 48 * 3 / 2).collect();
        assert_eq!(frames.len(), 6);
        assert!(frames.chunks(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_y4m_keeps_its_first_layout_when_the_sender_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for first in [PixelFormat::Gray, PixelFormat::Yuv420, PixelFormat::Yuv444] {
            let path = folder.path().join(format!("{first:?}.y4m"));
            let recorder = recorder(&path);
            let formats = [first, PixelFormat::Gray, PixelFormat::Yuv422, PixelFormat::Yuv420];
            for (i, format) in (0..).zip(formats) {
                let (width, height) = [(64, 48), (64, 48), (320, 180), (50, 70)][i as usize];
                recorder.record(textured(width, height, format), at(i));
            }
            let summary = recorder.finish().expect("writes");
            assert_eq!((summary.frames, summary.damaged), (4, 0));
            let written = fs::read(&path).expect("reads");
            let header = written.iter().position(|&b| b == b'\n').expect("a line") + 1;
            assert_eq!(written.len() - header, 4 * (6 + first.data_len(64, 48)), "{first:?}");
        }
    }

    #[test]
    fn a_y4m_keeps_its_size_while_the_sender_scales() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.y4m");
        let recorder = recorder(&path);
        let sizes = [(130, 98), (65, 49), (33, 25), (259, 195), (130, 98)];
        for (i, (width, height)) in (0..).zip(sizes) {
            recorder.record(textured(width, height, PixelFormat::Yuv420), at(i));
        }
        let summary = recorder.finish().expect("writes");
        assert_eq!(summary.frames, 5);
        let written = fs::read(&path).expect("reads");
        let header = written.iter().position(|&b| b == b'\n').expect("a line") + 1;
        let picture = PixelFormat::Yuv420.data_len(130, 98);
        assert_eq!(written.len() - header, 5 * (6 + picture));
    }

    #[test]
    fn an_unwritable_path_is_reported_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for container in [Container::Y4m, Container::MotionJpeg, Container::Avi] {
            let path = folder.path().join("none/a");
            let spec = OutputSpec::File { path, container };
            let said = Recorder::create(&spec, 30.0, false).expect_err("no folder").to_string();
            assert!(said.starts_with("cannot record to") && !said.contains('\n'), "{said}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_reported_once_and_later_frames_are_counted() {
        for container in [Container::Y4m, Container::MotionJpeg, Container::Avi] {
            let spec = OutputSpec::File { path: "/dev/full".into(), container };
            let recorder = Recorder::create(&spec, 30.0, false).expect("opens");
            recorder.record(frame(64), at(0));
            let failure = std::iter::repeat_with(|| recorder.failure()).find_map(|f| f);
            let said = failure.expect("full").to_string();
            assert!(said.contains("/dev/full ended: No space left"), "{said}");
            recorder.record(frame(64), at(1));
            assert!(recorder.failure().is_none());
            let summary = recorder.finish().expect("reported already");
            assert_eq!((summary.frames, summary.dropped, summary.abandoned), (0, 0, 2));
        }
    }

    #[test]
    fn a_closed_pipe_is_reported_as_a_gone_reader() {
        struct Closed;
        impl io::Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let recorder = piped(Box::new(Closed));
        recorder.record(frame(64), at(0));
        assert!(matches!(recorder.finish(), Err(RecordError::ReaderGone { .. })));
    }

    #[test]
    fn a_slow_reader_does_not_block_the_recorder() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let recorder = piped(Box::new(writer));
        (0..500).for_each(|i| recorder.record(textured(640, 480, PixelFormat::Yuv420), at(i)));
        assert!(recorder.summary().dropped > 400);
        drop(reader);
        assert!(matches!(recorder.finish(), Err(RecordError::ReaderGone { .. })));
    }

    #[test]
    fn the_rate_may_be_set_until_the_first_frame() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.y4m");
        let recorder = recorder(&path);
        recorder.set_rate(10.0);
        recorder.record(frame(64), at(0));
        recorder.finish().expect("writes");
        assert!(fs::read(&path).expect("reads").starts_with(b"YUV4MPEG2 W64 H48 F10:1 "));
    }

    #[test]
    fn frame_rates_become_fractions() {
        assert_eq!(rate(30.0), (30, 1));
        assert_eq!(rate(29.97), (30_000, 1001));
        assert_eq!(rate(23.976), (24_000, 1001));
        assert_eq!(rate(12.5), (12_500, 1000));
        assert_eq!(rate(0.1), (100, 1000));
    }
}
