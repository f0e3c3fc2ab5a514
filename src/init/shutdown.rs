//! The end: what was asked for, and for the init of a machine how the machine is left.

use std::path::Path;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};

use super::children::Children;

/// What is left after the ordered stop (orphans outside of cells) gets two seconds between SIGTERM and SIGKILL.
const LAST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOKS: usize = 40;
/// Rounds over the mount table: a mount below another one goes in a later round.
const UMOUNT_ROUNDS: usize = 8;

/// What follows the ordered stop of every unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// An ordinary supervisor, or PID 1 of a namespace: the process ends.
    Exit,
    PowerOff,
    Reboot,
    Halt,
}

/// For the init of a machine, after every unit has stopped. Comes back only if the kernel refuses.
pub async fn leave(goal: Goal, children: &Children) -> nix::Result<()> {
    let mode = match goal {
        Goal::Exit | Goal::PowerOff => RebootMode::RB_POWER_OFF,
        Goal::Reboot => RebootMode::RB_AUTOBOOT,
        Goal::Halt => RebootMode::RB_HALT_SYSTEM,
    };
    // Written before anything can go wrong below, and once more when nobody writes any longer.
    sync();
    kill_the_rest(children).await;
    unmount();
    sync();
    reboot(mode).map(drop)
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

/// No process but PID 1 and kernel threads, which have no command line.
fn only_us() -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return true };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    !pids.filter(|pid| *pid != 1).any(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()))
}

/// Every mount that lets itself be unmounted, the latest first; what is busy is made read-only, the root last.
fn unmount() {
    for _ in 0..UMOUNT_ROUNDS {
        let Ok(table) = std::fs::read_to_string("/proc/self/mounts") else { break };
        let kept = ["/", "/proc", "/sys", "/dev"];
        let points = table.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|point| !kept.contains(point));
        let mut progress = false;
        for point in points {
            let point = unescape(point);
            progress |= umount2(Path::new(&point), MntFlags::UMOUNT_NOFOLLOW).is_ok();
        }
        if !progress {
            break;
        }
    }
    let Ok(table) = std::fs::read_to_string("/proc/self/mounts") else { return };
    for point in table.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, Path::new(&unescape(point)), None::<&str>, flags, None::<&str>).ok();
    }
}

/// The octal escapes of /proc/self/mounts: space, tab, newline, backslash.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
