//! What holds a unit back, and what it does when nothing does any more.

use super::graph::{Gate, Rule};
use super::machine::Supervisor;
use super::node::{Main, Stage, State};
use super::{Cause, Desired, Health, Time, UnitId};
use crate::unit::Condition;

/// How a gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Open,
    Closed,
    /// It will not open by itself.
    Broken(&'static str),
}

impl Rule {
    pub(super) fn is_requirement(self) -> bool {
        match self {
            Rule::Requires | Rule::Depends { .. } => true,
            Rule::After | Rule::Conflict => false,
        }
    }

    /// The word for what is waited for.
    pub(super) fn word(self) -> &'static str {
        match self {
            Rule::Requires => "stopped before it starts again",
            Rule::Depends { condition, .. } => match condition {
                Condition::Started => "started",
                Condition::Ready => "ready",
                Condition::Healthy => "healthy",
                Condition::Completed => "completed",
            },
            Rule::After => "settled",
            Rule::Conflict => "stopped",
        }
    }
}

impl Supervisor {
    /// Takes one unit one step further, if anything allows it to go.
    pub(super) fn settle_unit(&mut self, unit: UnitId) {
        let node = self.node(unit);
        match &node.state {
            State::Waiting { gate } => match self.first_closed(unit, *gate) {
                None => self.spawn(unit),
                Some((_, Pass::Broken(text), gate)) => {
                    let on = self.name(gate.on).to_owned();
                    self.give_up(unit, Cause::Dependency { on, text: text.to_owned() });
                }
                Some((index, _, _)) => {
                    if let State::Waiting { gate } = &mut self.nodes.get_mut(unit).state {
                        *gate = Some(index);
                    }
                }
            },
            State::Stopping { stage: Stage::Held { behind }, .. } => match self.first_holder(unit, *behind) {
                None => self.tell(unit),
                Some(index) => {
                    if let State::Stopping { stage: Stage::Held { behind }, .. } = &mut self.nodes.get_mut(unit).state {
                        *behind = index;
                    }
                }
            },
            // It failed because another did. That one is back.
            State::Failed(Cause::Dependency { .. }) if node.desired == Desired::Up && self.requirements_hold(unit) => {
                self.enter(unit, State::Waiting { gate: None }, None);
            }
            State::Stopped { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed(_) => {}
        }
    }

    /// The gate that holds the unit back: a broken one if there is one, else a closed one. With a hint only the gates from
    /// there on are judged until one is not open, so that a target of a thousand units does not ask all of them each time.
    pub(super) fn first_closed(&self, unit: UnitId, hint: Option<usize>) -> Option<(usize, Pass, Gate)> {
        let since = self.node(unit).since;
        let gates = &self.spec(unit).gates;
        let split = hint.unwrap_or(0).min(gates.len());
        let (before, from) = gates.split_at(split);
        let turned = from.iter().zip(split..).chain(before.iter().zip(0..));
        let mut held = turned.map(|(gate, index)| (index, self.pass(gate, since), *gate)).filter(|(_, pass, _)| *pass != Pass::Open);
        let first = held.next()?;
        if hint.is_some() || matches!(first.1, Pass::Broken(_)) {
            return Some(first);
        }
        held.find(|(_, pass, _)| matches!(pass, Pass::Broken(_))).or(Some(first))
    }

    /// `since` is when the waiting began.
    pub(super) fn pass(&self, gate: &Gate, since: Time) -> Pass {
        let on = self.node(gate.on);
        match (gate.rule, &on.state) {
            (Rule::Requires | Rule::Depends { .. }, State::Failed(_)) => Pass::Broken("failed"),
            (Rule::Requires | Rule::Depends { .. }, State::Stopped { .. }) if on.desired == Desired::Down => Pass::Broken("was stopped"),
            (Rule::Requires, State::Stopping { .. }) => Pass::Closed,
            (Rule::Requires, _) => Pass::Open,
            (Rule::Depends { condition, .. }, _) if self.holds(gate.on, condition) => Pass::Open,
            (Rule::Depends { .. }, State::Stopped { ended: true }) => Pass::Broken("ended"),
            (Rule::Depends { condition, timeout: Some(timeout) }, _) if since.after(timeout) <= self.now => Pass::Broken(match condition {
                Condition::Started => "was not started in time",
                Condition::Ready => "was not ready in time",
                Condition::Healthy => "was not healthy in time",
                Condition::Completed => "was not completed in time",
            }),
            (Rule::Depends { .. }, _) => Pass::Closed,
            // Order only: it matters what the other is about to do, not how it ends.
            (Rule::After, State::Waiting { .. } | State::Starting { .. } | State::Stopping { .. }) => Pass::Closed,
            (Rule::After, _) => Pass::Open,
            (Rule::Conflict, state) if state.is_down() => Pass::Open,
            (Rule::Conflict, _) => Pass::Closed,
        }
    }

    pub(super) fn holds(&self, unit: UnitId, condition: Condition) -> bool {
        let state = &self.node(unit).state;
        let done = matches!(state, State::Stopped { ended: true });
        if done && self.is_job(unit) {
            return true;
        }
        match (condition, state) {
            (Condition::Started, State::Starting { cell, .. }) => cell.main == Main::Executed,
            (Condition::Started, State::Running { .. }) => true,
            (Condition::Ready, State::Running { .. }) => self.is_ready(unit),
            (Condition::Healthy, State::Running { .. }) => {
                self.is_ready(unit) && matches!(self.health(unit), Health::None | Health::Healthy)
            }
            (Condition::Completed, _) => done,
            (Condition::Started | Condition::Ready | Condition::Healthy, _) => false,
        }
    }

    /// Running, and its ready probe does not say otherwise.
    pub(super) fn is_ready(&self, unit: UnitId) -> bool {
        match &self.node(unit).state {
            State::Running { cell, .. } => cell.as_ref().is_none_or(|cell| cell.probes.ready()),
            _ => false,
        }
    }

    fn requirements_hold(&self, unit: UnitId) -> bool {
        let mut gates = self.spec(unit).gates.iter().filter(|gate| gate.rule.is_requirement());
        gates.all(|gate| self.pass(gate, self.now) == Pass::Open)
    }

    /// When the first wait of this unit runs out.
    pub(super) fn gate_deadline(&self, unit: UnitId) -> Option<Time> {
        let (node, spec) = (self.node(unit), self.spec(unit));
        if !spec.timed || !matches!(node.state, State::Waiting { .. }) {
            return None;
        }
        let closed = spec.gates.iter().filter(|gate| self.pass(gate, node.since) != Pass::Open);
        closed.filter_map(|gate| gate.deadline(node.since)).min()
    }

    /// A unit that stops first and has not stopped yet.
    pub(super) fn first_holder(&self, unit: UnitId, hint: usize) -> Option<usize> {
        let holders = &self.spec(unit).stops_after;
        let stopping = |holder: &UnitId| matches!(self.node(*holder).state, State::Stopping { .. });
        let (before, from) = holders.split_at(hint.min(holders.len()));
        let turned = from.iter().zip(hint..).chain(before.iter().zip(0..));
        turned.filter(|(holder, _)| stopping(holder)).map(|(_, index)| index).next()
    }
}

impl Gate {
    pub(super) fn deadline(&self, since: Time) -> Option<Time> {
        match self.rule {
            Rule::Depends { timeout, .. } => timeout.map(|timeout| since.after(timeout)),
            Rule::Requires | Rule::After | Rule::Conflict => None,
        }
    }
}
