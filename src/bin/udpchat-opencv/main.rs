//! The program `udpchat-opencv`: OpenCV for `udpchat`, which starts it when it opens a camera, a
//! video file, an image, a URL or a window.
//!
//! It reads requests from standard input and writes replies to standard output. It ends when
//! `udpchat` does, since standard input is then closed.

mod capture;
mod display;
mod image;
#[cfg(target_os = "linux")]
mod key_watch;
mod keys;
mod orientation;
mod overlay;
mod screen;

use std::{
    io,
    process::{ExitCode, exit},
    sync::mpsc::{Receiver, channel},
    thread,
};

use opencv::core::{LogLevel, set_log_level};
use udpchat::opencv_process::{Reply, Request, VERSION, WindowError, read_message, write_message};

use capture::Capture;
use screen::{Pixels, Screen};

fn main() -> ExitCode {
    let version = std::env::args_os().nth(1);
    if version.is_none_or(|version| version != VERSION) {
        eprintln!(
            "udpchat-opencv {VERSION} is run by udpchat {VERSION}, not directly; if udpchat has \
             started it, reinstall both programs"
        );
        return ExitCode::from(2);
    }
    // A failure only leaves OpenCV's log on. Errors that matter are returned.
    let _ = set_log_level(LogLevel::LOG_LEVEL_SILENT);
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udpchat-opencv: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers requests until `udpchat` ends. Windows must be used on the main thread.
fn serve() -> io::Result<()> {
    let mut replies = own_stdout()?;
    let requests = read_requests()?;
    let mut server = Server::default();
    for (request, data) in requests {
        let (reply, data) = server.answer(request, data);
        write_message(&mut replies, &reply, &data)?;
    }
    Ok(())
}

/// Standard output, for replies only: what a library prints goes to standard error.
fn own_stdout() -> io::Result<std::fs::File> {
    use std::os::fd::AsFd;
    let own = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(own.into())
}

/// Reads requests on a thread, so that the process ends with `udpchat` even while a camera or a
/// server is silent.
fn read_requests() -> io::Result<Receiver<(Request, Vec<u8>)>> {
    let (sender, requests) = channel();
    let read = move || {
        let mut input = io::stdin().lock();
        while let Ok(request) = read_message(&mut input) {
            if sender.send(request).is_err() {
                break;
            }
        }
        exit(0);
    };
    thread::Builder::new().name("requests".into()).spawn(read)?;
    Ok(requests)
}

/// The open capture and the open windows.
#[derive(Default)]
struct Server {
    capture: Option<Capture>,
    screen: Option<Screen>,
}

impl Server {
    fn answer(&mut self, request: Request, data: Vec<u8>) -> (Reply, Vec<u8>) {
        match request {
            Request::Open(input) => {
                // Closed first: a camera can be open only once.
                self.capture = None;
                self.capture = Capture::open(&input);
                let opened = self.capture.as_ref();
                bare(opened.map_or(Reply::Nothing, |capture| Reply::Opened(capture.properties())))
            }
            Request::Read { scale_to } => {
                picture(self.capture.as_mut().map_or(Ok(None), |capture| capture.read(scale_to)))
            }
            Request::DecodeImage { gray, turns, scale_to } => {
                picture(image::decode(&data, gray, turns, scale_to))
            }
            Request::FindCameras => bare(Reply::Cameras(capture::find_cameras())),
            Request::CheckWindows => done(screen::check()),
            Request::OpenWindows(specs) => {
                done(Screen::open(&specs).map(|screen| self.screen = Some(screen)))
            }
            Request::Show { pane, width, height, overlay } => {
                let picture = Pixels { width: width as i32, height: height as i32, data };
                done(self.on_screen(|screen| screen.show(pane, picture, &overlay)))
            }
            Request::ShowCard { pane, lines } => {
                done(self.on_screen(|screen| screen.show_card(pane, &lines)))
            }
            Request::Pump => match self.on_screen(Screen::pump) {
                Ok(actions) => bare(Reply::Actions(actions)),
                Err(error) => bare(Reply::WindowFailed(error)),
            },
        }
    }

    fn on_screen<T: Default>(
        &mut self,
        work: impl FnOnce(&mut Screen) -> Result<T, WindowError>,
    ) -> Result<T, WindowError> {
        self.screen.as_mut().map_or_else(|| Ok(T::default()), work)
    }
}

fn bare(reply: Reply) -> (Reply, Vec<u8>) {
    (reply, Vec::new())
}

fn done(result: Result<(), WindowError>) -> (Reply, Vec<u8>) {
    bare(result.map_or_else(Reply::WindowFailed, |()| Reply::Done))
}

fn picture(result: opencv::Result<Option<image::Read>>) -> (Reply, Vec<u8>) {
    match result {
        Ok(Some((picture, data))) => (Reply::Picture(picture), data),
        Ok(None) => bare(Reply::Nothing),
        Err(error) => bare(Reply::Failed(one_line(&error))),
    }
}

/// OpenCV's message, without line breaks.
fn one_line(error: &opencv::Error) -> String {
    error.message.split_whitespace().collect::<Vec<_>>().join(" ")
}
