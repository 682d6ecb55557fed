//! Windows: their content, and the user's actions.

#[cfg(feature = "opencv")]
pub use super::highgui::Screen;

use std::path::PathBuf;

use super::display::NoDisplay;

/// Whose picture a window shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    /// The received video.
    Peer,
    /// Our own video, mirrored until `m` is pressed.
    SelfView,
}

/// A window to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowSpec {
    /// The window's title.
    pub title: String,
    /// The video that it shows.
    pub pane: Pane,
}

/// Text drawn over a picture; the picture itself is not changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlay {
    /// Lines at the top left, drawn while statistics are switched on.
    pub statistics: Vec<String>,
    /// A line at the bottom, always drawn.
    pub caption: Option<String>,
}

/// A user's action in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `q`, Esc, or a window was closed.
    Quit,
    /// `i`: whether the statistics are shown now.
    ToggledStatistics(bool),
    /// `space`: whether the picture is frozen now.
    ToggledFreeze(bool),
    /// `s`: a snapshot was written.
    Saved(PathBuf),
    /// `s`: why a snapshot could not be written, in one line.
    SaveFailed(String),
}

/// Why a window cannot be opened or shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// There is no display.
    #[error(transparent)]
    NoDisplay(#[from] NoDisplay),
    /// The display has closed its connections.
    #[error("the window is gone: the connection to the display is lost ({0})")]
    DisplayGone(String),
    /// The toolkit failed.
    #[error("cannot show a window: {0}")]
    Toolkit(String),
}

/// No windows in this build.
#[cfg(not(feature = "opencv"))]
#[derive(Debug)]
pub enum Screen {}

#[cfg(not(feature = "opencv"))]
#[cfg_attr(
    feature = "internals",
    expect(missing_docs, reason = "the same as the one with windows, and never called")
)]
impl Screen {
    pub fn open(_: &[WindowSpec]) -> Result<Self, WindowError> {
        super::display::available()?;
        unreachable!("no display is available without windows")
    }

    pub fn show(
        &mut self,
        _: Pane,
        _: &crate::video::image::Image,
        _: &Overlay,
    ) -> Result<(), WindowError> {
        match *self {}
    }

    pub fn show_card(&mut self, _: Pane, _: &[String]) -> Result<(), WindowError> {
        match *self {}
    }

    pub fn pump(&mut self) -> Result<Vec<Action>, WindowError> {
        match *self {}
    }
}
