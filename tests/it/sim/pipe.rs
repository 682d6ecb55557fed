//! The control connections of the simulated network: ordered and reliable pipes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use udpchat::net::session::{ConnId, LookupId};

use super::node::NodeId;

/// Every pipe, and the answers of the name service. All messages take the same time, so they arrive
/// in the order in which they were sent.
pub(super) struct Pipes {
    all: Vec<Pipe>,
    /// The pipe of each open connection of each node, and which end of it that is.
    ends: BTreeMap<(NodeId, ConnId), (PipeId, End)>,
    queue: BTreeMap<(Instant, u64), Message>,
    order: u64,
    delay: Duration,
    /// No message leaves earlier than this.
    blocked_until: Instant,
}

/// A pipe, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PipeId(usize);

/// The nodes at the ends of a pipe; `None`: that end is closed, or not open yet.
struct Pipe {
    dialler: Option<(NodeId, ConnId)>,
    listener: Option<(NodeId, ConnId)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Dialler,
    Listener,
}

enum Message {
    Found { node: NodeId, lookup: LookupId, found: Result<Vec<SocketAddr>, String> },
    Dial { pipe: PipeId, to: SocketAddr },
    Connected { pipe: PipeId },
    Refused { pipe: PipeId },
    Data { pipe: PipeId, to: End, bytes: Vec<u8> },
    Closed { pipe: PipeId, to: End },
}

/// What arrives at a node.
#[derive(Debug, PartialEq)]
pub(super) enum Arrival {
    /// The answer to a lookup.
    Found(NodeId, LookupId, Result<Vec<SocketAddr>, String>),
    /// A connection from a node reaches an address: see [`Pipes::accept`] and [`Pipes::refuse`].
    Dialled {
        pipe: PipeId,
        from: NodeId,
        to: SocketAddr,
    },
    Connected(NodeId, ConnId),
    Refused(NodeId, ConnId),
    Data(NodeId, ConnId, Vec<u8>),
    Closed(NodeId, ConnId),
}

impl Pipes {
    pub(super) fn new(now: Instant, delay: Duration) -> Self {
        Self {
            all: Vec::new(),
            ends: BTreeMap::new(),
            queue: BTreeMap::new(),
            order: 0,
            delay,
            blocked_until: now,
        }
    }

    /// Delays every message sent before `until` as if it were sent at `until`.
    pub(super) fn block_until(&mut self, until: Instant) {
        self.blocked_until = until;
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        node: NodeId,
        lookup: LookupId,
        found: Result<Vec<SocketAddr>, String>,
    ) {
        self.send(now, Message::Found { node, lookup, found });
    }

    pub(super) fn dial(&mut self, now: Instant, node: NodeId, conn: ConnId, to: SocketAddr) {
        let pipe = PipeId(self.all.len());
        self.all.push(Pipe { dialler: Some((node, conn)), listener: None });
        self.ends.insert((node, conn), (pipe, End::Dialler));
        self.send(now, Message::Dial { pipe, to });
    }

    /// Connects the other end of a dialled pipe to `node`.
    pub(super) fn accept(&mut self, now: Instant, pipe: PipeId, node: NodeId, conn: ConnId) {
        *self.end(pipe, End::Listener) = Some((node, conn));
        self.ends.insert((node, conn), (pipe, End::Listener));
        self.send(now, Message::Connected { pipe });
    }

    pub(super) fn refuse(&mut self, now: Instant, pipe: PipeId) {
        self.send(now, Message::Refused { pipe });
    }

    pub(super) fn write(&mut self, now: Instant, node: NodeId, conn: ConnId, bytes: Vec<u8>) {
        if let Some(&(pipe, end)) = self.ends.get(&(node, conn)) {
            self.send(now, Message::Data { pipe, to: end.other(), bytes });
        }
    }

    pub(super) fn close(&mut self, now: Instant, node: NodeId, conn: ConnId) {
        if let Some((pipe, end)) = self.ends.remove(&(node, conn)) {
            *self.end(pipe, end) = None;
            self.send(now, Message::Closed { pipe, to: end.other() });
        }
    }

    /// Closes every connection of `node`, the oldest pipe first.
    pub(super) fn close_all(&mut self, now: Instant, node: NodeId) {
        let own = self.ends.iter().filter(|((of, _), _)| *of == node);
        let mut conns: Vec<_> = own.map(|(&(_, conn), &(pipe, _))| (pipe, conn)).collect();
        conns.sort();
        for (_, conn) in conns {
            self.close(now, node, conn);
        }
    }

    /// When the next message arrives.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.queue.keys().next().map(|(due, _)| *due)
    }

    /// The next message that has arrived by `now`. Those for a closed end are lost.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Arrival> {
        loop {
            let due = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
            let message = due.remove();
            if let Some(arrival) = self.arrive(message) {
                return Some(arrival);
            }
        }
    }

    fn arrive(&mut self, message: Message) -> Option<Arrival> {
        Some(match message {
            Message::Found { node, lookup, found } => Arrival::Found(node, lookup, found),
            Message::Dial { pipe, to } => {
                let (from, _) = (*self.end(pipe, End::Dialler))?;
                Arrival::Dialled { pipe, from, to }
            }
            Message::Connected { pipe } => {
                let (node, conn) = (*self.end(pipe, End::Dialler))?;
                Arrival::Connected(node, conn)
            }
            Message::Refused { pipe } => {
                let (node, conn) = self.lose(pipe, End::Dialler)?;
                Arrival::Refused(node, conn)
            }
            Message::Data { pipe, to, bytes } => {
                let (node, conn) = (*self.end(pipe, to))?;
                Arrival::Data(node, conn, bytes)
            }
            Message::Closed { pipe, to } => {
                let (node, conn) = self.lose(pipe, to)?;
                Arrival::Closed(node, conn)
            }
        })
    }

    /// Closes an end, because the other side closed or refused the connection.
    fn lose(&mut self, pipe: PipeId, end: End) -> Option<(NodeId, ConnId)> {
        let owner = self.end(pipe, end).take()?;
        self.ends.remove(&owner);
        Some(owner)
    }

    fn end(&mut self, pipe: PipeId, end: End) -> &mut Option<(NodeId, ConnId)> {
        let pipe = &mut self.all[pipe.0];
        match end {
            End::Dialler => &mut pipe.dialler,
            End::Listener => &mut pipe.listener,
        }
    }

    fn send(&mut self, now: Instant, message: Message) {
        let due = now.max(self.blocked_until) + self.delay;
        self.order += 1;
        self.queue.insert((due, self.order), message);
    }
}

impl End {
    fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

const ANN: NodeId = NodeId(0);
const BOB: NodeId = NodeId(1);

/// A pipe from connection 1 of Ann to connection 2 of Bob.
fn connected(now: Instant) -> Pipes {
    let mut pipes = Pipes::new(now, Duration::ZERO);
    let to = SocketAddr::from(([10, 0, 0, 2], 7));
    pipes.dial(now, ANN, ConnId(1), to);
    let Some(Arrival::Dialled { pipe, from: ANN, to: dialled }) = pipes.poll(now) else {
        panic!("the connection arrives");
    };
    assert_eq!(dialled, to);
    pipes.accept(now, pipe, BOB, ConnId(2));
    assert_eq!(pipes.poll(now), Some(Arrival::Connected(ANN, ConnId(1))));
    pipes
}

#[test]
fn bytes_arrive_in_order_at_the_other_end_until_it_closes() {
    let now = udpchat::clock::now();
    let mut pipes = connected(now);
    pipes.write(now, ANN, ConnId(1), vec![1]);
    pipes.write(now, BOB, ConnId(2), vec![2]);
    pipes.write(now, ANN, ConnId(1), vec![3]);
    pipes.close(now, ANN, ConnId(1));
    assert_eq!(pipes.poll(now), Some(Arrival::Data(BOB, ConnId(2), vec![1])));
    assert_eq!(
        pipes.poll(now),
        Some(Arrival::Data(BOB, ConnId(2), vec![3])),
        "Ann's end is closed"
    );
    assert_eq!(pipes.poll(now), Some(Arrival::Closed(BOB, ConnId(2))));
    pipes.write(now, BOB, ConnId(2), vec![4]);
    assert_eq!((pipes.poll(now), pipes.ends.len()), (None, 0));
}

#[test]
fn a_refused_connection_ends_and_a_broken_one_is_reported() {
    let now = udpchat::clock::now();
    let mut pipes = connected(now);
    pipes.dial(now, ANN, ConnId(3), SocketAddr::from(([10, 0, 0, 9], 7)));
    let Some(Arrival::Dialled { pipe, .. }) = pipes.poll(now) else { panic!("it arrives") };
    pipes.refuse(now, pipe);
    assert_eq!(pipes.poll(now), Some(Arrival::Refused(ANN, ConnId(3))));
    pipes.close_all(now, ANN);
    assert_eq!(pipes.poll(now), Some(Arrival::Closed(BOB, ConnId(2))));
    assert_eq!((pipes.poll(now), pipes.ends.len()), (None, 0));
}

#[test]
fn messages_are_delayed_and_held_while_the_network_is_blocked() {
    let now = udpchat::clock::now();
    let (delay, blocked) = (Duration::from_millis(2), Duration::from_millis(10));
    let mut pipes = Pipes::new(now, delay);
    pipes.answer(now, ANN, LookupId(1), Ok(Vec::new()));
    pipes.block_until(now + blocked);
    pipes.answer(now, ANN, LookupId(2), Ok(Vec::new()));
    assert_eq!((pipes.poll(now), pipes.poll_timeout()), (None, Some(now + delay)));
    let found = |id| Some(Arrival::Found(ANN, LookupId(id), Ok(Vec::new())));
    assert_eq!(pipes.poll(now + delay), found(1));
    assert_eq!(pipes.poll(now + blocked), None);
    assert_eq!(pipes.poll(now + blocked + delay), found(2));
}
