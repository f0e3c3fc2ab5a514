//! Which system calls a payload may make: from the words of `[seccomp]` to numbers. The BPF is made of this in `cell::seccomp`.

mod wasm;

use std::collections::BTreeSet;
use std::fmt;

use crate::unit::syscalls::{self as tables, Table};
use crate::unit::{Seccomp, SeccompPolicy};

/// A policy, resolved for this architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub rules: Vec<Rule>,
    /// What a call outside of `rules` gets.
    pub others: Others,
}

/// An allowed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub name: &'static str,
    pub number: u32,
    pub limit: Option<Limit>,
}

/// Arguments with which a call is allowed; with others it is answered like a call that is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// clone(2) without a new namespace.
    NoNamespaces,
    /// personality(2) that is Linux, 32-bit Linux, UNAME26, or a question.
    PlainPersonality,
    /// socket(2) of the families UNIX, INET, INET6, and NETLINK for routes.
    CommonFamilies,
    /// socket(2) of the family UNIX.
    UnixFamily,
    /// The mode, which is this argument, makes no program that runs as its owner or group: systemd's RestrictSUIDSGID=.
    PlainMode(u32),
    /// The same for what opens and perhaps makes a file: the flags, and the mode after them.
    PlainCreation(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Others {
    /// A known call answers this errno; a number without a call behind it answers ENOSYS, so that programs written for a
    /// newer kernel fall back. clone3(2) and openat2(2) count as the latter: their arguments are in memory, which no filter can
    /// look into.
    Refuse { errno: i32, unassigned: Vec<u32>, last: u32 },
    /// Allowed, and logged by the kernel.
    Log,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Neither a call nor a group.
    Unknown {
        key: &'static str,
        name: String,
        near: Option<String>,
    },
    /// Without it nothing starts.
    Needed {
        name: String,
    },
    Architecture,
}

/// What the start itself needs: the program, the report of a program that cannot be executed, and the way out.
const START: &[&str] = &["execve", "exit_group", "write"];
/// Calls whose arguments a filter cannot see, each with the one whose limit it would be a way around.
const UNSEEN: [(&str, &str); 2] = [("clone3", "clone"), ("openat2", "openat")];

/// Whether [`resolve`] will do: for a plan, which holds the policy and not the numbers.
pub fn check(seccomp: &Seccomp) -> Result<(), Fault> {
    if seccomp.allow.is_empty() && seccomp.deny.is_empty() {
        // Only words can be wrong.
        return tables::table().map(drop).ok_or(Fault::Architecture);
    }
    resolve(seccomp).map(drop)
}

/// The calls that `seccomp` allows, by number. A policy of `off` has no filter; ask before.
pub fn resolve(seccomp: &Seccomp) -> Result<Filter, Fault> {
    let table = tables::table().ok_or(Fault::Architecture)?;
    let base: Vec<&str> = match seccomp.policy {
        SeccompPolicy::AllowList | SeccompPolicy::Off => START.to_vec(),
        SeccompPolicy::Derived => wasm::base().collect(),
        SeccompPolicy::Default | SeccompPolicy::Log => tables::default_list().collect(),
    };
    let mut names: BTreeSet<&str> = base.into_iter().collect();
    let mut lifted = BTreeSet::new();
    for name in &seccomp.allow {
        // A call that the policy allows with some arguments, and that is named all the same, is allowed with all.
        if names.contains(name.as_str()) && seccomp.policy != SeccompPolicy::AllowList {
            lifted.insert(name.as_str());
        }
        names.extend(expand("seccomp.allow", name)?);
    }
    for name in &seccomp.deny {
        for denied in expand("seccomp.deny", name)? {
            if START.contains(&denied) && !name.starts_with('@') {
                return Err(Fault::Needed { name: denied.to_string() });
            }
            if !START.contains(&denied) {
                names.remove(denied);
            }
        }
    }
    for (unseen, seen) in UNSEEN {
        // A Wasm host has openat2: no mode is looked at there, and paths are kept inside of a directory by it.
        if limit(seen, seccomp.policy).is_some() && !seccomp.allow.iter().any(|name| name == unseen) {
            names.remove(unseen);
        }
    }

    let rules: Vec<Rule> = table
        .iter()
        .filter(|(name, _)| names.contains(*name))
        .map(|(&name, &number)| {
            let limit = if lifted.contains(name) { None } else { limit(name, seccomp.policy) };
            Rule { name, number, limit }
        })
        .collect();
    let others = match seccomp.policy {
        SeccompPolicy::Log => Others::Log,
        _ => refuse(seccomp.errno, table, &rules),
    };
    Ok(Filter { rules, others })
}

/// What a capability is good for and the default list leaves out, as in Docker's profile. Not clone(2): who holds CAP_SYS_ADMIN
/// in a cell and wants namespaces says so.
pub(super) fn of_capability(name: &str) -> &'static [&'static str] {
    match name {
        "CAP_BPF" => &["bpf"],
        "CAP_DAC_READ_SEARCH" => &["open_by_handle_at"],
        "CAP_FSETID" => MAKES_FILES,
        "CAP_PERFMON" => &["perf_event_open"],
        "CAP_SYSLOG" => &["syslog"],
        "CAP_SYS_ADMIN" => &[
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount2",
            "unshare",
        ],
        "CAP_SYS_BOOT" => &["reboot"],
        "CAP_SYS_CHROOT" => &["chroot"],
        "CAP_SYS_MODULE" => &["delete_module", "finit_module", "init_module"],
        "CAP_SYS_NICE" => &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
        "CAP_SYS_PACCT" => &["acct"],
        "CAP_SYS_PTRACE" => &["kcmp", "pidfd_getfd", "process_madvise", "ptrace"],
        "CAP_SYS_RAWIO" => &["ioperm", "iopl"],
        "CAP_SYS_TIME" => &["clock_settime", "settimeofday"],
        "CAP_SYS_TTY_CONFIG" => &["vhangup"],
        _ => &[],
    }
}

/// What gives a file its mode. Who is granted CAP_FSETID may make set-id files, by each of them.
const MAKES_FILES: &[&str] =
    &["chmod", "creat", "fchmod", "fchmodat", "fchmodat2", "mkdir", "mkdirat", "mknod", "mknodat", "open", "openat", "openat2"];

fn limits_modes(policy: SeccompPolicy) -> bool {
    matches!(policy, SeccompPolicy::Default | SeccompPolicy::Log)
}

fn limit(name: &str, policy: SeccompPolicy) -> Option<Limit> {
    match (name, policy) {
        ("chmod" | "creat" | "fchmod" | "mkdir" | "mknod", policy) if limits_modes(policy) => Some(Limit::PlainMode(1)),
        ("fchmodat" | "fchmodat2" | "mkdirat" | "mknodat", policy) if limits_modes(policy) => Some(Limit::PlainMode(2)),
        ("open", policy) if limits_modes(policy) => Some(Limit::PlainCreation(1)),
        ("openat", policy) if limits_modes(policy) => Some(Limit::PlainCreation(2)),
        ("clone", _) => Some(Limit::NoNamespaces),
        ("personality", _) => Some(Limit::PlainPersonality),
        ("socket", SeccompPolicy::Derived) => Some(Limit::UnixFamily),
        ("socket", _) => Some(Limit::CommonFamilies),
        _ => None,
    }
}

fn refuse(errno: i32, table: &Table, rules: &[Rule]) -> Others {
    let assigned: BTreeSet<u32> = table.values().copied().collect();
    let last = assigned.last().copied().unwrap_or(0);
    let unseen = UNSEEN.map(|(name, _)| table.get(name).copied().filter(|number| !rules.iter().any(|rule| rule.number == *number)));
    let gaps = (0..last).filter(|number| !assigned.contains(number) || unseen.contains(&Some(*number)));
    Others::Refuse { errno, unassigned: gaps.collect(), last }
}

/// A call, or the calls of a group and of the groups in it.
fn expand<'a>(key: &'static str, name: &'a str) -> Result<BTreeSet<&'a str>, Fault> {
    if let Some(calls) = wasm::group(name) {
        return Ok(calls.collect());
    }
    let groups = tables::groups();
    if groups.contains_key(name) {
        let (mut names, mut seen, mut todo) = (BTreeSet::new(), BTreeSet::new(), vec![name]);
        while let Some(member) = todo.pop() {
            match groups.get(member) {
                Some(members) if seen.insert(member) => todo.extend(members),
                Some(_) => {}
                None => {
                    names.insert(member);
                }
            }
        }
        return Ok(names);
    }
    match tables::is_known(name) {
        true => Ok(BTreeSet::from([name])),
        false => Err(Fault::Unknown { key, name: name.to_string(), near: tables::nearest(name).map(str::to_string) }),
    }
}

impl Fault {
    /// The key of the unit file that is at fault.
    pub fn key(&self) -> &'static str {
        match self {
            Fault::Unknown { key, .. } => key,
            Fault::Needed { .. } => "seccomp.deny",
            Fault::Architecture => "seccomp.policy",
        }
    }

    pub fn help(&self) -> Option<String> {
        match self {
            Fault::Unknown { near, .. } => near.as_ref().map(|near| format!("did you mean {near}?")),
            Fault::Needed { .. } => None,
            Fault::Architecture => Some("seccomp.policy = \"off\"".to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unknown { name, .. } if name.starts_with('@') => {
                write!(f, "{name} is no group of system calls")
            }
            Fault::Unknown { name, .. } => write!(f, "{name} is no system call"),
            Fault::Needed { name } => write!(f, "{name} is needed to start"),
            Fault::Architecture => write!(f, "there is no table of system calls for this architecture yet"),
        }
    }
}

impl std::error::Error for Fault {}
