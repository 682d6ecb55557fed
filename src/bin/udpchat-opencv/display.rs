//! Checks whether a window can be opened.
//!
//! The window toolkit ends the whole process when it finds no display, so this must be checked
//! first.

use udpchat::opencv_process::NoDisplay;

/// Checks whether a window can be opened.
pub(crate) fn available() -> Result<(), NoDisplay> {
    #[cfg(target_os = "linux")]
    linux::available()?;
    Ok(())
}

/// Whether the toolkit may end the process even if a display answers: the environment selects a
/// platform other than X or another plugin folder, or the plugin for X is not in its usual place.
pub(crate) fn is_in_doubt() -> bool {
    #[cfg(target_os = "linux")]
    return linux::is_in_doubt();
    #[cfg(not(target_os = "linux"))]
    false
}

/// The width of the screen in pixels, if known.
pub(crate) fn width() -> Option<u16> {
    #[cfg(target_os = "linux")]
    return linux::x_width().ok();
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        env, fs,
        os::unix::net::UnixStream,
        path::{Path, PathBuf},
    };
    use x11rb::connection::Connection;

    use udpchat::opencv_process::NoDisplay;

    /// Every build of the toolkit supports X. Some do not support Wayland and end the process, so
    /// Wayland is used only if the user has selected it.
    pub(super) fn available() -> Result<(), NoDisplay> {
        let x = x_width().map(drop);
        if x.is_ok() || !wayland_answers() {
            return x;
        }
        let says_wayland = |name| env::var(name).is_ok_and(|value| value.starts_with("wayland"));
        if says_wayland("QT_QPA_PLATFORM") || says_wayland("GDK_BACKEND") {
            return Ok(());
        }
        Err(NoDisplay::OnlyWayland)
    }

    pub(super) fn is_in_doubt() -> bool {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_other = |name, usual: &str| is_set(name) && env::var(name).as_deref() != Ok(usual);
        is_other("QT_QPA_PLATFORM", "xcb")
            || is_set("QT_QPA_PLATFORM_PLUGIN_PATH")
            || is_set("QT_PLUGIN_PATH")
            || is_other("GDK_BACKEND", "x11")
            || fs::read_to_string("/proc/self/maps").is_ok_and(|maps| lacks_qt_plugin(&maps))
    }

    /// Whether Qt is loaded, but its plugin for X is in none of the usual folders.
    fn lacks_qt_plugin(maps: &str) -> bool {
        let library = maps.lines().find_map(|line| {
            let path = line.split_ascii_whitespace().nth(5)?;
            let version = path.split("/libQt").nth(1)?.chars().next()?;
            Some((Path::new(path).parent()?, version))
        });
        let Some((folder, version)) = library else { return false };
        let folders = [format!("qt{version}/plugins"), "plugins".into(), "../plugins".into()];
        !folders.iter().any(|plugins| folder.join(plugins).join("platforms/libqxcb.so").exists())
    }

    /// The width of the X screen in pixels.
    pub(super) fn x_width() -> Result<u16, NoDisplay> {
        let display = env::var("DISPLAY").unwrap_or_default();
        if display.is_empty() {
            return Err(NoDisplay::Unset);
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

    fn x_width_of(display: &str) -> Result<u16, NoDisplay> {
        x11rb::connect(Some(display))
            .map(|(connection, screen)| connection.setup().roots[screen].width_in_pixels)
            .map_err(|error| NoDisplay::Unreachable {
                display: display.to_owned(),
                reason: error.to_string(),
            })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_x_plugin_is_looked_up_beside_the_library() {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let here = folder.path().display();
            let maps = format!(
                "7f1-7f2 r--p 00000000 08:01 42   /usr/lib/libc.so.6\n\
                 7f3-7f4 r-xp 00000000 08:01 43   {here}/libQt5Gui.so.5.15.3\n"
            );
            assert!(lacks_qt_plugin(&maps));
            let platforms = folder.path().join("qt5/plugins/platforms");
            fs::create_dir_all(&platforms).expect("made");
            fs::write(platforms.join("libqxcb.so"), "").expect("made");
            assert!(!lacks_qt_plugin(&maps));
            assert!(!lacks_qt_plugin("7f1-7f2 r--p 00000000 08:01 42   /usr/lib/libc.so.6\n"));
        }

        #[test]
        fn a_missing_display_is_reported_in_one_line() {
            for display in [":4711", "nonsense", "localhost:4711"] {
                let said = x_width_of(display).expect_err(display).to_string();
                assert!(said.contains(display) && !said.contains('\n'), "{said}");
            }
        }
    }
}
