//! The highest frame rate that the machine sustains, and the time to the first picture.

use std::{io::Read, time::Duration};

use crate::{
    cases::{P720, P1080, QUALITY},
    floor::{self, Floor},
    measure::{Samples, timed},
    program::{self, Mode, Running, udpchat},
    targets::{Bound, Targets},
};

/// Frames shown per second at 1080p without a rate limit, compared with the codec alone on all
/// cores at once. The codec runs before and after each stream, for the same time in total: on a
/// shared machine one core may become a third slower within a second while its neighbour does not.
pub(crate) fn as_fast_as_possible(modes: &[Mode], targets: &mut Targets) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut floors: Vec<Floor> = (0..cores).map(|_| Floor::new(P1080.size, QUALITY)).collect();
    let mut codec = |samples: &mut Samples| {
        let rate = floor::rate(&mut floors, Duration::from_secs(SECONDS) / 2);
        samples.push(rate);
        rate
    };
    let mut codec_alone = Samples::default();
    for &mode in modes {
        let (mut shown, mut allowed) = (Samples::default(), Samples::default());
        for round in 1..=ROUNDS {
            println!("as fast as possible, {}: round {round} of {ROUNDS}", P1080.name);
            let before = codec(&mut codec_alone);
            shown.push(program::demo(P1080, mode, "max", &SECONDS.to_string()).shown_fps());
            allowed.push(0.85 * f64::midpoint(before, codec(&mut codec_alone)));
        }
        let what = format!("{}: as fast as possible, frames/s", mode.of(P1080.name));
        let rule = format!("0.85 × encoded and decoded by {cores} threads without a pause");
        targets.judge(&what, &shown, Bound::AtLeast, &allowed, &rule);
    }
    println!("(the codec alone, on all cores: {} frames/s)", codec_alone.figure());
}

/// The time from when both sides are up until the receiver's pipe has delivered a whole picture,
/// and the same in the demo. Both include connecting.
pub(crate) fn first_picture(targets: &mut Targets) {
    let (mut piped, mut inside) = (Samples::default(), Samples::default());
    let mut start = Samples::default();
    for _ in 0..FIRST_ROUNDS {
        let (up, first) = first_through_pipe();
        start.push(up);
        piped.push(first);
        inside.push(program::demo(P720, Mode::Auto, "30", "0.3").first_picture());
    }
    let allowed: Samples = (0..FIRST_ROUNDS).map(|_| 100.0).collect();
    let what = "first picture, two processes, ms";
    targets.judge(what, &piped, Bound::AtMost, &allowed, "100 ms after both are up");
    let what = "first picture, one process, ms";
    targets.judge(what, &inside, Bound::AtMost, &allowed, "100 ms after both are up");
    println!("(starting a process took {} ms)", start.figure());
}

/// The sender's start-up time, and the time from then until the first picture, in ms.
fn first_through_pipe() -> (f64, f64) {
    let bind = ["recv", "--bind", "127.0.0.1:0", "--show", "none", "--output", "-"];
    let mut receiver = Running::start(udpchat().args(bind));
    let said = receiver.wait_for(" on port ");
    let port = said.split(" on port ").nth(1).and_then(|rest| rest.split(';').next());
    let to = format!("127.0.0.1:{}", port.expect("a port"));
    let mut pixels = vec![0; P720.size.width * P720.size.height * 3 / 2];
    let send = ["send", "-v", "--to", &to, "--source", "pattern", "--fps", "30"];
    let mut sender = None;
    let up = timed(|| {
        let started = sender.insert(Running::start(udpchat().args(send)));
        started.wait_for("pattern, ");
    });
    (up, timed(|| receiver.stdout().read_exact(&mut pixels).expect("a picture comes")))
}

const ROUNDS: usize = 7;
const SECONDS: u64 = 3;
const FIRST_ROUNDS: usize = 10;
