//! OpenCV runs in a program of its own, which may be missing or broken, or end at any time.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use udpchat::video::opencv_process::VERSION;

use crate::program::{Program, command, shared};

/// A folder with a copy of `udpchat`, and with `script` as its `udpchat-opencv`, if there is one.
fn installed(script: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    install(Path::new(env!("CARGO_BIN_EXE_udpchat")), &path("udpchat"));
    if let Some(script) = script {
        fs::write(path("script"), format!("#!/bin/sh\n{script}\n")).expect("written");
        install(&path("script"), &path("udpchat-opencv"));
    }
    fs::write(path("film.avi"), b"RIFF    AVI ").expect("written");
    folder
}

/// Copies a file and makes the copy executable. Another process does this: a child that another
/// thread has just forked inherits what this one has open, and a file open for writing cannot be
/// executed.
fn install(from: &Path, to: &Path) {
    let status = Command::new("install").args(["-m", "755"]).args([from, to]).status();
    assert!(status.expect("coreutils").success());
}

fn send(folder: &Path) -> Command {
    let mut command = Command::new(folder.join("udpchat"));
    let film = folder.join("film.avi");
    command.args(["send", "--to", "127.0.0.1:9", "--source"]).arg(film);
    crate::machines::hermetic(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
fn without_udpchat_opencv_a_film_is_refused_with_advice() {
    let _shared = shared();
    let folder = installed(None);
    let outcome = Program::spawn(&mut send(folder.path())).finish();
    let here = folder.path().canonicalize().expect("there").display().to_string();
    outcome.expect_failure(1, &["udpchat-opencv is not in", &here, "install"]);
}

#[test]
fn a_missing_library_is_named() {
    let _shared = shared();
    let loader = "echo \"$0: error while loading shared libraries: libopencv_videoio.so.406: \
        cannot open shared object file: No such file or directory\" >&2; exit 127";
    let folder = installed(Some(loader));
    let outcome = Program::spawn(&mut send(folder.path())).finish();
    outcome.expect_failure(1, &["cannot load OpenCV: libopencv_videoio.so.406", "install"]);
}

#[test]
fn udpchat_opencv_of_another_release_is_reported() {
    let _shared = shared();
    let script = "echo \"udpchat-opencv 9 cannot serve $1\" >&2; exit 2";
    let folder = installed(Some(script));
    let outcome = Program::spawn(&mut send(folder.path())).finish();
    outcome.expect_failure(1, &[&format!("udpchat-opencv 9 cannot serve {VERSION}")]);
}

#[test]
fn an_invalid_reply_is_reported() {
    let _shared = shared();
    let folder = installed(Some("yes"));
    let outcome = Program::spawn(&mut send(folder.path())).finish();
    outcome.expect_failure(1, &["OpenCV failed"]);
}

#[test]
fn a_window_toolkit_that_hangs_is_reported() {
    let _shared = shared();
    let folder = installed(Some("exec sleep 60"));
    let mut command = Command::new(folder.path().join("udpchat"));
    command.args(["recv", "--bind", "127.0.0.1:0", "--seconds", "0.1"]);
    crate::machines::hermetic(&mut command);
    command.env("DISPLAY", ":99").stdin(Stdio::null()).stdout(Stdio::piped());
    let outcome = Program::spawn(&mut command).finish_after(Duration::from_secs(30));
    outcome.expect_success();
    let said = "no window: the window toolkit does not start: no answer within 30 s";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
}

/// Both sides therefore start in milliseconds, even on a machine without OpenCV.
#[test]
#[cfg(target_os = "linux")]
fn the_pattern_is_streamed_to_a_pipe_without_loading_opencv() {
    let _shared = shared();
    let receiver = Program::spawn(
        command(&["recv", "--bind", "127.0.0.1:0", "--accept", "any", "--output", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    );
    let to = format!("127.0.0.1:{}", receiver.port());
    let sender = Program::start(&["send", "--to", &to, "--source", "pattern"]);
    sender.wait_for("connected");
    for program in [&sender, &receiver] {
        let maps = fs::read_to_string(format!("/proc/{}/maps", program.id())).expect("running");
        let loaded: Vec<_> = maps.lines().filter(|line| line.contains("opencv")).collect();
        assert!(loaded.is_empty() && maps.contains("libc.so"), "{loaded:?}");
    }
    sender.interrupt();
    sender.finish();
    receiver.interrupt();
    receiver.finish();
}

/// If a file makes `FFmpeg` crash, `udpchat` reports an error instead of crashing.
#[test]
#[cfg(all(target_os = "linux", feature = "opencv"))]
fn the_end_of_udpchat_opencv_is_reported() {
    let _shared = shared();
    let (sender, opencv) = sending_a_film();
    rustix::process::kill_process(opencv, rustix::process::Signal::KILL).expect("it runs");
    sender.finish().expect_failure(1, &["OpenCV failed"]);
}

/// `udpchat-opencv` must not outlive a killed `udpchat`.
#[test]
#[cfg(all(target_os = "linux", feature = "opencv"))]
fn udpchat_opencv_ends_with_a_killed_udpchat() {
    let _shared = shared();
    let (sender, opencv) = sending_a_film();
    sender.kill();
    let path = format!("/proc/{}/exe", opencv.as_raw_nonzero());
    wait_until("its end", || fs::read_link(&path).is_err().then_some(()));
}

/// A sender that plays a film, and its `udpchat-opencv`.
#[cfg(all(target_os = "linux", feature = "opencv"))]
fn sending_a_film() -> (Program, rustix::process::Pid) {
    let film = crate::video_files::vtest().display().to_string();
    let sender =
        Program::start(&["send", "--no-control", "--to", "127.0.0.1:9", "--source", &film]);
    let opencv = wait_until("udpchat-opencv", || child_of(sender.id()));
    (sender, opencv)
}

/// The child process of `parent` that runs `udpchat-opencv`.
#[cfg(all(target_os = "linux", feature = "opencv"))]
fn child_of(parent: u32) -> Option<rustix::process::Pid> {
    let processes = fs::read_dir("/proc").expect("mounted").filter_map(Result::ok);
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.find_map(|number| {
        let name = fs::read_link(format!("/proc/{number}/exe")).ok()?;
        let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
        let is_child = status.lines().any(|line| line == format!("PPid:\t{parent}"));
        (is_child && name.ends_with("udpchat-opencv"))
            .then(|| rustix::process::Pid::from_raw(number))?
    })
}

#[cfg(all(target_os = "linux", feature = "opencv"))]
fn wait_until<T>(what: &str, attempt: impl Fn() -> Option<T>) -> T {
    let give_up = udpchat::clock::now() + crate::program::WAIT_LIMIT;
    while udpchat::clock::now() < give_up {
        if let Some(found) = attempt() {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("timed out waiting for {what}");
}
