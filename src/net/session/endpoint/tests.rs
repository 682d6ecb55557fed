//! Callers, called endpoints and senders without a control channel, in virtual time.

use std::time::Duration;

use super::{one_way_attempts::ONE_WAY_ATTEMPTS_BURST, *};
use crate::net::{
    crypto::keys::{Identity, SharedSecret},
    session::{Target, control::Received},
    wire::{
        control::{Cipher, Epoch, Hello, Message, Purpose, SecretPart},
        text::Name,
    },
};

fn config(now: Instant, role: Role) -> EndpointConfig {
    EndpointConfig::new("ann", role, Identity::from_bytes([1; 32]), now)
}

fn endpoint(now: Instant, role: Role) -> Endpoint {
    Endpoint::new(now, config(now, role))
}

#[test]
fn a_one_way_sender_needs_no_answer() {
    let now = crate::clock::now();
    let addr = "127.0.0.1:7".parse().unwrap();
    let target = Target { host: "desk".into(), port: 7, addrs: vec![addr] };
    let role = Role::Send { targets: vec![target], control: false };
    let mut endpoint = endpoint(now, role);
    assert_eq!(endpoint.poll_timeout(), None);
    endpoint.handle_timeout(now + Duration::from_secs(3600));
    assert_eq!(endpoint.calls().count(), 1);
}

#[test]
fn a_failed_connection_is_classified_and_redialled() {
    let now = crate::clock::now();
    let target =
        Target { host: "desk".into(), port: 7, addrs: vec!["127.0.0.1:7".parse().unwrap()] };
    for (connected, refused, expected) in [
        (true, false, WaitReason::HungUp),
        (false, false, WaitReason::NoAnswer),
        (false, true, WaitReason::NobodyListens),
    ] {
        let targets = vec![target.clone()];
        let mut sender = endpoint(now, Role::Send { targets, control: true });
        let Some(Output::Dial(conn, _)) = sender.poll_output() else { panic!("it dials") };
        if connected {
            sender.handle_connected(now, conn);
        }
        sender.handle_disconnected(now, conn, refused);
        let told = events(&mut sender);
        assert!(
            matches!(&told[..], [Event::Waiting { reason, .. }] if *reason == expected),
            "{told:?}"
        );
        while sender.poll_output().is_some() {}
        sender.handle_timeout(sender.poll_timeout().unwrap());
        assert!(matches!(sender.poll_output(), Some(Output::Dial(..))));
    }
}

/// A caller that has received `endpoint`'s key, and the hello that it has yet to send.
fn caller(now: Instant, endpoint: &mut Endpoint) -> (ConnId, ControlChannel, Hello) {
    while endpoint.poll_output().is_some() {}
    let conn = endpoint.handle_incoming(now, "127.0.0.1:7".parse().unwrap()).unwrap();
    let identity = Identity::from_bytes([2; 32]);
    let mut control = ControlChannel::dial(now, conn, &identity, None);
    endpoint.handle_data(now, conn, &control.take_output().unwrap());
    deliver(now, endpoint, &mut control);
    assert!(matches!(control.poll_received(), Ok(Some(Received::Key(..)))));
    let hello = Hello {
        session: 7,
        name: Name::new("bob"),
        purpose: Purpose::Send,
        stream: None,
        epoch: Epoch { boot: 0, monotonic_us: 0 },
        max_datagram_len: 1200,
        secret: SecretPart::from_bytes([3; 32]),
        cipher: Cipher::ChaCha20Poly1305,
    };
    (conn, control, hello)
}

fn deliver(now: Instant, endpoint: &mut Endpoint, control: &mut ControlChannel) {
    while let Some(output) = endpoint.poll_output() {
        if let Output::Write(_, bytes) = output {
            control.handle_data(now, &bytes);
        }
    }
}

fn events(endpoint: &mut Endpoint) -> Vec<Event> {
    std::iter::from_fn(|| endpoint.poll_event()).collect()
}

#[test]
fn messages_right_after_the_hello_are_delivered_at_once() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    let (conn, mut control, hello) = caller(now, &mut endpoint);
    control.send_hello(hello);
    control.push(&Message::Text(Line::new("hi").unwrap()));
    endpoint.handle_data(now, conn, &control.take_output().unwrap());
    let events = events(&mut endpoint);
    assert!(matches!(events[..], [Event::Connected { .. }, Event::Text { .. }]), "{events:?}");
}

#[test]
fn a_caller_rings_until_it_is_admitted_or_refused() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    endpoint.config.admission = Admission::Asked;
    for verdict in [Verdict::Refuse, Verdict::Admit] {
        let (conn, mut control, hello) = caller(now, &mut endpoint);
        control.send_hello(hello);
        endpoint.handle_data(now, conn, &control.take_output().unwrap());
        let [Event::Asked { ask, key, .. }] = events(&mut endpoint)[..] else { panic!() };
        assert_eq!(key, Identity::from_bytes([2; 32]).public_key());
        let later = now + Duration::from_secs(10);
        endpoint.handle_timeout(later);
        deliver(later, &mut endpoint, &mut control);
        assert_eq!(control.poll_received(), Ok(Some(Received::Message(Message::Ringing))));
        assert_eq!(control.poll_received(), Ok(Some(Received::Message(Message::KeepAlive))));
        endpoint.answer(later, ask, verdict);
        deliver(later, &mut endpoint, &mut control);
        let heard = control.poll_received();
        match verdict {
            Verdict::Refuse => {
                assert_eq!(
                    heard,
                    Ok(Some(Received::Message(Message::Reject(RejectReason::Refused))))
                );
            }
            Verdict::Admit => {
                assert!(matches!(heard, Ok(Some(Received::Message(Message::Accept(_))))));
            }
        }
        let told = events(&mut endpoint);
        match verdict {
            Verdict::Refuse => assert!(matches!(told[..], [Event::Refused { .. }])),
            Verdict::Admit => assert!(matches!(told[..], [Event::Connected { .. }])),
        }
    }
}

#[test]
fn a_ringing_caller_is_removed_when_it_leaves_or_falls_silent() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    endpoint.config.admission = Admission::Asked;
    for leaves in [false, true] {
        let (conn, mut control, hello) = caller(now, &mut endpoint);
        control.send_hello(hello);
        endpoint.handle_data(now, conn, &control.take_output().unwrap());
        assert!(matches!(events(&mut endpoint)[..], [Event::Asked { .. }]));
        let mut later = now;
        for _ in 0..3600 {
            later += Duration::from_secs(1);
            control.push(&Message::KeepAlive);
            endpoint.handle_data(later, conn, &control.take_output().unwrap());
            endpoint.handle_timeout(later);
        }
        assert_eq!(events(&mut endpoint), [], "it rings");
        if leaves {
            endpoint.handle_disconnected(later, conn, false);
        } else {
            endpoint.handle_timeout(later + Duration::from_secs(15));
        }
        let told = events(&mut endpoint);
        assert!(matches!(told[..], [Event::AskEnded { .. }]), "{told:?}");
        assert!(endpoint.is_idle());
    }
}

#[test]
fn messages_sent_while_ringing_are_delivered_on_admission() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    endpoint.config.admission = Admission::Asked;
    let (conn, mut control, hello) = caller(now, &mut endpoint);
    control.send_hello(hello);
    endpoint.handle_data(now, conn, &control.take_output().unwrap());
    let [Event::Asked { ask, .. }] = events(&mut endpoint)[..] else { panic!() };
    for message in [Message::KeepAlive, Message::Text(Line::new("hi").unwrap())] {
        control.push(&message);
        endpoint.handle_data(now, conn, &control.take_output().unwrap());
    }
    endpoint.answer(now, ask, Verdict::Admit);
    let told = events(&mut endpoint);
    assert!(matches!(told[..], [Event::Connected { .. }, Event::Text { .. }]), "{told:?}");
}

#[test]
fn a_caller_that_floods_while_ringing_is_dropped() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    endpoint.config.admission = Admission::Asked;
    let (conn, mut control, hello) = caller(now, &mut endpoint);
    control.send_hello(hello);
    for _ in 0..1000 {
        control.push(&Message::Text(Line::new("hello there").unwrap()));
        endpoint.handle_data(now, conn, &control.take_output().unwrap());
    }
    let told = events(&mut endpoint);
    assert!(matches!(told[..], [Event::Asked { .. }, Event::AskEnded { .. }]), "{told:?}");
    assert!(endpoint.is_idle());
}

fn one_way(now: Instant, role: Role, one_way: OneWay, at: u64) -> Endpoint {
    let wall_clock = Duration::from_secs(at);
    // Another seed, another session.
    let seed = at + 1;
    Endpoint::new(now, EndpointConfig { one_way, wall_clock, seed, ..config(now, role) })
}

/// The only datagram of a small frame from a sender without a control channel, whose session began
/// at second `at`.
fn sent_one_way(now: Instant, key: OneWay, at: u64) -> Vec<u8> {
    let target =
        Target { host: "desk".into(), port: 7, addrs: vec!["127.0.0.1:7".parse().unwrap()] };
    let role = Role::Send { targets: vec![target], control: false };
    let mut sender = one_way(now, role, key, at);
    sender.push_frame(now, &OutgoingFrame { data: vec![7; 100].into(), captured: now });
    let mut buf = vec![0; 2000];
    let transmit = sender.poll_transmit(now, &mut buf, 1).unwrap();
    buf.truncate(transmit.len);
    buf
}

fn key(byte: u8) -> OneWay {
    OneWay::Sealed(SharedSecret::from_bytes([byte; 32]))
}

#[test]
fn a_one_way_stream_is_accepted_only_with_the_same_key() {
    let now = crate::clock::now();
    let from = "127.0.0.1:8".parse::<SocketAddr>().unwrap();
    for (ours, theirs, accepted, told) in [
        (OneWay::Clear, OneWay::Clear, true, None),
        (key(1), key(1), true, None),
        (key(1), key(2), false, None),
        (key(1), OneWay::Clear, false, Some(false)),
        (OneWay::Clear, key(1), false, Some(true)),
        (OneWay::Refused, OneWay::Clear, false, None),
        (OneWay::Refused, key(1), false, None),
    ] {
        let what = format!("{ours:?} accepts {theirs:?}");
        let mut receiver = one_way(now, Role::Receive, ours, 0);
        let datagram = sent_one_way(now, theirs.clone(), 5);
        for seconds in 0..3 {
            let at = now + Duration::from_secs(seconds);
            receiver.handle_datagram(at, from, &mut datagram.clone());
        }
        assert_eq!(receiver.poll_frame().is_some(), accepted, "{what}");
        let cannot_open = events(&mut receiver).into_iter().filter_map(|event| match event {
            Event::CannotOpen { is_sealed, .. } => Some(is_sealed),
            _ => None,
        });
        assert_eq!(cannot_open.collect::<Vec<_>>(), Vec::from_iter(told), "{what}");
    }
}

#[test]
fn no_call_begins_after_close() {
    let now = crate::clock::now();
    let from = "127.0.0.1:8".parse::<SocketAddr>().unwrap();
    for key in [OneWay::Clear, key(1)] {
        let mut receiver = one_way(now, Role::Receive, key.clone(), 0);
        let mut stream = sent_one_way(now, key.clone(), 5);
        receiver.handle_datagram(now, from, &mut stream.clone());
        assert!(receiver.poll_frame().is_some());
        receiver.close(CloseReason::Quit);
        events(&mut receiver);
        receiver.handle_datagram(now, from, &mut stream);
        receiver.handle_datagram(now, from, &mut sent_one_way(now, key, 6));
        assert_eq!(receiver.handle_incoming(now, from), None);
        assert!(receiver.poll_frame().is_none() && events(&mut receiver).is_empty());
    }
}

#[test]
fn an_older_sealed_one_way_stream_cannot_be_replayed() {
    let now = crate::clock::now();
    let from = "127.0.0.1:8".parse::<SocketAddr>().unwrap();
    let mut receiver = one_way(now, Role::Receive, key(1), 0);
    let old = sent_one_way(now, key(1), 5);
    let mut take = |now: Instant, datagram: &[u8]| {
        receiver.handle_datagram(now, from, &mut datagram.to_vec());
        let taken = receiver.poll_frame().is_some();
        receiver.handle_timeout(now + Duration::from_secs(3));
        taken
    };
    assert!(take(now, &old));
    let later = now + Duration::from_secs(10);
    assert!(!take(later, &old), "a replay");
    assert!(take(later, &sent_one_way(later, key(1), 6)));
    assert!(!take(later + Duration::from_secs(10), &old));
}

#[test]
fn an_older_session_is_not_shown_while_a_newer_one_pauses() {
    let now = crate::clock::now();
    let from = "127.0.0.1:8".parse::<SocketAddr>().unwrap();
    let mut receiver = one_way(now, Role::Receive, key(1), 0);
    let old = sent_one_way(now, key(1), 5);
    receiver.handle_datagram(now, from, &mut sent_one_way(now, key(1), 6));
    assert!(receiver.poll_frame().is_some());
    let later = now + Duration::from_millis(700);
    receiver.handle_datagram(later, from, &mut old.clone());
    assert!(receiver.poll_frame().is_none());
    receiver.handle_datagram(later, from, &mut sent_one_way(later, key(1), 7));
    assert!(receiver.poll_frame().is_some(), "but a newer one is");
}

#[test]
fn attempts_to_open_unknown_sealed_sessions_are_limited() {
    let now = crate::clock::now();
    let from = "127.0.0.1:8".parse::<SocketAddr>().unwrap();
    let mut receiver = one_way(now, Role::Receive, key(1), 0);
    for _ in 0..100 {
        receiver.handle_datagram(now, from, &mut sent_one_way(now, key(2), 6));
    }
    assert_eq!(receiver.strays().forged, ONE_WAY_ATTEMPTS_BURST as u64);
}

#[test]
fn strangers_cannot_exhaust_the_attempts_of_a_known_address() {
    let now = crate::clock::now();
    let [known, stranger] =
        ["10.0.0.1:8", "10.0.0.2:8"].map(|addr| addr.parse::<SocketAddr>().unwrap());
    let mut receiver = one_way(now, Role::Receive, key(1), 0);
    receiver.handle_datagram(now, known, &mut sent_one_way(now, key(1), 5));
    assert!(receiver.poll_frame().is_some());
    let later = now + Duration::from_secs(3);
    receiver.handle_timeout(later);
    for _ in 0..1000 {
        receiver.handle_datagram(later, stranger, &mut sent_one_way(later, key(2), 6));
    }
    assert_eq!(receiver.strays().forged, ONE_WAY_ATTEMPTS_BURST as u64);
    receiver.handle_datagram(later, known, &mut sent_one_way(later, key(1), 7));
    assert!(receiver.poll_frame().is_some(), "its first datagram is tried");
}

#[test]
fn connections_opened_in_advance_allow_no_extra_guesses() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    endpoint.config.secret = Some(SharedSecret::from_bytes([9; 32]));
    let callers: Vec<_> = (0..8).map(|_| caller(now, &mut endpoint)).collect();
    for (conn, mut control, hello) in callers {
        control.send_hello(hello);
        endpoint.handle_data(now, conn, &control.take_output().unwrap());
    }
    let told = events(&mut endpoint);
    assert!(matches!(told[..], [Event::ProtocolViolation { .. }]), "{told:?}");
}

#[test]
fn an_answered_caller_connects_despite_a_handshake_flood() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    let (conn, mut control, hello) = caller(now, &mut endpoint);
    let eve = Identity::from_bytes([4; 32]);
    let mut turned_away = 0;
    for _ in 0..100 {
        let conn = endpoint.handle_incoming(now, "127.0.0.1:666".parse().unwrap()).unwrap();
        let first = ControlChannel::dial(now, conn, &eve, None).take_output().unwrap();
        endpoint.handle_data(now, conn, &first);
        let outputs = std::iter::from_fn(|| endpoint.poll_output());
        turned_away += outputs.filter(|output| *output == Output::Close(conn)).count();
    }
    assert!(turned_away > 50, "{turned_away}");
    control.send_hello(hello);
    endpoint.handle_data(now, conn, &control.take_output().unwrap());
    assert!(matches!(events(&mut endpoint)[..], [Event::Connected { .. }]));
}

#[test]
fn garbage_does_not_count_towards_the_handshake_limit() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    let eve = "127.0.0.1:666".parse().unwrap();
    for garbage in [&b"GET / HTTP/1"[..], b"udpchat\x02\0\x02xy"].repeat(200) {
        let conn = endpoint.handle_incoming(now, eve).unwrap();
        endpoint.handle_data(now, conn, garbage);
    }
    events(&mut endpoint);
    let (conn, mut control, hello) = caller(now, &mut endpoint);
    control.send_hello(hello);
    endpoint.handle_data(now, conn, &control.take_output().unwrap());
    assert!(matches!(events(&mut endpoint)[..], [Event::Connected { .. }]));
}

#[test]
fn excess_messages_wait_for_the_rate_limit_or_the_end_of_the_call() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    let (conn, mut control, hello) = caller(now, &mut endpoint);
    control.send_hello(hello);
    endpoint.handle_data(now, conn, &control.take_output().unwrap());
    events(&mut endpoint);
    // The lines and changes of ten seconds, and some more, arrive together.
    let now = now + Duration::from_secs(10);
    for width in 0..150 {
        control.push(&Message::Text(Line::new(&width.to_string()).unwrap()));
        let stream = StreamParams { width, height: 1, millifps: 1, quality: None };
        control.push(&Message::Stream(stream));
    }
    endpoint.handle_data(now, conn, &control.take_output().unwrap());
    let told = events(&mut endpoint);
    let streams = told.iter().filter(|e| matches!(e, Event::StreamChanged { .. })).count();
    assert_eq!((texts(&told), streams), ((0..20).collect(), 20));
    assert_eq!(endpoint.totals().rate_limited, (150 - 120) + (150 - 20 - 1));

    endpoint.handle_timeout(now + Duration::from_millis(101));
    let told = events(&mut endpoint);
    let [Event::Text { .. }, Event::StreamChanged { stream, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((texts(&told), stream.width), (vec![20], 149));

    control.push(&Message::Close(CloseReason::Quit));
    endpoint.handle_data(now, conn, &control.take_output().unwrap());
    assert!(events(&mut endpoint).is_empty(), "datagrams may still be in flight");
    endpoint.handle_timeout(now + Duration::from_secs(1));
    let told = events(&mut endpoint);
    assert!(matches!(told.last(), Some(Event::Ended { .. })), "{told:?}");
    assert_eq!(texts(&told), (21..120).collect::<Vec<_>>());
}

#[test]
fn waiting_lines_are_shown_when_we_hang_up() {
    let now = crate::clock::now();
    let mut endpoint = endpoint(now, Role::Receive);
    let (conn, mut control, hello) = caller(now, &mut endpoint);
    control.send_hello(hello);
    endpoint.handle_data(now, conn, &control.take_output().unwrap());
    for number in 0..30 {
        control.push(&Message::Text(Line::new(&number.to_string()).unwrap()));
    }
    endpoint.handle_data(now + Duration::from_secs(2), conn, &control.take_output().unwrap());
    endpoint.close(CloseReason::Quit);
    let told = events(&mut endpoint);
    assert!(matches!(told.last(), Some(Event::Ended { reason: EndReason::Local, .. })), "{told:?}");
    assert_eq!(texts(&told), (0..30).collect::<Vec<_>>());
}

/// The numbers in the text lines of `events`.
fn texts(events: &[Event]) -> Vec<usize> {
    let line = |event: &Event| match event {
        Event::Text { line, .. } => line.as_str().parse().ok(),
        _ => None,
    };
    events.iter().filter_map(line).collect()
}
