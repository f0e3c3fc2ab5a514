//! SELinux labels of files: setxattr(2) and getxattr(2) of `security.selinux`.

use std::ffi::CStr;

use crate::sys::{Result, check};

const NAME: &CStr = c"security.selinux";

/// Follows links.
pub fn set(path: &CStr, label: &CStr) -> Result<()> {
    let value = label.to_bytes_with_nul();
    // SAFETY: both strings end in NUL, and the kernel reads `value.len()` bytes of a value that lives over the call.
    check("setxattr", unsafe { libc::setxattr(path.as_ptr(), NAME.as_ptr(), value.as_ptr().cast(), value.len(), 0) }).map(drop)
}

/// The label's bytes in `buffer`, without the NUL at their end. Follows links.
pub fn get<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    // SAFETY: both strings end in NUL, and the kernel writes at most `buffer.len()` bytes into a buffer that lives over the call.
    let length = check("getxattr", unsafe {
        libc::getxattr(path.as_ptr(), NAME.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) as libc::c_long
    })?;
    let label = buffer.get(..length as usize).unwrap_or_default();
    Ok(label.strip_suffix(b"\0").unwrap_or(label))
}
