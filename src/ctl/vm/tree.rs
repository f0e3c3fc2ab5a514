//! The file tree of an image to be: what is in it, and where each file's contents come from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::cpio::Archive;

/// Entries in one image, and the bytes in all: the image is held in the guest's memory twice while it is unpacked.
const MAX_ENTRIES: usize = 20_000;
const MAX_BYTES: u64 = 1 << 30;
/// A folder that a unit names is copied when it is no larger than this.
const MAX_FOLDER_ENTRIES: usize = 4_096;
const MAX_FOLDER_BYTES: u64 = 128 << 20;
/// As many as the kernel follows (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

enum Entry {
    Directory { mode: u32 },
    Bytes { mode: u32, bytes: Vec<u8> },
    Copy { mode: u32, from: PathBuf },
    Symlink { target: PathBuf },
    CharacterDevice { mode: u32, major: u32, minor: u32 },
}

/// Ordered by path, and so a directory before what is in it.
#[derive(Default)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
    bytes: u64,
}

impl Tree {
    pub fn contains(&self, path: &Path) -> bool {
        self.entries.contains_key(path)
    }

    pub fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.insert(Path::new(path), Entry::Directory { mode })
    }

    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
        self.insert(Path::new(path), Entry::Bytes { mode, bytes: bytes.into() })
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.insert(Path::new(path), Entry::Symlink { target: target.into() })
    }

    pub fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) -> io::Result<()> {
        self.insert(Path::new(path), Entry::CharacterDevice { mode, major, minor })
    }

    /// Takes over a path of this host under the same name: each folder and link on the way, and the file at its end.
    /// Answers where the links led to.
    pub fn host(&mut self, path: &Path) -> io::Result<PathBuf> {
        let mut ahead: Vec<OsString> = names(path).rev().collect();
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(name);
            let metadata = fs::symlink_metadata(&next).map_err(|error| about(&next, error))?;
            if !metadata.is_symlink() {
                self.take(&next, &next, &metadata)?;
                at = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(about(path, io::Error::other("too many links on the way")));
            }
            let target = fs::read_link(&next).map_err(|error| about(&next, error))?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            ahead.extend(names(&target).rev());
            self.insert(&next, Entry::Symlink { target })?;
        }
        Ok(at)
    }

    /// Copies a file, or a folder with all that is in it, to a place of another name. Links inside stay links.
    pub fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let metadata = fs::metadata(from).map_err(|error| about(from, error))?;
        self.take(from, to, &metadata)?;
        if !metadata.is_dir() {
            return Ok(());
        }
        let (mut entries, mut bytes) = (0, 0);
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(from.join(&folder)).map_err(|error| about(from, error))? {
                let below = folder.join(entry?.file_name());
                let source = from.join(&below);
                let metadata = fs::symlink_metadata(&source).map_err(|error| about(&source, error))?;
                entries += 1;
                bytes += if metadata.is_file() { metadata.len() } else { 0 };
                if entries > MAX_FOLDER_ENTRIES || bytes > MAX_FOLDER_BYTES {
                    let bound = format!("a folder of more than {MAX_FOLDER_ENTRIES} files or {} MiB is not copied", MAX_FOLDER_BYTES >> 20);
                    return Err(about(from, io::Error::other(bound)));
                }
                self.take(&source, &to.join(&below), &metadata)?;
                if metadata.is_dir() {
                    folders.push(below);
                }
            }
        }
        Ok(())
    }

    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut archive = Archive::new(out);
        for (path, entry) in &self.entries {
            let name = path.to_str().ok_or_else(|| about(path, io::Error::other("a name that is not UTF-8")))?.trim_start_matches('/');
            match entry {
                Entry::Directory { mode } => archive.directory(name, *mode)?,
                Entry::Bytes { mode, bytes } => archive.file(name, *mode, bytes)?,
                Entry::Copy { mode, from } => archive.file(name, *mode, &fs::read(from).map_err(|error| about(from, error))?)?,
                Entry::Symlink { target } => archive.symlink(name, &target.to_string_lossy())?,
                Entry::CharacterDevice { mode, major, minor } => archive.character_device(name, *mode, *major, *minor)?,
            }
        }
        archive.finish()
    }

    /// One thing of this host as one entry. Sockets, pipes and devices mean nothing elsewhere and are left out.
    fn take(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
        let mode = metadata.mode() & 0o7777;
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.insert(to, Entry::Directory { mode })
        } else if kind.is_symlink() {
            self.insert(to, Entry::Symlink { target: fs::read_link(from)? })
        } else if kind.is_file() {
            if !self.contains(&self.resolve(to)) {
                self.bytes += metadata.len();
            }
            self.insert(to, Entry::Copy { mode, from: from.to_owned() })
        } else {
            Ok(())
        }
    }

    /// What came first stays, so that nothing on this host replaces a file of ours.
    fn insert(&mut self, path: &Path, entry: Entry) -> io::Result<()> {
        let path = self.resolve(path);
        for folder in path.ancestors().skip(1).filter(|folder| folder.parent().is_some()) {
            self.entries.entry(folder.to_owned()).or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.entry(path.clone()).or_insert(entry);
        if self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let bound = format!("an image holds at most {MAX_ENTRIES} files and {} MiB", MAX_BYTES >> 20);
            return Err(about(&path, io::Error::other(bound)));
        }
        Ok(())
    }

    /// The same place with the links of the tree's own folders followed, as `/bin/x` is `/usr/bin/x`.
    fn resolve(&self, path: &Path) -> PathBuf {
        let Some((parent, name)) = path.parent().zip(path.file_name()) else { return PathBuf::from("/") };
        let mut folder = self.resolve(parent);
        for _ in 0..MAX_LINKS {
            match self.entries.get(&folder) {
                Some(Entry::Symlink { target }) => folder = normal(&folder.parent().unwrap_or(Path::new("/")).join(target)),
                _ => break,
            }
        }
        folder.join(name)
    }
}

/// An error that says what it is about.
pub fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

fn normal(path: &Path) -> PathBuf {
    names(path).fold(PathBuf::from("/"), |mut at, name| {
        if name == ".." {
            at.pop();
        } else {
            at.push(name);
        }
        at
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_come_along() {
        let host = tempfile::tempdir().unwrap();
        let real = host.path().join("usr/bin");
        fs::create_dir_all(&real).unwrap();
        fs::write(real.join("dash"), b"#!").unwrap();
        std::os::unix::fs::symlink("dash", real.join("sh")).unwrap();
        std::os::unix::fs::symlink("usr/bin", host.path().join("bin")).unwrap();

        let mut tree = Tree::default();
        assert_eq!(tree.host(&host.path().join("bin/sh")).unwrap(), real.join("dash"));
        assert!(tree.contains(&host.path().join("bin")) && tree.contains(&real.join("sh")) && tree.contains(&real.join("dash")));

        // What is put below a link lands where the link leads.
        tree.file(&format!("{}/bin/own", host.path().display()), 0o755, "x").unwrap();
        assert!(tree.contains(&real.join("own")));
    }

    #[test]
    fn the_same_contents_give_the_same_bytes() {
        let image = || {
            let mut tree = Tree::default();
            tree.host(Path::new("/bin/sh")).unwrap();
            tree.file("/etc/hostname", 0o644, "cellinit\n").unwrap();
            let mut bytes = Vec::new();
            tree.write(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(image(), image());
    }
}
