//! Lets two processes find out whether they run on one machine and share a monotonic clock.

use std::time::Instant;

use crate::net::wire::control::Epoch;

/// `epoch` in a form that other processes can convert if they run in the same boot of this machine.
pub fn shared_epoch(epoch: Instant) -> Epoch {
    let ago = crate::clock::now().saturating_duration_since(epoch);
    let monotonic = crate::clock::monotonic().saturating_sub(ago);
    Epoch { boot: boot(), monotonic_us: monotonic.as_micros() as u64 }
}

/// The kernel's random id of this boot, folded to 64 bits; zero, which matches no other, if there
/// is none.
fn boot() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&hex, 16).map_or(0, |id| (id >> 64) as u64 ^ id as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn epochs_of_one_machine_share_a_boot_id_and_keep_their_distance() {
        let now = crate::clock::now();
        let earlier = now.checked_sub(Duration::from_secs(10)).expect("enough uptime");
        let (a, b) = (shared_epoch(now), shared_epoch(earlier));
        assert_eq!(a.boot, b.boot);
        // A busy machine may pause between the two.
        let apart = a.monotonic_us.abs_diff(b.monotonic_us);
        assert!(apart.abs_diff(10_000_000) < 5_000_000, "{apart}");
    }
}
