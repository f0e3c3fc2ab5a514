//! The pipes that services write into, and the process that reads them. Both ends of every pipe are kept here, so neither a
//! service that restarts nor a log writer that dies loses a line.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, fchown, pipe2};

use super::children::{Children, Expected};
use super::directories::by_number;
use crate::log::{self, Content, Message, Settings, Stream};
use crate::sys;
use crate::unit::Unit;

/// The pause before a dead writer is started again, doubled each time that it dies young.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Of a pipe's inode, which is ours and the cell's group's: who reads what is the writer's could make it wait, or lie in its place.
const WRITE_ONLY: Mode = Mode::S_IWUSR.union(Mode::S_IWGRP);

/// The same in the words of `ctl/selinux/cellinit.cil`, which hold for a cell that no mode binds.
const LABEL: &CStr = c"system_u:object_r:cell_log_t:s0";

#[derive(Debug)]
pub struct Logs {
    directory: PathBuf,
    children: Children,
    channel: Option<OwnedFd>,
    /// Started, and not [`lost`](Self::lost).
    has_writer: bool,
    pipes: BTreeMap<String, Pipes>,
    pause: Duration,
}

#[derive(Debug)]
struct Pipes {
    settings: Settings,
    streams: Vec<Pipe>,
}

#[derive(Debug)]
struct Pipe {
    stream: Stream,
    read: OwnedFd,
    write: OwnedFd,
    /// The writer that lives now has it.
    sent: bool,
}

impl Logs {
    pub fn new(directory: PathBuf, children: Children) -> Self {
        Logs { directory, children, channel: None, has_writer: false, pipes: BTreeMap::new(), pause: FIRST_PAUSE }
    }

    /// Starts a writer and gives it every pipe. Gives its death to wait for.
    pub fn start(&mut self) -> io::Result<Expected> {
        let writer = log::start("/proc/self/exe".as_ref(), &self.directory)?;
        let pid = i32::try_from(writer.child.id()).map_err(io::Error::other)?;
        self.channel = Some(writer.channel);
        self.has_writer = true;
        for pipes in self.pipes.values_mut() {
            pipes.streams.iter_mut().for_each(|pipe| pipe.sent = false);
        }
        self.send_pipes();
        Ok(self.children.register(pid))
    }

    /// The writer has died. How long to wait before [`start`](Self::start).
    pub fn lost(&mut self) -> Duration {
        self.channel = None;
        self.has_writer = false;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// The writer has lived for a while.
    pub fn proved(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// The write end of a unit's pipe, made now if need be. The cell's group may open it again (`/dev/stdout`), for writing only:
    /// it is the writer's to read.
    pub fn stream(&mut self, unit: &Unit, stream: Stream, gid: u32) -> io::Result<BorrowedFd<'_>> {
        let settings = Settings::from(&unit.log);
        let pipes = self.pipes.entry(unit.name.clone()).or_insert(Pipes { settings, streams: Vec::new() });
        let index = match pipes.streams.iter().position(|pipe| pipe.stream == stream) {
            Some(index) => index,
            None => {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                fchown(&write, None, Some(Gid::from_raw(gid)))?;
                fchmod(&write, WRITE_ONLY)?;
                // Where the policy of this host knows the label; elsewhere the mode alone says it.
                sys::label::set(&by_number(&write), LABEL).ok();
                pipes.streams.push(Pipe { stream, read, write, sent: false });
                pipes.streams.len() - 1
            }
        };
        self.send_pipes();
        let pipe = self.pipes.get(&unit.name).and_then(|pipes| pipes.streams.get(index)).ok_or(io::ErrorKind::NotFound)?;
        // Flags belong to the description that all runs share: what the last one set (O_NONBLOCK, O_DIRECT) is not for the next.
        fcntl(&pipe.write, FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok(pipe.write.as_fd())
    }

    /// A line of ours in the unit's log. A writer that is behind or dead costs the line, never our time.
    pub fn note(&mut self, unit: &Unit, content: Content) {
        self.send_pipes();
        let Some(channel) = &self.channel else { return };
        let message = Message { unit: unit.name.clone(), settings: Settings::from(&unit.log), content };
        log::send(channel.as_fd(), &message, None).ok();
    }

    pub fn has_writer(&self) -> bool {
        self.has_writer
    }

    /// Ends the writer once it has written what is in the pipes. False: it has not got all of them yet, ask again.
    pub fn finish(&mut self) -> bool {
        self.send_pipes();
        if self.pipes.values().flat_map(|pipes| &pipes.streams).all(|pipe| pipe.sent) {
            self.channel = None;
        }
        self.channel.is_none()
    }

    /// Gives the writer what it has not got: new pipes, and those that did not fit into the channel before.
    fn send_pipes(&mut self) {
        let Some(channel) = &self.channel else { return };
        for (unit, pipes) in &mut self.pipes {
            for pipe in pipes.streams.iter_mut().filter(|pipe| !pipe.sent) {
                let message = Message { unit: unit.clone(), settings: pipes.settings, content: Content::Pipe(pipe.stream) };
                match log::send(channel.as_fd(), &message, Some(pipe.read.as_fd())) {
                    Ok(()) => pipe.sent = true,
                    // Full or gone: the next note, start or stream tries again.
                    Err(_) => return,
                }
            }
        }
    }
}

/// The supervisor's own log on stderr. A terminal or pipe that nobody reads must not stop PID 1: what does not fit is dropped.
#[derive(Debug, Clone, Copy)]
pub struct Console;

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        // A pipe that polls writable takes PIPE_BUF bytes without waiting; pipe(7).
        let fits = bytes.get(..libc::PIPE_BUF).unwrap_or(bytes);
        if poll(&mut ready, PollTimeout::ZERO) == Ok(1) {
            nix::unistd::write(stderr.as_fd(), fits).ok();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
