//! Answers NACKs: keeps the latest frames while they are useful, and sends the requested number of
//! chunks, within a budget.
//!
//! The answer is fresh parity, which repairs whatever is missing when it arrives, and helps
//! receivers that miss different chunks. When a block's parity is used up, or the stream has none,
//! the answer is the missing chunks themselves.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use crate::net::{
    frame::{FrameBytes, FrameId},
    framing::fec::{Blocks, ParityEncoder},
    time::MediaTime,
    token_bucket::TokenBucket,
    units::Bitrate,
    wire::{
        nack::{MissingChunks, Nack},
        video::{Extent, FRAME_CRC_LEN, VideoHeader, copy_body},
    },
};

/// The latest frames of one stream, and the answers to be sent.
#[derive(Debug)]
pub struct RetransmitBuffer {
    kept: VecDeque<Kept>,
    answers: VecDeque<Answer>,
    /// Emptied answers, kept for reuse of their memory.
    spare: Vec<Answer>,
    /// Bytes that answers may still take.
    budget: Option<TokenBucket>,
    counters: AnswerCounters,
}

/// A frame whose last chunk has been sent.
#[derive(Clone, Debug)]
pub struct SentFrame {
    /// The frame's number.
    pub id: FrameId,
    /// When its capture began, on the sender's media clock.
    pub captured: MediaTime,
    /// The same, on the local clock.
    pub captured_at: Instant,
    /// The complete encoded picture.
    pub data: FrameBytes,
    /// The CRC-32 of the picture, as it follows the picture in the frame body.
    pub crc: [u8; FRAME_CRC_LEN],
    /// Its size. The parity chunks are those already sent, from index 0.
    pub extent: Extent,
    /// Bytes of each chunk but the last.
    pub chunk_len: u16,
}

/// Counts of requests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerCounters {
    /// Answers, one per frame and request.
    pub frames: u64,
    /// Parity chunks sent in answers.
    pub parity_chunks: u64,
    /// Source chunks retransmitted.
    pub source_chunks: u64,
    /// Requests already answered, or older than an answered one for the same frame.
    pub duplicates: u64,
    /// Requests for frames that are not kept.
    pub unknown: u64,
    /// Requests not answered because the budget was used up.
    pub over_budget: u64,
}

#[derive(Debug)]
struct Kept {
    frame: SentFrame,
    expires: Instant,
    /// The newest request answered; 0 if none.
    request: u32,
}

/// The answer to one request.
#[derive(Debug, Default)]
struct Answer {
    frame: FrameId,
    chunks: VecDeque<u16>,
    /// The parity chunks from `first_parity` on.
    parity: Vec<u8>,
    first_parity: u16,
}

impl RetransmitBuffer {
    /// Creates a buffer without frames.
    pub fn new() -> Self {
        Self {
            kept: VecDeque::with_capacity(KEPT_FRAMES),
            answers: VecDeque::with_capacity(KEPT_FRAMES),
            spare: Vec::with_capacity(KEPT_FRAMES),
            budget: None,
            counters: AnswerCounters::default(),
        }
    }

    /// Keeps a frame until `expires`, and at most the [`KEPT_FRAMES`] newest.
    pub fn keep(&mut self, frame: SentFrame, expires: Instant) {
        if self.kept.len() == KEPT_FRAMES {
            self.drop_oldest();
        }
        self.kept.push_back(Kept { frame, expires, request: 0 });
    }

    /// Drops the frames that have expired by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|k| k.expires <= now) {
            self.drop_oldest();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.kept.front().map(|k| k.expires)
    }

    /// Counts of requests so far.
    pub fn counters(&self) -> AnswerCounters {
        self.counters
    }

    /// Prepares the answers to a NACK, for [`next_body_len`](Self::next_body_len) and
    /// [`emit_next`](Self::emit_next).
    ///
    /// `rate` is the stream's rate. Answers take at most a quarter of it over [`BUDGET_SPAN`], or
    /// one and a half frames if that is more. Without an `encoder`, only source chunks are sent.
    pub fn handle_nack(
        &mut self,
        now: Instant,
        nack: &Nack,
        rate: Bitrate,
        mut encoder: Option<&mut ParityEncoder>,
    ) {
        self.handle_timeout(now);
        for missing in nack.frames() {
            let kept = self.kept.iter_mut().find(|k| k.frame.id == missing.frame);
            let Some(kept) = kept else {
                self.counters.unknown += 1;
                continue;
            };
            if nack.request <= kept.request {
                self.counters.duplicates += 1;
                continue;
            }
            let mut answer = self.spare.pop().unwrap_or_default();
            answer.plan(&kept.frame, missing, encoder.is_some());
            let cost = answer.chunks.len() * usize::from(kept.frame.chunk_len);
            let frame_len = kept.frame.extent.body_len as usize;
            let share = rate.bytes_per_second() * BUDGET_SHARE;
            let burst = share * BUDGET_SPAN.as_secs_f64();
            let burst = burst.max(frame_len as f64 * BUDGET_FRAMES);
            let budget = self.budget.get_or_insert_with(|| TokenBucket::new(now, share, burst));
            budget.set_limits(share, burst);
            if answer.chunks.is_empty() || !budget.take(now, cost as f64) {
                self.counters.over_budget += u64::from(!answer.chunks.is_empty());
                self.recycle(answer);
                continue;
            }
            kept.request = nack.request;
            if let Some(encoder) = encoder.as_deref_mut() {
                answer.make_parity(&mut kept.frame, encoder);
            }
            self.counters.frames += 1;
            self.answers.push_back(answer);
        }
    }

    /// The length of the next chunk's body with its header, in bytes; `None` if there is no chunk.
    pub fn next_body_len(&self) -> Option<usize> {
        let (frame, answer) = self.next()?;
        let header = frame.header(*answer.chunks.front()?, Duration::ZERO);
        Some(VideoHeader::LEN + header.payload_len())
    }

    /// Writes the next chunk's body of [`next_body_len`](Self::next_body_len) bytes.
    pub fn emit_next(&mut self, now: Instant, body: &mut [u8]) {
        let Some((frame, answer)) = self.next() else { return };
        let Some(&chunk) = answer.chunks.front() else { return };
        let header = frame.header(chunk, now.saturating_duration_since(frame.captured_at));
        let (head, payload) = body.split_at_mut(VideoHeader::LEN);
        header.emit(head);
        if header.is_parity() {
            payload.copy_from_slice(
                answer.parity_chunk(chunk - frame.extent.source_chunks, payload.len()),
            );
            self.counters.parity_chunks += 1;
        } else {
            copy_body(frame.data.view().bytes(), frame.crc, header.offset(), payload);
            self.counters.source_chunks += 1;
        }
        self.advance();
    }

    fn next(&self) -> Option<(&SentFrame, &Answer)> {
        let answer = self.answers.front()?;
        let kept = self.kept.iter().find(|k| k.frame.id == answer.frame)?;
        Some((&kept.frame, answer))
    }

    fn advance(&mut self) {
        let Some(answer) = self.answers.front_mut() else { return };
        answer.chunks.pop_front();
        if answer.chunks.is_empty()
            && let Some(done) = self.answers.pop_front()
        {
            self.recycle(done);
        }
    }

    /// Drops the oldest frame and its unsent answers.
    fn drop_oldest(&mut self) {
        let Some(oldest) = self.kept.pop_front() else { return };
        while let Some(index) = self.answers.iter().position(|a| a.frame == oldest.frame.id) {
            if let Some(answer) = self.answers.remove(index) {
                self.recycle(answer);
            }
        }
    }

    fn recycle(&mut self, mut answer: Answer) {
        answer.chunks.clear();
        if self.spare.len() < KEPT_FRAMES {
            self.spare.push(answer);
        }
    }
}

impl Default for RetransmitBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl SentFrame {
    fn header(&self, chunk: u16, age: Duration) -> VideoHeader {
        VideoHeader {
            frame: self.id,
            captured: self.captured,
            age,
            extent: Some(self.extent),
            chunk_len: self.chunk_len,
            chunk,
        }
    }
}

impl Answer {
    /// Chooses the chunks: as many as each block needs, fresh parity first.
    fn plan(&mut self, frame: &SentFrame, missing: &MissingChunks, can_make_parity: bool) {
        let source_chunks = frame.extent.source_chunks;
        let blocks = Blocks::of(source_chunks);
        self.frame = frame.id;
        self.chunks.clear();
        self.first_parity = frame.extent.parity_chunks;
        let listed = || missing.runs().iter().flat_map(|run| run.chunks());
        let listed = || listed().take_while(|&chunk| chunk < source_chunks).take(MAX_ANSWER);
        if missing.needed().len() != usize::from(blocks.count()) {
            self.chunks.extend(listed());
            return;
        }
        for (block, &needed) in (0..blocks.count()).zip(missing.needed()) {
            let of_block = self.first_parity..blocks.parity_capacity();
            let of_block = of_block.filter(|&j| blocks.place(j).0 == block);
            let before = self.chunks.len();
            if can_make_parity {
                let parity = of_block.take(needed.into()).map(|j| source_chunks + j);
                self.chunks.extend(parity);
            }
            let rest = usize::from(needed) - (self.chunks.len() - before);
            let sources = listed().filter(|&chunk| blocks.place(chunk).0 == block);
            self.chunks.extend(sources.take(rest));
        }
        self.chunks.truncate(MAX_ANSWER);
    }

    /// Makes the chosen parity chunks, and records them in the frame.
    fn make_parity(&mut self, frame: &mut SentFrame, encoder: &mut ParityEncoder) {
        let source_chunks = frame.extent.source_chunks;
        let Some(wanted) = self.parity_range(source_chunks) else { return };
        frame.extent.parity_chunks = wanted.end;
        let (data, crc, len) = (frame.data.view(), frame.crc, usize::from(frame.chunk_len));
        encoder.encode(
            Blocks::of(source_chunks),
            frame.chunk_len,
            wanted,
            |chunk, bytes| copy_body(data.bytes(), crc, usize::from(chunk) * len, bytes),
            &mut self.parity,
        );
    }

    /// From the first fresh parity chunk to the last one chosen.
    fn parity_range(&self, source_chunks: u16) -> Option<Range<u16>> {
        let last = self.chunks.iter().max().filter(|&&chunk| chunk >= source_chunks)?;
        Some(self.first_parity..last - source_chunks + 1)
    }

    fn parity_chunk(&self, index: u16, len: usize) -> &[u8] {
        &self.parity[usize::from(index - self.first_parity) * len..][..len]
    }
}

/// Frames kept: as many as a receiver reassembles at once.
pub const KEPT_FRAMES: usize = 4;

/// The share of the stream's rate that answers may take.
const BUDGET_SHARE: f64 = 0.25;

/// The share that accrues in this time may be used at once: at 30 frames per second, one and a half
/// frames.
pub const BUDGET_SPAN: Duration = Duration::from_millis(200);

/// The bucket holds at least this many frames, since a frame that lost its tail to a burst needs
/// most of it again.
const BUDGET_FRAMES: f64 = 1.5;

/// Maximum number of chunks in one answer.
const MAX_ANSWER: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        framing::fec::{Incomplete, ParityDecoder},
        wire::nack::ChunkRun,
    };

    const MS: Duration = Duration::from_millis(1);
    const CHUNK_LEN: u16 = 100;
    const PLENTY: Bitrate = Bitrate::from_mbps(8000);

    fn picture(chunks: u16) -> Vec<u8> {
        let len = usize::from(chunks) * usize::from(CHUNK_LEN) - 50;
        (0..len).map(|i| (i.pow(2) >> 7) as u8).collect()
    }

    fn body(chunks: u16) -> Vec<u8> {
        let picture = picture(chunks);
        [&picture[..], &crc32fast::hash(&picture).to_be_bytes()].concat()
    }

    fn sent(now: Instant, id: u32, chunks: u16, parity: u16) -> SentFrame {
        let data = picture(chunks);
        let extent = Extent::of(data.len() + FRAME_CRC_LEN, CHUNK_LEN).unwrap();
        SentFrame {
            id: FrameId(id),
            captured: MediaTime::from_micros(77),
            captured_at: now,
            crc: crc32fast::hash(&data).to_be_bytes(),
            data: data.into(),
            extent: Extent { parity_chunks: parity, ..extent },
            chunk_len: CHUNK_LEN,
        }
    }

    fn buffer_with_frame(now: Instant, chunks: u16, parity: u16) -> RetransmitBuffer {
        let mut buffer = RetransmitBuffer::new();
        buffer.keep(sent(now, 1, chunks, parity), now + 100 * MS);
        buffer
    }

    fn nack(request: u32, frame: u32, needed: &[u16], runs: &[(u16, u16)]) -> Nack {
        let mut missing = MissingChunks::of(FrameId(frame));
        for &chunks in needed {
            assert!(missing.push_block(chunks));
        }
        for &(first, count) in runs {
            assert!(missing.push_run(ChunkRun { first, count }));
        }
        let mut nack = Nack::new(request);
        assert!(nack.push(missing));
        nack
    }

    fn answers(buffer: &mut RetransmitBuffer, now: Instant) -> Vec<(VideoHeader, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(len) = buffer.next_body_len() {
            let mut body = vec![0xa5; len];
            buffer.emit_next(now, &mut body);
            let (header, payload) = VideoHeader::parse(&body).unwrap();
            all.push((header, payload.to_vec()));
        }
        all
    }

    fn indices(answers: &[(VideoHeader, Vec<u8>)]) -> Vec<u16> {
        answers.iter().map(|(header, _)| header.chunk).collect()
    }

    #[test]
    fn fresh_parity_recovers_the_missing_chunks() {
        let (now, mut encoder) = (crate::clock::now(), ParityEncoder::new());
        let mut buffer = buffer_with_frame(now, 20, 2);
        buffer.handle_nack(now, &nack(1, 1, &[3], &[(4, 3)]), PLENTY, Some(&mut encoder));
        let answers = answers(&mut buffer, now + 5 * MS);
        assert_eq!(indices(&answers), [22, 23, 24]);
        let header = answers[0].0;
        assert_eq!(header.extent.unwrap().parity_chunks, 5);
        assert_eq!((header.captured.as_micros(), header.age.as_micros()), (77, 4992));

        let mut damaged_body = body(20);
        damaged_body[400..700].fill(0xa5);
        let mut incomplete =
            Incomplete { blocks: Blocks::of(20), chunk_len: CHUNK_LEN, body: &mut damaged_body };
        let parity = answers.iter().map(|(h, bytes)| (h.chunk - 20, &bytes[..]));
        let repaired =
            ParityDecoder::new().recover(&mut incomplete, 0, |i| !(4..7).contains(&i), parity);
        assert_eq!(repaired, Some(3));
        assert!(damaged_body == body(20));
    }

    #[test]
    fn each_request_is_answered_once_with_fresh_parity() {
        let (now, mut encoder) = (crate::clock::now(), ParityEncoder::new());
        let mut buffer = buffer_with_frame(now, 20, 0);
        for (request, expected) in [(1, vec![20]), (1, vec![]), (3, vec![21]), (2, vec![])] {
            buffer.handle_nack(now, &nack(request, 1, &[1], &[]), PLENTY, Some(&mut encoder));
            assert_eq!(indices(&answers(&mut buffer, now)), expected, "request {request}");
        }
        assert_eq!(buffer.counters().duplicates, 2);
    }

    #[test]
    fn each_block_gets_the_parity_it_needs() {
        let (now, mut encoder) = (crate::clock::now(), ParityEncoder::new());
        let mut buffer = buffer_with_frame(now, 400, 4);
        buffer.handle_nack(now, &nack(1, 1, &[0, 2, 1], &[]), PLENTY, Some(&mut encoder));
        let answers = answers(&mut buffer, now);
        assert_eq!(indices(&answers), [404, 407, 405]);
        let mut all = Vec::new();
        let source = |chunk, bytes: &mut [u8]| {
            copy_body(
                &picture(400),
                crc32fast::hash(&picture(400)).to_be_bytes(),
                usize::from(chunk) * 100,
                bytes,
            );
        };
        encoder.encode(Blocks::of(400), CHUNK_LEN, 0..9, source, &mut all);
        for (header, bytes) in answers {
            assert!(bytes == all[usize::from(header.chunk - 400) * 100..][..100]);
        }
    }

    #[test]
    fn without_parity_the_missing_chunks_are_retransmitted() {
        let (now, mut encoder) = (crate::clock::now(), ParityEncoder::new());
        let mut buffer = buffer_with_frame(now, 20, 0);
        buffer.handle_nack(now, &nack(1, 1, &[3], &[(2, 1), (18, 2)]), PLENTY, None);
        let all = answers(&mut buffer, now);
        assert_eq!(indices(&all), [2, 18, 19]);
        assert!(all[0].1 == body(20)[200..300] && all[2].1 == body(20)[1900..]);
        // 20 chunks have at most 16 parity chunks; source chunks fill the rest of what is needed.
        buffer.handle_nack(now, &nack(2, 1, &[18], &[(2, 5)]), PLENTY, Some(&mut encoder));
        let expected: Vec<u16> = (20..36).chain([2, 3]).collect();
        assert_eq!(indices(&answers(&mut buffer, now)), expected);
        assert_eq!(buffer.counters().source_chunks, 5);
    }

    #[test]
    fn an_open_ended_request_is_answered_with_source_chunks() {
        let (now, mut encoder) = (crate::clock::now(), ParityEncoder::new());
        let mut buffer = buffer_with_frame(now, 20, 0);
        let open_end = nack(1, 1, &[], &[(3, 1), (17, u16::MAX - 16)]);
        buffer.handle_nack(now, &open_end, PLENTY, Some(&mut encoder));
        assert_eq!(indices(&answers(&mut buffer, now)), [3, 17, 18, 19]);
    }

    #[test]
    fn frames_are_kept_until_they_expire_or_are_displaced() {
        let now = crate::clock::now();
        let mut buffer = buffer_with_frame(now, 20, 0);
        assert_eq!(buffer.poll_timeout(), Some(now + 100 * MS));
        let ask = |id| nack(id, id, &[1], &[(0, 1)]);
        buffer.handle_nack(now + 99 * MS, &ask(1), PLENTY, None);
        buffer.handle_timeout(now + 100 * MS);
        assert_eq!((buffer.next_body_len(), buffer.poll_timeout()), (None, None));
        for id in 2..=6 {
            buffer.keep(sent(now, id, 20, 0), now + 900 * MS);
        }
        buffer.handle_nack(now + 100 * MS, &ask(2), PLENTY, None);
        buffer.handle_nack(now + 100 * MS, &ask(3), PLENTY, None);
        assert_eq!(answers(&mut buffer, now).len(), 1);
        assert_eq!(buffer.counters().unknown, 1);
    }

    #[test]
    fn answers_stay_within_their_share_of_the_rate() {
        let now = crate::clock::now();
        let mut buffer = RetransmitBuffer::new();
        let (rate, mut bytes) = (Bitrate::from_kbps(800), 0);
        for i in 0..500 {
            let at = now + 10 * MS * i;
            buffer.keep(sent(at, i, 20, 0), at + 100 * MS);
            buffer.handle_nack(at, &nack(1, i, &[20], &[(0, 20)]), rate, None);
            bytes += answers(&mut buffer, at).len() * usize::from(CHUNK_LEN);
        }
        let share = (rate.bytes_per_second() * BUDGET_SHARE * 5.2) as usize;
        assert!(bytes <= share && bytes > share * 9 / 10, "{bytes} of {share}");
        assert!(buffer.counters().over_budget > 300);
    }

    #[test]
    fn one_and_a_half_frames_may_be_answered_at_a_low_rate() {
        let now = crate::clock::now();
        let mut buffer = buffer_with_frame(now, 20, 0);
        buffer.keep(sent(now, 2, 20, 0), now + 100 * MS);
        // At five such frames per second, the rate alone allows a quarter of one at once.
        let rate = Bitrate::from_kbps(80);
        for (frame, chunks) in [(1, 20), (2, 0)] {
            buffer.handle_nack(now, &nack(frame, frame, &[20], &[(0, 20)]), rate, None);
            assert_eq!(answers(&mut buffer, now).len(), chunks, "frame {frame}");
        }
        buffer.handle_nack(now, &nack(3, 2, &[9], &[(0, 9)]), rate, None);
        assert_eq!(answers(&mut buffer, now).len(), 9);
    }

    /// The copy of a refused NACK is not a duplicate: nothing has answered it.
    #[test]
    fn a_copy_of_a_refused_request_is_answered_once_the_budget_allows_it() {
        let now = crate::clock::now();
        let mut buffer = RetransmitBuffer::new();
        (1..=2).for_each(|id| buffer.keep(sent(now, id, 20, 0), now + 9000 * MS));
        let mut answered = |request, frame, after| {
            buffer.handle_nack(
                now + after,
                &nack(request, frame, &[20], &[(0, 20)]),
                Bitrate::from_kbps(80),
                None,
            );
            answers(&mut buffer, now + after).len()
        };
        assert_eq!(answered(1, 1, MS), 20);
        assert_eq!(answered(2, 2, 2 * MS), 0, "over budget");
        assert_eq!(answered(2, 2, 8000 * MS), 20);
        assert_eq!(answered(2, 2, 8001 * MS), 0, "a duplicate");
        let AnswerCounters { frames, over_budget, duplicates, .. } = buffer.counters();
        assert_eq!((frames, over_budget, duplicates), (2, 1, 1));
    }

    #[test]
    fn answering_nacks_does_not_allocate() {
        let (now, mut encoder, mut buffer) =
            (crate::clock::now(), ParityEncoder::new(), RetransmitBuffer::new());
        let frame = sent(now, 0, 98, 2);
        let mut buf = [0; 200];
        let mut request = 0;
        let mut round = || {
            for _ in 0..5 {
                request += 1;
                buffer.keep(SentFrame { id: FrameId(request), ..frame.clone() }, now + MS);
                buffer.handle_nack(
                    now,
                    &nack(request, request, &[6], &[]),
                    PLENTY,
                    Some(&mut encoder),
                );
                while let Some(len) = buffer.next_body_len() {
                    buffer.emit_next(now, &mut buf[..len]);
                }
            }
        };
        round();
        assert_eq!(allocation_counter::measure(round).count_total, 0);
    }
}
