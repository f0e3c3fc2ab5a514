//! Probes: when to run one, and what its answers add up to.
//!
//! The startup probe goes first; the others wait until it passed, and then it is done. Until a probe has passed once it is
//! tried soon and then ever more slowly, up to its interval, so that a unit is ready shortly after it can be; such early
//! tries count as failures only once per interval. Afterwards it runs an interval after its last answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::graph::{ProbeSpec, Spec};
use super::node::earliest;
use super::view::Pending;
use super::{Health, ProbeKind, Time};
use crate::unit::ProbeAction;

/// The second try of a probe that has not passed yet; each further one waits twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// How long after its timeout a probe without an answer is taken for a failure. The shell kills it at its timeout; this is for
/// the shell that forgot.
pub const PROBE_GUARD: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probes {
    startup: Option<Box<Probe>>,
    live: Option<Box<Probe>>,
    ready: Option<Box<Probe>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Probe {
    next: Next,
    /// In a row, as far as they count.
    failures: u32,
    /// The first answer in a row that was a failure, whether it counts or not.
    failing_since: Option<Time>,
    successes: u32,
    verdict: Verdict,
    /// Tries so far without a pass; decides when the next early one comes.
    tries: u32,
    /// A failure before this does not count.
    counts_from: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Next {
    /// Not its turn.
    Idle,
    At(Time),
    /// It runs; at the guard its silence is an answer.
    Asked {
        guard: Time,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Unknown,
    Pass,
    Fail,
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Nothing,
    Passed,
    Failed(ProbeAction),
}

/// What a probe that is due asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ask,
    NoAnswer,
}

impl Probes {
    pub(super) fn new(spec: &Spec) -> Probes {
        let idle = |kind| {
            spec.probe(kind).map(|_| {
                Box::new(Probe {
                    next: Next::Idle,
                    failures: 0,
                    failing_since: None,
                    successes: 0,
                    verdict: Verdict::Unknown,
                    tries: 0,
                    counts_from: Time(0),
                })
            })
        };
        Probes { startup: idle(ProbeKind::Startup), live: idle(ProbeKind::Live), ready: idle(ProbeKind::Ready) }
    }

    /// The program runs.
    pub(super) fn begin(&mut self, now: Time, spec: &Spec) {
        // start-period counts from here for all three, also for those that have to wait for the startup probe.
        for kind in ProbeKind::ALL {
            if let (Some(probe), Some(spec)) = (self.get_mut(kind), spec.probe(kind)) {
                probe.counts_from = now.after(spec.start_period);
            }
        }
        if self.startup.is_some() {
            self.schedule(now, spec, ProbeKind::Startup);
        } else {
            self.schedule(now, spec, ProbeKind::Live);
            self.schedule(now, spec, ProbeKind::Ready);
        }
    }

    fn schedule(&mut self, now: Time, spec: &Spec, kind: ProbeKind) {
        if let (Some(probe), Some(spec)) = (self.get_mut(kind), spec.probe(kind)) {
            probe.next = Next::At(now);
            probe.counts_from = probe.counts_from.max(now.after(spec.interval));
        }
    }

    /// Moves a probe whose time has come. The caller asks the world, or hands in a failure.
    pub(super) fn due(&mut self, now: Time, spec: &Spec, kind: ProbeKind) -> Due {
        let (Some(probe), Some(spec)) = (self.get_mut(kind), spec.probe(kind)) else {
            return Due::Nothing;
        };
        match probe.next {
            Next::At(time) if time <= now => {
                probe.next = Next::Asked { guard: now.after(spec.timeout).after(PROBE_GUARD) };
                Due::Ask
            }
            Next::Asked { guard } if guard <= now => Due::NoAnswer,
            Next::Idle | Next::At(_) | Next::Asked { .. } => Due::Nothing,
        }
    }

    /// One answer. An answer that nobody waits for changes nothing.
    pub(super) fn answer(&mut self, now: Time, spec: &Spec, kind: ProbeKind, ok: bool) -> Turn {
        let (Some(probe), Some(settings)) = (self.get_mut(kind), spec.probe(kind)) else {
            return Turn::Nothing;
        };
        if !matches!(probe.next, Next::Asked { .. }) {
            return Turn::Nothing;
        }
        let turn = probe.count(now, settings, ok);
        probe.next = Next::At(probe.next_try(now, settings));
        if kind == ProbeKind::Startup && turn == Turn::Passed {
            probe.next = Next::Idle;
            self.schedule(now, spec, ProbeKind::Live);
            self.schedule(now, spec, ProbeKind::Ready);
        }
        turn
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        let wake = |probe: &Option<Box<Probe>>| match probe.as_ref()?.next {
            Next::Idle => None,
            Next::At(time) | Next::Asked { guard: time } => Some(time),
        };
        earliest(wake(&self.startup), earliest(wake(&self.live), wake(&self.ready)))
    }

    /// What `[health.ready]` asks is answered with yes. Until it is, dependents are held back.
    pub(super) fn ready(&self) -> bool {
        self.ready.as_ref().is_none_or(|probe| probe.verdict == Verdict::Pass)
    }

    /// What makes a unit with `ready = health` ready: its ready probe, or without one its startup probe.
    pub(super) fn says_ready(&self) -> bool {
        self.ready.as_ref().or(self.startup.as_ref()).is_some_and(|probe| probe.verdict == Verdict::Pass)
    }

    pub(super) fn health(&self, spec: &Spec) -> Health {
        let mut health = Health::None;
        for kind in ProbeKind::ALL {
            let (Some(probe), Some(settings)) = (self.get(kind), spec.probe(kind)) else {
                continue;
            };
            let says = match (probe.verdict, settings.action) {
                (Verdict::Pass, _) => Health::Healthy,
                (Verdict::Unknown, _) => Health::Starting,
                (Verdict::Fail, ProbeAction::Degrade) => Health::Degraded,
                (Verdict::Fail, _) => Health::Unhealthy,
            };
            health = worse(health, says);
        }
        health
    }

    /// The probes that are being asked and keep the unit from being healthy, or will if they go on.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let pending = |kind| {
            let probe = self.get(kind).filter(|probe| probe.next != Next::Idle)?;
            let is_pending = probe.verdict != Verdict::Pass || probe.failures > 0;
            let fails = probe.verdict != Verdict::Unknown;
            is_pending.then_some(Pending { probe: kind, fails, failures: probe.failures, since: probe.failing_since })
        };
        ProbeKind::ALL.into_iter().filter_map(pending).collect()
    }

    fn get(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_deref(),
            ProbeKind::Live => self.live.as_deref(),
            ProbeKind::Ready => self.ready.as_deref(),
        }
    }

    fn get_mut(&mut self, kind: ProbeKind) -> Option<&mut Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_deref_mut(),
            ProbeKind::Live => self.live.as_deref_mut(),
            ProbeKind::Ready => self.ready.as_deref_mut(),
        }
    }
}

impl Probe {
    fn count(&mut self, now: Time, spec: &ProbeSpec, ok: bool) -> Turn {
        if ok {
            self.failures = 0;
            self.failing_since = None;
            self.successes = self.successes.saturating_add(1);
            if self.successes >= spec.successes && self.verdict != Verdict::Pass {
                self.verdict = Verdict::Pass;
                return Turn::Passed;
            }
            return Turn::Nothing;
        }
        self.successes = 0;
        self.failing_since.get_or_insert(now);
        if now < self.counts_from {
            return Turn::Nothing;
        }
        self.failures = self.failures.saturating_add(1);
        if self.verdict != Verdict::Pass {
            self.counts_from = now.after(spec.interval);
        }
        // Each further failure of an unit that goes on regardless says nothing new.
        if self.failures >= spec.failures && self.verdict != Verdict::Fail {
            self.verdict = Verdict::Fail;
            return Turn::Failed(spec.action);
        }
        Turn::Nothing
    }

    fn next_try(&mut self, now: Time, spec: &ProbeSpec) -> Time {
        if self.verdict != Verdict::Unknown {
            return now.after(spec.interval);
        }
        let early = FIRST_RETRY.saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(spec.interval);
        self.tries = self.tries.saturating_add(1);
        // The try that counts comes on time.
        if self.counts_from > now { now.after(early).min(self.counts_from) } else { now.after(early) }
    }
}

fn worse(a: Health, b: Health) -> Health {
    let rank = |health: Health| match health {
        Health::None => 0,
        Health::Healthy => 1,
        Health::Starting => 2,
        Health::Degraded => 3,
        Health::Unhealthy => 4,
    };
    if rank(a) >= rank(b) { a } else { b }
}

impl Spec {
    pub(super) fn probe(&self, kind: ProbeKind) -> Option<&ProbeSpec> {
        match kind {
            ProbeKind::Startup => self.startup.as_deref(),
            ProbeKind::Live => self.live.as_deref(),
            ProbeKind::Ready => self.ready_probe.as_deref(),
        }
    }
}
