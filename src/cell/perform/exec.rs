//! The end of the clone: signals as a program expects them, and execve(2).

use std::ffi::CString;

use crate::cell::perform::Stage;
use crate::sys::signal::Mask;
use crate::sys::{Error, Result, StringArray, process, signal};

pub struct Execute {
    pub candidates: Vec<CString>,
    pub argv: StringArray,
}

/// Also takes back the death signal of the setup: a running cell outlives its supervisor, which finds it again.
pub fn reset_signals(ignored: Mask) -> Result<()> {
    process::set_parent_death_signal(0)?;
    signal::reset_dispositions(ignored)?;
    signal::set_mask(Mask::NONE).map(drop)
}

impl Execute {
    /// Comes back only with an error: the last one that says more than "not here", as execvp(3) does.
    pub fn perform(&self, stage: &mut Stage<'_>) -> Error {
        if let Some((index, prefix)) = stage.listen_pid {
            stage.environment.patch_number(index, prefix, process::getpid() as u32);
        }
        let mut result = Error { call: "execve", errno: libc::ENOENT };
        for candidate in &self.candidates {
            let error = process::execve(candidate, &self.argv, stage.environment);
            match error.errno {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => result = error,
                _ => return error,
            }
        }
        result
    }
}
