//! What signals ask of a supervisor, and of PID 1. All of them are blocked and read from a signalfd, so that none can
//! interrupt or kill it; those without a meaning here are read and forgotten.

use std::io;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::shutdown::Goal;
use crate::sys::watch::watch;

/// Signals that the hardware raises at the instruction that failed: blocked, they would kill without a word.
const FAULTS: [Signal; 6] = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGTRAP];

/// Signals read per wake-up; more wait in the kernel.
const SIGNALS_PER_TURN: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGCHLD: somebody died.
    Reap,
    /// Stop every unit in order, then do this.
    Stop(Goal),
}

/// `ctrlaltdel=poweroff` on a kernel's command line; what the kernel does not know it hands to its init as environment.
const CTRL_ALT_DEL: &str = "ctrlaltdel";

/// What a signal asks of the init of a machine, whether it supervises or is in its rescue: the one place that says so.
///
/// The real-time signals are systemd's; SIGUSR1, SIGUSR2 and SIGTERM are what busybox's `halt`, `poweroff` and `reboot` send.
/// docs/control.md has the table.
pub fn goal_of_machine(signal: i32) -> Option<Goal> {
    const HALT: i32 = 3;
    const POWER_OFF: i32 = 4;
    const REBOOT: i32 = 5;
    match signal {
        // Ctrl-alt-del: the only key that a virtual machine can be sent from outside without a driver in it.
        libc::SIGINT if std::env::var_os(CTRL_ALT_DEL).is_some_and(|goal| goal == "poweroff") => Some(Goal::PowerOff),
        libc::SIGINT | libc::SIGTERM => Some(Goal::Reboot),
        // The first is a power supply that fails.
        libc::SIGPWR | libc::SIGUSR2 => Some(Goal::PowerOff),
        libc::SIGUSR1 => Some(Goal::Halt),
        _ => match signal - libc::SIGRTMIN() {
            HALT => Some(Goal::Halt),
            POWER_OFF => Some(Goal::PowerOff),
            REBOOT => Some(Goal::Reboot),
            _ => None,
        },
    }
}

/// A plain supervisor knows one end only: to exit.
fn meaning(signal: i32, pid1: bool) -> Option<Asked> {
    match signal {
        libc::SIGCHLD => Some(Asked::Reap),
        _ if pid1 => goal_of_machine(signal).map(Asked::Stop),
        libc::SIGTERM | libc::SIGINT | libc::SIGHUP => Some(Asked::Stop(Goal::Exit)),
        _ => None,
    }
}

pub struct Signals {
    source: AsyncFd<SignalFd>,
    pid1: bool,
    /// The signal that first asked for an end.
    pub end: Option<i32>,
}

impl Signals {
    /// Blocks every signal but the faults; from here on nothing but SIGKILL, SIGSTOP and a fault can interrupt us.
    /// `pid1`: this is the init of a machine, not of a terminal's foreground job.
    pub fn take(pid1: bool) -> io::Result<Self> {
        let mut mask = SigSet::all();
        for fault in FAULTS {
            mask.remove(fault);
        }
        mask.thread_set_mask()?;
        // Orphans of the cells come to us, not to whoever started us; prctl(2). PID 1 gets them anyway.
        prctl::set_child_subreaper(true)?;
        let source = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { source: watch(source, Interest::READABLE)?, pid1, end: None })
    }

    /// Waits for signals; gives those that mean something, at most [`SIGNALS_PER_TURN`] looked at.
    pub async fn next(&mut self) -> Vec<Asked> {
        let mut asked = Vec::new();
        while asked.is_empty() {
            let Ok(mut ready) = self.source.readable_mut().await else { return asked };
            for _ in 0..SIGNALS_PER_TURN {
                match ready.get_inner().read_signal() {
                    Ok(Some(info)) => {
                        let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
                        let means = meaning(signal, self.pid1);
                        if matches!(means, Some(Asked::Stop(_))) {
                            self.end.get_or_insert(signal);
                        }
                        asked.extend(means.filter(|a| !asked.contains(a)));
                    }
                    Ok(None) | Err(_) => {
                        ready.clear_ready();
                        break;
                    }
                }
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        for (signal, supervisor, pid1) in [
            (libc::SIGCHLD, Some(Asked::Reap), Some(Asked::Reap)),
            (libc::SIGTERM, Some(Asked::Stop(Goal::Exit)), Some(Asked::Stop(Goal::Reboot))),
            (libc::SIGINT, Some(Asked::Stop(Goal::Exit)), Some(Asked::Stop(Goal::Reboot))),
            (libc::SIGHUP, Some(Asked::Stop(Goal::Exit)), None),
            (libc::SIGPWR, None, Some(Asked::Stop(Goal::PowerOff))),
            (libc::SIGUSR1, None, Some(Asked::Stop(Goal::Halt))),
            (libc::SIGUSR2, None, Some(Asked::Stop(Goal::PowerOff))),
            (libc::SIGRTMIN() + 3, None, Some(Asked::Stop(Goal::Halt))),
            (libc::SIGRTMIN() + 4, None, Some(Asked::Stop(Goal::PowerOff))),
            (libc::SIGRTMIN() + 5, None, Some(Asked::Stop(Goal::Reboot))),
            (libc::SIGWINCH, None, None),
            (libc::SIGPIPE, None, None),
        ] {
            assert_eq!(meaning(signal, false), supervisor, "signal {signal} to a supervisor");
            assert_eq!(meaning(signal, true), pid1, "signal {signal} to PID 1");
        }
    }
}
