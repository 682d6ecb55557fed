//! One control connection: its handshake, then messages in and out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use crate::net::{
    crypto::{
        handshake::{FIRST_LEN, Handshake, MIN_THIRD_LEN, Transport},
        keys::{Identity, PublicKey, SharedSecret},
    },
    session::ConnId,
    wire::control::{
        ControlError, Hello, MediaOffer, Message, PREFACE, emit_framed, parse_framed, parse_preface,
    },
};

/// Performs the handshake over one connection, then frames and encrypts messages, and sends
/// keep-alives.
#[derive(Debug)]
pub(super) struct ControlChannel {
    conn: ConnId,
    inbox: Vec<u8>,
    /// Messages read by [`drop_keep_alives`](Self::drop_keep_alives), and their length in bytes.
    early: VecDeque<Received>,
    early_len: usize,
    outbox: Vec<u8>,
    preface_seen: bool,
    state: HandshakeState,
    receiving_since: Instant,
    last_received: Instant,
    keep_alive_at: Instant,
}

/// The progress of the handshake.
#[derive(Debug)]
enum HandshakeState {
    /// The dialler waits for the second message.
    Dialled(Box<Handshake>),
    /// The answerer has no handshake state yet.
    Silent,
    /// The answerer waits for the first message, and answers it with its serialized offer.
    Awaiting(Box<Handshake>, Zeroizing<Vec<u8>>),
    /// The answerer has sent the second message and waits for the third.
    Answered(Box<Handshake>),
    /// The dialler has received the second message and not sent its hello.
    KeyKnown(Box<Handshake>),
    /// The dialler has sent its hello and received nothing since.
    HelloSent(Box<Transport>),
    /// The handshake is complete.
    Established(Box<Transport>),
    /// A message could not be handled; the channel is dead.
    Failed,
}

/// What was received over a control connection.
#[derive(Debug, PartialEq)]
pub(super) enum Received {
    /// The key of the answering side, which has not received ours, and its offer.
    Key(PublicKey, MediaOffer),
    /// A message; the first that an answerer receives is the caller's hello.
    Message(Message),
}

impl ControlChannel {
    /// The dialling side of the new connection `conn`. Both sides must have the same `secret`.
    pub(super) fn dial(
        now: Instant,
        conn: ConnId,
        identity: &Identity,
        secret: Option<&SharedSecret>,
    ) -> Self {
        let mut handshake = Box::new(Handshake::dialler(identity, secret));
        let first = handshake.write(&[]);
        let mut channel = Self::new(now, conn, HandshakeState::Dialled(handshake));
        emit_framed(&first, &mut channel.outbox);
        channel
    }

    /// The answering side. It does no expensive work until
    /// [`start_handshake`](Self::start_handshake).
    pub(super) fn accept(now: Instant, conn: ConnId) -> Self {
        Self::new(now, conn, HandshakeState::Silent)
    }

    /// Starts the handshake with a dialler, unless it has begun.
    pub(super) fn start_handshake(
        &mut self,
        identity: &Identity,
        secret: Option<&SharedSecret>,
        offer: &MediaOffer,
    ) {
        if matches!(self.state, HandshakeState::Silent) {
            let handshake = Box::new(Handshake::answerer(identity, secret));
            self.state = HandshakeState::Awaiting(handshake, offer.to_bytes());
        }
    }

    fn new(now: Instant, conn: ConnId, state: HandshakeState) -> Self {
        Self {
            conn,
            inbox: Vec::new(),
            early: VecDeque::new(),
            early_len: 0,
            outbox: PREFACE.to_vec(),
            preface_seen: false,
            state,
            receiving_since: now,
            last_received: now,
            keep_alive_at: now + KEEP_ALIVE_INTERVAL,
        }
    }

    pub(super) fn conn(&self) -> ConnId {
        self.conn
    }

    /// The peer's key, once the handshake has proved it.
    pub(super) fn peer_key(&self) -> Option<PublicKey> {
        match &self.state {
            HandshakeState::KeyKnown(handshake) => handshake.peer(),
            HandshakeState::HelloSent(transport) | HandshakeState::Established(transport) => {
                Some(transport.peer())
            }
            _ => None,
        }
    }

    /// A value unique to this handshake, once it is complete.
    pub(super) fn handshake_hash(&self) -> Option<&[u8]> {
        match &self.state {
            HandshakeState::HelloSent(transport) | HandshakeState::Established(transport) => {
                Some(transport.handshake_hash())
            }
            _ => None,
        }
    }

    /// The start of the latest run of received data, in which no pause exceeds one second. The run
    /// ends at [`last_received`](Self::last_received).
    pub(super) fn receiving_since(&self) -> Instant {
        self.receiving_since
    }

    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    /// Adds bytes received from the peer. Then call [`poll_received`](Self::poll_received) until it
    /// returns `None`, so that the inbox holds less than one message.
    pub(super) fn handle_data(&mut self, now: Instant, bytes: &[u8]) {
        if now.saturating_duration_since(self.last_received) > PAUSE {
            self.receiving_since = now;
        }
        self.last_received = now;
        self.inbox.extend_from_slice(bytes);
    }

    /// Bytes received that have not been returned as messages.
    pub(super) fn unread(&self) -> usize {
        self.inbox.len() + self.early_len
    }

    /// Drops the keep-alives received. [`poll_received`](Self::poll_received) returns everything
    /// else later.
    pub(super) fn drop_keep_alives(&mut self) -> Result<(), ControlError> {
        let mut unread = self.inbox.len();
        while let Some(received) = self.read()? {
            if received != Received::Message(Message::KeepAlive) {
                self.early_len += unread - self.inbox.len();
                self.early.push_back(received);
            }
            unread = self.inbox.len();
        }
        Ok(())
    }

    /// Whether a complete message is ready. Handling it may need costly cryptography, so an
    /// answerer rejects a handshake message of the wrong length here.
    pub(super) fn has_message(&mut self) -> Result<bool, ControlError> {
        if !self.check_preface()? {
            return Ok(false);
        }
        let Some((message, _)) = parse_framed(&self.inbox)? else { return Ok(false) };
        let could_be = match &self.state {
            HandshakeState::Silent => message.len() == FIRST_LEN,
            HandshakeState::Answered(_) => message.len() > MIN_THIRD_LEN,
            _ => true,
        };
        if could_be { Ok(true) } else { Err(ControlError::Malformed) }
    }

    /// Whether the next message shows whether the dialler has the same code.
    pub(super) fn verifies_code(&self) -> bool {
        matches!(self.state, HandshakeState::Answered(_))
    }

    /// The next item received; `None` if more bytes are needed, or after a dialler's first message.
    pub(super) fn poll_received(&mut self) -> Result<Option<Received>, ControlError> {
        let early = self.early.pop_front();
        if early.is_some() {
            return Ok(early);
        }
        self.early_len = 0;
        self.read()
    }

    fn read(&mut self) -> Result<Option<Received>, ControlError> {
        if !self.check_preface()? {
            return Ok(None);
        }
        let Some((message, len)) = parse_framed(&self.inbox)? else { return Ok(None) };
        let state = std::mem::replace(&mut self.state, HandshakeState::Failed);
        let (state, received) = state.handle_message(message, &mut self.outbox)?;
        self.state = state;
        self.inbox.drain(..len);
        Ok(received)
    }

    /// Whether the preface has been received and is correct.
    fn check_preface(&mut self) -> Result<bool, ControlError> {
        if !self.preface_seen {
            let Some(len) = parse_preface(&self.inbox)? else { return Ok(false) };
            self.inbox.drain(..len);
            self.preface_seen = true;
        }
        Ok(true)
    }

    /// Sends our hello to the answering side, whose key is known. In any other state the channel
    /// fails, or stays failed.
    pub(super) fn send_hello(&mut self, hello: Hello) {
        let HandshakeState::KeyKnown(mut handshake) =
            std::mem::replace(&mut self.state, HandshakeState::Failed)
        else {
            return;
        };
        let third = handshake.write(&Message::Hello(hello).to_bytes());
        emit_framed(&third, &mut self.outbox);
        if let Some(transport) = handshake.finish() {
            self.state = HandshakeState::HelloSent(Box::new(transport));
        }
    }

    /// Queues `message`. Drops it if the handshake has not yet produced the keys to send it.
    pub(super) fn push(&mut self, message: &Message) {
        if let HandshakeState::HelloSent(transport) | HandshakeState::Established(transport) =
            &mut self.state
        {
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

impl HandshakeState {
    /// Handles a complete message. Returns the next state and what was received.
    fn handle_message(
        self,
        message: &[u8],
        outbox: &mut Vec<u8>,
    ) -> Result<(Self, Option<Received>), ControlError> {
        match self {
            Self::Dialled(handshake) => Self::read_answer(handshake, message),
            Self::Awaiting(mut handshake, offer) => {
                handshake.read(message).map_err(|_| ControlError::Malformed)?;
                emit_framed(&handshake.write(&offer), outbox);
                Ok((Self::Answered(handshake), None))
            }
            Self::Answered(handshake) => Self::read_third(handshake, message, outbox),
            // An empty message is the answerer's refusal of our code. It is not authenticated, so
            // it is accepted only in this state.
            Self::HelloSent(_) if message.is_empty() => Err(ControlError::WrongCode),
            Self::HelloSent(mut transport) | Self::Established(mut transport) => {
                let plain = transport.read(message).map_err(|_| ControlError::Forged)?;
                let message = Message::from_bytes(&plain)?;
                Ok((Self::Established(transport), Some(Received::Message(message))))
            }
            Self::Silent | Self::KeyKnown(_) | Self::Failed => Err(ControlError::Malformed),
        }
    }

    fn read_answer(
        mut handshake: Box<Handshake>,
        message: &[u8],
    ) -> Result<(Self, Option<Received>), ControlError> {
        let payload = handshake.read(message).map_err(|_| ControlError::Forged)?;
        let key = handshake.peer().ok_or(ControlError::Malformed)?;
        let offer = MediaOffer::from_bytes(&payload)?;
        Ok((Self::KeyKnown(handshake), Some(Received::Key(key, offer))))
    }

    /// Handles the third message, which carries the hello and fails to open if the codes differ.
    fn read_third(
        mut handshake: Box<Handshake>,
        message: &[u8],
        outbox: &mut Vec<u8>,
    ) -> Result<(Self, Option<Received>), ControlError> {
        let Ok(payload) = handshake.read(message) else {
            emit_framed(&[], outbox);
            return Err(ControlError::WrongCode);
        };
        let transport = handshake.finish().ok_or(ControlError::Malformed)?;
        let hello = Message::from_bytes(&payload)?;
        Ok((Self::Established(Box::new(transport)), Some(Received::Message(hello))))
    }
}

/// The interval between keep-alives. It also bounds the delay with which two seconds of silence
/// over UDP are detected, since that needs a control message received after them.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// A silence that keep-alives should have prevented.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        crypto::keys::KEY_LEN,
        wire::{
            control::{Cipher, Epoch, Purpose, SecretPart},
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
            cipher: Cipher::ChaCha20Poly1305,
        }
    }

    fn offer() -> MediaOffer {
        let secret = SecretPart::from_bytes([2; 32]);
        MediaOffer { max_datagram_len: 1200, secret, has_aes: true }
    }

    fn pair(ours: Option<u8>, theirs: Option<u8>) -> (ControlChannel, ControlChannel) {
        let now = crate::clock::now();
        let secret = |byte: Option<u8>| byte.map(|b| SharedSecret::from_bytes([b; KEY_LEN]));
        let identity = |byte| Identity::from_bytes([byte; KEY_LEN]);
        let (ours, theirs) = (secret(ours), secret(theirs));
        let mut answerer = ControlChannel::accept(now, ConnId(2));
        answerer.start_handshake(&identity(2), theirs.as_ref(), &offer());
        (ControlChannel::dial(now, ConnId(1), &identity(1), ours.as_ref()), answerer)
    }

    fn cross(from: &mut ControlChannel, to: &mut ControlChannel) {
        let now = crate::clock::now();
        to.handle_data(now, &from.take_output().unwrap_or_default());
    }

    /// Both sides after the dialler has sent its hello, and what the answerer then receives.
    fn met(
        ours: Option<u8>,
        theirs: Option<u8>,
    ) -> (ControlChannel, ControlChannel, Result<Option<Received>, ControlError>) {
        let (mut dialler, mut answerer) = pair(ours, theirs);
        cross(&mut dialler, &mut answerer);
        assert_eq!(answerer.poll_received(), Ok(None));
        cross(&mut answerer, &mut dialler);
        let key = Identity::from_bytes([2; KEY_LEN]).public_key();
        assert_eq!(dialler.poll_received(), Ok(Some(Received::Key(key, offer()))));
        dialler.send_hello(hello());
        cross(&mut dialler, &mut answerer);
        let received = answerer.poll_received();
        (dialler, answerer, received)
    }

    #[test]
    fn messages_arriving_byte_by_byte_are_received_after_the_handshake() {
        let (mut dialler, mut answerer, received) = met(None, None);
        assert_eq!(received, Ok(Some(Received::Message(Message::Hello(hello())))));
        assert_eq!(answerer.peer_key(), Some(Identity::from_bytes([1; KEY_LEN]).public_key()));
        assert!(dialler.handshake_hash().is_some());
        assert_eq!(dialler.handshake_hash(), answerer.handshake_hash());
        let message = Message::Text(Line::new("hi").unwrap());
        answerer.push(&message);
        let mut got = Vec::new();
        for byte in answerer.take_output().unwrap() {
            dialler.handle_data(crate::clock::now(), &[byte]);
            got.extend(dialler.poll_received().unwrap());
        }
        assert_eq!(got, [Received::Message(message)]);
    }

    #[test]
    fn a_wrong_code_is_reported_on_both_sides() {
        for (ours, theirs) in [(Some(1), Some(2)), (Some(1), None), (None, Some(1))] {
            let (mut dialler, mut answerer, received) = met(ours, theirs);
            assert_eq!(received, Err(ControlError::WrongCode));
            cross(&mut answerer, &mut dialler);
            assert_eq!(dialler.poll_received(), Err(ControlError::WrongCode));
        }
        assert!(met(Some(1), Some(1)).2.is_ok());
    }

    #[test]
    fn a_refusal_is_valid_only_as_the_answer_to_the_hello() {
        let refusal = |channel: &mut ControlChannel| {
            channel.handle_data(crate::clock::now(), &[0, 0]);
            channel.poll_received()
        };
        let (mut dialler, mut answerer) = pair(None, None);
        cross(&mut dialler, &mut answerer);
        assert_eq!(answerer.poll_received(), Ok(None));
        dialler.handle_data(crate::clock::now(), &PREFACE);
        assert_eq!(refusal(&mut dialler), Err(ControlError::Forged), "before the hello");
        let (mut dialler, mut answerer, _) = met(None, None);
        answerer.push(&Message::Ringing);
        cross(&mut answerer, &mut dialler);
        assert_eq!(dialler.poll_received(), Ok(Some(Received::Message(Message::Ringing))));
        assert_eq!(refusal(&mut dialler), Err(ControlError::Forged), "answered");
        assert_eq!(refusal(&mut answerer), Err(ControlError::Forged), "not a dialler");
    }

    #[test]
    fn invalid_handshake_bytes_cost_no_cryptography() {
        let now = crate::clock::now();
        for bytes in
            [&b"GET / HTTP/1"[..], b"udpchat\x02\0\x01x", b"udpchat\x02\xff\xff", b"udpchat\x01"]
        {
            let mut channel = ControlChannel::accept(now, ConnId(1));
            channel.handle_data(now, bytes);
            assert!(channel.has_message().is_err(), "{bytes:?}");
        }
        let (mut dialler, _) = pair(None, None);
        let mut channel = ControlChannel::accept(now, ConnId(1));
        for byte in dialler.take_output().unwrap() {
            assert_eq!(channel.has_message(), Ok(false));
            channel.handle_data(now, &[byte]);
        }
        assert_eq!(channel.has_message(), Ok(true));
    }

    #[test]
    fn an_altered_message_ends_the_channel() {
        let (mut dialler, mut answerer, _) = met(None, None);
        dialler.push(&Message::KeepAlive);
        let mut bytes = dialler.take_output().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        answerer.handle_data(crate::clock::now(), &bytes);
        assert_eq!(answerer.poll_received(), Err(ControlError::Forged));
        assert!(answerer.poll_received().is_err(), "for good");
    }

    #[test]
    fn messages_before_the_hello_are_malformed() {
        let (mut dialler, mut answerer) = pair(None, None);
        dialler.push(&Message::KeepAlive);
        cross(&mut dialler, &mut answerer);
        assert_eq!(answerer.poll_received(), Ok(None));
        cross(&mut answerer, &mut dialler);
        dialler.handle_data(crate::clock::now(), &[0, 1, 2]);
        assert!(matches!(dialler.poll_received(), Ok(Some(Received::Key(..)))));
        assert_eq!(dialler.poll_received(), Err(ControlError::Malformed));
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
    fn dropping_keep_alives_keeps_the_other_messages_in_order() {
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
        for line in ["one", "two", "three"] {
            assert_eq!(answerer.poll_received(), Ok(Some(Received::Message(text(line)))));
        }
        assert_eq!((answerer.poll_received(), answerer.unread()), (Ok(None), 0));
    }

    #[test]
    fn a_pause_restarts_the_receiving_period() {
        let (mut channel, _) = pair(None, None);
        let now = channel.last_received();
        for (ms, since) in [(500, 0), (1000, 0), (1900, 0), (3000, 3000), (3500, 3000)] {
            channel.handle_data(now + Duration::from_millis(ms), b"");
            assert_eq!(channel.receiving_since(), now + Duration::from_millis(since));
        }
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_bytes() {
        let (_, mut channel) = pair(None, None);
        channel.handle_data(crate::clock::now(), b"SSH-2.0");
        assert_eq!(channel.poll_received(), Err(ControlError::NotUdpchat));
    }
}
