//! Sets of capabilities; capabilities(7).

use serde::{Serialize, Serializer};

/// By number; linux/capability.h.
#[rustfmt::skip]
pub const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
    "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
    "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
];

/// One bit for each number in [`CAPABILITIES`]; written out as names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    pub fn all() -> Self {
        (0u32..).zip(CAPABILITIES).map(|(number, _)| number).collect()
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, name: &str) -> bool {
        self.iter().any(|(_, known)| known == name)
    }

    /// Number and name, by number.
    pub fn iter(self) -> impl Iterator<Item = (u32, &'static str)> {
        (0..).zip(CAPABILITIES.iter().copied()).filter(move |(number, _)| self.0 & (1 << number) != 0)
    }
}

/// Numbers that are none are left out.
impl FromIterator<u32> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let known = |number: &u32| usize::try_from(*number).is_ok_and(|number| number < CAPABILITIES.len());
        CapabilitySet(numbers.into_iter().filter(known).fold(0, |set, number| set | 1 << number))
    }
}

/// Names that are none are left out.
impl<'a> FromIterator<&'a str> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let bit = |name: &str| CAPABILITIES.iter().position(|known| *known == name).map(|number| 1 << number);
        CapabilitySet(names.into_iter().filter_map(bit).fold(0, |set, bit: u64| set | bit))
    }
}

impl Serialize for CapabilitySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(_, name)| name))
    }
}
