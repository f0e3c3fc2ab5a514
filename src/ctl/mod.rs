//! SHELL: one file per verb of `cell`.

#![forbid(unsafe_code)]

pub mod boot;
pub mod initramfs;
mod vm;
