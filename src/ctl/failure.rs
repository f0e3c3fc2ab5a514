//! What went wrong, for a person: what was being done, why it did not work, what to try. And the exit code that says it to a script.

use std::fmt::Display;

use super::terminal::{Paint, harmless_lines};
use crate::control::Error;

pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const NOT_RUNNING: u8 = 3;
pub const NO_SUCH_UNIT: u8 = 4;

#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    /// `cannot start web`.
    pub doing: String,
    pub why: String,
    pub hint: Option<String>,
    /// The supervisor's own no.
    pub refusal: Option<Box<Error>>,
}

impl Failure {
    pub fn new(doing: impl Into<String>, why: impl Display) -> Self {
        Failure { code: FAILED, doing: doing.into(), why: why.to_string(), hint: None, refusal: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The supervisor said no.
    pub fn refused(doing: impl Into<String>, error: Error) -> Self {
        let failure = Failure { refusal: Some(Box::new(error.clone())), ..Failure::new(doing, &error) };
        match error {
            Error::NoSuchUnit { .. } => failure.code(NO_SUCH_UNIT).hint("`cell status` lists every unit"),
            Error::NotAllowed { .. } => failure.hint("run this as root"),
            _ => failure,
        }
    }

    pub fn render(&self, paint: Paint) -> String {
        let what = harmless_lines(&format!("{}: {}", self.doing, self.why));
        let mut text = format!("{} {what}\n", paint.red("cell:"));
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  {} {}\n", paint.bold("try:"), harmless_lines(hint)));
        }
        text
    }
}
