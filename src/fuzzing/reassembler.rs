//! The reassembler, given any sequence of chunks, delays and queries.

use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};

use crate::{
    clock,
    net::{
        frame::{FrameBytes, FrameId, MAX_FRAME_LEN, ReceivedFrame},
        framing::{
            packetizer::{ChunkCache, Next, Packetizer},
            reassembler::{Reassembler, ReassemblyCounters},
        },
        time::MediaTime,
        wire::{
            checksum::Hashed,
            nack::Nack,
            video::{Extent, MAX_BODY_LEN, VideoHeader},
        },
    },
};

/// The bytes select the frames, the chunks that arrive and when, and which of them are forged. A
/// frame without forged chunks is delivered exactly as it was sent or not at all.
pub fn reassembler(bytes: &[u8]) {
    // No error ends a sequence early: bytes that run out read as zeros.
    let _ = Play::new(&mut Unstructured::new(bytes)).and_then(Play::play);
}

struct Play<'a, 'b> {
    ops: &'a mut Unstructured<'b>,
    now: Instant,
    reassembler: Reassembler,
    frames: Vec<Sent>,
    newest: Option<FrameId>,
    /// Whether only chunks that were sent have arrived.
    is_honest: bool,
}

/// A frame as it was sent.
struct Sent {
    id: FrameId,
    data: Vec<u8>,
    /// The bodies of its video datagrams.
    chunks: Vec<Vec<u8>>,
    /// Whether forged chunks with its id have arrived.
    is_tampered: bool,
}

impl<'a, 'b> Play<'a, 'b> {
    fn new(ops: &'a mut Unstructured<'b>) -> Result<Self> {
        let mut id = FrameId(if ops.arbitrary()? { u32::MAX - 2 } else { ops.arbitrary()? });
        let mut frames = Vec::new();
        for _ in 0..ops.int_in_range(1..=7)? {
            frames.push(Sent::new(ops, id)?);
            id = FrameId(id.0.wrapping_add(ops.int_in_range(1..=2)?));
        }
        let reassembler = Reassembler::new(DEADLINE);
        Ok(Self { ops, now: clock::now(), reassembler, frames, newest: None, is_honest: true })
    }

    fn play(mut self) -> Result<()> {
        for _ in 0..MAX_OPS {
            if self.ops.is_empty() {
                break;
            }
            match self.ops.int_in_range(0..=15)? {
                0..=4 => self.one_chunk()?,
                5..=7 => self.many_chunks()?,
                8 => self.changed_chunk()?,
                9 => self.forged_chunk()?,
                10 | 11 => self.wait()?,
                12 => self.wait_until_due(),
                13 => self.spurious_timeout(),
                14 => self.poll_partial(),
                _ => self.query()?,
            }
            self.check();
        }
        self.now += DEADLINE * 2;
        self.handle_timeout();
        self.now += DEADLINE;
        self.handle_timeout();
        assert_eq!((self.reassembler.in_flight(), self.reassembler.memory()), (0, 0));
        assert_eq!(self.reassembler.poll_timeout(), None, "every frame has an outcome");
        Ok(())
    }

    fn one_chunk(&mut self) -> Result<()> {
        let frame = self.ops.choose_index(self.frames.len())?;
        let chunk = self.ops.choose_index(self.frames[frame].chunks.len())?;
        self.handle(frame, chunk);
        Ok(())
    }

    /// The chunks of one frame from any one in its first half to the end, except one.
    fn many_chunks(&mut self) -> Result<()> {
        let frame = self.ops.choose_index(self.frames.len())?;
        let len = self.frames[frame].chunks.len();
        let from = self.ops.choose_index(len)? / 2;
        let left_out = self.ops.choose_index(len)?;
        (from..len).filter(|&chunk| chunk != left_out).for_each(|chunk| self.handle(frame, chunk));
        Ok(())
    }

    fn handle(&mut self, frame: usize, chunk: usize) {
        let body = &self.frames[frame].chunks[chunk];
        let (header, payload) = VideoHeader::parse(body).expect("packetized");
        let crc = Hashed::of(payload).crc;
        let frame = self.reassembler.handle_chunk(self.now, &header, payload, crc);
        self.take(frame);
    }

    /// A sent chunk in which up to three bytes are changed, from the last byte of its frame id on.
    fn changed_chunk(&mut self) -> Result<()> {
        let frame = self.ops.choose(&self.frames)?;
        let mut body = self.ops.choose(&frame.chunks)?.clone();
        for _ in 0..self.ops.int_in_range(1..=3)? {
            // Ids stay near each other: ids half the range apart have no order (RFC 1982).
            let at = self.ops.int_in_range(LAST_OF_ID..=body.len() - 1)?;
            body[at] = self.ops.arbitrary()?;
        }
        if let Ok((header, payload)) = VideoHeader::parse(&body) {
            self.tamper(&header, payload);
        }
        Ok(())
    }

    /// A forged chunk with an arbitrary header.
    fn forged_chunk(&mut self) -> Result<()> {
        let longest = if self.ops.ratio(1, 8)? { 32_767 } else { 40 };
        let chunk_len = 2 * self.ops.int_in_range(1..=longest)?;
        let extent = match self.ops.int_in_range(0..=2)? {
            0 => None,
            1 => Extent::of(self.ops.int_in_range(5..=2000)?, chunk_len),
            _ => {
                let most = if self.ops.ratio(1, 8)? { MAX_BODY_LEN } else { 100_000 };
                Extent::of(self.ops.int_in_range(5..=most)?, chunk_len)
            }
        };
        let parity_chunks = self.ops.arbitrary()?;
        let extent = extent.map(|extent| Extent { parity_chunks, ..extent });
        let id = self.ops.choose(&self.frames)?.id;
        let header = VideoHeader {
            frame: FrameId(id.0.wrapping_add_signed(self.ops.int_in_range(-3..=3)?)),
            captured: CAPTURED,
            age: Duration::ZERO,
            extent,
            chunk_len,
            chunk: self.ops.arbitrary()?,
        };
        let mut body =
            vec![self.ops.arbitrary()?; VideoHeader::LEN + header.payload_len().min(70_000)];
        header.emit(&mut body);
        if let Ok((header, payload)) = VideoHeader::parse(&body) {
            self.tamper(&header, payload);
        }
        Ok(())
    }

    fn tamper(&mut self, header: &VideoHeader, payload: &[u8]) {
        let tampered = self.frames.iter_mut().filter(|frame| frame.id == header.frame);
        tampered.for_each(|frame| frame.is_tampered = true);
        self.is_honest = false;
        let crc = Hashed::of(payload).crc;
        let frame = self.reassembler.handle_chunk(self.now, header, payload, crc);
        self.take(frame);
    }

    fn wait(&mut self) -> Result<()> {
        self.now += Duration::from_micros(self.ops.int_in_range(0..=300_000)?);
        self.handle_timeout();
        Ok(())
    }

    fn wait_until_due(&mut self) {
        let due = self.reassembler.poll_timeout();
        self.now = due.map_or(self.now, |due| due.max(self.now));
        self.handle_timeout();
    }

    fn handle_timeout(&mut self) {
        loop {
            let frame = self.reassembler.handle_timeout(self.now);
            if frame.is_none() {
                break;
            }
            self.take(frame);
        }
        assert!(self.reassembler.poll_timeout().is_none_or(|due| due > self.now), "all is done");
    }

    /// A timeout when nothing is due changes nothing.
    fn spurious_timeout(&mut self) {
        if self.reassembler.poll_timeout().is_none_or(|due| due > self.now) {
            let before = (self.reassembler.counters(), self.reassembler.poll_timeout());
            assert_eq!(self.reassembler.handle_timeout(self.now), None);
            assert_eq!((self.reassembler.counters(), self.reassembler.poll_timeout()), before);
        }
    }

    fn take(&mut self, frame: Option<ReceivedFrame>) {
        let Some(frame) = frame else { return };
        assert!(self.newest.is_none_or(|newest| newest.is_before(frame.id)), "never backwards");
        self.newest = Some(frame.id);
        assert!(frame.data.len() <= MAX_FRAME_LEN);
        if let Some(sent) = self.untampered(frame.id) {
            assert_eq!(frame.data[..], sent.data, "frame {}", frame.id);
        }
    }

    /// Polls for the received parts of a frame, and checks them and their due time.
    fn poll_partial(&mut self) {
        let repairs = self.ops.ratio(1, 2).unwrap_or_default();
        let due = self.reassembler.partial_due(repairs);
        let Some(partial) = self.reassembler.poll_partial(self.now, repairs) else {
            assert!(due.is_none_or(|due| due > self.now), "it is returned when it is due");
            return;
        };
        assert!(due.is_some_and(|due| due <= self.now), "it is returned no sooner");
        let mut end = None;
        for range in &partial.present {
            assert!(range.start < range.end && range.end <= partial.data.len());
            assert!(
                end.is_none_or(|end| end < range.start),
                "with gaps between: {:?}",
                partial.present
            );
            end = Some(range.end);
            if let Some(sent) = self.untampered(partial.id) {
                let range = range.start..range.end.min(sent.data.len());
                assert_eq!(partial.data[range.clone()], sent.data[range]);
            }
        }
        assert_ne!(self.reassembler.partial_due(repairs), due, "each is returned once");
    }

    /// Queries the missing chunks of a frame and the prefix of the newest.
    fn query(&mut self) -> Result<()> {
        let id = self.ops.choose(&self.frames)?.id;
        if let Some(missing) = self.reassembler.missing(id) {
            let mut nack = Nack::new(1);
            if nack.push(missing) {
                let mut body = vec![0; nack.body_len()];
                nack.emit(&mut body);
                assert_eq!(Nack::parse(&body), Ok(nack), "it can be requested");
            }
        }
        if let Some(prefix) = self.reassembler.newest_prefix()
            && let Some(sent) = self.untampered(prefix.id)
        {
            let len = prefix.bytes.len().min(sent.data.len());
            assert_eq!(prefix.bytes[..len], sent.data[..len]);
        }
        Ok(())
    }

    fn untampered(&self, id: FrameId) -> Option<&Sent> {
        self.frames.iter().find(|sent| sent.id == id && !sent.is_tampered)
    }

    fn check(&self) {
        let counters = self.reassembler.counters();
        let ReassemblyCounters { seen, completed, incomplete, late, damaged, .. } = counters;
        let in_flight = self.reassembler.in_flight();
        assert_eq!(seen, completed + incomplete + late + damaged + in_flight as u64);
        assert!(in_flight <= MAX_IN_FLIGHT, "{in_flight} frames");
        assert!(self.reassembler.memory() <= MAX_MEMORY, "{} bytes", self.reassembler.memory());
        assert!(counters.repaired <= completed, "{counters:?}");
        assert!(damaged == 0 || !self.is_honest, "only forged chunks damage a frame");
    }
}

impl Sent {
    fn new(ops: &mut Unstructured<'_>, id: FrameId) -> Result<Self> {
        let (len, chunk_len) = (ops.int_in_range(1..=900)?, 2 * ops.int_in_range(1..=30_u16)?);
        let data: Vec<u8> =
            (0..len).map(|i: usize| (i as u8).wrapping_mul(31) ^ id.0 as u8).collect();
        let whole = FrameBytes::from(data.clone());
        let view = whole.view();
        let mut packetizer = Packetizer::new(id, CAPTURED, chunk_len);
        let parity = ops.int_in_range(0..=6)?;
        if parity > 0 {
            packetizer.protect(&view, parity);
        }
        let (mut chunks, mut cache) = (Vec::new(), ChunkCache::new());
        let mut shared = cache.single(chunk_len);
        while let Next::Chunk(next) = packetizer.next(&view) {
            let mut body = vec![0; next.body_len()];
            packetizer.emit(&view, &mut shared, next, Duration::ZERO, &mut body);
            chunks.push(body);
        }
        drop(view);
        Ok(Self { id, data, chunks, is_tampered: false })
    }
}

const DEADLINE: Duration = Duration::from_millis(250);

/// Four in reassembly, eight remembered.
const MAX_IN_FLIGHT: usize = 4 + 8;

/// The bound documented at `Reassembler::memory`.
const MAX_MEMORY: usize = 4 * (MAX_BODY_LEN + MAX_BODY_LEN / 3 * 2 + 2);

/// Longer sequences find nothing new.
const MAX_OPS: usize = 300;

/// The last byte of the frame id in a chunk's body.
const LAST_OF_ID: usize = 3;

const CAPTURED: MediaTime = MediaTime::MAX;
