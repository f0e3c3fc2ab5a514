//! `cellinit run FILE`: one unit in the foreground. The same machine and the same loop as the supervisor's, for one unit that
//! is not started twice; its streams are ours, its exit code becomes ours. What only a supervisor needs (logs, control,
//! other units) is not there, because this must start as fast as a program.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use nix::mount::MsFlags;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::cache::Cache;
use super::cgroup::Slice;
use super::children::Children;
use super::happening::MAILBOX;
use super::log::Logs;
use super::member::Member;
use super::pool::Pool;
use super::shell::{About, Shell};
use super::signals::Signals;
use super::supervise::{leave, seed, speak};
use super::world::World;
use super::{clock, complain};
use crate::cell;
use crate::places::{self, Places};
use crate::supervisor::{Cause, Event, ExitStatus, Supervisor, View};
use crate::sys::namespace;
use crate::unit::{self, Namespace, Payload, RestartPolicy, Unit};

/// Added to the number of the signal that killed the payload, as shells do.
const KILLED: i32 = 128;
/// Nothing was started: as docker run and env(1) say it.
const NOT_STARTED: u8 = 125;
/// It ran, and was taken down for what it did or did not do; timeout(1) has a number for that.
const TAKEN_DOWN: u8 = 124;

/// How the one unit ended.
struct End {
    view: View,
    /// None if the payload died of a signal that we sent, or never ran.
    own_exit: Option<ExitStatus>,
    /// The signal that asked us to end.
    asked: Option<i32>,
}

/// `program` is the name under which this was called.
pub fn main(program: &str, file: &Path, run_dir: Option<PathBuf>) -> ExitCode {
    // Only what is wrong: the terminal belongs to the payload.
    speak(tracing_subscriber::filter::LevelFilter::WARN);
    let unit = match read(file) {
        Ok(unit) => unit,
        Err(reason) => return complain(program, &reason, NOT_STARTED),
    };
    let own = match run_dir {
        Some(_) => None,
        None => match OwnDirectory::make(unit.isolation.mount == Namespace::Private) {
            Ok(own) => Some(own),
            Err(reason) => return complain(program, &reason, NOT_STARTED),
        },
    };
    let places = match &own {
        Some(own) => Places::in_the_foreground(&own.path, !unit.dirs.state.is_empty()).map_err(|error| error.to_string()),
        None => places::run_dir(run_dir.as_deref()).map(|run_dir| (Places::of(&run_dir), None)).map_err(|error| error.to_string()),
    };
    let goes_with_us = own.as_ref().is_some_and(|own| own.goes_with_us);
    // The lock of the system's state is held until the unit has ended.
    let code = match places.and_then(|(places, lock)| run(unit, places, goes_with_us).map(|end| (end, lock))) {
        Ok((end, _)) => code(program, &end),
        Err(reason) => complain(program, &reason, NOT_STARTED),
    };
    if let Some(own) = own.filter(|own| !own.goes_with_us) {
        fs::remove_dir_all(&own.path).ok();
    }
    code
}

/// Above the run directories of units in the foreground. It stays, like a directory of locks.
const OWN: &str = "/run/cellinit-run";

/// The run directory of one unit in the foreground that was given none.
struct OwnDirectory {
    path: PathBuf,
    /// It and everything mounted in it are in a mount namespace of ours, and gone when we are, however we end.
    goes_with_us: bool,
}

impl OwnDirectory {
    /// A payload without mounts of its own has ours, which must then be the host's.
    fn make(aside: bool) -> Result<OwnDirectory, String> {
        let failed = |error: &dyn Display| format!("{OWN}: {error}");
        fs::create_dir_all(OWN).map_err(|e| failed(&e))?;
        if aside {
            namespace::unshare(libc::CLONE_NEWNS).map_err(|e| failed(&e))?;
            // What the host mounts and unmounts is still so for us, and nothing of ours is for it.
            let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
            nix::mount::mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).map_err(|e| failed(&e))?;
            let options = Some("mode=0755,size=20%");
            nix::mount::mount(Some("tmpfs"), OWN, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, options)
                .map_err(|e| failed(&e))?;
        }
        // The cgroup is named after it, also for whoever has a process of this number in another pid namespace.
        let path = PathBuf::from(format!("{OWN}/{}-{:x}", std::process::id(), clock::now().0));
        Ok(OwnDirectory { path, goes_with_us: aside })
    }
}

/// The unit, without what only a supervisor of many can do for it.
fn read(file: &Path) -> Result<Unit, String> {
    let files = crate::load::read(&[file.to_owned()]).map_err(|e| e.to_string())?;
    let [(path, text)] = &files[..] else { return Err(format!("{}: not one unit file", file.display())) };
    let faults = |faults: Vec<unit::Diagnostic>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let mut unit = unit::parse(path, text).map_err(faults)?;
    if unit.payload == Payload::None {
        return Err(format!("{}: a target has nothing to run", file.display()));
    }
    unit.restart.policy = RestartPolicy::No;
    unit.restart.on.clear();
    for related in [&mut unit.requires, &mut unit.wants, &mut unit.after, &mut unit.before, &mut unit.conflicts, &mut unit.wanted_by] {
        related.clear();
    }
    unit.depends.clear();
    Ok(unit)
}

fn run(unit: Unit, places: Places, goes_with_us: bool) -> Result<End, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(|e| e.to_string())?;
    let end = LocalSet::new().block_on(&runtime, supervise(unit, places, goes_with_us));
    // The kernel takes it apart faster.
    std::mem::forget(runtime);
    end
}

async fn supervise(unit: Unit, places: Places, goes_with_us: bool) -> Result<End, String> {
    let mut signals = Signals::take(false).map_err(|e| format!("signals: {e}"))?;
    let taken = places.take().map_err(|e| e.to_string())?;
    let children = Children::default();
    let (mail, mailbox) = mpsc::channel(MAILBOX);
    if unit.has_root() {
        cell::templates::ensure(&places.run).map_err(|e| format!("templates: {e}"))?;
    }
    let facts = cell::facts::gather(&places.for_facts(), [&unit]);
    let slice = Slice::open(&facts.cgroup, [&unit]).map_err(|e| format!("cgroups: {e}"))?;
    let world = World {
        logs: Logs::new(places.log.clone(), children.clone(), facts.selinux.is_some()),
        facts: Rc::new(facts),
        slice: Rc::new(slice),
        children,
        mail,
        cache: Cache::new(places.cache.clone()),
        shortcomings: Pool::default(),
        environments: Pool::default(),
        null: World::open_null().map_err(|e| format!("/dev/null: {e}"))?,
        launchpad: None,
        foreground: true,
    };
    let supervisor = Supervisor::new([&unit], seed());
    let first = supervisor.units().map(Event::Start).collect();
    let slots = places.slots(Some(&taken), &[&unit.name]);
    let members = slots.into_iter().take(1).map(|slot| Member::new(unit.clone(), slot)).collect();
    let about = About { units: Vec::new(), files: Vec::new(), since: clock::now(), machine: false };
    let mut shell = Shell::new(supervisor, members, world, about, mailbox);
    shell.run(&mut signals, first).await;
    let end = shell.end.take().map(|view| End { view, own_exit: shell.own_exit, asked: signals.end });
    shell.close(&mut signals).await;
    if !goes_with_us {
        leave(&places);
    }
    drop(taken);
    end.ok_or_else(|| "the unit never started".to_owned())
}

/// The payload's own code; a death that has a name is said on stderr.
fn code(program: &str, end: &End) -> ExitCode {
    match &end.view.cause {
        None | Some(Cause::Success { exit: ExitStatus::Status(0) }) => ExitCode::SUCCESS,
        // Only a signal to us asks for that. Whoever waits for us may have sent the same one to a whole job, and knows it by its number.
        Some(Cause::Asked { .. }) => ExitCode::from(match (end.own_exit, end.asked) {
            (Some(exit), _) => number(exit),
            (None, Some(signal)) => number(ExitStatus::Signal { signal, core: false }),
            (None, None) => NOT_STARTED,
        }),
        Some(Cause::Success { exit }) => ExitCode::from(number(*exit)),
        Some(Cause::Died { exit: exit @ ExitStatus::Status(_), what: crate::unit::CauseKind::Exit, .. }) => ExitCode::from(number(*exit)),
        Some(cause) => complain(program, &format!("{}: {cause}", end.view.name), number_of(cause)),
    }
}

fn number_of(cause: &Cause) -> u8 {
    match cause {
        Cause::Died { exit, .. } | Cause::Success { exit } => number(*exit),
        // Whoever of the cell was killed first, the payload goes by SIGKILL with it.
        Cause::Oom => number(ExitStatus::Signal { signal: libc::SIGKILL, core: false }),
        Cause::Health { .. } | Cause::Watchdog { .. } | Cause::StartTimeout { .. } => TAKEN_DOWN,
        Cause::Asked { .. } | Cause::Start(_) | Cause::Dependency { .. } | Cause::RestartLimit { .. } => NOT_STARTED,
    }
}

fn number(exit: ExitStatus) -> u8 {
    let code = match exit {
        ExitStatus::Status(code) => code,
        ExitStatus::Signal { signal, .. } => KILLED + signal,
        ExitStatus::Unknown => 1,
    };
    u8::try_from(code & 0xff).unwrap_or(1)
}
