//! The camera thread: drains the camera, keeps the newest picture, and reopens a camera that was
//! unplugged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    super::{
        Captured, DEFAULT_FPS, DEFAULT_SIZE, RateLimitedWarnings, SourceError, SourceInfo,
        SourceOptions,
    },
    capture::{Capture, Given, Grabbed},
    devices::{CameraInfo, list},
};
use crate::{
    clock,
    latest::{Latest, Taken},
    video::source::playback_clock::{STOP_CHECK_INTERVAL, wait_until},
};

/// A camera read by its own thread, since reading from a stalled device blocks.
pub(in crate::video::source) struct Camera {
    mailbox: Latest<Captured>,
    stop: Arc<AtomicBool>,
    damaged: Arc<AtomicU64>,
}

impl Camera {
    /// Opens the camera `index`, or the first one.
    pub(in crate::video::source) fn open(
        index: Option<u32>,
        options: &SourceOptions,
    ) -> Result<(SourceInfo, Self), SourceError> {
        let cameras = list();
        let camera = choose(&cameras, index)?;
        let (capture, given) = Capture::open(camera.index, options)?.ok_or_else(|| {
            let CameraInfo { index, path, name, .. } = camera.clone();
            SourceError::Camera { index, name, path }
        })?;
        let info = describe(camera, options, &given);
        let source = Self { mailbox: Latest::new(), stop: Arc::default(), damaged: Arc::default() };
        let thread = Grabber {
            index: camera.index,
            options: *options,
            mailbox: source.mailbox.clone(),
            stop: Arc::clone(&source.stop),
            damaged: Arc::clone(&source.damaged),
            warnings: RateLimitedWarnings::default(),
            number: 0,
        };
        thread::Builder::new()
            .name("camera".into())
            .spawn(move || thread.run(capture))
            .map_err(|error| SourceError::Thread { error })?;
        Ok((info, source))
    }

    pub(in crate::video::source) fn next(&mut self, stop: &AtomicBool) -> Option<Captured> {
        while !stop.load(Ordering::Relaxed) {
            match self.mailbox.take(STOP_CHECK_INTERVAL) {
                Taken::Value(captured) => return Some(captured),
                Taken::Closed => break,
                Taken::TimedOut | Taken::Nudged => {}
            }
        }
        None
    }

    /// Pictures replaced by newer ones before they were taken.
    pub(in crate::video::source) fn superseded(&self) -> u64 {
        self.mailbox.superseded()
    }

    pub(in crate::video::source) fn damaged(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.damaged)
    }
}

impl Drop for Camera {
    /// The thread closes the camera after the picture it is waiting for.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The thread's state.
struct Grabber {
    index: u32,
    options: SourceOptions,
    mailbox: Latest<Captured>,
    stop: Arc<AtomicBool>,
    damaged: Arc<AtomicU64>,
    warnings: RateLimitedWarnings,
    number: u64,
}

impl Grabber {
    fn run(mut self, mut capture: Capture) {
        loop {
            self.drain(&mut capture);
            drop(capture);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            log::warn!("camera {} is gone; waiting until it is back", self.index);
            let Some(again) = self.reopen() else { break };
            log::info!("camera {} is back", self.index);
            capture = again;
        }
        self.mailbox.close();
    }

    /// Publishes pictures until stopped or until none arrive.
    fn drain(&mut self, capture: &mut Capture) {
        let mut last = clock::now();
        while !self.stop.load(Ordering::Relaxed) {
            match capture.grab() {
                Grabbed::Picture(picture, captured) => {
                    last = clock::now();
                    self.mailbox.put(Captured { picture, captured, number: self.number });
                    self.number += 1;
                }
                Grabbed::Damaged(error) => {
                    last = clock::now();
                    let index = self.index;
                    let warning = || format!("camera {index}: {error}; that frame is dropped");
                    self.warnings.warn(warning);
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                }
                Grabbed::Gone => return,
                Grabbed::Nothing if clock::now() - last > PICTURE_TIMEOUT => return,
                Grabbed::Nothing => {
                    wait_until(clock::now() + RETRY_GRAB, &self.stop);
                }
            }
        }
    }

    fn reopen(&self) -> Option<Capture> {
        while wait_until(clock::now() + RETRY_OPEN, &self.stop) {
            if let Ok(Some((capture, _))) = Capture::open(self.index, &self.options) {
                return Some(capture);
            }
        }
        None
    }
}

fn choose(cameras: &[CameraInfo], index: Option<u32>) -> Result<&CameraInfo, SourceError> {
    let first = cameras.first().ok_or(SourceError::NoCamera)?;
    let Some(index) = index else { return Ok(first) };
    cameras.iter().find(|camera| camera.index == index).ok_or_else(|| {
        let others: Vec<_> = cameras.iter().map(|c| format!("{} ({})", c.index, c.name)).collect();
        SourceError::NoSuchCamera { index, others: others.join(", ") }
    })
}

fn describe(camera: &CameraInfo, options: &SourceOptions, given: &Given) -> SourceInfo {
    let asked = options.size.unwrap_or(DEFAULT_SIZE);
    let asked_fps = options.fps.unwrap_or(DEFAULT_FPS);
    let Given { size: native, fps, fourcc, is_jpeg } = given;
    let how = if *is_jpeg { "passed through" } else { "encoded here" };
    let description = format!(
        "camera {} ({}): asked for MJPG {asked} at {asked_fps} frames/s, got {fourcc} {native} at {fps} frames/s, {how}",
        camera.index, camera.name
    );
    let mut notes = Vec::new();
    if *is_jpeg {
        if options.quality.is_some() {
            notes.push(
                "--quality does nothing: the camera's own JPEGs are passed through".to_owned(),
            );
        }
        if options.gray {
            notes.push(
                "--gray has no effect while the camera's own JPEGs are passed through".to_owned(),
            );
        }
        if options.size.is_some_and(|size| size != *native) {
            notes.push(format!(
                "the camera does not deliver --size {asked}; its frames are {native}"
            ));
        }
    }
    let (width, height) = (native.width, native.height);
    let (fps, passthrough) = (*fps, *is_jpeg);
    SourceInfo { width, height, fps, description, passthrough, notes }
}

/// A camera without a picture for this time counts as gone. Long exposures take a tenth of it.
const PICTURE_TIMEOUT: Duration = Duration::from_secs(2);

/// The delay after a failed grab, to avoid spinning.
const RETRY_GRAB: Duration = Duration::from_millis(20);

/// The interval between attempts to open a camera that was unplugged.
const RETRY_OPEN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::image::Size;

    fn camera(index: u32) -> CameraInfo {
        let name = format!("Cam {index}");
        CameraInfo { index, path: format!("/dev/video{index}"), name, formats: Vec::new() }
    }

    #[test]
    fn the_first_camera_is_the_default_and_errors_list_the_others() {
        let cameras = [camera(0), camera(2)];
        assert_eq!(choose(&cameras, None).expect("one").index, 0);
        assert_eq!(choose(&cameras, Some(2)).expect("there").index, 2);
        let said = choose(&cameras, Some(7)).expect_err("not there").to_string();
        assert!(said.contains("no camera 7; available: 0 (Cam 0), 2 (Cam 2)"), "{said}");
        let said = choose(&[], Some(0)).expect_err("none").to_string();
        assert!(said.contains("--source pattern"), "{said}");
    }

    #[test]
    fn the_description_names_the_requested_and_the_actual_format() {
        let given = Given {
            size: Size { width: 640, height: 480 },
            fps: 30.0,
            fourcc: "MJPG".into(),
            is_jpeg: true,
        };
        let options = SourceOptions {
            size: Some(DEFAULT_SIZE),
            quality: Some(80),
            gray: true,
            ..SourceOptions::default()
        };
        let info = describe(&camera(1), &options, &given);
        assert!(info.description.contains("asked for MJPG 1280x720"), "{}", info.description);
        assert!(info.description.contains("got MJPG 640x480"), "{}", info.description);
        assert_eq!((info.passthrough, info.notes.len()), (true, 3));
    }
}
