//! Guests that run once and end.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cellinit::plan::guest::GuestDir;
use cellinit::unit::World;

use crate::bench::{Left, args, command, compiled, guest, notify_socket, received, run, spec, text};

const READY: &str = "READY=1\nSTATUS=running";

/// Every command is tried as a component and as a core module.
fn both(name: &str, check: impl Fn(&str)) {
    for form in [name.to_string(), format!("{name}.core")] {
        check(&form);
    }
}

#[track_caller]
fn ended(left: &Left, code: i32, cause: Option<&str>) {
    let told: Option<&str> = left.told.iter().find_map(|text| text.lines().find_map(|line| line.strip_prefix("X_CELLINIT_CAUSE=")));
    assert_eq!((left.code, told), (Some(code), cause), "{left:#?}");
}

#[test]
fn a_command_sees_what_it_is_given_and_nothing_else() {
    both("command-hello", |form| {
        let mut spec = spec();
        spec.args = args(&["one", "two words"]);
        spec.env = [("KEY".into(), "value".into())].into();
        let left = run(&guest(form), &spec);
        ended(&left, 0, None);
        assert_eq!(left.out, "hello\narg guest\narg one\narg two words\nenv KEY=value\n");
        assert_eq!(left.err, "hello on stderr\n");
        assert_eq!(left.told, [READY]);
    });
}

#[test]
fn an_exit_code_is_passed_on() {
    let mut spec = spec();
    spec.args = args(&["3"]);
    ended(&run(&guest("command-exit.core"), &spec), 3, None);
    // All that WASI 0.2 can say is "failed".
    ended(&run(&guest("command-exit"), &spec), 1, None);
}

#[test]
fn wasi_0_3_runs_as_well() {
    let left = run(&guest("command3-hello"), &spec());
    ended(&left, 0, None);
    assert_eq!((left.out.as_str(), left.told.as_slice()), ("hello in WASI 0.3\n", &[READY.to_string()][..]));
    let mut spec = spec();
    spec.args = args(&["fail"]);
    ended(&run(&guest("command3-hello"), &spec), 1, None);
}

#[test]
fn a_trap_names_the_functions_that_led_to_it() {
    both("command-trap", |form| {
        let left = run(&guest(form), &spec());
        ended(&left, 134, Some("trap"));
        assert_eq!(left.out, "before\n");
        let places: Vec<_> = ["innermost", "middle", "outer", "main"]
            .map(|name| left.err.find(&format!(": command_trap::{name}\n")))
            .into_iter()
            .collect::<Option<_>>()
            .unwrap_or_else(|| panic!("{}", left.err));
        assert!(places.is_sorted(), "{}", left.err);
        let status = "STATUS=wasm trap: wasm `unreachable` instruction executed, in command_trap::innermost";
        assert_eq!(left.told, [READY.to_string(), format!("X_CELLINIT_CAUSE=trap\n{status}")]);
    });
}

#[test]
fn fuel_runs_out() {
    both("command-spin", |form| {
        let mut spec = spec();
        spec.limits.fuel = Some(10_000_000);
        let left = run(&guest(form), &spec);
        ended(&left, 194, Some("fuel"));
        assert_eq!(left.out, "spinning\n");
    });
}

#[test]
fn enough_fuel_is_no_limit() {
    let mut spec = spec();
    spec.limits.fuel = Some(10_000_000);
    ended(&run(&guest("command-hello"), &spec), 0, None);
}

/// In guest code, in a bulk operation, in a host call.
#[test]
fn a_deadline_ends_a_guest_wherever_it_is() {
    for name in ["command-spin", "command-fill", "command-sleep"] {
        both(name, |form| {
            let mut spec = spec();
            spec.limits.memory = 128 << 20;
            spec.limits.deadline_ms = Some(300);
            let module = guest(form);
            crate::bench::compiled(&module, false);
            let start = Instant::now();
            let left = run(&module, &spec);
            ended(&left, 195, Some("deadline"));
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(30), "{form}: {took:?}");
        });
    }
}

#[test]
fn a_deadline_that_is_kept_changes_nothing() {
    let mut spec = spec();
    spec.limits.deadline_ms = Some(60_000);
    spec.args = args(&["1"]);
    let left = run(&guest("command-sleep.core"), &spec);
    ended(&left, 0, None);
    assert_eq!(left.out, "sleeping\nawake\n");
}

#[test]
fn memory_is_refused_and_who_gives_up_says_so() {
    both("command-grow", |form| {
        let left = run(&guest(form), &spec());
        ended(&left, 193, Some("memory"));
        assert!(left.err.contains("refused by wasm.limits.memory = 67108864 bytes"), "{}", left.err);
    });
}

#[test]
fn memory_is_refused_and_who_makes_do_goes_on() {
    both("command-grow", |form| {
        let mut spec = spec();
        spec.args = args(&["modest"]);
        let left = run(&guest(form), &spec);
        ended(&left, 0, None);
        let mebibytes: u32 = left.out.split_whitespace().nth(2).and_then(|n| n.parse().ok()).expect("a number");
        assert!((55..64).contains(&mebibytes), "{}", left.out);
    });
}

#[test]
fn a_memory_that_is_too_large_from_the_start_is_refused() {
    let module = text("large", r#"(module (memory 2000) (func (export "_start")))"#);
    ended(&run(&module, &spec()), 193, Some("memory"));
}

#[test]
fn directories_are_those_granted_as_they_are_granted() {
    both("command-files", |form| {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        for name in ["open", "closed"] {
            fs::create_dir_all(dir.join(name)).expect("a directory");
        }
        fs::write(dir.join("closed/file"), "on the host").expect("a file");
        fs::write(dir.join("secret"), "not granted").expect("a file");
        std::os::unix::fs::symlink("../secret", dir.join("closed/link")).expect("a link");
        let granted = |guest: &str, name: &str, writable| GuestDir {
            guest: guest.into(),
            path: dir.join(name).to_string_lossy().into_owned(),
            writable,
        };
        let mut spec = spec();
        spec.dirs = vec![granted("/data", "open", true), granted("/etc", "closed", false)];
        spec.args = args(&["list", "/etc", "read", "/etc/file", "write", "/data/new", "read", "/data/new"]);
        let left = run(&guest(form), &spec);
        assert_eq!(
            left.out,
            "list /etc: file link\nread /etc/file: on the host\nwrite /data/new: ok\nread /data/new: written by the guest\n"
        );
        for (verb, path) in [
            ("write", "/etc/file"),
            ("write", "/etc/new"),
            ("read", "/etc/link"),
            ("read", "/etc/../secret"),
            ("read", "/data/../secret"),
            ("list", "/"),
            ("read", "/proc/self/environ"),
        ] {
            spec.args = args(&[verb, path]);
            let left = run(&guest(form), &spec);
            assert!(left.out.starts_with(&format!("{verb} {path}: refused: ")), "{left:#?}");
        }
        assert_eq!(fs::read_to_string(dir.join("closed/file")).expect("the file"), "on the host");
    });
}

#[test]
fn there_is_no_way_out_to_a_network() {
    let left = run(&guest("command-net"), &spec());
    ended(&left, 0, None);
    for (line, start) in left.out.lines().zip(["lookup: refused: ", "tcp: refused: ", "udp: refused: ", "http: refused: "]) {
        assert!(line.starts_with(start), "{}", left.out);
    }
    assert!(left.out.contains("HttpRequestDenied"), "{}", left.out);
}

#[test]
fn a_grant_that_cannot_be_kept_is_no_start() {
    let mut spec = spec();
    spec.dirs = vec![GuestDir { guest: "/data".into(), path: "/preopen/none".into(), writable: false }];
    let left = run(&guest("command-hello"), &spec);
    ended(&left, 196, None);
    assert!(left.told.iter().all(|text| !text.contains("READY")), "{left:#?}");
    assert!(left.err.contains("/preopen/none"), "{left:#?}");
}

#[test]
fn a_world_that_is_not_there_is_no_start() {
    let check = |module: &std::path::Path, world, expected: &str| {
        let mut spec = spec();
        spec.world = world;
        let left = run(module, &spec);
        ended(&left, 196, Some("world"));
        assert!(left.err.contains(expected), "{left:#?}");
    };
    check(&guest("command-hello"), World::Http, "does not export wasi:http/incoming-handler");
    check(&guest("http-hello"), World::Command, "does not export wasi:cli/run");
    check(&guest("command-hello.core"), World::Http, "a core module has no wasi:http exports");
    check(&text("empty", "(component)"), World::Auto, "nothing to call");
    check(&text("lib", "(module)"), World::Auto, "_start");
    check(&text("odd", r#"(module (import "env" "hack" (func)) (func (export "_start")))"#), World::Auto, "env::hack");
}

/// Whoever should hear about it may be the reason why it hangs.
#[test]
fn a_deadline_waits_for_nobody() {
    let module = text(
        "flood",
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 0) "\10\00\00\00\00\10\00\00")
            (func (export "_start") (loop $l (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))))"#,
    );
    let mut spec = spec();
    spec.limits.deadline_ms = Some(300);
    let dir = tempfile::tempdir().expect("a directory");
    for listens in [false, true] {
        let (notify, path) = notify_socket(dir.path());
        let mut child = command(&compiled(&module, false), &spec, &path).stderr(Stdio::piped()).spawn().expect("cell-wasm");
        // Nobody reads the pipe, or nobody is there any more.
        let unread = child.stderr.take().filter(|_| listens);
        let start = Instant::now();
        let status = loop {
            match child.try_wait().expect("wait") {
                Some(status) => break status,
                None if start.elapsed() > Duration::from_secs(60) => {
                    child.kill().expect("kill");
                    panic!("still there, with a reader: {listens}");
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert_eq!(status.code(), Some(195), "with a reader: {listens}");
        assert!(received(&notify).concat().contains("X_CELLINIT_CAUSE=deadline"));
        drop(unread);
        fs::remove_file(path).expect("the socket");
    }
}

#[test]
fn a_start_function_is_held_to_the_same_limits() {
    let spin = text("start-spin", r#"(module (func $spin (loop $l (br $l))) (start $spin) (func (export "_start")))"#);
    let mut spec = spec();
    spec.limits.deadline_ms = Some(200);
    ended(&run(&spin, &spec), 195, Some("deadline"));
    let trap = text("start-trap", r#"(module (func $trap unreachable) (start $trap) (func (export "_start")))"#);
    ended(&run(&trap, &crate::bench::spec()), 134, Some("trap"));
}

#[test]
fn endless_recursion_is_a_trap() {
    let module = text("recurse", r#"(module (func $f (export "_start") (call $f) (call $f)))"#);
    let left = run(&module, &spec());
    ended(&left, 134, Some("trap"));
    assert!(left.err.contains("call stack exhausted"), "{left:#?}");
}

#[test]
fn a_table_has_a_bound() {
    let wat = r#"(module (table 1 funcref) (func (export "_start")
        (if (i32.ne (table.grow (ref.null func) (i32.const 10000000)) (i32.const -1)) (then unreachable))))"#;
    ended(&run(&text("table", wat), &spec()), 0, None);
}
