//! A Wasm unit's module becomes native code before its cell is made: never here, but by `cell-wasm` in cells of its own, and
//! only when the cache has not got it. The cache knows a module by its content and the engine's compatibility hash; a second
//! key, made of what stat(2) says of the module and of the compiler, spares reading the module at all.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::cache::Cache;
use super::cgroup::Slice;
use super::children::Children;
use super::follow;
use super::happening::{Happening, Mail};
use super::launch::{self, failure};
use super::looks::{self, Cancel, unless};
use super::member::Member;
use super::wiring;
use super::world::World;
use crate::cell::{self, Wiring};
use crate::log::Stream;
use crate::plan::{self, Facts, Given, Plan};
use crate::supervisor::{StartFailure, UnitId};
use crate::sys::wait::Death;
use crate::unit::{Unit, Wasm};

/// Bytes that `cell-wasm digest` prints at most: two hexadecimal numbers.
const DIGEST_BYTES: u64 = 1024;
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
    let entry = entry(&module, world.facts.wasm_host.as_deref()?, wasm.limits.fuel.is_some()).ok()?;
    world.cache.of_file_at_once(&entry, &member.unit.name)
}

/// What the cache knows a file by: another one when the module is, or the program that compiles it.
fn entry(module: &str, host: &Path, fuel: bool) -> Result<String, String> {
    let host = looks::identity(&fs::metadata(host).map_err(|e| format!("{}: {e}", host.display()))?);
    Ok(format!("{module}-{host}{}", if fuel { "-fuel" } else { "" }))
}

impl Preparation {
    pub fn new(member: &Member, wasm: &Wasm, world: &mut World, unit: UnitId, run: u64) -> Result<Self, StartFailure> {
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
        let seen = unless(cancel, looks::module(&self.description, &self.module)).await?;
        let module = seen.map_err(|failure| format!("{}: {}", failure.step, failure.message))?;
        let identity = entry(&module, host, self.fuel)?;
        if let Some(artifact) = unless(cancel, self.cache.of_file(&identity, &self.name)).await? {
            return Ok(artifact);
        }
        // Another unit may be making it.
        let _turn = unless(cancel, self.cache.turn(&identity)).await?;
        if let Some(artifact) = unless(cancel, self.cache.of_file(&identity, &self.name)).await? {
            return Ok(artifact);
        }
        let (module, given) = (&self.module, &self.given);
        let digest = plan::build_digest(&self.name, module, self.fuel, &self.facts, given).map_err(|e| e.in_one_line())?;
        let name = artifact_name(&self.digest(&digest, cancel).await?)?;
        // The same bytes may lie in two files.
        let _turn = unless(cancel, self.cache.turn(&name)).await?;
        let artifact = match unless(cancel, self.cache.named(&name, &self.name)).await? {
            Some(artifact) => artifact,
            None => {
                let compile = plan::build_compile(&self.name, module, self.fuel, &self.facts, given).map_err(|e| e.in_one_line())?;
                self.compile(&compile, &name, cancel).await?;
                let made = unless(cancel, self.cache.named(&name, &self.name)).await?;
                made.ok_or_else(|| format!("{name}: gone as soon as it was made"))?
            }
        };
        let remembered = self.cache.remember(&identity, &name);
        remembered.unwrap_or_else(|error| tracing::warn!(%error, "the module will be read again at the next start"));
        Ok(artifact)
    }

    async fn digest(&self, plan: &Plan, cancel: &mut Cancel) -> Result<String, String> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|e| e.to_string())?;
        self.perform(plan, write.as_fd(), None, cancel).await?;
        let mut text = String::new();
        match File::from(read).take(DIGEST_BYTES).read_to_string(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.to_string()),
            _ => Ok(text),
        }
    }

    async fn compile(&self, plan: &Plan, artifact: &str, cancel: &mut Cancel) -> Result<(), String> {
        let words = |error: io::Error| format!("{artifact}: {error}");
        let part = self.cache.part(artifact, &self.name, self.run).map_err(words)?;
        tracing::info!(unit = %self.name, module = %self.module.display(), "compiling");
        self.perform(plan, self.null.as_fd(), Some(part.file.as_fd()), cancel).await?;
        part.keep().map_err(words)?;
        // There is one more than before. Nobody waits for this.
        let cache = Rc::clone(&self.cache);
        tokio::task::spawn_local(async move { cache.prune().await });
        Ok(())
    }

    /// One of the two cells, from its cgroup to its end.
    async fn perform(
        &self,
        plan: &Plan,
        stdout: BorrowedFd<'_>,
        output: Option<BorrowedFd<'_>>,
        cancel: &mut Cancel,
    ) -> Result<(), String> {
        let _place = unless(cancel, self.cache.place()).await?.map_err(|e| e.to_string())?;
        let prepared = cell::prepare(plan).map_err(|e| e.to_string())?;
        let namespace = plan.user_namespace.map(cell::user_namespace).transpose().map_err(|e| e.to_string())?;
        let cgroup = self.slice.create(&plan.cgroup).map_err(|e| e.to_string())?;
        let ended = async {
            let entrances = cgroup.entrances().map_err(|e| e.to_string())?;
            let directory = cgroup.directory().map_err(|e| e.to_string())?;
            let wiring = Wiring {
                launchpad: None,
                stdin: self.null.as_fd(),
                stdout,
                stderr: self.errors.as_fd(),
                listen: output.map(|fd| ("artifact".to_owned(), fd)).into_iter().collect(),
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
                (Some(report), _) => Err(plan.explain(&report)),
                (None, Some(Death::Status(0))) => Ok(()),
                (None, Some(Death::Status(code))) => Err(format!("cell-wasm ended with status {code}; its log says why")),
                (None, Some(Death::Signal { number, .. })) if cgroup.oom_kills() > 0 => Err(format!("out of memory (signal {number})")),
                (None, Some(Death::Signal { number, .. })) => Err(format!("cell-wasm was killed by signal {number}")),
                (None, None) => Err("nobody saw cell-wasm end".to_owned()),
            }
        };
        let ended = unless(cancel, ended).await.flatten();
        cgroup.kill();
        cgroup.watch().emptied().await;
        cgroup.remove();
        ended
    }
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
