//! What the machine asks of the world.

use serde::{Deserialize, Serialize};

use super::{Cause, Health, ProbeKind, StateName, Time, UnitId};

/// One thing to do, in the order given. The shell performs all of them before it hands in the next event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Make the cell and start the payload. Answered by `Executed` or `SpawnFailed`.
    Spawn { unit: UnitId, run: u64 },
    /// Send a signal; a process that is gone is no error.
    Signal { unit: UnitId, run: u64, signal: i32, whom: Whom },
    /// SIGKILL to everyone in the cell. Safe to repeat; an empty cell is no error.
    Kill { unit: UnitId, run: u64 },
    /// Start this probe of the unit. Answered by `Probed`, at the latest when the probe's timeout is over.
    Probe { unit: UnitId, run: u64, probe: ProbeKind },
    /// The run is over: remove its cgroup, runtime directories and notify socket. Exactly once for each `Spawn`.
    Release { unit: UnitId, run: u64 },
    /// Something that an operator may want to see.
    Changed(Change),
    /// After `Shutdown`: nothing runs any more, or nothing but what no kill could end; those units are still `Stopping`. Said once.
    Finished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    Main,
    Cell,
}

/// A unit moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub unit: UnitId,
    pub run: u64,
    pub at: Time,
    pub from: StateName,
    /// Equal to `from` when only the health changed.
    pub to: StateName,
    pub health: Health,
    /// Why, when it is a death or a failure.
    pub cause: Option<Cause>,
}
