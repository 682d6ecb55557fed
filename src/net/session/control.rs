//! One control connection: its handshake, then messages in and out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::{
    crypto::{
        handshake::{FIRST_LEN, Handshake, MIN_THIRD_LEN, Transport},
        keys::{Identity, PublicKey, SharedSecret},
    },
    session::ConnId,
    wire::control::{
        ControlError, Hello, Message, PREFACE, emit_framed, parse_framed, parse_preface,
    },
};

/// Performs the handshake over one connection, then frames and encrypts messages, and sends
/// keep-alives.
#[derive(Debug)]
pub(super) struct ControlChannel {
    conn: ConnId,
    inbox: Vec<u8>,
    /// Messages read by [`drop_keep_alives`](Self::drop_keep_alives), and their length in bytes.
    early: VecDeque<Heard>,
    early_len: usize,
    outbox: Vec<u8>,
    preface_seen: bool,
    stage: Stage,
    heard_since: Instant,
    last_heard: Instant,
    keep_alive_at: Instant,
}

/// The progress of the handshake.
#[derive(Debug)]
enum Stage {
    /// The dialler waits for the second message.
    Dialled(Box<Handshake>),
    /// The answerer has no handshake state yet.
    Silent,
    /// The answerer waits for the first message.
    Awaiting(Box<Handshake>),
    /// The answerer has sent the second message and waits for the third.
    Answered(Box<Handshake>),
    /// The dialler has received the second message and not sent its hello.
    Met(Box<Handshake>),
    /// The dialler has sent its hello and received nothing since.
    Introduced(Box<Transport>),
    /// The handshake is complete.
    Speaking(Box<Transport>),
    /// A message could not be handled; the channel is dead.
    Failed,
}

/// What was received over a control connection.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// The key of the answering side, which has not received ours.
    Key(PublicKey),
    /// A message; the first that an answerer receives is the caller's hello.
    Message(Message),
}

impl ControlChannel {
    /// The dialling side of the new connection `conn`. Both sides must have the same `secret`.
    pub(super) fn dialling(
        now: Instant,
        conn: ConnId,
        identity: &Identity,
        secret: Option<&SharedSecret>,
    ) -> Self {
        let mut handshake = Box::new(Handshake::dialler(identity, secret));
        let first = handshake.write(&[]);
        let mut channel = Self::new(now, conn, Stage::Dialled(handshake));
        emit_framed(&first, &mut channel.outbox);
        channel
    }

    /// The answering side. It does no expensive work until [`meet`](Self::meet).
    pub(super) fn answering(now: Instant, conn: ConnId) -> Self {
        Self::new(now, conn, Stage::Silent)
    }

    /// Starts the handshake with a dialler, unless it has begun.
    pub(super) fn meet(&mut self, identity: &Identity, secret: Option<&SharedSecret>) {
        if matches!(self.stage, Stage::Silent) {
            self.stage = Stage::Awaiting(Box::new(Handshake::answerer(identity, secret)));
        }
    }

    fn new(now: Instant, conn: ConnId, stage: Stage) -> Self {
        Self {
            conn,
            inbox: Vec::new(),
            early: VecDeque::new(),
            early_len: 0,
            outbox: PREFACE.to_vec(),
            preface_seen: false,
            stage,
            heard_since: now,
            last_heard: now,
            keep_alive_at: now + KEEP_ALIVE_INTERVAL,
        }
    }

    pub(super) fn conn(&self) -> ConnId {
        self.conn
    }

    /// The peer's key, once the handshake has proved it.
    pub(super) fn peer_key(&self) -> Option<PublicKey> {
        match &self.stage {
            Stage::Met(handshake) => handshake.peer(),
            Stage::Introduced(transport) | Stage::Speaking(transport) => Some(transport.peer()),
            _ => None,
        }
    }

    /// A value unique to this handshake, once it is complete.
    pub(super) fn handshake_hash(&self) -> Option<&[u8]> {
        match &self.stage {
            Stage::Introduced(transport) | Stage::Speaking(transport) => {
                Some(transport.handshake_hash())
            }
            _ => None,
        }
    }

    /// The start of the peer's activity without pauses up to [`last_heard`](Self::last_heard).
    pub(super) fn heard_since(&self) -> Instant {
        self.heard_since
    }

    pub(super) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Adds bytes received from the peer. Call [`poll_heard`](Self::poll_heard) until it returns
    /// nothing, which keeps the inbox below one message.
    pub(super) fn handle_data(&mut self, now: Instant, bytes: &[u8]) {
        if now.saturating_duration_since(self.last_heard) > PAUSE {
            self.heard_since = now;
        }
        self.last_heard = now;
        self.inbox.extend_from_slice(bytes);
    }

    /// Bytes received that have not been returned as messages.
    pub(super) fn unread(&self) -> usize {
        self.inbox.len() + self.early_len
    }

    /// Drops the keep-alives received; [`poll_heard`](Self::poll_heard) returns everything else
    /// later.
    pub(super) fn drop_keep_alives(&mut self) -> Result<(), ControlError> {
        let mut unread = self.inbox.len();
        while let Some(heard) = self.read()? {
            if heard != Heard::Message(Message::KeepAlive) {
                self.early_len += unread - self.inbox.len();
                self.early.push_back(heard);
            }
            unread = self.inbox.len();
        }
        Ok(())
    }

    /// Whether a complete message is ready, which takes some work to handle. Returns an error,
    /// without that work, if its length is not what an answerer expects.
    pub(super) fn has_work(&mut self) -> Result<bool, ControlError> {
        if !self.see_preface()? {
            return Ok(false);
        }
        let Some((message, _)) = parse_framed(&self.inbox)? else { return Ok(false) };
        let could_be = match &self.stage {
            Stage::Silent => message.len() == FIRST_LEN,
            Stage::Answered(_) => message.len() > MIN_THIRD_LEN,
            _ => true,
        };
        if could_be { Ok(true) } else { Err(ControlError::Malformed) }
    }

    /// Whether the next message shows if the dialler has the same code.
    pub(super) fn judges_code(&self) -> bool {
        matches!(self.stage, Stage::Answered(_))
    }

    /// The next item received; `None` if more bytes are needed, or after a dialler's first message.
    pub(super) fn poll_heard(&mut self) -> Result<Option<Heard>, ControlError> {
        let early = self.early.pop_front();
        if early.is_some() {
            return Ok(early);
        }
        self.early_len = 0;
        self.read()
    }

    fn read(&mut self) -> Result<Option<Heard>, ControlError> {
        if !self.see_preface()? {
            return Ok(None);
        }
        let Some((message, len)) = parse_framed(&self.inbox)? else { return Ok(None) };
        let stage = std::mem::replace(&mut self.stage, Stage::Failed);
        let (stage, heard) = stage.hear(message, &mut self.outbox)?;
        self.stage = stage;
        self.inbox.drain(..len);
        Ok(heard)
    }

    /// Whether the preface has been received and is correct.
    fn see_preface(&mut self) -> Result<bool, ControlError> {
        if !self.preface_seen {
            let Some(len) = parse_preface(&self.inbox)? else { return Ok(false) };
            self.inbox.drain(..len);
            self.preface_seen = true;
        }
        Ok(true)
    }

    /// Sends our hello to the answering side, whose key is known.
    pub(super) fn introduce(&mut self, hello: Hello) {
        let Stage::Met(mut handshake) = std::mem::replace(&mut self.stage, Stage::Failed) else {
            return;
        };
        let third = handshake.write(&Message::Hello(hello).to_bytes());
        emit_framed(&third, &mut self.outbox);
        if let Some(transport) = handshake.finish() {
            self.stage = Stage::Introduced(Box::new(transport));
        }
    }

    /// Queues `message`, if the handshake allows it.
    pub(super) fn push(&mut self, message: &Message) {
        if let Stage::Introduced(transport) | Stage::Speaking(transport) = &mut self.stage {
            emit_framed(&transport.write(&message.to_bytes()), &mut self.outbox);
        }
    }

    /// Sends a keep-alive when one is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.keep_alive_at <= now {
            self.keep_alive_at = now + KEEP_ALIVE_INTERVAL;
            self.push(&Message::KeepAlive);
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.keep_alive_at
    }

    /// The bytes to be written, if any.
    pub(super) fn take_output(&mut self) -> Option<Vec<u8>> {
        (!self.outbox.is_empty()).then(|| std::mem::take(&mut self.outbox))
    }
}

impl Stage {
    /// Handles a complete message. Returns the next stage and what was received.
    fn hear(
        self,
        message: &[u8],
        outbox: &mut Vec<u8>,
    ) -> Result<(Self, Option<Heard>), ControlError> {
        match self {
            Self::Dialled(handshake) => Self::meet_answerer(handshake, message),
            Self::Awaiting(mut handshake) => {
                handshake.read(message).map_err(|_| ControlError::Malformed)?;
                emit_framed(&handshake.write(&[]), outbox);
                Ok((Self::Answered(handshake), None))
            }
            Self::Answered(handshake) => Self::meet_dialler(handshake, message, outbox),
            // The refusal is not authenticated, so it is accepted only at this stage.
            Self::Introduced(_) if message.is_empty() => Err(ControlError::WrongCode),
            Self::Introduced(mut transport) | Self::Speaking(mut transport) => {
                let plain = transport.read(message).map_err(|_| ControlError::Forged)?;
                let message = Message::from_bytes(&plain)?;
                Ok((Self::Speaking(transport), Some(Heard::Message(message))))
            }
            Self::Silent | Self::Met(_) | Self::Failed => Err(ControlError::Malformed),
        }
    }

    fn meet_answerer(
        mut handshake: Box<Handshake>,
        message: &[u8],
    ) -> Result<(Self, Option<Heard>), ControlError> {
        handshake.read(message).map_err(|_| ControlError::Forged)?;
        let key = handshake.peer().ok_or(ControlError::Malformed)?;
        Ok((Self::Met(handshake), Some(Heard::Key(key))))
    }

    /// Handles the third message, which carries the hello and fails to open if the codes differ.
    fn meet_dialler(
        mut handshake: Box<Handshake>,
        message: &[u8],
        outbox: &mut Vec<u8>,
    ) -> Result<(Self, Option<Heard>), ControlError> {
        let Ok(payload) = handshake.read(message) else {
            emit_framed(&[], outbox);
            return Err(ControlError::WrongCode);
        };
        let transport = handshake.finish().ok_or(ControlError::Malformed)?;
        let hello = Message::from_bytes(&payload)?;
        Ok((Self::Speaking(Box::new(transport)), Some(Heard::Message(hello))))
    }
}

/// Also the resolution with which two seconds of silence over UDP are detected.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// A silence that keep-alives should have prevented.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        crypto::keys::KEY_LEN,
        wire::{
            control::{Epoch, Purpose, SecretPart},
            text::{Line, Name},
        },
    };

    fn hello() -> Hello {
        Hello {
            session: 7,
            name: Name::new("ann"),
            purpose: Purpose::Chat,
            stream: None,
            epoch: Epoch { boot: 0, monotonic_us: 0 },
            max_datagram_len: 1200,
            secret: SecretPart::from_bytes([1; 32]),
            has_aes: true,
        }
    }

    fn pair(ours: Option<u8>, theirs: Option<u8>) -> (ControlChannel, ControlChannel) {
        let now = crate::clock::now();
        let secret = |byte: Option<u8>| byte.map(|b| SharedSecret::from_bytes([b; KEY_LEN]));
        let identity = |byte| Identity::from_bytes([byte; KEY_LEN]);
        let (ours, theirs) = (secret(ours), secret(theirs));
        let mut answerer = ControlChannel::answering(now, ConnId(2));
        answerer.meet(&identity(2), theirs.as_ref());
        (ControlChannel::dialling(now, ConnId(1), &identity(1), ours.as_ref()), answerer)
    }

    fn cross(from: &mut ControlChannel, to: &mut ControlChannel) {
        let now = crate::clock::now();
        to.handle_data(now, &from.take_output().unwrap_or_default());
    }

    /// Both sides after the dialler has sent its hello, and what the answerer then receives.
    fn met(
        ours: Option<u8>,
        theirs: Option<u8>,
    ) -> (ControlChannel, ControlChannel, Result<Option<Heard>, ControlError>) {
        let (mut dialler, mut answerer) = pair(ours, theirs);
        cross(&mut dialler, &mut answerer);
        assert_eq!(answerer.poll_heard(), Ok(None));
        cross(&mut answerer, &mut dialler);
        let key = Identity::from_bytes([2; KEY_LEN]).public_key();
        assert_eq!(dialler.poll_heard(), Ok(Some(Heard::Key(key))));
        dialler.introduce(hello());
        cross(&mut dialler, &mut answerer);
        let heard = answerer.poll_heard();
        (dialler, answerer, heard)
    }

    #[test]
    fn two_sides_meet_and_then_speak_byte_by_byte() {
        let (mut dialler, mut answerer, heard) = met(None, None);
        assert_eq!(heard, Ok(Some(Heard::Message(Message::Hello(hello())))));
        assert_eq!(answerer.peer_key(), Some(Identity::from_bytes([1; KEY_LEN]).public_key()));
        assert!(dialler.handshake_hash().is_some());
        assert_eq!(dialler.handshake_hash(), answerer.handshake_hash());
        let message = Message::Text(Line::new("hi").unwrap());
        answerer.push(&message);
        let mut got = Vec::new();
        for byte in answerer.take_output().unwrap() {
            dialler.handle_data(crate::clock::now(), &[byte]);
            got.extend(dialler.poll_heard().unwrap());
        }
        assert_eq!(got, [Heard::Message(message)]);
    }

    #[test]
    fn another_code_is_refused_and_both_sides_know() {
        for (ours, theirs) in [(Some(1), Some(2)), (Some(1), None), (None, Some(1))] {
            let (mut dialler, mut answerer, heard) = met(ours, theirs);
            assert_eq!(heard, Err(ControlError::WrongCode));
            cross(&mut answerer, &mut dialler);
            assert_eq!(dialler.poll_heard(), Err(ControlError::WrongCode));
        }
        assert!(met(Some(1), Some(1)).2.is_ok());
    }

    #[test]
    fn a_refusal_is_believed_only_while_the_third_message_has_no_answer() {
        let refusal = |channel: &mut ControlChannel| {
            channel.handle_data(crate::clock::now(), &[0, 0]);
            channel.poll_heard()
        };
        let (mut dialler, mut answerer) = pair(None, None);
        cross(&mut dialler, &mut answerer);
        assert_eq!(answerer.poll_heard(), Ok(None));
        dialler.handle_data(crate::clock::now(), &PREFACE);
        assert_eq!(refusal(&mut dialler), Err(ControlError::Forged), "not met yet");
        let (mut dialler, mut answerer, _) = met(None, None);
        answerer.push(&Message::Ringing);
        cross(&mut answerer, &mut dialler);
        assert_eq!(dialler.poll_heard(), Ok(Some(Heard::Message(Message::Ringing))));
        assert_eq!(refusal(&mut dialler), Err(ControlError::Forged), "answered");
        assert_eq!(refusal(&mut answerer), Err(ControlError::Forged), "not a dialler");
    }

    #[test]
    fn what_cannot_be_a_message_of_the_meeting_takes_no_work() {
        let now = crate::clock::now();
        for said in
            [&b"GET / HTTP/1"[..], b"udpchat\x02\0\x01x", b"udpchat\x02\xff\xff", b"udpchat\x01"]
        {
            let mut channel = ControlChannel::answering(now, ConnId(1));
            channel.handle_data(now, said);
            assert!(channel.has_work().is_err(), "{said:?}");
        }
        let (mut dialler, _) = pair(None, None);
        let mut channel = ControlChannel::answering(now, ConnId(1));
        for byte in dialler.take_output().unwrap() {
            assert_eq!(channel.has_work(), Ok(false));
            channel.handle_data(now, &[byte]);
        }
        assert_eq!(channel.has_work(), Ok(true));
    }

    #[test]
    fn a_changed_message_ends_it() {
        let (mut dialler, mut answerer, _) = met(None, None);
        dialler.push(&Message::KeepAlive);
        let mut bytes = dialler.take_output().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        answerer.handle_data(crate::clock::now(), &bytes);
        assert_eq!(answerer.poll_heard(), Err(ControlError::Forged));
        assert!(answerer.poll_heard().is_err(), "for good");
    }

    #[test]
    fn nobody_speaks_before_the_dialler_has_introduced_itself() {
        let (mut dialler, mut answerer) = pair(None, None);
        dialler.push(&Message::KeepAlive);
        cross(&mut dialler, &mut answerer);
        assert_eq!(answerer.poll_heard(), Ok(None));
        cross(&mut answerer, &mut dialler);
        dialler.handle_data(crate::clock::now(), &[0, 1, 2]);
        assert!(matches!(dialler.poll_heard(), Ok(Some(Heard::Key(_)))));
        assert_eq!(dialler.poll_heard(), Err(ControlError::Malformed));
    }

    #[test]
    fn silence_is_filled_with_keep_alives() {
        let (mut channel, _, _) = met(None, None);
        let due = channel.poll_timeout();
        channel.take_output();
        channel.handle_timeout(due);
        assert!(channel.poll_timeout() > due);
        assert_eq!(channel.take_output().unwrap().len(), 2 + 1 + 16);
    }

    #[test]
    fn keep_alives_are_dropped_and_the_rest_is_heard_later_in_order() {
        let (mut dialler, mut answerer, _) = met(None, None);
        let text = |text: &str| Message::Text(Line::new(text).unwrap());
        for message in [Message::KeepAlive, text("one"), Message::KeepAlive, text("two")] {
            dialler.push(&message);
        }
        cross(&mut dialler, &mut answerer);
        answerer.drop_keep_alives().unwrap();
        assert_eq!(answerer.unread(), 2 * (2 + 1 + 4 + 16));
        dialler.push(&text("three"));
        cross(&mut dialler, &mut answerer);
        for said in ["one", "two", "three"] {
            assert_eq!(answerer.poll_heard(), Ok(Some(Heard::Message(text(said)))));
        }
        assert_eq!((answerer.poll_heard(), answerer.unread()), (Ok(None), 0));
    }

    #[test]
    fn a_pause_begins_a_new_run_of_speech() {
        let (mut channel, _) = pair(None, None);
        let now = channel.last_heard();
        for (ms, since) in [(500, 0), (1000, 0), (1900, 0), (3000, 3000), (3500, 3000)] {
            channel.handle_data(now + Duration::from_millis(ms), b"");
            assert_eq!(channel.heard_since(), now + Duration::from_millis(since));
        }
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_bytes() {
        let (_, mut channel) = pair(None, None);
        channel.handle_data(crate::clock::now(), b"SSH-2.0");
        assert_eq!(channel.poll_heard(), Err(ControlError::NotUdpchat));
    }
}
