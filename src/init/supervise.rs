//! A supervisor, from its command line to its last breath.

use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet};
use tracing_subscriber::filter::LevelFilter;

use super::cache::Cache;
use super::cgroup::Slice;
use super::children::Children;
use super::happening::{self, Happening, MAILBOX};
use super::log::{Console, Logs};
use super::member::Member;
use super::options::Options;
use super::pool::Pool;
use super::shell::{About, Shell};
use super::shutdown::{self, Goal};
use super::signals::Signals;
use super::world::World;
use super::{PROGRAM, clock, complain, control, directories, patience};
use crate::cell::{self, Launchpad};
use crate::load::{Stamp, load_stamped};
use crate::places::{self, Places, TRASH, Taken};
use crate::plan::{self, SLOTS, Slot};
use crate::supervisor::{Event, Supervisor};
use crate::sys;
use crate::unit::{Kind, Namespace, Payload, Unit, UnitSet};

/// What a start of the supervisor has to go by.
pub struct Setup {
    pub places: Places,
    pub set: UnitSet,
    pub units: Vec<PathBuf>,
    /// As they were when they were read.
    pub files: Vec<Stamp>,
    /// The init of a machine.
    pub machine: bool,
}

/// The target that a boot wants.
const DEFAULT_TARGET: &str = "default";
/// Log pipes, a pidfd and what is open while it starts; and what belongs to no unit. No bounds: a guess that is worth a little time.
const DESCRIPTORS_OF_A_UNIT: usize = 4;
const OTHER_DESCRIPTORS: usize = 1000;
/// What the init of a machine may have open at least; 16 times less than the kernel's fs.nr_open.
const DESCRIPTORS: u64 = 65_536;
const CAP_SYS_PTRACE: u64 = 1 << 19;
/// How long the log writer may take for its last lines.
const FAREWELL: Duration = Duration::from_secs(5);

pub fn main(options: &Options) -> ExitCode {
    speak(LevelFilter::INFO);
    sys::memory::return_large_blocks();
    let (set, files) = match load_stamped(&options.units) {
        (Ok(set), files) => (set, files),
        (Err(error), _) => return complain(PROGRAM, &error, 1),
    };
    let places = match places::run_dir(options.run_dir.as_deref()) {
        Ok(run_dir) => Places::of(&run_dir),
        Err(error) => return complain(PROGRAM, &error, 1),
    };
    match supervise(Setup { places, set, units: options.units.clone(), files, machine: false }) {
        Ok(_) => ExitCode::SUCCESS,
        Err(reason) => complain(PROGRAM, &reason, 1),
    }
}

/// Runs the units until they are asked to stop. For the init of a machine it comes back only with an error.
pub fn supervise(setup: Setup) -> Result<Goal, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(|e| e.to_string())?;
    LocalSet::new().block_on(&runtime, run(setup))
}

async fn run(setup: Setup) -> Result<Goal, String> {
    let mut signals = Signals::take(setup.machine).map_err(|e| format!("signals: {e}"))?;
    // Before anything is locked: a child that is stuck there has a copy of every lock.
    let silent = silent_roots(&setup.set);
    let taken = setup.places.take().map_err(|e| e.to_string())?;
    let children = Children::default();
    let (mail, mailbox) = mpsc::channel(MAILBOX);
    let world = prepare_world(&setup, &silent, &children, mail)?;
    let room = setup.set.len().saturating_mul(DESCRIPTORS_OF_A_UNIT).saturating_add(OTHER_DESCRIPTORS);
    // After the host was looked at: what was found there is what a program without walls gets.
    raise_descriptor_limit(room.try_into().unwrap_or(u64::MAX), setup.machine);
    world.launchpad.iter().for_each(|launchpad| launchpad.make_room(room.try_into().unwrap_or(RawFd::MAX)));
    let listener = control::listen(&setup.places.run.join(crate::control::SOCKET)).map_err(|e| format!("control socket: {e}"))?;
    let supervisor = Supervisor::new(setup.set.iter(), seed());
    let members = members(setup.set, &setup.places, &taken, world.facts.selinux.is_some());
    let about = About { units: setup.units, files: setup.files, since: clock::now(), machine: setup.machine };
    let first = supervisor.find(DEFAULT_TARGET).map(Event::Start).into_iter().collect();
    let mut shell = Shell::new(supervisor, members, world, about, mailbox);
    shell.listener = Some(Rc::new(listener));
    shell.serve();
    shell.prune_cache();
    let goal = shell.run(&mut signals, first).await;

    shell.server.take().inspect(AbortHandle::abort);
    shell.close(&mut signals).await;
    drop(shell);
    leave(&setup.places);
    drop(taken);
    if setup.machine {
        let refused = shutdown::leave(goal, &children).await;
        return Err(format!("reboot(2) came back: {refused:?}"));
    }
    Ok(goal)
}

/// What a supervisor that was killed has left goes as the next one of its run directory would clear it away, without a next one.
pub fn sweep(run_dir: &Path) -> Result<(), String> {
    let places = Places::of(run_dir);
    let _taken = places.take().map_err(|e| e.to_string())?;
    let facts = cell::facts::gather(&places.for_facts(), []);
    let slice = Slice::open(&facts.cgroup, []).map_err(|e| format!("cgroups: {e}"))?;
    clear_away(&places.run, &slice);
    leave(&places);
    Ok(())
}

/// What was made for cells.
fn clear_away(run_dir: &Path, slice: &Slice) {
    let trash = run_dir.join(TRASH);
    for directory in [plan::RUNTIME, plan::NOTIFY, plan::NOTIFY_HOST] {
        let discarded = directories::discard(run_dir, &run_dir.join(directory), &trash);
        discarded.unwrap_or_else(|error| tracing::warn!(%error, directory, "what was made for cells stays"));
    }
    directories::sweep_all(&trash);
    slice.remove();
}

/// The last that is done while the run directory is still ours.
pub fn leave(places: &Places) {
    cell::templates::remove(&places.run).unwrap_or_else(|error| tracing::warn!(%error, "the templates stay"));
    places.leave();
}

fn prepare_world(setup: &Setup, silent: &[String], children: &Children, mail: mpsc::Sender<Happening>) -> Result<World, String> {
    let places = &setup.places;
    // Only a cell with a root of its own is shown parts of them.
    if setup.set.iter().any(Unit::has_root) {
        cell::templates::ensure(&places.run).map_err(|e| format!("templates: {e}"))?;
    }
    let facts = cell::facts::gather_beside(&places.for_facts(), setup.set.iter(), silent);
    let may_trace = facts.capabilities & CAP_SYS_PTRACE != 0;
    let slice = Slice::open(&facts.cgroup, setup.set.iter()).map_err(|e| format!("cgroups: {e}"))?;
    // While it is in use our memory is not dumpable, and who is no tracer cannot open the namespaces of children then.
    let launchpad = if may_trace { Launchpad::new().ok() } else { None };
    let null = World::open_null().map_err(|e| format!("/dev/null: {e}"))?;
    Ok(World {
        logs: Logs::new(places.log.clone(), children.clone(), facts.selinux.is_some()),
        facts: Rc::new(facts),
        slice: Rc::new(slice),
        children: children.clone(),
        mail,
        cache: Cache::new(places.cache.clone()),
        shortcomings: Pool::default(),
        environments: Pool::default(),
        null,
        launchpad: launchpad.map(Rc::new),
        foreground: false,
    })
}

/// Roots of units whose file system gives no answer. What is in them is not known then, and who starts there fails by itself.
fn silent_roots(set: &UnitSet) -> Vec<String> {
    let roots: BTreeSet<&str> = set.iter().filter_map(|unit| unit.rootfs.path.as_deref()).collect();
    let roots: Vec<&str> = roots.into_iter().collect();
    // One child for all of them, and only if that is stuck one for each.
    let look = |root: &&str| drop(std::fs::symlink_metadata(root));
    if roots.is_empty() || patience::answering(&[()], |()| roots.iter().for_each(look)) == [true] {
        return Vec::new();
    }
    let answering = patience::answering(&roots, look);
    let silent = roots.into_iter().zip(answering).filter(|(_, answers)| !answers).map(|(root, _)| root.to_owned());
    let silent: Vec<String> = silent.collect();
    silent.iter().for_each(|root| tracing::error!(root, "gives no answer; is it on a mount whose server is gone?"));
    silent
}

/// In the order of the machine's numbers, which is that of the names. Where some have ids or labels of their own, slots are those of
/// the last time.
fn members(set: UnitSet, places: &Places, taken: &Taken, labels: bool) -> Vec<Member> {
    let has_ids = |unit: &Unit| unit.has_root() || (unit.kind != Kind::Target && unit.isolation.user == Namespace::Private);
    let is_remembered = labels || set.iter().any(has_ids);
    let slots = match is_remembered {
        true => places.slots(Some(taken), &set.iter().map(|unit| unit.name.as_str()).collect::<Vec<_>>()),
        // None that a plan could use.
        false => vec![Slot { index: SLOTS }; set.len()],
    };
    set.into_iter().zip(slots).map(|(unit, slot)| Member::new(unit, slot)).collect()
}

/// The supervisor's own log, and the place of a panic, which the loop survives.
pub fn speak(level: LevelFilter) {
    // A machine's console may be a serial line, where colours are a third of what a line of the log costs.
    let ansi = std::process::id() != 1 && std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_max_level(level).with_writer(|| Console).with_ansi(ansi).init();
    std::panic::set_hook(Box::new(|info| tracing::error!("{info}")));
}

/// Two pipes, a pidfd, a cgroup and some watches for each unit; the plans set the limits of payloads by themselves. The kernel gives the
/// init of a machine 4,096, which is a thousand units, and lets it have more. Others keep the bound that somebody gave them.
fn raise_descriptor_limit(room: u64, machine: bool) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let more = if machine { hard.max(room).max(DESCRIPTORS) } else { hard };
        let raised = setrlimit(Resource::RLIMIT_NOFILE, more, more).or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
        raised.unwrap_or_else(|error| tracing::warn!(%error, "the limit of descriptors stays"));
    }
}

/// For the jitter of restarts, which shall differ from host to host and from boot to boot.
pub fn seed() -> u64 {
    let mut bytes = [0; 8];
    match std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => clock::now().0,
    }
}

impl Shell {
    /// What an earlier supervisor left there. Only who has Wasm units looks.
    fn prune_cache(&self) {
        if self.members.iter().any(|member| matches!(member.unit.payload, Payload::Wasm(_))) {
            let cache = Rc::clone(&self.world.cache);
            tokio::task::spawn_local(async move { cache.prune().await });
        }
    }

    /// Lets clients in.
    pub(super) fn serve(&mut self) {
        let Some(listener) = &self.listener else { return };
        let server = control::serve(Rc::clone(listener), self.world.mail.clone());
        self.server = Some(happening::spawn(&self.world.mail, Happening::Unserved, server));
    }

    /// Those of units that never came to rest, and what is not done yet for the others.
    async fn close_all_listeners(&mut self) {
        (0..self.members.len()).for_each(|member| self.close_listeners(member));
        let all = async {
            for child in self.members.iter_mut().filter_map(|member| member.closing.as_mut()) {
                while child.line().await.is_some() {}
            }
        };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("files of listeners stay: there is no answer where they are");
        }
    }

    /// After the last unit has stopped: everything that was made goes.
    pub(super) async fn close(&mut self, signals: &mut Signals) {
        self.world.logs.finish();
        if !self.world.foreground {
            let farewell = self.until_log_writer_ended(signals);
            if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
                tracing::warn!("the log writer has not ended; it goes on by itself");
            }
        }
        self.close_all_listeners().await;
        clear_away(&self.world.facts.run_dir, &self.world.slice);
    }
}
