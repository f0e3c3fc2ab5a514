//! `cell status [UNIT]`.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::terminal::{self, Paint};
use super::{detail, edited, table};
use crate::time::Utc;

#[derive(Debug, Args)]
pub struct Status {
    /// One unit, in detail
    unit: Option<String>,
    /// An array of objects (one object for one unit)
    #[arg(long)]
    json: bool,
}

impl Status {
    pub fn perform(self, run_dir: &Path) -> Result<ExitCode, Failure> {
        let mut client = Client::connect(run_dir)?;
        edited::tell(&mut client)?;
        let paint = Paint::for_stdout();
        match (self.unit, self.json) {
            (Some(name), json) => {
                let unit = client.unit(&name, &format!("cannot show {name}"))?;
                if json { print_json(&unit) } else { print_lines(&detail::render(&unit, now(), paint)) }
            }
            (None, true) => print_json(&client.units()?),
            (None, false) => print_lines(&table::render(&client.units()?, now(), terminal::size().0, paint)),
        }
    }
}

pub fn now() -> Utc {
    Utc(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64)
}

fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, Failure> {
    terminal::print(&terminal::json(value, true)?)
}

fn print_lines(lines: &[String]) -> Result<ExitCode, Failure> {
    terminal::print(&format!("{}\n", lines.join("\n")))
}
