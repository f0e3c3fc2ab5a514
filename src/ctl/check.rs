//! `cell check PATH...`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::failure::{FAILED, Failure};
use super::terminal::{self, Paint, harmless_lines};
use crate::cell;
use crate::load;
use crate::places::Places;
use crate::plan::{self, Facts, Given, Slot};
use crate::unit::{Diagnostic, Kind, Unit, UnitSet};

#[derive(Debug, Args)]
pub struct Check {
    /// Unit files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

impl Check {
    pub fn perform(self, run_dir: &Path) -> Result<ExitCode, Failure> {
        let set = read(&self.paths)?;
        let (facts, slots) = facts(set.iter(), run_dir);
        let mut faults = 0;
        for (unit, slot) in set.iter().zip(slots) {
            // A target has nothing to start, and so no plan.
            if unit.kind != Kind::Target
                && let Err(error) = plan::build(unit, &facts, &Given::from(slot))
            {
                faults += 1;
                let paint = Paint::for_stderr();
                let what = format!("{}: on this host: {error}", unit.source.display());
                eprintln!("{} {}\n", paint.red("error:"), harmless_lines(&what));
            }
        }
        if faults > 0 {
            return Err(Failure::new("units that cannot run here", format!("{faults} of {}", set.len())));
        }
        terminal::print(&format!("{} units are in order\n", set.len()))
    }
}

/// The units of these paths; every fault is printed first.
pub fn read(paths: &[PathBuf]) -> Result<UnitSet, Failure> {
    let doing = || "cannot read the units".to_owned();
    let files = load::read(paths).map_err(|e| Failure::new(doing(), e))?;
    if files.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(doing(), format!("there is no *.toml in {}", names.join(", "))));
    }
    UnitSet::from_texts(&files).map_err(|faults| refuse(&faults))
}

/// Every fault in full, and how many.
pub fn refuse(faults: &[Diagnostic]) -> Failure {
    let colour = Paint::for_stderr().0;
    for fault in faults {
        eprintln!("{}\n", fault.render(colour));
    }
    let count = if faults.len() == 1 { "1 fault".into() } else { format!("{} faults", faults.len()) };
    Failure::new("the unit files are refused", count).code(FAILED)
}

/// This host, as a supervisor with this run directory would find it, and the slots that it gives to these units.
pub fn facts<'a>(units: impl Iterator<Item = &'a Unit>, run_dir: &Path) -> (Facts, Vec<Slot>) {
    let places = Places::of(run_dir);
    let units: Vec<&Unit> = units.collect();
    let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
    (cell::facts::gather(&places.for_facts(), units), places.slots(None, &names))
}
