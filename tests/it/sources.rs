//! Video sources: named pipes, URLs, and files with a variable frame rate.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    thread,
};

use tempfile::TempDir;

use crate::program::{Program, command, shared};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn y4m(width: usize, pictures: usize) -> Vec<u8> {
    let header = format!("YUV4MPEG2 W{width} H48 F30:1 Cmono XCOLORRANGE=FULL\n");
    let picture = [&b"FRAME\n"[..], &vec![99; width * 48]].concat();
    [header.as_bytes(), &picture.repeat(pictures)].concat()
}

fn fifo(folder: &TempDir) -> String {
    let path = folder.path().join("fifo").to_str().expect("plain").to_owned();
    assert!(Command::new("mkfifo").arg(&path).status().expect("coreutils").success());
    path
}

const SEND: [&str; 5] = ["send", "--to", "127.0.0.1:9", "--no-control", "--source"];

fn sender(source: &str, more: &[&str]) -> Command {
    let mut command = command(&[&SEND[..], &[source], more].concat());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[test]
fn a_named_pipe_is_read_like_standard_input() {
    let _shared = shared();
    let folder = folder();
    let fifo = fifo(&folder);
    let writer = {
        let fifo = fifo.clone();
        // The second header is that of another program writing to the same pipe.
        let video = [y4m(64, 5), y4m(96, 5)].concat();
        thread::spawn(move || fs::write(fifo, video))
    };
    let outcome = Program::spawn(&mut sender(&fifo, &["-v"])).finish();
    outcome.expect_success();
    assert!(outcome.stderr.contains("YUV4MPEG2 64x48"), "{}", outcome.stderr);
    writer.join().expect("no panic").expect("everything was read");

    for name in ["/dev/stdin", "/dev/fd/0"] {
        let mut program = Program::spawn(sender(name, &["-v"]).stdin(Stdio::piped()));
        crate::program::feed(program.stdin(), &y4m(64, 3));
        let outcome = program.finish();
        outcome.expect_success();
        assert!(outcome.stderr.contains("YUV4MPEG2 64x48"), "{}", outcome.stderr);
    }
}

#[test]
fn errors_of_a_named_pipe_include_its_name() {
    let _shared = shared();
    let folder = folder();
    let fifo = fifo(&folder);
    for (bytes, words) in [(&b""[..], "is empty"), (b"this is no video", "neither YUV4MPEG2")] {
        let (path, bytes) = (fifo.clone(), bytes.to_vec());
        let writer = thread::spawn(move || fs::write(path, bytes));
        Program::spawn(&mut sender(&fifo, &[])).finish().expect_failure(1, &[&fifo, words]);
        writer.join().expect("no panic").expect("written");
    }
    Program::spawn(&mut sender("/dev/zero", &[])).finish().expect_failure(1, &["/dev/zero"]);
    Program::spawn(&mut sender("/dev/null", &[])).finish().expect_failure(1, &["is empty"]);
}

/// Nobody opens the pipe for writing; a writer opens it and is silent; a writer stalls partway.
#[test]
fn one_signal_ends_the_wait_for_a_silent_pipe() {
    let _shared = shared();
    let folder = folder();
    let fifo = fifo(&folder);
    for written in [None, Some(Vec::new()), Some(y4m(64, 2))] {
        let is_playing = written.as_ref().is_some_and(|bytes| !bytes.is_empty());
        let program = Program::spawn(&mut sender(&fifo, &["-v"]));
        program.wait_for("as a pipe");
        let writer = written.map(|bytes| {
            let mut writer = fs::OpenOptions::new().write(true).open(&fifo).expect("it reads");
            writer.write_all(&bytes).expect("it reads");
            writer
        });
        if is_playing {
            program.wait_for("NOT ENCRYPTED");
        }
        program.interrupt();
        program.finish();
        drop(writer);
    }
}

#[cfg(feature = "opencv")]
mod through_ffmpeg {
    use std::{
        io::{BufRead, BufReader},
        net::{TcpListener, TcpStream},
        path::Path,
        sync::atomic::AtomicBool,
        time::Duration,
    };

    use udpchat::{
        clock,
        video::{
            image::Size,
            source::{Captured, Picture, Source, SourceOptions},
        },
    };

    use super::*;
    use crate::people::free_port;

    static NEVER_STOP: AtomicBool = AtomicBool::new(false);

    fn ffmpeg(args: &[&str], file: &Path) {
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-y"])
            .args(args)
            .arg(file)
            .status();
        assert!(status.expect("ffmpeg is installed").success());
    }

    fn open(source: &str, options: &SourceOptions) -> Source {
        let Ok(spec) = source.parse();
        Source::open(&spec, options).unwrap_or_else(|error| panic!("{error}"))
    }

    fn play(source: &mut Source) -> Vec<Captured> {
        std::iter::from_fn(|| source.next(&NEVER_STOP).expect("plays")).collect()
    }

    /// One second at 20 pictures/s, then one picture every 500 ms. One of the containers states the
    /// highest rate as its nominal rate.
    #[test]
    fn a_film_is_paced_by_its_timestamps() {
        let _shared = shared();
        let folder = folder();
        let select = "select='if(lt(t,1),1,not(mod(n,10)))'";
        for name in ["film.mkv", "film.mp4"] {
            let path = folder.path().join(name);
            let input = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=20", "-t", "3"];
            let output = ["-vf", select, "-vsync", "vfr", "-c:v", "mpeg4"];
            ffmpeg(&[&input[..], &output].concat(), &path);
            let options = SourceOptions { once: true, ..SourceOptions::default() };
            let played = play(&mut open(path.to_str().expect("plain"), &options));
            assert_eq!(played.len(), 24, "{name}");
            let steps = |range: std::ops::Range<usize>| -> Vec<Duration> {
                let pair = |i: usize| played[i + 1].captured - played[i].captured;
                range.map(pair).collect()
            };
            // A busy machine only lengthens steps.
            let quick: Duration = steps(0..20).iter().sum();
            let slow: Duration = steps(20..23).iter().sum();
            assert!(quick >= Duration::from_millis(950), "{name}: {quick:?}");
            assert!(slow >= Duration::from_millis(1450), "{name}: {slow:?}");
        }
    }

    #[test]
    fn a_requested_rate_overrides_the_timestamps() {
        let _shared = shared();
        let folder = folder();
        let path = folder.path().join("film.mkv");
        let input = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=1", "-t", "5"];
        ffmpeg(&[&input[..], &["-c:v", "mpeg4"]].concat(), &path);
        let options = SourceOptions { once: true, fps: Some(200.0), ..SourceOptions::default() };
        let played = play(&mut open(path.to_str().expect("plain"), &options));
        assert_eq!(played.len(), 5);
        let step = played[1].captured - played[0].captured;
        let interval = Duration::from_millis(5);
        assert_eq!(step.as_nanos() % interval.as_nanos(), 0, "{step:?}: a multiple of 5 ms");
    }

    #[test]
    fn non_square_pixels_are_scaled_to_square() {
        let _shared = shared();
        let folder = folder();
        for (name, aspect, expected) in [
            ("wide.mp4", "2", Size { width: 128, height: 48 }),
            ("tall.mkv", "1/2", Size { width: 64, height: 96 }),
            ("square.mp4", "1", Size { width: 64, height: 48 }),
        ] {
            let path = folder.path().join(name);
            let input = format!("testsrc=size=64x48:rate=10,setsar={aspect}");
            ffmpeg(&["-f", "lavfi", "-i", &input, "-frames:v", "2", "-c:v", "mpeg4"], &path);
            let options = SourceOptions { once: true, ..SourceOptions::default() };
            let mut source = open(path.to_str().expect("plain"), &options);
            assert_eq!(
                (source.info().width, source.info().height),
                (expected.width, expected.height)
            );
            for captured in play(&mut source) {
                let Picture::Image(image) = captured.picture else { panic!("pixels") };
                assert_eq!(image.size(), expected, "{name}");
            }
        }
    }

    /// Serves `answers`, one per connection, then stops listening.
    fn serve(answers: Vec<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for answer in answers {
                let Ok((stream, _)) = listener.accept() else { return };
                read_request(&stream);
                // The client may close the connection early.
                let _ = (&stream).write_all(&answer);
            }
        });
        format!("http://{addr}/stream")
    }

    fn read_request(stream: &TcpStream) {
        let lines = BufReader::new(stream).lines();
        for _ in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {}
    }

    /// The stream of a network camera: JPEGs in a multipart response without a final boundary.
    fn multipart(jpegs: usize) -> Vec<u8> {
        let folder = folder();
        let path = folder.path().join("one.jpg");
        let input = ["-f", "lavfi", "-i", "testsrc=size=64x48", "-frames:v", "1"];
        ffmpeg(&input, &path);
        let jpeg = fs::read(path).expect("made");
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n";
        let part = format!(
            "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            jpeg.len()
        );
        let part = [part.as_bytes(), &jpeg, b"\r\n"].concat();
        [head.as_bytes(), &part.repeat(jpegs), b"--frame\r\n"].concat()
    }

    #[test]
    fn a_network_camera_is_reconnected() {
        let _shared = shared();
        let url = serve(vec![multipart(20), multipart(20), multipart(20)]);
        let mut source = open(&url, &SourceOptions::default());
        assert_eq!((source.info().width, source.info().height), (64, 48));
        // Only the newest picture is kept, so numbers may be missed. The third connection begins at
        // about 40.
        let mut number = None;
        let began = clock::now();
        while number < Some(41) {
            let captured = source.next(&NEVER_STOP).expect("no error").expect("no end");
            number = Some(captured.number);
            assert!(clock::now() - began < Duration::from_secs(60), "{number:?}");
        }
    }

    #[test]
    fn a_film_from_a_server_is_played_at_its_own_rate() {
        let _shared = shared();
        let folder = folder();
        let path = folder.path().join("film.mkv");
        let input = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=10", "-t", "1"];
        ffmpeg(&[&input[..], &["-c:v", "mpeg4"]].concat(), &path);
        let film = fs::read(path).expect("made");
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: video/x-matroska\r\nContent-Length: {}\r\n\r\n",
            film.len()
        );
        let url = serve(vec![[head.as_bytes(), &film].concat()]);
        let options = SourceOptions { once: true, ..SourceOptions::default() };
        let played = play(&mut open(&url, &options));
        let (first, last) = (&played[0], &played[played.len() - 1]);
        assert_eq!(last.number, 9);
        let took = last.captured - first.captured;
        assert!(
            took >= Duration::from_millis(850_u64.saturating_sub(100 * first.number)),
            "{took:?}"
        );
    }

    #[test]
    fn an_unreachable_url_is_reported_without_its_password() {
        let _shared = shared();
        let addr = format!("127.0.0.1:{}", free_port());
        let outcome =
            Program::spawn(&mut sender(&format!("http://me:secret@{addr}/"), &[])).finish();
        outcome.expect_failure(1, &[&format!("http://{addr}/"), "does not answer", "--source -"]);
        assert!(!outcome.stderr.contains("secret"), "{}", outcome.stderr);
        // On a busy machine FFmpeg takes so long that the user is told.
        let lines = outcome.stderr.lines();
        let others = lines.filter(|line| !line.contains("nothing received from")).count();
        assert_eq!(others, 1, "FFmpeg is silent: {}", outcome.stderr);
    }

    /// The second attempt finds a server that sends.
    #[test]
    fn a_silent_url_is_reported_once_and_retried() {
        let _shared = shared();
        let pictures = multipart(50);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://me:secret@{}/", listener.local_addr().expect("bound"));
        let program = Program::spawn(&mut sender(&url, &[]));
        let (silent, _) = listener.accept().expect("it connects");
        let line = program.wait_for("nothing received from http://127.0.0.1:");
        assert!(line.contains("check that its sender is running"), "{line}");
        let (stream, _) = listener.accept().expect("it connects again");
        read_request(&stream);
        (&stream).write_all(&pictures).expect("it reads");
        program.wait_for("NOT ENCRYPTED");
        program.interrupt();
        let said = program.finish().stderr;
        assert_eq!(said.matches("nothing received from").count(), 1, "{said}");
        drop(silent);
    }

    #[test]
    fn one_signal_ends_the_wait_for_missing_datagrams() {
        let _shared = shared();
        let url = format!("udp://127.0.0.1:{}", free_port());
        let program = Program::spawn(&mut sender(&url, &[]));
        program.wait_for(&format!("nothing received from {url} yet"));
        program.interrupt();
        assert_eq!(program.finish().stderr.lines().count(), 1);
    }

    /// A server that accepts and then sends nothing, or stalls after some pictures.
    #[test]
    fn one_signal_ends_the_wait_for_a_silent_server() {
        let _shared = shared();
        for pictures in [None, Some(multipart(5))] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let url = format!("http://{}/", listener.local_addr().expect("bound"));
            let program = Program::spawn(&mut sender(&url, &["-v"]));
            let (stream, _) = listener.accept().expect("it connects");
            read_request(&stream);
            if let Some(pictures) = pictures {
                (&stream).write_all(&pictures).expect("it reads");
                program.wait_for("NOT ENCRYPTED");
            }
            program.interrupt();
            program.finish();
        }
    }
}
