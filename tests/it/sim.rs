//! A simulated network in virtual time: endpoints, impaired links for their datagrams, and ordered,
//! reliable pipes for their control connections. The same seed gives the same trace.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use udpchat::net::{
    frame::OutgoingFrame,
    netem::{Netem, NetemSpec},
    session::{
        CallCounters, ConnId, Delivered, Endpoint, EndpointConfig, Event, LookupId, Output, Role,
        Target, WaitReason,
    },
    wire::{
        control::CloseReason,
        datagram::{MAX_DATAGRAM_LEN, Prelude},
        text::Line,
    },
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const FRAME_INTERVAL: Duration = Duration::from_micros(33_333);

/// One machine of the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) usize);

/// The simulated network and its machines.
pub(crate) struct Sim {
    pub(crate) base: Instant,
    pub(crate) now: Instant,
    nodes: Vec<Node>,
    links: Vec<Link>,
    /// The index of the link from each node to each node, in row-major order.
    routes: Vec<usize>,
    /// The contents of the name service.
    pub(crate) names: HashMap<String, Vec<SocketAddr>>,
    pipes: Vec<Pipe>,
    pipe_queue: BTreeMap<(Instant, u64), PipeEvent>,
    pipe_order: u64,
    pipe_delay: Duration,
    pipe_stuck_until: Instant,
    trace: crc32fast::Hasher,
    /// The interval at which `handle_timeout` is called although nothing is due.
    pub(crate) spurious: Option<Duration>,
    buf: Vec<u8>,
}

/// A machine and its program; `endpoint` is `None` while the program is not running.
struct Node {
    addr: SocketAddr,
    endpoint: Option<Endpoint>,
    max_datagram_len: usize,
    listens: bool,
    conns: HashMap<ConnId, (usize, End)>,
    events: Vec<(Instant, Event)>,
    frames: Vec<(Instant, Delivered)>,
    video: Option<Video>,
    sent_bytes: u64,
    /// Whether its endpoint has to be drained.
    was_called: bool,
}

/// A video source that makes a frame every [`FRAME_INTERVAL`].
struct Video {
    next_at: Instant,
    next_number: u64,
    camera: Camera,
}

/// Returns the length of the next frame in bytes, or `None` to skip it. The argument is the bitrate
/// that the path can carry, in bit/s of pictures, if known.
pub(crate) type Camera = Box<dyn FnMut(Option<u64>) -> Option<usize>>;

struct Link {
    /// Each datagram carries its source address and destination node.
    netem: Netem<(SocketAddr, NodeId)>,
    open: bool,
    /// In bytes of UDP payload; longer datagrams are lost.
    mtu: usize,
}

impl Link {
    fn new(spec: NetemSpec) -> Self {
        Self { netem: Netem::new(spec), open: true, mtu: MAX_DATAGRAM_LEN }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Dialler,
    Listener,
}

struct Pipe {
    dialler: Option<(NodeId, ConnId)>,
    listener: Option<(NodeId, ConnId)>,
}

enum PipeEvent {
    Found { node: NodeId, lookup: LookupId, found: Result<Vec<SocketAddr>, String> },
    Dial { pipe: usize, to: SocketAddr },
    Connected { pipe: usize },
    Refused { pipe: usize },
    Data { pipe: usize, to: End, bytes: Vec<u8> },
    Closed { pipe: usize, to: End },
}

impl Sim {
    /// A network of `nodes` idle machines, joined by links with a delay of 1 ms and no impairments.
    pub(crate) fn new(nodes: usize) -> Self {
        Self::with_links(nodes, NetemSpec { delay: MS, ..NetemSpec::default() })
    }

    /// A network whose links follow `spec`; each link has its own seed.
    pub(crate) fn with_links(nodes: usize, spec: NetemSpec) -> Self {
        let base = udpchat::clock::now() + SECOND;
        let link = |index: usize| {
            let seed = spec.seed.wrapping_mul(0x9e37_79b9).wrapping_add(index as u64);
            Link::new(NetemSpec { seed, ..spec })
        };
        let links: Vec<_> = (0..nodes * nodes).map(link).collect();
        Self {
            base,
            now: base,
            nodes: (0..nodes).map(Node::new).collect(),
            routes: (0..links.len()).collect(),
            links,
            names: HashMap::new(),
            pipes: Vec::new(),
            pipe_queue: BTreeMap::new(),
            pipe_order: 0,
            pipe_delay: spec.delay + MS,
            pipe_stuck_until: base,
            trace: crc32fast::Hasher::new(),
            spurious: None,
            buf: vec![0; 65_507],
        }
    }

    /// Replaces the link from `from` to `to`.
    pub(crate) fn set_link(&mut self, from: NodeId, to: NodeId, spec: NetemSpec) {
        *self.link(from, to) = Link::new(spec);
    }

    /// From now on, datagrams from `from` to `to` of more than `len` bytes of UDP payload are lost.
    pub(crate) fn set_mtu(&mut self, from: NodeId, to: NodeId, len: usize) {
        self.link(from, to).mtu = len;
    }

    /// Moves `node` to `addr`: it sends datagrams from there and receives only those sent there.
    /// Its control connections stay.
    pub(crate) fn move_to(&mut self, node: NodeId, addr: SocketAddr) {
        self.nodes[node.0].addr = addr;
    }

    /// Routes several pairs of nodes over one shared link.
    pub(crate) fn share_link(&mut self, ways: &[(NodeId, NodeId)], spec: NetemSpec) {
        self.links.push(Link::new(spec));
        for (from, to) in ways {
            self.routes[from.0 * self.nodes.len() + to.0] = self.links.len() - 1;
        }
    }

    /// Sets the rate of the link from `from` to `to`, in bit/s.
    pub(crate) fn set_rate(&mut self, from: NodeId, to: NodeId, rate: u64) {
        self.link(from, to).netem.set_rate(Some(rate));
    }

    /// The address of `node`.
    pub(crate) fn addr(&self, node: NodeId) -> SocketAddr {
        self.nodes[node.0].addr
    }

    /// A configuration whose epoch is now and whose clock is not shared with any peer.
    pub(crate) fn config(&self, node: NodeId, role: Role) -> EndpointConfig {
        EndpointConfig {
            seed: node.0 as u64 + 1 + (self.now - self.base).as_micros() as u64 * 16,
            ..crate::endpoint::config(
                ["ann", "bob", "eve", "dan", "flo", "gus"][node.0],
                role,
                self.now,
            )
        }
    }

    /// The target with which a caller reaches `node`.
    pub(crate) fn target(&self, node: NodeId) -> Target {
        Target { host: format!("host{}", node.0), port: 7722, addrs: vec![self.addr(node)] }
    }

    /// Starts `node` as a sender to `to`, with or without a control channel.
    pub(crate) fn start_sender(&mut self, node: NodeId, to: NodeId, control: bool) {
        let role = Role::Send { targets: vec![self.target(to)], control };
        self.start(node, self.config(node, role));
    }

    pub(crate) fn start_receiver(&mut self, node: NodeId) {
        self.start(node, self.config(node, Role::Receive));
    }

    /// Starts a program on `node`. Panics if one is running.
    pub(crate) fn start(&mut self, node: NodeId, config: EndpointConfig) {
        let n = &mut self.nodes[node.0];
        assert!(n.endpoint.is_none(), "{node:?} is running already");
        n.listens = matches!(config.role, Role::Receive | Role::ChatListen);
        n.max_datagram_len = config.max_datagram_len.unwrap_or(MAX_DATAGRAM_LEN);
        n.endpoint = Some(Endpoint::new(self.now, config));
        self.settle(node);
    }

    /// Ends the program on `node` as SIGKILL does: its connections break without a close message.
    pub(crate) fn kill(&mut self, node: NodeId) {
        let n = &mut self.nodes[node.0];
        n.endpoint = None;
        n.listens = false;
        n.video = None;
        let mut conns: Vec<_> = n.conns.drain().map(|(_, pipe)| pipe).collect();
        conns.sort_by_key(|c| c.0);
        for (pipe, end) in conns {
            self.close_pipe(pipe, end);
        }
    }

    /// Ends the program on `node` as Ctrl-C does.
    pub(crate) fn quit(&mut self, node: NodeId) {
        let is_sending = |e: &Endpoint| e.is_sending();
        while self.nodes[node.0].endpoint.as_ref().is_some_and(is_sending) {
            self.run(Duration::from_millis(1));
        }
        self.with(node, |endpoint, _| endpoint.close(CloseReason::Quit));
        self.kill(node);
    }

    /// Calls the endpoint of `node`, then drains it.
    pub(crate) fn with<T>(
        &mut self,
        node: NodeId,
        call: impl FnOnce(&mut Endpoint, Instant) -> T,
    ) -> Option<T> {
        let result = self.nodes[node.0].endpoint.as_mut().map(|e| call(e, self.now));
        self.settle(node);
        result
    }

    pub(crate) fn say(&mut self, node: NodeId, text: &str) {
        let line = Line::new(text).expect("something to say");
        self.with(node, |endpoint, _| endpoint.push_text(&line));
    }

    /// From now on, `node` pushes a frame of `frame_len` bytes every [`FRAME_INTERVAL`].
    pub(crate) fn start_video(&mut self, node: NodeId, frame_len: usize) {
        self.start_camera(node, Box::new(move |_| Some(frame_len)));
    }

    /// From now on, `node` asks `camera` for a frame every [`FRAME_INTERVAL`]. Skipped frames are
    /// numbered, too.
    pub(crate) fn start_camera(&mut self, node: NodeId, camera: Camera) {
        let next_number = self.nodes[node.0].video.as_ref().map_or(0, |v| v.next_number);
        self.nodes[node.0].video = Some(Video { next_at: self.now, next_number, camera });
    }

    pub(crate) fn stop_video(&mut self, node: NodeId) {
        self.nodes[node.0].video = None;
    }

    /// Pushes one frame with this number.
    pub(crate) fn push_frame(&mut self, node: NodeId, number: u64, frame_len: usize) {
        let frame = OutgoingFrame { data: picture(number, frame_len).into(), captured: self.now };
        self.with(node, |endpoint, now| endpoint.push_frame(now, &frame));
    }

    /// Opens or blocks the link from `from` to `to` for datagrams.
    pub(crate) fn set_open(&mut self, from: NodeId, to: NodeId, open: bool) {
        self.link(from, to).open = open;
    }

    /// Nothing passes for `time`. Datagrams are lost, control messages delayed.
    pub(crate) fn black_out(&mut self, time: Duration) {
        self.pipe_stuck_until = self.now + time;
        for link in &mut self.links {
            link.open = false;
        }
        self.run(time);
        for link in &mut self.links {
            link.open = true;
        }
    }

    /// Hands `datagram` to `node` as if it had come from `from`.
    pub(crate) fn inject(&mut self, node: NodeId, from: SocketAddr, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        self.with(node, |endpoint, now| endpoint.handle_datagram(now, from, &mut datagram));
    }

    /// A stranger connects to `node` and sends `bytes`. Returns the answer.
    pub(crate) fn speak_to(&mut self, node: NodeId, bytes: &[u8]) -> Vec<u8> {
        let conn = self.connect(node);
        self.speak_on(node, conn, bytes)
    }

    /// A stranger connects to `node`.
    pub(crate) fn connect(&mut self, node: NodeId) -> ConnId {
        let from = "10.9.9.9:9".parse().expect("an address");
        let endpoint = self.nodes[node.0].endpoint.as_mut().expect("running");
        endpoint.handle_incoming(self.now, from).expect("room")
    }

    /// The stranger sends `bytes`. Returns the answer of `node`, including its preface.
    pub(crate) fn speak_on(&mut self, node: NodeId, conn: ConnId, bytes: &[u8]) -> Vec<u8> {
        let endpoint = self.nodes[node.0].endpoint.as_mut().expect("running");
        endpoint.handle_data(self.now, conn, bytes);
        let mut answer = Vec::new();
        while let Some(output) = endpoint.poll_output() {
            if let Output::Write(_, bytes) = output {
                answer.extend(bytes);
            }
        }
        self.settle(node);
        answer
    }

    /// The events of `node` since the last call, with their times since the base.
    pub(crate) fn take_events(&mut self, node: NodeId) -> Vec<(Duration, Event)> {
        let events = std::mem::take(&mut self.nodes[node.0].events);
        events.into_iter().map(|(at, event)| (at - self.base, event)).collect()
    }

    /// The frames that `node` has received since the last call.
    pub(crate) fn take_frames(&mut self, node: NodeId) -> Vec<(Instant, Delivered)> {
        std::mem::take(&mut self.nodes[node.0].frames)
    }

    /// The counters of the calls of `node`.
    pub(crate) fn counters(&self, node: NodeId) -> Vec<CallCounters> {
        let endpoint = self.nodes[node.0].endpoint.as_ref();
        endpoint.map(|e| e.calls().map(|(_, c)| c).collect()).unwrap_or_default()
    }

    pub(crate) fn endpoint(&self, node: NodeId) -> &Endpoint {
        self.nodes[node.0].endpoint.as_ref().expect("running")
    }

    /// Bytes of UDP payload that `node` has sent.
    pub(crate) fn sent_bytes(&self, node: NodeId) -> u64 {
        self.nodes[node.0].sent_bytes
    }

    /// A digest of what each node sent: times, lengths and preludes. Contents are excluded, because
    /// ciphertexts differ between runs.
    pub(crate) fn digest(&self) -> u32 {
        self.trace.clone().finalize()
    }

    /// Advances virtual time by `time`.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut spurious_at = self.spurious.map(|gap| self.now + gap);
        while let Some(due) = self.next_due().into_iter().chain(spurious_at).min() {
            if due > end {
                break;
            }
            self.now = self.now.max(due);
            if spurious_at.is_some_and(|at| at <= self.now) {
                spurious_at = self.spurious.map(|gap| self.now + gap);
                self.spurious_timeouts();
            }
            self.step();
        }
        self.now = end;
    }

    /// Calls `handle_timeout` of every endpoint that has nothing due; that must have no effect.
    fn spurious_timeouts(&mut self) {
        for node in &mut self.nodes {
            let Some(endpoint) = &mut node.endpoint else { continue };
            let before = endpoint.poll_timeout();
            if before.is_none_or(|at| at > self.now) {
                endpoint.handle_timeout(self.now);
                assert_eq!(endpoint.poll_timeout(), before, "a spurious timeout changed the next");
                assert_eq!(endpoint.poll_output(), None, "a spurious timeout caused an output");
                assert_eq!(endpoint.poll_event(), None, "a spurious timeout caused an event");
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let nodes = self.nodes.iter().flat_map(|n| {
            [
                n.endpoint.as_ref().and_then(Endpoint::poll_timeout),
                n.video.as_ref().map(|v| v.next_at),
            ]
        });
        let links = self.links.iter().map(|l| l.netem.poll_timeout());
        let pipes = self.pipe_queue.keys().next().map(|k| k.0);
        nodes.chain(links).flatten().chain(pipes).min()
    }

    fn step(&mut self) {
        for node in (0..self.nodes.len()).map(NodeId) {
            self.capture(node);
        }
        self.deliver_datagrams();
        while let Some(entry) = self.pipe_queue.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.deliver_pipe(event);
        }
        for node in (0..self.nodes.len()).map(NodeId) {
            let due = self.nodes[node.0].endpoint.as_ref().and_then(Endpoint::poll_timeout);
            if due.is_some_and(|at| at <= self.now) {
                self.settle(node);
            }
        }
    }

    fn capture(&mut self, node: NodeId) {
        let Node { video, endpoint, .. } = &mut self.nodes[node.0];
        let Some(video) = video.as_mut().filter(|v| v.next_at <= self.now) else { return };
        let number = video.next_number;
        video.next_at += FRAME_INTERVAL;
        video.next_number += 1;
        let bitrate = endpoint.as_ref().and_then(|endpoint| endpoint.picture_bitrates().path);
        if let Some(len) = (video.camera)(bitrate) {
            self.push_frame(node, number, len);
        }
    }

    fn deliver_datagrams(&mut self) {
        for index in 0..self.links.len() {
            while let Some((mut datagram, (source, to))) = self.links[index].netem.poll(self.now) {
                if let Some(endpoint) = &mut self.nodes[to.0].endpoint {
                    endpoint.handle_datagram(self.now, source, &mut datagram);
                    self.nodes[to.0].was_called = true;
                }
            }
        }
        for node in (0..self.nodes.len()).map(NodeId) {
            if std::mem::take(&mut self.nodes[node.0].was_called) {
                self.settle(node);
            }
        }
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let route = self.routes[from.0 * self.nodes.len() + to.0];
        &mut self.links[route]
    }

    /// Drains the endpoint of `node` and asserts its contract.
    fn settle(&mut self, node: NodeId) {
        let Some(mut endpoint) = self.nodes[node.0].endpoint.take() else { return };
        endpoint.handle_timeout(self.now);
        loop {
            let mut quiet = true;
            while let Some(output) = endpoint.poll_output() {
                quiet = false;
                self.act(node, output);
            }
            let mut buf = std::mem::take(&mut self.buf);
            while let Some(transmit) = endpoint.poll_transmit(self.now, &mut buf, 64) {
                quiet = false;
                for datagram in buf[..transmit.len].chunks(transmit.segment_len) {
                    self.send(node, transmit.to.socket_addr(), datagram);
                }
            }
            self.buf = buf;
            if quiet {
                break;
            }
        }
        let n = &mut self.nodes[node.0];
        let now = self.now;
        n.frames.extend(std::iter::from_fn(|| endpoint.poll_frame()).map(|f| (now, f)));
        n.events.extend(std::iter::from_fn(|| endpoint.poll_event()).map(|e| (now, e)));
        assert!(
            endpoint.poll_timeout().is_none_or(|at| at > now),
            "{node:?} is due in the past after a full drain"
        );
        for (_, counters) in endpoint.calls() {
            assert_conserved(&counters);
        }
        n.endpoint = Some(endpoint);
    }

    fn send(&mut self, node: NodeId, to: SocketAddr, datagram: &[u8]) {
        let n = &mut self.nodes[node.0];
        assert!(
            datagram.len() <= n.max_datagram_len,
            "{node:?} sent {} bytes, at most {} are allowed",
            datagram.len(),
            n.max_datagram_len
        );
        n.sent_bytes += datagram.len() as u64;
        let from = n.addr;
        self.note(node, &datagram[..Prelude::LEN.min(datagram.len())], datagram.len());
        let Some(target) = self.nodes.iter().position(|n| n.addr == to) else { return };
        let now = self.now;
        let link = self.link(node, NodeId(target));
        if link.open && datagram.len() <= link.mtu {
            link.netem.push(now, datagram, (from, NodeId(target)));
        }
    }

    /// Adds a sent message to the trace. `head` is the part of it that is the same in every run.
    fn note(&mut self, node: NodeId, head: &[u8], len: usize) {
        self.trace.update(&(self.now - self.base).as_nanos().to_be_bytes());
        self.trace.update(&[node.0 as u8]);
        self.trace.update(head);
        self.trace.update(&len.to_be_bytes());
    }

    fn act(&mut self, node: NodeId, output: Output) {
        match output {
            Output::LookUp(lookup, host, _) => {
                let found = self.names.get(&host).cloned().ok_or_else(|| "unknown".to_owned());
                self.enqueue(PipeEvent::Found { node, lookup, found });
            }
            Output::Dial(conn, to) => {
                let pipe = self.pipes.len();
                self.pipes.push(Pipe { dialler: Some((node, conn)), listener: None });
                self.nodes[node.0].conns.insert(conn, (pipe, End::Dialler));
                self.enqueue(PipeEvent::Dial { pipe, to });
            }
            Output::Write(conn, bytes) => {
                self.note(node, &[], bytes.len());
                if let Some(&(pipe, end)) = self.nodes[node.0].conns.get(&conn) {
                    self.enqueue(PipeEvent::Data { pipe, to: end.other(), bytes });
                }
            }
            Output::Close(conn) => {
                if let Some((pipe, end)) = self.nodes[node.0].conns.remove(&conn) {
                    self.close_pipe(pipe, end);
                }
            }
        }
    }

    fn enqueue(&mut self, event: PipeEvent) {
        let due = self.now.max(self.pipe_stuck_until) + self.pipe_delay;
        self.pipe_order += 1;
        self.pipe_queue.insert((due, self.pipe_order), event);
    }

    fn close_pipe(&mut self, pipe: usize, end: End) {
        *self.pipes[pipe].end(end) = None;
        self.enqueue(PipeEvent::Closed { pipe, to: end.other() });
    }

    fn deliver_pipe(&mut self, event: PipeEvent) {
        let now = self.now;
        match event {
            PipeEvent::Found { node, lookup, found } => {
                let found = found.map_err(|error| WaitReason::Unresolved { error });
                self.with(node, |e, _| e.handle_found(now, lookup, found));
            }
            PipeEvent::Dial { pipe, to } => self.arrive(pipe, to),
            PipeEvent::Connected { pipe } => {
                if let Some((node, conn)) = self.pipes[pipe].dialler {
                    self.with(node, |e, _| e.handle_connected(now, conn));
                }
            }
            PipeEvent::Refused { pipe } => {
                if let Some((node, conn)) = self.pipes[pipe].dialler.take() {
                    self.nodes[node.0].conns.remove(&conn);
                    self.with(node, |e, _| e.handle_disconnected(now, conn, true));
                }
            }
            PipeEvent::Data { pipe, to, bytes } => {
                if let Some((node, conn)) = *self.pipes[pipe].end(to) {
                    self.with(node, |e, _| e.handle_data(now, conn, &bytes));
                }
            }
            PipeEvent::Closed { pipe, to } => {
                if let Some((node, conn)) = self.pipes[pipe].end(to).take() {
                    self.nodes[node.0].conns.remove(&conn);
                    self.with(node, |e, _| e.handle_disconnected(now, conn, false));
                }
            }
        }
    }

    /// A dialled connection reaches its target, or is refused.
    fn arrive(&mut self, pipe: usize, to: SocketAddr) {
        let Some((dialler, _)) = self.pipes[pipe].dialler else { return };
        let target = self.nodes.iter().position(|n| n.addr == to && n.listens);
        let from = SocketAddr::new(self.nodes[dialler.0].addr.ip(), 40_000);
        let conn = target.and_then(|t| {
            self.nodes[t].endpoint.as_mut().and_then(|e| e.handle_incoming(self.now, from))
        });
        let (Some(target), Some(conn)) = (target, conn) else {
            return self.enqueue(PipeEvent::Refused { pipe });
        };
        self.pipes[pipe].listener = Some((NodeId(target), conn));
        self.nodes[target].conns.insert(conn, (pipe, End::Listener));
        self.enqueue(PipeEvent::Connected { pipe });
        self.settle(NodeId(target));
    }
}

impl Node {
    fn new(index: usize) -> Self {
        Self {
            addr: SocketAddr::from(([10, 0, 0, index as u8 + 1], 7722)),
            endpoint: None,
            max_datagram_len: 0,
            listens: false,
            conns: HashMap::new(),
            events: Vec::new(),
            frames: Vec::new(),
            video: None,
            sent_bytes: 0,
            was_called: false,
        }
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

impl Pipe {
    fn end(&mut self, end: End) -> &mut Option<(NodeId, ConnId)> {
        match end {
            End::Dialler => &mut self.dialler,
            End::Listener => &mut self.listener,
        }
    }
}

/// The most frames without an outcome: those in the reassembler's slots, and those that it
/// remembers after giving them up.
const MAX_FRAMES_IN_FLIGHT: u64 = 12;

/// Asserts that every frame seen has exactly one outcome.
fn assert_conserved(counters: &CallCounters) {
    let r = counters.reassembly;
    let told = r.completed + r.incomplete + r.late + r.damaged;
    assert!(told <= r.seen && r.seen - told <= MAX_FRAMES_IN_FLIGHT, "{r:?}");
}

/// A stand-in for an encoded picture: its number, then bytes that no other picture has at the same
/// position.
pub(crate) fn picture(number: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len.max(8)];
    for (i, bytes) in data.chunks_mut(PIECE).enumerate() {
        let from = (number as usize * 4099 + i * 61) % SHIFTS;
        bytes.copy_from_slice(&noise()[from..][..bytes.len()]);
    }
    data[..8].copy_from_slice(&number.to_be_bytes());
    data
}

/// Random bytes. A picture is an excerpt of them, shifted by its number.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut word = 1_u64;
        let words = std::iter::repeat_with(|| {
            word = word.wrapping_mul(0xd129_42f5_af5c_4b8d).rotate_left(29) ^ 7;
            word.to_be_bytes()
        });
        words.take((PIECE + SHIFTS) / 8).flatten().collect()
    })
}

const PIECE: usize = 1 << 17;
const SHIFTS: usize = 1 << 16;

/// The number of a received picture. Panics if the picture is damaged.
pub(crate) fn number_of(data: &[u8]) -> u64 {
    let number = u64::from_be_bytes(data[..8].try_into().expect("eight bytes"));
    assert!(data == &picture(number, data.len())[..], "picture {number} is damaged");
    number
}

/// The numbers of received pictures.
pub(crate) fn numbers(frames: &[(Instant, Delivered)]) -> Vec<u64> {
    frames.iter().map(|(_, d)| number_of(&d.frame.data)).collect()
}
