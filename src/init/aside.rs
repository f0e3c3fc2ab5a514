//! Work on files that may wait for a disk or a server, for as long as that takes: done by a child, because PID 1 has one thread
//! and everybody waits for it. A child that gets no answer is killed and left; it ends when its system call comes back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::fd::{self, Slots};
use crate::sys::process::{self, Clone3, clone3, pidfd_send_signal};
use crate::sys::signal::{Mask, set_mask};
use crate::sys::watch::watch;

/// Bytes of one line that a child says.
const MAX_LINE: usize = 1 << 20;
/// Bytes read at once.
const READ: usize = 4096;
/// The descriptor of a child that is its way home. Before it come its standard streams, all of them our stderr; after it, what it
/// was given.
const HOME: usize = 3;

/// A child at work. Dropping it kills it; whoever reaps orphans reaps it.
pub struct Aside {
    home: AsyncFd<File>,
    pidfd: OwnedFd,
    /// What was read and not given out yet.
    said: Vec<u8>,
}

/// What a child has: the descriptors that it was given, and a way to say something.
pub struct Work {
    slots: Slots,
    home: File,
}

impl Work {
    /// The descriptor that was the `index`th of those given.
    pub fn given(&self, index: usize) -> Option<BorrowedFd<'static>> {
        self.slots.get(HOME + 1 + index)
    }

    /// One line; it has no newline in it.
    pub fn say(&mut self, line: &str) {
        // Nobody listens any more: there is nothing left to do but to end.
        self.home.write_all(format!("{line}\n").as_bytes()).ok();
    }
}

impl Aside {
    /// A copy of this process does the `work` and has nothing of it but memory and what it is given: a lock or a listener that it
    /// held on to would be missed, if it could not be ended.
    pub fn start(given: &[BorrowedFd<'_>], work: impl FnOnce(&mut Work)) -> io::Result<Aside> {
        let (home, theirs) = fd::pipe().map_err(io::Error::other)?;
        fd::set_nonblocking(home.as_fd()).map_err(io::Error::other)?;
        let home = watch(File::from(home), Interest::READABLE)?;
        let stderr = io::stderr();
        let standard = [stderr.as_fd(), stderr.as_fd(), stderr.as_fd(), theirs.as_fd()];
        let wanted: Vec<BorrowedFd<'_>> = standard.into_iter().chain(given.iter().copied()).collect();
        let mut scratch = vec![0; wanted.len()];
        let request = Clone3 { exit_signal: libc::SIGCHLD, ..Clone3::default() };
        // A handler of ours must not run in the copy.
        let mask = set_mask(Mask::ALL).map_err(io::Error::other)?;
        let cloned = clone3(request, || match child(&wanted, &mut scratch, work) {
            Ok(()) => 0,
            Err(_) => 1,
        });
        set_mask(mask).map_err(io::Error::other)?;
        let (_, pidfd) = cloned.map_err(io::Error::other)?;
        Ok(Aside { home, pidfd, said: Vec::new() })
    }

    /// The next line that it says; `None` when it says nothing more.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.said.drain(..=end).collect();
                return Some(String::from_utf8_lossy(line.get(..end)?).into_owned());
            }
            if self.said.len() > MAX_LINE {
                return None;
            }
            let mut ready = self.home.readable_mut().await.ok()?;
            let mut bytes = [0; READ];
            match ready.get_inner_mut().read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => self.said.extend(bytes.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL).ok();
    }
}

/// Closes sockets that a cell had a hand in. The last close(2) of one waits until what is unsent is sent, for as long as its SO_LINGER
/// says, and what lies unread in a unix socket may be such sockets (SCM_RIGHTS in unix(7)). Who ends does not wait (inet_release() in
/// net/ipv4/af_inet.c), so the last one to have them is a child, and it is killed.
pub fn let_go(sockets: Vec<OwnedFd>) {
    if sockets.is_empty() {
        return;
    }
    let given: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    match Aside::start(&given, |_| _ = process::wait_to_be_killed()) {
        // It has had its copies since it was cloned, and has them until this has dropped ours and then kills it.
        Ok(holder) => drop((sockets, holder)),
        Err(error) => {
            tracing::error!(%error, "sockets stay open, for there is no process that could close them");
            std::mem::forget(sockets);
        }
    }
}

fn child(wanted: &[BorrowedFd<'_>], scratch: &mut [i32], work: impl FnOnce(&mut Work)) -> io::Result<()> {
    let slots = fd::keep_only(wanted, scratch).map_err(io::Error::other)?;
    let home = slots.get(HOME).ok_or(io::ErrorKind::NotFound)?.try_clone_to_owned()?;
    work(&mut Work { slots, home: File::from(home) });
    Ok(())
}
