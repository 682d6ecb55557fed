//! The only module that reads the machine's clocks.
//!
//! Apart from tests, benches and fuzz targets, only `net::io`, `video`, `stream`, `api`, `app`
//! and the program `udpchat-opencv` call it; everything else gets time as an argument. The monotonic
//! clock is the one that V4L2 stamps its buffers with, so a camera's capture time is comparable with
//! ours.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The monotonic clock's time.
#[expect(clippy::disallowed_methods, reason = "the place where the clock is read")]
pub fn now() -> Instant {
    Instant::now()
}

/// The monotonic clock's time since its epoch (on Linux, the machine's boot).
///
/// All processes on one machine read the same clock, so they can exchange this value. An
/// [`Instant`] is meaningful only within its process.
pub fn monotonic() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// The instant at which the monotonic clock shows `at`; `None` if an [`Instant`] cannot hold it.
pub fn instant_of_monotonic(at: Duration) -> Option<Instant> {
    let (now, reading) = (now(), monotonic());
    match at.checked_sub(reading) {
        Some(ahead) => now.checked_add(ahead),
        None => now.checked_sub(reading.saturating_sub(at)),
    }
}

/// Processor time used by the calling thread so far.
pub fn thread_cpu() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

/// The wall clock, as time since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the place where the clock is read")]
pub fn wall() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

fn duration(t: Timespec) -> Duration {
    Duration::new(t.tv_sec.max(0) as u64, t.tv_nsec.clamp(0, 999_999_999) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_and_instant_read_the_same_clock() {
        let (instant, reading) = (now(), monotonic());
        let back = instant_of_monotonic(reading).expect("after the epoch");
        let apart = back.max(instant) - back.min(instant);
        assert!(apart < Duration::from_millis(50), "{apart:?}");
    }

    #[test]
    fn thread_cpu_grows_with_work() {
        let before = thread_cpu();
        let mut x = 1_u64;
        for i in 0..3_000_000_u64 {
            x = std::hint::black_box(x.wrapping_mul(31).wrapping_add(i));
        }
        assert!(thread_cpu() > before, "{x}");
    }
}
