//! `Action::Probe`, performed. http and tcp probes are asked by a short-lived child (`cellinit probe`) that enters the cell's
//! network first; exec probes run behind the cell's own walls. Whatever it is, it is killed when its time is over, and what an exec
//! probe has started goes with it.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::ask;
use super::children::Expected;
use super::follow;
use super::happening::{self, Happening};
use super::member::{Alive, Ready};
use super::nest::{GOING, Nest};
use super::shell::{Shell, index};
use super::world::World;
use crate::cell::{self, Wiring};
use crate::plan::{self, Given, Plan};
use crate::supervisor::{Event, ProbeKind, UnitId};
use crate::sys::fd;
use crate::sys::wait::Death;
use crate::sys::watch::watch;
use crate::unit::{Check, Listen, Namespace, Probe, Unit};

/// The word that makes `cellinit` a probe.
pub const ROLE: &str = "probe";
/// Bytes of what a probe says that are kept.
const DETAIL: usize = 256;
/// Bytes read at once of an exec probe's output, and altogether before it has to wait for us: what floods must not keep us busy.
const READ: usize = 64 * 1024;
const FREELY: usize = 256 * 1024;
const PAUSE: Duration = Duration::from_millis(10);

/// A probe on its way.
struct Asking {
    child: Expected,
    pidfd: Option<OwnedFd>,
    /// Where it says what is wrong.
    detail: Detail,
    /// Where everyone is whom an exec probe started, on cgroup v2.
    nest: Option<Nest>,
}

enum Detail {
    /// The standard output of `cellinit probe`.
    Words(File),
    /// The report pipe of a cell's clone, and the output of its program.
    Report(OwnedFd, Rc<Plan>, Output),
}

/// What an exec probe writes; of it the last line counts. It is read all the time, because a full pipe would hold the probe up.
struct Output {
    pipe: AsyncFd<File>,
    tail: Vec<u8>,
    heard: usize,
}

pub fn start(shell: &mut Shell, unit: UnitId, run: u64, kind: ProbeKind) {
    let Some(member) = shell.members.get_mut(index(unit)) else { return };
    let description = member.unit.clone();
    let Some(probe) = find(&description, kind) else { return };
    let slot = member.slot;
    let mail = shell.world.mail.clone();
    let answer = move |ok, detail| Happening::Machine(Event::Probed { unit, run, probe: kind, ok, detail });
    let asking = match (&mut member.ready, &member.run) {
        (Some(ready), Some(super::member::Run { number, stage: super::member::Stage::Alive(alive), .. })) if *number == run => {
            match &probe.check {
                Check::Http { url } => ask_network(&description, &shell.world, alive, &["http", url]),
                Check::Tcp { address } => ask_network(&description, &shell.world, alive, &["tcp", address]),
                Check::Exec { argv } => {
                    let given = Given { slot, artifact: None };
                    ask_inside(&description, &shell.world, ready, alive, kind, &given, argv)
                }
            }
        }
        _ => Err("the cell is gone".to_owned()),
    };
    let timeout = probe.timeout;
    let panicked = answer(false, "the task that asks it panicked".to_owned());
    happening::spawn(&shell.world.mail, panicked, async move {
        let (ok, detail) = match asking {
            Ok(asking) => asking.answer(timeout).await,
            Err(reason) => (false, reason),
        };
        mail.send(answer(ok, detail)).await.ok();
    });
}

fn find(unit: &Unit, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => unit.health.startup.as_deref(),
        ProbeKind::Live => unit.health.live.as_deref(),
        ProbeKind::Ready => unit.health.ready.as_deref(),
    }
}

impl Asking {
    async fn answer(mut self, timeout: Duration) -> (bool, String) {
        let death = tokio::time::timeout(timeout, self.death()).await;
        if death.is_err() {
            self.child.kill();
        }
        if let Some(nest) = self.nest.take() {
            nest.end().await;
        }
        match death {
            Ok(Some(Death::Status(0))) => (true, String::new()),
            Ok(Some(Death::Status(code))) => (false, self.said(format!("exit status {code}")).await),
            Ok(Some(Death::Signal { number, .. })) => (false, self.said(format!("signal {number}")).await),
            Ok(None) => (false, "nobody saw it end".to_owned()),
            Err(_) => {
                // So that its last words are whole; but an answer is due, whether it dies or not.
                tokio::time::timeout(GOING, self.child.death(self.pidfd.as_ref().map(AsFd::as_fd))).await.ok();
                (false, self.said(format!("no answer within {timeout:?}")).await)
            }
        }
    }

    async fn death(&mut self) -> Option<Death> {
        let listening = async {
            if let Detail::Report(_, _, output) = &mut self.detail {
                output.listen().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            death = self.child.death(self.pidfd.as_ref().map(AsFd::as_fd)) => death,
            () = listening => None,
        }
    }

    /// How it ended, in its own words where it has any.
    async fn said(self, how: String) -> String {
        match self.detail {
            Detail::Words(pipe) => {
                let mut bytes = Vec::new();
                // Non-blocking, and what it wrote before its end is there.
                pipe.take(DETAIL as u64).read_to_end(&mut bytes).ok();
                last_line(&bytes).unwrap_or(how)
            }
            // A clone that has not died may hold its end of the pipe.
            Detail::Report(pipe, plan, mut output) => match tokio::time::timeout(GOING, follow::report(&pipe, None)).await.ok().flatten() {
                Some(report) => plan.explain(&report),
                None => {
                    output.read().ok();
                    last_line(&output.tail).map_or(how.clone(), |line| format!("{how}: {line}"))
                }
            },
        }
    }
}

impl Output {
    /// Until nobody can write any more.
    async fn listen(&mut self) {
        loop {
            match self.read() {
                Ok(0) => return,
                Ok(_) if self.heard > FREELY => tokio::time::sleep(PAUSE).await,
                Ok(_) => tokio::task::yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.pipe.readable().await {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => return,
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = vec![0; READ];
        let length = self.pipe.get_ref().read(&mut bytes)?;
        self.heard = self.heard.saturating_add(length);
        self.tail.extend(bytes.iter().take(length));
        self.tail.drain(..self.tail.len().saturating_sub(DETAIL));
        Ok(length)
    }
}

fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let printable = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    text.lines().map(printable).rfind(|line| !line.trim().is_empty())
}

fn ask_network(unit: &Unit, world: &World, alive: &Alive, words: &[&str]) -> Result<Asking, String> {
    // A unit's own socket was opened by us: it listens in the host's network, whatever network the cell has.
    let own = ask::asked(words).is_some_and(|address| listens_on(unit, address));
    let namespace = match unit.isolation.net {
        // The child enters what it finds on its standard input.
        Namespace::Private if !own => {
            let path = format!("/proc/{}/ns/net", alive.pid);
            File::open(&path).map_err(|e| format!("{path}: {e}"))?
        }
        _ => world.null.try_clone().map_err(|e| e.to_string())?,
    };
    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|e| e.to_string())?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(ROLE).args(words).env_clear().stdin(Stdio::from(namespace)).stdout(Stdio::from(write)).stderr(Stdio::null());
    let child = command.spawn().map_err(|e| e.to_string())?;
    let pid = i32::try_from(child.id()).map_err(|e| e.to_string())?;
    Ok(Asking { child: world.children.register(pid), pidfd: None, detail: Detail::Words(File::from(read)), nest: None })
}

fn listens_on(unit: &Unit, address: SocketAddr) -> bool {
    unit.sockets.iter().any(|socket| match &socket.listen {
        Listen::Tcp(own) => own.port() == address.port() && (own.ip() == address.ip() || own.ip().is_unspecified()),
        Listen::Unix(_) => false,
    })
}

fn ask_inside(
    unit: &Unit,
    world: &World,
    ready: &mut Ready,
    alive: &Alive,
    kind: ProbeKind,
    given: &Given,
    argv: &[String],
) -> Result<Asking, String> {
    let (plan, prepared) = match ready.probes.entry(kind) {
        std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::btree_map::Entry::Vacant(entry) => {
            let plan = plan::build_probe(unit, &world.facts, given, argv).map_err(|e| e.in_one_line())?;
            let prepared = cell::prepare(&plan).map_err(|e| e.to_string())?;
            entry.insert((Rc::new(plan), prepared))
        }
    };
    let entrances = alive.cgroup.entrances().map_err(|e| e.to_string())?;
    let nest = Nest::below(&alive.cgroup, &format!("probe-{}", kind.as_str())).map_err(|e| e.to_string())?;
    let directory = nest.as_ref().map(Nest::directory).transpose().map_err(|e| e.to_string())?;
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| e.to_string())?;
    fd::set_nonblocking(read.as_fd()).map_err(|e| e.to_string())?;
    let pipe = watch(File::from(read), Interest::READABLE).map_err(|e| e.to_string())?;
    let wiring = Wiring {
        launchpad: None,
        stdin: world.null.as_fd(),
        stdout: write.as_fd(),
        stderr: write.as_fd(),
        listen: Vec::new(),
        unannounced: Vec::new(),
        environment: alive.environment.clone(),
        owners: Vec::new(),
        cgroup: directory.as_ref().map(AsFd::as_fd),
        user_namespace: None,
        join: Some(alive.pidfd.as_fd()),
        enter: entrances.iter().map(AsFd::as_fd).collect(),
    };
    let spawned = prepared.spawn(&wiring).map_err(|e| e.to_string())?;
    let child = world.children.register(spawned.pid);
    Ok(Asking {
        child,
        pidfd: Some(spawned.pidfd),
        detail: Detail::Report(spawned.report, Rc::clone(plan), Output { pipe, tail: Vec::new(), heard: 0 }),
        nest,
    })
}
