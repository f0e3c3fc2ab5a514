//! A unit at run time: what is wanted of it, what it is, and, while a cell of it lives, that cell. Data lives in the state that
//! owns it: there is no deadline without something that has to end, and no cell in a state that has none.

use serde::{Deserialize, Serialize};

use super::health::Probes;
use super::{Cause, Desired, StateName, Time, UnitId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No cell. `ended` says that its last run ended with success by itself, so nobody is to start it again.
    Stopped { ended: bool },
    /// Wanted, and held back. `gate` is the index of the gate that holds it; `None` asks for a look at all of them.
    Waiting { gate: Option<usize> },
    /// The cell is being made, or its payload runs and is not ready yet.
    Starting { deadline: Option<Time>, cell: Cell },
    /// Ready. A target has no cell.
    Running { since: Time, cell: Option<Cell> },
    /// On its way down. `cause` is why this run ends; it is not known yet when the service said that it is stopping by itself.
    /// `again`: an operator wants it up at once when it is down, whatever the cause.
    Stopping { stage: Stage, deadline: Option<Time>, cause: Option<Cause>, again: bool, cell: Option<Cell> },
    /// Between two runs; `attempt` failures came in a row.
    Backoff { until: Time, attempt: u32 },
    /// Up is wanted and cannot be had.
    Failed(Cause),
}

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It still serves: units that depend on it stop first. `behind` is a hint: where to look first.
    Held { behind: usize },
    /// It was told, or said so itself, and has until the deadline.
    Told,
    /// Its main process got SIGABRT from the watchdog and has until the deadline to dump core.
    Aborted,
    /// Everyone in it was killed. At the deadline they are killed again: on cgroup v1 a fork can outrun the first round.
    Killed,
}

/// One run of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub run: u64,
    pub main: Main,
    /// When the next `WATCHDOG=1` is due; only while running.
    pub watchdog: Option<Time>,
    /// Since when it has been running, and healthy where there are probes. Only while running.
    pub good_since: Option<Time>,
    /// The kernel killed something in it for want of memory.
    pub oom: bool,
    pub probes: Probes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Main {
    /// `Spawn` was asked for; nothing was heard.
    Cloned,
    Executed,
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub desired: Desired,
    pub state: State,
    /// Since when it has this state.
    pub since: Time,
    /// When its last run began, or was found to be impossible.
    pub tried: Time,
    /// Starts so far: the number of the run that lives, or of the last one.
    pub run: u64,
    /// Restarts by policy since an operator last started it.
    pub restarts: u64,
    /// Failures in a row; decides the delay.
    pub attempt: u32,
    /// When it was restarted lately, for the limit. Never longer than the limit.
    pub history: std::collections::VecDeque<Time>,
    /// Why its last run ended.
    pub last: Option<Cause>,
    /// Its entry in the index of deadlines.
    pub wake: Option<Time>,
}

impl Node {
    pub fn new() -> Node {
        Node {
            desired: Desired::Down,
            state: State::Stopped { ended: false },
            since: Time(0),
            tried: Time(0),
            run: 0,
            restarts: 0,
            attempt: 0,
            history: std::collections::VecDeque::new(),
            last: None,
            wake: None,
        }
    }

    /// An operator's start is a fresh one.
    pub fn forgive(&mut self) {
        self.restarts = 0;
        self.attempt = 0;
        self.history.clear();
    }

    pub fn cell(&self) -> Option<&Cell> {
        match &self.state {
            State::Starting { cell, .. } => Some(cell),
            State::Running { cell, .. } | State::Stopping { cell, .. } => cell.as_ref(),
            State::Stopped { .. } | State::Waiting { .. } | State::Backoff { .. } | State::Failed(_) => None,
        }
    }

    /// The cell of exactly this run.
    pub fn cell_mut(&mut self, run: u64) -> Option<&mut Cell> {
        let cell = match &mut self.state {
            State::Starting { cell, .. } => Some(cell),
            State::Running { cell, .. } | State::Stopping { cell, .. } => cell.as_mut(),
            State::Stopped { .. } | State::Waiting { .. } | State::Backoff { .. } | State::Failed(_) => None,
        };
        cell.filter(|cell| cell.run == run)
    }

    /// When something has to happen even if the world stays silent.
    pub fn next_wake(&self, gates: Option<Time>) -> Option<Time> {
        match &self.state {
            State::Stopped { .. } | State::Failed(_) => None,
            State::Waiting { .. } => gates,
            State::Starting { deadline, cell } => earliest(*deadline, cell.probes.next_wake()),
            State::Running { cell, .. } => cell.as_ref().and_then(|cell| earliest(cell.watchdog, cell.probes.next_wake())),
            State::Stopping { deadline, .. } => *deadline,
            State::Backoff { until, .. } => Some(*until),
        }
    }
}

impl State {
    /// Something of it runs, or will by itself.
    pub fn is_alive(&self) -> bool {
        !matches!(self, State::Stopped { .. } | State::Failed(_))
    }

    /// Nothing of it runs. In a backoff it will.
    pub fn is_down(&self) -> bool {
        match self {
            State::Stopped { .. } | State::Waiting { .. } | State::Backoff { .. } | State::Failed(_) => true,
            State::Starting { .. } | State::Running { .. } | State::Stopping { .. } => false,
        }
    }

    pub fn name(&self, is_job: bool) -> StateName {
        match self {
            State::Stopped { ended: true } if is_job => StateName::Completed,
            State::Stopped { .. } => StateName::Stopped,
            State::Waiting { .. } => StateName::Waiting,
            State::Starting { .. } => StateName::Starting,
            State::Running { .. } => StateName::Running,
            State::Stopping { .. } => StateName::Stopping,
            State::Backoff { .. } => StateName::Backoff,
            State::Failed(_) => StateName::Failed,
        }
    }
}

pub(super) fn earliest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// The nodes by id. An id that is not ours finds a unit that is down and does nothing, so that no look-up can panic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Nodes {
    list: Vec<Node>,
    void: Node,
}

impl Nodes {
    pub fn new(count: usize) -> Nodes {
        Nodes { list: vec![Node::new(); count], void: Node::new() }
    }

    pub fn get(&self, id: UnitId) -> &Node {
        self.list.get(id.0 as usize).unwrap_or(&self.void)
    }

    pub fn get_mut(&mut self, id: UnitId) -> &mut Node {
        self.list.get_mut(id.0 as usize).unwrap_or(&mut self.void)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }
}
