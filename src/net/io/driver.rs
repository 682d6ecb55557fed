//! The network loop: one thread with one `mio` poll that drives every socket and the endpoint.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use log::{debug, warn};
use mio::{Events, Interest, Poll, Token, Waker};

use super::{
    acceptor::Acceptor,
    bind::{BindError, Listen, bind_both},
    connections::Connections,
    demand::{Demand, Saturation, TakenFrame},
    emulated_network::EmulatedNetwork,
    error_queue::{DeliveryError, IcmpReport},
    faults::{self, not_dialled},
    handle::{Command, Handle, Shared},
    interface::{interface_len, interface_speed},
    ip::canonical,
    lookup::Lookups,
    options::SocketOptions,
    outgoing_batch::OutgoingBatch,
    publish_schedule::PublishSchedule,
    resolver::Resolver,
    socket_errors::{SendFailure, SocketErrors},
    timer::Timer,
    udp::UdpSocket,
};
use crate::{
    clock,
    net::{
        framing::fec,
        link::PeerAddr,
        netem::NetemSpec,
        session::{Endpoint, EndpointConfig, Event, Output},
        units::Bitrate,
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
pub struct Driver {
    poll: Poll,
    timer: Timer,
    udp: UdpSocket,
    /// `None` for a side that only dials.
    acceptor: Option<Acceptor>,
    connections: Connections,
    resolver: Resolver,
    link_speeds: Lookups<(PeerAddr, Option<Bitrate>)>,
    endpoint: Endpoint,
    network: EmulatedNetwork,
    batch: OutgoingBatch,
    errors: SocketErrors,
    /// Whether the poll wakes when the socket is writable.
    watches_writable: bool,
    more_to_receive: bool,
    schedule: PublishSchedule,
    commands: Receiver<Command>,
    events: SyncSender<Event>,
    shared: Shared,
    saturation: Saturation,
    closing: Option<Closing>,
}

/// A shutdown in progress.
#[derive(Clone, Copy, Debug)]
struct Closing {
    reason: CloseReason,
    /// Whether goodbye has been said; pending frames are sent first.
    said: bool,
    /// When goodbye is said, whatever is still to be sent.
    sends_until: Instant,
    /// When the driver ends, whatever is still pending.
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
        // This takes about 20 ms, for which the first use of parity would otherwise wait.
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
            acceptor: listener.map(Acceptor::new),
            connections: Connections::new(FIRST_CONNECTION),
            link_speeds: Lookups::new(Arc::clone(&waker)),
            resolver: Resolver::new(waker),
            endpoint: Endpoint::new(clock::now(), config.endpoint),
            network: EmulatedNetwork::new(config.egress, config.ingress),
            batch: OutgoingBatch::new(),
            errors: SocketErrors::default(),
            watches_writable: false,
            more_to_receive: false,
            schedule: PublishSchedule::default(),
            commands: commands_rx,
            events: events_tx,
            shared,
            saturation: Saturation::default(),
            closing: None,
        };
        Ok((driver, handle))
    }

    /// Runs until told to close, or until the poll fails.
    pub fn run(mut self) {
        let mut ready = Events::with_capacity(64);
        self.drain();
        while !self.is_done() {
            self.watch_writable();
            let has_more = self.more_to_receive || self.acceptor.iter().any(Acceptor::has_more);
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

    /// One turn: inputs, timeouts, outputs. The hello of a caller comes before datagrams, since its
    /// first frame may follow at once. Other control messages come after datagrams, so that a
    /// goodbye does not overtake the last frame.
    fn turn(&mut self, ready: &Events) {
        for event in ready {
            let conn = self.connections.of_token(event.token());
            if conn.is_some_and(|conn| self.endpoint.is_pending_caller(conn)) {
                self.handle_connection(event.token());
            }
        }
        if self.more_to_receive || ready.iter().any(|e| e.token() == UDP && e.is_readable()) {
            self.receive();
        }
        if ready.iter().any(|e| e.token() == UDP && e.is_error()) {
            self.read_error_queue();
        }
        for event in ready {
            match event.token() {
                UDP | WAKER | TIMER => {}
                LISTENER => self.acceptor.iter_mut().for_each(Acceptor::note_ready),
                token => self.handle_connection(token),
            }
        }
        self.accept();
        self.take_commands();
        while let Some((id, found)) = self.resolver.try_found() {
            debug!("name lookup finished: {found:?}");
            self.endpoint.handle_found(clock::now(), id, found);
        }
        while let Some((peer, speed)) = self.link_speeds.try_take() {
            self.endpoint.handle_link_speed(clock::now(), peer, speed);
        }
        if let Some(stream) = self.shared.stream.try_take() {
            self.endpoint.set_stream(stream);
        }
        if let Some(TakenFrame { call, frame, waited }) = self.shared.taken.try_take() {
            self.endpoint.push_taken(call, frame, waited);
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
        self.shared.set_sends_off_host(self.endpoint.sends_off_host() || self.network.has_egress());
        self.drain();
        self.saturation.check(now, &self.shared.taken);
        self.shared.demand.set(self.demand());
        if self.schedule.note_turn(now) {
            self.publish(now);
        }
    }

    fn demand(&self) -> Demand {
        match (self.endpoint.wants_frame(), self.endpoint.has_waiting_frame()) {
            (false, _) => Demand::None,
            (true, true) => Demand::Newer,
            (true, false) => Demand::Next,
        }
    }

    fn is_done(&self) -> bool {
        match self.closing {
            Some(Closing { said, until, .. }) => {
                let is_flushed = self.connections.is_flushed() && !self.network.is_sending();
                (said && is_flushed) || clock::now() >= until
            }
            None => false,
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let partial = self.shared.wants_partial().then(|| self.endpoint.partial_due()).flatten();
        let due = [
            self.network.poll_timeout(),
            self.endpoint.poll_timeout(),
            partial,
            self.closing.map(|c| if c.said { c.until } else { c.sends_until }),
            self.schedule.poll_timeout(),
            self.connections.poll_timeout(),
            self.acceptor.as_ref().and_then(Acceptor::poll_timeout),
        ];
        let due = due.into_iter().flatten().min()?;
        let timeout = due.saturating_duration_since(clock::now());
        // No datagram can be sent before the socket is writable, which also ends the wait. Anything
        // else is late by `MIN_BLOCKED_WAIT` at most.
        Some(if self.is_blocked() { timeout.max(MIN_BLOCKED_WAIT) } else { timeout })
    }

    fn is_blocked(&self) -> bool {
        self.batch.is_blocked() || self.network.is_blocked()
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
            Err(error) => {
                self.errors.warn(clock::now(), &format!("watching the socket failed: {error}"));
            }
        }
    }

    fn receive(&mut self) {
        let Self { udp, endpoint, network, shared, saturation, .. } = self;
        let result = udp.receive(|from, datagram| {
            let now = clock::now();
            if !network.push_incoming(now, from.route, datagram) {
                endpoint.handle_datagram(now, from, datagram);
            }
            hand_over(endpoint, shared, saturation);
        });
        self.more_to_receive = match result {
            Ok(more) => more,
            Err(error) => {
                self.errors.warn(clock::now(), &format!("receiving failed: {error}"));
                // The rest is still waiting, and no event will report it again.
                true
            }
        };
        if !self.more_to_receive && self.shared.arriving.note(self.endpoint.newest_prefix()) {
            self.shared.received.nudge();
        }
    }

    fn read_error_queue(&mut self) {
        let Self { udp, endpoint, .. } = self;
        udp.read_error_queue(|IcmpReport { to, error }| match error {
            DeliveryError::TooBig(len) => {
                debug!("ICMP reports a limit of {len} bytes of UDP payload on the path to {to}");
                endpoint.handle_too_big(clock::now(), to.into(), len);
            }
            DeliveryError::Unreachable(error) => {
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

    fn accept(&mut self) {
        let Self { poll, acceptor, connections, endpoint, .. } = self;
        let Some(acceptor) = acceptor else { return };
        acceptor.accept(clock::now(), |stream, from| {
            let Some(conn) = endpoint.handle_incoming(clock::now(), canonical(from)) else {
                return;
            };
            if connections.accept(poll.registry(), conn, stream).is_err() {
                endpoint.handle_disconnected(clock::now(), conn, false);
            }
        });
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
                    let now = clock::now();
                    self.closing.get_or_insert(Closing {
                        reason,
                        said: false,
                        sends_until: now + SEND_DEADLINE,
                        until: now + CLOSE_DEADLINE,
                    });
                }
            }
        }
    }

    fn drain(&mut self) {
        self.control();
        self.transmit();
        self.say_goodbye();
        self.send_egress();
        hand_over(&mut self.endpoint, &self.shared, &mut self.saturation);
        while let Some(event) = self.endpoint.poll_event() {
            let is_urgent = matches!(event, Event::Asked { .. });
            if let Err(TrySendError::Full(event)) = self.events.try_send(event) {
                debug!("event queue full, dropped {event:?}");
                self.shared.stats().events_dropped += 1;
            }
            if is_urgent {
                // The thread that shows it to the user may be waiting for frames.
                self.shared.wake_for_event();
            }
        }
    }

    /// If the driver is to close, ends every call once all pending frames are sent, or after
    /// [`SEND_DEADLINE`].
    fn say_goodbye(&mut self) {
        let Some(closing) = &mut self.closing else { return };
        let is_sending = self.batch.is_blocked() || self.endpoint.is_sending();
        if closing.said || is_sending && clock::now() < closing.sends_until {
            return;
        }
        closing.said = true;
        self.endpoint.close(closing.reason);
        self.control();
    }

    fn deliver_ingress(&mut self, now: Instant) {
        while let Some((mut datagram, from)) = self.network.poll_incoming(now) {
            self.endpoint.handle_datagram(now, from, &mut datagram);
        }
    }

    fn control(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::LookUp(id, host, port) => self.resolver.look_up(id, host, port),
                Output::LinkSpeed(peer) => {
                    // Some network adapters take milliseconds to answer.
                    let look_up = move || (peer, interface_speed(peer.socket_addr()));
                    if let Err(error) = self.link_speeds.start("link speed", look_up) {
                        debug!("cannot look up the speed of the interface to {peer:?}: {error}");
                    }
                }
                Output::Dial(conn, to) => {
                    // If the MTU is too small, TCP may fail to connect, and its error does not say
                    // why.
                    self.errors.warn_narrow(to, interface_len(to));
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

    /// Sends until nothing more may be sent now, or the socket blocks.
    fn transmit(&mut self) {
        loop {
            let now = clock::now();
            let Self { udp, endpoint, network, batch, .. } = self;
            let max_batch = udp.max_batch();
            let poll = |buf: &mut [u8]| endpoint.poll_transmit(now, buf, max_batch);
            let result = batch.send(poll, |to, contents, segment_len| {
                if network.push_outgoing(now, to, contents, segment_len) {
                    return Ok(());
                }
                udp.send(to, contents, segment_len)
            });
            match result {
                None => return,
                // The emulated network has taken them. `send_egress` sends them when they are due.
                Some(_) if self.network.has_egress() => {}
                Some(result) => self.handle_send_result(now, result),
            }
        }
    }

    /// Sends what has passed through the emulated network.
    fn send_egress(&mut self) {
        let now = clock::now();
        loop {
            let Self { udp, network, .. } = self;
            let send = |to, datagram: &[u8]| udp.send(to, datagram, datagram.len());
            let Some(result) = network.send_due(now, send) else { return };
            self.handle_send_result(now, result);
        }
    }

    /// Handles the result of sending datagrams to a peer.
    fn handle_send_result(&mut self, now: Instant, result: Result<PeerAddr, SendFailure>) {
        match result {
            Ok(to) => self.endpoint.handle_sent(now, to),
            Err(failure) => {
                self.errors.handle_failure(clock::now(), &mut self.endpoint, &failure);
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        let drops_due = self.schedule.note_published(now);
        let drops = if drops_due { self.udp.kernel_drops() } else { None };
        if drops_due {
            self.endpoint.set_kernel_drops(drops.unwrap_or_default().overruns);
        }
        let mut stats = self.shared.stats();
        stats.kernel_drops = drops.or(stats.kernel_drops);
        stats.calls.clear();
        stats.calls.extend(self.endpoint.calls());
        stats.totals = self.endpoint.totals();
        stats.strays = self.endpoint.strays();
        stats.send = self.udp.counters();
        stats.netem = self.network.counters();
    }
}

impl Drop for Driver {
    /// Threads waiting for frames, or to send one, must wake however the driver ends.
    fn drop(&mut self) {
        self.shared.demand.set(Demand::Next);
        self.shared.received.close();
    }
}

fn hand_over(endpoint: &mut Endpoint, shared: &Shared, saturation: &mut Saturation) {
    while let Some(frame) = endpoint.poll_frame() {
        if shared.received.put(frame).is_some() {
            saturation.record(clock::now(), &shared.taken);
        }
    }
}

const UDP: Token = Token(0);
const LISTENER: Token = Token(1);
const WAKER: Token = Token(2);
const TIMER: Token = Token(3);
const FIRST_CONNECTION: usize = 4;

/// For waits of this length or longer, the millisecond resolution of the poll's own timeout
/// suffices.
const COARSE: Duration = Duration::from_millis(10);

/// The maximum number of pending commands. At the limit a line of text is refused, and the sender
/// of any other command waits.
const COMMAND_BACKLOG: usize = 64;

/// The maximum number of events not fetched yet. Further ones are dropped and counted.
const EVENT_BACKLOG: usize = 1024;

/// The minimum wait while the socket is blocked, so that overdue datagrams do not make the loop
/// spin.
const MIN_BLOCKED_WAIT: Duration = Duration::from_millis(1);

/// How long the frames that are pending at the shutdown may take. Goodbye is said then.
const SEND_DEADLINE: Duration = Duration::from_millis(200);

/// How long the shutdown may take. Frames and goodbyes that are still pending then are dropped.
const CLOSE_DEADLINE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::{super::acceptor::ACCEPTS_AT_ONCE, *};
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
            assert!(driver.acceptor.iter().all(Acceptor::has_more));
        }
        driver.turn(&ready);
        assert!(!driver.acceptor.iter().any(Acceptor::has_more), "no connection is waiting");
    }
}
