//! The addresses of a target: those given by the user, or those its name resolves to.
//!
//! A name is looked up repeatedly while its target does not answer, since the machine may come back
//! at another address. A name without an address is retried, like a machine that is off.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::Target;

/// Identifies a lookup within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LookupId(pub u64);

/// Why an address cannot be called: it does not belong to a single machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncallable {
    /// 0.0.0.0 or ::.
    Unspecified,
    /// 255.255.255.255.
    Broadcast,
    /// A multicast group.
    Multicast,
}

/// Why `ip` cannot be called; `None` if it can. A subnet's broadcast address is not recognized,
/// since only the system knows the netmask.
pub fn uncallable(ip: IpAddr) -> Option<Uncallable> {
    let ip = ip.to_canonical();
    if ip.is_unspecified() {
        return Some(Uncallable::Unspecified);
    }
    if matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
        return Some(Uncallable::Broadcast);
    }
    ip.is_multicast().then_some(Uncallable::Multicast)
}

/// The currently known addresses of a target.
#[derive(Debug)]
pub(super) struct Addresses {
    known: Vec<SocketAddr>,
    /// `None`: the addresses were given by the user.
    name: Option<Name>,
}

#[derive(Debug)]
struct Name {
    asked: Option<(LookupId, Instant)>,
    next_at: Instant,
    /// The pause after a successful lookup.
    interval: Duration,
}

impl Addresses {
    /// The addresses of `target`. A name is looked up at once, and again `interval` after each
    /// successful lookup.
    pub(super) fn new(now: Instant, target: &Target, interval: Duration) -> Self {
        let name = target.addrs.is_empty();
        let name = name.then_some(Name { asked: None, next_at: now, interval });
        Self { known: alternating(&target.addrs), name }
    }

    /// The addresses in the order to try them; empty while the name has not been resolved.
    pub(super) fn known(&self) -> &[SocketAddr] {
        &self.known
    }

    /// Whether the name should be looked up now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|due| due <= now)
    }

    /// When the name should be looked up next, unless a lookup is running.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.name.as_ref().filter(|name| name.asked.is_none()).map(|name| name.next_at)
    }

    /// Records that lookup `id` has started.
    pub(super) fn note_asked(&mut self, now: Instant, id: LookupId) {
        if let Some(name) = &mut self.name {
            name.asked = Some((id, now));
        }
    }

    /// Brings the next lookup forward, since an address does not work.
    pub(super) fn expedite(&mut self, now: Instant) {
        if let Some(name) = &mut self.name {
            name.next_at = name.next_at.min(now + RETRY_INTERVAL);
        }
    }

    pub(super) fn is_asked(&self, id: LookupId) -> bool {
        self.name.as_ref().is_some_and(|name| name.asked.is_some_and(|(asked, _)| asked == id))
    }

    /// The start of the running lookup, if no address is known.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let (_, since) = self.name.as_ref()?.asked?;
        self.known.is_empty().then_some(since)
    }

    /// Handles the result of a lookup. An empty result keeps the known addresses: name servers fail
    /// more often than addresses change.
    pub(super) fn handle_found(&mut self, now: Instant, found: &[SocketAddr]) {
        let Some(name) = &mut self.name else { return };
        name.asked = None;
        name.next_at = now + if found.is_empty() { RETRY_INTERVAL } else { name.interval };
        if !found.is_empty() {
            self.known = alternating(found);
        }
    }
}

/// `addrs` without duplicates, alternating between IPv6 and IPv4, beginning with the first one's
/// family (RFC 8305 §4), so that a family that does not work costs only one attempt.
fn alternating(addrs: &[SocketAddr]) -> Vec<SocketAddr> {
    let begins = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let of = |is_ipv6: bool| addrs.iter().filter(move |addr| addr.is_ipv6() == is_ipv6);
    let (mut first, mut second) = (of(begins), of(!begins));
    let mut ordered = Vec::with_capacity(addrs.len());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return ordered;
        }
        for addr in pair.into_iter().flatten() {
            if !ordered.contains(addr) {
                ordered.push(*addr);
            }
        }
    }
}

/// The pause before the next lookup if the last one found nothing, or if an address does not work.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn address_families_alternate() {
        let given =
            addrs(&["[::1]:7", "[::2]:7", "1.1.1.1:7", "[::1]:7", "2.2.2.2:7", "3.3.3.3:7"]);
        let ordered = addrs(&["[::1]:7", "1.1.1.1:7", "[::2]:7", "2.2.2.2:7", "3.3.3.3:7"]);
        assert_eq!(alternating(&given), ordered);
    }

    #[test]
    fn a_name_keeps_its_address_while_lookups_fail() {
        let now = crate::clock::now();
        let target = Target { host: "desk".into(), port: 7, addrs: Vec::new() };
        let interval = Duration::from_secs(1);
        let mut desk = Addresses::new(now, &target, interval);
        assert!(desk.is_due(now) && desk.known().is_empty());
        desk.note_asked(now, LookupId(1));
        assert!(desk.is_asked(LookupId(1)) && !desk.is_due(now));
        assert_eq!(desk.waits_since(), Some(now));
        let found = addrs(&["10.0.0.1:7"]);
        desk.handle_found(now, &found);
        assert_eq!(desk.poll_timeout(), Some(now + interval));
        desk.note_asked(now, LookupId(2));
        desk.handle_found(now, &[]);
        assert_eq!((desk.known(), desk.waits_since()), (&found[..], None));
        assert_eq!(desk.poll_timeout(), Some(now + RETRY_INTERVAL));
    }

    #[test]
    fn given_addresses_are_never_looked_up() {
        let now = crate::clock::now();
        let target = Target { host: "desk".into(), port: 7, addrs: addrs(&["10.0.0.1:7"]) };
        assert_eq!(Addresses::new(now, &target, Duration::ZERO).poll_timeout(), None);
    }
}
