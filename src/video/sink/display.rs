//! Whether a window can be opened here at all.
//!
//! The window toolkit ends the whole process when it finds no display, so this
//! must be known before it is asked.

/// `Ok` if a window can be opened; else why not, in one line.
pub fn available() -> Result<(), String> {
    if !cfg!(feature = "opencv") {
        return Err("this udpchat was built without windows".to_owned());
    }
    #[cfg(all(target_os = "linux", feature = "opencv"))]
    linux::available()?;
    Ok(())
}

/// The width of the screen in pixels, where it is easily known.
#[cfg(feature = "opencv")]
pub(super) fn width() -> Option<u16> {
    #[cfg(target_os = "linux")]
    return linux::x_width().ok();
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(all(target_os = "linux", feature = "opencv"))]
mod linux {
    use std::{env, os::unix::net::UnixStream, path::PathBuf};
    use x11rb::connection::Connection;

    /// X is what every build of the toolkit can use. Some cannot use Wayland and end
    /// the process over it, so that is taken only if the user says that it works.
    pub(super) fn available() -> Result<(), String> {
        let x = x_width().map(drop);
        if x.is_ok() || !wayland_answers() {
            return x;
        }
        let says_wayland = |name| env::var(name).is_ok_and(|value| value.starts_with("wayland"));
        if says_wayland("QT_QPA_PLATFORM") || says_wayland("GDK_BACKEND") {
            return Ok(());
        }
        Err("only a Wayland display answers: enable Xwayland, or set QT_QPA_PLATFORM=wayland (Qt) or GDK_BACKEND=wayland (GTK)".to_owned())
    }

    /// The width of the X screen in pixels.
    pub(super) fn x_width() -> Result<u16, String> {
        let display = env::var("DISPLAY").unwrap_or_default();
        if display.is_empty() {
            return Err("there is no display: DISPLAY is not set".to_owned());
        }
        x_width_of(&display)
    }

    fn wayland_answers() -> bool {
        let Some(display) = env::var_os("WAYLAND_DISPLAY").filter(|d| !d.is_empty()) else {
            return false;
        };
        let folder = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).unwrap_or_default();
        UnixStream::connect(folder.join(display)).is_ok()
    }

    fn x_width_of(display: &str) -> Result<u16, String> {
        x11rb::connect(Some(display))
            .map(|(connection, screen)| connection.setup().roots[screen].width_in_pixels)
            .map_err(|error| format!("cannot open the display {display}: {error}"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_display_that_is_not_there_is_said_in_one_line() {
            for display in [":4711", "nonsense", "localhost:4711"] {
                let said = x_width_of(display).expect_err(display);
                assert!(said.contains(display) && !said.contains('\n'), "{said}");
            }
        }
    }
}
