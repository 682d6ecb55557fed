//! The program under `nohup`, as a background job of a shell, and without a terminal.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    people::free_port,
    program::{Program, WAIT_LIMIT, command, shared},
    trust::Home,
};

/// `sh -c script` with the program of `binary` as `$0`, its arguments as `$@` and its environment.
pub(crate) fn shell(script: &str, binary: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(binary.get_program()).args(binary.get_args());
    copy_environment(binary, &mut shell);
    shell.stdin(Stdio::null()).stdout(Stdio::piped());
    shell
}

fn copy_environment(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
}

/// Runs `script` in a shell on its own pseudo-terminal, created by script(1). Descriptor 3
/// is the standard error that [`Program`] reads.
pub(crate) fn at_a_terminal(script: &str, binary: &Command) -> Program {
    let inner = shell(script, binary);
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
        .collect();
    let mut outer = Command::new("sh");
    outer.args(["-c", "exec script -qec \"$1\" /dev/null 3>&2 >/dev/null", "sh", &words.join(" ")]);
    copy_environment(binary, &mut outer);
    outer.env("TERM", "dumb").env("SHELL", "/bin/sh");
    Program::spawn(outer.stdin(Stdio::piped()).stdout(Stdio::null()))
}

/// A process whose id a script has printed. Killed on drop.
pub(crate) struct Job(Pid);

impl Job {
    pub(crate) fn of(program: &Program) -> Self {
        let line = program.wait_for("job ");
        let id = line.rsplit(' ').next().expect("a word").trim().parse().expect("a number");
        Self(Pid::from_raw(id).expect("an id"))
    }

    /// The process state of proc(5); `T` means stopped by a signal.
    fn state(&self) -> char {
        let stat = format!("/proc/{}/stat", self.0.as_raw_nonzero());
        let stat = std::fs::read_to_string(stat).expect("it runs");
        let fields = stat.rsplit(')').next().expect("a state");
        fields.trim().chars().next().expect("a state")
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).expect("it runs");
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// A listening chat that accepts any caller.
fn waits_for_anybody() -> Program {
    // The peer's text goes to standard error, because standard output carries the statistics.
    let args = ["--bind", "127.0.0.1:0", "--accept", "any", "--stats-json", "-"];
    let args = [&["chat", "--show", "none", "--source", "pattern", "--size", "320x240"], &args[..]];
    Program::start(&args.concat())
}

const CALLS: [&str; 9] =
    ["chat", "--show", "none", "--source", "pattern", "--size", "320x240", "--name", "bob"];

#[test]
fn signals_ignored_at_startup_stay_ignored() {
    let _shared = shared();
    let receiver = ["recv", "--bind", "127.0.0.1:0", "--show", "none", "--stats"];
    let mut program =
        Program::spawn(&mut shell("trap '' HUP INT; exec \"$0\" \"$@\"", &command(&receiver)));
    program.wait_for("listening");
    program.signal(Signal::HUP);
    program.interrupt();
    let before = program.stderr_lines().len();
    while program.stderr_lines().len() < before + 3 {
        program.wait_for("shown ");
        std::thread::park_timeout(Duration::from_millis(50));
        assert!(program.is_running(), "{:?}", program.stderr_lines());
    }
    program.signal(Signal::TERM);
    program.finish().expect_success();
}

#[test]
fn sighup_ends_the_program_cleanly() {
    let _shared = shared();
    let receiver = Program::start(&["recv", "--bind", "127.0.0.1:0", "--show", "none"]);
    receiver.wait_for("listening");
    receiver.signal(Signal::HUP);
    receiver.finish().expect_success();
}

/// With `tostop`, the terminal also stops background jobs that only write to it.
#[test]
fn a_background_chat_keeps_running_and_reads_in_the_foreground() {
    let _shared = shared();
    let ann = waits_for_anybody();
    let to = format!("127.0.0.1:{}", ann.port());
    let script =
        "set -m; stty tostop; \"$0\" \"$@\" 2>&1 & echo job $! >&3; read x; fg %1 >/dev/null";
    let mut bob = at_a_terminal(script, &command(&[&CALLS[..], &[&to, "--stats"]].concat()));
    let job = Job::of(&bob);
    ann.wait_for("streams 320x240");
    let until = udpchat::clock::now() + Duration::from_secs(2);
    while udpchat::clock::now() < until {
        assert_ne!(job.state(), 'T', "stopped in the background");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let mut typed = bob.stdin();
    typed.write_all(b"\n").expect("typed to the shell");
    // Typed lines are lost until the shell has brought the chat to the foreground.
    let until = udpchat::clock::now() + WAIT_LIMIT;
    while !ann.stderr_lines().iter().any(|line| line.contains("bob: hello")) {
        assert!(udpchat::clock::now() < until, "no typed line has arrived");
        typed.write_all(b"hello\n").expect("typed to the chat");
        std::thread::park_timeout(Duration::from_millis(200));
    }
    job.signal(Signal::TERM);
    ann.wait_for("has left");
    ann.interrupt();
    ann.finish().expect_success();
}

/// An unfinished chat line must not become a shell command.
#[test]
fn unfinished_input_does_not_reach_the_shell_after_a_call() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let port = free_port().to_string();
    let to = format!("127.0.0.1:{port}");
    let script = "\"$0\" \"$@\" 2>&3; echo ended >&3; read x; echo \"the shell has $x\" >&3";
    let mut call = at_a_terminal(script, &bob.command(&[&CALLS[..], &[&to]].concat()));
    call.wait_for("waiting for 127.0.0.1");
    let mut typed = call.stdin();
    typed.write_all(b"anybody?\nrm -r").expect("typed to the chat");
    call.wait_for("line not sent");
    // Without a terminal, Ann's chat cannot ask whether to accept the call, so it refuses it.
    let args = ["chat", "--show", "none", "--source", "pattern", "--bind", &to];
    let _refuses = Program::spawn(ann.command(&args).stdin(Stdio::null()).stdout(Stdio::null()));
    call.wait_for("ended");
    typed.write_all(b" x\n").expect("typed to the shell");
    let line = call.wait_for("the shell has ");
    assert_eq!(line.trim(), "the shell has x");
}

#[test]
fn a_question_in_the_background_is_answered_in_the_foreground() {
    let _shared = shared();
    let (ann, bob) = (Home::new(), Home::new());
    let script = "set -m; \"$0\" \"$@\" 2>&3 & echo job $! >&3; read x; fg %1 >/dev/null";
    let args = ["chat", "--show", "none", "--source", "pattern", "--size", "320x240"];
    let args = [&args[..], &["--bind", "127.0.0.1:0"]].concat();
    let mut waits = at_a_terminal(script, &bob.command(&args));
    let job = Job::of(&waits);
    let call = ann.calls(waits.port(), &[]);
    waits.wait_for("see your camera. [y/N] (to answer, bring this job to the foreground: fg)");
    assert_ne!(job.state(), 'T', "stopped in the background");
    let mut typed = waits.stdin();
    typed.write_all(b"\n").expect("typed to the shell");
    let until = udpchat::clock::now() + WAIT_LIMIT;
    while !call.stderr_lines().iter().any(|line| line.contains("streams 320x240")) {
        assert!(udpchat::clock::now() < until, "{:?}", waits.stderr_lines());
        std::thread::park_timeout(Duration::from_millis(700));
        typed.write_all(b"yes\n").expect("typed to the chat");
    }
    call.interrupt();
    call.finish().expect_success();
}
