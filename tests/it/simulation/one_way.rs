//! Streams without a control channel.

use std::net::SocketAddr;

use udpchat::net::session::{EndReason, Event, LocalFault, Role, Target, WaitReason};

use super::{ANN, BOB, EVE, FRAME_LEN, connected, named, new_events, next_frame_within};
use crate::sim::{FRAME_INTERVAL, MS, NodeId, SECOND, Sim, numbers};

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
    assert_eq!(
        sim.with(ANN, |ann, now| ann.handle_unsendable(now, lost.into(), &reason)),
        Some(true)
    );
    sim.run(SECOND);
    assert!(sim.take_frames(BOB).len() >= 29);
    assert_eq!(waits(&mut sim, ANN), [], "another address remains");
}

fn no_route() -> WaitReason {
    WaitReason::Local { fault: LocalFault::NoRoute, error: "Network is unreachable".into() }
}

/// The events by which `node` reports that it waits, or no longer waits.
fn waits(sim: &mut Sim, node: NodeId) -> Vec<Event> {
    let is_wait = |e: &Event| matches!(e, Event::Waiting { .. } | Event::Sending { .. });
    new_events(sim, node).into_iter().filter(is_wait).collect()
}

#[test]
fn a_one_way_sender_reports_send_failures_once_and_their_end() {
    let mut sim = Sim::new(2);
    let (to, target) = (sim.addr(BOB), sim.target(BOB));
    let (host, port, reason) = (target.host.clone(), target.port, no_route());
    sim.start(ANN, sim.config(ANN, Role::Send { targets: vec![target], control: false }));
    let fail = |sim: &mut Sim| {
        sim.with(ANN, |ann, now| ann.handle_unsendable(now, to.into(), &no_route()))
    };
    let sent = |sim: &mut Sim| sim.with(ANN, |ann, now| ann.handle_sent(now, to.into()));
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
        sim.with(ANN, |ann, now| ann.handle_unreachable(now, to.into(), WaitReason::NobodyListens));
    };
    // Datagrams leave, but nobody listens.
    refuse(&mut sim);
    sent(&mut sim);
    refuse(&mut sim);
    let told = waits(&mut sim, ANN);
    let is_refusal =
        |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::NobodyListens, .. });
    assert!(told.len() == 1 && is_refusal(&told[0]), "{told:?}");
    let elsewhere: SocketAddr = "10.9.9.9:7722".parse().expect("an address");
    let answer =
        sim.with(ANN, |ann, now| ann.handle_unsendable(now, elsewhere.into(), &no_route()));
    assert_eq!(answer, Some(false));
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
    let events = new_events(&mut sim, BOB);
    assert!(
        matches!(&events[..], [Event::Connected { peer, .. }] if peer.name.is_none()),
        "{events:?}"
    );
}

#[test]
fn a_one_way_sender_may_start_its_video_late() {
    let mut sim = Sim::new(2);
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, false);
    sim.run(60 * SECOND);
    sim.start_video(ANN, FRAME_LEN);
    next_frame_within(&mut sim, BOB, 100 * MS);
    assert!(matches!(new_events(&mut sim, ANN)[..], [Event::Connected { .. }]));
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
    let events = new_events(&mut sim, BOB);
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
