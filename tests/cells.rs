//! Cells on this host's real kernel, seen from inside and from outside. As root; no wall is skipped.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{Cell, Look, looking, rootfs, shell};

/// Not a test of its own: the payload of cells that look around.
#[test]
fn look() {
    if std::env::var_os(support::look::LOOK).is_some() {
        support::look::look();
    }
}

/// One look for the tests that only ask what a default cell sees.
fn default_cell() -> &'static Look {
    static LOOK: std::sync::OnceLock<Look> = std::sync::OnceLock::new();
    LOOK.get_or_init(|| support::look(""))
}

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
    let output = shell("busybox grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status", "")
        .run()
        .ok();
    let zero = "0000000000000000";
    assert_eq!(
        output,
        format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\nSigCgt:\t{zero}\n")
    );
}

#[test]
fn no_descriptor_leaks() {
    let inherited: Vec<_> = (0..20).map(|_| fs::File::open("/").unwrap()).collect();
    for file in &inherited {
        // Not close-on-exec: what a careless parent leaves behind.
        nix::fcntl::fcntl(
            file,
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
        )
        .unwrap();
    }
    let look = looking("").run().ok();
    let look = Look::find(&look).unwrap();
    assert_eq!(
        look.descriptors.keys().copied().collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!(look.descriptors[&0], "/dev/null");
}

#[test]
fn the_system_is_read_only_and_tmp_is_private() {
    let look = default_cell();
    for path in [
        "/usr/touched",
        "/etc/touched",
        "/touched",
        "/dev/touched",
        "/sys/touched",
    ] {
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
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
    ] {
        let answer = look.attempt(&format!("write {path}"));
        assert!(
            ["EROFS", "EACCES", "ENOENT"].contains(&answer),
            "{path}: {answer}"
        );
    }
    assert_eq!(look.readable["/etc/shadow"], "EACCES");
}

#[test]
fn dev_is_minimal_and_works() {
    let names = [
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    ];
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
        assert!(
            ["EPERM", "ENOSYS", "EAFNOSUPPORT", "EACCES"].contains(&answer),
            "{name}: {answer}"
        );
    }
    assert_eq!(look.attempt("unknown call"), "ENOSYS");
    for name in ["socket INET", "socket UNIX", "socket NETLINK ROUTE"] {
        assert_eq!(look.attempt(name), "ok", "{name}");
    }
}

#[test]
fn a_granted_capability_works_on_what_is_the_cells() {
    let granted = support::look("[security]\ncaps = [\"CAP_NET_BIND_SERVICE\"]\n");
    assert_eq!(granted.status("CapEff"), "0000000000000400");
    assert_eq!(granted.status("CapBnd"), "0000000000000400");
    assert_eq!(granted.attempt("bind 127.0.0.1:80"), "ok");
}

#[test]
fn root_inside_is_nobody_outside() {
    let look = support::look("[user]\nuser = 0\n");
    assert_eq!(look.ids, [0; 6]);
    assert_eq!(look.status("CapEff"), "0000000000000000");
    assert_eq!(look.readable["/etc/shadow"], "EACCES");
    assert_eq!(look.attempt("umount /proc"), "EPERM");
    assert_eq!(look.attempt("mount tmpfs"), "EPERM");
}

#[test]
fn a_root_with_every_capability_still_cannot_touch_its_walls() {
    let look = support::look(
        "[user]\nuser = 0\n[security]\ncaps = [\"all\"]\n[seccomp]\npolicy = \"off\"\n",
    );
    // The mount, pid and cgroup namespaces are the host's.
    for name in ["umount /proc", "mount tmpfs", "mknod /tmp/null"] {
        assert_eq!(look.attempt(name), "EPERM", "{name}");
    }
    for path in ["/usr/touched", "/dev/touched", "/sys/touched"] {
        assert_eq!(look.attempt(&format!("create {path}")), "EROFS", "{path}");
    }
    let answer = look.attempt("write /proc/sys/kernel/core_pattern");
    assert!(["EROFS", "EACCES"].contains(&answer), "{answer}");
    // The host name is the cell's own.
    assert_eq!(look.attempt("sethostname"), "ok");
}

#[test]
fn a_failed_step_says_which_and_why() {
    let failing = |exec: &str, rest: &str| {
        Cell::new(&format!("[service]\n{exec}\n{rest}"))
            .run()
            .refused()
    };
    let said = failing("exec = [\"/no/such/program\"]", "");
    assert!(
        said.contains("execute /no/such/program") && said.contains("ENOENT"),
        "{said}"
    );
    let said = failing(
        "exec = [\"no-such-program\"]",
        "[env]\nset = { PATH = \"/nowhere:/usr/bin\" }",
    );
    assert!(
        said.contains("execute no-such-program") && said.contains("ENOENT"),
        "{said}"
    );
    let said = failing("exec = [\"/etc/passwd\"]", "");
    assert!(
        said.contains("execute /etc/passwd") && said.contains("EACCES"),
        "{said}"
    );
    let said = failing("exec = [\"true\"]\nworking-dir = \"/nowhere\"", "");
    assert!(
        said.contains("/nowhere") && said.contains("ENOENT"),
        "{said}"
    );
    let said = failing(
        "exec = [\"true\"]",
        "[[mount]]\nsource = \"/no/source\"\ntarget = \"/run/x\"\n",
    );
    assert!(
        said.contains("/no/source") && said.contains("ENOENT"),
        "{said}"
    );
    let said = failing(
        "exec = [\"true\"]",
        "[[mount]]\nsource = \"/usr\"\ntarget = \"/no/target\"\n",
    );
    assert!(
        said.contains("/no/target") && said.contains("ENOENT"),
        "{said}"
    );
}

#[test]
fn a_file_tree_of_its_own_is_the_root() {
    let tree = rootfs();
    let rest = format!("[rootfs]\npath = {:?}\n", tree.path());
    let script = "ls /; touch /x; echo $?; ls /dev/null /proc/1/status; touch /tmp/x && echo tmp";
    let output = shell(script, &rest).run().ok();
    assert!(
        output.starts_with("bin\ndev\netc\nmnt\nproc\nrun\nsys\ntmp\nvar\n"),
        "{output}"
    );
    assert!(
        output.contains("Read-only file system\n1\n") && output.ends_with("tmp\n"),
        "{output}"
    );
}

/// CVE-2019-16884, CVE-2023-27561, CVE-2026-41579: an image in which a kernel tree is a symbolic link.
#[test]
fn a_symbolic_link_for_proc_dev_or_sys_is_refused() {
    for (name, kind) in [("proc", "proc"), ("dev", "/dev"), ("sys", "/sys")] {
        let tree = rootfs();
        fs::remove_dir(tree.path().join(name)).unwrap();
        fs::create_dir(tree.path().join("fake")).unwrap();
        symlink("/fake", tree.path().join(name)).unwrap();
        let unit = support::unit(&format!(
            "[service]\nexec = [\"/bin/sh\", \"-c\", \"true\"]\n[rootfs]\npath = {:?}\n",
            tree.path()
        ));
        // The planner may refuse already; if it does not look, the kernel does.
        let mut facts = support::facts(&unit);
        for tree in &mut facts.trees {
            tree.mount_points = cellinit::plan::MOUNT_POINTS
                .iter()
                .map(ToString::to_string)
                .collect();
        }
        let given = cellinit::plan::Given::from(cellinit::plan::Slot { index: 7 });
        let plan = cellinit::plan::build(&unit, &facts, &given).unwrap();
        let said = Cell::planned(plan).run().refused();
        assert!(
            said.contains(kind) && said.contains("ELOOP"),
            "{name}: {said}"
        );
        assert_eq!(fs::read_dir(tree.path().join("fake")).unwrap().count(), 0);
    }
}

/// CVE-2018-19837's and CVE-2026-87766's class: links in an image that lead out stay inside.
#[test]
fn a_link_on_the_way_to_a_mount_target_stays_in_the_root() {
    let canary = tempfile::tempdir_in(support::run_dir()).unwrap();
    let tree = rootfs();
    symlink(canary.path(), tree.path().join("out")).unwrap();
    symlink("../../../../../../../..", tree.path().join("up")).unwrap();
    symlink("/proc/1/root", tree.path().join("magic")).unwrap();
    let path = canary.path().to_str().unwrap();
    for target in ["/out/x", "/up/run/y", "/magic/z"] {
        let rest = format!(
            "[rootfs]\npath = {:?}\n[[mount]]\nsource = \"/usr/share\"\ntarget = {target:?}\n",
            tree.path()
        );
        // Whether it starts or is refused, nothing appears outside.
        let _ = shell("true", &rest).run();
        assert_eq!(fs::read_dir(path).unwrap().count(), 0, "{target}");
    }
    assert!(!fs::exists("/run/y").unwrap());
}

/// CVE-2025-31133: masks are the host's null device whatever an image calls so.
#[test]
fn a_mask_is_never_a_null_device_of_the_image() {
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let tree = rootfs();
    symlink(
        "/proc/sys/kernel/core_pattern",
        tree.path().join("dev/null"),
    )
    .unwrap();
    let rest = format!("[rootfs]\npath = {:?}\n", tree.path());
    let script = "ls -l /proc/timer_list /dev/null | cut -c1; echo evil > /proc/timer_list; echo evil > /dev/null; \
                  wc -c < /proc/timer_list";
    let output = shell(script, &rest).run().ok();
    assert!(
        output.starts_with("c\nc\n") && output.ends_with("0\n"),
        "{output}"
    );
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(),
        before
    );
}

/// CVE-2024-21626: a working directory through a descriptor that leads out.
#[test]
fn a_working_directory_behind_a_descriptor_is_refused() {
    let _leaked: Vec<_> = (0..20)
        .map(|_| fs::File::open("/sys/fs/cgroup").unwrap())
        .collect();
    for number in (3..40).chain([1023]) {
        let text =
            format!("[service]\nexec = [\"pwd\"]\nworking-dir = \"/proc/self/fd/{number}\"\n");
        let said = Cell::new(&text).run().refused();
        assert!(
            said.contains("ELOOP") || said.contains("ENOENT"),
            "{number}: {said}"
        );
    }
}

/// CVE-2019-5736: the program that sets a cell up is not to be had from inside.
#[test]
fn the_setup_program_cannot_be_overwritten() {
    let program = std::env::current_exe().unwrap();
    let before = fs::metadata(&program).unwrap();
    let tree = rootfs();
    fs::write(tree.path().join("bin/evil"), "#!/proc/self/exe\n").unwrap();
    let mut mode = fs::metadata(tree.path().join("bin/evil"))
        .unwrap()
        .permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(tree.path().join("bin/evil"), mode).unwrap();
    let text = format!(
        "[service]\nexec = [\"/bin/evil\"]\n[rootfs]\npath = {:?}\n",
        tree.path()
    );
    let _ = Cell::new(&text).run();
    let look = default_cell();
    let answer = look.attempt("write /proc/self/exe");
    assert!(["EROFS", "EACCES", "ETXTBSY"].contains(&answer), "{answer}");
    let after = fs::metadata(&program).unwrap();
    assert_eq!(
        (before.len(), before.modified().unwrap()),
        (after.len(), after.modified().unwrap())
    );
}

/// CVE-2021-30465: a directory on the way to a mount target is exchanged for a link while the cell is made.
#[test]
fn a_target_exchanged_for_a_link_never_shows_the_host() {
    const ROUNDS: u32 = 200;
    let canary = tempfile::tempdir_in(support::run_dir()).unwrap();
    let tree = rootfs();
    let shared = tree.path().join("mnt");
    fs::create_dir_all(shared.join("real/data")).unwrap();
    symlink(canary.path(), shared.join("link")).unwrap();
    fs::create_dir(canary.path().join("data")).unwrap();
    let stop = AtomicBool::new(false);
    let mut outcomes = Vec::new();
    let rest = format!(
        "[rootfs]\npath = {:?}\n[[mount]]\nsource = \"/usr/share/common-licenses\"\ntarget = \"/mnt/real/data\"\n",
        tree.path()
    );
    let cell = shell("ls /mnt/real/data | head -1", &rest);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
            let dir = fs::File::open(&shared).unwrap();
            while !stop.load(Ordering::Relaxed) {
                nix::fcntl::renameat2(&dir, "real", &dir, "link", flags).unwrap();
            }
        });
        outcomes.extend((0..ROUNDS).map(|_| cell.run()));
        stop.store(true, Ordering::Relaxed);
    });
    // It starts or it is refused: where the link points to there is nothing inside the root.
    for outcome in outcomes {
        if let Some((_, words)) = &outcome.failed {
            assert!(words.contains("ENOENT"), "{words}");
        }
    }
    assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(canary.path().join("data")).unwrap().count(), 0);
}

#[test]
fn a_directory_granted_for_writing_can_be_written_and_stays_its_owners() {
    use std::os::unix::fs::MetadataExt;
    // On a disk, and on a tmpfs: Linux 6.3 brought idmapped mounts to the latter.
    for parent in [env!("CARGO_TARGET_TMPDIR"), "/dev/shm"] {
        let host = tempfile::tempdir_in(parent).unwrap();
        std::os::unix::fs::chown(host.path(), Some(1234), Some(4321)).unwrap();
        let bind = |writable: bool| {
            format!(
                "[[mount]]\nsource = {:?}\ntarget = \"/run/data\"\nwritable = {writable}\n",
                host.path()
            )
        };
        let script =
            "stat -c %u:%g /run/data; echo x > /run/data/file; stat -c %u:%g /run/data/file";
        let output = shell(script, &bind(true)).run().ok();
        assert_eq!(output, "61184:61184\n61184:61184\n", "{parent}");
        let file = fs::metadata(host.path().join("file")).unwrap();
        assert_eq!((file.uid(), file.gid()), (1234, 4321), "{parent}");
        let output = shell("echo y > /run/data/file; cat /run/data/file", &bind(false))
            .run()
            .ok();
        assert!(
            output.contains("Read-only file system") && output.ends_with("x\n"),
            "{output}"
        );
    }
}

#[test]
fn state_and_runtime_directories_are_the_units_own() {
    let script = "echo kept > $STATE_DIRECTORY/f && cat /var/lib/tests/f && echo r > $RUNTIME_DIRECTORY/f \
                  && stat -c %u /var/lib/tests /run/tests && ls /var/lib; touch /var/lib/x";
    let output = shell(
        script,
        "[dirs]\nstate = [\"tests\"]\nruntime = [\"tests\"]\n",
    )
    .run()
    .output;
    assert!(
        output.starts_with("kept\n61184\n61184\ntests\n"),
        "{output}"
    );
    assert!(output.contains("Read-only file system"), "{output}");
}

#[test]
fn limits_and_the_oom_score_are_set() {
    let rest = "[limits]\nnofile = 64\ncore = 0\nfile-size = \"1MiB\"\n[oom]\nscore = 700\n";
    let script = "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; umask; \
                  head -c 2000000 /dev/zero > /tmp/big; stat -c %s /tmp/big";
    let output = shell(script, rest).run().ok();
    assert!(output.starts_with("64\n64\n0\n700\n0022\n"), "{output}");
    assert!(output.contains("1048576\n"), "{output}");
}

#[test]
fn a_strict_cell_has_an_empty_root() {
    let rest = "[isolation]\nprofile = \"strict\"\n[[mount]]\nsource = \"/bin/busybox\"\ntarget = \"/bin/busybox\"\nexec = true\n";
    let text = format!(
        "[service]\nexec = [\"/bin/busybox\", \"sh\", \"-c\", \"busybox ls -1 /; busybox touch /x /bin/x; busybox ls -1 /bin\"]\n{rest}"
    );
    let output = Cell::new(&text).run().output;
    let expected = ["bin", "dev", "proc", "run", "sys", "tmp", "var"];
    assert_eq!(
        output
            .lines()
            .filter(|l| !l.contains("Read-only"))
            .collect::<Vec<_>>(),
        [&expected[..], &["busybox"]].concat()
    );
    assert_eq!(
        output.matches("Read-only file system").count(),
        2,
        "{output}"
    );
}

#[test]
fn every_mount_is_the_cells_own_or_read_only() {
    let look = default_cell();
    let own = ["proc", "tmpfs", "devpts"];
    for (point, options, kind) in &look.mounts {
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        assert!(
            has("ro") || own.contains(&kind.as_str()),
            "{point} {options} {kind}"
        );
        assert!(has("nosuid"), "{point} {options}");
        // A masked file is the host's null device.
        let devices = point.starts_with("/dev") || kind == "devtmpfs";
        assert!(has("nodev") || devices, "{point} {options}");
    }
}

#[test]
fn a_writable_root_is_written_by_its_owner_alone() {
    let tree = rootfs();
    let rest = format!("[rootfs]\npath = {:?}\nwritable = true\n", tree.path());
    let script = "echo x > /etc/file && echo written";
    let output = shell(script, &rest).run().output;
    assert!(
        output.contains("Permission denied"),
        "a stranger wrote: {output}"
    );
    // What is on the disk belongs to ids of the cell's own range.
    let owner = cellinit::plan::ID_BASE + 7 * cellinit::plan::ID_RANGE + 61184;
    std::os::unix::fs::chown(tree.path().join("etc"), Some(owner), Some(owner)).unwrap();
    assert_eq!(shell(script, &rest).run().ok(), "written\n");
    assert_eq!(
        fs::read_to_string(tree.path().join("etc/file")).unwrap(),
        "x\n"
    );
}

/// CVE-2022-29162: file capabilities and set-user-id bits in an image raise nothing.
#[test]
fn marks_on_a_program_give_no_privilege() {
    use std::os::unix::fs::PermissionsExt;
    let tree = rootfs();
    let marked = tree.path().join("bin/busybox-marked");
    fs::copy("/bin/busybox", &marked).unwrap();
    fs::set_permissions(&marked, fs::Permissions::from_mode(0o6755)).unwrap();
    // struct vfs_cap_data, version 2, effective: cap_net_raw is permitted and inheritable.
    let capability: [u32; 5] = [0x0200_0001, 1 << 13, 1 << 13, 0, 0];
    let bytes: Vec<u8> = capability
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let path = std::ffi::CString::new(marked.to_str().unwrap()).unwrap();
    // SAFETY: every pointer is to live memory of the said length.
    let set = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
        )
    };
    assert_eq!(set, 0);
    for seccomp in ["default", "off"] {
        let text = format!(
            "[service]\nexec = [\"/bin/busybox-marked\", \"sh\", \"-c\", \"/bin/busybox-marked grep -E '^(Cap|Uid)' /proc/self/status\"]\n\
             [rootfs]\npath = {:?}\n[seccomp]\npolicy = {seccomp:?}\n",
            tree.path()
        );
        let output = Cell::new(&text).run().ok();
        assert_eq!(output.matches("0000000000000000").count(), 5, "{output}");
        assert!(
            output.contains("Uid:\t61184\t61184\t61184\t61184"),
            "{output}"
        );
    }
}

/// The namespaces that a unit shares with the host by its own word are shared, and only those.
#[test]
fn what_is_asked_to_be_the_hosts_is_the_hosts() {
    let host: BTreeMap<_, _> = support::look::links("/proc/self/ns").into_iter().collect();
    let look =
        support::look("[isolation]\nuts = \"host\"\nipc = \"host\"\n[network]\nmode = \"host\"\n");
    for name in ["uts", "ipc", "net"] {
        assert_eq!(look.namespaces[name], host[name], "{name}");
    }
    for name in ["user", "mnt", "pid", "cgroup"] {
        assert_ne!(look.namespaces[name], host[name], "{name}");
    }
}

#[test]
fn a_unit_without_isolation_runs_as_the_host_does() {
    let output = shell(
        "id -u; readlink /proc/self/ns/mnt /proc/self/ns/user /proc/self/ns/pid",
        "[isolation]\nprofile = \"none\"\n",
    );
    let host = ["mnt", "user", "pid"].map(|name| {
        fs::read_link(format!("/proc/self/ns/{name}"))
            .unwrap()
            .display()
            .to_string()
    });
    assert_eq!(output.run().ok(), format!("0\n{}\n", host.join("\n")));
}
