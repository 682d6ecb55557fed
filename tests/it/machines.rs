//! Two machines in one: network namespaces joined by a cable. Needs root.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Two namespaces joined by a veth pair, `v0` in the first and `v1` in the second; gone when
/// dropped.
pub(crate) struct Machines {
    pub(crate) names: [String; 2],
}

pub(crate) const ADDRESSES: [&str; 2] = ["10.77.31.1", "10.77.31.2"];

impl Machines {
    /// `None`, with the reason printed, where namespaces cannot be made or `shaper`, the tool that
    /// makes the cable a bad one, is not there.
    pub(crate) fn new(shaper: &str) -> Option<Self> {
        let tools = ["ip", shaper].iter().all(|tool| {
            ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|f| Path::new(f).join(tool).exists())
        });
        if !rustix::process::geteuid().is_root() || !tools {
            eprintln!("skipped: network namespaces need root, ip and {shaper}");
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

    /// udpchat on machine `index`, without a display or settings from outside.
    pub(crate) fn udpchat(&self, index: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[index], env!("CARGO_BIN_EXE_udpchat")]);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("RUST_LOG");
        hermetic(&mut command);
        command
    }
}

/// Keeps it from this user's identity and from a code of its environment.
pub(crate) fn hermetic(command: &mut Command) {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/config");
    command.env("XDG_CONFIG_HOME", folder).env_remove("UDPCHAT_CODE");
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

/// Runs a tool that must not fail.
pub(crate) fn run(words: &[&str]) {
    let output = tool(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
