//! What the two ends of a session do to each other over a bad network, in virtual time.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use udpchat::net::{
    frame::{FrameBytes, OutgoingFrame},
    netem::NetemSpec,
    redundancy::FecMode,
    session::{
        Admission, AskId, CallCounters, EndReason, Endpoint, EndpointConfig, Event, GiveUpReason,
        Output, Role, Verdict, WaitReason,
    },
    wire::{
        control::{CloseReason, ControlError, Epoch, Purpose, RejectReason, StreamParams},
        text::Line,
    },
};

use crate::{
    caller::Caller,
    sim::{FRAME_INTERVAL, MS, NodeId, SECOND, Sim, number_of, numbers, picture},
};

const ANN: NodeId = NodeId(0);
const BOB: NodeId = NodeId(1);
const EVE: NodeId = NodeId(2);

/// A frame of 20 chunks.
const FRAME_LEN: usize = 20 * 1160 - 4;

fn links(spec: &str) -> NetemSpec {
    spec.parse().expect("a specification")
}

/// Ann sends to Bob; both run, and the session stands.
fn session(nodes: usize, spec: &str) -> Sim {
    let mut sim = Sim::with_links(nodes, links(spec));
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, true);
    sim.run(SECOND);
    assert_eq!(connected(&mut sim, BOB).len(), 1);
    assert_eq!(connected(&mut sim, ANN).len(), 1);
    sim
}

/// When sessions began, since this was asked last; other events are lost.
fn connected(sim: &mut Sim, node: NodeId) -> Vec<Duration> {
    let is_connected = |e: &Event| matches!(e, Event::Connected { .. });
    sim.take_events(node).into_iter().filter(|(_, e)| is_connected(e)).map(|(at, _)| at).collect()
}

/// The events worth a word, since this was asked last.
fn told(sim: &mut Sim, node: NodeId) -> Vec<Event> {
    sim.take_events(node).into_iter().map(|(_, e)| e).collect()
}

/// When `node` receives its next frame, within `limit` from now, counted from now.
fn next_frame_within(sim: &mut Sim, node: NodeId, limit: Duration) -> Duration {
    sim.take_frames(node);
    let start = sim.now;
    sim.run(limit);
    let frames = sim.take_frames(node);
    let first = frames.first().unwrap_or_else(|| panic!("no frame within {limit:?}"));
    first.0 - start
}

/// Bob's only call's counters.
fn bobs(sim: &Sim) -> CallCounters {
    sim.counters(BOB)[0]
}

#[test]
fn frames_arrive_in_order_and_identical() {
    let mut sim = session(2, "delay=5ms,jitter=2ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(3 * SECOND);
    let frames = sim.take_frames(BOB);
    assert_eq!(numbers(&frames), (0..90).collect::<Vec<_>>());
    for (_, delivered) in &frames {
        let captured = delivered.local(delivered.frame.captured).expect("probes were answered");
        let delay = delivered.frame.completed - captured.at;
        assert!(delay <= 7 * MS + captured.error, "{delay:?}");
    }
    let sender = sim.counters(ANN)[0];
    assert_eq!((sender.frames_sent, sender.frames_superseded), (90, 0));
    assert_eq!(bobs(&sim).datagrams_lost, 0);
}

#[test]
fn a_sender_waits_for_its_receiver_and_finds_it_within_half_a_second() {
    let mut sim = Sim::new(2);
    sim.start_sender(ANN, BOB, true);
    sim.run(10 * SECOND + 70 * MS);
    let waiting = told(&mut sim, ANN);
    let [Event::Waiting { reason: WaitReason::NobodyListens, .. }] = &waiting[..] else {
        panic!("said once: {waiting:?}")
    };
    let started = sim.now - sim.base;
    sim.start_receiver(BOB);
    sim.run(SECOND);
    for node in [ANN, BOB] {
        let at = connected(&mut sim, node)[0];
        assert!(at - started < 500 * MS, "after {:?}", at - started);
    }
}

#[test]
fn a_receiver_that_is_killed_and_restarted_has_the_picture_back_within_a_second() {
    let mut sim = session(2, "delay=5ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    sim.kill(BOB);
    sim.run(3 * SECOND + 17 * MS);
    assert!(matches!(
        told(&mut sim, ANN)[..],
        [
            Event::Ended { reason: EndReason::ConnectionLost, .. },
            Event::Waiting { reason: WaitReason::NobodyListens, .. }
        ]
    ));
    sim.start_receiver(BOB);
    next_frame_within(&mut sim, BOB, SECOND);
}

#[test]
fn a_receiver_that_is_restarted_at_once_has_the_picture_back_within_a_second() {
    let mut sim = session(2, "delay=5ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    sim.kill(BOB);
    sim.start_receiver(BOB);
    sim.run(50 * MS);
    next_frame_within(&mut sim, BOB, SECOND - 50 * MS);
    sim.run(SECOND);
    let last = told(&mut sim, BOB).pop();
    assert!(matches!(last, Some(Event::Connected { ref peer, .. }) if peer.name.is_some()));
}

#[test]
fn a_sender_that_is_killed_and_restarted_is_back_within_a_second_under_a_new_session() {
    // The way is so long that datagrams of the old session are still on it.
    let mut sim = session(2, "delay=60ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    sim.kill(ANN);
    sim.start_sender(ANN, BOB, true);
    sim.start_video(ANN, FRAME_LEN + 1);
    let sessions = |events: &[Event]| {
        let id = |e: &Event| match e {
            Event::Connected { session, .. } => Some(*session),
            _ => None,
        };
        events.iter().filter_map(id).count()
    };
    sim.take_frames(BOB);
    sim.run(SECOND);
    let events = told(&mut sim, BOB);
    assert_eq!(sessions(&events), 1, "{events:?}");
    assert!(events.iter().any(|e| matches!(e, Event::Ended { .. })));
    let frames = sim.take_frames(BOB);
    let fresh = |f: &&(Instant, _)| f.0 > sim.base;
    assert!(frames.iter().filter(fresh).any(|(_, d)| d.frame.data.len() == FRAME_LEN + 1));
    let first_new = frames.iter().position(|(_, d)| d.frame.data.len() == FRAME_LEN + 1);
    let tail = &frames[first_new.expect("a new frame")..];
    assert!(tail.iter().all(|(_, d)| d.frame.data.len() == FRAME_LEN + 1), "an old frame came");
}

#[test]
fn a_goodbye_is_heard_and_what_was_sent_just_before_it_arrives() {
    // Datagrams take much longer than the control channel.
    let mut sim = session(2, "delay=10ms,jitter=60ms");
    sim.push_frame(ANN, 7, FRAME_LEN);
    sim.quit(ANN);
    sim.run(SECOND);
    assert_eq!(numbers(&sim.take_frames(BOB)), [7]);
    let events = told(&mut sim, BOB);
    assert!(
        matches!(events[..], [Event::Ended { reason: EndReason::Closed(CloseReason::Quit), .. }]),
        "{events:?}"
    );
    sim.run(20 * SECOND);
    assert_eq!(told(&mut sim, BOB), [], "it waits for the next");
}

#[test]
fn what_comes_long_after_a_goodbye_is_no_new_session() {
    let mut sim = session(2, "delay=1ms");
    sim.set_link(ANN, BOB, links("delay=500ms"));
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    sim.quit(ANN);
    sim.run(5 * SECOND);
    let events = told(&mut sim, BOB);
    assert!(matches!(events[..], [Event::Ended { .. }]), "{events:?}");
    assert!(sim.endpoint(BOB).strays().unknown_session > 100);
}

#[test]
fn a_second_sender_is_told_who_is_on_and_takes_over_when_that_one_leaves() {
    let mut sim = session(3, "delay=2ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.start_sender(EVE, BOB, true);
    sim.start_video(EVE, FRAME_LEN + 3);
    sim.run(5 * SECOND);
    let waiting = told(&mut sim, EVE);
    let [Event::Waiting { reason: WaitReason::Busy { with }, .. }] = &waiting[..] else {
        panic!("{waiting:?}")
    };
    assert_eq!(with.as_str(), "ann");
    let busy = |e: &Event| matches!(e, Event::Refused { reason: RejectReason::Busy { .. }, .. });
    assert!(told(&mut sim, BOB).iter().all(busy));
    assert!(sim.take_frames(BOB).iter().all(|(_, d)| d.frame.data.len() == FRAME_LEN));
    sim.quit(ANN);
    sim.run(50 * MS);
    let after = next_frame_within(&mut sim, BOB, SECOND);
    assert!(after < 500 * MS, "{after:?}");
    assert!(matches!(told(&mut sim, EVE)[..], [Event::Connected { .. }]));
}

/// Bob receives and is asked about whoever calls; Ann and Eve call.
fn bob_is_asked() -> Sim {
    let mut sim = Sim::new(3);
    let config = sim.config(BOB, Role::Receive);
    sim.start(BOB, EndpointConfig { admission: Admission::Asked, ..config });
    sim.start_sender(ANN, BOB, true);
    sim
}

/// What Bob has been asked since this was asked last.
fn asks(events: &[Event]) -> Vec<AskId> {
    let ask = |e: &Event| match e {
        Event::Asked { ask, .. } => Some(*ask),
        _ => None,
    };
    events.iter().filter_map(ask).collect()
}

#[test]
fn nobody_is_asked_about_a_caller_for_whom_there_is_no_room() {
    let mut sim = bob_is_asked();
    sim.run(SECOND);
    let [ask] = asks(&told(&mut sim, BOB))[..] else { panic!("asked once") };
    sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
    sim.run(SECOND);
    sim.start_sender(EVE, BOB, true);
    sim.run(3 * SECOND);
    let events = told(&mut sim, BOB);
    assert_eq!(asks(&events), []);
    let busy = |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Busy { .. }, .. });
    assert!(matches!(&told(&mut sim, EVE)[..], [event] if busy(event)));
}

#[test]
fn whoever_is_asked_about_when_a_call_begins_is_told_that_it_is_busy() {
    let mut sim = bob_is_asked();
    sim.start_sender(EVE, BOB, true);
    sim.run(SECOND);
    let [first, second] = asks(&told(&mut sim, BOB))[..] else { panic!("asked about both") };
    sim.with(BOB, |endpoint, now| endpoint.answer(now, first, Verdict::Admit));
    let events = told(&mut sim, BOB);
    assert!(events.contains(&Event::AskEnded { ask: second }), "{events:?}");
    sim.run(SECOND);
    let heard = [told(&mut sim, ANN), told(&mut sim, EVE)].concat();
    let busy = |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Busy { .. }, .. });
    assert!(heard.iter().any(busy), "{heard:?}");
}

#[test]
fn a_stream_in_the_clear_keeps_no_caller_out() {
    let mut sim = Sim::new(3);
    sim.start_receiver(BOB);
    sim.start_sender(EVE, BOB, false);
    sim.start_video(EVE, FRAME_LEN);
    sim.run(SECOND);
    assert_eq!(connected(&mut sim, BOB).len(), 1);
    sim.start_sender(ANN, BOB, true);
    sim.run(SECOND);
    assert_eq!(connected(&mut sim, ANN).len(), 1);
}

#[test]
fn a_source_address_that_proves_nothing_gets_no_stream() {
    let mut sim = Sim::new(2);
    sim.start(BOB, sim.config(BOB, Role::ChatListen));
    sim.set_open(ANN, BOB, false);
    let role = Role::ChatDial(sim.target(BOB));
    sim.start(ANN, sim.config(ANN, role));
    sim.run(SECOND);
    assert_eq!(connected(&mut sim, BOB).len(), 1);
    // Ann's datagrams come from somebody else, who answers nothing.
    sim.move_to(ANN, "10.7.7.7:7".parse().expect("an address"));
    sim.set_open(ANN, BOB, true);
    sim.set_open(BOB, ANN, false);
    sim.start_video(BOB, FRAME_LEN);
    sim.run(5 * SECOND);
    let (given, sent) = (sim.sent_bytes(ANN), sim.sent_bytes(BOB));
    assert!(0 < sent && sent <= given, "{sent} bytes for {given}");
    // If it is Ann after all, she echoes the challenge.
    sim.set_open(BOB, ANN, true);
    next_frame_within(&mut sim, ANN, 2 * SECOND);
}

#[test]
fn a_connection_that_says_nothing_is_closed_after_five_seconds() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    sim.connect(BOB);
    sim.run(5 * SECOND - MS);
    assert!(!sim.endpoint(BOB).is_idle());
    sim.run(2 * MS);
    assert!(sim.endpoint(BOB).is_idle());
}

#[test]
fn who_wants_something_else_is_refused_for_good() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    let role = Role::ChatDial(sim.target(BOB));
    sim.start(ANN, sim.config(ANN, role));
    sim.run(2 * SECOND);
    let reason = GiveUpReason::Unwanted { wants: Purpose::Send };
    assert_eq!(told(&mut sim, ANN), [Event::GivenUp { host: "host1".into(), reason }]);
    let events = told(&mut sim, BOB);
    let unwanted = RejectReason::Unwanted { wants: Purpose::Send };
    assert!(
        matches!(&events[..], [Event::Refused { reason, .. }] if *reason == unwanted),
        "{events:?}"
    );
    assert!(sim.endpoint(ANN).is_idle());
}

#[test]
fn another_version_is_reported_with_both_versions_by_the_side_that_answers() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    let answer = sim.speak_to(BOB, b"udpchat\x01");
    assert_eq!(answer, b"udpchat\x02", "the other side can tell as well");
    let events = told(&mut sim, BOB);
    let [Event::Misspoke { error, .. }] = &events[..] else { panic!("{events:?}") };
    let message = error.to_string();
    assert!(message.contains("version 2") && message.contains("version 1"), "{message}");
}

#[test]
fn another_version_is_reported_with_both_versions_by_the_side_that_dials() {
    let sim = Sim::new(2);
    let role = Role::Send { targets: vec![sim.target(BOB)], control: true };
    let mut endpoint = Endpoint::new(sim.now, sim.config(ANN, role));
    let Some(Output::Dial(conn, _)) = endpoint.poll_output() else { panic!("no dial") };
    endpoint.handle_connected(sim.now, conn);
    endpoint.handle_data(sim.now, conn, b"udpchat\x07");
    let event = endpoint.poll_event();
    let Some(Event::GivenUp { reason: GiveUpReason::Control(error), .. }) = event else {
        panic!("{event:?}")
    };
    assert_eq!(error, ControlError::Version(7));
    assert!(error.to_string().contains("version 7") && error.to_string().contains("version 2"));
    assert!(std::iter::from_fn(|| endpoint.poll_output()).any(|o| o == Output::Close(conn)));
}

#[test]
fn udp_that_is_blocked_is_noticed_within_three_seconds_and_so_is_its_return() {
    let mut sim = Sim::new(2);
    sim.set_open(ANN, BOB, false);
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, true);
    sim.run(100 * MS);
    let began = connected(&mut sim, BOB)[0];
    connected(&mut sim, ANN);
    sim.start_video(ANN, FRAME_LEN);
    sim.run(5 * SECOND);
    for node in [ANN, BOB] {
        let events = sim.take_events(node);
        let [(at, Event::UdpBlocked { .. })] = events[..] else { panic!("{node:?}: {events:?}") };
        assert!((2 * SECOND..3 * SECOND).contains(&(at - began)), "{:?}", at - began);
    }
    sim.set_open(ANN, BOB, true);
    sim.run(2 * SECOND);
    for node in [ANN, BOB] {
        assert!(matches!(told(&mut sim, node)[..], [Event::UdpUnblocked { .. }]));
    }
}

#[test]
fn udp_is_not_called_blocked_when_no_video_is_sent() {
    let mut sim = session(2, "delay=20ms,loss=5%");
    sim.run(60 * SECOND);
    assert_eq!((told(&mut sim, ANN), told(&mut sim, BOB)), (vec![], vec![]));
}

#[test]
fn a_bare_session_is_delivered_and_never_answered() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, false);
    sim.start_video(ANN, FRAME_LEN);
    sim.run(10 * SECOND + 10 * MS);
    assert_eq!(numbers(&sim.take_frames(BOB)), (0..301).collect::<Vec<_>>());
    assert_eq!(sim.sent_bytes(BOB), 0);
    let events = told(&mut sim, BOB);
    assert!(
        matches!(&events[..], [Event::Connected { peer, .. }] if peer.name.is_none()),
        "{events:?}"
    );
}

#[test]
fn a_bare_sender_that_pauses_is_still_sending_after_it() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, false);
    sim.run(60 * SECOND);
    sim.start_video(ANN, FRAME_LEN);
    next_frame_within(&mut sim, BOB, 100 * MS);
    assert!(matches!(told(&mut sim, ANN)[..], [Event::Connected { .. }]));
}

#[test]
fn a_bare_sender_that_is_restarted_is_shown_within_a_second() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, false);
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    sim.kill(ANN);
    sim.start_sender(ANN, BOB, false);
    sim.start_video(ANN, FRAME_LEN);
    sim.run(10 * MS);
    next_frame_within(&mut sim, BOB, SECOND);
    let events = told(&mut sim, BOB);
    assert!(
        matches!(
            events[..],
            [
                Event::Connected { .. },
                Event::Ended { reason: EndReason::TakenOver, .. },
                Event::Connected { .. }
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn a_bare_session_resumes_after_ten_dark_seconds() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, false);
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    sim.black_out(10 * SECOND);
    let after = next_frame_within(&mut sim, BOB, SECOND);
    assert!(after <= 2 * FRAME_INTERVAL, "{after:?}");
}

#[test]
fn a_session_with_control_survives_ten_dark_seconds() {
    let mut sim = session(2, "delay=5ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    sim.black_out(10 * SECOND);
    let after = next_frame_within(&mut sim, BOB, SECOND);
    assert!(after <= 2 * FRAME_INTERVAL, "{after:?}");
    assert_eq!((told(&mut sim, ANN), told(&mut sim, BOB)), (vec![], vec![]));
}

#[test]
fn a_chat_carries_video_and_text_both_ways() {
    let mut sim = Sim::with_links(2, links("delay=10ms"));
    sim.start(BOB, sim.config(BOB, Role::ChatListen));
    let role = Role::ChatDial(sim.target(BOB));
    sim.start(ANN, sim.config(ANN, role));
    sim.run(SECOND);
    connected(&mut sim, ANN);
    connected(&mut sim, BOB);
    sim.start_video(ANN, FRAME_LEN);
    sim.start_video(BOB, FRAME_LEN / 2);
    sim.say(ANN, "hello");
    sim.say(BOB, "\u{1b}[2Jhi\u{7} there\u{202e}");
    let stream = StreamParams { width: 640, height: 480, millifps: 30_000, quality: None };
    sim.with(BOB, |e, _| e.set_stream(stream));
    sim.run(1990 * MS);
    for node in [ANN, BOB] {
        assert_eq!(numbers(&sim.take_frames(node)), (0..60).collect::<Vec<_>>());
    }
    let heard = |events: &[Event]| {
        let text = |e: &Event| match e {
            Event::Text { from, line } => Some(format!("{from}: {line}")),
            _ => None,
        };
        events.iter().filter_map(text).collect::<Vec<_>>()
    };
    let (anns, bobs) = (told(&mut sim, ANN), told(&mut sim, BOB));
    assert_eq!(heard(&anns), ["bob: [2Jhi there"]);
    assert_eq!(heard(&bobs), ["ann: hello"]);
    assert!(
        anns.iter().any(|e| matches!(e, Event::StreamChanged { stream: s, .. } if *s == stream))
    );
}

#[test]
fn text_with_escape_sequences_is_cleaned_even_if_the_peer_did_not() {
    let mut sim = Sim::new(2);
    sim.start(BOB, sim.config(BOB, Role::ChatListen));
    let (mut caller, first) = Caller::new(&crate::endpoint::identity("eve"), None);
    let conn = sim.connect(BOB);
    caller.meet(&sim.speak_on(BOB, conn, &first));
    // Hello of session 7 from "x\e[m", to chat, no stream, unknown epoch, 508, a secret, no AES;
    // text "a\eb".
    let mut hello = b"\x00\x07\x04x\x1b[m\x01\x00\x00\x00\xfc\x03".to_vec();
    hello.extend([9; 33]);
    *hello.last_mut().expect("not empty") = 0;
    let said = [caller.introduce(&hello), caller.say(b"\x04\x03a\x1bb")].concat();
    sim.speak_on(BOB, conn, &said);
    let events = told(&mut sim, BOB);
    let [Event::Connected { peer, .. }, Event::Text { line, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(peer.name.as_ref().map(ToString::to_string).as_deref(), Some("x[m"));
    assert_eq!(*line, Line::new("ab").expect("a line"));
}

#[test]
fn the_stated_clock_error_holds_over_an_asymmetric_jittery_way() {
    let mut sim = Sim::new(2);
    sim.set_link(ANN, BOB, links("delay=30ms,jitter=20ms,seed=3"));
    sim.set_link(BOB, ANN, links("delay=2ms,jitter=5ms,loss=10%,seed=4"));
    sim.start_receiver(BOB);
    let role = Role::Send { targets: vec![sim.target(BOB)], control: true };
    let mut config = sim.config(ANN, role);
    config.epoch = sim.now - 77 * MS;
    let epoch = config.epoch;
    sim.start(ANN, config);
    sim.run(SECOND);
    sim.start_video(ANN, 500);
    sim.run(60 * SECOND);
    let frames = sim.take_frames(BOB);
    assert!(frames.len() > 1000);
    for (_, delivered) in frames {
        let told = delivered.media_epoch.expect("known after a second");
        let wrong = told.at.max(epoch) - told.at.min(epoch);
        assert!(wrong <= told.error, "{wrong:?} off, {:?} stated", told.error);
        assert!(told.error < 30 * MS, "{:?}", told.error);
    }
}

#[test]
fn peers_of_one_boot_compare_their_clocks_exactly() {
    let mut sim = Sim::new(2);
    let shared = |at: Instant, sim: &Sim| Epoch {
        boot: 5,
        monotonic_us: (at - sim.base).as_micros() as u64 + 1_000_000,
    };
    let mut config = sim.config(BOB, Role::Receive);
    config.shared_epoch = shared(config.epoch, &sim);
    sim.start(BOB, config);
    sim.run(3 * SECOND);
    let role = Role::Send { targets: vec![sim.target(BOB)], control: true };
    let mut config = sim.config(ANN, role);
    config.shared_epoch = shared(config.epoch, &sim);
    let epoch = config.epoch;
    sim.start(ANN, config);
    sim.run(SECOND);
    sim.push_frame(ANN, 1, FRAME_LEN);
    sim.run(100 * MS);
    let (_, delivered) = sim.take_frames(BOB).remove(0);
    let told = delivered.media_epoch.expect("known at once");
    assert_eq!((told.at, told.error), (epoch, Duration::ZERO));
}

#[test]
fn no_damaged_frame_is_ever_delivered() {
    let mut sim = session(2, "corrupt=1%,duplicate=2%,reorder=5%,delay=5ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(60 * SECOND);
    let frames = sim.take_frames(BOB);
    let whole = frames.iter().map(|(_, d)| number_of(&d.frame.data)).collect::<Vec<_>>();
    assert!(whole.is_sorted(), "in order");
    assert!(whole.len() >= 1790, "{} of 1800: what is missing is asked for", whole.len());
    assert!(bobs(&sim).forged > 300, "{:?}", bobs(&sim));
    assert_eq!(bobs(&sim).reassembly.damaged, 0, "the datagram's seal is before it");
}

/// As an encoder makes them that works in strips: a half of each is gone before its end is known.
#[test]
fn frames_that_grow_while_they_leave_are_mended_too() {
    let mut sim = Sim::with_links(2, links("delay=1ms,loss=5%"));
    sim.start_receiver(BOB);
    let role = Role::Send { targets: vec![sim.target(BOB)], control: true };
    let config = sim.config(ANN, role);
    sim.start(ANN, EndpointConfig { fec: FecMode::Auto, ..config });
    sim.run(SECOND);
    for number in 0..300 {
        let (picture, data) = (picture(number, 98 * 1160 - 4), FrameBytes::growing(0));
        let (first, rest) = picture.split_at(30_000 + number as usize * 100);
        data.append(first);
        let frame = OutgoingFrame { data: data.clone(), captured: sim.now };
        sim.with(ANN, |endpoint, now| endpoint.push_frame(now, &frame));
        sim.run(5 * MS);
        data.append(rest);
        data.finish();
        sim.with(ANN, |_, _| ());
        sim.run(FRAME_INTERVAL - 5 * MS);
    }
    sim.run(SECOND);
    let shown = numbers(&sim.take_frames(BOB)).len();
    let counters = bobs(&sim);
    assert_eq!(counters.reassembly.damaged, 0);
    assert!(shown >= 299 && counters.repair.by_parity > 200, "{shown} of 300: {counters:?}");
}

#[test]
fn every_frame_has_one_fate() {
    let mut sim = session(2, "loss=2%,burst=3,reorder=10%,duplicate=5%,jitter=40ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(20 * SECOND);
    sim.stop_video(ANN);
    sim.run(2 * SECOND);
    let r = bobs(&sim).reassembly;
    assert_eq!(r.seen, r.completed + r.incomplete + r.late + r.damaged, "{r:?}");
    assert_eq!(r.completed, sim.take_frames(BOB).len() as u64);
    let ann = sim.counters(ANN)[0];
    assert_eq!(ann.frames_sent + ann.frames_superseded + ann.frames_unsendable, 601);
    assert!(r.seen <= ann.frames_sent && r.seen + 20 > ann.frames_sent, "{r:?}");
}

/// Something that happens to a pair of endpoints.
#[derive(Clone, Debug)]
enum Op {
    Run(u16),
    Frame(bool, usize),
    Say(bool, String),
    Stream(u16),
    Kill(bool),
    Quit(bool),
    Start(bool),
    Block(bool, bool),
    BlackOut(u16),
    Garbage(bool, Vec<u8>),
    Chunk(Vec<u8>),
    Speak(Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..3000_u16).prop_map(Op::Run),
        8 => (any::<bool>(), 0..60_000_usize).prop_map(|(who, len)| Op::Frame(who, len)),
        2 => (any::<bool>(), "\\PC{1,40}").prop_map(|(who, text)| Op::Say(who, text)),
        1 => (1..4000_u16).prop_map(Op::Stream),
        1 => any::<bool>().prop_map(Op::Kill),
        1 => any::<bool>().prop_map(Op::Quit),
        4 => any::<bool>().prop_map(Op::Start),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(way, open)| Op::Block(way, open)),
        1 => (0..20_000_u16).prop_map(Op::BlackOut),
        2 => (any::<bool>(), prop::collection::vec(any::<u8>(), 0..100))
            .prop_map(|(who, bytes)| Op::Garbage(who, bytes)),
        8 => chunk().prop_map(Op::Chunk),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Op::Speak),
    ]
}

/// A forged chunk that is right by itself, or nearly: small numbers, so that forged chunks meet
/// and contradict each other.
fn chunk() -> impl Strategy<Value = Vec<u8>> {
    let body_len = prop_oneof![1 => Just(0_u32), 3 => 5..30_u32];
    (0..4_u32, body_len, 1..4_u16, 0..9_u16, 0..3_u16, 0..12_u32).prop_map(
        |(frame, body_len, half_len, index, parity, wrong)| {
            let chunk_len = half_len * 2;
            let is_known = body_len > 0;
            let source = body_len.div_ceil(chunk_len.into()) as u16 + u16::from(wrong == 0);
            let (source, parity) = if is_known { (source, parity) } else { (0, 0) };
            let rest = body_len.saturating_sub(u32::from(index * chunk_len));
            let is_last = is_known && index + 1 == source;
            let payload_len = if is_last { rest } else { chunk_len.into() };
            let words = [chunk_len, index, source, parity];
            let mut body = [&frame.to_be_bytes()[..], &[0; 8], &body_len.to_be_bytes()].concat();
            body.extend(words.iter().flat_map(|w| w.to_be_bytes()));
            body.resize(body.len() + payload_len as usize + usize::from(wrong == 1), 0x55);
            body
        },
    )
}

/// How the pair of endpoints is set up.
#[derive(Clone, Copy, Debug)]
enum Setting {
    Controlled,
    Bare,
    Chat,
    /// Nobody but strangers, who send what the operations forge.
    Strangers,
}

fn start(sim: &mut Sim, setting: Setting, caller: bool) {
    let target = sim.target(BOB);
    let (node, role) = match (setting, caller) {
        (Setting::Chat, true) => (ANN, Role::ChatDial(target)),
        (Setting::Strangers, true) => (ANN, Role::Receive),
        (Setting::Chat, false) => (BOB, Role::ChatListen),
        (_, false) => (BOB, Role::Receive),
        (Setting::Controlled, true) => (ANN, Role::Send { targets: vec![target], control: true }),
        (Setting::Bare, true) => (ANN, Role::Send { targets: vec![target], control: false }),
    };
    sim.start(node, sim.config(node, role));
}

/// Applies `ops`, with a spurious timeout every so often, or none. The digest of the trace,
/// and what both sides told and received.
fn play(
    spec: NetemSpec,
    setting: Setting,
    ops: &[Op],
    spurious: Option<Duration>,
) -> (u32, Vec<String>) {
    let mut sim = Sim::with_links(2, spec);
    sim.spurious = spurious;
    let mut is_up = [false; 2];
    let stranger = "10.8.8.8:8".parse().expect("an address");
    for caller in [false, true] {
        start(&mut sim, setting, caller);
        is_up[usize::from(!caller)] = true;
    }
    for (step, op) in ops.iter().enumerate() {
        let node = |caller: bool| if caller { ANN } else { BOB };
        match op {
            Op::Run(ms) => sim.run(MS * u32::from(*ms)),
            Op::Frame(who, len) => sim.push_frame(node(*who), step as u64, *len),
            Op::Say(who, text) => {
                if Line::new(text).is_some() {
                    sim.say(node(*who), text);
                }
            }
            Op::Stream(width) => {
                let stream =
                    StreamParams { width: *width, height: 1, millifps: 1, quality: Some(50) };
                sim.with(ANN, |e, _| e.set_stream(stream));
            }
            Op::Kill(who) => {
                sim.kill(node(*who));
                is_up[node(*who).0] = false;
            }
            Op::Quit(who) => {
                sim.quit(node(*who));
                is_up[node(*who).0] = false;
            }
            Op::Start(who) => {
                if !is_up[node(*who).0] {
                    start(&mut sim, setting, *who);
                    is_up[node(*who).0] = true;
                }
            }
            Op::Block(true, open) => sim.set_open(ANN, BOB, *open),
            Op::Block(false, open) => sim.set_open(BOB, ANN, *open),
            Op::BlackOut(ms) => sim.black_out(MS * u32::from(*ms)),
            Op::Garbage(who, bytes) => sim.inject(node(*who), stranger, bytes),
            Op::Chunk(body) => sim.inject(BOB, stranger, &whole_datagram(step as u64, body)),
            Op::Speak(bytes) if is_up[BOB.0] => {
                sim.speak_to(BOB, bytes);
            }
            Op::Speak(_) => {}
        }
    }
    sim.run(2 * SECOND);
    for node in [ANN, BOB].into_iter().filter(|n| is_up[n.0]) {
        for counters in sim.counters(node) {
            let r = counters.reassembly;
            assert_eq!(r.seen, r.completed + r.incomplete + r.late + r.damaged, "{r:?}");
        }
    }
    let mut story: Vec<String> = Vec::new();
    for node in [ANN, BOB] {
        let events = sim.take_events(node);
        story.extend(events.iter().map(|(at, event)| format!("{node:?} {at:?} {event:?}")));
        let frames = sim.take_frames(node);
        story.extend(
            frames
                .iter()
                .filter(|(_, d)| d.frame.data.len() >= 8)
                .map(|(at, d)| format!("{node:?} {:?} frame {}", *at - sim.base, d.frame.id)),
        );
    }
    (sim.digest(), story)
}

/// A video datagram with a right checksum around whatever `body` is.
fn whole_datagram(sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut datagram = [&[0xd5, 0x21, 0, 0], &(sequence as u32).to_be_bytes()[..]].concat();
    datagram.extend([0, 0, 0, 9]);
    datagram.extend(body);
    let crc = crc32fast::hash(&datagram);
    datagram.extend(crc.to_be_bytes());
    datagram
}

/// What a lossy way does to a 720p stream that nothing mends, cell by cell: without a control
/// channel nobody asks. What repair makes of it is in `repair.rs`. A change of behaviour is a change
/// of `simulation-table.txt`, to be read and accepted.
#[test]
fn the_table_of_loss_and_burst_is_as_it_was() {
    let cells: Vec<_> = [0.0, 0.1, 1.0, 5.0]
        .into_iter()
        .flat_map(|loss| [1, 4, 20].map(|burst| (loss, burst)))
        .collect();
    let rows = std::thread::scope(|scope| {
        let halves = cells.chunks(cells.len() / 2).map(|half| {
            scope.spawn(|| half.iter().map(|&(loss, burst)| cell(loss, burst)).collect::<Vec<_>>())
        });
        let halves: Vec<_> = halves.collect();
        halves.into_iter().flat_map(|h| h.join().expect("a half")).collect::<Vec<_>>()
    });
    for (&(loss, burst), row) in cells.iter().zip(&rows) {
        assert_eq!(row.damaged, 0);
        if burst == 1 {
            let expected = (1.0_f64 - loss / 100.0).powi(TABLE_CHUNKS as i32);
            let deviation = (expected * (1.0 - expected) / TABLE_FRAMES as f64).sqrt();
            let off = (row.delivered - expected).abs();
            assert!(off <= 4.0 * deviation, "{loss} %: {} of {expected}", row.delivered);
        }
    }
    let table = TABLE_HEAD.to_owned() + &rows.iter().map(Row::line).collect::<String>();
    if std::env::var_os("UDPCHAT_BLESS").is_some() {
        std::fs::write(TABLE, &table).expect("the table is writable");
    }
    let frozen = std::fs::read_to_string(TABLE).unwrap_or_default();
    assert!(
        frozen == table,
        "the behaviour under loss has changed; now it is\n\n{table}\nIf that is meant, accept it \
         with UDPCHAT_BLESS=1 cargo test --test it table, and commit {TABLE}"
    );
}

/// A line of the table.
struct Row {
    loss: f64,
    burst: u32,
    delivered: f64,
    damaged: u64,
    delays: Vec<Duration>,
}

impl Row {
    fn line(&self) -> String {
        let Self { loss, burst, delivered, damaged, .. } = self;
        let [p50, p95, p99] = [50, 95, 99].map(|p| self.percentile(p));
        let share = delivered * 100.0;
        format!("{loss:>6.1} {burst:>6} {share:>11.2} {damaged:>8} {p50:>7} {p95:>7} {p99:>7}\n")
    }

    /// The delay below which `percent` of the delivered frames are, in ms; a dash if there are none.
    fn percentile(&self, percent: usize) -> String {
        let at = (self.delays.len() * percent).div_ceil(100).saturating_sub(1);
        let ms = |d: &Duration| format!("{:.2}", d.as_secs_f64() * 1e3);
        self.delays.get(at).map_or("-".into(), ms)
    }
}

/// One cell: a stream of a minute over a way with this loss.
fn cell(loss: f64, burst: u32) -> Row {
    let mut sim = Sim::with_links(2, links(TABLE_LINK));
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, false);
    sim.run(SECOND);
    // Lossy only now, so that every cell begins with the same session.
    sim.set_link(ANN, BOB, links(&format!("{TABLE_LINK},loss={loss}%,burst={burst},seed=7")));
    let start = sim.now;
    sim.start_video(ANN, TABLE_CHUNKS * 1160 - 4);
    sim.run(FRAME_INTERVAL * (TABLE_FRAMES as u32 - 1));
    sim.stop_video(ANN);
    sim.run(SECOND);
    assert_eq!(sim.counters(ANN)[0].frames_sent, TABLE_FRAMES);
    let frames = sim.take_frames(BOB);
    let captured = |number: u64| start + FRAME_INTERVAL * number as u32;
    let mut delays: Vec<_> =
        frames.iter().map(|(at, d)| *at - captured(number_of(&d.frame.data))).collect();
    delays.sort();
    let delivered = delays.len() as f64 / TABLE_FRAMES as f64;
    Row { loss, burst, delivered, damaged: bobs(&sim).reassembly.damaged, delays }
}

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/simulation-table.txt");

/// 720p at quality 80.
const TABLE_CHUNKS: usize = 98;

/// A minute at 30 a second.
const TABLE_FRAMES: u64 = 1800;

const TABLE_LINK: &str = "delay=5ms,jitter=2ms,rate=100mbit";

const TABLE_HEAD: &str = "\
# Frames of 98 chunks, 30 a second for 60 s, over delay=5ms,jitter=2ms,rate=100mbit and this loss;
# no parity, and no control channel over which to ask.
# Delays are from capture to the last chunk, of delivered frames. Written by the test that reads it.
# loss %  burst  delivered %  damaged  p50 ms  p95 ms  p99 ms
";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The simulation itself asserts the contract at every step: a full drain leaves nothing due,
    /// no datagram is too long, frames are conserved, spurious timeouts say nothing.
    #[test]
    fn the_contract_holds_whatever_happens(
        seed in any::<u64>(),
        shares in (0..30_u8, 0..20_u8, 0..20_u8, 0..20_u8),
        (delay, jitter) in (0..100_u32, 0..50_u32),
        setting in prop_oneof![
            Just(Setting::Controlled),
            Just(Setting::Bare),
            Just(Setting::Chat),
            Just(Setting::Strangers),
        ],
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let share = |percent: u8| f64::from(percent) / 100.0;
        let spec = NetemSpec {
            loss: share(shares.0),
            reorder: share(shares.1),
            duplicate: share(shares.2),
            corrupt: share(shares.3),
            burst: 2.0,
            delay: MS * delay,
            jitter: MS * jitter,
            rate: None,
            seed,
        };
        let quiet = play(spec, setting, &ops, None);
        prop_assert_eq!(&quiet, &play(spec, setting, &ops, None), "one seed, one trace");
        let prodded = play(spec, setting, &ops, Some(7 * MS));
        prop_assert_eq!(quiet, prodded, "spurious timeouts change nothing");
    }
}
