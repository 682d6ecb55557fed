//! Real windows on a virtual display: their contents, and the effect of each key.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use udpchat::{
    clock,
    video::{
        image::{Image, PixelFormat},
        source::pattern,
    },
};

use crate::{
    background::shell,
    program::{Program, WAIT_LIMIT, alone, command, shared},
};

/// A virtual display (Xvfb) for one test.
struct Display {
    server: Child,
    name: String,
}

impl Display {
    fn start() -> Self {
        use std::io::{BufRead, BufReader};
        // Xvfb chooses a free display number and writes it to standard output when it is ready.
        let mut server = Command::new("Xvfb")
            .args([
                "-displayfd",
                "1",
                "-screen",
                "0",
                "1600x1000x24",
                "-nolisten",
                "tcp",
                "-noreset",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed: scripts/setup.sh test installs it");
        let mut number = String::new();
        let stdout = server.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut number).expect("a display number");
        Self { server, name: format!(":{}", number.trim()) }
    }

    fn stop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
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

    /// Waits for the window whose title is exactly `title`.
    fn window(&self, title: &str) -> String {
        let exactly = format!("^{title}$");
        wait_for(&format!("a window '{title}'"), || {
            let found = self.tool("xdotool", &["search", "--onlyvisible", "--name", &exactly]);
            String::from_utf8_lossy(&found).lines().next().map(str::to_owned)
        })
    }

    /// Sends a key press. The effect may take a while.
    fn press(&self, window: &str, key: &str) {
        self.tool("xdotool", &["windowfocus", "--sync", window]);
        self.tool("xdotool", &["key", key]);
    }

    /// Closes the window as a window manager does (ICCCM 4.2.8.1).
    fn close(&self, window: &str) {
        use x11rb::protocol::xproto::{ClientMessageEvent, ConnectionExt, EventMask};
        let (connection, _) = x11rb::connect(Some(&self.name)).expect("the display is there");
        let atom = |name: &[u8]| {
            let cookie = connection.intern_atom(false, name).expect("sent");
            cookie.reply().expect("an atom").atom
        };
        let window = window.parse().expect("a window id");
        let words = [atom(b"WM_DELETE_WINDOW"), 0, 0, 0, 0];
        let event = ClientMessageEvent::new(32, window, atom(b"WM_PROTOCOLS"), words);
        connection.send_event(false, window, EventMask::NO_EVENT, event).expect("sent");
        // When a connection is closed, the X server drops the requests that it has not read. The
        // reply to a later request shows that it has read this one.
        connection.get_input_focus().expect("sent").reply().expect("the server has read all");
    }

    /// The visible contents of the window.
    fn screenshot(&self, window: &str) -> Image {
        wait_for("a picture of the window", || self.try_screenshot(window))
    }

    /// `None` if import(1) fails, as it does while the window is resized.
    fn try_screenshot(&self, window: &str) -> Option<Image> {
        let ppm = self.tool("import", &["-window", window, "-depth", "8", "ppm:-"]);
        // "P6", width, height and 255, each followed by one whitespace character, then the pixels.
        let mut fields = ppm.splitn(4, u8::is_ascii_whitespace).skip(1);
        let mut number = || -> Option<usize> {
            let digits = fields.next()?;
            String::from_utf8_lossy(digits).parse().ok()
        };
        let (width, height) = (number()?, number()?);
        let mut pixels = ppm[ppm.len().checked_sub(width * height * 3)?..].to_vec();
        pixels.chunks_exact_mut(3).for_each(|p| p.swap(0, 2));
        Some(Image::new(width, height, PixelFormat::Bgr, pixels))
    }

    /// The frame number in the window, if it shows the pattern.
    fn try_number(&self, window: &str) -> Option<u32> {
        pattern::read_number(&self.screenshot(window))
    }

    /// Waits for a frame number in the window.
    fn number(&self, window: &str) -> u32 {
        wait_for("the pattern", || self.try_number(window))
    }

    /// Waits for a frame number above `before`.
    fn number_after(&self, window: &str, before: u32) -> u32 {
        wait_for(&format!("a number above {before}"), || {
            self.try_number(window).filter(|&number| number > before)
        })
    }

    /// Waits until the picture is frozen for 1 s and returns its frame number.
    fn frozen_number(&self, window: &str) -> u32 {
        wait_for("a frozen picture", || {
            let number = self.number(window);
            let stays = (0..10).all(|_| {
                std::thread::park_timeout(Duration::from_millis(100));
                self.number(window) == number
            });
            stays.then_some(number)
        })
    }

    /// The frame number in the window, if it shows the pattern mirrored.
    fn try_mirrored_number(&self, window: &str) -> Option<u32> {
        pattern::read_number(&mirrored(&self.screenshot(window)))
    }

    /// Waits until the window shows the pattern mirrored.
    fn wait_mirrored(&self, window: &str) {
        wait_for("the mirrored pattern", || self.try_mirrored_number(window));
    }
}

/// Calls `attempt` every 50 ms until it succeeds.
fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = clock::now() + WAIT_LIMIT;
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(clock::now() < until, "{what} did not appear");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn mirrored(image: &Image) -> Image {
    let mut mirrored = image.clone();
    for row in mirrored.data.chunks_exact_mut(3 * image.width) {
        row.reverse();
        row.chunks_exact_mut(3).for_each(<[u8]>::reverse);
    }
    mirrored
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn a_window_shows_the_current_picture_and_handles_keys() {
    let _alone = alone();
    let (display, folder) = (Display::start(), tempfile::tempdir().expect("a folder"));
    let receiver = display.program(&["recv", "--bind", "127.0.0.1:0"], folder.path());
    let window = display.window("udpchat");
    let to = format!("127.0.0.1:{}", receiver.port());
    let sender = Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "640x480"]);
    let first = display.number(&window);
    display.number_after(&window, first);

    display.press(&window, "space");
    let frozen = display.frozen_number(&window);
    display.press(&window, "space");
    display.number_after(&window, frozen);

    display.press(&window, "s");
    receiver.wait_for("saved ");
    let saved = std::fs::read_dir(folder.path()).expect("read").flatten().next();
    let saved = saved.expect("a snapshot").path();
    let bytes = std::fs::read(&saved).expect("read");
    assert!(bytes.starts_with(b"\x89PNG") && bytes.ends_with(b"IEND\xaeB`\x82"), "{saved:?}");

    display.press(&window, "m");
    display.wait_mirrored(&window);
    display.press(&window, "m");
    display.number(&window);

    sender.interrupt();
    receiver.wait_for("has left");
    wait_for("the card instead of a stale picture", || {
        display.try_number(&window).is_none().then_some(())
    });
    display.close(&window);
    receiver.finish().expect_success();
}

#[test]
fn a_chat_shows_the_peer_and_the_self_view() {
    let _alone = alone();
    let (display, folder) = (Display::start(), tempfile::tempdir().expect("a folder"));
    let source = ["--source", "pattern", "--size", "640x480"];
    let ann =
        display.program(&[&["chat", "--bind", "127.0.0.1:0"], &source[..]].concat(), folder.path());
    let to = format!("127.0.0.1:{}", ann.port());
    let own = display.window("udpchat: you");
    // Ann's pattern counts for a while before Bob's begins.
    wait_for("a mirrored number above 100", || {
        display.try_mirrored_number(&own).filter(|&number| number > 100)
    });
    let bob = Program::start(&[&["chat", &to, "--show", "none"], &source[..]].concat());
    ann.wait_for("streams 640x480");
    let peer = display.window("udpchat");
    display.press(&own, "m");
    // Ann's number, the larger one, is read last, so that the time between the two reads cannot
    // hide the difference.
    let (bobs, anns) = (display.number(&peer), display.number(&own));
    assert!(anns > bobs + 20, "the self view and the peer: {anns} and {bobs}");
    display.press(&peer, "q");
    ann.finish().expect_success();
    bob.wait_for("has left");
}

#[test]
fn a_missing_display_is_reported_and_the_program_runs_without_it() {
    let _shared = shared();
    let mut command = command(&["recv", "--bind", "127.0.0.1:0"]);
    command.env("DISPLAY", ":4242");
    let receiver = Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()));
    receiver.wait_for("no window: ");
    receiver.wait_for("listening on port ");
    receiver.interrupt();
    receiver.finish().expect_success();
}

/// If the display disappears while the toolkit paints, the toolkit ends its process,
/// `udpchat-opencv`, and `udpchat` reports that the window is gone.
#[test]
fn a_lost_display_does_not_end_the_call_or_recording() {
    let _alone = alone();
    let (mut display, folder) = (Display::start(), tempfile::tempdir().expect("a folder"));
    let film = folder.path().join("film.mjpeg").display().to_string();
    let args = ["chat", "--bind", "127.0.0.1:0", "--source", "pattern", "--size", "64x48"];
    let ann =
        display.program(&[&args[..], &["--fps", "5", "--output", &film]].concat(), folder.path());
    let to = format!("127.0.0.1:{}", ann.port());
    let source = ["--source", "pattern", "--size", "64x48", "--fps", "5"];
    let bob = Program::start(&[&["chat", &to, "--show", "none"], &source[..]].concat());
    ann.wait_for("streams 64x48");
    let peer = display.window("udpchat");
    display.number_after(&peer, display.number(&peer));
    display.stop();
    ann.wait_for("the window is gone: ");
    let recorded = || std::fs::metadata(&film).expect("recorded").len();
    let before = recorded();
    wait_for("more of the recording", || (recorded() > before).then_some(()));
    bob.interrupt();
    bob.finish().expect_success();
    ann.wait_for("has left");
    ann.interrupt();
    let outcome = ann.finish();
    outcome.expect_success();
    let said = &outcome.stderr;
    assert_eq!(said.matches("the window is gone").count(), 1, "{said}");
    assert!(said.contains("\nrecorded "), "{said}");
}

#[test]
fn keys_pressed_while_the_program_is_stopped_are_all_handled() {
    let _alone = alone();
    let (display, folder) = (Display::start(), tempfile::tempdir().expect("a folder"));
    let receiver = display.program(&["recv", "--bind", "127.0.0.1:0"], folder.path());
    let window = display.window("udpchat");
    let to = format!("127.0.0.1:{}", receiver.port());
    let source = ["--source", "pattern", "--size", "640x480"];
    let sender = Program::start(&[&["send", "--to", &to][..], &source].concat());
    display.number(&window);
    display.press(&window, "m");
    display.wait_mirrored(&window);

    receiver.pause();
    display.tool("xdotool", &["key", "s", "m"]);
    receiver.signal(rustix::process::Signal::CONT);
    receiver.wait_for("saved ");
    display.number(&window);

    receiver.pause();
    display.tool("xdotool", &["key", "Escape", "space"]);
    receiver.signal(rustix::process::Signal::CONT);
    receiver.finish().expect_success();
    drop(sender);
}

/// A GUI toolkit that runs out of descriptors terminates its process, `udpchat-opencv`.
#[test]
fn too_few_descriptors_for_a_window_are_reported() {
    let _shared = shared();
    let display = Display::start();
    let mut without = 0;
    for limit in 8..20 {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let mut receiver = command(&["recv", "--bind", "127.0.0.1:0", "--seconds", "0.2"]);
        receiver.env("DISPLAY", &display.name);
        let outcome = Program::spawn(&mut shell(&script, &receiver)).finish();
        let said = &outcome.stderr;
        assert!(outcome.status.success() || said.contains("ulimit -n"), "{limit}: {said}");
        let lines: Vec<_> = said.lines().filter(|line| line.contains("no window")).collect();
        assert!(lines.iter().all(|line| line.contains("ulimit -n")), "{limit}: {said}");
        without += lines.len();
    }
    assert!(without > 0, "no limit was low enough");
}

/// Qt terminates its process, `udpchat-opencv`, if it cannot start.
#[test]
fn a_failing_toolkit_is_reported_and_the_program_runs_without_it() {
    let _shared = shared();
    let display = Display::start();
    for (name, value) in [
        ("QT_QPA_PLATFORM", "wayland"),
        ("QT_QPA_PLATFORM", "nonsense"),
        ("QT_QPA_PLATFORM_PLUGIN_PATH", "/nonexistent"),
    ] {
        let mut command = command(&["recv", "--bind", "127.0.0.1:0", "--stats"]);
        command.env("DISPLAY", &display.name).env(name, value);
        let receiver = Program::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()));
        let to = format!("127.0.0.1:{}", receiver.port());
        let _sender =
            Program::start(&["send", "--to", &to, "--source", "pattern", "--size", "64x48"]);
        receiver.wait_for("streams 64x48");
        let line = receiver.wait_for("shown ");
        let said = receiver.stderr_lines();
        let told =
            said.iter().filter(|line| line.contains("no window: the window toolkit")).count();
        assert!(told <= 1, "{said:?}");
        // With `wayland`, a Qt that has the Wayland plugin fails, too: no compositor answers.
        assert!(told == 1 || name == "QT_QPA_PLATFORM_PLUGIN_PATH", "{name}: {line}, {said:?}");
        receiver.interrupt();
        receiver.finish().expect_success();
    }
}
