//! User errors: each gives one clear line and the right exit code.

use std::{fs, os::unix::fs::symlink, process::Stdio};

use tempfile::TempDir;

use crate::program::{Program, command, feed, run, shared};

/// `udpchat send` to a port where nobody listens. Errors of the source are reported first.
fn send(source: &str, more: &[&str]) -> crate::program::Outcome {
    let args = ["send", "--to", "127.0.0.1:9", "--source", source, "--seconds", "5"];
    run(&[&args, more].concat())
}

fn path_in(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().expect("plain").to_owned()
}

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = path_in(dir, name);
    fs::write(&path, bytes).expect("written");
    path
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// None of these addresses names one machine, which a sender without a control channel would not
/// notice.
#[test]
fn wildcard_broadcast_and_multicast_targets_are_refused() {
    for (to, parts) in [
        ("0.0.0.0", ["'0.0.0.0' is not a machine's address", "127.0.0.1"]),
        ("[::]:99", ["'::' is not a machine's address", "::1"]),
        ("::ffff:0.0.0.0", ["'::ffff:0.0.0.0' is not a machine's address", "127.0.0.1"]),
        ("255.255.255.255", ["broadcast", "give the address of one machine"]),
        ("224.0.0.1", ["multicast", "give the address of one machine"]),
        ("ff02::1", ["multicast", "give the address of one machine"]),
        ("ff02::1%lo", ["multicast", "give the address of one machine"]),
        ("ff05::1", ["multicast", "give the address of one machine"]),
    ] {
        let send = ["send", "--to", to, "--source", "pattern", "--seconds", "0.2"];
        run(&send).expect_failure(2, &parts);
        run(&[&send[..], &["--no-control"]].concat()).expect_failure(2, &parts);
        run(&["chat", to, "--source", "pattern", "--seconds", "0.2"]).expect_failure(2, &parts);
    }
}

#[test]
fn an_unknown_host_is_reported() {
    let _shared = shared();
    let mut command = command(&["send", "--to", "no-such-host.invalid", "--source", "pattern"]);
    let sender = Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()));
    let line = sender.wait_for("no-such-host.invalid");
    assert!(line.contains("check the name"), "{line}");
    sender.interrupt();
    sender.finish().expect_success();
}

#[test]
fn a_port_in_use_is_reported() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("bound");
    let outcome = run(&["recv", "--bind", &addr.to_string(), "--show", "none"]);
    let port = format!("port {}", addr.port());
    outcome.expect_failure(1, &[&port, "already in use", "--bind"]);
}

#[test]
fn binding_a_foreign_address_is_refused() {
    let outcome = run(&["recv", "--bind", "192.0.2.1", "--show", "none"]);
    outcome.expect_failure(1, &["192.0.2.1", "not an address of this machine"]);
}

#[test]
#[cfg(feature = "opencv")]
fn a_missing_camera_is_reported() {
    if std::path::Path::new("/dev/video0").exists() {
        eprintln!("skipped: this machine has a camera");
        return;
    }
    send("camera", &[]).expect_failure(1, &["no camera was found", "--source pattern"]);
}

#[test]
#[cfg(feature = "opencv")]
fn a_wrong_device_number_is_reported() {
    let hint =
        if std::path::Path::new("/dev/video0").exists() { "udpchat devices" } else { "no camera" };
    send("camera:63", &[]).expect_failure(1, &["camera", hint]);
}

#[test]
fn a_missing_file_is_reported() {
    send("/no/such/film.mp4", &[]).expect_failure(1, &["/no/such/film.mp4"]);
}

#[test]
fn a_folder_as_source_is_refused() {
    let dir = dir();
    send(dir.path().to_str().expect("plain"), &[]).expect_failure(1, &["folder"]);
}

#[test]
fn an_empty_file_is_reported() {
    let dir = dir();
    let path = file(&dir, "empty.avi", b"");
    send(&path, &[]).expect_failure(1, &[&path, "empty"]);
}

#[test]
#[cfg(feature = "opencv")]
fn a_truncated_file_is_reported() {
    let dir = dir();
    let path = file(&dir, "cut.avi", b"RIFF\x00\x10\x00\x00AVI LIST");
    send(&path, &[]).expect_failure(1, &[&path]);
}

#[test]
#[cfg(feature = "opencv")]
fn a_file_without_video_is_reported() {
    let dir = dir();
    let path = file(&dir, "rubbish.mp4", &[0x5a; 5000]);
    send(&path, &[]).expect_failure(1, &[&path]);
}

/// Sends incompressible noise. The oversized frame ends the program; it is not silently dropped.
#[test]
fn a_frame_over_the_limit_is_an_error() {
    let _shared = shared();
    let size = 4096;
    let mut video =
        format!("YUV4MPEG2 W{size} H{size} F30:1 C444 XCOLORRANGE=FULL\nFRAME\n").into_bytes();
    let mut state = 1_u32;
    video.extend((0..size * size * 3).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    }));
    let args = ["send", "--to", "127.0.0.1:9", "--source", "-", "--no-control", "--quality", "100"];
    let mut program = Program::spawn(command(&args).stdin(Stdio::piped()).stdout(Stdio::null()));
    feed(program.stdin(), &video);
    program.finish().expect_failure(1, &["8 MiB", "--quality"]);
}

/// The content decides, not the extension: the image is sent and reported as one.
#[test]
#[cfg(feature = "opencv")]
fn a_png_named_avi_is_sent_as_an_image() {
    let _shared = shared();
    let dir = dir();
    let png = png_of(&dir, "64x48");
    let path = path_in(&dir, "really.avi");
    fs::rename(png, &path).expect("renamed");
    let program = Program::start(&[
        "send",
        "--to",
        "127.0.0.1:9",
        "--source",
        &path,
        "--seconds",
        "1",
        "--no-control",
    ]);
    let outcome = program.finish();
    outcome.expect_success();
    assert!(outcome.stderr.contains("image"), "{}", outcome.stderr);
}

#[test]
#[cfg(feature = "opencv")]
fn an_image_over_the_limit_is_refused() {
    let dir = dir();
    let png = png_of(&dir, "9000x20");
    send(&png, &[]).expect_failure(1, &[&png, "9000"]);
}

#[cfg(feature = "opencv")]
fn png_of(dir: &TempDir, size: &str) -> String {
    let path = path_in(dir, "image.png");
    let lavfi = format!("color=red:size={size}");
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &lavfi, "-frames:v", "1", &path])
        .status();
    assert!(made.expect("ffmpeg is installed").success());
    path
}

#[test]
fn an_unwritable_output_is_refused() {
    let bind = ["recv", "--bind", "127.0.0.1:0", "--show", "none", "--output"];
    let outcome = run(&[&bind[..], &["/no/such/folder/x.avi"]].concat());
    outcome.expect_failure(1, &["/no/such/folder/x.avi"]);
    let outcome = run(&[&bind[..], &["film.mkv"]].concat());
    outcome.expect_failure(2, &["film.mkv", ".y4m", ".mjpeg", ".avi"]);
}

#[test]
fn a_full_disk_ends_a_recording_with_an_error() {
    let _shared = shared();
    let dir = dir();
    for name in ["full.mjpeg", "full.y4m", "full.avi"] {
        let path = path_in(&dir, name);
        symlink("/dev/full", &path).expect("linked");
        let receiver =
            Program::start(&["recv", "--bind", "127.0.0.1:0", "--show", "none", "--output", &path]);
        let to = format!("127.0.0.1:{}", receiver.port());
        let sender =
            Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "320x240"]);
        receiver.finish().expect_failure(1, &[&path]);
        drop(sender);
    }
}

#[test]
fn option_values_out_of_range_are_refused_with_the_range() {
    send("pattern", &["--quality", "0"]).expect_failure(2, &["--quality", "1 to 100"]);
    send("pattern", &["--quality", "101"]).expect_failure(2, &["--quality", "1 to 100"]);
    send("pattern", &["--size", "3x3"]).expect_failure(2, &["--size", "16"]);
    send("pattern", &["--size", "100000x9"]).expect_failure(2, &["--size", "8192"]);
    send("pattern", &["--fps", "0"]).expect_failure(2, &["--fps"]);
    send("pattern", &["--netem", "los=1%"]).expect_failure(2, &["--netem", "los=1%"]);
    send("pattern", &["--mtu", "12"]).expect_failure(2, &["--mtu", "200"]);
    for percent in ["0", "101", "some"] {
        send("pattern", &["--fec", percent]).expect_failure(2, &["--fec", "1 to 100"]);
    }
    send("pattern", &["--max-bitrate", "8X"]).expect_failure(2, &["--max-bitrate", "8M"]);
    send("pattern", &["--max-bitrate", "5"]).expect_failure(2, &["--max-bitrate", "100k"]);
    let recv = ["recv", "--show", "none", "--playout-delay", "1001"];
    run(&recv).expect_failure(2, &["--playout-delay", "0 to 1000"]);
    send("pattern", &["--dscp", "64"]).expect_failure(2, &["--dscp", "0 to 63"]);
    send("pattern", &["--offload", "some"]).expect_failure(2, &["--offload", "single"]);
}

#[test]
fn usage_errors_name_the_fault() {
    run(&["send", "--source", "pattern"]).expect_failure(2, &["--to"]);
    run(&["sned"]).expect_failure(2, &["sned"]);
    run(&[]).expect_failure(2, &["send, recv, chat"]);
    run(&["send", "--to", "a b", "--source", "pattern"]).expect_failure(2, &["a b"]);
}

/// Sends `bytes` from standard input to a port where nobody listens.
fn pipe(bytes: &[u8]) -> crate::program::Outcome {
    let _shared = shared();
    let args = ["send", "--to", "127.0.0.1:9", "--source", "-", "--no-control"];
    let mut program = Program::spawn(command(&args).stdin(Stdio::piped()).stdout(Stdio::null()));
    feed(program.stdin(), bytes);
    program.finish()
}

#[test]
fn empty_standard_input_is_reported() {
    pipe(b"").expect_failure(1, &["standard input", "empty"]);
}

#[test]
fn standard_input_without_video_is_reported() {
    pipe(b"hello, is this video?").expect_failure(1, &["standard input", "YUV4MPEG2", "JPEG"]);
}

#[test]
fn invalid_y4m_headers_are_reported() {
    pipe(b"YUV4MPEG2 W100000 H100000 F30:1\nFRAME\n").expect_failure(1, &["100000"]);
    pipe(b"YUV4MPEG2 W0 H9 F30:1\nFRAME\n").expect_failure(1, &["standard input"]);
    pipe(b"YUV4MPEG2 Wx Hy F30:1\nFRAME\n").expect_failure(1, &["standard input"]);
    pipe(b"YUV4MPEG2 W64 H48 F30:1 C420p16\nFRAME\n").expect_failure(1, &["standard input"]);
    // The only picture is truncated and therefore dropped.
    pipe(b"YUV4MPEG2 W640 H480 F30:1\nFRAME\nshort").expect_failure(1, &["ends within a picture"]);
}

#[test]
fn closing_the_output_pipe_ends_the_program_successfully() {
    let _shared = shared();
    let args = ["recv", "--bind", "127.0.0.1:0", "--output", "-"];
    let mut command = command(&args);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let receiver = Program::spawn(command.stdin(Stdio::null()).stdout(writer));
    drop(command);
    let to = format!("127.0.0.1:{}", receiver.port());
    let _sender =
        Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "320x240"]);
    let mut first = [0; 9];
    std::io::Read::read_exact(&mut &reader, &mut first).expect("video");
    assert_eq!(&first, b"YUV4MPEG2");
    drop(reader);
    let outcome = receiver.finish();
    assert!(outcome.stderr.contains("standard output"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
}

/// Each error wraps its cause; no part of the message may be printed twice.
#[test]
fn an_unsupported_y4m_is_reported_once() {
    let _shared = shared();
    for (header, words) in [
        ("YUV4MPEG2 W64 H64 C420p10\n", "420p10"),
        ("YUV4MPEG2 W64 H64 C411\n", "411"),
        ("YUV4MPEG2 W3 H3\n", "out of range"),
        ("YUV4MPEG2 H720\n", "no width"),
    ] {
        let args = ["send", "--to", "127.0.0.1:9", "--source", "-"];
        let mut program =
            Program::spawn(command(&args).stdin(Stdio::piped()).stdout(Stdio::null()));
        feed(program.stdin(), header.as_bytes());
        program.finish().expect_failure(1, &[words]);
    }
}

/// Whichever startup step runs out of descriptors, one line says so and names the remedy.
#[test]
#[cfg(unix)]
fn too_many_open_files_is_reported_once() {
    let _shared = shared();
    let mut refused = 0;
    for most in 4..16 {
        let shell = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &shell, env!("CARGO_BIN_EXE_udpchat")]);
        command.args(["recv", "--bind", "127.0.0.1:0", "--show", "none", "--seconds", "0.5"]);
        crate::machines::hermetic(&mut command);
        let outcome = Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::null())).finish();
        for line in outcome.stderr.lines().filter(|line| line.contains("open files")) {
            assert_eq!(crate::program::said_twice(line), None, "{most} descriptors: {line}");
            assert_eq!(line.matches("ulimit -n").count(), 1, "{most} descriptors: {line}");
            refused += 1;
        }
    }
    assert!(refused > 0, "no limit was low enough");
}

#[test]
fn two_outputs_on_standard_output_are_refused() {
    let outcome = run(&["recv", "--bind", "127.0.0.1:0", "--output", "-", "--stats-json", "-"]);
    outcome.expect_failure(2, &["--output -", "--stats-json -"]);
    run(&["demo", "--json", "--output", "-"]).expect_failure(2, &["--output -", "--json"]);
}
