//! One control connection: bytes in and out, messages in and out.

use std::time::{Duration, Instant};

use crate::net::{
    session::ConnId,
    wire::control::{ControlError, Message, PREFACE, parse_preface},
};

/// Frames the messages of one control connection and keeps it alive.
#[derive(Debug)]
pub(super) struct ControlChannel {
    conn: ConnId,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    preface_seen: bool,
    heard_since: Instant,
    last_heard: Instant,
    keep_alive_at: Instant,
}

impl ControlChannel {
    /// A channel over the fresh connection `conn`; its preface is ready to be written.
    pub(super) fn new(now: Instant, conn: ConnId) -> Self {
        Self {
            conn,
            inbox: Vec::new(),
            outbox: PREFACE.to_vec(),
            preface_seen: false,
            heard_since: now,
            last_heard: now,
            keep_alive_at: now + KEEP_ALIVE_INTERVAL,
        }
    }

    pub(super) fn conn(&self) -> ConnId {
        self.conn
    }

    /// When the peer began to speak, without a pause up to [`last_heard`](Self::last_heard).
    pub(super) fn heard_since(&self) -> Instant {
        self.heard_since
    }

    pub(super) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Takes bytes from the peer; read messages with [`next_message`](Self::next_message) until
    /// there is none, which keeps the inbox below one message.
    pub(super) fn handle_data(&mut self, now: Instant, bytes: &[u8]) {
        if now.saturating_duration_since(self.last_heard) > PAUSE {
            self.heard_since = now;
        }
        self.last_heard = now;
        self.inbox.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until more has come.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, ControlError> {
        if !self.preface_seen {
            let Some(len) = parse_preface(&self.inbox)? else { return Ok(None) };
            self.inbox.drain(..len);
            self.preface_seen = true;
        }
        let Some((message, len)) = Message::parse(&self.inbox)? else { return Ok(None) };
        self.inbox.drain(..len);
        Ok(Some(message))
    }

    pub(super) fn push(&mut self, message: &Message) {
        message.emit(&mut self.outbox);
    }

    /// Says that we are there, when nothing else has for a while.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.keep_alive_at <= now {
            self.keep_alive_at = now + KEEP_ALIVE_INTERVAL;
            self.push(&Message::KeepAlive);
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.keep_alive_at
    }

    /// What is to be written, if anything.
    pub(super) fn take_output(&mut self) -> Option<Vec<u8>> {
        (!self.outbox.is_empty()).then(|| std::mem::take(&mut self.outbox))
    }
}

/// Also how soon after two seconds of silence over UDP that is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// A silence that keep-alives should have filled.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wire::text::Line;

    #[test]
    fn messages_cross_byte_by_byte() {
        let now = crate::clock::now();
        let (mut a, mut b) =
            (ControlChannel::new(now, ConnId(1)), ControlChannel::new(now, ConnId(2)));
        let message = Message::Text(Line::new("hi").unwrap());
        a.push(&message);
        let mut got = Vec::new();
        for byte in a.take_output().unwrap() {
            b.handle_data(now, &[byte]);
            got.extend(b.next_message().unwrap());
        }
        assert_eq!(got, [message]);
        assert_eq!(a.take_output(), None);
    }

    #[test]
    fn silence_is_filled_with_keep_alives() {
        let now = crate::clock::now();
        let mut channel = ControlChannel::new(now, ConnId(1));
        channel.take_output();
        channel.handle_timeout(channel.poll_timeout());
        assert!(channel.poll_timeout() > now + KEEP_ALIVE_INTERVAL);
        assert_eq!(channel.take_output().unwrap().len(), 3);
    }

    #[test]
    fn a_pause_begins_a_new_run_of_speech() {
        let now = crate::clock::now();
        let mut channel = ControlChannel::new(now, ConnId(1));
        for (ms, since) in [(500, 0), (1000, 0), (1900, 0), (3000, 3000), (3500, 3000)] {
            channel.handle_data(now + Duration::from_millis(ms), b"");
            assert_eq!(channel.heard_since(), now + Duration::from_millis(since));
        }
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_bytes() {
        let now = crate::clock::now();
        let mut channel = ControlChannel::new(now, ConnId(1));
        channel.handle_data(now, b"SSH-2.0");
        assert_eq!(channel.next_message(), Err(ControlError::NotUdpchat));
    }
}
