//! Files that a unit names, as a start has to see them. Any of them may lie on a mount whose server is gone, or be a FIFO that
//! nobody writes to, so a child looks (`super::aside`): a start fails then, and nothing else waits. Only what stat(2) says of a file
//! on the root mount that the kernel knows already is taken at once: that waits for nobody.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::aside::{Aside, Work};
use super::launch::failure;
use super::member::Member;
use super::sockets::{self, Listener};
use super::way::Way;
use super::{directories, environment, happening};
use crate::cell;
use crate::plan::Preparation;
use crate::supervisor::{StartFailure, UnitId};
use crate::sys::fd::{Within, identity, openat2};
use crate::unit::{Listen, Unit};
use happening::{Happening, Mail};

/// How long one file may keep a start waiting; half of its start-timeout, if that is less, so that the reason can be told.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends when the start is not wanted any more.
pub type Cancel = oneshot::Receiver<()>;

/// Waits, but not longer than the start is wanted. After an error `cancel` must not be waited for again.
pub async fn unless<T>(cancel: &mut Cancel, wait: impl Future<Output = T>) -> Result<T, String> {
    tokio::select! {
        biased;
        _ = cancel => Err("stopped before it was done".to_owned()),
        done = wait => Ok(done),
    }
}

#[derive(Debug)]
enum Look {
    Environment {
        path: String,
        optional: bool,
    },
    /// Of a writable bind.
    Owner {
        source: PathBuf,
    },
    Module {
        path: PathBuf,
    },
    /// A state directory with a tree in it, which belongs to others.
    State {
        base: PathBuf,
        host: PathBuf,
        ids: (u32, u32),
        label: Option<String>,
    },
    /// A unix socket on its way to its path.
    Bind {
        listener: Listener,
        path: PathBuf,
        mode: u32,
    },
}

/// What a child says of one of them.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Environment(Vec<(String, String)>),
    Owner(u32, u32),
    Module(Module),
    Given,
    Bound,
}

/// A module that was looked at.
#[derive(Debug, Serialize, Deserialize)]
pub struct Module {
    /// What stat(2) says of it, as one word.
    pub identity: String,
    /// No link was on this way to it.
    pub path: PathBuf,
}

/// What a start has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of the environment files, the later over the earlier.
    pub environment: Vec<(String, String)>,
    /// Of the binds' sources, in the order of [`Prepared::sources`](crate::cell::Prepared::sources).
    pub owners: Vec<(u32, u32)>,
    /// Unix sockets that were opened.
    pub listeners: Vec<Listener>,
}

/// What a start has not seen, and why.
#[derive(Debug)]
pub struct Unseen {
    pub failure: StartFailure,
    /// Unix sockets that have their files already.
    pub bound: Vec<Listener>,
}

impl From<StartFailure> for Unseen {
    fn from(failure: StartFailure) -> Self {
        Unseen { failure, bound: Vec::new() }
    }
}

/// The files that a prepared member needs. Most need none.
pub struct Looks {
    looks: Vec<Look>,
    way: Way,
    patience: Duration,
    /// The files of its sockets are on their way out since the last stop, and must be gone first.
    closing: Option<Aside>,
}

impl Looks {
    pub fn of(member: &mut Member, state_dir: &Path) -> Result<Looks, StartFailure> {
        let mut looks = Vec::new();
        for preparation in member.ready.iter().flat_map(|ready| &ready.before) {
            match preparation {
                Preparation::ReadEnvironment { path, optional } => {
                    looks.push(Look::Environment { path: path.clone(), optional: *optional });
                }
                Preparation::StateDirectory { host, uid, gid, label } => {
                    let ids = (*uid, *gid);
                    let provided = directories::provide_at_once(state_dir, host, ids, label.as_deref());
                    let look = Look::State { base: state_dir.to_owned(), host: host.clone(), ids, label: label.clone() };
                    if !provided.map_err(|error| failure(look.step(), error))? {
                        looks.push(look);
                    }
                }
                Preparation::OpenSocket { name, listen: Listen::Unix(path), backlog, mode } if !member.listens(name) => {
                    let path = PathBuf::from(path);
                    let listener =
                        Listener::unix(name, &path, *backlog).map_err(|e| failure(format!("listen on {}", path.display()), e))?;
                    looks.push(Look::Bind { listener, path, mode: *mode });
                }
                _ => {}
            }
        }
        let sources = member.ready.iter().flat_map(|ready| ready.prepared.sources());
        looks.extend(sources.map(|source| Look::Owner { source }));
        let closing = if looks.iter().any(|look| look.given().is_some()) { member.closing.take() } else { None };
        Ok(Looks { looks, way: Way::default(), patience: patience(&member.unit), closing })
    }

    /// How to get to what units name.
    pub fn by(self, way: Way) -> Looks {
        Looks { way, ..self }
    }

    pub fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    /// Tells the loop what there is to see. `cancel` ends it at once, whatever the child waits for.
    pub async fn run(mut self, unit: UnitId, run: u64, mail: Mail, mut cancel: Cancel) {
        let seen = match unless(&mut cancel, self.see()).await {
            Ok(seen) => seen,
            Err(stopped) => Err(failure("look at its files", stopped)),
        };
        let seen = seen.map_err(|failure| Unseen { failure, bound: self.listeners().filter(Listener::is_bound).collect() });
        mail.send(Happening::Looked { unit, run, seen }).await.ok();
    }

    async fn see(&mut self) -> Result<Seen, StartFailure> {
        if let Some(mut closing) = self.closing.take() {
            tokio::time::timeout(self.patience, closing.line()).await.ok();
        }
        let answers = ask(&self.looks, &self.way, self.patience).await?;
        let mut seen = Seen::default();
        for (look, answer) in self.looks.iter().zip(answers) {
            match (look, answer) {
                (_, Answer::Environment(variables)) => seen.environment.extend(variables),
                (_, Answer::Owner(uid, gid)) => seen.owners.push((uid, gid)),
                (Look::Bind { listener, .. }, Answer::Bound) => {
                    listener.listen().map_err(|e| failure(format!("listen on {}", listener.name), e))?;
                }
                _ => {}
            }
        }
        seen.listeners = self.listeners().collect();
        Ok(seen)
    }

    fn listeners(&mut self) -> impl Iterator<Item = Listener> {
        self.looks.drain(..).filter_map(|look| match look {
            Look::Bind { listener, .. } => Some(listener),
            _ => None,
        })
    }
}

/// What a module is, and where.
pub async fn module(unit: &Unit, path: &Path, way: &Way) -> Result<Module, StartFailure> {
    let look = Look::Module { path: path.to_owned() };
    match ask(&[look], way, patience(unit)).await?.pop() {
        Some(Answer::Module(module)) => Ok(module),
        other => Err(failure(format!("module {}", path.display()), format!("{other:?} is no answer"))),
    }
}

/// The same, of a module that is at hand.
pub fn module_at_once(path: &Path) -> Option<Module> {
    match (Look::Module { path: path.to_owned() }).at_once() {
        Some(Answer::Module(module)) => Some(module),
        _ => None,
    }
}

fn patience(unit: &Unit) -> Duration {
    unit.service.start_timeout.map_or(PATIENCE, |timeout| PATIENCE.min(timeout / 2))
}

/// One child looks at all of them in their order, so it is known which one it waits for.
async fn ask(looks: &[Look], way: &Way, patience: Duration) -> Result<Vec<Answer>, StartFailure> {
    if let Some(answers) = looks.iter().map(Look::at_once).collect() {
        return Ok(answers);
    }
    let given: Vec<BorrowedFd<'_>> = looks.iter().filter_map(Look::given).collect();
    let child = Aside::start(&given, |work| answer_all(looks, way, work));
    let mut child = child.map_err(|error| failure("start a process that looks at its files", error))?;
    let mut answers = Vec::with_capacity(looks.len());
    for look in looks {
        let said = match tokio::time::timeout(patience, child.line()).await {
            Ok(Some(line)) => serde_json::from_str(&line).unwrap_or_else(|error| Err(error.to_string())),
            Ok(None) => Err("the process that looked at it has died".to_owned()),
            Err(_) => Err(format!("no answer within {patience:?}; is it on a mount whose server is gone?")),
        };
        answers.push(said.map_err(|reason| failure(look.step(), reason))?);
    }
    Ok(answers)
}

/// In the child.
fn answer_all(looks: &[Look], way: &Way, work: &mut Work) {
    let mut given = 0;
    for look in looks {
        let descriptor = look.given().and_then(|_| work.given(given));
        given += usize::from(descriptor.is_some());
        let answer = look.answer(way, descriptor);
        // A path that is not UTF-8 cannot be told, but that can.
        let said = serde_json::to_string(&answer).or_else(|error| serde_json::to_string(&Err::<Answer, _>(error.to_string())));
        work.say(&said.unwrap_or_default());
    }
}

impl Look {
    fn given(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Look::Bind { listener, .. } => Some(listener.descriptor.as_fd()),
            _ => None,
        }
    }

    fn step(&self) -> String {
        match self {
            Look::Environment { path, .. } => format!("environment file {path}"),
            Look::Owner { source } => format!("owner of {}", source.display()),
            Look::Module { path } => format!("module {}", path.display()),
            Look::State { host, .. } => format!("state directory {}", host.display()),
            Look::Bind { path, .. } => format!("listen on unix:{}", path.display()),
        }
    }

    fn at_once(&self) -> Option<Answer> {
        let (Look::Owner { source: path } | Look::Module { path }) = self else { return None };
        let name = CString::new(path.as_os_str().as_bytes()).ok()?;
        let file = fs::File::from(openat2(Within::HereAtOnce, &name, libc::O_PATH).ok()?);
        let data = file.metadata().ok()?;
        match self {
            Look::Owner { .. } => Some(Answer::Owner(data.uid(), data.gid())),
            _ => data.is_file().then(|| Answer::Module(Module { identity: identity(&data), path: path.clone() })),
        }
    }

    fn answer(&self, way: &Way, given: Option<BorrowedFd<'_>>) -> Result<Answer, String> {
        let answer = match (self, given) {
            (Look::Environment { path, optional }, _) => {
                environment::read(way.to_file(Path::new(path)), *optional).map(Answer::Environment)
            }
            (Look::Owner { source }, _) => {
                let (uid, gid) = cell::owner(source);
                Ok(Answer::Owner(uid, gid))
            }
            (Look::Module { path }, _) => way.to_file(path).and_then(|file| found(&file)).map(Answer::Module),
            (Look::State { base, host, ids, label }, _) => directories::provide(base, host, *ids, label.as_deref()).map(|()| Answer::Given),
            (Look::Bind { path, mode, .. }, Some(socket)) => sockets::bind_to(socket, way, path, *mode).map(|()| Answer::Bound),
            (Look::Bind { .. }, None) => Err(io::ErrorKind::NotFound.into()),
        };
        answer.map_err(|error| error.to_string())
    }
}

fn found(module: &fs::File) -> io::Result<Module> {
    let data = module.metadata()?;
    if !data.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let path = fs::read_link(format!("/proc/self/fd/{}", module.as_raw_fd()))?;
    Ok(Module { identity: identity(&data), path })
}
