//! `Action::Spawn`, performed: what the plan says is to be done before the clone, then the clone, then one task that follows it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use tokio::sync::mpsc;

use super::cgroup::Cgroup;
use super::follow::{self, Follow, Main};
use super::member::{Alive, Member, Ready, Run, Stage};
use super::notify::NotifySocket;
use super::sockets::Listener;
use super::world::World;
use super::{directories, environment};
use crate::cell::{self, Wiring};
use crate::log::Stream;
use crate::plan::{self, Given, Plan, Preparation, Step};
use crate::supervisor::{StartFailure, UnitId};
use crate::unit::{Listen, LogTarget};

/// Successors of a main process that wait for the task that follows the run.
const SUCCESSORS: usize = 4;

/// Builds the plan and makes it ready; once per unit, but again for another artifact.
pub fn prepare(member: &mut Member, world: &World, artifact: Option<&Path>) -> Result<(), StartFailure> {
    if member.ready.is_some() {
        return Ok(());
    }
    let given = Given { slot: member.slot, artifact: artifact.map(Path::to_owned) };
    let plan = plan::build(&member.unit, &world.facts, &given).map_err(|e| failure("plan", e))?;
    let prepared = cell::prepare(&plan).map_err(|e| failure("prepare the plan", e))?;
    member.ready = Some(Ready { plan, prepared, probes: Default::default() });
    Ok(())
}

/// Starts the unit. On an error nothing of this start is left but directories, which the release takes away.
pub fn launch(member: &mut Member, world: &mut World, unit: UnitId, run: u64) -> Result<Option<StartFailure>, StartFailure> {
    let Some(ready) = &member.ready else { return Err(failure("plan", "there is none")) };
    let plan = &ready.plan;
    let mut made = Made::default();
    for preparation in &plan.before {
        made.perform(preparation, world, plan, &mut member.listeners, &mut member.user_namespace)?;
    }
    let Some(cgroup) = made.cgroup.take() else { return Err(failure("cgroup", "the plan makes none")) };
    // Watches are opened before there is anything to miss.
    let started = cgroup.watch().map_err(|e| failure("watch the cgroup", e));
    let started = started.and_then(|watch| {
        let spawned = clone(&ready.prepared, world, &member.unit, plan, &cgroup, std::mem::take(&mut made.environment), &member.listeners, member.user_namespace.as_ref())?;
        Ok((watch, spawned))
    });
    let (watch, spawned) = match started {
        Ok(started) => started,
        Err(failure) => {
            cgroup.remove();
            return Err(failure);
        }
    };

    let expected = world.children.register(spawned.pid);
    let pidfd = spawned.pidfd.try_clone().map_err(|e| failure("dup", e));
    let refused = pidfd.as_ref().err().cloned().or_else(|| join(&cgroup, spawned.pid, spawned.go).err());
    if refused.is_some() {
        expected.kill();
    }
    let (successors, receiver) = mpsc::channel(SUCCESSORS);
    let follower = Follow {
        unit,
        run,
        mail: world.mail.clone(),
        report: spawned.report,
        main: Main { expected, pidfd: pidfd.ok() },
        successors: receiver,
        notify: made.notify.take(),
        cgroup: watch,
    };
    let mut tasks = vec![tokio::task::spawn_local(follower.run()).abort_handle()];
    if let Some(events) = cgroup.watch_oom() {
        let watch = follow::memory(unit, run, world.mail.clone(), events);
        tasks.push(tokio::task::spawn_local(watch).abort_handle());
    }
    let alive = Alive {
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        cgroup,
        successors,
        refused: refused.is_some(),
        hint: None,
        oom_kills: 0,
    };
    member.run = Some(Run { number: run, stage: Stage::Alive(alive), tasks });
    Ok(refused)
}

/// What the preparations leave for the clone.
#[derive(Default)]
struct Made {
    cgroup: Option<Cgroup>,
    notify: Option<NotifySocket>,
    environment: Vec<(String, String)>,
}

impl Drop for Made {
    /// Only a start that failed half-way has still got it.
    fn drop(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
    }
}

impl Made {
    fn perform(
        &mut self,
        preparation: &Preparation,
        world: &World,
        plan: &Plan,
        listeners: &mut Vec<Listener>,
        user_namespace: &mut Option<OwnedFd>,
    ) -> Result<(), StartFailure> {
        match preparation {
            // Done before, by `super::compile`; the plan was built with what came of it.
            Preparation::CompileModule { .. } => {}
            Preparation::MakeCgroup => {
                let cgroup = world.slice.create(&plan.cgroup).map_err(|e| failure(format!("make the cgroup {}", plan.cgroup.path), e))?;
                self.cgroup = Some(cgroup);
            }
            Preparation::PrepareUserNamespace => {
                if let (None, Some(map)) = (&user_namespace, plan.user_namespace) {
                    *user_namespace = Some(cell::user_namespace(map).map_err(|e| failure("make the user namespace", e))?);
                }
            }
            Preparation::StateDirectory { host, uid, gid, label } => {
                let provided = directories::provide(&world.facts.state_dir, host, (*uid, *gid), label.as_deref());
                provided.map_err(|e| failure(format!("state directory {}", host.display()), e))?;
            }
            Preparation::RuntimeDirectory { host, uid, gid, label } => {
                let base = &world.facts.run_dir;
                let provided = directories::discard(base, host, &world.trash()).and_then(|()| directories::provide(base, host, (*uid, *gid), label.as_deref()));
                provided.map_err(|e| failure(format!("runtime directory {}", host.display()), e))?;
            }
            Preparation::OpenSocket { name, listen, backlog, mode } => {
                if listeners.iter().any(|listener| listener.name == *name) {
                    return Ok(());
                }
                let opened = Listener::open(name, listen, *backlog, *mode);
                listeners.push(opened.map_err(|e| failure(format!("listen on {}", address(listen)), e))?);
            }
            Preparation::NotifySocket { path } => {
                let socket = NotifySocket::bind(path).map_err(|e| failure(format!("notify socket {}", path.display()), e))?;
                self.notify = Some(socket);
            }
            Preparation::ReadEnvironment { path, optional } => {
                let variables = environment::read(path, *optional).map_err(|e| failure(format!("environment file {path}"), e))?;
                self.environment.extend(variables);
            }
        }
        Ok(())
    }
}

#[allow(clippy::too_many_arguments)]
fn clone(
    prepared: &cell::Prepared,
    world: &mut World,
    unit: &crate::unit::Unit,
    plan: &Plan,
    cgroup: &Cgroup,
    environment: Vec<(String, String)>,
    listeners: &[Listener],
    user_namespace: Option<&OwnedFd>,
) -> Result<cell::Spawned, StartFailure> {
    let (uid, gid) = owner(plan);
    let stdout = output(world, unit, Stream::Out, uid, gid)?;
    let stderr = output(world, unit, Stream::Err, uid, gid)?;
    let stdin = std::io::stdin();
    let wiring = Wiring {
        stdin: if world.foreground { stdin.as_fd() } else { world.null.as_fd() },
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
        listen: listeners.iter().map(|listener| (listener.name.clone(), listener.descriptor.as_fd())).collect(),
        environment,
        cgroup: cgroup.directory(),
        user_namespace: user_namespace.map(AsFd::as_fd),
        join: None,
        wait_for_go: cgroup.must_join(),
    };
    prepared.spawn(&wiring).map_err(|e| failure("clone", e))
}

/// Where a stream goes. A duplicate, so that what it belongs to can be borrowed again.
pub fn output(world: &mut World, unit: &crate::unit::Unit, stream: Stream, uid: u32, gid: u32) -> Result<OwnedFd, StartFailure> {
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let (target, ours): (_, BorrowedFd<'_>) = match stream {
        Stream::Err => (unit.log.stderr, stderr.as_fd()),
        Stream::Out | Stream::Sys => (unit.log.stdout, stdout.as_fd()),
    };
    let descriptor = match target {
        LogTarget::Null => world.null.as_fd().try_clone_to_owned(),
        LogTarget::Inherit => ours.try_clone_to_owned(),
        LogTarget::Log if world.foreground => ours.try_clone_to_owned(),
        LogTarget::Log => world.logs.stream(unit, stream, uid, gid).and_then(|fd| fd.try_clone_to_owned()),
    };
    descriptor.map_err(|e| failure("open the log pipe", e))
}

/// Into the v1 hierarchies, and on.
pub fn join(cgroup: &Cgroup, pid: i32, go: Option<OwnedFd>) -> Result<(), StartFailure> {
    let Some(go) = go else { return Ok(()) };
    cgroup.join(pid).map_err(|e| failure("join the cgroup", e))?;
    nix::unistd::write(&go, b"g").map(drop).map_err(|e| failure("let the clone go on", e))
}

/// The payload's ids as the host knows them.
pub fn owner(plan: &Plan) -> (u32, u32) {
    let base = plan.user_namespace.map_or(0, |map| map.base);
    let ids = plan.steps.iter().find_map(|step| match step {
        Step::SetIds { uid, gid, .. } => Some((base.saturating_add(*uid), base.saturating_add(*gid))),
        _ => None,
    });
    ids.unwrap_or((0, 0))
}

pub fn failure(step: impl Into<String>, message: impl std::fmt::Display) -> StartFailure {
    StartFailure { step: step.into(), message: message.to_string() }
}

fn address(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => format!("tcp://{address}"),
        Listen::Unix(path) => format!("unix:{path}"),
    }
}
