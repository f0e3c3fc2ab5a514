//! SHELL: the supervisor as a program. It asks the pure machine what to do, does it, and tells it what happened; one thread,
//! one loop, and around it one small task for each thing that is waited for.
//!
//! As the init of a machine it boots first and powers off last; as an ordinary process, or as PID 1 of a namespace, it
//! supervises and leaves nothing behind.
#![forbid(unsafe_code)]

mod answer;
mod aside;
mod ask;
mod boot;
mod cache;
mod cgroup;
mod cgroup_v1;
mod children;
mod clock;
mod compile;
mod control;
mod directories;
mod environment;
mod events;
mod follow;
mod foreground;
mod happening;
mod hear;
mod launch;
mod log;
mod log_filter;
mod looks;
mod main_pid;
mod member;
mod nest;
mod notify;
mod options;
mod patience;
mod perform;
mod pool;
mod probes;
mod selinux;
mod shell;
mod shutdown;
mod signals;
mod sockets;
mod stop;
mod supervise;
mod tell;
mod way;
mod wiring;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use options::Role;

/// The name of this program on its complaints.
const PROGRAM: &str = "cellinit";

/// One unit in the foreground, for the program `cell`.
pub fn run(file: &Path, run_dir: Option<PathBuf>) -> ExitCode {
    foreground::main("cell", file, run_dir)
}

/// After `cell up` has killed everything, for the program `cell`: nothing of it stays, though whoever made it could not take it away.
pub fn sweep(run_dir: &Path) -> ExitCode {
    supervise::speak(tracing_subscriber::filter::LevelFilter::WARN);
    // Whoever asks once more does not want to wait for this either.
    nix::sys::signal::SigSet::all().thread_unblock().ok();
    if let Err(reason) = supervise::sweep(run_dir) {
        complain("cell", &format!("what was left behind stays for the next supervisor: {reason}"), 1);
    }
    ExitCode::FAILURE
}

/// This program as a unit's probe, if that is what its arguments ask for: whatever program supervises starts itself as one.
pub fn probe() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    (words.next()? == probes::ROLE).then(|| ask::main(&words.collect::<Vec<_>>()))
}

/// The system calls of the log writer: for the test that keeps the programs that are ready.
pub use log_filter::filter as log_writer_filter;

/// `cellinit`, in whichever role its arguments ask for.
pub fn main(arguments: Vec<String>) -> ExitCode {
    let pid1 = std::process::id() == 1;
    match options::role(&arguments, pid1) {
        Ok(Role::LogWriter(directory)) => match crate::log::run(&directory, log_filter::install) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(PROGRAM, &error, 1),
        },
        Ok(Role::Probe(words)) => ask::main(&words),
        Ok(Role::Run { file, run_dir }) => foreground::main(PROGRAM, &file, run_dir),
        Ok(Role::Supervise(options)) => supervise::main(&options),
        Ok(Role::Machine) => boot::main(),
        Ok(Role::Help) => {
            print!("{}", options::USAGE);
            ExitCode::SUCCESS
        }
        Err(reason) => complain(PROGRAM, &format!("{reason}\n{}", options::USAGE), 2),
    }
}

fn complain(program: &str, what: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{program}: {}", crate::unit::harmless_lines(&what.to_string()));
    ExitCode::from(code)
}
