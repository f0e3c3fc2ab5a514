//! A supervisor that is PID 1 of a namespace numbers processes its own way; people want the numbers that `ps` shows them.

use crate::control::{Event, Unit};

pub struct Pids {
    /// How many pid namespaces the supervisor is below us.
    depth: usize,
}

impl Pids {
    /// `outside` is the supervisor as this process sees it, `inside` as it sees itself.
    pub fn new(outside: i32, inside: i32) -> Self {
        if outside == inside {
            return Pids { depth: 0 };
        }
        Pids { depth: numbers(outside).and_then(|all| all.iter().position(|&n| n == inside)).unwrap_or(0) }
    }

    /// The supervisor's numbers are ours.
    pub fn are_ours(&self) -> bool {
        self.depth == 0
    }

    /// The same for events. Which processes live now, `inside` says, with the supervisor's numbers.
    pub fn translate_events(&self, events: &mut [Event], inside: &[Unit]) {
        let mut outside = inside.to_vec();
        self.translate(&mut outside);
        for event in events {
            let same = inside.iter().zip(&outside).find(|(inside, _)| inside.name == event.unit && inside.pid == event.pid);
            event.pid = same.and_then(|(_, outside)| outside.pid);
        }
    }

    /// Replaces each pid by ours, or by none if the process is gone. The process is looked for in its cgroup, because two namespaces may use the same number.
    pub fn translate(&self, units: &mut [Unit]) {
        if self.are_ours() {
            return;
        }
        for unit in units {
            let (Some(inside), Some(cgroup)) = (unit.pid, &unit.cgroup) else { continue };
            let members = std::fs::read_to_string(format!("{cgroup}/cgroup.procs")).unwrap_or_default();
            let mut members = members.lines().filter_map(|line| line.parse::<i32>().ok());
            unit.pid = members.find(|&pid| numbers(pid).is_some_and(|all| all.get(self.depth) == Some(&inside)));
        }
    }
}

/// The numbers of one process, in our namespace and in each below it: NSpid of proc_pid_status(5).
fn numbers(pid: i32) -> Option<Vec<i32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|number| number.parse().ok()).collect()
}
