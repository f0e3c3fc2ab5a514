//! What an operator reads: `cell plan` prints exactly what the kernel will be asked, and what each line is good for.

use std::fmt;

use crate::unit::{Listen, Seccomp, SeccompPolicy, harmless};

use super::limits::show as limit;
use super::{CgroupPlan, Idmap, Namespaces, Plan, Preparation, Step, errno};

/// Reasons line up behind the steps, as far as these are not longer than this.
const WIDEST: usize = 64;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan of {}", self.unit)?;
        if !self.before.is_empty() {
            writeln!(f, "\nbefore the clone")?;
            for preparation in &self.before {
                writeln!(f, "  -  {}", harmless(&self.preparation(preparation)))?;
                if matches!(preparation, Preparation::MakeCgroup) {
                    write!(f, "{}", self.cgroup)?;
                }
            }
        }
        match self.born.list() {
            names if names.is_empty() => writeln!(f, "\nin the clone, born into the cgroup")?,
            names => writeln!(f, "\nin the clone, born into the cgroup and new namespaces: {names}")?,
        }
        let texts: Vec<String> = self.steps.iter().map(|step| harmless(&step.to_string())).collect();
        let width = texts.iter().map(|text| text.chars().count()).filter(|n| *n <= WIDEST).max().unwrap_or(0);
        for (number, (step, text)) in self.steps.iter().zip(&texts).enumerate() {
            let line = format!("{:>3}  {text:<width$}  {}", number + 1, step.reason());
            writeln!(f, "{}", line.trim_end())?;
            if let Step::Execute { environment, yielding, .. } = step {
                for (key, value) in environment {
                    let unless = if yielding.contains(key) { "  unless a file says otherwise" } else { "" };
                    writeln!(f, "       {}{unless}", harmless(&format!("{key}={value}")))?;
                }
            }
        }
        if !self.left_out.is_empty() {
            writeln!(f, "\nleft out")?;
            for reason in &self.left_out {
                writeln!(f, "  -  {}", harmless(reason))?;
            }
        }
        Ok(())
    }
}

impl Plan {
    fn preparation(&self, preparation: &Preparation) -> String {
        match preparation {
            Preparation::CompileModule { module } => {
                format!("look up the compiled form of {}, or compile it in a cell of its own", module.display())
            }
            Preparation::MakeCgroup => {
                format!("make the cgroup {}", self.cgroup.directory().display())
            }
            Preparation::PrepareUserNamespace => match self.user_namespace {
                Some(map) => format!(
                    "prepare a user namespace: ids {} to {} of the host are 0 to {} inside",
                    map.base,
                    map.base + (map.size - 1),
                    map.size - 1
                ),
                None => "prepare no user namespace".to_string(),
            },
            Preparation::StateDirectory { host, uid, gid, label } => {
                format!("make the directory {}, mode 0700, owned by {uid}:{gid}{}; it stays", host.display(), labelled(label))
            }
            Preparation::RuntimeDirectory { host, uid, gid, label } => {
                format!("make the directory {}, mode 0700, owned by {uid}:{gid}{}; it goes with the cell", host.display(), labelled(label))
            }
            Preparation::OpenSocket { name, listen, backlog, mode } => match listen {
                Listen::Tcp(address) => {
                    format!("listen on tcp://{address} as {name}, backlog {backlog}")
                }
                Listen::Unix(path) => {
                    format!("listen on unix://{path} as {name}, mode {mode:04o}, backlog {backlog}")
                }
            },
            Preparation::NotifySocket { path, owner } => match owner {
                Some((uid, gid)) => format!("open the notify socket {}, for {uid}:{gid} alone", path.display()),
                None => format!("open the notify socket {}", path.display()),
            },
            Preparation::ReadEnvironment { path, optional } => {
                format!("read environment from {path}{}", if *optional { ", if it is there" } else { "" })
            }
        }
    }
}

/// One line per file that is written.
impl fmt::Display for CgroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (file, value) in self.files() {
            writeln!(f, "       {}", harmless(&format!("{} = {value}", file.display())))?;
        }
        Ok(())
    }
}

impl Namespaces {
    /// `mount, pid, cgroup`
    pub fn list(&self) -> String {
        let all =
            [(self.mount, "mount"), (self.pid, "pid"), (self.cgroup, "cgroup"), (self.uts, "uts"), (self.ipc, "ipc"), (self.net, "net")];
        let names: Vec<&str> = all.into_iter().filter(|(there, _)| *there).map(|(_, name)| name).collect();
        names.join(", ")
    }
}

/// What is done, on what.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::NewSession => write!(f, "start a session"),
            Step::ShieldSetup => write!(f, "shield the set-up"),
            Step::SetOomScore(score) => write!(f, "set the OOM score to {score}"),
            Step::SetRlimit { name, soft, hard, .. } => write!(f, "set {name} to {}:{}", limit(*soft), limit(*hard)),
            Step::MakeMountsPrivate => write!(f, "make all mounts private"),
            Step::CloneRoot { source, writable, idmap, below } => {
                let with = if below.is_empty() { String::new() } else { format!(" with {}", below.join(" ")) };
                write!(f, "take {}{with} as the root, {}{}", source.display(), access(*writable), mapped(*idmap))
            }
            Step::EmptyRoot { size, directories } => {
                let with = if directories.is_empty() { String::new() } else { format!(", with {}", directories.join(" ")) };
                write!(f, "take an empty tmpfs of {} as the root{with}", bytes(*size))
            }
            Step::MountProc => write!(f, "mount proc on /proc"),
            Step::MountTmpfs { target, size, mode, uid, gid, exec, create: _ } => {
                let exec = if *exec { ", exec" } else { "" };
                write!(f, "mount tmpfs on {target}, {}, mode {mode:04o} of {uid}:{gid}{exec}", bytes(*size))
            }
            Step::MountDevpts => write!(f, "mount devpts on /dev/pts"),
            Step::MountCgroup => write!(f, "mount cgroup2 on /sys/fs/cgroup, read-only"),
            Step::Bind { source, target, writable, exec, devices, recursive, idmap, .. } => {
                let recursive = if *recursive { " with what is below" } else { "" };
                write!(f, "bind {} on {target}{recursive}, {}", source.display(), access(*writable))?;
                let exec = if *exec { ", exec" } else { "" };
                let devices = if *devices { ", devices" } else { "" };
                write!(f, "{exec}{devices}{}", mapped(*idmap))
            }
            Step::Symlink { link, target } => write!(f, "link {link} to {target}"),
            Step::Mask { path } => write!(f, "mask {path}"),
            Step::ReadOnly { path } => write!(f, "make {path} read-only"),
            Step::Seal { path } => write!(f, "seal {path} read-only"),
            Step::PivotRoot => write!(f, "change to the new root"),
            Step::JoinCell { user, namespaces } => {
                let user = if *user { "user, " } else { "" };
                write!(f, "join the namespaces of the running cell: {user}{}", namespaces.list())
            }
            Step::EnterUserNamespace => write!(f, "enter the prepared user namespace"),
            Step::Unshare(namespaces) => write!(f, "unshare namespaces: {}", namespaces.list()),
            Step::LoopbackUp => write!(f, "set lo up"),
            Step::SetHostname(name) => write!(f, "set the host name to {name}"),
            Step::SetUmask(mask) => write!(f, "set the umask to {mask:04o}"),
            Step::ChangeDirectory(path) => write!(f, "change directory to {path}"),
            Step::PlaceDescriptors => write!(f, "place the descriptors, close all others"),
            Step::SetIds { uid, gid, groups } => {
                write!(f, "become uid {uid}, gid {gid}")?;
                match groups.as_slice() {
                    [] => write!(f, ", no other groups"),
                    groups => write!(f, ", groups {groups:?}"),
                }
            }
            Step::LimitCapabilities { keep, last } => {
                let names: Vec<&str> = keep.iter().map(|(_, name)| name).collect();
                match names.as_slice() {
                    names if names.len() > *last as usize => write!(f, "keep all capabilities"),
                    [] => write!(f, "drop all capabilities, 0 to {last}"),
                    names => write!(f, "drop all capabilities but {}", names.join(", ")),
                }
            }
            Step::SetSelinuxLabel(label) => write!(f, "set the SELinux label {label}"),
            Step::NoNewPrivileges => write!(f, "set no_new_privs"),
            Step::ResetSignals => write!(f, "reset signals"),
            Step::InstallSeccomp(seccomp) => {
                write!(f, "install the seccomp filter {}", filter(seccomp))
            }
            Step::Execute { argv, .. } => {
                write!(f, "execute")?;
                argv.iter().try_for_each(|word| write!(f, " {}", quote(word)))
            }
        }
    }
}

impl Step {
    /// Why the step is there, in a few words.
    pub fn reason(&self) -> &'static str {
        match self {
            Step::NewSession => "no controlling terminal",
            Step::ShieldSetup => "nobody looks into a half-built cell",
            Step::SetOomScore(_) => "",
            Step::SetRlimit { .. } => "",
            Step::MakeMountsPrivate => "nothing leaks back to the host",
            Step::CloneRoot { .. } => "nosuid, nodev",
            Step::EmptyRoot { .. } => "nothing is there that is not granted",
            Step::MountProc => "its own processes only, and of those none that it may not trace",
            Step::MountTmpfs { .. } => "nosuid, nodev",
            Step::MountDevpts => "its own terminals",
            Step::MountCgroup => "its own subtree",
            Step::Bind { resolved: true, .. } => "no link on the way is followed",
            Step::Bind { .. } => "",
            Step::Symlink { .. } => "",
            Step::Mask { .. } => "covered",
            Step::ReadOnly { .. } => "",
            Step::Seal { .. } => "all is in place",
            Step::PivotRoot => "the old root is gone",
            Step::JoinCell { .. } => "behind the same walls",
            Step::EnterUserNamespace => "root inside is nobody outside",
            Step::Unshare(_) => "owned by the cell",
            Step::LoopbackUp => "the only interface",
            Step::SetHostname(_) => "",
            Step::SetUmask(_) => "",
            Step::ChangeDirectory(_) => "checked to be inside",
            Step::PlaceDescriptors => "nothing of the supervisor's is left open",
            Step::SetIds { .. } => "",
            Step::LimitCapabilities { .. } => "in every set",
            Step::SetSelinuxLabel(_) => "from the exec on",
            Step::NoNewPrivileges => "setuid programs gain nothing",
            Step::ResetSignals => "none ignored, none blocked",
            Step::InstallSeccomp(_) => "last, so that set-up needs nothing of it",
            Step::Execute { .. } => "",
        }
    }
}

fn access(writable: bool) -> &'static str {
    if writable { "writable" } else { "read-only" }
}

fn mapped(idmap: Idmap) -> &'static str {
    match idmap {
        Idmap::No => "",
        Idmap::Required => ", owner mapped to the unit's user",
        Idmap::BestEffort => ", owner mapped to the unit's user if the file system can",
    }
}

/// `default +ptrace -@network-io, others answer EPERM`
fn filter(seccomp: &Seccomp) -> String {
    let mut text = match seccomp.policy {
        SeccompPolicy::Off => "off",
        SeccompPolicy::Log => "log",
        SeccompPolicy::Default => "default",
        SeccompPolicy::AllowList => "allow-list",
        SeccompPolicy::Derived => "derived",
    }
    .to_string();
    for name in &seccomp.allow {
        text += &format!(" +{name}");
    }
    for name in &seccomp.deny {
        text += &format!(" -{name}");
    }
    match seccomp.policy {
        SeccompPolicy::Log => text + ", others are logged",
        _ => text + &format!(", others answer {}", errno::name(seccomp.errno)),
    }
}

/// The largest unit that divides it.
fn bytes(size: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", size / unit),
        None => format!("{size} bytes"),
    }
}

/// As a shell would read it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn labelled(label: &Option<String>) -> String {
    label.as_ref().map_or_else(String::new, |label| format!(", labelled {label}"))
}
