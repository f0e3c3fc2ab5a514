//! One run of a unit, from `Spawn` until it has to go.

use super::ending::{Manner, cut};
use super::graph::{ReadyRule, Spec};
use super::health::{Due, Probes, Turn};
use super::machine::Supervisor;
use super::node::{Cell, Main, State};
use super::{Action, Cause, Change, Health, ProbeKind, Time, UnitId};
use crate::unit::{Kind, ProbeAction};

impl Supervisor {
    /// All gates are open.
    pub(super) fn spawn(&mut self, unit: UnitId) {
        let (now, spec) = (self.now, self.graph.get(unit));
        let (is_target, at_once) = (spec.kind == Kind::Target, spec.ready == ReadyRule::Spawned);
        let deadline = spec.start_timeout.map(|timeout| now.after(timeout));
        let probes = Probes::new(spec);
        let node = self.nodes.get_mut(unit);
        node.run = node.run.saturating_add(1);
        node.tried = now;
        let run = node.run;
        if is_target {
            self.enter(unit, State::Running { since: now, cell: None }, None);
            return;
        }
        let cell = Cell { run, main: Main::Cloned, watchdog: None, good_since: None, oom: false, probes };
        self.push(Action::Spawn { unit, run });
        self.enter(unit, State::Starting { deadline, cell }, None);
        if at_once {
            self.run_on(unit);
        }
    }

    pub(super) fn executed(&mut self, unit: UnitId, run: u64) {
        let (now, spec) = (self.now, self.graph.get(unit));
        let Some(cell) = self.nodes.get_mut(unit).cell_mut(run) else { return };
        if cell.main != Main::Cloned {
            return;
        }
        cell.main = Main::Executed;
        cell.probes.begin(now, spec);
        if spec.ready == ReadyRule::Exec {
            self.run_on(unit);
        }
        self.touch(unit);
    }

    pub(super) fn said_ready(&mut self, unit: UnitId, run: u64) {
        // The notification can overtake the news of the execve.
        self.executed(unit, run);
        if self.is_current(unit, run) && self.spec(unit).ready == ReadyRule::Told {
            self.run_on(unit);
        }
    }

    /// Starting becomes running.
    fn run_on(&mut self, unit: UnitId) {
        let (now, spec) = (self.now, self.graph.get(unit));
        let node = self.nodes.get_mut(unit);
        let State::Starting { cell, .. } = &node.state else { return };
        let mut cell = cell.clone();
        cell.watchdog = spec.watchdog.map(|timeout| now.after(timeout));
        cell.judge(now, spec);
        self.enter(unit, State::Running { since: now, cell: Some(cell) }, None);
    }

    pub(super) fn pinged(&mut self, unit: UnitId, run: u64) {
        let (now, timeout) = (self.now, self.spec(unit).watchdog);
        if let State::Running { cell: Some(cell), .. } = &mut self.nodes.get_mut(unit).state
            && cell.run == run
            && let Some(timeout) = timeout
        {
            cell.watchdog = Some(now.after(timeout));
            self.dirty.insert(unit);
        }
    }

    pub(super) fn probed(&mut self, unit: UnitId, run: u64, kind: ProbeKind, ok: bool, detail: String) {
        if !self.is_current(unit, run) {
            return;
        }
        let before = self.health(unit);
        let (now, spec) = (self.now, self.graph.get(unit));
        let state = &mut self.nodes.get_mut(unit).state;
        let is_running = matches!(state, State::Running { .. });
        let (State::Starting { cell, .. } | State::Running { cell: Some(cell), .. }) = state else { return };
        let turn = cell.probes.answer(now, spec, kind, ok);
        if is_running {
            cell.judge(now, spec);
        }
        let says_ready = spec.ready == ReadyRule::Health && cell.probes.says_ready();
        let after = self.health(unit);
        let cause = Cause::Health { probe: kind, detail: cut(detail) };
        if before != after {
            let name = self.state_name(unit);
            let cause = matches!(turn, Turn::Failed(_)).then(|| cause.clone());
            self.push(Action::Changed(Change { unit, run, at: now, from: name, to: name, health: after, cause }));
        }
        if says_ready {
            self.run_on(unit);
        }
        match turn {
            // What comes after a stop is for the restart policy; it knows that `stop` means no restart.
            Turn::Failed(ProbeAction::Restart | ProbeAction::Stop) => self.fail(unit, cause, Manner::Orderly),
            Turn::Failed(ProbeAction::Kill) => self.fail(unit, cause, Manner::Kill),
            Turn::Failed(ProbeAction::None | ProbeAction::Degrade) | Turn::Passed | Turn::Nothing => {}
        }
        self.touch(unit);
    }

    /// A deadline of this unit is over.
    pub(super) fn expire(&mut self, unit: UnitId) {
        let now = self.now;
        let is_due = |time: &Option<Time>| time.is_some_and(|time| time <= now);
        let spec = self.graph.get(unit);
        match &mut self.nodes.get_mut(unit).state {
            State::Starting { deadline, .. } if is_due(deadline) => {
                let timeout = spec.start_timeout.unwrap_or_default();
                self.fail(unit, Cause::StartTimeout { timeout }, Manner::Orderly);
            }
            State::Running { cell: Some(cell), .. } if is_due(&cell.watchdog) => {
                let timeout = spec.watchdog.unwrap_or_default();
                self.fail(unit, Cause::Watchdog { timeout }, Manner::Abort);
            }
            State::Starting { cell, .. } | State::Running { cell: Some(cell), .. } => {
                let run = cell.run;
                for kind in ProbeKind::ALL {
                    self.run_probe(unit, run, kind);
                }
            }
            State::Stopping { deadline, .. } if is_due(deadline) => self.kill(unit),
            State::Backoff { until, .. } if *until <= now => self.enter(unit, State::Waiting { gate: None }, None),
            // A wait that ran out is found by a look at all its gates.
            State::Waiting { gate } => *gate = None,
            State::Stopped { .. }
            | State::Running { cell: None, .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed(_) => {}
        }
    }

    fn run_probe(&mut self, unit: UnitId, run: u64, probe: ProbeKind) {
        let (now, spec) = (self.now, self.graph.get(unit));
        let Some(cell) = self.nodes.get_mut(unit).cell_mut(run) else { return };
        match cell.probes.due(now, spec, probe) {
            Due::Nothing => {}
            Due::Ask => self.push(Action::Probe { unit, run, probe }),
            Due::NoAnswer => self.probed(unit, run, probe, false, "no answer".to_owned()),
        }
    }

    pub(super) fn is_current(&self, unit: UnitId, run: u64) -> bool {
        self.node(unit).cell().is_some_and(|cell| cell.run == run)
    }
}

impl Cell {
    /// Since when all is well with it: decides when the count of failures starts anew.
    fn judge(&mut self, now: Time, spec: &Spec) {
        self.good_since = match self.probes.health(spec) {
            Health::None | Health::Healthy => self.good_since.or(Some(now)),
            Health::Starting | Health::Degraded | Health::Unhealthy => None,
        };
    }
}
