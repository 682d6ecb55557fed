//! A caller built from the protocol's parts. It can send what udpchat itself never would.

use udpchat::net::{
    crypto::{
        handshake::{Handshake, Transport},
        keys::{Identity, PublicKey, SharedSecret},
    },
    wire::control::{PREFACE, emit_framed, parse_framed},
};

/// The dialling side of a control connection, as bytes in and out.
pub(crate) struct Caller {
    handshake: Option<Handshake>,
    transport: Option<Transport>,
    inbox: Vec<u8>,
    preface_seen: bool,
}

impl Caller {
    /// A caller with this identity and secret, and its first bytes: preface and first message.
    pub(crate) fn new(identity: &Identity, secret: Option<&SharedSecret>) -> (Self, Vec<u8>) {
        let mut handshake = Handshake::dialler(identity, secret);
        let mut first = PREFACE.to_vec();
        emit_framed(&handshake.write(&[]), &mut first);
        let handshake = Some(handshake);
        (Self { handshake, transport: None, inbox: Vec::new(), preface_seen: false }, first)
    }

    /// Reads the second handshake message, which the answerer sends, and returns the answerer's key.
    pub(crate) fn read_key(&mut self, answer: &[u8]) -> PublicKey {
        self.inbox.extend(answer);
        let message = self.take_framed().expect("the second message has come");
        let handshake = self.handshake.as_mut().expect("the handshake has begun");
        handshake.read(&message).expect("it is unchanged");
        handshake.peer().expect("it says who it is")
    }

    /// The third handshake message, with `hello` as its payload.
    pub(crate) fn send_hello(&mut self, hello: &[u8]) -> Vec<u8> {
        let mut handshake = self.handshake.take().expect("the handshake has begun");
        let mut third = Vec::new();
        emit_framed(&handshake.write(hello), &mut third);
        self.transport = handshake.finish();
        third
    }

    /// `plain`, encrypted and framed.
    pub(crate) fn say(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut framed = Vec::new();
        emit_framed(&self.transport().write(plain), &mut framed);
        framed
    }

    fn transport(&mut self) -> &mut Transport {
        self.transport.as_mut().expect("introduced")
    }

    fn take_framed(&mut self) -> Option<Vec<u8>> {
        if !self.preface_seen && self.inbox.len() >= PREFACE.len() {
            assert_eq!(self.inbox[..PREFACE.len()], PREFACE);
            self.inbox.drain(..PREFACE.len());
            self.preface_seen = true;
        }
        let (message, len) = parse_framed(&self.inbox).expect("well framed")?;
        let message = message.to_vec();
        self.inbox.drain(..len);
        Some(message)
    }
}
