//! What the tasks around the loop tell it. Each waits for one thing of one unit and holds no state that matters:
//! the loop decides, they only look.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::notify::{Sender, Word};
use crate::control;
use crate::supervisor::{Event, UnitId};
use crate::sys::wait::Death;

/// Happenings that wait for the loop. A task that finds it full waits its turn, which is how a flood is held back.
pub const MAILBOX: usize = 1024;

pub type Mail = mpsc::Sender<Happening>;

/// A task whose panic the loop hears of as this: tokio would catch it too, and nobody would ever know.
pub fn spawn(mail: &Mail, panicked: Happening, task: impl Future<Output = ()> + 'static) -> AbortHandle {
    let mail = mail.clone();
    // In a box of its own: moved into the other task it would be there twice, before and after the move.
    let mut task = Box::pin(task);
    let task = async move {
        let end = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(())),
        });
        if end.await.is_err() {
            // In a box too: hardly any task comes here.
            Box::pin(mail.send(panicked)).await.ok();
        }
    };
    tokio::task::spawn_local(task).abort_handle()
}

#[derive(Debug)]
pub enum Happening {
    /// Needs no look from the shell.
    Machine(Event),
    /// The clone failed at a step of its plan.
    Refused {
        unit: UnitId,
        run: u64,
        report: crate::plan::Report,
    },
    /// The clone died before it executed anything, and did not say why.
    Unexecuted {
        unit: UnitId,
        run: u64,
        death: Option<Death>,
    },
    /// A service spoke on its notify socket.
    Heard {
        unit: UnitId,
        run: u64,
        sender: Sender,
        word: Word,
    },
    /// The main process has ended; `None` if it was not our child, so that nobody knows how.
    Ended {
        unit: UnitId,
        run: u64,
        death: Option<Death>,
    },
    /// The task that followed the run panicked.
    Unfollowed {
        unit: UnitId,
        run: u64,
    },
    /// The trash is empty, or what is in it stays.
    Swept,
    /// The kernel marked the cell's memory.events.
    MemoryEvent {
        unit: UnitId,
        run: u64,
    },
    /// The task that watched a cell's memory.events panicked.
    Unwatched {
        unit: UnitId,
        run: u64,
    },
    /// The task that accepts clients panicked.
    Unserved,
    /// The module is compiled and stands at this path, or cannot be.
    Compiled {
        unit: UnitId,
        run: u64,
        artifact: Result<std::path::PathBuf, String>,
    },
    /// What there is to see of the files that the unit names.
    Looked {
        unit: UnitId,
        run: u64,
        seen: Result<super::looks::Seen, super::looks::Unseen>,
    },
    /// A client asks.
    Asked {
        request: control::Request,
        reply: oneshot::Sender<super::control::Reply>,
    },
    /// `well`: it had been asked to, and wrote everything.
    LogWriterEnded {
        well: bool,
    },
    LogWriterDue,
    LogWriterProved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_heard_and_an_abort_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (mail, mut mailbox) = mpsc::channel(8);
            spawn(&mail, Happening::LogWriterDue, std::future::pending()).abort();
            spawn(&mail, Happening::LogWriterDue, async {});
            spawn(&mail, Happening::LogWriterProved, async { panic!("on purpose") });
            assert!(matches!(mailbox.recv().await, Some(Happening::LogWriterProved)));
            drop(mail);
            assert!(mailbox.recv().await.is_none());
        });
    }
}
