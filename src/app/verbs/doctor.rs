//! `udpchat doctor`: checks for common problems and names remedies.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    app::{
        network::resolve::own_address,
        process::{descriptors::ensure_free, stdout::print_all},
    },
    cli::args::DoctorArgs,
    clock,
    net::{
        io::{RECEIVE_BUFFER_WANTED, SocketOptions, UdpSocket, least_mtu},
        link::MIN_DATAGRAM_LEN,
    },
    video::{
        jpeg::{self, SandboxStatus},
        sink::screen::Screen,
        source::camera,
    },
};

/// The result of one check.
struct Finding {
    what: &'static str,
    state: State,
    text: String,
    remedy: Option<String>,
}

enum State {
    Fine,
    Note,
    Broken,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<()> {
    // Without free descriptors a check would fail and name another cause.
    ensure_free(CHECK_DESCRIPTORS).context("the limit on open files is too low for the checks")?;
    let mut findings = vec![address(), port(args.port), loopback()];
    findings.extend(sockets());
    findings.extend([
        mtu(),
        firewall(args.port),
        camera(),
        display_found(),
        decoder(),
        clock_source(),
    ]);
    let mut text = String::new();
    for finding in &findings {
        text.push_str(&finding.line());
    }
    print_all(text.as_bytes())?;
    let broken: Vec<&str> =
        findings.iter().filter(|f| matches!(f.state, State::Broken)).map(|f| f.what).collect();
    if !broken.is_empty() {
        bail!("broken: {}; the remedies are above", broken.join(", "));
    }
    Ok(())
}

impl Finding {
    fn fine(what: &'static str, text: String) -> Self {
        Self { what, state: State::Fine, text, remedy: None }
    }

    fn note(what: &'static str, text: String, remedy: impl Into<String>) -> Self {
        Self { what, state: State::Note, text, remedy: Some(remedy.into()) }
    }

    fn broken(what: &'static str, text: String, remedy: impl Into<String>) -> Self {
        Self { what, state: State::Broken, text, remedy: Some(remedy.into()) }
    }

    fn line(&self) -> String {
        let mark = match self.state {
            State::Fine => "ok  ",
            State::Note => "note",
            State::Broken => "FAIL",
        };
        let remedy = self.remedy.as_ref().map_or_else(String::new, |r| format!("\n{:18}{r}", ""));
        format!("{mark}  {:<10}  {}{remedy}\n", self.what, self.text)
    }
}

fn address() -> Finding {
    match own_address(false) {
        Some(ip) => Finding::fine("address", format!("others reach this machine at {ip}")),
        None => Finding::note(
            "address",
            "no route to anywhere".into(),
            "plug in a cable or join a network; on this machine alone, udpchat demo works",
        ),
    }
}

fn port(port: u16) -> Finding {
    let udp = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port).into()));
    let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    let taken = match (udp.is_err(), tcp.is_err()) {
        (false, false) => return Finding::fine("port", format!("{port} is free, UDP and TCP")),
        (true, false) => "UDP",
        (false, true) => "TCP",
        (true, true) => "UDP and TCP",
    };
    Finding::note(
        "port",
        format!("{port} is in use ({taken}): maybe udpchat is running"),
        "end the other program, or choose another port with --bind :PORT",
    )
}

/// Sends a batch of datagrams to ourselves.
fn loopback() -> Finding {
    match send_to_self() {
        Ok(got) if got == LOOPBACK_DATAGRAMS => {
            Finding::fine("loopback", format!("{got} of {LOOPBACK_DATAGRAMS} datagrams arrived"))
        }
        Ok(got) => Finding::broken(
            "loopback",
            format!("{got} of {LOOPBACK_DATAGRAMS} datagrams to this machine itself arrived"),
            "look for a firewall rule that drops UDP on the interface lo",
        ),
        Err(error) => Finding::broken(
            "loopback",
            format!("no datagram could be sent to this machine itself: {error}"),
            "check that the interface lo is up: ip link set lo up",
        ),
    }
}

/// Returns how many datagrams arrived. Waits for all of them, but at most 5 s, for a busy machine.
fn send_to_self() -> std::io::Result<usize> {
    let mut to = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let mut from = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    from.send(to.local_addr()?, &vec![7; 1200 * LOOPBACK_DATAGRAMS], 1200)?;
    let (mut got, until) = (0, clock::now() + Duration::from_secs(5));
    while got < LOOPBACK_DATAGRAMS && clock::now() < until {
        to.receive(|_, _| got += 1)?;
        std::thread::yield_now();
    }
    Ok(got)
}

fn sockets() -> Vec<Finding> {
    let Ok(socket) = UdpSocket::bind_any(SocketOptions::default()) else { return Vec::new() };
    let mut findings = Vec::new();
    if let Ok(sizes) = socket.buffer_sizes() {
        findings.push(receive_buffer(sizes.receive));
    }
    findings.push(match socket.max_batch() {
        1 => Finding::note(
            "batching",
            "one system call per datagram".into(),
            "Linux sends in batches since 4.18 and receives in batches since 5.0 (UDP GSO and GRO)",
        ),
        batch => Finding::fine(
            "batching",
            format!("{batch} datagrams sent, {} received at once", socket.max_coalesced()),
        ),
    });
    findings
}

fn receive_buffer(got: usize) -> Finding {
    let kb = |bytes: usize| format!("{} KB", bytes >> 10);
    if got >= RECEIVE_BUFFER_WANTED {
        return Finding::fine("buffer", format!("the receive buffer is {}", kb(got)));
    }
    Finding::note(
        "buffer",
        format!("the receive buffer is only {}: datagrams may be lost under load", kb(got)),
        format!("sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER_WANTED}"),
    )
}

fn mtu() -> Finding {
    let smallest = fs::read_dir("/sys/class/net").into_iter().flatten().flatten().filter_map(|e| {
        let name = e.file_name().to_string_lossy().into_owned();
        let up = fs::read_to_string(e.path().join("operstate")).is_ok_and(|s| s.trim() == "up");
        let mtu: u32 = fs::read_to_string(e.path().join("mtu")).ok()?.trim().parse().ok()?;
        (up && name != "lo").then_some((mtu, name))
    });
    let needed = least_mtu((Ipv4Addr::LOCALHOST, 0).into());
    match smallest.min() {
        Some((mtu, name)) if (mtu as usize) < needed => Finding::note(
            "mtu",
            format!("{name} carries only {mtu} bytes, and udpchat needs {needed}"),
            format!("sudo ip link set {name} mtu 1500"),
        ),
        Some((mtu, name)) if mtu < 1280 => Finding::note(
            "mtu",
            format!("{name} carries only {mtu} bytes"),
            format!(
                "use --mtu {} on the sending side",
                (mtu.saturating_sub(48) as usize).max(MIN_DATAGRAM_LEN)
            ),
        ),
        Some((mtu, name)) => Finding::fine("mtu", format!("{name} carries {mtu} bytes")),
        None => Finding::fine("mtu", "no interface but loopback is up".into()),
    }
}

/// Hints only: a firewall's effect is visible only from the other side.
fn firewall(port: u16) -> Finding {
    let active = |program: &str, args: &[&str], sign: &str| {
        let output = Command::new(program).args(args).output();
        output.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(sign))
    };
    if active("ufw", &["status"], "Status: active") {
        let remedy = format!("sudo ufw allow {port}");
        return Finding::note("firewall", "ufw is active".into(), remedy);
    }
    if active("firewall-cmd", &["--state"], "running") {
        let remedy = format!("sudo firewall-cmd --add-port={port}/udp --add-port={port}/tcp");
        return Finding::note("firewall", "firewalld is active".into(), remedy);
    }
    if active("nft", &["list", "ruleset"], "hook input") {
        let remedy = format!("check that it lets UDP and TCP port {port} in: nft list ruleset");
        return Finding::note("firewall", "nftables filters what comes in".into(), remedy);
    }
    Finding::fine("firewall", "none found that this user can see".into())
}

fn camera() -> Finding {
    let cameras = camera::list();
    let unreadable = Path::new("/dev/video0").exists()
        && fs::File::open("/dev/video0")
            .is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
    match (cameras.first(), unreadable) {
        (_, true) => Finding::note(
            "camera",
            "/dev/video0 exists, but this user may not read it".into(),
            "sudo usermod -aG video $USER, then log in again",
        ),
        (Some(first), _) => Finding::fine(
            "camera",
            format!("{} found, the first is {} (see udpchat devices)", cameras.len(), first.name),
        ),
        (None, _) => Finding::note(
            "camera",
            "none found".into(),
            "plug one in, or send something else: --source pattern, a file, or -",
        ),
    }
}

fn display_found() -> Finding {
    match Screen::check() {
        Ok(()) => Finding::fine("display", "windows can be opened".into()),
        Err(why) => Finding::note(
            "display",
            why.to_string(),
            "without one, record or pipe: --output FILE or --output -",
        ),
    }
}

/// The sandbox of the threads that decode pictures from the network.
fn decoder() -> Finding {
    let found = jpeg::sandbox_status();
    let text = format!("sandboxed with {found}");
    match found {
        SandboxStatus { landlock: true, seccomp: true } => Finding::fine("decoder", text),
        _ => Finding::note(
            "decoder",
            text,
            "Linux has had both since 5.13, if they are built in; without them, receive pictures \
             only from people you trust",
        ),
    }
}

fn clock_source() -> Finding {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = fs::read_to_string(path).unwrap_or_default();
    match source.trim() {
        "" => Finding::fine("clock", "the system's".into()),
        slow @ ("hpet" | "acpi_pm" | "jiffies") => Finding::note(
            "clock",
            format!("{slow}, which is slow to read"),
            "boot with clocksource=tsc, if this machine has a stable TSC",
        ),
        source => Finding::fine("clock", source.to_owned()),
    }
}

const LOOPBACK_DATAGRAMS: usize = 20;

/// The most descriptors that one check opens at a time: the pipes to a child process.
const CHECK_DESCRIPTORS: usize = 8;
