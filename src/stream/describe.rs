//! Describes network events to people.

use crate::net::{
    io::{least_mtu, shown, shown_ip},
    link::MIN_DATAGRAM_LEN,
    session::{EndReason, Event, GiveUpReason, Peer, WaitReason},
    wire::control::{CloseReason, Purpose, RejectReason, StreamParams},
};

/// Describes `event` in a line; `None` if it needs none. `listening` is our listening port, if any.
pub(crate) fn describe(event: &Event, listening: Option<u16>) -> Option<String> {
    Some(match event {
        Event::Waiting { host, port, reason: WaitReason::NobodyListens } => {
            format!("waiting for {host}: nothing is listening on port {port} yet")
        }
        Event::Waiting { host, port, reason: WaitReason::NoAnswer } => format!(
            "waiting for {host}: no answer on TCP port {port} (is it on, and does its firewall allow it?)"
        ),
        Event::Waiting { host, reason: WaitReason::Unresolved { error }, .. } => format!(
            "waiting for {host}: its address is not known: {error} (check the name, or give its address)"
        ),
        Event::Waiting { host, reason: WaitReason::Uncallable { ip }, .. } => format!(
            "waiting for {host}: the name resolves to {ip}, which is not the address of a machine (a DNS filter may block the name; give the address instead)"
        ),
        Event::Waiting { host, reason: WaitReason::Local { fault, error }, .. } => {
            match fault.remedy() {
                "" => format!("waiting for {host}: {error}"),
                remedy => format!("waiting for {host}: {error} ({remedy})"),
            }
        }
        Event::Waiting { host, reason: WaitReason::HungUp, .. } => format!(
            "waiting for {host}: it closes the connection (too many callers, or a wrong code from this network within the last second)"
        ),
        Event::Waiting { host, reason: WaitReason::Busy { with }, .. } => {
            format!("waiting for {host}: it is busy with {with}")
        }
        Event::Waiting { host, reason: WaitReason::Ringing, .. } => {
            format!("ringing {host}: waiting for the call to be accepted (Ctrl-C hangs up)")
        }
        Event::Waiting { host, reason: WaitReason::ConnectionLost, .. } => {
            format!("waiting for {host}: the connection was lost before the call was accepted")
        }
        Event::Sending { host } => format!("now sending to {host}"),
        Event::GivenUp { host, reason } => format!("cannot stream to {host}: {}", given_up(reason)),
        Event::Connected { peer, stream, is_sealed, .. } => match stream {
            Some(stream) => format!("{} streams {}", who(peer), stream_line(stream)),
            None if peer.name.is_none() && *is_sealed => {
                format!("{} streams, encrypted with the shared key", who(peer))
            }
            None if peer.name.is_none() => format!(
                "{} streams in the clear: anyone on the path can read and change it",
                who(peer)
            ),
            None => format!("connected to {}", who(peer)),
        },
        Event::Refused { peer, reason } => format!("refused {}: {}", who(peer), refused(reason)),
        Event::CannotOpen { from, is_sealed: true } => format!(
            "{} streams with a key that we do not have: give both sides the same --key-file",
            shown(*from)
        ),
        Event::CannotOpen { from, is_sealed: false } => format!(
            "{} streams in the clear, but we have a key: give it the same --key-file, or remove ours",
            shown(*from)
        ),
        Event::ProtocolViolation { from, error } => format!("refused {}: {error}", shown(*from)),
        Event::StreamChanged { stream, .. } => format!("the stream is now {}", stream_line(stream)),
        Event::UdpBlocked { peer } => format!(
            "{} is connected, but no datagram has arrived for 2 s: UDP is probably blocked; allow UDP port {} in the firewall",
            who(peer),
            listening.unwrap_or(peer.addr.port()),
        ),
        Event::PathTooNarrow { peer } => format!(
            "datagrams of {MIN_DATAGRAM_LEN} bytes do not reach {}, but shorter ones do: an interface on the way probably has an MTU below {}, the least that udpchat needs; raise it",
            who(peer),
            least_mtu(peer.addr),
        ),
        Event::UdpUnblocked { peer } => format!("datagrams arrive from {} again", who(peer)),
        Event::PicturesTooSlow { peer, takes } => format!(
            "a picture takes {:.1} s to reach {}, but only pictures that arrive within 2 s are shown: use --quality auto, a smaller --size or a lower --quality",
            takes.as_secs_f64(),
            who(peer),
        ),
        Event::Ended { peer, reason, .. } => format!("{} {}", who(peer), ended(*reason)?),
        // Text and questions are shown elsewhere.
        Event::Text { .. }
        | Event::Asked { .. }
        | Event::AskEnded { .. }
        | Event::SendingEarly { .. }
        | Event::EarlyFrameLost => return None,
    })
}

/// A peer's name and address.
pub(crate) fn who(peer: &Peer) -> String {
    match &peer.name {
        Some(name) => format!("{name} ({})", shown_ip(peer.addr)),
        None => shown(peer.addr),
    }
}

fn stream_line(stream: &StreamParams) -> String {
    let StreamParams { width, height, millifps, quality } = stream;
    let fps = f64::from(*millifps) / 1000.0;
    let quality = quality.map_or_else(String::new, |q| format!(", quality {q}"));
    format!("{width}x{height} at {fps} frames/s{quality}")
}

fn given_up(reason: &GiveUpReason) -> String {
    match reason {
        GiveUpReason::Control(error) => error.to_string(),
        GiveUpReason::Unwanted { wants: Purpose::Send } => "it only receives".into(),
        GiveUpReason::Unwanted { wants: Purpose::Chat } => "it waits for a chat".into(),
        GiveUpReason::Malformed => "it rejected our hello as malformed".into(),
        GiveUpReason::Refused => "the call was not accepted: your key is not known there".into(),
        GiveUpReason::Untrusted => "its key is not the expected one".into(),
    }
}

fn refused(reason: &RejectReason) -> String {
    match reason {
        RejectReason::Busy { with } => format!("busy with {with}"),
        RejectReason::Unwanted { wants: Purpose::Send } => {
            "it wants to chat, but this side only receives".into()
        }
        RejectReason::Unwanted { wants: Purpose::Chat } => {
            "it only sends, but this side waits for a chat".into()
        }
        RejectReason::Malformed => "its hello is malformed".into(),
        RejectReason::Refused => "unknown key, and the call was not accepted".into(),
    }
}

fn ended(reason: EndReason) -> Option<String> {
    Some(match reason {
        EndReason::Closed(CloseReason::Quit) => "has left".into(),
        EndReason::Closed(CloseReason::SourceEnded) => "has reached the end of its video".into(),
        EndReason::Closed(CloseReason::Silent) => "timed out waiting for us".into(),
        EndReason::ConnectionLost => "is gone: the connection was lost".into(),
        EndReason::Silent => "timed out".into(),
        EndReason::TakenOver => "was silent, and another caller has taken its place".into(),
        EndReason::Protocol(error) => format!("was cut off: {error}"),
        EndReason::Local => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wire::{control::ControlError, text::Name};

    #[test]
    fn a_version_mismatch_names_both_versions() {
        let reason = GiveUpReason::Control(ControlError::Version(9));
        let line = describe(&Event::GivenUp { host: "desk".into(), reason }, None).unwrap();
        assert!(line.contains("version 9") && line.contains("version 2"), "{line}");
    }

    #[test]
    fn a_hang_up_after_a_wrong_code_does_not_suggest_a_firewall() {
        let (host, port) = ("desk".into(), 7722);
        let event = Event::Waiting { host, port, reason: WaitReason::HungUp };
        let line = describe(&event, None).unwrap();
        assert!(line.contains("wrong code") && !line.contains("firewall"), "{line}");
    }

    #[test]
    fn local_faults_are_reported_in_the_systems_words() {
        use crate::net::session::LocalFault;

        let waiting = |reason| {
            describe(&Event::Waiting { host: "desk".into(), port: 7722, reason }, None).unwrap()
        };
        let error = "Network is unreachable".to_owned();
        let line = waiting(WaitReason::Local { fault: LocalFault::NoRoute, error });
        assert!(line.contains("Network is unreachable") && line.contains("ip route"), "{line}");
        let error = "Invalid argument".to_owned();
        let line = waiting(WaitReason::Local { fault: LocalFault::NoZone, error });
        assert!(line.contains("%eth0") && !line.contains("firewall"), "{line}");
        let line = waiting(WaitReason::Unresolved { error: "Name or service not known".into() });
        assert!(line.contains("Name or service not known"), "{line}");
        let line = waiting(WaitReason::Uncallable { ip: "0.0.0.0".parse().unwrap() });
        assert!(line.contains("desk: the name resolves to 0.0.0.0,"), "{line}");
    }

    #[test]
    fn blocked_udp_names_the_port() {
        let addr = "10.0.0.1:5".parse().unwrap();
        let peer = Peer { name: Some(Name::new("ann")), addr, key: None };
        let line = describe(&Event::UdpBlocked { peer }, Some(7722)).unwrap();
        assert!(line.contains("UDP port 7722"), "{line}");
    }
}
