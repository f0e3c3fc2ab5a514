//! The plan of a unit. The order of the steps is the security argument; each move below says what it would break.

use std::path::{Path, PathBuf};

use crate::unit::{Enforce, Listen, Namespace, Payload, Profile, SeccompPolicy, Unit};

use super::error::{PlanError, Shortcomings};
use super::{Facts, Namespaces, Plan, Preparation, Slot, Step};
use super::{identity, limits, payload, root, selinux, syscalls};

/// What the shell has allocated and prepared for this unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    pub slot: Slot,
    /// The compiled module of a Wasm unit. Without one the plan can be read, not performed.
    pub artifact: Option<PathBuf>,
}

impl From<Slot> for Given {
    fn from(slot: Slot) -> Self {
        Given { slot, artifact: None }
    }
}

impl Given {
    pub(super) fn artifact_of(&self, module: &str) -> PathBuf {
        self.artifact.clone().unwrap_or_else(|| PathBuf::from(format!("<compiled from {module}>")))
    }
}

/// Everything that starting `unit` on this host will do.
pub fn build(unit: &Unit, facts: &Facts, given: &Given) -> Result<Plan, PlanError> {
    let mut shortcomings = Shortcomings::new(&unit.name, unit.isolation.enforce);
    payload::contradictions(unit, &shortcomings)?;
    payload::notify_fits(unit, facts, &shortcomings)?;
    own_directory(unit, facts, &shortcomings)?;
    let who = identity::resolve(unit, facts, given.slot, &shortcomings)?;
    let cgroup = limits::cgroup(unit, facts, &mut shortcomings)?;

    let mut steps = vec![Step::NewSession, Step::ShieldSetup];
    // As root of the host: what takes the host's capabilities comes before the user namespace.
    steps.extend(limits::oom_score(unit, facts, &mut shortcomings));
    steps.extend(limits::rlimits(unit, facts, &mut shortcomings));
    if unit.isolation.mount == Namespace::Private {
        steps.extend(root::steps(unit, facts, given, &who, &shortcomings)?);
    }
    // The mount, pid and cgroup namespaces stay the host's property: no capability of the cell is good for them.
    // What follows belongs to the cell, so that a granted capability works on its network and its host name.
    if who.map.is_some() {
        steps.push(Step::EnterUserNamespace);
    }
    steps.extend(own_namespaces(unit));
    steps.push(Step::SetUmask(unit.service.umask));
    steps.push(Step::ChangeDirectory(unit.service.working_dir.clone()));
    steps.push(Step::PlaceDescriptors);
    // From here on nothing is privileged. Ids go first: changing them takes the capabilities that are dropped next.
    steps.push(Step::SetIds { uid: who.uid, gid: who.gid, groups: Vec::new() });
    steps.push(identity::capabilities(unit, facts, &mut shortcomings));
    // Before no_new_privs, under which a label may only be changed to a bounded one.
    steps.extend(selinux::label(unit, facts, given.slot, &mut shortcomings));
    steps.extend(last_walls(unit, &shortcomings)?);
    steps.push(payload::execute(unit, facts, &who, &shortcomings)?);

    Ok(Plan {
        unit: unit.name.clone(),
        before: preparations(unit, facts, &who, selinux::of_files(&steps, facts)),
        cgroup,
        user_namespace: who.map,
        born: born(unit),
        steps,
        left_out: shortcomings.verdict()?,
    })
}

/// All that stands in the way of a start, where [`build`] gives the first of it.
pub fn check(unit: &Unit, facts: &Facts, given: &Given) -> Vec<PlanError> {
    let mut shortcomings = Shortcomings::new(&unit.name, unit.isolation.enforce);
    shortcomings.keep(|s| payload::contradictions(unit, s));
    shortcomings.keep(|s| payload::notify_fits(unit, facts, s));
    shortcomings.keep(|s| limits::cgroup(unit, facts, s));
    limits::oom_score(unit, facts, &mut shortcomings);
    limits::rlimits(unit, facts, &mut shortcomings);
    identity::capabilities(unit, facts, &mut shortcomings);
    selinux::label(unit, facts, given.slot, &mut shortcomings);
    shortcomings.keep(|s| last_walls(unit, s));
    if let Some(who) = shortcomings.keep(|s| identity::resolve(unit, facts, given.slot, s)) {
        if unit.isolation.mount == Namespace::Private {
            shortcomings.keep(|s| root::steps(unit, facts, given, &who, s));
        }
        shortcomings.keep(|s| payload::execute(unit, facts, &who, s));
    }
    shortcomings.refused
}

/// A probe of a running cell: the same walls, joined instead of built.
pub fn build_probe(unit: &Unit, facts: &Facts, given: &Given, argv: &[String]) -> Result<Plan, PlanError> {
    let whole = build(unit, facts, given)?;
    let shortcomings = Shortcomings::new(&unit.name, Enforce::Required);
    let who = identity::resolve(unit, facts, given.slot, &shortcomings)?;
    let mut environment = payload::environment(unit, facts, &who);
    let yielding = payload::yielding(unit, &environment);
    // These name the main process, which a probe must not speak for.
    environment.retain(|key, _| !payload::SPOKEN.contains(&key.as_str()));
    let namespaces = joined(unit);

    let mut steps = Vec::new();
    for step in whole.steps {
        match step {
            // The namespaces hold all of this already.
            Step::MakeMountsPrivate
            | Step::CloneRoot { .. }
            | Step::EmptyRoot { .. }
            | Step::MountProc
            | Step::MountTmpfs { .. }
            | Step::MountDevpts
            | Step::MountCgroup
            | Step::Bind { .. }
            | Step::Symlink { .. }
            | Step::Mask { .. }
            | Step::ReadOnly { .. }
            | Step::Seal { .. }
            | Step::PivotRoot
            | Step::EnterUserNamespace
            | Step::Unshare(_)
            | Step::LoopbackUp
            | Step::SetHostname(_)
            | Step::JoinCell { .. } => {}
            // The first step that needs to be inside.
            Step::SetUmask(_) => {
                steps.push(Step::JoinCell { user: who.map.is_some(), namespaces });
                steps.push(step);
            }
            Step::Execute { .. } => {
                steps.push(payload::command(argv.to_vec(), std::mem::take(&mut environment), yielding.clone(), &shortcomings)?);
            }
            _ => steps.push(step),
        }
    }
    Ok(Plan { before: Vec::new(), born: Namespaces::default(), user_namespace: None, steps, ..whole })
}

/// A listener there would take the place of the supervisor's own socket, or of something that it keeps.
fn own_directory(unit: &Unit, facts: &Facts, shortcomings: &Shortcomings<'_>) -> Result<(), PlanError> {
    let own = |listen: &Listen| matches!(listen, Listen::Unix(path) if Path::new(path).starts_with(&facts.run_dir));
    let Some(n) = unit.sockets.iter().position(|socket| own(&socket.listen)) else { return Ok(()) };
    let reason = format!("{} is the supervisor's own directory", facts.run_dir.display());
    Err(shortcomings.refuse(&format!("socket[{n}].listen"), reason, Some("choose another directory, as /run/sockets".to_string())))
}

/// Before the clone, by the supervisor.
fn preparations(unit: &Unit, facts: &Facts, who: &identity::Who, label: Option<String>) -> Vec<Preparation> {
    let mut before = Vec::new();
    if let Payload::Wasm(wasm) = &unit.payload {
        before.push(Preparation::CompileModule { module: PathBuf::from(&wasm.module) });
    }
    before.push(Preparation::MakeCgroup);
    if who.map.is_some() {
        before.push(Preparation::PrepareUserNamespace);
    }
    let (uid, gid) = (who.on_host(who.uid), who.on_host(who.gid));
    for name in &unit.dirs.state {
        let (host, _) = root::state_directory(unit, facts, name);
        before.push(Preparation::StateDirectory { host, uid, gid, label: label.clone() });
    }
    for name in &unit.dirs.runtime {
        let (host, _) = root::runtime_directory(unit, facts, name);
        before.push(Preparation::RuntimeDirectory { host, uid, gid, label: label.clone() });
    }
    for socket in &unit.sockets {
        before.push(Preparation::OpenSocket {
            name: socket.name.clone(),
            listen: socket.listen.clone(),
            backlog: socket.backlog,
            mode: socket.mode,
        });
    }
    if payload::wants_notify(unit) {
        let owner = (unit.isolation.mount == Namespace::Host).then_some((uid, gid));
        before.push(Preparation::NotifySocket { path: root::notify_socket(unit, facts), owner });
    }
    for file in &unit.env.files {
        before.push(Preparation::ReadEnvironment { path: file.path.clone(), optional: file.optional });
    }
    before
}

/// Namespaces of the clone: those that stay owned by the host's user namespace.
fn born(unit: &Unit) -> Namespaces {
    let all = joined(unit);
    Namespaces { uts: false, ipc: false, net: false, ..all }
}

fn joined(unit: &Unit) -> Namespaces {
    let private = |namespace| namespace == Namespace::Private;
    let isolation = &unit.isolation;
    Namespaces {
        mount: private(isolation.mount),
        pid: private(isolation.pid),
        cgroup: private(isolation.cgroup),
        uts: private(isolation.uts),
        ipc: private(isolation.ipc),
        net: private(isolation.net),
    }
}

/// Namespaces owned by the cell, and what a new one lacks.
fn own_namespaces(unit: &Unit) -> Vec<Step> {
    let own = Namespaces { mount: false, pid: false, cgroup: false, ..joined(unit) };
    let mut steps = Vec::new();
    if own != Namespaces::default() {
        steps.push(Step::Unshare(own));
    }
    if own.net {
        steps.push(Step::LoopbackUp);
    }
    if own.uts {
        steps.push(Step::SetHostname(unit.isolation.hostname.clone()));
    }
    steps
}

/// The filter is last: whatever came after it would have to be allowed to the payload too.
fn last_walls(unit: &Unit, shortcomings: &Shortcomings<'_>) -> Result<Vec<Step>, PlanError> {
    let filtered = unit.seccomp.policy != SeccompPolicy::Off;
    let mut steps = Vec::new();
    if unit.isolation.profile != Profile::None || filtered {
        steps.push(Step::NoNewPrivileges);
    }
    steps.push(Step::ResetSignals);
    if filtered {
        let filter = filter(unit);
        syscalls::check(&filter).map_err(|fault| shortcomings.refuse(fault.key(), fault.to_string(), fault.help()))?;
        steps.push(Step::InstallSeccomp(filter));
    }
    Ok(steps)
}

/// Widened by what is granted: the directories and sockets of a guest, the calls that a capability is for.
fn filter(unit: &Unit) -> crate::unit::Seccomp {
    let mut seccomp = unit.seccomp.clone();
    match (seccomp.policy, &unit.payload) {
        (SeccompPolicy::Derived, Payload::Wasm(wasm)) => {
            if wasm.dirs.iter().any(|dir| dir.writable) || !unit.dirs.state.is_empty() || !unit.dirs.runtime.is_empty() {
                seccomp.allow.push(WASM_WRITE.to_string());
            }
            if !unit.sockets.is_empty() {
                seccomp.allow.push(WASM_LISTEN.to_string());
            }
        }
        (SeccompPolicy::Default | SeccompPolicy::Log, _) => {
            let calls = unit.caps.iter().flat_map(|(_, name)| syscalls::of_capability(name));
            let calls: std::collections::BTreeSet<String> = calls.map(ToString::to_string).collect();
            seccomp.allow.extend(calls);
        }
        _ => {}
    }
    seccomp
}

/// Groups of the derived filter, beside its base.
pub const WASM_WRITE: &str = "@wasm-write";
pub const WASM_LISTEN: &str = "@wasm-listen";
