//! What a cell with no wishes of its own sees from inside.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;

use cellinit::sys::process::Ended;

use crate::default_cell;
use crate::support;
use crate::support::{Look, looking, shell};

#[test]
fn ids_are_of_the_cells_own_range() {
    let look = default_cell();
    let base = cellinit::plan::ID_BASE + 7 * cellinit::plan::ID_RANGE;
    assert_eq!(look.uid_map, format!("0 {base} 65536"));
    assert_eq!(look.gid_map, format!("0 {base} 65536"));
    assert_eq!(look.ids, [61184; 6]);
    assert_eq!(look.groups, [0u32; 0]);
}

#[test]
fn every_namespace_is_its_own() {
    let host: BTreeMap<_, _> = support::look::links("/proc/self/ns").into_iter().collect();
    let look = default_cell();
    for name in ["user", "mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        assert_ne!(look.namespaces[name], host[name], "{name}");
    }
    assert_eq!(look.hostname, "web");
}

#[test]
fn there_is_no_privilege_and_no_way_to_one() {
    let look = default_cell();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(look.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(look.status("NoNewPrivs"), "1");
    assert_eq!(look.status("Seccomp"), "2");
    assert_eq!(look.status("SigBlk"), "0000000000000000");
}

#[test]
fn the_signals_of_a_payload_are_those_of_a_fresh_program() {
    // The test harness itself ignores SIGPIPE, as every Rust program does.
    let output = shell("busybox grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status", "").run().ok();
    let zero = "0000000000000000";
    assert_eq!(output, format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\nSigCgt:\t{zero}\n"));
}

/// pid_namespaces(7); what the reference says at `isolation.pid`.
#[test]
fn process_1_is_not_ended_by_signals_from_inside() {
    let cell = shell("kill -KILL $$; kill -SEGV $$; kill -ABRT $$; echo here; exec perl -MPOSIX -e abort", "").run();
    assert_eq!((cell.output.as_str(), cell.ended), ("here\n", Ended::Signal(libc::SIGSEGV)));
    let cell = shell("kill -KILL $$; echo here", "[isolation]\npid = \"host\"\n").run();
    assert_eq!((cell.output.as_str(), cell.ended), ("", Ended::Signal(libc::SIGKILL)));
}

/// A probe that is on its way into the cell has the host's mounts and network until it has joined the cell's, and the cell sees its
/// number: there is nothing to look into.
#[test]
fn who_may_not_be_traced_is_not_seen() {
    let script = "grep -c ' /proc .*hidepid=invisible' /proc/self/mountinfo; busybox sleep 1 & ls -d /proc/$!";
    let output = shell(script, "").run().ok();
    assert!(output.starts_with("1\n/proc/"), "{output}");
}

/// The kernel counts inotify instances, timers and the like to the owner of a user namespace.
#[test]
fn a_user_namespace_belongs_to_its_cell() {
    const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;
    let namespace = cellinit::cell::user_namespace(cellinit::plan::IdMap { base: 700_000, size: 1000 }).unwrap();
    let mut owner = 0_u32;
    // SAFETY: ioctl_ns(2): it writes one uid, which lives here.
    let told = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut owner) };
    assert_eq!((told, owner), (0, 700_000));
}

/// Others want some of the host's pseudoterminals, too.
#[test]
fn pseudoterminals_are_bounded() {
    assert_eq!(shell("grep -c ' /dev/pts .*max=256' /proc/self/mountinfo", "").run().ok(), "1\n");
}

#[test]
fn no_descriptor_leaks() {
    let inherited: Vec<_> = (0..20).map(|_| fs::File::open("/").unwrap()).collect();
    for file in &inherited {
        // Not close-on-exec: what a careless parent leaves behind.
        nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    }
    let look = looking("").run().ok();
    let look = Look::find(&look).unwrap();
    assert_eq!(look.descriptors.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(look.descriptors[&0], "/dev/null");
}

#[test]
fn the_system_is_read_only_and_tmp_is_private() {
    let look = default_cell();
    for path in ["/usr/touched", "/etc/touched", "/touched", "/dev/touched", "/sys/touched"] {
        assert_eq!(look.attempt(&format!("create {path}")), "EROFS", "{path}");
    }
    assert_eq!(look.attempt("create /tmp/touched"), "ok");
    assert!(!fs::exists("/tmp/touched").unwrap());
    assert_eq!(look.working_directory, "/");
    // The look itself and nothing of the host's.
    assert_eq!(look.listings["/run"], ["look"]);
    assert_eq!(look.listings["/home"], [""; 0]);
    assert_eq!(look.listings["/root"], [""; 0]);
}

#[test]
fn proc_shows_the_cell_and_nothing_to_turn() {
    let look = default_cell();
    assert_eq!(look.pids, [1]);
    assert_eq!(look.readable["/proc/timer_list"], "0");
    assert_eq!(look.readable["/proc/keys"], "0");
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger"] {
        let answer = look.attempt(&format!("write {path}"));
        assert!(["EROFS", "EACCES", "ENOENT"].contains(&answer), "{path}: {answer}");
    }
    assert_eq!(look.readable["/etc/shadow"], "EACCES");
}

#[test]
fn dev_is_minimal_and_works() {
    let names = ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"];
    assert_eq!(default_cell().devices, names);
    let script = "echo x > /dev/null && head -c 4 /dev/urandom | wc -c && head -c 3 /dev/zero | wc -c \
                  && echo out > /dev/stdout && echo t > /dev/shm/t && cat /dev/shm/t";
    assert_eq!(shell(script, "").run().ok(), "4\n3\nout\nt\n");
}

#[test]
fn the_network_is_a_loopback_that_is_up() {
    let look = default_cell();
    assert_eq!(look.interfaces, ["lo"]);
    assert_eq!(look.attempt("bind 127.0.0.1:0"), "ok");
    assert_eq!(look.attempt("connect 1.1.1.1"), "ENETUNREACH");
}

#[test]
fn what_the_kernel_offers_to_attack_is_not_offered() {
    let look = default_cell();
    let refused = [
        "socket ALG",
        "socket VSOCK",
        "socket PACKET",
        "socket KEY",
        "socket RDS",
        "socket XDP",
        "socket NETLINK XFRM",
        "unshare USER",
        "unshare NS",
        "unshare NET",
        "setns",
        "keyctl",
        "bpf",
        "io_uring_setup",
        "ptrace init",
        "perf_event_open",
        "userfaultfd",
        "open_tree",
        "fsopen",
        "mount_setattr",
        "pivot_root",
        "kexec_load",
        "init_module",
        "reboot",
        "settimeofday",
        "open_by_handle_at",
        "mknod /tmp/null",
        "mount tmpfs",
        "umount /proc",
        "chroot",
        "sethostname",
        "setuid 0",
    ];
    for name in refused {
        let answer = look.attempt(name);
        assert!(["EPERM", "ENOSYS", "EAFNOSUPPORT", "EACCES"].contains(&answer), "{name}: {answer}");
    }
    assert_eq!(look.attempt("unknown call"), "ENOSYS");
    for name in ["socket INET", "socket UNIX", "socket NETLINK ROUTE"] {
        assert_eq!(look.attempt(name), "ok", "{name}");
    }
}

#[test]
fn every_mount_is_the_cells_own_or_read_only() {
    let look = default_cell();
    let own = ["proc", "tmpfs", "devpts"];
    for (point, options, kind) in &look.mounts {
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        assert!(has("ro") || own.contains(&kind.as_str()), "{point} {options} {kind}");
        assert!(has("nosuid"), "{point} {options}");
        // A masked file is the host's null device.
        let devices = point.starts_with("/dev") || kind == "devtmpfs";
        assert!(has("nodev") || devices, "{point} {options}");
    }
}

/// RestrictSUIDSGID= of systemd.exec(5); in a directory that is granted for writing such a file would be its owner's.
#[test]
fn a_cell_makes_no_set_id_files_unless_it_is_granted_that() {
    let refused = ["chmod u+s", "chmod g+s", "create u+s", "tmpfile u+s", "mkdir g+s"];
    let look = crate::default_cell();
    refused.iter().for_each(|name| assert_eq!(look.attempt(name), "EPERM", "{name}"));
    assert_eq!((look.attempt("chmod 1755"), look.attempt("openat2")), ("ok", "ENOSYS"));
    let granted = support::look("[security]\ncaps = [\"CAP_FSETID\"]\n");
    refused.iter().for_each(|name| assert_eq!(granted.attempt(name), "ok", "{name}"));
    assert_eq!(granted.attempt("openat2"), "EINVAL");
}
