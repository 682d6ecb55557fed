//! Decides when a fault of a path is reported.

use std::time::{Duration, Instant};

/// Which faults of a path have been reported.
#[derive(Debug, Default)]
pub(super) struct PathWarnings {
    is_narrow: bool,
    /// When the last datagram arrived before UDP was found to be blocked.
    udp_blocked_since: Option<Instant>,
    /// When a picture was last too large for the path.
    last_too_slow: Option<Instant>,
}

/// When the peer was last heard from.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastHeard {
    /// Over UDP; when the call began if nothing has arrived yet.
    pub(super) udp: Instant,
    /// Over the control channel.
    pub(super) control: Instant,
    /// When the control channel last resumed receiving after a pause.
    pub(super) control_since: Instant,
}

impl PathWarnings {
    /// Whether to report that the path passes only datagrams that are too short.
    pub(super) fn check_narrow(&mut self, is_too_narrow: bool) -> bool {
        let is_news = is_too_narrow && !self.is_narrow;
        self.is_narrow |= is_too_narrow;
        is_news
    }

    /// Whether UDP is blocked, if that has changed. Both sides probe once a second, so silence over
    /// UDP while the control channel is active means that something on the path passes only TCP. If
    /// the control channel is silent too, the network is down, which is handled elsewhere.
    pub(super) fn check_udp(&mut self, heard: LastHeard) -> Option<bool> {
        let is_blocked = match self.udp_blocked_since {
            Some(since) => heard.udp == since,
            None => heard.udp.max(heard.control_since) + UDP_SILENCE <= heard.control,
        };
        if is_blocked == self.udp_blocked_since.is_some() {
            return None;
        }
        self.udp_blocked_since = is_blocked.then_some(heard.udp);
        Some(is_blocked)
    }

    /// Handles a picture that was too large for the path. Returns whether to report it.
    pub(super) fn handle_too_slow(&mut self, now: Instant) -> bool {
        let last = self.last_too_slow.replace(now);
        last.is_none_or(|last| now >= last + SPEED_NOTICE_INTERVAL)
    }
}

/// After this long without a picture that is too large for the path, the next one is reported.
const SPEED_NOTICE_INTERVAL: Duration = Duration::from_secs(60);

/// How long UDP must be silent while the control channel is active before it counts as blocked.
const UDP_SILENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_narrow_path_is_reported_once() {
        let mut warnings = PathWarnings::default();
        let reported = [false, true, true, false, true].map(|is| warnings.check_narrow(is));
        assert_eq!(reported, [false, true, false, false, false]);
    }

    #[test]
    fn blocked_udp_is_reported_when_it_begins_and_ends() {
        let (mut warnings, now) = (PathWarnings::default(), crate::clock::now());
        let heard = LastHeard { udp: now, control: now, control_since: now };
        let mut check = |udp, control| {
            let (udp, control) = (now + udp, now + control);
            warnings.check_udp(LastHeard { udp, control, ..heard })
        };
        assert_eq!(check(SECOND, SECOND + UDP_SILENCE / 2), None);
        assert_eq!(check(SECOND, SECOND + UDP_SILENCE), Some(true));
        assert_eq!(check(SECOND, 9 * SECOND), None);
        assert_eq!(check(9 * SECOND, 9 * SECOND), Some(false));
        assert_eq!(check(9 * SECOND, 9 * SECOND), None);
    }

    #[test]
    fn a_network_that_was_down_is_not_blocked_udp() {
        let (mut warnings, now) = (PathWarnings::default(), crate::clock::now());
        let back = now + 9 * SECOND;
        let heard = LastHeard { udp: now, control: back + SECOND, control_since: back };
        assert_eq!(warnings.check_udp(heard), None);
        assert_eq!(
            warnings.check_udp(LastHeard { control: back + UDP_SILENCE, ..heard }),
            Some(true)
        );
    }

    #[test]
    fn a_slow_path_is_reported_again_after_a_pause() {
        let (mut warnings, now) = (PathWarnings::default(), crate::clock::now());
        assert!(warnings.handle_too_slow(now));
        assert!(!warnings.handle_too_slow(now + 59 * SECOND));
        assert!(!warnings.handle_too_slow(now + 118 * SECOND));
        assert!(warnings.handle_too_slow(now + 178 * SECOND));
    }
}
