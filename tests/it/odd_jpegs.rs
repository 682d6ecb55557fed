//! Irregular JPEGs, as some cameras produce them, through the real binary.

use std::{fs, io::Write, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use udpchat::video::{
    image::{Image, PixelFormat},
    jpeg::{Encoder, Strips},
};

use crate::program::{Program, alone, command, unstarved};

/// A frame with this many restart intervals.
fn frame(intervals: usize) -> Vec<u8> {
    let mut image = Image::blank(640, 480, PixelFormat::Yuv422);
    for (i, value) in image.data.iter_mut().enumerate() {
        *value = (i * 7 % 251) as u8;
    }
    let mut frame = Vec::new();
    Encoder::new(60, Strips::Count(intervals)).encode(&image, &mut frame).expect("encodes");
    frame
}

/// `frame` with `stray` before each of its restart markers and its end marker.
fn with_stray_bytes(frame: &[u8], stray: &[u8]) -> Vec<u8> {
    let mut odd = Vec::new();
    for (i, &byte) in frame.iter().enumerate() {
        if byte == 0xFF
            && frame.get(i + 1).is_some_and(|next| (0xD0..=0xD9).contains(next))
            && i > 0
        {
            odd.extend_from_slice(stray);
        }
        odd.push(byte);
    }
    odd
}

struct Call {
    folder: TempDir,
    receiver: Program,
    sender: Program,
}

impl Call {
    /// A receiver that decodes and records, and a sender with `options` that is fed `pieces`, one
    /// every 40 ms.
    fn of(pieces: &[Vec<u8>], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let receiver = Program::start(&[
            "recv",
            "--bind",
            "127.0.0.1:0",
            "--show",
            "none",
            "--output",
            &path("got.y4m"),
        ]);
        let to = format!("127.0.0.1:{}", receiver.port());
        let stats = path("sender.json");
        let args = ["send", "--to", &to, "--source", "-", "--stats-json", &stats];
        let mut command = command(&args);
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut sender = Program::spawn(&mut command);
        let mut stdin = sender.stdin();
        for (i, piece) in pieces.iter().enumerate() {
            stdin.write_all(piece).expect("it runs");
            if i == 0 {
                sender.wait_for("connected to");
            }
            std::thread::park_timeout(Duration::from_millis(40));
        }
        drop(stdin);
        Self { folder, receiver, sender }
    }

    /// The recording, the sender's last statistics, and the receiver's standard error.
    fn end(self) -> (Vec<u8>, Value, String) {
        self.sender.finish().expect_success();
        self.receiver.wait_for("has reached the end of its video");
        self.receiver.interrupt();
        let receiver = self.receiver.finish();
        let file = |name: &str| fs::read(self.folder.path().join(name)).unwrap_or_default();
        let stats = file("sender.json");
        let last = stats.split(|&b| b == b'\n').rfind(|line| !line.is_empty()).expect("a line");
        (file("got.y4m"), serde_json::from_slice(last).expect("JSON"), receiver.stderr)
    }
}

/// The pictures of a recording, without its header.
fn pictures(recording: &[u8]) -> Vec<&[u8]> {
    let picture_len = "FRAME\n".len() + 640 * 480 * 2;
    let head = recording.len() % picture_len;
    recording[head..].chunks(picture_len).collect()
}

#[test]
fn irregular_camera_frames_are_sent_and_truncated_ones_are_dropped() {
    let _alone = alone();
    let good = frame(4);
    let mut odd_version = good.clone();
    let version = good.windows(5).position(|w| w == b"JFIF\0").expect("has one") + 5;
    odd_version[version] = 2;
    let cut = good[..good.len() / 2].to_vec();
    let part = b"\r\n--next\r\nContent-Type: image/jpeg\r\n\r\n";
    let odd = [
        [part, &good[..]].concat(),
        with_stray_bytes(&good, &[0]),
        with_stray_bytes(&good, &[3, 0xFF, 0, 7]),
        odd_version,
        [&[0xFF, 0xD8], &good[..]].concat(),
        [&[0xFF, 0xD8, 0xFF, 0xD9], &good[..]].concat(),
        good[..good.len() - 2].to_vec(),
        cut,
    ];
    let pieces: Vec<Vec<u8>> = odd.iter().cycle().take(8 * 8).cloned().chain([good]).collect();
    let got = unstarved(
        |got: &Vec<u8>| pictures(got).len() > 20,
        || {
            // With automatic quality, a busy machine may send smaller pictures.
            let (got, sender, _) = Call::of(&pieces, &["--quality", "80"]).end();
            assert_eq!(sender["sender"]["damaged"], 8, "{sender}");
            got
        },
    );
    let pictures = pictures(&got);
    assert!(pictures.len() > 20, "{} pictures", pictures.len());
    assert!(pictures.iter().all(|picture| *picture == pictures[0]), "all are one picture");
}

#[test]
fn an_undecodable_stream_is_reported_once() {
    let _alone = alone();
    let good = frame(1);
    // The end marker makes the truncated frame look complete to the sender.
    let cut = [&good[..good.len() / 2], &[0xFF, 0xD9]].concat();
    let (got, _, said) = Call::of(&vec![cut; 200], &[]).end();
    assert_eq!(said.matches("no picture of this stream can be decoded").count(), 1, "{said}");
    assert!(said.contains("premature end") && said.contains("ffmpeg"), "{said}");
    assert!(got.is_empty(), "{} bytes", got.len());
}

/// JPEGs of 200 KB at 300 kbit/s: each takes five seconds, but a receiver waits only two.
#[test]
fn jpegs_too_large_for_the_bitrate_are_reencoded() {
    let _alone = alone();
    let mut image = Image::blank(640, 480, PixelFormat::Yuv420);
    let mut noise = 1_u32;
    for value in &mut image.data {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (noise >> 24) as u8;
    }
    let mut jpeg = Vec::new();
    Encoder::new(80, Strips::Count(1)).encode(&image, &mut jpeg).expect("encodes");
    assert!(jpeg.len() > 190_000, "{} bytes", jpeg.len());
    let pieces = vec![jpeg; 250];
    let (got, sender, said) = Call::of(&pieces, &["--max-bitrate", "300k"]).end();
    assert!(said.contains("the stream is now 160x120"), "{said}");
    assert_eq!(sender["sender"]["size_divisor"], 4, "{sender}");
    assert!(!got.is_empty(), "at least one picture is shown: {said}");
}
