//! One task for each run of a unit, from the clone to the empty cgroup, in the order in which these things happen:
//! the report comes home, the main process lives and speaks, it ends, the last process of the cell is gone.

use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::read;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use super::cgroup::{OomWatch, Watch};
use super::children::{self, Expected};
use super::happening::{self, Happening, Mail};
use super::main_pid::Successor;
use super::notify::NotifySocket;
use crate::cell::{Launchpad, Progress};
use crate::plan::Report;
use crate::supervisor::{Event, UnitId};
use crate::sys::watch::watch;

/// How often a pipe is read that cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Bytes read at once from the descriptor of `ready = { fd = N }`, and altogether.
const READ: usize = 4096;
const MAX_BEFORE_NEWLINE: usize = 64 * 1024;

pub struct Follow {
    pub unit: UnitId,
    pub run: u64,
    pub mail: Mail,
    /// Closes empty at execve, or when the clone dies without a word.
    pub report: Option<OwnedFd>,
    /// Of a clone on the launchpad.
    pub flight: Option<(Arc<Progress>, Rc<Launchpad>)>,
    pub main: Main,
    /// Another main process, named by the service and checked by the loop.
    pub successor: Successor,
    pub notify: Option<NotifySocket>,
    /// Where the newline of `ready = { fd = N }` arrives.
    pub ready: Option<OwnedFd>,
    pub cgroup: Watch,
}

#[derive(Debug)]
pub struct Main {
    pub expected: Expected,
    pub pidfd: Rc<OwnedFd>,
}

impl Main {
    fn is_dead(&self) -> bool {
        children::is_dead(self.pidfd.as_fd())
    }
}

impl Follow {
    /// Not an async function: that would keep its argument twice, in every unit's task.
    pub fn run(self) -> impl Future<Output = ()> {
        let mut task = self;
        async move { task.follow().await }
    }

    async fn follow(&mut self) {
        let (unit, run) = (self.unit, self.run);
        match self.first_report().await {
            Some(report) => self.tell(Happening::Refused { unit, run, report }).await,
            None if self.has_executed() => self.tell(Happening::Machine(Event::Executed { unit, run })).await,
            None => {
                let death = self.main.expected.death(Some(self.main.pidfd.as_fd())).await;
                self.tell(Happening::Unexecuted { unit, run, death }).await;
            }
        }
        let mut ready = self.ready.take().and_then(|fd| watch(fd, Interest::READABLE).ok());
        let death = loop {
            // In boxes: most units have neither of these.
            let heard = async {
                match &self.notify {
                    Some(socket) => Box::pin(socket.heard()).await,
                    None => std::future::pending().await,
                }
            };
            let newline = async {
                match &ready {
                    Some(pipe) => Box::pin(newline(pipe)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                words = heard => for (sender, word) in words {
                    self.tell(Happening::Heard { unit, run, sender, word }).await;
                },
                said = newline => {
                    // Said once, or never any more.
                    ready = None;
                    if said {
                        self.tell(Happening::Machine(Event::Ready { unit, run })).await;
                    }
                }
                main = self.successor.named() => self.main = main,
                death = self.main.expected.death(Some(self.main.pidfd.as_fd())) => break death,
            }
        };
        // Its last words may explain its death.
        for (sender, word) in self.notify.iter().flat_map(NotifySocket::rest) {
            self.tell(Happening::Heard { unit, run, sender, word }).await;
        }
        self.tell(Happening::Ended { unit, run, death }).await;
        self.cgroup.emptied().await;
        self.tell(Happening::Machine(Event::Emptied { unit, run })).await;
    }

    /// The pipe is closed with the answer: nobody holds it for a run that goes on for months.
    async fn first_report(&mut self) -> Option<Report> {
        let pipe = self.report.take()?;
        report(&pipe, self.flight.as_ref().map(|(_, launchpad)| launchpad.as_ref())).await
    }

    /// After the clone has closed everything.
    fn has_executed(&mut self) -> bool {
        let Some((progress, launchpad)) = self.flight.take() else { return self.main.expected.has_executed() };
        launchpad.collect();
        // Who lives and has left our memory has executed. Only of the dead more is asked, since that takes longer than all the rest here.
        progress.has_executed() && (!self.main.is_dead() || self.main.expected.has_executed())
    }

    /// The loop is gone only when the program ends. In a box, since each unit's task would have room for this as long as it lives.
    fn tell(&self, happening: Happening) -> Pin<Box<impl Future<Output = ()>>> {
        Box::pin(async move { drop(self.mail.send(happening).await) })
    }
}

/// Tells of OOM kills while the main process lives.
pub fn memory(unit: UnitId, run: u64, mail: &Mail, events: OomWatch) -> AbortHandle {
    let mine = mail.clone();
    happening::spawn(mail, Happening::Unwatched { unit, run }, async move {
        loop {
            events.told().await;
            if mine.send(Happening::MemoryEvent { unit, run }).await.is_err() {
                return;
            }
        }
    })
}

/// What the clone has to say: nothing, when its execve succeeded or it died. `launchpad`: where it comes from, if it says when
/// it has descriptors of its own.
pub async fn report(pipe: &OwnedFd, mut launchpad: Option<&Launchpad>) -> Option<Report> {
    let mut bytes = [0; Report::SIZE];
    let mut watched = None;
    loop {
        let room = if launchpad.is_some() { 1 } else { Report::SIZE };
        match read(pipe, bytes.get_mut(..room).unwrap_or_default()) {
            Ok(1) => {
                launchpad.take().inspect(|launchpad| launchpad.collect());
                continue;
            }
            // Written by one write(2) shorter than PIPE_BUF, so it comes whole; pipe(7).
            Ok(Report::SIZE) => return Some(Report::from_bytes(bytes)),
            Err(Errno::EAGAIN) => {}
            Err(Errno::EINTR) => continue,
            Ok(_) | Err(_) => return None,
        }
        // Often it has executed its program by now, and there is nothing to watch.
        if watched.is_none() {
            watched = watch(pipe.as_fd(), Interest::READABLE).ok();
        }
        match &watched {
            Some(watched) => match watched.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            },
            // The kernel had no room for a watch; its silence must not be taken for the clone's.
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// How much there was, and whether a newline was in it. Not in the task itself: its memory would have this room for every unit.
fn read_line_end(pipe: &OwnedFd) -> nix::Result<(usize, bool)> {
    let mut bytes = [0; READ];
    let length = read(pipe, &mut bytes)?;
    Ok((length, bytes.iter().take(length).any(|byte| *byte == b'\n')))
}

/// True at a newline, false when the descriptor was closed without one, or there was so much else that nobody listens any more.
async fn newline(pipe: &AsyncFd<OwnedFd>) -> bool {
    let mut heard = 0;
    while heard < MAX_BEFORE_NEWLINE {
        let Ok(mut ready) = pipe.readable().await else { return false };
        match read_line_end(pipe.get_ref()) {
            Ok((0, _)) => return false,
            Ok((_, true)) => return true,
            Ok((length, false)) => {
                heard += length;
                tokio::task::yield_now().await;
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(_) => return false,
        }
    }
    tracing::warn!("{MAX_BEFORE_NEWLINE} bytes and no newline on a descriptor of `ready`: it is closed");
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::children::Children;

    /// Of every unit that runs: what it may wait for, but not what it hardly ever does.
    #[test]
    fn what_a_task_costs() {
        let (mail, _mailbox) = tokio::sync::mpsc::channel(1);
        let null = std::fs::File::open("/dev/null").unwrap();
        let follow = Follow {
            unit: UnitId(0),
            run: 1,
            mail,
            report: None,
            flight: None,
            main: Main { expected: Children::default().register(i32::MAX), pidfd: Rc::new(null.into()) },
            successor: Successor::default(),
            notify: None,
            ready: None,
            cgroup: Watch::Events(std::path::Path::new("").into()),
        };
        let bytes = size_of_val(&follow.run());
        assert!(bytes <= 1024, "{bytes}");
    }
}
