//! The program over wires of several speeds: a router with a token bucket between two machines, and
//! datagrams of 1500 bytes with their headers.

use serde_json::Value;

use crate::{
    cases::P720,
    machines::{self, Machines},
    measure::Samples,
    program::{Running, piped},
    results::{Bar, Cell, Chart, Drawing, Table},
};

/// A wire.
#[derive(Clone, Copy)]
struct Wire {
    name: &'static str,
    /// Its speed in Mbit/s; `None`: as fast as the machine.
    mbit: Option<u32>,
    /// The queue before it, in bytes.
    queue: u32,
}

/// The rounds over one wire: medians of each round, in ms except where the name says otherwise.
#[derive(Default)]
struct Rounds {
    stages: [Samples; STAGES.len()],
    p50: Samples,
    p95: Samples,
    quality: Samples,
    mbit_s: Samples,
    /// Frames that were sent but not completed, in percent, from the second second on.
    incomplete: Samples,
}

/// Returns the table and the chart; `None` if namespaces are not available.
pub(crate) fn measure() -> Option<(Table, Chart)> {
    let mut rounds: [Rounds; WIRES.len()] = Default::default();
    for round in 1..=ROUNDS {
        for (wire, rounds) in WIRES.iter().zip(&mut rounds) {
            println!("wire, {}: round {round} of {ROUNDS}", wire.name);
            rounds.stream(&wire.lay()?);
        }
    }
    let columns = ["", "quality", "Mbit/s", "latency p50", "p95", "incomplete, %"];
    let title = format!(
        "Between two namespaces: 720p, 30 frames/s, quality auto, ms, {ROUNDS} alternating rounds of {SECONDS} s"
    );
    let rows = WIRES.iter().zip(&rounds).map(|(wire, rounds)| rounds.row(wire.name)).collect();
    let table = Table { title, columns: columns.map(str::to_owned).to_vec(), rows };
    Some((table, chart(&rounds)))
}

impl Wire {
    /// Joins two machines by this wire.
    fn lay(self) -> Option<Machines> {
        let machines = Machines::routed()?;
        if let (Some(mbit), Some(router)) = (self.mbit, &machines.router) {
            // What crosses in 100 µs, or two datagrams.
            let burst = (mbit * 1_000_000 / 8 / 10_000).max(3000);
            let (rate, burst, queue) =
                (format!("{mbit}mbit"), burst.to_string(), self.queue.to_string());
            let device = ["tc", "-n", router, "qdisc", "add", "dev", "w1", "root"];
            let bucket = ["tbf", "rate", &rate, "burst", &burst, "limit", &queue];
            machines::run(&[&device[..], &bucket].concat());
        }
        Some(machines)
    }
}

impl Rounds {
    /// Streams from one machine to the other, and evaluates the statistics of both.
    fn stream(&mut self, machines: &Machines) {
        let recv = ["recv", "--show", "decode", "--stats-json", "-", "--seconds", RECEIVER_SECONDS];
        let mut receiver = Running::start(piped(&mut machines.udpchat(1)).args(recv));
        receiver.wait_for(" on port ");
        let size = P720.size.to_string();
        let source = ["--source", "pattern", "--size", &size, "--fps", "30"];
        let run = ["--stats-json", "-", "--seconds", SECONDS];
        let send = [&["send", "--to", machines.addresses[1]][..], &source, &run].concat();
        let sent = Running::start(piped(&mut machines.udpchat(0)).args(send)).finish();
        let (sent, received) = (seconds(&sent), seconds(&receiver.finish()));
        let number = |second: &Value, at: &str| second.pointer(at).and_then(Value::as_f64);
        // The first second includes connecting and finding the rate; the last is cut short.
        let full = |second: &&Value| number(second, "/receiver/fps").is_some_and(|fps| fps > 5.0);
        let full: Vec<&Value> = received.iter().skip(1).filter(full).collect();
        let median = |at: &str| {
            let all = full.iter().filter_map(|second| number(second, at));
            all.collect::<Samples>().figure().median
        };
        let latency = |stage: &str, percentile: &str| {
            median(&format!("/receiver/latency_ms/{stage}/{percentile}"))
        };
        for (samples, stage) in self.stages.iter_mut().zip(STAGES) {
            samples.push(latency(stage, "p50"));
        }
        self.p50.push(latency("end_to_end", "p50"));
        self.p95.push(latency("end_to_end", "p95"));
        let last = sent.last().expect("a line a second");
        self.quality.push(number(last, "/sender/quality").expect("a number"));
        self.mbit_s.push(median("/receiver/goodput_mbit_s"));
        let count = |second: &Value, what: &str| {
            number(second, &format!("/receiver/{what}")).unwrap_or_default()
        };
        let change = |what: &str| match (received.get(1), received.last()) {
            (Some(from), Some(to)) => count(to, what) - count(from, what),
            _ => 0.0,
        };
        let (completed, incomplete) = (change("completed"), change("incomplete"));
        self.incomplete.push(100.0 * incomplete / (completed + incomplete).max(1.0));
    }

    fn row(&self, name: &str) -> Vec<Cell> {
        let figures = [&self.quality, &self.mbit_s, &self.p50, &self.p95, &self.incomplete];
        let name = std::iter::once(Cell::Text(name.to_owned()));
        name.chain(figures.into_iter().map(Samples::cell)).collect()
    }
}

fn chart(rounds: &[Rounds]) -> Chart {
    let bars = WIRES.iter().zip(rounds).map(|(wire, rounds)| Bar {
        name: wire.name.to_owned(),
        parts: rounds.stages.iter().map(|stage| stage.figure().median).collect(),
    });
    Chart {
        file: "wire".to_owned(),
        title: "Latency by the speed of the wire, p50 of each stage".to_owned(),
        drawing: Drawing::Bars {
            unit: "milliseconds".to_owned(),
            parts: PARTS.map(str::to_owned).into(),
            bars: bars.collect(),
        },
    }
}

fn seconds(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Slow wires have a queue of 30 ms, fast ones the 64 KB of a switch port.
const WIRES: [Wire; 6] = [
    Wire { name: "10 Mbit/s", mbit: Some(10), queue: 37_500 },
    Wire { name: "40 Mbit/s", mbit: Some(40), queue: 150_000 },
    Wire { name: "100 Mbit/s", mbit: Some(100), queue: 65_536 },
    Wire { name: "300 Mbit/s", mbit: Some(300), queue: 65_536 },
    Wire { name: "1 Gbit/s", mbit: Some(1000), queue: 65_536 },
    Wire { name: "unlimited", mbit: None, queue: 0 },
];

/// The receiver's stages. Its `send` includes capturing and encoding.
const STAGES: [&str; 4] = ["send", "network", "reassemble", "decode"];

/// The same, for people.
const PARTS: [&str; 4] = ["capture, encode, send", "network", "reassemble", "decode"];

const ROUNDS: usize = 5;
const SECONDS: &str = "6.5";
const RECEIVER_SECONDS: &str = "8";
