//! One clone3(2): everything is laid out before it, and the clone only walks what was laid out.
//!
//! With the semantics of fork(2) for whatever has walls; payloads without walls go the short way; `super::launchpad`.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use crate::cell::launchpad::Launchpad;
use crate::cell::perform::hide::Covers;
use crate::cell::perform::{Act, Layout, Stage, namespaces, perform};
use crate::cell::{Error, Prepared, prepare};
use crate::plan::{self, Namespaces, Report};
use crate::sys::process::Clone3;
use crate::sys::shared::Progress;
use crate::sys::{self, DIGITS, StringArray, fd, namespace, process};

/// What a start is connected to. Everything that differs from start to start is here, and nothing of it in [`Prepared`].
pub struct Wiring<'a> {
    pub stdin: BorrowedFd<'a>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
    /// Descriptors from 3 on, with their LISTEN_FDNAMES; sd_listen_fds(3).
    pub listen: Vec<(String, BorrowedFd<'a>)>,
    /// Descriptors that follow, which nobody announces: the unit file says their numbers.
    pub unannounced: Vec<BorrowedFd<'a>>,
    /// Over the plan's environment, as far as [`plan::may_set`]: what the unit's environment files say.
    pub environment: Vec<(String, String)>,
    /// The [`owner`](crate::cell::owner)s of [`Prepared::sources`], in their order.
    pub owners: Vec<(u32, u32)>,
    /// A cgroup v2 directory to be born into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// From [`user_namespace`](crate::cell::user_namespace), where the plan enters one.
    pub user_namespace: Option<BorrowedFd<'a>>,
    /// The pidfd of the running cell that the plan joins.
    pub join: Option<BorrowedFd<'a>>,
    /// `tasks` of v1 cgroups, into which the clone writes itself: moving another process takes the kernel a grace period of many
    /// milliseconds, in which the supervisor would stand still.
    pub enter: Vec<BorrowedFd<'a>>,
    /// For payloads without walls.
    pub launchpad: Option<&'a Launchpad>,
}

/// A clone on its way.
#[derive(Debug)]
pub struct Spawned {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Non-blocking. One [`Report`] when a step failed; at its end without one, execve(2) succeeded.
    pub report: OwnedFd,
    /// Of a clone on the launchpad. It writes a byte before any report, when it is time to [`collect`](Launchpad::collect); if it dies
    /// before that, its death is what tells.
    pub progress: Option<Arc<Progress>>,
}

/// [`Report::step`] of what happens before the first step: descriptors, v1 cgroups, the cgroup namespace.
pub const BIRTH: u32 = u32::MAX;

/// What a clone on the launchpad writes on the report pipe when it has descriptors of its own.
const APART: u8 = 0;

/// What a clone exits with after its report. The report is what is read.
const EXIT_REPORTED: i32 = 120;

impl Prepared {
    /// What is mounted with an idmap, which depends on whose it is at the time of a start.
    pub fn sources(&self) -> Vec<PathBuf> {
        self.idmaps.borrow().sources().cloned().collect()
    }

    pub fn spawn(&self, wiring: &Wiring<'_>) -> Result<Spawned, Error> {
        self.check(wiring)?;
        // The one report fits into an empty pipe, so neither side ever waits.
        let (report, report_home) = fd::pipe_nonblocking()?;

        let mut idmaps = self.idmaps.borrow_mut();
        let mut descriptors = Descriptors::pass_on(wiring);
        let layout = Layout {
            passed_on: descriptors.0.len(),
            report: descriptors.add(report_home.as_fd()),
            user_namespace: wiring.user_namespace.map(|fd| descriptors.add(fd)),
            join: wiring.join.map(|fd| descriptors.add(fd)),
            enter: descriptors.add_all(wiring.enter.iter().copied()),
            idmaps: descriptors.add_all(idmaps.namespaces(&wiring.owners)?.into_iter().map(AsFd::as_fd)).start,
        };
        let environment = Environment::new(self, wiring)?;
        let mut birth = Birth {
            acts: Rc::clone(&self.acts),
            cgroup_namespace: self.born.cgroup,
            scratch: vec![0; descriptors.0.len()],
            layout,
            environment,
        };
        if let Some(pad) = wiring.launchpad.filter(|_| self.plain) {
            match pad.clone3(self.request(wiring), &descriptors.0, birth) {
                Ok(cloned) => {
                    let (pid, pidfd, progress) = cloned?;
                    return Ok(Spawned { pid, pidfd, report, progress: Some(progress) });
                }
                Err(no_room) => birth = *no_room,
            }
        }
        let (pid, pidfd) = self.fork(wiring, || birth.live(&descriptors.0, Way::Long))?;
        Ok(Spawned { pid, pidfd, report, progress: None })
    }

    /// The cgroup namespace is not made here: clone3(2) roots it at the parent's cgroup, even when the child is born in another.
    fn request<'a>(&self, wiring: &Wiring<'a>) -> Clone3<'a> {
        let born = namespaces::flags(Namespaces { cgroup: false, ..self.born });
        Clone3 { flags: born as u64, exit_signal: libc::SIGCHLD, cgroup: wiring.cgroup }
    }

    fn fork(&self, wiring: &Wiring<'_>, child: impl FnOnce() -> i32) -> Result<(i32, OwnedFd), Error> {
        let entered = match (wiring.join, self.joins) {
            (Some(cell), Some(Namespaces { pid: true, .. })) => Some(PidNamespace::enter(cell)?),
            _ => None,
        };
        let cloned = process::clone3(self.request(wiring), child);
        if let Some(entered) = entered {
            entered.leave()?;
        }
        Ok(cloned?)
    }

    fn check(&self, wiring: &Wiring<'_>) -> Result<(), Error> {
        if self.enters_user_namespace && wiring.user_namespace.is_none() {
            return Err(Error::Unwired("a user namespace"));
        }
        if self.joins.is_some() && wiring.join.is_none() {
            return Err(Error::Unwired("a running cell to join"));
        }
        Ok(())
    }

    /// The first process of a pid namespace is 1.
    fn pid_is_known(&self) -> bool {
        self.born.pid
    }
}

/// What the clone keeps open, in the order in which it will number them.
struct Descriptors<'a>(Vec<BorrowedFd<'a>>);

impl<'a> Descriptors<'a> {
    fn pass_on(wiring: &Wiring<'a>) -> Self {
        let listen = wiring.listen.iter().map(|(_, fd)| *fd);
        Descriptors(
            [wiring.stdin, wiring.stdout, wiring.stderr].into_iter().chain(listen).chain(wiring.unannounced.iter().copied()).collect(),
        )
    }

    fn add(&mut self, fd: BorrowedFd<'a>) -> usize {
        self.0.push(fd);
        self.0.len() - 1
    }

    fn add_all(&mut self, fds: impl Iterator<Item = BorrowedFd<'a>>) -> Range<usize> {
        let first = self.0.len();
        self.0.extend(fds);
        first..self.0.len()
    }
}

/// The environment of one start, and where in it the clone writes its pid.
struct Environment {
    strings: StringArray,
    listen_pid: Option<(usize, usize)>,
}

const LISTEN_PID: &str = "LISTEN_PID=";

impl Environment {
    fn new(prepared: &Prepared, wiring: &Wiring<'_>) -> Result<Self, Error> {
        let mut variables: Vec<(&str, &str)> = Vec::new();
        let mut set = |key, value| {
            variables.retain(|(present, _)| *present != key);
            variables.push((key, value));
        };
        let over = wiring.environment.iter().filter(|(key, _)| plan::may_set(&prepared.environment, &prepared.yielding, key));
        prepared.environment.iter().chain(over).for_each(|(key, value)| set(key, value));
        let names = wiring.listen.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(":");
        let count = wiring.listen.len().to_string();
        if !wiring.listen.is_empty() {
            set("LISTEN_FDS", &count);
            set("LISTEN_FDNAMES", &names);
            variables.retain(|(key, _)| *key != "LISTEN_PID");
        }
        let mut lines: Vec<String> = variables.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut listen_pid = None;
        if !wiring.listen.is_empty() && prepared.pid_is_known() {
            lines.push(format!("{LISTEN_PID}1"));
        } else if !wiring.listen.is_empty() {
            listen_pid = Some((lines.len(), LISTEN_PID.len()));
            lines.push(format!("{LISTEN_PID}{}", "0".repeat(DIGITS)));
        }
        let strings = prepare::strings("environment variable", lines.iter().map(String::as_str))?;
        Ok(Environment { strings, listen_pid })
    }
}

/// All that the clone has. It frees nothing of it: on the short way the parent does, and on the long one nobody need.
pub struct Birth {
    acts: Rc<[Act]>,
    cgroup_namespace: bool,
    /// As many numbers as there are descriptors.
    scratch: Vec<RawFd>,
    layout: Layout,
    environment: Environment,
}

/// How a clone comes to its program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a copy of the supervisor's memory.
    Long,
    /// In that very memory; `super::launchpad`.
    Short,
}

impl Birth {
    /// The life of the clone, but for its last call; gives what to exit with.
    pub fn live(&mut self, descriptors: &[impl AsFd], way: Way) -> i32 {
        if way == Way::Long {
            // Before anything else: the pid may be visible in a running cell already (CVE-2016-9962). It cannot fail. The short way is
            // in memory that the supervisor has made so.
            let _ = process::set_dumpable(false);
        }
        let Ok(slots) = fd::keep_only(descriptors, &mut self.scratch) else {
            // The report pipe may be among what is lost.
            return EXIT_REPORTED;
        };
        if let (Way::Short, Some(home)) = (way, slots.get(self.layout.report)) {
            let _ = fd::write_whole(home, &[APART]);
        }
        let mut stage = Stage {
            slots,
            layout: &self.layout,
            environment: &mut self.environment.strings,
            listen_pid: self.environment.listen_pid,
            root: None,
            proc: None,
            covers: Covers::default(),
        };
        let report = match begin(&mut stage, self.cgroup_namespace, &self.acts) {
            Ok(()) => perform(&self.acts, &mut stage),
            Err(error) => Report { step: BIRTH, errno: error.errno },
        };
        if let Some(home) = slots.get(self.layout.report) {
            // Nobody is left to tell when even this fails.
            let _ = fd::write_whole(home, &report.to_bytes());
        }
        EXIT_REPORTED
    }
}

fn begin(stage: &mut Stage<'_>, cgroup_namespace: bool, acts: &[Act]) -> sys::Result<()> {
    for node in stage.layout.enter.clone() {
        // 0 is whoever writes it; cgroups(7).
        fd::write_whole(stage.slot(Some(node))?, b"0")?;
    }
    if cgroup_namespace {
        namespace::unshare(libc::CLONE_NEWCGROUP)?;
    }
    // Directories and files that are made on the way have the modes that the code says.
    process::umask(SETUP_UMASK);
    if acts.iter().any(|act| matches!(act, Act::SetSelinuxLabel(_))) {
        // While there still is the privilege to: the label is written after the user namespace is entered.
        stage.proc()?;
    }
    Ok(())
}

const SETUP_UMASK: u32 = 0o022;

/// A stay in another pid namespace, in so far as one can stay there: the next clone is born into it.
struct PidNamespace {
    own: OwnedFd,
}

impl PidNamespace {
    fn enter(cell: BorrowedFd<'_>) -> Result<Self, Error> {
        let path = std::path::PathBuf::from("/proc/thread-self/ns/pid");
        let own = std::fs::File::open(&path).map_err(|error| Error::File(path, error))?.into();
        namespace::setns(cell, libc::CLONE_NEWPID)?;
        Ok(PidNamespace { own })
    }

    fn leave(self) -> Result<(), Error> {
        Ok(namespace::setns(self.own.as_fd(), libc::CLONE_NEWPID)?)
    }
}
