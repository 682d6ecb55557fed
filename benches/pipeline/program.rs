//! The program under test, and its reports.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use crate::cases::{Case, QUALITY};

/// When the strips of a frame are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The program's default: pipelined, unless the receiver is on this machine.
    Auto,
    /// Each strip as soon as it is encoded.
    Pipelined,
    /// All strips when the last is encoded.
    Whole,
}

impl Mode {
    pub(crate) fn args(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &[],
            Self::Pipelined => &["--pipeline", "on"],
            Self::Whole => &["--pipeline", "off"],
        }
    }

    /// The name of a case in this mode.
    pub(crate) fn of(self, case: &str) -> String {
        match self {
            Self::Auto => case.to_owned(),
            Self::Pipelined => format!("{case}, pipelined"),
            Self::Whole => format!("{case}, not pipelined"),
        }
    }
}

/// The demo's report, as the README describes it.
pub(crate) struct Report(Value);

/// Runs the demo on the pattern to its end.
pub(crate) fn demo(case: Case, mode: Mode, fps: &str, seconds: &str) -> Report {
    let (size, quality) = (case.size.to_string(), QUALITY.to_string());
    let mut command = udpchat();
    command.args(["demo", "--quiet", "--json", "--show", "none", "--size", &size]);
    command.args(["--quality", &quality, "--fps", fps, "--seconds", seconds]).args(mode.args());
    let output = command.stderr(Stdio::inherit()).output().expect("the binary is built");
    assert!(output.status.success(), "the demo failed");
    Report(serde_json::from_slice(&output.stdout).expect("one JSON object"))
}

impl Report {
    /// A percentile of a stage's latency, ms.
    pub(crate) fn percentile(&self, stage: &str, percentile: &str) -> f64 {
        self.number(&format!("/latency_ms/{stage}/{percentile}"))
    }

    /// Processor time per frame of both sides, ms.
    pub(crate) fn cpu(&self) -> f64 {
        self.number("/cpu_ms_per_frame/sender") + self.number("/cpu_ms_per_frame/receiver")
    }

    pub(crate) fn shown_fps(&self) -> f64 {
        self.number("/shown_fps")
    }

    /// Time from the start of both sides until the first picture is shown, including connection
    /// setup, ms.
    pub(crate) fn first_picture(&self) -> f64 {
        self.number("/first_picture_ms")
    }

    fn number(&self, at: &str) -> f64 {
        self.0.pointer(at).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {at}: {}", self.0))
    }
}

/// A program that runs in the background. Killed on drop.
pub(crate) struct Running {
    child: Child,
    errors: BufReader<ChildStderr>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, errors }
    }

    /// Waits for a line on standard error that contains `part`.
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let lines = (&mut self.errors).lines().map_while(Result::ok);
        let found = lines.into_iter().find(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("'{part}' was not printed"))
    }

    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("piped, and taken once")
    }

    /// Waits for the program to end and returns its standard output.
    pub(crate) fn finish(mut self) -> String {
        let mut text = String::new();
        self.stdout().read_to_string(&mut text).expect("text");
        assert!(self.child.wait().expect("a child of ours").success(), "it failed");
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, isolated from the user's display and settings, with piped output.
pub(crate) fn udpchat() -> Command {
    let mut command = Command::new(BINARY);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("RUST_LOG");
    crate::machines::hermetic(&mut command);
    piped(&mut command);
    command
}

/// Gives the command an empty standard input, and pipes both outputs.
pub(crate) fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

const BINARY: &str = env!("CARGO_BIN_EXE_udpchat");
