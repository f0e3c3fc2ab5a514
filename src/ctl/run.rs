//! `cell run FILE`: the supervisor's shell, for one unit. It is another room, which this one must not look into: the program
//! `cell` goes there when it comes back from here. A program of its own would cost another exec, a fifth of the whole start.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;

/// Without --run-dir it keeps its things apart from every supervisor's, and removes them; but for `[dirs] state`, which is the
/// system's and stays, and for which no system's supervisor may be running.
#[derive(Debug, Args)]
pub struct Run {
    /// The unit file
    pub file: PathBuf,
}

impl Run {
    /// `cell run FILE` and nothing else is read by hand. To put the grammar of every verb together, as clap does, takes 0.3 ms,
    /// a twentieth of the whole start.
    pub fn plain(words: &[OsString]) -> Option<PathBuf> {
        match words {
            [verb, file] if verb == "run" && !file.as_encoded_bytes().starts_with(b"-") => Some(file.into()),
            _ => None,
        }
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
