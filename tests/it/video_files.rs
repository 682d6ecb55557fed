//! Real video through the real binary, checked with ffmpeg and ffprobe.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use udpchat::clock;

use crate::program::{Program, WAIT_LIMIT, alone, command, shared, unstarved};

/// A video of pedestrians, 768x576, 795 frames, from Debian's package `opencv-doc`.
#[cfg(feature = "opencv")]
pub(crate) fn vtest() -> std::path::PathBuf {
    let folders = ["/usr/share/doc/opencv-doc/examples/data", "/usr/share/doc/opencv-doc"];
    let found = folders.iter().map(|f| Path::new(f).join("vtest.avi")).find(|p| p.exists());
    found.expect("vtest.avi is there: scripts/setup.sh test installs opencv-doc")
}

/// Runs ffmpeg and returns its log.
fn ffmpeg(args: &[&str]) -> String {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-y"])
        .args(args)
        .output()
        .expect("ffmpeg is installed");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    log
}

/// One field of a file's video stream, from ffprobe, which decodes every frame.
fn probe(path: &Path, field: &str) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0", "-of", "csv=p=0"])
        .args(["-show_entries", &format!("stream={field}")])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().trim_end_matches(',').to_owned()
}

fn frames(path: &Path) -> usize {
    probe(path, "nb_read_frames").parse().expect("a count")
}

/// Starts a receiver that records to `output`, replacing the file of an earlier attempt.
fn receiver(output: &Path) -> Program {
    let _ = fs::remove_file(output);
    Program::start(&["recv", "--bind", "127.0.0.1:0", "--show", "none", "--output", text(output)])
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

fn to(receiver: &Program) -> String {
    format!("127.0.0.1:{}", receiver.port())
}

/// Stops a receiver after its sender has ended.
fn end(receiver: Program) {
    receiver.wait_for("has reached the end of its video");
    receiver.interrupt();
    receiver.finish().expect_success();
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// All frames arrive, in order, and match the source by PSNR.
#[test]
#[cfg(feature = "opencv")]
fn a_film_arrives_complete_and_in_order() {
    let _alone = alone();
    let folder = folder();
    let film = folder.path().join("film.avi");
    let count = FILM_FRAMES.to_string();
    ffmpeg(&["-i", text(&vtest()), "-frames:v", &count, "-c", "copy", text(&film)]);
    let out = folder.path().join("out.y4m");
    let recorded = unstarved(
        |&recorded| recorded == FILM_FRAMES,
        || {
            record_film(&film, &out);
            frames(&out)
        },
    );
    assert_eq!(recorded, FILM_FRAMES);
    // The recording is full range, the source is not, and the filter compares sample values.
    let range = "scale=in_range=full:out_range=tv:flags=accurate_rnd+full_chroma_int";
    let graph = format!(
        "[0:v]{range},format=yuv420p,settb=1/25,setpts=N[a];[1:v]settb=1/25,setpts=N[b];[a][b]psnr"
    );
    let log = ffmpeg(&["-i", text(&out), "-i", text(&film), "-lavfi", &graph, "-f", "null", "-"]);
    let average = number_after(&log, " average:");
    let worst = number_after(&log, " min:");
    assert!(average >= 33.0, "PSNR {average} dB");
    assert!(worst >= 30.0, "one frame has only {worst} dB: it is the wrong frame, or damaged");
}

/// Frames in the film: 12 s at two frames a second.
#[cfg(feature = "opencv")]
const FILM_FRAMES: usize = 24;

/// Sends `film` once, slowly enough for a busy machine, and records it to `out`.
#[cfg(feature = "opencv")]
fn record_film(film: &Path, out: &Path) {
    let receiver = receiver(out);
    let (to, film) = (to(&receiver), text(film));
    let options = ["--once", "--fps", "2", "--quality", "80"];
    let sender = [&["send", "--to", &to, "--source", film], &options[..]].concat();
    Program::start(&sender).finish().expect_success();
    end(receiver);
}

#[cfg(feature = "opencv")]
fn number_after(text: &str, label: &str) -> f64 {
    let rest = text.rsplit(label).next().expect("ffmpeg prints it");
    rest.split_whitespace().next().expect("a number").parse().expect("a number")
}

/// JPEGs from another encoder arrive bit-exact.
#[test]
fn a_jpeg_stream_is_recorded_bit_exactly() {
    let _alone = alone();
    let folder = folder();
    let (sent, got) = (folder.path().join("sent.mjpeg"), folder.path().join("got.mjpeg"));
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=640x480:rate=25",
        "-t",
        "4",
        "-q:v",
        "4",
        text(&sent),
    ]);
    let sent = fs::read(sent).expect("read");
    let recorded = unstarved(
        |recorded: &Vec<u8>| recorded.len() == sent.len(),
        || {
            record_jpegs(&sent, &got);
            fs::read(&got).unwrap_or_default()
        },
    );
    assert_eq!(recorded.len(), sent.len());
    assert!(recorded == sent, "same length, different bytes");
}

/// Sends the JPEGs in `sent` and records them to `out`. Each is sent when the one before is
/// recorded, so that none replaces another. Stops at one that is not.
fn record_jpegs(sent: &[u8], out: &Path) {
    let receiver = receiver(out);
    let mut sender = Program::spawn(
        command(&["send", "--to", &to(&receiver), "--source", "-", "--quality", "80"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null()),
    );
    // A JPEG begins with FF D8 FF, which its entropy-coded data cannot contain.
    let mut stdin = sender.stdin();
    let mut begins: Vec<usize> =
        (0..sent.len()).filter(|&i| sent[i..].starts_with(b"\xff\xd8\xff")).collect();
    begins.push(sent.len());
    for (i, frame) in begins.windows(2).enumerate() {
        stdin.write_all(&sent[frame[0]..frame[1]]).expect("it runs");
        if i == 0 {
            sender.wait_for("connected to");
        }
        let is_recorded = || fs::metadata(out).is_ok_and(|m| m.len() >= frame[1] as u64);
        if !happens_within(Duration::from_secs(5), is_recorded) {
            break;
        }
    }
    drop(stdin);
    sender.finish().expect_success();
    end(receiver);
}

/// A y4m pipe is recorded as a playable MJPEG AVI with the source's rate and duration.
#[test]
fn a_y4m_pipe_is_recorded_as_a_playable_avi() {
    let _alone = alone();
    let folder = folder();
    let out = folder.path().join("out.avi");
    // A busy machine starts late and skips some.
    let is_enough = |&(frames, seconds): &(usize, f64)| frames >= 60 && seconds >= 2.5;
    let (frames, seconds) = unstarved(is_enough, || record_y4m(&out));
    assert!((60..=101).contains(&frames), "{frames} frames");
    assert!(seconds >= 2.5, "{seconds} s");
    assert_eq!(probe(&out, "codec_name"), "mjpeg");
    assert_eq!(probe(&out, "r_frame_rate"), "25/1");
}

/// Records 4 s of a y4m pipe to `out`. Returns the number of frames and the duration in seconds,
/// which cannot be longer than it took.
fn record_y4m(out: &Path) -> (usize, f64) {
    let receiver = receiver(out);
    let input = ["-f", "lavfi", "-i", "testsrc=size=640x480:rate=25:duration=4"];
    let began = clock::now();
    let sender = send_piped(&to(&receiver), &input, &["-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe"]);
    sender.finish().expect_success();
    end(receiver);
    let took = (clock::now() - began).as_secs_f64();
    let seconds: f64 = probe(out, "duration").parse().expect("seconds");
    assert!(seconds <= took + 1.0, "{seconds} s recorded in {took} s");
    (frames(out), seconds)
}

/// `ffmpeg -re INPUT OUTPUT - | udpchat send --source -`
fn send_piped(to: &str, input: &[&str], output: &[&str]) -> Program {
    let mut source = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-re"])
        .args(input)
        .args(output)
        .arg("-")
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg is installed");
    let video = source.stdout.take().expect("piped");
    let sender = Program::spawn(
        command(&["send", "--to", to, "--source", "-", "--quality", "80"])
            .stdin(video)
            .stdout(Stdio::null()),
    );
    std::thread::spawn(move || source.wait());
    sender
}

/// A recording stays playable when its receiver is killed.
#[test]
fn a_recording_plays_after_its_receiver_is_killed() {
    let _shared = shared();
    let folder = folder();
    for (name, min_len) in
        [("killed.avi", 400_000), ("killed.y4m", 3_000_000), ("killed.mjpeg", 400_000)]
    {
        let out = folder.path().join(name);
        let receiver = receiver(&out);
        let _sender = Program::start(&[
            "send",
            "--to",
            &to(&receiver),
            "--source",
            "pattern",
            "--size",
            "320x240",
            // Smaller pictures would begin another `.avi`.
            "--quality",
            "80",
        ]);
        wait_until(|| fs::metadata(&out).is_ok_and(|m| m.len() > min_len));
        receiver.kill();
        assert!(frames(&out) >= 10, "{name}: {} frames", frames(&out));
    }
}

#[track_caller]
fn wait_until(done: impl FnMut() -> bool) {
    assert!(happens_within(WAIT_LIMIT, done), "it did not happen within {WAIT_LIMIT:?}");
}

/// Waits for `done`, but at most for `limit`. Returns whether it happened.
fn happens_within(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let until = clock::now() + limit;
    while !done() {
        if clock::now() >= until {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    true
}

/// The frame counts of the demo's report are consistent.
#[test]
fn the_demo_reports_every_frame() {
    let _alone = alone();
    let is_enough = |report: &Value| {
        let count = |name| count(report, name);
        count("captured") >= 60
            && count("captured") == count("shown") + count("superseded") + count("thinned")
            && count("incomplete") + count("late") == 0
    };
    let report = unstarved(is_enough, || demo(&["--seconds", "3"]));
    assert!(is_enough(&report), "{report}");
    let seconds = report["seconds"].as_f64().expect("measured");
    assert!(count(&report, "captured") as f64 <= 30.0 * seconds + 2.0, "{report}");
    for stage in
        ["capture", "encode", "send", "network", "reassemble", "decode", "show", "end_to_end"]
    {
        for percentile in ["p50", "p95", "p99", "max"] {
            assert!(report["latency_ms"][stage][percentile].is_f64(), "{stage} {percentile}");
        }
    }
    for (group, name) in [
        ("bytes", "jpeg"),
        ("bytes", "sent"),
        ("cpu_ms_per_frame", "sender"),
        ("cpu_ms_per_frame", "receiver"),
    ] {
        assert!(report[group][name].as_f64().is_some_and(|n| n > 0.0), "{group} {name}");
    }
    assert!(report["goodput_mbit_s"].is_f64());
}

/// With a fixed quality, `--max-bitrate` is met by skipping pictures.
#[test]
fn a_bitrate_limit_holds_at_a_fixed_quality() {
    let _alone = alone();
    let bitrate = |report: &Value| {
        let number = |at: &str| report.pointer(at).and_then(Value::as_f64).expect("a number");
        number("/bytes/sent") * 8.0 / number("/seconds")
    };
    let is_enough = |report: &Value| {
        count(report, "thinned") > 0 && count(report, "shown") > 20 && bitrate(report) >= 3.4e6
    };
    let report = unstarved(is_enough, || {
        let report = demo(&["--seconds", "4", "--quality", "80", "--max-bitrate", "4M"]);
        assert!(bitrate(&report) < 4.4e6, "{}: {report}", bitrate(&report));
        report
    });
    assert!(is_enough(&report), "{}: {report}", bitrate(&report));
}

/// The playout delay is applied, counts towards the end-to-end latency and is a stage of its own.
#[test]
fn a_playout_delay_counts_as_a_latency_stage() {
    let _alone = alone();
    let args = ["--seconds", "3", "--size", "320x240", "--playout-delay", "80"];
    let is_enough = |report: &Value| {
        let outcomes = ["shown", "superseded", "thinned", "incomplete", "late"];
        let all: u64 = outcomes.iter().map(|outcome| count(report, outcome)).sum();
        count(report, "shown") > 0 && count(report, "captured") == all
    };
    let report = unstarved(is_enough, || demo(&args));
    assert!(is_enough(&report), "{report}");
    let ms = |stage: &str| report["latency_ms"][stage]["p50"].as_f64().expect("measured");
    assert!(ms("end_to_end") >= 80.0 && ms("playout") <= ms("end_to_end"), "{report}");
}

/// A stream shorter than a second has statistics, too: the final ones.
#[test]
fn statistics_cover_the_final_partial_second() {
    let mut video = b"YUV4MPEG2 W64 H48 F30:1 C420jpeg\n".to_vec();
    (0..3).for_each(|_| video.extend([b"FRAME\n".to_vec(), vec![128; 64 * 48 * 3 / 2]].concat()));
    let args = ["send", "--to", "127.0.0.1:9", "--source", "-", "--no-control"];
    let mut command = command(&[&args[..], &["--stats-json", "-"]].concat());
    let mut program = Program::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    crate::program::feed(program.stdin(), &video);
    let outcome = program.finish();
    outcome.expect_success();
    let lines = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let last = lines.lines().last().expect("at least the final one");
    let last: Value = serde_json::from_str(last).expect("JSON");
    let count = |name: &str| last["sender"][name].as_u64().expect("a count");
    assert!(count("captured") > 0, "{last}");
    assert_eq!(count("captured"), count("sent") + count("superseded"), "{last}");
    assert_eq!(last["sender"]["quality"], 80, "{last}");
}

/// At 1 % loss, a third of these frames lack a chunk.
#[test]
fn frames_lost_to_netem_are_recovered() {
    let _alone = alone();
    for (fec, by) in [("off", "by_nack"), ("10", "by_parity")] {
        let args = ["--fec", fec, "--quality", "80", "--mtu", "1200", "--seconds", "6"];
        let is_enough = |report: &Value| {
            let repaired = report["repaired"][by].as_f64().expect("a count");
            let [sent, completed] = ["sent", "completed"].map(|name| count(report, name) as f64);
            sent >= 60.0 && completed >= 0.85 * sent && repaired >= 0.1 * sent
        };
        let args = [&["--netem", "loss=1%,seed=5"], &args[..]].concat();
        let report = unstarved(is_enough, || demo(&args));
        assert!(is_enough(&report), "{by}: {report}");
    }
}

/// With `--conceal`, the strips of incomplete frames are shown. Complete frames are unaffected.
#[test]
fn incomplete_frames_are_concealed_on_request() {
    let _alone = alone();
    let args =
        ["--fec", "off", "--quality", "80", "--strips", "8", "--mtu", "1200", "--seconds", "3"];
    let bad = ["--netem", "loss=1%,delay=40ms,seed=5"];
    for conceal in [&[][..], &["--conceal"]] {
        let conceals = !conceal.is_empty();
        let args = [&args[..], &bad, conceal].concat();
        let is_enough = |report: &Value| {
            let count = |name| count(report, name);
            let has_concealed = count("concealed") > 0 || !conceals;
            count("shown") > 0 && count("incomplete") > 0 && has_concealed
        };
        let report = unstarved(is_enough, || {
            let report = demo(&args);
            let count = |name| count(&report, name);
            assert!(conceals || count("concealed") == 0, "{report}");
            assert!(count("shown") + count("superseded") <= count("captured"), "{report}");
            report
        });
        assert!(is_enough(&report), "{report}");
    }
}

/// The report of a demo, in which no frame may be damaged.
#[track_caller]
fn demo(args: &[&str]) -> Value {
    let args = [&["demo", "--json", "--show", "none"], args].concat();
    let outcome = Program::start(&args).finish();
    outcome.expect_success();
    let report: Value = serde_json::from_slice(&outcome.stdout).expect("one JSON object");
    assert_eq!(count(&report, "damaged"), 0, "{report}");
    report
}

/// A count of frames in a demo's report.
fn count(report: &Value, name: &str) -> u64 {
    report["frames"][name].as_u64().expect("a count")
}

/// What is encoded is shown: the sender waits until the receiver has taken a frame.
#[test]
fn fps_max_does_not_outrun_the_receiver() {
    let _alone = alone();
    let args = ["--fps", "max", "--size", "640x360", "--seconds", "4"];
    // Without that wait, 6 % are superseded on an idle machine.
    let is_enough = |report: &Value| {
        let captured = count(report, "captured");
        captured > 60 && count(report, "superseded") < 20 + captured / 25
    };
    let report = unstarved(is_enough, || demo(&args));
    assert!(is_enough(&report), "{report}");
}

/// The latency stays low when the reader is slow: 60 pictures/s in, 10 pictures/s out, for 20 s.
#[test]
fn a_slow_reader_gets_recent_pictures() {
    let _alone = alone();
    // Three intervals of the reader: on a busy machine, a picture takes longer.
    let is_recent = |slow: &SlowReading| {
        let memory_bound = slow.early_kb + slow.early_kb / 10 + 8192;
        slow.median_age < Duration::from_millis(300) && slow.late_kb < memory_bound
    };
    let slow = unstarved(is_recent, read_slowly);
    assert!(is_recent(&slow), "{slow:?}");
}

/// What a slow reader got.
#[derive(Debug)]
struct SlowReading {
    /// The median time from the capture of a picture until it is read.
    median_age: Duration,
    /// The receiver's memory after 4 s and after 20 s.
    early_kb: u64,
    late_kb: u64,
}

/// Reads 200 pictures from a receiver, one every 100 ms.
fn read_slowly() -> SlowReading {
    use std::io::Read;
    use udpchat::video::{
        image::{Image, PixelFormat},
        source::pattern,
    };
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = command(&["recv", "--bind", "127.0.0.1:0", "--output", "-"]);
    let receiver = Program::spawn(command.stdin(Stdio::null()).stdout(writer));
    drop(command);
    let (width, height) = (320, 240);
    let _sender = Program::start(&[
        "send",
        "--to",
        &to(&receiver),
        "--source",
        "pattern",
        "--size",
        "320x240",
        "--fps",
        "60",
    ]);
    let mut byte = [0];
    while byte != *b"\n" {
        reader.read_exact(&mut byte).expect("a header");
    }
    let mut frame = vec![0; b"FRAME\n".len() + width * height * 3 / 2];
    let mut read = || {
        reader.read_exact(&mut frame).expect("a picture");
        let now = clock::now();
        let image = Image::new(width, height, PixelFormat::Yuv420, frame[6..].to_vec());
        let number = pattern::read_number(&image).expect("a whole pattern");
        (now, Duration::from_secs_f64(f64::from(number) / 60.0))
    };
    // While the reader keeps up, pictures arrive at once. That gives the capture time of frame 0.
    let begun =
        (0..120).map(|_| read()).map(|(now, made)| now.checked_sub(made).expect("after boot"));
    let begun = begun.min().expect("some");
    let (mut ages, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        std::thread::park_timeout(Duration::from_millis(100));
        let (now, made) = read();
        ages.push((now - begun).saturating_sub(made));
        memory.push(resident_kb(receiver.id()));
    }
    ages.sort();
    SlowReading { median_age: ages[100], early_kb: memory[40], late_kb: memory[199] }
}

/// Later senders have another size or no colour. The pipe keeps the format of the first.
#[test]
fn an_output_pipe_continues_with_another_sender() {
    let _shared = shared();
    let folder = folder();
    let out = folder.path().join("out.y4m");
    let mut command = command(&["recv", "--bind", "127.0.0.1:0", "--output", "-"]);
    let file = fs::File::create(&out).expect("created");
    let receiver = Program::spawn(command.stdin(Stdio::null()).stdout(file));
    let mut written = 0;
    for more in [&["--size", "320x240"][..], &["--size", "640x360", "--gray"], &["--size", "96x64"]]
    {
        let args = ["send", "--to", &to(&receiver), "--source", "pattern"];
        let sender = Program::start(&[&args, more].concat());
        let more = 20 * 320 * 240;
        wait_until(|| fs::metadata(&out).is_ok_and(|m| m.len() > written + more));
        sender.interrupt();
        sender.finish().expect_success();
        written = fs::metadata(&out).expect("there").len();
    }
    receiver.interrupt();
    let outcome = receiver.finish();
    outcome.expect_success();
    assert_eq!(outcome.stderr.matches("are converted to").count(), 1, "{}", outcome.stderr);
    assert_eq!(probe(&out, "width"), "320");
    assert!(frames(&out) >= 36, "{}", frames(&out));
}

/// The JPEGs have one component.
#[test]
fn gray_pictures_have_one_component() {
    let _shared = shared();
    let folder = folder();
    let out = folder.path().join("grey.avi");
    let receiver = receiver(&out);
    let sender = Program::start(&[
        "send",
        "--to",
        &to(&receiver),
        "--source",
        "pattern",
        "--size",
        "320x240",
        "--gray",
        // Smaller pictures would begin another `.avi`.
        "--quality",
        "80",
    ]);
    wait_until(|| fs::metadata(&out).is_ok_and(|m| m.len() > 50_000));
    sender.interrupt();
    sender.finish().expect_success();
    receiver.wait_for("has left");
    receiver.interrupt();
    receiver.finish().expect_success();
    assert_eq!(probe(&out, "pix_fmt"), "gray");
}

/// Resident memory of a process, in KB.
pub(crate) fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS is listed");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}
