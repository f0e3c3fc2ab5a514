//! VERBS: what services write becomes lines in files.
//!
//! The writer is a process of its own (`cellinit log-writer DIR`), because PID 1 does not parse what a service wrote.
//! It is given the read end of each unit's pipes; it looks at the bytes without taking them (tee(2)), writes whole lines,
//! and only then takes what it has written. PID 1 holds both ends of every pipe, so when the writer dies nothing is lost:
//! the next one finds the bytes where they were. At worst the lines of the last write appear twice.

#![forbid(unsafe_code)]

mod file;
mod line;
mod rate;
mod read;
mod split;
mod writer;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

pub use line::{Line, Stream};
pub use read::{Follower, each_line, last_lines};
pub use writer::run;

/// The word that makes `cellinit` the log writer.
pub const ROLE: &str = "log-writer";
/// Bytes of one message on the channel.
const MAX_MESSAGE: usize = 8 * 1024;
/// Bytes of the text of one note; the rest is cut off.
const MAX_NOTE: usize = 4 * 1024;

/// What PID 1 tells the writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub unit: String,
    pub settings: Settings,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The read end of a pipe comes with this message. It is read until its end.
    Pipe(Stream),
    /// A line of the supervisor's own, stream `sys`.
    Note(String),
    /// The same, after the payload has gone: what it left without a newline is a line too, and comes first.
    Ended(String),
}

/// `[log]` as the writer needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Bytes of one file.
    pub max_size: u64,
    /// Files kept, the current one included.
    pub max_files: u32,
    /// Lines per interval; 0 is no limit.
    pub rate_burst: u32,
    pub rate_interval: Duration,
}

impl From<&crate::unit::Log> for Settings {
    fn from(log: &crate::unit::Log) -> Self {
        Settings { max_size: log.max_size, max_files: log.max_files, rate_burst: log.rate_burst, rate_interval: log.rate_interval }
    }
}

/// A running writer. When `child` ends before `channel` is closed: start another, and send every pipe again.
/// When `channel` is closed the writer writes what is in the pipes and ends.
#[derive(Debug)]
pub struct Writer {
    pub channel: OwnedFd,
    pub child: Child,
}

/// Starts `program` (`/proc/self/exe` in cellinit) in the role of the writer of `directory`.
pub fn start(program: &Path, directory: &Path) -> io::Result<Writer> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    // A group of its own: Ctrl-C at the terminal is for the supervisor, which still has lines to be written.
    let child = Command::new(program).arg0("cellinit").arg(ROLE).arg(directory).env_clear().stdin(theirs).process_group(0).spawn()?;
    Ok(Writer { channel: ours, child })
}

/// Tells the writer something, without waiting. `Content::Pipe` comes with its descriptor, the others with none.
/// EAGAIN: the writer is behind; a note may be dropped then, a pipe must be sent again later. EPIPE: it is gone.
pub fn send(channel: BorrowedFd<'_>, message: &Message, pipe: Option<BorrowedFd<'_>>) -> io::Result<()> {
    send_frame(channel, &frame(message)?, pipe)
}

/// What [`frame`] made, in the same way.
pub fn send_frame(channel: BorrowedFd<'_>, frame: &[u8], pipe: Option<BorrowedFd<'_>>) -> io::Result<()> {
    crate::sys::rights::send(channel, frame, pipe).map_err(io::Error::from)
}

/// A message as it crosses the channel.
pub fn frame(message: &Message) -> io::Result<Vec<u8>> {
    let mut message = message.clone();
    if let Content::Note(text) | Content::Ended(text) = &mut message.content {
        text.truncate(text.floor_char_boundary(MAX_NOTE));
    }
    let mut bytes = serde_json::to_vec(&message)?;
    if bytes.len() > MAX_MESSAGE {
        // Escapes have blown the text up; what is left after the cut cannot.
        if let Content::Note(text) | Content::Ended(text) = &mut message.content {
            text.truncate(text.floor_char_boundary(MAX_NOTE / 8));
        }
        bytes = serde_json::to_vec(&message)?;
    }
    Ok(bytes)
}
