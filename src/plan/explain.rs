//! From `{ step, errno }` back to a sentence, with what usually is the matter.

use nix::errno::Errno;

use super::{Plan, Report, Step};

impl Plan {
    /// `step 7, bind /x on /y, read-only: No such file or directory (ENOENT): /x is not there`
    pub fn explain(&self, report: &Report) -> String {
        let errno = Errno::from_raw(report.errno);
        let meaning = format!("{} ({})", errno.desc(), errno_name(report.errno));
        let Some(step) = self.steps.get(report.step as usize) else {
            return format!("before the first step: {meaning}");
        };
        let said = match step {
            // The environment and a guest's whole specification are in `cell plan`.
            Step::Execute { path, .. } => format!("execute {path}"),
            step => step.to_string(),
        };
        match self.hint(step, errno) {
            Some(hint) => format!("step {}, {said}: {meaning}: {hint}", report.step + 1),
            None => format!("step {}, {said}: {meaning}", report.step + 1),
        }
    }

    fn hint(&self, step: &Step, errno: Errno) -> Option<String> {
        let empty_root = self
            .steps
            .iter()
            .any(|step| matches!(step, Step::EmptyRoot { .. }));
        match (step, errno) {
            (Step::Execute { search, .. }, Errno::ENOENT) if !search.is_empty() => {
                Some(format!("not found in the cell; tried {}", search.join(", ")))
            }
            (Step::Execute { .. }, Errno::ENOENT) if empty_root => {
                Some("this cell's root is empty: the program, its interpreter and its libraries must be mounted".into())
            }
            (Step::Execute { path, .. }, Errno::ENOENT) => {
                Some(format!("{path} is not in the cell, or the interpreter or loader that it names is not"))
            }
            (Step::Execute { path, .. }, Errno::EACCES) => Some(format!(
                "{path} is no executable file for this user, or is on a mount without exec, or SELinux has no rule for it"
            )),
            (Step::Execute { .. }, Errno::EPERM) if self.labelled() => {
                Some("under no_new_privs the SELinux policy must allow nnp_transition to this label".into())
            }
            (Step::Execute { .. }, Errno::ENOEXEC) => {
                Some("no format that this kernel runs; a script needs a #! line".into())
            }
            (Step::Execute { .. }, Errno::E2BIG) => Some("arguments and environment are too long".into()),
            (Step::Execute { .. }, Errno::EAGAIN) => Some("the user has more processes than limits.nproc".into()),
            (Step::InstallSeccomp(_), Errno::EPERM | Errno::EACCES) => {
                Some("a filter takes no_new_privs or CAP_SYS_ADMIN, and an outer filter may forbid more of them".into())
            }
            (Step::InstallSeccomp(_), Errno::ENOMEM) => Some("too many filters are stacked on this process".into()),
            (Step::InstallSeccomp(_), Errno::EINVAL) => Some("this kernel has no CONFIG_SECCOMP_FILTER".into()),
            (Step::Bind { source, .. }, Errno::ENOENT) => {
                Some(format!("{} is not on the host, or its target is not in the root", source.display()))
            }
            (Step::Bind { .. }, Errno::ENOTDIR) => Some("a file goes on a file, a directory on a directory".into()),
            (Step::Bind { target, .. }, Errno::ELOOP | Errno::EXDEV) => {
                Some(format!("{target} leads out of the root"))
            }
            (Step::Bind { .. } | Step::MountTmpfs { .. }, Errno::EROFS) => {
                Some("the mount point is missing, and the root is read-only".into())
            }
            (
                Step::MountProc | Step::MountTmpfs { .. } | Step::MountDevpts | Step::MountCgroup,
                Errno::ENOENT,
            ) => Some("the mount point is not in the root".into()),
            (Step::MountProc | Step::MountTmpfs { .. } | Step::MountDevpts | Step::MountCgroup, Errno::ENODEV) => {
                Some("this kernel does not know the file system".into())
            }
            (Step::CloneRoot { source, .. }, Errno::ENOENT) => Some(format!("{} is not there", source.display())),
            (Step::Mask { .. } | Step::ReadOnly { .. }, Errno::ENOENT) => {
                Some("it was there when the supervisor looked at this host".into())
            }
            (Step::ChangeDirectory(_), Errno::ENOENT) => Some("service.working-dir is not in the cell".into()),
            (Step::ChangeDirectory(_), Errno::EACCES) => {
                Some("the user of the cell may not enter service.working-dir".into())
            }
            (Step::SetRlimit { .. }, Errno::EPERM) => {
                Some("above the supervisor's own hard limit, and it has no CAP_SYS_RESOURCE".into())
            }
            (Step::SetOomScore(_), Errno::EACCES | Errno::EPERM) => {
                Some("lowering it takes CAP_SYS_RESOURCE".into())
            }
            (Step::EnterUserNamespace | Step::Unshare(_), Errno::EPERM) => {
                Some("the supervisor must be root with CAP_SYS_ADMIN".into())
            }
            (Step::Unshare(_), Errno::ENOSPC) => Some("/proc/sys/user/max_*_namespaces is used up".into()),
            (Step::Unshare(_), Errno::EINVAL) => Some("this kernel lacks one of these namespaces".into()),
            (Step::JoinCell { .. }, Errno::ESRCH) => Some("the cell has ended".into()),
            (Step::SetIds { .. }, Errno::EINVAL) => Some("the id is not mapped in the cell's user namespace".into()),
            (Step::SetIds { .. }, Errno::EAGAIN) => Some("that user has too many processes already".into()),
            (Step::LimitCapabilities { .. }, Errno::EPERM) => {
                Some("the supervisor does not have the capabilities that are kept".into())
            }
            (Step::SetSelinuxLabel(_), Errno::EINVAL) => Some("the loaded policy does not know this label".into()),
            (Step::SetSelinuxLabel(_), Errno::EACCES | Errno::EPERM) => {
                Some("the policy does not let the supervisor's domain set it".into())
            }
            _ => None,
        }
    }

    fn labelled(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step, Step::SetSelinuxLabel(_)))
    }
}

/// `ENOENT`; a number that has no name is shown as it is.
pub(super) fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("errno {errno}"),
        known => format!("{known:?}"),
    }
}
