//! The windows, and what is drawn over their pictures.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::{
    app::{
        process::descriptors::{ensure_free, with_remedy},
        terminal::messages::Messages,
    },
    cli::args::{Show, SinkArgs},
    clock,
    video::{
        image::Image,
        jpeg::Concealed,
        sink::{
            screen::Screen,
            window::{Action, Overlay, Pane, WindowError, WindowSpec},
        },
    },
};

/// The windows of a verb; none if they are not wanted or have failed.
#[derive(Debug)]
pub(crate) struct Display {
    screen: Option<Screen>,
    /// Why the windows were lost, until this is reported.
    lost: Option<WindowError>,
    overlay: Overlay,
    caption_until: Option<Instant>,
}

impl Display {
    /// Opens `windows`, if they are wanted. Reports why they cannot be opened.
    pub(crate) fn open(windows: &[WindowSpec], sink: &SinkArgs, messages: &Messages) -> Self {
        let is_wanted = !matches!(sink.show, Some(Show::None | Show::Decode));
        let screen = is_wanted.then(|| open_screen(windows, messages)).flatten();
        Self { screen, lost: None, overlay: Overlay::default(), caption_until: None }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.screen.is_some()
    }

    /// Shows the peer's picture. Returns the time at which the window took it; `None` without a
    /// window.
    pub(crate) fn show(&mut self, image: &Image) -> Option<Instant> {
        let screen = self.screen.as_mut()?;
        let result = screen.show(Pane::Peer, image, &self.overlay);
        self.drop_if_failed(result);
        Some(clock::now())
    }

    /// Shows a picture of which some strips are new.
    pub(crate) fn show_concealed(&mut self, image: &Image, concealed: Concealed) {
        let Concealed { shown, of } = concealed;
        self.overlay.statistics.push(format!("concealed: {shown} of {of} strips are new"));
        self.show(image);
        self.overlay.statistics.pop();
    }

    /// Shows our own picture in the self view.
    pub(crate) fn show_own(&mut self, image: &Image) {
        if let Some(screen) = &mut self.screen {
            let result = screen.show(Pane::SelfView, image, &Overlay::default());
            self.drop_if_failed(result);
        }
    }

    /// Shows a card instead of the picture. `lines` is called only if a window is open.
    pub(crate) fn show_card(&mut self, lines: impl FnOnce() -> Vec<String>) {
        if let Some(screen) = &mut self.screen {
            let result = screen.show_card(Pane::Peer, &lines());
            self.drop_if_failed(result);
        }
    }

    /// Shows `text` over the picture for [`CAPTION_TIME`].
    pub(crate) fn caption(&mut self, text: String) {
        self.overlay.caption = Some(text);
        self.caption_until = Some(clock::now() + CAPTION_TIME);
    }

    /// Sets the lines of the statistics overlay.
    pub(crate) fn set_statistics(&mut self, lines: Vec<String>) {
        self.overlay.statistics = lines;
    }

    /// Reports a lost window, once.
    pub(crate) fn report_loss(&mut self, messages: &Messages) {
        if let Some(error) = self.lost.take() {
            messages.info(&format!("{error}; continuing without it"));
        }
    }

    /// Handles keys and captions. Returns true if the user wants to quit.
    pub(crate) fn pump(&mut self, now: Instant, messages: &Messages) -> bool {
        if self.caption_until.is_some_and(|until| until <= now) {
            (self.overlay.caption, self.caption_until) = (None, None);
        }
        let Some(screen) = &mut self.screen else { return false };
        let actions = match screen.pump() {
            Ok(actions) => actions,
            Err(error) => {
                self.drop_if_failed(Err(error));
                return false;
            }
        };
        let mut quit = false;
        for action in actions {
            match action {
                Action::Quit => quit = true,
                Action::Saved(path) => messages.info(&format!("saved {}", path.display())),
                Action::SaveFailed(why) => messages.info(&format!("no snapshot: {why}")),
                _ => {}
            }
        }
        quit
    }

    /// Drops the screen if an operation on it has failed.
    fn drop_if_failed(&mut self, result: Result<(), WindowError>) {
        if let Err(error) = result {
            self.screen = None;
            self.lost = Some(error);
        }
    }
}

fn open_screen(windows: &[WindowSpec], messages: &Messages) -> Option<Screen> {
    let opened = ensure_window_descriptors().and_then(|()| Ok(Screen::open(windows)?));
    if let Err(why) = &opened {
        messages.info(&format!("no window: {why}"));
    }
    opened.ok()
}

/// Checks for free descriptors, since a window toolkit that lacks one ends its process. The check is
/// made in this process, because the toolkit's process has the same limit.
fn ensure_window_descriptors() -> Result<()> {
    ensure_free(WINDOW_DESCRIPTORS).map_err(|error| anyhow!(with_remedy(format!("{error:#}"))))
}

/// A window of Qt 5.15 on X11 keeps up to five descriptors open, and needs more while it starts.
const WINDOW_DESCRIPTORS: usize = 10;

/// How long a line of chat stays over the picture.
const CAPTION_TIME: Duration = Duration::from_secs(6);
