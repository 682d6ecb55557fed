//! The reassembler alone, on the chunks of one frame, beside a bare copy of the same bytes.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use udpchat::{
    clock,
    net::{
        frame::{FrameBytes, FrameId},
        packetizer::{Next, Packetizer},
        reassembler::Reassembler,
        session::DEFAULT_REASSEMBLY_DEADLINE,
        time::MediaTime,
        wire::{
            checksum::{Hashed, Joiner},
            video::VideoHeader,
        },
    },
};

const FRAME_LEN: usize = 117_000;

/// In which order, and which, of a frame's chunks arrive.
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
    let (mut all, mut joiner) = (Vec::new(), Joiner::default());
    let data = FrameBytes::from(data);
    let data = data.view();
    while let Next::Chunk(chunk) = packetizer.next(&data) {
        let mut body = vec![0; chunk.body_len()];
        packetizer.emit(&data, chunk, Duration::ZERO, &mut body, &mut joiner);
        all.push(body);
    }
    all
}

/// The same chunks with another frame's number: only the first field differs.
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

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("reassembly");
    group.sample_size(50).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Bytes(FRAME_LEN as u64));
    let (from, mut to) = (vec![1_u8; FRAME_LEN], vec![0_u8; FRAME_LEN]);
    group.bench_function("floor: one copy and one CRC", |b| {
        b.iter(|| {
            to.copy_from_slice(black_box(&from));
            black_box(crc32fast::hash(&to))
        });
    });
    for (name, arrival) in [
        ("in order", Arrival::InOrder),
        ("reversed", Arrival::Reversed),
        ("5 % lost", Arrival::OneInTwentyLost),
        ("each twice", Arrival::EachTwice),
    ] {
        let (mut all, mut id) = (arrange(arrival), 0);
        let mut reassembler = Reassembler::new(DEFAULT_REASSEMBLY_DEADLINE);
        let now = clock::now();
        group.bench_function(name, |b| {
            b.iter(|| {
                id += 1;
                renumber(&mut all, id);
                for body in &all {
                    let (header, payload) = VideoHeader::parse(body).expect("a chunk");
                    let crc = Hashed::of(payload).crc;
                    black_box(reassembler.handle_chunk(now, &header, payload, crc));
                }
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
