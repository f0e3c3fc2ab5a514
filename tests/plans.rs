//! What a unit becomes on a host: whole plans as `cell plan` prints them, and what a host is told that it cannot do.

use std::path::{Path, PathBuf};

use cellinit::plan::{
    self, CgroupFacts, Facts, Given, HostGroup, HostUser, MOUNT_POINTS, Plan, Report, RootFacts, SelinuxFacts, Slot, Step, Tree,
};
use cellinit::unit::{self, Enforce, Unit};

/// The plan of `text` is the one in `tests/snapshots`.
fn check(name: &str, facts: &Facts, text: &str) {
    snapshot(name, &build(text, facts).unwrap_or_else(|error| panic!("{error}")));
}

fn snapshot(name: &str, plan: &Plan) {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, plan));
}

#[test]
fn plans() {
    check("smallest", &modern(), "[service]\nexec = ['/usr/bin/my-server', '--port', '8080']");
    check(
        "smallest-on-v1",
        &hybrid(),
        "[service]\nexec = ['my-server']\n[resources]\nmemory = { max = '64MiB', low = '1MiB' }\ncpu = { max = '150%', weight = 200 }",
    );
    check(
        "everything",
        &selinux(),
        r#"
        [unit]
        description = "Says all that a native unit can say"
        [service]
        exec = ["server", "--name", "it's"]
        type = "notify"
        working-dir = "/var/lib/db"
        umask = "0027"
        [env]
        set = { LANG = "C.UTF-8", HOME = "/var/lib/db" }
        files = ["/etc/default/db", "?/etc/default/db.local"]
        [user]
        user = "www-data"
        group = "adm"
        [watchdog]
        timeout = "5s"
        [isolation]
        hostname = "db"
        [[mount]]
        source = "/srv/www/static"
        target = "/srv/www/static"
        [[mount]]
        source = "/srv/data"
        target = "/home/data"
        writable = true
        exec = false
        [[mount]]
        type = "tmpfs"
        target = "/srv/www"
        size = "8MiB"
        writable = false
        [dirs]
        state = "db"
        runtime = ["db", "db-admin"]
        [security]
        caps = ["CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT"]
        [seccomp]
        allow = ["@keyring"]
        deny = ["@aio"]
        errno = "EACCES"
        [resources]
        cpu = { max = "50%", weight = 50 }
        memory = { high = "96MiB", max = "128MiB", low = "16MiB" }
        pids = { max = 20 }
        io = { weight = 500 }
        [limits]
        nofile = "256:4096"
        core = 0
        [oom]
        score = -100
        [[socket]]
        listen = "tcp://127.0.0.1:5432"
        name = "db"
        [[socket]]
        listen = "unix:///run/db.sock"
        name = "local"
        "#,
    );
    check("profile-none", &modern(), "[service]\nexec = ['/bin/true']\n[isolation]\nprofile = 'none'");
    check("profile-host", &selinux(), "[service]\nexec = ['/bin/true']\n[isolation]\nprofile = 'host'\n[dirs]\nstate = 'x'");
    check(
        "profile-strict",
        &modern(),
        "[service]\nexec = ['/app/server']\n[isolation]\nprofile = 'strict'\n[[mount]]\nsource = '/srv/app'\ntarget = '/app'",
    );
    check("host-network", &modern(), "[service]\nexec = ['/bin/server']\n[network]\nmode = 'host'");
    check(
        "tree-of-its-own",
        &modern(),
        "[service]\nexec = ['/bin/server']\n[rootfs]\npath = '/srv/tree'\nwritable = true\n[user]\nuser = 'root'",
    );
    check("user-namespace-of-the-host", &modern(), "[service]\nexec = ['/bin/server']\n[isolation]\nuser = 'host'\n[user]\nuser = 33");
    check("filter-off", &modern(), "[service]\nexec = ['/bin/server']\n[seccomp]\npolicy = 'off'");
    check("wasm-command", &modern(), "[unit]\nkind = 'job'\n[wasm]\nmodule = '/usr/lib/cells/hello.wasm'\nargs = ['from', 'here']");
    check(
        "wasm-server",
        &selinux(),
        r#"
        [[socket]]
        listen = "tcp://0.0.0.0:8080"
        [wasm]
        module = "/usr/lib/cells/greet.wasm"
        limits = { memory = "32MiB", deadline = "10s", fuel = 1000000, request-timeout = "2s" }
        [wasm.env]
        set = { GREETING = "hello" }
        [[wasm.dir]]
        host = "/srv/pages"
        guest = "/pages"
        [[wasm.dir]]
        host = "/srv/uploads"
        guest = "/uploads"
        writable = true
        "#,
    );
    check(
        "best-effort",
        &hybrid(),
        "[service]\nexec = ['/bin/server']\n[isolation]\nenforce = 'best-effort'\n[resources]\nmemory = { high = '1MiB' }\nio = { weight = 10 }\n[selinux]\ntype = 'web_t'\n[limits]\nnofile = 100000",
    );
}

#[test]
fn other_plans() {
    let unit = unit("[service]\nexec = ['/bin/server']\ntype = 'notify'\n[dirs]\nruntime = 'web'");
    let probe = plan::build_probe(&unit, &modern(), &given(), &["check".to_string(), "--fast".to_string()]);
    snapshot("probe", &probe.unwrap());
    let module = Path::new("/usr/lib/cells/hello.wasm");
    snapshot("digest", &plan::build_digest("hello", module, true, &hybrid(), &given()).unwrap());
    snapshot("compile", &plan::build_compile("hello", false, &selinux(), &given()).unwrap());
}

#[test]
fn what_a_host_cannot_do_is_refused() {
    let bare = Facts { cgroup: CgroupFacts { v2_controllers: vec![], ..modern().cgroup }, ..modern() };
    let check = |facts: &Facts, section: &str, key: &str, reason: &str| {
        let text = format!("[service]\nexec = ['/bin/true']\n{section}");
        match build(&text, facts) {
            Ok(plan) => panic!("{section} is planned:\n{plan}"),
            Err(error) => assert!(error.key == key && error.to_string().contains(reason), "{error}"),
        }
        let all = plan::check(&unit(&text), facts, &given());
        assert!(all.iter().any(|error| error.key == key && error.to_string().contains(reason)), "{all:?}");
        // With the best effort it is left out, and said; a word that means nothing never is.
        let mut unit = unit(&text);
        unit.isolation.enforce = Enforce::BestEffort;
        let effort = plan::build(&unit, facts, &given());
        let negotiable = ["resources", "selinux", "limits", "oom", "security"].iter().any(|table| key.starts_with(table));
        match effort {
            Ok(plan) => assert!(negotiable && plan.left_out.iter().any(|line| line.starts_with(key)), "{plan}"),
            Err(error) => assert!(!negotiable, "{error}"),
        }
    };
    check(&bare, "[resources]\nmemory = { max = '1MiB' }", "resources.memory.max", "no cgroup controller for memory");
    check(&bare, "[resources]\ncpu = { max = '50%' }", "resources.cpu.max", "no cgroup controller for cpu");
    check(&bare, "[resources]\npids = { max = 10 }", "resources.pids.max", "no cgroup controller for pids");
    check(&hybrid(), "[resources]\nmemory = { high = '1MiB' }", "resources.memory.high", "cgroup v1 has no such limit");
    check(&hybrid(), "[resources]\nio = { weight = 10 }", "resources.io.weight", "takes weights");
    check(&modern(), "[selinux]\ntype = 'web_t'", "selinux.type", "without SELinux");
    check(&modern(), "[selinux]\nlevel = 's0:c1'", "selinux.level", "without SELinux");
    check(&hybrid(), "[limits]\nnofile = 100000", "limits.nofile", "above this host's 20000");
    check(&hybrid(), "[oom]\nscore = -1", "oom.score", "CAP_SYS_RESOURCE");
    check(&modern(), "[user]\nuser = 'www-dta'", "user.user", "did you mean www-data?");
    check(&modern(), "[user]\ngroup = 'amd'", "user.group", "did you mean adm?");
    check(&modern(), "[user]\nuser = 'far'", "user.user", "outside of the cell's ids, 0 to 65535");
    check(&modern(), "[user]\nuser = 'www-data'\n[rootfs]\npath = '/srv/tree'", "user.user", "say the number");
    check(&modern(), "[rootfs]\npath = '/srv/tree'\n[dirs]\nstate = 'x'", "rootfs.path", "there is no directory /var/lib");
    check(&modern(), "[rootfs]\npath = '/srv/bare'", "rootfs.path", "mkdir /srv/bare/proc");
    check(&modern(), "[seccomp]\ndeny = ['execve']", "seccomp.deny", "needed to start");
    check(
        &hybrid(),
        "[isolation]\nuser = 'host'\n[security]\ncaps = ['CAP_SYS_RESOURCE']",
        "security.caps",
        "the supervisor itself has no CAP_SYS_RESOURCE",
    );
    let no_tree = Facts { cgroup: CgroupFacts { v2_mount: None, ..bare.cgroup.clone() }, ..modern() };
    check(&no_tree, "", "isolation.cgroup", "no cgroup tree is mounted");
}

#[test]
fn all_that_a_host_cannot_do_is_found_at_once() {
    let text = "[service]\nexec = ['/bin/true']\n[resources]\nmemory = { high = '1MiB' }\nio = { weight = 10 }\n[limits]\nnofile = 100000\n\
                [oom]\nscore = -1\n[selinux]\ntype = 'web_t'\nlevel = 's0'\n[seccomp]\ndeny = ['execve']\n[user]\nuser = 'root'\n\
                [rootfs]\npath = '/srv/bare'";
    let keys = |text: &str| plan::check(&unit(text), &hybrid(), &given()).into_iter().map(|fault| fault.key).collect::<Vec<_>>();
    let expected = [
        "resources.memory.high",
        "resources.io.weight",
        "oom.score",
        "limits.nofile",
        "selinux.type",
        "selinux.level",
        "seccomp.deny",
        "rootfs.path",
    ];
    assert_eq!(keys(text), expected);
    assert!(keys("[service]\nexec = ['/bin/true']").is_empty());
}

/// The units that come with cellinit, on both kinds of host.
#[test]
fn the_boot_set_is_planned() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let unit = unit::parse(&file, &text).unwrap_or_else(|faults| panic!("{}", faults[0]));
        for facts in [modern(), hybrid(), selinux()] {
            plan::build(&unit, &facts, &given()).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn a_guest_needs_its_host() {
    let facts = Facts { wasm_host: None, ..modern() };
    let error = build("[wasm]\nmodule = '/x.wasm'", &facts).unwrap_err();
    assert_eq!(error.key, "wasm.module");
}

/// No cell is made of what was not looked up: it would lack the masks.
#[test]
fn a_root_needs_what_was_found_on_the_host() {
    let facts = Facts { root: None, ..modern() };
    for text in ["[service]\nexec = ['/bin/true']", "[wasm]\nmodule = '/x.wasm'"] {
        assert_eq!(build(text, &facts).unwrap_err().key, "isolation.mount");
    }
    let wasm = unit("[wasm]\nmodule = '/x.wasm'");
    assert_eq!(plan::build_compile(&wasm.name, false, &facts, &given()).unwrap_err().key, "isolation.mount");
    assert!(build("[service]\nexec = ['/bin/true']\n[isolation]\nprofile = 'none'", &facts).is_ok());
    assert_eq!(build("[unit]\nkind = 'target'", &facts).unwrap_err().reason, "a target has nothing to execute");
}

#[test]
fn a_program_without_walls_gets_the_descriptors_that_the_supervisor_was_given() {
    let plan = build("[service]\nexec = ['/bin/true']\n[isolation]\nprofile = 'none'", &modern()).unwrap();
    assert!(plan.steps.contains(&Step::SetRlimit { resource: 7, name: "RLIMIT_NOFILE", soft: 4096, hard: 262_144 }));
}

#[test]
fn the_supervisors_own_directory_is_for_no_listener() {
    for (path, refused) in [("/run/cellinit/control.sock", true), ("/run/cellinit/x/y", true), ("/run/cellinit-x/y", false)] {
        let built = build(&format!("[service]\nexec = ['/bin/true']\n[[socket]]\nlisten = 'unix:{path}'"), &modern());
        assert_eq!(built.err().map(|error| error.key), refused.then(|| "socket[0].listen".to_string()), "{path}");
    }
}

#[test]
fn a_notify_socket_must_fit_its_address() {
    let build_in =
        |run_dir: &str| build("[service]\nexec = ['/bin/true']\ntype = 'notify'", &Facts { run_dir: PathBuf::from(run_dir), ..modern() });
    build_in("/run/cellinit").unwrap();
    let error = build_in(&format!("/run/{}", "x".repeat(100))).unwrap_err();
    assert_eq!(error.key, "unit.name");
    assert!(error.reason.contains("has at most 107"), "{error}");
}

#[test]
fn a_default_that_cannot_be_had_is_said_and_not_refused() {
    let plan = build("[service]\nexec = ['/bin/true']", &hybrid()).unwrap();
    assert!(plan.steps.contains(&Step::SetRlimit { resource: 7, name: "RLIMIT_NOFILE", soft: 1024, hard: 20_000 }));
    assert_eq!(plan.left_out, ["limits.nofile: the default 524288 is above this host's 20000, which cannot be raised from here"]);
    let bare = Facts { cgroup: CgroupFacts { v2_controllers: vec!["pids".to_string()], ..modern().cgroup }, ..modern() };
    let plan = build("[wasm]\nmodule = '/m.wasm'", &bare).unwrap();
    assert_eq!(
        (plan.cgroup.limits.memory_max, &plan.left_out[..]),
        (None, &["resources.memory.max: this host has no cgroup controller for memory".to_string()][..])
    );
}

#[test]
fn no_cell_fills_the_memory_of_a_small_machine_with_its_tmp() {
    let check = |memory: u64, expected: u64| {
        let text = "[service]\nexec = ['/bin/true']\n[[mount]]\ntarget = '/run/a'\ntype = 'tmpfs'\n\
                    [[mount]]\ntarget = '/run/b'\ntype = 'tmpfs'\nsize = '3GiB'";
        let root = modern().root.map(|root| RootFacts { memory, ..root });
        let plan = build(text, &Facts { root, ..modern() }).unwrap();
        let size_of = |wanted: &str| {
            let size = plan.steps.iter().find_map(|step| match step {
                Step::MountTmpfs { target, size, .. } if target == wanted => Some(*size),
                _ => None,
            });
            size.unwrap()
        };
        assert_eq!(["/tmp", "/var/tmp", "/run/a", "/run/b"].map(size_of), [expected, expected, expected, 3 << 30], "{memory}");
    };
    check(16 << 30, 1 << 30);
    check((512 << 20) - 12_345, 63 << 20);
    check(0, 1 << 20);
    check(u64::MAX, 1 << 30);
}

/// What every plan promises, whatever its unit says.
#[test]
fn the_order_is_the_argument() {
    let texts = [
        "[service]\nexec = ['/bin/true']",
        "[service]\nexec = ['/bin/true']\n[isolation]\nprofile = 'strict'",
        "[service]\nexec = ['/bin/true']\n[isolation]\nprofile = 'host'",
        "[service]\nexec = ['/bin/true']\n[isolation]\nuser = 'host'",
        "[wasm]\nmodule = '/x.wasm'",
    ];
    for text in texts {
        let plan = build(text, &selinux()).unwrap();
        let place = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted);
        let order = [
            place(|step| matches!(step, Step::ShieldSetup)),
            place(|step| matches!(step, Step::SetRlimit { .. })),
            place(|step| matches!(step, Step::MakeMountsPrivate)),
            place(|step| matches!(step, Step::PivotRoot)),
            place(|step| matches!(step, Step::EnterUserNamespace)),
            place(|step| matches!(step, Step::Unshare(_))),
            place(|step| matches!(step, Step::SetIds { .. })),
            place(|step| matches!(step, Step::LimitCapabilities { .. })),
            place(|step| matches!(step, Step::SetSelinuxLabel(_))),
            place(|step| matches!(step, Step::NoNewPrivileges)),
            place(|step| matches!(step, Step::InstallSeccomp(_))),
            place(|step| matches!(step, Step::Execute { .. })),
        ];
        let there: Vec<usize> = order.into_iter().flatten().collect();
        assert!(there.is_sorted(), "{plan}");
        let [.., Step::InstallSeccomp(_), Step::Execute { .. }] = plan.steps.as_slice() else { panic!("{plan}") };
    }
}

#[test]
fn cells_do_not_share_ids_or_categories() {
    let unit = unit("[service]\nexec = ['/bin/true']");
    let of = |index| {
        let plan = plan::build(&unit, &selinux(), &Given::from(Slot { index })).unwrap();
        let label = plan.steps.iter().find_map(|step| match step {
            Step::SetSelinuxLabel(label) => Some(label.clone()),
            _ => None,
        });
        (plan.user_namespace.unwrap().base, label.unwrap())
    };
    assert_eq!(of(0), (524_288, "system_u:system_r:cell_t:s0:c0,c1".to_string()));
    assert_eq!(of(1), (589_824, "system_u:system_r:cell_t:s0:c0,c2".to_string()));
    let last = plan::SLOTS - 1;
    assert!(of(last).0.checked_add(plan::ID_RANGE).is_some());
    assert!(plan::build(&unit, &selinux(), &Given::from(Slot { index: last + 1 })).is_err());
}

#[test]
fn a_report_becomes_a_sentence() {
    let check = |text: &str, wanted: fn(&Step) -> bool, errno: i32, expected: &str| {
        let plan = build(text, &modern()).unwrap();
        let step = plan.steps.iter().position(wanted).unwrap();
        let said = plan.explain(&Report { step: step as u32, errno });
        assert_eq!(said, format!("step {}, {expected}", step + 1));
    };
    let execute: fn(&Step) -> bool = |step| matches!(step, Step::Execute { .. });
    check(
        "[service]\nexec = ['serve']\n[env]\nset = { PATH = '/opt/bin:/bin' }",
        execute,
        libc::ENOENT,
        "execute serve: No such file or directory (ENOENT): not found in the cell; tried /opt/bin/serve, /bin/serve",
    );
    check(
        "[service]\nexec = ['/bin/serve']",
        execute,
        libc::ENOENT,
        "execute /bin/serve: No such file or directory (ENOENT): /bin/serve is not in the cell, or the interpreter or loader that it names is not",
    );
    check(
        "[service]\nexec = ['/bin/serve']\n[[mount]]\nsource = '/x'\ntarget = '/tmp/y'",
        |step| matches!(step, Step::Bind { target, .. } if target == "/tmp/y"),
        libc::ENOENT,
        "bind /x on /tmp/y with what is below, read-only, exec: No such file or directory (ENOENT): /x is not on the host, or its target is not in the root",
    );
    check(
        "[service]\nexec = ['/bin/serve']\n[[mount]]\nsource = '/x'\ntarget = '/tmp/y'\nwritable = true",
        |step| matches!(step, Step::Bind { target, .. } if target == "/tmp/y"),
        libc::EINVAL,
        "bind /x on /tmp/y with what is below, writable, exec, owner mapped to the unit's user: Invalid argument (EINVAL): the file system of /x has no id-mapped mounts; make /x writable for uid 716544, or say isolation.user = \"host\"",
    );
    check("[service]\nexec = ['/bin/serve']", |step| matches!(step, Step::NewSession), 4095, "start a session: errno 4095");
    let plan = build("[service]\nexec = ['/bin/serve']", &modern()).unwrap();
    let said = plan.explain(&Report { step: u32::MAX, errno: libc::EPERM });
    assert_eq!(said, "before the first step: Operation not permitted (EPERM)");
}

#[test]
fn a_plan_is_json_too() {
    let plan = build("[service]\nexec = ['/bin/true']", &modern()).unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["unit"], "web");
    assert_eq!(json["steps"][0], "new-session");
    assert_eq!(json["steps"].as_array().map(Vec::len), Some(plan.steps.len()));
}

fn unit(text: &str) -> Unit {
    unit::parse(Path::new("web.toml"), text)
        .unwrap_or_else(|faults| panic!("{}", faults.iter().map(ToString::to_string).collect::<String>()))
}

fn given() -> Given {
    Given::from(Slot { index: 2 })
}

fn build(text: &str, facts: &Facts) -> Result<Plan, plan::PlanError> {
    plan::build(&unit(text), facts, &given())
}

/// Debian 12 as it comes: cgroup v2 with everything, no SELinux, a privileged supervisor.
fn modern() -> Facts {
    let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let user = |name: &str, uid, gid, home: &str| HostUser { name: name.to_string(), uid, gid, home: home.to_string() };
    let group = |name: &str, gid| HostGroup { name: name.to_string(), gid };
    let tree = |root: &str, mount_points: &[&str]| Tree { root: PathBuf::from(root), mount_points: strings(mount_points) };
    Facts {
        cgroup: CgroupFacts {
            v2_mount: Some(PathBuf::from("/sys/fs/cgroup")),
            v2_controllers: strings(&["cpuset", "cpu", "io", "memory", "pids"]),
            v1: Vec::new(),
            io_weight: Some("io.weight".to_string()),
            slice: "cellinit.slice".to_string(),
        },
        selinux: None,
        root: Some(RootFacts {
            mounts: ["/dev", "/home", "/proc", "/sys", "/usr", "/var"].map(str::to_string).to_vec(),
            trees: vec![tree("/", MOUNT_POINTS), tree("/srv/tree", &["/proc", "/dev", "/tmp"]), tree("/srv/bare", &["/dev"])],
            hidden: strings(&["/home", "/root", "/run/cellinit", "/var/lib/cellinit", "/var/cache/cellinit", "/var/log/cellinit"]),
            masked: strings(&["/proc/kcore", "/proc/keys"]),
            readonly: strings(&["/proc/bus", "/proc/sys"]),
            memory: 16 << 30,
        }),
        users: vec![user("root", 0, 0, "/root"), user("www-data", 33, 33, "/var/www"), user("far", 70_000, 70_000, "/")],
        groups: vec![group("root", 0), group("adm", 4), group("www-data", 33)],
        rlimit_ceiling: vec![(7, 1_073_741_816)],
        nofile: (4096, 262_144),
        capabilities: (1 << 41) - 1,
        run_dir: PathBuf::from("/run/cellinit"),
        state_dir: PathBuf::from("/var/lib/cellinit"),
        wasm_host: Some(PathBuf::from("/usr/bin/cell-wasm")),
        last_capability: 40,
    }
}

/// v1 controllers beside an empty v2 tree, and a supervisor that lacks CAP_SYS_RESOURCE.
fn hybrid() -> Facts {
    let modern = modern();
    let v1 = ["cpu", "memory", "pids", "blkio"].map(|name| (name.to_string(), Path::new("/sys/fs/cgroup").join(name)));
    Facts {
        cgroup: CgroupFacts {
            v2_mount: Some(PathBuf::from("/sys/fs/cgroup/unified")),
            v2_controllers: Vec::new(),
            v1: v1.into(),
            io_weight: None,
            ..modern.cgroup
        },
        rlimit_ceiling: vec![(7, 20_000)],
        capabilities: modern.capabilities & !(1 << 24),
        ..modern
    }
}

/// The same host as `modern` with a policy loaded.
fn selinux() -> Facts {
    let label = |kind: &str| format!("system_u:system_r:{kind}");
    let selinux = SelinuxFacts {
        enforcing: true,
        native: label("cell_t"),
        wasm: label("cell_wasm_t"),
        files: "system_u:object_r:cell_file_t".to_string(),
    };
    Facts { selinux: Some(selinux), ..modern() }
}
