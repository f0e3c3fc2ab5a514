//! The short way to a payload without walls: a clone that shares the supervisor's memory until execve(2).
//!
//! fork(2) copies what the supervisor holds, which grows with the number of units: memory, and descriptors. This way copies
//! neither, but the supervisor stands still meanwhile. So it is only taken where nothing on the way waits for anybody: no step but
//! those that change the process itself, no limit under which the clone could be throttled, the program and the working
//! directory on the root mount and known to the kernel already, the supervisor's own user and file. (A script's interpreter is not looked
//! at.) The kernel spares such a clone when memory runs out; `in_vfork` in mm/oom_kill.c.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::cell::perform::Act;
use crate::plan::{Namespaces, Plan};
use crate::sys::fd::{Within, fstat, openat2, replace};
use crate::sys::process::{Clone3, set_dumpable};
use crate::sys::shared::{Stack, clone3_shared};
use crate::sys::{Error, Result};

/// Descriptors that a clone may be given this way.
const SLOTS: usize = 24;

/// A stack, and low descriptor numbers: the kernel copies descriptors from 0 up to the highest that is wanted.
pub struct Launchpad {
    stack: Stack,
    idle: OwnedFd,
    slots: Vec<OwnedFd>,
    /// Above the highest slot.
    end: RawFd,
}

/// What must be at hand: the first program that is there, and the directory that it starts in.
pub struct Plain {
    programs: Vec<CString>,
    directories: Vec<CString>,
}

impl Launchpad {
    /// To be made early, while low numbers are free.
    pub fn new() -> std::io::Result<Launchpad> {
        let idle: OwnedFd = std::fs::File::open("/dev/null")?.into();
        let slots = (0..SLOTS).map(|_| idle.try_clone()).collect::<std::io::Result<Vec<_>>>()?;
        let end = slots.iter().map(|slot| slot.as_raw_fd()).max().unwrap_or(0).saturating_add(1);
        let stack = Stack::new().map_err(|error| std::io::Error::from_raw_os_error(error.errno))?;
        Ok(Launchpad { stack, idle, slots, end })
    }

    pub(super) fn has_room(&self, descriptors: usize) -> bool {
        descriptors <= self.slots.len()
    }

    /// `child` finds `descriptors` in the slots, in their order.
    pub(super) fn clone3(
        &self,
        request: Clone3<'_>,
        descriptors: &[BorrowedFd<'_>],
        mut child: impl FnMut(&[BorrowedFd<'_>]) -> i32,
    ) -> Result<(i32, OwnedFd)> {
        let slots: Vec<BorrowedFd<'_>> = self.slots.iter().take(descriptors.len()).map(AsFd::as_fd).collect();
        for (slot, fd) in self.slots.iter().zip(descriptors) {
            replace(slot, *fd)?;
        }
        let cloned = clone3_shared(request, &self.stack, self.end, &mut || child(&slots));
        // A change of ids, or the clone's own shield, has made this memory undumpable; prctl(2).
        set_dumpable(true)?;
        // Whoever waits for the end of one of them must not wait for us.
        for (slot, _) in self.slots.iter().zip(descriptors) {
            replace(slot, self.idle.as_fd())?;
        }
        cloned
    }
}

impl Plain {
    /// `None`: this plan does more than change its own process.
    pub fn of(plan: &Plan, acts: &[Act]) -> Option<Plain> {
        let mut plain = Plain { programs: Vec::new(), directories: Vec::new() };
        for act in acts {
            match act {
                Act::Execute(execute) => plain.programs.extend(execute.candidates.iter().cloned()),
                // As anybody else it could be sent a SIGSTOP by its like before it is out of our memory.
                Act::SetIds(who) if who.uid == nix::unistd::geteuid().as_raw() => {}
                // The root is where it is.
                Act::ChangeDirectory(path) if path.as_bytes() == b"/" => {}
                Act::ChangeDirectory(path) => plain.directories.push(path.clone()),
                Act::NewSession
                | Act::ShieldSetup
                | Act::SetRlimit(_)
                | Act::SetUmask(_)
                | Act::LimitCapabilities(_)
                | Act::NoNewPrivileges
                | Act::PlaceDescriptors
                | Act::ResetSignals
                | Act::InstallSeccomp(_) => {}
                _ => return None,
            }
        }
        let unlimited = plan.cgroup.files().is_empty() && plan.born == Namespaces::default();
        unlimited.then_some(plain)
    }

    pub fn is_at_hand(&self) -> bool {
        self.directories.iter().all(|path| look(path).is_ok()) && self.has_program()
    }

    fn has_program(&self) -> bool {
        for program in &self.programs {
            match look(program) {
                // Its owner could hold a lease on it, for which execve(2) waits; fcntl(2), F_SETLEASE.
                Ok(file) => return fstat(file.as_fd()).is_ok_and(|stat| stat.st_uid == nix::unistd::geteuid().as_raw()),
                Err(error) if error.is(libc::ENOENT) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

fn look(path: &CStr) -> Result<OwnedFd> {
    if !path.to_bytes().starts_with(b"/") {
        return Err(Error::new("openat2", libc::EXDEV));
    }
    openat2(Within::HereAtOnce, path, libc::O_PATH)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::sys::process::waitid;

    #[test]
    fn a_clone_on_the_pad_shares_memory_and_not_descriptors() {
        let pad = Launchpad::new().unwrap();
        let request = Clone3 { exit_signal: libc::SIGCHLD, ..Clone3::default() };
        let (read, write) = nix::unistd::pipe().unwrap();
        let beyond = std::fs::File::open("/dev/null").unwrap();
        let mut seen = 0;
        let (_, pidfd) = pad
            .clone3(request, &[write.as_fd()], |slots| {
                seen = slots.len();
                // What is not on the pad is not there; what is closed here stays open there.
                let lost = nix::sys::stat::fstat(&beyond) == Err(nix::errno::Errno::EBADF);
                nix::unistd::write(slots[0], if lost { b"lost" } else { b"kept" }).unwrap();
                0
            })
            .unwrap();
        assert_eq!(waitid(pidfd.as_fd()).unwrap(), crate::sys::process::Ended::Status(0));
        assert_eq!(seen, 1);
        assert!(beyond.metadata().is_ok());
        drop(write);
        let mut said = String::new();
        std::fs::File::from(read).read_to_string(&mut said).unwrap();
        assert_eq!(said, if beyond.as_raw_fd() >= pad.end { "lost" } else { "kept" });
    }

    #[test]
    fn whoever_could_be_held_up_takes_the_long_way() {
        let places = crate::cell::facts::Places {
            run_dir: "/run/x".into(),
            state_dir: "/run/x/state".into(),
            cache_dir: "/run/x/cache".into(),
            log_dir: "/run/x/log".into(),
            slice: "x.slice".into(),
        };
        let is_plain = |more: &str| {
            let text = format!("[service]\nexec = [\"/bin/true\"]\n[isolation]\nprofile = \"none\"\n{more}");
            let unit = crate::unit::parse("x.toml".as_ref(), &text).unwrap();
            let facts = crate::cell::facts::gather(&places, [&unit]);
            let plan = crate::plan::build(&unit, &facts, &crate::plan::Slot { index: 0 }.into()).unwrap();
            crate::cell::prepare(&plan).unwrap().plain.is_some()
        };
        assert!(is_plain(""));
        assert!(is_plain("[limits]\nnofile = 99\n"));
        for walls in ["[user]\nuser = 12345\n", "[resources.pids]\nmax = 5\n", "uts = \"private\"\n", "[oom]\nscore = 1\n"] {
            assert!(!is_plain(walls), "{walls}");
        }
    }

    #[test]
    fn a_program_of_somebody_else_is_not_at_hand() {
        let directory = tempfile::tempdir_in("/").unwrap();
        let program = directory.path().join("program");
        std::fs::write(&program, "").unwrap();
        let path = CString::new(program.to_str().unwrap()).unwrap();
        let plain = Plain { programs: vec![path], directories: Vec::new() };
        assert!(plain.is_at_hand());
        std::os::unix::fs::chown(&program, Some(12345), None).unwrap();
        assert!(!plain.is_at_hand());
    }

    #[test]
    fn only_what_is_at_hand_is_near() {
        std::fs::metadata("/bin/sh").unwrap();
        assert!(look(c"/bin/sh").is_ok());
        assert!(look(c"/proc/self/status").is_err());
        assert_eq!(look(c"relative").map(drop).map_err(|e| e.errno), Err(libc::EXDEV));
        assert!(look(c"/no/such").is_err());
    }
}
