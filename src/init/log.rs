//! The pipes that services write into, and the process that reads them. Every pipe is kept open here, so neither a service
//! that restarts nor a log writer that dies loses a line.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, fchown, getegid, pipe2};

use super::children::{Children, Expected};
use super::directories::by_number;
use crate::log::{self, Content, Message, Settings, Stream};
use crate::sys;
use crate::unit::Unit;

/// The pause before a dead writer is started again, doubled each time that it dies young.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Bytes of our own lines that are kept until there is a first writer; one has about 200.
const EARLY_NOTES: usize = 1 << 20;
/// Pipes that wait for their writer with two descriptors each. Further ones take the time to become one.
const TWO_ENDS: usize = 256;
/// Of a pipe's inode, which is ours and the cell's group's: who reads what is the writer's could make it wait, or lie in its place.
const WRITE_ONLY: Mode = Mode::S_IWUSR.union(Mode::S_IWGRP);

/// The same in the words of `ctl/selinux/cellinit.cil`, which hold for a cell that no mode binds.
const LABEL: &CStr = c"system_u:object_r:cell_log_t:s0";

#[derive(Debug)]
pub struct Logs {
    directory: PathBuf,
    children: Children,
    labelled: bool,
    /// Our own group, which a new pipe belongs to.
    gid: u32,
    channel: Option<OwnedFd>,
    /// Started, and not [`lost`](Self::lost).
    has_writer: bool,
    pipes: BTreeMap<Key, Pipe>,
    /// Nobody has tried to start one.
    fresh: bool,
    /// Lines of ours from before the first one, as frames with a newline after each. In one piece: as many small ones, between
    /// what stays, would never give their memory back.
    early: Vec<u8>,
    /// What the writer that lives now has not got.
    unsent: VecDeque<Key>,
    pause: Duration,
}

/// One stream of one unit.
type Key = (Rc<str>, Stream);

#[derive(Debug)]
struct Pipe {
    settings: Settings,
    ends: Ends,
}

#[derive(Debug)]
enum Ends {
    /// As pipe2(2) gives them, until the writer gets the pipe: a start need not wait for more.
    Two { read: OwnedFd, write: OwnedFd },
    /// In one descriptor; fifo(7). What is held for each unit costs every clone of every other.
    One(File),
}

impl Ends {
    fn reader(&self) -> BorrowedFd<'_> {
        match self {
            Ends::Two { read, .. } => read.as_fd(),
            Ends::One(both) => both.as_fd(),
        }
    }

    /// Two stay two where the pipe's mode forbids us to read.
    fn unite(&mut self) {
        if let Ends::Two { write, .. } = self
            && let Ok(both) = open_again(write, File::options().read(true))
        {
            *self = Ends::One(both);
        }
    }
}

impl Logs {
    /// `labelled`: this kernel has SELinux.
    pub fn new(directory: PathBuf, children: Children, labelled: bool) -> Self {
        Logs {
            directory,
            children,
            labelled,
            gid: getegid().as_raw(),
            channel: None,
            has_writer: false,
            pipes: BTreeMap::new(),
            fresh: true,
            early: Vec::new(),
            unsent: VecDeque::new(),
            pause: FIRST_PAUSE,
        }
    }

    /// Starts a writer and gives it every pipe. Gives its death to wait for.
    pub fn start(&mut self) -> io::Result<Expected> {
        self.fresh = false;
        let writer = log::start("/proc/self/exe".as_ref(), &self.directory)?;
        let pid = i32::try_from(writer.child.id()).map_err(io::Error::other)?;
        self.channel = Some(writer.channel);
        self.has_writer = true;
        self.unsent = self.pipes.keys().cloned().collect();
        self.send_pipes();
        for frame in std::mem::take(&mut self.early).split_inclusive(|byte| *byte == b'\n') {
            self.send(frame.strip_suffix(b"\n").unwrap_or(frame));
        }
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

    /// Where one run of a unit writes to; the pipe is made now if need be. Each run has a description of its own: flags that one
    /// sets (O_NONBLOCK, O_DIRECT) are not for the next. The cell's group may open the pipe again (`/dev/stdout`), for writing
    /// only: it is the writer's to read.
    pub fn stream(&mut self, unit: &Unit, stream: Stream, gid: u32) -> io::Result<OwnedFd> {
        let entry = match self.pipes.entry((unit.name.as_str().into(), stream)) {
            Entry::Occupied(entry) => return Ok(open_again(&entry.get().ends.reader(), &mut File::options())?.into()),
            Entry::Vacant(entry) => entry,
        };
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        if gid != self.gid {
            fchown(&write, None, Some(Gid::from_raw(gid)))?;
        }
        fchmod(&write, WRITE_ONLY)?;
        if self.labelled {
            // Where the policy of this host knows the label; elsewhere the mode alone says it.
            sys::label::set(&by_number(&write), LABEL).ok();
        }
        let given = write.try_clone()?;
        // The writer gets it with the note of the start, or at the next turn of the loop.
        self.unsent.push_back(entry.key().clone());
        let mut ends = Ends::Two { read, write };
        if self.unsent.len() > TWO_ENDS {
            ends.unite();
        }
        entry.insert(Pipe { settings: Settings::from(&unit.log), ends });
        Ok(given)
    }

    /// A line of ours in the unit's log. A writer that is behind or dead costs the line, never our time.
    pub fn note(&mut self, unit: &Unit, content: Content) {
        self.send_pipes();
        let message = Message { unit: unit.name.clone(), settings: Settings::from(&unit.log), content };
        // JSON in one line.
        let Ok(frame) = log::frame(&message) else { return };
        if self.fresh && self.early.len() < EARLY_NOTES {
            self.early.extend(frame);
            self.early.push(b'\n');
        } else {
            self.send(&frame);
        }
    }

    fn send(&self, frame: &[u8]) {
        if let Some(channel) = &self.channel {
            log::send_frame(channel.as_fd(), frame, None).ok();
        }
    }

    pub fn has_writer(&self) -> bool {
        self.has_writer
    }

    /// Ends the writer once it has written what is in the pipes. False: it has not got all of them yet, ask again.
    pub fn finish(&mut self) -> bool {
        self.send_pipes();
        if self.unsent.is_empty() {
            self.channel = None;
        }
        self.channel.is_none()
    }

    /// Gives the writer what it has not got: new pipes, and those that did not fit into the channel before.
    pub fn send_pipes(&mut self) {
        let Some(channel) = &self.channel else { return };
        while let Some(key) = self.unsent.front() {
            if let Some(pipe) = self.pipes.get_mut(key) {
                pipe.ends.unite();
                let message = Message { unit: key.0.to_string(), settings: pipe.settings, content: Content::Pipe(key.1) };
                // Full or gone: the next note, start or stream tries again.
                if log::send(channel.as_fd(), &message, Some(pipe.ends.reader())).is_err() {
                    return;
                }
            }
            self.unsent.pop_front();
        }
    }
}

/// Another description of a pipe, with its writing end at least.
fn open_again(pipe: &impl AsRawFd, options: &mut OpenOptions) -> io::Result<File> {
    // O_CLOEXEC is std's own.
    options.write(true).open(format!("/proc/self/fd/{}", pipe.as_raw_fd()))
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// Two descriptors while it waits for its writer, then one, and what was written before is there.
    #[test]
    fn a_pipe_that_the_writer_has_is_one_descriptor() {
        let mut logs = Logs::new(PathBuf::new(), Children::default(), false);
        let unit = crate::unit::parse("x.toml".as_ref(), "[service]\nexec = [\"/bin/x\"]\n").unwrap();
        let mut run = File::from(logs.stream(&unit, Stream::Out, 12).unwrap());
        run.write_all(b"first").unwrap();
        let pipe = logs.pipes.values_mut().next().unwrap();
        assert!(matches!(pipe.ends, Ends::Two { .. }));
        pipe.ends.unite();
        let Ends::One(both) = &mut pipe.ends else { panic!("still two") };
        // Ours is its only other end, so what is read here was not lost, and there is no end of it.
        drop(run);
        both.write_all(b" and second").unwrap();
        let mut said = [0; 16];
        both.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"first and second");
        let next = File::from(logs.stream(&unit, Stream::Out, 12).unwrap()).metadata().unwrap();
        assert_eq!((next.mode() & 0o777, next.gid()), (0o220, 12));
    }

    /// More pipes than may wait so have one descriptor from the beginning.
    #[test]
    fn a_large_wave_holds_no_two() {
        let mut logs = Logs::new(PathBuf::new(), Children::default(), false);
        for number in 0..=TWO_ENDS {
            let name = format!("u{number}.toml");
            let unit = crate::unit::parse(name.as_ref(), "[service]\nexec = [\"/bin/x\"]\n").unwrap();
            drop(logs.stream(&unit, Stream::Out, 0).unwrap());
        }
        assert_eq!(logs.pipes.values().filter(|pipe| matches!(pipe.ends, Ends::One(_))).count(), 1);
    }
}
