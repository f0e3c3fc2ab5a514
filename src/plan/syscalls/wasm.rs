//! What a Wasm host needs, and why: a third of the default list. Its guest reaches none of these directly; the
//! filter is for the day on which it breaks out.

use super::super::{WASM_LISTEN, WASM_WRITE};

type Reasons = &'static [(&'static str, &'static [&'static str])];

const BASE: Reasons = &[
    ("to be executed", &["execve"]),
    (
        "a static program starts",
        &[
            "arch_prctl",
            "brk",
            "getrandom",
            "rt_sigtimedwait",
            "prctl",
            "prlimit64",
            "readlink",
            "rseq",
            "set_robust_list",
            "set_tid_address",
            "uname",
        ],
    ),
    ("and ends", &["exit", "exit_group", "getpid", "gettid", "kill", "restart_syscall", "tgkill", "tkill"]),
    (
        "linear memory, compiled code, stacks of fibers",
        &["madvise", "membarrier", "memfd_create", "mincore", "mmap", "mprotect", "mremap", "munmap"],
    ),
    ("a server waits for its stop signal", &["rt_sigtimedwait"]),
    ("traps are signals", &["rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"]),
    ("threads of the runtime", &["clone", "futex", "sched_getaffinity", "sched_yield"]),
    (
        "time",
        &["clock_getres", "clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "time", "timerfd_create", "timerfd_settime"],
    ),
    ("the event loop", &["epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd2", "pipe2", "poll", "ppoll"]),
    (
        "descriptors, and output",
        &[
            "close",
            "close_range",
            "dup",
            "dup2",
            "dup3",
            "fcntl",
            "ioctl",
            "lseek",
            "pread64",
            "preadv",
            "read",
            "readv",
            "write",
            "writev",
        ],
    ),
    (
        "its artifact, and directories granted for reading; openat2 is what keeps a path inside of one",
        &[
            "access",
            "faccessat",
            "faccessat2",
            "fadvise64",
            "fstat",
            "fstatfs",
            "getcwd",
            "getdents64",
            "lstat",
            "newfstatat",
            "open",
            "openat",
            "openat2",
            "readlinkat",
            "stat",
            "statx",
        ],
    ),
    (
        "READY=1 over the notify socket; socket() of the family UNIX only",
        &["connect", "getsockopt", "sendmsg", "sendto", "setsockopt", "socket", "socketpair"],
    ),
    ("who it is: the C library asks", &["getegid", "geteuid", "getgid", "getppid", "getuid"]),
    ("what it uses", &["getrusage", "sysinfo"]),
];

const WRITE: Reasons = &[
    ("what is in files", &["fallocate", "fdatasync", "fsync", "ftruncate", "pwrite64", "pwritev", "pwritev2"]),
    ("what is in directories", &["linkat", "mkdirat", "renameat", "renameat2", "rmdir", "symlinkat", "unlink", "unlinkat"]),
    ("times and modes", &["fchmod", "fchmodat", "futimesat", "utimensat"]),
];

/// The listener itself is handed over: no socket() is needed to serve.
const LISTEN: Reasons = &[
    ("connections", &["accept4", "getpeername", "getsockname", "listen", "shutdown"]),
    ("what comes over them", &["recvfrom", "recvmsg"]),
];

pub(super) fn base() -> impl Iterator<Item = &'static str> {
    names(BASE)
}

/// What a grant adds; see `plan::build`.
pub(super) fn group(name: &str) -> Option<impl Iterator<Item = &'static str>> {
    match name {
        WASM_WRITE => Some(names(WRITE)),
        WASM_LISTEN => Some(names(LISTEN)),
        _ => None,
    }
}

fn names(reasons: Reasons) -> impl Iterator<Item = &'static str> {
    reasons.iter().flat_map(|(_, names)| names.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_call() {
        let Some(calls) = crate::unit::syscalls::table() else { return };
        for name in base().chain(names(WRITE)).chain(names(LISTEN)) {
            assert!(calls.contains_key(name), "{name}");
        }
    }
}
