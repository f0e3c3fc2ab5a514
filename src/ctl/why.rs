//! `cell why UNIT`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::client::Client;
use super::edited;
use super::failure::Failure;
use super::terminal::{self, Paint, harmless};
use crate::control::{self, Request};

#[derive(Debug, Args)]
pub struct Why {
    /// Its name, as `cell status` lists it
    unit: String,
    /// An array of objects
    #[arg(long)]
    json: bool,
}

impl Why {
    pub fn perform(self, run_dir: &Path) -> Result<ExitCode, Failure> {
        let doing = format!("cannot explain {}", self.unit);
        let mut client = Client::connect(run_dir)?;
        edited::tell(&mut client)?;
        let control::Why { links } = client.call(Request::Why { unit: self.unit }, &doing)?;
        if self.json {
            return terminal::print(&terminal::json(&links, true)?);
        }
        let paint = Paint::for_stdout();
        let mut text = String::new();
        for link in links {
            let indent = "  ".repeat(link.depth as usize);
            text.push_str(&format!("{indent}{} {}\n", paint.bold(&link.unit), harmless(&link.text)));
        }
        terminal::print(&text)
    }
}
