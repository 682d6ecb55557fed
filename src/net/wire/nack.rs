//! A receiver's request for the missing chunks of one to four frames.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                            request                            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                           frame id                            |  ─┐
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+   │
//! |     blocks    |     runs      | chunks needed, one byte a block   │ 1 to 4
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+   │ times
//! |  runs of missing source chunks: first (16 bits), count (16)   |  ─┘
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! *Chunks needed* is how many more chunks of either kind complete a block, so fresh parity can
//! answer it. The runs name the missing source chunks, for a sender that creates no parity. Without
//! blocks, the receiver does not know the frame's extent yet, or the frame has too many blocks;
//! then only the runs count.
//!
//! A NACK for a single loss has 15 bytes; the maximum is 796.

use thiserror::Error;

use super::big_endian::{read_u16, read_u32};
use crate::net::frame::FrameId;

/// The missing chunks of some frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nack {
    /// The number of the NACK in this session, from 1; copies are answered once.
    pub request: u32,
    frames: [MissingChunks; MAX_NACK_FRAMES],
    count: usize,
}

/// The missing chunks of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingChunks {
    /// The frame.
    pub frame: FrameId,
    needed: [u8; MAX_NACK_BLOCKS],
    blocks: usize,
    runs: [ChunkRun; MAX_NACK_RUNS],
    run_count: usize,
}

/// A run of consecutive source chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkRun {
    /// The index of the first.
    pub first: u16,
    /// Their number, not zero; the last index is at most 65,535.
    pub count: u16,
}

/// Why a body is not a NACK.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed NACK")]
pub struct NackError;

impl Nack {
    /// A NACK that requests nothing yet.
    pub fn new(request: u32) -> Self {
        Self { request, frames: [MissingChunks::of(FrameId(0)); MAX_NACK_FRAMES], count: 0 }
    }

    /// Adds a frame. Returns false and adds nothing if there are already [`MAX_NACK_FRAMES`] or the
    /// frame misses nothing.
    pub fn push(&mut self, missing: MissingChunks) -> bool {
        let fits = self.count < MAX_NACK_FRAMES && !missing.is_empty();
        if fits {
            self.frames[self.count] = missing;
            self.count += 1;
        }
        fits
    }

    /// Adds a frame if the body stays within `max_len` bytes, at least 80. Returns false if it does
    /// not. The first frame always fits: its last runs are left out if necessary.
    pub fn push_within(&mut self, mut missing: MissingChunks, max_len: usize) -> bool {
        if self.is_empty() {
            missing.shorten(max_len - HEAD_LEN);
        }
        self.body_len() + missing.len() <= max_len && self.push(missing)
    }

    /// The frames, in the order of addition.
    pub fn frames(&self) -> &[MissingChunks] {
        &self.frames[..self.count]
    }

    /// Whether nothing is requested.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The length of the body, in bytes.
    pub fn body_len(&self) -> usize {
        HEAD_LEN + self.frames().iter().map(MissingChunks::len).sum::<usize>()
    }

    /// Parses the body of a NACK.
    pub fn parse(body: &[u8]) -> Result<Self, NackError> {
        if body.len() < HEAD_LEN + FRAME_HEAD_LEN {
            return Err(NackError);
        }
        let mut nack = Self::new(read_u32(body, REQUEST));
        let mut rest = &body[HEAD_LEN..];
        while !rest.is_empty() {
            let (missing, behind) = MissingChunks::parse(rest)?;
            if !nack.push(missing) {
                return Err(NackError);
            }
            rest = behind;
        }
        Ok(nack)
    }

    /// Writes the NACK to the first [`body_len`](Self::body_len) bytes of `body`.
    pub fn emit(&self, body: &mut [u8]) {
        body[REQUEST..HEAD_LEN].copy_from_slice(&self.request.to_be_bytes());
        let mut at = HEAD_LEN;
        for missing in self.frames() {
            missing.emit(&mut body[at..]);
            at += missing.len();
        }
    }
}

impl MissingChunks {
    /// An empty request for `frame`.
    pub fn of(frame: FrameId) -> Self {
        Self {
            frame,
            needed: [0; MAX_NACK_BLOCKS],
            blocks: 0,
            runs: [ChunkRun::default(); MAX_NACK_RUNS],
            run_count: 0,
        }
    }

    /// Adds the next block, which needs `chunks` more; more than 255 count as 255. Returns false if
    /// there are already [`MAX_NACK_BLOCKS`]; then the frame must be requested by runs only.
    pub fn push_block(&mut self, chunks: u16) -> bool {
        let fits = self.blocks < MAX_NACK_BLOCKS;
        if fits {
            self.needed[self.blocks] = chunks.min(u8::MAX.into()) as u8;
            self.blocks += 1;
        }
        fits
    }

    /// Adds missing source chunk `chunk`, which must be higher than those added before. Returns
    /// false if it needs a new run and there are already [`MAX_NACK_RUNS`]; the first runs are
    /// kept.
    pub fn push_chunk(&mut self, chunk: u16) -> bool {
        if let Some(last) = self.runs[..self.run_count].last_mut()
            && last.first.checked_add(last.count) == Some(chunk)
        {
            last.count += 1;
            return true;
        }
        self.push_run(ChunkRun { first: chunk, count: 1 })
    }

    /// Adds a run. Returns false if it is empty or there are already [`MAX_NACK_RUNS`].
    pub fn push_run(&mut self, run: ChunkRun) -> bool {
        let fits = self.run_count < MAX_NACK_RUNS && run.count > 0;
        if fits {
            self.runs[self.run_count] = run;
            self.run_count += 1;
        }
        fits
    }

    /// How many more chunks each block needs; empty if the extent is not known, or if there are
    /// more than [`MAX_NACK_BLOCKS`].
    pub fn needed(&self) -> &[u8] {
        &self.needed[..self.blocks]
    }

    /// Increases the request of each block that needs anything by `more(needed)`.
    pub fn add_margin(&mut self, more: impl Fn(u8) -> u8) {
        for needed in self.needed[..self.blocks].iter_mut().filter(|n| **n > 0) {
            *needed = needed.saturating_add(more(*needed));
        }
    }

    /// The runs of missing source chunks, as far as they fit.
    pub fn runs(&self) -> &[ChunkRun] {
        &self.runs[..self.run_count]
    }

    /// Whether nothing is requested.
    pub fn is_empty(&self) -> bool {
        self.run_count == 0 && self.needed().iter().all(|&n| n == 0)
    }

    /// Leaves out the last runs, down to one, until there are at most `max_len` bytes.
    fn shorten(&mut self, max_len: usize) {
        while self.len() > max_len && self.run_count > 1 {
            self.run_count -= 1;
            self.runs[self.run_count] = ChunkRun::default();
        }
    }

    fn len(&self) -> usize {
        FRAME_HEAD_LEN + self.blocks + self.run_count * RUN_LEN
    }

    fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), NackError> {
        let (head, rest) = bytes.split_at_checked(FRAME_HEAD_LEN).ok_or(NackError)?;
        let mut missing = Self::of(FrameId(read_u32(head, FRAME)));
        let (blocks, runs) = (usize::from(head[BLOCKS]), usize::from(head[RUNS]));
        let (needed, rest) = rest.split_at_checked(blocks).ok_or(NackError)?;
        let (runs, rest) = rest.split_at_checked(runs * RUN_LEN).ok_or(NackError)?;
        let fits = needed.iter().all(|&n| missing.push_block(n.into()));
        let fits = fits && runs.chunks_exact(RUN_LEN).all(|run| missing.parse_run(run));
        if fits { Ok((missing, rest)) } else { Err(NackError) }
    }

    fn parse_run(&mut self, bytes: &[u8]) -> bool {
        let run = ChunkRun { first: read_u16(bytes, 0), count: read_u16(bytes, 2) };
        let ends = run.first.checked_add(run.count.saturating_sub(1)).is_some();
        ends && self.push_run(run)
    }

    fn emit(&self, bytes: &mut [u8]) {
        bytes[FRAME..BLOCKS].copy_from_slice(&self.frame.0.to_be_bytes());
        bytes[BLOCKS] = self.blocks as u8;
        bytes[RUNS] = self.run_count as u8;
        bytes[FRAME_HEAD_LEN..][..self.blocks].copy_from_slice(self.needed());
        let runs = bytes[FRAME_HEAD_LEN + self.blocks..].chunks_exact_mut(RUN_LEN);
        for (bytes, run) in runs.zip(self.runs()) {
            bytes[..2].copy_from_slice(&run.first.to_be_bytes());
            bytes[2..].copy_from_slice(&run.count.to_be_bytes());
        }
    }
}

impl ChunkRun {
    /// The chunks' indices.
    pub fn chunks(self) -> impl Iterator<Item = u16> {
        (u32::from(self.first)..u32::from(self.first) + u32::from(self.count)).map(|c| c as u16)
    }
}

/// The maximum number of frames in one NACK: as many as a receiver reassembles at once.
pub const MAX_NACK_FRAMES: usize = 4;

/// The maximum number of blocks of one frame. 64 blocks are 12,288 source chunks, more than the
/// largest frame has in datagrams of 1200 bytes.
pub const MAX_NACK_BLOCKS: usize = 64;

/// The maximum number of runs of one frame; 5 % loss causes 5 in a frame of 98 chunks.
pub const MAX_NACK_RUNS: usize = 32;

/// The length of the longest body, in bytes.
#[cfg(any(test, feature = "internals"))]
pub const MAX_NACK_LEN: usize =
    HEAD_LEN + MAX_NACK_FRAMES * (FRAME_HEAD_LEN + MAX_NACK_BLOCKS + MAX_NACK_RUNS * RUN_LEN);

const REQUEST: usize = 0;
const HEAD_LEN: usize = 4;

const FRAME: usize = 0;
const BLOCKS: usize = 4;
const RUNS: usize = 5;
const FRAME_HEAD_LEN: usize = 6;
const RUN_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn nack() -> Nack {
        let mut nack = Nack::new(0x0102_0304);
        let mut first = MissingChunks::of(FrameId(0x1112_1314));
        assert!(first.push_block(5));
        for chunk in [7, 8, 9, 300, 65_535] {
            assert!(first.push_chunk(chunk));
        }
        let mut second = MissingChunks::of(FrameId(9));
        assert!(second.push_run(ChunkRun { first: 90, count: 0xffff - 89 }));
        assert!(nack.push(first) && nack.push(second));
        nack
    }

    fn emitted(nack: &Nack) -> Vec<u8> {
        let mut body = vec![0xa5; nack.body_len()];
        nack.emit(&mut body);
        body
    }

    #[test]
    fn emits_the_bytes_of_the_diagram() {
        #[rustfmt::skip]
        let expected = [
            1, 2, 3, 4,
            0x11, 0x12, 0x13, 0x14, 1, 3, 5, 0, 7, 0, 3, 0x01, 0x2c, 0, 1, 0xff, 0xff, 0, 1,
            0, 0, 0, 9, 0, 1, 0, 90, 0xff, 0xa6,
        ];
        assert_eq!(emitted(&nack()), expected);
    }

    #[test]
    fn parses_what_it_emits() {
        assert_eq!(Nack::parse(&emitted(&nack())), Ok(nack()));
    }

    #[test]
    fn every_truncation_and_addition_is_refused() {
        let mut body = emitted(&nack());
        let one_frame = HEAD_LEN + nack().frames()[0].len();
        for len in (0..body.len()).filter(|&len| len != one_frame) {
            assert_eq!(Nack::parse(&body[..len]), Err(NackError), "{len} bytes");
        }
        body.push(0);
        assert_eq!(Nack::parse(&body), Err(NackError));
    }

    #[test]
    fn impossible_requests_are_refused() {
        let wrong = |at: usize, value: &[u8]| {
            let mut body = emitted(&nack());
            body[at..at + value.len()].copy_from_slice(value);
            Nack::parse(&body).unwrap_err()
        };
        assert_eq!(wrong(13, &[0, 0]), NackError, "an empty run");
        assert_eq!(wrong(21, &[0, 2]), NackError, "a run beyond the last index");
        assert_eq!(wrong(9, &[33]), NackError, "too many runs");
        assert_eq!(wrong(8, &[65]), NackError, "too many blocks");
        let nothing = [0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0];
        assert_eq!(Nack::parse(&nothing), Err(NackError), "a frame that misses nothing");
        let five = [&[0, 0, 0, 1][..], &[0, 0, 0, 2, 1, 0, 1].repeat(5)].concat();
        assert_eq!(Nack::parse(&five), Err(NackError));
        assert!(Nack::parse(&five[..five.len() - 7]).is_ok());
    }

    #[test]
    fn the_longest_nack_is_bounded_and_a_single_loss_is_small() {
        let mut longest = MissingChunks::of(FrameId(1));
        while longest.push_block(1) {}
        let mut chunk = 0;
        while longest.push_chunk(chunk) {
            chunk += 2;
        }
        let mut nack = Nack::new(1);
        while nack.push(longest) {}
        assert_eq!(nack.body_len(), MAX_NACK_LEN);
        assert_eq!(MAX_NACK_LEN, 796);
        assert_eq!(Nack::parse(&emitted(&nack)), Ok(nack));

        let mut single = MissingChunks::of(FrameId(1));
        single.push_block(1);
        single.push_chunk(5);
        let mut nack = Nack::new(1);
        nack.push(single);
        assert_eq!(nack.body_len(), 15);
    }

    #[test]
    fn the_first_frame_is_shortened_to_the_maximum_length_and_others_are_refused() {
        let mut longest = MissingChunks::of(FrameId(1));
        while longest.push_block(1) {}
        let mut chunk = 0;
        while longest.push_chunk(chunk) {
            chunk += 2;
        }
        for max_len in [80, 172, 173, 174, 175, 176, MAX_NACK_LEN] {
            let mut nack = Nack::new(1);
            assert!(nack.push_within(longest, max_len));
            assert!(nack.body_len() <= max_len);
            let [frame] = nack.frames() else { panic!("{nack:?}") };
            assert_eq!(frame.needed(), longest.needed());
            assert_eq!(frame.runs(), &longest.runs()[..frame.runs().len()]);
            assert!(max_len - nack.body_len() < RUN_LEN || frame.runs() == longest.runs());
            let mut single = MissingChunks::of(FrameId(2));
            assert!(single.push_chunk(9));
            let fits = max_len - nack.body_len() >= single.len();
            assert_eq!(nack.push_within(single, max_len), fits);
            assert!(nack.body_len() <= max_len);
            assert!(Nack::parse(&emitted(&nack)) == Ok(nack));
        }
    }

    #[test]
    fn a_run_yields_its_chunk_indices() {
        let run = ChunkRun { first: 65_534, count: 2 };
        assert_eq!(run.chunks().collect::<Vec<_>>(), [65_534, 65_535]);
    }
}
