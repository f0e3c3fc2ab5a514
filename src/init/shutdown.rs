//! The end: what was asked for, and for the init of a machine how the machine is left.
//!
//! Whatever is broken, the end is reached: what may wait for ever is left to children (`patience`), and reboot(2) comes after
//! their time, however they fared.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::children::Children;
use super::patience::{self, Outcome};

/// What is left after the ordered stop (orphans outside of cells) gets two seconds between SIGTERM and SIGKILL.
const LAST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOKS: usize = 40;
/// Rounds over the mount table: a mount below another one may go in a later round.
const UMOUNT_ROUNDS: usize = 8;
/// What the kernel makes up, and we still need.
const KEPT: [&str; 4] = ["/", "/proc", "/sys", "/dev"];
/// linux/sched.h: a thread of the kernel. Its flags are in /proc/PID/stat.
const PF_KTHREAD: u64 = 0x0020_0000;

/// What follows the ordered stop of every unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// An ordinary supervisor, or PID 1 of a namespace: the process ends.
    Exit,
    PowerOff,
    Reboot,
    Halt,
}

impl Goal {
    /// For reboot(2).
    pub fn mode(self) -> RebootMode {
        match self {
            Goal::Exit | Goal::PowerOff => RebootMode::RB_POWER_OFF,
            Goal::Reboot => RebootMode::RB_AUTOBOOT,
            Goal::Halt => RebootMode::RB_HALT_SYSTEM,
        }
    }
}

/// For the init of a machine, after every unit has stopped. Comes back only if the kernel refuses.
pub async fn leave(goal: Goal, children: &Children) -> nix::Result<()> {
    // Written before anything can go wrong below, and once more when nobody writes any longer.
    sync();
    kill_the_rest(children).await;
    unmount();
    sync();
    reboot(goal.mode()).map(drop)
}

fn sync() {
    if patience::sync() == Outcome::Stuck {
        tracing::error!("sync(2) makes no progress; what is unwritten is lost");
    }
}

async fn kill_the_rest(children: &Children) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // -1 is everybody but ourselves; kernel threads do not mind.
        kill(Pid::from_raw(-1), signal).ok();
        for _ in 0..LAST_LOOKS {
            while children.reap() {}
            if only_us() {
                return;
            }
            tokio::time::sleep(LAST_LOOK).await;
        }
    }
}

/// No process but PID 1, kernel threads and corpses. Nothing else of a process is looked at: to read its command line waits
/// for its memory, which somebody who is stuck may hold.
fn only_us() -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return true };
    let mut pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    !pids.any(|pid| pid != 1 && std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_somebody(&stat)))
}

/// proc_pid_stat(5). The name, in parentheses, may hold anything.
fn is_somebody(stat: &str) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let mut words = rest.split(' ');
    let corpse = matches!(words.next(), Some("Z" | "X"));
    let kernel = words.nth(5).and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & PF_KTHREAD != 0);
    !corpse && !kernel
}

/// Every mount that lets itself be unmounted, the latest first; what is busy is made read-only. What is stuck (a server or a
/// disk that does not answer) hinders no other mount; at the end its requests are aborted, so that the last sync(2) ends.
fn unmount() {
    let mut stuck = BTreeSet::new();
    for _ in 0..UMOUNT_ROUNDS {
        let points = points(|point| !KEPT.contains(&point) && !stuck.contains(point));
        let plain = |point: &String| umount2(Path::new(point), MntFlags::UMOUNT_NOFOLLOW).is_ok();
        if !on_each(points, &mut stuck, plain).contains(&Outcome::Done) {
            break;
        }
    }
    let read_only = |point: &String| {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, Path::new(point), None::<&str>, flags, None::<&str>).is_ok()
    };
    on_each(points(|point| !stuck.contains(point)), &mut stuck, read_only);
    let dead: Vec<String> = stuck.iter().filter(|point| !KEPT.contains(&point.as_str())).cloned().collect();
    let forced = MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_FORCE | MntFlags::MNT_DETACH;
    on_each(dead, &mut stuck, |point| umount2(Path::new(point), forced).is_ok());
    if !stuck.is_empty() {
        tracing::error!(mounts = ?stuck, "these did not answer");
    }
}

/// Notes who is stuck.
fn on_each(points: Vec<String>, stuck: &mut BTreeSet<String>, work: impl Fn(&String) -> bool) -> Vec<Outcome> {
    let outcomes = patience::each(&points, work);
    let pairs = points.into_iter().zip(&outcomes);
    stuck.extend(pairs.filter(|(_, outcome)| **outcome == Outcome::Stuck).map(|(point, _)| point));
    outcomes
}

/// Mount points, the latest first.
fn points(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table.lines().rev().filter_map(|line| line.split(' ').nth(1)).map(unescape);
    points.filter(|point| wanted(point)).collect()
}

/// The octal escapes of /proc/self/mounts: space, tab, newline, backslash.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody() {
        for (stat, expected) in [
            ("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0", false),
            ("7 (a) b) S 1 7 7 0 -1 4194560 0 0", true),
            ("8 (sh) Z 1 7 7 0 -1 4194560 0 0", false),
            ("9 (sh) D 1 7 7 0 -1 4194560 0 0", true),
            ("", false),
        ] {
            assert_eq!(is_somebody(stat), expected, "{stat}");
        }
    }
}
