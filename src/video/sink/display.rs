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

#[cfg(all(target_os = "linux", feature = "opencv"))]
mod linux {
    use std::{env, os::unix::net::UnixStream, path::PathBuf};

    /// The toolkit tries Wayland first, then X.
    pub(super) fn available() -> Result<(), String> {
        let backend = env::var("GDK_BACKEND").unwrap_or_default();
        let may =
            |name: &str| backend.is_empty() || backend.contains(name) || backend.contains('*');
        if may("wayland") && wayland_answers() {
            return Ok(());
        }
        match env::var("DISPLAY").unwrap_or_default() {
            _ if !may("x11") => {
                Err(format!("no Wayland display answers, and GDK_BACKEND is {backend}"))
            }
            display if display.is_empty() => {
                Err("there is no display: DISPLAY is not set".to_owned())
            }
            display => x_answers(&display),
        }
    }

    fn wayland_answers() -> bool {
        let Some(display) = env::var_os("WAYLAND_DISPLAY").filter(|d| !d.is_empty()) else {
            return false;
        };
        let folder = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).unwrap_or_default();
        UnixStream::connect(folder.join(display)).is_ok()
    }

    fn x_answers(display: &str) -> Result<(), String> {
        x11rb::connect(Some(display))
            .map(drop)
            .map_err(|error| format!("cannot open the display {display}: {error}"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_display_that_is_not_there_is_said_in_one_line() {
            for display in [":4711", "nonsense", "localhost:4711"] {
                let said = x_answers(display).expect_err(display);
                assert!(said.contains(display) && !said.contains('\n'), "{said}");
            }
        }
    }
}
