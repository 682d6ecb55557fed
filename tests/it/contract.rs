//! The contract of the endpoint's state machine, under random operations.

use std::time::Duration;

use proptest::prelude::*;
use udpchat::net::{
    netem::NetemSpec,
    session::Role,
    wire::{control::StreamParams, text::Line},
};

use crate::{
    sim::{MS, SECOND, Sim},
    simulation::{ANN, BOB},
};

/// An operation on a pair of endpoints or on the network between them.
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

/// A forged chunk that is valid by itself, or nearly. The small numbers make forged chunks collide
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
    OneWay,
    Chat,
    /// No sender: only strangers, who send the forged datagrams.
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
        (Setting::OneWay, true) => (ANN, Role::Send { targets: vec![target], control: false }),
    };
    sim.start(node, sim.config(node, role));
}

/// Applies `ops`, with a spurious timeout every `spurious` if given. Returns the digest of the
/// trace, and the events and frames of both sides.
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
    // A frame may take 2 s to be sent, and another 2 s to be assembled or given up.
    sim.run(5 * SECOND);
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

/// A video datagram with a valid checksum around any `body`.
fn whole_datagram(sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut datagram = [&[0xd5, 0x21, 0, 0], &(sequence as u32).to_be_bytes()[..]].concat();
    datagram.extend([0, 0, 0, 9]);
    datagram.extend(body);
    let crc = crc32fast::hash(&datagram);
    datagram.extend(crc.to_be_bytes());
    datagram
}

proptest! {
    /// The simulation asserts the contract at every step: nothing is due after a full drain, no
    /// datagram is too long, frames are conserved, spurious timeouts have no effect.
    #[test]
    fn the_endpoint_contract_holds_under_random_operations(
        seed in any::<u64>(),
        shares in (0..30_u8, 0..20_u8, 0..20_u8, 0..20_u8),
        (delay, jitter) in (0..100_u32, 0..50_u32),
        setting in prop_oneof![
            Just(Setting::Controlled),
            Just(Setting::OneWay),
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
            seed,
            ..NetemSpec::default()
        };
        let quiet = play(spec, setting, &ops, None);
        prop_assert_eq!(&quiet, &play(spec, setting, &ops, None), "one seed, one trace");
        let prodded = play(spec, setting, &ops, Some(7 * MS));
        prop_assert_eq!(quiet, prodded, "spurious timeouts change nothing");
    }
}
