//! What an operator sees of a unit.

use serde::{Deserialize, Serialize};

use super::{Cause, Desired, Time, UnitId};
use crate::unit::Kind;

/// The state as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateName {
    Stopped,
    Waiting,
    Starting,
    Running,
    Stopping,
    Backoff,
    Failed,
    /// A job that ended with success.
    Completed,
}

impl StateName {
    pub fn as_str(self) -> &'static str {
        match self {
            StateName::Stopped => "stopped",
            StateName::Waiting => "waiting",
            StateName::Starting => "starting",
            StateName::Running => "running",
            StateName::Stopping => "stopping",
            StateName::Backoff => "backoff",
            StateName::Failed => "failed",
            StateName::Completed => "completed",
        }
    }
}

/// What the probes say of a running unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It has no probes, or does not run.
    #[default]
    None,
    /// Some probe has not passed yet.
    Starting,
    Healthy,
    /// A probe with `action = "degrade"` fails.
    Degraded,
    /// Another probe fails.
    Unhealthy,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::None => "none",
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Unhealthy => "unhealthy",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    pub unit: UnitId,
    pub name: String,
    pub kind: Kind,
    pub state: StateName,
    /// The state in a few more words: "was told to stop", "waits for its probes".
    pub doing: &'static str,
    pub desired: Desired,
    pub health: Health,
    pub ready: bool,
    /// The run that lives, or the last one. 0 before the first start.
    pub run: u64,
    /// Restarts since an operator last started it.
    pub restarts: u64,
    /// Since when it is in this state.
    pub since: Time,
    /// Why it last ended or failed. A running unit shows why its previous run ended.
    pub cause: Option<Cause>,
    pub waiting_for: Vec<WaitFor>,
    /// When the state ends by itself: a backoff is over, a start or stop times out.
    pub until: Option<Time>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WaitFor {
    pub unit: UnitId,
    pub name: String,
    /// `started`, `ready`, `healthy`, `completed`, `settled` (order only) or `stopped`.
    pub condition: &'static str,
    /// When waiting for it fails the start.
    pub until: Option<Time>,
}

/// One link of the chain that `cell why` prints: a unit, then, one deeper, each unit it waits for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    pub depth: u32,
    pub view: View,
}
