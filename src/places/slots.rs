//! Which unit has which slot, remembered from start to start: its ids and its SELinux level come of it, and its state belongs
//! to those. A file of lines `name index` beside the state; whatever is wrong with it is never a reason not to start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of the file that are read: more than every slot with the longest name.
const FILE_BYTES: u64 = 2 << 20;

/// Units with their slots; each slot has one name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Assignment(BTreeMap<String, u32>);

impl Assignment {
    pub fn read(path: &Path, room: u32) -> Self {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "cannot be read; units get other ids than they had");
            }
            _ => {}
        }
        Self::parse(&String::from_utf8_lossy(&bytes), room)
    }

    /// Of two lines that claim the same, the first counts; what is no such line is passed over.
    fn parse(text: &str, room: u32) -> Self {
        let (mut known, mut taken) = (BTreeMap::new(), BTreeSet::new());
        for line in text.lines() {
            let Some((name, index)) = line.split_once(' ') else { continue };
            let Some(index) = index.parse().ok().filter(|index| *index < room) else { continue };
            if !name.is_empty() && !known.contains_key(name) && taken.insert(index) {
                known.insert(name.to_owned(), index);
            }
        }
        Assignment(known)
    }

    /// A slot below `room` for each of these names. A known one keeps its own, a new one takes the lowest that nobody ever had;
    /// when there is none left, the lowest of a unit that is gone. `None` when all are in use.
    pub fn assign(&mut self, names: &[&str], room: u32) -> Vec<Option<u32>> {
        let mut free: Vec<u32> = {
            let taken: BTreeSet<u32> = self.0.values().copied().collect();
            (0..room).filter(|index| !taken.contains(index)).rev().collect()
        };
        let new: Vec<&&str> = names.iter().filter(|name| !self.0.contains_key(**name)).collect();
        if new.len() > free.len() {
            let present: BTreeSet<&str> = names.iter().copied().collect();
            let mut gone: Vec<u32> = self.0.iter().filter(|(name, _)| !present.contains(name.as_str())).map(|(_, index)| *index).collect();
            gone.sort_unstable_by(|a, b| b.cmp(a));
            free.splice(0..0, gone);
        }
        let given: Vec<(&&str, u32)> = new.into_iter().zip(free.into_iter().rev()).collect();
        let again: BTreeSet<u32> = given.iter().map(|(_, index)| *index).collect();
        self.0.retain(|_, taken| !again.contains(taken));
        self.0.extend(given.into_iter().map(|(name, index)| ((*name).to_owned(), index)));
        names.iter().map(|name| self.0.get(*name).copied()).collect()
    }

    /// Whole or not at all.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text: String = self.0.iter().map(|(name, index)| format!("{name} {index}\n")).collect();
        let part = path.with_extension("part");
        let mut file = File::create(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_which() {
        for (file, names, room, expected) in [
            ("", &["a", "b", "c"][..], 10, &[Some(0), Some(1), Some(2)][..]),
            // A new unit in front moves nobody.
            ("b 0\nc 1\n", &["a", "b", "c"], 10, &[Some(2), Some(0), Some(1)]),
            // What one that is gone had stays free for its return, as long as there is another.
            ("gone 0\nb 1\n", &["a", "b"], 3, &[Some(2), Some(1)]),
            ("gone 0\nb 1\n", &["a", "b"], 2, &[Some(0), Some(1)]),
            ("gone 1\nold 0\nb 2\n", &["a", "b", "c", "d"], 4, &[Some(3), Some(2), Some(0), Some(1)]),
            ("", &["a", "b", "c"], 2, &[Some(0), Some(1), None]),
            // Garbage, a slot twice, a name twice, too big a number, half a line.
            ("\0\u{fffd}\n\nb\nb x\nb -1\n b 2\nb 99\nb 4 4\nb 5\nc 5\nb 6\nd", &["b", "c"], 10, &[Some(5), Some(0)]),
        ] {
            assert_eq!(Assignment::parse(file, room).assign(names, room), expected, "{file:?}");
        }
    }

    #[test]
    fn it_is_the_same_when_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("slots");
        let mut first = Assignment::read(&path, 100);
        assert_eq!(first, Assignment::default());
        first.assign(&["web", "db@1", "a.b"], 100);
        first.write(&path).unwrap();
        let mut again = Assignment::read(&path, 100);
        assert_eq!(again.assign(&["db@1", "new", "web"], 100), [Some(1), Some(3), Some(0)]);
    }
}
