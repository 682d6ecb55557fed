//! Malicious pictures from a real sender to the real binary.

use std::{fs, process::Stdio, time::Duration};

use serde_json::Value;
use udpchat::{
    clock,
    net::frame::{FrameBytes, OutgoingFrame},
    video::{
        image::{Image, PixelFormat},
        jpeg::{Encoder, Strips, sandbox_status},
    },
};

use crate::{
    program::{Program, WAIT_LIMIT, command, shared},
    side::{Side, wait},
};

const SOI_LEN: usize = 2;

fn good(strips: usize) -> Vec<u8> {
    let (width, height, format) = (640, 480, PixelFormat::Yuv420);
    let len = format.data_len(width, height);
    let data = (0..len).map(|i| ((i % 61) * 3 + (i / 61 % 29) * 2) as u8).collect();
    let mut frame = Vec::new();
    let image = Image::new(width, height, format, data);
    Encoder::new(80, Strips::Count(strips)).encode(&image, &mut frame).expect("encodes");
    frame
}

/// The offset of the payload of the first segment with this marker.
fn payload(frame: &[u8], marker: u8) -> usize {
    frame.windows(2).position(|pair| pair == [0xFF, marker]).expect("it has one") + 4
}

fn patched(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut patched = frame.to_vec();
    patched[at..at + bytes.len()].copy_from_slice(bytes);
    patched
}

fn inserted(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&frame[..at], bytes, &frame[at..]].concat()
}

/// Hostile frames with their names, derived from a good frame of `strips` strips.
fn hostile(strips: usize) -> Vec<(&'static str, Vec<u8>)> {
    let good = good(strips);
    let (frame, scan) = (payload(&good, 0xC0), payload(&good, 0xDA));
    let (huffman, tables) = (payload(&good, 0xC4), payload(&good, 0xDB));
    let end = good.len() - 2;
    let another_scan = &good[scan - 4..end];
    let mut lost = good.clone();
    lost.drain(good.len() / 3..good.len() / 2);
    vec![
        ("one byte", vec![0xFF]),
        ("noise", (0..9000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("cut in the header", good[..frame].to_vec()),
        ("cut in the data", good[..good.len() / 2].to_vec()),
        ("cut, with an end", [&good[..good.len() / 2], &[0xFF, 0xD9]].concat()),
        ("data lost", lost),
        ("65535 wide", patched(&good, frame + 3, &[0xFF, 0xFF])),
        ("of zero height", patched(&good, frame + 1, &[0, 0])),
        ("huge, with few bytes", patched(&good, frame + 1, &[0x10, 0, 0x20, 0])),
        ("larger than its data", patched(&good, frame + 1, &[4, 0, 4, 0])),
        ("12 bits", patched(&good, frame, &[12])),
        ("4 components", patched(&good, frame + 5, &[4])),
        ("sampled 4x4", patched(&good, frame + 7, &[0x44])),
        ("sampled 4x2", patched(&good, frame + 7, &[0x42])),
        ("an undefined table", patched(&good, frame + 8, &[3])),
        ("a table number out of range", patched(&good, frame + 8, &[200])),
        ("progressive", patched(&good, frame - 3, &[0xC2])),
        ("lossless", patched(&good, frame - 3, &[0xC3])),
        ("arithmetic", patched(&good, frame - 3, &[0xC9])),
        ("too many codes", patched(&good, huffman + 1, &[0xFF; 16])),
        ("no codes", patched(&good, huffman + 1, &[0; 16])),
        ("no quantization", patched(&good, tables - 3, &[0xFE])),
        ("a scan of one component", patched(&good, scan, &[1])),
        ("many scans", inserted(&good, end, &another_scan.repeat(30))),
        ("segments after the scan", inserted(&good, end, &[0xFF, 0xE2, 0, 2].repeat(100_000))),
        ("segments before the scan", inserted(&good, SOI_LEN, &[0xFF, 0xE2, 0, 2].repeat(100_000))),
        ("fill bytes before the scan", inserted(&good, SOI_LEN, &vec![0xFF; 2 << 20])),
        ("a height after the scan", inserted(&good, end, &[0xFF, 0xDC, 0, 4, 1, 224])),
        ("missing restart markers", inserted(&good, scan - 4, &[0xFF, 0xDD, 0, 4, 0, 1])),
        ("a second picture's header", inserted(&good, frame - 4, &good[frame - 4..scan - 4])),
    ]
}

/// A receiver that decodes and records, and its sender.
struct Recording {
    folder: tempfile::TempDir,
    receiver: Program,
    sender: Side,
}

impl Recording {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let film = folder.path().join(FILM);
        let args = ["recv", "--bind", "127.0.0.1:0", "--show", "decode", "--stats-json", "-"];
        let mut command = command(&args);
        command.arg("--output").arg(film).env("RUST_LOG", "udpchat=debug");
        let receiver = Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let sender = Side::sender(([127, 0, 0, 1], receiver.port()).into(), true);
        sender.wait_connected();
        Self { folder, receiver, sender }
    }

    /// The length of the recording so far, in bytes.
    fn recorded(&self) -> u64 {
        fs::metadata(self.folder.path().join(FILM)).map_or(0, |film| film.len())
    }

    /// The number of frames reported as damaged so far.
    fn reported_damaged(&self) -> usize {
        self.receiver.stderr_lines().iter().filter(|line| line.contains(" is damaged: ")).count()
    }

    /// Sends `frame` until `count` has grown, because a busy kernel may drop datagrams.
    fn send<N: PartialOrd>(&self, frame: &[u8], what: &str, count: impl Fn(&Self) -> N) {
        let (data, before) = (FrameBytes::from(frame.to_vec()), count(self));
        wait(what, || {
            self.sender.inlet.push(OutgoingFrame { data: data.clone(), captured: clock::now() });
            let deadline = clock::now() + Duration::from_millis(700);
            while clock::now() < deadline {
                if count(self) > before {
                    return Some(());
                }
                std::thread::park_timeout(Duration::from_millis(2));
            }
            None
        });
    }
}

const FILM: &str = "film.y4m";

#[test]
fn hostile_frames_are_counted_and_good_ones_are_still_recorded() {
    let _shared = shared();
    let recording = Recording::start();
    let mut sent = 0;
    for strips in [1, 4] {
        for (what, frame) in hostile(strips) {
            recording.send(&frame, what, Recording::reported_damaged);
            sent += 1;
            recording.send(&good(strips), "a good frame", Recording::recorded);
        }
    }
    let Recording { folder: _folder, receiver, sender } = recording;
    let peak = memory_kb(receiver.id());
    sender.quit();
    receiver.interrupt();
    let outcome = receiver.finish();
    outcome.expect_success();
    let lines = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let last: Value =
        serde_json::from_str(lines.lines().last().expect("statistics")).expect("JSON");
    let count = |name: &str| last["receiver"][name].as_u64().expect("a count");
    assert!(count("damaged") >= sent, "{sent} were sent: {last}");
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    assert!(peak < 300_000, "{peak} KB");
}

/// The peak resident memory of a process, in KB.
fn memory_kb(pid: u32) -> u64 {
    field(&fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs"), "VmHWM")
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).expect("Linux has it");
    line.split_whitespace().nth(1).expect("a value").parse().expect("a number")
}

#[test]
fn only_decoding_threads_are_sandboxed() {
    if !sandbox_status().seccomp {
        eprintln!("skipped: this kernel has no seccomp filters");
        return;
    }
    let _shared = shared();
    let recording = Recording::start();
    recording.send(&good(4), "a good frame", |r| r.recorded() > 640 * 480);
    let ours = restrictions(&fs::read_to_string("/proc/self/status").expect("Linux has it"));
    let is_right = |threads: &[(String, (u64, u64))]| {
        let (decoders, others): (Vec<_>, Vec<_>) = threads
            .iter()
            .partition(|(name, _)| name.starts_with("decode") || name.starts_with("strips"));
        // The view's and the recorder's threads, each with helpers if there are several cores.
        let are_there = decoders.len() >= 2 && others.len() >= 2;
        let are_sandboxed = decoders.iter().all(|(_, held)| *held == (2, 1));
        are_there && are_sandboxed && others.iter().all(|(_, held)| *held == ours)
    };
    // The view may not have begun to decode, and a thread that has just started is not sandboxed.
    let until = clock::now() + WAIT_LIMIT;
    loop {
        let threads = threads(recording.receiver.id());
        if is_right(&threads) {
            break;
        }
        assert!(clock::now() < until, "{threads:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The seccomp mode and whether no privileges can be gained, from a thread's status.
fn restrictions(status: &str) -> (u64, u64) {
    (field(status, "Seccomp:"), field(status, "NoNewPrivs:"))
}

/// The names of the threads of a process, each with its restrictions. A thread that ends meanwhile
/// is skipped.
fn threads(pid: u32) -> Vec<(String, (u64, u64))> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let thread = |task: fs::DirEntry| {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
        Some((read("comm")?, restrictions(&read("status")?)))
    };
    tasks.filter_map(thread).collect()
}
