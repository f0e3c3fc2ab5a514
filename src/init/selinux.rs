//! SELinux, switched on by PID 1 before it starts anything: the policy of the image goes to the kernel, and PID 1 into its domain.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::sys;

/// Where an image carries its policy, `policy.33` for the format 33.
const POLICIES: &str = "/etc/selinux/cellinit";
/// Made by a kernel that runs with SELinux, and by no other.
const FILESYSTEM: &str = "/sys/fs/selinux";
/// The domain of PID 1, with every category: it labels cells with any two of them.
const OWN_LABEL: &str = "system_u:system_r:init_t:s0-s0:c0.c1023";
/// A policy has as many kilobytes; this is no policy.
const MAX_POLICY: u64 = 64 << 20;
/// In the same place: lines `PATH LABEL` for what is not simply a part of the system. The kernel has labelled all that came with
/// the image as one.
const LABELS: &str = "labels";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No policy, or no SELinux in this kernel.
    Off,
    /// What the policy forbids is logged, and happens.
    Permissive,
    Enforcing,
}

/// Why a machine that was told to enforce does not.
#[derive(Debug)]
pub struct Error {
    pub step: String,
    pub cause: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SELinux: {}: {}", self.step, self.cause)
    }
}

impl std::error::Error for Error {}

/// Loads the policy and enforces it when the kernel's command line says `enforcing=1`; /proc and /sys are mounted.
/// An error then means: do not boot. Without that word it means that the machine runs without SELinux, and is worth a line.
pub fn start(command_line: &str) -> Result<Mode, Error> {
    let enforcing = is_enforcing_asked(command_line);
    let policy = match newest_policy(&PathBuf::from(POLICIES)) {
        Some(policy) if Path::new(FILESYSTEM).is_dir() => policy,
        found if enforcing => {
            let missing =
                if found.is_some() { "this kernel runs without it (security=selinux)" } else { "there is no policy in the image" };
            return Err(failed("enforcing=1 is asked for")(io::Error::other(missing)));
        }
        _ => return Ok(Mode::Off),
    };
    mount(Some("selinuxfs"), FILESYSTEM, Some("selinuxfs"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, None::<&str>)
        .map_err(|errno| failed(format!("mount {FILESYSTEM}"))(errno.into()))?;
    load(&policy).map_err(failed(format!("load {}", policy.display())))?;
    let enforce = Path::new(FILESYSTEM).join("enforce");
    fs::write(&enforce, if enforcing { "1" } else { "0" }).map_err(failed("set enforcing"))?;
    // A dynamic transition needs a process of one thread, which this is. Children take the label on from here.
    fs::write("/proc/self/attr/current", OWN_LABEL).map_err(failed(format!("become {OWN_LABEL}")))?;
    let labels = fs::read_to_string(Path::new(POLICIES).join(LABELS)).unwrap_or_default();
    for (path, label) in labels.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(path, _)| Path::new(path).exists()) {
        label_tree(Path::new(path), label).map_err(failed(format!("label {path}")))?;
    }
    Ok(if enforcing { Mode::Enforcing } else { Mode::Permissive })
}

/// As the kernel reads it: the last one counts.
pub fn is_enforcing_asked(command_line: &str) -> bool {
    command_line.split_whitespace().filter_map(|word| word.strip_prefix("enforcing=")).next_back() == Some("1")
}

/// The policy of the highest format.
fn newest_policy(folder: &Path) -> Option<PathBuf> {
    let policies = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let format = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("policy.")?.parse::<u32>().ok();
    policies.filter_map(|path| Some((format(&path)?, path))).max().map(|(_, path)| path)
}

/// In one write: the kernel takes each write for a whole policy.
fn load(policy: &Path) -> io::Result<()> {
    if fs::metadata(policy)?.len() > MAX_POLICY {
        return Err(io::Error::other(format!("larger than {} MiB", MAX_POLICY >> 20)));
    }
    let bytes = fs::read(policy)?;
    let written = File::options().write(true).open(Path::new(FILESYSTEM).join("load"))?.write(&bytes)?;
    if written == bytes.len() { Ok(()) } else { Err(io::Error::other(format!("{written} of {} bytes were taken", bytes.len()))) }
}

/// The folder and what it holds, links not followed; the image is ours, and nothing else runs yet.
fn label_tree(top: &Path, label: &str) -> io::Result<()> {
    let label = CString::new(label)?;
    let mut ahead = vec![top.to_owned()];
    while let Some(path) = ahead.pop() {
        sys::label::set(&CString::new(path.as_os_str().as_bytes())?, &label).map_err(|error| io::Error::from_raw_os_error(error.errno))?;
        if fs::symlink_metadata(&path)?.is_dir() {
            let entries = fs::read_dir(&path)?.collect::<io::Result<Vec<_>>>()?;
            ahead.extend(entries.iter().map(fs::DirEntry::path).filter(|path| !path.is_symlink()));
        }
    }
    Ok(())
}

fn failed(step: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let step = step.into();
    move |cause| Error { step, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        assert!(is_enforcing_asked("quiet enforcing=0 enforcing=1"));
        assert!(!is_enforcing_asked("enforcing=1 enforcing=0") && !is_enforcing_asked("quiet xenforcing=1"));
    }

    #[test]
    fn formats_are_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["policy.9", "policy.33", "policy.kern", "seusers"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(newest_policy(folder.path()), Some(folder.path().join("policy.33")));
        assert_eq!(newest_policy(Path::new("/nowhere")), None);
    }
}
