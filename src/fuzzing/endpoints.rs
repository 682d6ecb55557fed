//! Two endpoints, and everything that can happen on the path between them.

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    sync::LazyLock,
    time::{Duration, Instant},
};

use arbitrary::{Result, Unstructured};

use crate::{
    clock,
    net::{
        crypto::keys::{Identity, PublicKey, SharedSecret},
        frame::OutgoingFrame,
        recovery::parity_control::FecMode,
        session::{
            Admission, AskId, ConnId, Endpoint, EndpointConfig, Event, OneWay, Output, Role,
            Target, Verdict,
        },
        wire::{
            control::{CloseReason, PREFACE, StreamParams},
            text::Line,
        },
    },
};

/// The bytes select the two sides, their actions, and the fate of their messages: these arrive in
/// pieces, reordered, repeated, changed or not at all, and strangers send messages too.
///
/// Each side receives only text that the other has sent, and only frames that were sent.
pub fn endpoints(bytes: &[u8]) {
    // No error ends a sequence early: bytes that run out read as zeros.
    let _ = Play::new(&mut Unstructured::new(bytes)).and_then(Play::play);
}

struct Play<'a, 'b> {
    ops: &'a mut Unstructured<'b>,
    now: Instant,
    sides: [Side; 2],
    /// Whether the two can complete a handshake: they have the same code, or none.
    may_meet: bool,
    is_controlled: bool,
    is_sealed: bool,
    dials_left: u32,
    dialled: Option<ConnId>,
    pipe: Option<Pipe>,
    stranger: Option<ConnId>,
    /// Everything the dialler has written on any connection.
    recorded: Vec<Vec<u8>>,
    /// Datagrams in flight: the receiving side and the bytes.
    datagrams: VecDeque<(usize, Vec<u8>)>,
    sent: HashSet<Vec<u8>>,
}

struct Side {
    endpoint: Endpoint,
    /// How many text lines it has sent. Each line is its own number, from 0.
    lines_sent: usize,
    /// The number of the last text line that it has received.
    last_line: Option<usize>,
    asked: Vec<AskId>,
}

/// The control connection: each side's id, and the data in flight to it.
struct Pipe {
    conns: [ConnId; 2],
    to: [VecDeque<Vec<u8>>; 2],
    is_closed: [bool; 2],
}

const DIALLER: usize = 0;
const LISTENER: usize = 1;

impl<'a, 'b> Play<'a, 'b> {
    fn new(ops: &'a mut Unstructured<'b>) -> Result<Self> {
        let now = clock::now();
        let target = Target { host: "bob".to_owned(), port: 7722, addrs: vec![addr(LISTENER)] };
        let kind = ops.int_in_range(0..=5)?;
        let (dials, listens) = match kind {
            0 | 1 => (Role::Send { targets: vec![target], control: true }, Role::Receive),
            2 | 3 => (Role::ChatDial(target), Role::ChatListen),
            _ => (Role::Send { targets: vec![target], control: false }, Role::Receive),
        };
        let (is_controlled, is_sealed) = (kind < 4, kind != 4);
        let codes = ops.int_in_range(0..=5)?;
        let code = |side: usize| match codes {
            0 => Some(SharedSecret::from_bytes([7; 32])),
            1 => Some(SharedSecret::from_bytes([side as u8; 32])),
            _ => None,
        };
        let one_way = || if is_sealed { OneWay::Sealed(key()) } else { OneWay::Clear };
        let asks = ops.ratio(1, 4)?;
        let admission = || if asks { Admission::Asked } else { Admission::Anyone };
        let fec = *ops.choose(&[FecMode::Off, FecMode::Auto, FecMode::Percent(25)])?;
        let side = |side: usize, role| {
            let config = config(now, side, role);
            let config = EndpointConfig {
                secret: code(side),
                one_way: one_way(),
                admission: admission(),
                fec,
                ..config
            };
            let endpoint = Endpoint::new(now, config);
            Side { endpoint, lines_sent: 0, last_line: None, asked: Vec::new() }
        };
        Ok(Self {
            sides: [side(DIALLER, dials), side(LISTENER, listens)],
            ops,
            now,
            may_meet: codes != 1,
            is_controlled,
            is_sealed,
            dials_left: 6,
            dialled: None,
            pipe: None,
            stranger: None,
            recorded: Vec::new(),
            datagrams: VecDeque::new(),
            sent: HashSet::new(),
        })
    }

    fn play(mut self) -> Result<()> {
        self.settle();
        for _ in 0..MAX_OPS {
            if self.ops.is_empty() {
                break;
            }
            match self.ops.int_in_range(0..=21)? {
                0 | 1 => self.connect(),
                2 | 3 => self.deliver_written(false)?,
                4 => self.deliver_written(true)?,
                5 => self.mangle()?,
                6 => self.disconnect()?,
                7 => self.wait_until_due(),
                8 => self.now += Duration::from_micros(self.ops.int_in_range(0..=1_000_000)?),
                9 | 10 => self.push_frame()?,
                11 | 12 => self.push_text_or_stream()?,
                13 => self.deliver_datagram()?,
                14 => self.deliver_datagrams(),
                15 => self.answer()?,
                16 => self.connect_stranger()?,
                17 => self.spurious_timeout(),
                18..=20 => self.deliver_everything(),
                _ => self.rare()?,
            }
            self.settle();
        }
        Ok(())
    }

    /// Does what is due, drains both sides' output, and checks it.
    fn settle(&mut self) {
        for side in [DIALLER, LISTENER] {
            self.sides[side].endpoint.handle_timeout(self.now);
            self.drain(side);
            let due = self.sides[side].endpoint.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "side {side} has something to do");
        }
    }

    fn drain(&mut self, side: usize) {
        let mut buf = [0; 16 * MAX_DATAGRAM_LEN];
        while let Some(transmit) = self.sides[side].endpoint.poll_transmit(self.now, &mut buf, 16) {
            assert!(transmit.segment_len <= MAX_DATAGRAM_LEN, "{transmit:?}");
            assert_eq!(transmit.to, addr(1 - side).into(), "nothing goes to anybody else");
            for datagram in buf[..transmit.len].chunks(transmit.segment_len) {
                if self.datagrams.len() < MAX_IN_FLIGHT {
                    self.datagrams.push_back((1 - side, datagram.to_vec()));
                }
            }
        }
        while let Some(output) = self.sides[side].endpoint.poll_output() {
            self.handle_output(side, output);
        }
        while let Some(event) = self.sides[side].endpoint.poll_event() {
            self.handle_event(side, event);
        }
        while let Some(delivered) = self.sides[side].endpoint.poll_frame() {
            assert!(self.sent.contains(&delivered.frame.data[..]), "a frame that nobody has sent");
        }
    }

    fn handle_output(&mut self, side: usize, output: Output) {
        match output {
            Output::LookUp(..) => unreachable!("addresses are given"),
            Output::LinkSpeed(_) => {}
            Output::Dial(conn, to) => {
                assert_eq!((side, to), (DIALLER, addr(LISTENER)));
                self.dialled = Some(conn);
            }
            Output::Write(conn, bytes) => {
                if side == DIALLER {
                    self.recorded.push(bytes.clone());
                }
                if let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.conns[side] == conn) {
                    pipe.to[1 - side].push_back(bytes);
                }
            }
            Output::Close(conn) => {
                if let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.conns[side] == conn) {
                    pipe.is_closed[side] = true;
                }
                self.stranger = self.stranger.filter(|&stranger| stranger != conn);
                self.dialled = self.dialled.filter(|&dialled| dialled != conn);
            }
        }
    }

    fn handle_event(&mut self, side: usize, event: Event) {
        let other = 1 - side;
        match event {
            Event::Connected { peer, is_sealed, .. } => {
                assert!(self.may_meet || !self.is_controlled, "they have different codes");
                assert_eq!(is_sealed, self.is_sealed);
                assert_eq!(peer.addr, addr(other), "a stranger is in a call");
                let key = self.is_controlled.then(|| PUBLIC_KEYS[other]);
                assert_eq!(peer.key, key, "a man in the middle");
                self.sides[side].last_line = None;
            }
            Event::Text { from, line } => {
                assert_eq!(from.as_str(), NAMES[other]);
                let number = line.as_str().parse().expect("a line that was sent");
                assert!(number < self.sides[other].lines_sent, "line {number} has not been sent");
                let last = self.sides[side].last_line;
                assert!(last.is_none_or(|last| last < number), "in order, once");
                self.sides[side].last_line = Some(number);
            }
            Event::Asked { ask, peer, key, .. } => {
                assert_eq!((peer.addr, key), (addr(other), PUBLIC_KEYS[other]));
                self.sides[side].asked.push(ask);
            }
            Event::StreamChanged { stream, .. } => assert_eq!(stream, STREAM),
            _ => {}
        }
    }

    fn connect(&mut self) {
        let Some(dialled) = self.dialled.take() else { return };
        self.dials_left = self.dials_left.saturating_sub(1);
        let taken = (self.dials_left > 0)
            .then(|| self.sides[LISTENER].endpoint.handle_incoming(self.now, addr(DIALLER)));
        let Some(Some(conn)) = taken else {
            self.sides[DIALLER].endpoint.handle_disconnected(self.now, dialled, true);
            return;
        };
        self.cut();
        let to = [VecDeque::new(), VecDeque::new()];
        self.pipe = Some(Pipe { conns: [dialled, conn], to, is_closed: [false; 2] });
        self.drain(LISTENER);
        self.sides[DIALLER].endpoint.handle_connected(self.now, dialled);
    }

    /// Breaks the connection for each side that has not closed it.
    fn cut(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        for side in [DIALLER, LISTENER] {
            if !pipe.is_closed[side] {
                self.sides[side].endpoint.handle_disconnected(self.now, pipe.conns[side], false);
            }
        }
    }

    /// Delivers the next write to one side, or a piece of it.
    fn deliver_written(&mut self, in_pieces: bool) -> Result<()> {
        let side = usize::from(self.ops.arbitrary::<bool>()?);
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let Some(mut bytes) = pipe.to[side].pop_front() else {
            if pipe.is_closed[1 - side] {
                self.cut();
            }
            return Ok(());
        };
        if in_pieces && !bytes.is_empty() {
            let rest = bytes.split_off(self.ops.choose_index(bytes.len())?);
            pipe.to[side].push_front(rest);
        }
        let conn = pipe.conns[side];
        if !pipe.is_closed[side] {
            self.sides[side].endpoint.handle_data(self.now, conn, &bytes);
        }
        Ok(())
    }

    /// Tampers with the writes in flight: changes, loses, repeats or reorders one, or replays an
    /// earlier one of the dialler's.
    fn mangle(&mut self) -> Result<()> {
        let side = usize::from(self.ops.arbitrary::<bool>()?);
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let written = &mut pipe.to[side];
        if written.is_empty() {
            return Ok(());
        }
        let at = self.ops.choose_index(written.len())?;
        match self.ops.int_in_range(0..=4)? {
            0 => {
                let bytes = &mut written[at];
                if !bytes.is_empty() {
                    let bit = self.ops.choose_index(bytes.len() * 8)?;
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            1 => _ = written.remove(at),
            2 => {
                let again = written[at].clone();
                written.push_back(again);
            }
            3 => {
                let other = self.ops.choose_index(written.len())?;
                written.swap(at, other);
            }
            _ => {
                let recorded = self.ops.choose_iter(self.recorded.iter());
                written.push_front(recorded.cloned().unwrap_or_default());
            }
        }
        Ok(())
    }

    fn disconnect(&mut self) -> Result<()> {
        if self.ops.ratio(1, 3)? {
            self.cut();
        }
        Ok(())
    }

    fn wait_until_due(&mut self) {
        let due = self.sides.iter().filter_map(|side| side.endpoint.poll_timeout()).min();
        self.now = due.map_or(self.now, |due| due.max(self.now));
    }

    fn push_frame(&mut self) -> Result<()> {
        let side = if self.ops.ratio(1, 4)? { LISTENER } else { DIALLER };
        let len = self.ops.int_in_range(8..=6000)?;
        let mut data = vec![0xee; len];
        data[..8].copy_from_slice(&self.sent.len().to_be_bytes());
        self.sent.insert(data.clone());
        let frame = OutgoingFrame { data: data.into(), captured: self.now };
        self.sides[side].endpoint.push_frame(self.now, &frame);
        Ok(())
    }

    fn push_text_or_stream(&mut self) -> Result<()> {
        let side = &mut self.sides[usize::from(self.ops.arbitrary::<bool>()?)];
        if self.ops.ratio(1, 8)? {
            side.endpoint.set_stream(STREAM);
            return Ok(());
        }
        let line = Line::new(&side.lines_sent.to_string()).expect("a number is not empty");
        side.lines_sent += 1;
        side.endpoint.push_text(&line);
        Ok(())
    }

    /// Delivers a datagram in flight, which may be changed, truncated or reflected to its sender.
    /// If it is not removed, it may be delivered again.
    fn deliver_datagram(&mut self) -> Result<()> {
        if self.datagrams.is_empty() {
            return Ok(());
        }
        let at = self.ops.choose_index(self.datagrams.len())?;
        let (mut to, mut datagram) = self.datagrams[at].clone();
        match self.ops.int_in_range(0..=5)? {
            0 => {}
            1 => {
                let bit = self.ops.choose_index(datagram.len() * 8)?;
                datagram[bit / 8] ^= 1 << (bit % 8);
            }
            2 => to = 1 - to,
            3 => datagram.truncate(self.ops.choose_index(datagram.len())?),
            _ => _ = self.datagrams.remove(at),
        }
        self.sides[to].endpoint.handle_datagram(self.now, addr(1 - to), &mut datagram);
        Ok(())
    }

    fn deliver_datagrams(&mut self) {
        for (to, mut datagram) in std::mem::take(&mut self.datagrams) {
            self.sides[to].endpoint.handle_datagram(self.now, addr(1 - to), &mut datagram);
        }
    }

    fn answer(&mut self) -> Result<()> {
        let side = usize::from(self.ops.arbitrary::<bool>()?);
        let verdict = if self.ops.ratio(3, 4)? { Verdict::Admit } else { Verdict::Refuse };
        if let Some(ask) = self.sides[side].asked.pop() {
            self.sides[side].endpoint.answer(self.now, ask, verdict);
        }
        Ok(())
    }

    /// A stranger connects to the listener, and sends arbitrary bytes or what the dialler has
    /// written.
    fn connect_stranger(&mut self) -> Result<()> {
        if !self.is_controlled {
            return Ok(());
        }
        let endpoint = &mut self.sides[LISTENER].endpoint;
        if self.stranger.is_none() {
            let from = "10.0.0.66:6".parse().expect("an address");
            self.stranger = endpoint.handle_incoming(self.now, from);
            let Some(conn) = self.stranger else { return Ok(()) };
            if self.ops.ratio(7, 8)? {
                endpoint.handle_data(self.now, conn, &PREFACE);
            }
        }
        let Some(conn) = self.stranger else { return Ok(()) };
        if self.ops.ratio(1, 2)? && !self.recorded.is_empty() {
            let bytes = self.ops.choose(&self.recorded)?;
            let bytes = bytes.strip_prefix(&PREFACE).unwrap_or(bytes);
            endpoint.handle_data(self.now, conn, bytes);
        } else {
            let len = self.ops.int_in_range(0..=100)?;
            let bytes = self.ops.bytes(len.min(self.ops.len()))?;
            endpoint.handle_data(self.now, conn, bytes);
        }
        Ok(())
    }

    /// A timeout when nothing is due changes nothing.
    fn spurious_timeout(&mut self) {
        for Side { endpoint, .. } in &mut self.sides {
            let before = endpoint.poll_timeout();
            endpoint.handle_timeout(self.now);
            assert_eq!(endpoint.poll_timeout(), before);
            assert_eq!((endpoint.poll_output(), endpoint.poll_event()), (None, None));
        }
    }

    /// For 8 ms, delivers everything and admits every caller.
    fn deliver_everything(&mut self) {
        for _ in 0..8 {
            self.connect();
            for side in [DIALLER, LISTENER] {
                self.drain(side);
                let Some(pipe) = &mut self.pipe else { continue };
                let (conn, written) = (pipe.conns[side], std::mem::take(&mut pipe.to[side]));
                for bytes in written.into_iter().filter(|_| !pipe.is_closed[side]) {
                    self.sides[side].endpoint.handle_data(self.now, conn, &bytes);
                }
                for ask in std::mem::take(&mut self.sides[side].asked) {
                    self.sides[side].endpoint.answer(self.now, ask, Verdict::Admit);
                }
            }
            self.settle();
            self.deliver_datagrams();
            self.now += Duration::from_millis(1);
            self.settle();
        }
    }

    fn rare(&mut self) -> Result<()> {
        let side = usize::from(self.ops.arbitrary::<bool>()?);
        match self.ops.int_in_range(0..=7)? {
            0 => self.sides[side].endpoint.close(CloseReason::Quit),
            1 => self.now += Duration::from_secs(self.ops.int_in_range(1..=40)?),
            2 => self.sides[side].endpoint.set_kernel_drops(self.ops.arbitrary()?),
            3 => _ = self.sides[side].endpoint.poll_partial(self.now),
            4 => {
                let len = self.ops.int_in_range(1..=MAX_DATAGRAM_LEN)?;
                self.sides[side].endpoint.handle_refused(
                    self.now,
                    addr(1 - side).into(),
                    len,
                    None,
                );
            }
            5 => {
                let len = self.ops.int_in_range(0..=2 * MAX_DATAGRAM_LEN)?;
                self.sides[side].endpoint.handle_too_big(self.now, addr(1 - side).into(), len);
            }
            _ => {
                let len = self.ops.int_in_range(0..=100)?;
                let mut bytes = self.ops.bytes(len.min(self.ops.len()))?.to_vec();
                let from = addr(1 - side);
                self.sides[side].endpoint.handle_datagram(self.now, from, &mut bytes);
            }
        }
        Ok(())
    }
}

fn config(now: Instant, side: usize, role: Role) -> EndpointConfig {
    EndpointConfig {
        wall_clock: Duration::from_secs(1_800_000_000),
        max_datagram_len: Some(MAX_DATAGRAM_LEN),
        seed: side as u64,
        ..EndpointConfig::new(NAMES[side], role, identity(side), now)
    }
}

fn identity(side: usize) -> Identity {
    Identity::from_bytes([side as u8 + 1; 32])
}

fn addr(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, side as u8 + 1], 7722))
}

fn key() -> SharedSecret {
    SharedSecret::from_bytes([9; 32])
}

static PUBLIC_KEYS: LazyLock<[PublicKey; 2]> =
    LazyLock::new(|| [DIALLER, LISTENER].map(|side| identity(side).public_key()));

const NAMES: [&str; 2] = ["ann", "bob"];

const STREAM: StreamParams =
    StreamParams { width: 640, height: 480, millifps: 30_000, quality: Some(80) };

const MAX_DATAGRAM_LEN: usize = 600;

/// Longer sequences find nothing new.
const MAX_OPS: usize = 300;

/// The maximum number of datagrams in flight; further ones are dropped.
const MAX_IN_FLIGHT: usize = 100;
