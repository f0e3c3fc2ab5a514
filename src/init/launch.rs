//! `Action::Spawn`, performed: what the plan says is to be done before the clone, then the clone, then one task that follows it.

use std::path::Path;
use std::rc::Rc;

use super::cgroup::Cgroup;
use super::directories;
use super::follow::{self, Follow, Main};
use super::happening::{self, Happening};
use super::looks::Seen;
use super::main_pid::Successor;
use super::member::{Alive, Member, Ready, Run, Stage};
use super::notify::NotifySocket;
use super::sockets::Listener;
use super::tell;
use super::wiring::{self, ReadyPipe};
use super::world::World;
use crate::cell;
use crate::plan::{self, Given, Plan, Preparation, Step};
use crate::supervisor::{StartFailure, UnitId};
use crate::unit::{Listen, OomPolicy, Unit};

/// Builds the plan and makes it ready; once per unit, but again for another artifact.
pub fn prepare(member: &mut Member, world: &mut World, artifact: Option<&Path>) -> Result<(), StartFailure> {
    if member.ready.as_ref().is_some_and(|ready| ready.given.artifact.as_deref() == artifact) {
        return Ok(());
    }
    let given = Given { slot: member.slot, artifact: artifact.map(Path::to_owned) };
    let plan = plan::build(&member.unit, &world.facts, &given).map_err(|e| failure("", e.in_one_line()))?;
    let mut prepared = cell::prepare(&plan).map_err(|e| failure("prepare the plan", e))?;
    let owner = owner(&plan);
    let Plan { mut before, cgroup, user_namespace, born, left_out, .. } = plan;
    // What stays for as long as the unit has no room to spare.
    before.shrink_to_fit();
    let left_out = world.shortcomings.share(left_out);
    prepared.environment = world.environments.share(prepared.environment);
    let is_init = born.pid;
    member.ready = Some(Ready { given, before, cgroup, user_namespace, is_init, owner, left_out, prepared, probes: Default::default() });
    Ok(())
}

/// Starts the unit. An error means that there is no clone, and nothing of this start is left but directories, which the
/// release takes away. A failure that is no error has a clone on its way out, followed like any other.
pub fn launch(member: &mut Member, world: &mut World, unit: UnitId, run: u64, seen: Seen) -> Result<(), StartFailure> {
    seen.listeners.into_iter().for_each(|listener| member.add_listener(listener));
    tell::left_out(member, &mut world.logs);
    let mut made = Made::for_start(member, world, seen.environment)?;
    // Watches are opened before there is anything to miss.
    let cgroup = made.cgroup()?;
    let (watch, oom) = (cgroup.watch(), if wants_oom(&member.unit) { cgroup.watch_oom() } else { None });
    let spawned = wiring::clone(member, world, cgroup, &made.environment, seen.owners, made.ready.as_ref())?;

    let expected = world.children.register(spawned.pid);
    let pidfd = Rc::new(spawned.pidfd);
    let successor = Successor::default();
    let follower = Follow {
        unit,
        run,
        mail: world.mail.clone(),
        report: Some(spawned.report),
        flight: spawned.progress.zip(world.launchpad.clone()),
        main: Main { expected, pidfd: Rc::clone(&pidfd) },
        successor: successor.clone(),
        notify: made.notify.take(),
        ready: made.ready.take().map(ReadyPipe::into_reader),
        cgroup: watch,
    };
    let mut tasks = vec![happening::spawn(&world.mail, Happening::Unfollowed { unit, run }, follower.run())];
    tasks.extend(oom.map(|events| follow::memory(unit, run, &world.mail, events)));
    let alive = Alive {
        pid: spawned.pid,
        pidfd,
        cgroup: made.keep_cgroup()?,
        successor,
        executed: false,
        refused: false,
        hint: None,
        oom_kills: 0,
        sent: None,
        named: Default::default(),
        reload: Default::default(),
        environment: std::mem::take(&mut made.environment),
    };
    member.run = Some(Run { number: run, stage: Stage::Alive(alive), tasks });
    Ok(())
}

/// Whether it is worth a watch of its own when the kernel kills something in this cell for want of memory. Where no limit of its own can
/// bring that about, and the whole cell dies of it or nobody counts, the end of the main process says as much.
fn wants_oom(unit: &Unit) -> bool {
    let is_limited = unit.resources.memory_max.is_some() || unit.resources.memory_high.is_some();
    is_limited || (unit.oom_policy != OomPolicy::KillCell && unit.counts_memory())
}

/// What the preparations leave for the clone.
#[derive(Default)]
struct Made {
    cgroup: Option<Cgroup>,
    notify: Option<NotifySocket>,
    ready: Option<ReadyPipe>,
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
    fn for_start(member: &mut Member, world: &World, environment: Vec<(String, String)>) -> Result<Made, StartFailure> {
        let mut made = Made::default();
        made.environment = environment;
        // Taken out and put back: a listener is added to its member on the way.
        let Some(ready) = member.ready.take() else { return Err(failure("plan", "there is none")) };
        let performed = ready.before.iter().try_for_each(|preparation| made.perform(preparation, world, &ready, member));
        member.ready = Some(ready);
        performed?;
        made.ready = ReadyPipe::for_unit(&member.unit)?;
        Ok(made)
    }

    fn cgroup(&self) -> Result<&Cgroup, StartFailure> {
        self.cgroup.as_ref().ok_or_else(|| failure("cgroup", "the plan makes none"))
    }

    fn keep_cgroup(&mut self) -> Result<Cgroup, StartFailure> {
        self.cgroup.take().ok_or_else(|| failure("cgroup", "the plan makes none"))
    }

    fn perform(&mut self, preparation: &Preparation, world: &World, ready: &Ready, member: &mut Member) -> Result<(), StartFailure> {
        match preparation {
            // Done before, by `super::compile`; the plan was built with what came of it.
            Preparation::CompileModule { .. } => {}
            Preparation::MakeCgroup => {
                let cgroup = world.slice.create(&ready.cgroup).map_err(|e| failure(format!("make the cgroup {}", ready.cgroup.path), e))?;
                self.cgroup = Some(cgroup);
            }
            Preparation::PrepareUserNamespace => {
                if let (None, Some(map)) = (&member.user_namespace, ready.user_namespace) {
                    member.user_namespace = Some(cell::user_namespace(map).map_err(|e| failure("make the user namespace", e))?);
                }
            }
            Preparation::RuntimeDirectory { host, uid, gid, label } => {
                let base = &world.facts.run_dir;
                let provided = directories::discard(base, host, &world.trash())
                    .and_then(|()| directories::provide(base, host, (*uid, *gid), label.as_deref()));
                provided.map_err(|e| failure(format!("runtime directory {}", host.display()), e))?;
            }
            Preparation::OpenSocket { name, listen: Listen::Tcp(address), backlog, .. } if !member.listens(name) => {
                let opened = Listener::tcp(name, *address, *backlog);
                member.add_listener(opened.map_err(|e| failure(format!("listen on tcp://{address}"), e))?);
            }
            // Open since an earlier start, or by `super::looks`.
            Preparation::OpenSocket { .. } => {}
            Preparation::NotifySocket { path, owner } => {
                let socket = NotifySocket::bind(path, *owner).map_err(|e| failure(format!("notify socket {}", path.display()), e))?;
                self.notify = Some(socket);
            }
            // Seen to by `super::looks`.
            Preparation::StateDirectory { .. } | Preparation::ReadEnvironment { .. } => {}
        }
        Ok(())
    }
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
