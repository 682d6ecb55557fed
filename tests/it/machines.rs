//! Two simulated machines: network namespaces joined by a veth pair or by a router. Needs
//! root.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Two namespaces joined by a veth pair or by a router; their interfaces are `v0` in the first and
/// `v1` in the second. Deleted on drop.
pub(crate) struct Machines {
    pub(crate) names: [String; 2],
    pub(crate) addresses: [&'static str; 2],
    /// The namespace of the router between them, if any.
    pub(crate) router: Option<String>,
}

const ADDRESSES: [&str; 2] = ["10.77.31.1", "10.77.31.2"];
const ROUTED_ADDRESSES: [&str; 2] = ["10.77.31.1", "10.77.32.1"];
const ROUTER_ADDRESSES: [&str; 2] = ["10.77.31.254", "10.77.32.254"];

impl Machines {
    /// Returns `None` and prints the reason if namespaces cannot be created or `shaper`, the tool
    /// that impairs the link, is not installed.
    pub(crate) fn new(shaper: &str) -> Option<Self> {
        let machines = Self::apart(ADDRESSES, None, &["ip", shaper])?;
        let [a, b] = &machines.names;
        run(&["ip", "link", "add", "v0", "netns", a, "type", "veth", "peer", "v1", "netns", b]);
        for index in [0, 1] {
            plug_in(&machines.names[index], &format!("v{index}"), ADDRESSES[index]);
        }
        Some(machines)
    }

    /// Two machines with a router between them: `w0` faces the first, `w1` the second.
    pub(crate) fn routed() -> Option<Self> {
        let router = format!("udpchat-r-{}", std::process::id());
        let machines = Self::apart(ROUTED_ADDRESSES, Some(router.clone()), &["ip"])?;
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

    /// Creates the namespaces without links between them.
    fn apart(addresses: [&'static str; 2], router: Option<String>, tools: &[&str]) -> Option<Self> {
        let has_tools = tools.iter().all(|tool| {
            ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|f| Path::new(f).join(tool).exists())
        });
        if !rustix::process::geteuid().is_root() || !has_tools {
            eprintln!("skipped: this test needs root and {}", tools.join(" and "));
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

    /// udpchat on machine `index`, isolated from the user's display and settings.
    pub(crate) fn udpchat(&self, index: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[index], env!("CARGO_BIN_EXE_udpchat")]);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("RUST_LOG");
        hermetic(&mut command);
        command
    }
}

/// Isolates the command from the user's identity and from a code in the environment.
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
    // Otherwise a GSO batch crosses as one unsegmented packet and is lost as a whole.
    run(&["ip", "-n", name, "link", "set", link, "gso_max_segs", "1"]);
    run(&["ip", "-n", name, "link", "set", link, "up"]);
}

fn tool(words: &[&str]) -> Output {
    Command::new(words[0]).args(&words[1..]).output().expect("it is installed")
}

/// Runs a tool and panics if it fails.
pub(crate) fn run(words: &[&str]) {
    let output = tool(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
