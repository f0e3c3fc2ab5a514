//! `[[socket]]`: listeners that the supervisor opens once and keeps, so that a restart loses no connection.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, listen, setsockopt, socket, sockopt,
};

use crate::unit::Listen;

/// One open listener. A unix socket's file goes with it.
#[derive(Debug)]
pub struct Listener {
    pub name: String,
    pub descriptor: OwnedFd,
    path: Option<PathBuf>,
}

impl Listener {
    pub fn open(name: &str, address: &Listen, backlog: i32, mode: u32) -> io::Result<Listener> {
        let (descriptor, path) = match address {
            Listen::Tcp(address) => {
                let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
                let descriptor = stream(family)?;
                // A predecessor's connections in TIME_WAIT do not keep us from the port.
                setsockopt(&descriptor, sockopt::ReuseAddr, &true)?;
                bound(&descriptor, &SockaddrStorage::from(*address))?;
                (descriptor, None)
            }
            Listen::Unix(path) => {
                let path = PathBuf::from(path);
                clear(&path)?;
                let descriptor = stream(AddressFamily::Unix)?;
                bound(&descriptor, &UnixAddr::new(&path)?)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
                (descriptor, Some(path))
            }
        };
        listen(&descriptor, Backlog::new(backlog.clamp(1, i32::from(u16::MAX))).unwrap_or(Backlog::MAXCONN))?;
        Ok(Listener { name: name.to_owned(), descriptor, path })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            fs::remove_file(path).ok();
        }
    }
}

fn stream(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

fn bound(descriptor: &OwnedFd, address: &dyn SockaddrLike) -> io::Result<()> {
    Ok(bind(descriptor.as_raw_fd(), address)?)
}

/// A dead supervisor's socket is in the way; anything else at that path is not ours to remove.
fn clear(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(())
}
