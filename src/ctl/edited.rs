//! Unit files are read once: whoever edited one since then is told, before he wonders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::failure::Failure;
use super::terminal::harmless;
use crate::control::{Error, Files, Request, UnitFile};
use crate::load::{self, Stamp};

/// One line on stderr if the files are not what the supervisor read. It is not asked to look itself: a file may lie on a mount
/// whose server is gone, and then only we wait. A supervisor that does not know the question is an older one.
pub fn tell(client: &mut Client) -> Result<(), Failure> {
    let files = match client.call::<Files>(Request::Files, "cannot ask for the unit files") {
        Err(failure) if matches!(failure.refusal.as_deref(), Some(Error::MethodNotFound { .. })) => return Ok(()),
        files => files?,
    };
    let paths: Vec<PathBuf> = files.paths.iter().map(PathBuf::from).collect();
    let stamp = |file: UnitFile| Stamp { path: file.path.into(), inode: file.inode, size: file.size, modified: file.modified };
    let before: Vec<Stamp> = files.files.into_iter().map(stamp).collect();
    if let Some(line) = difference(&before, &load::stamps(&paths)) {
        eprintln!("note: {}", harmless(&line));
    }
    Ok(())
}

fn difference(before: &[Stamp], now: &[Stamp]) -> Option<String> {
    let by_path = |stamps: &[Stamp]| stamps.iter().map(|stamp| (stamp.path.clone(), stamp.clone())).collect::<BTreeMap<_, _>>();
    let (before, now) = (by_path(before), by_path(now));
    let names = |paths: Vec<&PathBuf>| paths.into_iter().map(|path| name(path)).collect::<Vec<_>>().join(", ");
    let changed = before.iter().filter(|(path, stamp)| now.get(*path).is_some_and(|now| now != *stamp)).map(|(path, _)| path).collect();
    let added = now.keys().filter(|path| !before.contains_key(*path)).collect();
    let removed = before.keys().filter(|path| !now.contains_key(*path)).collect();
    let kinds = [("changed", names(changed)), ("new", names(added)), ("gone", names(removed))];
    let said: Vec<String> =
        kinds.into_iter().filter(|(_, names)| !names.is_empty()).map(|(kind, names)| format!("{kind}: {names}")).collect();
    (!said.is_empty())
        .then(|| format!("unit files are not what the supervisor read ({}); they count when it is started again", said.join("; ")))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
