//! What a unit asks for and gets; and what it cannot get is said.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::support;
use crate::support::{Cell, rootfs, shell};

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
    let look = support::look("[user]\nuser = 0\n[security]\ncaps = [\"all\"]\n[seccomp]\npolicy = \"off\"\n");
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
fn a_directory_granted_for_writing_can_be_written_and_stays_its_owners() {
    use std::os::unix::fs::MetadataExt;
    // On a disk, and on a tmpfs: Linux 6.3 brought idmapped mounts to the latter.
    for parent in [env!("CARGO_TARGET_TMPDIR"), "/dev/shm"] {
        let host = tempfile::tempdir_in(parent).unwrap();
        std::os::unix::fs::chown(host.path(), Some(1234), Some(4321)).unwrap();
        let bind = |writable: bool| format!("[[mount]]\nsource = {:?}\ntarget = \"/run/data\"\nwritable = {writable}\n", host.path());
        let script = "stat -c %u:%g /run/data; echo x > /run/data/file; stat -c %u:%g /run/data/file";
        let output = shell(script, &bind(true)).run().ok();
        assert_eq!(output, "61184:61184\n61184:61184\n", "{parent}");
        let file = fs::metadata(host.path().join("file")).unwrap();
        assert_eq!((file.uid(), file.gid()), (1234, 4321), "{parent}");
        let output = shell("echo y > /run/data/file; cat /run/data/file", &bind(false)).run().ok();
        assert!(output.contains("Read-only file system") && output.ends_with("x\n"), "{output}");
    }
}

#[test]
fn where_no_owner_can_be_mapped_a_grant_for_writing_is_refused_unless_it_needs_none() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let host = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // ramfs has no idmapped mounts, as tmpfs before Linux 6.3.
    let ramfs = Command::new("mount").args(["-t", "ramfs", "none"]).arg(host.path()).status().unwrap();
    if !ramfs.success() {
        return;
    }
    let bind = |rest: &str| format!("{rest}[[mount]]\nsource = {:?}\ntarget = \"/run/data\"\nwritable = true\n", host.path());
    let script = "echo x > /run/data/file && cat /run/data/file";
    chown(host.path(), Some(1234), Some(4321)).unwrap();
    let refused = shell(script, &bind("")).run().refused();
    let best_effort = shell(script, &bind("[isolation]\nenforce = \"best-effort\"\n")).run().output;
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let written = shell(script, &bind("")).run();
    Command::new("umount").arg(host.path()).status().unwrap();
    assert!(refused.contains("has no id-mapped mounts; make") && refused.contains("writable for uid"), "{refused}");
    assert!(best_effort.contains("Permission denied"), "{best_effort}");
    assert_eq!(written.ok(), "x\n");
}

#[test]
fn state_and_runtime_directories_are_the_units_own() {
    let script = "echo kept > $STATE_DIRECTORY/f && cat /var/lib/tests/f && echo r > $RUNTIME_DIRECTORY/f \
                  && stat -c %u /var/lib/tests /run/tests && ls /var/lib; touch /var/lib/x";
    let output = shell(script, "[dirs]\nstate = [\"tests\"]\nruntime = [\"tests\"]\n").run().output;
    assert!(output.starts_with("kept\n61184\n61184\ntests\n"), "{output}");
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
    assert_eq!(output.lines().filter(|l| !l.contains("Read-only")).collect::<Vec<_>>(), [&expected[..], &["busybox"]].concat());
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
}

#[test]
fn a_file_tree_of_its_own_is_the_root() {
    let tree = rootfs();
    let rest = format!("[rootfs]\npath = {:?}\n", tree.path());
    let script = "ls /; touch /x; echo $?; ls /dev/null /proc/1/status; touch /tmp/x && echo tmp";
    let output = shell(script, &rest).run().ok();
    assert!(output.starts_with("bin\ndev\netc\nmnt\nproc\nrun\nsys\ntmp\nvar\n"), "{output}");
    assert!(output.contains("Read-only file system\n1\n") && output.ends_with("tmp\n"), "{output}");
}

#[test]
fn a_writable_root_is_written_as_its_owner_and_its_files_stay_on_the_disk_as_they_are() {
    use std::os::unix::fs::{MetadataExt, chown};
    let tree = rootfs();
    let range = cellinit::plan::ID_BASE + 7 * cellinit::plan::ID_RANGE;
    chown(tree.path().join("mnt"), Some(33), Some(34)).unwrap();
    let script = "stat -c %u:%g / /etc /mnt; echo x > /etc/file; touch /x && stat -c %u:%g /x";
    let check = |user: &str, owner: (u32, u32), expected: &str| {
        for path in ["", "etc"] {
            chown(tree.path().join(path), Some(owner.0), Some(owner.1)).unwrap();
        }
        let rest = format!("[rootfs]\npath = {:?}\nwritable = true\n{user}", tree.path());
        assert_eq!(shell(script, &rest).run().ok(), expected, "{user} {owner:?}");
        let file = fs::metadata(tree.path().join("x")).unwrap();
        assert_eq!((file.uid(), file.gid()), owner, "{user}");
        ["x", "etc/file"].iter().for_each(|file| fs::remove_file(tree.path().join(file)).unwrap());
    };
    check("", (0, 0), "61184:61184\n61184:61184\n33:34\n61184:61184\n");
    check("[user]\nuser = 0\n", (0, 0), "0:0\n0:0\n33:34\n0:0\n");
    check("[user]\nuser = 0\n", (100_000, 100_000), "0:0\n0:0\n33:34\n0:0\n");
    // Given to the cell: other owners are strangers then.
    check("", (range + 61184, range + 61184), "61184:61184\n61184:61184\n65534:65534\n61184:61184\n");
}

#[test]
fn a_writable_root_that_cannot_be_mapped_is_refused() {
    let tree = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ramfs = Command::new("mount").args(["-t", "ramfs", "none"]).arg(tree.path()).status().unwrap();
    if !ramfs.success() {
        return;
    }
    fs::create_dir(tree.path().join("proc")).unwrap();
    fs::create_dir(tree.path().join("dev")).unwrap();
    let refused = shell("true", &format!("[rootfs]\npath = {:?}\nwritable = true\n", tree.path())).run().refused();
    Command::new("umount").arg(tree.path()).status().unwrap();
    assert!(refused.contains("has no id-mapped mounts; make") && refused.contains("writable for uid"), "{refused}");
}

/// The namespaces that a unit shares with the host by its own word are shared, and only those.
#[test]
fn what_is_asked_to_be_the_hosts_is_the_hosts() {
    let host: BTreeMap<_, _> = support::look::links("/proc/self/ns").into_iter().collect();
    let look = support::look("[isolation]\nuts = \"host\"\nipc = \"host\"\n[network]\nmode = \"host\"\n");
    for name in ["uts", "ipc", "net"] {
        assert_eq!(look.namespaces[name], host[name], "{name}");
    }
    for name in ["user", "mnt", "pid", "cgroup"] {
        assert_ne!(look.namespaces[name], host[name], "{name}");
    }
}

#[test]
fn a_unit_without_isolation_runs_as_the_host_does() {
    let output = shell("id -u; readlink /proc/self/ns/mnt /proc/self/ns/user /proc/self/ns/pid", "[isolation]\nprofile = \"none\"\n");
    let host = ["mnt", "user", "pid"].map(|name| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string());
    assert_eq!(output.run().ok(), format!("0\n{}\n", host.join("\n")));
}

#[test]
fn a_failed_step_says_which_and_why() {
    let failing = |exec: &str, rest: &str| Cell::new(&format!("[service]\n{exec}\n{rest}")).run().refused();
    let said = failing("exec = [\"/no/such/program\"]", "");
    assert!(said.contains("execute /no/such/program") && said.contains("ENOENT"), "{said}");
    let said = failing("exec = [\"no-such-program\"]", "[env]\nset = { PATH = \"/nowhere:/usr/bin\" }");
    assert!(said.contains("execute no-such-program") && said.contains("ENOENT"), "{said}");
    let said = failing("exec = [\"/etc/passwd\"]", "");
    assert!(said.contains("execute /etc/passwd") && said.contains("EACCES"), "{said}");
    let said = failing("exec = [\"true\"]\nworking-dir = \"/nowhere\"", "");
    assert!(said.contains("/nowhere") && said.contains("ENOENT"), "{said}");
    let said = failing("exec = [\"true\"]", "[[mount]]\nsource = \"/no/source\"\ntarget = \"/run/x\"\n");
    assert!(said.contains("/no/source") && said.contains("ENOENT"), "{said}");
    let said = failing("exec = [\"true\"]", "[[mount]]\nsource = \"/usr\"\ntarget = \"/no/target\"\n");
    assert!(said.contains("/no/target") && said.contains("ENOENT"), "{said}");
}

#[test]
fn a_program_without_walls_can_be_without_capabilities() {
    let capabilities = |rest: &str| {
        let output =
            shell("grep -E '^Cap(Prm|Eff|Bnd|Amb)' /proc/self/status", &format!("[isolation]\nprofile = \"none\"\n{rest}")).run().ok();
        output.lines().map(|line| u64::from_str_radix(line.split_once(':').unwrap().1.trim(), 16).unwrap()).collect::<Vec<_>>()
    };
    assert_ne!(capabilities("")[1], 0);
    assert_eq!(capabilities("[security]\ncaps = []\n"), [0, 0, 0, 0]);
    let kill = 1 << 5;
    assert_eq!(capabilities("[user]\nuser = 1234\n[security]\ncaps = [\"CAP_KILL\"]\n"), [kill; 4]);
}
