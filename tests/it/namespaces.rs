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

/// The receiver's last statistics.
fn last(stdout: &[u8]) -> Value {
    let text = String::from_utf8_lossy(stdout);
    let line = text.lines().last().expect("a line a second");
    serde_json::from_str(line).expect("JSON")
}

#[test]
fn a_stream_crosses_a_cable_that_loses_one_datagram_in_a_hundred() {
    let _alone = alone();
    let Some(machines) = Machines::new("nft") else { return };
    lose(&machines, 1, 10);
    let receiver = start(&machines, 1, &["recv", "--show", "none", "--stats-json", "-"]);
    receiver.wait_for("listening on port 7722");
    let sender = start(
        &machines,
        0,
        &[
            "send",
            "--to",
            ADDRESSES[1],
            "--source",
            "pattern",
            "--size",
            "640x480",
            "--quality",
            "80",
            "--fec",
            "off",
            "--seconds",
            "8",
        ],
    );
    sender.finish().expect_success();
    receiver.wait_for("has left");
    // One more second, for the last statistics.
    std::thread::park_timeout(std::time::Duration::from_millis(1300));
    receiver.interrupt();
    let outcome = receiver.finish();
    outcome.expect_success();
    let stats = last(&outcome.stdout);
    let count = |group: &str, name: &str| stats[group][name].as_f64().expect("a number");
    let (received, lost) = (count("datagrams", "received"), count("datagrams", "lost"));
    let share = lost / (received + lost);
    let deviation = (0.01 * 0.99 / (received + lost)).sqrt();
    assert!((share - 0.01).abs() < 5.0 * deviation, "{share} lost: {stats}");
    assert!(count("receiver", "completed") > 100.0, "{stats}");
    assert!(count("receiver", "incomplete") > 5.0, "{stats}");
    assert_eq!(stats["receiver"]["damaged"], 0, "{stats}");
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
