//! What the supervisor is told: sd_notify(3), without the library.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::cause::say;

#[derive(Clone)]
pub struct Notify {
    socket: Option<OsString>,
}

impl Notify {
    pub fn from_env() -> Self {
        Notify { socket: std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) }
    }

    /// Nobody listening is no reason to end a guest, so a failure is only said.
    pub fn send(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send_to(socket, text) {
            say(format_args!("{}: {error}", socket.display()));
        }
    }
}

fn send_to(socket: &OsString, text: &str) -> std::io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}
