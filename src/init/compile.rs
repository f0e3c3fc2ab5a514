//! A Wasm unit's module becomes native code before its cell is made: never here, but by `cell-wasm` in cells of its own, and
//! only when the cache has not got it. The cache knows a module by its content and the engine's compatibility hash; a second
//! key, made of what stat(2) says of the module and of the compiler, spares reading the module at all.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::sync::oneshot;

use super::cgroup::Slice;
use super::children::Children;
use super::follow;
use super::happening::{Happening, Mail};
use super::launch::{self, failure};
use super::member::Member;
use super::wiring;
use super::world::World;
use crate::cell::{self, Wiring};
use crate::log::Stream;
use crate::plan::{self, Facts, Given, Plan};
use crate::supervisor::{StartFailure, UnitId};
use crate::sys::wait::Death;
use crate::unit::Wasm;

/// Bytes that `cell-wasm digest` prints at most: two hexadecimal numbers.
const DIGEST_BYTES: u64 = 1024;
/// Hexadecimal digits of a digest or of an engine's hash.
const HASH_DIGITS: std::ops::RangeInclusive<usize> = 8..=128;

/// What the preparation of one start has to go by. It holds no state of the shell.
pub struct Preparation {
    unit: UnitId,
    run: u64,
    name: String,
    module: PathBuf,
    /// Fuel is counted by the machine code itself, so it is other code.
    fuel: bool,
    given: Given,
    facts: Rc<Facts>,
    slice: Rc<Slice>,
    children: Children,
    mail: Mail,
    cache: PathBuf,
    /// Where a compiler's complaints go: the unit's own log.
    errors: OwnedFd,
    null: OwnedFd,
}

/// The artifact of a module that was compiled before, by a compiler that is still the same.
pub fn known(wasm: &Wasm, world: &World) -> Option<PathBuf> {
    let host = world.facts.wasm_host.as_deref()?;
    let link = link(&world.cache, Path::new(&wasm.module), wasm.limits.fuel.is_some(), host).ok()?;
    fs::canonicalize(link).ok()
}

impl Preparation {
    pub fn new(member: &Member, wasm: &Wasm, world: &mut World, unit: UnitId, run: u64) -> Result<Self, StartFailure> {
        let given = Given { slot: member.slot, artifact: None };
        // Also finds out, before any work, whether the unit can be started at all.
        let plan = plan::build(&member.unit, &world.facts, &given).map_err(|e| failure("plan", e))?;
        let (_, gid) = launch::owner(&plan);
        Ok(Preparation {
            unit,
            run,
            name: member.unit.name.clone(),
            module: PathBuf::from(&wasm.module),
            fuel: wasm.limits.fuel.is_some(),
            given,
            facts: Rc::clone(&world.facts),
            slice: Rc::clone(&world.slice),
            children: world.children.clone(),
            mail: world.mail.clone(),
            cache: world.cache.clone(),
            errors: wiring::output(world, &member.unit, Stream::Err, gid)?,
            null: world.null.try_clone().map_err(|e| failure("dup", e))?.into(),
        })
    }

    /// Tells the loop where the artifact is. `cancel` ends what runs; the loop is told only when it is gone.
    pub async fn run(self, mut cancel: oneshot::Receiver<()>) {
        let artifact = self.artifact(&mut cancel).await;
        let (unit, run) = (self.unit, self.run);
        self.mail.send(Happening::Compiled { unit, run, artifact }).await.ok();
    }

    async fn artifact(&self, cancel: &mut oneshot::Receiver<()>) -> Result<PathBuf, String> {
        let host = self.facts.wasm_host.as_deref().ok_or("cell-wasm is not installed beside cellinit")?;
        let link = link(&self.cache, &self.module, self.fuel, host)?;
        let (module, given) = (&self.module, &self.given);
        let digest = plan::build_digest(&self.name, module, self.fuel, &self.facts, given).map_err(|e| e.to_string())?;
        let name = artifact_name(&self.digest(&digest, cancel).await?)?;
        let artifact = self.cache.join(&name);
        if !artifact.exists() {
            let compile = plan::build_compile(&self.name, module, self.fuel, &self.facts, given).map_err(|e| e.to_string())?;
            self.compile(&compile, &artifact, cancel).await?;
        }
        remember(&link, &name).unwrap_or_else(|error| tracing::warn!(%error, "the module will be read again at the next start"));
        Ok(artifact)
    }

    async fn digest(&self, plan: &Plan, cancel: &mut oneshot::Receiver<()>) -> Result<String, String> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|e| e.to_string())?;
        self.perform(plan, write.as_fd(), None, cancel).await?;
        let mut text = String::new();
        match File::from(read).take(DIGEST_BYTES).read_to_string(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.to_string()),
            _ => Ok(text),
        }
    }

    async fn compile(&self, plan: &Plan, artifact: &Path, cancel: &mut oneshot::Receiver<()>) -> Result<(), String> {
        let words = |error: io::Error| format!("{}: {error}", artifact.display());
        let part = self.cache.join(format!("{}.{}.part", self.name, self.run));
        fs::create_dir_all(self.cache.join("by-file")).map_err(words)?;
        let output = File::create(&part).map_err(words)?;
        let done = self.perform(plan, self.null.as_fd(), Some(output.as_fd()), cancel).await;
        // The compiler has synced what it wrote; a name never stands for half an artifact.
        let done = done.and_then(|()| fs::rename(&part, artifact).map_err(words));
        if done.is_err() {
            fs::remove_file(&part).ok();
        }
        done
    }

    /// One of the two cells, from its cgroup to its end.
    async fn perform(
        &self,
        plan: &Plan,
        stdout: BorrowedFd<'_>,
        output: Option<BorrowedFd<'_>>,
        cancel: &mut oneshot::Receiver<()>,
    ) -> Result<(), String> {
        let prepared = cell::prepare(plan).map_err(|e| e.to_string())?;
        let namespace = plan.user_namespace.map(cell::user_namespace).transpose().map_err(|e| e.to_string())?;
        let cgroup = self.slice.create(&plan.cgroup).map_err(|e| e.to_string())?;
        let ended = async {
            let entrances = cgroup.entrances().map_err(|e| e.to_string())?;
            let wiring = Wiring {
                stdin: self.null.as_fd(),
                stdout,
                stderr: self.errors.as_fd(),
                listen: output.map(|fd| ("artifact".to_owned(), fd)).into_iter().collect(),
                unannounced: Vec::new(),
                environment: Vec::new(),
                cgroup: cgroup.directory(),
                user_namespace: namespace.as_ref().map(AsFd::as_fd),
                join: None,
                enter: entrances.iter().map(AsFd::as_fd).collect(),
            };
            let spawned = prepared.spawn(&wiring).map_err(|e| e.to_string())?;
            let mut child = self.children.register(spawned.pid);
            let report = follow::report(&spawned.report).await;
            let death = child.death(Some(spawned.pidfd.as_fd())).await;
            match (report, death) {
                (Some(report), _) => Err(plan.explain(&report)),
                (None, Some(Death::Status(0))) => Ok(()),
                (None, Some(Death::Status(code))) => Err(format!("cell-wasm ended with status {code}; its log says why")),
                (None, Some(Death::Signal { number, .. })) if cgroup.oom_kills() > 0 => Err(format!("out of memory (signal {number})")),
                (None, Some(Death::Signal { number, .. })) => Err(format!("cell-wasm was killed by signal {number}")),
                (None, None) => Err("nobody saw cell-wasm end".to_owned()),
            }
        };
        let ended = tokio::select! {
            ended = ended => ended,
            _ = cancel => Err("stopped before it was done".to_owned()),
        };
        cgroup.kill();
        if let Ok(watch) = cgroup.watch() {
            watch.emptied().await;
        }
        cgroup.remove();
        ended
    }
}

/// Where the cache says which artifact a module has. The name is another one when the module is, or the program that compiles it.
fn link(cache: &Path, module: &Path, fuel: bool, host: &Path) -> Result<PathBuf, String> {
    let of = |path: &Path| fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()));
    let (module_data, host_data) = (of(module)?, of(host)?);
    if !module_data.is_file() {
        return Err(format!("{}: not a file", module.display()));
    }
    let fuel = if fuel { "-fuel" } else { "" };
    Ok(cache.join("by-file").join(format!("{}-{}{fuel}", identity(&module_data), identity(&host_data))))
}

fn identity(data: &Metadata) -> String {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let modified = nanoseconds(data.mtime(), data.mtime_nsec());
    let changed = nanoseconds(data.ctime(), data.ctime_nsec());
    format!("{}-{}-{}-{modified}-{changed}", data.dev(), data.ino(), data.size())
}

/// `<sha256>-<engine>.cwasm`, from what the digest cell printed; it becomes a file name, so it is only what it should be.
fn artifact_name(printed: &str) -> Result<String, String> {
    let words: Vec<&str> = printed.split_whitespace().collect();
    match words[..] {
        [digest, engine] if [digest, engine].into_iter().all(is_hash) => Ok(format!("{digest}-{engine}.cwasm")),
        _ => Err("cell-wasm printed no digest".to_owned()),
    }
}

fn is_hash(word: &str) -> bool {
    HASH_DIGITS.contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit())
}

fn remember(link: &Path, name: &str) -> io::Result<()> {
    let part = link.with_extension("part");
    fs::remove_file(&part).ok();
    symlink(Path::new("..").join(name), &part)?;
    fs::rename(&part, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_artifacts() {
        let (digest, engine) = ("0f".repeat(32), "12ab34cd12ab34cd");
        assert_eq!(artifact_name(&format!("{digest} {engine}\n")), Ok(format!("{digest}-{engine}.cwasm")));
        for wrong in ["", "x y", "../../etc ab", &digest, &format!("{digest} {engine} more")] {
            assert!(artifact_name(wrong).is_err(), "{wrong}");
        }
    }
}
