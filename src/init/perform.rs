//! What the machine asks for, performed. Nothing here waits, and nothing here fails: what cannot be done is news for the machine.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::happening::{self, Happening};
use super::looks::{Looks, Seen, Unseen};
use super::member::{Run, Stage};
use super::shell::{Shell, index};
use super::shutdown::Goal;
use super::sockets::{self, Listener};
use super::way::Way;
use super::{compile, directories, launch, probes, stop, tell};
use crate::plan::Preparation;
use crate::supervisor::{Action, Change, Event, StartFailure, StateName, UnitId};
use crate::sys::process::pidfd_send_signal;
use crate::unit::{Kind, Payload, Wasm};

impl Shell {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { unit, run } => self.spawn(unit, run),
            Action::Signal { unit, run, signal, whom } => {
                let Some(member) = self.member(unit) else { return };
                let init = member.ready.as_ref().is_some_and(|ready| ready.is_init);
                if let Some(alive) = member.alive(run) {
                    stop::signal(alive, signal, whom, init);
                }
            }
            Action::Kill { unit, run } => self.kill(unit, run),
            Action::Probe { unit, run, probe } => probes::start(self, unit, run, probe),
            Action::Release { unit, run } => self.release(unit, run),
            Action::Changed(change) => {
                if is_at_rest(change.to) {
                    self.close_listeners(index(change.unit));
                }
                match self.world.foreground {
                    true => self.watch_the_one(&change),
                    false => tell::changed(self, &change),
                }
            }
            Action::Finished => self.finish(),
        }
    }

    /// Who connects to a unit that nobody is to start again is refused at once. Restarts keep what waits in the backlog.
    pub(super) fn close_listeners(&mut self, member: usize) {
        if let Some(listeners) = self.members.get_mut(member).map(|member| std::mem::take(&mut member.listeners)) {
            self.close_files(member, listeners);
        }
    }

    /// Their files are gone before the unit's next ones are made.
    fn close_files(&mut self, member: usize, listeners: Vec<Listener>) {
        if let closing @ Some(_) = sockets::close(listeners, &self.way())
            && let Some(member) = self.members.get_mut(member)
        {
            member.closing = closing;
        }
    }

    fn way(&self) -> Way {
        Way { grants: Rc::clone(&self.grants), run_dir: self.world.facts.run_dir.clone() }
    }

    fn finish(&mut self) {
        self.finished = true;
        let views = self.supervisor.units().map(|unit| self.supervisor.view(unit));
        for survivor in views.filter(|view| view.state == StateName::Stopping && view.kind != Kind::Target) {
            tracing::error!(unit = %survivor.name, "left behind: {}", survivor.doing);
        }
    }

    /// In the foreground the end of the unit is the end.
    fn watch_the_one(&mut self, change: &Change) {
        if is_at_rest(change.to) && self.end.is_none() {
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
            Payload::Native { .. } | Payload::None => self.look(unit, run, None),
        }
    }

    fn compile(&mut self, unit: UnitId, run: u64, wasm: &Wasm) {
        let way = self.way();
        let Some(member) = self.members.get_mut(index(unit)) else { return };
        // Looked up at each start: the module's file may be another one by now.
        if let Some(artifact) = compile::known(member, wasm, &self.world) {
            return self.look(unit, run, Some(artifact));
        }
        match compile::Preparation::new(member, wasm, &mut self.world, way, unit, run) {
            Ok(preparation) => {
                let (cancel, cancelled) = oneshot::channel();
                let panicked = Happening::Compiled { unit, run, artifact: Err("the task that sees to it panicked".to_owned()) };
                happening::spawn(&self.world.mail, panicked, preparation.run(cancelled));
                member.run = Some(Run { number: run, stage: Stage::Preparing { cancel: Some(cancel) }, tasks: Vec::new() });
            }
            Err(failure) => self.fail(unit, run, failure),
        }
    }

    pub(super) fn compiled(&mut self, unit: UnitId, run: u64, artifact: Result<PathBuf, String>) {
        match (self.is_cancelled(unit, run), artifact) {
            (None, _) => {}
            // The artifact may have been on its way here when the run was killed.
            (Some(true), Ok(_)) => self.fail(unit, run, launch::failure("compile the module", "stopped before it was done")),
            (Some(false), Ok(artifact)) => self.look(unit, run, Some(artifact)),
            (Some(_), Err(message)) => self.fail(unit, run, launch::failure("compile the module", message)),
        }
    }

    /// The plan, and then the files that it names, of which only a child may say what is there.
    fn look(&mut self, unit: UnitId, run: u64, artifact: Option<PathBuf>) {
        let Some(member) = self.members.get_mut(index(unit)) else { return };
        let looks =
            launch::prepare(member, &mut self.world, artifact.as_deref()).and_then(|()| Looks::of(member, &self.world.facts.state_dir));
        match looks {
            Err(failure) => self.fail(unit, run, failure),
            Ok(looks) if looks.is_empty() => self.launch(unit, run, Seen::default()),
            Ok(looks) => {
                let looks = looks.by(self.way());
                let mail = self.world.mail.clone();
                let panicked = Err(launch::failure("look at its files", "the task panicked").into());
                let (cancel, cancelled) = oneshot::channel();
                happening::spawn(&self.world.mail, Happening::Looked { unit, run, seen: panicked }, looks.run(unit, run, mail, cancelled));
                let Some(member) = self.member(unit) else { return };
                member.run = Some(Run { number: run, stage: Stage::Preparing { cancel: Some(cancel) }, tasks: Vec::new() });
            }
        }
    }

    pub(super) fn looked(&mut self, unit: UnitId, run: u64, seen: Result<Seen, Unseen>) {
        match (self.is_cancelled(unit, run), seen) {
            (None, _) => {}
            (Some(true), Ok(seen)) => {
                self.close_files(index(unit), seen.listeners);
                self.fail(unit, run, launch::failure("look at its files", "stopped before it was done"));
            }
            (Some(false), Ok(seen)) => self.launch(unit, run, seen),
            (Some(_), Err(unseen)) => {
                self.close_files(index(unit), unseen.bound);
                self.fail(unit, run, unseen.failure);
            }
        }
    }

    /// `None`: it is not being prepared any more.
    fn is_cancelled(&mut self, unit: UnitId, run: u64) -> Option<bool> {
        match &self.member(unit)?.run {
            Some(Run { number, stage: Stage::Preparing { cancel }, .. }) if *number == run => Some(cancel.is_none()),
            _ => None,
        }
    }

    fn launch(&mut self, unit: UnitId, run: u64, seen: Seen) {
        let Some(member) = self.members.get_mut(index(unit)) else { return };
        if let Err(failure) = launch::launch(member, &mut self.world, unit, run, seen) {
            self.fail(unit, run, failure);
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
                Stage::Alive(alive) => {
                    // Who was asked to end and did not is not obeying; who is killed at once had no choice.
                    alive.sent.get_or_insert(libc::SIGKILL);
                    alive.cgroup.kill();
                    // A clone that has not entered a v1 cgroup yet is not found there.
                    pidfd_send_signal(alive.pidfd.as_fd(), libc::SIGKILL).ok();
                }
                // `Looked` follows at once, `Compiled` when its cell is gone.
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
        let preparations = member.ready.iter().flat_map(|ready| &ready.before);
        for preparation in preparations {
            if let Preparation::RuntimeDirectory { host, .. } = preparation {
                match directories::discard(&self.world.facts.run_dir, host, &self.world.trash()) {
                    Ok(()) => self.discarded = true,
                    Err(error) => tracing::warn!(%error, host = %host.display(), "a runtime directory stays"),
                }
            }
        }
    }
}

/// It has no cell, and none will come unless somebody asks for it.
fn is_at_rest(state: StateName) -> bool {
    matches!(state, StateName::Stopped | StateName::Failed | StateName::Completed)
}
