//! Motion JPEG in AVI 1.0 (RIFF), for players.
//!
//! ```text
//! RIFF len "AVI "
//!   LIST len "hdrl"
//!     avih len  main header
//!     LIST len "strl"
//!       strh len  stream header: rate and length
//!       strf len  bitmap header: MJPG, width, height
//!   LIST len "movi"
//!     00dc len frame [pad to even]     one per tick; an empty one repeats the last picture
//!     …
//!   idx1 len  (id, flags, offset, length) of each
//! ```
//!
//! The header is rewritten about once a second. If the program is killed, the recording therefore
//! has the right length up to the last rewrite; players find the rest by reading the chunks.

use std::{fs::File, io, path::PathBuf, time::Duration};

use super::{
    destination::{Destination, Opened},
    output::Output,
    written::Written,
};
use crate::video::{image::Size, jpeg::Header};

/// Writes frames, each at its time.
pub(super) struct AviWriter {
    destination: Destination,
    rate: (u32, u32),
    part: Option<Part>,
    bytes_before: u64,
    /// The name of an opened file, until [`take_opened`](Self::take_opened).
    opened: Option<PathBuf>,
}

impl AviWriter {
    /// The first file is opened with the first frame.
    pub(super) fn new(destination: Destination, rate: (u32, u32)) -> Self {
        Self { destination, rate, part: None, bytes_before: 0, opened: None }
    }

    /// Sets the rate of files that are begun from now on.
    pub(super) fn set_rate(&mut self, rate: (u32, u32)) {
        self.rate = rate;
    }

    /// Writes a frame with the time `at` in the recording, after repeats for the ticks without a
    /// frame.
    ///
    /// When the file gets too long, or the size of the pictures changes, another file is begun.
    pub(super) fn write(&mut self, frame: &[u8], at: Duration) -> io::Result<Written> {
        let Ok(header) = Header::parse(frame) else { return Ok(Written::Damaged) };
        let fits = |part: &Part| part.size == header.size && part.has_room_for(frame.len());
        if !self.part.as_ref().is_some_and(fits) {
            self.finish()?;
            let Opened::Yes(file, path) = self.destination.open_next()? else {
                return Err(io::Error::other("an AVI cannot be written to a FIFO"));
            };
            self.opened = Some(path);
            self.part = Some(Part::begin(file, header.size, self.rate, at)?);
        }
        let part = self.part.as_mut().expect("there is one now");
        part.fill_up_to(at)?;
        part.write(frame)?;
        Ok(Written::Whole)
    }

    /// Writes the index and the final header.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let Some(mut part) = self.part.take() else { return Ok(()) };
        let result = part.finish();
        self.bytes_before += part.output.len();
        result
    }

    /// The name of the file opened since the last call.
    pub(super) fn take_opened(&mut self) -> Option<PathBuf> {
        self.opened.take()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes_before + self.part.as_ref().map_or(0, |part| part.output.len())
    }
}

/// One file.
struct Part {
    output: Output,
    size: Size,
    rate: (u32, u32),
    /// Offset and length of each chunk; one per tick.
    index: Vec<(u32, u32)>,
    longest: u32,
    /// The recording time of tick 0.
    start: Duration,
    /// The number of ticks in the header on disk.
    ticks_in_header: usize,
}

impl Part {
    fn begin(file: File, size: Size, rate: (u32, u32), start: Duration) -> io::Result<Self> {
        let output = Output::opened(file);
        let index = Vec::new();
        let mut part = Self { output, size, rate, index, longest: 0, start, ticks_in_header: 0 };
        let header = part.header(false);
        part.output.write(&[&header])?;
        Ok(part)
    }

    fn has_room_for(&self, len: usize) -> bool {
        let index_len = (self.index.len() as u64 + 1) * INDEX_ENTRY_LEN;
        self.output.len() + index_len + len as u64 <= MAX_FILE_LEN
    }

    /// Repeats the last picture for the ticks before `at` without a frame.
    fn fill_up_to(&mut self, at: Duration) -> io::Result<()> {
        let written = self.index.len() as u64;
        let due = self.ticks(at.saturating_sub(self.start));
        if written == 0 || due + self.fps() as u64 <= written || due > written + MAX_REPEATS {
            // The first frame, or time went back or too far ahead, as with another sender: continue
            // from here.
            self.start = at.saturating_sub(Duration::from_secs_f64(written as f64 / self.fps()));
            return Ok(());
        }
        for _ in written..due {
            self.chunk(&[])?;
        }
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.chunk(frame)?;
        let unknown = self.index.len() - self.ticks_in_header;
        if self.ticks_in_header == 0 || unknown as f64 >= self.fps() {
            self.update_header(false)?;
        }
        Ok(())
    }

    fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let offset = (self.output.len() - MOVI_ID_AT) as u32;
        let len = data.len() as u32;
        let padding: &[u8] = if len % 2 == 1 { &[0] } else { &[] };
        self.output.write(&[b"00dc", &len.to_le_bytes(), data, padding])?;
        self.index.push((offset, len));
        self.longest = self.longest.max(len);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let mut movi_end = self.output.len();
        let mut indexed = self.write_index();
        if indexed.is_err() {
            // On a full disk, the last frames are removed to make room for the index.
            movi_end = self.cut(movi_end)?;
            if self.write_index().is_ok() {
                indexed = Ok(());
            }
        }
        let header = self.header_of(movi_end, self.output.len(), indexed.is_ok());
        self.output.rewrite_start(&header).and(indexed)
    }

    fn write_index(&mut self) -> io::Result<()> {
        let mut index = Vec::with_capacity(self.index.len() * INDEX_ENTRY_LEN as usize + 8);
        index.extend(b"idx1");
        index.extend((self.index.len() as u32 * INDEX_ENTRY_LEN as u32).to_le_bytes());
        for &(offset, len) in &self.index {
            index.extend(b"00dc");
            index.extend((if len > 0 { KEY_FRAME } else { 0_u32 }).to_le_bytes());
            index.extend(offset.to_le_bytes());
            index.extend(len.to_le_bytes());
        }
        self.output.write(&[&index])
    }

    /// Removes enough of the last chunks to make room for the index; returns the new end of the
    /// chunks.
    fn cut(&mut self, movi_end: u64) -> io::Result<u64> {
        let wanted = self.index.len() as u64 * INDEX_ENTRY_LEN + BLOCK_LEN;
        let mut end = movi_end;
        while end > movi_end.saturating_sub(wanted)
            && let Some((offset, _)) = self.index.pop()
        {
            end = MOVI_ID_AT + u64::from(offset);
        }
        self.output.truncate(end)?;
        Ok(end)
    }

    fn update_header(&mut self, indexed: bool) -> io::Result<()> {
        let header = self.header(indexed);
        self.ticks_in_header = self.index.len();
        self.output.rewrite_start(&header)
    }

    fn header(&self, indexed: bool) -> Vec<u8> {
        let len = self.output.len().max(HEADER_LEN);
        self.header_of(len, len, indexed)
    }

    /// The header for chunks that end at `movi_end` in a file that ends at `end`.
    fn header_of(&self, movi_end: u64, end: u64, indexed: bool) -> Vec<u8> {
        let (rate, scale) = self.rate;
        let ticks = self.index.len() as u32;
        let (width, height) = (self.size.width as u32, self.size.height as u32);
        let microseconds = (u64::from(scale) * 1_000_000 / u64::from(rate)) as u32;
        let flags = if indexed { HAS_INDEX } else { 0 };
        let mut h = Vec::with_capacity(HEADER_LEN as usize);
        let mut put = |id: &[u8], words: &[u32]| {
            h.extend(id);
            h.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        };
        put(b"RIFF", &[end as u32 - 8]);
        put(b"AVI LIST", &[192]);
        put(b"hdrlavih", &[56, microseconds, 0, 0, flags, ticks, 0, 1, self.longest]);
        put(b"", &[width, height, 0, 0, 0, 0]);
        put(b"LIST", &[116]);
        put(b"strlstrh", &[56]);
        put(b"vidsMJPG", &[0, 0, 0, scale, rate, 0, ticks, self.longest, u32::MAX, 0, 0]);
        put(b"", &[height << 16 | width]);
        put(b"strf", &[40, 40, width, height, 24 << 16 | 1]);
        put(b"MJPG", &[width * height * 3, 0, 0, 0, 0]);
        put(b"LIST", &[(movi_end - MOVI_ID_AT) as u32]);
        put(b"movi", &[]);
        assert_eq!(h.len() as u64, HEADER_LEN, "the header's length is fixed");
        h
    }

    fn ticks(&self, since_start: Duration) -> u64 {
        (since_start.as_secs_f64() * self.fps()).round() as u64
    }

    fn fps(&self) -> f64 {
        f64::from(self.rate.0) / f64::from(self.rate.1)
    }
}

/// Bytes before the first chunk.
const HEADER_LEN: u64 = 224;

/// The position of `movi`, from which the index counts.
const MOVI_ID_AT: u64 = HEADER_LEN - 4;

const INDEX_ENTRY_LEN: u64 = 16;

/// File systems free space in blocks of this size or less.
const BLOCK_LEN: u64 = 2 * 4096;

const HAS_INDEX: u32 = 0x10;
const KEY_FRAME: u32 = 0x10;

/// Lengths are 32 bits, and many programs treat them as signed: 1.9 GiB.
const MAX_FILE_LEN: u64 = 19 * (1 << 30) / 10;

/// Half an hour at 60 frames/s, with 24 bytes per repeat. Longer pauses are cut out.
const MAX_REPEATS: u64 = 108_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{image::PixelFormat, jpeg::tests::textured};
    use std::{path::Path, process::Command};

    const RATE: (u32, u32) = (25, 1);

    fn writer(path: &Path) -> AviWriter {
        AviWriter::new(Destination::check(path, false).expect("may be written"), RATE)
    }

    fn frame(width: usize) -> Vec<u8> {
        textured(width, 48, PixelFormat::Yuv420)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Records frames at these times, with or without finishing.
    fn recorded(path: &Path, times: impl IntoIterator<Item = u64>, finish: bool) -> u64 {
        let mut writer = writer(path);
        for at in times {
            assert_eq!(writer.write(&frame(64), ms(at)).expect("writes"), Written::Whole);
        }
        if finish {
            writer.finish().expect("finishes");
        }
        writer.bytes()
    }

    /// ffprobe's result: rate, frames, seconds. `None` if it is not installed.
    fn probe(path: &Path) -> Option<(String, u32, f64)> {
        let entries = "stream=r_frame_rate,nb_read_packets:format=duration";
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-count_packets", "-of", "default=nk=1:nw=1"])
            .args(["-show_entries", entries])
            .arg(path)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout.clone()).expect("text");
        let mut lines = text.lines().map(str::to_owned);
        let rate = lines.next().unwrap_or_else(|| panic!("{output:?}"));
        let mut number = || lines.next().expect("a number");
        Some((rate, number().parse().expect("packets"), number().parse().unwrap_or(0.0)))
    }

    #[test]
    fn the_avi_has_the_right_rate_frame_count_and_duration() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.avi");
        let bytes = recorded(&path, (0..100).map(|i| 5000 + i * 40), true);
        assert_eq!(std::fs::metadata(&path).expect("there").len(), bytes);
        if let Some(probed) = probe(&path) {
            assert_eq!(probed, ("25/1".to_owned(), 100, 4.0));
        }
    }

    #[test]
    fn missing_frames_and_jitter_do_not_change_the_duration() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.avi");
        let kept = (0..250).filter(|i| i % 5 != 3 && !(100..150).contains(i));
        recorded(&path, kept.map(|i| i * 40 + (i * 7) % 23), true);
        if let Some((rate, _, seconds)) = probe(&path) {
            assert_eq!(rate, "25/1");
            assert!((seconds - 10.0).abs() < 0.1, "{seconds} s");
        }
    }

    #[test]
    fn a_truncated_file_plays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.avi");
        recorded(&path, (0..60).map(|i| i * 40), false);
        let bytes = std::fs::read(&path).expect("reads");
        for tenth in 1..=10 {
            std::fs::write(&path, &bytes[..bytes.len() * tenth / 10]).expect("writes");
            let Some((rate, frames, _)) = probe(&path) else { return };
            assert_eq!(rate, "25/1");
            assert!(frames as usize >= 6 * tenth - 2, "{frames} at {tenth}/10");
        }
    }

    #[test]
    fn a_new_frame_size_starts_a_new_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.avi");
        let mut writer = writer(&path);
        for (at, width) in [(0, 64), (40, 64), (80, 32), (120, 32), (160, 32)] {
            writer.write(&frame(width), ms(at)).expect("writes");
        }
        writer.finish().expect("finishes");
        let counts = ["a.avi", "a-2.avi"].map(|name| probe(&folder.path().join(name)));
        if let [Some(first), Some(second)] = counts {
            assert_eq!((first.1, second.1), (2, 3));
        }
    }

    #[test]
    fn time_jumps_are_not_filled_with_frames() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.avi");
        let times = [0, 40, 80, 100_000_000, 100_000_040, 0, 40, 80];
        let bytes = recorded(&path, times, true);
        assert!(bytes < 10 * frame(64).len() as u64 + 2000, "{bytes}");
    }

    #[test]
    fn data_that_is_not_a_jpeg_is_not_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = writer(&folder.path().join("a.avi"));
        assert_eq!(writer.write(b"junk", ms(0)).expect("no error"), Written::Damaged);
    }
}
