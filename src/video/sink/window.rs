//! Windows: what they are asked to show, and what a person does in them.

#[cfg(feature = "opencv")]
pub use super::highgui::Screen;
use std::path::PathBuf;

/// Whose picture a window shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What is received.
    Peer,
    /// What is sent: as in a mirror, until `m` is pressed.
    SelfView,
}

/// A window to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowSpec {
    /// What its frame says.
    pub title: String,
    /// What it shows.
    pub role: Role,
}

/// What is drawn over a picture, never into it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlay {
    /// Lines at the top left, drawn while the statistics are switched on.
    pub statistics: Vec<String>,
    /// A line at the foot, drawn always.
    pub caption: Option<String>,
}

/// What a person did in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `q`, Esc, or a window was closed.
    Quit,
    /// `i`: whether the statistics are drawn now.
    ToggledOverlay(bool),
    /// `space`: whether the picture stands still now.
    ToggledFreeze(bool),
    /// `s`: a snapshot was written.
    Saved(PathBuf),
    /// `s`: a snapshot could not be written, and why, in one line.
    SaveFailed(String),
}

/// Why a window cannot be opened or shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// There is no display.
    #[error("{0}")]
    NoDisplay(String),
    /// The toolkit failed.
    #[error("cannot show a window: {0}")]
    Toolkit(String),
}

/// Windows, of which this build has none.
#[cfg(not(feature = "opencv"))]
#[derive(Debug)]
pub enum Screen {}

#[cfg(not(feature = "opencv"))]
#[expect(missing_docs, reason = "the same as the one with windows, and never called")]
impl Screen {
    pub fn open(_: &[WindowSpec]) -> Result<Self, WindowError> {
        super::display::available().map_err(WindowError::NoDisplay)?;
        unreachable!("no display is available without windows")
    }

    pub fn show(
        &mut self,
        _: Role,
        _: &crate::video::image::Image,
        _: &Overlay,
    ) -> Result<(), WindowError> {
        match *self {}
    }

    pub fn notice(&mut self, _: Role, _: &[String]) -> Result<(), WindowError> {
        match *self {}
    }

    pub fn pump(&mut self) -> Vec<Action> {
        match *self {}
    }
}
