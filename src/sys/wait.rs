//! waitid(2). Not `nix`'s, which answers EINVAL (and loses the status) when a child was killed by a real-time signal.

use std::io;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    Status(i32),
    Signal { number: i32, core: bool },
}

/// The next dead child, left in place: its status is still there for [`collect`]. `None`: nobody is dead, or there is no child.
pub fn peek() -> io::Result<Option<i32>> {
    Ok(waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL)?.map(|(pid, _)| pid))
}

/// Whether this is a child of ours that nobody has collected.
pub fn is_child(pid: i32) -> bool {
    // SAFETY: without a siginfo_t the kernel writes nothing.
    libc::id_t::try_from(pid).is_ok_and(|id| unsafe {
        libc::waitid(libc::P_PID, id, std::ptr::null_mut(), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL) == 0
    })
}

/// Takes the status of one dead child. `None`: it still lives, or is not our child.
pub fn collect(pid: i32) -> io::Result<Option<Death>> {
    let Ok(id) = libc::id_t::try_from(pid) else { return Ok(None) };
    Ok(waitid(libc::P_PID, id, libc::WEXITED | libc::WNOHANG | libc::__WALL)?.map(|(_, death)| death))
}

fn waitid(kind: libc::idtype_t, id: libc::id_t, options: i32) -> io::Result<Option<(i32, Death)>> {
    loop {
        // SAFETY: siginfo_t is plain data, for which all zeroes is a value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is a live siginfo_t; the kernel writes nothing else.
        if unsafe { libc::waitid(kind, id, &mut info, options) } == -1 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::ECHILD) => return Ok(None),
                _ => return Err(error),
            }
        }
        // SAFETY: waitid fills the SIGCHLD members, or leaves them zero with WNOHANG and nobody dead.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        let death = match info.si_code {
            libc::CLD_EXITED => Death::Status(status),
            code => Death::Signal { number: status, core: code == libc::CLD_DUMPED },
        };
        return Ok((pid != 0).then_some((pid, death)));
    }
}
