//! The one place that waits for children. Mains, probes, compilers and the log writer are expected by somebody; everyone
//! else is an orphan that came to us as PID 1 or subreaper, and is reaped in passing.
//!
//! Two things wake it: SIGCHLD (any child; signals coalesce, so it looks until nobody dead is left) and the pidfd of a main.
//! Neither can steal a status from the other: both end in [`Children::collect`], which gives the status to who expects it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::sync::oneshot;

use crate::sys::wait::{self, Death};
use crate::sys::watch::watch;

/// Dead children looked at in one turn of the loop; the rest waits for the next turn, so that a fork bomb's corpses cannot hold it up.
const REAPS_PER_TURN: usize = 256;

#[derive(Debug, Default, Clone)]
pub struct Children {
    expected: Rc<RefCell<HashMap<i32, Vec<oneshot::Sender<Ending>>>>>,
}

impl Children {
    /// Must be called in the turn that made the child: before that turn ends nobody reaps. One child may be expected more than once.
    pub fn register(&self, pid: i32) -> Expected {
        let (sender, receiver) = oneshot::channel();
        self.expected.borrow_mut().entry(pid).or_default().push(sender);
        Expected { pid, children: self.clone(), receiver, ending: None }
    }

    /// Reaps who is dead. True if there may be more.
    pub fn reap(&self) -> bool {
        for _ in 0..REAPS_PER_TURN {
            match wait::peek() {
                Ok(Some(pid)) => self.collect(pid),
                Ok(None) => return false,
                Err(error) => {
                    tracing::error!(%error, "waitid");
                    return false;
                }
            }
        }
        true
    }

    fn collect(&self, pid: i32) {
        let executed = self.expected.borrow().contains_key(&pid) && has_executed(pid);
        let Ok(Some(death)) = wait::collect(pid) else { return };
        // An orphan has no entry; an expectation may have been dropped. Both are fine: the corpse is gone either way.
        for expected in self.expected.borrow_mut().remove(&pid).into_iter().flatten() {
            expected.send(Ending { death, executed }).ok();
        }
    }
}

/// What is left of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ending {
    death: Death,
    executed: bool,
}

/// PF_FORKNOEXEC in linux/sched.h.
const NOT_EXECUTED: u64 = 0x40;

/// Whether a process has executed a program since it was cloned; proc_pid_stat(5). The kernel keeps this until the corpse is
/// collected. What cannot be read is believed to have.
fn has_executed(pid: i32) -> bool {
    executed(pid).unwrap_or(true)
}

/// The same, where it can be told.
pub fn executed(pid: i32) -> Option<bool> {
    let mut line = [0; 1024];
    let length = std::fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut line)).unwrap_or(0);
    let text = String::from_utf8_lossy(line.get(..length).unwrap_or_default());
    // The name may hold anything; after it come state, ppid, pgrp, session, tty_nr, tpgid and flags.
    let flags: u64 = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse().ok())?;
    Some(flags & NOT_EXECUTED == 0)
}

pub fn is_dead(pidfd: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|ended| ended > 0)
}

/// One child whose death matters to somebody.
#[derive(Debug)]
pub struct Expected {
    pub pid: i32,
    children: Children,
    receiver: oneshot::Receiver<Ending>,
    ending: Option<Ending>,
}

impl Expected {
    /// Ends when the child is dead and reaped. Woken by its pidfd where there is one, else by SIGCHLD.
    /// `None`: it is dead, but was never our child (a main process that a service named with MAINPID=).
    pub async fn death(&mut self, pidfd: Option<BorrowedFd<'_>>) -> Option<Death> {
        if let Some(ending) = self.ending() {
            return Some(ending.death);
        }
        let watch = pidfd.and_then(|fd| watch(fd, Interest::READABLE).ok());
        let readable = async {
            match &watch {
                Some(watch) => drop(watch.readable().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ending = &mut self.receiver => self.ending = ending.ok(),
            () = readable => {
                self.children.collect(self.pid);
                // Whoever traces our child has its status first; when he has let go, SIGCHLD tells.
                if self.ending().is_none() && wait::is_child(self.pid) {
                    self.ending = (&mut self.receiver).await.ok();
                }
            }
        }
        self.ending().map(|ending| ending.death)
    }

    /// Its clone has closed everything: because it executed a program, or because it died before?
    pub fn has_executed(&mut self) -> bool {
        self.ending().map_or_else(|| has_executed(self.pid), |ending| ending.executed)
    }

    fn ending(&mut self) -> Option<Ending> {
        self.ending = self.ending.or_else(|| self.receiver.try_recv().ok());
        self.ending
    }

    /// SIGKILL, to it and whoever is in a process group that it leads. A pid that is expected is not reaped yet, so it cannot have
    /// been given to anybody else.
    pub fn kill(&self) {
        if self.children.expected.borrow().contains_key(&self.pid) {
            kill(Pid::from_raw(-self.pid), Signal::SIGKILL).ok();
            kill(Pid::from_raw(self.pid), Signal::SIGKILL).ok();
        }
    }
}

impl Drop for Expected {
    /// Nobody waits any more: when it dies it is reaped like an orphan.
    fn drop(&mut self) {
        self.receiver.close();
        let mut expected = self.children.expected.borrow_mut();
        if let Entry::Occupied(mut waiting) = expected.entry(self.pid) {
            waiting.get_mut().retain(|sender| !sender.is_closed());
            if waiting.get().is_empty() {
                waiting.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout};

    use super::*;
    use crate::sys::process::{Clone3, clone3};

    #[test]
    fn a_child_may_be_expected_twice() {
        let children = Children::default();
        let pid = i32::try_from(std::process::Command::new("true").spawn().unwrap().id()).unwrap();
        let (mut first, mut second) = (children.register(pid), children.register(pid));
        drop(children.register(pid));
        assert_eq!(first.ending(), None);
        while first.ending().is_none() {
            children.collect(pid);
        }
        let ending = Some(Ending { death: Death::Status(0), executed: true });
        assert_eq!((first.ending(), second.ending()), (ending, ending));
        assert!(children.expected.borrow().is_empty());
    }
    #[test]
    fn a_clone_that_dies_before_it_executes_is_known_by_that() {
        let children = Children::default();
        let request = Clone3 { exit_signal: libc::SIGCHLD, ..Clone3::default() };
        let (pid, pidfd) = clone3(request, || 0).unwrap();
        let mut clone = children.register(pid);
        nix::poll::poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
        assert!(!clone.has_executed());
        children.collect(pid);
        assert!(clone.ending.is_none() && clone.ending().is_some());
        assert!(!clone.has_executed());
    }
}
