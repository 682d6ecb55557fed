//! The rules of admission and trust, without the user interface.

use anyhow::Result;

use super::known_peers::{KnownPeers, Namesake};
use crate::net::{
    crypto::keys::PublicKey,
    io::{shown, shown_ip},
    session::Peer,
    wire::text::Name,
};

/// Which callers to admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// All callers. Their names and fingerprints are shown.
    Anyone,
    /// Callers with a known key.
    Known,
    /// Callers that know the code, or have a known key.
    Code,
    /// As [`Code`](Self::Code), and those that the user admits when asked.
    Ask {
        /// Whether there is a terminal to ask at.
        can_ask: bool,
    },
}

/// A peer that has proved possession of a key.
#[derive(Clone, Debug)]
pub(super) struct AuthenticatedPeer<'a> {
    pub(super) peer: &'a Peer,
    pub(super) key: PublicKey,
    /// The host that we called, with its port; `None`: it calls us.
    pub(super) host: Option<String>,
    /// Whether it has proved that it knows our code.
    pub(super) has_code: bool,
}

/// A trust decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Admit the caller, or talk to the host. The text, if any, is shown.
    Admit(Option<String>),
    /// Talk to this host for the first time, and pin its key.
    Pin(String),
    /// Refuse, for this reason.
    Refuse(String),
    /// Ask the user this question.
    Ask(String),
}

impl Policy {
    /// Decides about `peer`: a caller, or the host that we called. `own` is our own key; `known`
    /// are the known peers.
    pub(super) fn judge(
        self,
        peer: &AuthenticatedPeer<'_>,
        own: PublicKey,
        known: Option<&KnownPeers>,
    ) -> Result<Decision> {
        match &peer.host {
            // Only this user holds our identity key.
            Some(_) if peer.key == own => Ok(Decision::Admit(None)),
            Some(host) => judge_host(host, peer.key, known),
            None => self.judge_caller(peer, own, known),
        }
    }

    fn judge_caller(
        self,
        peer: &AuthenticatedPeer<'_>,
        own: PublicKey,
        known: Option<&KnownPeers>,
    ) -> Result<Decision> {
        let (key, fingerprint) = (peer.key, peer.key.fingerprint());
        let who = quoted(peer.peer);
        let name = match known {
            _ if key == own => Some("you".to_owned()),
            Some(known) => known.caller(&key)?,
            None => None,
        };
        let admitted = match &name {
            Some(name) => {
                format!("{who} has the fingerprint {fingerprint}, known as \"{}\"", plain(name))
            }
            None => format!("{who} has the unknown fingerprint {fingerprint}"),
        };
        let is_admitted = name.is_some()
            || match self {
                Self::Anyone => true,
                Self::Known => false,
                Self::Code | Self::Ask { .. } => peer.has_code,
            };
        if is_admitted {
            return Ok(Decision::Admit(Some(admitted)));
        }
        let claims = match (&peer.peer.name, known) {
            (Some(name), Some(known)) => namesake_warning(known, name, &key)?,
            _ => String::new(),
        };
        if self == (Self::Ask { can_ask: true }) {
            return Ok(Decision::Ask(format!(
                "{who} is calling (unknown fingerprint {fingerprint}){claims}. Accept the call? They will see your camera. [y/N]"
            )));
        }
        let remedy = match known {
            Some(known) => format!(
                "; to let it in, add the line `caller {key} {}` to {}",
                peer.peer.name.as_ref().map(|name| plain(name.as_str())).unwrap_or_default(),
                known.path().display()
            ),
            None => String::new(),
        };
        let code = match self {
            Self::Ask { .. } if remedy.is_empty() => "; give both sides a --code",
            Self::Ask { .. } => "; or give both sides a --code",
            _ => "",
        };
        Ok(Decision::Refuse(format!(
            "{who} has the unknown fingerprint {fingerprint}{claims}{remedy}{code}"
        )))
    }
}

fn judge_host(host: &str, key: PublicKey, known: Option<&KnownPeers>) -> Result<Decision> {
    let Some(known) = known else { return Ok(Decision::Pin(host.to_owned())) };
    match known.host(host)? {
        None => Ok(Decision::Pin(host.to_owned())),
        Some(pin) if pin.key == key => Ok(Decision::Admit(None)),
        Some(pin) => Ok(Decision::Refuse(format!(
            "the key of {host} has changed: fingerprint {}, previously {}; if you expected this, delete line {} of {}",
            key.fingerprint(),
            pin.key.fingerprint(),
            pin.line,
            known.path().display()
        ))),
    }
}

/// A caller's name, quoted so that it cannot be mistaken for our text, and its IP address; without
/// a name, its address alone.
fn quoted(peer: &Peer) -> String {
    match &peer.name {
        Some(name) => format!("\"{}\" ({})", plain(name.as_str()), shown_ip(peer.addr)),
        None => shown(peer.addr),
    }
}

/// A name without the characters that end a quotation here.
fn plain(name: &str) -> String {
    name.replace(['"', '`'], "'")
}

/// A warning if a known caller with another key has the same or a similar name; otherwise empty.
fn namesake_warning(known: &KnownPeers, name: &Name, key: &PublicKey) -> Result<String> {
    Ok(match known.namesake(name, key)? {
        Some(Namesake { name, pin }) => format!(
            "; the \"{}\" you know has the fingerprint {} (line {} of {})",
            plain(name.as_str()),
            pin.key.fingerprint(),
            pin.line,
            known.path().display()
        ),
        None => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::crypto::keys::KEY_LEN;

    const POLICIES: [Policy; 5] = [
        Policy::Anyone,
        Policy::Known,
        Policy::Code,
        Policy::Ask { can_ask: true },
        Policy::Ask { can_ask: false },
    ];

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; KEY_LEN])
    }

    fn known() -> (tempfile::TempDir, KnownPeers) {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownPeers::in_file(folder.path().join("known_peers"));
        (folder, known)
    }

    fn judge(
        policy: Policy,
        key: PublicKey,
        host: Option<&str>,
        has_code: bool,
        known: &KnownPeers,
    ) -> Decision {
        let peer = Peer {
            name: Some(Name::new("ann")),
            addr: "10.0.0.1:5".parse().unwrap(),
            key: Some(key),
        };
        let host = host.map(str::to_owned);
        let caller = AuthenticatedPeer { peer: &peer, key, host, has_code };
        policy.judge(&caller, self::key(0), Some(known)).unwrap()
    }

    #[test]
    fn a_host_is_pinned_and_another_key_is_refused() {
        let (_folder, known) = known();
        for policy in POLICIES {
            let first = judge(policy, key(1), Some("desk:7722"), false, &known);
            assert_eq!(first, Decision::Pin("desk:7722".into()));
        }
        known.pin_host("desk:7722", key(1)).unwrap();
        for policy in POLICIES {
            let again = judge(policy, key(1), Some("desk:7722"), false, &known);
            assert_eq!(again, Decision::Admit(None));
            // The code is verified too late to decide whom to call.
            let other = judge(policy, key(2), Some("desk:7722"), true, &known);
            let Decision::Refuse(why) = other else { panic!("{other:?}") };
            let prints = [key(1), key(2)].map(|key| key.fingerprint().to_string());
            assert!(prints.iter().all(|print| why.contains(print)), "{why}");
            assert!(why.contains("delete line 1 of"), "{why}");
        }
    }

    #[test]
    fn a_pinned_host_is_not_admitted_as_a_caller() {
        let (_folder, known) = known();
        known.pin_host("desk:7722", key(2)).unwrap();
        let judged = judge(Policy::Ask { can_ask: true }, key(2), None, false, &known);
        assert!(matches!(judged, Decision::Ask(_)), "{judged:?}");
        let judged = judge(Policy::Known, key(2), None, false, &known);
        assert!(matches!(judged, Decision::Refuse(_)), "{judged:?}");
    }

    #[test]
    fn a_quoted_name_cannot_imitate_our_text() {
        let name = Name::new("ann\" (10.0.0.5) has the fingerprint x, known as `ann");
        let peer = Peer { name: Some(name), addr: "10.0.0.1:5".parse().unwrap(), key: None };
        let said = quoted(&peer);
        assert_eq!(said.matches('"').count(), 2, "{said}");
        assert!(said.ends_with("\" (10.0.0.1)") && !said.contains('`'), "{said}");
    }

    #[test]
    fn the_policy_decides_which_callers_are_admitted() {
        let (_folder, known) = known();
        known.pin_caller(Name::new("bob"), key(1)).unwrap();
        for policy in POLICIES {
            let in_file = judge(policy, key(1), None, false, &known);
            assert!(matches!(in_file, Decision::Admit(Some(_))), "{policy:?}");
            let stranger = judge(policy, key(2), None, false, &known);
            match policy {
                Policy::Anyone => assert!(matches!(stranger, Decision::Admit(Some(_)))),
                Policy::Ask { can_ask: true } => assert!(matches!(stranger, Decision::Ask(_))),
                _ => assert!(matches!(stranger, Decision::Refuse(_)), "{policy:?}"),
            }
            let with_code = judge(policy, key(2), None, true, &known);
            let refused = policy == Policy::Known;
            assert_eq!(matches!(with_code, Decision::Refuse(_)), refused, "{policy:?}");
        }
    }

    #[test]
    fn a_stranger_with_a_known_name_is_flagged() {
        let (_folder, known) = known();
        known.pin_caller(Name::new("ann"), key(1)).unwrap();
        let judged = judge(Policy::Ask { can_ask: true }, key(2), None, false, &known);
        let Decision::Ask(question) = judged else { panic!("{judged:?}") };
        assert!(question.contains("you know has"), "{question}");
    }

    #[test]
    fn the_suggested_known_peers_line_admits_the_stranger() {
        let (_folder, known) = known();
        let Decision::Refuse(why) = judge(Policy::Known, key(2), None, false, &known) else {
            panic!("admitted")
        };
        let line = why.split('`').nth(1).unwrap();
        std::fs::write(known.path(), format!("{line}\n")).unwrap();
        let judged = judge(Policy::Known, key(2), None, false, &known);
        assert!(matches!(judged, Decision::Admit(_)), "{judged:?}");
    }

    #[test]
    fn our_own_key_is_always_admitted() {
        let (_folder, known) = known();
        let host = judge(Policy::Known, key(0), Some("localhost:7722"), false, &known);
        assert_eq!(host, Decision::Admit(None));
        assert!(matches!(judge(Policy::Known, key(0), None, false, &known), Decision::Admit(_)));
    }
}
