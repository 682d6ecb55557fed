//! A frame from one socket to another over loopback, compared with a lower bound on its cost.
//!
//! - `floor`: the same bytes copied to one send buffer, a CRC over each datagram, sent with
//!   segmentation offload (GSO), received coalesced (GRO), a CRC and one copy to a frame buffer.
//! - `udpchat`: push a frame, packetize, send, receive, reassemble.
//! - `sealed`: the same as `udpchat`, encrypted and authenticated.
//! - `cipher`: only the sealing and opening of as many bytes in memory.
//! - `single`: datagrams of 1200 bytes in the clear, one system call each to send and to receive.
//!
//! All but the last use datagrams of 8972 bytes, which a session over loopback sends after path MTU
//! discovery, and of 1200 bytes, with which every session begins.
//!
//! A second pair of tables gives the sender's time for one receiver, for eight, and for each
//! receiver after the first, encrypted, with and without parity.
//!
//! Both ends run in turn on one thread, so only the work is measured. After criterion's report, an
//! interleaved run prints the median times and the medians of the rounds' ratios.

#[path = "support/measure.rs"]
mod measure;
#[path = "support/publish.rs"]
mod publish;
#[path = "support/results.rs"]
mod results;
#[path = "support/turns.rs"]
mod turns;

use std::{
    hint::black_box,
    net::SocketAddr,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput};
use measure::{Samples, timed};
use results::{Cell, Table};
use turns::take_turns;
use udpchat::{
    clock,
    net::{
        crypto::{
            keys::{Identity, SharedSecret},
            seal::{MediaSecrets, Opener, Sealer},
        },
        frame::{OutgoingFrame, SessionId},
        io::UdpSocket,
        recovery::parity_control::FecMode,
        session::{ConnId, Endpoint, EndpointConfig, Output, Role, Target},
        wire::{
            control::Cipher,
            datagram::{Direction, Form, Kind, Prelude},
        },
    },
};

const SIZES: [usize; 4] = [30_000, 117_000, 210_000, 440_000];
/// Datagram lengths before and after path MTU discovery over loopback, in bytes of UDP payload.
const SMALL: usize = 1200;
const LARGE: usize = 8972;
const ROUNDS: usize = 400;
/// Bytes of a noisy frame of 720p at quality 80.
const FRAME_720P: usize = 117_000;

/// How many datagrams one system call sends.
#[derive(Clone, Copy, PartialEq)]
enum Batch {
    Offloaded,
    Single,
}

/// The floor: bytes, checksums and copies, without headers or state.
struct Floor {
    from: UdpSocket,
    to: UdpSocket,
    addr: SocketAddr,
    datagram_len: usize,
    frame: Vec<u8>,
    out: Vec<u8>,
    received: Vec<u8>,
}

impl Floor {
    fn new(len: usize, datagram_len: usize) -> Self {
        let to = loopback();
        let addr = to.local_addr().expect("bound");
        let frame = noise(len);
        let (out, received) = (frame.clone(), frame.clone());
        Self { from: loopback(), to, addr, datagram_len, frame, out, received }
    }

    fn run(&mut self) {
        self.out.copy_from_slice(&self.frame);
        for datagram in self.out.chunks(self.datagram_len) {
            black_box(crc32fast::hash(datagram));
        }
        let batch = self.datagram_len * (65_507 / self.datagram_len).min(self.from.max_batch());
        let mut at = 0;
        for contents in self.out.chunks(batch) {
            self.from.send(self.addr, contents, self.datagram_len).expect("loopback takes it");
            let until = at + contents.len();
            while at < until {
                let received = &mut self.received;
                self.to
                    .receive(|_, datagram| {
                        black_box(crc32fast::hash(datagram));
                        received[at..at + datagram.len()].copy_from_slice(datagram);
                        at += datagram.len();
                    })
                    .expect("loopback delivers it");
            }
        }
    }
}

/// The real endpoints and sockets, without threads.
struct Udpchat {
    from: UdpSocket,
    to: UdpSocket,
    sender: Endpoint,
    receiver: Endpoint,
    frame: OutgoingFrame,
    buf: Vec<u8>,
    batch: Batch,
}

impl Udpchat {
    fn new(len: usize, datagram_len: usize, batch: Batch, form: Form) -> Self {
        let (from, to) = (loopback(), loopback());
        let addr = to.local_addr().expect("bound");
        let target = Target { host: "here".into(), port: addr.port(), addrs: vec![addr] };
        let now = clock::now();
        let control = form == Form::Sealed;
        let mut sender = endpoint(now, datagram_len, Role::Send { targets: vec![target], control });
        let mut receiver = endpoint(now, datagram_len, Role::Receive);
        if control {
            let [dial] = dials(&mut sender)[..] else { panic!("one dial") };
            shake_hands(now, &mut sender, dial, &mut receiver);
        }
        Self {
            from,
            to,
            sender,
            receiver,
            frame: OutgoingFrame { data: noise(len).into(), captured: now },
            buf: vec![0; 65_507],
            batch,
        }
    }

    fn run(&mut self) {
        let now = clock::now();
        self.frame.captured = now;
        self.sender.push_frame(now, &self.frame);
        let batch = if self.batch == Batch::Single { 1 } else { self.from.max_batch() };
        while let Some(transmit) = self.sender.poll_transmit(now, &mut self.buf, batch) {
            let contents = &self.buf[..transmit.len];
            self.from.send(transmit.to, contents, transmit.segment_len).expect("loopback takes it");
            let mut left = contents.len();
            while left > 0 {
                let receiver = &mut self.receiver;
                self.to
                    .receive(|from, datagram| {
                        left -= datagram.len();
                        receiver.handle_datagram(now, from, datagram);
                    })
                    .expect("loopback delivers it");
            }
        }
        let frame = self.receiver.poll_frame().expect("the frame has arrived");
        assert_eq!(frame.frame.data.len(), self.frame.data.view().bytes().len());
        while self.sender.poll_event().is_some() || self.receiver.poll_event().is_some() {}
        black_box(frame);
    }
}

/// One sender of an encrypted stream and its receivers. Only the sender's work is timed.
struct Receivers {
    from: UdpSocket,
    to: Vec<UdpSocket>,
    sender: Endpoint,
    frame: OutgoingFrame,
    buf: Vec<u8>,
}

impl Receivers {
    fn new(count: usize, datagram_len: usize, fec: FecMode) -> Self {
        let to: Vec<_> = (0..count).map(|_| loopback()).collect();
        let target = |socket: &UdpSocket| {
            let addr = socket.local_addr().expect("bound");
            Target { host: "here".into(), port: addr.port(), addrs: vec![addr] }
        };
        let now = clock::now();
        let role = Role::Send { targets: to.iter().map(target).collect(), control: true };
        let mut sender = endpoint_with(now, datagram_len, role, fec);
        for dial in dials(&mut sender) {
            let mut receiver = endpoint(now, datagram_len, Role::Receive);
            shake_hands(now, &mut sender, dial, &mut receiver);
        }
        Self {
            from: loopback(),
            to,
            sender,
            frame: OutgoingFrame { data: noise(FRAME_720P).into(), captured: now },
            buf: vec![0; 65_507],
        }
    }

    /// Sends a frame to all receivers. Returns the time taken, in µs.
    fn send(&mut self) -> f64 {
        let taken = timed(|| {
            let now = clock::now();
            self.frame.captured = now;
            self.sender.push_frame(now, &self.frame);
            let batch = self.from.max_batch();
            while let Some(transmit) = self.sender.poll_transmit(now, &mut self.buf, batch) {
                let contents = &self.buf[..transmit.len];
                let sent = self.from.send(transmit.to, contents, transmit.segment_len);
                sent.expect("loopback takes it");
            }
        });
        for socket in &mut self.to {
            while socket.receive(|_, _| {}).expect("loopback delivers it") {}
        }
        taken * 1e3
    }
}

/// The cipher alone, on datagrams in memory.
struct InMemory {
    sealer: Sealer,
    opener: Opener,
    session: SessionId,
    datagrams: Vec<u8>,
    datagram_len: usize,
    next: u64,
}

impl InMemory {
    fn new(len: usize, datagram_len: usize) -> Self {
        let session = SessionId::new(7).expect("not zero");
        let secrets = || MediaSecrets::shared(&SharedSecret::from_bytes([1; 32]), session);
        let cipher = Cipher::Aes256Gcm;
        let (sealer, _) = secrets().into_keys(Direction::FromDialler, cipher, 0, 0);
        let (_, opener) = secrets().into_keys(Direction::FromAnswerer, cipher, 0, 0);
        Self { sealer, opener, session, datagrams: noise(len), datagram_len, next: 0 }
    }

    fn run(&mut self) {
        for datagram in self.datagrams.chunks_mut(self.datagram_len) {
            let prelude = Prelude {
                kind: Kind::Video,
                direction: Direction::FromDialler,
                sequence: self.next,
                session: self.session,
            };
            self.next += 1;
            self.sealer.seal(&prelude, datagram);
            black_box(self.opener.open(&prelude, datagram).expect("it has just been sealed"));
        }
    }
}

/// The connections that `dialler` is about to dial.
fn dials(dialler: &mut Endpoint) -> Vec<(ConnId, SocketAddr)> {
    let outputs = std::iter::from_fn(|| dialler.poll_output());
    let dial = |output| match output {
        Output::Dial(conn, addr) => (conn, addr),
        other => panic!("not a dial: {other:?}"),
    };
    outputs.map(dial).collect()
}

/// Connects two endpoints, and carries control messages between them until both are quiet.
fn shake_hands(
    now: Instant,
    dialler: &mut Endpoint,
    (dialled, addr): (ConnId, SocketAddr),
    answerer: &mut Endpoint,
) {
    let accepted = answerer.handle_incoming(now, addr).expect("room");
    dialler.handle_connected(now, dialled);
    loop {
        if let Some(Output::Write(_, bytes)) = dialler.poll_output() {
            answerer.handle_data(now, accepted, &bytes);
        } else if let Some(Output::Write(_, bytes)) = answerer.poll_output() {
            dialler.handle_data(now, dialled, &bytes);
        } else {
            return;
        }
    }
}

fn endpoint(now: Instant, datagram_len: usize, role: Role) -> Endpoint {
    endpoint_with(now, datagram_len, role, FecMode::Off)
}

fn endpoint_with(now: Instant, datagram_len: usize, role: Role, fec: FecMode) -> Endpoint {
    let config = EndpointConfig {
        max_datagram_len: Some(datagram_len),
        fec,
        ..EndpointConfig::new("bench", role, Identity::generate(), now)
    };
    Endpoint::new(now, config)
}

fn loopback() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0".parse().expect("an address")).expect("loopback is there")
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

fn criterion_groups(c: &mut Criterion) {
    for datagram_len in [LARGE, SMALL] {
        let mut group = c.benchmark_group(format!("transport/datagrams of {datagram_len}"));
        group.sample_size(50).measurement_time(Duration::from_secs(1));
        for len in SIZES {
            group.throughput(Throughput::Bytes(len as u64));
            let mut floor = Floor::new(len, datagram_len);
            group.bench_function(BenchmarkId::new("floor", len), |b| b.iter(|| floor.run()));
            let new = |form| Udpchat::new(len, datagram_len, Batch::Offloaded, form);
            let (mut udpchat, mut sealed) = (new(Form::Clear), new(Form::Sealed));
            group.bench_function(BenchmarkId::new("udpchat", len), |b| b.iter(|| udpchat.run()));
            group.bench_function(BenchmarkId::new("sealed", len), |b| b.iter(|| sealed.run()));
            let mut cipher = InMemory::new(len, datagram_len);
            group.bench_function(BenchmarkId::new("cipher", len), |b| b.iter(|| cipher.run()));
        }
        group.finish();
    }
    let mut group = c.benchmark_group("transport/single");
    group.sample_size(50).measurement_time(Duration::from_secs(1));
    for len in SIZES {
        group.throughput(Throughput::Bytes(len as u64));
        let mut single = Udpchat::new(len, SMALL, Batch::Single, Form::Clear);
        group.bench_function(BenchmarkId::from_parameter(len), |b| b.iter(|| single.run()));
    }
    group.finish();
}

/// All variants, interleaved.
fn ratios(datagram_len: usize) -> Table {
    let mut rows = Vec::new();
    for len in SIZES {
        let new = |form| Udpchat::new(len, datagram_len, Batch::Offloaded, form);
        let (mut floor, mut udpchat, mut sealed) =
            (Floor::new(len, datagram_len), new(Form::Clear), new(Form::Sealed));
        let mut cipher = InMemory::new(len, datagram_len);
        let mut single = Udpchat::new(len, SMALL, Batch::Single, Form::Clear);
        let contestants: [&mut dyn FnMut(); 5] = [
            &mut || floor.run(),
            &mut || udpchat.run(),
            &mut || sealed.run(),
            &mut || cipher.run(),
            &mut || single.run(),
        ];
        let [floor, udpchat, sealed, cipher, single] = take_turns(ROUNDS, contestants);
        rows.push(vec![
            Cell::Text(len.to_string()),
            floor.cell(),
            udpchat.cell(),
            sealed.cell(),
            cipher.cell(),
            single.cell(),
            udpchat.ratios_to(&floor).cell(),
            udpchat.ratios_to(&single).cell(),
            sealed.ratios_to(&udpchat).cell(),
            cipher.ratios_to(&udpchat).cell(),
        ]);
    }
    let columns = [
        "bytes",
        "floor",
        "udpchat",
        "sealed",
        "cipher",
        "single",
        "udpchat / floor",
        "udpchat / single",
        "sealed / udpchat",
        "cipher / udpchat",
    ];
    let title = format!(
        "A frame from socket to socket over loopback in datagrams of {datagram_len} bytes (single: {SMALL}), µs, {ROUNDS} rounds"
    );
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows }
}

/// The sender's time for one and for eight receivers, interleaved.
fn receivers(datagram_len: usize) -> Table {
    const MANY: usize = 8;
    let mut rows = Vec::new();
    for (name, fec) in [("off", FecMode::Off), ("20 %", FecMode::Percent(20))] {
        let new = |count| Receivers::new(count, datagram_len, fec);
        let (mut one, mut many) = (new(1), new(MANY));
        let [mut of_one, mut of_many, mut of_each] = <[Samples; 3]>::default();
        for _ in 0..ROUNDS {
            let (first, all) = (one.send(), many.send());
            of_one.push(first);
            of_many.push(all);
            of_each.push((all - first) / (MANY - 1) as f64);
        }
        rows.push(vec![Cell::Text(name.to_owned()), of_one.cell(), of_many.cell(), of_each.cell()]);
    }
    let columns = ["parity", "1 receiver", "8 receivers", "each after the first"];
    let title = format!(
        "Sending a frame of {FRAME_720P} bytes to several receivers over loopback, encrypted, in datagrams of {datagram_len} bytes, µs, {ROUNDS} rounds"
    );
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    criterion_groups(&mut criterion);
    criterion.final_summary();
    publish::publish(
        "transport",
        vec![ratios(LARGE), ratios(SMALL), receivers(LARGE), receivers(SMALL)],
        Vec::new(),
    );
}
