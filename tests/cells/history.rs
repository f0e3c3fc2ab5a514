//! What other runtimes got wrong: each test is an advisory, or a class of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::default_cell;
use crate::support;
use crate::support::{Cell, rootfs, shell};

/// CVE-2019-16884, CVE-2023-27561, CVE-2026-41579: an image in which a kernel tree is a symbolic link.
#[test]
fn a_symbolic_link_for_proc_dev_or_sys_is_refused() {
    for (name, kind) in [("proc", "proc"), ("dev", "/dev"), ("sys", "/sys")] {
        let tree = rootfs();
        fs::remove_dir(tree.path().join(name)).unwrap();
        fs::create_dir(tree.path().join("fake")).unwrap();
        symlink("/fake", tree.path().join(name)).unwrap();
        let unit = support::unit(&format!("[service]\nexec = [\"/bin/sh\", \"-c\", \"true\"]\n[rootfs]\npath = {:?}\n", tree.path()));
        // The planner may refuse already; if it does not look, the kernel does.
        let mut facts = support::facts(&unit);
        for tree in facts.root.iter_mut().flat_map(|root| &mut root.trees) {
            tree.mount_points = cellinit::plan::MOUNT_POINTS.iter().map(ToString::to_string).collect();
        }
        let given = cellinit::plan::Given::from(cellinit::plan::Slot { index: 7 });
        let plan = cellinit::plan::build(&unit, &facts, &given).unwrap();
        let said = Cell::planned(plan).run().refused();
        assert!(said.contains(kind) && said.contains("ELOOP"), "{name}: {said}");
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
        let rest = format!("[rootfs]\npath = {:?}\n[[mount]]\nsource = \"/usr/share\"\ntarget = {target:?}\n", tree.path());
        // Whether it starts or is refused, nothing appears outside.
        let _ = shell("true", &rest).run();
        assert_eq!(fs::read_dir(path).unwrap().count(), 0, "{target}");
    }
    assert!(!fs::exists("/run/y").unwrap());
}

/// Between the moment in which a unit's own directory is made and the one in which it is bound, whoever may write above it can put a
/// link in its place.
#[test]
fn no_link_in_the_place_of_an_own_directory_is_followed() {
    let victim = tempfile::tempdir_in(support::run_dir()).unwrap();
    for (kind, parent) in [("state", "state/state"), ("runtime", "runtime")] {
        let parent = support::run_dir().join(parent).join(format!("planted-{kind}"));
        fs::create_dir_all(&parent).unwrap();
        symlink(victim.path(), parent.join("own")).unwrap();
        let said = shell("true", &format!("[dirs]\n{kind} = \"planted-{kind}/own\"\n")).run().refused();
        assert!(said.contains("ELOOP"), "{kind}: {said}");
    }
}

/// CVE-2025-31133: masks are the host's null device whatever an image calls so.
#[test]
fn a_mask_is_never_a_null_device_of_the_image() {
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let tree = rootfs();
    symlink("/proc/sys/kernel/core_pattern", tree.path().join("dev/null")).unwrap();
    let rest = format!("[rootfs]\npath = {:?}\n", tree.path());
    let script = "ls -l /proc/timer_list /dev/null | cut -c1; echo evil > /proc/timer_list; echo evil > /dev/null; \
                  wc -c < /proc/timer_list";
    let output = shell(script, &rest).run().ok();
    assert!(output.starts_with("c\nc\n") && output.ends_with("0\n"), "{output}");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}

/// CVE-2024-21626: a working directory through a descriptor that leads out.
#[test]
fn a_working_directory_behind_a_descriptor_is_refused() {
    let _leaked: Vec<_> = (0..20).map(|_| fs::File::open("/sys/fs/cgroup").unwrap()).collect();
    for number in (3..40).chain([1023]) {
        let text = format!("[service]\nexec = [\"pwd\"]\nworking-dir = \"/proc/self/fd/{number}\"\n");
        let said = Cell::new(&text).run().refused();
        assert!(said.contains("ELOOP") || said.contains("ENOENT"), "{number}: {said}");
    }
}

/// CVE-2019-5736: the program that sets a cell up is not to be had from inside.
#[test]
fn the_setup_program_cannot_be_overwritten() {
    let program = std::env::current_exe().unwrap();
    let before = fs::metadata(&program).unwrap();
    let tree = rootfs();
    fs::write(tree.path().join("bin/evil"), "#!/proc/self/exe\n").unwrap();
    let mut mode = fs::metadata(tree.path().join("bin/evil")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(tree.path().join("bin/evil"), mode).unwrap();
    let text = format!("[service]\nexec = [\"/bin/evil\"]\n[rootfs]\npath = {:?}\n", tree.path());
    let _ = Cell::new(&text).run();
    let look = default_cell();
    let answer = look.attempt("write /proc/self/exe");
    assert!(["EROFS", "EACCES", "ETXTBSY"].contains(&answer), "{answer}");
    let after = fs::metadata(&program).unwrap();
    assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
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
    let rest =
        format!("[rootfs]\npath = {:?}\n[[mount]]\nsource = \"/usr/share/common-licenses\"\ntarget = \"/mnt/real/data\"\n", tree.path());
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
    for outcome in outcomes {
        match &outcome.failed {
            // Where the link points to there is nothing inside the root.
            Some((_, words)) => assert!(words.contains("ENOENT"), "{words}"),
            // The files, or the link that came later; an empty directory would say that the mount went elsewhere.
            None => assert!(!outcome.output.is_empty(), "{outcome:?}"),
        }
    }
    assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(canary.path().join("data")).unwrap().count(), 0);
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
    let bytes: Vec<u8> = capability.iter().flat_map(|word| word.to_le_bytes()).collect();
    let path = std::ffi::CString::new(marked.to_str().unwrap()).unwrap();
    // SAFETY: every pointer is to live memory of the said length.
    let set = unsafe { libc::setxattr(path.as_ptr(), c"security.capability".as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0) };
    assert_eq!(set, 0);
    for seccomp in ["default", "off"] {
        let text = format!(
            "[service]\nexec = [\"/bin/busybox-marked\", \"sh\", \"-c\", \"/bin/busybox-marked grep -E '^(Cap|Uid)' /proc/self/status\"]\n\
             [rootfs]\npath = {:?}\n[seccomp]\npolicy = {seccomp:?}\n",
            tree.path()
        );
        let output = Cell::new(&text).run().ok();
        assert_eq!(output.matches("0000000000000000").count(), 5, "{output}");
        assert!(output.contains("Uid:\t61184\t61184\t61184\t61184"), "{output}");
    }
}
