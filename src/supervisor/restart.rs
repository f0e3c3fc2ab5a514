//! What comes after a run: nothing, another one after a while, or `failed`.

use std::time::Duration;

use super::event::nanoseconds;
use super::graph::{ReadyRule, RestartSpec, Spec};
use super::machine::Supervisor;
use super::node::State;
use super::{Cause, Desired, UnitId};
use crate::unit::{CauseKind, ProbeAction, RestartPolicy};

/// A restart comes no sooner than this after the try before it, whatever the unit says: `delay = 0` must not become a
/// spin, and is at once for whoever lived longer.
pub const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The longest count of restarts that is kept for a limit. A unit that allows more of them within its window has no limit.
pub const HISTORY_MAX: u32 = 10_000;

/// More growth than this has long reached any `max-delay`.
const GROWTH_MAX: u32 = 64;

impl Supervisor {
    /// The run is over and released.
    pub(super) fn decide(&mut self, unit: UnitId, cause: Option<Cause>, again: bool) {
        let node = self.nodes.get_mut(unit);
        if cause.is_some() {
            node.last.clone_from(&cause);
        }
        match cause {
            _ if node.desired == Desired::Down => self.enter(unit, State::Stopped { ended: false }, cause),
            _ if again => {
                node.forgive();
                self.enter(unit, State::Waiting { gate: None }, None);
            }
            Some(cause) => self.after_death(unit, cause),
            // Only a target can come here, and a target does not die.
            None => self.enter(unit, State::Stopped { ended: true }, None),
        }
    }

    /// It never ran: something that it needs is not to be had.
    pub(super) fn give_up(&mut self, unit: UnitId, cause: Cause) {
        let node = self.nodes.get_mut(unit);
        node.tried = self.now;
        node.last = Some(cause.clone());
        self.after_death(unit, cause);
    }

    fn after_death(&mut self, unit: UnitId, cause: Cause) {
        let spec = self.graph.get(unit);
        if !spec.restarts_after(&cause) {
            let state = match cause.kind() {
                None => State::Stopped { ended: true },
                Some(_) => State::Failed(cause.clone()),
            };
            self.enter(unit, state, Some(cause));
            return;
        }
        if let Some(attempts) = self.over_limit(unit) {
            let window = self.spec(unit).restart.window;
            let limit = Cause::RestartLimit { attempts, window, last: Box::new(cause) };
            self.nodes.get_mut(unit).last = Some(limit.clone());
            self.enter(unit, State::Failed(limit.clone()), Some(limit));
            return;
        }
        let now = self.now;
        let node = self.nodes.get_mut(unit);
        let attempt = node.attempt;
        node.attempt = attempt.saturating_add(1);
        node.restarts = node.restarts.saturating_add(1);
        let not_before = node.tried.after(MIN_INTERVAL);
        let until = now.after(self.delay(unit, attempt)).max(not_before);
        self.enter(unit, State::Backoff { until, attempt: attempt.saturating_add(1) }, Some(cause));
    }

    /// Notes this restart; answers the limit if it is one too many.
    fn over_limit(&mut self, unit: UnitId) -> Option<u32> {
        let RestartSpec { attempts, window, .. } = self.spec(unit).restart;
        let attempts = attempts.filter(|attempts| *attempts <= HISTORY_MAX)?;
        let now = self.now;
        let history = &mut self.nodes.get_mut(unit).history;
        while history.front().is_some_and(|time| time.after(window) <= now) {
            history.pop_front();
        }
        if history.len() >= attempts as usize {
            return Some(attempts);
        }
        history.push_back(now);
        None
    }

    fn delay(&mut self, unit: UnitId, attempt: u32) -> Duration {
        let restart = &self.graph.get(unit).restart;
        let base = restart.grown(attempt);
        let spread = (u128::from(base) * u128::from(restart.jitter_permille) / 1000) as u64;
        let low = base.saturating_sub(spread);
        let jittered = low.saturating_add(self.chance.up_to(spread.saturating_mul(2)));
        Duration::from_nanos(jittered.min(nanoseconds(restart.max_delay)))
    }
}

impl RestartSpec {
    /// `delay * factor ^ attempt`, at most `max-delay`, in nanoseconds.
    fn grown(&self, attempt: u32) -> u64 {
        let most = u128::from(nanoseconds(self.max_delay));
        let mut delay = u128::from(nanoseconds(self.delay)).min(most);
        if self.factor_permille > 1000 {
            for _ in 0..attempt.min(GROWTH_MAX) {
                delay = (delay.saturating_mul(u128::from(self.factor_permille)) / 1000).min(most);
            }
        }
        u64::try_from(delay).unwrap_or(u64::MAX)
    }
}

impl Spec {
    /// The restart table; systemd.service(5), "Exit causes and the effect of the Restart= settings", plus the causes that
    /// systemd cannot tell apart.
    pub(super) fn restarts_after(&self, cause: &Cause) -> bool {
        let restart = &self.restart;
        let Some(kind) = cause.kind() else {
            // A job that succeeded is done, whatever the policy.
            return self.ready != ReadyRule::Completed
                && match restart.policy {
                    RestartPolicy::Always | RestartPolicy::UnlessStopped | RestartPolicy::OnSuccess => true,
                    RestartPolicy::No | RestartPolicy::OnFailure | RestartPolicy::OnAbnormal => false,
                };
        };
        if let Cause::Health { probe, .. } = cause
            && self.probe(*probe).is_some_and(|probe| probe.action == ProbeAction::Stop)
        {
            return false;
        }
        if restart.never_on.contains(&kind) {
            return false;
        }
        if restart.on.contains(&kind) {
            return true;
        }
        match (restart.policy, kind) {
            // Starting again does not mend another unit. When that one is back, this one starts by itself.
            (_, CauseKind::Dependency) => false,
            // Nor does it make a module another one.
            (_, CauseKind::World) => false,
            (RestartPolicy::No | RestartPolicy::OnSuccess, _) => false,
            (RestartPolicy::Always | RestartPolicy::UnlessStopped | RestartPolicy::OnFailure, _) => true,
            // Abnormal is what a program does not choose: not an exit status, and not a start that failed.
            (RestartPolicy::OnAbnormal, CauseKind::Exit | CauseKind::Start) => false,
            (RestartPolicy::OnAbnormal, _) => true,
        }
    }
}
