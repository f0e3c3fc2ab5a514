//! `cell start|stop|restart UNIT...`: say what is wanted, then wait until it is so.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::client::Client;
use super::edited;
use super::failure::{FAILED, Failure};
use super::table;
use super::terminal::{Paint, harmless};
use crate::control::{Request, Unit};

#[derive(Debug, Args)]
pub struct Change {
    /// Names, as `cell status` lists them
    #[arg(required = true)]
    units: Vec<String>,
    /// Do not wait until it is so
    #[arg(long)]
    no_block: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Start,
    Stop,
    Restart,
}

/// How far a unit is on its way.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    There,
    OnItsWay,
    /// It will not get there, or has failed once; why.
    Failed(String),
}

impl Change {
    pub fn perform(self, run_dir: &Path, wish: Wish) -> Result<ExitCode, Failure> {
        let mut client = Client::connect(run_dir)?;
        if wish != Wish::Stop {
            edited::tell(&mut client)?;
        }
        // Listening begins before the wish is said, so that no change is missed.
        let mut events = Client::connect(run_dir)?;
        events.subscribe(None, 0, "cannot follow the events")?;
        events.next_events("cannot follow the events")?;
        for unit in &self.units {
            client.ask(wish.request(unit.clone()), &wish.doing(unit))?;
        }
        if self.no_block {
            return Ok(ExitCode::SUCCESS);
        }
        let mut code = 0;
        for unit in &self.units {
            if let Err(failure) = wait(wish, unit, &mut client, &mut events) {
                eprint!("{}", failure.render(Paint::for_stderr()));
                code = failure.code;
            }
        }
        Ok(ExitCode::from(code))
    }
}

fn wait(wish: Wish, name: &str, client: &mut Client, events: &mut Client) -> Result<(), Failure> {
    let doing = wish.doing(name);
    let mut said = String::new();
    loop {
        let unit = client.unit(name, &doing)?;
        match wish.progress(&unit) {
            Progress::There if wish == Wish::Stop && unit.kind == "target" => return tell_what_goes_on(name, client),
            Progress::There => return Ok(()),
            Progress::Failed(why) => {
                let hint = format!("cell why {name}; cell logs {name}");
                return Err(Failure::new(doing, why).code(FAILED).hint(hint));
            }
            Progress::OnItsWay => {}
        }
        let saying =
            if unit.waiting_for.is_empty() { format!("{name}: {}", unit.state) } else { format!("{name}: {}", table::note(&unit)) };
        if saying != said {
            eprintln!("{}", harmless(&saying));
            said = saying;
        }
        if events.next_events(&doing)?.is_none() {
            return Err(Failure::new(doing, "the supervisor ended"));
        }
    }
}

/// Who stops a target may have meant all that it wants.
fn tell_what_goes_on(target: &str, client: &mut Client) -> Result<(), Failure> {
    let units = client.units_inside()?;
    let up = units.iter().filter(|unit| unit.kind != "target" && unit.desired == "up" && !is_at_rest(&unit.state)).count();
    if up > 0 {
        let units = if up == 1 { "1 unit goes on" } else { &format!("{up} units go on") };
        eprintln!("{target} is a target, and stops nobody: {units} here; cell stop UNIT...");
    }
    Ok(())
}

fn is_at_rest(state: &str) -> bool {
    matches!(state, "stopped" | "failed" | "completed")
}

impl Wish {
    fn request(self, unit: String) -> Request {
        match self {
            Wish::Start => Request::Start { unit },
            Wish::Stop => Request::Stop { unit },
            Wish::Restart => Request::Restart { unit },
        }
    }

    fn doing(self, unit: &str) -> String {
        let verb = match self {
            Wish::Start => "start",
            Wish::Stop => "stop",
            Wish::Restart => "restart",
        };
        format!("cannot {verb} {unit}")
    }

    fn progress(self, unit: &Unit) -> Progress {
        let cause = || unit.cause.as_ref().map_or_else(|| unit.state.clone(), |cause| cause.text.clone());
        match (self, unit.state.as_str()) {
            (Wish::Stop, state) if is_at_rest(state) => Progress::There,
            (Wish::Stop, _) if unit.desired == "up" => Progress::Failed("it was started again meanwhile".into()),
            (Wish::Stop, _) => Progress::OnItsWay,
            (_, "running" | "completed") => Progress::There,
            (_, "failed") => Progress::Failed(cause()),
            (_, "backoff") => Progress::Failed(format!("{}; it will be tried again", cause())),
            (_, "stopped" | "stopping") if unit.desired == "down" => Progress::Failed("it was stopped meanwhile".into()),
            _ => Progress::OnItsWay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::table::tests::unit;

    #[test]
    fn how_far_it_is() {
        for (wish, state, desired, expected) in [
            (Wish::Start, "running", "up", 0),
            (Wish::Start, "completed", "up", 0),
            (Wish::Start, "waiting", "up", 1),
            (Wish::Start, "starting", "up", 1),
            (Wish::Start, "failed", "up", 2),
            (Wish::Start, "backoff", "up", 2),
            (Wish::Start, "stopped", "down", 2),
            (Wish::Restart, "stopping", "up", 1),
            (Wish::Restart, "running", "up", 0),
            (Wish::Stop, "stopping", "down", 1),
            (Wish::Stop, "stopped", "down", 0),
            (Wish::Stop, "running", "up", 2),
        ] {
            let unit = Unit { desired: desired.into(), ..unit("web", state) };
            let number = match wish.progress(&unit) {
                Progress::There => 0,
                Progress::OnItsWay => 1,
                Progress::Failed(_) => 2,
            };
            assert_eq!(number, expected, "{wish:?} {state} {desired}");
        }
    }
}
