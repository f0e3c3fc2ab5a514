//! A virtual machine that boots units: the image, the kernel, the machine itself.

mod contents;
mod cpio;
mod elf;
pub mod image;
pub mod kernel;
pub mod machine;
mod policy;
mod programs;
mod tree;
