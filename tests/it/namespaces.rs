//! Two machines: network namespaces joined by a cable that loses datagrams. Needs root.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::program::{Program, alone};

/// Two namespaces joined by a veth pair, gone when dropped.
struct Machines {
    names: [String; 2],
}

const ADDRESSES: [&str; 2] = ["10.77.31.1", "10.77.31.2"];

impl Machines {
    /// `None`, with the reason printed, where namespaces cannot be made.
    fn new() -> Option<Self> {
        let tools = ["ip", "nft"].iter().all(|tool| {
            ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|f| Path::new(f).join(tool).exists())
        });
        if !rustix::process::geteuid().is_root() || !tools {
            eprintln!("skipped: network namespaces need root, ip and nft");
            return None;
        }
        let id = std::process::id();
        let machines = Self { names: ["a", "b"].map(|side| format!("udpchat-{side}-{id}")) };
        for name in &machines.names {
            if !tool(&["ip", "netns", "add", name]).status.success() {
                eprintln!("skipped: this machine allows no network namespaces");
                return None;
            }
        }
        let [a, b] = &machines.names;
        run(&["ip", "link", "add", "v0", "netns", a, "type", "veth", "peer", "v1", "netns", b]);
        for (i, name) in machines.names.iter().enumerate() {
            let (link, address) = (format!("v{i}"), format!("{}/24", ADDRESSES[i]));
            run(&["ip", "-n", name, "addr", "add", &address, "dev", &link]);
            // Else a whole batch crosses as one piece, and is lost as one.
            run(&["ip", "-n", name, "link", "set", &link, "gso_max_segs", "1"]);
            run(&["ip", "-n", name, "link", "set", &link, "up"]);
            run(&["ip", "-n", name, "link", "set", "lo", "up"]);
        }
        Some(machines)
    }

    /// Drops `per_mille` of the datagrams that come into machine `index`.
    fn lose(&self, index: usize, per_mille: u32) {
        let rules = format!(
            "table ip lossy {{\n chain in {{\n type filter hook input priority 0;\n \
             meta l4proto udp numgen random mod 1000 < {per_mille} drop\n }}\n }}\n"
        );
        let name = &self.names[index];
        run(&["ip", "netns", "exec", name, "nft", &rules]);
    }

    fn start(&self, index: usize, args: &[&str]) -> Program {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[index], env!("CARGO_BIN_EXE_udpchat")]);
        command.args(args).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for name in &self.names {
            tool(&["ip", "netns", "del", name]);
        }
    }
}

fn tool(words: &[&str]) -> Output {
    Command::new(words[0]).args(&words[1..]).output().expect("it is installed")
}

fn run(words: &[&str]) {
    let output = tool(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
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
    let Some(machines) = Machines::new() else { return };
    machines.lose(1, 10);
    let receiver = machines.start(1, &["recv", "--show", "none", "--stats-json", "-"]);
    receiver.wait_for("listening on port 7722");
    let sender = machines.start(
        0,
        &[
            "send",
            "--to",
            ADDRESSES[1],
            "--source",
            "pattern",
            "--size",
            "640x480",
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
    let Some(machines) = Machines::new() else { return };
    machines.lose(1, 999);
    let receiver = machines.start(1, &["recv", "--show", "none"]);
    receiver.wait_for("listening on port 7722");
    let _sender = machines.start(0, &["send", "--to", ADDRESSES[1], "--source", "pattern"]);
    let said = receiver.wait_for("UDP is probably blocked");
    assert!(said.contains("UDP port 7722"), "{said}");
}
