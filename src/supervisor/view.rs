//! What an operator sees of a unit.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::gate::Pass;
use super::graph::ReadyRule;
use super::machine::Supervisor;
use super::node::{Main, Stage, State};
use super::{Cause, Desired, ProbeKind, Time, UnitId};
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
    /// What keeps it from being healthy.
    pub pending: Vec<Pending>,
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

/// A probe that has not passed, or not the last time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pending {
    pub probe: ProbeKind,
    /// It failed as often as it may, or fails after it passed; else it has not been answered with yes so far.
    pub fails: bool,
    /// Failures in a row, as far as they count.
    pub failures: u32,
    /// The first failure in a row.
    pub since: Option<Time>,
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

/// One link of the chain that `cell why` prints: a unit, then, one deeper, each unit it waits for and each that it requires and that has failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    pub depth: u32,
    pub view: View,
}

/// The longest chain that [`Supervisor::why`] tells.
pub const WHY_MAX: usize = 64;

impl Supervisor {
    pub fn view(&self, unit: UnitId) -> View {
        let (node, spec) = (self.node(unit), self.spec(unit));
        View {
            unit,
            name: spec.name.clone(),
            kind: spec.kind,
            state: self.state_name(unit),
            doing: self.doing(unit),
            desired: node.desired,
            health: self.health(unit),
            pending: node.cell().map(|cell| cell.probes.pending()).unwrap_or_default(),
            ready: self.is_ready(unit) || self.state_name(unit) == StateName::Completed,
            run: node.run,
            restarts: node.restarts,
            since: node.since,
            cause: match &node.state {
                State::Stopping { cause: Some(cause), .. } => Some(cause.clone()),
                _ => node.last.clone(),
            },
            waiting_for: self.waiting_for(unit),
            until: match &node.state {
                State::Starting { deadline, .. } | State::Stopping { deadline, .. } => *deadline,
                State::Backoff { until, .. } => Some(*until),
                State::Waiting { .. } => node.wake,
                State::Stopped { .. } | State::Running { .. } | State::Failed(_) => None,
            },
        }
    }

    /// The chain from this unit to what it is really waiting for, each unit told once.
    pub fn why(&self, unit: UnitId) -> Vec<Link> {
        let mut links = Vec::new();
        let mut told = BTreeSet::new();
        let mut work = vec![(unit, 0)];
        while let Some((unit, depth)) = work.pop() {
            if links.len() >= WHY_MAX || !self.graph.contains(unit) || !told.insert(unit) {
                continue;
            }
            let view = self.view(unit);
            let mut next: Vec<UnitId> = view.waiting_for.iter().map(|wait| wait.unit).collect();
            // A unit that failed for another's sake waits for that one, too.
            if let State::Failed(Cause::Dependency { on, .. }) = &self.node(unit).state {
                next.extend(self.find(on));
            }
            next.extend(self.failed_requirements(unit));
            work.extend(next.into_iter().rev().map(|unit| (unit, depth + 1)));
            links.push(Link { depth, view });
        }
        links
    }

    /// A unit may run on without them.
    fn failed_requirements(&self, unit: UnitId) -> impl Iterator<Item = UnitId> {
        let required = self.spec(unit).gates.iter().filter(|gate| gate.rule.is_requirement()).map(|gate| gate.on);
        required.filter(|on| matches!(self.node(*on).state, State::Failed(_)))
    }

    /// At most [`WHY_MAX`], in the order of the unit's file.
    fn waiting_for(&self, unit: UnitId) -> Vec<WaitFor> {
        let (node, spec) = (self.node(unit), self.spec(unit));
        let wait = |on: UnitId, condition, until| WaitFor { unit: on, name: self.name(on).to_owned(), condition, until };
        match &node.state {
            State::Waiting { .. } => {
                let closed = spec.gates.iter().filter(|gate| self.pass(gate, node.since) != Pass::Open);
                closed.take(WHY_MAX).map(|gate| wait(gate.on, gate.rule.word(), gate.deadline(node.since))).collect()
            }
            State::Stopping { stage: Stage::Held { .. }, .. } => {
                let holders = spec.stops_after.iter().copied();
                let stopping = holders.filter(|holder| matches!(self.node(*holder).state, State::Stopping { .. }));
                stopping.take(WHY_MAX).map(|holder| wait(holder, "stopped", None)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn doing(&self, unit: UnitId) -> &'static str {
        match &self.node(unit).state {
            State::Stopped { ended: true } if self.is_job(unit) => "is done",
            State::Stopped { ended: true } => "ended by itself",
            State::Stopped { ended: false } => "is down",
            State::Waiting { .. } => "waits for other units",
            State::Starting { cell, .. } => match (cell.main, self.spec(unit).ready) {
                (Main::Cloned, _) => "is being started",
                (_, ReadyRule::Completed) => "runs until it is done",
                (_, ReadyRule::Health) => "waits for its probes",
                (_, _) => "waits until it says that it is ready",
            },
            State::Running { .. } => "runs",
            State::Stopping { stage, .. } => match stage {
                Stage::Held { .. } => "stops after the units that depend on it",
                Stage::Told => "was told to stop",
                Stage::Aborted => "was told to dump core",
                Stage::Killed => "was killed; its cell is not empty yet",
            },
            State::Backoff { .. } => "waits before its restart",
            State::Failed(_) => "has failed",
        }
    }
}
