//! A network in virtual time: endpoints, bad links for their datagrams, ordered and reliable
//! pipes for their control connections. One seed gives one trace.

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

/// The simulated network and everybody in it.
pub(crate) struct Sim {
    pub(crate) base: Instant,
    pub(crate) now: Instant,
    nodes: Vec<Node>,
    links: Vec<Link>,
    /// Which link leads from the first node to each, then from the second to each, and so on.
    routes: Vec<usize>,
    /// What the name service knows.
    pub(crate) names: HashMap<String, SocketAddr>,
    pipes: Vec<Pipe>,
    pipe_queue: BTreeMap<(Instant, u64), PipeEvent>,
    pipe_order: u64,
    pipe_delay: Duration,
    pipe_stuck_until: Instant,
    trace: crc32fast::Hasher,
    /// How often `handle_timeout` is called though nothing is due.
    pub(crate) spurious: Option<Duration>,
    buf: Vec<u8>,
}

/// A program on one machine; `None` while it is not running.
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
    /// Whether its endpoint is to be drained.
    was_called: bool,
}

/// A source that makes a frame at each interval.
struct Video {
    next_at: Instant,
    next_number: u64,
    camera: Camera,
}

/// Says how many bytes the next frame has, if it is to be sent, given how many bits a second of
/// pictures the path can bear, if that is known.
pub(crate) type Camera = Box<dyn FnMut(Option<u64>) -> Option<usize>>;

struct Link {
    /// What travels with a datagram is who sent it and where it goes.
    netem: Netem<(SocketAddr, NodeId)>,
    open: bool,
    /// Longer datagrams are lost.
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
    /// A network of `nodes` machines, nothing running, joined by links that do nothing bad.
    pub(crate) fn new(nodes: usize) -> Self {
        Self::with_links(nodes, NetemSpec { delay: MS, ..NetemSpec::default() })
    }

    /// The same with links of `spec`; each gets a seed of its own.
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

    /// Gives the way from `from` to `to` its own bad network.
    pub(crate) fn set_link(&mut self, from: NodeId, to: NodeId, spec: NetemSpec) {
        *self.link(from, to) = Link::new(spec);
    }

    /// From now on, datagrams from `from` to `to` of more than `len` bytes of UDP payload are lost.
    pub(crate) fn set_mtu(&mut self, from: NodeId, to: NodeId, len: usize) {
        self.link(from, to).mtu = len;
    }

    /// From now on, the datagrams of `node` come from `addr`, and only those to `addr` reach it. Its
    /// connections stay.
    pub(crate) fn move_to(&mut self, node: NodeId, addr: SocketAddr) {
        self.nodes[node.0].addr = addr;
    }

    /// Gives several ways one bad network, which they share.
    pub(crate) fn share_link(&mut self, ways: &[(NodeId, NodeId)], spec: NetemSpec) {
        self.links.push(Link::new(spec));
        for (from, to) in ways {
            self.routes[from.0 * self.nodes.len() + to.0] = self.links.len() - 1;
        }
    }

    /// From now on the way from `from` to `to` carries `rate` bits a second.
    pub(crate) fn set_rate(&mut self, from: NodeId, to: NodeId, rate: u64) {
        self.link(from, to).netem.set_rate(Some(rate));
    }

    /// What `node` listens on.
    pub(crate) fn addr(&self, node: NodeId) -> SocketAddr {
        self.nodes[node.0].addr
    }

    /// A configuration whose epoch is now and whose clock nobody else can know.
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

    /// A caller's way to `node`.
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

    /// Starts a program on `node`, which must not be running one.
    pub(crate) fn start(&mut self, node: NodeId, config: EndpointConfig) {
        let n = &mut self.nodes[node.0];
        assert!(n.endpoint.is_none(), "{node:?} is running already");
        n.listens = matches!(config.role, Role::Receive | Role::ChatListen);
        n.max_datagram_len = config.max_datagram_len.unwrap_or(MAX_DATAGRAM_LEN);
        n.endpoint = Some(Endpoint::new(self.now, config));
        self.settle(node);
    }

    /// Ends the program on `node` as SIGKILL does: its connections break, nothing is said.
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

    /// From now on, `node` asks `camera` for a frame every [`FRAME_INTERVAL`]; each has a number,
    /// also those that are not sent.
    pub(crate) fn start_camera(&mut self, node: NodeId, camera: Camera) {
        let next_number = self.nodes[node.0].video.as_ref().map_or(0, |v| v.next_number);
        self.nodes[node.0].video = Some(Video { next_at: self.now, next_number, camera });
    }

    pub(crate) fn stop_video(&mut self, node: NodeId) {
        self.nodes[node.0].video = None;
    }

    /// Pushes one frame with number `number`.
    pub(crate) fn push_frame(&mut self, node: NodeId, number: u64, frame_len: usize) {
        let frame = OutgoingFrame { data: picture(number, frame_len).into(), captured: self.now };
        self.with(node, |endpoint, now| endpoint.push_frame(now, &frame));
    }

    /// Lets datagrams pass from `from` to `to`, or not.
    pub(crate) fn set_open(&mut self, from: NodeId, to: NodeId, open: bool) {
        self.link(from, to).open = open;
    }

    /// Nothing passes for `time`, neither datagrams nor control; control is late, not lost.
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

    /// A stranger connects to `node` and says `bytes`; what it answers.
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

    /// It says `bytes`; what `node` answers, its preface included.
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

    /// What `node` has told since this was asked last, with the time since the base.
    pub(crate) fn take_events(&mut self, node: NodeId) -> Vec<(Duration, Event)> {
        let events = std::mem::take(&mut self.nodes[node.0].events);
        events.into_iter().map(|(at, event)| (at - self.base, event)).collect()
    }

    /// The frames that `node` has received since this was asked last.
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

    /// A digest of what has left anybody, how long and when; what is encrypted is never the same.
    pub(crate) fn digest(&self) -> u32 {
        self.trace.clone().finalize()
    }

    /// Runs for `time`.
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
                self.prod();
            }
            self.step();
        }
        self.now = end;
    }

    /// Calls every endpoint's `handle_timeout` though nothing is due.
    fn prod(&mut self) {
        for node in &mut self.nodes {
            let Some(endpoint) = &mut node.endpoint else { continue };
            let before = endpoint.poll_timeout();
            if before.is_none_or(|at| at > self.now) {
                endpoint.handle_timeout(self.now);
                assert_eq!(endpoint.poll_timeout(), before, "a spurious timeout changed the next");
                assert_eq!(endpoint.poll_output(), None, "a spurious timeout said something");
                assert_eq!(endpoint.poll_event(), None, "a spurious timeout told something");
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

    /// Drains the endpoint of `node` and holds it to its contract.
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
                    self.send(node, transmit.to, datagram);
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

    /// `head` of what has left, the part of it that is the same each time.
    fn note(&mut self, node: NodeId, head: &[u8], len: usize) {
        self.trace.update(&(self.now - self.base).as_nanos().to_be_bytes());
        self.trace.update(&[node.0 as u8]);
        self.trace.update(head);
        self.trace.update(&len.to_be_bytes());
    }

    fn act(&mut self, node: NodeId, output: Output) {
        match output {
            Output::LookUp(lookup, host, _) => {
                let found = self.names.get(&host).copied().ok_or_else(|| "unknown".to_owned());
                let found = found.map(|addr| vec![addr]);
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

    /// A dialled connection reaches its target.
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

/// Frames whose fate is not told yet are those in the reassembler's slots and those that it
/// remembers after it gave them up; there are never more than these.
const MAX_FRAMES_IN_FLIGHT: u64 = 12;

/// Every frame seen has one fate.
fn assert_conserved(counters: &CallCounters) {
    let r = counters.reassembly;
    let told = r.completed + r.incomplete + r.late + r.damaged;
    assert!(told <= r.seen && r.seen - told <= MAX_FRAMES_IN_FLIGHT, "{r:?}");
}

/// An encoded picture, as far as the network cares: its number, then bytes that are another
/// frame's nowhere.
pub(crate) fn picture(number: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len.max(8)];
    for (i, bytes) in data.chunks_mut(PIECE).enumerate() {
        let from = (number as usize * 4099 + i * 61) % SHIFTS;
        bytes.copy_from_slice(&noise()[from..][..bytes.len()]);
    }
    data[..8].copy_from_slice(&number.to_be_bytes());
    data
}

/// Random bytes; a picture is a piece of them, shifted by its number.
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

/// The number of a received picture, which must be whole.
pub(crate) fn number_of(data: &[u8]) -> u64 {
    let number = u64::from_be_bytes(data[..8].try_into().expect("eight bytes"));
    assert!(data == &picture(number, data.len())[..], "picture {number} is damaged");
    number
}

/// The numbers of received pictures.
pub(crate) fn numbers(frames: &[(Instant, Delivered)]) -> Vec<u64> {
    frames.iter().map(|(_, d)| number_of(&d.frame.data)).collect()
}
