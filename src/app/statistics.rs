//! A line, or a JSON object, every second; the overlay shows the same.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    capture::CaptureCounters,
    messages::Messages,
    meters::{Meters, Percentiles, Stage},
};
use crate::{cli::args::ReportArgs, clock, net::io::NetStats};

/// What one second's statistics are made of.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    /// What the network has done since the start.
    pub(super) net: &'a NetStats,
    /// The frames shown since the last time, if this side shows any.
    pub(super) shown: Option<&'a Meters>,
    /// What was captured since the start, if this side sends.
    pub(super) capture: Option<CaptureCounters>,
    /// Whole frames replaced before they were shown, since the start.
    pub(super) superseded: u64,
    /// Frames that failed to decode, since the start.
    pub(super) undecodable: u64,
}

/// Writes the statistics where the user wants them.
#[derive(Debug)]
pub(super) struct Statistics {
    line: bool,
    json: Option<Box<dyn JsonSink>>,
    last_at: Instant,
    last_sent: (u64, u64),
}

trait JsonSink: Write + std::fmt::Debug {}
impl<T: Write + std::fmt::Debug> JsonSink for T {}

impl Statistics {
    pub(super) fn new(args: &ReportArgs) -> Result<Self> {
        let json = args.stats_json.as_deref().map(open).transpose()?;
        Ok(Self { line: args.stats, json, last_at: clock::now(), last_sent: (0, 0) })
    }

    /// Whether a second has passed since the last time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_at) >= INTERVAL
    }

    /// Writes them; returns the lines for the overlay.
    pub(super) fn write(
        &mut self,
        now: Instant,
        sources: &Sources<'_>,
        messages: &Messages,
    ) -> Result<Vec<String>> {
        let seconds = now.saturating_duration_since(self.last_at).as_secs_f64().max(1e-3);
        let totals = sources.net.totals;
        let sent = (totals.frames_sent, totals.bytes_sent);
        let rates = Rates {
            sent_fps: sent.0.saturating_sub(self.last_sent.0) as f64 / seconds,
            sent_mbit_s: mbit(sent.1.saturating_sub(self.last_sent.1), seconds),
            shown_fps: sources.shown.map_or(0.0, |m| m.shown() as f64 / seconds),
            goodput_mbit_s: sources.shown.map_or(0.0, |m| mbit(m.bytes(), seconds)),
        };
        (self.last_at, self.last_sent) = (now, sent);
        let lines = lines(sources, &rates);
        if self.line {
            messages.say(&lines.join(" | "));
        }
        if let Some(out) = &mut self.json {
            let mut text = object(sources, &rates).to_string();
            text.push('\n');
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            written.context("cannot write the statistics")?;
        }
        Ok(lines)
    }
}

#[derive(Debug)]
struct Rates {
    sent_fps: f64,
    sent_mbit_s: f64,
    shown_fps: f64,
    goodput_mbit_s: f64,
}

fn open(path: &Path) -> Result<Box<dyn JsonSink>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdout()));
    }
    let file = File::create(path)
        .with_context(|| format!("cannot write the statistics to {}", path.display()))?;
    Ok(Box::new(file))
}

fn lines(sources: &Sources<'_>, rates: &Rates) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(capture) = &sources.capture {
        lines.push(sent_line(sources, capture, rates));
    }
    if let Some(shown) = sources.shown {
        lines.push(format!(
            "shown {:.1} frames/s, {:.1} Mbit/s",
            rates.shown_fps, rates.goodput_mbit_s
        ));
        if shown.shown() > 0 {
            lines.extend(latency_lines(shown));
        }
        lines.extend(loss_lines(sources));
    }
    lines
}

fn sent_line(sources: &Sources<'_>, capture: &CaptureCounters, rates: &Rates) -> String {
    let superseded = capture.superseded + sources.net.totals.frames_superseded;
    let rtt =
        sources.net.totals.rtt.map_or_else(String::new, |rtt| {
            format!(", round trip {:.2} ms", rtt.as_secs_f64() * 1e3)
        });
    format!(
        "sent {:.1} frames/s, {:.1} Mbit/s, superseded {superseded}{rtt}",
        rates.sent_fps, rates.sent_mbit_s
    )
}

fn latency_lines(shown: &Meters) -> Vec<String> {
    let Some(whole) = shown.percentiles(Stage::EndToEnd) else {
        return vec!["latency unknown: the clocks have not been compared".into()];
    };
    let error = match shown.error() {
        Duration::ZERO => "exact".to_owned(),
        error => format!("±{:.2}", error.as_secs_f64() * 1e3),
    };
    let stages: Vec<String> = Stage::PARTS
        .iter()
        .filter_map(|&s| Some(format!("{} {:.1}", s.name(), shown.percentiles(s)?.p50)))
        .collect();
    let Percentiles { p50, p95, max, .. } = whole;
    vec![
        format!("latency p50 {p50:.1} p95 {p95:.1} max {max:.1} ms ({error})"),
        format!("stages, p50: {}", stages.join(" ")),
    ]
}

fn loss_lines(sources: &Sources<'_>) -> [String; 2] {
    let totals = sources.net.totals;
    let frames = totals.reassembly;
    let expected = totals.datagrams_received + totals.datagrams_lost;
    let loss = 100.0 * totals.datagrams_lost as f64 / expected.max(1) as f64;
    let Sources { superseded, undecodable, .. } = sources;
    [
        match sources.net.kernel_drops {
            Some(drops) if drops > 0 => {
                format!("lost {loss:.2} % of datagrams; the kernel dropped {drops}")
            }
            _ => format!("lost {loss:.2} % of datagrams"),
        },
        format!(
            "frames: incomplete {} late {} damaged {} superseded {superseded}",
            frames.incomplete + frames.unseen,
            frames.late,
            frames.damaged + undecodable,
        ),
    ]
}

fn object(sources: &Sources<'_>, rates: &Rates) -> Value {
    let totals = sources.net.totals;
    let strays = sources.net.strays;
    let frames = totals.reassembly;
    let mut object = json!({
        "time": clock::wall().as_secs_f64(),
        "datagrams": {
            "sent": totals.datagrams_sent,
            "received": totals.datagrams_received,
            "lost": totals.datagrams_lost,
            "duplicate": totals.duplicates,
            "foreign": strays.foreign,
            "unknown_session": strays.unknown_session,
            "damaged": strays.checksum,
            "malformed": strays.malformed + totals.malformed,
            "other_version": strays.other_version,
            "reflected": totals.reflected,
            "too_old": totals.too_old,
            "dropped_by_kernel": sources.net.kernel_drops,
        },
        "bytes": { "sent": totals.bytes_sent, "received": totals.bytes_received },
        "rtt_ms": totals.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
    });
    if let Some(capture) = &sources.capture {
        object["sender"] = json!({
            "fps": rates.sent_fps,
            "mbit_s": rates.sent_mbit_s,
            "captured": capture.captured,
            "encoded": capture.encoded,
            "unencodable": capture.failed + totals.frames_unsendable,
            "sent": totals.frames_sent,
            "superseded": capture.superseded + totals.frames_superseded,
            "thinned": capture.thinned,
            "picture_bitrate": capture.picture_bitrate,
            "quality": capture.plan.map(|plan| plan.quality),
            "frame_divisor": capture.plan.map(|plan| plan.frame_divisor),
            "size_divisor": capture.plan.map(|plan| plan.size_divisor),
        });
    }
    if let Some(netem) = sources.net.netem {
        object["netem"] = json!({
            "seen": netem.seen,
            "lost": netem.lost,
            "overflowed": netem.overflowed,
            "duplicated": netem.duplicated,
            "corrupted": netem.corrupted,
            "reordered": netem.reordered,
        });
    }
    if let Some(shown) = sources.shown {
        object["receiver"] = json!({
            "fps": rates.shown_fps,
            "goodput_mbit_s": rates.goodput_mbit_s,
            "completed": frames.completed,
            "incomplete": frames.incomplete + frames.unseen,
            "late": frames.late,
            "damaged": frames.damaged + sources.undecodable,
            "superseded": sources.superseded,
            "chunks": {
                "placed": frames.chunks,
                "duplicate": frames.duplicate_chunks,
                "late": frames.late_chunks,
                "conflicting": frames.conflicting_chunks,
            },
            "latency_ms": latency_object(shown),
            "latency_error_ms": shown.error().as_secs_f64() * 1e3,
        });
    }
    object
}

/// Every stage's percentiles; null where it could not be measured.
pub(super) fn latency_object(meters: &Meters) -> Value {
    let stage = |stage: Stage| {
        let value = meters.percentiles(stage).map(
            |Percentiles { p50, p95, p99, max }| json!({"p50": p50, "p95": p95, "p99": p99, "max": max}),
        );
        (stage.name().to_owned(), value.unwrap_or(Value::Null))
    };
    Value::Object(Stage::ALL.into_iter().map(stage).collect())
}

/// Megabits a second.
pub(super) fn mbit(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / 1e6 / seconds
}

const INTERVAL: Duration = Duration::from_secs(1);
