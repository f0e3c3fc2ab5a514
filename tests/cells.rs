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
