//! The demo's report, as text and JSON. The JSON is documented in the README and stable.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::statistics::latency_object;
use crate::{
    app::receiving::presenter::Presenter,
    net::{io::NetStats, units::Bitrate},
    stream::{counters::CaptureCounters, latency::Stage},
};

/// The demo's report.
#[derive(Debug)]
pub(crate) struct Report {
    /// Frame counts with their keys. The first [`STEPS`] are the steps of a frame, in order; the
    /// others are the outcomes of frames that were not shown whole.
    frames: Vec<(&'static str, u64)>,
    /// Completed frames that were repaired: by parity, and by retransmission.
    repaired: [u64; 2],
    sent: u64,
    shown: u64,
    latency: Value,
    stages: Vec<String>,
    jpeg_bytes: u64,
    sent_bytes: u64,
    goodput: Bitrate,
    cpu_ms: [f64; 2],
    first_picture_ms: Option<f64>,
    seconds: f64,
}

impl Report {
    pub(crate) fn new(
        captured: &CaptureCounters,
        sender: &NetStats,
        receiver: &NetStats,
        presenter: &Presenter,
        superseded: u64,
        cpu: [Duration; 2],
        duration: Duration,
    ) -> Self {
        let (sent, received) = (sender.totals, receiver.totals.reassembly);
        let repair = receiver.totals.repair;
        let latency = &presenter.shown().total();
        let presented = presenter.counters();
        let damaged = received.damaged + presented.undecodable;
        // Computed from what was sent: a frame of which no chunk arrived counts as incomplete too,
        // but the receiver does not see it.
        let arrived = received.completed + received.late + received.damaged;
        let stages = Stage::ALL.into_iter().filter_map(|stage| {
            let p = latency.percentiles(stage)?;
            let name = stage.name().replace('_', "-");
            Some(format!("  {name:<11}{:>8.2}{:>8.2}{:>8.2}{:>8.2}", p.p50, p.p95, p.p99, p.max))
        });
        Self {
            stages: stages.collect(),
            frames: vec![
                ("captured", captured.captured),
                ("sent", sent.frames_sent),
                ("completed", received.completed),
                ("shown", latency.shown()),
                ("incomplete", sent.frames_sent.saturating_sub(arrived)),
                (
                    "superseded",
                    captured.superseded
                        + sent.frames_superseded
                        + superseded
                        + presented.superseded,
                ),
                ("thinned", captured.thinned),
                ("late", received.late),
                ("damaged", damaged),
                ("concealed", presented.concealed),
            ],
            repaired: [repair.by_parity, repair.by_nack],
            sent: sent.frames_sent,
            shown: latency.shown(),
            latency: latency_object(latency),
            jpeg_bytes: captured.jpeg_bytes,
            sent_bytes: sent.bytes_sent,
            goodput: latency.size() / duration,
            cpu_ms: [per_frame(cpu[0], sent.frames_sent), per_frame(cpu[1], received.completed)],
            first_picture_ms: presenter
                .shown()
                .first_after()
                .map(|after| after.as_secs_f64() * 1e3),
            seconds: duration.as_secs_f64(),
        }
    }

    pub(crate) fn print_json(&self) -> Result<()> {
        print(&self.json().to_string())
    }

    pub(crate) fn print_text(&self) -> Result<()> {
        print(&self.text())
    }

    fn json(&self) -> Value {
        let frames = self.frames.iter().map(|&(key, count)| (key.to_owned(), count.into()));
        let frames: Map<String, Value> = frames.collect();
        json!({
            "frames": frames,
            "repaired": { "by_parity": self.repaired[0], "by_nack": self.repaired[1] },
            "latency_ms": self.latency,
            "bytes": { "jpeg": self.jpeg_bytes, "sent": self.sent_bytes },
            "goodput_mbit_s": self.goodput.mbps(),
            "cpu_ms_per_frame": { "sender": self.cpu_ms[0], "receiver": self.cpu_ms[1] },
            "first_picture_ms": self.first_picture_ms,
            "shown_fps": self.shown_fps(),
            "seconds": self.seconds,
        })
    }

    fn shown_fps(&self) -> f64 {
        self.shown as f64 / self.seconds.max(1e-3)
    }

    pub(crate) fn text(&self) -> String {
        let percent = 100.0 * self.shown as f64 / self.sent.max(1) as f64;
        let frames = self.frames.iter().map(|(key, count)| format!("{key} {count}"));
        let frames: Vec<String> = frames.collect();
        let (steps, outcomes) = frames.split_at(STEPS);
        let overhead = 100.0 * (self.sent_bytes as f64 / self.jpeg_bytes.max(1) as f64 - 1.0);
        format!(
            "frames     {} ({percent:.1} % of sent)\n\
             \x20          {}\n\
             repaired   {} by parity, {} on request\n\
             latency, ms     p50     p95     p99     max\n{}\n\
             goodput    {:.1} Mbit/s; overhead {overhead:.1} %\n\
             processor  {:.2} ms a frame sending, {:.2} receiving\n\
             duration   {:.1} s, {:.1} frames/s{}",
            steps.join(", "),
            outcomes.join(", "),
            self.repaired[0],
            self.repaired[1],
            self.stages.join("\n"),
            self.goodput.mbps(),
            self.cpu_ms[0],
            self.cpu_ms[1],
            self.seconds,
            self.shown_fps(),
            self.first_picture_ms
                .map_or_else(String::new, |ms| format!("; the first after {ms:.0} ms")),
        )
    }
}

/// A broken pipe is not an error.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot print the report"),
    }
}

fn per_frame(cpu: Duration, frames: u64) -> f64 {
    cpu.as_secs_f64() * 1e3 / frames.max(1) as f64
}

const STEPS: usize = 4;
