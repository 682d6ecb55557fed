//! What happens on a link, besides frames.

use std::{collections::VecDeque, fmt, net::SocketAddr};

use super::PublicKey;
use crate::{
    net::session::{self, CallId},
    stream::describe::describe,
};

/// The other side of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The name that it has given itself.
    pub name: Option<String>,
    /// Its address.
    pub addr: SocketAddr,
    /// The public key that it has proved possession of.
    pub key: Option<PublicKey>,
}

/// Something that happened on a link. Its `Display` form is a line for the user. Of events that the
/// program does not fetch, the newest 256 are kept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    line: String,
}

/// The kinds of events that a program may want to handle.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// A peer is connected.
    Connected(Peer),
    /// A peer has left, or has become unreachable.
    Disconnected(Peer),
    /// A receiver does not answer, or has stopped answering. It is called repeatedly until it does.
    Waiting {
        /// Its host, as given to the sender.
        host: String,
    },
    /// A receiver has been given up and is not called again: it does not accept us, or does not have
    /// the expected key.
    GivenUp {
        /// Its host, as given to the sender.
        host: String,
    },
    /// The sender has changed its stream.
    StreamChanged {
        /// In pixels.
        width: u16,
        /// In pixels.
        height: u16,
        /// Frames a second.
        fps: f64,
    },
    /// Something to tell the user, for example a refused peer or blocked datagrams.
    Other,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// The events not fetched yet, and the peers of the calls.
#[derive(Debug, Default)]
pub(super) struct Events {
    unfetched: VecDeque<Event>,
    peers: Vec<(CallId, Peer)>,
    given_up: usize,
}

impl Events {
    pub(super) fn push(&mut self, event: &session::Event) {
        let kind = match event {
            session::Event::Connected { call, peer, .. } => {
                self.peers.push((*call, Peer::of(peer)));
                EventKind::Connected(Peer::of(peer))
            }
            session::Event::Ended { call, peer, .. } => {
                self.peers.retain(|(of, _)| of != call);
                EventKind::Disconnected(Peer::of(peer))
            }
            session::Event::Waiting { host, .. } => EventKind::Waiting { host: host.clone() },
            session::Event::GivenUp { host, .. } => {
                self.given_up += 1;
                EventKind::GivenUp { host: host.clone() }
            }
            session::Event::StreamChanged { stream, .. } => EventKind::StreamChanged {
                width: stream.width,
                height: stream.height,
                fps: f64::from(stream.millifps) / 1000.0,
            },
            _ => EventKind::Other,
        };
        let Some(line) = describe(event, None) else { return };
        let event = Event { kind, line };
        // A refused caller keeps calling, so the same event may come again and again.
        if self.unfetched.back() == Some(&event) {
            return;
        }
        if self.unfetched.len() == MAX_UNFETCHED {
            self.unfetched.pop_front();
        }
        self.unfetched.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.unfetched.pop_front()
    }

    /// The peer of a call, while it is connected.
    pub(super) fn peer(&self, call: CallId) -> Option<&Peer> {
        self.peers.iter().find(|(of, _)| *of == call).map(|(_, peer)| peer)
    }

    /// How many receivers have been given up.
    pub(super) fn given_up(&self) -> usize {
        self.given_up
    }

    /// The connected peers.
    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().map(|(_, peer)| peer)
    }
}

impl Peer {
    fn of(peer: &session::Peer) -> Self {
        let name = peer.name.as_ref().map(ToString::to_string);
        Self { name, addr: peer.addr, key: peer.key }
    }
}

/// The most events kept for a program that does not fetch them; beyond it the oldest is dropped.
const MAX_UNFETCHED: usize = 256;
