//! What is true of the machine between any two events, whatever happened. The simulator asks after every step.

use super::graph::Rule;
use super::machine::{Shutdown, Supervisor};
use super::node::{Stage, State};
use super::{Desired, UnitId};

impl Supervisor {
    /// The first rule that does not hold, as a sentence.
    pub fn invariants(&self) -> Result<(), String> {
        self.check_whole()?;
        for unit in self.graph.ids() {
            self.check_unit(unit).map_err(|broken| format!("{}: {broken}", self.name(unit)))?;
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<(), String> {
        if self.nodes.len() != self.graph.len() {
            return Err("as many nodes as units".to_owned());
        }
        if let Some(unit) = self.dirty.first() {
            return Err(format!("{} is not settled", self.name(*unit)));
        }
        if self.alive != self.nodes.iter().filter(|node| node.state.is_alive()).count() {
            return Err("the count of living units is wrong".to_owned());
        }
        let wakes = || self.graph.ids().filter_map(|unit| self.node(unit).wake.map(|time| (time, unit)));
        if self.wakes.len() != wakes().count() || !wakes().all(|wake| self.wakes.contains(&wake)) {
            return Err("the index of deadlines differs from the units' own".to_owned());
        }
        match self.shutdown {
            Some(Shutdown::Asking { .. } | Shutdown::Killing { .. }) if self.alive == 0 => {
                Err("nothing lives, and the shutdown goes on".to_owned())
            }
            Some(Shutdown::Finished { given_up: false }) if self.alive != 0 => {
                Err("a shutdown is finished while something lives".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_unit(&self, unit: UnitId) -> Result<(), String> {
        let (node, spec) = (self.node(unit), self.spec(unit));
        if node.desired == Desired::Up {
            if self.shutdown.is_some() {
                return Err("wanted during a shutdown".to_owned());
            }
            if let Some(on) = self.lowered_requirement(unit) {
                return Err(format!("wanted, and {} that it requires is not", self.name(on)));
            }
            if let Some(other) = spec.conflicts.iter().find(|other| self.node(**other).desired == Desired::Up) {
                return Err(format!("wanted together with {}, which it conflicts with", self.name(*other)));
            }
        }
        if node.wake != node.next_wake(self.gate_deadline(unit)) {
            return Err("its deadline is not in the index".to_owned());
        }
        if node.cell().is_some_and(|cell| cell.run != node.run) {
            return Err("its cell is not its last run's".to_owned());
        }
        if node.history.len() > super::HISTORY_MAX as usize {
            return Err("its history is too long".to_owned());
        }
        self.check_state(unit)
    }

    fn check_state(&self, unit: UnitId) -> Result<(), String> {
        let node = self.node(unit);
        match (&node.state, node.desired) {
            (State::Stopped { ended: false }, Desired::Up) => Err("wanted, and nobody starts it".to_owned()),
            (State::Stopped { ended: true }, Desired::Down) => Err("done, and not wanted".to_owned()),
            (
                State::Waiting { .. } | State::Starting { .. } | State::Running { .. } | State::Backoff { .. } | State::Failed(_),
                Desired::Down,
            ) => Err("not wanted, and not on its way down".to_owned()),
            // Its time is over, and handle_timeout is about to say so.
            (State::Waiting { .. }, _) if node.wake.is_some_and(|time| time <= self.now) => Ok(()),
            (State::Waiting { .. }, Desired::Up) => match self.first_closed(unit, None) {
                None => Err("waits for nothing".to_owned()),
                Some((_, super::gate::Pass::Broken(why), gate)) => Err(format!("waits for {}, which {why}", self.name(gate.on))),
                Some(_) => Ok(()),
            },
            (State::Stopping { stage: Stage::Held { .. }, .. }, _) if self.first_holder(unit, 0).is_none() => {
                Err("its stop waits for nobody".to_owned())
            }
            (State::Stopping { stage, cause: None, .. }, _) if *stage != Stage::Told => Err("stops for no reason".to_owned()),
            (State::Stopping { again: true, .. }, Desired::Down) => Err("comes again, and is not wanted".to_owned()),
            (State::Starting { cell, .. } | State::Running { cell: Some(cell), .. }, _) if cell.main == super::Main::Gone => {
                Err("serves without a main process".to_owned())
            }
            (State::Starting { .. } | State::Running { .. }, _) => self.check_conflicts(unit),
            (State::Stopped { .. } | State::Stopping { .. } | State::Backoff { .. } | State::Failed(_), _) => Ok(()),
        }
    }

    fn check_conflicts(&self, unit: UnitId) -> Result<(), String> {
        let mut gates = self.spec(unit).gates.iter().filter(|gate| gate.rule == Rule::Conflict);
        match gates.find(|gate| !self.node(gate.on).state.is_down()) {
            Some(gate) => Err(format!("runs beside {}, which it conflicts with", self.name(gate.on))),
            None => Ok(()),
        }
    }
}
