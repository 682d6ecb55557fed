//! Lines typed in the terminal or piped in. A thread reads them; they are sent no faster than the
//! peer accepts them.

use std::{
    collections::VecDeque,
    io::{BufRead, IsTerminal, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::messages::Messages;
use crate::{app::terminal, net::wire::text::Line, threads::spawn};

/// Typed lines that are not sent yet.
#[derive(Debug)]
pub(crate) struct Typing {
    lines: Receiver<String>,
    /// Without a connection, lines from a terminal are discarded, and lines from a pipe wait.
    is_terminal: bool,
    unsent: VecDeque<Line>,
    pace: Pace,
    /// Lines discarded for want of a connection since the last report to the user. For a pipe, 1 if
    /// lines wait.
    discarded: u32,
    /// When that was last reported.
    reported_at: Option<Instant>,
}

impl Typing {
    /// Starts a thread that reads standard input, if `reads_stdin`; standard input may carry the
    /// video instead. The thread is never joined, since a read from a terminal cannot be cancelled.
    pub(crate) fn start(reads_stdin: bool, now: Instant, messages: &Messages) -> Result<Self> {
        let (sender, lines) = sync_channel(TYPED_BACKLOG);
        if reads_stdin {
            let messages = messages.clone();
            let reader = move || {
                let is_terminal = || std::io::stdin().is_terminal();
                read_lines(terminal::typed_input(), is_terminal, &sender, &messages);
            };
            spawn("typed", reader).context("cannot start the thread that reads standard input")?;
        }
        Ok(Self::new(lines, std::io::stdin().is_terminal(), now))
    }

    fn new(lines: Receiver<String>, is_terminal: bool, now: Instant) -> Self {
        let (unsent, pace) = (VecDeque::new(), Pace { busy_until: now });
        Self { lines, is_terminal, unsent, pace, discarded: 0, reported_at: None }
    }

    /// Sends typed lines, in parts that each fit a message. `answers` returns true if a line
    /// answers a question. `say` sends a part and returns false if it must be retried later.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        is_connected: bool,
        messages: &Messages,
        mut answers: impl FnMut(&str) -> bool,
        mut say: impl FnMut(Line) -> bool,
    ) {
        while self.pull(&mut answers) {
            if !is_connected {
                if !self.is_terminal {
                    self.discarded = 1;
                    break;
                }
                self.discarded += 1;
                self.unsent.clear();
            } else if self.pace.may_send(now) && self.unsent.front().is_some_and(|l| say(l.clone()))
            {
                self.unsent.pop_front();
                self.pace.note_sent(now);
            } else {
                break;
            }
        }
        self.report_discarded(now, is_connected, messages);
    }

    /// Whether a line is ready to send.
    fn pull(&mut self, answers: &mut impl FnMut(&str) -> bool) -> bool {
        while self.unsent.is_empty() {
            let Ok(text) = self.lines.try_recv() else { return false };
            if !answers(&text) {
                self.unsent.extend(Line::parts(&text));
            }
        }
        true
    }

    fn report_discarded(&mut self, now: Instant, is_connected: bool, messages: &Messages) {
        if is_connected {
            (self.discarded, self.reported_at) = (0, None);
        }
        let was_just_reported = match self.reported_at {
            Some(at) => !self.is_terminal || now.saturating_duration_since(at) < REPORT_INTERVAL,
            None => false,
        };
        if self.discarded == 0 || was_just_reported {
            return;
        }
        messages.info(&match (self.is_terminal, self.discarded) {
            (false, _) => "not connected: piped lines are sent once connected".to_owned(),
            (true, 1) => "not connected: line not sent".to_owned(),
            (true, count) => format!("not connected: {count} lines not sent"),
        });
        (self.discarded, self.reported_at) = (0, Some(now));
    }
}

/// Limits the rate to what the peer accepts.
#[derive(Debug)]
struct Pace {
    busy_until: Instant,
}

impl Pace {
    fn may_send(&self, now: Instant) -> bool {
        self.busy_until.saturating_duration_since(now) < SEND_BURST * SEND_INTERVAL
    }

    fn note_sent(&mut self, now: Instant) {
        self.busy_until = self.busy_until.max(now) + SEND_INTERVAL;
    }
}

/// Passes on the lines of `input` until it ends, and reports the end. Ctrl-D does not end a
/// terminal's input.
fn read_lines(
    mut input: impl BufRead,
    is_terminal: impl Fn() -> bool,
    lines: &SyncSender<String>,
    messages: &Messages,
) {
    let (mut piece, mut anything, mut is_reported) = (Vec::new(), false, false);
    loop {
        let room = MAX_PIECE_LEN - piece.len();
        let read = match input.by_ref().take(room as u64).read_until(b'\n', &mut piece) {
            Ok(read) => read,
            Err(error) => {
                return messages.info(&format!("cannot read standard input: {error}"));
            }
        };
        let is_whole = read < room || piece.ends_with(b"\n");
        let len = if is_whole { piece.len() } else { len_of_whole_words(&piece) };
        if len > 0 {
            anything = true;
            if is_terminal() && piece.len() > TERMINAL_LINE_LEN {
                messages.info(
                    "that line may be truncated: a terminal passes on at most 4095 bytes per line",
                );
            }
            let text = String::from_utf8_lossy(&piece[..len]).into_owned();
            piece.drain(..len);
            if lines.send(text).is_err() {
                return;
            }
        } else if is_terminal() {
            if !std::mem::replace(&mut is_reported, true) {
                messages.info("Ctrl-D is ignored; end the call with Ctrl-C");
            }
        } else {
            // The end of an input that never had a line is not reported.
            if anything {
                messages.info("standard input has ended: the call goes on without typed lines");
            }
            return;
        }
    }
}

/// How many bytes of `piece`, an incomplete line, to pass on now: its complete words, or its
/// complete characters if it is a single word.
fn len_of_whole_words(piece: &[u8]) -> usize {
    if let Some(at) = piece.iter().rposition(|byte| *byte == b' ') {
        return at + 1;
    }
    match std::str::from_utf8(piece) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => piece.len(),
    }
}

/// The longest piece of a line that is buffered, in bytes.
const MAX_PIECE_LEN: usize = 8192;

/// Linux's terminals discard everything after 4095 bytes of a line.
const TERMINAL_LINE_LEN: usize = 4095;

/// The maximum number of lines read ahead of sending. At this limit the reading thread blocks, and
/// the remaining lines stay in the terminal or pipe.
const TYPED_BACKLOG: usize = 16;

/// A peer accepts ten lines a second and a burst of twenty. Slightly less leaves room for jitter.
const SEND_INTERVAL: Duration = Duration::from_millis(125);
const SEND_BURST: u32 = 15;

/// The minimum time between two notices about lines that were not sent.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// The lines into which `input` is split.
    fn lines(input: &[u8]) -> Vec<String> {
        let (sender, receiver) = sync_channel(1000);
        read_lines(Cursor::new(input), || false, &sender, &Messages::new(true));
        drop(sender);
        receiver.iter().collect()
    }

    #[test]
    fn long_lines_are_split_at_words_without_loss() {
        assert_eq!(lines(b"one\ntwo"), ["one\n", "two"]);
        let long = "\u{fc}ber words ".repeat(5000);
        let pieces = lines(long.as_bytes());
        assert!(pieces.len() > 5 && pieces.iter().all(|piece| piece.ends_with(' ')));
        assert_eq!(pieces.concat(), long);
        let word = format!("x{}", "\u{fc}".repeat(20_000));
        assert_eq!(lines(word.as_bytes()).concat(), word);
    }

    /// A terminal with Ctrl-D pressed twice between two lines; it then fails.
    struct CtrlD(VecDeque<&'static [u8]>);

    impl Read for CtrlD {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let Some(next) = self.0.pop_front() else {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            };
            buf[..next.len()].copy_from_slice(next);
            Ok(next.len())
        }
    }

    #[test]
    fn reading_a_terminal_continues_after_ctrl_d() {
        let (sender, receiver) = sync_channel(10);
        let input = CtrlD([&b"one\n"[..], b"", b"", b"two\n"].into());
        let input = std::io::BufReader::new(input);
        read_lines(input, || true, &sender, &Messages::new(true));
        drop(sender);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), ["one\n", "two\n"]);
    }

    /// The lines that are sent at `now`.
    fn sent(typing: &mut Typing, now: Instant, is_connected: bool) -> Vec<String> {
        let mut sent = Vec::new();
        let say = |line: Line| {
            sent.push(line.as_str().to_owned());
            true
        };
        typing.poll(now, is_connected, &Messages::new(true), |_| false, say);
        sent
    }

    #[test]
    fn lines_are_sent_in_order_at_a_limited_rate() {
        let (sender, lines) = sync_channel(100);
        let mut now = crate::clock::now();
        let mut typing = Typing::new(lines, true, now);
        for number in 0..100 {
            sender.send(format!("line {number}\n")).unwrap();
        }
        let at_once = sent(&mut typing, now, true);
        assert_eq!(at_once.len(), SEND_BURST as usize);
        let mut all = at_once;
        for _ in 0..10 {
            now += Duration::from_secs(1);
            let second = sent(&mut typing, now, true);
            assert!(second.len() <= 8, "{second:?}");
            all.extend(second);
        }
        let expected: Vec<String> = (0..all.len()).map(|number| format!("line {number}")).collect();
        assert!(all.len() > 90);
        assert_eq!(all, expected);
    }

    #[test]
    fn a_line_that_cannot_be_sent_is_retried() {
        let (sender, lines) = sync_channel(1);
        let now = crate::clock::now();
        let mut typing = Typing::new(lines, true, now);
        sender.send("hi".into()).unwrap();
        typing.poll(now, true, &Messages::new(true), |_| false, |_| false);
        assert_eq!(sent(&mut typing, now, true), ["hi"]);
    }

    #[test]
    fn without_a_peer_piped_lines_wait_and_typed_ones_are_dropped() {
        let now = crate::clock::now();
        for is_terminal in [false, true] {
            let (sender, lines) = sync_channel(10);
            let mut typing = Typing::new(lines, is_terminal, now);
            sender.send("one".into()).unwrap();
            sender.send("two".into()).unwrap();
            assert!(sent(&mut typing, now, false).is_empty());
            assert_eq!(typing.reported_at, Some(now), "{is_terminal}");
            let later = sent(&mut typing, now, true);
            assert_eq!(later, if is_terminal { &[][..] } else { &["one", "two"] });
        }
    }

    #[test]
    fn answers_to_questions_are_not_sent_to_the_peer() {
        let (sender, lines) = sync_channel(2);
        let now = crate::clock::now();
        let mut typing = Typing::new(lines, true, now);
        sender.send("yes\n".into()).unwrap();
        sender.send("hello\n".into()).unwrap();
        let mut sent = Vec::new();
        let say = |line: Line| {
            sent.push(line.as_str().to_owned());
            true
        };
        typing.poll(now, true, &Messages::new(true), |text| text == "yes\n", say);
        assert_eq!(sent, ["hello"]);
    }
}
