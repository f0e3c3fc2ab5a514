//! The clone itself: that it allocates nothing on its way, and that nothing of it is left afterwards.
//! One test at a time: each compares this process before and after.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use cellinit::cell::{self, BIRTH, Wiring};
use cellinit::plan::{self, Given, Slot};
use cellinit::sys::process::{self, Ended};
use support::{Cell, shell};

/// Kills every process that allocates and is not the one that armed it: a clone has another pid.
struct OnlyHere;

/// The pid that may allocate; 0 is anybody.
static HERE: AtomicI32 = AtomicI32::new(0);

impl OnlyHere {
    fn check() {
        let here = HERE.load(Ordering::Relaxed);
        if here != 0 && process::getpid() != here {
            std::process::abort();
        }
    }
}

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for OnlyHere {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        OnlyHere::check();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        OnlyHere::check();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: OnlyHere = OnlyHere;

/// Not a test of its own: the payload of the cell that attacks.
#[test]
fn look() {
    if std::env::var_os(support::look::ATTACK).is_some() {
        support::look::attack();
    }
}

/// For what a busy machine may take its time with.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Every kind of step that this host can perform.
const EVERYTHING: &str = r#"
[service]
exec = ["/bin/sh", "-c", "echo started"]
umask = "0077"
[env]
set = { A = "b" }
[user]
user = 1000
[security]
caps = ["CAP_NET_BIND_SERVICE"]
[dirs]
state = ["s"]
runtime = ["r"]
[oom]
score = 500
[[mount]]
source = "/usr/share"
target = "/run/deep/in/share"
recursive = true
[[mount]]
type = "tmpfs"
target = "/run/scratch"
size = "1MiB"
"#;

#[test]
fn nothing_is_allocated_between_clone_and_exec() {
    let _alone = ONE_AT_A_TIME.lock();
    let here = process::getpid();
    let cells =
        [Cell::new(EVERYTHING), shell("echo started", "[user]\nuser = 0\n"), shell("echo started", "[isolation]\nprofile = \"host\"\n")];
    for cell in cells {
        HERE.store(here, Ordering::Relaxed);
        let outcome = cell.run();
        HERE.store(0, Ordering::Relaxed);
        assert_eq!(outcome.ok(), "started\n");
    }
    // Nor on the way home with a bad message.
    let failing =
        [shell("true", "[[mount]]\nsource = \"/no/such\"\ntarget = \"/run/x\"\n"), Cell::new("[service]\nexec = [\"/no/such\"]\n")];
    for cell in failing {
        HERE.store(here, Ordering::Relaxed);
        let outcome = cell.run();
        HERE.store(0, Ordering::Relaxed);
        assert!(outcome.refused().contains("ENOENT"));
    }
}

/// In the host's table come and go the mounts of every supervisor and every test that runs at the same time: a thread that counts
/// mounts counts them in a table of its own, in which whatever a start leaves behind would be left as well.
fn count_own_mounts() {
    support::run_dir();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
}

/// What of this thread and its process a start could leave behind.
fn traces() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let descriptors = support::look::links("/proc/self/fd").into_iter().map(|(name, _)| format!("descriptor {name}"));
    mounts.lines().map(str::to_owned).chain(descriptors).chain(namespaces_of_children()).collect()
}

/// What is there now and was not before. Not what is gone: the kernel takes a mount out of every table when its owner, who is
/// another test at the same time, removes the directory that it is on.
fn left_since(before: &BTreeSet<String>) -> Vec<String> {
    traces().difference(before).cloned().collect()
}

/// As lsns(8) does it, for the processes below this one.
fn namespaces_of_children() -> BTreeSet<String> {
    let own = std::process::id().to_string();
    support::look::names("/proc")
        .into_iter()
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1).map(str::to_owned));
            parent.as_deref() == Some(&own)
        })
        .flat_map(|pid| support::look::links(&format!("/proc/{pid}/ns")))
        .map(|(_, namespace)| namespace)
        .collect()
}

#[test]
fn nothing_is_left_of_a_cell() {
    let _alone = ONE_AT_A_TIME.lock();
    count_own_mounts();
    let before = traces();
    for _ in 0..5 {
        shell("sleep 0.01 & mount; exit 0", "").run().ok();
        shell("true", "[[mount]]\nsource = \"/no/such\"\ntarget = \"/run/x\"\n").run().refused();
        Cell::new(EVERYTHING).run().ok();
    }
    assert_eq!(left_since(&before), [""; 0]);
}

#[test]
fn templates_come_once_and_go() {
    let _alone = ONE_AT_A_TIME.lock();
    count_own_mounts();
    let run = tempfile::tempdir_in("/run").unwrap();
    let before = traces();
    cell::templates::ensure(run.path()).unwrap();
    let made = traces();
    assert_ne!(left_since(&before), [""; 0]);
    cell::templates::ensure(run.path()).unwrap();
    assert_eq!(left_since(&made), [""; 0]);
    let mode = fs::metadata(run.path().join("template/dev/null")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode), 0o20666);
    cell::templates::remove(run.path()).unwrap();
    cell::templates::remove(run.path()).unwrap();
    assert_eq!(left_since(&before), [""; 0]);
    assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
}

/// One wiring with everything said.
fn wiring<'a>(cell: &'a Cell, null: &'a fs::File, out: &'a OwnedFd) -> Wiring<'a> {
    Wiring {
        launchpad: None,
        stdin: null.as_fd(),
        stdout: out.as_fd(),
        stderr: out.as_fd(),
        listen: Vec::new(),
        unannounced: Vec::new(),
        environment: Vec::new(),
        owners: cell.prepared.sources().iter().map(|source| cell::owner(source)).collect(),
        cgroup: None,
        user_namespace: cell.user_namespace.as_ref().map(AsFd::as_fd),
        join: None,
        enter: Vec::new(),
    }
}

/// Until the payload says that it runs.
fn wait_for_up(read: &OwnedFd) {
    let mut up = [0u8; 3];
    let mut read = fs::File::from(read.try_clone().unwrap());
    std::io::Read::read_exact(&mut read, &mut up).unwrap();
    assert_eq!(&up, b"up\n");
}

#[test]
fn listeners_come_from_three_on_with_their_names() {
    let _alone = ONE_AT_A_TIME.lock();
    let null = fs::File::open("/dev/null").unwrap();
    let script = "echo $LISTEN_FDS $LISTEN_FDNAMES $LISTEN_PID $$ $EXTRA; ls -l /proc/self/fd | grep -c socket";
    for (profile, known) in [("default", true), ("host", false)] {
        let cell = shell(script, &format!("[isolation]\nprofile = \"{profile}\"\n"));
        let sockets = [(), ()].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let (read, write) = cell.pipe();
        let spawned = cell
            .prepared
            .spawn(&Wiring {
                launchpad: None,
                listen: vec![("web".into(), sockets[0].as_fd()), ("admin".into(), sockets[1].as_fd())],
                unannounced: Vec::new(),
                environment: vec![("EXTRA".into(), "x".into())],
                ..wiring(&cell, &null, &write)
            })
            .unwrap();
        let pid = if known { 1 } else { spawned.pid };
        drop(write);
        assert_eq!(cell.finish(spawned, read).ok(), format!("2 web:admin {pid} {pid} x\n2\n"));
    }
}

/// v1 hierarchies: `cgroup.procs` is opened for the clone, which writes itself.
#[test]
fn a_clone_enters_what_it_is_given_or_ends() {
    let _alone = ONE_AT_A_TIME.lock();
    let null = fs::File::open("/dev/null").unwrap();
    let cell = shell("echo went", "");
    for (path, enters) in [("/dev/null", true), ("/dev/full", false)] {
        let entrance = fs::File::options().write(true).open(path).unwrap();
        let (read, write) = cell.pipe();
        let enter = vec![entrance.as_fd()];
        let spawned = cell.prepared.spawn(&Wiring { enter, ..wiring(&cell, &null, &write) }).unwrap();
        drop(write);
        let outcome = cell.finish(spawned, read);
        if enters {
            assert_eq!(outcome.ok(), "went\n");
        } else {
            let report = outcome.failed.unwrap().0;
            assert_eq!((report.step, report.errno), (BIRTH, libc::ENOSPC));
        }
    }
}

#[test]
fn a_cell_is_born_into_its_cgroup_and_sees_only_that() {
    let _alone = ONE_AT_A_TIME.lock();
    let (mount, _) =
        cell::facts::cgroup_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
    let path = mount.expect("a cgroup v2 tree").join(format!("cellinit-test-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    let mut cell = shell("cat /proc/self/cgroup | grep ^0:; cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x; true", "");
    cell.cgroup = Some(fs::File::open(&path).unwrap().into());
    let output = cell.run();
    fs::remove_dir(&path).unwrap();
    let output = output.ok();
    assert!(output.starts_with("0::/\n1\n"), "{output}");
    assert!(output.contains("Read-only file system"), "{output}");
}

#[test]
fn a_probe_joins_a_running_cell() {
    let _alone = ONE_AT_A_TIME.lock();
    let null = fs::File::open("/dev/null").unwrap();
    let unit = support::unit("[service]\nexec = [\"/bin/sh\", \"-c\", \"echo here > /tmp/mark; echo up; sleep 100\"]\n");
    let cell = Cell::of(&unit);
    let (read, write) = cell.pipe();
    let running = cell.spawn(&write);
    wait_for_up(&read);

    let script = "cat /tmp/mark; hostname; cat /proc/1/cmdline | tr '\\0' ' '; grep -E '^(Cap(Eff|Bnd|Inh|Amb)|NoNewPrivs|Seccomp):' /proc/self/status; \
                  id -u; ls -l /proc/self/ns /proc/1/ns | grep -c :; readlink /proc/self/ns/net /proc/1/ns/net | uniq | wc -l; echo *; kill -9 1; echo $?";
    let argv = ["/bin/sh", "-c", script].map(String::from);
    let given = Given::from(Slot { index: 7 });
    let probe = Cell::planned(plan::build_probe(&unit, &support::facts(&unit), &given, &argv).unwrap());
    let own = fs::read_link("/proc/self/ns/pid_for_children").unwrap();
    let (probe_read, probe_write) = probe.pipe();
    let spawned = probe.prepared.spawn(&Wiring { join: Some(running.pidfd.as_fd()), ..wiring(&probe, &null, &probe_write) }).unwrap();
    drop(probe_write);
    let outcome = probe.finish(spawned, probe_read);
    assert_eq!(fs::read_link("/proc/self/ns/pid_for_children").unwrap(), own, "the supervisor is back in its own");
    process::pidfd_send_signal(running.pidfd.as_fd(), libc::SIGKILL).unwrap();
    assert_eq!(process::waitid(running.pidfd.as_fd()).unwrap(), Ended::Signal(libc::SIGKILL));
    drop(write);
    let output = outcome.ok();
    assert!(output.starts_with("here\nweb\n/bin/sh -c"), "{output}");
    assert!(output.contains("\nSeccomp:\t2\n") && output.contains("\nNoNewPrivs:\t1\n"), "{output}");
    assert!(output.contains("\nCapBnd:\t0000000000000000\n") && output.contains("\n61184\n"), "{output}");
}

#[test]
fn a_running_cell_outlives_the_thread_that_started_it() {
    let _alone = ONE_AT_A_TIME.lock();
    // A death signal is sent when the thread ends that cloned.
    let cell = "[service]\nexec = [\"/bin/sh\", \"-c\", \"echo up; read x; echo done\"]\n[isolation]\nprofile = \"host\"\n";
    let (spawned, read, mut write) = std::thread::spawn(move || {
        let cell = Cell::new(cell);
        let (read, write) = cell.pipe();
        let (stdin, stdin_write) = nix::unistd::pipe().unwrap();
        let spawned =
            cell.prepared.spawn(&Wiring { stdin: stdin.as_fd(), ..wiring(&cell, &fs::File::open("/dev/null").unwrap(), &write) }).unwrap();
        drop(write);
        wait_for_up(&read);
        (spawned, read, fs::File::from(stdin_write))
    })
    .join()
    .unwrap();
    std::io::Write::write_all(&mut write, b"go\n").unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut fs::File::from(read), &mut rest).unwrap();
    assert_eq!(rest, "done\n");
    assert_eq!(process::waitid(spawned.pidfd.as_fd()).unwrap(), Ended::Status(0));
}

/// CVE-2016-9962 and CVE-2019-5736: while probes come into a hostile cell, it never gets hold of the program that sets them up.
#[test]
fn a_hostile_cell_sees_nothing_of_what_joins_it() {
    const PROBES: u32 = 50;
    let _alone = ONE_AT_A_TIME.lock();
    let null = fs::File::open("/dev/null").unwrap();
    let unit = support::unit(&support::itself_unit(support::look::ATTACK, ""));
    let cell = Cell::of(&unit);
    let (read, write) = cell.pipe();
    let running = cell.spawn(&write);
    drop(write);
    let mut head = [0u8; 64];
    while !head.windows(3).any(|text| text == b"up\n") {
        assert_ne!(nix::unistd::read(&read, &mut head).unwrap(), 0);
    }
    // The same program on both sides, so that after execve it is the attacker's own.
    let argv = ["/run/look", "--exact", "none"].map(String::from);
    let given = Given::from(Slot { index: 7 });
    let probe = Cell::planned(plan::build_probe(&unit, &support::facts(&unit), &given, &argv).unwrap());
    for _ in 0..PROBES {
        let (probe_read, probe_write) = probe.pipe();
        let spawned = probe.prepared.spawn(&Wiring { join: Some(running.pidfd.as_fd()), ..wiring(&probe, &null, &probe_write) }).unwrap();
        drop(probe_write);
        probe.finish(spawned, probe_read).ok();
    }
    process::pidfd_send_signal(running.pidfd.as_fd(), libc::SIGKILL).unwrap();
    assert_eq!(cell.finish(running, read).output, "");
}

#[test]
fn a_clone_in_the_making_holds_only_what_it_needs() {
    let _alone = ONE_AT_A_TIME.lock();
    let null = fs::File::open("/dev/null").unwrap();
    let cell = shell("true", "");
    let (read, write) = cell.pipe();
    // A full pipe holds the clone up where it would enter its cgroups.
    let (drain, full) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&full, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    while nix::unistd::write(&full, &[0; 4096]).is_ok() {}
    nix::fcntl::fcntl(&full, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    let spawned = cell.prepared.spawn(&Wiring { enter: vec![full.as_fd()], ..wiring(&cell, &null, &write) }).unwrap();
    drop(write);
    // Of all that this process has open it has what it needs: three streams, the report pipe, the namespace, the entrance.
    let needed = ["0", "1", "2", "3", "4", "5"];
    let open = || support::look::names(&format!("/proc/{}/fd", spawned.pid));
    let begun = std::time::Instant::now();
    while open() != needed && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    assert_eq!(open(), needed);
    nix::unistd::read(&drain, &mut [0; 65536]).unwrap();
    cell.finish(spawned, read).ok();
}
