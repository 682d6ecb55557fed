//! Where a target is: the addresses that its user gave, or those that its name has now.
//!
//! A name is looked up again and again while its target does not answer, since the machine may come back at
//! another address. Until a name has an address it is waited for, as a machine that is off is.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::Target;

/// A question for addresses, unique within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LookupId(pub u64);

/// A target's addresses, as they are known now.
#[derive(Debug)]
pub(super) struct Addresses {
    known: Vec<SocketAddr>,
    /// `None`: addresses were given.
    name: Option<Name>,
}

#[derive(Debug)]
struct Name {
    asked: Option<(LookupId, Instant)>,
    next_at: Instant,
    /// After one that succeeded.
    interval: Duration,
}

impl Addresses {
    /// Those of `target`; a name is looked up at once, and again after `interval` at the earliest.
    pub(super) fn new(now: Instant, target: &Target, interval: Duration) -> Self {
        let name = target.addrs.is_empty();
        let name = name.then_some(Name { asked: None, next_at: now, interval });
        Self { known: alternating(&target.addrs), name }
    }

    /// In the order in which they are to be tried; none as long as the name has none.
    pub(super) fn known(&self) -> &[SocketAddr] {
        &self.known
    }

    /// Whether the name should be looked up now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|due| due <= now)
    }

    /// When it should.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.name.as_ref().filter(|name| name.asked.is_none()).map(|name| name.next_at)
    }

    /// It is being looked up, as `id`.
    pub(super) fn note_asked(&mut self, now: Instant, id: LookupId) {
        if let Some(name) = &mut self.name {
            name.asked = Some((id, now));
        }
    }

    /// Looks it up soon, since an address does not work.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Some(name) = &mut self.name {
            name.next_at = name.next_at.min(now + RETRY_INTERVAL);
        }
    }

    pub(super) fn is_asked(&self, id: LookupId) -> bool {
        self.name.as_ref().is_some_and(|name| name.asked.is_some_and(|(asked, _)| asked == id))
    }

    /// Since when nobody has answered, if nothing is known without the answer.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let (_, since) = self.name.as_ref()?.asked?;
        self.known.is_empty().then_some(since)
    }

    /// The answer. What was known before stays if there is none now: a name service fails more often
    /// than an address changes.
    pub(super) fn handle_found(&mut self, now: Instant, found: &[SocketAddr]) {
        let Some(name) = &mut self.name else { return };
        name.asked = None;
        name.next_at = now + if found.is_empty() { RETRY_INTERVAL } else { name.interval };
        if !found.is_empty() {
            self.known = alternating(found);
        }
    }
}

/// `addrs` without repetitions, IPv6 and IPv4 in turn, beginning with the first one's (RFC 8305 §4): one
/// family that does not work at all costs one attempt only.
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

/// After a lookup that found nothing.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let given =
            addrs(&["[::1]:7", "[::2]:7", "1.1.1.1:7", "[::1]:7", "2.2.2.2:7", "3.3.3.3:7"]);
        let ordered = addrs(&["[::1]:7", "1.1.1.1:7", "[::2]:7", "2.2.2.2:7", "3.3.3.3:7"]);
        assert_eq!(alternating(&given), ordered);
    }

    #[test]
    fn a_name_keeps_its_address_while_it_cannot_be_looked_up() {
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
