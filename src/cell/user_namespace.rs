//! User namespaces made ahead: a cell enters one instead of making it, and an idmapped bind is described by one.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cell::Error;
use crate::plan::IdMap;
use crate::sys::process;

/// A user namespace in which the host ids `base .. base + size` are `0 .. size`.
pub fn user_namespace(map: IdMap) -> Result<OwnedFd, Error> {
    let line = format!("0 {} {}\n", map.base, map.size);
    with_maps(&line, &line)
}

/// A short-lived child is born into the namespace and the maps are written from here, where the privilege is. It has no exit
/// signal, so that whoever waits for children in general never sees it.
fn with_maps(uid_map: &str, gid_map: &str) -> Result<OwnedFd, Error> {
    let (pid, pidfd) = process::hold_namespaces(libc::CLONE_NEWUSER)?;
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

/// The user namespaces of a plan's idmapped binds: on each, the owner of the source appears as the unit's user.
pub(super) struct Idmaps {
    uid: u32,
    gid: u32,
    sources: Vec<PathBuf>,
    /// Kept from start to start: (uid, gid) of an owner and the namespace that maps it.
    made: Vec<((u32, u32), OwnedFd)>,
}

impl Idmaps {
    pub fn for_owner(uid: u32, gid: u32) -> Self {
        Idmaps { uid, gid, sources: Vec::new(), made: Vec::new() }
    }

    pub fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    /// The number by which the bind will find its namespace.
    pub fn add(&mut self, source: &Path) -> usize {
        self.sources.push(source.to_owned());
        self.sources.len() - 1
    }

    /// One for each source, whose owners these are.
    pub fn namespaces(&mut self, owners: &[(u32, u32)]) -> Result<Vec<&OwnedFd>, Error> {
        if owners.len() != self.sources.len() {
            return Err(Error::Unwired("the owners of what it binds"));
        }
        for owner in owners {
            if !self.made.iter().any(|(made, _)| made == owner) {
                let uid_map = format!("{} {} 1\n", owner.0, self.uid);
                let gid_map = format!("{} {} 1\n", owner.1, self.gid);
                self.made.push((*owner, with_maps(&uid_map, &gid_map)?));
            }
        }
        let find = |owner: &(u32, u32)| self.made.iter().find(|(made, _)| made == owner).map(|(_, fd)| fd);
        Ok(owners.iter().filter_map(find).collect())
    }
}
