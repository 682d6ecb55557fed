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

use opencv::{
    core::Vector,
    videoio::{self, VideoCapture, VideoCaptureTraitConst},
};

use super::{
    Captured, DEFAULT_FPS, Picture, SourceError, SourceInfo, SourceOptions,
    file::{TimedPicture, pixel_aspect, read, sane},
    mat::{quieten, scale},
    playback_clock::{STOP_CHECK_INTERVAL, wait_until},
    spec::is_known_scheme,
    timeline::Timeline,
};
use crate::{
    clock,
    latest::{Latest, Taken},
    video::image::Size,
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
        quieten();
        let name = without_credentials(url);
        let refused = || match url.split_once("://") {
            Some((scheme, _)) if !is_known_scheme(scheme) => {
                SourceError::Scheme { url: name.clone(), scheme: scheme.to_owned() }
            }
            _ => SourceError::Url { url: name.clone() },
        };
        let (connection, first) = Connection::wait(url, &name)?.ok_or_else(refused)?;
        let found = first.image.size();
        let square = connection.square(found);
        let too_large = |error| SourceError::UrlSize { url: name.clone(), error };
        let size = match options.size {
            Some(size) => size,
            None => Size::new(square.width, square.height).map_err(too_large)?,
        };
        let info = describe(&name, found, size, &connection, options);
        let source = Self { mailbox: Latest::new(), stop: Arc::default() };
        let reader = Reader {
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
    capture: VideoCapture,
    fps: f64,
    /// A video has an end, and is played by its timestamps. Live video is read as it arrives.
    is_video: bool,
}

impl Connection {
    /// Connects, repeatedly while the URL is silent; `None` if it cannot be opened or carries
    /// no video. Warns once of the silence.
    fn wait(url: &str, name: &str) -> Result<Option<(Self, TimedPicture)>, SourceError> {
        // Dropped on return, which ends the thread.
        let (_opening, is_opening) = mpsc::channel::<()>();
        let name = name.to_owned();
        let warn = move || {
            if is_opening.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                log::warn!(
                    "nothing has come from {name} yet: check that its sender runs, and that the \
                     address and the port are right; still waiting"
                );
            }
        };
        thread::Builder::new()
            .name("url silence".into())
            .spawn(warn)
            .map_err(|error| SourceError::Thread { error })?;
        loop {
            let began = clock::now();
            let opened = Self::open(url);
            let was_silent = clock::now().saturating_duration_since(began) >= OPEN_TIMEOUT;
            if opened.is_some() || !was_silent {
                return Ok(opened);
            }
        }
    }

    fn open(url: &str) -> Option<(Self, TimedPicture)> {
        let [open_ms, read_ms] = [OPEN_TIMEOUT, READ_TIMEOUT].map(|time| time.as_millis() as i32);
        let parameters = [
            [videoio::CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms],
            [videoio::CAP_PROP_READ_TIMEOUT_MSEC, read_ms],
        ];
        let parameters = Vector::from_iter(parameters.into_iter().flatten());
        let opened = VideoCapture::from_file_with_params(url, videoio::CAP_FFMPEG, &parameters);
        let mut capture = opened.ok().filter(|capture| capture.is_opened().unwrap_or(false))?;
        let first = read(&mut capture).ok()??;
        let number = |property| capture.get(property).unwrap_or(0.0);
        let fps = sane(number(videoio::CAP_PROP_FPS));
        // Nonsense, mostly negative, if the stream has no end.
        let is_video = (1.0..1e9).contains(&number(videoio::CAP_PROP_FRAME_COUNT));
        Some((Self { capture, fps, is_video }, first))
    }

    fn square(&self, found: Size) -> Size {
        pixel_aspect(&self.capture).squared(found)
    }
}

/// The reading thread's state.
struct Reader {
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
            self.play(connection, first);
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
    fn play(&mut self, mut connection: Connection, first: TimedPicture) {
        let mut timeline = Timeline::new(connection.fps);
        let mut next = Some(first);
        while let Some(TimedPicture { image, stamp }) = next {
            let captured = if connection.is_video {
                timeline.wait(stamp, &self.stop)
            } else {
                (!self.stop.load(Ordering::Relaxed)).then(clock::now)
            };
            let (Some(captured), Ok(image)) = (captured, scale(image, self.size)) else { return };
            let (picture, number) = (Picture::Image(image.into()), self.number);
            self.mailbox.put(Captured { picture, captured, number });
            self.number += 1;
            next = read(&mut connection.capture).ok().flatten();
        }
    }

    /// Restarts a video at once. Retries until the server answers.
    fn reconnect(&self, is_video: bool) -> Option<(Connection, TimedPicture)> {
        if is_video && let Some(again) = Connection::open(&self.url) {
            return Some(again);
        }
        while wait_until(clock::now() + RETRY_INTERVAL, &self.stop) {
            if let Some(again) = Connection::open(&self.url) {
                log::warn!("{} is back", self.name);
                return Some(again);
            }
        }
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
