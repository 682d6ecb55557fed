//! Statistics once a second: a line of text, a JSON object, and the overlay.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{
    sources::Sources,
    stat_fields::{self, FRAMES, PATH, PICTURES},
    stats_file::StatsFile,
};
use crate::{
    app::terminal::messages::Messages,
    cli::args::ReportArgs,
    clock,
    net::units::{Bitrate, DataSize},
    stream::latency::{LatencyStats, Percentiles, Stage},
};

/// Writes the statistics to the requested outputs.
#[derive(Debug)]
pub(crate) struct Statistics {
    line: bool,
    json: Option<StatsFile>,
    last_at: Instant,
    last_sent: (u64, DataSize),
}

impl Statistics {
    pub(crate) fn new(args: &ReportArgs, messages: &Messages) -> Result<Self> {
        let json = args.stats_json.as_deref();
        let json = json.map(|path| StatsFile::open(path, messages)).transpose()?;
        Ok(Self {
            line: args.stats,
            json,
            last_at: clock::now(),
            last_sent: (0, DataSize::default()),
        })
    }

    /// Whether the statistics go to standard output and its reader has closed it.
    pub(crate) fn reader_has_gone(&self) -> bool {
        self.json.as_ref().is_some_and(StatsFile::reader_has_gone)
    }

    /// When the statistics are due: a second after the last write.
    pub(crate) fn next_due(&self) -> Instant {
        self.last_at + INTERVAL
    }

    /// Whether they are due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next_due() <= now
    }

    /// Whether any time has passed since the last write.
    pub(crate) fn has_rest(&self, now: Instant) -> bool {
        now > self.last_at
    }

    /// Writes the statistics and returns the lines for the overlay.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        sources: &Sources<'_>,
        messages: &Messages,
    ) -> Vec<String> {
        let elapsed = now.saturating_duration_since(self.last_at).max(SHORTEST_INTERVAL);
        let seconds = elapsed.as_secs_f64();
        let totals = sources.net.totals;
        let sent = (totals.frames_sent, DataSize::from_bytes(totals.bytes_sent));
        let rates = Rates {
            sent_fps: sent.0.saturating_sub(self.last_sent.0) as f64 / seconds,
            sent: sent.1.saturating_sub(self.last_sent.1) / elapsed,
            shown_fps: sources.shown.map_or(0.0, |m| m.shown() as f64 / seconds),
            goodput: sources.shown.map(|m| m.size() / elapsed).unwrap_or_default(),
        };
        (self.last_at, self.last_sent) = (now, sent);
        let lines = lines(sources, &rates);
        if self.line {
            messages.info(&lines.join(" | "));
        }
        if let Some(out) = &mut self.json {
            let mut text = object(sources, &rates).to_string();
            text.push('\n');
            out.write(text);
        }
        lines
    }
}

#[derive(Debug)]
struct Rates {
    sent_fps: f64,
    sent: Bitrate,
    shown_fps: f64,
    goodput: Bitrate,
}

fn lines(sources: &Sources<'_>, rates: &Rates) -> Vec<String> {
    let mut lines = Vec::new();
    if sources.capture.is_some() {
        lines.extend(sent_lines(sources, rates));
    }
    if let Some(shown) = sources.shown {
        lines.push(format!(
            "shown {:.1} frames/s, {:.1} Mbit/s",
            rates.shown_fps,
            rates.goodput.mbps()
        ));
        if shown.shown() > 0 {
            lines.extend(latency_lines(shown));
        }
        lines.push(stat_fields::format_loss(sources));
        lines.push(format!("frames: {}", stat_fields::format_counts(FRAMES, sources)));
    }
    lines
}

fn sent_lines(sources: &Sources<'_>, rates: &Rates) -> impl Iterator<Item = String> {
    let plan = sources.capture.as_ref().and_then(|capture| capture.plan);
    let made =
        plan.map_or_else(String::new, |plan| format!(", {}", stat_fields::format_plan(plan)));
    let sent = format!(
        "sent {:.1} frames/s, {:.1} Mbit/s, {}{made}",
        rates.sent_fps,
        rates.sent.mbps(),
        stat_fields::format_counts(PICTURES, sources),
    );
    [Some(sent), stat_fields::format_measures(PATH, sources)].into_iter().flatten()
}

fn latency_lines(shown: &LatencyStats) -> Vec<String> {
    let Some(whole) = shown.percentiles(Stage::EndToEnd) else {
        return vec!["end-to-end latency unknown: the clocks have not been compared".into()];
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
        format!("end-to-end latency p50 {p50:.1} p95 {p95:.1} max {max:.1} ms ({error})"),
        format!("stages, p50: {}", stages.join(" ")),
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
            "damaged": strays.checksum + strays.forged + totals.forged,
            "malformed": strays.malformed + totals.malformed,
            "other_version": strays.other_version,
            "reflected": totals.reflected,
            "too_old": totals.too_old,
            "dropped_by_kernel": sources.net.kernel_drops.map(|drops| drops.overruns),
            "bad_checksum": sources.net.kernel_drops.map(|drops| drops.bad_checksums),
        },
        "bytes": {
            "pictures_sent": totals.picture_bytes_sent,
            "sent": totals.bytes_sent,
            "received": totals.bytes_received,
        },
    });
    let mut path = Map::new();
    stat_fields::add_measures(&mut path, PATH, sources);
    object["path"] = path.into();
    if sources.capture.is_some() {
        let mut sender = Map::new();
        sender.insert("fps".into(), rates.sent_fps.into());
        sender.insert("mbit_s".into(), rates.sent.mbps().into());
        stat_fields::add_counts(&mut sender, PICTURES, sources);
        let plan = sources.capture.as_ref().and_then(|capture| capture.plan);
        sender.insert("quality".into(), plan.map(|plan| plan.quality).into());
        sender.insert("frame_divisor".into(), plan.map(|plan| plan.frame_divisor).into());
        sender.insert("size_divisor".into(), plan.map(|plan| plan.size_divisor).into());
        object["sender"] = sender.into();
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
        let mut receiver = Map::new();
        receiver.insert("fps".into(), rates.shown_fps.into());
        receiver.insert("goodput_mbit_s".into(), rates.goodput.mbps().into());
        stat_fields::add_counts(&mut receiver, FRAMES, sources);
        let chunks = json!({
            "placed": frames.chunks,
            "parity": frames.parity_chunks,
            "duplicate": frames.duplicate_chunks,
            "late": frames.late_chunks,
            "conflicting": frames.conflicting_chunks,
        });
        receiver.insert("chunks".into(), chunks);
        receiver.insert("latency_ms".into(), latency_object(shown));
        receiver.insert("repair_ms".into(), percentiles_object(sources.repairs));
        let error_ms = shown.error().as_secs_f64() * 1e3;
        receiver.insert("latency_error_ms".into(), error_ms.into());
        object["receiver"] = receiver.into();
    }
    object
}

/// Percentiles of every stage; null if not measured.
pub(crate) fn latency_object(latency: &LatencyStats) -> Value {
    let stage =
        |stage: Stage| (stage.name().to_owned(), percentiles_object(latency.percentiles(stage)));
    Value::Object(Stage::ALL.into_iter().map(stage).collect())
}

fn percentiles_object(of: Option<Percentiles>) -> Value {
    of.map_or(
        Value::Null,
        |Percentiles { p50, p95, p99, max }| json!({"p50": p50, "p95": p95, "p99": p99, "max": max}),
    )
}

const INTERVAL: Duration = Duration::from_secs(1);

/// Over a shorter time, a rate is meaningless.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
