//! The rules of the machine as stories: `tests/machine/*.story` holds units and, after `--- story`, what happens (`>`) and what
//! the machine makes of it (indented, all of it, in order). `UPDATE_STORIES=1` writes down what it makes of it today; read the
//! difference before believing it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cellinit::supervisor::*;
use cellinit::unit::{CauseKind, UnitSet};

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of stories")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "story"))
        .collect();
    paths.sort();
    assert!(paths.len() > 10, "the stories are gone");
    let mut wrong = String::new();
    for path in paths {
        let written = std::fs::read_to_string(&path).expect("a story");
        let told = tell(&written);
        if told == written {
            continue;
        }
        if std::env::var_os("UPDATE_STORIES").is_some() {
            std::fs::write(&path, told).expect("a story to write");
            continue;
        }
        let differs = written.lines().zip(told.lines()).position(|(a, b)| a != b);
        let line = differs.unwrap_or(written.lines().count().min(told.lines().count()));
        let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        wrong.push_str(&format!("{}:{}:\n  written: {}\n  told:    {}\n", path.display(), line + 1, at(&written), at(&told)));
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A boot and a shutdown of a thousand units that one target wants and that all require one other, event by event.
#[test]
fn a_thousand_units() {
    let files: Vec<(PathBuf, String)> = (0..1000)
        .map(|number| {
            let requires = if number == 0 { "" } else { "[unit]\nrequires = [\"u0\"]\nafter = [\"u0\"]\n" };
            (PathBuf::from(format!("u{number}.toml")), format!("{requires}[service]\nexec = [\"/bin/x\"]\n"))
        })
        .collect();
    let set = UnitSet::from_texts(&files).unwrap_or_else(|faults| panic!("{}", faults[0]));
    let started = std::time::Instant::now();
    let mut machine = Supervisor::new(set.iter(), 1);
    let mut events = vec![Event::Start(machine.find("default").expect("the default target"))];
    let (mut handled, mut stopping, mut finished) = (0, false, false);
    while !finished {
        // The world answers at once, the latest first.
        let Some(event) = events.pop() else {
            assert!(!stopping, "the shutdown waits for nothing");
            stopping = true;
            events.push(Event::Shutdown);
            continue;
        };
        handled += 1;
        machine.handle_event(Time(handled), event);
        while let Some(action) = machine.poll_action() {
            match action {
                Action::Spawn { unit, run } => events.push(Event::Executed { unit, run }),
                Action::Signal { unit, run, .. } => {
                    events.push(Event::Emptied { unit, run });
                    events.push(Event::Exited { unit, run, exit: Exit::status(0) });
                }
                Action::Finished => finished = true,
                _ => {}
            }
        }
    }
    machine.invariants().expect("a sound machine");
    println!("{handled} events in {:?}", started.elapsed());
    assert_eq!(handled, 2 + 3 * 1000);
}

/// The story with what really happens in place of what it says.
fn tell(written: &str) -> String {
    let (head, story) = written.split_once("--- story\n").expect("a story begins with `--- story`");
    let files: Vec<(PathBuf, String)> = head
        .split("--- ")
        .skip(1)
        .map(|part| {
            let (name, text) = part.split_once('\n').expect("a unit has a name and a text");
            (PathBuf::from(format!("{}.toml", name.trim())), text.to_owned())
        })
        .collect();
    let set = UnitSet::from_texts(&files).unwrap_or_else(|faults| panic!("{}", faults[0]));
    let mut teller = Teller { machine: Supervisor::new(set.iter(), 1), now: Time(0), told: String::new() };
    for line in story.lines() {
        if let Some(words) = line.strip_prefix("> ") {
            teller.told.push_str(line);
            teller.told.push('\n');
            teller.happen(&words.split_whitespace().collect::<Vec<_>>());
            teller.machine.invariants().unwrap_or_else(|broken| panic!("{line}: {broken}"));
        } else if !line.starts_with("  ") {
            teller.told.push_str(line);
            teller.told.push('\n');
        }
    }
    format!("{head}--- story\n{}", teller.told)
}

struct Teller {
    machine: Supervisor,
    now: Time,
    told: String,
}

impl Teller {
    fn happen(&mut self, words: &[&str]) {
        match words {
            ["wait", time] => self.wait(duration(time)),
            ["why", name] => self.why(name),
            _ => {
                let event = self.event(words);
                self.machine.handle_event(self.now, event);
                self.perform();
            }
        }
    }

    fn event(&self, words: &[&str]) -> Event {
        let id = |name: &str| self.machine.find(name).unwrap_or_else(|| panic!("no unit {name}"));
        // `name` is its last run, `name@1` an older one.
        let run = |text: &str| match text.split_once('@') {
            Some((name, run)) => (id(name), run.parse().expect("a run")),
            None => (id(text), self.machine.view(id(text)).run),
        };
        let on = |text: &str, event: fn(UnitId, u64) -> Event| {
            let (unit, run) = run(text);
            event(unit, run)
        };
        let ended = |text: &str, exit: Exit| {
            let (unit, run) = run(text);
            Event::Exited { unit, run, exit }
        };
        match words {
            ["start", name] => Event::Start(id(name)),
            ["stop", name] => Event::Stop(id(name)),
            ["restart", name] => Event::Restart(id(name)),
            ["shutdown"] => Event::Shutdown,
            ["executed", name] => on(name, |unit, run| Event::Executed { unit, run }),
            ["ready", name] => on(name, |unit, run| Event::Ready { unit, run }),
            ["stopping", name] => on(name, |unit, run| Event::NotifyStopping { unit, run }),
            ["ping", name] => on(name, |unit, run| Event::WatchdogPing { unit, run }),
            ["emptied", name] => on(name, |unit, run| Event::Emptied { unit, run }),
            ["oom", name] => on(name, |unit, run| Event::OomKilled { unit, run }),
            ["cannot-start", name] => {
                let (unit, run) = run(name);
                let failure = StartFailure { step: "bind /x on /y".to_owned(), message: "ENOENT".to_owned() };
                Event::SpawnFailed { unit, run, failure }
            }
            ["exits", name, code] => ended(name, Exit::status(code.parse().expect("a status"))),
            ["dies", name, signal] => ended(name, Exit::signal(signal.parse().expect("a signal"))),
            ["traps", name] => {
                let detail = Some("unreachable".to_owned());
                ended(name, Exit { detail, ..Exit::status(134).hinted(CauseKind::Trap) })
            }
            ["probe", name, kind, answer] => {
                let (unit, run) = run(name);
                let probe = ProbeKind::ALL.into_iter().find(|probe| probe.as_str() == *kind).expect("a probe");
                Event::Probed { unit, run, probe, ok: *answer == "passes", detail: "refused".to_owned() }
            }
            _ => panic!("nobody knows `{}`", words.join(" ")),
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(wake) = self.machine.poll_timeout().filter(|wake| *wake <= until) {
            self.now = self.now.max(wake);
            self.told.push_str(&format!("  at {:?}\n", Duration::from_nanos(self.now.0)));
            self.machine.handle_timeout(self.now);
            self.perform();
        }
        self.now = until;
    }

    fn why(&mut self, name: &str) {
        let unit = self.machine.find(name).expect("a unit");
        for Link { depth, view } in self.machine.why(unit) {
            let indent = "  ".repeat(depth as usize + 1);
            self.told.push_str(&format!("{indent}{} {} ({})", view.name, view.doing, view.state.as_str()));
            if let Some(until) = view.until {
                self.told.push_str(&format!(", until {:?}", Duration::from_nanos(until.0)));
            }
            if let Some(cause) = view.cause {
                self.told.push_str(&format!(", last: {cause}"));
            }
            for wait in view.waiting_for {
                self.told.push_str(&format!("; {} is not {}", wait.name, wait.condition));
            }
            self.told.push('\n');
        }
    }

    fn perform(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            let name = |unit| self.machine.name(unit).to_owned();
            let line = match action {
                Action::Spawn { unit, run } => format!("spawn {}@{run}", name(unit)),
                Action::Signal { unit, signal, whom, .. } => {
                    format!("signal {signal} to {} ({})", name(unit), format!("{whom:?}").to_lowercase())
                }
                Action::Kill { unit, .. } => format!("kill {}", name(unit)),
                Action::Probe { unit, probe, .. } => format!("probe {} {}", name(unit), probe.as_str()),
                Action::Release { unit, run } => format!("release {}@{run}", name(unit)),
                Action::Finished => "finished".to_owned(),
                Action::Changed(change) => {
                    let because = change.cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                    if change.from == change.to {
                        format!("{} {}{because}", name(change.unit), change.health.as_str())
                    } else {
                        format!("{} {}{because}", name(change.unit), change.to.as_str())
                    }
                }
            };
            self.told.push_str(&format!("  {line}\n"));
        }
    }
}

fn duration(text: &str) -> Duration {
    let milliseconds = text.strip_suffix("ms").map(|number| number.parse().map(Duration::from_millis));
    let seconds = || text.strip_suffix('s').map(|number| number.parse().map(Duration::from_secs));
    milliseconds.or_else(seconds).expect("a unit of time").expect("a number")
}
