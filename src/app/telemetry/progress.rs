//! The status line of a demo.

use std::time::{Duration, Instant};

use crate::{
    app::terminal::messages::Messages,
    stream::latency::{ShownFrames, Stage},
};

/// A line about the frames shown so far, updated several times a second.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    began: Instant,
    last: Instant,
}

impl ProgressLine {
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, last: began }
    }

    pub(crate) fn update(&mut self, now: Instant, shown: &ShownFrames, messages: &Messages) {
        if now - self.last < INTERVAL {
            return;
        }
        self.last = now;
        let seconds = (now - self.began).as_secs_f64();
        let (frames, latency) = shown.summary(Stage::EndToEnd);
        let latency = latency
            .map_or_else(String::new, |l| format!(", end-to-end latency p50 {:.1} ms", l.p50));
        messages.status(&format!(
            "{seconds:4.1} s: {frames} frames shown, {:.1} a second{latency}",
            frames as f64 / seconds
        ));
    }
}

const INTERVAL: Duration = Duration::from_millis(200);
