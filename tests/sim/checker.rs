//! What must be true of the machine's *history*. It sees what goes in and what comes out, keeps its own books, and knows
//! nothing of the machine's insides; what is true between two events the machine says itself (`invariants`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use cellinit::supervisor::*;
use cellinit::unit::{Condition, ExitMatch, Kind, Ready, Unit};

/// Actions that one event may bring about, per unit.
const ACTIONS_PER_UNIT: usize = 24;

/// A machine under watch.
#[derive(Clone)]
pub struct Watched {
    pub machine: Supervisor,
    pub now: Time,
    books: Vec<Book>,
    units: Rc<Units>,
    shutdown: Option<Time>,
    finished: bool,
}

/// The units, and who depends on whom, worked out apart from the machine.
pub struct Units {
    pub list: Vec<Unit>,
    /// No requirement or order runs in a circle, so the order of stops is strict.
    pub acyclic: bool,
}

#[derive(Clone)]
struct Book {
    state: StateName,
    live: Option<Run>,
    last_run: u64,
    /// The last run ended with success, by itself, and nobody stopped the unit since.
    done: bool,
    /// An ordered stop was asked for, and nothing was signalled yet.
    asked_stop: bool,
    not_before: Option<Time>,
    spawned_at: Option<Time>,
    restarts: Vec<Time>,
    running_since: Option<Time>,
}

#[derive(Clone, Default)]
struct Run {
    number: u64,
    executed: bool,
    told_ready: bool,
    gone: bool,
    killed: bool,
    succeeded: bool,
    emptied: bool,
    probes: BTreeMap<ProbeKind, Time>,
    passed: BTreeSet<ProbeKind>,
}

type Verdict = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => { if !$holds { return Err(format!($($message)*)); } };
}

impl Watched {
    pub fn new(units: Rc<Units>, seed: u64) -> Watched {
        let book = Book {
            state: StateName::Stopped,
            live: None,
            last_run: 0,
            done: false,
            asked_stop: false,
            not_before: None,
            spawned_at: None,
            restarts: Vec::new(),
            running_since: None,
        };
        let machine = Supervisor::new(&units.list, seed);
        let books = vec![book; units.list.len()];
        Watched { machine, now: Time(0), books, units, shutdown: None, finished: false }
    }

    /// Hands in an event and checks everything. The actions, in order, are for the world.
    pub fn event(&mut self, now: Time, event: Event) -> Result<Vec<Action>, String> {
        self.now = now;
        self.note(&event);
        self.machine.handle_event(now, event);
        self.drain()
    }

    /// Lets the deadline pass. It may take a second round when a timeout of zero follows at once, but never many.
    pub fn timeout(&mut self, now: Time) -> Result<Vec<Action>, String> {
        self.now = now;
        let mut actions = Vec::new();
        for _ in 0..4 {
            self.machine.handle_timeout(now);
            actions.extend(self.drain()?);
            if self.machine.poll_timeout().is_none_or(|time| time > now) {
                return Ok(actions);
            }
        }
        Err("the machine wants to be woken again and again without time passing".to_owned())
    }

    /// Through JSON and back: nothing may differ.
    pub fn save_and_restore(&mut self) -> Verdict {
        let saved = serde_json::to_string(&self.machine).map_err(|error| error.to_string())?;
        let restored: Supervisor = serde_json::from_str(&saved).map_err(|error| error.to_string())?;
        ensure!(restored == self.machine, "a restored machine differs");
        self.machine = restored;
        Ok(())
    }

    pub fn live_run(&self, unit: UnitId) -> Option<u64> {
        self.book(unit).live.as_ref().map(|run| run.number)
    }

    pub fn finished(&self) -> bool {
        self.finished
    }

    fn book(&self, unit: UnitId) -> &Book {
        &self.books[unit.0 as usize]
    }

    fn unit(&self, unit: UnitId) -> &Unit {
        &self.units.list[unit.0 as usize]
    }

    fn id(&self, name: &str) -> Option<UnitId> {
        self.machine.find(name)
    }

    /// Writes down what the world says, before the machine hears it.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Start(_) | Event::Stop(_) | Event::Restart(_) => {
                for book in &mut self.books {
                    book.restarts.clear();
                    book.not_before = None;
                }
            }
            Event::Shutdown => self.shutdown = self.shutdown.or(Some(self.now)),
            Event::Executed { unit, run } => self.on_run(*unit, *run, |live| live.executed = true),
            Event::Ready { unit, run } => self.on_run(*unit, *run, |live| {
                live.executed = true;
                live.told_ready = true;
            }),
            Event::Exited { unit, run, exit } => {
                let success = self.units.list.get(unit.0 as usize).is_some_and(|unit| {
                    let listed = &unit.service.success_status;
                    exit.hint.is_none()
                        && match exit.status {
                            ExitStatus::Status(code) => code == 0 || listed.contains(&ExitMatch::Status(code)),
                            ExitStatus::Signal { signal, .. } => listed.contains(&ExitMatch::Signal(signal)),
                            ExitStatus::Unknown => false,
                        }
                });
                self.on_run(*unit, *run, |live| {
                    live.succeeded |= success && !live.gone;
                    live.gone = true;
                });
            }
            Event::SpawnFailed { unit, run, .. } => self.on_run(*unit, *run, |live| live.gone = true),
            Event::Emptied { unit, run } => self.on_run(*unit, *run, |live| {
                live.gone = true;
                live.emptied = true;
            }),
            Event::Probed { unit, run, probe, ok, .. } => self.on_run(*unit, *run, |live| {
                let asked = live.probes.remove(probe).is_some();
                if asked && *ok {
                    live.passed.insert(*probe);
                }
            }),
            Event::NotifyStopping { .. } | Event::WatchdogPing { .. } | Event::OomKilled { .. } => {}
        }
    }

    fn on_run(&mut self, unit: UnitId, run: u64, change: impl FnOnce(&mut Run)) {
        let live = self.books.get_mut(unit.0 as usize).and_then(|book| book.live.as_mut());
        if let Some(live) = live.filter(|live| live.number == run) {
            change(live);
        }
    }

    fn drain(&mut self) -> Result<Vec<Action>, String> {
        let mut actions = Vec::new();
        while let Some(action) = self.machine.poll_action() {
            self.check_action(&action).map_err(|broken| format!("{action:?}: {broken}"))?;
            actions.push(action);
        }
        let most = (self.books.len() + 1) * ACTIONS_PER_UNIT;
        ensure!(actions.len() <= most, "{} actions for one event", actions.len());
        self.machine.invariants()?;
        self.check_rest()?;
        Ok(actions)
    }

    fn check_action(&mut self, action: &Action) -> Verdict {
        match action {
            Action::Spawn { unit, run } => self.check_spawn(*unit, *run),
            Action::Signal { unit, run, .. } => self.check_signal(*unit, *run),
            Action::Kill { unit, run } => {
                ensure!(self.live_run(*unit) == Some(*run), "kills a run that does not live");
                self.books[unit.0 as usize].asked_stop = false;
                self.on_run(*unit, *run, |live| live.killed = true);
                Ok(())
            }
            Action::Probe { unit, run, probe } => self.check_probe(*unit, *run, *probe),
            Action::Release { unit, run } => {
                let live = self.books[unit.0 as usize].live.take();
                ensure!(live.as_ref().is_some_and(|live| live.number == *run), "releases a run that does not live");
                ensure!(live.is_some_and(|live| live.emptied), "releases a cell that is not empty");
                Ok(())
            }
            Action::Changed(change) => self.check_change(change),
            Action::Finished => {
                let Some(since) = self.shutdown else { return Err("finished without a shutdown".to_owned()) };
                ensure!(!self.finished, "finished twice");
                let given_up = since.after(SHUTDOWN_TIMEOUT).after(SURVIVOR_TIMEOUT) <= self.now;
                for live in self.books.iter().filter_map(|book| book.live.as_ref()) {
                    ensure!(given_up, "finished while a cell lives");
                    ensure!(live.killed, "given up and never killed");
                }
                self.finished = true;
                Ok(())
            }
        }
    }

    fn check_spawn(&mut self, unit: UnitId, run: u64) -> Verdict {
        ensure!(self.shutdown.is_none(), "spawned during the shutdown");
        let book = self.book(unit);
        ensure!(book.live.is_none(), "two runs at once");
        ensure!(run == book.last_run + 1, "run {run} after run {}", book.last_run);
        ensure!(book.not_before.is_none_or(|time| time <= self.now), "spawned before its backoff is over");
        ensure!(self.machine.view(unit).desired == Desired::Up, "spawned and not wanted");
        let settings = self.unit(unit);
        for name in &settings.requires {
            let on = self.id(name).map(|on| self.book(on).state);
            ensure!(!matches!(on, Some(StateName::Failed | StateName::Stopping)), "spawned while {name} is {on:?}");
        }
        for depends in &settings.depends {
            let Some(on) = self.id(&depends.unit) else {
                continue;
            };
            ensure!(self.holds(on, depends.condition), "spawned while {} is not {:?}", depends.unit, depends.condition);
        }
        if self.units.acyclic {
            for name in self.after(unit) {
                let state = self.id(&name).map(|on| self.book(on).state);
                let busy = matches!(state, Some(StateName::Waiting | StateName::Starting | StateName::Stopping));
                ensure!(!busy, "spawned while {name}, which is before it, is {state:?}");
            }
        }
        for (index, other) in self.units.list.iter().enumerate() {
            if other.conflicts.contains(&settings.name) || settings.conflicts.contains(&other.name) {
                ensure!(self.books[index].live.is_none(), "spawned beside {}", other.name);
            }
        }
        let book = &mut self.books[unit.0 as usize];
        book.last_run = run;
        book.spawned_at = Some(self.now);
        book.done = false;
        book.live = Some(Run { number: run, ..Run::default() });
        Ok(())
    }

    /// Units that this one was told to come after.
    fn after(&self, unit: UnitId) -> Vec<String> {
        let settings = self.unit(unit);
        let before = self.units.list.iter().filter(|other| other.before.contains(&settings.name));
        let before = before.map(|other| other.name.clone());
        settings.after.iter().cloned().chain(before).filter(|name| *name != settings.name).collect()
    }

    /// The condition, from what the world said.
    fn holds(&self, on: UnitId, condition: Condition) -> bool {
        let (book, settings) = (self.book(on), self.unit(on));
        let is_job = settings.service.ready == Ready::Completed;
        if book.done && (is_job || condition == Condition::Completed) {
            return true;
        }
        if settings.kind == Kind::Target {
            return book.state == StateName::Running && condition != Condition::Completed;
        }
        let Some(live) = book.live.as_ref().filter(|live| !live.gone) else {
            return false;
        };
        let started = live.executed || settings.service.ready == Ready::Spawned;
        let ready = match settings.service.ready {
            Ready::Spawned => true,
            Ready::Exec => live.executed,
            Ready::Notify | Ready::Fd(_) => live.told_ready,
            Ready::Health => !live.passed.is_empty(),
            Ready::Completed => false,
        };
        let probes = [
            (ProbeKind::Startup, settings.health.startup.is_some()),
            (ProbeKind::Live, settings.health.live.is_some()),
            (ProbeKind::Ready, settings.health.ready.is_some()),
        ];
        match condition {
            Condition::Started => started,
            Condition::Ready => ready,
            Condition::Healthy => ready && probes.iter().all(|(kind, has)| !has || live.passed.contains(kind)),
            Condition::Completed => false,
        }
    }

    fn check_signal(&mut self, unit: UnitId, run: u64) -> Verdict {
        ensure!(self.live_run(unit) == Some(run), "signals a run that does not live");
        ensure!(self.book(unit).state == StateName::Stopping, "signals a unit that is not stopping");
        ensure!(self.book(unit).live.as_ref().is_some_and(|live| live.executed), "signals what has not executed");
        let asked = std::mem::replace(&mut self.books[unit.0 as usize].asked_stop, false);
        if !asked || !self.units.acyclic {
            return Ok(());
        }
        let name = &self.unit(unit).name;
        for (other, book) in self.units.list.iter().zip(&self.books) {
            let requires = other.requires.contains(name) || other.depends.iter().any(|depends| depends.unit == *name);
            let ordered = other.after.contains(name) || self.unit(unit).before.contains(&other.name);
            ensure!(!(requires && book.live.is_some()), "told to stop before {}, which requires it", other.name);
            ensure!(!(ordered && book.state == StateName::Stopping), "told to stop before {}, which was started after it", other.name);
        }
        Ok(())
    }

    fn check_probe(&mut self, unit: UnitId, run: u64, probe: ProbeKind) -> Verdict {
        let health = &self.unit(unit).health;
        let settings = match probe {
            ProbeKind::Startup => &health.startup,
            ProbeKind::Live => &health.live,
            ProbeKind::Ready => &health.ready,
        };
        let Some(settings) = settings else {
            return Err("runs a probe that the unit does not have".to_owned());
        };
        let (timeout, has_startup, now) = (settings.timeout, health.startup.is_some(), self.now);
        let book = &mut self.books[unit.0 as usize];
        ensure!(matches!(book.state, StateName::Starting | StateName::Running), "probes a unit that is {:?}", book.state);
        let Some(live) = book.live.as_mut().filter(|live| live.number == run) else {
            return Err("probes a run that does not live".to_owned());
        };
        ensure!(live.executed && !live.gone, "probes a cell without a program");
        ensure!(
            probe == ProbeKind::Startup || !has_startup || live.passed.contains(&ProbeKind::Startup),
            "probes before the startup probe passed"
        );
        if let Some(asked) = live.probes.insert(probe, now) {
            ensure!(asked.after(timeout).after(PROBE_GUARD) <= now, "two probes of one kind at once");
        }
        Ok(())
    }

    fn check_change(&mut self, change: &Change) -> Verdict {
        let (now, restart) = (self.now, self.unit(change.unit).restart.clone());
        let view = self.machine.view(change.unit);
        let book = &mut self.books[change.unit.0 as usize];
        ensure!(change.from == book.state, "it was {:?}", book.state);
        ensure!(change.at == now, "at another time");
        book.state = change.to;
        if change.from == change.to {
            return Ok(());
        }
        if let Some(since) = book.running_since.take()
            && since.after(restart.reset_after) <= now
        {
            book.restarts.clear();
        }
        match change.to {
            StateName::Stopping => {
                let asked = matches!(change.cause, Some(Cause::Asked { .. }));
                book.asked_stop = asked;
                book.done = false;
            }
            StateName::Backoff => {
                book.restarts.push(now);
                let lately = book.restarts.iter().filter(|time| time.after(restart.window) > now).count();
                ensure!(restart.attempts.is_none_or(|attempts| lately <= attempts as usize), "restarted {lately} times within its window");
                // A unit that has moved on within the same event no longer shows its backoff.
                if view.state == StateName::Backoff {
                    let until = view.until.ok_or("a backoff without an end")?;
                    let interval = book.spawned_at.map_or(Duration::ZERO, |start| MIN_INTERVAL.saturating_sub(now.since(start)));
                    let (delay, most) = (until.since(now), restart.max_delay.max(MIN_INTERVAL));
                    let jitter = f64::from(restart.jitter_permille) / 1000.0;
                    let least = restart.delay.min(restart.max_delay).mul_f64(1.0 - jitter).max(interval);
                    // Half a microsecond for the floats of this line.
                    ensure!(delay + Duration::from_nanos(500) >= least, "a backoff of {delay:?}, at least {least:?}");
                    ensure!(delay <= most, "a backoff of {delay:?}, at most {most:?}");
                    book.not_before = Some(until);
                }
            }
            StateName::Failed => ensure!(change.cause.is_some(), "failed without a cause"),
            StateName::Completed => book.done = true,
            StateName::Stopped => book.done = matches!(change.cause, Some(Cause::Success { .. })),
            StateName::Running => book.running_since = Some(now),
            StateName::Waiting | StateName::Starting => {}
        }
        Ok(())
    }

    /// Nobody is forgotten: whoever is on the way somewhere waits for a unit, a deadline or the world.
    fn check_rest(&self) -> Verdict {
        for unit in self.machine.units() {
            let (state, book) = (self.machine.state_name(unit), self.book(unit));
            ensure!(state == book.state, "{unit:?} is {state:?} and said {:?}", book.state);
            if matches!(state, StateName::Stopped | StateName::Failed | StateName::Completed) {
                ensure!(book.live.is_none(), "{unit:?} is {state:?} and has a cell");
                continue;
            }
            let view = self.machine.view(unit);
            let name = &view.name;
            ensure!(view.run == book.last_run || view.kind == Kind::Target, "{name} counts its runs in another way");
            let has_cell = book.live.is_some();
            let timer = |time: Option<Time>| time.is_none() || self.machine.poll_timeout() <= time;
            ensure!(timer(view.until), "{name} has a deadline that nobody will be woken for");
            let moving = |state| !matches!(state, StateName::Stopped | StateName::Failed | StateName::Completed);
            match view.state {
                StateName::Stopped | StateName::Failed | StateName::Completed => {}
                StateName::Backoff => {
                    ensure!(!has_cell && view.until.is_some(), "{name} will never come back");
                }
                StateName::Waiting => {
                    ensure!(!has_cell && !view.waiting_for.is_empty(), "{name} waits for nothing");
                    for wait in &view.waiting_for {
                        let state = self.book(wait.unit).state;
                        ensure!(moving(state), "{name} waits for {}, which is {state:?}", wait.name);
                    }
                }
                StateName::Starting | StateName::Running => {
                    ensure!(has_cell || view.kind == Kind::Target, "{name} has no cell");
                }
                StateName::Stopping if view.waiting_for.is_empty() => {
                    ensure!(has_cell, "{name} stops and nothing of it lives");
                }
                StateName::Stopping => {
                    for wait in &view.waiting_for {
                        let state = self.book(wait.unit).state;
                        ensure!(state == StateName::Stopping, "{name} waits for {}, which is {state:?}", wait.name);
                    }
                }
            }
        }
        let alive = self.books.iter().any(|book| book.live.is_some());
        ensure!(!self.finished || alive || self.machine.poll_timeout().is_none(), "a finished machine wants to be woken");
        if let Some(since) = self.shutdown.filter(|_| !self.finished) {
            // A second for hosts that wake us late.
            let bound = since.after(SHUTDOWN_TIMEOUT).after(SURVIVOR_TIMEOUT).after(Duration::from_secs(1));
            ensure!(self.machine.poll_timeout().is_some_and(|time| time <= bound), "a shutdown without a bound");
        }
        Ok(())
    }
}
