//! `cell logs UNIT`: reads the files, so it works when no supervisor runs.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::Client;
use super::failure::{Failure, NO_SUCH_UNIT, NOT_RUNNING};
use super::terminal::{self, Paint, harmless};
use crate::control::Request;
use crate::log::{self, Follower, Line, Stream};

/// Lines that `-f` begins with.
const FOLLOW_FROM: usize = 10;

#[derive(Debug, Args)]
pub struct Logs {
    /// Its name; no supervisor has to be running
    unit: String,
    /// Go on with new lines as they are written
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines [default: all; 10 with --follow]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// One object a line; `continues` is true where a line of more than 16 KiB goes on in the next object of its stream
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// The lines byte for byte as the unit wrote them: what steers a terminal steers yours
    #[arg(long)]
    raw: bool,
}

impl Logs {
    pub fn perform(self, run_dir: &Path) -> Result<ExitCode, Failure> {
        let directory = run_dir.join("log");
        let doing = format!("cannot read the log of {}", self.unit);
        let failed = |e: std::io::Error| Failure::new(doing.as_str(), format!("{}: {e}", directory.display()));
        // A name that is no unit's must not lead out of the directory.
        if self.unit.contains('/') {
            return Err(Failure::new(doing, "a unit's name has no `/`").code(NO_SUCH_UNIT));
        }
        let mut printer =
            Printer { json: self.json, unit: self.unit.clone(), paint: Paint::for_stdout(), raw: self.raw, begun: BTreeSet::new() };
        let count = self.lines.or(self.follow.then_some(FOLLOW_FROM));
        let read = match count {
            Some(count) => log::last_lines(&directory, &self.unit, count)
                .map(|(lines, end)| lines.iter().try_for_each(|line| printer.print(line)).map(|()| end)),
            None => log::each_line(&directory, &self.unit, |line| printer.print(&line)),
        };
        let end = match read {
            Ok(printed) => printed?,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.must_exist(run_dir, &directory, &doing)?;
                0
            }
            Err(e) => return Err(failed(e)),
        };
        if self.follow {
            let mut follower = Follower::new(&directory, &self.unit, end).map_err(failed)?;
            loop {
                for line in follower.lines().map_err(failed)? {
                    printer.print(&line)?;
                }
                follower.wait().map_err(failed)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// There is no log. A unit that has written nothing yet is no failure.
    fn must_exist(&self, run_dir: &Path, directory: &Path, doing: &str) -> Result<(), Failure> {
        match Client::connect(run_dir) {
            Ok(mut client) => client.call::<serde_json::Value>(Request::Status { unit: self.unit.clone() }, doing).map(drop),
            Err(failure) if failure.code == NOT_RUNNING && directory.is_dir() => {
                Err(Failure::new(doing, format!("{} has none of that name", directory.display())).code(NO_SUCH_UNIT))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// A line for programs.
#[derive(Serialize)]
struct Object<'a> {
    time: String,
    unit: &'a str,
    stream: Stream,
    text: &'a str,
    /// The service's line goes on in the next object of this stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

struct Printer {
    json: bool,
    unit: String,
    paint: Paint,
    raw: bool,
    /// Streams whose last line goes on.
    begun: BTreeSet<Stream>,
}

impl Printer {
    fn print(&mut self, line: &Line) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&line.text);
        let goes_on = if line.continues { !self.begun.insert(line.stream) } else { self.begun.remove(&line.stream) };
        if self.json {
            let object =
                Object { time: line.time.to_string(), unit: &self.unit, stream: line.stream, text: &text, continues: line.continues };
            return terminal::write(terminal::json(&object, false)?);
        }
        if goes_on && text.is_empty() {
            return Ok(()); // Only the newline of a line that was shown already.
        }
        let tag = format!("{}{}", line.stream.name(), if line.continues { "+" } else { "" });
        let tag = match line.stream {
            Stream::Err => self.paint.red(&tag),
            Stream::Out | Stream::Sys => self.paint.dim(&tag),
        };
        let head = format!("{} {tag} ", self.paint.dim(&line.time.to_string()));
        // Always, for `cell logs web | tail` ends on a terminal, too.
        let text = if self.raw { line.text.clone() } else { harmless(&text).into_bytes() };
        terminal::write([head.as_bytes(), &text, b"\n"].concat())
    }
}
