//! The short way to a payload without walls gives the same cell as the long one, and leaves nothing behind in the supervisor.

mod support;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use cellinit::cell::{Launchpad, Wiring};
use support::Cell;

/// Descriptors of this process are counted.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

const FREE: &str = "[isolation]\nprofile = \"none\"\n";

/// Also whether it went the short way.
fn run(cell: &Cell, pad: Option<&Launchpad>) -> (support::Outcome, bool) {
    let null = fs::File::open("/dev/null").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (read, write): (OwnedFd, OwnedFd) = cell.pipe();
    let wiring = Wiring {
        launchpad: pad,
        stdin: null.as_fd(),
        stdout: write.as_fd(),
        stderr: write.as_fd(),
        listen: vec![("web".to_owned(), listener.as_fd())],
        unannounced: Vec::new(),
        owners: Vec::new(),
        environment: vec![("EXTRA".to_owned(), "more".to_owned())],
        cgroup: None,
        user_namespace: None,
        join: None,
        enter: Vec::new(),
    };
    let spawned = cell.prepared.spawn(&wiring).unwrap();
    drop(write);
    if let (Some(progress), Some(pad)) = (&spawned.progress, pad) {
        while !progress.is_apart() {
            std::thread::yield_now();
        }
        pad.collect();
    }
    let short = spawned.progress.is_some();
    let outcome = cell.finish(spawned, read);
    pad.inspect(|pad| pad.collect());
    (outcome, short)
}

/// What of this process a clone that shares its memory could change or leave open.
fn own() -> (usize, String) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kept = ["Uid", "Gid", "Groups", "Umask", "SigBlk", "SigIgn", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp:"];
    let lines = status.lines().filter(|line| kept.iter().any(|key| line.starts_with(key)));
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    (fs::read_dir("/proc/self/fd").unwrap().count(), lines.chain(limits.lines()).collect::<Vec<_>>().join("\n"))
}

#[test]
fn both_ways_lead_to_the_same_process() {
    let _alone = ONE_AT_A_TIME.lock();
    let script = "echo $0 $LISTEN_FDS $EXTRA; [ $LISTEN_PID = $$ ] && echo mine; umask; ulimit -n; pwd; \
        grep -E '^(Uid|Gid|Groups|SigBlk|SigIgn|Cap|NoNew|Seccomp)' /proc/self/status; for fd in /proc/self/fd/*; do echo $fd; done";
    for (user, short) in [("root", true), ("daemon", false)] {
        let text = format!(
            "[service]\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\numask = \"0027\"\nworking-dir = \"/usr\"\n{FREE}[user]\nuser = \"{user}\"\n[limits]\nnofile = 77\n"
        );
        let cell = Cell::new(&text);
        let pad = Launchpad::new().unwrap();
        let long = run(&cell, None).0.ok();
        assert!(long.contains("1 more\nmine\n0027\n77\n/usr\n"), "{long}");
        let before = own();
        for _ in 0..20 {
            let (outcome, was_short) = run(&cell, Some(&pad));
            assert_eq!((outcome.ok(), was_short), (long.clone(), short));
        }
        assert_eq!(own(), before);
        // SAFETY: takes and gives numbers.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 1);
    }
}

#[test]
fn what_fails_on_the_pad_says_so() {
    let _alone = ONE_AT_A_TIME.lock();
    let pad = Launchpad::new().unwrap();
    let cell = Cell::new(&format!("[service]\nexec = [\"/etc/passwd\"]\n{FREE}"));
    let (outcome, short) = run(&cell, Some(&pad));
    assert!(short);
    let refused = outcome.refused();
    assert!(refused.contains("EACCES"), "{refused}");
}

/// A frozen cgroup of version 2. At the end it thaws, and goes when its processes are gone.
struct Frozen {
    path: std::path::PathBuf,
    directory: fs::File,
}

impl Frozen {
    fn new() -> Frozen {
        let mounts: Vec<String> = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect();
        let (v2, _) = cellinit::cell::facts::cgroup_mounts(&mounts);
        let path = v2.expect("a cgroup v2 tree").join(format!("launchpad-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("cgroup.freeze"), "1").unwrap();
        let directory = fs::File::open(&path).unwrap();
        Frozen { path, directory }
    }

    fn thaw(&self) {
        fs::write(self.path.join("cgroup.freeze"), "0").unwrap();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
        while fs::remove_dir(&self.path).is_err() {
            std::thread::yield_now();
        }
    }
}

/// Cells that are frozen get no further than their birth. More of them than there are places, and the next one comes all the same.
#[test]
fn who_is_held_up_holds_up_nobody() {
    let _alone = ONE_AT_A_TIME.lock();
    let pad = Launchpad::new().unwrap();
    let cell = Cell::new(&format!("[service]\nexec = [\"/bin/true\"]\n{FREE}"));
    let frozen = Frozen::new();
    let null = fs::File::open("/dev/null").unwrap();
    let wiring = || Wiring {
        launchpad: Some(&pad),
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
        listen: Vec::new(),
        unannounced: Vec::new(),
        owners: Vec::new(),
        environment: Vec::new(),
        cgroup: Some(frozen.directory.as_fd()),
        user_namespace: None,
        join: None,
        enter: Vec::new(),
    };
    let held: Vec<_> = (0..70).map(|_| cell.prepared.spawn(&wiring()).unwrap()).collect();
    let short = held.iter().filter(|held| held.progress.is_some()).count();
    assert_eq!(short, 64);
    assert!(held.iter().filter_map(|held| held.progress.as_ref()).all(|progress| !progress.has_left()));
    let (outcome, short) = run(&cell, Some(&pad));
    outcome.ok();
    assert!(!short);
    frozen.thaw();
    for held in held {
        assert_eq!(cellinit::sys::process::waitid(held.pidfd.as_fd()), Ok(cellinit::sys::process::Ended::Status(0)));
    }
    let (outcome, short) = run(&cell, Some(&pad));
    outcome.ok();
    assert!(short);
}
