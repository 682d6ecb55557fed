//! Sessions between endpoints over an impaired network, in virtual time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use udpchat::net::{
    frame::{FrameBytes, OutgoingFrame},
    netem::NetemSpec,
    recovery::parity_control::FecMode,
    session::{
        Admission, AskId, CallCounters, EndReason, Endpoint, EndpointConfig, Event, GiveUpReason,
        LocalFault, Output, Role, Target, Verdict, WaitReason,
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

pub(crate) const ANN: NodeId = NodeId(0);
pub(crate) const BOB: NodeId = NodeId(1);
const EVE: NodeId = NodeId(2);

/// A frame of 20 chunks.
const FRAME_LEN: usize = 20 * 1160 - 4;

pub(crate) fn links(spec: &str) -> NetemSpec {
    spec.parse().expect("a specification")
}

/// An established session in which Ann sends to Bob.
fn session(nodes: usize, spec: &str) -> Sim {
    let mut sim = Sim::with_links(nodes, links(spec));
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, true);
    sim.run(SECOND);
    assert_eq!(connected(&mut sim, BOB).len(), 1);
    assert_eq!(connected(&mut sim, ANN).len(), 1);
    sim
}

/// The times of [`Event::Connected`] since the last call. Discards all other events.
fn connected(sim: &mut Sim, node: NodeId) -> Vec<Duration> {
    let is_connected = |e: &Event| matches!(e, Event::Connected { .. });
    sim.take_events(node).into_iter().filter(|(_, e)| is_connected(e)).map(|(at, _)| at).collect()
}

/// The events since the last call.
fn told(sim: &mut Sim, node: NodeId) -> Vec<Event> {
    sim.take_events(node).into_iter().map(|(_, e)| e).collect()
}

/// The time until `node` receives its next frame. Panics if that exceeds `limit`.
fn next_frame_within(sim: &mut Sim, node: NodeId, limit: Duration) -> Duration {
    sim.take_frames(node);
    let start = sim.now;
    sim.run(limit);
    let frames = sim.take_frames(node);
    let first = frames.first().unwrap_or_else(|| panic!("no frame within {limit:?}"));
    first.0 - start
}

/// The counters of Bob's only call.
pub(crate) fn bobs(sim: &Sim) -> CallCounters {
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
        panic!("reported once: {waiting:?}")
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
fn a_restarted_receiver_has_the_picture_within_a_second() {
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
fn an_immediately_restarted_receiver_has_the_picture_within_a_second() {
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
fn a_restarted_sender_starts_a_new_session_within_a_second() {
    // The delay is so long that datagrams of the old session are still in flight.
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
fn datagrams_sent_just_before_a_close_still_arrive() {
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
fn datagrams_long_after_a_close_start_no_session() {
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
fn a_second_sender_waits_until_the_first_leaves() {
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

/// Bob receives and is asked about each caller. Ann calls.
fn bob_is_asked() -> Sim {
    let mut sim = Sim::new(3);
    let config = sim.config(BOB, Role::Receive);
    sim.start(BOB, EndpointConfig { admission: Admission::Asked, ..config });
    sim.start_sender(ANN, BOB, true);
    sim
}

/// The questions among these events.
fn asks(events: &[Event]) -> Vec<AskId> {
    let ask = |e: &Event| match e {
        Event::Asked { ask, .. } => Some(*ask),
        _ => None,
    };
    events.iter().filter_map(ask).collect()
}

#[test]
fn a_caller_without_room_prompts_no_question() {
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
fn a_caller_waits_while_the_receiver_is_busy() {
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
fn a_call_rings_until_it_is_answered_or_the_caller_quits() {
    for quits in [false, true] {
        let mut sim = bob_is_asked();
        sim.run(600 * SECOND);
        let [ask] = asks(&told(&mut sim, BOB))[..] else { panic!("asked once") };
        let rings = |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Ringing, .. });
        let heard = told(&mut sim, ANN);
        assert!(matches!(&heard[..], [event] if rings(event)), "{heard:?}");
        if quits {
            sim.quit(ANN);
            sim.run(SECOND);
            assert_eq!(told(&mut sim, BOB), [Event::AskEnded { ask }]);
        } else {
            sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
            sim.run(SECOND);
            assert_eq!(connected(&mut sim, ANN).len(), 1);
        }
    }
}

#[test]
fn ringing_survives_a_restart_and_a_blackout_of_the_receiver() {
    let mut sim = bob_is_asked();
    sim.run(SECOND);
    assert_eq!(asks(&told(&mut sim, BOB)).len(), 1);
    sim.kill(BOB);
    sim.run(SECOND);
    let config = sim.config(BOB, Role::Receive);
    sim.start(BOB, EndpointConfig { admission: Admission::Asked, ..config });
    sim.run(SECOND);
    let [_] = asks(&told(&mut sim, BOB))[..] else { panic!("asked again") };
    sim.black_out(40 * SECOND);
    sim.run(90 * SECOND);
    let heard = told(&mut sim, ANN);
    let given_up = |e: &Event| matches!(e, Event::GivenUp { .. });
    assert!(!heard.iter().any(given_up), "{heard:?}");
    let Some(&ask) = asks(&told(&mut sim, BOB)).last() else { panic!("asked after the blackout") };
    sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
    sim.run(SECOND);
    assert_eq!(connected(&mut sim, ANN).len(), 1);
}

#[test]
fn a_fifth_caller_rings_once_there_is_room() {
    let mut sim = Sim::new(6);
    let config = sim.config(NodeId(5), Role::Receive);
    sim.start(NodeId(5), EndpointConfig { admission: Admission::Asked, ..config });
    for caller in 0..5 {
        sim.start_sender(NodeId(caller), NodeId(5), true);
    }
    let rings = |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Ringing, .. });
    let rung = |sim: &mut Sim| {
        (0..5).map(|caller| told(sim, NodeId(caller))).fold(Vec::new(), |mut rung, heard| {
            assert!(!heard.iter().any(|e| matches!(e, Event::GivenUp { .. })), "{heard:?}");
            rung.push(heard.iter().any(rings));
            rung
        })
    };
    sim.run(10 * SECOND);
    let first = rung(&mut sim);
    assert_eq!(first.iter().filter(|rung| **rung).count(), 4, "{first:?}");
    sim.run(30 * SECOND);
    let then = rung(&mut sim);
    let fifth = first.iter().position(|rung| !rung).expect("one waits");
    assert!(then[fifth], "its turn comes");
}

#[test]
fn a_clear_one_way_stream_does_not_block_callers() {
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
fn an_unvalidated_source_address_gets_no_stream() {
    let mut sim = Sim::new(2);
    sim.start(BOB, sim.config(BOB, Role::ChatListen));
    sim.set_open(ANN, BOB, false);
    let role = Role::ChatDial(sim.target(BOB));
    sim.start(ANN, sim.config(ANN, role));
    sim.run(SECOND);
    assert_eq!(connected(&mut sim, BOB).len(), 1);
    // Ann's datagrams come from another address, which answers nothing.
    sim.move_to(ANN, "10.7.7.7:7".parse().expect("an address"));
    sim.set_open(ANN, BOB, true);
    sim.set_open(BOB, ANN, false);
    sim.start_video(BOB, FRAME_LEN);
    sim.run(5 * SECOND);
    let (given, sent) = (sim.sent_bytes(ANN), sim.sent_bytes(BOB));
    assert!(0 < sent && sent <= given, "{sent} bytes for {given}");
    // If the address is Ann's after all, she echoes the challenge.
    sim.set_open(BOB, ANN, true);
    next_frame_within(&mut sim, ANN, 2 * SECOND);
}

#[test]
fn a_silent_connection_is_closed_after_five_seconds() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    sim.connect(BOB);
    sim.run(5 * SECOND - MS);
    assert!(!sim.endpoint(BOB).is_idle());
    sim.run(2 * MS);
    assert!(sim.endpoint(BOB).is_idle());
}

#[test]
fn a_caller_with_another_purpose_is_refused_permanently() {
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
fn the_answering_side_reports_both_versions_on_a_mismatch() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    let answer = sim.speak_to(BOB, b"udpchat\x01");
    assert_eq!(answer, b"udpchat\x02", "the other side can tell as well");
    let events = told(&mut sim, BOB);
    let [Event::ProtocolViolation { error, .. }] = &events[..] else { panic!("{events:?}") };
    let message = error.to_string();
    assert!(message.contains("version 2") && message.contains("version 1"), "{message}");
}

#[test]
fn the_dialling_side_reports_both_versions_on_a_mismatch() {
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
fn blocked_udp_and_its_return_are_reported_within_three_seconds() {
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
fn udp_is_not_reported_as_blocked_without_video() {
    let mut sim = session(2, "delay=20ms,loss=5%");
    sim.run(60 * SECOND);
    assert_eq!((told(&mut sim, ANN), told(&mut sim, BOB)), (vec![], vec![]));
}

fn named(host: &str) -> Target {
    Target { host: host.into(), port: 7722, addrs: Vec::new() }
}

#[test]
fn a_name_is_resolved_later_and_followed_to_another_address() {
    let mut sim = Sim::new(3);
    sim.start(ANN, sim.config(ANN, Role::Send { targets: vec![named("desk")], control: true }));
    sim.start_video(ANN, FRAME_LEN);
    sim.run(5 * SECOND);
    let waiting = told(&mut sim, ANN);
    assert!(
        matches!(&waiting[..], [Event::Waiting { reason: WaitReason::Unresolved { .. }, .. }]),
        "reported once: {waiting:?}"
    );
    for node in [BOB, EVE] {
        sim.start_receiver(node);
        sim.names.insert("desk".into(), vec![sim.addr(node)]);
        sim.run(3 * SECOND);
        assert!(sim.take_frames(node).len() > 10, "{node:?} is found");
        sim.kill(node);
        sim.run(SECOND);
    }
    sim.names.clear();
    sim.start_receiver(EVE);
    sim.run(3 * SECOND);
    assert!(sim.take_frames(EVE).len() > 10, "the known address stays");
}

#[test]
fn an_unknown_name_does_not_delay_other_targets() {
    for control in [true, false] {
        let mut sim = Sim::new(3);
        sim.start_receiver(BOB);
        let targets = vec![named("nowhere"), sim.target(BOB)];
        sim.start(ANN, sim.config(ANN, Role::Send { targets, control }));
        sim.start_video(ANN, FRAME_LEN);
        sim.run(2 * SECOND);
        assert!(sim.take_frames(BOB).len() >= 55);
        let is_told =
            |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Unresolved { .. }, .. });
        assert_eq!(told(&mut sim, ANN).iter().filter(|e| is_told(e)).count(), 1);
    }
}

/// A DNS filter answers 0.0.0.0 or ::.
#[test]
fn a_name_that_resolves_to_an_unusable_address_is_retried() {
    for control in [true, false] {
        for blocked in ["0.0.0.0:7722", "[::]:7722", "224.0.0.1:7722", "255.255.255.255:7722"] {
            let blocked: SocketAddr = blocked.parse().expect("an address");
            let mut sim = Sim::new(3);
            for node in [BOB, EVE] {
                sim.start_receiver(node);
            }
            sim.names.insert("desk".into(), vec![blocked]);
            let targets = vec![named("desk"), sim.target(EVE)];
            sim.start(ANN, sim.config(ANN, Role::Send { targets, control }));
            sim.start_video(ANN, FRAME_LEN);
            sim.run(5 * SECOND);
            assert!(sim.take_frames(EVE).len() >= 140, "the other target is not held up");
            let is_wait = |e: &Event| matches!(e, Event::Waiting { .. });
            let said: Vec<_> = told(&mut sim, ANN).into_iter().filter(is_wait).collect();
            let reason = WaitReason::Uncallable { ip: blocked.ip() };
            let waiting = Event::Waiting { host: "desk".into(), port: 7722, reason };
            assert_eq!(said, [waiting], "reported once");

            sim.names.insert("desk".into(), vec![blocked, sim.addr(BOB)]);
            sim.run(3 * SECOND);
            assert!(sim.take_frames(BOB).len() > 10, "the address that can be called is called");
        }
    }
}

#[test]
fn a_one_way_sender_follows_a_name_to_another_address() {
    let mut sim = Sim::new(3);
    for node in [BOB, EVE] {
        sim.start_receiver(node);
    }
    sim.start(ANN, sim.config(ANN, Role::Send { targets: vec![named("desk")], control: false }));
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    for node in [BOB, EVE] {
        sim.names.insert("desk".into(), vec![sim.addr(node)]);
        sim.run(2 * SECOND + 100 * MS);
        sim.take_frames(node);
        sim.run(SECOND);
        assert!(sim.take_frames(node).len() >= 29, "{node:?} is found");
    }
}

#[test]
fn a_one_way_sender_without_a_route_tries_the_next_address() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    let lost = "[2001:db8::1]:7722".parse().expect("an address");
    let target = Target { addrs: vec![lost, sim.addr(BOB)], ..named("desk") };
    sim.start(ANN, sim.config(ANN, Role::Send { targets: vec![target], control: false }));
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    assert!(sim.take_frames(BOB).is_empty());
    let reason = no_route();
    assert_eq!(sim.with(ANN, |ann, now| ann.handle_unsendable(now, lost, &reason)), Some(true));
    sim.run(SECOND);
    assert!(sim.take_frames(BOB).len() >= 29);
    assert_eq!(waits(&mut sim, ANN), [], "another one will do");
}

fn no_route() -> WaitReason {
    WaitReason::Local { fault: LocalFault::NoRoute, said: "Network is unreachable".into() }
}

/// The events by which `node` reports that it waits, or no longer waits.
fn waits(sim: &mut Sim, node: NodeId) -> Vec<Event> {
    let is_wait = |e: &Event| matches!(e, Event::Waiting { .. } | Event::Sending { .. });
    told(sim, node).into_iter().filter(is_wait).collect()
}

#[test]
fn a_one_way_sender_reports_send_failures_once_and_their_end() {
    let mut sim = Sim::new(2);
    let (to, target) = (sim.addr(BOB), sim.target(BOB));
    let (host, port, reason) = (target.host.clone(), target.port, no_route());
    sim.start(ANN, sim.config(ANN, Role::Send { targets: vec![target], control: false }));
    let fail =
        |sim: &mut Sim| sim.with(ANN, |ann, now| ann.handle_unsendable(now, to, &no_route()));
    let sent = |sim: &mut Sim| sim.with(ANN, |ann, now| ann.handle_sent(now, to));
    assert_eq!([fail(&mut sim), fail(&mut sim)], [Some(true); 2]);
    assert_eq!(waits(&mut sim, ANN), [Event::Waiting { host: host.clone(), port, reason }]);
    // One success among many failures, as behind a firewall that passes some datagrams.
    sent(&mut sim);
    fail(&mut sim);
    assert_eq!(waits(&mut sim, ANN), []);
    sim.run(6 * SECOND);
    sent(&mut sim);
    sent(&mut sim);
    assert_eq!(waits(&mut sim, ANN), [Event::Sending { host }]);
    let refuse = |sim: &mut Sim| {
        sim.with(ANN, |ann, now| ann.handle_unreachable(now, to, WaitReason::NobodyListens));
    };
    // Datagrams leave, but nobody listens.
    refuse(&mut sim);
    sent(&mut sim);
    refuse(&mut sim);
    let told = waits(&mut sim, ANN);
    let is_refusal =
        |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::NobodyListens, .. });
    assert!(told.len() == 1 && is_refusal(&told[0]), "{told:?}");
    let elsewhere = "10.9.9.9:7722".parse().expect("an address");
    let answer = sim.with(ANN, |ann, now| ann.handle_unsendable(now, elsewhere, &no_route()));
    assert_eq!(answer, Some(false));
}

/// A camera of 30 frames/s whose frame length follows the bitrate that the path can carry.
fn adaptive_camera() -> crate::sim::Camera {
    Box::new(|bitrate| Some((bitrate.unwrap_or(8_000_000) / 240).min(100_000) as usize))
}

#[test]
fn an_unreachable_receiver_does_not_slow_the_others() {
    let mut sim = Sim::with_links(3, links("delay=2ms"));
    for node in [BOB, EVE] {
        sim.start_receiver(node);
    }
    let targets = vec![sim.target(BOB), sim.target(EVE)];
    sim.start(ANN, sim.config(ANN, Role::Send { targets, control: true }));
    sim.start_camera(ANN, adaptive_camera());
    sim.run(10 * SECOND);
    let before = sim.endpoint(ANN).picture_bitrates().path.expect("reports");
    for (from, to) in [(ANN, EVE), (EVE, ANN)] {
        sim.set_open(from, to, false);
    }
    sim.run(SECOND);
    let sent = sim.counters(ANN).iter().map(|c| c.frames_sent).collect::<Vec<_>>();
    sim.run(5 * SECOND);
    let still = sim.endpoint(ANN).picture_bitrates().path.expect("reports");
    assert!(still >= before * 9 / 10, "{still} bit/s with one that stands still, {before} before");
    let since = |sim: &Sim| {
        let now = sim.counters(ANN);
        now.iter().zip(&sent).map(|(c, before)| c.frames_sent - before).collect::<Vec<_>>()
    };
    let frames = since(&sim);
    assert!((149..=151).contains(&frames[0]), "{frames:?}");
    assert!((10..=25).contains(&frames[1]), "few frames look for one that is gone: {frames:?}");
    for (from, to) in [(ANN, EVE), (EVE, ANN)] {
        sim.set_open(from, to, true);
    }
    sim.take_frames(EVE);
    sim.run(SECOND);
    let frames = sim.take_frames(EVE).len();
    assert!(frames >= 20, "{frames} of 30 in the second after its return");
}

#[test]
fn a_one_way_session_is_delivered_and_never_answered() {
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
fn a_one_way_sender_resumes_after_a_pause() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, false);
    sim.run(60 * SECOND);
    sim.start_video(ANN, FRAME_LEN);
    next_frame_within(&mut sim, BOB, 100 * MS);
    assert!(matches!(told(&mut sim, ANN)[..], [Event::Connected { .. }]));
}

#[test]
fn a_restarted_one_way_sender_is_shown_within_a_second() {
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
fn a_one_way_session_resumes_after_a_ten_second_blackout() {
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
fn a_session_with_control_survives_a_ten_second_blackout() {
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
fn text_is_cleaned_on_receipt() {
    let mut sim = Sim::new(2);
    sim.start(BOB, sim.config(BOB, Role::ChatListen));
    let (mut caller, first) = Caller::new(&crate::endpoint::identity("eve"), None);
    let conn = sim.connect(BOB);
    caller.read_key(&sim.speak_on(BOB, conn, &first));
    // Hello: session 7, name "x\e[m", purpose chat, no stream, unknown epoch, datagrams of 508
    // bytes, a secret part, no AES. Then text "a\eb".
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
fn the_stated_clock_error_holds_over_an_asymmetric_jittery_path() {
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
fn damaged_frames_are_never_delivered() {
    let mut sim = session(2, "corrupt=1%,duplicate=2%,reorder=5%,delay=5ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(60 * SECOND);
    let frames = sim.take_frames(BOB);
    let whole = frames.iter().map(|(_, d)| number_of(&d.frame.data)).collect::<Vec<_>>();
    assert!(whole.is_sorted(), "in order");
    assert!(whole.len() >= 1790, "{} of 1800: missing chunks are requested", whole.len());
    assert!(bobs(&sim).forged > 300, "{:?}", bobs(&sim));
    assert_eq!(bobs(&sim).reassembly.damaged, 0, "the datagram's seal is before it");
}

/// As from an encoder that works in strips: part of each frame is sent before its length is known.
#[test]
fn frames_sent_while_they_grow_are_recovered_too() {
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
fn every_frame_is_counted_exactly_once() {
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
