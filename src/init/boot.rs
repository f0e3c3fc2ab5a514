//! PID 1 of a machine.
use std::process::ExitCode;
pub fn main() -> ExitCode { ExitCode::FAILURE }
