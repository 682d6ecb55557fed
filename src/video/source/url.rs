//! Pictures from a URL, through `FFmpeg`: a live network camera, or a video on a server.
//!
//! A separate thread reads, since a server may be silent for any length of time. It reconnects when
//! the stream ends or breaks off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    capture::{VideoCapture, pixel_aspect},
    file::{TimedPicture, read, sane},
    playback_clock::{STOP_CHECK_INTERVAL, wait_until},
    spec::is_known_scheme,
    timeline::Timeline,
};
use crate::{
    clock,
    latest::{Latest, Taken},
    video::{
        image::Size,
        opencv_process::{Input, OpenCvError, Properties},
    },
};

/// A stream read by a thread.
pub(super) struct Stream {
    mailbox: Latest<Captured>,
    stop: Arc<AtomicBool>,
}

impl Stream {
    /// Connects and waits for the first picture, however long the sender is silent.
    pub(super) fn open(
        url: &str,
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Self), SourceError> {
        let name = without_credentials(url);
        let refused = || match url.split_once("://") {
            Some((scheme, _)) if !is_known_scheme(scheme) => {
                SourceError::Scheme { url: name.clone(), scheme: scheme.to_owned() }
            }
            _ => SourceError::Url { url: name.clone() },
        };
        let mut capture = VideoCapture::start()?;
        let (connection, first) =
            Connection::wait(&mut capture, url, &name)?.ok_or_else(refused)?;
        let found = first.found;
        let square = connection.square(found);
        let too_large = |error| SourceError::UrlSize { url: name.clone(), error };
        let size = match options.size {
            Some(size) => size,
            None => Size::new(square.width, square.height).map_err(too_large)?,
        };
        let info = describe(&name, found, size, &connection, options);
        let source = Self { mailbox: Latest::new(), stop: Arc::default() };
        let reader = Reader {
            capture,
            url: url.to_owned(),
            name: name.clone(),
            size,
            once: options.once,
            mailbox: source.mailbox.clone(),
            stop: Arc::clone(&source.stop),
            number: 0,
        };
        thread::Builder::new()
            .name("url".into())
            .spawn(move || reader.run(connection, first))
            .map_err(|error| SourceError::Thread { error })?;
        Ok((info, source))
    }

    /// Pictures replaced by newer ones before they were taken.
    pub(super) fn superseded(&self) -> u64 {
        self.mailbox.superseded()
    }

    pub(super) fn next(&mut self, stop: &AtomicBool) -> Option<Captured> {
        while !stop.load(Ordering::Relaxed) {
            match self.mailbox.take(STOP_CHECK_INTERVAL) {
                Taken::Value(captured) => return Some(captured),
                Taken::Closed => break,
                Taken::TimedOut | Taken::Nudged => {}
            }
        }
        None
    }
}

impl Drop for Stream {
    /// Stops the thread after the picture it is waiting for. Does not wait for the thread.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// An open URL.
struct Connection {
    properties: Properties,
    fps: f64,
    /// A video has an end, and is played by its timestamps. Live video is read as it arrives.
    is_video: bool,
}

impl Connection {
    /// Connects, retrying while the URL is silent; `None` if it cannot be opened or carries no
    /// video. Warns once about the silence.
    fn wait(
        capture: &mut VideoCapture,
        url: &str,
        name: &str,
    ) -> Result<Option<(Self, TimedPicture)>, SourceError> {
        // Dropped on return, which ends the thread.
        let (_opening, is_opening) = mpsc::channel::<()>();
        let name = name.to_owned();
        let warn = move || {
            if is_opening.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                log::warn!(
                    "nothing received from {name} yet: check that its sender is running, and that \
                     the address and port are right; still waiting"
                );
            }
        };
        thread::Builder::new()
            .name("url silence".into())
            .spawn(warn)
            .map_err(|error| SourceError::Thread { error })?;
        loop {
            let began = clock::now();
            let opened = Self::open(capture, url)?;
            let was_silent = clock::now().saturating_duration_since(began) >= OPEN_TIMEOUT;
            if opened.is_some() || !was_silent {
                return Ok(opened);
            }
        }
    }

    /// `None` if the URL cannot be opened, or carries no video. The first picture is not scaled.
    fn open(
        capture: &mut VideoCapture,
        url: &str,
    ) -> Result<Option<(Self, TimedPicture)>, OpenCvError> {
        let ms = |time: Duration| time.as_millis() as u32;
        let input = Input::Url {
            url: url.to_owned(),
            open_timeout_ms: ms(OPEN_TIMEOUT),
            read_timeout_ms: ms(READ_TIMEOUT),
        };
        let Some(properties) = capture.open(input)? else { return Ok(None) };
        let Some(first) = read(capture, None)? else { return Ok(None) };
        let fps = sane(properties.fps);
        // Meaningless, usually negative, if the stream has no end.
        let is_video = (1.0..1e9).contains(&properties.frame_count);
        Ok(Some((Self { properties, fps, is_video }, first)))
    }

    fn square(&self, found: Size) -> Size {
        pixel_aspect(&self.properties).squared(found)
    }
}

/// The reading thread's state.
struct Reader {
    capture: VideoCapture,
    url: String,
    /// The URL for messages.
    name: String,
    size: Size,
    once: bool,
    mailbox: Latest<Captured>,
    stop: Arc<AtomicBool>,
    number: u64,
}

impl Reader {
    fn run(mut self, mut connection: Connection, mut first: TimedPicture) {
        loop {
            let is_video = connection.is_video;
            self.play(&connection, first);
            if self.once || self.stop.load(Ordering::Relaxed) {
                break;
            }
            if !is_video {
                log::warn!("{} has ended or broken off; connecting again", self.name);
            }
            let Some(again) = self.reconnect(is_video) else { break };
            (connection, first) = again;
        }
        self.mailbox.close();
    }

    /// Publishes pictures until stopped or until the stream ends.
    fn play(&mut self, connection: &Connection, first: TimedPicture) {
        let mut timeline = Timeline::new(connection.fps);
        // The first picture was read unscaled. If it has the wrong size, it is dropped.
        let mut next = if first.image.size() == self.size { Some(first) } else { self.read() };
        while let Some(TimedPicture { image, stamp, .. }) = next {
            let captured = if connection.is_video {
                timeline.wait(stamp, &self.stop)
            } else {
                (!self.stop.load(Ordering::Relaxed)).then(clock::now)
            };
            let Some(captured) = captured else { return };
            let (picture, number) = (Picture::Image(image.into()), self.number);
            self.mailbox.put(Captured { picture, captured, number });
            self.number += 1;
            next = self.read();
        }
    }

    /// The next picture, scaled; `None` at the end, or if OpenCV fails, which is reported.
    fn read(&mut self) -> Option<TimedPicture> {
        let read = read(&mut self.capture, Some(self.size));
        read.unwrap_or_else(|error| {
            log::warn!("{}: {error}", self.name);
            None
        })
    }

    /// Restarts a video at once. Retries until the server answers.
    fn reconnect(&mut self, is_video: bool) -> Option<(Connection, TimedPicture)> {
        if is_video && let Some(again) = self.connect() {
            return Some(again);
        }
        while wait_until(clock::now() + RETRY_INTERVAL, &self.stop) {
            if let Some(again) = self.connect() {
                log::warn!("{} is back", self.name);
                return Some(again);
            }
        }
        None
    }

    /// Connects again. If OpenCV has failed, restarts its process for the next attempt.
    fn connect(&mut self) -> Option<(Connection, TimedPicture)> {
        if let Ok(opened) = Connection::open(&mut self.capture, &self.url) {
            return opened;
        }
        self.capture = VideoCapture::start().ok()?;
        None
    }
}

fn describe(
    name: &str,
    found: Size,
    size: Size,
    connection: &Connection,
    options: &SourceOptions,
) -> SourceInfo {
    let scaling = if found == size { String::new() } else { format!(" scaled to {size}") };
    let kind = if connection.is_video { "video" } else { "live" };
    let mut notes = Vec::new();
    if options.fps.is_some() || options.unpaced {
        notes.push("--fps has no effect: a URL has its own frame rate".to_owned());
    }
    let fps = if connection.is_video { connection.fps } else { DEFAULT_FPS.max(connection.fps) };
    SourceInfo {
        width: size.width,
        height: size.height,
        fps,
        description: format!("{name}, {kind}, {found}{scaling}, about {fps:.4} frames/s"),
        passthrough: false,
        notes,
    }
}

/// The URL without user name and password, which `rtsp://` often has.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}{path}")
}

/// The silence after which the user is warned.
const SILENCE: Duration = Duration::from_secs(4);

/// The time of one attempt to get a first picture. `FFmpeg` gives up on a silent URL after it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The silence after which a stream counts as broken off.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval between attempts to reconnect.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        for (url, printed) in [
            ("rtsp://admin:p@ss@10.0.0.2:554/live?x=1", "rtsp://10.0.0.2:554/live?x=1"),
            ("http://10.0.0.2/a@b", "http://10.0.0.2/a@b"),
            ("rtsp://admin:secret@cam", "rtsp://cam"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_credentials(url), printed);
        }
    }
}
