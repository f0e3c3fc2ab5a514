//! `[[socket]]`: listeners that the supervisor opens at a start and keeps until the unit is down for good, so that a restart loses
//! no connection and nobody waits for who does not come.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, getsockname, listen, setsockopt, socket,
    sockopt,
};

use super::aside::{self, Aside};
use super::way::Way;
use crate::sys::{fd, process};

/// One open listener.
#[derive(Debug)]
pub struct Listener {
    pub name: String,
    pub descriptor: OwnedFd,
    pub path: Option<PathBuf>,
    backlog: i32,
}

impl Listener {
    pub fn tcp(name: &str, address: SocketAddr, backlog: i32) -> io::Result<Listener> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let descriptor = stream(family)?;
        // A predecessor's connections in TIME_WAIT do not keep us from the port.
        setsockopt(&descriptor, sockopt::ReuseAddr, &true)?;
        bound(descriptor.as_fd(), &SockaddrStorage::from(address))?;
        let listener = Listener { name: name.to_owned(), descriptor, path: None, backlog };
        listener.listen()?;
        Ok(listener)
    }

    /// Not bound yet: [`bind_to`] is for somebody who may wait.
    pub fn unix(name: &str, path: &Path, backlog: i32) -> io::Result<Listener> {
        let descriptor = stream(AddressFamily::Unix)?;
        Ok(Listener { name: name.to_owned(), descriptor, path: Some(path.to_owned()), backlog })
    }

    /// It has a name, and so a file, where it is a unix socket.
    pub fn is_bound(&self) -> bool {
        getsockname::<UnixAddr>(self.descriptor.as_raw_fd()).is_ok_and(|name| name.path().is_some())
    }

    pub fn listen(&self) -> io::Result<()> {
        let backlog = Backlog::new(self.backlog.clamp(1, i32::from(u16::MAX))).unwrap_or(Backlog::MAXCONN);
        Ok(listen(&self.descriptor, backlog)?)
    }
}

/// Gives a socket its file. For a process of its own: it changes the umask and the working directory.
pub fn bind_to(socket: BorrowedFd<'_>, way: &Way, path: &Path, mode: u32) -> io::Result<()> {
    let name = stand_before(way, path, true)?;
    // A dead supervisor's socket is in the way; anything else there is not ours to remove.
    remove(&name)?;
    // Never by the path afterwards: somebody may have put another file there. The umask is this process's alone.
    process::umask(!mode & 0o777);
    bound(socket, &UnixAddr::new(&name)?)
}

/// Whoever connects is refused as soon as the child that has the last copies is gone. The files of unix sockets are removed by a child, if there are any: they lie where
/// units say. It has done so when it says nothing more.
pub fn close(listeners: Vec<Listener>, way: &Way) -> Option<Aside> {
    let (descriptors, paths): (Vec<OwnedFd>, Vec<_>) = listeners.into_iter().map(|listener| (listener.descriptor, listener.path)).unzip();
    let paths: Vec<PathBuf> = paths.into_iter().flatten().collect();
    aside::let_go(descriptors);
    if paths.is_empty() {
        return None;
    }
    let gone = |path: &PathBuf| stand_before(way, path, false).and_then(|name| remove(&name));
    let child = Aside::start(&[], |_| paths.iter().for_each(|path| drop(gone(path))));
    child.inspect_err(|error| tracing::warn!(%error, "files of listeners stay")).ok()
}

/// Goes to the directory of `path`: from there its name cannot lead anywhere else.
fn stand_before(way: &Way, path: &Path, make: bool) -> io::Result<PathBuf> {
    let (directory, name) = way.to_name(path, make)?;
    fd::fchdir(directory.as_fd()).map_err(io::Error::other)?;
    Ok(PathBuf::from(OsStr::from_bytes(name.as_bytes())))
}

fn stream(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

fn bound(descriptor: BorrowedFd<'_>, address: &dyn SockaddrLike) -> io::Result<()> {
    Ok(bind(descriptor.as_raw_fd(), address)?)
}

/// A socket's file, if it is one.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}
