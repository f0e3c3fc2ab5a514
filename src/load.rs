#![forbid(unsafe_code)]
//! Unit files from disk: the files and folders named on a command line become one [`UnitSet`].

use std::fmt;
use std::fs::{File, Metadata};
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
    checked(&read(paths)?)
}

fn checked(texts: &Texts) -> Result<UnitSet, LoadError> {
    let here = std::env::current_dir().map_err(|error| LoadError::Read { path: ".".into(), error })?;
    Ok(UnitSet::from_texts(texts).map_err(LoadError::Refused)?.anchored(&here))
}

/// The same, and what tells whether the files have changed since: of as many of them as could be looked at.
pub fn load_stamped(paths: &[PathBuf]) -> (Result<UnitSet, LoadError>, Vec<Stamp>) {
    let mut files = Vec::new();
    let set = read_stamped(paths, &mut files).and_then(|texts| checked(&texts));
    // Nobody has looked at what comes after a file that cannot be read.
    let files = if matches!(set, Ok(_) | Err(LoadError::Refused(_))) { files } else { stamps(paths) };
    (set, files)
}

/// One unit by itself, for running it alone: what it says of other units is not followed.
pub fn load_one(path: &Path) -> Result<Unit, LoadError> {
    let whole = std::path::absolute(path).map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    unit::parse(&whole, &read_text(path, &look(path)?)?).map_err(LoadError::Refused)
}

/// The files and their texts, unchecked.
pub fn read(paths: &[PathBuf]) -> Result<Texts, LoadError> {
    read_stamped(paths, &mut Vec::new())
}

fn read_stamped(paths: &[PathBuf], stamps: &mut Vec<Stamp>) -> Result<Texts, LoadError> {
    let one = |path: PathBuf| {
        let found = look(&path)?;
        // Before it is read, so that no change is missed.
        stamps.push(Stamp::new(path.clone(), &found));
        read_text(&path, &found).map(|text| (path, text))
    };
    list(paths)?.into_iter().map(one).collect()
}

/// The same, and beside it what is wrong with each of those that cannot be read.
pub fn read_each(paths: &[PathBuf]) -> Result<(Texts, Vec<(PathBuf, LoadError)>), LoadError> {
    let (mut files, mut unread) = (Vec::new(), Vec::new());
    for path in list(paths)? {
        match look(&path).and_then(|found| read_text(&path, &found)) {
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

impl Stamp {
    fn new(path: PathBuf, found: &Metadata) -> Stamp {
        let modified = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
        Stamp { path, inode: found.ino(), size: found.len(), modified }
    }
}

/// The files that [`read`] would read now; those that cannot be looked at are left out.
pub fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let files = paths.iter().flat_map(|path| if path.is_dir() { unit_files(path).unwrap_or_default() } else { vec![path.clone()] });
    files.filter_map(|path| look(&path).ok().map(|found| Stamp::new(path, &found))).collect()
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

fn look(path: &Path) -> Result<Metadata, LoadError> {
    std::fs::metadata(path).map_err(|error| LoadError::Read { path: path.to_owned(), error })
}

fn read_text(path: &Path, found: &Metadata) -> Result<String, LoadError> {
    if !found.is_file() {
        return Err(LoadError::NotAFile { path: path.to_owned() });
    }
    // Room for all of it, and for seeing that there is no more.
    let mut bytes = Vec::with_capacity(found.len().min(MAX_FILE_SIZE) as usize + 1);
    let failed = |error| LoadError::Read { path: path.to_owned(), error };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Who could not read the units says later which files have changed, and not that all have.
    #[test]
    fn every_file_has_its_stamp_whatever_is_wrong_with_one() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.toml", "[service]\nexec = [\"/bin/a\"]\n");
        write("c.toml", "[service]\nexec = [\"/bin/c\"]\n");
        let paths = [folder.path().to_owned()];
        let load = |outcome: fn(Result<UnitSet, LoadError>) -> bool| {
            let (set, files) = load_stamped(&paths);
            assert!(outcome(set));
            assert_eq!(files, stamps(&paths));
            files.len()
        };
        assert_eq!(load(|set| set.is_ok()), 2);
        write("b.toml", "[service]\nexce = []\n");
        assert_eq!(load(|set| matches!(set, Err(LoadError::Refused(_)))), 3);
        std::fs::remove_file(folder.path().join("b.toml")).unwrap();
        std::fs::create_dir(folder.path().join("b.toml")).unwrap();
        assert_eq!(load(|set| matches!(set, Err(LoadError::NotAFile { .. }))), 3);
    }
}
