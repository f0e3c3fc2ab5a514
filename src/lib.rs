//! cellinit: an init system whose every service lives in a **cell**.
//!
//! The one road: text becomes a [`unit::Unit`]; a unit plus [`plan::Facts`] about this host becomes a
//! [`plan::Plan`]; the [`supervisor::Supervisor`] decides when; the cell room performs the plan in one clone;
//! the last step executes a native program or the Wasm host.
//!
//! The invariants, which `tests/tidy.rs` checks:
//!
//! 1. `supervisor`, `plan`, `unit` and `control` see no clock, file, environment, pid table or random number.
//! 2. `cellinit` never runs Wasm, unpacks an image or parses what a service wrote.
//! 3. `unsafe` only under `src/sys/`; one named exception: loading precompiled Wasm.
//! 4. One `waitpid` in PID 1, no `tokio::process`, no blocking pool: PID 1 has one thread.
//! 5. A plan is complete: performing it reads no unit file, no environment, no clock, and allocates nothing.
//! 6. seccomp is the last step before the payload.
//! 7. After "from now on we must not die" no `?` leaves the loop: an error becomes an event.
//!    A panic ends its turn and the state is kept; a fatal signal still ends PID 1 (docs/ARCHITECTURE.md).
//! 8. One heavy library, one room: toml in `unit`, libseccomp in `cell`, cgroups-rs in `init`, wasmtime in `wasm`, clap in `ctl`.
//! 9. An isolation that was asked for and cannot be had is a failed start with its reason.
//! 10. A cell is its cgroup: it is stopped when the cgroup is empty.

pub mod cell;
pub mod control;
pub mod ctl;
pub mod init;
pub mod load;
pub mod log;
pub mod places;
pub mod plan;
pub mod supervisor;
pub mod sys;
pub mod time;
pub mod unit;
