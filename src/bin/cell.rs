//! `cell`: what a person types. As `cell run` it is the supervisor of one unit, and for a unit's probes what `cellinit` is for them;
//! `cell up` clears away after a supervisor that it has killed.

use cellinit::ctl::Next;
use cellinit::{ctl, init};

fn main() -> std::process::ExitCode {
    if let Some(code) = init::probe() {
        return code;
    }
    match ctl::main() {
        Next::Exit(code) => code,
        Next::Foreground { file, run_dir } => init::run(&file, run_dir),
        Next::Sweep { run_dir } => init::sweep(&run_dir),
    }
}
