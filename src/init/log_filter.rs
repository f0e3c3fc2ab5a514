//! The system calls of the log writer, which reads what services wrote. Should one of them take it over, it finds itself with
//! log files, pipes and nothing else: no program to execute, no socket to make, no process to look at.

use crate::cell::seccomp::assemble;
use crate::plan::syscalls::{Filter, resolve};
use crate::sys::seccomp::set_mode_filter;
use crate::unit::{Seccomp, SeccompPolicy};

/// What it does from its first message on, and why.
const CALLS: &[(&str, &[&str])] = &[
    ("the channel, and the pipes that come over it", &["recvmsg", "fcntl", "tee", "read"]),
    ("it waits for them", &["epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "pipe2"]),
    (
        "files: the ends of the last lines are looked at, lines are appended, full files get other names",
        &[
            "openat",
            "close",
            "fstat",
            "newfstatat",
            "statx",
            "lseek",
            "write",
            "ftruncate",
            "rename",
            "renameat",
            "renameat2",
            "unlink",
            "unlinkat",
        ],
    ),
    ("when that was", &["clock_gettime"]),
    ("memory", &["brk", "mmap", "mremap", "munmap", "madvise", "mprotect"]),
    (
        "a panic is told and ends it; the runtime puts its signal stack away",
        &["futex", "getpid", "gettid", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill"],
    ),
    ("the end, and a stop in the debugger", &["exit", "exit_group", "restart_syscall"]),
];
/// Calls that every filter of a unit allows, because something is to be executed.
const EXECUTE: &str = "execve";
const EPERM: i32 = 1;

/// From here on this process is the log writer and nothing else. A kernel that has no seccomp leaves it as it is, which is said.
pub fn install() {
    let installed = filter().and_then(|filter| {
        let program = assemble(&filter).map_err(|error| error.to_string())?;
        set_mode_filter(&program).map_err(|error| error.to_string())
    });
    if let Err(reason) = installed {
        eprintln!("cellinit log-writer: works without a filter of system calls: {reason}");
    }
}

pub fn filter() -> Result<Filter, String> {
    let allow = CALLS.iter().flat_map(|(_, names)| names.iter().map(ToString::to_string)).collect();
    let policy = Seccomp { policy: SeccompPolicy::AllowList, allow, deny: Vec::new(), errno: EPERM };
    let mut filter = resolve(&policy).map_err(|fault| fault.to_string())?;
    filter.rules.retain(|rule| rule.name != EXECUTE);
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_call_and_nothing_else_is_allowed() {
        let filter = filter().unwrap();
        let allowed: Vec<&str> = filter.rules.iter().map(|rule| rule.name).collect();
        let named: usize = CALLS.iter().map(|(_, names)| names.len()).sum();
        assert_eq!(allowed.len(), named);
        for name in ["execve", "execveat", "socket", "connect", "ptrace", "clone", "fork", "kill", "sendmsg", "process_vm_readv", "mount"] {
            assert!(!allowed.contains(&name), "{name}");
        }
        assert!(assemble(&filter).is_ok());
    }
}
