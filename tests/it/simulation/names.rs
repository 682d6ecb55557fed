//! Targets given by name, when the name is resolved only later or to another address.

use std::net::SocketAddr;

use udpchat::net::session::{Event, Role, WaitReason};

use super::{ANN, BOB, EVE, FRAME_LEN, named, new_events};
use crate::sim::{MS, SECOND, Sim};

#[test]
fn a_name_is_resolved_later_and_followed_to_another_address() {
    let mut sim = Sim::new(3);
    sim.start(ANN, sim.config(ANN, Role::Send { targets: vec![named("desk")], control: true }));
    sim.start_video(ANN, FRAME_LEN);
    sim.run(5 * SECOND);
    let waiting = new_events(&mut sim, ANN);
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
        let is_unresolved =
            |e: &Event| matches!(e, Event::Waiting { reason: WaitReason::Unresolved { .. }, .. });
        assert_eq!(new_events(&mut sim, ANN).iter().filter(|e| is_unresolved(e)).count(), 1);
    }
}

/// A DNS filter answers 0.0.0.0 or ::. Multicast and broadcast addresses cannot be called either.
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
            let waits: Vec<_> = new_events(&mut sim, ANN).into_iter().filter(is_wait).collect();
            let reason = WaitReason::Uncallable { ip: blocked.ip() };
            let waiting = Event::Waiting { host: "desk".into(), port: 7722, reason };
            assert_eq!(waits, [waiting], "reported once");

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
