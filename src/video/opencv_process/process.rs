//! A running `udpchat-opencv`.

use std::{
    collections::VecDeque,
    env,
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    OpenCvError,
    message::{MessageError, Reply, Request, VERSION, read_message, write_message},
};

/// A running `udpchat-opencv`. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::video) struct OpenCvProcess {
    /// `None`: the process has ended.
    pipes: Option<Pipes>,
    last_lines: LastLines,
}

/// The last lines that the process wrote to standard error.
#[derive(Debug)]
enum LastLines {
    /// Returned when the process has ended.
    Awaited(JoinHandle<String>),
    Read(String),
}

#[derive(Debug)]
struct Pipes {
    requests: ChildStdin,
    replies: ChildStdout,
}

impl OpenCvProcess {
    /// Starts the process without waiting for it to load OpenCV.
    pub(in crate::video) fn start() -> Result<Self, OpenCvError> {
        let program = program()?;
        let mut command = Command::new(&program);
        command.arg(VERSION);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if !log::log_enabled!(log::Level::Debug) && env::var_os(FFMPEG_LOG_LEVEL).is_none() {
            // FFmpeg logs each damaged picture, which is useful only for debugging.
            command.env(FFMPEG_LOG_LEVEL, FFMPEG_QUIET);
        }
        // Ctrl-C signals the whole foreground process group. In a group of its own, this process
        // runs until `udpchat` has finished with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let failed = |error| OpenCvError::Start { program: program.clone(), error };
        let mut child = command.spawn().map_err(failed)?;
        let (Some(requests), Some(replies), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three are pipes")
        };
        #[cfg(target_os = "linux")]
        enlarge(&requests, &replies);
        let reader = thread::Builder::new()
            .name("opencv".into())
            .spawn(move || read_lines(stderr, child))
            .map_err(failed)?;
        Ok(Self {
            pipes: Some(Pipes { requests, replies }),
            last_lines: LastLines::Awaited(reader),
        })
    }

    /// Sends a request, and waits for the reply. If none comes within `limit`, the process is
    /// ended.
    pub(in crate::video) fn call_within(
        &mut self,
        limit: Duration,
        request: &Request,
    ) -> Result<Reply, OpenCvError> {
        self.exchange(Some(limit), request, &[]).map(|(reply, _)| reply)
    }

    /// Sends a request, and waits for the reply.
    pub(in crate::video) fn call(
        &mut self,
        request: &Request,
        data: &[u8],
    ) -> Result<(Reply, Vec<u8>), OpenCvError> {
        self.exchange(None, request, data)
    }

    fn exchange(
        &mut self,
        limit: Option<Duration>,
        request: &Request,
        data: &[u8],
    ) -> Result<(Reply, Vec<u8>), OpenCvError> {
        let Some(pipes) = &mut self.pipes else { return Err(self.ended()) };
        let sent = write_message(&mut pipes.requests, request, data);
        if let Some(limit) = limit.filter(|_| sent.is_ok())
            && !pipes.is_readable_within(limit)
        {
            self.pipes = None;
            return Err(OpenCvError::Ended(format!("no answer within {} s", limit.as_secs())));
        }
        let reply = sent.map_err(MessageError::from);
        reply.and_then(|()| read_message(&mut pipes.replies)).map_err(|error| {
            log::debug!("udpchat-opencv: {error}");
            self.ended()
        })
    }

    /// Ends the process, and returns why it has ended.
    fn ended(&mut self) -> OpenCvError {
        self.pipes = None;
        let lines = match std::mem::replace(&mut self.last_lines, LastLines::Read(String::new())) {
            LastLines::Awaited(reader) => reader.join().unwrap_or_default(),
            LastLines::Read(lines) => lines,
        };
        let error = OpenCvError::from_output(&lines);
        self.last_lines = LastLines::Read(lines);
        error
    }
}

impl Pipes {
    /// Waits until there is a reply, or the process has ended. Returns false after `limit`.
    #[cfg(unix)]
    fn is_readable_within(&self, limit: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let limit =
            Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        let mut descriptors = [PollFd::new(&self.replies, PollFlags::IN)];
        // An interrupted wait counts as success: the reply is then awaited without a limit.
        !poll(&mut descriptors, Some(&limit)).is_ok_and(|count| count == 0)
    }

    /// Without a limit on this platform.
    #[cfg(not(unix))]
    fn is_readable_within(&self, _: Duration) -> bool {
        true
    }
}

/// Logs what the process writes to standard error. Returns the last lines when it has ended.
fn read_lines(stderr: ChildStderr, mut child: Child) -> String {
    let mut last_lines = VecDeque::new();
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while stderr.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        log::debug!("OpenCV: {text}");
        if last_lines.len() == MAX_LAST_LINES {
            last_lines.pop_front();
        }
        last_lines.push_back(text);
        line.clear();
    }
    if let Ok(status) = child.wait() {
        log::debug!("udpchat-opencv has ended: {status}");
    }
    Vec::from(last_lines).join("\n")
}

/// Lets each pipe hold a good part of a picture, so that both sides wake up less often. 1 MiB is
/// the default limit for unprivileged users (`pipe-max-size`).
#[cfg(target_os = "linux")]
fn enlarge(requests: &ChildStdin, replies: &ChildStdout) {
    // A failure costs only speed.
    let _ = rustix::pipe::fcntl_setpipe_size(requests, PIPE_LEN);
    let _ = rustix::pipe::fcntl_setpipe_size(replies, PIPE_LEN);
}

/// The program `udpchat-opencv`, in the folder of this program.
fn program() -> Result<PathBuf, OpenCvError> {
    let own = env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("")).to_owned();
    // Cargo puts tests and examples into a folder beside the programs.
    let is_below =
        ["deps", "examples"].map(OsStr::new).contains(&folder.file_name().unwrap_or_default());
    let folder = folder.parent().filter(|_| is_below).map(Path::to_owned).unwrap_or(folder);
    let program = folder.join(PROGRAM).with_extension(env::consts::EXE_EXTENSION);
    if program.is_file() { Ok(program) } else { Err(OpenCvError::Missing { folder }) }
}

const PROGRAM: &str = "udpchat-opencv";

/// The environment variable from which OpenCV takes `FFmpeg`'s log level.
const FFMPEG_LOG_LEVEL: &str = "OPENCV_FFMPEG_LOGLEVEL";

/// `AV_LOG_QUIET`.
const FFMPEG_QUIET: &str = "-8";

/// Enough for the message of a library that ends the process.
const MAX_LAST_LINES: usize = 32;

#[cfg(target_os = "linux")]
const PIPE_LEN: usize = 1 << 20;
