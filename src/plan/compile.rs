//! The two cells in which a module is made ready. Its bytes are nobody's yet: no network, little memory, and only the first of
//! the two sees the file. The second is handed what the first has read, which by then nobody can change.

use std::collections::BTreeMap;
use std::path::Path;

use crate::unit::{Enforce, Resources, Rlimit, Seccomp, SeccompPolicy};

use super::error::{PlanError, Shortcomings};
use super::guest::{HOST_PATH, MAX_MODULE, MODULE_PATH};
use super::identity::Who;
use super::{CgroupPlan, Facts, Given, Namespaces, Plan, Preparation, Step};
use super::{limits, payload, root, selinux};

/// The largest component seen so far (a Python interpreter, 18 MB) compiles in 600 MB.
const MEMORY_MAX: u64 = 1 << 30;
const PIDS_MAX: u32 = 64;
/// Seconds of processor time, of all threads together: two minutes on each of two processors.
const CPU_TIME: u64 = 240;
/// The verbs of `cell-wasm`.
const DIGEST: &str = "digest";
const COMPILE: &str = "compile";

/// `cell-wasm digest`: prints the digest of the module and the compatibility hash of its own engine, and copies what it has
/// hashed to [`OUTPUT_FD`](super::guest::OUTPUT_FD). Machine code that counts `fuel` is another engine's.
pub fn build_digest(unit: &str, module: &Path, fuel: bool, facts: &Facts, given: &Given) -> Result<Plan, PlanError> {
    build(unit, DIGEST, Some(module), fuel, facts, given)
}

/// `cell-wasm compile`: reads that copy on its standard input, and writes the artifact to
/// [`OUTPUT_FD`](super::guest::OUTPUT_FD). The supervisor hands both over.
pub fn build_compile(unit: &str, fuel: bool, facts: &Facts, given: &Given) -> Result<Plan, PlanError> {
    build(unit, COMPILE, None, fuel, facts, given)
}

fn build(unit: &str, verb: &str, module: Option<&Path>, fuel: bool, facts: &Facts, given: &Given) -> Result<Plan, PlanError> {
    // The module must be compiled on hosts that cannot limit memory, too.
    let mut shortcomings = Shortcomings::new(unit, Enforce::BestEffort);
    let who = Who::dynamic(given.slot, &shortcomings)?;
    let cgroup = cgroup(unit, verb, facts, &mut shortcomings)?;
    let own = Namespaces { uts: true, ipc: true, net: true, ..Namespaces::default() };

    let bound = match module {
        Some(_) => limits::rlimit(Rlimit::FileSize, MAX_MODULE, facts),
        None => limits::rlimit(Rlimit::CpuTime, CPU_TIME, facts),
    };

    let mut steps = vec![Step::NewSession, Step::ShieldSetup, bound];
    steps.extend(root::around_host(module, &who, facts, &shortcomings)?);
    steps.extend([
        Step::EnterUserNamespace,
        Step::Unshare(own),
        Step::SetHostname(verb.to_string()),
        Step::SetUmask(0o077),
        Step::ChangeDirectory("/".to_string()),
        Step::PlaceDescriptors,
        Step::SetIds { uid: who.uid, gid: who.gid, groups: Vec::new() },
        Step::LimitCapabilities { keep: Default::default(), last: facts.last_capability },
    ]);
    if let Some(selinux) = &facts.selinux {
        steps.push(Step::SetSelinuxLabel(format!("{}:{}", selinux.wasm, selinux::pair(given.slot))));
    }
    // Only a compiler writes, and what it wrote must survive a power cut before it gets its name.
    let allow = if verb == COMPILE { vec!["fsync".to_string()] } else { Vec::new() };
    steps.extend([
        Step::NoNewPrivileges,
        Step::ResetSignals,
        Step::InstallSeccomp(Seccomp { policy: SeccompPolicy::Derived, allow, deny: Vec::new(), errno: EPERM }),
    ]);
    let mut argv = vec![HOST_PATH.to_string(), verb.to_string()];
    argv.extend(module.map(|_| MODULE_PATH.to_string()));
    argv.extend(fuel.then(|| "--fuel".to_string()));
    steps.push(payload::command(argv, BTreeMap::new(), Vec::new(), &shortcomings)?);

    Ok(Plan {
        unit: unit.to_string(),
        before: vec![Preparation::MakeCgroup, Preparation::PrepareUserNamespace],
        cgroup,
        user_namespace: who.map,
        born: Namespaces { mount: true, pid: true, cgroup: true, ..Namespaces::default() },
        steps,
        left_out: shortcomings.verdict()?,
    })
}

/// Beside the unit's own cell; `~` is in no unit's name.
fn cgroup(unit: &str, verb: &str, facts: &Facts, shortcomings: &mut Shortcomings<'_>) -> Result<CgroupPlan, PlanError> {
    let wanted = Resources { memory_max: Some(MEMORY_MAX), pids_max: Some(PIDS_MAX), ..Resources::default() };
    limits::cgroup_for(&format!("{unit}~{verb}"), &wanted, &wanted, true, facts, shortcomings)
}

const EPERM: i32 = 1;
