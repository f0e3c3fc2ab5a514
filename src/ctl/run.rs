//! `cell run FILE`: becomes `cellinit run FILE`.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;

use super::failure::Failure;

#[derive(Debug, Args)]
pub struct Run {
    /// The unit file
    file: PathBuf,
}

impl Run {
    /// Without --run-dir it keeps its things apart from every supervisor's, and removes them; but for `[dirs] state`, which is the
    /// system's and stays, and for which no system's supervisor may be running.
    pub fn perform(self, run_dir: Option<&Path>) -> Result<ExitCode, Failure> {
        let program = program("cellinit");
        let mut command = Command::new(&program);
        command.arg("run").arg(&self.file);
        if let Some(run_dir) = run_dir {
            command.arg("--run-dir").arg(run_dir);
        }
        Err(missing(&program, command.exec()))
    }
}

/// Another of our programs: beside this one, or else wherever PATH finds it.
pub fn program(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
}

/// Why one of our programs could not be executed.
pub fn missing(program: &Path, error: std::io::Error) -> Failure {
    let failure = Failure::new(format!("cannot execute {}", program.display()), &error);
    if error.kind() == ErrorKind::NotFound { failure.hint("install cellinit beside this program, or into PATH") } else { failure }
}
