//! Why a unit cannot be started on this host, in the words of its file.

use std::fmt;

use serde::Serialize;

use crate::unit::Enforce;

/// A refusal: nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanError {
    pub unit: String,
    /// The key of the unit file that asks for it: `resources.memory.max`.
    pub key: String,
    pub reason: String,
    /// What to try.
    pub help: Option<String>,
}

impl PlanError {
    /// For where the unit is named already and lines are told one by one: causes, logs, answers.
    pub fn in_one_line(&self) -> String {
        match &self.help {
            Some(help) => format!("{}: {}; {help}", self.key, self.reason),
            None => format!("{}: {}", self.key, self.reason),
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.unit, self.key, self.reason)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PlanError {}

/// What this host cannot do: a refusal, or a line in `Plan::left_out` when the unit takes the best effort.
pub(super) struct Shortcomings<'a> {
    pub unit: &'a str,
    pub enforce: Enforce,
    pub left_out: Vec<String>,
    pub refused: Vec<PlanError>,
}

impl<'a> Shortcomings<'a> {
    pub fn new(unit: &'a str, enforce: Enforce) -> Self {
        Shortcomings { unit, enforce, left_out: Vec::new(), refused: Vec::new() }
    }

    /// Never negotiable: a contradiction, a name that does not exist.
    pub fn refuse(&self, key: &str, reason: impl Into<String>, help: Option<String>) -> PlanError {
        PlanError { unit: self.unit.to_string(), key: key.to_string(), reason: reason.into(), help }
    }

    /// The unit asked for it. The plan goes on without, to where [`Shortcomings::verdict`] is asked for.
    pub fn cannot(&mut self, key: &str, reason: impl Into<String>) {
        let reason = reason.into();
        match self.enforce {
            Enforce::BestEffort => self.left_out.push(format!("{key}: {reason}")),
            Enforce::Required => {
                let help = "take the key out, or say isolation.enforce = \"best-effort\" to start without it";
                self.refused.push(self.refuse(key, reason, Some(help.to_string())));
            }
        }
    }

    /// What a part of the plan comes to; that it comes to nothing is kept.
    pub fn keep<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T, PlanError>) -> Option<T> {
        match part(self) {
            Ok(made) => Some(made),
            Err(error) => {
                self.refused.push(error);
                None
            }
        }
    }

    /// The lines of `left_out`, or the first refusal.
    pub fn verdict(self) -> Result<Vec<String>, PlanError> {
        match self.refused.into_iter().next() {
            Some(first) => Err(first),
            None => Ok(self.left_out),
        }
    }

    /// Nobody asked for it, it was only a default: said, not refused.
    pub fn note(&mut self, key: &str, reason: impl fmt::Display) {
        self.left_out.push(format!("{key}: {reason}"));
    }
}
