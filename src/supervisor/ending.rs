//! How a run ends.
//!
//! Whatever happens to a run, it leaves by one door: `Stopping`, which ends when the shell says that the cgroup is empty.
//! Only then is it known that nothing of it is left, and only then is anything started in its place.

use std::time::Duration;

use super::machine::Supervisor;
use super::node::{Cell, Main, Stage, State};
use super::{Action, Cause, Exit, ExitStatus, StartFailure, Time, UnitId, Whom};
use crate::unit::{CauseKind, ExitMatch, OomPolicy, StopMode};

/// How long after a SIGKILL the next one, as long as the cell is not empty.
pub const KILL_AGAIN: Duration = Duration::from_secs(5);

/// Bytes kept of a text that comes from outside: a trap's message, a probe's answer.
pub const DETAIL_MAX: usize = 1024;

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSYS: i32 = 31;

/// How a run is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Signal, timeout, SIGKILL.
    Orderly,
    /// SIGABRT, timeout, SIGKILL.
    Abort,
    /// SIGKILL.
    Kill,
}

impl Supervisor {
    pub(super) fn said_stopping(&mut self, unit: UnitId, run: u64) {
        if !self.is_current(unit, run) {
            return;
        }
        let deadline = self.stop_deadline(unit);
        if let Some(cell) = self.take_serving(unit) {
            self.leave(unit, Stage::Told, deadline, None, Some(cell));
        }
    }

    pub(super) fn oom_killed(&mut self, unit: UnitId, run: u64) {
        let Some(cell) = self.nodes.get_mut(unit).cell_mut(run) else { return };
        cell.oom = true;
        match self.spec(unit).oom {
            OomPolicy::Continue => {}
            OomPolicy::Stop => self.fail(unit, Cause::Oom, Manner::Orderly),
            OomPolicy::KillCell => self.fail(unit, Cause::Oom, Manner::Kill),
        }
    }

    pub(super) fn spawn_failed(&mut self, unit: UnitId, run: u64, failure: StartFailure) {
        let step = cut(failure.step);
        let message = cut(failure.message);
        self.main_gone(unit, run, Cause::Start(StartFailure { step, message }), false);
    }

    pub(super) fn exited(&mut self, unit: UnitId, run: u64, exit: Exit) {
        let Some(cell) = self.nodes.get_mut(unit).cell_mut(run) else { return };
        let oom = cell.oom;
        let cause = self.judge_exit(unit, exit, oom);
        self.main_gone(unit, run, cause, true);
    }

    /// The main process is over. What is left in the cell goes with it, except where it was told to stop as well and still has
    /// time. `leftovers`: there may be any.
    fn main_gone(&mut self, unit: UnitId, run: u64, cause: Cause, leftovers: bool) {
        let now = self.now;
        let mode = self.spec(unit).stop_mode;
        let Some(cell) = self.nodes.get_mut(unit).cell_mut(run) else { return };
        if cell.main == Main::Gone {
            return;
        }
        cell.main = Main::Gone;
        if let Some(cell) = self.take_serving(unit) {
            self.leave(unit, Stage::Killed, Some(now.after(KILL_AGAIN)), Some(cause), Some(cell));
        } else if let State::Stopping { stage, deadline, cause: known, .. } = &mut self.nodes.get_mut(unit).state {
            let by_itself = known.is_none();
            if by_itself {
                *known = Some(cause);
            }
            let patient = *stage == Stage::Told && !by_itself && matches!(mode, StopMode::Cell | StopMode::None);
            if patient || *stage == Stage::Killed {
                return;
            }
            *stage = Stage::Killed;
            *deadline = Some(now.after(KILL_AGAIN));
            self.touch(unit);
        }
        if leftovers {
            self.push(Action::Kill { unit, run });
        }
    }

    pub(super) fn emptied(&mut self, unit: UnitId, run: u64) {
        let Some(cell) = self.nodes.get_mut(unit).cell_mut(run) else { return };
        if cell.main != Main::Gone {
            let exit = Exit { status: ExitStatus::Unknown, hint: None, detail: None };
            let oom = cell.oom;
            let cause = self.judge_exit(unit, exit, oom);
            self.main_gone(unit, run, cause, false);
        }
        self.over(unit);
    }

    /// Nothing of the run is left.
    fn over(&mut self, unit: UnitId) {
        let node = self.nodes.get_mut(unit);
        let State::Stopping { cause, again, cell, .. } = &mut node.state else { return };
        let (cause, again, cell) = (cause.take(), *again, cell.take());
        if let Some(cell) = &cell {
            self.push(Action::Release { unit, run: cell.run });
        }
        self.decide(unit, cause, again);
    }

    /// Holders are gone, or there never were any: the stop that was asked for goes on.
    pub(super) fn tell(&mut self, unit: UnitId) {
        if self.node(unit).cell().is_none() {
            self.over(unit);
            return;
        }
        if !self.has_executed(unit) {
            self.kill(unit);
            return;
        }
        let told = self.stop_deadline(unit);
        if let State::Stopping { stage, deadline, .. } = &mut self.nodes.get_mut(unit).state {
            *stage = Stage::Told;
            *deadline = told;
        }
        self.signal_stop(unit);
        self.dirty.insert(unit);
    }

    /// Before the program there is nobody who could end in good order, and nobody who would hear the signal: a module is still
    /// compiled, or a clone performs its steps with every signal blocked, and the kernel drops what its program will not
    /// catch. What has not executed is killed.
    fn has_executed(&self, unit: UnitId) -> bool {
        self.node(unit).cell().is_none_or(|cell| cell.main != Main::Cloned)
    }

    fn signal_stop(&mut self, unit: UnitId) {
        let spec = self.spec(unit);
        let whom = match spec.stop_mode {
            StopMode::Cell => Whom::Cell,
            StopMode::Mixed | StopMode::Main => Whom::Main,
            StopMode::None => return,
        };
        let signal = spec.stop_signal;
        if let Some(run) = self.node(unit).cell().map(|cell| cell.run) {
            self.push(Action::Signal { unit, run, signal, whom });
        }
    }

    /// A serving unit has to go, for a reason of its own.
    pub(super) fn fail(&mut self, unit: UnitId, cause: Cause, manner: Manner) {
        let Some(cell) = self.take_serving(unit) else { return };
        let run = cell.run;
        let manner = if cell.main == Main::Cloned { Manner::Kill } else { manner };
        let (stage, deadline) = match manner {
            Manner::Orderly => (Stage::Told, self.stop_deadline(unit)),
            Manner::Abort => (Stage::Aborted, self.stop_deadline(unit)),
            Manner::Kill => (Stage::Killed, Some(self.now.after(KILL_AGAIN))),
        };
        self.leave(unit, stage, deadline, Some(cause), Some(cell));
        match manner {
            Manner::Orderly => self.signal_stop(unit),
            Manner::Abort => self.push(Action::Signal { unit, run, signal: SIGABRT, whom: Whom::Main }),
            Manner::Kill => self.push(Action::Kill { unit, run }),
        }
    }

    /// SIGKILL to whatever lives of it, now.
    pub(super) fn kill(&mut self, unit: UnitId) {
        let again_at = Some(self.now.after(KILL_AGAIN));
        if let State::Stopping { stage, deadline, cause, cell: Some(cell), .. } = &mut self.nodes.get_mut(unit).state {
            cause.get_or_insert_with(|| Cause::Died {
                what: CauseKind::Signal,
                exit: ExitStatus::Signal { signal: SIGKILL, core: false },
                detail: Some("it said that it was stopping and did not end in time".to_owned()),
            });
            *stage = Stage::Killed;
            *deadline = again_at;
            let run = cell.run;
            self.push(Action::Kill { unit, run });
            self.dirty.insert(unit);
        }
    }

    /// Takes the cell out of a unit that starts or runs. The caller puts it into `Stopping` at once. A run that was good for
    /// long enough has made up for the failures before it.
    pub(super) fn take_serving(&mut self, unit: UnitId) -> Option<Cell> {
        let (now, reset_after) = (self.now, self.spec(unit).restart.reset_after);
        let node = self.nodes.get_mut(unit);
        let cell = match &mut node.state {
            State::Starting { cell, .. } => Some(cell.clone()),
            State::Running { cell, .. } => cell.take(),
            _ => None,
        }?;
        if cell.good_since.is_some_and(|since| since.after(reset_after) <= now) {
            node.attempt = 0;
            node.history.clear();
        }
        Some(cell)
    }

    fn leave(&mut self, unit: UnitId, stage: Stage, deadline: Option<Time>, cause: Option<Cause>, cell: Option<Cell>) {
        let told = cause.clone();
        self.enter(unit, State::Stopping { stage, deadline, cause, again: false, cell }, told);
    }

    fn stop_deadline(&self, unit: UnitId) -> Option<Time> {
        self.spec(unit).stop_timeout.map(|timeout| self.now.after(timeout))
    }

    fn judge_exit(&self, unit: UnitId, exit: Exit, oom: bool) -> Cause {
        let Exit { status, hint, detail } = exit;
        let success = &self.spec(unit).success;
        let what = match (hint, status) {
            (Some(hint), _) => hint,
            (None, ExitStatus::Signal { signal: SIGKILL, .. }) if oom => CauseKind::Oom,
            (None, ExitStatus::Status(0)) => return Cause::Success { exit: status },
            (None, ExitStatus::Status(code)) if success.contains(&ExitMatch::Status(code)) => {
                return Cause::Success { exit: status };
            }
            (None, ExitStatus::Signal { signal, .. }) if success.contains(&ExitMatch::Signal(signal)) => {
                return Cause::Success { exit: status };
            }
            (None, ExitStatus::Signal { signal: SIGSYS, .. }) => CauseKind::Seccomp,
            (None, ExitStatus::Signal { .. }) => CauseKind::Signal,
            (None, ExitStatus::Status(_) | ExitStatus::Unknown) => CauseKind::Exit,
        };
        Cause::Died { what, exit: status, detail: detail.map(cut) }
    }
}

pub(super) fn cut(mut text: String) -> String {
    if text.len() > DETAIL_MAX {
        let end = (0..=DETAIL_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
