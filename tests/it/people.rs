//! What users do: start programs in any order, kill them, chat.

use std::{
    io::Write,
    process::Stdio,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    program::{Program, command, shared},
    trust::Home,
};

fn listening(args: &[&str]) -> Program {
    Program::start(&[&["recv", "--bind", "127.0.0.1:0", "--show", "none"], args].concat())
}

fn pattern_to(port: u16) -> Program {
    let to = format!("127.0.0.1:{port}");
    Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "320x240", "--stats"])
}

/// A port that is free for UDP and TCP and lies outside the ephemeral range, which begins at 32768
/// on Linux. Processes with neighbouring ids begin 16 ports apart.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 512) as u16 * 16;
    let ports = std::iter::repeat_with(|| {
        20_000 + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 8192
    });
    let is_free = |&port: &u16| {
        let here = ("127.0.0.1", port);
        std::net::UdpSocket::bind(here).is_ok() && std::net::TcpListener::bind(here).is_ok()
    };
    ports.take(8192).find(is_free).expect("a free port")
}

#[test]
fn a_sender_waits_for_its_receiver_and_outlives_it() {
    let _shared = shared();
    let port = free_port();
    let sender = pattern_to(port);
    sender.wait_for("nothing is listening on port");
    let bind = format!("127.0.0.1:{port}");
    let args = ["recv", "--bind", &bind, "--show", "none", "--stats"];
    let receiver = Program::start(&args);
    receiver.wait_for("streams 320x240 at 30 frames/s");
    receiver.wait_for("shown ");
    receiver.kill();
    sender.wait_for("is gone");
    let receiver = Program::start(&args);
    receiver.wait_for("streams 320x240");
    receiver.interrupt();
    receiver.finish().expect_success();
    sender.wait_for("has left");
    sender.interrupt();
    sender.finish().expect_success();
}

#[test]
fn a_receiver_outlives_its_senders() {
    let _shared = shared();
    let receiver = listening(&["--stats"]);
    let sender = pattern_to(receiver.port());
    receiver.wait_for("streams 320x240");
    let second = pattern_to(receiver.port());
    second.wait_for("it is busy with");
    receiver.wait_for("refused");
    sender.kill();
    receiver.wait_for("is gone");
    let refusals = receiver.stderr_lines().iter().filter(|l| l.starts_with("refused")).count();
    assert_eq!(refusals, 1, "repeated refusals are reported once");
    second.wait_for("connected to");
    // Two signals at once, as `timeout` sends them, count as one.
    second.pause();
    second.interrupt();
    second.signal(Signal::TERM);
    second.signal(Signal::CONT);
    second.finish().expect_success();
    receiver.wait_for("has left");
}

#[test]
fn one_stream_reaches_two_receivers() {
    let _shared = shared();
    let (a, b) = (listening(&["--stats"]), listening(&["--stats"]));
    let (to_a, to_b) = (format!("127.0.0.1:{}", a.port()), format!("127.0.0.1:{}", b.port()));
    let _sender = Program::start(&[
        "send", "--to", &to_a, "--to", &to_b, "--source", "pattern", "--size", "320x240",
    ]);
    for receiver in [a, b] {
        receiver.wait_for("streams 320x240");
        receiver.wait_for("latency p50");
    }
}

#[test]
fn without_a_control_channel_frames_arrive_one_way() {
    let _shared = shared();
    let receiver = listening(&["--no-control", "--stats"]);
    let to = format!("127.0.0.1:{}", receiver.port());
    let args = ["send", "--to", &to, "--source", "pattern", "--size", "320x240", "--no-control"];
    let args = [&args[..], &["--stats"]].concat();
    let sender = Program::start(&args);
    receiver.wait_for("latency unknown");
    // No peer has answered, so the sender must not report one as streaming.
    assert!(
        !sender.stderr_lines().iter().any(|line| line.contains(" streams ")),
        "{:?}",
        sender.stderr_lines()
    );
    // The second sender must already be sending when the first is killed: a one-way session ends
    // after 2 s of silence.
    let again = Program::start(&args);
    let sends = |line: &str| line.starts_with("sent ") && !line.starts_with("sent 0.0 ");
    again.wait_for_line("sent more than 0.0 frames/s", sends);
    sender.kill();
    receiver.wait_for("another caller has taken its place");
    receiver.kill();
    if cfg!(target_os = "linux") {
        again.wait_for("waiting for 127.0.0.1: nothing is listening on port");
    }
}

/// `--netem` has the same effect on either side.
#[test]
fn netem_applies_on_either_side() {
    let _shared = shared();
    for (at_receiver, at_sender) in [("loss=20%", "loss=0%"), ("loss=0%", "loss=20%")] {
        let receiver = listening(&["--netem", at_receiver, "--stats"]);
        let to = format!("127.0.0.1:{}", receiver.port());
        let _sender = Program::start(&[
            "send", "--to", &to, "--source", "pattern", "--size", "320x240", "--netem", at_sender,
        ]);
        // The line contains, for example, "lost 20.31 % of datagrams".
        let is_fifth = |line: &str| {
            let loss = line.split("lost ").nth(1).and_then(|rest| rest.split(' ').next());
            loss.and_then(|loss| loss.parse().ok()).is_some_and(|loss| (10.0..30.0).contains(&loss))
        };
        receiver.wait_for_line("a loss of about 20 %", is_fifth);
    }
}

/// A receiver bound to an IPv6 address, and a sender that is given a host name.
#[test]
fn host_names_and_ipv6_addresses_work() {
    let _shared = shared();
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let receiver = Program::start(&["recv", "--bind", "[::1]:0", "--show", "none"]);
    let to = format!("[::1]:{}", receiver.port());
    let _sender = Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "64x48"]);
    receiver.wait_for("streams 64x48");
    let any = Program::start(&["recv", "--bind", ":0", "--show", "none"]);
    let to = format!("localhost:{}", any.port());
    let _sender = Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "64x48"]);
    any.wait_for("streams 64x48");
}

/// A chat whose standard input and output are pipes.
fn chat(args: &[&str]) -> Program {
    let args =
        [&["chat", "--source", "pattern", "--size", "320x240", "--show", "none"], args].concat();
    Program::spawn(command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()))
}

#[test]
fn a_chat_carries_text_both_ways_and_no_escape_sequences() {
    let _shared = shared();
    let mut ann = chat(&["--bind", "127.0.0.1:0", "--name", "ann\u{1b}[31m", "--stats"]);
    let to = format!("127.0.0.1:{}", ann.port());
    let mut bob = chat(&[&to, "--name", "bob", "--stats"]);
    bob.wait_for("ann[31m");
    ann.wait_for("bob");
    for chatter in [&ann, &bob] {
        chatter.wait_for("shown ");
    }
    let (mut to_bob, mut to_ann) = (ann.stdin(), bob.stdin());
    to_bob.write_all("Gr\u{fc}\u{df}e \u{1b}]0;title\u{7}\u{1b}[2J\n".as_bytes()).expect("it runs");
    to_ann.write_all(b"hello ann\n").expect("it runs");
    bob.wait_for_output("[2J\n");
    ann.wait_for_output("hello ann\n");
    bob.interrupt();
    ann.wait_for("has left");
    ann.interrupt();
    let (ann, bob) = (ann.finish(), bob.finish());
    assert_eq!(String::from_utf8_lossy(&ann.stdout), "bob: hello ann\n");
    assert_eq!(String::from_utf8_lossy(&bob.stdout), "ann[31m: Gr\u{fc}\u{df}e ]0;title[2J\n");
}

#[test]
fn piped_text_of_any_length_waits_for_the_peer() {
    let _shared = shared();
    let long = "L\u{e4}nge words ".repeat(1000);
    let lines: Vec<String> = (0..30).map(|number| format!("line {number}")).collect();
    let piped = format!("{}\n{}\nthe end\n", long.trim(), lines.join("\n"));
    let mut heard = heard_of(&piped, false);
    let short_lines = heard.split_off(heard.len().saturating_sub(lines.len() + 1));
    assert_eq!(heard.join(" "), long.trim());
    assert_eq!(short_lines, [&lines[..], &["the end".to_owned()]].concat());
}

#[test]
fn lines_that_arrive_together_after_a_stall_are_all_shown() {
    let _shared = shared();
    let lines: Vec<String> = (0..60).map(|number| format!("line {number}")).collect();
    let heard = heard_of(&format!("{}\nthe end\n", lines.join("\n")), true);
    assert_eq!(heard, [&lines[..], &["the end".to_owned()]].concat());
}

/// The lines that Bob hears if `piped`, which closes with "the end", is piped to Ann before he
/// calls. If he `pauses`, his program does not run while she sends most of it.
fn heard_of(piped: &str, pauses: bool) -> Vec<String> {
    let mut ann = chat(&["--bind", "127.0.0.1:0", "--name", "ann"]);
    let to = format!("127.0.0.1:{}", ann.port());
    let mut typed = ann.stdin();
    typed.write_all(piped.as_bytes()).expect("it runs");
    drop(typed);
    ann.wait_for("not connected");
    // With `--output -` the text goes to standard error.
    let bob = Program::spawn(
        command(&["chat", &to, "--source", "pattern", "--size", "64x48", "--show", "none"])
            .args(["--output", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    );
    if pauses {
        bob.wait_for("ann: ");
        bob.pause();
    }
    ann.wait_for("standard input has ended");
    if pauses {
        bob.signal(Signal::CONT);
    }
    bob.wait_for("ann: the end");
    let said = bob.stderr_lines();
    said.iter().filter_map(|line| line.strip_prefix("ann: ")).map(str::to_owned).collect()
}

#[test]
fn unsent_lines_are_reported_and_ctrl_d_does_not_end_typing() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let (mut waits, _job) = bob.waits_at_a_terminal();
    let port = waits.port();
    let mut typed = waits.stdin();
    typed.write_all(b"anybody?\n").expect("typed");
    waits.wait_for("not connected: line not sent");
    typed.write_all(&[4]).expect("typed");
    waits.wait_for("end the call with Ctrl-C");
    let call = ann.calls(port, &["--output", "-"]);
    waits.wait_for("Accept the call?");
    std::thread::park_timeout(Duration::from_millis(1100));
    typed.write_all(b"yes\n").expect("typed");
    waits.wait_for("streams 320x240");
    typed.write_all(b"hello again\n").expect("typed");
    call.wait_for(": hello again");
}

#[test]
fn a_receiver_and_a_chat_refuse_each_others_callers() {
    let _shared = shared();
    let receiver = listening(&[]);
    let to = format!("127.0.0.1:{}", receiver.port());
    chat(&[&to]).finish().expect_failure(1, &["udpchat send"]);
    let ann = chat(&["--bind", "127.0.0.1:0"]);
    let to = format!("127.0.0.1:{}", ann.port());
    let sender = Program::start(&["send", "--to", &to, "--source", "pattern"]);
    sender.finish().expect_failure(1, &["udpchat chat"]);
}

/// The keys of the README's table of statistics, each with the contents of the second column.
fn documented_statistics() -> Vec<(String, String)> {
    let readme = include_str!("../../README.md");
    let table = readme.split("### The statistics as JSON").nth(1).expect("a section");
    let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .filter_map(|row| {
            let (key, holds) = row.trim_matches('|').split_once('|')?;
            Some((key.trim().trim_matches('`').to_owned(), holds.to_owned()))
        })
        .collect()
}

#[test]
fn demo_statistics_have_exactly_the_documented_keys() {
    let args = ["demo", "--seconds", "5", "--size", "320x240", "--show", "none"];
    let netem = ["--netem", "loss=5%,corrupt=5%,seed=3", "--stats-json", "-"];
    let outcome = crate::program::run(&[&args[..], &netem].concat());
    outcome.expect_success();
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let last: serde_json::Value =
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let object = last.as_object().expect("an object");
    let promised = documented_statistics();
    assert!(promised.len() >= 6, "{promised:?}");
    for (key, holds) in &promised {
        let value = object.get(key).unwrap_or_else(|| panic!("no {key} in {text}"));
        let inner = |name: &str| value.get(name).is_some();
        let names: Vec<&str> = holds.split('`').skip(1).step_by(2).collect();
        for name in names.iter().filter(|name| !name.starts_with('-')) {
            assert!(inner(name), "no {key}.{name} in {text}");
        }
        for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
            assert!(names.contains(&name.as_str()), "{key}.{name} is not in the README");
        }
    }
    for key in object.keys() {
        assert!(promised.iter().any(|(promised, _)| promised == key), "{key} is not in the README");
    }
    let count = |pointer: &str| last.pointer(pointer).and_then(serde_json::Value::as_u64);
    assert!(count("/netem/lost") > Some(0), "{text}");
    // The seal detects most of the corruption. A datagram with a corrupt header may be rejected
    // earlier, for example as foreign or of an unknown session.
    assert!(count("/datagrams/damaged") > Some(0), "{text}");
    assert!(count("/sender/sent") > Some(10) && count("/bytes/pictures_sent") > Some(0), "{text}");
    assert!(count("/datagrams/sent") >= count("/datagrams/received"), "{text}");
}

#[test]
fn help_and_helper_verbs_print_their_text() {
    for (args, part) in [
        (&["--help"][..], "udpchat recv"),
        (&["send", "--help"], "at most 80"),
        (&["recv", "--help"], "--output -"),
        (&["chat", "--help"], "udpchat chat 192.168.1.20"),
        (&["demo", "--help"], "default: 10"),
        (&["completions", "bash"], "_udpchat"),
        (&["man"], ".TH"),
        (&["doctor"], "loopback"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let outcome = crate::program::run(args);
        outcome.expect_success();
        let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
        assert!(said.contains(part), "{args:?}: {said}");
    }
}
