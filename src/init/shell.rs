//! The loop: actions of the machine are performed, what happens is handed to it. It decides, we do.
//!
//! Everything here happens in turns. A turn runs to its end without waiting for anything and has a bounded amount of work;
//! a panic in it is caught, logged, and the next turn begins. Nothing leaves the loop but the end of the machine.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::events::EventBook;
use super::happening::Happening;
use super::launch;
use super::member::{Member, Run, Stage};
use super::notify::{Sender, Word};
use super::shutdown::Goal;
use super::signals::{Asked, Signals};
use super::world::World;
use super::{clock, compile, directories, main_pid, probes, stop, tell};
use crate::supervisor::{Action, Change, Event, Exit, ExitStatus, StartFailure, StateName, Supervisor, Time, UnitId, View};
use crate::sys::wait::Death;
use crate::unit::{CauseKind, Payload, UnitSet, Wasm};

/// Actions performed, and happenings taken, in one turn. What is left over waits for the next one.
const ACTIONS_PER_TURN: usize = 256;
const HAPPENINGS_PER_TURN: usize = 64;
/// Directory entries swept in one turn.
const SWEEP_PER_TURN: usize = 512;
/// After a panic: what panics again at once must not fill the console and the CPU.
const PANIC_PAUSE: Duration = Duration::from_millis(100);
/// A log writer that lived this long was no failure of its own.
const WRITER_PROVED: Duration = Duration::from_secs(10);

pub struct Shell {
    pub(super) supervisor: Supervisor,
    pub(super) set: UnitSet,
    pub(super) members: Vec<Member>,
    pub(super) world: World,
    pub(super) events: EventBook,
    pub(super) about: About,
    mailbox: mpsc::Receiver<Happening>,
    /// For the machine, once the actions that it asked for are performed.
    news: VecDeque<Event>,
    goal: Option<Goal>,
    finished: bool,
    sweeping: bool,
    panicked: bool,
    /// In the foreground: how the one unit ended.
    pub(super) end: Option<View>,
}

/// What the supervisor says of itself.
pub struct About {
    pub units: Vec<PathBuf>,
    pub since: Time,
    /// The init of a machine.
    pub machine: bool,
}

impl Shell {
    pub fn new(
        supervisor: Supervisor,
        set: UnitSet,
        members: Vec<Member>,
        world: World,
        about: About,
        mailbox: mpsc::Receiver<Happening>,
    ) -> Self {
        Shell {
            supervisor,
            set,
            members,
            world,
            events: EventBook::new(),
            about,
            mailbox,
            news: VecDeque::new(),
            goal: None,
            finished: false,
            sweeping: false,
            panicked: false,
            end: None,
        }
    }

    /// Until every unit is stopped for good; says what is to follow.
    pub async fn run(&mut self, signals: &mut Signals, first: Vec<Event>) -> Goal {
        self.turn(|shell| {
            shell.start_log_writer();
            first.into_iter().for_each(|event| shell.tell_machine(event));
        });
        // From now on we must not die.
        loop {
            let busy = self.turn(Shell::settle).unwrap_or(false);
            if std::mem::take(&mut self.panicked) {
                tokio::time::sleep(PANIC_PAUSE).await;
            }
            if self.finished {
                return self.goal.unwrap_or(Goal::Exit);
            }
            if busy {
                // The tasks have their turn too.
                tokio::task::yield_now().await;
            }
            tokio::select! {
                // Signals first: a flood of happenings must not keep SIGTERM waiting. Then what is to be done: the machine's actions
                // are performed before it hears of anything else.
                biased;
                asked = signals.next() => drop(self.turn(|shell| asked.into_iter().for_each(|asked| shell.obey(asked)))),
                () = std::future::ready(()), if busy => {}
                Some(happening) = self.mailbox.recv() => drop(self.turn(|shell| shell.take(happening))),
                () = sleep_until(self.supervisor.poll_timeout()) => drop(self.turn(|shell| shell.supervisor.handle_timeout(clock::now()))),
            }
        }
    }

    /// For the end: only corpses and the log writer matter any more.
    pub(super) async fn until_log_writer_ended(&mut self, signals: &mut Signals) {
        loop {
            tokio::select! {
                asked = signals.next() => if asked.contains(&Asked::Reap) { self.obey(Asked::Reap) },
                happening = self.mailbox.recv() => if matches!(happening, None | Some(Happening::LogWriterEnded)) { return },
            }
        }
    }

    /// One bounded piece of work. `None`: it panicked, which the panic hook has logged with its place.
    fn turn<T>(&mut self, work: impl FnOnce(&mut Shell) -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        if result.is_err() {
            tracing::error!("a turn of the loop panicked; the supervisor goes on with what it knows");
            self.panicked = true;
        }
        result.ok()
    }

    /// Performs what the machine wants. True if there is more to do at once.
    fn settle(&mut self) -> bool {
        for _ in 0..ACTIONS_PER_TURN {
            if let Some(action) = self.supervisor.poll_action() {
                self.perform(action);
            } else if let Some(event) = self.news.pop_front() {
                self.supervisor.handle_event(clock::now(), event);
            } else {
                return self.sweep();
            }
        }
        true
    }

    /// What has been discarded goes in small pieces. True if something is left.
    fn sweep(&mut self) -> bool {
        if self.sweeping {
            self.sweeping = directories::sweep(&self.world.trash(), SWEEP_PER_TURN).unwrap_or_else(|error| {
                tracing::warn!(%error, "the trash cannot be swept");
                false
            });
        }
        self.sweeping
    }

    pub(super) fn tell_machine(&mut self, event: Event) {
        self.news.push_back(event);
    }

    fn obey(&mut self, asked: Asked) {
        match asked {
            Asked::Reap => {
                if self.world.children.reap() {
                    self.world.mail.try_send(Happening::Nudge).ok();
                }
            }
            Asked::Stop(goal) => self.stop(goal),
        }
    }

    /// Asked again, it changes what follows, but never skips the order.
    pub(super) fn stop(&mut self, goal: Goal) {
        if self.goal.replace(goal).is_none() {
            tracing::info!(?goal, "stopping every unit");
            self.tell_machine(Event::Shutdown);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.goal.is_some()
    }

    pub(super) fn member(&mut self, unit: UnitId) -> Option<&mut Member> {
        self.members.get_mut(index(unit))
    }

    // What happens.

    fn take(&mut self, first: Happening) {
        self.hear(first);
        for _ in 1..HAPPENINGS_PER_TURN {
            // An answer to a client must not show what is not performed yet.
            if self.settle() {
                return;
            }
            match self.mailbox.try_recv() {
                Ok(happening) => self.hear(happening),
                Err(_) => return,
            }
        }
    }

    fn hear(&mut self, happening: Happening) {
        match happening {
            Happening::Machine(event) => self.pass_on(event),
            Happening::Refused { unit, run, report } => self.refused(unit, run, report),
            Happening::Heard { unit, run, sender, word } => self.heard(unit, run, sender, word),
            Happening::Ended { unit, run, death } => self.ended(unit, run, death),
            Happening::MemoryEvent { unit, run } => self.count_oom(unit, run),
            Happening::Compiled { unit, run, artifact } => self.compiled(unit, run, artifact),
            Happening::Asked { request, reply } => {
                // A client that hung up gets no answer.
                reply.send(self.answer(request)).ok();
            }
            Happening::LogWriterEnded => {
                let pause = self.world.logs.lost();
                tracing::warn!(?pause, "the log writer died; another one follows");
                self.later(pause, Happening::LogWriterDue);
            }
            Happening::LogWriterDue => self.start_log_writer(),
            Happening::LogWriterProved => self.world.logs.proved(),
            Happening::Nudge => self.obey(Asked::Reap),
        }
    }

    fn pass_on(&mut self, event: Event) {
        match &event {
            // A start that was refused has been told already.
            Event::Executed { unit, run } if self.was_refused(*unit, *run) => return,
            Event::Probed { unit, probe, ok, detail, .. } => {
                let text = if *ok { "passed".to_owned() } else { format!("failed: {detail}") };
                let name = probe.as_str();
                if let Some(member) = self.member(*unit) {
                    member.probed.insert(name, text);
                }
            }
            // Counted before the cgroup and its count are gone.
            Event::Emptied { unit, run } => self.count_oom(*unit, *run),
            _ => {}
        }
        self.tell_machine(event);
    }

    fn was_refused(&mut self, unit: UnitId, run: u64) -> bool {
        self.member(unit).and_then(|member| member.alive(run)).is_some_and(|alive| alive.refused)
    }

    fn refused(&mut self, unit: UnitId, run: u64, report: crate::plan::Report) {
        let Some(member) = self.member(unit) else { return };
        let message = member.ready.as_ref().map_or_else(String::new, |ready| ready.plan.explain(&report));
        let Some(alive) = member.alive(run).filter(|alive| !alive.refused) else { return };
        alive.refused = true;
        self.tell_machine(Event::SpawnFailed { unit, run, failure: StartFailure { step: String::new(), message } });
    }

    fn heard(&mut self, unit: UnitId, run: u64, sender: Sender, word: Word) {
        let children = self.world.children.clone();
        let Some(member) = self.member(unit) else { return };
        let map = member.ready.as_ref().and_then(|ready| ready.plan.user_namespace);
        let Some(alive) = member.alive(run) else { return };
        if !main_pid::belongs(sender, map, &alive.cgroup) {
            tracing::debug!(?sender, ?word, "a stranger wrote to a notify socket");
            return;
        }
        match word {
            Word::Ready => self.tell_machine(Event::Ready { unit, run }),
            Word::Stopping => self.tell_machine(Event::NotifyStopping { unit, run }),
            Word::Watchdog => self.tell_machine(Event::WatchdogPing { unit, run }),
            Word::Status(text) => member.status_text = Some(text),
            Word::Reloading => member.status_text = Some("reloading".into()),
            Word::Cause(kind) => alive.hint = Some(kind),
            Word::MainPid(pid) => {
                if let Err(reason) = main_pid::switch(alive, pid, &children) {
                    tracing::warn!(unit = %member.unit.name, pid, reason, "MAINPID= is not followed");
                }
            }
        }
    }

    fn ended(&mut self, unit: UnitId, run: u64, death: Option<Death>) {
        self.count_oom(unit, run);
        let Some(alive) = self.member(unit).and_then(|member| member.alive(run)) else { return };
        if alive.refused {
            return;
        }
        let status = match death {
            Some(Death::Status(code)) => ExitStatus::Status(code),
            Some(Death::Signal { number, core }) => ExitStatus::Signal { signal: number, core },
            None => ExitStatus::Unknown,
        };
        let hint = alive.hint.or(match status {
            ExitStatus::Signal { signal: libc::SIGKILL, .. } if alive.oom_kills > 0 => Some(CauseKind::Oom),
            ExitStatus::Signal { signal: libc::SIGSYS, .. } => Some(CauseKind::Seccomp),
            _ => None,
        });
        self.tell_machine(Event::Exited { unit, run, exit: Exit { status, hint, detail: None } });
    }

    fn count_oom(&mut self, unit: UnitId, run: u64) {
        let Some(alive) = self.member(unit).and_then(|member| member.alive(run)) else { return };
        let kills = alive.cgroup.oom_kills();
        if kills > alive.oom_kills {
            alive.oom_kills = kills;
            self.tell_machine(Event::OomKilled { unit, run });
        }
    }

    fn start_log_writer(&mut self) {
        if self.world.foreground {
            return;
        }
        match self.world.logs.start() {
            Ok(mut writer) => {
                let mail = self.world.mail.clone();
                tokio::task::spawn_local(async move {
                    tokio::select! {
                        _ = writer.death(None) => {}
                        () = tokio::time::sleep(WRITER_PROVED) => {
                            mail.send(Happening::LogWriterProved).await.ok();
                            writer.death(None).await;
                        }
                    }
                    mail.send(Happening::LogWriterEnded).await.ok();
                });
            }
            Err(error) => {
                let pause = self.world.logs.lost();
                tracing::error!(%error, ?pause, "the log writer does not start");
                self.later(pause, Happening::LogWriterDue);
            }
        }
    }

    fn later(&self, pause: Duration, happening: Happening) {
        let mail = self.world.mail.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause).await;
            mail.send(happening).await.ok();
        });
    }

    // What is to be done.

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { unit, run } => self.spawn(unit, run),
            Action::Signal { unit, run, signal, whom } => {
                let Some(member) = self.member(unit) else { return };
                let init = member.ready.as_ref().is_some_and(|ready| ready.plan.born.pid);
                if let Some(alive) = member.alive(run) {
                    stop::signal(alive, signal, whom, init);
                }
            }
            Action::Kill { unit, run } => self.kill(unit, run),
            Action::Probe { unit, run, probe } => probes::start(self, unit, run, probe),
            Action::Release { unit, run } => self.release(unit, run),
            Action::Changed(change) if self.world.foreground => self.watch_the_one(&change),
            Action::Changed(change) => tell::changed(self, &change),
            Action::Finished => self.finished = true,
        }
    }

    /// In the foreground the end of the unit is the end.
    fn watch_the_one(&mut self, change: &Change) {
        let over = matches!(change.to, StateName::Stopped | StateName::Failed | StateName::Completed);
        if over && self.end.is_none() {
            self.end = Some(self.supervisor.view(change.unit));
            self.stop(Goal::Exit);
        }
    }

    fn spawn(&mut self, unit: UnitId, run: u64) {
        let Some(member) = self.member(unit) else { return };
        member.status_text = None;
        member.probed.clear();
        let description = Rc::clone(&member.unit);
        match &description.payload {
            Payload::Wasm(wasm) => self.compile(unit, run, wasm),
            Payload::Native { .. } | Payload::None => self.launch(unit, run, None),
        }
    }

    fn compile(&mut self, unit: UnitId, run: u64, wasm: &Wasm) {
        let Some(member) = self.members.get_mut(index(unit)) else { return };
        // Looked up at each start: the module's file may be another one by now.
        member.ready = None;
        match compile::Preparation::new(member, wasm, &mut self.world, unit, run) {
            Ok(preparation) => {
                let (cancel, cancelled) = oneshot::channel();
                tokio::task::spawn_local(preparation.run(cancelled));
                member.run = Some(Run { number: run, stage: Stage::Preparing { cancel: Some(cancel) }, tasks: Vec::new() });
            }
            Err(failure) => self.fail(unit, run, failure),
        }
    }

    fn compiled(&mut self, unit: UnitId, run: u64, artifact: Result<PathBuf, String>) {
        let waiting =
            |member: &mut Member| matches!(&member.run, Some(Run { number, stage: Stage::Preparing { .. }, .. }) if *number == run);
        if !self.member(unit).is_some_and(waiting) {
            return;
        }
        match artifact {
            Ok(artifact) => self.launch(unit, run, Some(artifact)),
            Err(message) => self.fail(unit, run, StartFailure { step: "compile the module".into(), message }),
        }
    }

    fn launch(&mut self, unit: UnitId, run: u64, artifact: Option<PathBuf>) {
        let Some(member) = self.members.get_mut(index(unit)) else { return };
        let launched =
            launch::prepare(member, &self.world, artifact.as_deref()).and_then(|()| launch::launch(member, &mut self.world, unit, run));
        match launched {
            Ok(None) => {}
            // There is a clone, which is being killed: `Emptied` follows by itself.
            Ok(Some(failure)) => self.news.push_back(Event::SpawnFailed { unit, run, failure }),
            Err(failure) => self.fail(unit, run, failure),
        }
    }

    /// A start that ended before there was a clone.
    fn fail(&mut self, unit: UnitId, run: u64, failure: StartFailure) {
        self.news.push_back(Event::SpawnFailed { unit, run, failure });
        self.news.push_back(Event::Emptied { unit, run });
    }

    fn kill(&mut self, unit: UnitId, run: u64) {
        let Some(member) = self.member(unit) else { return };
        match &mut member.run {
            Some(current) if current.number == run => match &mut current.stage {
                Stage::Alive(alive) => alive.cgroup.kill(),
                // `Compiled` follows when its cell is gone.
                Stage::Preparing { cancel } => drop(cancel.take()),
            },
            _ => {}
        }
    }

    fn release(&mut self, unit: UnitId, run: u64) {
        let Some(member) = self.members.get_mut(index(unit)) else { return };
        if member.run.as_ref().is_some_and(|current| current.number == run) {
            if let Some(Run { stage: Stage::Alive(alive), .. }) = &member.run {
                alive.cgroup.remove();
            }
            member.run = None;
        }
        let preparations = member.ready.iter().flat_map(|ready| &ready.plan.before);
        for preparation in preparations {
            if let crate::plan::Preparation::RuntimeDirectory { host, .. } = preparation {
                match directories::discard(&self.world.facts.run_dir, host, &self.world.trash()) {
                    Ok(()) => self.sweeping = true,
                    Err(error) => tracing::warn!(%error, host = %host.display(), "a runtime directory stays"),
                }
            }
        }
    }
}

/// Units are numbered by their place in the set, and members stand in the same order.
pub(super) fn index(unit: UnitId) -> usize {
    usize::try_from(unit.0).unwrap_or(usize::MAX)
}

/// For ever, when there is nothing to wait for.
async fn sleep_until(wake: Option<Time>) {
    match wake {
        Some(wake) => tokio::time::sleep(wake.since(clock::now())).await,
        None => std::future::pending().await,
    }
}
