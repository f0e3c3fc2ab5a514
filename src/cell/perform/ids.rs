//! Whom the payload runs as, and what it may do.

use crate::sys::caps::Set;
use crate::sys::{Result, caps, ids, process};

pub struct SetIds {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

pub struct LimitCapabilities {
    keep: Set,
    /// The last capability that this kernel knows.
    last: u32,
    ambient: bool,
}

impl SetIds {
    /// Groups while there still is the right to, the user last. Permitted capabilities stay for the step that limits them.
    pub fn perform(&self) -> Result<()> {
        ids::keep_capabilities()?;
        ids::setgroups(&self.groups)?;
        ids::setresgid(self.gid)?;
        ids::setresuid(self.uid)?;
        // A change of ids sets it to what /proc/sys/fs/suid_dumpable says.
        process::set_dumpable(false)
    }
}

impl LimitCapabilities {
    /// Root gets what the bounding set leaves at execve(2); anybody else needs ambient capabilities for it, and only then are
    /// the inheritable and ambient sets not empty (CVE-2022-29162).
    pub fn new(keep: Set, last: u32, uid: u32) -> Self {
        LimitCapabilities { keep, last, ambient: uid != 0 }
    }

    pub fn perform(&self) -> Result<()> {
        let permitted = caps::permitted()?;
        // What the supervisor itself does not have cannot be kept.
        let keep = Set(self.keep.0 & permitted.0);
        // The change of ids may have emptied the effective set, and dropping takes CAP_SETPCAP.
        caps::capset(permitted, permitted, Set::default())?;
        for capability in (0..=self.last).filter(|c| !self.keep.contains(*c)) {
            caps::drop_bounding(capability)?;
        }
        caps::clear_ambient()?;
        if !self.ambient {
            return caps::capset(keep, keep, Set::default());
        }
        caps::capset(keep, keep, keep)?;
        for capability in (0..=self.last).filter(|c| keep.contains(*c)) {
            caps::raise_ambient(capability)?;
        }
        Ok(())
    }
}
