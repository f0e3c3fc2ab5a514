//! cellinit as PID 1 of a virtual machine, with Debian's kernel and cgroup v2.

#[path = "support/vm.rs"]
mod vm;

use serde_json::Value;

const BUSYBOX: &[&str] = &["--add", "/bin/busybox"];

#[test]
fn units_come_up_and_go_down_in_order() {
    let observe = format!("{}:/etc/cellinit/observe.sh", vm::scenario("plain/observe.sh").display());
    let ended = vm::boot(&vm::scenario("plain"), &["--add", "/bin/busybox", "--add", &observe]).end();
    assert!(ended.status.success(), "{}", ended.console);

    // The machine: PID 1 has one thread, the whole v2 tree, and nobody's corpse.
    assert_eq!(ended.told("pid1"), "init");
    assert_eq!(ended.told("threads"), "1");
    assert_eq!(ended.told("zombies"), "0");
    // PID 1 was ahead of everybody while the first units were put on their way, and they were not.
    assert_eq!(ended.told("nice").trim(), "0 0");
    // The kernel gives it 4,096 descriptors, and whoever has no walls none of those that it took.
    assert_eq!(ended.told("descriptors").trim(), "65536 4096");
    assert_eq!(ended.told("hostname"), "cellinit");
    let controllers = ended.told("controllers");
    assert!(["cpu", "io", "memory", "pids"].iter().all(|one| controllers.split(' ').any(|there| there == *one)), "{controllers}");

    // Limits as the kernel has them.
    assert_eq!(ended.told("memory.max"), (48 << 20).to_string());
    assert_eq!(ended.told("pids.max"), "16");

    // Units: each by its own rule.
    let status = ended.told_json("status");
    assert_eq!(state(&status, "web"), "running");
    assert_eq!(state(&status, "dependent"), "running");
    assert_eq!(state(&status, "prepare"), "completed");
    assert_eq!(state(&status, "orphans"), "completed");
    assert_eq!(state(&status, "demanding"), "failed");
    assert!(ended.told("why").contains("without SELinux"), "{}", ended.told("why"));

    // The kernel killed it, and said so in memory.events.
    assert_eq!(state(&status, "greedy"), "failed");
    let greedy = ended.told_json("greedy");
    let greedy = greedy.as_array().and_then(|units| units.first()).unwrap_or(&greedy);
    assert_eq!(greedy["cause"]["kind"], "oom", "{greedy}");
    assert!(ended.told("greed").contains("killed for want of memory"), "{}", ended.told("greed"));

    let web = ended.told_json("web");
    let web = web.as_array().and_then(|units| units.first()).unwrap_or(&web);
    assert_eq!(web["health"], "healthy", "{web}");
    assert_eq!(web["walls"]["no_new_privs"], true, "{web}");

    // What depends on a unit stops before it, and the machine only after all.
    let stopped = |unit: &str| ended.place(&format!("{unit}: stopped"));
    assert!(stopped("dependent") < stopped("web"));
    assert!(stopped("web") < ended.place("reboot: Power down"));
}

#[test]
fn pid_1_survives_every_signal_and_ctrl_c_outside_ends_it_in_order() {
    let mut machine = vm::boot(&vm::scenario("signals"), BUSYBOX);
    machine.wait_for("@@ alive yes").interrupt();
    let ended = machine.end();
    assert!(ended.status.success(), "{}", ended.console);
    assert!(!ended.console.contains("Kernel panic"));
    ended.place("reboot: Power down");
    // SIGKILL, SIGSEGV, SIGSTOP and the last real-time signal among them.
    for signal in [9, 11, 19, 64] {
        ended.place(&format!("@@ sent {signal}"));
    }
}

#[test]
fn selinux_keeps_cells_apart() {
    let observe = format!("{}:/etc/cellinit/observe.sh", vm::scenario("selinux/observe.sh").display());
    let shared = format!("{}:/srv/shared", vm::scenario("selinux/shared").display());
    let ended = vm::boot(&vm::scenario("selinux"), &["--selinux", "--add", "/bin/busybox", "--add", &observe, "--add", &shared]).end();
    assert!(ended.status.success(), "{}", ended.console);
    assert_eq!(ended.told("pid1"), "system_u:system_r:init_t:s0-s0:c0.c1023");
    assert_eq!(ended.told("enforce"), "1");

    // Labels as read back from the kernel; categories differ, and a unit's own choice is kept.
    let label = |unit: &str| {
        let status = ended.told_json(unit);
        let status = status.as_array().and_then(|units| units.first()).unwrap_or(&status).clone();
        status["walls"]["selinux"].as_str().unwrap_or_else(|| panic!("{unit} has no label: {status}")).to_owned()
    };
    let (alice, bob) = (label("alice"), label("bob"));
    assert!(alice.starts_with("system_u:system_r:cell_t:s0:c") && bob.starts_with("system_u:system_r:cell_t:s0:c"), "{alice} {bob}");
    assert_ne!(alice, bob);
    assert_eq!(label("demanding"), "system_u:system_r:cell_t:s0:c100,c200");

    // Only the label stands between them, and the kernel says so.
    let denied = ended.told("denied");
    assert!(
        denied.contains(&format!("scontext={bob}")) && denied.contains("tcontext=system_u:object_r:cell_file_t"),
        "{denied:?}\n{}",
        ended.console
    );
    assert!(!ended.told("log").contains("secret"), "{}", ended.told("log"));
    // The pipes to the log are for writing, by descriptor and by name; not even who is bound by no mode may read them.
    let pipes = ended.told("pipes");
    assert!(pipes.contains("{ read }") && pipes.contains("tcontext=system_u:object_r:cell_log_t"), "{pipes:?}\n{}", ended.console);
    assert_eq!(pipes.lines().count(), 1, "{pipes}");
    for written in ["own", "again"] {
        assert!(ended.told("log").contains(written), "{}", ended.told("log"));
    }
}

#[test]
fn enforcing_without_a_policy_does_not_boot() {
    let ended = vm::boot(&vm::scenario("signals"), &["--add", "/bin/busybox", "--append", "security=selinux enforcing=1"]).end();
    ended.place("SELinux: enforcing=1 is asked for: there is no policy in the image");
    assert!(!ended.console.contains("@@"), "{}", ended.console);
}

/// Native and Wasm together; the modules are compiled inside, in cells of their own.
#[cfg(feature = "wasm")]
#[test]
fn the_units_of_this_repository_come_up() {
    let units = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let mut machine = vm::boot(&units, BUSYBOX);
    machine.wait_for("visitor: running").wait_for("hello: completed").interrupt();
    let ended = machine.end();
    assert!(ended.status.success(), "{}", ended.console);
    assert!(ended.place("greet: running, health healthy") < ended.place("visitor: running"), "{}", ended.console);
    assert!(ended.place("prepare: completed") < ended.place("visitor: running"));
    ended.place("flaky: backoff");
    assert!(ended.console.rfind("visitor: stopped") < ended.console.rfind("greet: stopped"));
}

fn state<'a>(status: &'a Value, unit: &str) -> &'a str {
    let units = status.as_array().expect("an array of units");
    let found = units.iter().find(|one| one["name"] == unit).unwrap_or_else(|| panic!("no unit {unit} in {status}"));
    found["state"].as_str().expect("a state")
}
