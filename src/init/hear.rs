//! What happens, taken from the mailbox: looked at as far as the machine must not know of it (whose word counts, what an exit
//! status hides), then passed on.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::happening::{self, Happening};
use super::member::{Run, Stage};
use super::notify::{Sender, Word};
use super::shell::Shell;
use super::tell;
use super::{children, follow, main_pid};
use crate::plan::Report;
use crate::supervisor::{Event, Exit, ExitStatus, StartFailure, UnitId};
use crate::sys::wait::Death;
use crate::unit::{CauseKind, Payload};

/// Happenings taken in one turn. What is left over waits for the next one.
const HAPPENINGS_PER_TURN: usize = 64;
/// A log writer that lived this long was no failure of its own.
const WRITER_PROVED: Duration = Duration::from_secs(10);

impl Shell {
    pub(super) fn take(&mut self, first: Happening) {
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

    pub(super) fn hear(&mut self, happening: Happening) {
        match happening {
            Happening::Machine(event) => self.pass_on(event),
            Happening::Refused { unit, run, report } => self.refused(unit, run, report),
            Happening::Unexecuted { unit, run, death } => self.unexecuted(unit, run, death),
            Happening::Heard { unit, run, sender, word } => self.heard(unit, run, sender, word),
            Happening::Ended { unit, run, death } => self.ended(unit, run, death),
            Happening::Unfollowed { unit, run } => self.unfollowed(unit, run),
            Happening::Swept => self.sweeping = false,
            Happening::MemoryEvent { unit, run } => self.count_oom(unit, run),
            Happening::Unwatched { unit, run } => self.watch_again(unit, run),
            Happening::Unserved => {
                tracing::error!("the task that accepts clients panicked; another one goes on");
                self.serve();
            }
            Happening::Compiled { unit, run, artifact } => self.compiled(unit, run, artifact),
            Happening::Looked { unit, run, seen } => self.looked(unit, run, seen),
            Happening::Asked { request, reply } => {
                // A client that hung up gets no answer.
                reply.send(self.answer(request)).ok();
            }
            Happening::LogWriterEnded { .. } => {
                let pause = self.world.logs.lost();
                tracing::warn!(?pause, "the log writer died; another one follows");
                self.start_log_writer_after(pause);
            }
            Happening::LogWriterDue => self.start_log_writer(),
            Happening::LogWriterProved => self.world.logs.proved(),
        }
    }

    /// Before somebody's wish, which may stop others: the news of an execve(2) may still be on its way, and who runs already is asked to end,
    /// where a clone that is not there yet is killed.
    pub(super) fn hear_of_executions(&mut self) {
        for (member, unit) in self.members.iter_mut().zip((0..).map(UnitId)) {
            let Some(Run { number: run, stage: Stage::Alive(alive), .. }) = &mut member.run else { continue };
            let executes = !alive.executed && !alive.refused && children::executed(alive.pid) == Some(true);
            // Of the dead the task that follows them tells: their number may be somebody else's by now.
            if executes && !children::is_dead(alive.pidfd.as_fd()) {
                alive.executed = true;
                self.news.push_back(Event::Executed { unit, run: *run });
            }
        }
    }

    fn pass_on(&mut self, event: Event) {
        match &event {
            // A start that was refused has been told already.
            Event::Executed { unit, run } if self.was_refused(*unit, *run) => return,
            Event::Executed { unit, run } => {
                if let Some(alive) = self.member(*unit).and_then(|member| member.alive(*run)) {
                    alive.executed = true;
                }
            }
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

    fn refused(&mut self, unit: UnitId, run: u64, report: Report) {
        let facts = Rc::clone(&self.world.facts);
        let Some(member) = self.member(unit) else { return };
        let message = member.explain(&facts, &report);
        let Some(alive) = member.alive(run).filter(|alive| !alive.refused) else { return };
        alive.refused = true;
        self.tell_machine(Event::SpawnFailed { unit, run, failure: StartFailure { step: String::new(), message } });
    }

    fn unexecuted(&mut self, unit: UnitId, run: u64, death: Option<Death>) {
        self.count_oom(unit, run);
        let Some(alive) = self.member(unit).and_then(|member| member.alive(run)) else { return };
        // Killed for want of memory: its end, which is told next, says so.
        if alive.refused || alive.oom_kills > 0 {
            return;
        }
        alive.refused = true;
        let how = match death {
            Some(Death::Status(code)) => format!("ended with status {code}"),
            Some(Death::Signal { number, .. }) => format!("was killed by signal {number}"),
            None => "ended".to_owned(),
        };
        let message = format!("its process {how} before it executed the program");
        self.tell_machine(Event::SpawnFailed { unit, run, failure: StartFailure { step: String::new(), message } });
    }

    fn heard(&mut self, unit: UnitId, run: u64, sender: Sender, word: Word) {
        let children = self.world.children.clone();
        let Some(member) = self.member(unit) else { return };
        let map = member.ready.as_ref().and_then(|ready| ready.user_namespace);
        let is_guest = matches!(member.unit.payload, Payload::Wasm(_));
        let Some(alive) = member.alive(run) else { return };
        if !main_pid::belongs(sender, map, alive) {
            tracing::debug!(?sender, ?word, "a stranger wrote to a notify socket");
            return;
        }
        match word {
            Word::Ready => {
                if alive.reload.end() {
                    tell::said(self, unit, "reloaded");
                }
                self.tell_machine(Event::Ready { unit, run });
            }
            Word::Stopping => self.tell_machine(Event::NotifyStopping { unit, run }),
            Word::Watchdog => self.tell_machine(Event::WatchdogPing { unit, run }),
            Word::Status(text) => member.status_text = Some(text),
            Word::Reloading => {
                if alive.reload.begin(Instant::now()) {
                    tell::said(self, unit, "reloading");
                }
            }
            // Our own host's word, which no other program has to say.
            Word::Cause(kind) => alive.hint = is_guest.then_some(kind),
            Word::MainPid(pid) => {
                if let Some(Err(reason)) = main_pid::switch(alive, pid, &children) {
                    tracing::warn!(unit = %member.unit.name, pid, reason, "MAINPID= is not followed");
                }
            }
        }
    }

    fn ended(&mut self, unit: UnitId, run: u64, death: Option<Death>) {
        self.count_oom(unit, run);
        let Some(member) = self.member(unit) else { return };
        let Some(alive) = member.alive(run).filter(|alive| !alive.refused) else { return };
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
        let obeyed = matches!(status, ExitStatus::Signal { signal, .. } if alive.sent == Some(signal));
        // Who says why it ends has said more than one word.
        let detail = alive.hint.and_then(|_| member.status_text.clone());
        self.own_exit = (!obeyed).then_some(status);
        self.tell_machine(Event::Exited { unit, run, exit: Exit { status, hint, detail } });
    }

    /// Nobody would see this run end: it ends now.
    fn unfollowed(&mut self, unit: UnitId, run: u64) {
        let Some(alive) = self.member(unit).and_then(|member| member.alive(run)) else { return };
        tracing::error!(unit = unit.0, run, "the task that follows a unit panicked; its cell is killed");
        alive.cgroup.kill();
        let watch = alive.cgroup.watch();
        self.ended(unit, run, None);
        let mail = self.world.mail.clone();
        let emptied = move || Happening::Machine(Event::Emptied { unit, run });
        happening::spawn(&self.world.mail, emptied(), async move {
            watch.emptied().await;
            mail.send(emptied()).await.ok();
        });
    }

    fn watch_again(&mut self, unit: UnitId, run: u64) {
        self.count_oom(unit, run);
        let mail = self.world.mail.clone();
        let Some(member) = self.member(unit) else { return };
        let events = member.alive(run).and_then(|alive| alive.cgroup.watch_oom());
        if let (Some(events), Some(current)) = (events, &mut member.run) {
            current.tasks.push(follow::memory(unit, run, &mail, events));
        }
    }

    fn count_oom(&mut self, unit: UnitId, run: u64) {
        let Some(alive) = self.member(unit).and_then(|member| member.alive(run)) else { return };
        let kills = alive.cgroup.oom_kills();
        if kills > alive.oom_kills {
            alive.oom_kills = kills;
            self.tell_machine(Event::OomKilled { unit, run });
        }
    }

    pub(super) fn start_log_writer(&mut self) {
        if self.world.foreground || self.world.logs.has_writer() {
            return;
        }
        match self.world.logs.start() {
            Ok(mut writer) => {
                let mail = self.world.mail.clone();
                // A writer that nobody watches is as good as dead: it ends when its channel is closed.
                happening::spawn(&self.world.mail, Happening::LogWriterEnded { well: false }, async move {
                    let death = tokio::select! {
                        death = writer.death(None) => death,
                        () = tokio::time::sleep(WRITER_PROVED) => {
                            mail.send(Happening::LogWriterProved).await.ok();
                            writer.death(None).await
                        }
                    };
                    let well = death == Some(Death::Status(0));
                    mail.send(Happening::LogWriterEnded { well }).await.ok();
                });
            }
            Err(error) => {
                let pause = self.world.logs.lost();
                tracing::error!(%error, ?pause, "the log writer does not start");
                self.start_log_writer_after(pause);
            }
        }
    }

    pub(super) fn start_log_writer_after(&self, pause: Duration) {
        let mail = self.world.mail.clone();
        happening::spawn(&self.world.mail, Happening::LogWriterDue, async move {
            tokio::time::sleep(pause).await;
            mail.send(Happening::LogWriterDue).await.ok();
        });
    }
}
