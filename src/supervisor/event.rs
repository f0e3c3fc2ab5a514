//! What the world tells the machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::unit::CauseKind;

/// Nanoseconds of a monotonic clock. The machine never reads one: `now` comes in as an argument.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// Saturating, so that "infinity" written as a very long duration stays in the future.
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(nanoseconds(duration)))
    }

    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in nanoseconds; 584 years is as long as it gets.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A unit's place in the set, in name order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitId(pub u32);

/// One thing that happened. What carries a `run` speaks of that start of the unit; when the unit has moved on, it is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// An operator (or the boot) wants the unit and what it requires to be up.
    Start(UnitId),
    /// An operator wants the unit, and what requires it, to be down.
    Stop(UnitId),
    /// An operator wants the unit, and what requires it, to stop and start again.
    Restart(UnitId),
    /// Everything goes down for good; [`Action::Finished`](super::Action::Finished) follows.
    Shutdown,
    /// The report pipe closed empty: execve succeeded.
    Executed { unit: UnitId, run: u64 },
    /// No program ever ran. `Emptied` follows.
    SpawnFailed { unit: UnitId, run: u64, failure: StartFailure },
    /// `READY=1`, or a newline on the readiness descriptor.
    Ready { unit: UnitId, run: u64 },
    /// `STOPPING=1`.
    NotifyStopping { unit: UnitId, run: u64 },
    /// `WATCHDOG=1`.
    WatchdogPing { unit: UnitId, run: u64 },
    /// The main process is gone.
    Exited { unit: UnitId, run: u64, exit: Exit },
    /// The cgroup is empty, after `Exited` or `SpawnFailed`: the cell is over.
    Emptied { unit: UnitId, run: u64 },
    /// The answer to [`Action::Probe`](super::Action::Probe); a probe killed at its timeout answers `ok = false`.
    Probed { unit: UnitId, run: u64, probe: ProbeKind, ok: bool, detail: String },
    /// The kernel killed some process of the cell for want of memory.
    OomKilled { unit: UnitId, run: u64 },
}

/// Which step of the plan failed, and the sentence that [`Plan::explain`](crate::plan) made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    pub step: String,
    pub message: String,
}

/// How the main process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub status: ExitStatus,
    /// What the shell knows beyond the wait status: the Wasm host said `trap`, the cgroup counted an OOM kill.
    pub hint: Option<CauseKind>,
    /// A line about it: the trap's message.
    pub detail: Option<String>,
}

impl Exit {
    pub fn status(code: i32) -> Exit {
        Exit { status: ExitStatus::Status(code), hint: None, detail: None }
    }

    pub fn signal(signal: i32) -> Exit {
        Exit { status: ExitStatus::Signal { signal, core: false }, hint: None, detail: None }
    }

    pub fn hinted(self, hint: CauseKind) -> Exit {
        Exit { hint: Some(hint), ..self }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    Status(i32),
    Signal {
        signal: i32,
        core: bool,
    },
    /// The cell was found empty and nobody saw how its main process ended.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    Startup,
    Live,
    Ready,
}

impl ProbeKind {
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Live, ProbeKind::Ready];

    pub fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Live => "live",
            ProbeKind::Ready => "ready",
        }
    }
}
