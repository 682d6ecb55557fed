//! Admission: identities, pinned keys, codes, and confirmation by the user.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use crate::background::{Job, at_a_terminal};
use crate::people::free_port;
use crate::program::{Program, command, shared, unstarved};

/// A user's configuration directory.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("udpchat").join(name)
    }

    fn known(&self) -> String {
        fs::read_to_string(self.file("known_peers")).unwrap_or_default()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.env("XDG_CONFIG_HOME", self.0.path());
        command
    }

    fn start(&self, args: &[&str]) -> Program {
        Program::spawn(self.command(args).stdin(Stdio::null()).stdout(Stdio::piped()))
    }

    fn receiver(&self, args: &[&str]) -> Program {
        self.start(&[&["recv", "--bind", "127.0.0.1:0", "--show", "none"], args].concat())
    }

    fn waits_for_a_call(&self, args: &[&str]) -> Program {
        self.start(&[&WAITS[..], args].concat())
    }

    fn sends_to(&self, port: u16, args: &[&str]) -> Program {
        let to = format!("127.0.0.1:{port}");
        self.start(&[&["send", "--to", &to], &PATTERN[..], args].concat())
    }

    pub(crate) fn calls(&self, port: u16, args: &[&str]) -> Program {
        let host = format!("127.0.0.1:{port}");
        self.start(&[&["chat", &host, "--show", "none"], &PATTERN[..], args].concat())
    }

    /// A listening chat on a terminal. The [`Job`] kills it at the end of the test, because it may
    /// inherit an ignored SIGHUP and survive the terminal.
    pub(crate) fn waits_at_a_terminal(&self) -> (Program, Job) {
        let script = "echo job $$ >&3; exec \"$0\" \"$@\" 2>&3";
        let waits = at_a_terminal(script, &self.command(&WAITS));
        let job = Job::of(&waits);
        (waits, job)
    }
}

const PATTERN: [&str; 4] = ["--source", "pattern", "--size", "320x240"];

const WAITS: [&str; 9] =
    ["chat", "--bind", "127.0.0.1:0", "--show", "none", "--source", "pattern", "--size", "320x240"];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn stop(program: Program) {
    program.interrupt();
    program.finish().expect_success();
}

/// Asserts that nothing is shown of a stream without a control channel.
fn takes_nothing_unasked(receiver: Program, sender: &Home) {
    let unasked = sender.sends_to(receiver.port(), &["--no-control", "--seconds", "1"]);
    unasked.wait_for("NOT ENCRYPTED");
    unasked.finish().expect_success();
    assert!(
        !receiver.stderr_lines().iter().any(|l| l.contains("streams")),
        "{:?}",
        receiver.stderr_lines()
    );
    stop(receiver);
}

#[test]
fn an_identity_is_created_once_privately_and_shown_to_the_receiver() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let receiver = bob.receiver(&[]);
    receiver.wait_for("your fingerprint is ");
    let sender = ann.sends_to(receiver.port(), &[]);
    let own = sender.wait_for("your fingerprint is ");
    let fingerprint = own.split(' ').nth(3).expect("a word").trim_end_matches(',');
    receiver.wait_for(&format!("has the unknown fingerprint {fingerprint}"));
    receiver.wait_for("streams 320x240");
    stop(sender);
    assert_eq!(mode(&ann.file("identity")), 0o600);
    assert_eq!(mode(ann.file("identity").parent().expect("a folder")), 0o700);
    let again = ann.sends_to(receiver.port(), &[]);
    again.wait_for("connected to");
    assert!(
        !again.stderr_lines().iter().any(|line| line.contains("fingerprint")),
        "{:?}",
        again.stderr_lines()
    );
    stop(again);
    stop(receiver);
}

#[test]
fn an_identity_readable_by_others_is_refused() {
    let _shared = shared();
    let ann = Home::new();
    ann.sends_to(1, &["--seconds", "0.1"]).finish();
    fs::set_permissions(ann.file("identity"), fs::Permissions::from_mode(0o640)).expect("ours");
    ann.sends_to(1, &[]).finish().expect_failure(1, &["chmod 600", "identity"]);
}

#[test]
fn a_host_whose_key_changed_is_refused() {
    let _shared = shared();
    let (ann, bob, eve) = (Home::new(), Home::new(), Home::new());
    let port = free_port();
    let bind = format!("127.0.0.1:{port}");
    let receiver = bob.start(&["recv", "--bind", &bind, "--show", "none"]);
    receiver.wait_for("listening");
    let sender = ann.sends_to(port, &[]);
    sender.wait_for("has the fingerprint");
    sender.wait_for("connected to");
    stop(sender);
    stop(receiver);
    assert!(ann.known().starts_with(&format!("host 127.0.0.1:{port} ")), "{}", ann.known());
    let other = eve.start(&["recv", "--bind", &bind, "--show", "none"]);
    other.wait_for("listening");
    let known = ann.file("known_peers");
    let path = known.to_string_lossy();
    let parts =
        ["the key of 127.0.0.1:", " has changed", ", previously ", "delete line 1 of ", &path];
    ann.sends_to(port, &[]).finish().expect_failure(1, &parts);
    assert!(
        !other.stderr_lines().iter().any(|line| line.contains("streams")),
        "{:?}",
        other.stderr_lines()
    );
    fs::write(&known, "").expect("ours");
    let sender = ann.sends_to(port, &[]);
    sender.wait_for("connected to");
    stop(sender);
    stop(other);
}

#[test]
fn a_code_admits_only_callers_that_know_it() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let receiver = bob.receiver(&["--code"]);
    let line = receiver.wait_for("the code is ");
    let code =
        line.trim_start_matches("the code is ").split(':').next().expect("a word").to_owned();
    let port = receiver.port();
    let wrong = ann.sends_to(port, &["--code", "0000-0000-0000-0000"]).finish();
    wrong.expect_failure(1, &["the codes differ"]);
    receiver.wait_for("the codes differ");
    std::thread::park_timeout(std::time::Duration::from_millis(1100));
    ann.sends_to(port, &[]).finish().expect_failure(1, &["the codes differ"]);
    std::thread::park_timeout(std::time::Duration::from_millis(1100));
    let right = ann.sends_to(port, &["--code", &code.to_uppercase()]);
    receiver.wait_for("streams 320x240");
    stop(right);
    let by_environment = Program::spawn(
        ann.command(&["send", "--to", &format!("127.0.0.1:{port}"), "--source", "pattern"])
            .env("UDPCHAT_CODE", &code)
            .stdin(Stdio::null()),
    );
    by_environment.wait_for("connected to");
    stop(by_environment);
    stop(receiver);
    let nobody = ann.sends_to(port, &["--code"]).finish();
    nobody.expect_failure(2, &["UDPCHAT_CODE"]);
    ann.sends_to(port, &["--code", "short"]).finish().expect_failure(1, &["10 characters"]);
}

#[test]
fn a_chat_without_a_terminal_refuses_strangers() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let waits = bob.waits_for_a_call(&[]);
    let port = waits.port();
    ann.calls(port, &[]).finish().expect_failure(1, &["your key is not known there"]);
    let line = waits.wait_for("to let it in, add the line");
    let pin = line.split('`').nth(1).expect("the line").to_owned();
    fs::write(bob.file("known_peers"), pin).expect("ours");
    let call = ann.calls(port, &[]);
    call.wait_for("streams 320x240");
    waits.wait_for("known as \"test@");
    stop(call);
    stop(waits);
}

/// Ann calls Bob, who types "yes" as soon as he is asked.
struct AnsweredAtOnce {
    /// False if this machine was so busy that the answer arrived more than a second later.
    was_too_soon: bool,
    job: Job,
    waits: Program,
    typed: ChildStdin,
    call: Program,
    ann: Home,
    bob: Home,
}

impl AnsweredAtOnce {
    fn new() -> Self {
        let (ann, bob) = (Home::new(), Home::new());
        let (mut waits, job) = bob.waits_at_a_terminal();
        let mut typed = waits.stdin();
        let call = ann.calls(waits.port(), &[]);
        waits.wait_for("Accept the call?");
        typed.write_all(b"yes\n").expect("typed");
        let is_refused = |line: &str| line.contains("typed too soon");
        let effect = waits.wait_for_line("the effect of the answer", |line| {
            is_refused(line) || line.contains("streams 320x240")
        });
        Self { was_too_soon: is_refused(&effect), job, waits, typed, call, ann, bob }
    }
}

#[test]
fn a_chat_is_accepted_when_the_user_confirms() {
    let _shared = shared();
    let answered =
        unstarved(|answered: &AnsweredAtOnce| answered.was_too_soon, AnsweredAtOnce::new);
    assert!(answered.was_too_soon, "{:?}", answered.waits.stderr_lines());
    let AnsweredAtOnce { waits, job: _job, mut typed, call, ann, bob, .. } = answered;
    let port = waits.port();
    call.wait_for("waiting for the call to be accepted");
    let reading = std::time::Duration::from_millis(1100);
    std::thread::park_timeout(reading);
    typed.write_all(b"hello?\n").expect("typed");
    waits.wait_for("yes or no?");
    typed.write_all(b"n\n").expect("typed");
    call.finish().expect_failure(1, &["the call was not accepted"]);
    let call = ann.calls(port, &[]);
    // Waits for the second question, not for the first one again.
    let until = udpchat::clock::now() + crate::program::WAIT_LIMIT;
    while waits.stderr_lines().iter().filter(|line| line.contains("Accept the call?")).count() < 2 {
        assert!(udpchat::clock::now() < until, "{:?}", waits.stderr_lines());
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    std::thread::park_timeout(reading);
    typed.write_all(b"yes\n").expect("typed");
    call.wait_for("streams 320x240");
    waits.wait_for("streams 320x240");
    assert!(bob.known().starts_with("caller "), "{}", bob.known());
    stop(call);
    let call = ann.calls(port, &[]);
    waits.wait_for("known as \"test@");
    call.wait_for("streams 320x240");
    stop(call);
}

#[test]
fn a_host_once_called_is_not_admitted_as_a_caller() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let waits = ann.waits_for_a_call(&["--accept", "any"]);
    let call = bob.calls(waits.port(), &[]);
    call.wait_for("streams 320x240");
    stop(call);
    stop(waits);
    assert!(bob.known().starts_with("host 127.0.0.1:"), "{}", bob.known());
    for accept in [&[][..], &["--accept", "known"]] {
        let waits = bob.waits_for_a_call(accept);
        let refused = ann.calls(waits.port(), &[]).finish();
        refused.expect_failure(1, &["your key is not known there"]);
        stop(waits);
    }
}

#[test]
fn a_peer_with_a_wrong_code_is_not_pinned() {
    let _shared = shared();
    let (ann, eve) = (Home::new(), Home::new());
    let receiver = eve.receiver(&["--code", "something else altogether"]);
    let sender = ann.sends_to(receiver.port(), &["--code", "correct horse battery"]);
    sender.finish().expect_failure(1, &["the codes differ"]);
    assert_eq!(ann.known(), "");
    stop(receiver);
}

#[test]
fn a_code_blocks_one_way_streams() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let receiver = bob.receiver(&["--code", "correct horse battery", "--accept", "any"]);
    takes_nothing_unasked(receiver, &ann);
}

#[test]
fn a_receiver_may_admit_only_known_peers() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let receiver = bob.receiver(&["--accept", "known"]);
    let port = receiver.port();
    ann.sends_to(port, &[]).finish().expect_failure(1, &["your key is not known there"]);
    receiver.wait_for("add the line");
    takes_nothing_unasked(receiver, &ann);
}

#[test]
fn a_key_file_seals_one_way_streams() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let key = ann.0.path().join("key");
    let key = key.to_string_lossy();
    let with_key = ["--key-file", &*key];
    let receiver = bob.receiver(&with_key);
    receiver.wait_for("created ");
    assert_eq!(mode(Path::new(&*key)), 0o600);
    let port = receiver.port();
    let sender = ann.sends_to(port, &["--no-control", "--key-file", &key]);
    receiver.wait_for("encrypted with the shared key");
    sender.wait_for("encrypted with the shared key");
    stop(sender);
    receiver.wait_for("timed out");
    let clear = ann.sends_to(port, &["--no-control"]);
    receiver.wait_for("streams in the clear, but we have a key");
    stop(clear);
    stop(receiver);
    let plain = bob.receiver(&[]);
    let sender = ann.sends_to(plain.port(), &["--no-control", "--key-file", &key]);
    plain.wait_for("a key that we do not have");
    stop(sender);
    stop(plain);
}
