//! `cell events`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::terminal::{self, Paint, harmless};
use crate::control::{EVENTS_KEPT, Event};

#[derive(Debug, Args)]
pub struct Events {
    /// Only of this unit
    unit: Option<String>,
    /// One object a line
    #[arg(long)]
    json: bool,
    /// How many earlier events to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = EVENTS_KEPT as u32)]
    lines: u32,
    /// End after those
    #[arg(long)]
    no_follow: bool,
}

impl Events {
    pub fn perform(self, run_dir: &Path) -> Result<ExitCode, Failure> {
        let doing = "cannot follow the events";
        let mut client = Client::connect(run_dir)?;
        client.subscribe(self.unit.clone(), self.lines, doing)?;
        let paint = Paint::for_stdout();
        let pids = Client::connect(run_dir)?.pids()?;
        while let Some(mut events) = client.next_events(doing)? {
            // Only objects show pids. The connection that listens cannot ask.
            if self.json && !pids.are_ours() {
                let inside = Client::connect(run_dir).and_then(|mut client| client.units_inside());
                pids.translate_events(&mut events, &inside.unwrap_or_default());
            }
            for event in &events {
                terminal::write(&line(event, self.json, paint)?)?;
            }
            if self.no_follow {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn line(event: &Event, json: bool, paint: Paint) -> Result<String, Failure> {
    if json {
        return terminal::json(event, false);
    }
    Ok(show(event, paint) + "\n")
}

/// With the time of day only.
pub fn show_short(event: &Event, paint: Paint) -> String {
    let time = event.time.get(11..19).unwrap_or(&event.time);
    format!("{} {} {}", paint.dim(time), paint.bold(&event.unit), paint.state(&event.state, &harmless(&event.text)))
}

/// `2026-11-22T10:00:00.123456Z web running -> backoff: exit status 3`.
pub fn show(event: &Event, paint: Paint) -> String {
    format!("{} {} {}", paint.dim(&event.time), paint.bold(&event.unit), paint.state(&event.state, &harmless(&event.text)))
}
