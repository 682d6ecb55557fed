//! Files that somebody names: missing, full, endless, not to be overwritten, or no files at all.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use tempfile::TempDir;

use crate::program::{Outcome, Program, command, run, shared};

const RECV: [&str; 5] = ["recv", "--bind", "127.0.0.1:0", "--show", "none"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn fifo(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    path
}

fn count(outcome: &Outcome, part: &str) -> usize {
    outcome.stderr.lines().filter(|line| line.contains(part)).count()
}

/// Its configuration folder can be neither read nor made.
fn without_a_home(args: &[&str]) -> Program {
    let mut command = command(args);
    command.env("XDG_CONFIG_HOME", "/dev/null/config");
    Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))
}

#[test]
fn a_home_out_of_reach_matters_only_to_those_who_need_an_identity() {
    let _shared = shared();
    let folder = folder();
    let [key, identity, known] = ["key", "identity", "known"].map(|name| folder.path().join(name));
    let key = ["--no-control", "--key-file", text(&key), "--seconds", "0.2"];
    let send = ["send", "--to", "127.0.0.1:9", "--source", "pattern", "--size", "320x240"];
    for args in [[&RECV[..], &key].concat(), [&send[..], &key].concat()] {
        let outcome = without_a_home(&args).finish();
        assert!(!outcome.expect_success().stderr.contains("/dev/null"), "{}", outcome.stderr);
    }
    for args in [&RECV[..], &send, &["chat", "--show", "none", "--source", "pattern"]] {
        let parts = ["/dev/null/config", "--identity FILE", "--known-peers FILE"];
        without_a_home(args).finish().expect_failure(1, &parts);
    }
    let files = ["--identity", text(&identity), "--known-peers", text(&known), "--seconds", "0.2"];
    without_a_home(&[&RECV[..], &files].concat()).finish().expect_success();
}

#[test]
fn the_sender_is_called_as_the_system_calls_its_user() {
    let _shared = shared();
    let id = std::process::Command::new("id").arg("-un").output().expect("installed");
    let user = String::from_utf8(id.stdout).expect("text");
    let receiver = Program::start(&RECV);
    let to = format!("127.0.0.1:{}", receiver.port());
    let mut command = command(&["send", "--to", &to, "--source", "pattern", "--size", "320x240"]);
    for name in ["USER", "LOGNAME", "USERNAME"] {
        command.env_remove(name);
    }
    let _sender = Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()));
    receiver.wait_for(&format!("{}@", user.trim()));
}

#[test]
fn what_is_no_file_of_keys_is_refused_at_once() {
    let folder = folder();
    let fifo = fifo(&folder, "fifo");
    let huge = folder.path().join("huge");
    let file = fs::File::create(&huge).expect("created");
    file.set_len(1 << 40).expect("sparse");
    let here = text(folder.path());
    for option in ["--identity", "--known-peers", "--key-file"] {
        for (path, why) in
            [("/dev/zero", "not a regular file"), (here, "folder"), (text(&huge), "bytes long")]
        {
            run(&[&RECV[..], &[option, path]].concat()).expect_failure(1, &[path, why]);
        }
    }
    let fifo = text(&fifo);
    run(&[&RECV[..], &["--identity", fifo]].concat()).expect_failure(1, &[fifo, "no key"]);
    run(&[&RECV[..], &["--known-peers", fifo]].concat())
        .expect_failure(1, &[fifo, "not a regular"]);
}

#[test]
fn one_signal_ends_the_wait_for_a_key_from_a_pipe() {
    let _shared = shared();
    let folder = folder();
    let fifo = fifo(&folder, "fifo");
    // A writer that writes nothing.
    let _both = OpenOptions::new().read(true).write(true).open(&fifo).expect("opened");
    let receiver = Program::start(&[&RECV[..], &["--key-file", text(&fifo)]].concat());
    std::thread::park_timeout(Duration::from_millis(500));
    assert_eq!(receiver.said(), [""; 0]);
    receiver.signal(Signal::TERM);
    assert!(!receiver.finish().status.success());
}

#[test]
fn damaged_lines_of_the_known_peers_are_one_warning() {
    let _shared = shared();
    let folder = folder();
    let known = folder.path().join("known");
    let mut bytes = b"caller \xff\xfe\n".to_vec();
    bytes.extend(b"damaged\n".repeat(999_999));
    fs::write(&known, bytes).expect("written");
    let receiver = Program::start(&[&RECV[..], &["--known-peers", text(&known)]].concat());
    receiver.wait_for("1000000 lines are not understood, the first is line 1");
    let to = format!("127.0.0.1:{}", receiver.port());
    let _sender = Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "64x48"]);
    receiver.wait_for("streams 64x48");
    receiver.interrupt();
    let outcome = receiver.finish();
    assert_eq!(count(&outcome, "not understood"), 1, "{}", outcome.stderr);
}

#[test]
fn statistics_that_cannot_be_written_end_nothing() {
    let folder = folder();
    let fifo = fifo(&folder, "fifo");
    let demo = ["demo", "--size", "320x240", "--seconds", "3", "--show", "none", "--stats-json"];
    let outcome = run(&[&demo[..], &["/dev/full"]].concat());
    outcome.expect_success();
    assert_eq!(count(&outcome, "no more statistics are written to /dev/full"), 1);
    run(&[&demo[..], &[text(&fifo)]].concat()).expect_success();
    let stats = folder.path().join("stats");
    run(&[&demo[..], &[text(&stats)]].concat()).expect_success();
    let first = fs::read_to_string(&stats).expect("written").lines().count();
    run(&[&demo[..], &[text(&stats)]].concat()).expect_success();
    let both = fs::read_to_string(&stats).expect("written").lines().count();
    assert!(both > first && first > 0, "{first} lines, then {both}");
}
