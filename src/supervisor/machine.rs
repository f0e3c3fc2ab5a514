//! The machine's front: events and time in, actions and the next deadline out.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::chance::Chance;
use super::graph::{Graph, ReadyRule, Spec};
use super::node::{Node, Nodes, State};
use super::{Action, Cause, Change, Event, Health, StateName, Time, UnitId};
use crate::unit::Unit;

/// How often one unit may be settled for one event. Settling ends by itself, each step going one state further; the bound
/// keeps a mistake in this room from hanging PID 1.
const SETTLE_ROUNDS: usize = 64;
/// Actions that there is room for when there are none. A thousand units that start at once ask for some thousands.
const ROOM: usize = 64;

/// Every unit's wants and states. A pure value: the same events at the same times give the same actions, and what serde writes
/// and reads back goes on as if nothing had happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    pub(super) graph: Graph,
    pub(super) nodes: Nodes,
    pub(super) actions: VecDeque<Action>,
    /// Units whose state or neighbours changed since they were last looked at.
    pub(super) dirty: BTreeSet<UnitId>,
    /// `Node::wake` of every unit that has one, in order.
    pub(super) wakes: BTreeSet<(Time, UnitId)>,
    /// Units that are neither stopped nor failed.
    pub(super) alive: usize,
    pub(super) shutdown: Option<Shutdown>,
    pub(super) chance: Chance,
    pub(super) now: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Shutdown {
    /// Everyone has until then, in order.
    Asking { until: Time },
    /// Everyone left was killed. Whoever is still there then is left behind.
    Killing { until: Time },
    /// `Finished` was said; `given_up`: with something still alive.
    Finished { given_up: bool },
}

impl Shutdown {
    fn deadline(self) -> Option<Time> {
        match self {
            Shutdown::Asking { until } | Shutdown::Killing { until } => Some(until),
            Shutdown::Finished { .. } => None,
        }
    }
}

impl Supervisor {
    /// All units down and nothing wanted. The seed decides the jitter of delays, nothing else.
    pub fn new<'a>(units: impl IntoIterator<Item = &'a Unit>, seed: u64) -> Supervisor {
        let graph = Graph::new(units);
        let nodes = Nodes::new(graph.len());
        Supervisor {
            graph,
            nodes,
            actions: VecDeque::new(),
            dirty: BTreeSet::new(),
            wakes: BTreeSet::new(),
            alive: 0,
            shutdown: None,
            chance: Chance::new(seed),
            now: Time(0),
        }
    }

    pub fn handle_event(&mut self, now: Time, event: Event) {
        self.pass_to(now);
        match event {
            Event::Start(unit) => self.start(unit),
            Event::Stop(unit) => self.stop(unit),
            Event::Restart(unit) => self.restart(unit),
            Event::Shutdown => self.shut_down(),
            Event::Executed { unit, run } => self.executed(unit, run),
            Event::SpawnFailed { unit, run, failure } => self.spawn_failed(unit, run, failure),
            Event::Ready { unit, run } => self.said_ready(unit, run),
            Event::NotifyStopping { unit, run } => self.said_stopping(unit, run),
            Event::WatchdogPing { unit, run } => self.pinged(unit, run),
            Event::Exited { unit, run, exit } => self.exited(unit, run, exit),
            Event::Emptied { unit, run } => self.emptied(unit, run),
            Event::Probed { unit, run, probe, ok, detail } => self.probed(unit, run, probe, ok, detail),
            Event::OomKilled { unit, run } => self.oom_killed(unit, run),
        }
        self.settle();
    }

    /// Does what is due. Early calls are harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        self.pass_to(now);
        self.expire_shutdown();
        // Each unit once: what a deadline brings about may be due again at once only by a mistake, and must not hang us.
        let due: Vec<UnitId> = self.wakes.iter().take_while(|(time, _)| *time <= self.now).map(|(_, unit)| *unit).collect();
        for unit in due {
            self.expire(unit);
            self.dirty.insert(unit);
        }
        self.settle();
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() {
            self.actions.shrink_to(ROOM);
        }
        action
    }

    /// When to call [`handle_timeout`](Supervisor::handle_timeout) if no event comes first.
    pub fn poll_timeout(&self) -> Option<Time> {
        let shutdown = self.shutdown.and_then(Shutdown::deadline);
        super::node::earliest(shutdown, self.wakes.first().map(|(time, _)| *time))
    }

    pub fn find(&self, name: &str) -> Option<UnitId> {
        self.graph.find(name)
    }

    pub fn name(&self, unit: UnitId) -> &str {
        &self.graph.get(unit).name
    }

    /// Every unit, in name order.
    pub fn units(&self) -> impl Iterator<Item = UnitId> + use<> {
        self.graph.ids()
    }

    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// A clock that goes backwards stands still.
    fn pass_to(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// Looks at every unit that may have something to do, until none has.
    fn settle(&mut self) {
        let bound = self.graph.len().saturating_add(1).saturating_mul(SETTLE_ROUNDS);
        for _ in 0..bound {
            let Some(unit) = self.dirty.pop_first() else {
                break;
            };
            self.settle_unit(unit);
            self.rearm(unit);
        }
        self.finish_shutdown();
    }

    fn rearm(&mut self, unit: UnitId) {
        let gates = self.gate_deadline(unit);
        let node = self.nodes.get_mut(unit);
        let wake = node.next_wake(gates);
        if wake != node.wake {
            if let Some(time) = node.wake {
                self.wakes.remove(&(time, unit));
            }
            if let Some(time) = wake {
                self.wakes.insert((time, unit));
            }
            node.wake = wake;
        }
    }

    pub(super) fn spec(&self, unit: UnitId) -> &Spec {
        self.graph.get(unit)
    }

    pub(super) fn node(&self, unit: UnitId) -> &Node {
        self.nodes.get(unit)
    }

    pub(super) fn is_job(&self, unit: UnitId) -> bool {
        self.spec(unit).ready == ReadyRule::Completed
    }

    /// The state as one word; [`view`](Supervisor::view) says more.
    pub fn state_name(&self, unit: UnitId) -> StateName {
        self.node(unit).state.name(self.is_job(unit))
    }

    pub(super) fn health(&self, unit: UnitId) -> Health {
        match &self.node(unit).state {
            State::Starting { cell, .. } | State::Running { cell: Some(cell), .. } => cell.probes.health(self.spec(unit)),
            _ => Health::None,
        }
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// The only way from state to state: tells the world, and those who watch this unit.
    pub(super) fn enter(&mut self, unit: UnitId, state: State, cause: Option<Cause>) {
        let from = self.state_name(unit);
        let was_alive = self.node(unit).state.is_alive();
        self.alive = match (was_alive, state.is_alive()) {
            (false, true) => self.alive.saturating_add(1),
            (true, false) => self.alive.saturating_sub(1),
            (true, true) | (false, false) => self.alive,
        };
        let now = self.now;
        let node = self.nodes.get_mut(unit);
        node.state = state;
        let run = node.run;
        let to = self.state_name(unit);
        if from != to {
            self.nodes.get_mut(unit).since = now;
            let health = self.health(unit);
            self.push(Action::Changed(Change { unit, run, at: now, from, to, health, cause }));
        }
        self.touch(unit);
    }

    /// Something about this unit is new: it is looked at again, and so is whoever waits for it.
    pub(super) fn touch(&mut self, unit: UnitId) {
        self.dirty.insert(unit);
        let Supervisor { graph, nodes, dirty, .. } = self;
        let over = !nodes.get(unit).state.is_alive();
        for watcher in &graph.get(unit).watchers {
            let spec = graph.get(*watcher);
            // Of a thousand units that a target waits for, only the one that holds it back is worth a look; but what has
            // failed or ended is too, and so is whatever may run out of time.
            let concerned = match &mut nodes.get_mut(*watcher).state {
                State::Waiting { gate } => {
                    if over || spec.timed {
                        *gate = None;
                    }
                    gate.is_none_or(|gate| spec.gates.get(gate).is_none_or(|gate| gate.on == unit))
                }
                State::Stopping { stage: super::Stage::Held { behind }, .. } => {
                    spec.stops_after.get(*behind).is_none_or(|holder| *holder == unit)
                }
                State::Failed(Cause::Dependency { .. }) => true,
                _ => false,
            };
            if concerned {
                dirty.insert(*watcher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::UnitSet;

    /// Bytes of a unit that says nothing special, without its texts: a thousand of them are to fit in 13 MB with everything else.
    #[test]
    fn what_a_unit_costs() {
        assert!(size_of::<Unit>() <= 1100, "{}", size_of::<Unit>());
        assert!(size_of::<Spec>() + size_of::<Node>() <= 750, "{}", size_of::<Spec>() + size_of::<Node>());
    }

    #[test]
    fn a_wave_leaves_no_room_behind() {
        let file = |number| (format!("u{number}.toml").into(), "[service]\nexec = [\"/bin/x\"]\n".to_owned());
        let set = UnitSet::from_texts(&(0..1000).map(file).collect::<Vec<_>>()).unwrap();
        let mut machine = Supervisor::new(set.iter(), 1);
        machine.handle_event(Time(1), Event::Start(machine.find("default").unwrap()));
        assert!(machine.actions.len() >= 1000);
        while machine.poll_action().is_some() {}
        assert!(machine.actions.capacity() <= ROOM);
    }
}
