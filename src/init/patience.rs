//! System calls that wait for a disk or a server, for as long as that takes and deaf to every signal, made by children: what is
//! dead must not keep a machine from its end. PID 1 has one thread, so a child is a whole copy and may do what it likes.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::process::{Clone3, clone3, pidfd_send_signal};
use crate::sys::wait;

/// How long a child may go without any progress. A slow disk with much to write makes progress: less and less is unwritten.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a look at a file may take.
const PROMPT: Duration = Duration::from_secs(3);
/// Times [`PATIENCE`]: ten minutes of writing.
const ROUNDS: usize = 60;
/// Children at once.
const CHILDREN: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Refused,
    /// It waits for something that does not come.
    Stuck,
}

/// sync(2).
pub fn sync() -> Outcome {
    let outcomes = each(&[()], |()| {
        nix::unistd::sync();
        true
    });
    outcomes.first().copied().unwrap_or(Outcome::Refused)
}

/// `work` for each of the items, side by side, and how it went.
pub fn each<T>(items: &[T], work: impl Fn(&T) -> bool) -> Vec<Outcome> {
    items.chunks(CHILDREN).flat_map(|chunk| Batch::start(chunk, &work).outcomes()).collect()
}

/// Which of the items have an answer at all, be it an error: `look` comes back within [`PROMPT`].
pub fn answering<T>(items: &[T], look: impl Fn(&T)) -> Vec<bool> {
    let ask = |items: &[T]| {
        let mut batch = Batch::start(items, &|item| {
            look(item);
            true
        });
        batch.wait(Instant::now() + PROMPT);
        batch.0.into_iter().map(Child::give_up).map(|outcome| outcome != Outcome::Stuck).collect::<Vec<_>>()
    };
    items.chunks(CHILDREN).flat_map(ask).collect()
}

struct Batch(Vec<Child>);

enum Child {
    Alive { pid: i32, pidfd: OwnedFd },
    Over(Outcome),
}

impl Batch {
    fn start<T>(items: &[T], work: &impl Fn(&T) -> bool) -> Batch {
        let request = Clone3 { exit_signal: libc::SIGCHLD, ..Clone3::default() };
        let start = |item| match clone3(request, || i32::from(!work(item))) {
            Ok((pid, pidfd)) => Child::Alive { pid, pidfd },
            // No process to be had: what is written is worth more than the bound.
            Err(_) => Child::Over(if work(item) { Outcome::Done } else { Outcome::Refused }),
        };
        Batch(items.iter().map(start).collect())
    }

    fn outcomes(mut self) -> Vec<Outcome> {
        let mut left = unwritten();
        for _ in 0..ROUNDS {
            self.wait(Instant::now() + PATIENCE);
            let before = std::mem::replace(&mut left, unwritten());
            if left >= before || self.0.iter().all(|child| matches!(child, Child::Over(_))) {
                break;
            }
        }
        self.0.into_iter().map(Child::give_up).collect()
    }

    fn wait(&mut self, until: Instant) {
        for child in &mut self.0 {
            let Child::Alive { pid, pidfd } = child else { continue };
            if is_dead(pidfd, until.saturating_duration_since(Instant::now())) {
                let death = wait::collect(*pid).ok().flatten();
                let done = matches!(death, Some(wait::Death::Status(0)));
                *child = Child::Over(if done { Outcome::Done } else { Outcome::Refused });
            }
        }
    }
}

impl Child {
    fn give_up(self) -> Outcome {
        match self {
            Child::Over(outcome) => outcome,
            Child::Alive { pidfd, .. } => {
                pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL).ok();
                Outcome::Stuck
            }
        }
    }
}

fn is_dead(pidfd: &OwnedFd, time: Duration) -> bool {
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            answer => return answer.is_ok_and(|ready| ready > 0),
        }
    }
}

/// KiB that wait to be written, of the whole machine.
fn unwritten() -> u64 {
    total(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn total(meminfo: &str) -> u64 {
    let lines = meminfo.lines().filter_map(|line| line.split_once(':'));
    let ours = lines.filter(|(name, _)| matches!(*name, "Dirty" | "Writeback" | "NFS_Unstable"));
    ours.filter_map(|(_, value)| value.trim().strip_suffix(" kB")?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unwritten() {
        assert_eq!(total("MemFree:  17 kB\nDirty:             260 kB\nWriteback:         4 kB\nWritebackTmp:      9 kB\n"), 264);
    }

    #[test]
    fn each_by_itself() {
        // No allocation in the children: the test runner has other threads.
        assert_eq!(each(&[true, false, true], |good| *good), [Outcome::Done, Outcome::Refused, Outcome::Done]);
    }

    #[test]
    fn who_is_stuck_is_left() {
        let mut batch = Batch::start(&[true, false], &|quick: &bool| {
            if !*quick {
                crate::sys::process::wait_to_be_killed();
            }
            true
        });
        batch.wait(Instant::now() + Duration::from_millis(300));
        let outcomes: Vec<Outcome> = batch.0.into_iter().map(Child::give_up).collect();
        assert_eq!(outcomes, [Outcome::Done, Outcome::Stuck]);
    }
}
