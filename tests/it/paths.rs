//! Path MTU discovery and migration of a session, in virtual time.

use udpchat::net::{
    link::MIN_DATAGRAM_LEN,
    netem::NetemSpec,
    session::{Event, Role},
};

use crate::sim::{MS, NodeId, SECOND, Sim};

const ANN: NodeId = NodeId(0);
const BOB: NodeId = NodeId(1);

const FRAME_LEN: usize = 98 * 1160 - 4;

/// Ann sends to Bob and probes the path MTU. The path carries `mtu` bytes of UDP payload.
fn probing(spec: &str, mtu: usize) -> Sim {
    let spec: NetemSpec = spec.parse().expect("a specification");
    let mut sim = Sim::with_links(2, spec);
    sim.start_receiver(BOB);
    sim.set_mtu(ANN, BOB, mtu);
    let mut config = sim.config(ANN, Role::Send { targets: vec![sim.target(BOB)], control: true });
    config.max_datagram_len = None;
    sim.start(ANN, config);
    sim.run(SECOND);
    sim
}

fn datagram_len(sim: &Sim) -> Option<usize> {
    sim.counters(ANN)[0].repair.max_datagram_len
}

#[test]
fn datagrams_grow_to_the_path_mtu() {
    for (mtu, found) in [(1200, 1200), (1472, 1472), (8972, 8972), (60_000, 8972)] {
        let mut sim = probing("delay=5ms,loss=1%", mtu);
        sim.start_video(ANN, FRAME_LEN);
        sim.run(5 * SECOND);
        assert_eq!(datagram_len(&sim), Some(found), "{mtu} bytes pass");
        let frames = sim.take_frames(BOB).len();
        assert!((149..=150).contains(&frames), "{frames} of 150 at {mtu} bytes");
    }
}

#[test]
fn pictures_arrive_over_a_path_mtu_below_the_base() {
    for mtu in [1172, 972, 548] {
        let mut sim = probing("delay=5ms,loss=1%", mtu);
        sim.start_video(ANN, FRAME_LEN);
        sim.run(SECOND);
        sim.take_frames(BOB);
        sim.run(10 * SECOND);
        let found = datagram_len(&sim).expect("it sends");
        assert!(found <= mtu && mtu - found < 16, "{found} bytes, and {mtu} pass");
        let frames = sim.take_frames(BOB).len();
        assert!(frames >= 295, "{frames} of 300 at {mtu} bytes");
    }
}

#[test]
fn pictures_arrive_down_to_the_smallest_supported_path_mtu() {
    for mtu in [507, 400, 260, MIN_DATAGRAM_LEN] {
        let mut sim = probing("delay=5ms,loss=1%", mtu);
        sim.start_video(ANN, FRAME_LEN);
        sim.run(4 * SECOND);
        sim.take_frames(BOB);
        sim.run(10 * SECOND);
        let found = datagram_len(&sim).expect("it sends");
        assert!(found <= mtu, "{found} bytes, and {mtu} pass");
        let frames = sim.take_frames(BOB).len();
        assert!(frames >= 290, "{frames} of 300 at {mtu} bytes");
        assert_eq!(too_narrow(&mut sim), 0, "at {mtu} bytes");
    }
}

#[test]
fn a_path_mtu_below_the_minimum_is_reported_once() {
    let mut sim = probing("delay=5ms", MIN_DATAGRAM_LEN - 1);
    sim.start_video(ANN, FRAME_LEN);
    sim.run(30 * SECOND);
    assert_eq!((too_narrow(&mut sim), sim.take_frames(BOB).len()), (1, 0));
    sim.set_mtu(ANN, BOB, 1472);
    sim.run(2 * SECOND);
    sim.take_frames(BOB);
    sim.run(SECOND);
    assert!(sim.take_frames(BOB).len() >= 29, "it is used as soon as it widens");
}

/// How often Ann was told that the path is too narrow.
fn too_narrow(sim: &mut Sim) -> usize {
    let events = sim.take_events(ANN);
    events.iter().filter(|(_, event)| matches!(event, Event::PathTooNarrow { .. })).count()
}

#[test]
fn a_path_mtu_that_shrinks_is_detected_within_a_second() {
    let mut sim = probing("delay=5ms", 1472);
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    assert_eq!(datagram_len(&sim), Some(1472));
    sim.set_mtu(ANN, BOB, 1300);
    sim.run(SECOND);
    sim.take_frames(BOB);
    assert_eq!(datagram_len(&sim), Some(1200));
    sim.run(SECOND);
    assert_eq!(sim.take_frames(BOB).len(), 30);
}

#[test]
fn a_path_mtu_that_shrinks_below_508_is_detected_within_two_seconds() {
    for mtu in [400, MIN_DATAGRAM_LEN] {
        let mut sim = probing("delay=5ms", 508);
        sim.start_video(ANN, FRAME_LEN);
        sim.run(4 * SECOND);
        assert_eq!(datagram_len(&sim), Some(508));
        sim.set_mtu(ANN, BOB, mtu);
        sim.run(2 * SECOND);
        sim.take_frames(BOB);
        sim.run(SECOND);
        assert_eq!(sim.take_frames(BOB).len(), 30, "{mtu} bytes pass");
        assert_eq!(too_narrow(&mut sim), 0);
    }
}

#[test]
fn the_stream_and_feedback_continue_when_the_sender_moves() {
    let mut sim = probing("delay=5ms,loss=2%", 1472);
    sim.start_video(ANN, FRAME_LEN);
    sim.run(2 * SECOND);
    sim.move_to(ANN, "10.0.0.77:999".parse().expect("an address"));
    sim.run(100 * MS);
    let heard = sim.counters(ANN)[0].datagrams_received;
    sim.take_frames(BOB);
    sim.run(SECOND);
    let frames = sim.take_frames(BOB).len();
    assert!((29..=31).contains(&frames), "{frames} of 30 in the second after");
    let reports = sim.counters(ANN)[0].datagrams_received - heard;
    assert!(reports >= 15, "{reports} datagrams came back in the second after");
}

#[test]
fn the_stream_resumes_within_a_second_when_the_receiver_moves() {
    let mut sim = probing("delay=5ms", 1472);
    sim.start_video(ANN, FRAME_LEN);
    sim.run(2 * SECOND);
    sim.move_to(BOB, "10.0.0.88:7722".parse().expect("an address"));
    sim.run(SECOND);
    sim.take_frames(BOB);
    sim.run(SECOND);
    let frames = sim.take_frames(BOB).len();
    assert!(frames >= 29, "{frames} of 30 in the second after");
}
