//! From `{ step, errno }` back to a sentence, with what usually is the matter.

use super::{Idmap, Plan, Report, Step, errno};

impl Plan {
    /// `step 7, bind /x on /y, read-only: No such file or directory (ENOENT): /x is not there`
    pub fn explain(&self, report: &Report) -> String {
        let meaning = errno::describe(report.errno);
        let Some(step) = self.steps.get(report.step as usize) else {
            return format!("before the first step: {meaning}");
        };
        let said = match step {
            // The environment and a guest's whole specification are in `cell plan`.
            Step::Execute { path, .. } => format!("execute {path}"),
            step => step.to_string(),
        };
        match self.hint(step, report.errno) {
            Some(hint) => format!("step {}, {said}: {meaning}: {hint}", report.step + 1),
            None => format!("step {}, {said}: {meaning}", report.step + 1),
        }
    }

    fn hint(&self, step: &Step, errno: i32) -> Option<String> {
        let empty_root = self.steps.iter().any(|step| matches!(step, Step::EmptyRoot { .. }));
        match (step, errno) {
            (Step::Execute { path, search, .. }, libc::ENOENT) if !search.is_empty() => {
                let tried: Vec<String> = search.iter().map(|directory| format!("{directory}/{path}")).collect();
                Some(format!("not found in the cell; tried {}", tried.join(", ")))
            }
            (Step::Execute { .. }, libc::ENOENT) if empty_root => {
                Some("this cell's root is empty: the program, its interpreter and its libraries must be mounted".into())
            }
            (Step::Execute { path, .. }, libc::ENOENT) => {
                Some(format!("{path} is not in the cell, or the interpreter or loader that it names is not"))
            }
            (Step::Execute { path, .. }, libc::EACCES) => {
                Some(format!("{path} is no executable file for this user, or is on a mount without exec, or SELinux has no rule for it"))
            }
            (Step::Execute { .. }, libc::EPERM) if self.labelled() => {
                Some("under no_new_privs the SELinux policy must allow nnp_transition to this label".into())
            }
            (Step::Execute { .. }, libc::ENOEXEC) => Some("no format that this kernel runs; a script needs a #! line".into()),
            (Step::Execute { .. }, libc::E2BIG) => Some("arguments and environment are too long".into()),
            (Step::Execute { .. }, libc::EAGAIN) => Some("the user has more processes than limits.nproc".into()),
            (Step::InstallSeccomp(_), libc::EPERM | libc::EACCES) => {
                Some("a filter takes no_new_privs or CAP_SYS_ADMIN, and an outer filter may forbid more of them".into())
            }
            (Step::InstallSeccomp(_), libc::ENOMEM) => Some("too many filters are stacked on this process".into()),
            (Step::InstallSeccomp(_), libc::EINVAL) => Some("this kernel has no CONFIG_SECCOMP_FILTER".into()),
            (Step::Bind { source, .. }, libc::ENOENT) => {
                Some(format!("{} is not on the host, or its target is not in the root", source.display()))
            }
            (Step::Bind { .. }, libc::ENOTDIR) => Some("a file goes on a file, a directory on a directory".into()),
            (Step::Bind { source, idmap: Idmap::Required, .. } | Step::CloneRoot { source, idmap: Idmap::Required, .. }, libc::EINVAL) => {
                Some(format!(
                    "the file system of {0} has no id-mapped mounts; make {0} writable for uid {1}, or say isolation.user = \"host\"",
                    source.display(),
                    self.host_uid()
                ))
            }
            (Step::Bind { source, resolved: true, .. }, libc::ELOOP) => {
                Some(format!("somebody has put a link on the way to {}", source.display()))
            }
            (Step::Bind { target, .. }, libc::ELOOP | libc::EXDEV) => Some(format!("{target} leads out of the root")),
            (Step::Bind { .. } | Step::MountTmpfs { .. }, libc::EROFS) => {
                Some("the mount point is missing, and the root is read-only".into())
            }
            (Step::MountProc | Step::MountTmpfs { .. } | Step::MountDevpts | Step::MountCgroup, libc::ENOENT) => {
                Some("the mount point is not in the root".into())
            }
            (Step::MountProc | Step::MountTmpfs { .. } | Step::MountDevpts | Step::MountCgroup, libc::ENODEV) => {
                Some("this kernel does not know the file system".into())
            }
            (Step::CloneRoot { source, .. }, libc::ENOENT) => Some(format!("{} is not there", source.display())),
            (Step::Mask { .. } | Step::ReadOnly { .. }, libc::ENOENT) => {
                Some("it was there when the supervisor looked at this host".into())
            }
            (Step::ChangeDirectory(_), libc::ENOENT) => Some("service.working-dir is not in the cell".into()),
            (Step::ChangeDirectory(_), libc::EACCES) => Some("the user of the cell may not enter service.working-dir".into()),
            (Step::SetRlimit { .. }, libc::EPERM) => Some("above the supervisor's own hard limit, and it has no CAP_SYS_RESOURCE".into()),
            (Step::SetOomScore(_), libc::EACCES | libc::EPERM) => Some("lowering it takes CAP_SYS_RESOURCE".into()),
            (Step::EnterUserNamespace | Step::Unshare(_), libc::EPERM) => Some("the supervisor must be root with CAP_SYS_ADMIN".into()),
            (Step::Unshare(_), libc::ENOSPC) => Some("/proc/sys/user/max_*_namespaces is used up".into()),
            (Step::Unshare(_), libc::EINVAL) => Some("this kernel lacks one of these namespaces".into()),
            (Step::JoinCell { .. }, libc::ESRCH) => Some("the cell has ended".into()),
            (Step::SetIds { .. }, libc::EINVAL) => Some("the id is not mapped in the cell's user namespace".into()),
            (Step::SetIds { .. }, libc::EAGAIN) => Some("that user has too many processes already".into()),
            (Step::LimitCapabilities { .. }, libc::EPERM) => Some("the supervisor does not have the capabilities that are kept".into()),
            (Step::SetSelinuxLabel(_), libc::EINVAL) => Some("the loaded policy does not know this label".into()),
            (Step::SetSelinuxLabel(_), libc::EACCES | libc::EPERM) => Some("the policy does not let the supervisor's domain set it".into()),
            _ => None,
        }
    }

    /// The payload's, as the host knows it.
    fn host_uid(&self) -> u32 {
        let base = self.user_namespace.map_or(0, |map| map.base);
        let uid = self.steps.iter().find_map(|step| if let Step::SetIds { uid, .. } = step { Some(*uid) } else { None });
        base.saturating_add(uid.unwrap_or(0))
    }

    fn labelled(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::SetSelinuxLabel(_)))
    }
}
