//! The SELinux label, by hand: one write to procfs, and none of libselinux, which cannot be told which procfs.

use std::ffi::CStr;

use crate::cell::perform::{Stage, limits};
use crate::sys::Result;

/// The label that the next execve(2) gives. Refused writes fail the start: a payload without its label never runs.
pub fn set_label(label: &CStr, stage: &mut Stage<'_>) -> Result<()> {
    limits::write_own(stage.proc()?, c"thread-self/attr/exec", label.to_bytes())
}
