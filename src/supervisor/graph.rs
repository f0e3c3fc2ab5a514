//! The units as the machine needs them: plain settings and, for each unit, the units it looks at. Built once; the hot paths
//! below only walk the short lists made here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::UnitId;
use crate::unit::{CauseKind, Condition, ExitMatch, Kind, OomPolicy, ProbeAction, Ready, RestartPolicy, StopMode, Unit};

/// No probe runs more often, whatever its unit says: an interval of zero must not become a spin.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// What the machine knows of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spec {
    pub name: String,
    pub kind: Kind,
    pub ready: ReadyRule,
    pub start_timeout: Option<Duration>,
    pub success: Vec<ExitMatch>,
    pub stop_signal: i32,
    pub stop_timeout: Option<Duration>,
    pub stop_mode: StopMode,
    pub restart: RestartSpec,
    /// Startup, live, ready; in boxes, since most units have none of them.
    pub startup: Option<Box<ProbeSpec>>,
    pub live: Option<Box<ProbeSpec>>,
    pub ready_probe: Option<Box<ProbeSpec>>,
    pub watchdog: Option<Duration>,
    pub oom: OomPolicy,

    /// What a start waits for.
    pub gates: Vec<Gate>,
    /// Some gate has a timeout.
    pub timed: bool,
    /// Started with it: requires, wants, depends.
    pub pulls: Vec<UnitId>,
    /// Who requires or depends on this: an explicit stop or restart takes them along.
    pub requirers: Vec<UnitId>,
    pub conflicts: Vec<UnitId>,
    /// While one of these is stopping, the stop of this one waits.
    pub stops_after: Vec<UnitId>,
    /// Whose gates or stop order look at this unit.
    pub watchers: Vec<UnitId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ReadyRule {
    Spawned,
    Exec,
    /// `READY=1` or a newline on a descriptor; the shell tells them apart.
    Told,
    Health,
    Completed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RestartSpec {
    pub policy: RestartPolicy,
    pub on: Vec<CauseKind>,
    pub never_on: Vec<CauseKind>,
    pub delay: Duration,
    /// Thousandths: integers survive JSON exactly.
    pub factor_permille: u64,
    pub max_delay: Duration,
    pub jitter_permille: u32,
    pub reset_after: Duration,
    pub attempts: Option<u32>,
    pub window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProbeSpec {
    pub interval: Duration,
    pub timeout: Duration,
    pub failures: u32,
    pub successes: u32,
    pub start_period: Duration,
    pub action: ProbeAction,
}

/// One reason for a start to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gate {
    pub on: UnitId,
    pub rule: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Rule {
    /// It must not have failed; no order.
    Requires,
    Depends {
        condition: Condition,
        timeout: Option<Duration>,
    },
    /// It must have made up its mind.
    After,
    /// It must be gone.
    Conflict,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Graph {
    specs: Vec<Spec>,
    /// What an id that is not ours finds, so that no look-up can panic.
    void: Spec,
}

impl Graph {
    pub fn new<'a>(units: impl IntoIterator<Item = &'a Unit>) -> Graph {
        let mut units: Vec<&Unit> = units.into_iter().collect();
        units.sort_by(|a, b| a.name.cmp(&b.name));
        units.dedup_by(|a, b| a.name == b.name);
        let mut graph = Graph { specs: units.iter().map(|unit| Spec::settings(unit)).collect(), void: Spec::void() };
        for (unit, id) in units.iter().zip((0..).map(UnitId)) {
            graph.connect(unit, id);
        }
        graph.order();
        graph.watch();
        graph
    }

    pub fn len(&self) -> usize {
        self.specs.len()
    }

    pub fn contains(&self, id: UnitId) -> bool {
        (id.0 as usize) < self.specs.len()
    }

    pub fn ids(&self) -> impl Iterator<Item = UnitId> + use<> {
        (0..self.specs.len() as u32).map(UnitId)
    }

    pub fn get(&self, id: UnitId) -> &Spec {
        self.specs.get(id.0 as usize).unwrap_or(&self.void)
    }

    pub fn find(&self, name: &str) -> Option<UnitId> {
        let found = self.specs.binary_search_by(|spec| spec.name.as_str().cmp(name)).ok()?;
        u32::try_from(found).ok().map(UnitId)
    }

    fn get_mut(&mut self, id: UnitId) -> &mut Spec {
        self.specs.get_mut(id.0 as usize).unwrap_or(&mut self.void)
    }

    /// Those of these names that are units, without `id` itself.
    fn others(&self, names: &[String], id: UnitId) -> Vec<UnitId> {
        names.iter().filter_map(|name| self.find(name)).filter(|other| *other != id).collect()
    }

    /// Names become ids. A name that no unit has was refused at load; here it is left out.
    fn connect(&mut self, unit: &Unit, id: UnitId) {
        for on in self.others(&unit.requires, id) {
            self.require(id, on, Rule::Requires);
        }
        for depends in &unit.depends {
            for on in self.others(std::slice::from_ref(&depends.unit), id) {
                self.require(id, on, Rule::Depends { condition: depends.condition, timeout: depends.timeout });
            }
        }
        for on in self.others(&unit.wants, id) {
            push_new(&mut self.get_mut(id).pulls, on);
        }
        for on in self.others(&unit.after, id) {
            push_new(&mut self.get_mut(id).gates, Gate { on, rule: Rule::After });
        }
        for later in self.others(&unit.before, id) {
            push_new(&mut self.get_mut(later).gates, Gate { on: id, rule: Rule::After });
        }
        for other in self.others(&unit.conflicts, id) {
            for (one, two) in [(id, other), (other, id)] {
                push_new(&mut self.get_mut(one).conflicts, two);
                push_new(&mut self.get_mut(one).gates, Gate { on: two, rule: Rule::Conflict });
            }
        }
    }

    fn require(&mut self, id: UnitId, on: UnitId, rule: Rule) {
        self.get_mut(id).timed |= matches!(rule, Rule::Depends { timeout: Some(_), .. });
        push_new(&mut self.get_mut(id).gates, Gate { on, rule });
        push_new(&mut self.get_mut(id).pulls, on);
        push_new(&mut self.get_mut(on).requirers, id);
    }

    /// Decides who stops after whom. `depends` and `after` are orders that were asked for. Beyond these, what requires a unit
    /// stops before it, and a target is ordered after all that it pulls in; where such a courtesy contradicts an order that was
    /// asked for, it gives way. Nothing here can make a circle, so no stop can wait for ever.
    fn order(&mut self) {
        let mut asked = Vec::new();
        let mut courtesy = Vec::new();
        for id in self.ids() {
            let spec = self.get(id);
            for gate in &spec.gates {
                match gate.rule {
                    Rule::Depends { .. } | Rule::After => asked.push((id, gate.on)),
                    Rule::Requires => courtesy.push((id, gate.on)),
                    Rule::Conflict => {}
                }
            }
            if spec.kind == Kind::Target {
                courtesy.extend(spec.pulls.iter().map(|on| (id, *on)));
            }
        }
        // A circle of asked orders is refused at load. Should one come here all the same, its edges order nothing.
        let circular = in_circles(self.len(), &asked);
        for id in self.ids() {
            let spec = self.get_mut(id);
            spec.gates.retain(|gate| !(gate.rule == Rule::After && circular.binary_search(&(id, gate.on)).is_ok()));
        }
        asked.retain(|edge| circular.binary_search(edge).is_err());
        let both: Vec<_> = asked.iter().chain(&courtesy).copied().collect();
        let circular = in_circles(self.len(), &both);
        courtesy.retain(|edge| circular.binary_search(edge).is_err());
        for (id, on) in &courtesy {
            if self.get(*id).kind == Kind::Target {
                push_new(&mut self.get_mut(*id).gates, Gate { on: *on, rule: Rule::After });
            }
        }
        for (id, on) in asked.into_iter().chain(courtesy) {
            self.get_mut(on).stops_after.push(id);
        }
    }

    fn watch(&mut self) {
        for id in self.ids() {
            let spec = self.get_mut(id);
            spec.stops_after.sort();
            spec.stops_after.dedup();
            let gates: Vec<UnitId> = spec.gates.iter().map(|gate| gate.on).collect();
            let holders = spec.stops_after.clone();
            for seen in gates.into_iter().chain(holders) {
                self.get_mut(seen).watchers.push(id);
            }
        }
        for spec in &mut self.specs {
            spec.watchers.sort();
            spec.watchers.dedup();
        }
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The edges that lie on a circle, or on a path between two circles: what is left when units without a predecessor, and then
/// units without a successor, are peeled off until none remains. Sorted.
fn in_circles(units: usize, edges: &[(UnitId, UnitId)]) -> Vec<(UnitId, UnitId)> {
    let mut left = edges.to_vec();
    for forward in [true, false] {
        let ends = |(one, two): (UnitId, UnitId)| if forward { (one, two) } else { (two, one) };
        let mut degree = vec![0_usize; units];
        let mut out: Vec<Vec<UnitId>> = vec![Vec::new(); units];
        for (from, to) in left.iter().copied().map(ends) {
            if let (Some(list), Some(count)) = (out.get_mut(from.0 as usize), degree.get_mut(to.0 as usize)) {
                list.push(to);
                *count += 1;
            }
        }
        let mut free: Vec<UnitId> = (0..).map(UnitId).zip(&degree).filter(|(_, count)| **count == 0).map(|(id, _)| id).collect();
        while let Some(id) = free.pop() {
            for to in out.get_mut(id.0 as usize).map(std::mem::take).unwrap_or_default() {
                if let Some(count) = degree.get_mut(to.0 as usize) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        free.push(to);
                    }
                }
            }
        }
        // Who was peeled off has given its edges away.
        left.retain(|edge| out.get(ends(*edge).0.0 as usize).is_some_and(|edges| !edges.is_empty()));
    }
    left.sort_unstable();
    left
}

impl Spec {
    fn settings(unit: &Unit) -> Spec {
        let probe = |probe: &crate::unit::Probe| {
            Box::new(ProbeSpec {
                interval: probe.interval.max(INTERVAL_MIN),
                timeout: probe.timeout,
                failures: probe.failures.max(1),
                successes: probe.successes.max(1),
                start_period: probe.start_period,
                action: probe.action,
            })
        };
        let startup = unit.health.startup.as_deref().map(probe);
        let ready_probe = unit.health.ready.as_deref().map(probe);
        Spec {
            name: unit.name.clone(),
            kind: unit.kind,
            ready: match unit.service.ready {
                Ready::Spawned => ReadyRule::Spawned,
                Ready::Exec => ReadyRule::Exec,
                Ready::Notify | Ready::Fd(_) => ReadyRule::Told,
                // Without a probe that can say so it would never be ready; the unit room refuses that.
                Ready::Health if startup.is_none() && ready_probe.is_none() => ReadyRule::Exec,
                Ready::Health => ReadyRule::Health,
                Ready::Completed => ReadyRule::Completed,
            },
            start_timeout: unit.service.start_timeout,
            success: unit.service.success_status.clone(),
            stop_signal: unit.stop.signal,
            stop_timeout: unit.stop.timeout,
            stop_mode: unit.stop.mode,
            restart: RestartSpec {
                policy: unit.restart.policy,
                on: unit.restart.on.clone(),
                never_on: unit.restart.never_on.clone(),
                delay: unit.restart.delay,
                // `as` saturates: a negative factor or NaN becomes 0, which grows as little as 1 does.
                factor_permille: (unit.restart.factor * 1000.0).round() as u64,
                max_delay: unit.restart.max_delay,
                jitter_permille: unit.restart.jitter_permille.min(1000),
                reset_after: unit.restart.reset_after,
                attempts: unit.restart.attempts,
                window: unit.restart.window,
            },
            startup,
            live: unit.health.live.as_deref().map(probe),
            ready_probe,
            watchdog: unit.watchdog,
            oom: unit.oom_policy,
            ..Spec::void()
        }
    }

    fn void() -> Spec {
        Spec {
            name: String::new(),
            kind: Kind::Target,
            ready: ReadyRule::Spawned,
            start_timeout: None,
            success: Vec::new(),
            stop_signal: 0,
            stop_timeout: None,
            stop_mode: StopMode::None,
            restart: RestartSpec {
                policy: RestartPolicy::No,
                on: Vec::new(),
                never_on: Vec::new(),
                delay: Duration::ZERO,
                factor_permille: 1000,
                max_delay: Duration::ZERO,
                jitter_permille: 0,
                reset_after: Duration::ZERO,
                attempts: None,
                window: Duration::ZERO,
            },
            startup: None,
            live: None,
            ready_probe: None,
            watchdog: None,
            oom: OomPolicy::Continue,
            gates: Vec::new(),
            timed: false,
            pulls: Vec::new(),
            requirers: Vec::new(),
            conflicts: Vec::new(),
            stops_after: Vec::new(),
            watchers: Vec::new(),
        }
    }
}
