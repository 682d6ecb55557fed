//! The statistics of frames, pictures and the path. Each has one entry here, for both the JSON and
//! the text.

use serde_json::{Map, Value, json};

use super::sources::Sources;
use crate::stream::quality::EncodingPlan;

/// A counter since the start.
pub(crate) struct Count {
    /// JSON key; stable.
    key: &'static str,
    /// Name in the text; `None`: in the JSON only.
    name: Option<&'static str>,
    value: fn(&Sources<'_>) -> u64,
}

/// A current measurement; `None` while unknown.
pub(crate) struct Measure {
    /// JSON key, with the unit; stable.
    key: &'static str,
    /// Name and unit in the text.
    name: &'static str,
    unit: &'static str,
    value: fn(&Sources<'_>) -> Option<f64>,
}

/// Outcomes of received frames.
pub(crate) const FRAMES: &[Count] = &[
    Count { key: "completed", name: None, value: |s| s.net.totals.reassembly.completed },
    Count { key: "incomplete", name: Some("incomplete"), value: incomplete },
    Count { key: "late", name: Some("late"), value: |s| s.net.totals.reassembly.late },
    Count { key: "damaged", name: Some("damaged"), value: damaged },
    Count { key: "superseded", name: Some("superseded"), value: |s| s.superseded },
    Count { key: "repaired_by_parity", name: Some("repaired by parity"), value: by_parity },
    Count { key: "repaired_by_nack", name: Some("on request"), value: by_nack },
    Count { key: "concealed", name: Some("concealed"), value: |s| s.concealed },
    Count { key: "requests", name: None, value: |s| s.net.totals.repair.nacks },
];

/// Outcomes of our own pictures.
pub(crate) const PICTURES: &[Count] = &[
    Count { key: "captured", name: None, value: |s| s.of_capture(|c| c.captured) },
    Count { key: "encoded", name: None, value: |s| s.of_capture(|c| c.encoded) },
    Count { key: "unencodable", name: None, value: unencodable },
    Count { key: "sent", name: None, value: |s| s.net.totals.frames_sent },
    Count { key: "superseded", name: Some("superseded"), value: sender_superseded },
    Count { key: "thinned", name: Some("thinned"), value: |s| s.of_capture(|c| c.thinned) },
    Count { key: "damaged", name: Some("damaged"), value: |s| s.of_capture(|c| c.damaged) },
    Count { key: "answered", name: None, value: |s| s.net.totals.repair.answered },
];

/// The path to the other side.
pub(crate) const PATH: &[Measure] = &[
    Measure { key: "rtt_ms", name: "round trip", unit: "ms", value: rtt_ms },
    Measure {
        key: "picture_mbit_s",
        name: "pictures at most",
        unit: "Mbit/s",
        value: |s| Some(s.capture.as_ref()?.picture_bitrate?.mbps()),
    },
    Measure { key: "queue_ms", name: "queue", unit: "ms", value: queue_ms },
    Measure { key: "datagram_bytes", name: "datagrams of", unit: "bytes", value: datagram_len },
];

/// Adds `counts` to a JSON object.
pub(crate) fn add_counts(object: &mut Map<String, Value>, counts: &[Count], sources: &Sources<'_>) {
    object.extend(counts.iter().map(|count| (count.key.into(), json!((count.value)(sources)))));
}

/// Adds `measures` to a JSON object; unknown ones are null.
pub(crate) fn add_measures(
    object: &mut Map<String, Value>,
    measures: &[Measure],
    sources: &Sources<'_>,
) {
    object.extend(
        measures.iter().map(|measure| (measure.key.into(), json!((measure.value)(sources)))),
    );
}

/// Formats `counts`: `incomplete 3, late 0`.
pub(crate) fn format_counts(counts: &[Count], sources: &Sources<'_>) -> String {
    let text = |count: &Count| Some(format!("{} {}", count.name?, (count.value)(sources)));
    counts.iter().filter_map(text).collect::<Vec<_>>().join(", ")
}

/// Formats the known `measures`: `round trip 0.24 ms`; `None` if all are unknown.
pub(crate) fn format_measures(measures: &[Measure], sources: &Sources<'_>) -> Option<String> {
    let text = |measure: &Measure| {
        let value = (measure.value)(sources)?;
        Some(format!("{} {value:.2} {}", measure.name, measure.unit))
    };
    let text: Vec<String> = measures.iter().filter_map(text).collect();
    (!text.is_empty()).then(|| text.join(", "))
}

/// Formats the encoding plan: `quality 55, 1 of 2 frames, at 1/2 of their size`.
pub(crate) fn format_plan(plan: EncodingPlan) -> String {
    let EncodingPlan { quality, frame_divisor, size_divisor } = plan;
    let frames = (frame_divisor > 1).then(|| format!("1 of {frame_divisor} frames"));
    let size = (size_divisor > 1).then(|| format!("at 1/{size_divisor} of their size"));
    let text = [Some(format!("quality {quality}")), frames, size];
    text.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Formats the datagram loss, and the datagrams that the kernel dropped.
pub(crate) fn format_loss(sources: &Sources<'_>) -> String {
    let totals = &sources.net.totals;
    let expected = totals.datagrams_received + totals.datagrams_lost;
    let loss = 100.0 * totals.datagrams_lost as f64 / expected.max(1) as f64;
    let drops = sources.net.kernel_drops.unwrap_or_default();
    let by_reason = [(drops.overruns, "buffer full"), (drops.bad_checksums, "bad checksum")];
    let dropped = by_reason.iter().filter(|(count, _)| *count > 0);
    let dropped =
        dropped.map(|(count, reason)| format!("; {count} dropped by the kernel ({reason})"));
    format!("lost {loss:.2} % of datagrams{}", dropped.collect::<String>())
}

/// Includes frames of which no chunk arrived.
fn incomplete(sources: &Sources<'_>) -> u64 {
    sources.net.totals.reassembly.incomplete + sources.net.totals.reassembly.unseen
}

fn damaged(sources: &Sources<'_>) -> u64 {
    sources.net.totals.reassembly.damaged + sources.undecodable
}

fn unencodable(sources: &Sources<'_>) -> u64 {
    sources.of_capture(|c| c.failed) + sources.net.totals.frames_unsendable
}

fn sender_superseded(sources: &Sources<'_>) -> u64 {
    sources.of_capture(|c| c.superseded) + sources.net.totals.frames_superseded
}

fn by_parity(sources: &Sources<'_>) -> u64 {
    sources.net.totals.repair.by_parity
}

fn by_nack(sources: &Sources<'_>) -> u64 {
    sources.net.totals.repair.by_nack
}

fn queue_ms(sources: &Sources<'_>) -> Option<f64> {
    sources.net.totals.repair.queueing_delay.map(|queue| queue.as_secs_f64() * 1e3)
}

fn datagram_len(sources: &Sources<'_>) -> Option<f64> {
    sources.net.totals.repair.max_datagram_len.map(|len| len as f64)
}

fn rtt_ms(sources: &Sources<'_>) -> Option<f64> {
    sources.net.totals.rtt.map(|rtt| rtt.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::{
            io::{KernelDrops, NetStats},
            units::Bitrate,
        },
        stream::counters::CaptureCounters,
    };
    use std::{collections::BTreeSet, time::Duration};

    fn net() -> NetStats {
        let mut net = NetStats::default();
        (net.totals.datagrams_received, net.totals.datagrams_lost) = (97, 3);
        net.totals.reassembly.incomplete = 2;
        net.totals.reassembly.unseen = 1;
        net.totals.frames_superseded = 4;
        (net.totals.repair.by_parity, net.totals.repair.by_nack) = (37, 4);
        net.totals.repair.nacks = 9;
        net
    }

    fn sources_of(net: &NetStats, capture: Option<CaptureCounters>) -> Sources<'_> {
        Sources {
            net,
            shown: None,
            repairs: None,
            capture,
            superseded: 7,
            undecodable: 5,
            concealed: 6,
        }
    }

    #[test]
    fn text_and_json_report_the_same_counts() {
        let net = net();
        let sources = sources_of(&net, None);
        assert_eq!(
            format_counts(FRAMES, &sources),
            "incomplete 3, late 0, damaged 5, superseded 7, repaired by parity 37, on request 4, \
             concealed 6"
        );
        let mut object = Map::new();
        add_counts(&mut object, FRAMES, &sources);
        let expected = json!({
            "completed": 0, "incomplete": 3, "late": 0, "damaged": 5, "superseded": 7,
            "repaired_by_parity": 37, "repaired_by_nack": 4,
            "concealed": 6, "requests": 9,
        });
        assert_eq!(Value::Object(object), expected);
        assert_eq!(format_loss(&sources), "lost 3.00 % of datagrams");
        let net = NetStats {
            kernel_drops: Some(KernelDrops { overruns: 7, bad_checksums: 2 }),
            ..net.clone()
        };
        assert_eq!(
            format_loss(&sources_of(&net, None)),
            "lost 3.00 % of datagrams; 7 dropped by the kernel (buffer full); 2 dropped by \
             the kernel (bad checksum)"
        );
    }

    #[test]
    fn unknown_measures_are_null_in_json_and_absent_in_text() {
        let mut net = net();
        let sources = sources_of(&net, None);
        let mut object = Map::new();
        add_measures(&mut object, PATH, &sources);
        assert_eq!(
            Value::Object(object),
            json!({
                "rtt_ms": null, "picture_mbit_s": null, "queue_ms": null, "datagram_bytes": null,
            })
        );
        assert_eq!(format_measures(PATH, &sources), None);
        net.totals.rtt = Some(Duration::from_micros(1500));
        let capture = CaptureCounters {
            superseded: 1,
            thinned: 30,
            damaged: 2,
            picture_bitrate: Some(Bitrate::from_mbps(8)),
            ..CaptureCounters::default()
        };
        let sources = sources_of(&net, Some(capture));
        let text = format_measures(PATH, &sources);
        assert_eq!(text.as_deref(), Some("round trip 1.50 ms, pictures at most 8.00 Mbit/s"));
        assert_eq!(format_counts(PICTURES, &sources), "superseded 5, thinned 30, damaged 2");
    }

    #[test]
    fn the_plan_text_names_only_reductions() {
        let plan = EncodingPlan { quality: 55, frame_divisor: 1, size_divisor: 1 };
        assert_eq!(format_plan(plan), "quality 55");
        let plan = EncodingPlan { quality: 30, frame_divisor: 3, size_divisor: 2 };
        assert_eq!(format_plan(plan), "quality 30, 1 of 3 frames, at 1/2 of their size");
    }

    #[test]
    fn statistic_keys_are_unique() {
        let counts =
            [FRAMES, PICTURES].map(|table| (table.iter().map(|c| c.key).collect(), table.len()));
        let measures = [(PATH.iter().map(|m| m.key).collect(), PATH.len())];
        for (keys, len) in counts.into_iter().chain(measures) {
            let keys: BTreeSet<&str> = keys;
            assert_eq!(keys.len(), len, "{keys:?}");
        }
    }
}
