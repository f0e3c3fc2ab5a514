//! The two clocks: monotonic time for the machine, civil time for people.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::supervisor::Time;
use crate::time::Utc;

/// Microseconds. Somebody has set the wall clock if it is off by as much, and by more than looking took.
const SET: u64 = 10_000;

/// Microseconds that a look at both clocks takes at most, and how often that is tried.
const PROMPT: u64 = 100;
const LOOKS: usize = 8;

/// CLOCK_MONOTONIC, which goes on across a re-exec.
pub fn now() -> Time {
    let elapsed = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    Time(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

fn wall() -> Utc {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Utc(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// What the wall clock showed at a monotonic moment, by the wall clock of today: later for a later moment, as long as nobody sets it.
pub fn wall_at(moment: Time) -> Utc {
    Utc(ahead().wrapping_add(micros(moment)))
}

/// By how much the wall clock is ahead of the monotonic one. The clocks cannot be read at once, so it comes out a little different
/// each time; only a difference that somebody has made counts, or a suspended machine, whose monotonic clock stood still.
fn ahead() -> u64 {
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let look = || (micros(now()), wall().0, micros(now()));
    // Whoever was interrupted in between looks again.
    let (before, wall, after) = (0..LOOKS).map(|_| look()).find(|(before, _, after)| after - before < PROMPT).unwrap_or_else(look);
    let (known, found) = (AHEAD.load(Ordering::Relaxed), wall.wrapping_sub(before));
    if found.abs_diff(known) < SET + after.saturating_sub(before) {
        return known;
    }
    AHEAD.store(found, Ordering::Relaxed);
    found
}

fn micros(moment: Time) -> u64 {
    moment.0 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_one_time_and_a_later_one_no_earlier() {
        let moment = now();
        let time = wall_at(moment);
        assert!(time.0.abs_diff(wall().0) < 60_000_000, "{time}");
        for _ in 0..100_000 {
            assert!(wall_at(moment) == time && wall_at(now()).0 >= time.0);
        }
        assert_eq!(wall_at(Time(moment.0 + 5_000_000)).0, time.0 + 5000);
    }
}
