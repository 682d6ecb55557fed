//! Attacks over loopback: eavesdropping, tampering, replay, reflection and forgery. The receiver
//! counts such datagrams and never shows them.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use udpchat::{
    clock,
    latest::Taken,
    net::{
        crypto::keys::SharedSecret,
        frame::{FrameBytes, OutgoingFrame, SessionId},
        io::Listen,
        session::{EndReason, EndpointConfig, Event, GiveUpReason, OneWay, Role, WaitReason},
        wire::{
            checksum::{CrcCombiner, Hashed},
            control::ControlError,
            datagram::{Direction, Form, Kind, Prelude},
            text::Line,
        },
    },
};

use crate::{
    caller::Caller,
    program::unstarved,
    relay::{Channel, Relay, Way},
    side::{
        FRAME_LEN, LOOPBACK, Side, config, deliver, deliver_some, dial_config, driver_config,
        listen_config, target, wait, wait_up_to,
    },
    sim::{FRAME_INTERVAL, number_of, picture},
};

/// Everything that the relay has forwarded, in order.
type Passed = Arc<Mutex<Vec<(Channel, Way, Vec<u8>)>>>;

/// A receiver behind a relay that records and forwards everything.
fn overheard() -> (Side, Relay, Passed) {
    let receiver = Side::receiver(LOOPBACK, true);
    let passed = Passed::default();
    let kept = Arc::clone(&passed);
    let relay = Relay::before(receiver.addr(), move |channel, way, bytes| {
        kept.lock().expect("not poisoned").push((channel, way, bytes.clone()));
        true
    });
    (receiver, relay, passed)
}

fn datagrams(passed: &Passed, way: Way) -> Vec<Vec<u8>> {
    let passed = passed.lock().expect("not poisoned");
    let media = passed.iter().filter(|(channel, w, _)| (*channel, *w) == (Channel::Media, way));
    media.map(|(_, _, bytes)| bytes.clone()).collect()
}

#[test]
fn eavesdroppers_learn_no_picture_name_or_text() {
    let bob = Side::start(listen_config(Role::ChatListen, LOOPBACK.parse().expect("ours"), true));
    let passed = Passed::default();
    let kept = Arc::clone(&passed);
    let relay = Relay::before(bob.addr(), move |channel, way, bytes| {
        kept.lock().expect("not poisoned").push((channel, way, bytes.clone()));
        true
    });
    let mut ours = config("annabella@desktop", Role::ChatDial(target(relay.addr())));
    ours.stream = None;
    let ann = Side::start(driver_config(ours, None));
    let peer = bob.wait("a call", |event| match event {
        Event::Connected { peer, .. } => peer.name,
        _ => None,
    });
    assert_eq!(peer.to_string(), "annabella@desktop");
    // The start of a JPEG: SOI, the JFIF APP0 header and a DQT header.
    let markers: [&[u8]; 2] = [b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\xff\xdb\x00\x43\x00"];
    let secret: Vec<u8> = [&7_u64.to_be_bytes()[..], &markers.concat().repeat(1000)].concat();
    let data = FrameBytes::from(secret.clone());
    let delivered = wait("the picture", || {
        ann.inlet.push(OutgoingFrame { data: data.clone(), captured: clock::now() });
        bob.received.try_take()
    });
    assert_eq!(delivered.frame.data[..], secret);
    assert!(ann.handle.say(Line::new("meet me at the old mill").expect("a line")));
    let heard = bob.wait("the line", |event| match event {
        Event::Text { line, .. } => Some(line.to_string()),
        _ => None,
    });
    assert_eq!(heard, "meet me at the old mill");
    let passed = passed.lock().expect("not poisoned");
    let sent: usize = passed.iter().map(|(_, _, bytes)| bytes.len()).sum();
    assert!(sent > secret.len(), "{sent} bytes overheard");
    let secrets: [&[u8]; 5] = [markers[0], markers[1], b"annabella", b"desktop", b"old mill"];
    for (channel, way, bytes) in passed.iter() {
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{secret:?} in {channel:?} {way:?}");
        }
    }
    drop(passed);
    drop((ann, bob, relay));
}

#[test]
fn corrupted_datagrams_are_counted_and_never_shown() {
    let receiver = Side::receiver(LOOPBACK, true);
    let mut count = 0_usize;
    let relay = Relay::before(receiver.addr(), move |channel, way, bytes| {
        if (channel, way) == (Channel::Media, Way::ToAnswerer) {
            count += 1;
            if count.is_multiple_of(10) {
                // Flips a different bit each time, anywhere in the datagram.
                let bit = count * 7919 % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        true
    });
    let sender = Side::sender(relay.addr(), true);
    for number in 0..40 {
        let frame = deliver(&sender, &receiver, number, FRAME_LEN).frame;
        assert_eq!(frame.data[..], picture(number, FRAME_LEN), "as it was sent");
    }
    let stats = receiver.wait_stats("forged datagrams", |s| s.totals.forged > 20);
    assert_eq!(stats.totals.reassembly.damaged, 0);
}

#[test]
fn a_corrupted_control_channel_ends_only_its_connection() {
    let receiver = Side::receiver(LOOPBACK, true);
    // Flips a bit of message number `first` and of all later ones, because a refused caller retries.
    for first in 0..6 {
        let mut passed = 0;
        let relay = Relay::before(receiver.addr(), move |channel, _, bytes| {
            if channel == Channel::Control {
                if passed >= first {
                    *bytes.last_mut().expect("not empty") ^= 1;
                }
                passed += 1;
            }
            true
        });
        let sender = Side::sender(relay.addr(), true);
        wait("a refusal", || {
            let told = [&sender, &receiver].map(|side| {
                std::iter::from_fn(|| side.handle.try_event()).any(|event| {
                    matches!(
                        event,
                        Event::GivenUp { reason: GiveUpReason::Control(_), .. }
                            | Event::Ended { reason: EndReason::Protocol(_), .. }
                            | Event::ProtocolViolation { .. }
                    )
                })
            });
            told.contains(&true).then_some(())
        });
    }
    let sender = Side::sender(receiver.addr(), true);
    deliver_some(&sender, &receiver);
}

#[test]
fn replayed_reflected_and_mixed_datagrams_are_counted_and_not_shown() {
    let (receiver, relay, passed) = overheard();
    let sender = Side::sender(relay.addr(), true);
    deliver_some(&sender, &receiver);
    let first = datagrams(&passed, Way::ToAnswerer);
    let before = receiver.handle.stats().totals.reassembly.completed;
    // Replayed at once, and again when they are behind the replay window.
    let replay = |way| first.iter().for_each(|datagram| relay.inject(way, datagram));
    let to_answerer = || replay(Way::ToAnswerer);
    receiver.resend_until("repetitions", to_answerer, |s| s.totals.duplicates > 100);
    for number in 10..60 {
        deliver(&sender, &receiver, number, FRAME_LEN);
    }
    receiver.resend_until("old ones", to_answerer, |s| s.totals.too_old > 100);
    // Reflected to the sender.
    sender.resend_until("reflections", || replay(Way::ToDialler), |s| s.totals.reflected > 100);
    // Replayed from an ended session, unchanged and with the new session's id.
    sender.quit();
    let sender = Side::sender(relay.addr(), true);
    passed.lock().expect("not poisoned").clear();
    for number in LATER..LATER + 10 {
        deliver(&sender, &receiver, number, FRAME_LEN);
    }
    let session = datagrams(&passed, Way::ToAnswerer).last().expect("some")[8..12].to_vec();
    let both = || {
        for datagram in &first {
            relay.inject(Way::ToAnswerer, datagram);
            let mut moved = datagram.clone();
            moved[8..12].copy_from_slice(&session);
            // A sequence number ahead of all others, so that only the seal can reveal the forgery.
            moved[2..8].copy_from_slice(&[0, 0, 0, 0x10, 0, 0]);
            relay.inject(Way::ToAnswerer, &moved);
        }
    };
    // A second copy of a picture of the new session may come late.
    let shows_only_later_ones = || {
        while let Some(shown) = receiver.received.try_take() {
            let number = number_of(&shown.frame.data);
            assert!(number >= LATER, "picture {number} of the ended session is shown");
        }
    };
    let stats = receiver.resend_until("strangers", both, |s| {
        shows_only_later_ones();
        s.strays.unknown_session > 100 && s.totals.forged > 100
    });
    shows_only_later_ones();
    assert!(stats.totals.reassembly.completed >= before);
    deliver_some(&sender, &receiver);
}

/// The number of the first picture of a session that follows another.
const LATER: u64 = 100;

#[test]
fn clear_datagrams_within_a_sealed_session_are_rejected() {
    let (receiver, relay, passed) = overheard();
    let sender = Side::sender(relay.addr(), true);
    deliver_some(&sender, &receiver);
    let seen = datagrams(&passed, Way::ToAnswerer).pop().expect("some");
    let prelude = Prelude { kind: Kind::Video, ..Prelude::read(&seen).expect("a prelude") };
    let forgeries = (1..50).map(|ahead| {
        let mut clear = vec![7; Form::Clear.overhead() + 100];
        Prelude { sequence: prelude.sequence + ahead, ..prelude }.emit(
            &mut clear,
            Hashed::default(),
            &mut CrcCombiner::default(),
        );
        clear
    });
    let forgeries: Vec<_> = forgeries.collect();
    let send = || forgeries.iter().for_each(|clear| relay.inject(Way::ToAnswerer, clear));
    receiver.resend_until("forgeries", send, |s| s.totals.forged >= 49);
    deliver_some(&sender, &receiver);
}

#[test]
fn a_forged_older_version_makes_the_dialler_give_up() {
    let receiver = Side::receiver(LOOPBACK, true);
    let mut prefaces = 0;
    let relay = Relay::before(receiver.addr(), move |channel, way, bytes| {
        if (channel, way) == (Channel::Control, Way::ToDialler) && prefaces == 0 {
            prefaces += 1;
            bytes[7] = 1;
        }
        true
    });
    let sender = Side::sender(relay.addr(), true);
    let reason = sender.wait("the refusal", |event| match event {
        Event::GivenUp { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason, GiveUpReason::Control(ControlError::Version(1)));
}

/// 50,000 datagrams a second from ten sockets, half of them with preludes of the live session, for
/// 3 s or `UDPCHAT_FLOOD_SECONDS`. On an idle machine 99 % of the frames should be shown, 95 % of
/// those within two frame intervals. The test prints these figures but asserts only that a quarter
/// of the frames are shown, or 90 % in a long run, because other programs run beside it.
#[test]
fn a_flood_does_not_disturb_a_stream() {
    let _alone = crate::program::alone();
    let seconds = std::env::var("UDPCHAT_FLOOD_SECONDS").ok().and_then(|s| s.parse().ok());
    let frames = 30 * seconds.unwrap_or(3);
    // A busy machine floods less and skips more frames, so only a long run has strict bounds.
    let (least_sent, least_shown) = match seconds {
        Some(_) => (20_000 * frames / 30, frames * 9 / 10),
        None => (1000, frames / 4),
    };
    let is_enough = |flooded: &Flooded| {
        let &Flooded { sent, shown, grown } = flooded;
        sent > least_sent && shown >= least_shown && grown < MOST_GROWN
    };
    let flooded = unstarved(is_enough, || stream_in_a_flood(frames));
    assert!(is_enough(&flooded), "{flooded:?}, of {frames} frames");
}

/// A stream during a flood.
#[derive(Debug)]
struct Flooded {
    /// The datagrams of the flood.
    sent: u64,
    /// The frames that arrived.
    shown: u64,
    /// How much more memory this process uses afterwards, in bytes.
    grown: usize,
}

/// Other tests run in this process and take memory, too. The flood has 180 MB in three seconds.
const MOST_GROWN: usize = 64 << 20;

/// Streams `frames` frames during a flood.
fn stream_in_a_flood(frames: u64) -> Flooded {
    let receiver = Side::receiver(LOOPBACK, true);
    let sender = Side::sender(receiver.addr(), true);
    let session = receiver.wait("a session", |event| match event {
        Event::Connected { session, .. } => Some(session),
        _ => None,
    });
    deliver_some(&sender, &receiver);
    let resident = resident_bytes();
    let flood = Flood::start(Ipv4Addr::LOCALHOST, receiver.addr(), 50, move |number, datagram| {
        stray(session, number, datagram);
    });
    let mut ages = Vec::new();
    let picture_len = 117_000;
    for number in 1000..1000 + frames {
        let data = FrameBytes::from(picture(number, picture_len));
        sender.inlet.push(OutgoingFrame { data, captured: clock::now() });
        let next = clock::now() + FRAME_INTERVAL;
        while let Some(left) = next.checked_duration_since(clock::now()) {
            if let Taken::Value(d) = receiver.received.take(left) {
                assert_eq!(d.frame.data[..], picture(number_of(&d.frame.data), picture_len));
                let captured = d.local(d.frame.captured).expect("one machine").at;
                ages.push(d.frame.completed - captured);
            }
        }
    }
    let (sent, grown) = (flood.stop(), resident_bytes().saturating_sub(resident));
    let stats = receiver.wait_stats("the flood", |s| s.totals.forged > 0 && s.strays.foreign > 0);
    ages.sort();
    let p95 = ages.get(ages.len() * 95 / 100);
    eprintln!(
        "{} of {frames} frames among {sent} datagrams of strangers, p95 {p95:?}, {} forged, {} foreign, \
         {} dropped by the kernel, {} KB more memory",
        ages.len(),
        stats.totals.forged,
        stats.strays.foreign,
        stats.kernel_drops.unwrap_or_default().overruns,
        grown >> 10,
    );
    assert_eq!(stats.totals.reassembly.damaged, 0);
    Flooded { sent, shown: ages.len() as u64, grown }
}

/// 9,000 datagrams a second, each forged as the first of a new session sealed with the shared key.
/// The flood begins before the stream and continues while it runs. It comes from another address,
/// then from the sender's own.
#[test]
fn forged_first_datagrams_do_not_disturb_a_keyed_one_way_stream() {
    let _alone = crate::program::alone();
    // Without the reserve for known addresses, 9,000 datagrams a second left a third of the frames.
    // A busy machine skips some itself.
    let is_enough = |&(sent, shown): &(u64, usize)| sent > 1000 && shown >= 45;
    for eve in [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::LOCALHOST] {
        let (sent, shown) = unstarved(is_enough, || stream_among_forgeries(eve));
        assert!(sent > 1000, "{sent} sent from {eve}");
        assert!(shown >= 45, "{shown} of 90 shown, forgeries from {eve}");
    }
}

/// Streams 90 frames while `eve` forges. Returns how many datagrams it sent, and how many frames
/// arrived.
fn stream_among_forgeries(eve: Ipv4Addr) -> (u64, usize) {
    let key = || OneWay::Sealed(SharedSecret::from_bytes([7; 32]));
    let bob = EndpointConfig { one_way: key(), ..config("bob", Role::Receive) };
    let addr = LOOPBACK.parse().expect("ours");
    let bob = Side::start(driver_config(bob, Some(Listen { addr, control: false })));
    let flood = Flood::start(eve, bob.addr(), 9, |number, datagram| {
        let session = SessionId::new(number as u32 + 1).expect("not zero");
        let (kind, direction) = (Kind::Video, Direction::FromDialler);
        let sequence = u64::MAX / 2 + number;
        Prelude { kind, direction, sequence, session }.write(Form::Sealed, datagram);
    });
    wait("the flood", || (bob.handle.stats().strays.forged > 10).then_some(()));
    let role = Role::Send { targets: vec![target(bob.addr())], control: false };
    let ann = EndpointConfig { one_way: key(), ..config("ann", role) };
    let ann = Side::start(driver_config(ann, None));
    let mut shown = Vec::new();
    let began = clock::now();
    for number in 0..90 {
        let data = FrameBytes::from(picture(number, FRAME_LEN));
        ann.inlet.push(OutgoingFrame { data, captured: clock::now() });
        let next = clock::now() + FRAME_INTERVAL;
        while let Some(left) = next.checked_duration_since(clock::now()) {
            if let Taken::Value(d) = bob.received.take(left) {
                shown.push((number_of(&d.frame.data), clock::now() - began));
            }
        }
    }
    let sent = flood.stop();
    let stats = bob.handle.stats();
    eprintln!(
        "{} of 90 frames among {sent} datagrams from {eve}, the first {:?}; {:?}",
        shown.len(),
        shown.first(),
        stats.strays
    );
    assert!(stats.strays.forged > 10);
    (sent, shown.len())
}

/// The crowd uses the honest caller's address, so both share that address's limit: 12.5 handshakes
/// a second, while the crowd requests 400. The caller retries ten times a second and is therefore
/// served within a few seconds.
#[test]
fn half_open_connections_do_not_disturb_a_call_or_block_callers() {
    let _alone = crate::program::alone();
    let receiver = Side::receiver(LOOPBACK, true);
    let sender = Side::sender(receiver.addr(), true);
    deliver_some(&sender, &receiver);
    let crowd = Crowd::start(Ipv4Addr::LOCALHOST, receiver.addr());
    crowd.accompany(&sender, &receiver);
    assert!(!has_ended(&receiver));
    sender.quit();
    let began = clock::now();
    let honest = Side::sender(receiver.addr(), true);
    wait_up_to(Duration::from_secs(180), "a session", || {
        let connected = |event| matches!(event, Event::Connected { .. });
        std::iter::from_fn(|| honest.handle.try_event()).any(connected).then_some(())
    });
    eprintln!("an honest caller was let in after {:?}", clock::now() - began);
    deliver_some(&honest, &receiver);
    crowd.stop();
    deliver_some(&honest, &receiver);
}

/// The crowd's address differs from the honest caller's, so the crowd cannot take the caller's
/// place: the receiver does not hang up on the caller before telling it that it is busy, nor, after
/// the call, before connecting it. The caller retries ten times a second.
#[test]
fn half_open_connections_from_elsewhere_do_not_delay_a_caller() {
    let _alone = crate::program::alone();
    let receiver = Side::receiver(LOOPBACK, true);
    let sender = Side::sender(receiver.addr(), true);
    deliver_some(&sender, &receiver);
    let crowd = Crowd::start(Ipv4Addr::new(127, 0, 0, 2), receiver.addr());
    crowd.accompany(&sender, &receiver);
    let began = clock::now();
    let honest = Side::sender(receiver.addr(), true);
    honest.wait("the busy signal", |event| match not_hung_up(event) {
        Event::Waiting { reason: WaitReason::Busy { .. }, .. } => Some(()),
        _ => None,
    });
    let heard_after = clock::now() - began;
    deliver_some(&sender, &receiver);
    assert!(!has_ended(&receiver));
    sender.quit();
    let began = clock::now();
    honest.wait("a session", |event| match not_hung_up(event) {
        Event::Connected { .. } => Some(()),
        _ => None,
    });
    let let_in_after = clock::now() - began;
    deliver_some(&honest, &receiver);
    let opened = crowd.stop();
    eprintln!(
        "among {opened} connections an honest caller was heard after {heard_after:?} and let in after {let_in_after:?}"
    );
}

/// Panics if the event says that the peer hung up; otherwise returns the event.
#[track_caller]
fn not_hung_up(event: Event) -> Event {
    let hung_up = matches!(event, Event::Waiting { reason: WaitReason::HungUp, .. });
    assert!(!hung_up, "the crowd took the caller's place");
    event
}

#[test]
fn a_wrong_code_is_reported_and_the_caller_must_wait() {
    let secret = |byte| Some(SharedSecret::from_bytes([byte; 32]));
    let mut listens = listen_config(Role::Receive, LOOPBACK.parse().expect("ours"), true);
    listens.endpoint.secret = secret(1);
    let receiver = Side::start(listens);
    let call = |secret| {
        let mut calls =
            dial_config(Role::Send { targets: vec![target(receiver.addr())], control: true });
        calls.endpoint.secret = secret;
        Side::start(calls)
    };
    // If the machine stalls for a second, the wait is already over; hence several attempts.
    let has_waited = (0..5).any(|_| {
        let reason = call(secret(2)).wait("the refusal", |event| match event {
            Event::GivenUp { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(reason, GiveUpReason::Control(ControlError::WrongCode));
        let mut waited = false;
        let right = call(secret(1));
        right.wait("a session", |event| match event {
            Event::Waiting { reason, .. } => {
                assert_eq!(reason, WaitReason::HungUp);
                waited = true;
                None
            }
            Event::Connected { .. } => Some(()),
            _ => None,
        });
        waited
    });
    assert!(has_waited);
}

fn has_ended(side: &Side) -> bool {
    std::iter::from_fn(|| side.handle.try_event()).any(|e| matches!(e, Event::Ended { .. }))
}

/// Opens 1,000 connections a second until stopped. Each sends nothing, part of its first message,
/// all of it and then nothing, or all of it byte by byte.
struct Crowd {
    over: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn start(from: Ipv4Addr, to: SocketAddr) -> Self {
        let (over, opened) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        // With a full accept queue, a thread blocks for a second until its SYN is retransmitted.
        let threads = (0..CROWD_THREADS).map(|_| {
            let (over, opened) = (Arc::clone(&over), Arc::clone(&opened));
            std::thread::spawn(move || Self::connect_on(from, to, &over, &opened))
        });
        Self { threads: threads.collect(), over, opened }
    }

    fn connect_on(from: Ipv4Addr, to: SocketAddr, over: &AtomicBool, opened: &AtomicUsize) {
        let identity = crate::endpoint::identity("eve");
        let mut open: VecDeque<(TcpStream, VecDeque<u8>)> = VecDeque::new();
        while !over.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(CROWD_THREADS));
            let Ok(mut stream) = connect(from, to) else { continue };
            let number = opened.fetch_add(1, Ordering::Relaxed);
            let (_, first) = Caller::new(&identity, None);
            let said = [0, 5, 9, first.len(), 1][number % 5];
            // The receiver may already have closed it for lack of room.
            let _ = stream.write_all(&first[..said]);
            let rest = if said == 1 { first[1..].to_vec() } else { Vec::new() };
            open.push_back((stream, rest.into()));
            for (stream, rest) in &mut open {
                if let Some(byte) = rest.pop_front() {
                    let _ = stream.write_all(&[byte]);
                }
            }
            // Keeps this process below its limit of open files.
            if open.len() > 60 {
                open.pop_front();
            }
        }
    }

    /// Delivers frames until 5,000 connections have been opened. The crowd continues afterwards.
    fn accompany(&self, from: &Side, to: &Side) {
        let mut number = 100;
        while self.opened.load(Ordering::Relaxed) < 5000 {
            deliver(from, to, number, FRAME_LEN);
            number += 1;
            assert!(number < 1_000_000, "no more connections are opened");
        }
    }

    /// Stops and returns the number of connections opened.
    fn stop(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        self.opened.load(Ordering::Relaxed)
    }
}

/// Each of n threads connects once every n ms: 1,000 connections a second in all.
const CROWD_THREADS: u64 = 10;

/// Connects from a given local address; all of 127.0.0.0/8 is local.
fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Sends forged datagrams until stopped.
struct Flood {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Flood {
    /// Sends `per_ms` datagrams a millisecond. `fill` gets the number and the buffer of each.
    fn start(
        from: Ipv4Addr,
        to: SocketAddr,
        per_ms: u64,
        fill: impl Fn(u64, &mut [u8; 1200]) + Send + 'static,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let sockets: [_; 10] =
                std::array::from_fn(|_| UdpSocket::bind((from, 0)).expect("bound"));
            let (began, mut sent) = (clock::now(), 0_u64);
            while !is_over.load(Ordering::Relaxed) {
                let due = (clock::now() - began).as_micros() as u64 * per_ms / 1000;
                while sent < due {
                    let mut datagram = [0x5a; 1200];
                    fill(sent, &mut datagram);
                    let _ = sockets[sent as usize % sockets.len()].send_to(&datagram, to);
                    sent += 1;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            sent
        });
        Self { over, thread }
    }

    /// Stops and returns the number of datagrams sent.
    fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

/// Noise. Every second datagram gets a prelude of `session` with a sequence number ahead of all
/// that were sent; every second one of these claims the session's next epoch key.
fn stray(session: SessionId, number: u64, datagram: &mut [u8]) {
    if number.is_multiple_of(2) {
        let (kind, direction) = (Kind::Video, Direction::FromDialler);
        let next_key = (number / 2 % 2) << 22;
        let sequence = next_key + (1 << 20) + number % (1 << 20);
        Prelude { kind, direction, sequence, session }.write(Form::Sealed, datagram);
    }
}

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<usize>().ok()).unwrap_or(0) << 10
}
