//! What a cell looks like from inside. The test program itself is the payload: it is static, and runs as its own guest.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Set in the environment of a payload that shall look around.
pub const LOOK: &str = "CELLINIT_TEST_LOOK";
/// Goes before the one line of JSON, so that the test harness's own lines do not matter.
const MARK: &str = "look: ";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Look {
    /// `/proc/self/status`.
    pub status: BTreeMap<String, String>,
    pub ids: [u32; 6],
    pub groups: Vec<u32>,
    pub uid_map: String,
    pub gid_map: String,
    pub namespaces: BTreeMap<String, String>,
    /// Number and what it is, without the one that reads the directory.
    pub descriptors: BTreeMap<u32, String>,
    pub working_directory: String,
    /// Mount point and mount options, the covering one last.
    pub mounts: Vec<(String, String, String)>,
    pub pids: Vec<u32>,
    pub devices: Vec<String>,
    pub hostname: String,
    pub interfaces: Vec<String>,
    pub listings: BTreeMap<String, Vec<String>>,
    pub environment: BTreeMap<String, String>,
    /// What was tried, and "ok" or the errno's name.
    pub attempts: BTreeMap<String, String>,
    pub readable: BTreeMap<String, String>,
    pub limits: String,
    pub signal_mask: String,
    pub sum: String,
}

impl Look {
    pub fn find(output: &str) -> Option<Look> {
        let line = output.lines().find_map(|line| Some(line.split_once(MARK)?.1))?;
        serde_json::from_str(line).ok()
    }

    pub fn attempt(&self, name: &str) -> &str {
        self.attempts.get(name).map_or("not tried", String::as_str)
    }

    pub fn status(&self, key: &str) -> &str {
        self.status.get(key).map_or("", String::as_str)
    }
}

/// Looks around and prints what it saw.
pub fn look() {
    let mut look = Look {
        status: lines("/proc/self/status"),
        ids: ids(),
        groups: nix::unistd::getgroups().unwrap_or_default().iter().map(|g| g.as_raw()).collect(),
        uid_map: words("/proc/self/uid_map"),
        gid_map: words("/proc/self/gid_map"),
        namespaces: links("/proc/self/ns").into_iter().collect(),
        descriptors: descriptors(),
        working_directory: std::env::current_dir().map_or_else(|e| e.to_string(), |d| d.display().to_string()),
        mounts: mounts(),
        pids: names("/proc").iter().filter_map(|name| name.parse().ok()).collect(),
        devices: names("/dev"),
        hostname: words("/proc/sys/kernel/hostname"),
        interfaces: interfaces(),
        environment: std::env::vars().collect(),
        limits: fs::read_to_string("/proc/self/limits").unwrap_or_default(),
        ..Look::default()
    };
    for path in ["/", "/run", "/home", "/root", "/tmp", "/sys", "/sys/fs/cgroup", "/var/lib"] {
        look.listings.insert(path.to_owned(), names(path));
    }
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/etc/shadow", "/etc/hostname"] {
        let read = fs::read(path).map_or_else(|e| name(&e), |bytes| bytes.len().min(1 << 20).to_string());
        look.readable.insert(path.to_owned(), read);
    }
    attempts(&mut look.attempts);
    println!("{MARK}{}", serde_json::to_string(&look).unwrap_or_default());
}

/// Set in the environment of a payload that shall try to get hold of whoever enters its cell.
pub const ATTACK: &str = "CELLINIT_TEST_ATTACK";

/// For ever: asks of every pid that may come next which program it is, and prints those that are not the payload's own.
pub fn attack() {
    const AHEAD: u32 = 6;
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    println!("up");
    let mut newest = std::process::id();
    loop {
        for pid in newest + 1..=newest + AHEAD {
            match fs::read_link(format!("/proc/{pid}/exe")) {
                Ok(program) if program != own => println!("got {}", program.display()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                _ => {}
            }
            newest = newest.max(pid - 1);
        }
    }
}

fn attempts(seen: &mut BTreeMap<String, String>) {
    let mut note = |name_of: &str, result: io::Result<()>| {
        seen.insert(name_of.to_owned(), result.map_or_else(|e| name(&e), |()| "ok".to_owned()));
    };
    for path in ["/usr/touched", "/etc/touched", "/touched", "/dev/touched", "/sys/touched", "/tmp/touched"] {
        note(&format!("create {path}"), fs::write(path, "x"));
    }
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/1/oom_score_adj",
        "/sys/fs/cgroup/cgroup.procs",
        "/proc/self/exe",
    ] {
        note(&format!("write {path}"), fs::OpenOptions::new().write(true).open(path).map(drop));
    }
    note("mkdir /sys/fs/cgroup/x", fs::create_dir("/sys/fs/cgroup/x"));
    note(
        "mknod /tmp/null",
        nix_result(nix::sys::stat::mknod(
            "/tmp/null",
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::from_bits_truncate(0o666),
            libc::makedev(1, 3),
        )),
    );
    note("mount tmpfs", nix_result(nix::mount::mount(Some("x"), "/tmp", Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)));
    note("umount /proc", nix_result(nix::mount::umount2("/proc", nix::mount::MntFlags::MNT_DETACH)));
    note("chroot", nix_result(nix::unistd::chroot("/tmp")));
    note("sethostname", nix_result(nix::unistd::sethostname("x")));
    note("bind 127.0.0.1:0", std::net::TcpListener::bind("127.0.0.1:0").map(drop));
    note("bind 127.0.0.1:80", std::net::TcpListener::bind("127.0.0.1:80").map(drop));
    note(
        "connect 1.1.1.1",
        std::net::TcpStream::connect_timeout(&std::net::SocketAddr::from(([1, 1, 1, 1], 80)), std::time::Duration::from_secs(1)).map(drop),
    );
    // Last, since unshare(2) changes who answers.
    for (name, number, a) in calls() {
        // SAFETY: every argument is a number or null: a call that is let through fails on them or does no harm here.
        let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4]) };
        note(name, if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
    }
}

/// Raw calls with harmless arguments. -1 is a bad descriptor or an impossible pid.
fn calls() -> Vec<(&'static str, i64, [i64; 5])> {
    let socket = |family: i32| [family.into(), i64::from(libc::SOCK_RAW), 0, 0, 0];
    let dgram = |family: i32| [family.into(), i64::from(libc::SOCK_DGRAM), 0, 0, 0];
    vec![
        ("socket ALG", libc::SYS_socket, [libc::AF_ALG.into(), libc::SOCK_SEQPACKET.into(), 0, 0, 0]),
        ("socket VSOCK", libc::SYS_socket, [libc::AF_VSOCK.into(), libc::SOCK_STREAM.into(), 0, 0, 0]),
        ("socket PACKET", libc::SYS_socket, socket(libc::AF_PACKET)),
        ("socket KEY", libc::SYS_socket, socket(libc::AF_KEY)),
        ("socket RDS", libc::SYS_socket, [libc::AF_RDS.into(), libc::SOCK_SEQPACKET.into(), 0, 0, 0]),
        ("socket XDP", libc::SYS_socket, socket(libc::AF_XDP)),
        ("socket NETLINK XFRM", libc::SYS_socket, [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), libc::NETLINK_XFRM.into(), 0, 0]),
        ("socket NETLINK ROUTE", libc::SYS_socket, [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), libc::NETLINK_ROUTE.into(), 0, 0]),
        ("socket INET", libc::SYS_socket, dgram(libc::AF_INET)),
        ("socket UNIX", libc::SYS_socket, dgram(libc::AF_UNIX)),
        ("unshare USER", libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0]),
        ("unshare NS", libc::SYS_unshare, [libc::CLONE_NEWNS.into(), 0, 0, 0, 0]),
        ("unshare NET", libc::SYS_unshare, [libc::CLONE_NEWNET.into(), 0, 0, 0, 0]),
        ("setns", libc::SYS_setns, [-1, 0, 0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0, -3, 1, 0, 0]),
        ("bpf", libc::SYS_bpf, [0, 0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]),
        ("ptrace init", libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), 1, 0, 0, 0]),
        ("perf_event_open", libc::SYS_perf_event_open, [0, 0, -1, -1, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0, 0]),
        ("open_tree", libc::SYS_open_tree, [libc::AT_FDCWD.into(), 0, 1, 0, 0]),
        ("fsopen", libc::SYS_fsopen, [0, 0, 0, 0, 0]),
        ("mount_setattr", libc::SYS_mount_setattr, [-1, 0, 0, 0, 0]),
        ("pivot_root", libc::SYS_pivot_root, [0, 0, 0, 0, 0]),
        ("kexec_load", libc::SYS_kexec_load, [0, 0, 0, 0, 0]),
        ("init_module", libc::SYS_init_module, [0, 0, 0, 0, 0]),
        ("reboot", libc::SYS_reboot, [0, 0, 0, 0, 0]),
        ("settimeofday", libc::SYS_settimeofday, [0, 0, 0, 0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0]),
        ("chmod u+s", libc::SYS_chmod, [c"/tmp/touched".as_ptr() as i64, 0o4755, 0, 0, 0]),
        ("chmod g+s", libc::SYS_fchmodat, [libc::AT_FDCWD.into(), c"/tmp/touched".as_ptr() as i64, 0o2755, 0, 0]),
        ("create u+s", libc::SYS_open, [c"/tmp/set-id".as_ptr() as i64, libc::O_CREAT.into(), 0o4755, 0, 0]),
        ("tmpfile u+s", libc::SYS_open, [c"/tmp".as_ptr() as i64, i64::from(libc::O_TMPFILE | libc::O_WRONLY), 0o4755, 0, 0]),
        ("mkdir g+s", libc::SYS_mkdir, [c"/tmp/set-id-dir".as_ptr() as i64, 0o2755, 0, 0, 0]),
        ("chmod 1755", libc::SYS_chmod, [c"/tmp/touched".as_ptr() as i64, 0o1755, 0, 0, 0]),
        ("openat2", libc::SYS_openat2, [libc::AT_FDCWD.into(), 0, 0, 0, 0]),
        ("unknown call", 9999, [0, 0, 0, 0, 0]),
        ("setuid 0", libc::SYS_setuid, [0, 0, 0, 0, 0]),
    ]
}

fn ids() -> [u32; 6] {
    let (mut r, mut e, mut s) = (0, 0, 0);
    let (mut gr, mut ge, mut gs) = (0, 0, 0);
    // SAFETY: six live numbers.
    unsafe {
        libc::getresuid(&mut r, &mut e, &mut s);
        libc::getresgid(&mut gr, &mut ge, &mut gs);
    }
    [r, e, s, gr, ge, gs]
}

fn descriptors() -> BTreeMap<u32, String> {
    let own = "/proc/".to_owned() + &std::process::id().to_string() + "/fd";
    links("/proc/self/fd").into_iter().filter(|(_, to)| *to != own).filter_map(|(name, to)| Some((name.parse().ok()?, to))).collect()
}

fn interfaces() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// proc_pid_mountinfo(5): mount point, its options, and the kind of file system.
pub fn mounts() -> Vec<(String, String, String)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parse = |line: &str| {
        let (mount, super_block) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned(), super_block.split(' ').next()?.to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

fn lines(path: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

fn words(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

pub fn names(path: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_else(|e| vec![name(&e)]);
    names.sort();
    names
}

pub fn links(path: &str) -> Vec<(String, String)> {
    let link = |name: &String| Some(fs::read_link(Path::new(path).join(name)).ok()?.display().to_string());
    names(path).into_iter().filter_map(|name| Some((name.clone(), link(&name)?))).collect()
}

/// `EPERM`
fn name(error: &io::Error) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

fn nix_result(result: nix::Result<()>) -> io::Result<()> {
    result.map_err(|errno| io::Error::from_raw_os_error(errno as i32))
}
