//! Two machines in one: network namespaces joined by a cable. Needs root.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Two namespaces joined by a veth pair, `v0` in the first and `v1` in the second; gone when
/// dropped.
pub(crate) struct Machines {
    pub(crate) names: [String; 2],
    pub(crate) addresses: [&'static str; 2],
    /// A third one that stands between them, if there is one.
    pub(crate) router: Option<String>,
}

const ADDRESSES: [&str; 2] = ["10.77.31.1", "10.77.31.2"];
const ROUTED_ADDRESSES: [&str; 2] = ["10.77.31.1", "10.77.32.1"];
const ROUTER_ADDRESSES: [&str; 2] = ["10.77.31.254", "10.77.32.254"];

impl Machines {
    /// `None`, with the reason printed, where namespaces cannot be made or `shaper`, the tool that
    /// makes the cable a bad one, is not there.
    pub(crate) fn new(shaper: &str) -> Option<Self> {
        let machines = Self::apart(ADDRESSES, None, shaper)?;
        let [a, b] = &machines.names;
        run(&["ip", "link", "add", "v0", "netns", a, "type", "veth", "peer", "v1", "netns", b]);
        for index in [0, 1] {
            plug_in(&machines.names[index], &format!("v{index}"), ADDRESSES[index]);
        }
        Some(machines)
    }

    /// The same with a router between them, which has `w0` towards the first and `w1` towards the
    /// second.
    pub(crate) fn routed() -> Option<Self> {
        let router = format!("udpchat-r-{}", std::process::id());
        let machines = Self::apart(ROUTED_ADDRESSES, Some(router.clone()), "ip")?;
        for (index, name) in machines.names.iter().enumerate() {
            let (end, port) = (format!("v{index}"), format!("w{index}"));
            let pair = ["type", "veth", "peer", &port, "netns", &router];
            run(&[&["ip", "link", "add", &end, "netns", name][..], &pair].concat());
            plug_in(&router, &port, ROUTER_ADDRESSES[index]);
            plug_in(name, &end, ROUTED_ADDRESSES[index]);
            run(&["ip", "-n", name, "route", "add", "default", "via", ROUTER_ADDRESSES[index]]);
        }
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        run(&["ip", "netns", "exec", &router, "sh", "-c", forward]);
        Some(machines)
    }

    /// Not joined yet.
    fn apart(addresses: [&'static str; 2], router: Option<String>, shaper: &str) -> Option<Self> {
        let tools = ["ip", shaper].iter().all(|tool| {
            ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|f| Path::new(f).join(tool).exists())
        });
        if !rustix::process::geteuid().is_root() || !tools {
            eprintln!("skipped: network namespaces need root, ip and {shaper}");
            return None;
        }
        let id = std::process::id();
        let names = ["a", "b"].map(|side| format!("udpchat-{side}-{id}"));
        let machines = Self { names, addresses, router };
        for name in machines.all() {
            if !tool(&["ip", "netns", "add", name]).status.success() {
                eprintln!("skipped: this machine allows no network namespaces");
                return None;
            }
            run(&["ip", "-n", name, "link", "set", "lo", "up"]);
        }
        Some(machines)
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.names.iter().chain(&self.router)
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
        for name in self.all() {
            tool(&["ip", "netns", "del", name]);
        }
    }
}

fn plug_in(name: &str, link: &str, address: &str) {
    run(&["ip", "-n", name, "addr", "add", &format!("{address}/24"), "dev", link]);
    // Else a whole batch crosses as one piece, and is lost as one.
    run(&["ip", "-n", name, "link", "set", link, "gso_max_segs", "1"]);
    run(&["ip", "-n", name, "link", "set", link, "up"]);
}

fn tool(words: &[&str]) -> Output {
    Command::new(words[0]).args(&words[1..]).output().expect("it is installed")
}

/// Runs a tool that must not fail.
pub(crate) fn run(words: &[&str]) {
    let output = tool(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
