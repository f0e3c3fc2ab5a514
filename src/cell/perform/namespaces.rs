//! Namespaces that are entered or made after the mounts are done.

use crate::cell::perform::Stage;
use crate::plan::Namespaces;
use crate::sys::{Result, namespace};

pub struct Unshare(i32);

pub struct JoinCell {
    flags: i32,
    user: bool,
}

impl Unshare {
    pub fn new(namespaces: Namespaces) -> Self {
        Unshare(flags(namespaces))
    }

    /// Owned by the user namespace that the clone is in by now.
    pub fn perform(&self) -> Result<()> {
        namespace::unshare(self.0)
    }
}

impl JoinCell {
    /// The pid namespace is not among the flags: the clone was born into it, see `spawn`.
    pub fn new(user: bool, namespaces: Namespaces) -> Self {
        JoinCell { flags: flags(Namespaces { pid: false, ..namespaces }), user }
    }

    /// The user namespace comes last: joining the mount and cgroup namespaces takes privileges over the host's.
    pub fn perform(&self, stage: &mut Stage<'_>) -> Result<()> {
        let cell = stage.slot(stage.layout.join)?;
        if self.flags != 0 {
            namespace::setns(cell, self.flags)?;
        }
        // What was the root is the host's, and out of reach now.
        stage.root = None;
        if self.user { namespace::setns(cell, libc::CLONE_NEWUSER) } else { Ok(()) }
    }
}

/// From here on the host's ids are strangers: no path back to its mounts, devices or processes.
pub fn enter_user_namespace(stage: &Stage<'_>) -> Result<()> {
    namespace::setns(stage.slot(stage.layout.user_namespace)?, libc::CLONE_NEWUSER)
}

pub fn flags(namespaces: Namespaces) -> i32 {
    let Namespaces { mount, pid, cgroup, uts, ipc, net } = namespaces;
    [
        (mount, libc::CLONE_NEWNS),
        (pid, libc::CLONE_NEWPID),
        (cgroup, libc::CLONE_NEWCGROUP),
        (uts, libc::CLONE_NEWUTS),
        (ipc, libc::CLONE_NEWIPC),
        (net, libc::CLONE_NEWNET),
    ]
    .into_iter()
    .filter(|(wanted, _)| *wanted)
    .fold(0, |flags, (_, flag)| flags | flag)
}
