#![forbid(unsafe_code)]
//! Unit files from disk: the files and folders named on a command line become one [`UnitSet`].

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::unit::{self, Diagnostic, Unit, UnitSet};

/// Unit files read at once.
pub const MAX_FILES: usize = 4096;
/// Size of one unit file, in bytes.
pub const MAX_FILE_SIZE: u64 = 256 * 1024;
/// What a unit file is called.
const EXTENSION: &str = "toml";

/// Files and what is in them.
pub type Texts = Vec<(PathBuf, String)>;

/// Why there is no set of units.
#[derive(Debug)]
pub enum LoadError {
    /// A file or folder could not be read.
    Read {
        path: PathBuf,
        error: io::Error,
    },
    NotUtf8 {
        path: PathBuf,
    },
    TooLarge {
        path: PathBuf,
    },
    TooMany {
        path: PathBuf,
    },
    /// Neither a file nor a folder: a device or a pipe could hold the reader for ever.
    NotAFile {
        path: PathBuf,
    },
    /// The files were read, and what they say was refused.
    Refused(Vec<Diagnostic>),
}

/// Reads and checks: a folder stands for all `*.toml` directly in it, sorted by name; a file stands for itself.
pub fn load(paths: &[PathBuf]) -> Result<UnitSet, LoadError> {
    let here = std::env::current_dir().map_err(|error| LoadError::Read { path: ".".into(), error })?;
    let set = UnitSet::from_texts(&read(paths)?).map_err(LoadError::Refused)?;
    Ok(set.anchored(&here))
}

/// One unit by itself, for running it alone: what it says of other units is not followed.
pub fn load_one(path: &Path) -> Result<Unit, LoadError> {
    let whole = std::path::absolute(path).map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    unit::parse(&whole, &read_text(path)?).map_err(LoadError::Refused)
}

/// The files and their texts, unchecked.
pub fn read(paths: &[PathBuf]) -> Result<Texts, LoadError> {
    list(paths)?.into_iter().map(|path| read_text(&path).map(|text| (path, text))).collect()
}

/// The same, and beside it what is wrong with each of those that cannot be read.
pub fn read_each(paths: &[PathBuf]) -> Result<(Texts, Vec<(PathBuf, LoadError)>), LoadError> {
    let (mut files, mut unread) = (Vec::new(), Vec::new());
    for path in list(paths)? {
        match read_text(&path) {
            Ok(text) => files.push((path, text)),
            Err(error) => unread.push((path, error)),
        }
    }
    Ok((files, unread))
}

fn list(paths: &[PathBuf]) -> Result<Vec<PathBuf>, LoadError> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => files.extend(unit_files(path)?),
            false => files.push(path.clone()),
        }
        if files.len() > MAX_FILES {
            return Err(LoadError::TooMany { path: path.clone() });
        }
    }
    Ok(files)
}

/// A unit file, as far as one can tell without reading it whether it is still the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub path: PathBuf,
    pub inode: u64,
    pub size: u64,
    /// Nanoseconds.
    pub modified: i64,
}

/// The files that [`read`] would read now; those that cannot be looked at are left out.
pub fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let files = paths.iter().flat_map(|path| if path.is_dir() { unit_files(path).unwrap_or_default() } else { vec![path.clone()] });
    let stamp = |path: PathBuf| {
        let file = std::fs::metadata(&path).ok()?;
        let modified = file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec());
        Some(Stamp { path, inode: file.ino(), size: file.len(), modified })
    };
    files.filter_map(stamp).collect()
}

/// The unit files directly in a folder.
fn unit_files(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |error| LoadError::Read { path: folder.to_owned(), error };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let mut path = entry.map_err(failed)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == EXTENSION) {
            // Each is kept for as long as its unit.
            path.shrink_to_fit();
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(LoadError::TooMany { path: folder.to_owned() });
        }
    }
    // They differ in their names alone; an order of paths would take all of them apart again and again.
    files.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(files)
}

fn read_text(path: &Path) -> Result<String, LoadError> {
    let failed = |error| LoadError::Read { path: path.to_owned(), error };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(LoadError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(LoadError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|_| LoadError::NotUtf8 { path: path.to_owned() })
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Read { path, error } => write!(f, "{}: {error}", path.display()),
            LoadError::NotUtf8 { path } => write!(f, "{}: a unit file is text in UTF-8, and this is not", path.display()),
            LoadError::TooLarge { path } => write!(f, "{}: larger than {} KiB", path.display(), MAX_FILE_SIZE / 1024),
            LoadError::TooMany { path } => {
                write!(f, "{}: more than {MAX_FILES} unit files", path.display())
            }
            LoadError::NotAFile { path } => {
                write!(f, "{}: neither a file nor a folder", path.display())
            }
            LoadError::Refused(faults) => {
                for fault in faults {
                    writeln!(f, "{fault}\n")?;
                }
                write!(f, "{} {} in the unit files", faults.len(), if faults.len() == 1 { "fault" } else { "faults" })
            }
        }
    }
}

impl std::error::Error for LoadError {}
