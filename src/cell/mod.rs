//! VERBS: makes a [`Plan`](crate::plan::Plan) ready, clones, and performs it. A mirror of `plan`: what is a noun there is a
//! function here.
//!
//! [`prepare`] turns every word of a plan into memory that the kernel takes as it is; [`Prepared::spawn`] does one clone3(2);
//! the clone walks the prepared acts and ends in execve(2), or in one report home.
#![forbid(unsafe_code)]

mod error;
pub mod facts;
mod launchpad;
mod perform;
mod prepare;
pub mod seccomp;
mod spawn;
pub mod templates;
mod text;
mod user_namespace;
pub mod walls;

pub use crate::sys::shared::Progress;
pub use error::Error;
pub use launchpad::Launchpad;
pub use prepare::{Prepared, prepare};
pub use spawn::{BIRTH, Spawned, Wiring};
pub use user_namespace::{owner, user_namespace};
