//! Windows: their content, and the user's actions.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Whose picture a window shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pane {
    /// The received video.
    Peer,
    /// Our own video, mirrored until `m` is pressed.
    SelfView,
}

/// A window to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// The window's title.
    pub title: String,
    /// The video that it shows.
    pub pane: Pane,
}

/// Text drawn over a picture; the picture itself is not changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Overlay {
    /// Lines at the top left, drawn while statistics are switched on.
    pub statistics: Vec<String>,
    /// Text at the bottom, wrapped and always drawn.
    pub caption: Option<String>,
}

/// A user's action in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why no window can be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoDisplay {
    /// No X display is named.
    #[error("there is no display: DISPLAY is not set")]
    Unset,
    /// The X display that is named cannot be opened.
    #[error("cannot open the display {display}: {reason}")]
    Unreachable {
        /// The value of `DISPLAY`.
        display: String,
        /// The error, in one line.
        reason: String,
    },
    /// Only a Wayland display answers, and not every build of the toolkit supports Wayland.
    #[error(
        "only a Wayland display answers: enable Xwayland, or set QT_QPA_PLATFORM=wayland (Qt) or \
         GDK_BACKEND=wayland (GTK)"
    )]
    OnlyWayland,
}

/// Why a window cannot be opened or shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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
    /// OpenCV or the window toolkit cannot be started.
    #[error("{0}")]
    OpenCv(String),
    /// OpenCV's process has ended.
    #[error("the window is gone: {0}")]
    Ended(String),
}
