//! The loop: actions of the machine are performed, what happens is handed to it. It decides, we do.
//!
//! Everything here happens in turns. A turn runs to its end without waiting for anything and has a bounded amount of work;
//! a panic in it is caught, logged, and the next turn begins. Nothing leaves the loop but the end of the machine.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::aside::Aside;
use super::events::EventBook;
use super::happening::{self, Happening};
use super::member::Member;
use super::shutdown::Goal;
use super::signals::{Asked, Signals};
use super::world::World;
use super::{clock, directories};
use crate::load::Stamp;
use crate::supervisor::{Event, ExitStatus, Supervisor, Time, UnitId, View};
use crate::sys;
use crate::unit;

/// Actions performed in one turn. What is left over waits for the next one.
const ACTIONS_PER_TURN: usize = 256;
/// Log writers that are tried at the end, and the pause before a full channel is tried again.
const LAST_WRITERS: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Until there is a log writer: from when the first units are on their way, and if they take long, from the beginning.
const AFTER_FIRST_WAVE: Duration = Duration::from_millis(100);
const LATEST_LOG_WRITER: Duration = Duration::from_secs(1);
/// After a panic: what panics again at once must not fill the console and the CPU.
const PANIC_PAUSE: Duration = Duration::from_millis(100);

pub struct Shell {
    pub(super) supervisor: Supervisor,
    pub(super) members: Vec<Member>,
    /// Where they may write; the same for as long as they are.
    pub(super) grants: Rc<[PathBuf]>,
    pub(super) world: World,
    pub(super) events: EventBook,
    pub(super) about: About,
    /// Where clients knock; there is none in the foreground.
    pub(super) listener: Option<Rc<UnixListener>>,
    pub(super) server: Option<AbortHandle>,
    pub(super) mailbox: mpsc::Receiver<Happening>,
    /// For the machine, once the actions that it asked for are performed.
    pub(super) news: VecDeque<Event>,
    pub(super) goal: Option<Goal>,
    pub(super) finished: bool,
    /// There is something in the trash, and somebody is at it.
    pub(super) discarded: bool,
    pub(super) sweeping: bool,
    /// More dead children than one turn reaps.
    pub(super) corpses: bool,
    pub(super) panicked: bool,
    /// In the foreground: how the one unit ended.
    pub(super) end: Option<View>,
    /// What the main process that ended last made of its end: none if it died of a signal that we sent.
    pub(super) own_exit: Option<ExitStatus>,
}

/// What the supervisor says of itself.
pub struct About {
    pub units: Vec<PathBuf>,
    /// The unit files, as they were before they were read.
    pub files: Vec<Stamp>,
    pub since: Time,
    /// The init of a machine.
    pub machine: bool,
}

impl Shell {
    pub fn new(supervisor: Supervisor, members: Vec<Member>, world: World, about: About, mailbox: mpsc::Receiver<Happening>) -> Self {
        let grants = members.iter().flat_map(|member| unit::written(&member.unit)).map(PathBuf::from).collect();
        Shell {
            supervisor,
            members,
            grants,
            world,
            events: EventBook::new(),
            about,
            listener: None,
            server: None,
            mailbox,
            news: VecDeque::new(),
            goal: None,
            finished: false,
            discarded: false,
            sweeping: false,
            corpses: false,
            panicked: false,
            end: None,
            own_exit: None,
        }
    }

    /// Until every unit is stopped for good; says what is to follow.
    pub async fn run(&mut self, signals: &mut Signals, first: Vec<Event>) -> Goal {
        self.turn(|shell| {
            shell.start_log_writer_after(LATEST_LOG_WRITER);
            first.into_iter().for_each(|event| shell.tell_machine(event));
        });
        let mut first_wave = true;
        // From now on we must not die.
        loop {
            let busy = self.turn(Shell::settle).unwrap_or(false);
            if std::mem::take(&mut self.panicked) {
                tokio::time::sleep(PANIC_PAUSE).await;
            }
            if !busy && std::mem::take(&mut first_wave) {
                self.turn(Shell::end_first_wave);
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

    /// The first units are on their way.
    fn end_first_wave(&mut self) {
        if self.about.machine {
            // From here on as everybody else; see `boot`.
            sys::process::set_nice(0).unwrap_or_else(|error| tracing::warn!(%error, "the priority stays"));
        }
        // Not before: what the first units write waits in their pipes, and they need not wait for a writer.
        self.start_log_writer_after(AFTER_FIRST_WAVE);
    }

    /// For the end: only corpses and the log writer matter any more. A writer that is not there, or does not end well, has left
    /// lines in the pipes: another one writes them.
    pub(super) async fn until_log_writer_ended(&mut self, signals: &mut Signals) {
        for _ in 0..LAST_WRITERS {
            if !self.world.logs.has_writer() {
                self.start_log_writer();
            }
            while self.world.logs.has_writer() {
                // It has its end of the channel when it has every pipe.
                let waiting = !self.world.logs.finish();
                tokio::select! {
                    asked = signals.next() => self.corpses |= asked.contains(&Asked::Reap),
                    happening = self.mailbox.recv() => match happening {
                        Some(Happening::LogWriterEnded { well: true }) | None => return,
                        Some(Happening::LogWriterEnded { well: false }) => drop(self.world.logs.lost()),
                        Some(_) => {}
                    },
                    () = tokio::time::sleep(LOOK_AGAIN), if waiting => {}
                    () = tokio::task::yield_now(), if self.corpses => {}
                }
                if self.corpses {
                    self.obey(Asked::Reap);
                }
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
    pub(super) fn settle(&mut self) -> bool {
        if self.corpses {
            self.obey(Asked::Reap);
        }
        for _ in 0..ACTIONS_PER_TURN {
            if let Some(action) = self.supervisor.poll_action() {
                self.perform(action);
            } else if let Some(event) = self.news.pop_front() {
                self.supervisor.handle_event(clock::now(), event);
            } else {
                self.world.logs.send_pipes();
                self.sweep();
                return self.corpses;
            }
        }
        true
    }

    /// What has been discarded goes by a child: one large file may take its file system seconds.
    fn sweep(&mut self) {
        if self.sweeping || !std::mem::take(&mut self.discarded) {
            return;
        }
        self.sweeping = true;
        let (trash, mail) = (self.world.trash(), self.world.mail.clone());
        happening::spawn(&self.world.mail, Happening::Swept, async move {
            match Aside::start(&[], |_| directories::sweep_all(&trash)) {
                Ok(mut child) => drop(child.line().await),
                Err(error) => tracing::warn!(%error, "the trash stays until the next time"),
            }
            mail.send(Happening::Swept).await.ok();
        });
    }

    pub(super) fn tell_machine(&mut self, event: Event) {
        self.news.push_back(event);
    }

    pub(super) fn obey(&mut self, asked: Asked) {
        match asked {
            Asked::Reap => {
                self.corpses = self.world.children.reap();
                // One of them may have died on the launchpad, before it said anything.
                self.world.launchpad.iter().for_each(|launchpad| launchpad.collect());
            }
            Asked::Stop(goal) => self.stop(goal),
        }
    }

    /// Asked again, it changes what follows, but never skips the order.
    pub(super) fn stop(&mut self, goal: Goal) {
        if self.goal.replace(goal).is_none() {
            tracing::info!(?goal, "stopping every unit");
            self.hear_of_executions();
            self.tell_machine(Event::Shutdown);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.goal.is_some()
    }

    pub(super) fn member(&mut self, unit: UnitId) -> Option<&mut Member> {
        self.members.get_mut(index(unit))
    }
}

/// Units are numbered by their place in the set, and members stand in the same order.
pub(super) fn index(unit: UnitId) -> usize {
    usize::try_from(unit.0).unwrap_or(usize::MAX)
}

/// For ever, when there is nothing to wait for. tokio's timers go by the millisecond: what is due needs none.
async fn sleep_until(wake: Option<Time>) {
    match wake {
        Some(wake) if wake <= clock::now() => {}
        Some(wake) => tokio::time::sleep(wake.since(clock::now())).await,
        None => std::future::pending().await,
    }
}
