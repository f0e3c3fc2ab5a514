//! Signals to a cell: `Action::Signal`, performed.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;

use super::cgroup::read_file;
use super::member::Alive;
use crate::supervisor::Whom;
use crate::sys::process::{pidfd_open, pidfd_send_signal};

/// Processes of a cell that are held by descriptors at once.
const HELD: usize = 512;

/// Sends `signal`. `init`: the main process is PID 1 of its own namespace.
pub fn signal(alive: &mut Alive, signal: i32, whom: Whom, init: bool) {
    match whom {
        Whom::Main => {
            // The kernel drops a signal that the init of a namespace has no handler for (pid_namespaces(7)); a program that was
            // not written to be an init would sit out its whole stop timeout. Outside of a cell the signal would have killed it.
            let deaf = init && signal != libc::SIGKILL && is_default(alive.pid, signal);
            let signal = if deaf { libc::SIGKILL } else { signal };
            // ESRCH: it is gone already, and its death is on its way here.
            pidfd_send_signal(alive.pidfd.as_fd(), signal).ok();
            alive.sent = Some(signal);
        }
        Whom::Cell => {
            self::signal(alive, signal, Whom::Main, init);
            let others: Vec<i32> = alive.cgroup.pids().into_iter().filter(|pid| *pid != alive.pid).collect();
            for some in others.chunks(HELD) {
                // Held by descriptors and looked up once more, so that a number that was given to somebody else is not hit.
                let held: Vec<_> = some.iter().filter_map(|pid| Some((*pid, pidfd_open(*pid).ok()?))).collect();
                let members: HashSet<i32> = alive.cgroup.pids().into_iter().collect();
                for (_, pidfd) in held.iter().filter(|(pid, _)| members.contains(pid)) {
                    pidfd_send_signal(pidfd.as_fd(), signal).ok();
                }
            }
        }
    }
}

/// The signal is neither caught, nor ignored, nor blocked (for sigwait or a signalfd): its default action is what happens.
fn is_default(pid: i32, signal: i32) -> bool {
    let status = read_file(Path::new(&format!("/proc/{pid}/status"))).unwrap_or_default();
    status.contains("SigCgt:") && !masks(&status).any(|mask| mask >> (signal - 1) & 1 == 1)
}

fn masks(status: &str) -> impl Iterator<Item = u64> + '_ {
    let lines = status.lines().filter_map(|line| line.split_once(":\t"));
    let wanted = lines.filter(|(name, _)| matches!(*name, "SigBlk" | "SigIgn" | "SigCgt"));
    wanted.filter_map(|(_, mask)| u64::from_str_radix(mask.trim(), 16).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_a_status_file() {
        let status = "Name:\tsh\nSigQ:\t0/63432\nSigPnd:\t0000000000004000\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000000006\nSigCgt:\t0000000000010000\n";
        assert_eq!(masks(status).collect::<Vec<_>>(), [1, 6, 0x10000]);
    }
}
