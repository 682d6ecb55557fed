//! File names that are not UTF-8. On Unix every option that takes a FILE must accept them.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::program::{Program, WAIT_LIMIT, command, shared};

/// A path in `folder` whose name is `name` after a byte that is not UTF-8 and a hyphen.
fn odd(folder: &Path, name: &str) -> PathBuf {
    let mut bytes = b"\xff-".to_vec();
    bytes.extend(name.as_bytes());
    folder.join(OsString::from_vec(bytes))
}

fn start(command: &mut Command) -> Program {
    Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

fn is_written(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

#[test]
fn every_file_option_accepts_names_that_are_not_utf_8() {
    let _shared = shared();
    let folder = tempfile::tempdir().expect("a folder");
    let folder = odd(folder.path(), "folder");
    fs::create_dir(&folder).expect("created");
    let [identity, peers, key] = ["identity", "peers", "key"].map(|name| odd(&folder, name));
    for container in ["avi", "y4m", "mjpeg"] {
        let [recording, stats] = [container, "json"]
            .map(|extension| odd(&folder, &format!("out-{container}.{extension}")));
        let mut receiver =
            command(&["recv", "--bind", "127.0.0.1:0", "--show", "none", "--output"]);
        receiver.arg(&recording).arg("--stats-json").arg(&stats);
        receiver.arg("--identity").arg(&identity).arg("--known-peers").arg(&peers);
        let receiver = start(receiver.arg("--key-file").arg(&key));
        let to = format!("127.0.0.1:{}", receiver.port());
        let mut sender = command(&["send", "--to", &to, "--source", "pattern", "--size", "64x48"]);
        let sender = start(sender.args(["--no-control", "--key-file"]).arg(&key));
        let files = [&recording, &stats, &identity, &key];
        let until = udpchat::clock::now() + WAIT_LIMIT;
        while let Some(path) = files.iter().find(|path| !is_written(path)) {
            assert!(udpchat::clock::now() < until, "{} is not written", path.display());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        sender.interrupt();
        sender.finish().expect_success();
        receiver.interrupt();
        receiver.finish().expect_success();
        for path in files {
            assert!(is_written(path), "{} is written", path.display());
        }
    }
    command(&["man", "--dir"]).arg(&folder).status().expect("runs");
    assert!(folder.join("udpchat.1").exists());
}

/// Names that are not UTF-8, and names that `FFmpeg` would not take literally.
#[test]
#[cfg(feature = "opencv")]
fn a_source_file_may_have_any_name() {
    let _shared = shared();
    let folder = tempfile::tempdir().expect("a folder");
    for (made, name) in [
        ("film.avi", &b"\xff-film.avi"[..]),
        ("film.mjpeg", b"\xff-film.mjpeg"),
        ("image.png", b"\xff-image.png"),
        ("image.jpg", b"\xff-image.jpg"),
        ("film.avi", b"12:30.avi"),
        ("film.avi", b"http:film.avi"),
        ("film.avi", b"-film.avi"),
        ("film.avi", b"100%d.avi"),
        ("image.png", b"100%d.png"),
    ] {
        let (made, path) = (folder.path().join(made), OsString::from_vec(name.to_vec()));
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10"])
            .args([
                "-frames:v",
                if made.extension().is_some_and(|e| e == "avi") { "3" } else { "1" },
            ])
            .arg(&made)
            .status();
        assert!(status.expect("ffmpeg is installed").success());
        fs::rename(&made, folder.path().join(&path)).expect("renamed");
        let mut sender = command(&["send", "--to", "127.0.0.1:9", "--no-control", "--once"]);
        let mut argument = OsString::from("--source=");
        argument.push(&path);
        let outcome = start(sender.current_dir(folder.path()).arg(argument)).finish();
        outcome.expect_success();
    }
}
