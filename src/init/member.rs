//! What the shell keeps of one unit: what outlives its restarts, and the run that lives now.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::aside::Aside;
use super::cgroup::Cgroup;
use super::main_pid::{Named, Successor};
use super::sockets::Listener;
use crate::cell::Prepared;
use crate::plan::{self, CgroupPlan, Facts, Given, IdMap, Plan, Preparation, Report, Slot};
use crate::supervisor::ProbeKind;
use crate::unit::{CauseKind, Unit};

/// How often the reloads of one unit are told.
const RELOADS_TOLD: Duration = Duration::from_secs(1);

pub struct Member {
    pub unit: Rc<Unit>,
    pub slot: Slot,
    /// Built at the first start and good for every other: it depends on the unit and the host only.
    pub ready: Option<Ready>,
    /// Open since its start, and until it comes to rest.
    pub listeners: Vec<Listener>,
    /// Removes the files of listeners that were closed.
    pub closing: Option<Aside>,
    pub user_namespace: Option<OwnedFd>,
    pub run: Option<Run>,
    /// The last `STATUS=`.
    pub status_text: Option<String>,
    /// The last answer of each probe.
    pub probed: BTreeMap<&'static str, String>,
}

/// What was made of a plan. Its steps are not kept, which are most of its memory: whoever wants to read them builds it again.
pub struct Ready {
    pub given: Given,
    pub before: Vec<Preparation>,
    pub cgroup: CgroupPlan,
    pub user_namespace: Option<IdMap>,
    /// The payload is the first process of a pid namespace.
    pub is_init: bool,
    /// The payload's ids as the host knows them.
    pub owner: (u32, u32),
    /// Told at each start.
    pub left_out: Rc<[String]>,
    pub prepared: Prepared,
    /// Of the exec probes, made when each is first needed.
    pub probes: BTreeMap<ProbeKind, (Rc<Plan>, Prepared)>,
}

pub struct Run {
    pub number: u64,
    pub stage: Stage,
    /// Aborted when the run is released.
    pub tasks: Vec<AbortHandle>,
}

pub enum Stage {
    /// Files are looked at, or the Wasm module is looked up and, if need be, compiled in a cell of its own. Dropping `cancel` ends it.
    Preparing {
        cancel: Option<oneshot::Sender<()>>,
    },
    Alive(Alive),
}

pub struct Alive {
    /// The main process, as we number it.
    pub pid: i32,
    pub pidfd: Rc<OwnedFd>,
    pub cgroup: Cgroup,
    /// To the task that follows the run: another main process.
    pub successor: Successor,
    /// It is known to have become the payload.
    pub executed: bool,
    /// It never became the payload: its death and its silence mean nothing more.
    pub refused: bool,
    /// What the Wasm host said about the end that is coming.
    pub hint: Option<CauseKind>,
    pub oom_kills: u64,
    /// The last signal that the main process was to end of; SIGKILL only if no other came before.
    pub sent: Option<i32>,
    pub named: Named,
    pub reload: Reload,
    /// What the environment files said at the start; for the probes too.
    pub environment: Vec<(String, String)>,
}

/// From `RELOADING=1` to the next `READY=1`.
#[derive(Debug, Default)]
pub struct Reload {
    pub is_on: bool,
    /// When the last one began that was told, and whether this one is.
    begun: Option<Instant>,
    is_told: bool,
}

impl Reload {
    /// True if somebody should hear of it: a service may say this as often as it likes.
    pub fn begin(&mut self, now: Instant) -> bool {
        if std::mem::replace(&mut self.is_on, true) {
            return false;
        }
        self.is_told = self.begun.is_none_or(|last| now >= last + RELOADS_TOLD);
        if self.is_told {
            self.begun = Some(now);
        }
        self.is_told
    }

    /// True if its beginning was told.
    pub fn end(&mut self) -> bool {
        std::mem::take(&mut self.is_on) && self.is_told
    }
}

impl Member {
    pub fn new(unit: Unit, slot: Slot) -> Self {
        Member {
            unit: Rc::new(unit),
            slot,
            ready: None,
            listeners: Vec::new(),
            closing: None,
            user_namespace: None,
            run: None,
            status_text: None,
            probed: BTreeMap::new(),
        }
    }

    /// What a clone reported, in words; of the plan that it performed, since the unit and the host's facts are the same.
    pub fn explain(&self, facts: &Facts, report: &Report) -> String {
        let plan = self.ready.as_ref().map(|ready| plan::build(&self.unit, facts, &ready.given));
        plan.and_then(Result::ok).map_or_else(String::new, |plan| plan.explain(report))
    }

    /// What it says of itself.
    pub fn says(&self) -> Option<String> {
        match (self.living().is_some_and(|alive| alive.reload.is_on), &self.status_text) {
            (true, Some(text)) => Some(format!("reloading: {text}")),
            (true, None) => Some("reloading".to_owned()),
            (false, text) => text.clone(),
        }
    }

    /// A listener of this name is open.
    pub fn listens(&self, name: &str) -> bool {
        self.listeners.iter().any(|listener| listener.name == name)
    }

    /// In the order of the unit file, which is that of LISTEN_FDS.
    pub fn add_listener(&mut self, listener: Listener) {
        self.listeners.push(listener);
        let place = |listener: &Listener| self.unit.sockets.iter().position(|socket| socket.name == listener.name);
        self.listeners.sort_by_key(place);
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
