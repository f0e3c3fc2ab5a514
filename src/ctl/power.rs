//! `cell poweroff|reboot|halt`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use crate::control::Request;

#[derive(Debug, Args)]
pub struct Power {
    /// Do not wait until every unit has stopped
    #[arg(long)]
    no_block: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Goal {
    Poweroff,
    Reboot,
    Halt,
}

impl Power {
    pub fn perform(self, run_dir: &Path, goal: Goal) -> Result<ExitCode, Failure> {
        let mut client = Client::connect(run_dir)?;
        let request = match goal {
            Goal::Poweroff => Request::Poweroff,
            Goal::Reboot => Request::Reboot,
            Goal::Halt => Request::Halt,
        };
        client.ask(request, "cannot shut down")?;
        if !self.no_block {
            eprintln!("every unit is being stopped");
            client.wait_for_end();
        }
        Ok(ExitCode::SUCCESS)
    }
}
