//! Key presses in the windows.
//!
//! Of several keys between two calls, highgui reports only the last. On X11 this module therefore
//! reads them from the display itself, so that none is lost while the machine or the display is
//! slow.

#[cfg(target_os = "linux")]
use std::time::Duration;
use std::time::Instant;

#[cfg(target_os = "linux")]
use crate::key_watch::KeyWatch;

/// The source of key presses.
#[derive(Debug)]
pub(crate) struct Keys {
    #[cfg(target_os = "linux")]
    watch: KeyWatch,
    #[cfg(target_os = "linux")]
    choice: Choice,
}

impl Keys {
    /// Keys pressed in the windows with these titles.
    pub(crate) fn new(titles: Vec<String>) -> Self {
        Self {
            #[cfg(target_os = "linux")]
            watch: KeyWatch::new(titles),
            #[cfg(target_os = "linux")]
            choice: Choice::default(),
        }
    }

    /// Why the display of the windows is gone, if it is.
    #[cfg(target_os = "linux")]
    pub(crate) fn display_loss(&mut self) -> Option<String> {
        self.watch.loss().map(ToString::to_string)
    }

    /// Not detected on this platform.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn display_loss(&mut self) -> Option<String> {
        None
    }

    /// The keys to act on now, in order, as ASCII. `polled` is the key from highgui. While the
    /// display is watched but has not reported any key yet, a polled key is returned [`WATCH_LAG`]
    /// later, or when the next one is polled.
    #[cfg(target_os = "linux")]
    pub(crate) fn take(&mut self, now: Instant, polled: Option<u8>) -> Vec<u8> {
        match self.watch.take(now) {
            Some(watched) => self.choice.choose(now, polled, watched),
            None => polled.into_iter().collect(),
        }
    }

    /// The keys since the last call. `polled` is the key from highgui.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn take(&mut self, _: Instant, polled: Option<u8>) -> Vec<u8> {
        polled.into_iter().collect()
    }
}

/// Chooses between the keys from highgui and those from the display, which report the same presses.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
struct Choice {
    /// Whether the display has ever reported a key. With a toolkit that receives its keys in
    /// another way, it never does.
    is_watch_proven: bool,
    /// A key from highgui that the display has not reported yet.
    unseen: Option<(u8, Instant)>,
}

#[cfg(target_os = "linux")]
impl Choice {
    fn choose(&mut self, now: Instant, polled: Option<u8>, watched: Vec<u8>) -> Vec<u8> {
        self.is_watch_proven |= !watched.is_empty();
        if self.is_watch_proven {
            self.unseen = None;
            return watched;
        }
        let is_due = |(_, at): &mut (u8, Instant)| polled.is_some() || now >= *at + WATCH_LAG;
        let due = self.unseen.take_if(is_due).map(|(key, _)| key);
        self.unseen = polled.map(|key| (key, now)).or(self.unseen);
        due.into_iter().collect()
    }
}

/// How long after highgui the display may report a key.
#[cfg(target_os = "linux")]
const WATCH_LAG: Duration = Duration::from_millis(100);

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_key_reported_by_both_sources_counts_once() {
        let (mut choice, now) = (Choice::default(), udpchat::opencv_process::clock::now());
        assert_eq!(choice.choose(now, Some(b's'), vec![]), b"");
        assert_eq!(choice.choose(now, None, b"s".to_vec()), b"s");
        assert_eq!(choice.choose(now, Some(b'm'), b"sm".to_vec()), b"sm");
        assert_eq!(choice.choose(now, None, b"q".to_vec()), b"q");
        assert_eq!(choice.choose(now, Some(b'q'), vec![]), b"");
        assert_eq!(choice.choose(now + WATCH_LAG, None, vec![]), b"");
    }

    #[test]
    fn highgui_keys_count_when_the_display_reports_none() {
        let (mut choice, now) = (Choice::default(), udpchat::opencv_process::clock::now());
        assert_eq!(choice.choose(now, Some(b's'), vec![]), b"");
        assert_eq!(choice.choose(now, Some(b'm'), vec![]), b"s");
        assert_eq!(choice.choose(now, None, vec![]), b"");
        assert_eq!(choice.choose(now + WATCH_LAG, None, vec![]), b"m");
        assert_eq!(choice.choose(now + 2 * WATCH_LAG, None, vec![]), b"");
    }
}
