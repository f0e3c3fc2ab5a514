//! `[[socket]]`: listeners that the supervisor opens once and keeps, so that a restart loses no connection.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, listen, setsockopt, socket, sockopt,
};

/// One open listener. The file of a unix socket goes when the supervisor does; `super::patience` removes it.
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

    pub fn listen(&self) -> io::Result<()> {
        let backlog = Backlog::new(self.backlog.clamp(1, i32::from(u16::MAX))).unwrap_or(Backlog::MAXCONN);
        Ok(listen(&self.descriptor, backlog)?)
    }
}

/// Gives a socket its file. For a process of its own: it changes the umask.
pub fn bind_to(socket: BorrowedFd<'_>, path: &Path, mode: u32) -> io::Result<()> {
    clear(path)?;
    // Never by the path afterwards: somebody may have put another file there. The umask is this process's alone.
    crate::sys::process::umask(!mode & 0o777);
    bound(socket, &UnixAddr::new(path)?)
}

fn stream(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

fn bound(descriptor: BorrowedFd<'_>, address: &dyn SockaddrLike) -> io::Result<()> {
    Ok(bind(descriptor.as_raw_fd(), address)?)
}

/// A socket's file, if it is one.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

/// A dead supervisor's socket is in the way; anything else at that path is not ours to remove.
fn clear(path: &Path) -> io::Result<()> {
    remove(path)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(())
}
