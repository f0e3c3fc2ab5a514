//! The one network call of a cell: its loopback goes up.

use std::mem;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::sys::{Result, check, named};

/// ioctl(SIOCSIFFLAGS) of `lo` in the network namespace of this thread; netdevice(7).
pub fn loopback_up() -> Result<()> {
    let socket = named("socket", socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None))?;
    // SAFETY: ifreq is plain data, for which zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: SIOCGIFFLAGS fills the live ifreq.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    check("ioctl(SIOCGIFFLAGS)", result)?;
    // SAFETY: the flags are the member of the union that SIOCGIFFLAGS filled.
    request.ifr_ifru.ifru_flags = unsafe { request.ifr_ifru.ifru_flags } | libc::IFF_UP as i16;
    // SAFETY: SIOCSIFFLAGS reads the live ifreq.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check("ioctl(SIOCSIFFLAGS)", result).map(drop)
}
