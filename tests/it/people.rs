//! What people do: start things in any order, kill them, talk, press keys.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::program::{Program, command, shared};

fn listening(args: &[&str]) -> Program {
    Program::start(&[&["recv", "--bind", "127.0.0.1:0", "--show", "none"], args].concat())
}

fn pattern_to(port: u16) -> Program {
    let to = format!("127.0.0.1:{port}");
    Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "320x240", "--stats"])
}

/// A port that is free now.
fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("bound").port()
}

#[test]
fn a_sender_waits_for_its_receiver_and_outlives_it() {
    let _shared = shared();
    let port = free_port();
    let sender = pattern_to(port);
    sender.wait_for("nobody listens there");
    let bind = format!("127.0.0.1:{port}");
    let args = ["recv", "--bind", &bind, "--show", "none", "--stats"];
    let receiver = Program::start(&args);
    receiver.wait_for("streams 320x240 at 30 frames/s");
    receiver.wait_for("shown ");
    receiver.kill();
    sender.wait_for("is gone");
    let receiver = Program::start(&args);
    receiver.wait_for("streams 320x240");
    receiver.interrupt();
    receiver.finish().expect_success();
    sender.wait_for("has left");
    sender.interrupt();
    sender.finish().expect_success();
}

#[test]
fn a_receiver_outlives_its_senders() {
    let _shared = shared();
    let receiver = listening(&["--stats"]);
    let sender = pattern_to(receiver.port());
    receiver.wait_for("streams 320x240");
    let second = pattern_to(receiver.port());
    second.wait_for("it is busy with");
    receiver.wait_for("refused");
    sender.kill();
    receiver.wait_for("is gone");
    let refusals = receiver.said().iter().filter(|l| l.starts_with("refused")).count();
    assert_eq!(refusals, 1, "it calls again and again, and that is told once");
    second.wait_for("connected to");
    second.interrupt();
    second.finish().expect_success();
    receiver.wait_for("has left");
}

#[test]
fn two_receivers_get_one_stream() {
    let _shared = shared();
    let (a, b) = (listening(&["--stats"]), listening(&["--stats"]));
    let (to_a, to_b) = (format!("127.0.0.1:{}", a.port()), format!("127.0.0.1:{}", b.port()));
    let _sender = Program::start(&[
        "send", "--to", &to_a, "--to", &to_b, "--source", "pattern", "--size", "320x240",
    ]);
    for receiver in [a, b] {
        receiver.wait_for("streams 320x240");
        receiver.wait_for("latency p50");
    }
}

#[test]
fn without_a_control_channel_frames_come_unasked() {
    let _shared = shared();
    let receiver = listening(&["--no-control", "--stats"]);
    let to = format!("127.0.0.1:{}", receiver.port());
    let args = ["send", "--to", &to, "--source", "pattern", "--size", "320x240", "--no-control"];
    let sender = Program::start(&args);
    receiver.wait_for("latency unknown");
    sender.kill();
    let _again = Program::start(&args);
    receiver.wait_for("another one has taken its place");
}

/// A bad network on either side is the same bad network.
#[test]
fn netem_loses_on_both_sides() {
    let _shared = shared();
    for (at_receiver, at_sender) in [("loss=20%", "loss=0%"), ("loss=0%", "loss=20%")] {
        let receiver = listening(&["--netem", at_receiver, "--stats"]);
        let to = format!("127.0.0.1:{}", receiver.port());
        let _sender = Program::start(&[
            "send", "--to", &to, "--source", "pattern", "--size", "320x240", "--netem", at_sender,
        ]);
        receiver.wait_for("lost 2");
    }
}

/// A `--bind` of an IPv6 address, a sender that is told a name.
#[test]
fn names_and_ipv6_work() {
    let _shared = shared();
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let receiver = Program::start(&["recv", "--bind", "[::1]:0", "--show", "none"]);
    let to = format!("[::1]:{}", receiver.port());
    let _sender = Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "64x48"]);
    receiver.wait_for("streams 64x48");
    let any = Program::start(&["recv", "--bind", ":0", "--show", "none"]);
    let to = format!("localhost:{}", any.port());
    let _sender = Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "64x48"]);
    any.wait_for("streams 64x48");
}

/// A chat whose terminal is a pipe.
fn chat(args: &[&str]) -> Program {
    let args =
        [&["chat", "--source", "pattern", "--size", "320x240", "--show", "none"], args].concat();
    Program::spawn(command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()))
}

#[test]
fn a_chat_carries_text_both_ways_and_no_escape_sequences() {
    let _shared = shared();
    let mut ann = chat(&["--bind", "127.0.0.1:0", "--name", "ann\u{1b}[31m", "--stats"]);
    let to = format!("127.0.0.1:{}", ann.port());
    let mut bob = chat(&[&to, "--name", "bob", "--stats"]);
    bob.wait_for("ann[31m");
    ann.wait_for("bob");
    for chatter in [&ann, &bob] {
        chatter.wait_for("shown ");
    }
    let (mut to_bob, mut to_ann) = (ann.stdin(), bob.stdin());
    to_bob.write_all("Gr\u{fc}\u{df}e \u{1b}]0;title\u{7}\u{1b}[2J\n".as_bytes()).expect("it runs");
    to_ann.write_all(b"hello ann\n").expect("it runs");
    // Text has its place on standard output; a second is plenty for loopback.
    std::thread::park_timeout(Duration::from_secs(1));
    bob.interrupt();
    ann.wait_for("has left");
    ann.interrupt();
    let (ann, bob) = (ann.finish(), bob.finish());
    assert_eq!(String::from_utf8_lossy(&ann.stdout), "bob: hello ann\n");
    assert_eq!(String::from_utf8_lossy(&bob.stdout), "ann[31m: Gr\u{fc}\u{df}e ]0;title[2J\n");
}

#[test]
fn a_receiver_and_a_chat_do_not_mix_and_say_so() {
    let _shared = shared();
    let receiver = listening(&[]);
    let to = format!("127.0.0.1:{}", receiver.port());
    chat(&[&to]).finish().expect_failure(1, &["udpchat send"]);
    let ann = chat(&["--bind", "127.0.0.1:0"]);
    let to = format!("127.0.0.1:{}", ann.port());
    let sender = Program::start(&["send", "--to", &to, "--source", "pattern"]);
    sender.finish().expect_failure(1, &["udpchat chat"]);
}

#[test]
fn the_helpers_print_what_they_should() {
    for (args, part) in [
        (&["--help"][..], "udpchat recv"),
        (&["send", "--help"], "default: 80"),
        (&["recv", "--help"], "--output -"),
        (&["chat", "--help"], "udpchat chat 192.168.1.20"),
        (&["demo", "--help"], "default: 10"),
        (&["completions", "bash"], "_udpchat"),
        (&["man"], ".TH"),
        (&["doctor"], "loopback"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let outcome = crate::program::run(args);
        outcome.expect_success();
        let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

/// A virtual display of our own.
#[cfg(feature = "opencv")]
struct Display {
    server: Child,
    name: String,
}

#[cfg(feature = "opencv")]
impl Display {
    fn start() -> Self {
        use std::io::{BufRead, BufReader};
        // It chooses a free number and writes it to its standard output when it is ready.
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1600x1000x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed: scripts/setup.sh test installs it");
        let mut number = String::new();
        let stdout = server.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut number).expect("a display number");
        Self { server, name: format!(":{}", number.trim()) }
    }

    fn program(&self, args: &[&str], folder: &std::path::Path) -> Program {
        let mut command = command(args);
        command.env("DISPLAY", &self.name).current_dir(folder);
        Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))
    }

    fn tool(&self, program: &str, args: &[&str]) -> Vec<u8> {
        let output = Command::new(program)
            .args(args)
            .env("DISPLAY", &self.name)
            .output()
            .expect("installed");
        output.stdout
    }

    /// The window whose title is exactly `title`, once it is there.
    fn window(&self, title: &str) -> String {
        for _ in 0..200 {
            let exactly = format!("^{title}$");
            let found = self.tool("xdotool", &["search", "--onlyvisible", "--name", &exactly]);
            if let Some(id) = String::from_utf8_lossy(&found).lines().next() {
                return id.to_owned();
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("no window '{title}'");
    }

    fn press(&self, window: &str, key: &str) {
        self.tool("xdotool", &["windowfocus", "--sync", window]);
        self.tool("xdotool", &["key", key]);
        std::thread::park_timeout(Duration::from_millis(300));
    }

    /// What a window manager does when its cross is clicked (ICCCM 4.2.8.1).
    fn close(&self, window: &str) {
        use x11rb::{
            connection::Connection,
            protocol::xproto::{ClientMessageEvent, ConnectionExt, EventMask},
        };
        let (connection, _) = x11rb::connect(Some(&self.name)).expect("the display is there");
        let atom = |name: &[u8]| {
            let cookie = connection.intern_atom(false, name).expect("sent");
            cookie.reply().expect("an atom").atom
        };
        let window = window.parse().expect("a window id");
        let words = [atom(b"WM_DELETE_WINDOW"), 0, 0, 0, 0];
        let event = ClientMessageEvent::new(32, window, atom(b"WM_PROTOCOLS"), words);
        connection.send_event(false, window, EventMask::NO_EVENT, event).expect("sent");
        connection.flush().expect("sent");
    }

    /// What a person sees in the window.
    fn screenshot(&self, window: &str) -> udpchat::video::image::Image {
        use udpchat::video::image::{Image, PixelFormat};
        let ppm = self.tool("import", &["-window", window, "-depth", "8", "ppm:-"]);
        // "P6", width, height and 255, each followed by one white space, then the pixels.
        let mut fields = ppm.splitn(4, u8::is_ascii_whitespace).skip(1);
        let mut number = || -> usize {
            let digits = fields.next().expect("a header");
            String::from_utf8_lossy(digits).parse().expect("a number")
        };
        let (width, height) = (number(), number());
        let mut pixels = ppm[ppm.len() - width * height * 3..].to_vec();
        pixels.chunks_exact_mut(3).for_each(|p| p.swap(0, 2));
        Image::new(width, height, PixelFormat::Bgr, pixels)
    }

    /// The number in the window, once there is one.
    fn number(&self, window: &str) -> u32 {
        for _ in 0..50 {
            let number = udpchat::video::source::pattern::read_number(&self.screenshot(window));
            if let Some(number) = number {
                return number;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        panic!("the window shows no pattern");
    }
}

#[cfg(feature = "opencv")]
impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
#[cfg(feature = "opencv")]
fn the_window_shows_the_current_picture_and_obeys_its_keys() {
    let _alone = crate::program::alone();
    let (display, folder) = (Display::start(), tempfile::tempdir().expect("a folder"));
    let receiver = display.program(&["recv", "--bind", "127.0.0.1:0"], folder.path());
    let window = display.window("udpchat");
    let to = format!("127.0.0.1:{}", receiver.port());
    let sender = Program::start(&[
        "send",
        "--to",
        &to,
        "--source",
        "pattern",
        "--size",
        "640x480",
        "--seconds",
        "60",
    ]);
    let (first, second) = (display.number(&window), display.number(&window));
    assert!(second > first, "it moves: {first}, then {second}");

    display.press(&window, "space");
    let (third, fourth) = (display.number(&window), display.number(&window));
    assert_eq!(third, fourth, "frozen");
    display.press(&window, "space");
    assert!(display.number(&window) > fourth, "it moves again");

    display.press(&window, "s");
    receiver.wait_for("saved ");
    let saved = std::fs::read_dir(folder.path()).expect("read").flatten().next();
    let saved = saved.expect("a snapshot").path();
    let bytes = std::fs::read(&saved).expect("read");
    assert!(bytes.starts_with(b"\x89PNG") && bytes.ends_with(b"IEND\xaeB`\x82"), "{saved:?}");

    display.press(&window, "m");
    let mirrored = display.screenshot(&window);
    assert_eq!(udpchat::video::source::pattern::read_number(&mirrored), None, "mirrored");
    display.press(&window, "m");

    sender.interrupt();
    receiver.wait_for("has left");
    std::thread::park_timeout(Duration::from_millis(500));
    let card = display.screenshot(&window);
    assert_eq!(udpchat::video::source::pattern::read_number(&card), None, "no stale picture");
    display.close(&window);
    receiver.finish().expect_success();
}

#[test]
#[cfg(feature = "opencv")]
fn a_chat_opens_two_windows_each_with_its_picture() {
    let _alone = crate::program::alone();
    let (display, folder) = (Display::start(), tempfile::tempdir().expect("a folder"));
    let source = ["--source", "pattern", "--size", "640x480"];
    let ann =
        display.program(&[&["chat", "--bind", "127.0.0.1:0"], &source[..]].concat(), folder.path());
    let to = format!("127.0.0.1:{}", ann.port());
    // Ann's pattern counts on for a while before Bob's begins.
    std::thread::park_timeout(Duration::from_millis(1500));
    let bob = Program::start(&[&["chat", &to, "--show", "none"], &source[..]].concat());
    ann.wait_for("streams 640x480");
    let peer = display.window("udpchat");
    let own = display.window("udpchat: you");
    display.number(&peer);
    let mirrored = display.screenshot(&own);
    assert_eq!(udpchat::video::source::pattern::read_number(&mirrored), None, "as in a mirror");
    display.press(&own, "m");
    let (anns, bobs) = (display.number(&own), display.number(&peer));
    assert!(anns > bobs + 20, "one's own and the other's: {anns} and {bobs}");
    display.press(&peer, "q");
    ann.finish().expect_success();
    bob.wait_for("has left");
}

#[test]
#[cfg(feature = "opencv")]
fn a_display_that_is_not_there_is_said_and_done_without() {
    let _shared = shared();
    let mut command = command(&["recv", "--bind", "127.0.0.1:0"]);
    command.env("DISPLAY", ":4242");
    let receiver = Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()));
    receiver.wait_for("no window: ");
    receiver.interrupt();
    receiver.finish().expect_success();
}
