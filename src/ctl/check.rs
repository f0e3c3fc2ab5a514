//! `cell check PATH...`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::failure::{FAILED, Failure};
use super::terminal::{self, Paint, harmless, harmless_lines};
use crate::cell;
use crate::load;
use crate::places::Places;
use crate::plan::{self, Facts, Given, Slot};
use crate::unit::{self, Diagnostic, Kind, MountKind, Namespace, Payload, Profile, Unit, UnitSet};

/// What files are asked for by.
const PATHS: &str = "the path of a unit file, or of a folder of them";

#[derive(Debug, Args)]
pub struct Check {
    /// Unit files, or folders of them; what stands beside a file is known too, but not checked
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

impl Check {
    pub fn perform(self, run_dir: &Path) -> Result<ExitCode, Failure> {
        let (files, units) = read_among_neighbours(&self.paths)?;
        let (facts, slots) = facts(units.iter(), run_dir);
        let paint = Paint::for_stderr();
        let mut refused = 0;
        // What no file says is no unit of these files: the target of the boot.
        let texts: BTreeMap<&Path, &str> = files.iter().map(|(path, text)| (path.as_path(), text.as_str())).collect();
        let written = || units.iter().zip(&slots).filter_map(|(unit, slot)| Some((unit, *slot, *texts.get(unit.source.as_path())?)));
        for (unit, slot, text) in written() {
            // A target has nothing to start, and so no plan.
            let faults = if unit.kind == Kind::Target { Vec::new() } else { plan::check(unit, &facts, &Given::from(slot)) };
            refused += usize::from(!faults.is_empty());
            for fault in faults {
                let fault =
                    unit::fault_at(&unit.source, text, &fault.key, format!("on this host: {}: {}", fault.key, fault.reason), fault.help);
                eprintln!("{}\n", fault.render(paint.0));
            }
            let missing = missing(unit).into_iter().map(|(key, path)| (key, format!("{} is not on this host", path.display())));
            for (key, what) in missing.chain(covered(unit, &facts)) {
                let place = unit::fault_at(&unit.source, text, &key, String::new(), None);
                let place = format!("{}:{}:{}", place.path.display(), place.line, place.column);
                eprintln!("{}", harmless(&format!("warning: {place}: {key}: {what}")));
            }
        }
        let count = written().count();
        if refused > 0 {
            return Err(Failure::new("units that cannot run here", format!("{refused} of {count}")));
        }
        terminal::print(&format!("{count} {} in order\n", if count == 1 { "unit is" } else { "units are" }))
    }
}

/// What a unit names that is not here. No error: it may come before the start does.
fn missing(unit: &Unit) -> Vec<(String, &Path)> {
    let mut named: Vec<(String, &str)> = Vec::new();
    for (n, mount) in unit.mounts.iter().enumerate() {
        if let MountKind::Bind { source, .. } = &mount.kind {
            named.push((format!("mount[{n}].source"), source));
        }
    }
    named.extend(unit.rootfs.path.as_deref().map(|path| ("rootfs.path".to_owned(), path)));
    let files = unit.env.files.iter().enumerate().filter(|(_, file)| !file.optional);
    named.extend(files.map(|(n, file)| (format!("env.files[{n}]"), file.path.as_str())));
    match &unit.payload {
        Payload::Wasm(wasm) => {
            named.push(("wasm.module".to_owned(), &wasm.module));
            named.extend(wasm.dirs.iter().enumerate().map(|(n, dir)| (format!("wasm.dir[{n}].host"), dir.host.as_str())));
        }
        // Where the root is the host's, so are the program and the directory that it begins in.
        Payload::Native { exec } if has_the_hosts_root(unit) => {
            let program = exec.first().filter(|path| path.starts_with('/')).map(|path| ("service.exec", path));
            let places = program.into_iter().chain([("service.working-dir", &unit.service.working_dir)]);
            named.extend(places.filter(|(_, path)| !is_its_own(unit, path)).map(|(key, path)| (key.to_owned(), path.as_str())));
        }
        Payload::Native { .. } | Payload::None => {}
    }
    named.into_iter().map(|(key, path)| (key, Path::new(path))).filter(|(_, path)| !path.exists()).collect()
}

/// What the program is told of, and is on this host, but not in the cell.
fn covered(unit: &Unit, facts: &Facts) -> Vec<(String, String)> {
    let (Payload::Native { exec }, Some(host)) = (&unit.payload, &facts.root) else { return Vec::new() };
    if !has_the_hosts_root(unit) || unit.isolation.mount == Namespace::Host {
        return Vec::new();
    }
    let words = exec.iter().enumerate().map(|(n, word)| (format!("service.exec[{n}]"), word));
    let named = words.chain([("service.working-dir".to_owned(), &unit.service.working_dir)]);
    let covered = named.filter_map(|(key, path)| {
        let is_shown = |path: &str| is_its_own(unit, path) || unit.mounts.iter().any(|mount| Path::new(&mount.target).starts_with(path));
        if !is_a_file_system_path(path) || is_shown(path) {
            return None;
        }
        let whole = std::fs::canonicalize(path).ok()?;
        // As it is called, and where that leads.
        let lost = [path.as_str(), whole.to_str()?].into_iter().find_map(|path| plan::emptied(path, host).filter(|_| !is_shown(path)))?;
        Some((key, format!("{path} is on this host, but not in the cell, where {lost} is empty: a [[mount]] can show it there")))
    });
    covered.collect()
}

/// An absolute one, and not of those that mean something else to each process.
fn is_a_file_system_path(word: &str) -> bool {
    word.starts_with('/') && !["/dev", "/proc"].iter().any(|own| Path::new(word).starts_with(own))
}

/// Something is there in the cell that is not there on the host.
fn is_its_own(unit: &Unit, path: &str) -> bool {
    let mounts = unit.mounts.iter().map(|mount| PathBuf::from(&mount.target));
    let state = unit.dirs.state.iter().map(|name| Path::new("/var/lib").join(name));
    let runtime = unit.dirs.runtime.iter().map(|name| Path::new("/run").join(name));
    mounts.chain(state).chain(runtime).any(|own| Path::new(path).starts_with(own))
}

fn has_the_hosts_root(unit: &Unit) -> bool {
    unit.rootfs.path.is_none() && !matches!(unit.isolation.profile, Profile::Strict | Profile::Wasm)
}

/// The texts and the units of these paths. What stands in the folder of a file counts for what the file says of other units, but
/// nobody asked about its own faults.
fn read_among_neighbours(paths: &[PathBuf]) -> Result<(load::Texts, Vec<Unit>), Failure> {
    let named = texts(paths)?;
    let is_named = |path: &Path| named.iter().any(|(named, _)| named == path);
    let neighbours = paths.iter().filter(|path| !path.is_dir()).flat_map(|file| neighbours(file));
    let all: Vec<_> = named.iter().cloned().chain(neighbours.filter(|(path, _)| !is_named(path))).collect();
    let faults: Vec<Diagnostic> = match UnitSet::from_texts(&all) {
        Ok(set) => {
            let units = set.into_iter().filter(|unit| is_named(&unit.source)).collect();
            return Ok((named, units));
        }
        Err(faults) => faults.into_iter().filter(|fault| is_named(&fault.path)).collect(),
    };
    if !faults.is_empty() {
        return Err(refuse(&faults));
    }
    let units = named.iter().map(|(path, text)| unit::parse(path, text).map_err(|faults| refuse(&faults)));
    let units = units.collect::<Result<_, _>>()?;
    Ok((named, units))
}

/// The unit files of a file's folder, named as the file is. A folder that cannot be read has none.
fn neighbours(file: &Path) -> load::Texts {
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

fn texts(paths: &[PathBuf]) -> Result<load::Texts, Failure> {
    let doing = || "cannot read the units".to_owned();
    let (files, unread) = load::read_each(paths).map_err(|e| Failure::new(doing(), e))?;
    if !unread.is_empty() {
        let paint = Paint::for_stderr();
        unread.iter().for_each(|(_, error)| eprintln!("{} {}\n", paint.red("error:"), harmless_lines(&error.to_string())));
        let unread: Vec<&Path> = unread.iter().map(|(path, _)| path.as_path()).collect();
        let faults = UnitSet::faults_beside(&files, &unread);
        let failure = refused(&faults, unread.len());
        return Err(match unread.iter().find(|path| !path.exists()) {
            Some(path) => failure.hint(file_of(path).map_or(PATHS.to_owned(), |file| file.display().to_string())),
            None => failure,
        });
    }
    if files.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(doing(), format!("there is no *.toml in {}", names.join(", "))));
    }
    Ok(files)
}

/// The file that is meant by who says a unit's name, as one does where a supervisor runs.
pub fn file_of(name: &Path) -> Option<PathBuf> {
    Some(name.with_added_extension("toml")).filter(|file| file.is_file())
}

/// Every fault in full, and how many.
pub fn refuse(faults: &[Diagnostic]) -> Failure {
    refused(faults, 0)
}

fn refused(faults: &[Diagnostic], unread: usize) -> Failure {
    let colour = Paint::for_stderr().0;
    for fault in faults {
        eprintln!("{}\n", fault.render(colour));
    }
    let count = match faults.len() + unread {
        1 => "1 fault".into(),
        count => format!("{count} faults"),
    };
    Failure::new("the unit files are refused", count).code(FAILED)
}

/// This host, as a supervisor with this run directory would find it, and the slots that it gives to these units.
pub fn facts<'a>(units: impl Iterator<Item = &'a Unit>, run_dir: &Path) -> (Facts, Vec<Slot>) {
    let places = Places::of(run_dir);
    let units: Vec<&Unit> = units.collect();
    let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
    (cell::facts::gather(&places.for_facts(), units), places.slots(None, &names))
}
