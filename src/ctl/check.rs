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
use crate::unit::{self, Diagnostic, Kind, Unit, UnitSet};

#[derive(Debug, Args)]
pub struct Check {
    /// Unit files, or folders of them; what stands beside a file is known too, but not checked
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

impl Check {
    pub fn perform(self, run_dir: &Path) -> Result<ExitCode, Failure> {
        let units = read_among_neighbours(&self.paths)?;
        let (facts, slots) = facts(units.iter(), run_dir);
        let mut faults = 0;
        for (unit, slot) in units.iter().zip(slots) {
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
            return Err(Failure::new("units that cannot run here", format!("{faults} of {}", units.len())));
        }
        terminal::print(&match units.len() {
            1 => "1 unit is in order\n".to_owned(),
            count => format!("{count} units are in order\n"),
        })
    }
}

/// The units of these paths. What stands in the folder of a file counts for what the file says of other units, but nobody asked
/// about its own faults.
fn read_among_neighbours(paths: &[PathBuf]) -> Result<Vec<Unit>, Failure> {
    let named = texts(paths)?;
    let is_named = |path: &Path| named.iter().any(|(named, _)| named == path);
    let neighbours = paths.iter().filter(|path| !path.is_dir()).flat_map(|file| neighbours(file));
    let all: Vec<_> = named.iter().cloned().chain(neighbours.filter(|(path, _)| !is_named(path))).collect();
    let faults: Vec<Diagnostic> = match UnitSet::from_texts(&all) {
        Ok(set) => return Ok(set.into_iter().filter(|unit| is_named(&unit.source)).collect()),
        Err(faults) => faults.into_iter().filter(|fault| is_named(&fault.path)).collect(),
    };
    if !faults.is_empty() {
        return Err(refuse(&faults));
    }
    named.iter().map(|(path, text)| unit::parse(path, text).map_err(|faults| refuse(&faults))).collect()
}

/// The unit files of a file's folder, named as the file is. A folder that cannot be read has none.
fn neighbours(file: &Path) -> Vec<(PathBuf, String)> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let here = folder.as_os_str().is_empty();
    let files = load::read(&[if here { ".".into() } else { folder.to_owned() }]).unwrap_or_default();
    let bare = |path: PathBuf| path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
    files.into_iter().map(|(path, text)| (if here { bare(path) } else { path }, text)).collect()
}

/// The units of these paths; every fault is printed first.
pub fn read(paths: &[PathBuf]) -> Result<UnitSet, Failure> {
    UnitSet::from_texts(&texts(paths)?).map_err(|faults| refuse(&faults))
}

fn texts(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, Failure> {
    let doing = || "cannot read the units".to_owned();
    let files = load::read(paths).map_err(|e| Failure::new(doing(), e))?;
    if files.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(doing(), format!("there is no *.toml in {}", names.join(", "))));
    }
    Ok(files)
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
