//! A simulated network in virtual time: endpoints, impaired links for their datagrams, and ordered,
//! reliable pipes for their control connections. The same seed gives the same trace.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use udpchat::net::{
    frame::OutgoingFrame,
    netem::NetemSpec,
    session::{
        CallCounters, ConnId, Delivered, Endpoint, EndpointConfig, Event, Output, Role, Target,
        WaitReason,
    },
    units::Bitrate,
    wire::{control::CloseReason, datagram::Prelude, text::Line},
};

use self::{
    link::{Link, Links},
    node::Node,
    pipe::{Arrival, PipeId, Pipes},
};
pub(crate) use self::{
    node::{Camera, NodeId},
    picture::{number_of, numbers, picture},
};

mod link;
mod node;
mod picture;
mod pipe;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const FRAME_INTERVAL: Duration = Duration::from_micros(33_333);

/// The simulated network and its machines.
pub(crate) struct Sim {
    pub(crate) base: Instant,
    pub(crate) now: Instant,
    nodes: Vec<Node>,
    links: Links,
    pipes: Pipes,
    /// The contents of the name service.
    pub(crate) names: HashMap<String, Vec<SocketAddr>>,
    trace: crc32fast::Hasher,
    /// The interval at which `handle_timeout` is called although nothing is due.
    pub(crate) spurious: Option<Duration>,
    buf: Vec<u8>,
}

impl Sim {
    /// A network of `nodes` idle machines, joined by links with a delay of 1 ms and no impairments.
    pub(crate) fn new(nodes: usize) -> Self {
        Self::with_links(nodes, NetemSpec { delay: MS, ..NetemSpec::default() })
    }

    /// A network whose links follow `spec`; each link has its own seed.
    pub(crate) fn with_links(nodes: usize, spec: NetemSpec) -> Self {
        let base = udpchat::clock::now() + SECOND;
        Self {
            base,
            now: base,
            nodes: (0..nodes).map(|index| Node::new(NodeId(index))).collect(),
            links: Links::new(nodes, spec),
            pipes: Pipes::new(base, spec.delay + MS),
            names: HashMap::new(),
            trace: crc32fast::Hasher::new(),
            spurious: None,
            buf: vec![0; 65_507],
        }
    }

    /// Replaces the link from `from` to `to`.
    pub(crate) fn set_link(&mut self, from: NodeId, to: NodeId, spec: NetemSpec) {
        *self.links.between(from, to) = Link::new(spec);
    }

    /// From now on, datagrams from `from` to `to` of more than `len` bytes of UDP payload are lost.
    pub(crate) fn set_mtu(&mut self, from: NodeId, to: NodeId, len: usize) {
        self.links.between(from, to).mtu = len;
    }

    /// Moves `node` to `addr`: it sends datagrams from there and receives only those sent there.
    /// Its control connections stay.
    pub(crate) fn move_to(&mut self, node: NodeId, addr: SocketAddr) {
        self.nodes[node.0].addr = addr;
    }

    /// Routes several pairs of nodes over one shared link.
    pub(crate) fn share_link(&mut self, ways: &[(NodeId, NodeId)], spec: NetemSpec) {
        self.links.share(ways, spec);
    }

    /// Sets the rate of the link from `from` to `to`.
    pub(crate) fn set_rate(&mut self, from: NodeId, to: NodeId, rate: Bitrate) {
        self.links.between(from, to).set_rate(rate);
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
        self.nodes[node.0].start(self.now, config);
        self.settle(node);
    }

    /// Ends the program on `node` as SIGKILL does: its connections break without a close message.
    pub(crate) fn kill(&mut self, node: NodeId) {
        self.nodes[node.0].kill();
        self.pipes.close_all(self.now, node);
    }

    /// Ends the program on `node` as Ctrl-C does.
    pub(crate) fn quit(&mut self, node: NodeId) {
        let is_sending = |e: &Endpoint| e.is_sending();
        let until = self.now + Duration::from_millis(250);
        while self.now < until && self.nodes[node.0].endpoint.as_ref().is_some_and(is_sending) {
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
        self.nodes[node.0].start_camera(self.now, camera);
    }

    pub(crate) fn stop_video(&mut self, node: NodeId) {
        self.nodes[node.0].stop_video();
    }

    /// Pushes one frame with this number.
    pub(crate) fn push_frame(&mut self, node: NodeId, number: u64, frame_len: usize) {
        let frame = OutgoingFrame { data: picture(number, frame_len).into(), captured: self.now };
        self.with(node, |endpoint, now| endpoint.push_frame(now, &frame));
    }

    /// Opens or blocks the link from `from` to `to` for datagrams.
    pub(crate) fn set_open(&mut self, from: NodeId, to: NodeId, open: bool) {
        self.links.between(from, to).open = open;
    }

    /// Nothing passes for `time`. Datagrams are lost, control messages delayed.
    pub(crate) fn black_out(&mut self, time: Duration) {
        self.pipes.block_until(self.now + time);
        self.links.set_open(false);
        self.run(time);
        self.links.set_open(true);
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
        let events = self.nodes[node.0].take_events();
        events.into_iter().map(|(at, event)| (at - self.base, event)).collect()
    }

    /// The frames that `node` has received since the last call.
    pub(crate) fn take_frames(&mut self, node: NodeId) -> Vec<(Instant, Delivered)> {
        self.nodes[node.0].take_frames()
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
        self.nodes[node.0].sent_bytes()
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
                for node in &mut self.nodes {
                    node.spurious_timeout(self.now);
                }
            }
            self.step();
        }
        self.now = end;
    }

    fn next_due(&self) -> Option<Instant> {
        let nodes = self.nodes.iter().filter_map(Node::poll_timeout);
        nodes.chain(self.links.poll_timeout()).chain(self.pipes.poll_timeout()).min()
    }

    fn step(&mut self) {
        for node in self.node_ids() {
            if let Some((number, len)) = self.nodes[node.0].capture(self.now) {
                self.push_frame(node, number, len);
            }
        }
        self.deliver_datagrams();
        while let Some(arrival) = self.pipes.poll(self.now) {
            self.deliver(arrival);
        }
        for node in self.node_ids() {
            if self.nodes[node.0].endpoint_due().is_some_and(|at| at <= self.now) {
                self.settle(node);
            }
        }
    }

    fn deliver_datagrams(&mut self) {
        while let Some((mut datagram, source, to)) = self.links.poll(self.now) {
            self.nodes[to.0].receive(self.now, source, &mut datagram);
        }
        for node in self.node_ids() {
            if self.nodes[node.0].take_called() {
                self.settle(node);
            }
        }
    }

    fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
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
        self.nodes[node.0].put_back(self.now, endpoint);
    }

    fn send(&mut self, node: NodeId, to: SocketAddr, datagram: &[u8]) {
        self.nodes[node.0].note_sent(datagram.len());
        self.note(node, &datagram[..Prelude::LEN.min(datagram.len())], datagram.len());
        let Some(target) = self.nodes.iter().position(|n| n.addr == to) else { return };
        let (from, target) = (self.nodes[node.0].addr, NodeId(target));
        self.links.between(node, target).push(self.now, datagram, from, target);
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
            Output::LinkSpeed(_) => {}
            Output::LookUp(lookup, host, _) => {
                let found = self.names.get(&host).cloned().ok_or_else(|| "unknown".to_owned());
                self.pipes.answer(self.now, node, lookup, found);
            }
            Output::Dial(conn, to) => self.pipes.dial(self.now, node, conn, to),
            Output::Write(conn, bytes) => {
                self.note(node, &[], bytes.len());
                self.pipes.write(self.now, node, conn, bytes);
            }
            Output::Close(conn) => self.pipes.close(self.now, node, conn),
        }
    }

    fn deliver(&mut self, arrival: Arrival) {
        let now = self.now;
        match arrival {
            Arrival::Found(node, lookup, found) => {
                let found = found.map_err(|error| WaitReason::Unresolved { error });
                self.with(node, |e, _| e.handle_found(now, lookup, found));
            }
            Arrival::Dialled { pipe, from, to } => self.arrive(pipe, from, to),
            Arrival::Connected(node, conn) => {
                self.with(node, |e, _| e.handle_connected(now, conn));
            }
            Arrival::Refused(node, conn) => {
                self.with(node, |e, _| e.handle_disconnected(now, conn, true));
            }
            Arrival::Data(node, conn, bytes) => {
                self.with(node, |e, _| e.handle_data(now, conn, &bytes));
            }
            Arrival::Closed(node, conn) => {
                self.with(node, |e, _| e.handle_disconnected(now, conn, false));
            }
        }
    }

    /// A dialled connection reaches its target, or is refused.
    fn arrive(&mut self, pipe: PipeId, dialler: NodeId, to: SocketAddr) {
        let target = self.nodes.iter().position(|n| n.addr == to && n.listens);
        let from = SocketAddr::new(self.nodes[dialler.0].addr.ip(), 40_000);
        let conn = target.and_then(|t| {
            self.nodes[t].endpoint.as_mut().and_then(|e| e.handle_incoming(self.now, from))
        });
        let (Some(target), Some(conn)) = (target, conn) else {
            return self.pipes.refuse(self.now, pipe);
        };
        self.pipes.accept(self.now, pipe, NodeId(target), conn);
        self.settle(NodeId(target));
    }
}
