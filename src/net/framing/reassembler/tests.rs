//! Reassembly of chunks that arrive reordered, late, twice, corrupted or never.

use super::{frame_assembly::REPAIR_WAIT, *};
use crate::net::{
    frame::FrameBytes,
    framing::{
        fec::Blocks,
        packetizer::{ChunkCache, Next, Packetizer},
    },
    time::MediaTime,
    wire::{checksum::Hashed, nack::ChunkRun, video::Extent},
};
use proptest::prelude::*;

pub(super) const DEADLINE: Duration = Duration::from_millis(100);

/// The bound on a small frame's parity: 16 of the largest chunks.
const MIN_PARITY_BOUND: usize = 16 << 16;

pub(super) fn data(id: u32, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(31).wrapping_add(id) as u8).collect()
}

pub(super) fn chunks(id: u32, len: usize, chunk_len: u16) -> Vec<Vec<u8>> {
    let captured = MediaTime::from_micros(u64::from(id) * 1000);
    let mut packetizer = Packetizer::new(FrameId(id), captured, chunk_len);
    let (mut all, mut cache) = (Vec::new(), ChunkCache::new());
    let data = FrameBytes::from(data(id, len));
    let (data, mut shared) = (data.view(), cache.single(chunk_len));
    while let Next::Chunk(chunk) = packetizer.next(&data) {
        let mut body = vec![0; chunk.body_len()];
        packetizer.emit(&data, &mut shared, chunk, Duration::ZERO, &mut body);
        all.push(body);
    }
    all
}

pub(super) fn handle(r: &mut Reassembler, now: Instant, body: &[u8]) -> Option<ReceivedFrame> {
    let (header, payload) = VideoHeader::parse(body).unwrap();
    let frame = r.handle_chunk(now, &header, payload, Hashed::of(payload).crc);
    assert_conserved(r);
    frame
}

fn assert_conserved(r: &Reassembler) {
    let c = r.counters();
    assert_eq!(
        c.seen,
        c.completed + c.incomplete + c.late + c.damaged + r.in_flight() as u64,
        "{c:?}"
    );
}

#[test]
fn the_prefix_of_the_newest_frame_grows_up_to_the_first_gap() {
    let mut r = Reassembler::new(DEADLINE);
    let (now, chunks, data) = (crate::clock::now(), chunks(7, 705, 10), data(7, 705));
    assert_eq!(r.newest_prefix(), None);
    let mut prefix_len = |i: usize| {
        handle(&mut r, now, &chunks[i]);
        let prefix = r.newest_prefix().expect("in reassembly");
        assert_eq!(prefix.bytes, &data[..prefix.bytes.len()]);
        prefix.bytes.len()
    };
    assert_eq!(prefix_len(1), 0);
    assert_eq!(prefix_len(0), 20);
    for i in 2..69 {
        assert_eq!(prefix_len(i), 10 * (i + 1));
    }
    assert_eq!(prefix_len(70), 690, "the last chunk is beyond a gap");
}

#[test]
fn chunks_in_reverse_order_yield_the_exact_frame() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let mut bodies = chunks(1, 95, 10);
    bodies.reverse();
    let last = bodies.pop().unwrap();
    for body in &bodies {
        assert_eq!(handle(&mut r, now, body), None);
    }
    let later = now + Duration::from_millis(3);
    let frame = handle(&mut r, later, &last).unwrap();
    assert_eq!(frame.data[..], data(1, 95));
    assert_eq!((frame.first_received, frame.completed), (now, later));
    assert_eq!(r.memory(), 0);
}

#[test]
fn a_completed_frame_discards_every_older_one() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let old = chunks(1, 95, 10);
    for body in &old[..9] {
        handle(&mut r, now, body);
    }
    for body in &chunks(2, 15, 10) {
        handle(&mut r, now, body);
    }
    assert_eq!(r.counters().completed, 1);
    assert_eq!(r.memory(), 0, "the older frame's bytes are freed");
    assert_eq!(handle(&mut r, now, &old[9]), None, "it is never shown");
    assert_eq!(r.counters().late, 1);
}

#[test]
fn an_incomplete_frame_is_given_up_at_its_deadline() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    handle(&mut r, now, &chunks(1, 95, 10)[3]);
    assert_eq!(r.poll_timeout(), Some(now + DEADLINE));
    r.handle_timeout(now + DEADLINE.saturating_sub(Duration::from_nanos(1)));
    assert_ne!(r.memory(), 0);
    r.handle_timeout(now + DEADLINE);
    assert_eq!(r.memory(), 0);
    r.handle_timeout(now + 2 * DEADLINE);
    assert_eq!(r.counters().incomplete, 1);
    assert_eq!(r.poll_timeout(), None);
    assert_conserved(&r);
}

#[test]
fn duplicates_are_counted_and_change_nothing() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let bodies = chunks(1, 95, 10);
    let mut frames = 0;
    for body in bodies.iter().chain(&bodies) {
        frames += usize::from(handle(&mut r, now, body).is_some());
        if frames == 0 {
            assert_eq!(handle(&mut r, now, body), None);
        }
    }
    assert_eq!(frames, 1);
    assert_eq!(r.counters().duplicate_chunks, 9 + 10);
}

#[test]
fn a_wrong_frame_crc_counts_as_damage() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let mut bodies = chunks(1, 25, 10);
    *bodies[1].last_mut().unwrap() ^= 1;
    for body in &bodies {
        assert_eq!(handle(&mut r, now, body), None);
    }
    assert_eq!(r.counters().damaged, 1);
}

#[test]
fn conflicting_chunks_are_dropped_and_the_frame_survives() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let bodies = chunks(1, 25, 10);
    handle(&mut r, now, &bodies[0]);
    handle(&mut r, now, &chunks(1, 45, 10)[1]);
    handle(&mut r, now, &chunks(1, 25, 12)[1]);
    assert_eq!(r.counters().conflicting_chunks, 2);
    handle(&mut r, now, &bodies[1]);
    assert_eq!(handle(&mut r, now, &bodies[2]).unwrap().data[..], data(1, 25));
}

#[test]
fn frames_never_seen_are_counted_from_id_gaps() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    for id in [u32::MAX, 2, 3, 7] {
        for body in &chunks(id, 25, 10) {
            handle(&mut r, now, body);
        }
    }
    assert_eq!((r.counters().seen, r.counters().unseen), (4, 2 + 3));
}

#[test]
fn ids_wrap_around() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    for id in [u32::MAX - 1, u32::MAX, 0, 1] {
        let frames: Vec<_> =
            chunks(id, 25, 10).iter().filter_map(|b| handle(&mut r, now, b)).collect();
        assert_eq!(frames[0].id, FrameId(id));
    }
}

#[test]
fn a_frame_whose_extent_arrives_last_is_reassembled() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let bodies = chunks(1, 95, 10);
    let mut frame = None;
    for (i, body) in bodies.iter().enumerate() {
        let (mut header, payload) = VideoHeader::parse(body).unwrap();
        if i + 1 < bodies.len() {
            header.extent = None;
        }
        frame = frame.or(r.handle_chunk(now, &header, payload, Hashed::of(payload).crc));
    }
    assert_eq!(frame.unwrap().data[..], data(1, 95));
}

#[test]
fn memory_is_bounded_whatever_extent_is_claimed() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let extent = Extent::of(crate::net::wire::video::MAX_BODY_LEN, 1160);
    for id in 0..100 {
        let header = VideoHeader {
            frame: FrameId(id),
            captured: MediaTime::default(),
            age: Duration::ZERO,
            extent,
            chunk_len: 1160,
            chunk: 7,
        };
        r.handle_chunk(now, &header, &[0; 1160], Hashed::of(&[0; 1160]).crc);
        assert!(r.memory() <= SLOTS * crate::net::wire::video::MAX_BODY_LEN);
        assert_conserved(&r);
    }
}

/// A frame's chunks by index: the source chunks, then `parity` parity chunks.
fn protected(id: u32, len: usize, chunk_len: u16, parity: u16) -> Vec<Vec<u8>> {
    let captured = MediaTime::from_micros(u64::from(id) * 1000);
    let mut packetizer = Packetizer::new(FrameId(id), captured, chunk_len);
    let (mut all, mut cache) = (Vec::new(), ChunkCache::new());
    let data = FrameBytes::from(data(id, len));
    let (data, mut shared) = (data.view(), cache.single(chunk_len));
    packetizer.protect(&data, parity);
    while let Next::Chunk(chunk) = packetizer.next(&data) {
        let mut body = vec![0; chunk.body_len()];
        packetizer.emit(&data, &mut shared, chunk, Duration::ZERO, &mut body);
        all.push(body);
    }
    all.sort_by_key(|body| VideoHeader::parse(body).unwrap().0.chunk);
    all
}

/// Handles all chunks except `lost` in the order of their index, but the last source chunk last.
/// Returns the completed frame.
fn handle_all_but(
    r: &mut Reassembler,
    now: Instant,
    bodies: &[Vec<u8>],
    lost: &[usize],
) -> Option<ReceivedFrame> {
    let source =
        usize::from(VideoHeader::parse(&bodies[0]).unwrap().0.extent.unwrap().source_chunks);
    let order = (0..source - 1).chain(source..bodies.len()).chain([source - 1]);
    let arrive = order.filter(|i| !lost.contains(i));
    arrive.fold(None, |frame, i| frame.or(handle(r, now, &bodies[i])))
}

#[test]
fn parity_recovers_a_frame_at_its_last_chunk() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let bodies = protected(1, 95, 10, 3);
    let frame = handle_all_but(&mut r, now, &bodies, &[0, 4, 5]).unwrap();
    assert_eq!(frame.data[..], data(1, 95));
    assert_eq!((frame.recovered_chunks, r.memory()), (3, 0));
    let c = r.counters();
    assert_eq!((c.completed, c.repaired, c.recovered_chunks, c.parity_chunks), (1, 1, 3, 3));
    assert_eq!(handle(&mut r, now, &bodies[4]), None);
    assert_eq!(r.counters().duplicate_chunks, 1);
}

#[test]
fn a_complete_frame_is_not_recovered() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let frame = handle_all_but(&mut r, now, &protected(1, 95, 10, 3), &[]).unwrap();
    assert_eq!((frame.recovered_chunks, r.counters().repaired), (0, 0));
}

#[test]
fn widely_spaced_chunks_are_not_treated_as_lost() {
    let start = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let bodies = protected(1, 95, 10, 3);
    // Parity is sent between the source chunks, so the frame is recoverable before the last one.
    let order = [0, 1, 2, 3, 4, 10, 5, 6, 11, 7, 8, 12, 9];
    let mut frame = None;
    for (i, &chunk) in order.iter().enumerate() {
        let now = start + Duration::from_millis(5) * i as u32;
        assert_eq!(r.handle_timeout(now), None, "chunk {chunk} is on its way");
        frame = frame.or(handle(&mut r, now, &bodies[chunk]));
    }
    assert_eq!(frame.map(|f| f.recovered_chunks), Some(0));
    assert_eq!(r.counters().repaired, 0);
}

#[test]
fn a_lost_tail_is_recovered_after_silence_or_at_the_next_frame() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    assert_eq!(handle_all_but(&mut r, now, &protected(1, 95, 10, 1), &[9]), None);
    assert_eq!(r.poll_timeout(), Some(now + REPAIR_WAIT));
    let frame = r.handle_timeout(now + REPAIR_WAIT).unwrap();
    assert_eq!((&frame.data[..], frame.recovered_chunks), (&data(1, 95)[..], 1));
    assert_eq!(handle_all_but(&mut r, now, &protected(2, 95, 10, 1), &[9]), None);
    let frame = handle(&mut r, now, &chunks(3, 95, 10)[0]).unwrap();
    assert_eq!((frame.id, &frame.data[..]), (FrameId(2), &data(2, 95)[..]));
    assert_eq!((r.counters().repaired, r.in_flight()), (2, 1));
}

#[test]
fn one_loss_beyond_parity_is_reported_missing_and_recovered() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let bodies = protected(1, 95, 10, 4);
    assert_eq!(handle_all_but(&mut r, now, &bodies, &[2, 3, 7, 12, 13]), None);
    let missing = r.missing(FrameId(1)).unwrap();
    assert_eq!(missing.needed(), [1]);
    let runs = [ChunkRun { first: 2, count: 2 }, ChunkRun { first: 7, count: 1 }];
    assert_eq!(missing.runs(), runs);
    assert_eq!(r.missing(FrameId(2)), None);
    let frame = handle(&mut r, now, &bodies[13]).unwrap();
    assert_eq!((&frame.data[..], frame.recovered_chunks), (&data(1, 95)[..], 3));
}

#[test]
fn the_repair_delay_of_a_lost_tail_excludes_its_transit_time() {
    let now = crate::clock::now();
    let ms = Duration::from_millis;
    let mut r = Reassembler::new(DEADLINE);
    let bodies = protected(1, 95, 10, 4);
    for (i, body) in bodies[..8].iter().enumerate() {
        assert_eq!(handle(&mut r, now + ms(i as u64), body), None);
    }
    r.note_requested(FrameId(1));
    r.note_requested(FrameId(1));
    assert_eq!(handle(&mut r, now + ms(15), &bodies[8]), None);
    let frame = handle(&mut r, now + ms(15), &bodies[9]).expect("whole");
    // Eight chunks took 7 ms, so ten take 8.75.
    assert_eq!(frame.repair_delay, Some(Duration::from_micros(15_000 - 8750)));
}

#[test]
fn the_answer_for_a_lost_tail_is_used_at_once() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let bodies = protected(1, 95, 10, 4);
    assert_eq!(handle_all_but(&mut r, now, &bodies, &[8, 9, 10, 11, 12, 13]), None);
    r.note_requested(FrameId(1));
    assert_eq!(handle(&mut r, now, &bodies[12]), None);
    let frame = handle(&mut r, now, &bodies[13]).expect("there is enough parity now");
    assert_eq!((&frame.data[..], frame.recovered_chunks), (&data(1, 95)[..], 2));
}

#[test]
fn the_repair_delay_starts_at_the_last_regular_chunk() {
    let now = crate::clock::now();
    let ms = Duration::from_millis;
    let mut r = Reassembler::new(DEADLINE);
    let frame = handle_all_but(&mut r, now, &protected(1, 95, 10, 0), &[]).unwrap();
    assert_eq!(frame.repair_delay, None, "there was none");
    let bodies = protected(2, 95, 10, 4);
    assert_eq!(handle_all_but(&mut r, now, &bodies, &[2, 3, 10, 11, 12]), None);
    r.note_requested(FrameId(2));
    let answers =
        [(ms(5), 3), (ms(7), 2)].map(|(after, i)| handle(&mut r, now + after, &bodies[i]));
    let frame = answers[0].as_ref().unwrap();
    assert_eq!((frame.recovered_chunks, frame.repair_delay), (1, Some(ms(5))));
    assert_eq!(handle_all_but(&mut r, now, &protected(3, 95, 10, 1), &[9]), None);
    let frame = r.handle_timeout(now + REPAIR_WAIT).unwrap();
    assert_eq!(frame.repair_delay, Some(REPAIR_WAIT));
}

#[test]
fn missing_runs_are_open_ended_without_an_extent() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    for i in [0, 3, 64] {
        let bodies = chunks(1, 705, 10);
        let (header, payload) = VideoHeader::parse(&bodies[i]).unwrap();
        let header = VideoHeader { extent: None, ..header };
        r.handle_chunk(now, &header, payload, Hashed::of(payload).crc);
    }
    let missing = r.missing(FrameId(1)).unwrap();
    let run = |first, count| ChunkRun { first, count };
    assert_eq!(missing.runs(), [run(1, 2), run(4, 60), run(65, u16::MAX - 64)]);
    assert!(missing.needed().is_empty());
}

#[test]
fn each_block_needs_its_own_parity() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let bodies = protected(1, 3990, 10, 6);
    // Chunks 1 and 4 belong to block 1; parity chunks 400 and 403 belong to block 0.
    assert_eq!(handle_all_but(&mut r, now, &bodies, &[1, 4, 5, 401, 402, 404, 405]), None);
    assert_eq!(r.missing(FrameId(1)).unwrap().needed(), [0, 2, 1]);
    for i in [404, 405] {
        assert_eq!(handle(&mut r, now, &bodies[i]), None);
    }
    let frame = handle(&mut r, now, &bodies[401]).unwrap();
    assert_eq!((&frame.data[..], frame.recovered_chunks), (&data(1, 3990)[..], 3));
}

#[test]
fn wrong_parity_counts_as_damage_only() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let mut bodies = protected(1, 95, 10, 1);
    *bodies[10].last_mut().unwrap() ^= 1;
    assert_eq!(handle_all_but(&mut r, now, &bodies, &[3]), None);
    assert_eq!((r.counters().damaged, r.counters().repaired), (1, 0));
}

#[test]
fn late_parity_turns_an_incomplete_frame_into_a_late_one() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    let bodies = protected(1, 95, 10, 1);
    assert_eq!(handle_all_but(&mut r, now, &bodies, &[3, 10]), None);
    r.handle_timeout(now + DEADLINE);
    assert_eq!(handle(&mut r, now + DEADLINE, &bodies[10]), None);
    assert_eq!((r.counters().late, r.in_flight()), (1, 0));
}

#[test]
fn parity_memory_is_bounded_whatever_extent_is_claimed() {
    let now = crate::clock::now();
    let mut r = Reassembler::new(DEADLINE);
    for (id, chunk_len, body_len) in
        [(0, 60_000, 7 << 20), (1, 1160, 7 << 20), (2, 65_000, 100), (3, 60_000, 49 * 60_000)]
    {
        let extent = Extent { parity_chunks: 30_000, ..Extent::of(body_len, chunk_len).unwrap() };
        let payload = vec![0; chunk_len.into()];
        for chunk in extent.source_chunks..extent.source_chunks + 30_000 {
            let header = VideoHeader {
                frame: FrameId(id),
                captured: MediaTime::default(),
                age: Duration::ZERO,
                extent: Some(extent),
                chunk_len,
                chunk,
            };
            if chunk % 2 == 0 || Blocks::of(extent.source_chunks).count() > 1 {
                r.handle_chunk(now, &header, &payload, 0);
            }
        }
        let parity = r.assemblies.iter().map(|f| f.parity.capacity());
        let bounds = r
            .assemblies
            .iter()
            .map(|f| (f.chunks.extent.unwrap().body_len as usize * 2 / 3).max(MIN_PARITY_BOUND));
        for (is, bound) in parity.zip(bounds) {
            assert!(is <= bound, "frame {id}: {is} of {bound}");
        }
    }
    assert!(r.counters().conflicting_chunks > 0);
    assert_conserved(&r);
}

proptest! {
    /// With any losses, parity and order, the exact frame is returned if its chunks suffice,
    /// otherwise none.
    #[test]
    fn parity_yields_the_exact_frame_or_none(
        len in 1_usize..3000,
        parity in 0_u16..16,
        lost in prop::collection::btree_set(0_usize..320, 0..20),
        order in any::<u64>(),
    ) {
        let mut now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let bodies = protected(1, len, 10, parity);
        let source = usize::from(VideoHeader::parse(&bodies[0]).unwrap().0.extent.unwrap().source_chunks);
        let mut arriving: Vec<usize> = (0..bodies.len()).filter(|i| !lost.contains(i)).collect();
        arriving.sort_by_key(|&i| (i as u64).wrapping_mul(order | 1).rotate_left(17));
        let mut frames = Vec::new();
        for &i in &arriving {
            frames.extend(handle(&mut r, now, &bodies[i]));
            now += Duration::from_micros(100);
            frames.extend(r.handle_timeout(now));
        }
        frames.extend(r.handle_timeout(now + REPAIR_WAIT));
        prop_assert!(r.poll_timeout().is_none_or(|t| t > now + REPAIR_WAIT));
        let blocks = Blocks::of(source as u16);
        let is_enough = (0..blocks.count()).all(|block| {
            let of_block = |i: usize, from| blocks.place((i - from) as u16).0 == block;
            let sources = arriving.iter().filter(|&&i| i < source && of_block(i, 0)).count();
            let parity = arriving.iter().filter(|&&i| i >= source && of_block(i, source)).count();
            sources + parity >= usize::from(blocks.source_in(block))
        });
        prop_assert_eq!(frames.len(), usize::from(is_enough));
        for frame in frames {
            prop_assert_eq!(&frame.data[..], &data(1, len));
        }
        assert_conserved(&r);
    }

    /// With any frames, chunk length, order, loss and duplication, only exact frames are returned.
    #[test]
    fn any_delivery_yields_exact_frames_or_none(
        lens in prop::collection::vec(1_usize..400, 1..6),
        chunk_half in 1_u16..40,
        start in any::<u32>(),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0_u64..40), 0..300),
    ) {
        let mut now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let ids = (0..lens.len() as u32).map(|i| start.wrapping_add(i));
        let all: Vec<Vec<u8>> = ids
            .zip(&lens)
            .flat_map(|(id, &len)| chunks(id, len, chunk_half * 2))
            .collect();
        let mut newest: Option<FrameId> = None;
        for (pick, wait) in picks {
            now += Duration::from_millis(wait);
            r.handle_timeout(now);
            let body = &all[pick.index(all.len())];
            if let Some(frame) = handle(&mut r, now, body) {
                let i = frame.id.0.wrapping_sub(start);
                prop_assert_eq!(&frame.data[..], &data(frame.id.0, lens[i as usize]));
                prop_assert!(newest.is_none_or(|n| n.is_before(frame.id)), "never backwards");
                newest = Some(frame.id);
            }
            prop_assert!(r.poll_timeout().is_none_or(|t| t > now));
        }
    }
}
