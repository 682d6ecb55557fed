//! A stream from one machine to another, and the statistics of both sides, one JSON line a second.

use std::{process::Stdio, time::Duration};

use serde_json::Value;

use crate::{machines::Machines, program::Program};

/// Both sides' statistics of a stream from machine 0 to machine 1.
pub(crate) struct Crossing {
    pub(crate) sender: Vec<Value>,
    pub(crate) receiver: Vec<Value>,
}

/// A running stream.
pub(crate) struct Running {
    receiver: Program,
    sender: Program,
    takes: Duration,
}

impl Running {
    /// Starts both sides on `port` and sends [`PATTERN`] for `seconds`. `options` are the sender's,
    /// `receiver` the receiver's.
    pub(crate) fn start(
        machines: &Machines,
        port: &str,
        seconds: u32,
        options: &[&str],
        receiver: &[&str],
    ) -> Self {
        let bind = format!("0.0.0.0:{port}");
        let args = ["recv", "--bind", &bind, "--show", "none", "--stats-json", "-"];
        let receiver = start(machines, 1, &[&args[..], receiver].concat());
        receiver.wait_for(&format!("listening on port {port}"));
        let takes = Duration::from_secs(seconds.into());
        let (to, seconds) = (format!("{}:{port}", machines.addresses[1]), seconds.to_string());
        let args = ["send", "--to", &to, "--seconds", &seconds, "--stats-json", "-"];
        let sender = start(machines, 0, &[&args[..], &PATTERN, options].concat());
        Self { receiver, sender, takes }
    }

    /// Stops the sender before its time is over, and then the receiver.
    pub(crate) fn stop(mut self) -> Crossing {
        self.sender.interrupt();
        self.takes = Duration::ZERO;
        self.finish()
    }

    /// Waits for the sender to end, then stops the receiver.
    pub(crate) fn finish(self) -> Crossing {
        let sender = self.sender.finish_after(self.takes);
        sender.expect_success();
        // 2.3 s more, for the last statistics. Without a control channel the receiver never learns
        // of the end, so there is no event to wait for.
        std::thread::park_timeout(Duration::from_millis(2300));
        self.receiver.interrupt();
        let receiver = self.receiver.finish();
        receiver.expect_success();
        Crossing { sender: lines(&sender.stdout), receiver: lines(&receiver.stdout) }
    }
}

impl Crossing {
    /// The loss ratio of datagrams to the receiver, and its standard deviation if each is lost
    /// independently with probability `loss`.
    pub(crate) fn lost(&self, loss: f64) -> (f64, f64) {
        let [received, lost] = ["received", "lost"].map(|n| last(&self.receiver, "datagrams", n));
        (lost / (received + lost), (loss * (1.0 - loss) / (received + lost)).sqrt())
    }

    /// The completed frames, and all frames known to the receiver, since line `from`.
    pub(crate) fn completed(&self, from: usize) -> (f64, f64) {
        let grown = |name: &str| since(&self.receiver, from, "receiver", name);
        let complete = grown("completed");
        (complete, complete + grown("incomplete") + grown("late"))
    }

    /// The pictures that the sender's source has made since line `from`.
    pub(crate) fn captured(&self, from: usize) -> f64 {
        since(&self.sender, from, "sender", "captured")
    }

    /// The mean length of a picture, in bytes.
    pub(crate) fn picture_len(&self) -> f64 {
        last(&self.sender, "bytes", "pictures_sent") / self.of_sender("sent")
    }

    /// Bytes sent per byte of picture, minus one, since line [`STEADY`]. Until the first reports
    /// arrive, a stream carries parity as if there were loss; how soon they arrive varies by
    /// machine.
    pub(crate) fn overhead(&self) -> f64 {
        let grown = |name: &str| since(&self.sender, STEADY, "bytes", name);
        grown("sent") / grown("pictures_sent") - 1.0
    }

    /// The median, over the seconds from line [`STEADY`] on, of the end-to-end p95, in ms; `None`
    /// if it was never measured.
    fn p95(&self) -> Option<f64> {
        let of = |line: &Value| line["receiver"]["latency_ms"]["end_to_end"]["p95"].as_f64();
        let mut seconds: Vec<f64> = self.receiver.iter().skip(STEADY).filter_map(of).collect();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied()
    }

    /// The p95 time that repaired frames waited for their repair, in ms; zero if there were none.
    pub(crate) fn repair_delay_p95(&self) -> f64 {
        let last = self.receiver.last().expect("a line a second");
        last["receiver"]["repair_ms"]["p95"].as_f64().unwrap_or(0.0)
    }

    pub(crate) fn of_receiver(&self, name: &str) -> f64 {
        last(&self.receiver, "receiver", name)
    }

    pub(crate) fn of_sender(&self, name: &str) -> f64 {
        last(&self.sender, "sender", name)
    }

    /// No frame may be damaged, whatever the link.
    #[track_caller]
    pub(crate) fn assert_undamaged(&self) {
        assert!(self.of_receiver("damaged") < 1.0, "{}", self.line("damaged"));
    }

    /// One line of a table.
    pub(crate) fn line(&self, name: &str) -> String {
        let ((complete, all), overhead) = (self.completed(0), self.overhead() * 100.0);
        let of = |name| self.of_receiver(name);
        let (parity, nack, asked) =
            (of("repaired_by_parity"), of("repaired_by_nack"), of("requests"));
        let (answered, p95) = (self.of_sender("answered"), self.p95().unwrap_or(f64::NAN));
        let repair_delay = self.repair_delay_p95();
        format!(
            "{name:<34} {complete:>5} of {all:>5} complete, overhead {overhead:>5.2} %, {parity:>5} by \
             parity, {nack:>4} after {asked:>4} requests, {answered:>4} answered, p95 {p95:.1} ms, \
             repair delay {repair_delay:.1}"
        )
    }
}

pub(crate) fn start(machines: &Machines, index: usize, args: &[&str]) -> Program {
    let mut command = machines.udpchat(index);
    Program::spawn(command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()))
}

pub(crate) fn lines(stdout: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn last(lines: &[Value], group: &str, name: &str) -> f64 {
    number(&lines.last().expect("a line a second")[group][name])
}

/// How much a counter has grown since line `from`, or since the last line if there are fewer.
fn since(lines: &[Value], from: usize, group: &str, name: &str) -> f64 {
    let from = &lines[from.min(lines.len().saturating_sub(1))];
    last(lines, group, name) - number(&from[group][name])
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// The first line (there is one a second) at which the overhead reflects the actual loss: parity
/// control looks back 2 s.
pub(crate) const STEADY: usize = 2;

const PATTERN: [&str; 4] = ["--source", "pattern", "--size", "1280x720"];
