//! One sender and several receivers.

use udpchat::net::{
    recovery::parity_control::FecMode,
    session::{Delivered, EndpointConfig, Role},
    units::Bitrate,
    wire::datagram::MAX_DATAGRAM_LEN,
};

use super::{ANN, BOB, EVE, FRAME_LEN, links};
use crate::sim::{NodeId, SECOND, Sim, numbers};

/// A camera of 30 frames/s whose frame length follows the bitrate that the path can carry.
fn adaptive_camera() -> crate::sim::Camera {
    Box::new(|bitrate| {
        let bitrate = bitrate.unwrap_or(Bitrate::from_mbps(8));
        Some((bitrate.bps() / 240).clamp(2000, 100_000) as usize)
    })
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
    assert!(still >= before * 0.9, "{still} with one unreachable, {before} before");
    let since = |sim: &Sim| {
        let now = sim.counters(ANN);
        now.iter().zip(&sent).map(|(c, before)| c.frames_sent - before).collect::<Vec<_>>()
    };
    let frames = since(&sim);
    assert!((149..=151).contains(&frames[0]), "{frames:?}");
    assert!((10..=25).contains(&frames[1]), "few frames probe an unreachable receiver: {frames:?}");
    for (from, to) in [(ANN, EVE), (EVE, ANN)] {
        sim.set_open(from, to, true);
    }
    sim.take_frames(EVE);
    sim.run(SECOND);
    let frames = sim.take_frames(EVE).len();
    assert!(frames >= 20, "{frames} of 30 in the second after its return");
}

/// Each receiver has its own datagram length and loss, so the parity ratios differ, too.
#[test]
fn receivers_on_different_paths_get_the_same_frames() {
    let mut sim = Sim::with_links(4, links("delay=2ms"));
    let receivers = [(BOB, 1200, 0), (EVE, 1100, 3), (NodeId(3), 1200, 8)];
    for (node, max_datagram_len, loss) in receivers {
        sim.set_link(ANN, node, links(&format!("delay=2ms,loss={loss}%,seed=3")));
        let max_datagram_len = Some(max_datagram_len);
        sim.start(node, EndpointConfig { max_datagram_len, ..sim.config(node, Role::Receive) });
    }
    let role =
        Role::Send { targets: receivers.map(|(node, ..)| sim.target(node)).into(), control: true };
    sim.start(ANN, EndpointConfig { fec: FecMode::Auto, ..sim.config(ANN, role) });
    sim.start_video(ANN, FRAME_LEN);
    sim.run(10 * SECOND);
    for (node, ..) in receivers {
        let numbers = numbers(&sim.take_frames(node));
        assert!(numbers.len() >= 290, "{node:?} has {} frames", numbers.len());
    }
    let parity = sim.counters(ANN).into_iter().map(|c| c.repair.parity_chunks);
    let parity: Vec<_> = parity.collect();
    assert!(parity[0] < parity[1] && parity[1] < parity[2], "{parity:?}");
}

/// Sends from Ann to Bob and Dan, and to Eve over a path that `eve` impairs; without Eve if it is
/// `None`. Returns the number of frames that Bob and Dan each get in ten seconds, their bytes, and
/// the bitrate at the end.
fn beside(eve: Option<&dyn Fn(&mut Sim)>) -> ([usize; 2], [usize; 2], Bitrate) {
    let mut sim = Sim::with_links(4, links("delay=2ms"));
    let dan = NodeId(3);
    let mut targets = vec![BOB, dan];
    if let Some(impair) = eve {
        impair(&mut sim);
        targets.push(EVE);
    }
    for &node in &targets {
        sim.start_receiver(node);
    }
    let targets = targets.into_iter().map(|node| sim.target(node)).collect();
    sim.start(ANN, sim.config(ANN, Role::Send { targets, control: true }));
    sim.start_camera(ANN, adaptive_camera());
    // It takes two seconds to detect that nothing arrives at Eve. In the other eight the rate
    // recovers.
    sim.run(10 * SECOND);
    for node in [BOB, dan] {
        sim.take_frames(node);
    }
    sim.run(10 * SECOND);
    let frames = [BOB, dan].map(|node| sim.take_frames(node));
    let bytes = |frames: &Vec<(_, Delivered)>| frames.iter().map(|(_, d)| d.frame.data.len()).sum();
    let bitrate = sim.endpoint(ANN).picture_bitrates().path.expect("reports");
    (frames.each_ref().map(Vec::len), frames.each_ref().map(bytes), bitrate)
}

#[test]
fn a_receiver_that_gets_next_to_nothing_does_not_slow_the_others() {
    let alone = beside(None);
    // Probes and their replies pass, but no video; or a few datagrams of each frame, and reports.
    let short_only = |sim: &mut Sim| sim.set_mtu(ANN, EVE, 300);
    let next_to_nothing =
        |sim: &mut Sim| sim.set_link(ANN, EVE, links("delay=2ms,loss=97%,seed=5"));
    for eve in [&short_only as &dyn Fn(&mut Sim), &next_to_nothing] {
        let together = beside(Some(eve));
        assert_eq!(together.0, alone.0, "frames");
        for node in 0..2 {
            assert!(together.1[node] >= alone.1[node] * 9 / 10, "{together:?}, alone {alone:?}");
        }
        assert!(together.2 >= alone.2 * 0.9, "{together:?}, alone {alone:?}");
    }
}

#[test]
fn a_receiver_that_got_next_to_nothing_gets_every_frame_again() {
    let mut sim = Sim::with_links(3, links("delay=2ms"));
    for node in [BOB, EVE] {
        sim.start_receiver(node);
    }
    let targets = vec![sim.target(BOB), sim.target(EVE)];
    sim.start(ANN, sim.config(ANN, Role::Send { targets, control: true }));
    sim.start_camera(ANN, adaptive_camera());
    sim.set_mtu(ANN, EVE, 300);
    let sent = |sim: &Sim| sim.counters(ANN).iter().map(|c| c.bytes_sent).collect::<Vec<_>>();
    sim.run(10 * SECOND);
    let before = sent(&sim);
    sim.run(5 * SECOND);
    let after = sent(&sim);
    let [bob, eve] = [0, 1].map(|call| after[call] - before[call]);
    assert!((2000..bob / 10).contains(&eve), "{eve} bytes probe Eve's path; {bob} go to Bob");
    assert_eq!(sim.take_frames(EVE).len(), 0);
    sim.set_mtu(ANN, EVE, MAX_DATAGRAM_LEN);
    sim.run(4 * SECOND);
    sim.take_frames(EVE);
    let bitrate = sim.endpoint(ANN).picture_bitrates().path.expect("reports");
    assert!(bitrate >= Bitrate::from_mbps(8), "{bitrate} for both");
    sim.run(SECOND);
    let frames = sim.take_frames(EVE).len();
    assert!(frames >= 29, "{frames} of 30 frames in a second");
}
