//! Interleaved measurement, so that the machine's noise affects all contestants equally.

use crate::measure::{Samples, timed};

/// Times each contestant `rounds` times, in µs, after `WARM_UP` rounds that are not counted.
pub(crate) fn take_turns<const N: usize>(
    rounds: usize,
    mut contestants: [&mut dyn FnMut(); N],
) -> [Samples; N] {
    let mut samples = std::array::from_fn(|_| Samples::default());
    for round in 0..WARM_UP + rounds {
        for (run, samples) in contestants.iter_mut().zip(&mut samples) {
            let taken = timed(run) * 1e3;
            if round >= WARM_UP {
                samples.push(taken);
            }
        }
    }
    samples
}

const WARM_UP: usize = 20;
