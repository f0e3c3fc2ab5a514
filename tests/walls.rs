//! What `cell status` says of a cell's walls, against a cell that runs.

mod support;

use cellinit::cell::walls::{self, Walls};
use cellinit::plan::{DYNAMIC_ID, ID_BASE, ID_RANGE};

use support::Cell;

/// Slot of the cells of `support`.
const BASE: u32 = ID_BASE + 7 * ID_RANGE;

#[test]
fn every_wall_is_read_back() {
    let walls = walls_of("[service]\nexec = ['/bin/sleep', '60']\n[limits]\nnofile = '100:200'\n[oom]\nscore = 5");
    let own = walls::read(std::process::id() as i32).unwrap();
    for name in ["user", "mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        assert_ne!(walls.namespaces[name], own.namespaces[name], "{name}");
    }
    assert_eq!(walls.namespaces["time"], own.namespaces["time"]);
    assert_eq!(walls.uid_map, [[0, BASE, ID_RANGE]]);
    assert_eq!(walls.gid_map, [[0, BASE, ID_RANGE]]);
    assert_eq!((walls.uid, walls.gid), (BASE + DYNAMIC_ID, BASE + DYNAMIC_ID));
    assert!(walls.groups.is_empty());
    let sets = &walls.capabilities;
    for set in [&sets.effective, &sets.permitted, &sets.inheritable, &sets.bounding, &sets.ambient] {
        assert_eq!(set, "0000000000000000");
    }
    assert_eq!((walls.seccomp.mode, walls.no_new_privs), (2, true));
    assert_eq!(walls.rlimits["nofile"], "100:200");
    assert_eq!(walls.oom_score_adj, Some(5));
    assert!(walls.mounts > 10);
}

#[test]
fn a_cell_without_walls_shows_none() {
    let walls = walls_of("[service]\nexec = ['/bin/sleep', '60']\n[isolation]\nprofile = 'none'");
    let own = walls::read(std::process::id() as i32).unwrap();
    assert_eq!(walls.namespaces, own.namespaces);
    assert_eq!((walls.uid_map, walls.capabilities), (own.uid_map, own.capabilities));
    assert_eq!(walls.seccomp, own.seccomp);
}

/// As read while the payload runs, which is then killed.
fn walls_of(text: &str) -> Walls {
    let cell = Cell::new(text);
    let (_out, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let spawned = cell.spawn(&write);
    let executed = || std::fs::read_to_string(format!("/proc/{}/comm", spawned.pid)).is_ok_and(|name| name == "sleep\n");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !executed() {
        assert!(std::time::Instant::now() < deadline, "the program never started");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let walls = walls::read(spawned.pid).unwrap();
    let pid = nix::unistd::Pid::from_raw(spawned.pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    nix::sys::wait::waitpid(pid, None).unwrap();
    walls
}
