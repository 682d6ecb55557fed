//! Reassembling a frame, with the parsing and CRC of its chunks, compared with one copy and one CRC
//! of as many bytes.

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
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use results::{Cell, Table};
use turns::take_turns;
use udpchat::{
    clock,
    net::{
        frame::{FrameBytes, FrameId},
        framing::{
            packetizer::{ChunkCache, Next, Packetizer},
            reassembler::Reassembler,
        },
        session::DEFAULT_REASSEMBLY_DEADLINE,
        time::MediaTime,
        wire::{checksum::Hashed, video::VideoHeader},
    },
};

const FRAME_LEN: usize = 117_000;

/// Which chunks of a frame arrive, and in which order.
#[derive(Clone, Copy)]
enum Arrival {
    InOrder,
    Reversed,
    OneInTwentyLost,
    EachTwice,
}

fn chunks(id: u32) -> Vec<Vec<u8>> {
    let data: Vec<u8> =
        (0..FRAME_LEN as u32).map(|i| i.wrapping_mul(2_654_435_769) as u8).collect();
    let mut packetizer = Packetizer::new(FrameId(id), MediaTime::from_micros(u64::from(id)), 1160);
    let (mut all, mut cache) = (Vec::new(), ChunkCache::new());
    let data = FrameBytes::from(data);
    let (data, mut shared) = (data.view(), cache.single(1160));
    while let Next::Chunk(chunk) = packetizer.next(&data) {
        let mut body = vec![0; chunk.body_len()];
        packetizer.emit(&data, &mut shared, chunk, Duration::ZERO, &mut body);
        all.push(body);
    }
    all
}

/// Gives the chunks another frame number, which is their first field.
fn renumber(chunks: &mut [Vec<u8>], id: u32) {
    for chunk in chunks {
        chunk[..4].copy_from_slice(&id.to_be_bytes());
    }
}

fn arrange(arrival: Arrival) -> Vec<Vec<u8>> {
    let mut all = chunks(0);
    match arrival {
        Arrival::InOrder => {}
        Arrival::Reversed => all.reverse(),
        Arrival::OneInTwentyLost => {
            let arrives = |(i, chunk)| (i % 20 != 7).then_some(chunk);
            all = all.into_iter().enumerate().filter_map(arrives).collect();
        }
        Arrival::EachTwice => all = all.into_iter().flat_map(|c| [c.clone(), c]).collect(),
    }
    all
}

/// The floor: one copy and one CRC.
struct Floor {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Floor {
    fn new() -> Self {
        Self { from: vec![1; FRAME_LEN], to: vec![0; FRAME_LEN] }
    }

    fn run(&mut self) {
        self.to.copy_from_slice(black_box(&self.from));
        black_box(crc32fast::hash(&self.to));
    }
}

/// A reassembler that receives frame after frame, all with the same arrival pattern.
struct Arriving {
    chunks: Vec<Vec<u8>>,
    reassembler: Reassembler,
    now: Instant,
    id: u32,
}

impl Arriving {
    fn new(arrival: Arrival) -> Self {
        let reassembler = Reassembler::new(DEFAULT_REASSEMBLY_DEADLINE);
        Self { chunks: arrange(arrival), reassembler, now: clock::now(), id: 0 }
    }

    fn run(&mut self) {
        self.id += 1;
        renumber(&mut self.chunks, self.id);
        for body in &self.chunks {
            let (header, payload) = VideoHeader::parse(body).expect("a chunk");
            let crc = Hashed::of(payload).crc;
            black_box(self.reassembler.handle_chunk(self.now, &header, payload, crc));
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("reassembly");
    group.sample_size(50).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Bytes(FRAME_LEN as u64));
    let mut floor = Floor::new();
    group.bench_function("floor: one copy and one CRC", |b| b.iter(|| floor.run()));
    for (name, arrival) in ARRIVALS {
        let mut arriving = Arriving::new(arrival);
        group.bench_function(name, |b| b.iter(|| arriving.run()));
    }
    group.finish();
    criterion.final_summary();
    publish::publish("reassembly", vec![ratios()], Vec::new());
}

/// Each arrival pattern, interleaved with the floor.
fn ratios() -> Table {
    let mut rows = Vec::new();
    for (name, arrival) in ARRIVALS {
        let (mut floor, mut arriving) = (Floor::new(), Arriving::new(arrival));
        let [floor, arriving] = take_turns(ROUNDS, [&mut || floor.run(), &mut || arriving.run()]);
        let ratios = arriving.ratios_to(&floor);
        rows.push(vec![Cell::Text(name.into()), floor.cell(), arriving.cell(), ratios.cell()]);
    }
    let columns = ["chunks arrive", "floor", "reassembler", "ratio"];
    let title = format!("A frame of {FRAME_LEN} bytes, µs, {ROUNDS} rounds");
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows }
}

const ARRIVALS: [(&str, Arrival); 4] = [
    ("in order", Arrival::InOrder),
    ("reversed", Arrival::Reversed),
    ("5 % lost", Arrival::OneInTwentyLost),
    ("each twice", Arrival::EachTwice),
];

const ROUNDS: usize = 2000;
