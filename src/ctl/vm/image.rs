//! Builds the image: a first root with cellinit as `/init`.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::contents;
use super::policy;
use super::tree::{Tree, about};
use crate::unit::UnitSet;

/// What is wanted besides the units.
#[derive(Debug, Default)]
pub struct Extras {
    /// Files or folders of this host, and where they go.
    pub add: Vec<(PathBuf, PathBuf)>,
    /// The SELinux policy of cellinit, compiled.
    pub selinux: bool,
}

/// `SRC[:DST]` of the command line. Without a place of its own it goes where it is here.
pub fn parse_addition(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    let from = std::path::absolute(from).map_err(|error| format!("{from}: {error}"))?;
    let to = if text.contains(':') { PathBuf::from(to) } else { from.clone() };
    if to.is_absolute() { Ok((from, to)) } else { Err(format!("{}: the place in the image must be an absolute path", to.display())) }
}

/// Writes the image. Answers what was left out and may be missed.
pub fn build(units: &UnitSet, extras: &Extras, output: &Path) -> io::Result<Vec<String>> {
    let mut tree = Tree::default();
    let gathered = contents::gather(&mut tree, units, &extras.add)?;
    if extras.selinux {
        policy::add(&mut tree, &gathered.writable)?;
    }
    let file = private(output).map_err(|error| about(output, error))?;
    tree.write(BufWriter::new(file)).map_err(|error| about(output, error))?;
    Ok(gathered.notes)
}

/// Only its owner may read the image: it holds copies of what the units name, and with it whatever secrets lie there.
fn private(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // One that was there before had a mode of its own; a device keeps it.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}
