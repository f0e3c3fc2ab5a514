//! Who may speak for a cell, and which of its processes is its main one.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::cgroup::read_file;
use super::children::Children;
use super::follow::Main;
use super::member::Alive;
use super::notify::Sender;
use crate::plan::IdMap;
use crate::sys::process::pidfd_open;

/// The sender is a process of the cell. An id of the cell's own range proves it even when the process is gone by now
/// (systemd-notify is); without such a range it must still be there to be found in the cgroup.
pub fn belongs(sender: Sender, map: Option<IdMap>, alive: &Alive) -> bool {
    let in_range = map.is_some_and(|map| sender.uid >= map.base && sender.uid - map.base < map.size);
    // Mostly it is the main process, for which not every other one needs to be listed.
    in_range || sender.pid == alive.pid || alive.cgroup.pids().contains(&sender.pid)
}

/// Another main process on its way to the task that follows the run. Only the last one counts.
#[derive(Debug, Default, Clone)]
pub struct Successor(Rc<(RefCell<Option<Main>>, Notify)>);

impl Successor {
    fn name(&self, main: Main) {
        self.0.0.replace(Some(main));
        self.0.1.notify_one();
    }

    pub async fn named(&self) -> Main {
        loop {
            if let Some(main) = self.0.0.take() {
                return main;
            }
            self.0.1.notified().await;
        }
    }
}

/// Changes of the main process that are looked at in one [`PERIOD`]: each look reads about every process of the cell.
const CHANGES: u32 = 4;
const PERIOD: Duration = Duration::from_secs(1);
/// Processes of the cell that are asked for their numbers in one look.
const PROCESSES: usize = 1024;

/// What a service has said of its main process.
#[derive(Debug, Default)]
pub struct Named {
    /// The last that was followed, as the cell counts.
    last: Option<i32>,
    /// When the period began, and the looks since then.
    looks: Option<(Instant, u32)>,
}

impl Named {
    /// False when there have been enough of them.
    fn may_look(&mut self, now: Instant) -> bool {
        match &mut self.looks {
            Some((since, count)) if now < *since + PERIOD => {
                *count = count.saturating_add(1);
                *count <= CHANGES
            }
            looks => {
                *looks = Some((now, 1));
                true
            }
        }
    }
}

/// Follows another main process. `named` is what the service called it, in its own pid namespace. `None`: not looked at, because
/// that is what is followed already or was asked too often.
pub fn switch(alive: &mut Alive, named: i32, children: &Children) -> Option<Result<(), &'static str>> {
    if alive.named.last == Some(named) || !alive.named.may_look(Instant::now()) {
        return None;
    }
    let followed = follow(alive, named, children);
    if followed.is_ok() {
        alive.named.last = Some(named);
    }
    Some(followed)
}

fn follow(alive: &mut Alive, named: i32, children: &Children) -> Result<(), &'static str> {
    let pid = alive
        .cgroup
        .pids()
        .into_iter()
        .take(PROCESSES)
        .find(|pid| inner_pid(*pid) == Some(named))
        .ok_or("none of the cell's first processes has that number")?;
    if pid == alive.pid {
        return Ok(());
    }
    let pidfd = pidfd_open(pid).map_err(|_| "it is gone")?;
    // The number was read before the descriptor was made: it must still be the same process.
    if !alive.cgroup.pids().contains(&pid) {
        return Err("it is gone");
    }
    let pidfd = Rc::new(pidfd);
    let main = Main { expected: children.register(pid), pidfd: Rc::clone(&pidfd) };
    alive.successor.name(main);
    alive.pid = pid;
    alive.pidfd = pidfd;
    Ok(())
}

/// The number that a process has in the innermost pid namespace; proc_pid_status(5).
fn inner_pid(pid: i32) -> Option<i32> {
    let status = read_file(Path::new(&format!("/proc/{pid}/status"))).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_rationed() {
        let (mut named, now) = (Named::default(), Instant::now());
        let looks = |named: &mut Named, now| (0..100).filter(|_| named.may_look(now)).count();
        assert_eq!(looks(&mut named, now), 4);
        assert_eq!(looks(&mut named, now + PERIOD / 2), 0);
        assert_eq!(looks(&mut named, now + PERIOD), 4);
    }
}
