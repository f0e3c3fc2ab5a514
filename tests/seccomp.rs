//! The filters, run: a classic-BPF interpreter asks each program about every number on three architectures.

use std::collections::BTreeSet;

use cellinit::cell::seccomp::{assemble, compile, compile_filter, is_ready, ready_file};
use cellinit::init::log_writer_filter;
use cellinit::plan::syscalls::resolve;
use cellinit::plan::{WASM_LISTEN, WASM_WRITE};
use cellinit::unit::{self, ERRNOS, Seccomp, SeccompPolicy};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const X32_BIT: u32 = 0x4000_0000;
/// Past the last known number by some.
const NUMBERS: std::ops::Range<u32> = 0..600;
const EPERM: u32 = libc::EPERM as u32;
const ENOSYS: u32 = libc::ENOSYS as u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Allow,
    Errno(u32),
    KillProcess,
    Log,
}
use Answer::{Allow, Errno, KillProcess, Log};

#[test]
fn the_default_list_is_what_docker_and_systemd_both_allow() {
    let table = table();
    let list: BTreeSet<&str> = words(include_str!("../src/unit/syscalls/default.txt")).collect();
    let filter = program(SeccompPolicy::Default, &[], &[]);
    for number in NUMBERS {
        let name = table.iter().find(|(_, known)| *known == number).map(|(name, _)| *name);
        let expected = match name {
            // Answered by their arguments; no argument is socket family 0, which nobody needs.
            Some("socket") => Errno(EPERM),
            Some("clone3" | "openat2") => Errno(ENOSYS),
            Some(name) if list.contains(name) => Allow,
            Some(_) => Errno(EPERM),
            None => Errno(ENOSYS),
        };
        assert_eq!(filter.ask(X86_64, number, [0; 6]), expected, "{number} {name:?}");
        assert_eq!(filter.ask(I386, number, [0; 6]), KillProcess, "i386 {number}");
        assert_eq!(filter.ask(X86_64, X32_BIT | number, [0; 6]), KillProcess, "x32 {number}");
    }
    for number in [1000, 0xffff, X32_BIT - 1] {
        assert_eq!(filter.ask(X86_64, number, [0; 6]), Errno(ENOSYS), "{number}");
    }
}

#[test]
fn a_path_through_the_filter_is_short() {
    let filter = program(SeccompPolicy::Default, &[], &[]);
    let longest = NUMBERS.map(|number| filter.run(X86_64, number, [0; 6]).1).max();
    assert!(longest.is_some_and(|steps| steps <= 40), "{longest:?}");
    assert!(filter.0.len() < 2000, "{}", filter.0.len());
}

#[test]
fn arguments_decide() {
    let filter = program(SeccompPolicy::Default, &[], &[]);
    let check = |name: &str, arguments: [u64; 3], expected: Answer| {
        let [a, b, c] = arguments;
        assert_eq!(filter.ask(X86_64, number(name), [a, b, c, 0, 0, 0]), expected, "{name} {arguments:?}");
    };
    // A thread, a fork, and each namespace.
    check("clone", [0x3d_0f00, 0, 0], Allow);
    check("clone", [libc::SIGCHLD as u64, 0, 0], Allow);
    for flag in [0x2_0000u64, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        check("clone", [flag | libc::SIGCHLD as u64, 0, 0], Errno(EPERM));
    }
    for personality in [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        check("personality", [personality, 0, 0], Allow);
    }
    // ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC.
    for personality in [0x4_0000, 0x40_0000, 0x9] {
        check("personality", [personality, 0, 0], Errno(EPERM));
    }
    let families: BTreeSet<u64> = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].map(|family| family as u64).into();
    for family in 0..64 {
        let netlink = family == libc::AF_NETLINK as u64;
        let expected = if families.contains(&family) || netlink { Allow } else { Errno(EPERM) };
        check("socket", [family, libc::SOCK_STREAM as u64, 0], expected);
        // NETLINK_AUDIT is protocol 9.
        let expected = if families.contains(&family) { Allow } else { Errno(EPERM) };
        check("socket", [family, libc::SOCK_RAW as u64, 9], expected);
    }
    check("socket", [1 << 32 | libc::AF_VSOCK as u64, 0, 0], Errno(EPERM));
}

/// Which argument is the mode of each call that makes files or changes their modes.
const MODES: [(&str, usize); 9] = [
    ("chmod", 1),
    ("creat", 1),
    ("fchmod", 1),
    ("mkdir", 1),
    ("mknod", 1),
    ("fchmodat", 2),
    ("fchmodat2", 2),
    ("mkdirat", 2),
    ("mknodat", 2),
];

#[test]
fn set_id_files_are_not_made() {
    let filter = program(SeccompPolicy::Default, &[], &[]);
    let lifted = program(SeccompPolicy::Default, &["chmod", "open"], &[]);
    let ask = |filter: &Filter, name: &str, at: usize, words: &[u64]| {
        let mut arguments = [0; 6];
        arguments[at..at + words.len()].copy_from_slice(words);
        filter.ask(X86_64, number(name), arguments)
    };
    let modes = [(0o755, Allow), (0o1777, Allow), (0o4755, Errno(EPERM)), (0o2755, Errno(EPERM)), (0o6000, Errno(EPERM))];
    for (mode, expected) in modes {
        for (name, at) in MODES {
            assert_eq!(ask(&filter, name, at, &[mode]), expected, "{name} {mode:o}");
        }
        for (name, at) in [("open", 1), ("openat", 2)] {
            for flags in [libc::O_CREAT | libc::O_WRONLY, libc::O_TMPFILE] {
                assert_eq!(ask(&filter, name, at, &[flags as u64, mode]), expected, "{name} {flags:o} {mode:o}");
            }
            // Nothing is made, and whatever is in the register of the mode is none.
            assert_eq!(ask(&filter, name, at, &[libc::O_DIRECTORY as u64, mode]), Allow, "{name} {mode:o}");
        }
        assert_eq!(ask(&lifted, "chmod", 1, &[mode]), Allow);
        assert_eq!(ask(&lifted, "open", 1, &[libc::O_CREAT as u64, mode]), Allow);
        assert_eq!(ask(&lifted, "fchmod", 1, &[mode]), expected);
    }
    assert_eq!(ask(&program(SeccompPolicy::Default, &["openat2"], &[]), "openat2", 0, &[]), Allow);
    assert_eq!(ask(&program(SeccompPolicy::Default, &["@file-system"], &[]), "openat2", 0, &[]), Errno(ENOSYS));
}

#[test]
fn units_widen_and_narrow() {
    let check = |allow: &[&str], deny: &[&str], name: &str, expected: Answer| {
        let answer = program(SeccompPolicy::Default, allow, deny).ask(X86_64, number(name), [0; 6]);
        assert_eq!(answer, expected, "+{allow:?} -{deny:?} {name}");
    };
    check(&["ptrace"], &[], "ptrace", Allow);
    check(&["@mount"], &[], "mount", Allow);
    check(&["@mount"], &["mount"], "mount", Errno(EPERM));
    check(&["@mount"], &["mount"], "umount2", Allow);
    check(&[], &["@network-io"], "connect", Errno(EPERM));
    check(&[], &["@system-service"], "read", Errno(EPERM));
    // A group never takes away what the start needs.
    check(&[], &["@default"], "execve", Allow);
    // Named although allowed with some arguments: with all.
    check(&["socket"], &[], "socket", Allow);
    check(&["clone3"], &[], "clone3", Allow);
    check(&["@process"], &[], "clone3", Errno(ENOSYS));
}

#[test]
fn an_allow_list_is_just_that() {
    let filter = program(SeccompPolicy::AllowList, &["read", "clone"], &[]);
    let allowed: Vec<u32> = NUMBERS.filter(|number| filter.ask(X86_64, *number, [0; 6]) == Allow).collect();
    let mut expected: Vec<u32> = ["read", "write", "clone", "execve", "exit_group"].map(number).into();
    expected.sort_unstable();
    assert_eq!(allowed, expected);
    assert_eq!(filter.ask(X86_64, number("clone"), [0x1000_0000, 0, 0, 0, 0, 0]), Errno(EPERM));
}

#[test]
fn a_wasm_host_opens_unix_sockets_only_and_little_else() {
    let derived = program(SeccompPolicy::Derived, &[], &[]);
    let socket = |family: i32| derived.ask(X86_64, number("socket"), [family as u64, 0, 0, 0, 0, 0]);
    assert_eq!((socket(libc::AF_UNIX), socket(libc::AF_INET)), (Allow, Errno(EPERM)));
    for (name, expected) in [("openat2", Allow), ("accept4", Errno(EPERM)), ("unlinkat", Errno(EPERM))] {
        assert_eq!(derived.ask(X86_64, number(name), [0; 6]), expected, "{name}");
    }
    let granted = program(SeccompPolicy::Derived, &["@wasm-write", "@wasm-listen"], &[]);
    for name in ["accept4", "unlinkat", "renameat2"] {
        assert_eq!(granted.ask(X86_64, number(name), [0; 6]), Allow, "{name}");
    }
    for name in ["ptrace", "mount", "bind", "setuid", "io_uring_setup", "bpf", "keyctl", "userfaultfd"] {
        assert_eq!(granted.ask(X86_64, number(name), [0; 6]), Errno(EPERM), "{name}");
    }
}

#[test]
fn a_logging_filter_refuses_nothing() {
    let filter = program(SeccompPolicy::Log, &[], &[]);
    assert_eq!(filter.ask(X86_64, number("read"), [0; 6]), Allow);
    for (architecture, number) in [(X86_64, number("ptrace")), (X86_64, 599), (I386, 3), (X86_64, X32_BIT)] {
        assert_eq!(filter.ask(architecture, number, [0; 6]), Log, "{architecture:x} {number}");
    }
}

#[test]
fn the_errno_is_the_unit_s() {
    for errno in [libc::EACCES, libc::ENOSYS] {
        let policy = Seccomp { errno, ..policy(SeccompPolicy::Default, &[], &[]) };
        let filter = Filter::of(&policy);
        assert_eq!(filter.ask(X86_64, number("mount"), [0; 6]), Errno(errno as u32));
        assert_eq!(filter.ask(X86_64, 599, [0; 6]), Errno(ENOSYS));
    }
}

#[test]
fn every_errno_has_its_name() {
    for (number, name, _) in ERRNOS {
        let text = format!("[service]\nexec = 'x'\n[seccomp]\nerrno = '{name}'\n");
        let unit = unit::parse("x.toml".as_ref(), &text).unwrap_or_else(|faults| panic!("{}", faults[0]));
        assert_eq!(unit.seccomp.errno, *number);
        let second = ["EWOULDBLOCK", "EDEADLOCK", "ENOTSUP"].contains(name);
        assert!(second || format!("{:?}", nix::errno::Errno::from_raw(*number)) == *name, "{name}");
    }
    // 41 and 58 are nobody's.
    let missing: Vec<i32> = (1..=133).filter(|number| !ERRNOS.iter().any(|(known, ..)| known == number)).collect();
    assert_eq!(missing, [41, 58]);
}

/// The programs that are part of ours: each is found, and answers as libseccomp's own would, whatever version that is.
/// UPDATE_FILTERS=1 makes them anew.
#[test]
fn what_was_compiled_before_is_what_libseccomp_makes() {
    let filter = |policy: Seccomp| resolve(&policy).unwrap();
    for (name, filter) in [
        ("default", filter(policy(SeccompPolicy::Default, &[], &[]))),
        ("wasm", filter(policy(SeccompPolicy::Derived, &[], &[]))),
        ("wasm-write", filter(policy(SeccompPolicy::Derived, &[WASM_WRITE], &[]))),
        ("wasm-listen", filter(policy(SeccompPolicy::Derived, &[WASM_LISTEN], &[]))),
        ("wasm-write-listen", filter(policy(SeccompPolicy::Derived, &[WASM_WRITE, WASM_LISTEN], &[]))),
        ("log-writer", log_writer_filter().unwrap()),
    ] {
        if std::env::var_os("UPDATE_FILTERS").is_some() {
            let path = format!("{}/src/cell/seccomp/ready/{name}.bpf", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, ready_file(&filter).unwrap()).unwrap();
            continue;
        }
        assert!(is_ready(&filter), "{name}.bpf is out of date: UPDATE_FILTERS=1");
        let (ours, theirs) = (assemble(&filter).unwrap(), compile_filter(&filter).unwrap());
        assert!(same(&Filter(ours.instructions().to_vec()), &Filter(theirs.instructions().to_vec())), "{name}");
    }
    assert!(!is_ready(&filter(policy(SeccompPolicy::Default, &["ptrace"], &[]))));
    assert!(!is_ready(&filter(Seccomp { errno: libc::EACCES, ..policy(SeccompPolicy::Default, &[], &[]) })));
}

/// Every number on several architectures, and arguments on both sides of whatever either program compares.
fn same(one: &Filter, other: &Filter) -> bool {
    let alike =
        |architecture, number, arguments| one.run(architecture, number, arguments).0 == other.run(architecture, number, arguments).0;
    let compared = one.0.iter().chain(&other.0).map(|instruction| instruction.k);
    let words: BTreeSet<u32> = compared.flat_map(|k| [k.wrapping_sub(1), k, k.wrapping_add(1), !k]).collect();
    for number in NUMBERS.chain(words.iter().copied()) {
        for architecture in [X86_64, I386, X86_64 | 1, 0] {
            if !alike(architecture, number, [0; 6]) || !alike(architecture, X32_BIT | number, [0; 6]) {
                return false;
            }
        }
    }
    for number in ["clone", "personality", "socket"].map(number) {
        for first in words.iter().map(|word| u64::from(*word)).flat_map(|word| [word, 1 << 32 | word, word << 32]) {
            if [0, 1, 9, 1 << 32].into_iter().any(|third| !alike(X86_64, number, [first, 0, third, 0, 0, 0])) {
                return false;
            }
        }
    }
    // Flags and modes come one after the other.
    for number in MODES.map(|(name, _)| name).into_iter().chain(["open", "openat"]).map(number) {
        for word in words.iter().map(|word| u64::from(*word)) {
            for other in [0, u64::MAX] {
                let places = [[word, other, other], [other, word, other], [other, other, word]];
                if places.into_iter().any(|[a, b, c]| !alike(X86_64, number, [0, a, b, c, 0, 0])) {
                    return false;
                }
            }
        }
    }
    true
}

#[test]
fn what_cannot_be_is_refused() {
    let check = |allow: &[&str], deny: &[&str], expected: &str| match compile(&policy(SeccompPolicy::Default, allow, deny)) {
        Ok(_) => panic!("+{allow:?} -{deny:?} compiles"),
        Err(error) => assert!(error.to_string().contains(expected), "{error}"),
    };
    check(&["raed"], &[], "raed is no system call");
    check(&["@system"], &[], "@system is no group");
    check(&[], &["execve"], "execve is needed to start");
}

fn program(policy_name: SeccompPolicy, allow: &[&str], deny: &[&str]) -> Filter {
    Filter::of(&policy(policy_name, allow, deny))
}

fn policy(policy: SeccompPolicy, allow: &[&str], deny: &[&str]) -> Seccomp {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Seccomp { policy, allow: owned(allow), deny: owned(deny), errno: libc::EPERM }
}

fn words(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace)
}

fn table() -> Vec<(&'static str, u32)> {
    let lines = include_str!("../src/unit/syscalls/x86_64.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(name, number)| (name, number.parse().unwrap())).collect()
}

fn number(name: &str) -> u32 {
    table().into_iter().find(|(known, _)| *known == name).unwrap().1
}

/// A program, and just enough of bpf(4) to run what libseccomp makes.
struct Filter(Vec<libc::sock_filter>);

impl Filter {
    fn of(policy: &Seccomp) -> Filter {
        Filter(compile(policy).unwrap().instructions().to_vec())
    }

    fn ask(&self, architecture: u32, number: u32, arguments: [u64; 6]) -> Answer {
        let (value, _) = self.run(architecture, number, arguments);
        match value & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_ALLOW => Allow,
            libc::SECCOMP_RET_LOG => Log,
            libc::SECCOMP_RET_KILL_PROCESS => KillProcess,
            libc::SECCOMP_RET_ERRNO => Errno(value & libc::SECCOMP_RET_DATA),
            other => panic!("an action nobody asked for: {other:#x}"),
        }
    }

    /// The value returned, and how many instructions it took.
    fn run(&self, architecture: u32, number: u32, arguments: [u64; 6]) -> (u32, usize) {
        // struct seccomp_data in words: number, architecture, instruction pointer, arguments, each low half first.
        let mut data = vec![number, architecture, 0, 0];
        data.extend(arguments.iter().flat_map(|argument| [*argument as u32, (argument >> 32) as u32]));
        let (mut at, mut a, mut steps) = (0, 0u32, 0);
        loop {
            let instruction = self.0[at];
            let (code, k) = (u32::from(instruction.code), instruction.k);
            at += 1;
            steps += 1;
            let jump = |yes: bool| usize::from(if yes { instruction.jt } else { instruction.jf });
            match code & 0x07 {
                libc::BPF_LD => a = data[k as usize / 4],
                libc::BPF_RET => return (k, steps),
                libc::BPF_ALU => match code & 0xf0 {
                    libc::BPF_AND => a &= k,
                    operation => panic!("ALU operation {operation:#x}"),
                },
                libc::BPF_JMP => match code & 0xf0 {
                    libc::BPF_JA => at += k as usize,
                    libc::BPF_JEQ => at += jump(a == k),
                    libc::BPF_JGT => at += jump(a > k),
                    libc::BPF_JGE => at += jump(a >= k),
                    operation => panic!("jump {operation:#x}"),
                },
                class => panic!("class {class:#x}"),
            }
        }
    }
}
