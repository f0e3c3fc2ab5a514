//! PURE: a [`Unit`](crate::unit::Unit) plus [`Facts`] about this host becomes a [`Plan`]: the complete, printable list of what
//! the kernel will be asked. The plan is the only thing that crosses into the cell.

#![forbid(unsafe_code)]

mod build;
mod compile;
pub mod errno;
mod error;
mod explain;
mod facts;
pub mod guest;
mod identity;
mod limits;
mod payload;
mod report;
mod root;
mod selinux;
mod show;
mod step;
pub mod syscalls;

pub use build::{Given, WASM_LISTEN, WASM_WRITE, build, build_probe, check};
pub use compile::{build_compile, build_digest};
pub use error::PlanError;
pub use facts::*;
pub use identity::DYNAMIC_ID;
pub use limits::{DEFAULT_NOFILE, DEFAULT_PIDS};
pub use payload::{DEFAULT_PATH, LISTEN_FDS_START, SOCKET_PATH, may_set};
pub use report::*;
pub use root::{NOTIFY, NOTIFY_HOST, RUNTIME, emptied};
pub use step::*;
