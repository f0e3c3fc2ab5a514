//! PURE: the machine. Events go in, actions come out, and time is an argument:
//!
//! ```text
//! loop { while let Some(action) = machine.poll_action() { perform(action) }
//!        wait until machine.poll_timeout() -> machine.handle_timeout(now), or for an event -> machine.handle_event(now, event) }
//! ```
//!
//! What is wanted of a unit ([`Desired`]) and what it is ([`State`]) are two things. Wants spread over dependencies first; then
//! every unit whose gates are open moves.
//!
//! # The rules
//!
//! *Start.* `requires`, `wants` and `depends` pull in. `depends` waits for its condition, `after` waits until the other has made
//! up its mind (ready, ended, failed, or failed once and backing off), `requires` alone orders nothing. A target comes after all
//! that it pulls in. An explicit start forgives earlier failures and does a job again that is done; being pulled in does not.
//!
//! *Conflict.* Starting a unit takes what it conflicts with down, with all that requires that, and waits until it is gone.
//!
//! *Stop.* An explicit stop takes along, for good, what requires the unit; an explicit restart restarts it. A unit is told to
//! stop when everything that is stopping too and depends on it (`requires`, `depends`, `after`) has stopped.
//!
//! *Failure.* A dependency that crashes and restarts by itself takes nobody down. When it has failed for good, what waits for it
//! fails with cause `dependency`, and starts by itself when the requirement holds again. What runs already, runs on.
//!
//! *End of a run.* When the main process is gone, what is left in the cell is killed; after a stop in mode `cell` or `none` it
//! has the rest of `stop.timeout`. The run is over, and released, when the cgroup is empty. Then the restart policy decides.
//!
//! *Shutdown.* Everything goes down in order; after [`SHUTDOWN_TIMEOUT`] what is left is killed, and after
//! [`SURVIVOR_TIMEOUT`] what no kill could end is left behind. Nothing starts any more.
//!
//! `tests/machine/*.story` shows each rule at work; `tests/sim.rs` looks for the case that nobody thought of.
#![forbid(unsafe_code)]

mod action;
mod cause;
mod chance;
mod check;
mod ending;
mod event;
mod gate;
mod graph;
mod health;
mod life;
mod machine;
mod node;
mod restart;
mod view;
mod want;

pub use action::*;
pub use cause::*;
pub use ending::{DETAIL_MAX, KILL_AGAIN};
pub use event::*;
pub use health::PROBE_GUARD;
pub use machine::Supervisor;
pub use node::{Cell, Main, Stage, State};
pub use restart::{HISTORY_MAX, MIN_INTERVAL};
pub use view::*;
pub use want::{SHUTDOWN_TIMEOUT, SURVIVOR_TIMEOUT};

use serde::{Deserialize, Serialize};

/// What is wanted of a unit, apart from what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    Up,
    Down,
}
