//! sd_notify(3): one datagram socket per run of a unit, bound into its cell. What comes out of it was written by a service:
//! it is bounded, checked for who sent it, and never makes anything fail (systemd #4234: a zero-length datagram froze PID 1).

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::discriminant;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::aside::{self, Aside};
use crate::places;
use crate::sys::watch::watch;
use crate::unit::CauseKind;

/// Bytes of one datagram that are looked at; the rest is cut off by the kernel.
const DATAGRAM_BYTES: usize = 4096;
/// Datagrams read in one turn; a flood waits in the socket, whose length the kernel bounds, and blocks its sender.
const DATAGRAMS_PER_TURN: usize = 32;
/// SCM_MAX_FD in include/net/scm.h.
const SCM_MAX_FD: usize = 253;
/// For the child that takes descriptors, and after it.
const DISCARDING: Duration = Duration::from_secs(1);
const DISCARD_PAUSE: Duration = Duration::from_millis(100);
/// Characters of a status text that are kept.
const STATUS_CHARS: usize = 256;

/// What a service said, as far as it means something here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    Ready,
    Reloading,
    Stopping,
    Watchdog,
    Status(String),
    /// The pid as its cell counts.
    MainPid(i32),
    /// From our own Wasm host: why the guest is about to end.
    Cause(CauseKind),
}

/// Who wrote a datagram, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    pub pid: i32,
    pub uid: u32,
}

/// The supervisor's end.
#[derive(Debug)]
pub struct NotifySocket {
    /// None only while it is dropped.
    source: Option<AsyncFd<UnixDatagram>>,
    path: PathBuf,
}

/// What is at the head of the queue.
enum Head {
    Said(Option<Sender>, Vec<u8>),
    /// Descriptors come with it. Whoever takes them is the last to have them, and what their close(2) waits for is for the sender to decide.
    Descriptors,
}

/// Why no more was read.
#[derive(Clone, Copy, PartialEq)]
enum Pause {
    Empty,
    Turn,
    Descriptors,
}

impl NotifySocket {
    /// Who wrote to it is told by the kernel, and checked; but whoever can write to it can fill it, and then nobody hears the
    /// service. So it is out of reach but for its cell, or else for its `owner` alone.
    pub fn bind(path: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        places::make(directory, if owner.is_some() { 0o711 } else { 0o700 })?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(if owner.is_some() { 0o600 } else { 0o666 }))?;
        if let Some((uid, gid)) = owner {
            chown(path, Some(uid), Some(gid))?;
        }
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        let source = Some(watch(socket, Interest::READABLE)?);
        Ok(NotifySocket { source, path: path.to_owned() })
    }

    /// Waits until something was said.
    pub async fn heard(&self) -> Vec<(Sender, Word)> {
        let Some(source) = &self.source else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = source.readable().await else { return std::future::pending().await };
            let (words, pause) = read(source.get_ref());
            if pause == Pause::Empty {
                ready.clear_ready();
            }
            if !words.is_empty() {
                return words;
            }
            match pause {
                Pause::Descriptors => Box::pin(discard(source.get_ref())).await,
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// What has been said and not been read, one turn's worth; for the moment when the service has ended.
    pub fn rest(&self) -> Vec<(Sender, Word)> {
        self.source.as_ref().map(|source| read(source.get_ref()).0).unwrap_or_default()
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
        let Some(socket) = self.source.take().map(AsyncFd::into_inner) else { return };
        // Nobody can say anything any more; what was said and not read may come with descriptors.
        socket.shutdown(Shutdown::Read).ok();
        if !matches!(head(socket.as_fd()), Err(Errno::EAGAIN)) {
            aside::let_go(vec![socket.into()]);
        }
    }
}

fn read(socket: &UnixDatagram) -> (Vec<(Sender, Word)>, Pause) {
    let mut words = Vec::new();
    for _ in 0..DATAGRAMS_PER_TURN {
        match head(socket.as_fd()) {
            Ok(Head::Descriptors) => return (words, Pause::Descriptors),
            Ok(Head::Said(sender, text)) => {
                socket.recv(&mut []).ok();
                sender.into_iter().for_each(|sender| parse(&text).into_iter().for_each(|word| say(&mut words, sender, word)));
            }
            Err(Errno::EINTR) => {}
            Err(_) => return (words, Pause::Empty),
        }
    }
    (words, Pause::Turn)
}

/// What comes with descriptors means nothing here. A child takes it, and does not close them but ends.
async fn discard(socket: &UnixDatagram) {
    let child = Aside::start(&[socket.as_fd()], |work| {
        if let Some(socket) = work.given(0) {
            (0..DATAGRAMS_PER_TURN).take_while(|_| matches!(head(socket), Ok(Head::Descriptors))).for_each(|_| take(socket));
        }
    });
    match child {
        Ok(mut child) => drop(tokio::time::timeout(DISCARDING, child.line()).await),
        Err(error) => tracing::warn!(%error, "descriptors beside what a service says wait for a process that takes them"),
    }
    // A sender who knows nothing better is not worth a clone each millisecond.
    tokio::time::sleep(DISCARD_PAUSE).await;
}

/// With room for as many descriptors as the kernel sends at once.
fn take(socket: BorrowedFd<'_>) {
    let mut control = nix::cmsg_space!(UnixCredentials, [RawFd; SCM_MAX_FD]);
    recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut [], Some(&mut control), MsgFlags::MSG_DONTWAIT).ok();
}

/// Of what one sender says of one thing in one turn, the last counts: each word may cost the loop a look into /proc.
fn say(words: &mut Vec<(Sender, Word)>, sender: Sender, word: Word) {
    words.retain(|(before, said)| *before != sender || discriminant(said) != discriminant(&word));
    words.push((sender, word));
}

/// Leaves it in the queue.
fn head(socket: BorrowedFd<'_>) -> nix::Result<Head> {
    let mut bytes = vec![0; DATAGRAM_BYTES];
    // Room for the credentials and nothing else: the kernel says that more was there, and gives it to nobody.
    let mut control = nix::cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Ok(Head::Descriptors);
    }
    let sender = message.cmsgs().into_iter().flatten().find_map(|control| match control {
        ControlMessageOwned::ScmCredentials(who) => Some(Sender { pid: who.pid(), uid: who.uid() }),
        _ => None,
    });
    let length = message.bytes;
    bytes.truncate(length);
    Ok(Head::Said(sender, bytes))
}

/// `KEY=VALUE` lines; what is unknown, not UTF-8 or nonsense is passed over.
fn parse(datagram: &[u8]) -> Vec<Word> {
    let lines = datagram.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.filter_map(|line| line.split_once('=')).filter_map(|(key, value)| word(key, value)).collect()
}

fn word(key: &str, value: &str) -> Option<Word> {
    match (key, value) {
        ("READY", "1") => Some(Word::Ready),
        ("RELOADING", "1") => Some(Word::Reloading),
        ("STOPPING", "1") => Some(Word::Stopping),
        ("WATCHDOG", "1") => Some(Word::Watchdog),
        ("STATUS", text) => Some(Word::Status(text.chars().filter(|c| !c.is_control()).take(STATUS_CHARS).collect())),
        ("MAINPID", pid) => pid.parse().ok().filter(|pid| *pid > 0).map(Word::MainPid),
        ("X_CELLINIT_CAUSE", "trap") => Some(Word::Cause(CauseKind::Trap)),
        ("X_CELLINIT_CAUSE", "fuel") => Some(Word::Cause(CauseKind::Fuel)),
        ("X_CELLINIT_CAUSE", "deadline") => Some(Word::Cause(CauseKind::Deadline)),
        ("X_CELLINIT_CAUSE", "memory") => Some(Word::Cause(CauseKind::Memory)),
        ("X_CELLINIT_CAUSE", "world") => Some(Word::Cause(CauseKind::World)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let long = format!("STATUS={}", "x".repeat(9999));
        for (datagram, expected) in [
            (&b""[..], vec![]),
            (b"\n\n=\n", vec![]),
            (b"READY=1", vec![Word::Ready]),
            (b"READY=0\nREADY=1\nSTATUS=up \x1b[31m\n", vec![Word::Ready, Word::Status("up [31m".into())]),
            (b"MAINPID=-1\nMAINPID=x\nMAINPID=99999999999\nMAINPID=7", vec![Word::MainPid(7)]),
            (b"\xff\xfe=1\nWATCHDOG=1", vec![Word::Watchdog]),
            (b"X_CELLINIT_CAUSE=fuel\nX_CELLINIT_CAUSE=dance", vec![Word::Cause(CauseKind::Fuel)]),
            (long.as_bytes(), vec![Word::Status("x".repeat(STATUS_CHARS))]),
        ] {
            assert_eq!(parse(datagram), expected, "{:?}", String::from_utf8_lossy(datagram));
        }
    }

    #[test]
    fn the_last_word_of_each_sender_counts() {
        let (one, two) = (Sender { pid: 1, uid: 0 }, Sender { pid: 2, uid: 0 });
        let mut words = Vec::new();
        for (sender, word) in
            [(one, Word::MainPid(1)), (one, Word::Ready), (two, Word::MainPid(3)), (one, Word::MainPid(2)), (one, Word::Ready)]
        {
            say(&mut words, sender, word);
        }
        assert_eq!(words, [(two, Word::MainPid(3)), (one, Word::MainPid(2)), (one, Word::Ready)]);
    }
}
