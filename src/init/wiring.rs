//! What a clone is connected to: its three streams, its listeners, and the descriptor on which it may say that it is ready.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::cgroup::Cgroup;
use super::launch::failure;
use super::member::Member;
use super::world::World;
use crate::cell::{Spawned, Wiring};
use crate::log::Stream;
use crate::supervisor::StartFailure;
use crate::unit::{LogTarget, Ready, Unit};

/// sd_listen_fds(3).
const FIRST: usize = 3;
/// Descriptors between the last listener and the one for readiness are /dev/null; this many at most.
const MAX_GAP: usize = 64;

pub fn clone(
    member: &Member,
    world: &mut World,
    cgroup: &Cgroup,
    environment: &[(String, String)],
    owners: Vec<(u32, u32)>,
    ready: Option<&ReadyPipe>,
) -> Result<Spawned, StartFailure> {
    let Some(made) = &member.ready else { return Err(failure("plan", "there is none")) };
    let (_, gid) = made.owner;
    let stdout = output(world, &member.unit, Stream::Out, gid)?;
    let stderr = output(world, &member.unit, Stream::Err, gid)?;
    let stdin = std::io::stdin();
    let listeners = member.listeners.iter();
    let entrances = cgroup.entrances().map_err(|e| failure("open the cgroup", e))?;
    let directory = cgroup.directory().map_err(|e| failure("open the cgroup", e))?;
    let wiring = Wiring {
        launchpad: world.launchpad.as_deref(),
        stdin: if world.foreground { stdin.as_fd() } else { world.null.as_fd() },
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
        listen: listeners.map(|listener| (listener.name.clone(), listener.descriptor.as_fd())).collect(),
        unannounced: ready.map_or_else(Vec::new, |pipe| pipe.descriptors(world.null.as_fd())),
        environment: environment.to_vec(),
        owners,
        cgroup: directory.as_ref().map(AsFd::as_fd),
        user_namespace: member.user_namespace.as_ref().map(AsFd::as_fd),
        join: None,
        enter: entrances.iter().map(AsFd::as_fd).collect(),
    };
    made.prepared.spawn(&wiring).map_err(|e| failure("clone", e))
}

/// Where a stream goes. A duplicate, so that what it belongs to can be borrowed again.
pub fn output(world: &mut World, unit: &Unit, stream: Stream, gid: u32) -> Result<OwnedFd, StartFailure> {
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let (target, ours): (_, BorrowedFd<'_>) = match stream {
        Stream::Err => (unit.log.stderr, stderr.as_fd()),
        Stream::Out | Stream::Sys => (unit.log.stdout, stdout.as_fd()),
    };
    let descriptor = match target {
        LogTarget::Null => world.null.as_fd().try_clone_to_owned(),
        LogTarget::Inherit => ours.try_clone_to_owned(),
        LogTarget::Log if world.foreground => ours.try_clone_to_owned(),
        LogTarget::Log => world.logs.stream(unit, stream, gid),
    };
    descriptor.map_err(|e| failure("open the log pipe", e))
}

/// `ready = { fd = N }`: s6's notification-fd. The service writes a newline to descriptor N when it is ready.
pub struct ReadyPipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Descriptors between the last listener and this one.
    gap: usize,
}

impl ReadyPipe {
    pub fn for_unit(unit: &Unit) -> Result<Option<ReadyPipe>, StartFailure> {
        let Ready::Fd(number) = unit.service.ready else { return Ok(None) };
        let taken = FIRST + unit.sockets.len();
        let gap = usize::try_from(number).ok().and_then(|number| number.checked_sub(taken)).filter(|gap| *gap <= MAX_GAP);
        let Some(gap) = gap else {
            let last = taken + MAX_GAP;
            return Err(failure("readiness descriptor", format!("{number} is not one of {taken} to {last}: listeners come first")));
        };
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failure("readiness pipe", e))?;
        // Only our end: a service that was not written for it must not find a write that would block.
        nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| failure("readiness pipe", e))?;
        Ok(Some(ReadyPipe { read, write, gap }))
    }

    fn descriptors<'a>(&'a self, null: BorrowedFd<'a>) -> Vec<BorrowedFd<'a>> {
        let mut descriptors = vec![null; self.gap];
        descriptors.push(self.write.as_fd());
        descriptors
    }

    /// The other end is the service's alone, so that its end is heard.
    pub fn into_reader(self) -> OwnedFd {
        self.read
    }
}
