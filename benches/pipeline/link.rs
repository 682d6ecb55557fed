//! A link on which transmitting a frame takes longer than encoding and decoding it.

use serde_json::Value;

use crate::{
    cases::P720,
    floor::Floor,
    machines::{self, Machines},
    measure::Samples,
    program::{Mode, Running, piped},
    results::{Cell, Table},
    targets::{Bound, Targets},
};

/// The rounds of one mode, in ms except for the bytes.
#[derive(Default)]
struct Rounds {
    p50: Samples,
    wire: Samples,
    codec: Samples,
    wire_bytes: Samples,
}

/// Returns the table; `None` if namespaces are not available.
pub(crate) fn measure(modes: &[Mode], targets: &mut Targets) -> Option<Table> {
    let machines = Machines::new("tc")?;
    // A burst of little more than one datagram, so that a frame crosses at the link's rate.
    let bucket = ["tbf", "rate", "20mbit", "burst", "2000", "latency", "400ms"];
    let [sender, _] = &machines.names;
    let device = ["tc", "-n", sender, "qdisc", "add", "dev", "v0", "root"];
    machines::run(&[&device[..], &bucket].concat());
    let quality = quality_of(FRAME_LEN);
    let mut rows = Vec::new();
    for &mode in modes {
        let rounds = Rounds::measure(&machines, mode, quality);
        let codec = rounds.codec.into_iter();
        let allowed = rounds.wire.into_iter().zip(codec).map(|(wire, codec)| wire + 0.3 * codec);
        let what = mode.of("720p over 20 Mbit/s") + ": latency p50, ms";
        let rule = "wire time + 0.3 × (encode + decode, paced)";
        targets.judge(&what, &rounds.p50, Bound::AtMost, &allowed.collect(), rule);
        let name = Cell::Text(mode.of("720p"));
        rows.push(vec![
            name,
            Cell::Text(quality.to_string()),
            rounds.wire_bytes.cell(),
            rounds.wire.cell(),
            rounds.codec.cell(),
            rounds.p50.cell(),
        ]);
    }
    let columns =
        ["", "quality", "bytes on the wire", "wire time", "encode + decode", "latency p50"];
    let title = format!(
        "A token bucket of 20 Mbit/s between two namespaces: 30 frames/s, ms, {ROUNDS} rounds of {SECONDS} s"
    );
    Some(Table { title, columns: columns.map(str::to_owned).to_vec(), rows })
}

impl Rounds {
    fn measure(machines: &Machines, mode: Mode, quality: u8) -> Self {
        let (mut rounds, mut floor) = (Self::default(), Floor::new(P720.size, quality));
        for round in 1..=ROUNDS {
            println!("a link of 20 Mbit/s: round {round} of {ROUNDS}");
            rounds.codec.push(floor.paced(30.0, FLOOR_FRAMES).both.figure().median);
            rounds.stream(machines, mode, quality);
        }
        rounds
    }

    /// Streams from one machine to the other and evaluates both sides' statistics.
    fn stream(&mut self, machines: &Machines, mode: Mode, quality: u8) {
        let recv = ["recv", "--show", "decode", "--stats-json", "-", "--seconds", RECEIVER_SECONDS];
        let mut receiver = Running::start(piped(&mut machines.udpchat(1)).args(recv));
        receiver.wait_for(" on port ");
        let (size, quality) = (P720.size.to_string(), quality.to_string());
        let send = [
            "send",
            "--to",
            machines.addresses[1],
            "--source",
            "pattern",
            "--stats-json",
            "-",
            "--fps",
            "30",
            "--size",
            &size,
            "--quality",
            &quality,
            "--seconds",
            SECONDS,
        ];
        let sent =
            Running::start(piped(&mut machines.udpchat(0)).args(send).args(mode.args())).finish();
        let sent: Value = seconds(&sent).pop().expect("a line a second");
        let count = |at: &str| sent.pointer(at).and_then(Value::as_f64).expect("a number");
        let bytes = count("/bytes/sent") + count("/datagrams/sent") * HEADERS_LEN;
        let frame_bytes = bytes / count("/sender/sent");
        self.wire_bytes.push(frame_bytes);
        self.wire.push(frame_bytes * 8.0 / BITS_PER_MS);
        self.p50.push(p50(&receiver.finish()));
    }
}

/// The median of p50 over the full seconds. The first includes connecting; the last is cut short.
fn p50(received: &str) -> f64 {
    let full = seconds(received).into_iter().filter(|second| {
        second.pointer("/receiver/fps").and_then(Value::as_f64).is_some_and(|fps| fps > 25.0)
    });
    let all = full.filter_map(|s| s.pointer("/receiver/latency_ms/end_to_end/p50")?.as_f64());
    all.collect::<Samples>().figure().median
}

fn seconds(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The quality, 50 to 98, at which a frame of the pattern is nearest to `len` bytes.
fn quality_of(len: f64) -> u8 {
    let off = |quality: u8| {
        let found = Floor::new(P720.size, quality).hot(4).len.figure().median;
        (found - len).abs()
    };
    let qualities = 50..=98;
    qualities.min_by(|&a, &b| off(a).total_cmp(&off(b))).expect("the range is not empty")
}

const BITS_PER_MS: f64 = 20_000.0;

/// Frame length in bytes. Transmitting it takes 24 ms on this link.
const FRAME_LEN: f64 = 60_000.0;

/// Header bytes of Ethernet, IPv4 and UDP, which the token bucket counts.
const HEADERS_LEN: f64 = 14.0 + 20.0 + 8.0;

const ROUNDS: usize = 5;
const SECONDS: &str = "5.5";
const RECEIVER_SECONDS: &str = "7";
const FLOOR_FRAMES: usize = 30;
