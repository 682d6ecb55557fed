//! The windows of this program, in [OpenCV's process](crate::video::opencv_process).

use std::time::Duration;

use super::window::{Action, NoDisplay, Overlay, Pane, WindowError, WindowSpec};
use crate::video::{
    image::{Image, PixelFormat},
    opencv_process::{OpenCvError, OpenCvProcess, Reply, Request},
};

/// Open windows. They close when this is dropped.
#[derive(Debug)]
pub struct Screen {
    process: OpenCvProcess,
    /// Whether the user has frozen the picture.
    frozen: bool,
}

impl Screen {
    /// Opens the windows, without content yet.
    pub fn open(specs: &[WindowSpec]) -> Result<Self, WindowError> {
        Self::start(&Request::OpenWindows(specs.to_vec()))
    }

    /// Checks whether windows can be opened.
    pub fn check() -> Result<(), WindowError> {
        Self::start(&Request::CheckWindows).map(drop)
    }

    /// Shows a picture, unless the user has frozen it. The image itself is not changed.
    pub fn show(&mut self, pane: Pane, image: &Image, over: &Overlay) -> Result<(), WindowError> {
        if self.frozen {
            return Ok(());
        }
        let converted = match image.format {
            PixelFormat::Bgr => None,
            _ => Some(image.to_bgr()),
        };
        let shown = converted.as_ref().unwrap_or(image);
        let (width, height) = (shown.width as u32, shown.height as u32);
        let request = Request::Show { pane, width, height, overlay: over.clone() };
        self.call(&request, &shown.data).map(drop)
    }

    /// Shows a card with these lines instead of a picture. Does nothing if they are already shown.
    pub fn show_card(&mut self, pane: Pane, lines: &[String]) -> Result<(), WindowError> {
        self.call(&Request::ShowCard { pane, lines: lines.to_vec() }, &[]).map(drop)
    }

    /// Processes window events, and returns the user's actions.
    ///
    /// Waits at most 1 ms. The toolkit also paints here, which takes a few milliseconds without a
    /// graphics card.
    pub fn pump(&mut self) -> Result<Vec<Action>, WindowError> {
        let Reply::Actions(actions) = self.call(&Request::Pump, &[])? else {
            return Ok(Vec::new());
        };
        for action in &actions {
            if let Action::ToggledFreeze(frozen) = action {
                self.frozen = *frozen;
            }
        }
        Ok(actions)
    }

    fn start(request: &Request) -> Result<Self, WindowError> {
        if cfg!(target_os = "linux") && !names_display() {
            return Err(NoDisplay::Unset.into());
        }
        let mut process = OpenCvProcess::start().map_err(not_started)?;
        match process.call_within(START_TIMEOUT, request).map_err(not_started)? {
            Reply::WindowFailed(error) => Err(error),
            _ => Ok(Self { process, frozen: false }),
        }
    }

    fn call(&mut self, request: &Request, data: &[u8]) -> Result<Reply, WindowError> {
        match self.process.call(request, data) {
            Ok((Reply::WindowFailed(error), _)) => Err(error),
            Ok((reply, _)) => Ok(reply),
            Err(error) => Err(WindowError::Ended(error.to_string())),
        }
    }
}

/// The error for windows that cannot be opened. A toolkit that does not start ends its process.
fn not_started(error: OpenCvError) -> WindowError {
    match error {
        OpenCvError::Ended(cause) => {
            WindowError::OpenCv(format!("the window toolkit does not start: {cause}"))
        }
        other => WindowError::OpenCv(other.to_string()),
    }
}

/// Whether the environment names a display. If not, OpenCV need not be loaded to find none.
fn names_display() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

/// A toolkit on a slow machine takes a second to start, and more on a busy one.
const START_TIMEOUT: Duration = Duration::from_secs(30);
