//! What the loop answers to a client: the machine's view of a unit, with what the kernel says of its cell.

use std::path::PathBuf;

use serde_json::Value;

use super::clock;
use super::control::{Reply, value};
use super::member::Member;
use super::shell::{Shell, index};
use super::shutdown::Goal;
use crate::control::{Cause, EVENTS_KEPT, Error, Files, Info, Link, Plan, Request, Status, Unit, UnitFile, Units, Waiting, Why};
use crate::load::Stamp;
use crate::plan::{self, Given};
use crate::supervisor::{Event, Pending, UnitId, View};
use crate::unit::nearest_unit;

impl Shell {
    pub(super) fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Events { unit, backlog } => {
                let backlog = backlog.map_or(0, |count| usize::try_from(count).unwrap_or(EVENTS_KEPT).min(EVENTS_KEPT));
                match unit.as_deref().map(|name| self.find(name)).transpose() {
                    Err(error) => Reply::Once(Err(error)),
                    Ok(_) => Reply::Stream { backlog: self.events.last(backlog, unit.as_deref()), live: self.events.listen(), unit },
                }
            }
            request => Reply::Once(self.answer_once(request)),
        }
    }

    fn answer_once(&mut self, request: Request) -> Result<Value, Error> {
        match request {
            Request::Ping => done(),
            Request::GetInfo => value(&self.info()),
            Request::Files => value(&self.files()),
            Request::List => value(&Units { units: self.supervisor.units().map(|unit| self.unit(unit)).collect() }),
            Request::Status { unit } => {
                let id = self.find(&unit)?;
                value(&Status { unit: self.unit_with_walls(id) })
            }
            Request::Why { unit } => value(&self.why(&unit)?),
            Request::Plan { unit } => {
                let id = self.find(&unit)?;
                value(&self.plan(id)?)
            }
            Request::Start { unit } => {
                let unit = self.find(&unit)?;
                self.refuse_when_stopping()?;
                self.wish(Event::Start(unit))
            }
            Request::Stop { unit } => {
                let unit = self.find(&unit)?;
                self.wish(Event::Stop(unit))
            }
            Request::Restart { unit } => {
                let unit = self.find(&unit)?;
                self.refuse_when_stopping()?;
                self.wish(Event::Restart(unit))
            }
            Request::Poweroff => self.leave(Goal::PowerOff),
            Request::Reboot => self.leave(Goal::Reboot),
            Request::Halt => self.leave(Goal::Halt),
            // Answered by the connection itself, or above.
            Request::ServiceInfo | Request::InterfaceDescription { .. } | Request::Events { .. } => done(),
        }
    }

    fn wish(&mut self, event: Event) -> Result<Value, Error> {
        self.hear_of_executions();
        self.tell_machine(event);
        done()
    }

    fn leave(&mut self, goal: Goal) -> Result<Value, Error> {
        self.stop(if self.about.machine { goal } else { Goal::Exit });
        done()
    }

    fn refuse_when_stopping(&self) -> Result<(), Error> {
        if self.is_stopping() { Err(Error::ShuttingDown {}) } else { Ok(()) }
    }

    fn find(&self, name: &str) -> Result<UnitId, Error> {
        self.supervisor.find(name).ok_or_else(|| {
            let names = self.members.iter().map(|member| member.unit.name.as_str());
            Error::NoSuchUnit { unit: name.chars().take(120).collect(), nearest: nearest_unit(name, names).map(str::to_owned) }
        })
    }

    fn info(&self) -> Info {
        let pid = nix::unistd::getpid().as_raw();
        Info {
            version: env!("CARGO_PKG_VERSION").into(),
            pid,
            init: pid == 1,
            run_dir: self.world.facts.run_dir.display().to_string(),
            units: self.about.units.iter().map(|path| path.display().to_string()).collect(),
            since: clock::wall_at(self.about.since).to_string(),
            state: if self.is_stopping() { "stopping" } else { "running" }.into(),
        }
    }

    /// Paths as anybody can use them, wherever he stands.
    fn files(&self) -> Files {
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string();
        let files = self.about.files.iter();
        let file = |file: &Stamp| UnitFile { path: whole(&file.path), inode: file.inode, size: file.size, modified: file.modified };
        Files { paths: self.about.units.iter().map(whole).collect(), files: files.map(file).collect() }
    }

    fn unit(&self, id: UnitId) -> Unit {
        let view = self.supervisor.view(id);
        let member = self.members.get(index(id));
        let alive = member.and_then(Member::living);
        Unit {
            description: member.map(|member| member.unit.description.clone()).unwrap_or_default(),
            kind: word(&view.kind),
            state: view.state.as_str().into(),
            desired: word(&view.desired),
            health: view.health.as_str().into(),
            ready: view.ready,
            pid: alive.map(|alive| alive.pid),
            restarts: view.restarts,
            // What has never been started is as it is since we are here.
            since: clock::wall_at(view.since.max(self.about.since)).to_string(),
            cause: view.cause.as_ref().map(|cause| Cause { kind: cause.word().into(), text: cause.to_string() }),
            cgroup: alive.map(|alive| alive.cgroup.path().display().to_string()),
            memory: alive.and_then(|alive| alive.cgroup.memory()),
            status_text: member.and_then(Member::says),
            waiting_for: view
                .waiting_for
                .iter()
                .map(|wait| Waiting { unit: wait.name.clone(), condition: wait.condition.into() })
                .collect(),
            probes: None,
            walls: None,
            name: view.name,
        }
    }

    fn unit_with_walls(&self, id: UnitId) -> Unit {
        let mut unit = self.unit(id);
        let member = self.members.get(index(id));
        // Both are of what lives: what a probe said of a process that is gone is in the cause, if that is what it died of.
        let Some((member, alive)) = member.and_then(|member| Some((member, member.living()?))) else { return unit };
        unit.probes = Some(&member.probed).filter(|probed| !probed.is_empty()).and_then(|probed| serde_json::to_value(probed).ok());
        unit.walls = crate::cell::walls::read(alive.pid).and_then(|walls| serde_json::to_value(walls).ok());
        unit
    }

    /// Built anew: what a start would do now.
    fn plan(&self, id: UnitId) -> Result<Plan, Error> {
        let member = self.members.get(index(id)).ok_or(Error::ShuttingDown {})?;
        let refused = |reason: String| Error::NoPlan { unit: member.unit.name.clone(), reason };
        let plan = plan::build(&member.unit, &self.world.facts, &Given::from(member.slot)).map_err(|e| refused(e.in_one_line()))?;
        Ok(Plan { text: plan.to_string(), plan: value(&plan)? })
    }

    fn why(&self, name: &str) -> Result<Why, Error> {
        let unit = self.find(name)?;
        let links = self.supervisor.why(unit).into_iter();
        let text = |view: &View| sentence(view, self.members.get(index(view.unit)));
        Ok(Why { links: links.map(|link| Link { depth: link.depth, unit: link.view.name.clone(), text: text(&link.view) }).collect() })
    }
}

fn done() -> Result<Value, Error> {
    Ok(Value::Object(serde_json::Map::new()))
}

/// How serde spells a plain enum.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// `health.live has failed 3 times in a row, for 4.2 s (failed: connection refused)`.
fn unhealthy(pending: &Pending, said: Option<&str>) -> String {
    let times = if pending.failures == 1 { "once" } else { &format!("{} times in a row", pending.failures) };
    let mut text = match pending.fails {
        true => format!("health.{} has failed {times}", pending.probe.as_str()),
        false => format!("health.{} has not passed yet", pending.probe.as_str()),
    };
    if let Some(since) = pending.since {
        text.push_str(&format!(", for {:.1} s", clock::now().since(since).as_secs_f64()));
    }
    said.map_or(text.clone(), |said| format!("{text} ({said})"))
}

/// `waiting: waits for db to be healthy`, `backoff: exit status 3; next try in 400ms`.
fn sentence(view: &View, member: Option<&Member>) -> String {
    let mut text = format!("{}: {}", view.state.as_str(), view.doing);
    for wait in &view.waiting_for {
        text.push_str(&format!("; waits for {} ({})", wait.name, wait.condition));
    }
    for pending in &view.pending {
        let said = member.and_then(|member| member.probed.get(pending.probe.as_str()));
        text.push_str(&format!("; {}", unhealthy(pending, said.map(String::as_str))));
    }
    if let Some(until) = view.until {
        let left = until.since(clock::now());
        text.push_str(&format!("; for {:.1} s at most", left.as_secs_f64()));
    }
    if let Some(cause) = &view.cause {
        text.push_str(&format!("; last: {cause}"));
    }
    text
}
