//! Sessions between endpoints over an impaired network, in virtual time.

mod calls;
mod names;
mod one_way;
mod receivers;

use std::time::{Duration, Instant};

use udpchat::net::{
    frame::{FrameBytes, OutgoingFrame},
    netem::NetemSpec,
    recovery::parity_control::FecMode,
    session::{CallCounters, EndReason, EndpointConfig, Event, Role, Target, WaitReason},
    wire::control::{CloseReason, Epoch},
};

use crate::sim::{FRAME_INTERVAL, MS, NodeId, SECOND, Sim, number_of, numbers, picture};

pub(crate) const ANN: NodeId = NodeId(0);
pub(crate) const BOB: NodeId = NodeId(1);
const EVE: NodeId = NodeId(2);

/// In bytes. A frame of 20 chunks in the clear, 21 sealed.
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

/// The events since the last call that a user is told.
fn new_events(sim: &mut Sim, node: NodeId) -> Vec<Event> {
    let mut events = all_new_events(sim, node);
    events.retain(|e| !matches!(e, Event::SendingEarly { .. } | Event::EarlyFrameLost));
    events
}

/// The events since the last call.
fn all_new_events(sim: &mut Sim, node: NodeId) -> Vec<Event> {
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
    let waiting = new_events(&mut sim, ANN);
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
        new_events(&mut sim, ANN)[..],
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
    let last = new_events(&mut sim, BOB).pop();
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
    let events = new_events(&mut sim, BOB);
    assert_eq!(sessions(&events), 1, "{events:?}");
    assert!(events.iter().any(|e| matches!(e, Event::Ended { .. })));
    let frames = sim.take_frames(BOB);
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
    let events = new_events(&mut sim, BOB);
    assert!(
        matches!(events[..], [Event::Ended { reason: EndReason::Closed(CloseReason::Quit), .. }]),
        "{events:?}"
    );
    sim.run(20 * SECOND);
    assert_eq!(new_events(&mut sim, BOB), [], "it waits for the next");
}

#[test]
fn datagrams_long_after_a_close_start_no_session() {
    let mut sim = session(2, "delay=1ms");
    sim.set_link(ANN, BOB, links("delay=500ms"));
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    sim.quit(ANN);
    sim.run(5 * SECOND);
    let events = new_events(&mut sim, BOB);
    assert!(matches!(events[..], [Event::Ended { .. }]), "{events:?}");
    assert!(sim.endpoint(BOB).strays().unknown_session > 100);
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
        assert!(matches!(new_events(&mut sim, node)[..], [Event::UdpUnblocked { .. }]));
    }
}

#[test]
fn udp_is_not_reported_as_blocked_without_video() {
    let mut sim = session(2, "delay=20ms,loss=5%");
    sim.run(60 * SECOND);
    assert_eq!((new_events(&mut sim, ANN), new_events(&mut sim, BOB)), (vec![], vec![]));
}

fn named(host: &str) -> Target {
    Target { host: host.into(), port: 7722, addrs: Vec::new() }
}

#[test]
fn a_session_with_control_survives_a_ten_second_blackout() {
    let mut sim = session(2, "delay=5ms");
    sim.start_video(ANN, FRAME_LEN);
    sim.run(SECOND);
    sim.black_out(10 * SECOND);
    let after = next_frame_within(&mut sim, BOB, SECOND);
    assert!(after <= 2 * FRAME_INTERVAL, "{after:?}");
    assert_eq!((new_events(&mut sim, ANN), new_events(&mut sim, BOB)), (vec![], vec![]));
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
    assert_eq!(
        bobs(&sim).reassembly.damaged,
        0,
        "the seal of the datagram catches the damage first"
    );
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
