//! Two machines: network namespaces joined by a cable that loses datagrams. Needs root.

use std::process::Stdio;

use serde_json::Value;

use crate::{
    machines::{ADDRESSES, Machines, run},
    program::{Program, alone},
};

/// Drops `per_mille` of the datagrams that come into machine `index`.
fn lose(machines: &Machines, index: usize, per_mille: u32) {
    let rules = format!(
        "table ip lossy {{\n chain in {{\n type filter hook input priority 0;\n \
             meta l4proto udp numgen random mod 1000 < {per_mille} drop\n }}\n }}\n"
    );
    run(&["ip", "netns", "exec", &machines.names[index], "nft", &rules]);
}

fn start(machines: &Machines, index: usize, args: &[&str]) -> Program {
    let mut command = machines.udpchat(index);
    Program::spawn(command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()))
}

/// What both sides told of a stream from machine 0 to machine 1, a line a second.
struct Crossing {
    sender: Vec<Value>,
    receiver: Vec<Value>,
}

impl Crossing {
    /// Ten seconds of 720p, as [`PATTERN`] and `options` say.
    fn run(machines: &Machines, options: &[&str]) -> Self {
        let receiver = start(machines, 1, &["recv", "--show", "none", "--stats-json", "-"]);
        receiver.wait_for("listening on port 7722");
        let to = ["send", "--to", ADDRESSES[1], "--seconds", "10", "--stats-json", "-"];
        let sender = start(machines, 0, &[&to[..], &PATTERN, options].concat()).finish();
        sender.expect_success();
        receiver.wait_for("has left");
        // One more second, for the last statistics.
        std::thread::park_timeout(std::time::Duration::from_millis(1300));
        receiver.interrupt();
        let receiver = receiver.finish();
        receiver.expect_success();
        Self { sender: lines(&sender.stdout), receiver: lines(&receiver.stdout) }
    }

    /// Of the datagrams to the receiver, how many were lost, and the deviation of that if each is lost
    /// with probability `loss`.
    fn lost(&self, loss: f64) -> (f64, f64) {
        let [received, lost] = ["received", "lost"].map(|n| last(&self.receiver, "datagrams", n));
        (lost / (received + lost), (loss * (1.0 - loss) / (received + lost)).sqrt())
    }

    /// Of the frames that the receiver knows of from second `from` on, how many are whole.
    fn shown(&self, from: usize) -> f64 {
        let since = |name: &str| {
            let then = &self.receiver[from]["receiver"][name];
            last(&self.receiver, "receiver", name) - then.as_f64().expect("a number")
        };
        since("completed") / (since("completed") + since("incomplete") + since("late"))
    }

    /// Bytes sent for each byte of picture, less one, since line [`STEADY`]: until the first reports
    /// have come a stream is protected as if there were loss, and when they come is the machine's doing.
    fn overhead(&self) -> f64 {
        let since = |group: &str, name: &str| {
            last(&self.sender, group, name) - number(&self.sender[STEADY][group][name])
        };
        since("bytes", "sent") / (since("sender", "sent") * self.picture_len()) - 1.0
    }

    /// Bytes of a shown picture, on average, since line [`STEADY`].
    fn picture_len(&self) -> f64 {
        let sum = |name: &str| -> f64 {
            self.receiver[STEADY + 1..].iter().map(|line| number(&line["receiver"][name])).sum()
        };
        sum("goodput_mbit_s") * 1e6 / 8.0 / sum("fps")
    }
}

fn lines(stdout: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn last(lines: &[Value], group: &str, name: &str) -> f64 {
    number(&lines.last().expect("a line a second")[group][name])
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Both ways lose `per_mille`; the least share shown, and the most overhead.
fn crosses(per_mille: u32, shown: f64, overhead: f64) {
    let _alone = alone();
    let Some(machines) = Machines::new("nft") else { return };
    lose(&machines, 0, per_mille);
    lose(&machines, 1, per_mille);
    let crossing = Crossing::run(&machines, &FIXED);
    let loss = f64::from(per_mille) / 1000.0;
    let (lost, deviation) = crossing.lost(loss);
    let (is_shown, costs) = (crossing.shown(0), crossing.overhead());
    let of = |name| last(&crossing.receiver, "receiver", name);
    eprintln!(
        "{per_mille} of 1000 lost: {lost:.4} lost, {is_shown:.4} of {} shown, overhead {costs:.4}, {} \
         repaired by parity, {} after a NACK",
        of("completed"),
        of("repaired_by_parity"),
        of("repaired_by_nack"),
    );
    assert!((lost - loss).abs() <= 5.0 * deviation, "{lost} lost, deviation {deviation}");
    assert!(is_shown >= shown && of("completed") > 200.0, "{is_shown} shown");
    assert!(costs <= overhead, "overhead {costs}");
    assert_eq!(crossing.receiver.last().expect("a line")["receiver"]["damaged"], 0);
}

#[test]
fn a_cable_that_loses_nothing() {
    crosses(0, 1.0, 0.04);
}

#[test]
fn a_cable_that_loses_one_datagram_in_a_hundred() {
    crosses(10, 0.99, 0.11);
}

#[test]
fn a_cable_that_loses_one_datagram_in_twenty() {
    crosses(50, 0.985, 0.21);
}

#[test]
fn a_cable_that_carries_ten_megabits() {
    let _alone = alone();
    let Some(machines) = Machines::new("tc") else { return };
    let bucket = ["tbf", "rate", "10mbit", "burst", "5000", "latency", "100ms"];
    let device = ["tc", "-n", &machines.names[0], "qdisc", "add", "dev", "v0", "root"];
    run(&[&device[..], &bucket].concat());
    let crossing = Crossing::run(&machines, &["--quality", "auto", "--mtu", "1200"]);
    let shown = crossing.shown(2);
    let of = |line: &Value| line["receiver"]["latency_ms"]["end_to_end"]["p95"].as_f64();
    let p95: Vec<_> = crossing.receiver.iter().map(of).collect();
    let quality = &crossing.sender.last().expect("a line")["sender"]["quality"];
    let goodput = |line: &Value| line["receiver"]["goodput_mbit_s"].as_f64();
    let goodput: Vec<_> = crossing.receiver.iter().filter_map(goodput).collect();
    eprintln!("10 Mbit/s: {shown:.4} shown, p95 {p95:?}, quality {quality}, {goodput:.1?} Mbit/s");
    assert!(shown >= 0.9, "{shown} shown");
    assert!(goodput.iter().all(|&mbit| mbit <= 10.0), "{goodput:?}");
}

#[test]
fn a_firewall_that_lets_only_tcp_through_is_named() {
    let _alone = alone();
    let Some(machines) = Machines::new("nft") else { return };
    lose(&machines, 1, 999);
    let receiver = start(&machines, 1, &["recv", "--show", "none"]);
    receiver.wait_for("listening on port 7722");
    let _sender = start(&machines, 0, &["send", "--to", ADDRESSES[1], "--source", "pattern"]);
    let said = receiver.wait_for("UDP is probably blocked");
    assert!(said.contains("UDP port 7722"), "{said}");
}

/// The line, one a second, from which on a stream's overhead is what its loss makes it: two seconds
/// is as far as parity looks back.
const STEADY: usize = 2;

const PATTERN: [&str; 4] = ["--source", "pattern", "--size", "1280x720"];

/// 720p of about a hundred chunks, in datagrams such as Ethernet is found to carry.
const FIXED: [&str; 4] = ["--quality", "98", "--mtu", "1472"];
