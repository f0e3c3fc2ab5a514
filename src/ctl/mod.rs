//! SHELL: what a person types. One file per verb of `cell`.
#![forbid(unsafe_code)]

mod boot;
mod change;
mod check;
mod client;
mod detail;
mod edited;
mod events;
mod failure;
mod initramfs;
mod logs;
mod pids;
mod plan;
mod power;
mod run;
mod status;
mod table;
mod terminal;
mod up;
mod vm;
mod why;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Failure, USAGE};

/// For scripts.
const CODES: &str = "\
Exit codes: 0, 1 failure, 2 usage, 3 no supervisor is running, 4 no such unit; `cell run` passes its program's on, and 125 is that nothing was started.";

/// Services in cells: native programs and WebAssembly behind the same walls
#[derive(Debug, Parser)]
#[command(name = "cell", version, max_term_width = 100, after_help = CODES)]
struct Command {
    /// The run directory of the supervisor to talk to [default: $CELLINIT_RUN_DIR, or /run/cellinit]
    #[arg(long, global = true, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find every fault of unit files, and what this host cannot do for them
    Check(check::Check),
    /// Print the exact steps that a start of a unit would perform
    Plan(plan::Plan),
    /// Run one unit once in the foreground; its exit code is passed on (125: nothing was started)
    Run(run::Run),
    /// Supervise units in the foreground, with a live table, until Ctrl-C stops them in order
    Up(up::Up),
    /// The first process of `up`'s namespaces
    #[command(hide = true, name = up::INSIDE)]
    UpInside(up::Inside),
    /// Boot units in a virtual machine, with cellinit as its init; Ctrl-C stops them and powers it off
    Boot(boot::Boot),
    /// Build the image that `boot` boots, of the units and everything of this host that they name
    Initramfs(initramfs::Initramfs),
    /// Show every unit, or one with its walls as the kernel shows them
    Status(status::Status),
    /// Start units and what they need, and wait until they are up
    Start(change::Change),
    /// Stop units and what needs them, and wait until they are down
    Stop(change::Change),
    /// Stop units and start them again
    Restart(change::Change),
    /// Print what a unit wrote
    Logs(logs::Logs),
    /// Print what happens to units, as it happens
    Events(events::Events),
    /// Say what a unit is doing, what it waits for, and what it died of
    Why(why::Why),
    /// Stop every unit in order, then power off (a plain supervisor just ends)
    Poweroff(power::Power),
    /// Stop every unit in order, then restart the machine
    Reboot(power::Power),
    /// Stop every unit in order, then halt the machine
    Halt(power::Power),
}

/// What the program does with a command line.
pub enum Next {
    Exit(ExitCode),
    /// `cell run`: for the room of the supervisor.
    Foreground {
        file: PathBuf,
        run_dir: Option<PathBuf>,
    },
    /// `cell up` has killed its supervisor, and what that left is for the room of the supervisor, too.
    Sweep {
        run_dir: PathBuf,
    },
}

pub fn main() -> Next {
    if let Some(file) = run::Run::plain(&std::env::args_os().skip(1).collect::<Vec<_>>()) {
        return Next::Foreground { file, run_dir: None };
    }
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => {
            let _ = error.print();
            return Next::Exit(ExitCode::from(if error.use_stderr() { USAGE } else { 0 }));
        }
    };
    command.verb.perform(command.run_dir.as_deref()).unwrap_or_else(|failure| {
        eprint!("{}", failure.render(terminal::Paint::for_stderr()));
        Next::Exit(ExitCode::from(failure.code))
    })
}

impl Verb {
    fn perform(self, said: Option<&Path>) -> Result<Next, Failure> {
        let run_dir = crate::places::run_dir(said).map_err(|e| Failure::new("cannot use the run directory", e))?;
        let run_dir = run_dir.as_path();
        let code = match self {
            Verb::Run(verb) => return Ok(Next::Foreground { file: verb.file, run_dir: said.map(Path::to_owned) }),
            Verb::Check(verb) => verb.perform(run_dir),
            Verb::Plan(verb) => verb.perform(run_dir),
            Verb::Up(verb) => return verb.perform(run_dir),
            Verb::UpInside(verb) => verb.perform(),
            Verb::Boot(verb) => boot::run(&verb).map_err(|e| Failure::new("cannot boot", e)),
            Verb::Initramfs(verb) => {
                initramfs::run(&verb).map_err(|e| Failure::new("cannot build the image", e)).map(|()| ExitCode::SUCCESS)
            }
            Verb::Status(verb) => verb.perform(run_dir),
            Verb::Start(verb) => verb.perform(run_dir, change::Wish::Start),
            Verb::Stop(verb) => verb.perform(run_dir, change::Wish::Stop),
            Verb::Restart(verb) => verb.perform(run_dir, change::Wish::Restart),
            Verb::Logs(verb) => verb.perform(run_dir),
            Verb::Events(verb) => verb.perform(run_dir),
            Verb::Why(verb) => verb.perform(run_dir),
            Verb::Poweroff(verb) => verb.perform(run_dir, power::Goal::Poweroff),
            Verb::Reboot(verb) => verb.perform(run_dir, power::Goal::Reboot),
            Verb::Halt(verb) => verb.perform(run_dir, power::Goal::Halt),
        };
        code.map(Next::Exit)
    }
}
