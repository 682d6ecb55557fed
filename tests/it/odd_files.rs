//! Unusual files as arguments: missing, full, endless, not to be overwritten, or not regular. Also
//! too few file descriptors.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use tempfile::TempDir;

use crate::background::shell;
use crate::program::{Outcome, Program, command, run, shared};

const RECV: [&str; 5] = ["recv", "--bind", "127.0.0.1:0", "--show", "none"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn fifo(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    path
}

fn count(outcome: &Outcome, part: &str) -> usize {
    outcome.stderr.lines().filter(|line| line.contains(part)).count()
}

/// Runs the program with `home` as its home directory and no other configuration directory.
fn with_home(home: &str, args: &[&str]) -> Program {
    let mut command = command(args);
    command.env("HOME", home).env_remove("XDG_CONFIG_HOME");
    Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))
}

#[test]
fn an_unusable_home_matters_only_if_an_identity_is_needed() {
    let _shared = shared();
    let folder = folder();
    let [key, identity, known] = ["key", "identity", "known"].map(|name| folder.path().join(name));
    let key = ["--no-control", "--key-file", text(&key), "--seconds", "0.2"];
    let send = ["send", "--to", "127.0.0.1:9", "--source", "pattern", "--size", "320x240"];
    for args in [[&RECV[..], &key].concat(), [&send[..], &key].concat()] {
        let outcome = with_home("/dev/null", &args).finish();
        assert!(!outcome.expect_success().stderr.contains("/dev/null"), "{}", outcome.stderr);
    }
    let identity = ["--identity", text(&identity)];
    let known = ["--known-peers", text(&known)];
    // A directory cannot be created in either; the system reports a different error for each.
    for home in ["/dev/null", "/proc"] {
        for (options, said) in [
            (&[][..], "a temporary identity and has no known peers (--identity FILE --known-peers"),
            (&known, "this run uses a temporary identity (--identity FILE)"),
        ] {
            let args = [&RECV[..], options, &["--seconds", "0.2"]].concat();
            let outcome = with_home(home, &args).finish();
            outcome.expect_success();
            assert_eq!(count(&outcome, home), 1, "{}", outcome.stderr);
            assert_eq!(count(&outcome, said), 1, "{}", outcome.stderr);
        }
    }
    let args = [&RECV[..], &identity, &["--seconds", "0.2"]].concat();
    let outcome = with_home("/dev/null", &args).finish();
    let said = "this run has no known peers (--known-peers FILE)";
    assert_eq!(count(outcome.expect_success(), said), 1, "{}", outcome.stderr);
    let outcome = with_home("/dev/null", &[&args[..], &known].concat()).finish();
    assert_eq!(count(outcome.expect_success(), "/dev/null"), 0, "{}", outcome.stderr);
}

#[test]
fn an_unreadable_identity_or_known_peers_file_is_an_error() {
    let _shared = shared();
    let home = folder();
    let files = home.path().join(".config/udpchat");
    fs::create_dir_all(files.join("identity")).expect("made");
    let outcome = with_home(text(home.path()), &RECV).finish();
    outcome.expect_failure(1, &["udpchat/identity", "it is a folder"]);
    fs::remove_dir(files.join("identity")).expect("removed");
    fs::create_dir(files.join("known_peers")).expect("made");
    let outcome = with_home(text(home.path()), &RECV).finish();
    outcome.expect_failure(1, &["udpchat/known_peers", "it is a folder"]);
}

#[test]
fn the_sender_name_defaults_to_the_system_user() {
    let _shared = shared();
    let id = std::process::Command::new("id").arg("-un").output().expect("installed");
    let user = String::from_utf8(id.stdout).expect("text");
    let receiver = Program::start(&RECV);
    let to = format!("127.0.0.1:{}", receiver.port());
    let mut command = command(&["send", "--to", &to, "--source", "pattern", "--size", "320x240"]);
    for name in ["USER", "LOGNAME", "USERNAME"] {
        command.env_remove(name);
    }
    let _sender = Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()));
    receiver.wait_for(&format!("{}@", user.trim()));
}

#[test]
fn unusable_key_files_are_refused_at_once() {
    let folder = folder();
    let fifo = fifo(&folder, "fifo");
    let huge = folder.path().join("huge");
    let file = fs::File::create(&huge).expect("created");
    file.set_len(1 << 40).expect("sparse");
    let here = text(folder.path());
    for option in ["--identity", "--known-peers", "--key-file"] {
        for (path, why) in
            [("/dev/zero", "not a regular file"), (here, "folder"), (text(&huge), "bytes long")]
        {
            run(&[&RECV[..], &[option, path]].concat()).expect_failure(1, &[path, why]);
        }
    }
    let fifo = text(&fifo);
    run(&[&RECV[..], &["--identity", fifo]].concat()).expect_failure(1, &[fifo, "no key"]);
    run(&[&RECV[..], &["--known-peers", fifo]].concat())
        .expect_failure(1, &[fifo, "not a regular"]);
}

#[test]
fn one_signal_ends_the_wait_for_a_key_from_a_pipe() {
    let _shared = shared();
    let folder = folder();
    let fifo = fifo(&folder, "fifo");
    // A writer that never writes.
    let _both = OpenOptions::new().read(true).write(true).open(&fifo).expect("opened");
    let receiver = Program::start(&[&RECV[..], &["--key-file", text(&fifo)]].concat());
    std::thread::park_timeout(Duration::from_millis(500));
    assert_eq!(receiver.stderr_lines(), [""; 0]);
    receiver.signal(Signal::TERM);
    assert!(!receiver.finish().status.success());
}

#[test]
fn damaged_known_peers_lines_give_one_warning() {
    let _shared = shared();
    let folder = folder();
    let known = folder.path().join("known");
    let mut bytes = b"caller \xff\xfe\n".to_vec();
    bytes.extend(b"damaged\n".repeat(999_999));
    fs::write(&known, bytes).expect("written");
    let receiver = Program::start(&[&RECV[..], &["--known-peers", text(&known)]].concat());
    receiver.wait_for("1000000 lines are not understood; the first is line 1");
    let to = format!("127.0.0.1:{}", receiver.port());
    let _sender = Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "64x48"]);
    receiver.wait_for("streams 64x48");
    receiver.interrupt();
    let outcome = receiver.finish();
    assert_eq!(count(&outcome, "not understood"), 1, "{}", outcome.stderr);
}

#[test]
fn unwritable_statistics_do_not_end_the_program() {
    let folder = folder();
    let fifo = fifo(&folder, "fifo");
    let demo = ["demo", "--size", "320x240", "--seconds", "3", "--show", "none", "--stats-json"];
    let outcome = run(&[&demo[..], &["/dev/full"]].concat());
    outcome.expect_success();
    assert_eq!(count(&outcome, "no more statistics are written to /dev/full"), 1);
    run(&[&demo[..], &[text(&fifo)]].concat()).expect_success();
    let stats = folder.path().join("stats");
    run(&[&demo[..], &[text(&stats)]].concat()).expect_success();
    let first = fs::read_to_string(&stats).expect("written").lines().count();
    run(&[&demo[..], &[text(&stats)]].concat()).expect_success();
    let both = fs::read_to_string(&stats).expect("written").lines().count();
    assert!(both > first && first > 0, "{first} lines, then {both}");
}

/// The reader closes its end of the pipe, as `| head` does.
#[test]
fn a_statistics_only_receiver_ends_when_its_reader_closes() {
    let _shared = shared();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = command(&[&RECV[..], &["--stats-json", "-"]].concat());
    let receiver = Program::spawn(command.stdin(Stdio::null()).stdout(writer));
    drop(command);
    std::io::Read::read_exact(&mut reader, &mut [0; 10]).expect("statistics");
    drop(reader);
    receiver.finish().expect_success();
}

fn records_to(path: &Path, more: &[&str]) -> Program {
    Program::start(&[&RECV[..], &["--output", text(path)], more].concat())
}

fn pattern_to(port: u16, more: &[&str]) -> Program {
    let to = format!("127.0.0.1:{port}");
    // With automatic quality, a busy machine may send smaller pictures, which begin another `.avi`.
    let picture = ["--source", "pattern", "--size", "320x240", "--quality", "80"];
    Program::start(&[&["send", "--to", &to][..], &picture, more].concat())
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("a folder");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}

#[test]
fn a_recording_starts_at_the_first_frame_and_replaces_no_file() {
    let _shared = shared();
    let folder = folder();
    for name in ["film.avi", "film.mjpeg", "film.y4m"] {
        let path = folder.path().join(name);
        let second = name.replace("film", "film-2");
        fs::write(&path, "precious").expect("written");
        let before = names(&folder);
        let receiver = records_to(&path, &[]);
        let port = receiver.port();
        assert_eq!(names(&folder), before);
        let sender = pattern_to(port, &[]);
        receiver.wait_for(&second);
        sender.interrupt();
        sender.finish().expect_success();
        receiver.wait_for("has left");
        receiver.interrupt();
        receiver.finish().expect_success();
        assert_eq!(fs::read(&path).expect("there"), b"precious");
        assert!(fs::metadata(folder.path().join(second)).expect("there").len() > 1000);

        let receiver = records_to(&path, &["--overwrite"]);
        let _sender = pattern_to(receiver.port(), &[]);
        let until = udpchat::clock::now() + crate::program::WAIT_LIMIT;
        while fs::metadata(&path).expect("there").len() < 1000 {
            assert!(udpchat::clock::now() < until, "it is not replaced");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        receiver.interrupt();
        receiver.finish().expect_success();
    }
}

#[test]
fn a_call_continues_when_its_recording_fails() {
    let _shared = shared();
    let folder = folder();
    let full = folder.path().join("full.avi");
    std::os::unix::fs::symlink("/dev/full", &full).expect("linked");
    let chat = ["chat", "--show", "none", "--source", "pattern", "--size", "320x240", "--stats"];
    let ann = ["--bind", "127.0.0.1:0", "--accept", "any", "--output", text(&full)];
    let ann = Program::start(&[&chat[..], &ann].concat());
    let to = format!("127.0.0.1:{}", ann.port());
    let bob = Program::start(&[&chat[..], &[&to]].concat());
    let line = ann.wait_for("recording to ");
    assert!(
        line.contains("No space left") && line.contains("continuing without the recording"),
        "{line}"
    );
    // The seconds in which the program has shown pictures.
    let shows = |line: &&String| line.contains("shown ") && !line.contains("shown 0.0 ");
    let seconds = |program: &Program| program.stderr_lines().iter().filter(shows).count();
    let (at_ann, at_bob) = (seconds(&ann), seconds(&bob));
    let until = udpchat::clock::now() + crate::program::WAIT_LIMIT;
    while seconds(&ann) < at_ann + 2 || seconds(&bob) < at_bob + 2 {
        assert!(
            udpchat::clock::now() < until,
            "{:?}\n{:?}",
            ann.stderr_lines(),
            bob.stderr_lines()
        );
        std::thread::park_timeout(Duration::from_millis(50));
    }
    ann.interrupt();
    let outcome = ann.finish();
    assert_eq!(count(&outcome, "recording to "), 1, "{}", outcome.stderr);
    outcome.expect_failure(1, &["the recording is not complete"]);
    bob.wait_for("has left");
    bob.interrupt();
    bob.finish().expect_success();
}

/// The unit of `ulimit -f` is 512 or 1024 bytes, depending on the shell.
#[test]
fn a_recording_at_the_file_size_limit_ends_with_an_index() {
    let _shared = shared();
    let folder = folder();
    let given = folder.path().join("film.avi");
    fs::write(&given, "an older one").expect("written");
    let film = folder.path().join("film-2.avi");
    let receiver = command(&[&RECV[..], &["--output", text(&given)]].concat());
    let receiver = Program::spawn(&mut shell("ulimit -f 1000; exec \"$0\" \"$@\"", &receiver));
    let _sender = pattern_to(receiver.port(), &[]);
    let outcome = receiver.finish();
    outcome.expect_failure(1, &["film-2.avi ended", "File too large", "ulimit -f"]);
    assert!(!outcome.stderr.contains("too slow"), "{}", outcome.stderr);
    let bytes = fs::read(&film).expect("there");
    let index = bytes.windows(4).rposition(|word| word == b"idx1").expect("an index");
    let length = u32::from_le_bytes(bytes[index + 4..index + 8].try_into().expect("four"));
    assert_eq!(bytes.len(), index + 8 + length as usize);
    assert!(length / 16 > 5, "{} frames", length / 16);
    let flags = u32::from_le_bytes(bytes[44..48].try_into().expect("four"));
    assert_eq!(flags & 0x10, 0x10, "the header announces the index");
}

#[test]
fn recording_to_a_fifo_starts_once_it_has_a_reader() {
    use std::io::Read;

    let _shared = shared();
    let folder = folder();
    let avi = fifo(&folder, "film.avi");
    records_to(&avi, &[]).finish().expect_failure(1, &[text(&avi), "FIFO", ".y4m"]);
    let film = fifo(&folder, "film.y4m");
    let receiver = records_to(&film, &[]);
    let sender = pattern_to(receiver.port(), &[]);
    receiver.wait_for("has no reader yet");
    receiver.signal(Signal::TERM);
    receiver.finish().expect_success();
    drop(sender);

    let receiver = records_to(&film, &[]);
    let _sender = pattern_to(receiver.port(), &[]);
    receiver.wait_for("has no reader yet");
    let mut reader = fs::File::open(&film).expect("there");
    let mut bytes = vec![0; 200_000];
    reader.read_exact(&mut bytes).expect("pictures");
    assert!(bytes.starts_with(b"YUV4MPEG2 W320 H240 "));
    drop(reader);
    receiver.wait_for("stopping");
    receiver.finish().expect_success();
}

/// An empty `HOME` counts as unset: the home is that of the passwd entry. Needs root, to mount an
/// empty directory over it.
#[test]
#[cfg(target_os = "linux")]
fn an_empty_home_variable_means_the_passwd_home() {
    let _shared = shared();
    let mut receiver = command(&[&RECV[..], &["--seconds", "0.2"]].concat());
    receiver.env("HOME", "").env_remove("XDG_CONFIG_HOME");
    // The binary may be inside that home, so it is opened first.
    let inside = "exec 3<\"$0\"; home=$(getent passwd \"$(id -u)\" | cut -d: -f6); \
                  mount -t tmpfs none \"$home\" || exit 77; /proc/self/fd/3 \"$@\" || exit; \
                  ls \"$home/.config/udpchat/identity\"";
    let script = format!("exec unshare -m sh -c '{inside}' \"$0\" \"$@\"");
    let outcome = Program::spawn(&mut shell(&script, &receiver)).finish();
    if outcome.stderr.contains("unshare failed") || outcome.status.code() == Some(77) {
        eprintln!("skipped: this machine allows no mount namespace");
        return;
    }
    outcome.expect_success();
    assert!(!outcome.stderr.contains("temporary identity"), "{}", outcome.stderr);
}

/// The number of descriptors that a waiting receiver has open.
fn descriptors(receiver: &Program) -> usize {
    fs::read_dir(format!("/proc/{}/fd", receiver.id())).expect("it runs").count()
}

#[test]
fn without_descriptors_callers_wait_and_a_warning_is_printed() {
    let _shared = shared();
    let unlimited = Program::start(&RECV);
    unlimited.wait_for("listening");
    let limit = descriptors(&unlimited) + 1;
    let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
    let receiver = Program::spawn(&mut shell(&script, &command(&RECV)));
    let port = receiver.port();
    let crowd: Vec<_> =
        (0..4).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).expect("room")).collect();
    receiver.wait_for("cannot accept a connection");
    drop(crowd);
    let sender = pattern_to(port, &[]);
    receiver.wait_for("streams 320x240");
    receiver.interrupt();
    let outcome = receiver.finish();
    outcome.expect_success();
    let told = count(&outcome, "cannot accept a connection");
    assert!((1..4).contains(&told), "{}", outcome.stderr);
    drop(sender);
}

/// However low the limit, the receiver exits with a reason, accepts the call, or says that it
/// cannot.
#[test]
fn too_few_descriptors_are_always_reported() {
    let _shared = shared();
    for limit in 4..20 {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let mut receiver = Program::spawn(&mut shell(&script, &command(&RECV)));
        let until = udpchat::clock::now() + crate::program::WAIT_LIMIT;
        let is_listening = loop {
            if receiver.stderr_lines().iter().any(|line| line.contains("listening")) {
                break true;
            }
            if !receiver.is_running() {
                break false;
            }
            assert!(udpchat::clock::now() < until, "{limit}: {:?}", receiver.stderr_lines());
            std::thread::park_timeout(Duration::from_millis(10));
        };
        if !is_listening {
            let outcome = receiver.finish();
            assert!(!outcome.status.success());
            assert!(
                outcome.stderr.contains("open files") || outcome.stderr.contains("loading"),
                "{}",
                outcome.stderr
            );
            continue;
        }
        let _sender = pattern_to(receiver.port(), &[]);
        loop {
            let said = receiver.stderr_lines();
            if said.iter().any(|l| l.contains("streams 320x240") || l.contains("ulimit -n")) {
                break;
            }
            assert!(udpchat::clock::now() < until, "{limit}: {said:?}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        assert!(receiver.is_running(), "{limit}");
    }
}

/// Whatever fails for lack of descriptors, the last line names the remedy.
#[test]
fn every_verb_reports_too_few_descriptors_with_the_remedy() {
    let _shared = shared();
    let pattern = ["--source", "pattern", "--size", "64x48", "--seconds", "0.1"];
    let chat = ["chat", "--bind", "127.0.0.1:0", "--show", "none"];
    for verb in [
        [&["demo", "--show", "none"][..], &pattern].concat(),
        [&chat[..], &pattern].concat(),
        [&["send", "--to", "127.0.0.1:9"][..], &pattern].concat(),
        vec!["doctor"],
    ] {
        let mut refused = 0;
        for limit in 4..18 {
            let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
            let outcome = Program::spawn(&mut shell(&script, &command(&verb))).finish();
            if outcome.status.success() {
                continue;
            }
            refused += 1;
            let why = outcome.stderr.lines().last().unwrap_or_default();
            assert_eq!(why.matches("ulimit -n").count(), 1, "{limit} {verb:?}: {why}");
        }
        assert!(refused > 0, "no limit was low enough for {verb:?}");
    }
}

/// Without descriptors no name can be looked up. This must not be reported as an unknown name.
#[test]
fn without_descriptors_a_name_is_not_reported_as_unknown() {
    let _shared = shared();
    let send = ["send", "--to", "localhost:9", "--source", "pattern", "--size", "64x48"];
    let mut exhausted = 0;
    for limit in 8..12 {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let program = Program::spawn(&mut shell(&script, &command(&send)));
        // With too few descriptors to start, it ends without this line.
        program.try_wait_for(|line| line.contains("waiting for localhost"));
        program.interrupt();
        let outcome = program.finish();
        assert!(!outcome.stderr.contains("not known"), "{limit}: {}", outcome.stderr);
        exhausted += count(&outcome, "waiting for localhost: Too many open files");
    }
    assert!(exhausted > 0, "no limit was low enough");
}
