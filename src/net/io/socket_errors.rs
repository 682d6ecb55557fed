//! The errors of the UDP socket: who is told of them, and how often the user is warned.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use log::{debug, warn};

use super::{
    faults,
    interface::interface_len,
    ip::header_len,
    udp::least_mtu,
    zone::{shown, shown_ip},
};
use crate::net::{
    link::{MIN_DATAGRAM_LEN, PeerAddr},
    session::{Endpoint, WaitReason},
};

/// Datagrams that could not be sent.
#[derive(Debug)]
pub(super) struct SendFailure {
    pub(super) to: PeerAddr,
    /// The length of each, in bytes.
    pub(super) len: usize,
    pub(super) error: io::Error,
}

/// Handles the errors of the UDP socket. None of them ends the loop.
#[derive(Debug, Default)]
pub(super) struct SocketErrors {
    /// When the last warning was logged.
    warned: Option<Instant>,
    /// The peers last warned about, newest first: the MTU of the interface to each is too small.
    narrow: Vec<IpAddr>,
}

impl SocketErrors {
    /// Handles a failure to send. Path MTU discovery handles datagrams that are too long. Any other
    /// failure changes the state of the target, if that has no control channel. If neither can act
    /// on it, the user is warned.
    pub(super) fn handle_failure(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        failure: &SendFailure,
    ) {
        let SendFailure { to: peer, len, error } = failure;
        let to = peer.socket_addr();
        if quinn_udp::is_msg_size_err(error) {
            let fits = interface_len(to);
            if !endpoint.handle_refused(now, *peer, *len, fits) && !self.warn_narrow(to, fits) {
                self.warn(now, &too_long(to, *len, fits));
            }
        } else {
            let reason = faults::reason(error, to);
            if endpoint.handle_unsendable(now, *peer, &reason) {
                return debug!("sending to {to} failed: {error}");
            }
            self.warn(now, &not_sent(to, error, &reason));
        }
    }

    /// Warns once per peer if the interface to it takes only `fits` bytes of UDP payload, too few
    /// for the protocol. Returns whether that is so.
    pub(super) fn warn_narrow(&mut self, to: SocketAddr, fits: Option<usize>) -> bool {
        let Some(fits) = fits.filter(|&fits| fits < MIN_DATAGRAM_LEN) else { return false };
        if self.note_narrow(to.ip()) {
            warn!("{}", too_narrow(to, fits));
        }
        true
    }

    /// Logs at most one warning a second, since errors are frequent.
    pub(super) fn warn(&mut self, now: Instant, message: &str) {
        if self.may_warn(now) {
            warn!("{message}");
        }
    }

    /// Whether a warning may be logged now; if so, records the time.
    fn may_warn(&mut self, now: Instant) -> bool {
        let is_due = self.warned.is_none_or(|at| now - at >= WARNING_INTERVAL);
        if is_due {
            self.warned = Some(now);
        }
        is_due
    }

    /// Records that the interface to `peer` has too small an MTU. Returns true if that is new.
    fn note_narrow(&mut self, peer: IpAddr) -> bool {
        let is_new = !self.narrow.contains(&peer);
        if is_new {
            self.narrow.truncate(MAX_NARROW - 1);
            self.narrow.insert(0, peer);
        }
        is_new
    }
}

fn too_long(to: SocketAddr, len: usize, fits: Option<usize>) -> String {
    let fits = fits.map_or_else(String::new, |fits| format!(", which takes {fits}"));
    format!(
        "datagrams of {len} bytes to {} are too long for the interface{fits}: lower --mtu, or leave it out",
        shown(to)
    )
}

fn too_narrow(to: SocketAddr, fits: usize) -> String {
    let mtu = fits + header_len(to);
    format!(
        "the interface to {} has an MTU of {mtu} bytes, and udpchat needs {}: raise it (`ip route get {}` names it; `ip link set NAME mtu 1500`)",
        shown(to),
        least_mtu(to),
        shown_ip(to)
    )
}

fn not_sent(to: SocketAddr, error: &io::Error, reason: &WaitReason) -> String {
    let remedy = match reason {
        WaitReason::Local { fault, .. } => fault.remedy(),
        _ => "",
    };
    let remedy = if remedy.is_empty() { String::new() } else { format!(" ({remedy})") };
    format!("sending to {} failed: {error}{remedy}", shown(to))
}

const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum number of peers remembered as warned about. One more replaces the oldest, about
/// which the user may then be warned again.
const MAX_NARROW: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        crypto::keys::Identity,
        session::{EndpointConfig, Event, Role, Target},
    };

    const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

    /// A sender to [`TARGET`] without a control channel.
    fn sender(now: Instant, max_datagram_len: Option<usize>) -> Endpoint {
        let target = Target { host: "desk".into(), port: 7, addrs: vec![TARGET] };
        let role = Role::Send { targets: vec![target], control: false };
        let config = EndpointConfig::new("ann", role, Identity::from_bytes([1; 32]), now);
        let mut sender = Endpoint::new(now, EndpointConfig { max_datagram_len, ..config });
        assert!(matches!(sender.poll_event(), Some(Event::Connected { .. })));
        sender
    }

    fn failure(to: SocketAddr, error: io::Error) -> SendFailure {
        SendFailure { to: to.into(), len: 1200, error }
    }

    fn stranger() -> SocketAddr {
        ([127, 0, 0, 2], 7).into()
    }

    #[test]
    fn the_user_is_warned_once_a_second() {
        let now = crate::clock::now();
        let mut errors = SocketErrors::default();
        assert!(errors.may_warn(now));
        assert!(!errors.may_warn(now + Duration::from_millis(999)));
        assert!(errors.may_warn(now + WARNING_INTERVAL));
        assert!(!errors.may_warn(now + WARNING_INTERVAL));
    }

    #[test]
    fn each_narrow_interface_is_reported_once_among_the_last_few() {
        let mut errors = SocketErrors::default();
        let peer = |index: u8| IpAddr::from([10, 0, 0, index]);
        for index in 0..MAX_NARROW as u8 {
            assert!(errors.note_narrow(peer(index)));
        }
        assert!((0..MAX_NARROW as u8).all(|index| !errors.note_narrow(peer(index))));
        assert!(errors.note_narrow(peer(200)));
        assert!(!errors.note_narrow(peer(1)));
        assert!(errors.note_narrow(peer(0)), "the oldest was forgotten");
        assert_eq!(errors.narrow.len(), MAX_NARROW);
    }

    #[test]
    fn only_an_interface_that_takes_too_little_is_narrow() {
        let mut errors = SocketErrors::default();
        assert!(!errors.warn_narrow(TARGET, None));
        assert!(!errors.warn_narrow(TARGET, Some(MIN_DATAGRAM_LEN)));
        assert!(errors.narrow.is_empty());
        for _ in 0..2 {
            assert!(errors.warn_narrow(TARGET, Some(MIN_DATAGRAM_LEN - 1)));
            assert_eq!(errors.narrow, [TARGET.ip()]);
        }
        assert_eq!(errors.warned, None, "that does not delay other warnings");
    }

    #[test]
    fn a_one_way_target_waits_without_a_warning() {
        let now = crate::clock::now();
        let mut errors = SocketErrors::default();
        let mut endpoint = sender(now, None);
        let unreachable = || io::Error::from(io::ErrorKind::NetworkUnreachable);
        errors.handle_failure(now, &mut endpoint, &failure(TARGET, unreachable()));
        assert!(matches!(endpoint.poll_event(), Some(Event::Waiting { .. })));
        assert_eq!(errors.warned, None);
        errors.handle_failure(now, &mut endpoint, &failure(stranger(), unreachable()));
        assert_eq!(endpoint.poll_event(), None);
        assert_eq!(errors.warned, Some(now), "nobody waits for the other address");
    }

    #[test]
    #[cfg(unix)]
    fn the_user_is_warned_of_long_datagrams_only_if_their_length_is_configured() {
        let now = crate::clock::now();
        let too_big = || io::Error::from(nix::errno::Errno::EMSGSIZE);
        for (max_datagram_len, warned) in [(None, None), (Some(1200), Some(now))] {
            let mut errors = SocketErrors::default();
            let mut endpoint = sender(now, max_datagram_len);
            errors.handle_failure(now, &mut endpoint, &failure(TARGET, too_big()));
            assert_eq!(errors.warned, warned, "with {max_datagram_len:?}");
            assert!(errors.narrow.is_empty());
        }
    }

    #[test]
    fn warnings_say_what_to_do() {
        let message = too_long(TARGET, 1472, Some(1400));
        assert!(message.contains("takes 1400") && message.contains("lower --mtu"), "{message}");
        let message = too_narrow(TARGET, 500);
        assert!(message.contains("MTU of 528 bytes"), "{message}");
        let error = io::Error::from(io::ErrorKind::NetworkUnreachable);
        let reason = faults::reason(&error, TARGET);
        let WaitReason::Local { fault, .. } = &reason else { panic!("{reason:?}") };
        let message = not_sent(TARGET, &error, &reason);
        assert!(message.ends_with(&format!("({})", fault.remedy())), "{message}");
    }
}
