//! The network loop: one thread with one `mio` poll that drives every socket and the endpoint.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use log::{debug, warn};
use mio::{Events, Interest, Poll, Token, Waker, net::TcpListener};

use super::{
    bind::{BindError, Listen, bind_both},
    connections::Connections,
    error_queue::{Fate, IcmpReport},
    faults::{self, not_dialled},
    handle::{Command, Handle, Shared},
    ip::{header_len, plain},
    options::SocketOptions,
    resolver::Resolver,
    timer::Timer,
    udp::{UdpSocket, interface_len, least_mtu},
    zone::{shown, shown_ip},
};
use crate::{
    clock,
    latest::Latest,
    net::{
        framing::fec,
        link::PeerAddr,
        netem::{Netem, NetemSpec},
        route::Route,
        session::{
            Delivered, Endpoint, EndpointConfig, Event, MIN_MAX_DATAGRAM_LEN, Output, Transmit,
            WaitReason,
        },
        wire::control::CloseReason,
    },
};

/// The configuration of a driver.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The endpoint's configuration.
    pub endpoint: EndpointConfig,
    /// Where to listen; `None` for a side that only dials.
    pub listen: Option<Listen>,
    /// The options of the UDP socket.
    pub socket: SocketOptions,
    /// An emulated network for outgoing datagrams.
    pub egress: Option<NetemSpec>,
    /// An emulated network for incoming datagrams.
    pub ingress: Option<NetemSpec>,
}

/// The network loop, ready to [`run`](Driver::run) on its own thread.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says something else, in any combination")]
pub struct Driver {
    poll: Poll,
    timer: Timer,
    udp: UdpSocket,
    listener: Option<TcpListener>,
    connections: Connections,
    resolver: Resolver,
    endpoint: Endpoint,
    egress: Option<Netem<Route>>,
    ingress: Option<Netem<Route>>,
    send_buf: Vec<u8>,
    /// Datagrams that the socket has not accepted yet: in `blocked` the endpoint's, which are in
    /// `send_buf`; in `held` one of the emulated network.
    blocked: Option<Blocked>,
    held: Option<(Vec<u8>, Route)>,
    /// Whether the poll wakes when the socket is writable.
    watches_writable: bool,
    more_to_receive: bool,
    more_to_accept: bool,
    /// When to accept again, after the system lacked the resources to accept.
    accept_after: Option<Instant>,
    /// Whether that was reported; reset once all waiting connections are accepted.
    exhaustion_told: bool,
    last_warning: Option<Instant>,
    /// The peers last warned about, newest first: the interface to them takes too little.
    warned_narrow: Vec<IpAddr>,
    published: Option<Instant>,
    unpublished: bool,
    drops_read: Option<Instant>,
    commands: Receiver<Command>,
    events: SyncSender<Event>,
    shared: Shared,
    closing: Option<Closing>,
}

/// A transmit in `send_buf` of which the socket has accepted a part.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    transmit: Transmit,
    /// Bytes accepted, in complete datagrams.
    taken: usize,
}

/// A shutdown in progress.
#[derive(Clone, Copy, Debug)]
struct Closing {
    reason: CloseReason,
    /// Whether goodbye has been sent; pending frames are sent first.
    said: bool,
    until: Instant,
}

impl Driver {
    /// Binds the sockets. Nothing is sent or received before [`run`](Self::run).
    pub fn bind(config: DriverConfig) -> Result<(Self, Handle), BindError> {
        let (mut udp, mut listener) = match config.listen {
            None => (UdpSocket::bind_any(config.socket)?, None),
            Some(listen) => bind_both(listen, config.socket)?,
        };
        let poll = Poll::new()?;
        poll.registry().register(udp.source(), UDP, Interest::READABLE)?;
        if let Some(listener) = &mut listener {
            poll.registry().register(listener, LISTENER, Interest::READABLE)?;
        }
        // The first use of parity waits for this, which takes 20 ms.
        let warming = std::thread::Builder::new().spawn(fec::warm);
        drop(warming.inspect_err(|error| debug!("cannot start preparing parity tables: {error}")));
        let timer = Timer::new(poll.registry(), TIMER)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (commands, commands_rx) = sync_channel(COMMAND_BACKLOG);
        let (events_tx, events) = sync_channel(EVENT_BACKLOG);
        let shared = Shared::new(udp.buffer_sizes().ok());
        let handle = Handle {
            waker: Arc::clone(&waker),
            commands,
            events,
            shared: shared.clone(),
            local_addr: udp.local_addr()?,
        };
        let driver = Self {
            poll,
            timer,
            udp,
            listener,
            connections: Connections::new(FIRST_CONNECTION),
            resolver: Resolver::new(waker),
            endpoint: Endpoint::new(clock::now(), config.endpoint),
            egress: config.egress.map(Netem::new),
            ingress: config.ingress.map(Netem::new),
            send_buf: vec![0; SEND_LEN],
            blocked: None,
            held: None,
            watches_writable: false,
            more_to_receive: false,
            more_to_accept: false,
            accept_after: None,
            exhaustion_told: false,
            last_warning: None,
            warned_narrow: Vec::new(),
            published: None,
            unpublished: false,
            drops_read: None,
            commands: commands_rx,
            events: events_tx,
            shared,
            closing: None,
        };
        Ok((driver, handle))
    }

    /// Runs until told to close.
    pub fn run(mut self) {
        let mut ready = Events::with_capacity(64);
        self.drain();
        while !self.is_done() {
            self.watch_writable();
            let has_more = self.more_to_receive || self.more_to_accept;
            let timeout = if has_more { Some(Duration::ZERO) } else { self.timeout() };
            let timeout = match timeout {
                Some(soon) if !soon.is_zero() && soon < COARSE => self.timer.set(soon),
                timeout => timeout,
            };
            match self.poll.poll(&mut ready, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    warn!("the network loop failed: {error}");
                    break;
                }
            }
            self.turn(&ready);
        }
        self.publish(clock::now());
    }

    /// One turn: inputs, timeouts, outputs. Datagrams come before control messages, so that a
    /// goodbye does not overtake the last frame.
    fn turn(&mut self, ready: &Events) {
        if self.more_to_receive || ready.iter().any(|e| e.token() == UDP && e.is_readable()) {
            self.receive();
        }
        if ready.iter().any(|e| e.token() == UDP && e.is_error()) {
            self.read_network();
        }
        for event in ready {
            match event.token() {
                UDP | WAKER | TIMER => {}
                LISTENER => self.more_to_accept = true,
                token => self.handle_connection(token),
            }
        }
        if self.accept_after.is_some_and(|at| at <= clock::now()) {
            self.more_to_accept = true;
        }
        if self.more_to_accept {
            self.more_to_accept = self.accept_some();
        }
        self.take_commands();
        while let Some((id, found)) = self.resolver.try_found() {
            debug!("name lookup finished: {found:?}");
            self.endpoint.handle_found(clock::now(), id, found);
        }
        if let Some(stream) = self.shared.stream.try_take() {
            self.endpoint.set_stream(stream);
        }
        if let Some(frame) = self.shared.outgoing.try_take() {
            self.endpoint.push_frame(clock::now(), &frame);
        }
        let now = clock::now();
        if self.endpoint.poll_timeout().is_some_and(|due| due <= now) {
            // This thread may have been descheduled since it last read the socket. Datagrams that
            // arrived meanwhile must not count as missing.
            self.receive();
        }
        self.deliver_ingress(now);
        self.hand_over_partial(now);
        self.endpoint.handle_timeout(now);
        self.connections.handle_timeout(now, self.poll.registry());
        self.shared.set_picture_bitrates(self.endpoint.picture_bitrates());
        // An emulated network takes time, as a real one does.
        self.shared.set_sends_away(self.endpoint.sends_away() || self.egress.is_some());
        self.drain();
        self.unpublished = true;
        if self.published.is_none_or(|at| now - at >= PUBLISH_INTERVAL) {
            self.publish(now);
        }
    }

    fn is_done(&self) -> bool {
        match self.closing {
            Some(Closing { said, until, .. }) => {
                let on_the_way = self.egress.as_ref().and_then(Netem::poll_timeout).is_some();
                (said && self.connections.is_flushed() && !on_the_way) || clock::now() >= until
            }
            None => false,
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let netem = [&self.egress, &self.ingress].into_iter().flatten();
        let due = netem.filter_map(Netem::poll_timeout).chain(self.endpoint.poll_timeout()).min();
        let partial = self.shared.wants_partial().then(|| self.endpoint.partial_due()).flatten();
        // Statistics are published after a while even if no turn follows. During a stream, turns
        // follow anyway, so this adds none.
        let publish = self.published.filter(|_| self.unpublished).map(|at| at + PUBLISH_PATIENCE);
        let closing = self.closing.map(|closing| closing.until);
        let connections = self.connections.poll_timeout().into_iter().chain(self.accept_after);
        let due = due
            .into_iter()
            .chain(partial)
            .chain(closing)
            .chain(publish)
            .chain(connections)
            .min()?;
        let timeout = due.saturating_duration_since(clock::now());
        // Nothing due can be sent before the socket is writable, which also ends the wait.
        Some(if self.is_blocked() { timeout.max(BLOCKED_PATIENCE) } else { timeout })
    }

    fn is_blocked(&self) -> bool {
        self.blocked.is_some() || self.held.is_some()
    }

    /// Watches for writability only while the socket is blocked: it becomes writable after each
    /// datagram sent, and each such event would cost a useless turn.
    fn watch_writable(&mut self) {
        if self.is_blocked() == self.watches_writable {
            return;
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        let interest = if self.is_blocked() { both } else { Interest::READABLE };
        match self.poll.registry().reregister(self.udp.source(), UDP, interest) {
            Ok(()) => self.watches_writable = self.is_blocked(),
            Err(error) => self.warn(&format!("watching the socket failed: {error}")),
        }
    }

    fn receive(&mut self) {
        let Self { udp, endpoint, ingress, shared, .. } = self;
        let result = udp.receive(|from, datagram| {
            let now = clock::now();
            match ingress {
                Some(netem) => netem.push(now, datagram, from),
                None => endpoint.handle_datagram(now, from, datagram),
            }
            hand_over(endpoint, &shared.received);
        });
        self.more_to_receive = match result {
            Ok(more) => more,
            Err(error) => {
                self.warn(&format!("receiving failed: {error}"));
                // The rest is still waiting, and no event will report it again.
                true
            }
        };
        if !self.more_to_receive && self.shared.arriving.note(self.endpoint.newest_beginning()) {
            self.shared.received.nudge();
        }
    }

    fn read_network(&mut self) {
        let Self { udp, endpoint, .. } = self;
        udp.read_error_queue(|IcmpReport { to, fate }| match fate {
            Fate::TooBig(len) => {
                debug!("a router reports a limit of {len} bytes on the path to {to}");
                endpoint.handle_too_big(clock::now(), to.into(), len);
            }
            Fate::Unreachable(error) => {
                endpoint.handle_unreachable(clock::now(), to.into(), faults::reason(&error, to));
            }
        });
    }

    fn hand_over_partial(&mut self, now: Instant) {
        if !self.shared.wants_partial() {
            return;
        }
        if let Some(partial) = self.endpoint.poll_partial(now) {
            self.shared.partial.put(partial);
            self.shared.received.nudge();
        }
    }

    /// Returns whether more may be waiting; no event will report them again.
    fn accept_some(&mut self) -> bool {
        self.accept_after = None;
        let Some(listener) = &self.listener else { return false };
        for _ in 0..ACCEPTS_AT_ONCE {
            match listener.accept() {
                Ok((stream, from)) => {
                    let from = plain(from);
                    let Some(conn) = self.endpoint.handle_incoming(clock::now(), from) else {
                        continue;
                    };
                    if self.connections.accept(self.poll.registry(), conn, stream).is_err() {
                        self.endpoint.handle_disconnected(clock::now(), conn, false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.exhaustion_told = false;
                    return false;
                }
                Err(error) if is_exhaustion(&error) => {
                    self.pause_accepting(&error);
                    return false;
                }
                // The error concerns this connection, which failed before it was accepted.
                Err(error) => debug!("accepting a connection failed: {error}"),
            }
        }
        true
    }

    /// Retries after a pause: the poll reports a waiting connection only once, and no event tells
    /// when a file descriptor is free.
    fn pause_accepting(&mut self, error: &io::Error) {
        self.accept_after = Some(clock::now() + ACCEPT_PAUSE);
        if !self.exhaustion_told {
            self.exhaustion_told = true;
            warn!("cannot accept a connection, will retry: {error} (see `ulimit -n`)");
        }
    }

    fn handle_connection(&mut self, token: Token) {
        if let Some(conn) = self.connections.of_token(token) {
            self.connections.handle_ready(self.poll.registry(), conn, &mut self.endpoint);
        }
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Text(line) => {
                    self.endpoint.push_text(&line);
                }
                Command::Answer(ask, verdict) => {
                    self.endpoint.answer(clock::now(), ask, verdict);
                }
                Command::Close(reason) => {
                    let until = clock::now() + CLOSE_DEADLINE;
                    self.closing.get_or_insert(Closing { reason, said: false, until });
                }
            }
        }
    }

    fn drain(&mut self) {
        self.control();
        self.transmit();
        self.say_goodbye();
        self.send_egress();
        hand_over(&mut self.endpoint, &self.shared.received);
        while let Some(event) = self.endpoint.poll_event() {
            let is_urgent = matches!(event, Event::Asked { .. });
            if let Err(TrySendError::Full(event)) = self.events.try_send(event) {
                debug!("event queue full, dropped {event:?}");
                self.shared.stats().events_dropped += 1;
            }
            if is_urgent {
                // The thread that waits for frames is the one to answer.
                self.shared.wake_for_event();
            }
        }
    }

    /// Ends every call, once all pending frames are sent.
    fn say_goodbye(&mut self) {
        let Some(closing) = &mut self.closing else { return };
        if closing.said || self.blocked.is_some() || self.endpoint.is_sending() {
            return;
        }
        closing.said = true;
        self.endpoint.close(closing.reason);
        self.control();
    }

    fn deliver_ingress(&mut self, now: Instant) {
        let Some(netem) = &mut self.ingress else { return };
        while let Some((mut datagram, from)) = netem.poll(now) {
            self.endpoint.handle_datagram(now, from, &mut datagram);
        }
    }

    fn control(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::LookUp(id, host, port) => self.resolver.look_up(id, host, port),
                Output::Dial(conn, to) => {
                    // TCP may not even connect, and its errors do not tell why.
                    self.tell_narrow(to, interface_len(to));
                    if let Err(error) = self.connections.dial(self.poll.registry(), conn, to) {
                        debug!("cannot dial {to}: {error}");
                        not_dialled(&mut self.endpoint, clock::now(), conn, to, &error);
                    }
                }
                Output::Write(conn, bytes) => self.connections.write(conn, &bytes),
                Output::Close(conn) => {
                    self.connections.close(clock::now(), self.poll.registry(), conn);
                }
            }
        }
    }

    /// Sends until nothing is left or the socket blocks.
    fn transmit(&mut self) {
        loop {
            let now = clock::now();
            let max_batch = self.udp.max_batch();
            let next = self.blocked.take().or_else(|| {
                let transmit = self.endpoint.poll_transmit(now, &mut self.send_buf, max_batch)?;
                Some(Blocked { transmit, taken: 0 })
            });
            let Some(Blocked { transmit, taken }) = next else { return };
            let contents = &self.send_buf[taken..transmit.len];
            if let Some(netem) = &mut self.egress {
                for datagram in contents.chunks(transmit.segment_len) {
                    netem.push(now, datagram, transmit.route());
                }
                continue;
            }
            match self.udp.send(transmit.route(), contents, transmit.segment_len) {
                Ok(()) => self.endpoint.handle_sent(now, transmit.to),
                Err(error) if error.is_blocked() => {
                    self.blocked = Some(Blocked { transmit, taken: taken + error.taken });
                    return;
                }
                Err(error) => self.on_send_error(transmit.to, transmit.segment_len, &error.error),
            }
        }
    }

    fn send_egress(&mut self) {
        let Some(mut netem) = self.egress.take() else { return };
        let now = clock::now();
        while let Some((datagram, to)) = self.held.take().or_else(|| netem.poll(now)) {
            match self.udp.send(to, &datagram, datagram.len()) {
                Ok(()) => self.endpoint.handle_sent(now, to.peer),
                Err(error) if error.is_blocked() => {
                    self.held = Some((datagram, to));
                    break;
                }
                Err(error) => self.on_send_error(to.peer, datagram.len(), &error.error),
            }
        }
        self.egress = Some(netem);
    }

    /// Handles a failure to send a datagram of `len` bytes. Path MTU discovery is told if it was
    /// too long.
    fn on_send_error(&mut self, peer: PeerAddr, len: usize, error: &io::Error) {
        let to = peer.socket_addr();
        if quinn_udp::is_msg_size_err(error) {
            let fits = interface_len(to);
            if !self.endpoint.handle_refused(clock::now(), peer, len, fits)
                && !self.tell_narrow(to, fits)
            {
                let fits = fits.map_or_else(String::new, |fits| format!(", which takes {fits}"));
                self.warn(&format!(
                    "datagrams of {len} bytes to {} are longer than the interface takes{fits}: lower --mtu, or leave it out",
                    shown(to)
                ));
            }
        } else {
            let reason = faults::reason(error, to);
            if self.endpoint.handle_unsendable(clock::now(), peer, &reason) {
                return debug!("sending to {to} failed: {error}");
            }
            let remedy = match reason {
                WaitReason::Local { fault, .. } => fault.remedy(),
                _ => "",
            };
            let remedy = if remedy.is_empty() { String::new() } else { format!(" ({remedy})") };
            self.warn(&format!("sending to {} failed: {error}{remedy}", shown(to)));
        }
    }

    /// Warns once a peer if its interface takes only `fits` bytes of UDP payload, too few for the
    /// protocol. Returns whether it does.
    fn tell_narrow(&mut self, to: SocketAddr, fits: Option<usize>) -> bool {
        let Some(fits) = fits.filter(|&fits| fits < MIN_MAX_DATAGRAM_LEN) else { return false };
        if !self.warned_narrow.contains(&to.ip()) {
            self.warned_narrow.truncate(MAX_WARNED_PEERS - 1);
            self.warned_narrow.insert(0, to.ip());
            let mtu = fits + header_len(to);
            warn!(
                "the interface to {} has an MTU of {mtu} bytes, and udpchat needs {}: raise it (`ip route get {}` names it; `ip link set NAME mtu 1500`)",
                shown(to),
                least_mtu(to),
                shown_ip(to)
            );
        }
        true
    }

    /// Logs at most one warning a second, since send errors are frequent.
    fn warn(&mut self, message: &str) {
        let now = clock::now();
        if self.last_warning.is_none_or(|at| now - at >= WARNING_INTERVAL) {
            self.last_warning = Some(now);
            warn!("{message}");
        }
    }

    fn publish(&mut self, now: Instant) {
        self.published = Some(now);
        self.unpublished = false;
        let netem = self.egress.as_ref().or(self.ingress.as_ref());
        let drops_due = self.drops_read.is_none_or(|at| now - at >= DROPS_INTERVAL);
        let drops = if drops_due { self.udp.kernel_drops() } else { None };
        if drops_due {
            self.drops_read = Some(now);
            self.endpoint.set_kernel_drops(drops.unwrap_or_default().overruns);
        }
        let mut stats = self.shared.stats();
        stats.kernel_drops = drops.or(stats.kernel_drops);
        stats.calls.clear();
        stats.calls.extend(self.endpoint.calls());
        stats.totals = self.endpoint.totals();
        stats.strays = self.endpoint.strays();
        stats.send = self.udp.counters();
        stats.netem = netem.map(Netem::counters);
    }
}

impl Drop for Driver {
    /// Threads waiting for frames must wake however the driver ends.
    fn drop(&mut self) {
        self.shared.received.close();
    }
}

/// The maximum number of peers in `warned_narrow`.
const MAX_WARNED_PEERS: usize = 16;

/// Whether the system or this process lacks a file descriptor or memory for a connection.
fn is_exhaustion(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;

        let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        let errno = Errno::from_io_error(error);
        errno.is_some_and(|errno| exhausted.contains(&errno))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::OutOfMemory
    }
}

fn hand_over(endpoint: &mut Endpoint, received: &Latest<Delivered>) {
    while let Some(frame) = endpoint.poll_frame() {
        received.put(frame);
    }
}

const UDP: Token = Token(0);
const LISTENER: Token = Token(1);
const WAKER: Token = Token(2);
const TIMER: Token = Token(3);
const FIRST_CONNECTION: usize = 4;

/// The maximum number of connections accepted in one turn, so that a flood does not delay the
/// stream.
const ACCEPTS_AT_ONCE: usize = 16;

/// The pause before accepting again, when there was no file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// From this duration, the millisecond resolution of the poll's own timeout suffices.
const COARSE: Duration = Duration::from_millis(10);

/// One batch: the largest UDP payload, which is also the kernel's limit for a batch.
const SEND_LEN: usize = crate::net::wire::datagram::MAX_DATAGRAM_LEN;

const COMMAND_BACKLOG: usize = 64;
const EVENT_BACKLOG: usize = 1024;

/// The minimum wait while the socket is blocked.
const BLOCKED_PATIENCE: Duration = Duration::from_millis(1);

/// The minimum interval between publications of the statistics.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);

/// How long changed statistics may stay unpublished when no turn follows.
const PUBLISH_PATIENCE: Duration = Duration::from_millis(250);

/// The interval of reading the kernel's drop counters, since parsing its table takes a while.
const DROPS_INTERVAL: Duration = Duration::from_secs(1);

const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// How long the shutdown may take.
const CLOSE_DEADLINE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::net::{crypto::keys::Identity, session::Role};

    fn receiver() -> (Driver, Handle) {
        let (role, identity) = (Role::Receive, Identity::generate());
        let endpoint = EndpointConfig {
            max_datagram_len: None,
            ..EndpointConfig::new("bob", role, identity, clock::now())
        };
        let listen = Some(Listen { addr: ([127, 0, 0, 1], 0).into(), control: true });
        let socket = SocketOptions::default();
        let config = DriverConfig { endpoint, listen, socket, egress: None, ingress: None };
        Driver::bind(config).unwrap()
    }

    /// Returns how many of `callers` have received anything, once at least `at_least` have.
    fn greeted(callers: &[TcpStream], at_least: usize) -> usize {
        let is_greeted = |caller: &&TcpStream| caller.peek(&mut [0]).is_ok_and(|len| len > 0);
        for _ in 0..5000 {
            let count = callers.iter().filter(is_greeted).count();
            if count >= at_least {
                return count;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("{at_least} have not been greeted");
    }

    #[test]
    fn datagrams_are_read_between_batches_of_connections() {
        let (mut driver, handle) = receiver();
        let to = handle.local_addr();
        // No more than the kernel's backlog.
        let crowd = 2 * ACCEPTS_AT_ONCE;
        let caller = |_| {
            let caller = TcpStream::connect(to).unwrap();
            caller.set_nonblocking(true).unwrap();
            caller
        };
        let callers: Vec<_> = (0..crowd).map(caller).collect();
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut ready = Events::with_capacity(64);
        for turn in 1..=2 {
            stranger.send_to(b"not ours", to).unwrap();
            // Time for the kernel to deliver it, even on a busy machine.
            std::thread::park_timeout(Duration::from_millis(20));
            // The first turn gets the event for the connections; later turns continue without one.
            driver.poll.poll(&mut ready, Some(Duration::ZERO)).unwrap();
            driver.turn(&ready);
            assert_eq!(driver.endpoint.strays().foreign, turn as u64, "after turn {turn}");
            let accepted = turn * ACCEPTS_AT_ONCE;
            assert_eq!(greeted(&callers, accepted), accepted, "after turn {turn}");
            assert!(driver.more_to_accept);
        }
        driver.turn(&ready);
        assert!(!driver.more_to_accept, "no connection is waiting");
    }
}
