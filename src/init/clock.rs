//! The two clocks: monotonic time for the machine, civil time for people.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::supervisor::Time;
use crate::time::Utc;

/// CLOCK_MONOTONIC, which goes on across a re-exec.
pub fn now() -> Time {
    let elapsed = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    Time(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

pub fn wall() -> Utc {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Utc(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// What the wall clock showed at a monotonic moment, by the wall clock of today.
pub fn wall_at(moment: Time) -> Utc {
    let ago = u64::try_from(now().since(moment).as_micros()).unwrap_or(u64::MAX);
    Utc(wall().0.saturating_sub(ago))
}
