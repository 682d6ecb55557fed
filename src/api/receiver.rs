//! The receiving side of a link.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Access, Event, Frame, Peer, StartError, access::NetworkParts, deadline::deadline, event::Events,
};
use crate::{
    clock,
    latest::{Latest, Taken},
    net::{
        io::{DEFAULT_PORT, Listen, TakenNotices, bind_addr},
        session::{Delivered, Role},
    },
    stream::network_thread::NetworkThread,
    video::jpeg::Decoder,
};

/// Receives pictures from one sender at a time: another program with a [`Sender`](super::Sender),
/// or `udpchat send`.
///
/// It keeps only the newest frame: one that is not taken before the next is complete is dropped.
/// Dropping the receiver says goodbye to the sender.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut receiver = udpchat::Receiver::listen("0.0.0.0:7722")?;
/// let image = receiver.recv()?.image()?;
/// println!("{}x{}", image.width, image.height);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Receiver {
    network: NetworkThread,
    frames: Latest<Delivered>,
    notices: TakenNotices,
    decoder: Arc<Mutex<Decoder>>,
    events: Events,
}

/// The configuration of a [`Receiver`].
#[derive(Clone, Debug, Default)]
pub struct ReceiverBuilder {
    addr: Option<String>,
    access: Access,
}

/// Why no more frames can be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The network thread has stopped. This is a bug in udpchat. Drop the receiver and start a new
    /// one.
    #[error("the network thread has ended")]
    Closed,
}

/// Counters of a [`Receiver`] since its start, up to 250 ms old.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ReceiverStatistics {
    /// Complete frames.
    pub completed: u64,
    /// Frames abandoned with datagrams missing.
    pub incomplete: u64,
    /// Complete frames that were replaced by newer ones before they were taken.
    pub superseded: u64,
    /// Complete frames with lost datagrams that were recovered by parity or retransmitted on
    /// request.
    pub repaired: u64,
    /// Datagrams that have not arrived.
    pub datagrams_lost: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// The shortest recent round trip, if the sender answers.
    pub rtt: Option<Duration>,
}

impl Receiver {
    /// Listens on `addr`, an address of this machine with an optional port (default 7722) or only a
    /// port (`:7722`), for UDP and TCP, with the default configuration. A host name is not
    /// accepted.
    pub fn listen(addr: &str) -> Result<Self, StartError> {
        Self::builder().listen_on(addr).start()
    }

    /// The default configuration.
    pub fn builder() -> ReceiverBuilder {
        ReceiverBuilder::default()
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.network.handle.local_addr()
    }

    /// Blocks until the next frame arrives. It also waits after the sender has gone, since another
    /// one may connect. To stop, use [`recv_timeout`](Self::recv_timeout) and
    /// [`Disconnected`](super::EventKind::Disconnected).
    pub fn recv(&mut self) -> Result<Frame, RecvError> {
        loop {
            if let Some(frame) = self.recv_timeout(Duration::MAX)? {
                return Ok(frame);
            }
        }
    }

    /// Waits up to `timeout` for the next frame. Returns `None` if there is none by then.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Frame>, RecvError> {
        let until = deadline(timeout);
        loop {
            match self.frames.take(until.saturating_duration_since(clock::now())) {
                Taken::Value(delivered) => {
                    self.notices.note(&delivered);
                    return Ok(Some(self.frame(delivered)));
                }
                // Woken for an event, which is kept for `next_event`.
                Taken::Nudged => self.drain_events(),
                Taken::TimedOut => return Ok(None),
                Taken::Closed => return Err(RecvError::Closed),
            }
        }
    }

    /// The newest frame, if it has not been taken yet.
    pub fn try_recv(&mut self) -> Result<Option<Frame>, RecvError> {
        self.recv_timeout(Duration::ZERO)
    }

    /// The connected sender.
    pub fn sender(&mut self) -> Option<Peer> {
        self.drain_events();
        self.events.peers().next().cloned()
    }

    /// The next event, if there is one. Events may be ignored.
    pub fn next_event(&mut self) -> Option<Event> {
        self.drain_events();
        self.events.pop()
    }

    /// Counters since the start.
    pub fn statistics(&self) -> ReceiverStatistics {
        let totals = self.network.handle.stats().totals;
        ReceiverStatistics {
            completed: totals.reassembly.completed,
            incomplete: totals.reassembly.incomplete,
            superseded: self.network.handle.superseded(),
            repaired: totals.repair.by_parity + totals.repair.by_nack,
            datagrams_lost: totals.datagrams_lost,
            bytes_received: totals.bytes_received,
            rtt: totals.rtt,
        }
    }

    fn frame(&mut self, delivered: Delivered) -> Frame {
        self.drain_events();
        let peer = self.events.peer(delivered.call).cloned();
        Frame::new(delivered, peer, Arc::clone(&self.decoder))
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.network.handle.try_event() {
            self.events.push(&event);
        }
    }
}

impl ReceiverBuilder {
    /// Listens on this address of this machine, with an optional port (default 7722), or only a
    /// port (`:7722`). Default: all addresses, port 7722. Port 0 is any free port; see
    /// [`Receiver::local_addr`].
    #[must_use]
    pub fn listen_on(mut self, addr: &str) -> Self {
        self.addr = Some(addr.to_owned());
        self
    }

    /// The identity of this side, and which senders it accepts. Default: a new identity, any
    /// sender.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Starts to listen.
    pub fn start(self) -> Result<Receiver, StartError> {
        let addr = match self.addr {
            Some(text) => bind_addr(&text)?,
            None => (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into(),
        };
        let parts = NetworkParts {
            role: Role::Receive,
            listen: Some(Listen { addr, control: true }),
            stream: None,
            max_bitrate: None,
        };
        let network = parts.start(&self.access)?;
        let frames = network.handle.received();
        let notices = network.handle.taken_notices().map_err(StartError::Thread)?;
        let decoder = Arc::new(Mutex::new(Decoder::new()));
        Ok(Receiver { network, frames, notices, decoder, events: Events::default() })
    }
}
