//! Capability sets; capabilities(7).

use crate::sys::call::syscall;
use crate::sys::{Error, Result, process};

/// _LINUX_CAPABILITY_VERSION_3: 64 capabilities in two halves.
const VERSION_3: u32 = 0x2008_0522;

/// Of what fits into a set.
const LAST: u32 = 63;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// One bit per capability number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    pub fn contains(self, capability: u32) -> bool {
        1u64.checked_shl(capability).is_some_and(|bit| self.0 & bit != 0)
    }
}

impl FromIterator<u32> for Set {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Set(numbers.into_iter().filter_map(|n| 1u64.checked_shl(n)).fold(0, |set, bit| set | bit))
    }
}

/// capset(2) of this thread.
pub fn capset(effective: Set, permitted: Set, inheritable: Set) -> Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Half {
        effective: (effective.0 >> shift) as u32,
        permitted: (permitted.0 >> shift) as u32,
        inheritable: (inheritable.0 >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads one header and two halves, which both live here.
    unsafe { syscall!("capset", libc::SYS_capset, &raw const header, data.as_ptr()) }.map(drop)
}

/// The permitted set of this thread; capget(2).
pub fn permitted() -> Result<Set> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Half { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: version 3 writes two halves, which both live here.
    unsafe { syscall!("capget", libc::SYS_capget, &raw mut header, data.as_mut_ptr()) }?;
    let [low, high] = data;
    Ok(Set(u64::from(low.permitted) | u64::from(high.permitted) << 32))
}

/// The bounding set of this thread, and the last capability that this kernel knows; PR_CAPBSET_READ. It is EINVAL for one beyond that.
/// If there is no such answer the last one is [`LAST`]: who then drops what is not there fails.
pub fn bounding() -> (Set, u32) {
    let mut held = Vec::new();
    for number in 0..=LAST {
        // SAFETY: it takes numbers only.
        match unsafe { syscall!("prctl(PR_CAPBSET_READ)", libc::SYS_prctl, libc::PR_CAPBSET_READ, number) } {
            Ok(holds) => held.extend((holds == 1).then_some(number)),
            Err(Error { errno: libc::EINVAL, .. }) if number > 0 => return (held.into_iter().collect(), number - 1),
            Err(_) => {}
        }
    }
    (held.into_iter().collect(), LAST)
}

/// PR_CAPBSET_DROP. No execve(2) of any file gives it back.
pub fn drop_bounding(capability: u32) -> Result<()> {
    process::prctl("prctl(PR_CAPBSET_DROP)", libc::PR_CAPBSET_DROP, capability.into(), 0)
}

pub fn clear_ambient() -> Result<()> {
    process::prctl("prctl(PR_CAP_AMBIENT)", libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)
}

pub fn raise_ambient(capability: u32) -> Result<()> {
    process::prctl("prctl(PR_CAP_AMBIENT)", libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability.into())
}
