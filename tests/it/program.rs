//! Runs the real binary as a user would.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use udpchat::clock;

/// A running udpchat whose standard error is collected line by line.
pub(crate) struct Program {
    child: Child,
    errors: Arc<Lines>,
    reader: Option<JoinHandle<()>>,
    output: Option<Output>,
}

/// The standard output so far, and the thread that collects it.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

/// The exit status and output of a program that has ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

#[derive(Default)]
struct Lines {
    /// The lines so far, and whether no more follow.
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

/// How long a test waits for the program.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// The binary with its arguments, isolated from the user's display, name and settings.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_udpchat"));
    command.args(args).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("RUST_LOG");
    command.env("USER", "test");
    crate::machines::hermetic(&mut command);
    command
}

/// Runs the program to its end with an empty standard input.
pub(crate) fn run(args: &[&str]) -> Outcome {
    let _shared = shared();
    Program::start(args).finish()
}

impl Program {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(command(args).stdin(Stdio::null()).stdout(Stdio::piped()))
    }

    /// Starts `command`. Collects its standard output if that is piped.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("udpchat starts");
        let errors = Arc::new(Lines::default());
        let (lines, stderr) = (Arc::clone(&errors), child.stderr.take().expect("piped"));
        let reader = std::thread::spawn(move || lines.follow(stderr));
        let output = child.stdout.take().map(Output::of);
        Self { child, errors, reader: Some(reader), output }
    }

    /// Takes the standard input, which must be piped.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input is piped")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard error that contains `part`, and returns it.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        self.wait_for_line(part, |line| line.contains(part))
    }

    /// Waits for a line on standard error for which `is_wanted` is true, and returns it.
    pub(crate) fn wait_for_line(&self, what: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        self.try_wait_for(is_wanted).unwrap_or_else(|| {
            panic!("'{what}' was not printed; the output was:\n{}", self.stderr_lines().join("\n"))
        })
    }

    /// Like [`wait_for_line`](Self::wait_for_line), but returns `None` if standard error ends
    /// without such a line, or after [`WAIT_LIMIT`].
    pub(crate) fn try_wait_for(&self, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.errors.wait_for(is_wanted)
    }

    /// Waits until the standard output, which must be piped, contains `part`.
    pub(crate) fn wait_for_output(&self, part: &str) {
        let output = self.output.as_ref().expect("standard output is piped");
        let until = clock::now() + WAIT_LIMIT;
        loop {
            // Asked first: after the end, nothing more is collected.
            let has_ended = output.reader.is_finished();
            let said = String::from_utf8_lossy(&output.bytes.lock().unwrap()).into_owned();
            if said.contains(part) {
                return;
            }
            let goes_on = !has_ended && clock::now() < until;
            assert!(goes_on, "'{part}' was not written; the output was:\n{said}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// The lines on standard error so far.
    pub(crate) fn stderr_lines(&self) -> Vec<String> {
        self.errors.lines.lock().unwrap().0.clone()
    }

    /// The port that the program reports to listen on.
    pub(crate) fn port(&self) -> u16 {
        let line = self.wait_for(" on port ");
        let digits: String = line
            .split(" on port ")
            .nth(1)
            .unwrap()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().expect("a port")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGKILL: the program ends without telling its peer.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.finish();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Stops the program until it gets SIGCONT. Returns once it has stopped.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let pid = Pid::from_child(&self.child);
        let changed = waitpid(Some(pid), WaitOptions::UNTRACED).expect("a child of ours");
        assert!(changed.is_some_and(|(_, status)| status.stopped()), "it has ended");
    }

    /// Waits for the program to end.
    pub(crate) fn finish(self) -> Outcome {
        self.finish_after(Duration::ZERO)
    }

    /// Waits for the end of a program that is expected to run for `time`.
    pub(crate) fn finish_after(mut self, time: Duration) -> Outcome {
        let until = clock::now() + time + WAIT_LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            if clock::now() >= until {
                let _ = self.child.kill();
                panic!("it did not end; standard error:\n{}", self.stderr_lines().join("\n"));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        };
        self.reader.take().unwrap().join().unwrap();
        let stdout = self.output.take().map_or_else(Vec::new, Output::finish);
        Outcome { status, stdout, stderr: self.stderr_lines().join("\n") }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn of(mut stdout: ChildStdout) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut part = vec![0; 1 << 16];
            while let Ok(len @ 1..) = stdout.read(&mut part) {
                collected.lock().unwrap().extend_from_slice(&part[..len]);
            }
        });
        Self { bytes, reader }
    }

    /// Waits for the end of the output, and returns all of it.
    fn finish(self) -> Vec<u8> {
        self.reader.join().unwrap();
        std::mem::take(&mut *self.bytes.lock().unwrap())
    }
}

impl Lines {
    fn follow(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            self.lines.lock().unwrap().0.push(line);
            self.more.notify_all();
        }
        self.lines.lock().unwrap().1 = true;
        self.more.notify_all();
    }

    fn wait_for(&self, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        let found = |lines: &(Vec<String>, bool)| lines.0.iter().position(|line| is_wanted(line));
        let lines = self.lines.lock().unwrap();
        let (lines, _) = self
            .more
            .wait_timeout_while(lines, WAIT_LIMIT, |l| found(l).is_none() && !l.1)
            .unwrap();
        found(&lines).map(|i| lines.0[i].clone())
    }
}

impl Outcome {
    /// Asserts that the program succeeded.
    pub(crate) fn expect_success(&self) -> &Self {
        assert!(self.status.success(), "{}", self.stderr);
        self
    }

    /// Asserts that the program failed with `code`, printed one line with the reason that contains
    /// each of `parts`, and did not crash.
    pub(crate) fn expect_failure(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{}", self.stderr);
        let said: Vec<&str> = self.stderr.lines().filter(|l| l.starts_with("udpchat: ")).collect();
        assert_eq!(said.len(), 1, "one line says why:\n{}", self.stderr);
        for part in parts {
            assert!(said[0].contains(part), "'{part}' in: {}", said[0]);
        }
        assert_eq!(said_twice(said[0]), None, "{}", said[0]);
        for crash in ["panicked", "RUST_BACKTRACE", "Error {", "terminate called"] {
            assert!(!self.stderr.contains(crash), "{}", self.stderr);
        }
    }
}

/// The part of an error, between colons, that the line contains twice: an error printed its cause
/// and the chain printed it again.
pub(crate) fn said_twice(line: &str) -> Option<&str> {
    let parts: Vec<&str> = line.split(": ").map(str::trim).collect();
    parts.iter().copied().find(|part| part.len() >= 8 && line.matches(part).count() > 1)
}

/// Writes `bytes` to a program's standard input and closes it. Ignores errors, as the program may
/// already have ended.
pub(crate) fn feed(mut stdin: ChildStdin, bytes: &[u8]) {
    let _ = stdin.write_all(bytes);
}

/// For a test that measures in real time: excludes all other tests that start programs.
pub(crate) fn alone() -> impl Drop {
    MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// For a test that starts programs but measures nothing.
pub(crate) fn shared() -> impl Drop {
    MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Repeats `run` until its result is enough, at most [`ATTEMPTS`] times, and returns the last one:
/// on a machine too busy for a stream, the newest frame replaces others, and answers come late. A
/// program that always falls short still fails.
pub(crate) fn unstarved<T>(is_enough: impl Fn(&T) -> bool, run: impl Fn() -> T) -> T {
    (1..ATTEMPTS).map(|_| run()).find(is_enough).unwrap_or_else(run)
}

/// How often a stream may be starved by a busy machine before that is a failure.
const ATTEMPTS: usize = 4;

/// Serializes tests that measure: with two cores, such a test needs both.
static MACHINE: std::sync::RwLock<()> = std::sync::RwLock::new(());
