//! A Wasm unit's module becomes native code before its cell is made: never here, but by `cell-wasm` in cells of its own, and
//! only when the cache has not got it. The cache knows a module by its content and the engine's compatibility hash; a second
//! key, made of what stat(2) says of the module and of the compiler, spares reading the module at all.
//!
//! The file is opened once, by the cell that hashes it. It copies what it reads into a memfd, which is sealed when that cell is
//! gone and is all that the compiler sees: whoever may change the file cannot have other bytes compiled than were hashed.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::pipe2;
use tokio::sync::SemaphorePermit;

use super::cache::Cache;
use super::cgroup::{Cgroup, Slice, read_file};
use super::children::Children;
use super::follow;
use super::happening::{Happening, Mail};
use super::launch::{self, failure};
use super::looks::{self, Cancel, unless};
use super::member::Member;
use super::way::Way;
use super::wiring;
use super::world::World;
use crate::cell::{self, Wiring};
use crate::log::Stream;
use crate::plan::guest::EXIT_HOST;
use crate::plan::{self, Facts, Given, Plan, Step};
use crate::supervisor::{StartFailure, UnitId};
use crate::sys::fd::identity;
use crate::sys::wait::Death;
use crate::unit::{Unit, Wasm};

/// Bytes that `cell-wasm digest` prints at most: two hexadecimal numbers and an identity.
const DIGEST_BYTES: u64 = 1024;
/// How long hashing a module may take: its file may be on a mount whose server is gone, and others wait for the place.
const DIGEST_PATIENCE: Duration = Duration::from_secs(60);
/// How long compiling one may take. Its processor time is bounded by the plan, and used up before that unless the machine is very busy.
const COMPILE_PATIENCE: Duration = Duration::from_secs(600);
/// The copy of a module that is compiled: from now on nobody can change it, nor this.
const SEALS: SealFlag = SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SHRINK).union(SealFlag::F_SEAL_SEAL);
/// Hexadecimal digits of a digest or of an engine's hash.
const HASH_DIGITS: std::ops::RangeInclusive<usize> = 8..=128;

/// What the preparation of one start has to go by. It holds no state of the shell.
pub struct Preparation {
    unit: UnitId,
    run: u64,
    description: Rc<Unit>,
    name: String,
    module: PathBuf,
    /// Fuel is counted by the machine code itself, so it is other code.
    fuel: bool,
    given: Given,
    facts: Rc<Facts>,
    slice: Rc<Slice>,
    way: Way,
    children: Children,
    mail: Mail,
    cache: Rc<Cache>,
    /// Where a compiler's complaints go: the unit's own log.
    errors: OwnedFd,
    null: OwnedFd,
}

/// The artifact of a module that was compiled before, by a compiler that is still the same.
/// `None` too when that cannot be said at once: the road of a [`Preparation`] finds out.
pub fn known(member: &Member, wasm: &Wasm, world: &World) -> Option<PathBuf> {
    let module = looks::module_at_once(Path::new(&wasm.module))?;
    let entry = entry(&module.identity, world.facts.wasm_host.as_deref()?, wasm.limits.fuel.is_some()).ok()?;
    world.cache.of_file_at_once(&entry, &member.unit.name)
}

/// What the cache knows a file by: another one when the module is, or the program that compiles it.
fn entry(module: &str, host: &Path, fuel: bool) -> Result<String, String> {
    let host = identity(&fs::metadata(host).map_err(|e| format!("{}: {e}", host.display()))?);
    Ok(format!("{module}-{host}{}", if fuel { "-fuel" } else { "" }))
}

/// Of a module, by its [`identity`]. What is not told may be as large as it likes.
fn size(module: &str) -> u64 {
    module.split('-').nth(2).and_then(|size| size.parse().ok()).unwrap_or(u64::MAX)
}

impl Preparation {
    pub fn new(member: &Member, wasm: &Wasm, world: &mut World, way: Way, unit: UnitId, run: u64) -> Result<Self, StartFailure> {
        let given = Given { slot: member.slot, artifact: None };
        // Also finds out, before any work, whether the unit can be started at all.
        let plan = plan::build(&member.unit, &world.facts, &given).map_err(|e| failure("", e.in_one_line()))?;
        let (_, gid) = launch::owner(&plan);
        Ok(Preparation {
            unit,
            run,
            description: Rc::clone(&member.unit),
            name: member.unit.name.clone(),
            module: PathBuf::from(&wasm.module),
            fuel: wasm.limits.fuel.is_some(),
            given,
            facts: Rc::clone(&world.facts),
            slice: Rc::clone(&world.slice),
            way,
            children: world.children.clone(),
            mail: world.mail.clone(),
            cache: Rc::clone(&world.cache),
            errors: wiring::output(world, &member.unit, Stream::Err, gid)?,
            null: world.null.try_clone().map_err(|e| failure("dup", e))?.into(),
        })
    }

    /// Tells the loop where the artifact is. `cancel` ends what runs; the loop is told only when it is gone.
    pub async fn run(self, mut cancel: Cancel) {
        let artifact = self.artifact(&mut cancel).await;
        let (unit, run) = (self.unit, self.run);
        self.mail.send(Happening::Compiled { unit, run, artifact }).await.ok();
    }

    async fn artifact(&self, cancel: &mut Cancel) -> Result<PathBuf, String> {
        let host = self.facts.wasm_host.as_deref().ok_or("cell-wasm is not installed beside cellinit")?;
        let seen = unless(cancel, looks::module(&self.description, &self.module, &self.way)).await?;
        let module = seen.map_err(|failure| format!("{}: {}", failure.step, failure.message))?;
        let identity = entry(&module.identity, host, self.fuel)?;
        if let Some(artifact) = unless(cancel, self.cache.of_file(&identity, &self.name)).await? {
            return Ok(artifact);
        }
        // Another unit may be making it.
        let _turn = unless(cancel, self.cache.turn(&identity)).await?;
        if let Some(artifact) = unless(cancel, self.cache.of_file(&identity, &self.name)).await? {
            return Ok(artifact);
        }
        // Its copy is held until it is compiled, however long that waits for a place.
        let _room = unless(cancel, self.cache.room(size(&module.identity))).await?.map_err(|e| e.to_string())?;
        let hashed = self.digest(&module.path, cancel).await?;
        // The same bytes may lie in two files.
        let _turn = unless(cancel, self.cache.turn(&hashed.name)).await?;
        let artifact = match unless(cancel, self.cache.named(&hashed.name, &self.name)).await? {
            Some(artifact) => artifact,
            None => {
                self.compile(&hashed, cancel).await?;
                let made = unless(cancel, self.cache.named(&hashed.name, &self.name)).await?;
                made.ok_or_else(|| format!("{}: gone as soon as it was made", hashed.name))?
            }
        };
        // What was hashed may be another file than the one that was looked at, which then is not known yet.
        if hashed.file == module.identity {
            let remembered = self.cache.remember(&identity, &hashed.name);
            remembered.unwrap_or_else(|error| tracing::warn!(%error, "the module will be read again at the next start"));
        }
        Ok(artifact)
    }

    async fn digest(&self, module: &Path, cancel: &mut Cancel) -> Result<Hashed, String> {
        let words = |error: nix::Error| error.to_string();
        let plan = plan::build_digest(&self.name, module, self.fuel, &self.facts, &self.given).map_err(|e| e.in_one_line())?;
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(words)?;
        let copy = memfd_create("module", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(words)?;
        let mut copy = File::from(copy);
        let place = unless(cancel, self.cache.place_to_digest()).await?.map_err(|e| e.to_string())?;
        let wired = Wired { stdin: self.null.as_fd(), stdout: write.as_fd(), output: copy.as_fd(), patience: DIGEST_PATIENCE };
        self.perform(&plan, wired, place, cancel).await?;
        fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS)).map_err(words)?;
        copy.rewind().map_err(|e| e.to_string())?;
        let mut text = String::new();
        match File::from(read).take(DIGEST_BYTES).read_to_string(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.to_string()),
            _ => Hashed::new(&text, copy),
        }
    }

    async fn compile(&self, hashed: &Hashed, cancel: &mut Cancel) -> Result<(), String> {
        if let Some(reason) = self.cache.refusal(&hashed.name) {
            return Err(format!("{reason} (not tried again, since the module is still the same)"));
        }
        let words = |error: io::Error| format!("{}: {error}", hashed.name);
        let plan = plan::build_compile(&self.name, self.fuel, &self.facts, &self.given).map_err(|e| e.in_one_line())?;
        let part = self.cache.part(&hashed.name, &self.name, self.run).map_err(words)?;
        let bytes = hashed.copy.metadata().map_err(words)?.len();
        tracing::info!(unit = %self.name, module = %self.module.display(), "compiling");
        let place = unless(cancel, self.cache.place_to_compile(bytes)).await?.map_err(words)?;
        let wired = Wired { stdin: hashed.copy.as_fd(), stdout: self.null.as_fd(), output: part.file.as_fd(), patience: COMPILE_PATIENCE };
        self.perform(&plan, wired, place, cancel).await.inspect_err(|failed| {
            if failed.by_the_module {
                self.cache.refuse(&hashed.name, &failed.text);
            }
        })?;
        part.keep().map_err(words)?;
        // There is one more than before. Nobody waits for this.
        let cache = Rc::clone(&self.cache);
        tokio::task::spawn_local(async move { cache.prune().await });
        Ok(())
    }

    /// One of the two cells, from its cgroup to its end.
    async fn perform(&self, plan: &Plan, wired: Wired<'_>, _place: SemaphorePermit<'_>, cancel: &mut Cancel) -> Result<(), Failed> {
        let prepared = cell::prepare(plan).map_err(|e| e.to_string())?;
        let namespace = plan.user_namespace.map(cell::user_namespace).transpose().map_err(|e| e.to_string())?;
        let cgroup = self.slice.create(&plan.cgroup).map_err(|e| e.to_string())?;
        let ended = async {
            let entrances = cgroup.entrances().map_err(|e| e.to_string())?;
            let directory = cgroup.directory().map_err(|e| e.to_string())?;
            let wiring = Wiring {
                launchpad: None,
                stdin: wired.stdin,
                stdout: wired.stdout,
                stderr: self.errors.as_fd(),
                listen: vec![("output".to_owned(), wired.output)],
                unannounced: Vec::new(),
                environment: Vec::new(),
                owners: Vec::new(),
                cgroup: directory.as_ref().map(AsFd::as_fd),
                user_namespace: namespace.as_ref().map(AsFd::as_fd),
                join: None,
                enter: entrances.iter().map(AsFd::as_fd).collect(),
            };
            let spawned = prepared.spawn(&wiring).map_err(|e| e.to_string())?;
            let mut child = self.children.register(spawned.pid);
            let report = follow::report(&spawned.report, None).await;
            let death = child.death(Some(spawned.pidfd.as_fd())).await;
            match (report, death) {
                (Some(report), _) => Err(Failed::from(plan.explain(&report))),
                (None, Some(Death::Status(0))) => Ok(()),
                (None, Some(Death::Status(EXIT_HOST))) => Err("cell-wasm could not do it; its log says why".to_owned().into()),
                (None, Some(death)) => {
                    let bound = Bound::of_cell(plan, &cgroup);
                    let by_the_module = bound.is_some() || matches!(death, Death::Status(_));
                    Err(Failed { by_the_module, text: explain(death, bound, cgroup.oom_kills() > 0) })
                }
                (None, None) => Err("nobody saw cell-wasm end".to_owned().into()),
            }
        };
        let ended = tokio::time::timeout(wired.patience, unless(cancel, ended)).await;
        let ended = ended.unwrap_or_else(|_| Err(format!("not done within {:?}", wired.patience)));
        let ended = ended.map_err(Failed::from).flatten();
        cgroup.kill();
        cgroup.watch().emptied().await;
        cgroup.remove();
        ended
    }
}

/// What one of the two cells is connected to.
struct Wired<'a> {
    stdin: BorrowedFd<'a>,
    stdout: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
    /// Until it is given up.
    patience: Duration,
}

/// Why one of the two cells did not do its work.
struct Failed {
    text: String,
    /// Another try with the same bytes would end the same way.
    by_the_module: bool,
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Failed { text, by_the_module: false }
    }
}

impl From<Failed> for String {
    fn from(failed: Failed) -> Self {
        failed.text
    }
}

/// What a cell had used up when it was killed. Anybody may kill it for reasons of his own, of which its module must not suffer:
/// an administrator, or the kernel when the memory of the whole machine is short.
#[derive(Debug, Clone, Copy)]
enum Bound {
    /// The cell's own, not that of the machine.
    Memory,
    ProcessorTime,
}

impl Bound {
    /// Told by cgroup v2 alone: elsewhere such a module is tried again at each start.
    fn of_cell(plan: &Plan, cgroup: &Cgroup) -> Option<Bound> {
        let text = |file: &str| read_file(&cgroup.path().join(file)).unwrap_or_default();
        Bound::of(plan, &text("memory.events"), &text("cpu.stat"))
    }

    fn of(plan: &Plan, memory: &str, processors: &str) -> Option<Bound> {
        let count = |text: &str, key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()).unwrap_or(0);
        if count(memory, "oom ") > 0 {
            return Some(Bound::Memory);
        }
        let limit = plan.steps.iter().find_map(|step| match step {
            Step::SetRlimit { resource, hard, .. } if *resource == libc::RLIMIT_CPU => Some(Duration::from_secs(*hard)),
            _ => None,
        })?;
        // The kernel holds the limit against ticks and the cgroup counts exactly, so the two are not the same number.
        let used = Duration::from_micros(count(processors, "usage_usec "));
        (used >= limit - limit / 10).then_some(Bound::ProcessorTime)
    }
}

fn explain(death: Death, bound: Option<Bound>, for_memory: bool) -> String {
    match (death, bound) {
        (Death::Status(code), _) => format!("cell-wasm ended with status {code}; its log says why"),
        (Death::Signal { number, .. }, Some(Bound::Memory)) => format!("out of memory (signal {number})"),
        (Death::Signal { .. }, Some(Bound::ProcessorTime)) => {
            "cell-wasm was killed: it took more processor time than a compilation has".to_owned()
        }
        // Of the machine; on cgroup v1 perhaps of the cell.
        (Death::Signal { number, .. }, None) if for_memory => {
            format!("cell-wasm was killed for want of memory (signal {number}); start the unit again when there is more")
        }
        (Death::Signal { number, .. }, None) => {
            format!("cell-wasm was killed by signal {number}, and by no limit that this host tells of; start the unit again")
        }
    }
}

/// A module that was hashed.
struct Hashed {
    /// `<sha256>-<engine>.cwasm`
    name: String,
    /// The [`identity`] of the file that it was read from.
    file: String,
    /// What was hashed, sealed.
    copy: File,
}

impl Hashed {
    /// From what the digest cell printed. Some of it becomes a file name, so it is only what it should be.
    fn new(printed: &str, copy: File) -> Result<Hashed, String> {
        let words: Vec<&str> = printed.split_whitespace().collect();
        match words[..] {
            [digest, engine, file] if [digest, engine].into_iter().all(is_hash) => {
                Ok(Hashed { name: format!("{digest}-{engine}.cwasm"), file: file.to_owned(), copy })
            }
            _ => Err("cell-wasm printed no digest".to_owned()),
        }
    }
}

fn is_hash(word: &str) -> bool {
    HASH_DIGITS.contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_tells_the_size() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [0; 123]).unwrap();
        assert_eq!(size(&identity(&fs::metadata(file.path()).unwrap())), 123);
        assert_eq!(size("unknown"), u64::MAX);
    }

    /// What a compiler had used when it was killed, as the kernel tells it, and what is said of that.
    #[test]
    fn a_compiler_that_used_up_its_bound_is_known_by_it() {
        let places = cell::facts::Places::imagined();
        let guest = crate::unit::parse("x.toml".as_ref(), "[wasm]\nmodule = \"/x.wasm\"\n").unwrap();
        let facts = Facts { wasm_host: Some("/usr/bin/cell-wasm".into()), ..cell::facts::gather(&places, [&guest]) };
        let plan = plan::build_compile("x", false, &facts, &plan::Slot { index: 0 }.into()).unwrap();
        let killed = Death::Signal { number: libc::SIGKILL, core: false };
        for (memory, processors, kills, said) in [
            ("low 0\noom 1\noom_kill 1\n", "usage_usec 1000\n", true, "out of memory (signal 9)"),
            ("low 0\noom 0\noom_kill 0\n", "usage_usec 239000000\nuser_usec 1\n", false, "more processor time than a compilation has"),
            // The kernel killed it for the memory of the whole machine, or somebody did for reasons of his own.
            ("low 0\noom 0\noom_kill 1\n", "usage_usec 100000000\n", true, "for want of memory (signal 9)"),
            ("low 0\noom 0\noom_kill 0\n", "usage_usec 100000000\n", false, "by no limit that this host tells of"),
            // cgroup v1, which counts kills alone.
            ("", "", true, "for want of memory (signal 9)"),
            ("", "", false, "by no limit that this host tells of"),
        ] {
            let words = explain(killed, Bound::of(&plan, memory, processors), kills);
            assert!(words.contains(said), "{memory:?} {processors:?}: {words}");
        }
    }

    #[test]
    fn names_of_artifacts() {
        let name = |printed: &str| Hashed::new(printed, File::open("/dev/null").unwrap()).map(|hashed| (hashed.name, hashed.file));
        let (digest, engine) = ("0f".repeat(32), "12ab34cd12ab34cd");
        assert_eq!(name(&format!("{digest} {engine} 1-2\n")), Ok((format!("{digest}-{engine}.cwasm"), "1-2".to_owned())));
        for wrong in ["", "x y z", "../../etc ab 1-2", &digest, &format!("{digest} {engine}"), &format!("{digest} {engine} 1-2 more")] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
