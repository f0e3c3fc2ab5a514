//! User namespaces made ahead: a cell enters one instead of making it, and an idmapped bind is described by one.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cell::Error;
use crate::plan::IdMap;
use crate::sys::{namespace, process};

/// A user namespace in which the host ids `base .. base + size` are `0 .. size`.
pub fn user_namespace(map: IdMap) -> Result<OwnedFd, Error> {
    let line = format!("0 {} {}\n", map.base, map.size);
    let owned = namespace::hold_user_namespace(map.base).map_err(Error::from).and_then(|held| with_maps(held, &line, &line));
    // Who may not look into a process of another user makes one of his own.
    owned.or_else(|error| {
        tracing::warn!(%error, "a cell's user namespace is the supervisor's: what the kernel counts for each user, they share");
        with_maps(process::hold_namespaces(libc::CLONE_NEWUSER)?, &line, &line)
    })
}

/// A short-lived child is in the namespace and the maps are written from here, where the privilege is. It has no exit
/// signal, so that whoever waits for children in general never sees it.
fn with_maps((pid, pidfd): (i32, OwnedFd), uid_map: &str, gid_map: &str) -> Result<OwnedFd, Error> {
    let namespace = write_maps(pid, uid_map, gid_map);
    process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)?;
    process::waitid(pidfd.as_fd())?;
    namespace
}

fn write_maps(pid: i32, uid_map: &str, gid_map: &str) -> Result<OwnedFd, Error> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let write = |name: &str, map: &str| {
        let path = proc.join(name);
        fs::write(&path, map).map_err(|error| Error::File(path, error))
    };
    write("uid_map", uid_map)?;
    write("gid_map", gid_map)?;
    let path = proc.join("ns/user");
    File::open(&path).map(OwnedFd::from).map_err(|error| Error::File(path, error))
}

/// Whose this is. What is missing is anybody's: the bind itself will say what is wrong. It waits for as long as the file's server does.
pub fn owner(source: &Path) -> (u32, u32) {
    fs::metadata(source).map_or((0, 0), |meta| (meta.uid(), meta.gid()))
}

/// Who appears on an idmapped mount.
#[derive(Clone, Copy)]
pub(super) enum Mapped {
    /// The owner of the source as the unit's user, and nobody else.
    Owner,
    /// Everyone whom the cell has an id for.
    Tree,
}

/// The user namespaces of a plan's idmapped mounts: on each, the owner of the source appears as the unit's user.
pub(super) struct Idmaps {
    /// The unit's user and group as the host knows them, and the ids of the cell.
    payload: (u32, u32),
    cell: IdMap,
    sources: Vec<(PathBuf, Mapped)>,
    /// Kept from start to start, with what is written in the maps of uids and gids.
    made: Vec<((String, String), OwnedFd)>,
}

impl Idmaps {
    pub fn for_payload(payload: (u32, u32), cell: Option<IdMap>) -> Self {
        Idmaps { payload, cell: cell.unwrap_or(IdMap { base: 0, size: 0 }), sources: Vec::new(), made: Vec::new() }
    }

    pub fn sources(&self) -> impl Iterator<Item = &PathBuf> {
        self.sources.iter().map(|(path, _)| path)
    }

    /// The number by which the mount will find its namespace.
    pub fn add(&mut self, source: &Path, mapped: Mapped) -> usize {
        self.sources.push((source.to_owned(), mapped));
        self.sources.len() - 1
    }

    /// One for each source, whose owners these are.
    pub fn namespaces(&mut self, owners: &[(u32, u32)]) -> Result<Vec<&OwnedFd>, Error> {
        if owners.len() != self.sources.len() {
            return Err(Error::Unwired("the owners of what it binds"));
        }
        let (uid, gid) = self.payload;
        let maps = self.sources.iter().zip(owners).map(|((_, mapped), owner)| match mapped {
            Mapped::Owner => (format!("{} {uid} 1\n", owner.0), format!("{} {gid} 1\n", owner.1)),
            Mapped::Tree => (tree_map(owner.0, uid, self.cell), tree_map(owner.1, gid, self.cell)),
        });
        let maps: Vec<(String, String)> = maps.collect();
        for map in &maps {
            if !self.made.iter().any(|(made, _)| made == map) {
                let held = process::hold_namespaces(libc::CLONE_NEWUSER)?;
                self.made.push((map.clone(), with_maps(held, &map.0, &map.1)?));
            }
        }
        let find = |map: &(String, String)| self.made.iter().find(|(made, _)| made == map).map(|(_, fd)| fd);
        Ok(maps.iter().filter_map(find).collect())
    }
}

/// Ids on the disk are those of the cell, but that the owner of the tree and the user (as the host knows it) change places. A
/// tree that was given to the cell has been moved into its range already.
fn tree_map(owner: u32, user: u32, cell: IdMap) -> String {
    let disk = if (cell.base..cell.base + cell.size).contains(&owner) { cell.base } else { 0 };
    let on_disk = |host: u32| host - cell.base + disk;
    let mut lines = format!("{owner} {user} 1\n");
    let end = disk + cell.size;
    let mut apart = [owner, on_disk(user)];
    if (disk..end).contains(&owner) && owner != on_disk(user) {
        lines += &format!("{} {} 1\n", on_disk(user), owner - disk + cell.base);
    }
    apart.sort_unstable();
    let mut next = disk;
    for id in apart.into_iter().filter(|id| (disk..end).contains(id)).chain([end]) {
        if id > next {
            lines += &format!("{next} {} {}\n", next - disk + cell.base, id - next);
        }
        next = next.max(id + 1);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_tree_and_the_user_change_places() {
        let check = |owner: u32, user: u32, expected: &str| {
            assert_eq!(tree_map(owner, 1000 + user, IdMap { base: 1000, size: 100 }), expected, "{owner} {user}");
        };
        check(0, 0, "0 1000 1\n1 1001 99\n");
        check(0, 61, "0 1061 1\n61 1000 1\n1 1001 60\n62 1062 38\n");
        check(5, 4, "5 1004 1\n4 1005 1\n0 1000 4\n6 1006 94\n");
        // No id of the cell's: it takes the user's place.
        check(500, 99, "500 1099 1\n0 1000 99\n");
        // Moved already.
        check(1000, 61, "1000 1061 1\n1061 1000 1\n1001 1001 60\n1062 1062 38\n");
        check(1061, 61, "1061 1061 1\n1000 1000 61\n1062 1062 38\n");
    }
}
