//! Who may call, and what a caller is told.

use udpchat::net::{
    session::{
        Admission, AskId, Endpoint, EndpointConfig, Event, GiveUpReason, Output, Role, Verdict,
        WaitReason,
    },
    wire::control::{ControlError, Purpose, RejectReason, StreamParams},
    wire::text::Line,
};

use super::{
    ANN, BOB, EVE, FRAME_LEN, all_new_events, bobs, connected, links, new_events,
    next_frame_within, session,
};
use crate::{
    caller::Caller,
    sim::{MS, NodeId, SECOND, Sim, numbers},
};

#[test]
fn a_second_sender_waits_until_the_first_leaves() {
    let mut sim = session(3, "delay=2ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.start_sender(EVE, BOB, true);
    sim.start_video(EVE, FRAME_LEN + 3);
    sim.run(5 * SECOND);
    let waiting = new_events(&mut sim, EVE);
    let [Event::Waiting { reason: WaitReason::Busy { with }, .. }] = &waiting[..] else {
        panic!("{waiting:?}")
    };
    assert_eq!(with.as_str(), "ann");
    let busy = |e: &Event| matches!(e, Event::Refused { reason: RejectReason::Busy { .. }, .. });
    assert!(new_events(&mut sim, BOB).iter().all(busy));
    assert!(sim.take_frames(BOB).iter().all(|(_, d)| d.frame.data.len() == FRAME_LEN));
    sim.quit(ANN);
    sim.run(50 * MS);
    let after = next_frame_within(&mut sim, BOB, SECOND);
    assert!(after < 500 * MS, "{after:?}");
    assert!(matches!(new_events(&mut sim, EVE)[..], [Event::Connected { .. }]));
}

/// Bob receives and is asked about each caller. Ann calls.
fn bob_is_asked() -> Sim {
    let mut sim = Sim::new(3);
    let config = sim.config(BOB, Role::Receive);
    sim.start(BOB, EndpointConfig { admission: Admission::Asked, ..config });
    sim.start_sender(ANN, BOB, true);
    sim
}

/// TCP takes one round trip, and the first two messages of the handshake another. The first frame
/// leaves right after our hello.
#[test]
fn the_first_frame_does_not_wait_for_the_acceptance() {
    let mut sim = Sim::with_links(2, links("delay=10ms"));
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, true);
    sim.run(4 * 11 * MS);
    assert!(matches!(all_new_events(&mut sim, ANN)[..], [Event::SendingEarly { .. }]));
    assert_eq!(sim.endpoint(ANN).calls().count(), 0);
    sim.run(3 * MS);
    sim.push_frame(ANN, 0, FRAME_LEN);
    sim.run(14 * MS);
    assert_eq!(numbers(&sim.take_frames(BOB)), [0]);
    assert_eq!(connected(&mut sim, ANN), [], "the acceptance is on its way");
    sim.run(SECOND);
    assert_eq!(connected(&mut sim, ANN).len(), 1);
    assert!(sim.take_frames(BOB).is_empty(), "it is not sent twice");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    assert!(sim.take_frames(BOB).len() >= 28);
    assert_eq!((bobs(&sim).datagrams_lost, bobs(&sim).reassembly.incomplete), (0, 0));
}

#[test]
fn nothing_is_sent_while_a_call_rings() {
    let mut sim = bob_is_asked();
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    let [ask] = asks(&new_events(&mut sim, BOB))[..] else { panic!("not asked exactly once") };
    let early = sim.sent_bytes(ANN);
    assert!(early > FRAME_LEN as u64, "{early}");
    sim.run(20 * SECOND);
    assert_eq!(sim.sent_bytes(ANN), early);
    assert!(sim.take_frames(BOB).is_empty());
    let events = all_new_events(&mut sim, ANN);
    assert!(
        matches!(
            events[..],
            [
                Event::SendingEarly { .. },
                Event::EarlyFrameLost,
                Event::Waiting { reason: WaitReason::Ringing, .. }
            ]
        ),
        "{events:?}"
    );
    sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
    sim.run(SECOND);
    let numbers = numbers(&sim.take_frames(BOB));
    assert!(numbers.len() >= 29, "{numbers:?}");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert_eq!((bobs(&sim).datagrams_lost, bobs(&sim).reassembly.incomplete), (0, 0));
    assert!(matches!(new_events(&mut sim, ANN)[..], [Event::Connected { .. }]));
}

#[test]
fn a_busy_receiver_is_sent_a_frame_early_only_once() {
    let mut sim = session(3, "delay=10ms");
    sim.start_sender(EVE, BOB, true);
    sim.start_video(EVE, FRAME_LEN);
    sim.run(10 * SECOND);
    let events = all_new_events(&mut sim, EVE);
    assert!(
        matches!(
            events[..],
            [
                Event::SendingEarly { .. },
                Event::EarlyFrameLost,
                Event::Waiting { reason: WaitReason::Busy { .. }, .. }
            ]
        ),
        "{events:?}"
    );
    let early = sim.sent_bytes(EVE);
    assert!(early < 2 * FRAME_LEN as u64, "{early}");
    assert!(sim.take_frames(BOB).is_empty());
    let told = new_events(&mut sim, BOB);
    assert!(told.iter().all(|event| matches!(event, Event::Refused { .. })), "{told:?}");
}

/// A decision takes time even if nobody is asked: another thread looks the caller up.
#[test]
fn what_arrives_during_the_decision_is_kept() {
    let mut sim = bob_is_asked();
    sim.run(12 * MS);
    sim.push_frame(ANN, 0, FRAME_LEN);
    sim.run(50 * MS);
    let [ask] = asks(&new_events(&mut sim, BOB))[..] else { panic!("not asked exactly once") };
    assert!(sim.take_frames(BOB).is_empty());
    sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
    assert_eq!(numbers(&sim.take_frames(BOB)), [0], "at once");
    sim.run(SECOND);
    assert!(sim.take_frames(BOB).is_empty(), "it is not sent again");
    assert_eq!((bobs(&sim).datagrams_lost, bobs(&sim).malformed), (0, 0));
}

#[test]
fn nobody_is_seen_before_a_chat_is_accepted() {
    let mut sim = Sim::new(2);
    let config = sim.config(BOB, Role::ChatListen);
    sim.start(BOB, EndpointConfig { admission: Admission::Asked, ..config });
    sim.start(ANN, sim.config(ANN, Role::ChatDial(sim.target(BOB))));
    sim.start_video(ANN, FRAME_LEN);
    sim.run(5 * SECOND);
    let [ask] = asks(&new_events(&mut sim, BOB))[..] else { panic!("not asked exactly once") };
    assert_eq!(sim.sent_bytes(ANN), 0);
    sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
    sim.run(SECOND);
    assert!(sim.take_frames(BOB).len() >= 28);
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
fn a_caller_prompts_no_question_while_the_receiver_is_busy() {
    let mut sim = bob_is_asked();
    sim.run(SECOND);
    let [ask] = asks(&new_events(&mut sim, BOB))[..] else { panic!("not asked exactly once") };
    sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
    sim.run(SECOND);
    sim.start_sender(EVE, BOB, true);
    sim.run(3 * SECOND);
    let events = new_events(&mut sim, BOB);
    assert_eq!(asks(&events), []);
    let busy = |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Busy { .. }, .. });
    assert!(matches!(&new_events(&mut sim, EVE)[..], [event] if busy(event)));
}

#[test]
fn a_caller_waits_while_the_receiver_is_busy() {
    let mut sim = bob_is_asked();
    sim.start_sender(EVE, BOB, true);
    sim.run(SECOND);
    let [first, second] = asks(&new_events(&mut sim, BOB))[..] else {
        panic!("not asked about both")
    };
    sim.with(BOB, |endpoint, now| endpoint.answer(now, first, Verdict::Admit));
    let events = new_events(&mut sim, BOB);
    assert!(events.contains(&Event::AskEnded { ask: second }), "{events:?}");
    sim.run(SECOND);
    let heard = [new_events(&mut sim, ANN), new_events(&mut sim, EVE)].concat();
    let busy = |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Busy { .. }, .. });
    assert!(heard.iter().any(busy), "{heard:?}");
}

#[test]
fn a_call_rings_until_it_is_answered_or_the_caller_quits() {
    for quits in [false, true] {
        let mut sim = bob_is_asked();
        sim.run(600 * SECOND);
        let [ask] = asks(&new_events(&mut sim, BOB))[..] else { panic!("not asked exactly once") };
        let rings = |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Ringing, .. });
        let heard = new_events(&mut sim, ANN);
        assert!(matches!(&heard[..], [event] if rings(event)), "{heard:?}");
        if quits {
            sim.quit(ANN);
            sim.run(SECOND);
            assert_eq!(new_events(&mut sim, BOB), [Event::AskEnded { ask }]);
        } else {
            sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
            sim.run(SECOND);
            assert_eq!(connected(&mut sim, ANN).len(), 1);
        }
    }
}

/// The hello was written before they were set, so they must be announced separately.
#[test]
fn stream_parameters_set_while_ringing_are_announced() {
    let mut sim = bob_is_asked();
    sim.run(SECOND);
    let [ask] = asks(&new_events(&mut sim, BOB))[..] else { panic!("not asked exactly once") };
    let stream = StreamParams { width: 640, height: 480, millifps: 30_000, quality: None };
    sim.with(ANN, |e, _| e.set_stream(stream));
    sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
    sim.run(SECOND);
    let events = new_events(&mut sim, BOB);
    let changes = events.iter().filter_map(|event| match event {
        Event::StreamChanged { stream, .. } => Some(*stream),
        _ => None,
    });
    assert_eq!(changes.collect::<Vec<_>>(), [stream], "{events:?}");
}

#[test]
fn ringing_survives_a_receiver_restart_and_a_blackout() {
    let mut sim = bob_is_asked();
    sim.run(SECOND);
    assert_eq!(asks(&new_events(&mut sim, BOB)).len(), 1);
    sim.kill(BOB);
    sim.run(SECOND);
    let config = sim.config(BOB, Role::Receive);
    sim.start(BOB, EndpointConfig { admission: Admission::Asked, ..config });
    sim.run(SECOND);
    let [_] = asks(&new_events(&mut sim, BOB))[..] else {
        panic!("not asked exactly once after the restart")
    };
    sim.black_out(40 * SECOND);
    sim.run(90 * SECOND);
    let heard = new_events(&mut sim, ANN);
    let given_up = |e: &Event| matches!(e, Event::GivenUp { .. });
    assert!(!heard.iter().any(given_up), "{heard:?}");
    let Some(&ask) = asks(&new_events(&mut sim, BOB)).last() else {
        panic!("not asked after the blackout")
    };
    sim.with(BOB, |endpoint, now| endpoint.answer(now, ask, Verdict::Admit));
    sim.run(SECOND);
    assert_eq!(connected(&mut sim, ANN).len(), 1);
}

#[test]
fn a_fifth_caller_rings_after_the_oldest_had_its_turn() {
    let mut sim = Sim::new(6);
    let config = sim.config(NodeId(5), Role::Receive);
    sim.start(NodeId(5), EndpointConfig { admission: Admission::Asked, ..config });
    for caller in 0..5 {
        sim.start_sender(NodeId(caller), NodeId(5), true);
    }
    let rings = |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Ringing, .. });
    let rung = |sim: &mut Sim| {
        (0..5).map(|caller| new_events(sim, NodeId(caller))).fold(Vec::new(), |mut rung, heard| {
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
    assert_eq!(new_events(&mut sim, ANN), [Event::GivenUp { host: "host1".into(), reason }]);
    let events = new_events(&mut sim, BOB);
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
    let events = new_events(&mut sim, BOB);
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
    let (anns, bobs) = (new_events(&mut sim, ANN), new_events(&mut sim, BOB));
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
    let said = [caller.send_hello(&hello), caller.say(b"\x04\x03a\x1bb")].concat();
    sim.speak_on(BOB, conn, &said);
    let events = new_events(&mut sim, BOB);
    let [Event::Connected { peer, .. }, Event::Text { line, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(peer.name.as_ref().map(ToString::to_string).as_deref(), Some("x[m"));
    assert_eq!(*line, Line::new("ab").expect("a line"));
}
