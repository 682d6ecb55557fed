//! Windows through OpenCV's highgui.
//!
//! They must be used on the main thread only. highgui reports keys, but not in which window they
//! were pressed.
//!
//! highgui's toolkit ends the whole process when it finds its connection to the display broken.
//! Before each use, we therefore check that our own connection is still open. Once it has closed,
//! the toolkit is not used again. A display that goes away while the toolkit paints still ends the
//! process.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use opencv::{
    core::{self, Mat, MatTraitConst, ToInputArray, Vec3b},
    highgui, imgcodecs,
};

use udpchat::opencv_process::{Action, Overlay, Pane, WindowError, WindowSpec, clock};

use crate::{display, keys::Keys, one_line, overlay};

/// The windows.
#[derive(Debug)]
pub(crate) struct Screen {
    windows: Vec<Window>,
    statistics: bool,
    frozen: bool,
    keys: Keys,
    saves: (Sender<Action>, Receiver<Action>),
}

impl Screen {
    /// Opens the windows, without content yet.
    pub(crate) fn open(specs: &[WindowSpec]) -> Result<Self, WindowError> {
        display::available()?;
        let windows = specs.iter().map(Window::open).collect::<Result<Vec<_>, _>>()?;
        if let [_, _, ..] = windows[..] {
            windows.iter().for_each(Window::place);
        }
        let keys = Keys::new(specs.iter().map(|spec| spec.title.clone()).collect());
        Ok(Self { windows, statistics: false, frozen: false, keys, saves: channel() })
    }

    /// Shows a picture, unless the user has frozen it.
    pub(crate) fn show(
        &mut self,
        pane: Pane,
        picture: Pixels,
        over: &Overlay,
    ) -> Result<(), WindowError> {
        if self.frozen {
            return Ok(());
        }
        self.check_display()?;
        let statistics = self.statistics;
        let Some(window) = self.window(pane) else { return Ok(()) };
        window.show(picture, over, statistics).map_err(|error| toolkit(&error))
    }

    /// Shows a card with these lines instead of a picture. Does nothing if they are already shown.
    pub(crate) fn show_card(&mut self, pane: Pane, lines: &[String]) -> Result<(), WindowError> {
        self.check_display()?;
        let Some(window) = self.window(pane) else { return Ok(()) };
        window.show_card(lines).map_err(|error| toolkit(&error))
    }

    /// Processes window events, and returns the user's actions.
    ///
    /// Waits at most 1 ms. The toolkit also paints here, which takes a few milliseconds without a
    /// graphics card.
    pub(crate) fn pump(&mut self) -> Result<Vec<Action>, WindowError> {
        self.check_display()?;
        let polled = highgui::poll_key().ok().filter(|&key| key != NO_KEY);
        let polled = polled.map(|key| (key & 0xFF) as u8);
        let mut actions: Vec<_> = self.saves.1.try_iter().collect();
        for key in self.keys.take(clock::now(), polled) {
            actions.extend(self.act_on(key));
        }
        self.check_display()?;
        if self.windows.iter_mut().any(Window::was_closed) {
            actions.push(Action::Quit);
        }
        Ok(actions)
    }

    fn check_display(&mut self) -> Result<(), WindowError> {
        self.keys.display_loss().map_or(Ok(()), |why| Err(WindowError::DisplayGone(why)))
    }

    fn act_on(&mut self, key: u8) -> Option<Action> {
        match key.to_ascii_lowercase() {
            b'q' | ESCAPE => return Some(Action::Quit),
            b'f' => self.windows.first_mut()?.toggle_full_screen(),
            b'm' => self.mirrored()?.mirror ^= true,
            b'i' => {
                self.statistics ^= true;
                return Some(Action::ToggledStatistics(self.statistics));
            }
            b' ' => {
                self.frozen ^= true;
                return Some(Action::ToggledFreeze(self.frozen));
            }
            b's' => self.save(),
            _ => {}
        }
        None
    }

    /// The window that `m` mirrors: the self view, if there is one.
    fn mirrored(&mut self) -> Option<&mut Window> {
        let own = self.windows.iter().position(|window| window.pane == Pane::SelfView);
        self.windows.get_mut(own.unwrap_or(0))
    }

    /// Saves the picture of the first window on a thread, since compressing takes longer than a
    /// frame interval.
    fn save(&self) {
        let sender = self.saves.0.clone();
        let picture = self.windows.first().and_then(|window| window.picture.clone());
        let save = move || {
            let action = match picture {
                Some(picture) => write_png(&picture),
                None => Action::SaveFailed("there is no picture to save yet".to_owned()),
            };
            // Fails only if the windows have been closed in the meantime.
            let _ = sender.send(action);
        };
        if let Err(error) = thread::Builder::new().name("snapshot".into()).spawn(save) {
            let _ = self.saves.0.send(Action::SaveFailed(error.to_string()));
        }
    }

    fn window(&mut self, pane: Pane) -> Option<&mut Window> {
        self.windows.iter_mut().find(|window| window.pane == pane)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.check_display().is_ok() {
            // At the end of the program, a failure does not matter.
            let _ = highgui::destroy_all_windows();
        }
    }
}

/// BGR pixels without padding.
#[derive(Debug, Clone)]
pub(crate) struct Pixels {
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) data: Vec<u8>,
}

/// Checks whether windows can be opened. If the toolkit may end the process even though a display
/// answers, opens a window to find out.
pub(crate) fn check() -> Result<(), WindowError> {
    display::available()?;
    if display::is_in_doubt() {
        Screen::open(&[WindowSpec { title: "udpchat".into(), pane: Pane::Peer }])?;
    }
    Ok(())
}

#[derive(Debug)]
struct Window {
    /// The name in highgui, which is also the title.
    name: String,
    pane: Pane,
    mirror: bool,
    full_screen: bool,
    /// Whether it has been visible: before that it cannot have been closed.
    was_visible: bool,
    /// The last picture, as received.
    picture: Option<Pixels>,
    /// The lines of the card, while one is shown.
    card: Option<Vec<String>>,
}

impl Window {
    fn open(spec: &WindowSpec) -> Result<Self, WindowError> {
        let flags = highgui::WINDOW_NORMAL | highgui::WINDOW_KEEPRATIO | highgui::WINDOW_GUI_NORMAL;
        highgui::named_window(&spec.title, flags).map_err(|error| toolkit(&error))?;
        Ok(Self {
            name: spec.title.clone(),
            pane: spec.pane,
            mirror: spec.pane == Pane::SelfView,
            full_screen: false,
            was_visible: false,
            picture: None,
            card: None,
        })
    }

    fn show(&mut self, picture: Pixels, over: &Overlay, statistics: bool) -> opencv::Result<()> {
        if self.picture.is_none() {
            self.resize(picture.width, picture.height)?;
        }
        let mat =
            Mat::new_rows_cols_with_bytes::<Vec3b>(picture.height, picture.width, &picture.data)?;
        if !self.mirror && overlay::is_empty(over, statistics) {
            highgui::imshow(&self.name, &mat)?;
        } else {
            self.show_changed(&mat, over, statistics)?;
        }
        self.picture = Some(picture);
        self.card = None;
        Ok(())
    }

    fn show_changed(
        &self,
        mat: &(impl ToInputArray + MatTraitConst),
        over: &Overlay,
        statistics: bool,
    ) -> opencv::Result<()> {
        let mut copy = Mat::default();
        if self.mirror {
            core::flip(mat, &mut copy, AROUND_THE_VERTICAL)?;
        } else {
            mat.copy_to(&mut copy)?;
        }
        overlay::draw(&mut copy, over, statistics)?;
        highgui::imshow(&self.name, &copy)
    }

    fn show_card(&mut self, lines: &[String]) -> opencv::Result<()> {
        if self.card.as_deref() == Some(lines) {
            return Ok(());
        }
        let card = overlay::card(lines)?;
        if self.picture.is_none() && self.card.is_none() {
            self.resize(card.cols(), card.rows())?;
        }
        highgui::imshow(&self.name, &card)?;
        self.card = Some(lines.to_vec());
        Ok(())
    }

    /// Sizes the window to the picture, within [`LARGEST`] or [`SMALL`].
    fn resize(&self, width: i32, height: i32) -> opencv::Result<()> {
        let (max_width, max_height) = if self.pane == Pane::Peer { LARGEST } else { SMALL };
        let scale = (max_width / f64::from(width)).min(max_height / f64::from(height)).min(1.0);
        let side = |side: i32| (f64::from(side) * scale).round() as i32;
        highgui::resize_window(&self.name, side(width), side(height))
    }

    /// Places the self view beside the peer's window, or in the top right corner if there is no
    /// room.
    fn place(&self) {
        let beside = LARGEST.0;
        let corner = display::width().map_or(beside, |width| f64::from(width) - SMALL.0);
        let left = if self.pane == Pane::SelfView { beside.min(corner).max(0.0) } else { 0.0 };
        // A window manager may ignore this.
        let _ = highgui::move_window(&self.name, left as i32, 0);
    }

    fn toggle_full_screen(&mut self) {
        self.full_screen ^= true;
        let value =
            if self.full_screen { highgui::WINDOW_FULLSCREEN } else { highgui::WINDOW_NORMAL };
        let set = highgui::set_window_property(
            &self.name,
            highgui::WND_PROP_FULLSCREEN,
            f64::from(value),
        );
        if let Err(error) = set {
            eprintln!("cannot switch to full screen: {}", toolkit(&error));
        }
    }

    fn was_closed(&mut self) -> bool {
        let visible = highgui::get_window_property(&self.name, highgui::WND_PROP_VISIBLE);
        let is_visible = visible.is_ok_and(|visible| visible >= 1.0);
        self.was_visible |= is_visible;
        self.was_visible && !is_visible
    }
}

fn write_png(picture: &Pixels) -> Action {
    let path = PathBuf::from(snapshot_name(clock::wall()));
    let written =
        Mat::new_rows_cols_with_bytes::<Vec3b>(picture.height, picture.width, &picture.data)
            .and_then(|mat| imgcodecs::imwrite_def(&path, &mat));
    match written {
        Ok(true) => Action::Saved(path),
        _ => Action::SaveFailed(format!("cannot write {}", path.display())),
    }
}

/// `udpchat-YYYYMMDD-HHMMSS-mmm.png`, in UTC.
fn snapshot_name(wall: Duration) -> String {
    let (seconds, ms) = (wall.as_secs(), wall.subsec_millis());
    let (year, month, day) = civil_date((seconds / 86_400) as i64);
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("udpchat-{year:04}{month:02}{day:02}-{h:02}{m:02}{s:02}-{ms:03}.png")
}

/// The Gregorian date of a day, counted from 1970-01-01. In the calculation a year begins in March,
/// so that the leap day is its last one.
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn toolkit(error: &opencv::Error) -> WindowError {
    WindowError::Toolkit(one_line(error))
}

/// The largest initial window; the user may enlarge it.
const LARGEST: (f64, f64) = (1280.0, 720.0);

/// The largest initial self view.
const SMALL: (f64, f64) = (320.0, 240.0);

const NO_KEY: i32 = -1;
const ESCAPE: u8 = 27;
const AROUND_THE_VERTICAL: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_named_after_the_time() {
        let name = |days: u64, s: u64, ms: u64| {
            snapshot_name(Duration::from_secs(days * 86_400 + s) + Duration::from_millis(ms))
        };
        assert_eq!(name(0, 0, 0), "udpchat-19700101-000000-000.png");
        assert_eq!(name(19_782, 86_399, 7), "udpchat-20240229-235959-007.png");
        assert_eq!(name(19_783, 3600, 0), "udpchat-20240301-010000-000.png");
        assert_eq!(name(20_453, 61, 0), "udpchat-20251231-000101-000.png");
    }
}
