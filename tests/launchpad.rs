//! The short way to a payload without walls gives the same cell as the long one, and leaves nothing behind in the supervisor.

mod support;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use cellinit::cell::{Launchpad, Wiring};
use support::Cell;

/// Descriptors of this process are counted.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

const FREE: &str = "[isolation]\nprofile = \"none\"\n";

fn run(cell: &Cell, pad: Option<&Launchpad>) -> support::Outcome {
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
    cell.finish(spawned, read)
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
    for user in ["root", "daemon"] {
        let text = format!(
            "[service]\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\numask = \"0027\"\nworking-dir = \"/usr\"\n{FREE}[user]\nuser = \"{user}\"\n[limits]\nnofile = 77\n"
        );
        let cell = Cell::new(&text);
        let pad = Launchpad::new().unwrap();
        let long = run(&cell, None).ok();
        assert!(long.contains("1 more\nmine\n0027\n77\n/usr\n"), "{long}");
        let before = own();
        for _ in 0..20 {
            assert_eq!(run(&cell, Some(&pad)).ok(), long);
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
    // Known to the kernel, and not to be executed.
    fs::metadata("/etc/passwd").unwrap();
    let cell = Cell::new(&format!("[service]\nexec = [\"/etc/passwd\"]\n{FREE}"));
    let refused = run(&cell, Some(&pad)).refused();
    assert!(refused.contains("EACCES"), "{refused}");
}
