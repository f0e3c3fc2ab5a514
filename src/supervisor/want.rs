//! Wants settle first: what an operator asks for spreads over the dependencies before any unit moves.
//!
//! Kept true: when a unit is wanted up, so is all that it requires or depends on.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::machine::{Shutdown, Supervisor};
use super::node::{Stage, State};
use super::{Action, Asker, Cause, Desired, UnitId};

/// How long a shutdown asks nicely. Whoever is left then is killed, whatever its `stop.timeout` says.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a shutdown then waits for cells that do not even end by SIGKILL: a process that waits for a dead disk or a dead
/// server hears no signal, and must not keep a machine from powering off.
pub const SURVIVOR_TIMEOUT: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Up, with all that it pulls in. What it conflicts with goes down. Counters start anew: an operator's start is a fresh one.
    pub(super) fn start(&mut self, root: UnitId) {
        if self.shutdown.is_some() || !self.graph.contains(root) {
            return;
        }
        let mut seen = BTreeSet::from([root]);
        let mut order = vec![root];
        let mut work = VecDeque::from([root]);
        while let Some(unit) = work.pop_front() {
            for other in self.spec(unit).conflicts.clone() {
                let name = self.name(unit).to_owned();
                self.lower(other, Asker::Conflict(name));
            }
            self.lift(unit, unit == root);
            for pulled in self.spec(unit).pulls.clone() {
                if seen.insert(pulled) {
                    order.push(pulled);
                    work.push_back(pulled);
                }
            }
        }
        // A conflict among the units just lifted may have taken down what another of them requires. The last word counts.
        for unit in order {
            if self.node(unit).desired == Desired::Up
                && let Some(gone) = self.lowered_requirement(unit)
            {
                let name = self.name(gone).to_owned();
                self.lower(unit, Asker::StopOf(name));
            }
        }
    }

    pub(super) fn lowered_requirement(&self, unit: UnitId) -> Option<UnitId> {
        let gates = self.spec(unit).gates.iter();
        gates.filter(|gate| gate.rule.is_requirement()).map(|gate| gate.on).find(|on| self.node(*on).desired == Desired::Down)
    }

    /// Down, with all that requires it.
    pub(super) fn stop(&mut self, root: UnitId) {
        if self.graph.contains(root) {
            self.lower(root, Asker::Stop);
        }
    }

    /// Down and up again, with all that requires it. What is down already starts.
    pub(super) fn restart(&mut self, root: UnitId) {
        if self.shutdown.is_some() || !self.graph.contains(root) {
            return;
        }
        self.start(root);
        let name = self.name(root).to_owned();
        for unit in self.requiring(root) {
            let by = if unit == root { Asker::Restart } else { Asker::RestartOf(name.clone()) };
            if self.node(unit).desired == Desired::Up {
                self.hold(unit, by, true);
            }
        }
    }

    pub(super) fn shut_down(&mut self) {
        if self.shutdown.is_some() {
            return;
        }
        self.shutdown = Some(Shutdown::Asking { until: self.now.after(SHUTDOWN_TIMEOUT) });
        for unit in self.graph.ids() {
            self.drop_want(unit, Asker::Shutdown);
        }
    }

    pub(super) fn expire_shutdown(&mut self) {
        match self.shutdown {
            Some(Shutdown::Asking { until }) if until <= self.now => {
                self.shutdown = Some(Shutdown::Killing { until: self.now.after(SURVIVOR_TIMEOUT) });
                for unit in self.graph.ids() {
                    if !matches!(self.node(unit).state, State::Stopping { stage: Stage::Killed, .. }) {
                        self.kill(unit);
                    }
                }
            }
            Some(Shutdown::Killing { until }) if until <= self.now => {
                self.shutdown = Some(Shutdown::Finished { given_up: true });
                self.push(Action::Finished);
            }
            _ => {}
        }
    }

    pub(super) fn finish_shutdown(&mut self) {
        if let Some(Shutdown::Asking { .. } | Shutdown::Killing { .. }) = self.shutdown
            && self.alive == 0
        {
            self.shutdown = Some(Shutdown::Finished { given_up: false });
            self.push(Action::Finished);
        }
    }

    /// The unit and all that requires it, directly or not.
    fn requiring(&self, root: UnitId) -> Vec<UnitId> {
        let mut seen = BTreeSet::from([root]);
        let mut found = vec![root];
        let mut next = 0;
        while let Some(unit) = found.get(next).copied() {
            next += 1;
            for requirer in &self.spec(unit).requirers {
                if seen.insert(*requirer) {
                    found.push(*requirer);
                }
            }
        }
        found
    }

    fn lower(&mut self, root: UnitId, by: Asker) {
        let name = self.name(root).to_owned();
        for unit in self.requiring(root) {
            let by = if unit == root { by.clone() } else { Asker::StopOf(name.clone()) };
            self.drop_want(unit, by);
        }
    }

    fn lift(&mut self, unit: UnitId, explicit: bool) {
        let is_job = self.is_job(unit);
        let node = self.nodes.get_mut(unit);
        let was_down = node.desired == Desired::Down;
        node.desired = Desired::Up;
        let fresh = match &mut node.state {
            // A job that is done is not done again because somebody else starts.
            State::Stopped { ended } => !*ended || explicit || !is_job,
            State::Failed(_) => true,
            // A pulled unit is left to its own patience; an operator's patience is shorter.
            State::Backoff { .. } => explicit,
            State::Stopping { again, .. } => {
                *again |= explicit || was_down;
                false
            }
            State::Waiting { .. } | State::Starting { .. } | State::Running { .. } => false,
        };
        if fresh {
            node.forgive();
            self.enter(unit, State::Waiting { gate: None }, None);
        }
    }

    fn drop_want(&mut self, unit: UnitId, by: Asker) {
        self.nodes.get_mut(unit).desired = Desired::Down;
        let is_leant_on = self.spec(unit).requirers.iter().any(|requirer| !self.node(*requirer).state.is_down());
        match &mut self.nodes.get_mut(unit).state {
            State::Stopped { ended: false } => {}
            // What is done has nothing that could end, but its stop is not over before those are down who go first.
            State::Stopped { ended: true } if is_leant_on => self.hold(unit, by, false),
            State::Stopped { ended: true } | State::Waiting { .. } | State::Backoff { .. } | State::Failed(_) => {
                self.enter(unit, State::Stopped { ended: false }, Some(Cause::Asked { by }));
            }
            State::Stopping { again, cause, .. } => {
                *again = false;
                // Who asked last is who stopped it.
                if let Some(Cause::Asked { by: asker }) = cause {
                    *asker = by;
                }
            }
            State::Starting { .. } | State::Running { .. } => self.hold(unit, by, false),
        }
    }

    /// The stop begins: it still serves those who stop first.
    fn hold(&mut self, unit: UnitId, by: Asker, again: bool) {
        let node = self.nodes.get_mut(unit);
        let cell = match &mut node.state {
            State::Starting { cell, .. } => Some(cell.clone()),
            State::Running { cell, .. } => cell.take(),
            State::Stopped { .. } => None,
            _ => return,
        };
        let cause = Cause::Asked { by };
        let stopping = State::Stopping { stage: Stage::Held { behind: 0 }, deadline: None, cause: Some(cause.clone()), again, cell };
        self.enter(unit, stopping, Some(cause));
    }
}
