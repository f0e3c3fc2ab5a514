//! Cells for tests: a unit file's text goes in, what happened comes out. Everything is done as the supervisor does it, on this
//! host's kernel, as root. Nothing is skipped: a wall that cannot be tried is a failed test.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod look;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cellinit::cell::facts::{self, Places};
use cellinit::cell::{self, Prepared, Spawned, Wiring};
use cellinit::plan::{self, Facts, Given, Plan, Preparation, Report, Slot, Step};
use cellinit::sys::process::{self, Ended};
use cellinit::unit::{self, Unit};

pub use look::Look;

/// Where this test program keeps its templates and directories; removed when it ends.
pub fn run_dir() -> &'static Path {
    static RUN_DIR: OnceLock<PathBuf> = OnceLock::new();
    RUN_DIR.get_or_init(|| {
        assert!(nix::unistd::geteuid().is_root(), "cells are made by root: run these tests as root");
        let path = PathBuf::from(format!("/run/cellinit-test-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        cell::templates::ensure(&path).unwrap();
        // SAFETY: the handler only calls what may be called from an ordinary thread.
        unsafe { libc::atexit(clean_up) };
        path
    })
}

extern "C" fn clean_up() {
    let path = PathBuf::from(format!("/run/cellinit-test-{}", std::process::id()));
    let _ = cell::templates::remove(&path);
    let _ = fs::remove_dir_all(&path);
}

pub fn unit(text: &str) -> Unit {
    unit::parse(Path::new("web.toml"), text)
        .unwrap_or_else(|faults| panic!("{}", faults.iter().map(ToString::to_string).collect::<String>()))
}

pub fn facts(unit: &Unit) -> Facts {
    let run = run_dir();
    let places = Places {
        run_dir: run.to_owned(),
        state_dir: run.join("state"),
        cache_dir: run.join("cache"),
        log_dir: run.join("log"),
        slice: "cellinit-test.slice".to_owned(),
    };
    facts::gather(&places, [unit])
}

/// A unit on its way to being a cell.
pub struct Cell {
    pub plan: Plan,
    pub prepared: Prepared,
    pub user_namespace: Option<OwnedFd>,
    /// Born into this cgroup v2 directory.
    pub cgroup: Option<OwnedFd>,
    pub environment: Vec<(String, String)>,
}

/// What happened.
#[derive(Debug)]
pub struct Outcome {
    pub output: String,
    pub ended: Ended,
    /// The failed step and the errno, and both in words.
    pub failed: Option<(Report, String)>,
}

impl Cell {
    pub fn new(text: &str) -> Cell {
        Cell::of(&unit(text))
    }

    pub fn of(unit: &Unit) -> Cell {
        let given = Given::from(Slot { index: 7 });
        let plan = plan::build(unit, &facts(unit), &given).unwrap_or_else(|error| panic!("{error}"));
        Cell::planned(plan)
    }

    pub fn planned(plan: Plan) -> Cell {
        make_ready(&plan);
        let prepared = cell::prepare(&plan).unwrap_or_else(|error| panic!("{error}"));
        let user_namespace = plan.user_namespace.map(|map| cell::user_namespace(map).unwrap());
        Cell { plan, prepared, user_namespace, cgroup: None, environment: Vec::new() }
    }

    /// Starts it with these standard streams and nothing to listen on.
    pub fn spawn(&self, out: &OwnedFd) -> Spawned {
        let null = File::open("/dev/null").unwrap();
        self.prepared
            .spawn(&Wiring {
                launchpad: None,
                stdin: null.as_fd(),
                stdout: out.as_fd(),
                stderr: out.as_fd(),
                listen: Vec::new(),
                unannounced: Vec::new(),
                environment: self.environment.clone(),
                owners: self.prepared.sources().iter().map(|source| cell::owner(source)).collect(),
                cgroup: self.cgroup.as_ref().map(AsFd::as_fd),
                user_namespace: self.user_namespace.as_ref().map(AsFd::as_fd),
                join: None,
                enter: Vec::new(),
            })
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts it and waits for its end.
    pub fn run(&self) -> Outcome {
        let (read, write) = self.pipe();
        let spawned = self.spawn(&write);
        drop(write);
        self.finish(spawned, read)
    }

    /// For its output. Owned by the cell's user, so that /dev/stdout can be opened anew.
    pub fn pipe(&self) -> (OwnedFd, OwnedFd) {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let ids = self.plan.steps.iter().find_map(|step| match step {
            Step::SetIds { uid, gid, .. } => Some((*uid, *gid)),
            _ => None,
        });
        if let (Some((uid, gid)), Some(map)) = (ids, self.plan.user_namespace) {
            std::os::unix::fs::fchown(&write, Some(map.base + uid), Some(map.base + gid)).unwrap();
        }
        (read, write)
    }

    pub fn finish(&self, spawned: Spawned, read: OwnedFd) -> Outcome {
        let mut output = String::new();
        File::from(read).read_to_string(&mut output).unwrap();
        let ended = process::waitid(spawned.pidfd.as_fd()).unwrap();
        let failed = read_report(spawned.report).map(|report| (report, self.plan.explain(&report)));
        Outcome { output, ended, failed }
    }
}

impl Outcome {
    /// The payload ran and ended well.
    pub fn ok(self) -> String {
        assert_eq!((&self.failed, self.ended), (&None, Ended::Status(0)), "{}", self.output);
        self.output
    }

    /// A step failed: in words.
    pub fn refused(self) -> String {
        match self.failed {
            Some((_, words)) => words,
            None => panic!("it started, and ended with {:?}: {}", self.ended, self.output),
        }
    }
}

pub fn read_report(pipe: OwnedFd) -> Option<Report> {
    let mut bytes = Vec::new();
    File::from(pipe).read_to_end(&mut bytes).ok()?;
    // On the short way a byte comes before it.
    let begin = bytes.len().checked_sub(Report::SIZE)?;
    Some(Report::from_bytes(bytes.get(begin..)?.try_into().ok()?))
}

/// The directories that the supervisor would make.
fn make_ready(plan: &Plan) {
    for preparation in &plan.before {
        if let Preparation::StateDirectory { host, uid, gid, .. } | Preparation::RuntimeDirectory { host, uid, gid, .. } = preparation {
            fs::create_dir_all(host).unwrap();
            std::os::unix::fs::chown(host, Some(*uid), Some(*gid)).unwrap();
        }
    }
}

/// A unit that runs a shell script.
pub fn shell(script: &str, rest: &str) -> Cell {
    Cell::new(&format!("[service]\nexec = [\"/bin/sh\", \"-c\", {script:?}]\n{rest}"))
}

/// A unit whose payload is this very program, looking around.
pub fn looking(rest: &str) -> Cell {
    Cell::new(&looking_unit(rest))
}

pub fn looking_unit(rest: &str) -> String {
    itself_unit(look::LOOK, rest)
}

/// The test program as payload, in the mode that this variable sets.
pub fn itself_unit(mode: &str, rest: &str) -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "[service]\nexec = [\"/run/look\", \"--exact\", \"look\", \"--nocapture\", \"--test-threads=1\"]\n\
         [env]\nset = {{ {mode} = \"1\" }}\n\
         [[mount]]\nsource = {program:?}\ntarget = \"/run/look\"\nexec = true\n{rest}"
    )
}

/// What a cell of this unit sees.
pub fn look(rest: &str) -> Look {
    let output = looking(rest).run().ok();
    Look::find(&output).unwrap_or_else(|| panic!("no look in {output}"))
}

/// A small file tree with busybox in it, for `rootfs.path`.
pub fn rootfs() -> tempfile::TempDir {
    let tree = tempfile::tempdir_in(run_dir()).unwrap();
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for dir in ["bin", "dev", "proc", "sys", "tmp", "run", "var/tmp", "var/lib", "etc", "mnt"] {
        fs::create_dir_all(tree.path().join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", tree.path().join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", tree.path().join("bin/sh")).unwrap();
    tree
}
