//! `cellinit run FILE`: one unit in the foreground.
use std::path::{Path, PathBuf};
use std::process::ExitCode;
pub fn main(_file: &Path, _run_dir: Option<PathBuf>) -> ExitCode { ExitCode::FAILURE }
