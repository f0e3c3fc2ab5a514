//! What the clone does: each act is one step of the plan as prepared memory. Nothing here allocates, locks or panics, and nothing
//! is found by path once it has been resolved: a mount target is a descriptor from openat2(RESOLVE_IN_ROOT) on.

pub mod exec;
pub mod hide;
pub mod ids;
pub mod limits;
pub mod mounts;
pub mod namespaces;
pub mod root;
pub mod selinux;
mod target;

use std::ffi::CString;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::plan::Report;
use crate::sys::fd::{Slots, Within};
use crate::sys::mount::attr;
use crate::sys::seccomp::Program;
use crate::sys::signal::Mask;
use crate::sys::{Error, Result, StringArray, fd, mount, net, process, seccomp};

pub use target::TargetPath;

/// A step of the plan, made ready.
pub enum Act {
    NewSession,
    ShieldSetup,
    SetOomScore(limits::SetOomScore),
    SetRlimit(limits::SetRlimit),
    MakeMountsPrivate,
    CloneRoot(Box<root::CloneRoot>),
    EmptyRoot(root::EmptyRoot),
    MountProc,
    MountTmpfs(Box<mounts::Tmpfs>),
    MountDevpts,
    MountCgroup,
    Bind(Box<mounts::Bind>),
    Symlink(Box<mounts::Symlink>),
    Mask(hide::Mask),
    ReadOnly(hide::ReadOnly),
    PivotRoot,
    Seal(TargetPath),
    JoinCell(namespaces::JoinCell),
    EnterUserNamespace,
    Unshare(namespaces::Unshare),
    LoopbackUp,
    SetHostname(CString),
    SetUmask(u32),
    ChangeDirectory(CString),
    SetIds(ids::SetIds),
    LimitCapabilities(ids::LimitCapabilities),
    SetSelinuxLabel(CString),
    NoNewPrivileges,
    PlaceDescriptors,
    /// Those that the supervisor ignores.
    ResetSignals(Mask),
    InstallSeccomp(Rc<Program>),
    Execute(Box<exec::Execute>),
}

/// Where the clone's descriptors are; [`fd::keep_only`] put them there.
pub struct Layout {
    /// stdin, stdout, stderr and the listeners: what the payload gets, from 0 on.
    pub passed_on: usize,
    pub report: usize,
    pub user_namespace: Option<usize>,
    pub join: Option<usize>,
    /// `tasks` of v1 nodes.
    pub enter: Range<usize>,
    /// The first of the user namespaces for idmapped binds.
    pub idmaps: usize,
}

/// The half-built cell, as the clone sees it.
pub struct Stage<'a> {
    pub slots: Slots,
    pub layout: &'a Layout,
    pub environment: &'a mut StringArray,
    /// Index in the environment and length of `LISTEN_PID=`, when the clone must fill in its own pid.
    pub listen_pid: Option<(usize, usize)>,
    /// The root to be; the root of this process when the plan builds none.
    pub root: Option<OwnedFd>,
    /// A procfs that nobody else can have mounted over (CVE-2025-52881).
    pub proc: Option<OwnedFd>,
    pub covers: hide::Covers,
}

/// Performs every act. Comes back only with what failed.
pub fn perform(acts: &[Act], stage: &mut Stage<'_>) -> Report {
    for (step, act) in (0u32..).zip(acts) {
        if let Err(error) = one(act, stage) {
            return Report { step, errno: error.errno };
        }
    }
    // A plan ends in Execute, which comes back only with an error.
    Report { step: acts.len() as u32, errno: libc::ENOEXEC }
}

fn one(act: &Act, stage: &mut Stage<'_>) -> Result<()> {
    match act {
        Act::NewSession => process::setsid(),
        Act::ShieldSetup => shield(),
        Act::SetOomScore(score) => score.perform(stage),
        Act::SetRlimit(limit) => limit.perform(),
        Act::MakeMountsPrivate => root::make_private(),
        Act::CloneRoot(root) => root.perform(stage),
        Act::EmptyRoot(root) => root.perform(stage),
        Act::MountProc => mounts::proc(stage),
        Act::MountTmpfs(tmpfs) => tmpfs.perform(stage),
        Act::MountDevpts => mounts::devpts(stage),
        Act::MountCgroup => mounts::cgroup(stage),
        Act::Bind(bind) => bind.perform(stage),
        Act::Symlink(link) => link.perform(stage),
        Act::Mask(mask) => mask.perform(stage),
        Act::ReadOnly(path) => path.perform(stage),
        Act::PivotRoot => root::pivot(stage),
        Act::Seal(path) => root::seal(path, stage),
        Act::JoinCell(join) => join.perform(stage),
        Act::EnterUserNamespace => namespaces::enter_user_namespace(stage),
        Act::Unshare(namespaces) => namespaces.perform(),
        Act::LoopbackUp => net::loopback_up(),
        Act::SetHostname(name) => crate::sys::namespace::sethostname(name),
        Act::SetUmask(mask) => {
            process::umask(*mask);
            Ok(())
        }
        Act::ChangeDirectory(path) => root::change_directory(path),
        Act::SetIds(ids) => ids.perform(),
        Act::LimitCapabilities(limit) => limit.perform(),
        Act::SetSelinuxLabel(label) => selinux::set_label(label, stage),
        Act::NoNewPrivileges => process::set_no_new_privs(),
        Act::PlaceDescriptors => fd::pass_on(stage.layout.passed_on),
        Act::ResetSignals(ignored) => exec::reset_signals(*ignored),
        Act::InstallSeccomp(program) => seccomp::set_mode_filter(program),
        Act::Execute(program) => Err(program.perform(stage)),
    }
}

/// Until execve(2) this process is a copy of the supervisor: it dies with it, and nobody may look into it.
fn shield() -> Result<()> {
    process::set_parent_death_signal(libc::SIGKILL)?;
    process::set_dumpable(false)
}

impl Stage<'_> {
    /// The root to be, or the present one while there is none.
    pub fn root(&mut self) -> Result<BorrowedFd<'_>> {
        if self.root.is_none() {
            self.root = Some(fd::openat2(Within::Here, c"/", libc::O_PATH | libc::O_DIRECTORY)?);
        }
        self.root.as_ref().map(AsFd::as_fd).ok_or(MISSING)
    }

    /// The private procfs of the cell's own pid namespace, made at the first need. Whom a process may not trace it does not see
    /// (`hidepid=invisible` in proc(5)): a probe on its way into the cell is there before it has left the host's mounts and network.
    pub fn proc(&mut self) -> Result<BorrowedFd<'_>> {
        if self.proc.is_none() {
            self.proc = Some(mount::fsmount(c"proc", &[(c"hidepid", c"invisible")], attr::NOSUID | attr::NODEV | attr::NOEXEC)?);
        }
        self.proc.as_ref().map(AsFd::as_fd).ok_or(MISSING)
    }

    pub fn slot(&self, index: Option<usize>) -> Result<BorrowedFd<'static>> {
        index.and_then(|index| self.slots.get(index)).ok_or(MISSING)
    }
}

/// A descriptor that the spawner did not hand over; it checks before it clones, so no start ever ends here.
const MISSING: Error = Error { call: "descriptor", errno: libc::EBADF };
