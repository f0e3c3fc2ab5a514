//! Why a run ended, or why a unit never ran. It travels as data; [`Display`](fmt::Display) makes the sentence.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ExitStatus, ProbeKind, StartFailure};
use crate::unit::CauseKind;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Cause {
    /// It ended by itself, with a status that its unit calls success.
    Success {
        exit: ExitStatus,
    },
    /// Somebody asked for it.
    Asked {
        by: Asker,
    },
    /// It ended by itself, and not well. `what` is finer than the status: exit, signal, oom, trap, fuel, deadline, memory, world,
    /// seccomp.
    Died {
        what: CauseKind,
        exit: ExitStatus,
        detail: Option<String>,
    },
    /// A process of the cell was killed for want of memory, and the unit's policy takes the cell down for it.
    Oom,
    /// A probe failed often enough.
    Health {
        probe: ProbeKind,
        detail: String,
    },
    Watchdog {
        timeout: Duration,
    },
    StartTimeout {
        timeout: Duration,
    },
    /// A step of the start failed.
    Start(StartFailure),
    /// A unit that it needs did not come up.
    Dependency {
        on: String,
        text: String,
    },
    /// It was restarted too often; `last` is why it died the last time.
    RestartLimit {
        attempts: u32,
        window: Duration,
        last: Box<Cause>,
    },
}

/// Who wanted a unit down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asker {
    /// `cell stop` of this very unit.
    Stop,
    /// `cell restart` of this very unit.
    Restart,
    /// A unit that this one requires is being stopped.
    StopOf(String),
    /// A unit that this one requires is being restarted.
    RestartOf(String),
    /// A conflicting unit is being started.
    Conflict(String),
    Shutdown,
}

impl Cause {
    /// The word that `[restart] on` and `never-on` use; `None` for success and for what was asked for.
    pub fn kind(&self) -> Option<CauseKind> {
        match self {
            Cause::Success { .. } | Cause::Asked { .. } => None,
            Cause::Died { what, .. } => Some(*what),
            Cause::Oom => Some(CauseKind::Oom),
            Cause::Health { .. } => Some(CauseKind::Health),
            Cause::Watchdog { .. } => Some(CauseKind::Watchdog),
            Cause::StartTimeout { .. } => Some(CauseKind::StartTimeout),
            Cause::Start(_) => Some(CauseKind::Start),
            Cause::Dependency { .. } => Some(CauseKind::Dependency),
            Cause::RestartLimit { last, .. } => last.kind(),
        }
    }

    /// One word for tables and JSON: `success`, `stop`, a [`CauseKind`] or `restart-limit`.
    pub fn word(&self) -> &'static str {
        match self {
            Cause::Success { .. } => "success",
            Cause::Asked { by: Asker::Restart | Asker::RestartOf(_) } => "restart",
            Cause::Asked { .. } => "stop",
            Cause::RestartLimit { .. } => "restart-limit",
            other => other.kind().map_or("", kind_word),
        }
    }
}

fn kind_word(kind: CauseKind) -> &'static str {
    match kind {
        CauseKind::Exit => "exit",
        CauseKind::Signal => "signal",
        CauseKind::Oom => "oom",
        CauseKind::Trap => "trap",
        CauseKind::Fuel => "fuel",
        CauseKind::Deadline => "deadline",
        CauseKind::Memory => "memory",
        CauseKind::World => "world",
        CauseKind::Health => "health",
        CauseKind::Watchdog => "watchdog",
        CauseKind::StartTimeout => "start-timeout",
        CauseKind::Seccomp => "seccomp",
        CauseKind::Dependency => "dependency",
        CauseKind::Start => "start",
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Success { exit } => write!(f, "ended with success ({exit})"),
            Cause::Asked { by } => write!(f, "{by}"),
            Cause::Died { what, exit, detail } => {
                match what {
                    CauseKind::Exit | CauseKind::Signal => write!(f, "{exit}")?,
                    CauseKind::Oom => write!(f, "killed for want of memory ({exit})")?,
                    CauseKind::Trap => write!(f, "WebAssembly trap")?,
                    CauseKind::Fuel => write!(f, "out of fuel")?,
                    CauseKind::Deadline => write!(f, "past its deadline")?,
                    CauseKind::Memory => write!(f, "the guest was refused memory")?,
                    CauseKind::World => write!(f, "the module is made for another world than its unit")?,
                    CauseKind::Seccomp => write!(f, "killed by its seccomp filter ({exit})")?,
                    other => write!(f, "{} ({exit})", kind_word(*other))?,
                }
                match detail {
                    Some(text) => write!(f, ": {text}"),
                    None => Ok(()),
                }
            }
            Cause::Oom => write!(f, "a process of the cell was killed for want of memory"),
            Cause::Health { probe, detail } if detail.is_empty() => {
                write!(f, "health.{} failed", probe.as_str())
            }
            Cause::Health { probe, detail } => {
                write!(f, "health.{} failed: {detail}", probe.as_str())
            }
            Cause::Watchdog { timeout } => write!(f, "no WATCHDOG=1 for {timeout:?}"),
            Cause::StartTimeout { timeout } => write!(f, "not ready within {timeout:?}"),
            Cause::Start(StartFailure { step, message }) if step.is_empty() => {
                write!(f, "could not start: {message}")
            }
            Cause::Start(StartFailure { step, message }) => {
                write!(f, "could not start: {step}: {message}")
            }
            Cause::Dependency { on, text } => write!(f, "{on} {text}"),
            Cause::RestartLimit { attempts, window, last } => {
                let times = if *attempts == 1 { "once" } else { &format!("{attempts} times") };
                write!(f, "restarted {times} within {window:?}, which is its limit; the last time: {last}")
            }
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asker::Stop => write!(f, "asked to stop"),
            Asker::Restart => write!(f, "asked to restart"),
            Asker::StopOf(unit) => write!(f, "stopped with {unit}, which it requires"),
            Asker::RestartOf(unit) => write!(f, "restarted with {unit}, which it requires"),
            Asker::Conflict(unit) => write!(f, "stopped for {unit}, which it conflicts with"),
            Asker::Shutdown => write!(f, "stopped for the shutdown"),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Status(code) => write!(f, "exit status {code}"),
            ExitStatus::Signal { signal, core: false } => write!(f, "signal {signal}"),
            ExitStatus::Signal { signal, core: true } => write!(f, "signal {signal}, core dumped"),
            ExitStatus::Unknown => write!(f, "exit status not known"),
        }
    }
}
