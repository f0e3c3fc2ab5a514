//! What the shell keeps of one unit: what outlives its restarts, and the run that lives now.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::cgroup::Cgroup;
use super::follow::Main;
use super::main_pid::Named;
use super::sockets::Listener;
use crate::cell::Prepared;
use crate::plan::{Plan, Slot};
use crate::supervisor::ProbeKind;
use crate::unit::{CauseKind, Unit};

pub struct Member {
    pub unit: Rc<Unit>,
    pub slot: Slot,
    /// Built at the first start and good for every other: it depends on the unit and the host only.
    pub ready: Option<Ready>,
    /// Open since the first start.
    pub listeners: Vec<Listener>,
    pub user_namespace: Option<OwnedFd>,
    pub run: Option<Run>,
    /// The last `STATUS=`.
    pub status_text: Option<String>,
    /// The last answer of each probe.
    pub probed: BTreeMap<&'static str, String>,
}

/// A plan with what was made of it.
pub struct Ready {
    pub plan: Plan,
    pub prepared: Prepared,
    /// The machine code that the plan binds, if it is a Wasm unit's.
    pub artifact: Option<PathBuf>,
    /// Of the exec probes, made when each is first needed.
    pub probes: BTreeMap<ProbeKind, (Rc<Plan>, Prepared)>,
}

pub struct Run {
    pub number: u64,
    pub stage: Stage,
    /// Aborted when the run is released.
    pub tasks: Vec<AbortHandle>,
}

#[expect(clippy::large_enum_variant, reason = "one for each unit, and most are alive")]
pub enum Stage {
    /// The Wasm module is looked up and, if need be, compiled in a cell of its own. Dropping `cancel` ends it.
    Preparing {
        cancel: Option<oneshot::Sender<()>>,
    },
    Alive(Alive),
}

pub struct Alive {
    /// The main process, as we number it.
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub cgroup: Cgroup,
    /// To the task that follows the run: another main process.
    pub successors: mpsc::Sender<Main>,
    /// It never became the payload: its death and its silence mean nothing more.
    pub refused: bool,
    /// What the Wasm host said about the end that is coming.
    pub hint: Option<CauseKind>,
    pub oom_kills: u64,
    pub named: Named,
    /// What the environment files said at the start; for the probes too.
    pub environment: Vec<(String, String)>,
}

impl Member {
    pub fn new(unit: Unit, slot: Slot) -> Self {
        Member {
            unit: Rc::new(unit),
            slot,
            ready: None,
            listeners: Vec::new(),
            user_namespace: None,
            run: None,
            status_text: None,
            probed: BTreeMap::new(),
        }
    }

    /// The living cell of this very run.
    pub fn alive(&mut self, number: u64) -> Option<&mut Alive> {
        match &mut self.run {
            Some(Run { number: current, stage: Stage::Alive(alive), .. }) if *current == number => Some(alive),
            _ => None,
        }
    }

    /// Whatever lives.
    pub fn living(&self) -> Option<&Alive> {
        match &self.run {
            Some(Run { stage: Stage::Alive(alive), .. }) => Some(alive),
            _ => None,
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
