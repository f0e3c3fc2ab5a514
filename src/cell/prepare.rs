//! A plan, made ready: strings with their NUL, pointers in their arrays, the filter compiled. Done once per unit; every restart
//! performs the same memory.

use std::cell::RefCell;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use crate::cell::Error;
use crate::cell::launchpad::is_plain;
use crate::cell::perform::exec::Execute;
use crate::cell::perform::hide::{Mask, ReadOnly};
use crate::cell::perform::ids::{LimitCapabilities, SetIds};
use crate::cell::perform::limits::{SetOomScore, SetRlimit};
use crate::cell::perform::mounts::{Bind, Idmapped, Symlink, Tmpfs};
use crate::cell::perform::namespaces::{JoinCell, Unshare};
use crate::cell::perform::root::{Below, CloneRoot, EmptyRoot};
use crate::cell::perform::{Act, TargetPath};
use crate::cell::seccomp;
use crate::cell::user_namespace::{Idmaps, Mapped};
use crate::plan::{Idmap, Namespaces, Plan, Step};
use crate::sys::{StringArray, signal};

/// A [`Plan`] of which nothing is left to allocate, parse or compile.
pub struct Prepared {
    /// One for each step, in order.
    pub(super) acts: Rc<[Act]>,
    pub(super) born: Namespaces,
    /// For what is asked of the wiring.
    pub(super) enters_user_namespace: bool,
    pub(super) joins: Option<Namespaces>,
    /// The environment of the plan; the wiring adds to it. Of many units it is the same, and may then be one.
    pub environment: Rc<[(String, String)]>,
    pub(super) yielding: Vec<String>,
    pub(super) idmaps: RefCell<Idmaps>,
    /// Without walls: it may be cloned in the supervisor's own memory.
    pub(super) plain: bool,
}

pub fn prepare(plan: &Plan) -> Result<Prepared, Error> {
    let payload = payload_ids(plan);
    let mut idmaps = Idmaps::for_payload((payload.host_uid, payload.host_gid), plan.user_namespace);
    let mut acts = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        acts.push(act(step, &payload, &mut idmaps)?);
    }
    let (environment, yielding) = match plan.steps.last() {
        Some(Step::Execute { environment, yielding, .. }) => (environment.clone(), yielding.clone()),
        _ => Default::default(),
    };
    Ok(Prepared {
        plain: is_plain(plan, &acts),
        acts: acts.into(),
        born: plan.born,
        enters_user_namespace: plan.steps.contains(&Step::EnterUserNamespace),
        joins: plan.steps.iter().find_map(|step| match step {
            Step::JoinCell { namespaces, .. } => Some(*namespaces),
            _ => None,
        }),
        environment: environment.into(),
        yielding,
        idmaps: RefCell::new(idmaps),
    })
}

/// Whom the payload runs as, inside and as the host sees it.
struct PayloadIds {
    uid: u32,
    host_uid: u32,
    host_gid: u32,
}

fn payload_ids(plan: &Plan) -> PayloadIds {
    let base = plan.user_namespace.map_or(0, |map| map.base);
    let ids = plan.steps.iter().find_map(|step| match step {
        Step::SetIds { uid, gid, .. } => Some((*uid, *gid)),
        _ => None,
    });
    let (uid, gid) = ids.unwrap_or((0, 0));
    PayloadIds { uid, host_uid: base.saturating_add(uid), host_gid: base.saturating_add(gid) }
}

fn act(step: &Step, payload: &PayloadIds, idmaps: &mut Idmaps) -> Result<Act, Error> {
    Ok(match step {
        Step::NewSession => Act::NewSession,
        Step::ShieldSetup => Act::ShieldSetup,
        Step::SetOomScore(score) => Act::SetOomScore(SetOomScore::new(*score)),
        Step::SetRlimit { resource, soft, hard, .. } => Act::SetRlimit(SetRlimit { resource: *resource, soft: *soft, hard: *hard }),
        Step::MakeMountsPrivate => Act::MakeMountsPrivate,
        Step::CloneRoot { source, writable, idmap, below } => {
            let below = below.iter().map(|inside| {
                let mount = source.join(inside.trim_start_matches('/'));
                Ok::<_, Error>(Below { source: path("mount", &mount)?, target: target(inside)? })
            });
            Act::CloneRoot(Box::new(CloneRoot {
                source: path("root", source)?,
                writable: *writable,
                idmap: idmapped(*idmap, source, Mapped::Tree, payload, idmaps),
                below: below.collect::<Result<_, _>>()?,
            }))
        }
        Step::EmptyRoot { size, directories } => Act::EmptyRoot(EmptyRoot {
            size: text("size", size.to_string())?,
            directories: directories.iter().map(|d| target(d)).collect::<Result<_, _>>()?,
        }),
        Step::MountProc => Act::MountProc,
        Step::MountTmpfs { target: at, size, mode, uid, gid, exec, create } => Act::MountTmpfs(Box::new(Tmpfs {
            target: target(at)?,
            size: text("size", size.to_string())?,
            mode: text("mode", format!("{mode:o}"))?,
            uid: text("uid", uid.to_string())?,
            gid: text("gid", gid.to_string())?,
            exec: *exec,
            create: *create,
        })),
        Step::MountDevpts => Act::MountDevpts,
        Step::MountCgroup => Act::MountCgroup,
        Step::Bind { source, resolved, target: at, writable, exec, devices, recursive, idmap, create } => Act::Bind(Box::new(Bind {
            source: path("bind source", source)?,
            resolved: *resolved,
            target: target(at)?,
            writable: *writable,
            exec: *exec,
            devices: *devices,
            recursive: *recursive,
            idmap: idmapped(*idmap, source, Mapped::Owner, payload, idmaps),
            create: *create,
        })),
        Step::Symlink { link, target: to } => {
            Act::Symlink(Box::new(Symlink { link: target(link)?, target: text("symlink", to.as_str())? }))
        }
        Step::Mask { path: at } => Act::Mask(Mask { target: target(at)? }),
        Step::ReadOnly { path: at } => Act::ReadOnly(ReadOnly { target: target(at)? }),
        Step::PivotRoot => Act::PivotRoot,
        Step::Seal { path: at } => Act::Seal(target(at)?),
        Step::JoinCell { user, namespaces } => Act::JoinCell(JoinCell::new(*user, *namespaces)),
        Step::EnterUserNamespace => Act::EnterUserNamespace,
        Step::Unshare(namespaces) => Act::Unshare(Unshare::new(*namespaces)),
        Step::LoopbackUp => Act::LoopbackUp,
        Step::SetHostname(name) => Act::SetHostname(text("hostname", name.as_str())?),
        Step::SetUmask(mask) => Act::SetUmask(*mask),
        Step::ChangeDirectory(to) => Act::ChangeDirectory(text("working-dir", to.as_str())?),
        Step::SetIds { uid, gid, groups } => Act::SetIds(SetIds { uid: *uid, gid: *gid, groups: groups.clone() }),
        Step::LimitCapabilities { keep, last } => {
            Act::LimitCapabilities(LimitCapabilities::new(keep.iter().map(|(number, _)| number).collect(), *last, payload.uid))
        }
        Step::SetSelinuxLabel(label) => Act::SetSelinuxLabel(text("selinux label", label.as_str())?),
        Step::NoNewPrivileges => Act::NoNewPrivileges,
        Step::PlaceDescriptors => Act::PlaceDescriptors,
        Step::ResetSignals => Act::ResetSignals(signal::ignored()),
        Step::InstallSeccomp(policy) => Act::InstallSeccomp(seccomp::program(policy)?),
        Step::Execute { path: program, argv, search, .. } => {
            let argv = strings("argument", argv.iter().map(String::as_str))?;
            Act::Execute(Box::new(Execute { candidates: candidates(program, search)?, argv }))
        }
    })
}

fn idmapped(idmap: Idmap, source: &Path, mapped: Mapped, payload: &PayloadIds, idmaps: &mut Idmaps) -> Option<Idmapped> {
    (idmap != Idmap::No).then(|| Idmapped {
        index: idmaps.add(source, mapped),
        best_effort: idmap == Idmap::BestEffort,
        uid: payload.host_uid,
        gid: payload.host_gid,
    })
}

/// execvp(3), but decided now: a program without a slash is tried in each directory of the cell's PATH.
fn candidates(program: &str, search: &[String]) -> Result<Vec<CString>, Error> {
    if program.contains('/') {
        return Ok(vec![text("program", program)?]);
    }
    let join = |directory: &String| format!("{}/{program}", directory.trim_end_matches('/'));
    search.iter().map(|directory| text("program", join(directory))).collect()
}

fn target(path: &str) -> Result<TargetPath, Error> {
    TargetPath::new(path).map_err(|_| nul("mount target", path))
}

fn path(what: &'static str, path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| nul(what, &path.to_string_lossy()))
}

pub(super) fn text(what: &'static str, text: impl Into<String>) -> Result<CString, Error> {
    CString::new(text.into()).map_err(|error| nul(what, &String::from_utf8_lossy(&error.into_vec())))
}

pub(super) fn strings<'a>(what: &'static str, texts: impl Iterator<Item = &'a str>) -> Result<StringArray, Error> {
    Ok(StringArray::new(texts.map(|t| text(what, t)).collect::<Result<_, _>>()?))
}

fn nul(what: &'static str, text: &str) -> Error {
    Error::Nul { what, text: text.to_owned() }
}
