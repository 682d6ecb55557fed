//! Reassemble: chunks to frames, each whole and verified or not at all.
//!
//! A frame's fate is told once, by name:
//!
//! - *completed*: whole, its CRC right; handed out, and every older frame discarded.
//! - *incomplete*: chunks were missing when its reassembly deadline came, or when a
//!   newer frame was completed before it, whichever was first.
//! - *late*: the missing chunks came after that, too late to be shown.
//! - *damaged*: whole, but its CRC wrong.
//!
//! Frames seen = completed + incomplete + late + damaged + in flight, always.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::{
    frame::{FrameBeginning, FrameId, ReceivedFrame},
    pool::{FrameBuf, FramePool},
    time::MediaTime,
    wire::{
        checksum::{Hashed, Joiner},
        video::{Extent, FRAME_CRC_LEN, VideoHeader},
    },
};

/// Puts the chunks of one session's frames together.
#[derive(Debug)]
pub struct Reassembler {
    deadline: Duration,
    pool: FramePool,
    spare_sets: Vec<ChunkSet>,
    filling: Vec<Filling>,
    given_up: VecDeque<GivenUp>,
    newest_done: Option<FrameId>,
    newest_seen: Option<FrameId>,
    /// How many frames lie between the first that was seen and the newest, both included.
    span: u64,
    counters: ReassemblyCounters,
    joiner: Joiner,
}

/// What became of frames and chunks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReassemblyCounters {
    /// Frames of which any chunk was taken.
    pub seen: u64,
    /// Frames handed out whole.
    pub completed: u64,
    /// Frames given up with chunks missing.
    pub incomplete: u64,
    /// Frames of which nothing came in time: their numbers are missing between those seen.
    pub unseen: u64,
    /// Frames whose last chunk came after they were given up.
    pub late: u64,
    /// Frames whose CRC was wrong.
    pub damaged: u64,
    /// Chunks put in their place.
    pub chunks: u64,
    /// Chunks that were there already.
    pub duplicate_chunks: u64,
    /// Chunks of frames that were done with.
    pub late_chunks: u64,
    /// Chunks that contradict another chunk of their frame.
    pub conflicting_chunks: u64,
    /// Parity chunks, which this version does not use yet.
    pub parity_chunks: u64,
}

impl ReassemblyCounters {
    /// The counters of two reassemblers together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            seen: self.seen + other.seen,
            completed: self.completed + other.completed,
            incomplete: self.incomplete + other.incomplete,
            unseen: self.unseen + other.unseen,
            late: self.late + other.late,
            damaged: self.damaged + other.damaged,
            chunks: self.chunks + other.chunks,
            duplicate_chunks: self.duplicate_chunks + other.duplicate_chunks,
            late_chunks: self.late_chunks + other.late_chunks,
            conflicting_chunks: self.conflicting_chunks + other.conflicting_chunks,
            parity_chunks: self.parity_chunks + other.parity_chunks,
        }
    }
}

impl Reassembler {
    /// A reassembler that gives a frame up `deadline` after its first chunk.
    pub fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            pool: FramePool::new(),
            spare_sets: Vec::with_capacity(SLOTS + GIVEN_UP_KEPT),
            filling: Vec::with_capacity(SLOTS),
            given_up: VecDeque::with_capacity(GIVEN_UP_KEPT + 1),
            newest_done: None,
            newest_seen: None,
            span: 0,
            counters: ReassemblyCounters::default(),
            joiner: Joiner::default(),
        }
    }

    /// Takes one chunk, whose bytes have the CRC-32 `payload_crc`; returns the frame that it
    /// completes.
    ///
    /// The frame's CRC is made of those of its chunks, so `payload_crc` has to be that of
    /// `payload` as it is handed in here, hashed after anything that may have changed it.
    pub fn handle_chunk(
        &mut self,
        now: Instant,
        header: &VideoHeader,
        payload: &[u8],
        payload_crc: u32,
    ) -> Option<ReceivedFrame> {
        if header.is_parity() {
            self.counters.parity_chunks += 1;
            return None;
        }
        if self.is_done(header.frame) {
            self.handle_late_chunk(header);
            return None;
        }
        let Some(index) = self.slot_for(now, header) else {
            self.counters.late_chunks += 1;
            return None;
        };
        match self.filling[index].place(header, payload, payload_crc) {
            Placed::Yes => self.counters.chunks += 1,
            Placed::Duplicate => self.counters.duplicate_chunks += 1,
            Placed::Conflict => self.counters.conflicting_chunks += 1,
        }
        if self.filling[index].is_complete() { self.complete(now, index) } else { None }
    }

    /// Gives up what is due by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(index) = self.filling.iter().position(|f| self.deadline_of(f) <= now) {
            let filling = self.filling.swap_remove(index);
            self.note_done(filling.frame);
            self.give_up(now, filling);
        }
        while self.given_up.front().is_some_and(|g| g.forget_at <= now) {
            self.forget_oldest();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let filling = self.filling.iter().map(|f| self.deadline_of(f));
        filling.chain(self.given_up.front().map(|g| g.forget_at)).min()
    }

    /// What became of frames and chunks so far.
    pub fn counters(&self) -> ReassemblyCounters {
        let unseen = self.span.saturating_sub(self.counters.seen);
        ReassemblyCounters { unseen, ..self.counters }
    }

    /// The beginning of the newest frame that is being put together.
    pub fn newest_beginning(&self) -> Option<FrameBeginning<'_>> {
        let newest = self.filling.iter().max_by(|a, b| a.frame.serial_cmp(b.frame))?;
        Some(FrameBeginning { id: newest.frame, bytes: newest.beginning() })
    }

    /// Frames whose fate is not told yet.
    pub fn in_flight(&self) -> usize {
        self.filling.len() + self.given_up.len()
    }

    /// Bytes that the frames being put together occupy; at most
    /// `SLOTS` × [`crate::net::wire::video::MAX_BODY_LEN`].
    pub fn memory(&self) -> usize {
        self.filling.iter().map(|f| f.body.capacity()).sum()
    }

    fn deadline_of(&self, filling: &Filling) -> Instant {
        filling.first_received + self.deadline
    }

    fn is_done(&self, frame: FrameId) -> bool {
        self.newest_done.is_some_and(|done| !done.is_before(frame))
    }

    fn note_done(&mut self, frame: FrameId) {
        if !self.is_done(frame) {
            self.newest_done = Some(frame);
        }
    }

    /// The slot of the header's frame: the one it has, a free one, or the oldest frame's.
    fn slot_for(&mut self, now: Instant, header: &VideoHeader) -> Option<usize> {
        if let Some(index) = self.filling.iter().position(|f| f.frame == header.frame) {
            return Some(index);
        }
        if self.filling.len() == SLOTS {
            let oldest = self.oldest();
            if header.frame.is_before(self.filling[oldest].frame) {
                return None;
            }
            let filling = self.filling.swap_remove(oldest);
            self.note_done(filling.frame);
            self.give_up(now, filling);
        }
        self.note_seen(header.frame);
        let chunks = self.spare_sets.pop().unwrap_or_default();
        let body = self.pool.take(header.extent.map_or(0, |e| e.body_len as usize));
        self.filling.push(Filling::new(now, header, chunks, body));
        Some(self.filling.len() - 1)
    }

    fn note_seen(&mut self, frame: FrameId) {
        self.counters.seen += 1;
        match self.newest_seen {
            None => self.span = 1,
            Some(newest) if newest.is_before(frame) => self.span += newest.distance_to(frame),
            Some(_) => return,
        }
        self.newest_seen = Some(frame);
    }

    fn oldest(&self) -> usize {
        (1..self.filling.len()).fold(0, |oldest, i| {
            if self.filling[i].frame.is_before(self.filling[oldest].frame) { i } else { oldest }
        })
    }

    fn complete(&mut self, now: Instant, index: usize) -> Option<ReceivedFrame> {
        let filling = self.filling.swap_remove(index);
        self.note_done(filling.frame);
        while let Some(older) = self.filling.iter().position(|f| f.frame.is_before(filling.frame)) {
            let older = self.filling.swap_remove(older);
            self.give_up(now, older);
        }
        let (frame, chunks) = filling.into_frame(now, &mut self.joiner);
        self.spare(chunks);
        match frame {
            Some(_) => self.counters.completed += 1,
            None => self.counters.damaged += 1,
        }
        frame
    }

    /// Frees the frame's bytes, but keeps count of its chunks, to tell late from incomplete.
    fn give_up(&mut self, now: Instant, filling: Filling) {
        let forget_at = now + self.deadline;
        self.given_up.push_back(GivenUp {
            frame: filling.frame,
            chunks: filling.chunks,
            forget_at,
        });
        if self.given_up.len() > GIVEN_UP_KEPT {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(given_up) = self.given_up.pop_front() {
            self.counters.incomplete += 1;
            self.spare(given_up.chunks);
        }
    }

    fn spare(&mut self, mut chunks: ChunkSet) {
        chunks.clear();
        if self.spare_sets.len() < self.spare_sets.capacity() {
            self.spare_sets.push(chunks);
        }
    }

    fn handle_late_chunk(&mut self, header: &VideoHeader) {
        let Some(index) = self.given_up.iter().position(|g| g.frame == header.frame) else {
            if self.newest_done == Some(header.frame) {
                self.counters.duplicate_chunks += 1;
            } else {
                self.counters.late_chunks += 1;
            }
            return;
        };
        self.counters.late_chunks += 1;
        let chunks = &mut self.given_up[index].chunks;
        chunks.set(header.chunk, 0);
        chunks.learn(header.extent);
        if chunks.all_there() {
            self.counters.late += 1;
            if let Some(given_up) = self.given_up.remove(index) {
                self.spare(given_up.chunks);
            }
        }
    }
}

/// A frame being put together.
#[derive(Debug)]
struct Filling {
    frame: FrameId,
    captured: MediaTime,
    first_sent: MediaTime,
    first_received: Instant,
    chunk_len: u16,
    chunks: ChunkSet,
    body: FrameBuf,
}

/// A frame given up, remembered in case its last chunks still come.
#[derive(Debug)]
struct GivenUp {
    frame: FrameId,
    chunks: ChunkSet,
    forget_at: Instant,
}

enum Placed {
    Yes,
    Duplicate,
    Conflict,
}

impl Filling {
    fn new(now: Instant, header: &VideoHeader, chunks: ChunkSet, body: FrameBuf) -> Self {
        Self {
            frame: header.frame,
            captured: header.captured,
            first_sent: header.sent(),
            first_received: now,
            chunk_len: header.chunk_len,
            chunks,
            body,
        }
    }

    fn place(&mut self, header: &VideoHeader, payload: &[u8], crc: u32) -> Placed {
        if !self.agrees_with(header, payload) {
            return Placed::Conflict;
        }
        self.chunks.learn(header.extent);
        if !self.chunks.set(header.chunk, crc) {
            return Placed::Duplicate;
        }
        let end = header.offset() + payload.len();
        let known_len = self.chunks.extent.map_or(end, |e| e.body_len as usize);
        if self.body.len() < known_len {
            self.body.resize(known_len);
        }
        self.body.as_mut_slice()[header.offset()..end].copy_from_slice(payload);
        self.first_sent = self.first_sent.min(header.sent());
        Placed::Yes
    }

    fn agrees_with(&self, header: &VideoHeader, payload: &[u8]) -> bool {
        let same_frame = header.captured == self.captured && header.chunk_len == self.chunk_len;
        let same_extent = match (self.chunks.extent, header.extent) {
            (Some(known), Some(told)) => {
                known.body_len == told.body_len && known.source_chunks == told.source_chunks
            }
            (Some(known), None) => header.offset() + payload.len() <= known.body_len as usize,
            (None, Some(told)) => self.body.len() <= told.body_len as usize,
            (None, None) => true,
        };
        same_frame && same_extent
    }

    fn is_complete(&self) -> bool {
        self.chunks.all_there()
    }

    /// The picture's bytes up to the first gap.
    fn beginning(&self) -> &[u8] {
        let there = self.chunks.leading() * usize::from(self.chunk_len);
        let picture_len = match self.chunks.extent {
            Some(extent) => extent.body_len as usize - FRAME_CRC_LEN,
            None => self.body.len(),
        };
        &self.body[..there.min(picture_len)]
    }

    /// Whether the CRC at the end of the frame body is that of the data before it.
    ///
    /// It is if data with that CRC, and the CRC behind it, would have the CRC that the body has:
    /// two different CRCs stay different when the same bytes are joined to them.
    fn is_right(&self, joiner: &mut Joiner) -> bool {
        self.body.last_chunk::<FRAME_CRC_LEN>().is_some_and(|crc| {
            joiner.join(u32::from_be_bytes(*crc), Hashed::of(crc)) == self.body_crc(joiner)
        })
    }

    /// The CRC of the whole body.
    fn body_crc(&self, joiner: &mut Joiner) -> u32 {
        let lens = self.body.chunks(usize::from(self.chunk_len)).map(<[u8]>::len);
        let chunks = lens.zip(&self.chunks.crcs).map(|(len, &crc)| Hashed { len, crc });
        chunks.fold(0, |crc, chunk| joiner.join(crc, chunk))
    }

    /// The frame, if its CRC is right, and the set, to be used again.
    fn into_frame(
        mut self,
        now: Instant,
        joiner: &mut Joiner,
    ) -> (Option<ReceivedFrame>, ChunkSet) {
        let is_right = self.is_right(joiner);
        self.body.resize(self.body.len().saturating_sub(FRAME_CRC_LEN));
        let frame = ReceivedFrame {
            id: self.frame,
            data: self.body,
            captured: self.captured,
            first_sent: self.first_sent,
            first_received: self.first_received,
            completed: now,
        };
        (is_right.then_some(frame), self.chunks)
    }
}

/// Which source chunks of a frame have come, and the CRC of each.
#[derive(Debug, Default)]
struct ChunkSet {
    extent: Option<Extent>,
    bits: Vec<u64>,
    crcs: Vec<u32>,
    count: usize,
}

impl ChunkSet {
    fn learn(&mut self, extent: Option<Extent>) {
        self.extent = self.extent.or(extent);
    }

    /// Marks `chunk`, whose bytes have the CRC `crc`; false if it was marked already.
    fn set(&mut self, chunk: u16, crc: u32) -> bool {
        let (word, bit) = (usize::from(chunk / 64), 1 << (chunk % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
            self.crcs.resize(self.bits.len() * 64, 0);
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        if new {
            self.count += 1;
            self.crcs[usize::from(chunk)] = crc;
        }
        new
    }

    /// How many chunks there are before the first that is missing.
    fn leading(&self) -> usize {
        let full = self.bits.iter().take_while(|&&word| word == u64::MAX).count();
        full * 64 + self.bits.get(full).map_or(0, |word| word.trailing_ones() as usize)
    }

    /// Makes it the set of another frame.
    fn clear(&mut self) {
        self.bits.clear();
        self.crcs.clear();
        (self.extent, self.count) = (None, 0);
    }

    fn all_there(&self) -> bool {
        self.extent.is_some_and(|e| self.count == usize::from(e.source_chunks))
    }
}

/// Frames put together at once. Two are usual (the end of one, the start of the next);
/// more only when the network reorders across frames. With the largest frame this bounds
/// the memory at 32 MiB, and two spare buffers.
const SLOTS: usize = 4;

/// Frames remembered after they were given up; beyond it the oldest counts as incomplete.
const GIVEN_UP_KEPT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        frame::FrameBytes,
        packetizer::{Next, Packetizer},
    };
    use proptest::prelude::*;

    const DEADLINE: Duration = Duration::from_millis(100);

    fn data(id: u32, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i as u32).wrapping_mul(31).wrapping_add(id) as u8).collect()
    }

    fn chunks(id: u32, len: usize, chunk_len: u16) -> Vec<Vec<u8>> {
        let captured = MediaTime::from_micros(u64::from(id) * 1000);
        let mut packetizer = Packetizer::new(FrameId(id), captured, chunk_len);
        let (mut all, mut joiner) = (Vec::new(), Joiner::default());
        let data = FrameBytes::from(data(id, len));
        let data = data.view();
        while let Next::Chunk(chunk) = packetizer.next(&data) {
            let mut body = vec![0; chunk.body_len()];
            packetizer.emit(&data, chunk, Duration::ZERO, &mut body, &mut joiner);
            all.push(body);
        }
        all
    }

    fn handle(r: &mut Reassembler, now: Instant, body: &[u8]) -> Option<ReceivedFrame> {
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
    fn the_newest_frame_s_beginning_grows_up_to_the_first_gap() {
        let mut r = Reassembler::new(DEADLINE);
        let (now, chunks, data) = (crate::clock::now(), chunks(7, 705, 10), data(7, 705));
        assert_eq!(r.newest_beginning(), None);
        let mut beginning = |i: usize| {
            handle(&mut r, now, &chunks[i]);
            let beginning = r.newest_beginning().expect("is filling");
            assert_eq!(beginning.bytes, &data[..beginning.bytes.len()]);
            beginning.bytes.len()
        };
        assert_eq!(beginning(1), 0);
        assert_eq!(beginning(0), 20);
        for i in 2..69 {
            assert_eq!(beginning(i), 10 * (i + 1));
        }
        assert_eq!(beginning(70), 690, "its tail, without the gap");
    }

    #[test]
    fn chunks_in_any_order_make_the_exact_frame() {
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
    fn a_wrong_frame_crc_is_damage() {
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
    fn contradicting_chunks_are_dropped_and_the_frame_survives() {
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
    fn frames_that_never_came_are_told_from_the_gaps() {
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
    fn a_frame_whose_end_is_told_last_is_put_together() {
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
    fn memory_stays_within_the_slots_whatever_is_claimed() {
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

    proptest! {
        /// Any frames, any chunk length, any order, loss and duplication: the exact frame or none.
        #[test]
        fn exact_or_not_at_all(
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
}
