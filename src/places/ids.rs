//! Which part of the pool of id ranges is whose. Two cells with the same ids could signal, trace and read one another, so a
//! part is claimed with a lock, which the kernel takes back when its holder ends, however it ends.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::plan::SLOTS;

/// Where every supervisor of a host finds the locks.
pub const IDS_DIR: &str = "/run/cellinit-ids";
/// Units of one supervisor that have id ranges of their own.
pub const SLOTS_EACH: u32 = 4096;
/// Parts of that size: the first is the system's, the last is for units in the foreground, those between are for any other
/// supervisor.
const SHARES: u32 = SLOTS / SLOTS_EACH;
const OTHERS: u32 = SHARES - 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The lock of the system's run directory stands for it.
    System,
    /// The share that it would like, so that it is mostly the same one: any number.
    Other(u32),
    /// One slot.
    Foreground,
}

/// Slots `first .. first + room` are the holder's for as long as this lives.
#[derive(Debug)]
pub struct Claim {
    pub first: u32,
    pub room: u32,
    _lock: Option<Flock<File>>,
}

impl Pool {
    /// Where it begins when nobody is in the way.
    pub fn first_slot(self) -> u32 {
        match self {
            Pool::System => 0,
            Pool::Other(wish) => (1 + wish % OTHERS) * SLOTS_EACH,
            Pool::Foreground => (SHARES - 1) * SLOTS_EACH,
        }
    }

    /// The first part that nobody holds.
    pub fn claim(self, directory: &Path) -> io::Result<Claim> {
        let (room, parts): (u32, Vec<u32>) = match self {
            Pool::System => return Ok(Claim { first: 0, room: SLOTS_EACH, _lock: None }),
            Pool::Other(wish) => (SLOTS_EACH, (0..OTHERS).map(|n| Pool::Other(wish % OTHERS + n).first_slot()).collect()),
            Pool::Foreground => (1, (self.first_slot()..SHARES * SLOTS_EACH).collect()),
        };
        let named = |error: io::Error| {
            let hint = if error.kind() == ErrorKind::PermissionDenied { "; cells are made by root" } else { "" };
            io::Error::new(error.kind(), format!("{}: {error}{hint}", directory.display()))
        };
        super::make(directory, 0o700).map_err(named)?;
        for first in parts {
            let path = directory.join(first.to_string());
            let file = super::lock_file(&path).map_err(named)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Claim { first, room, _lock: Some(lock) }),
                Err((_, Errno::EWOULDBLOCK)) => {}
                Err((_, errno)) => return Err(named(errno.into())),
            }
        }
        Err(named(io::Error::other("every share of the host's id ranges is taken by another supervisor")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_hold_the_same_ids() {
        let directory = tempfile::tempdir().unwrap();
        let claim = |pool: Pool| pool.claim(directory.path());
        // All of them wish for the same one.
        let held: Vec<Claim> = (0..OTHERS).map(|_| claim(Pool::Other(7 + OTHERS)).unwrap()).collect();
        assert_eq!(held[0].first, Pool::Other(7).first_slot());
        let mut firsts: Vec<u32> = held.iter().map(|claim| claim.first).collect();
        firsts.sort_unstable();
        assert_eq!(firsts, (1..=OTHERS).map(|n| n * SLOTS_EACH).collect::<Vec<_>>());
        assert!(claim(Pool::Other(1)).unwrap_err().to_string().contains("taken"));
        let (one, two) = (claim(Pool::Foreground).unwrap(), claim(Pool::Foreground).unwrap());
        assert_eq!((one.first + 1, one.room), (two.first, 1));
        assert!(one.first > *firsts.last().unwrap() && one.first < SLOTS);
        assert_eq!(claim(Pool::System).unwrap().first, 0);
        // What its holder lets go of is free at once.
        drop(held);
        assert_eq!(claim(Pool::Other(7)).unwrap().first, Pool::Other(7).first_slot());
    }
}
