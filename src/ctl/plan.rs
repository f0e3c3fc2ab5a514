//! `cell plan UNIT|FILE`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::check;
use super::client::Client;
use super::failure::{Failure, NO_SUCH_UNIT};
use super::terminal;
use crate::control::{self, Request};
use crate::load;
use crate::plan::{self, Given, Slot};
use crate::unit::{self, Unit};

/// Where a machine's units are.
const DEFAULT_UNITS: &str = "/etc/cellinit/units";

#[derive(Debug, Args)]
pub struct Plan {
    /// A unit of the running supervisor (or of --units), or a unit file
    unit: String,
    /// Take the unit from this folder [default: what the supervisor runs, or /etc/cellinit/units]
    #[arg(long, value_name = "DIR")]
    units: Vec<PathBuf>,
    /// The plan as an object
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub fn perform(self, run_dir: &Path) -> Result<ExitCode, Failure> {
        let doing = format!("cannot plan {}", self.unit);
        let control::Plan { text, plan } = if is_file(&self.unit) {
            self.of_file(run_dir, &doing)?
        } else if self.units.is_empty() && Client::is_running(run_dir) {
            Client::connect(run_dir)?.call(Request::Plan { unit: self.unit }, &doing)?
        } else {
            self.of_folder(run_dir, &doing)?
        };
        match self.json {
            true => terminal::print(&terminal::json(&plan, true)?),
            // The plan is harmless by itself; this is for a supervisor that is another version.
            false => terminal::print(&terminal::harmless_lines(&text)),
        }
    }

    /// A file by itself: what it needs of other units does not matter to its plan.
    fn of_file(&self, run_dir: &Path, doing: &str) -> Result<control::Plan, Failure> {
        let files = load::read(&[PathBuf::from(&self.unit)]).map_err(|e| Failure::new(doing, e))?;
        let [(path, text)] = &files[..] else { return Err(Failure::new(doing, "it is not one unit file")) };
        let unit = unit::parse(path, text).map_err(|faults| check::refuse(&faults))?;
        let (facts, slots) = check::facts(std::iter::once(&unit), run_dir);
        built(&unit, &facts, slots.first().copied(), doing)
    }

    fn of_folder(&self, run_dir: &Path, doing: &str) -> Result<control::Plan, Failure> {
        if self.units.is_empty() && !Path::new(DEFAULT_UNITS).is_dir() {
            let why = format!("no supervisor runs in {}, and there is no folder {DEFAULT_UNITS}", run_dir.display());
            let hint = match check::file_of(Path::new(&self.unit)) {
                Some(file) => format!("cell plan {}", file.display()),
                None => format!("`cell plan PATH/{}.toml` for a file, --units DIR for a unit of a folder", self.unit),
            };
            return Err(Failure::new(doing, why).hint(hint));
        }
        let folders = if self.units.is_empty() { vec![PathBuf::from(DEFAULT_UNITS)] } else { self.units.clone() };
        let set = check::read(&folders)?;
        let Some((index, unit)) = set.iter().enumerate().find(|(_, unit)| unit.name == self.unit) else {
            let failure = Failure::new(doing, format!("there is no unit `{}`", self.unit)).code(NO_SUCH_UNIT);
            return Err(match unit::nearest_unit(&self.unit, set.iter().map(|unit| unit.name.as_str())) {
                Some(nearest) => failure.hint(format!("cell plan {nearest}")),
                None => failure,
            });
        };
        // The same slot that a supervisor of this folder gives it.
        let (facts, slots) = check::facts(set.iter(), run_dir);
        built(unit, &facts, slots.get(index).copied(), doing)
    }
}

fn is_file(word: &str) -> bool {
    word.contains('/') || word.ends_with(".toml")
}

fn built(unit: &Unit, facts: &plan::Facts, slot: Option<Slot>, doing: &str) -> Result<control::Plan, Failure> {
    let plan = plan::build(unit, facts, &Given::from(slot.unwrap_or(Slot { index: 0 })))
        .map_err(|e| Failure::new(doing, format!("on this host: {e}")))?;
    let value = serde_json::to_value(&plan).map_err(|e| Failure::new(doing, e))?;
    Ok(control::Plan { text: plan.to_string(), plan: value })
}
