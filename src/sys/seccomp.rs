//! seccomp(2).

use crate::sys::call::syscall;
use crate::sys::{Error, Result};

/// A compiled filter: BPF instructions, as struct sock_filter.
#[derive(Debug, Clone)]
pub struct Program(Vec<libc::sock_filter>);

impl Program {
    /// From the bytes that a compiler exports; each instruction is 8 bytes in the machine's own order.
    /// `None` when that is not what they are, or when there are more than the kernel takes (BPF_MAXINSNS).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (instructions, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || instructions.is_empty() || instructions.len() > libc::BPF_MAXINSNS as usize {
            return None;
        }
        let instructions = instructions.iter().map(|&[a, b, jt, jf, k @ ..]| libc::sock_filter {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes(k),
        });
        Some(Program(instructions.collect()))
    }

    pub fn instructions(&self) -> &[libc::sock_filter] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// SECCOMP_SET_MODE_FILTER: from here on every system call of this process passes `program`. There is no way back.
pub fn set_mode_filter(program: &Program) -> Result<()> {
    let Ok(len) = program.0.len().try_into() else {
        return Err(Error::new("seccomp", libc::EINVAL));
    };
    let filter = libc::sock_fprog { len, filter: program.0.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions at `filter` and writes nothing.
    unsafe { syscall!("seccomp", libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) }.map(drop)
}
