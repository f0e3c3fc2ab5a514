//! Unit files as data: good ones are read as they are meant, bad ones are refused with the message that is written beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cellinit::unit::*;

const GOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/units/good");

fn good_texts() -> Vec<(PathBuf, String)> {
    cellinit::load::read(&[GOOD.into()]).unwrap()
}

fn good(name: &str) -> Unit {
    let text = fs::read_to_string(format!("{GOOD}/{name}.toml")).unwrap();
    parse(Path::new(&format!("{name}.toml")), &text).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The one unit of a text, which is called `web`.
fn web(text: &str) -> Result<Unit, Vec<Diagnostic>> {
    parse(Path::new("web.toml"), text)
}

fn native(rest: &str) -> Result<Unit, Vec<Diagnostic>> {
    web(&format!("[service]\nexec = \"true\"\n{rest}"))
}

#[test]
fn the_smallest_native_unit_has_the_defaults() {
    let unit = good("hello");
    assert_eq!(unit.payload, Payload::Native { exec: ["/usr/bin/my-server", "--port", "8080"].map(String::from).into() });
    assert_eq!((unit.kind, unit.service.kind, unit.service.ready), (Kind::Service, ServiceType::Exec, Ready::Exec));
    assert_eq!(unit.isolation.profile, Profile::Default);
    assert_eq!((unit.isolation.user, unit.isolation.net), (Namespace::Private, Namespace::Private));
    assert_eq!((unit.isolation.hostname.as_str(), unit.network), ("hello", NetworkMode::None));
    assert_eq!((unit.seccomp.policy, unit.seccomp.errno), (SeccompPolicy::Default, 1));
    assert_eq!((unit.caps.iter().count(), unit.resources.pids_max), (0, Some(1024)));
    assert_eq!(unit.user, User { user: Identity::Dynamic, group: None });
    assert_eq!(unit.wanted_by, ["default"]);
    assert_eq!(unit.stop, Stop { signal: 15, timeout: Some(Duration::from_secs(10)), mode: StopMode::Mixed });
    assert_eq!((unit.restart.policy, unit.restart.attempts), (RestartPolicy::OnFailure, None));
    // The plan knows the default of `nofile`, which depends on the host in profile `none`.
    assert!(unit.limits.is_empty());
}

#[test]
fn the_smallest_wasm_unit_has_the_defaults() {
    let unit = good("greet");
    let Payload::Wasm(wasm) = &unit.payload else { panic!("{:?}", unit.payload) };
    assert_eq!((wasm.world, wasm.limits.memory, wasm.limits.deadline), (World::Auto, 256 << 20, None));
    assert_eq!((unit.service.kind, unit.service.ready), (ServiceType::Notify, Ready::Notify));
    assert_eq!((unit.isolation.profile, unit.seccomp.policy), (Profile::Wasm, SeccompPolicy::Derived));
    assert_eq!(unit.sockets[0].listen, Listen::Tcp("0.0.0.0:8080".parse().unwrap()));
}

/// What a guest has its host hold for it is bounded by the cell, unless the unit has a word of its own about that.
#[test]
fn a_wasm_cell_has_a_bound_of_memory() {
    let check = |rest: &str, mebibytes: Option<u64>| {
        let unit = web(&format!("wasm = {{ module = '/m.wasm' }}\n{rest}")).unwrap();
        assert_eq!(unit.resources.memory_max, mebibytes.map(|number| number << 20), "{rest}");
    };
    let socket = "[[socket]]\nlisten = 'tcp://0.0.0.0:80'\n";
    check("", Some(256 + 64));
    check(socket, Some(256 + 64 + 256));
    check("[resources]\nmemory = { max = 'max' }", None);
    check("[resources]\nmemory = { high = '1GiB' }", None);
    check("[resources]\nmemory = { max = '100MiB' }", Some(100));
    let native = native("").unwrap();
    assert_eq!(native.resources.memory_max, None);
}

#[test]
fn the_good_folder_is_a_set() {
    let set = UnitSet::from_texts(&good_texts()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert!(set.iter().map(|unit| &unit.name).is_sorted());
    let default = set.get(DEFAULT_TARGET).unwrap();
    assert_eq!(default.wants, ["greet", "group", "hello", "last", "native-full", "prepare", "wasm-full"]);
    assert_eq!(set.get("group").unwrap().wants, ["hello", "native-full"]);
    assert_eq!(nearest_unit("native-ful.service", set.iter().map(|unit| unit.name.as_str())), Some("native-full"));
}

#[test]
fn the_reference_is_printed_from_the_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/unit-file.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, reference()).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(kept == reference(), "docs/unit-file.md is behind the schema: UPDATE_DOCS=1 cargo test --test units");
}

/// Whoever copies an example into the folder of units keeps what is there.
#[test]
fn examples_have_names_of_their_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, text) in [("README.md", fs::read_to_string(root.join("README.md")).unwrap()), ("docs/unit-file.md", reference())] {
        let words = text.lines().filter_map(|line| line.strip_prefix("# ")?.split([' ', ':']).next());
        let names: Vec<&str> = words.filter(|word| word.ends_with(".toml")).collect();
        assert_eq!(names.len(), 2, "{page}");
        assert!(names.iter().all(|name| !root.join("units").join(name).exists()), "{page}: {names:?}");
    }
}

/// Every file of `good/` with the unit that it means. `UPDATE_EXPECTED=1` writes them anew.
#[test]
fn good_units_mean_what_is_written_beside_them() {
    for (path, text) in good_texts() {
        let short = Path::new(path.file_name().unwrap());
        let unit = parse(short, &text).unwrap_or_else(|faults| panic!("{faults:#?}"));
        expect(&path.with_extension("json"), &(serde_json::to_string_pretty(&unit).unwrap() + "\n"));
    }
}

fn expect(file: &Path, said: &str) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(file, said).unwrap();
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    assert!(said == kept, "{} should be now:\n\n{said}", file.display());
}

/// Every file and folder of `bad/` with the messages that it gives. `UPDATE_EXPECTED=1` writes them anew.
#[test]
fn bad_units_are_refused_with_the_messages_that_are_written_beside_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/units/bad");
    let mut entries: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.retain(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "toml"));
    entries.sort();
    assert!(!entries.is_empty());
    for entry in entries {
        let short = |path: &Path| path.strip_prefix(&folder).unwrap().to_owned();
        let faults = match entry.is_dir() {
            true => {
                let texts = cellinit::load::read(std::slice::from_ref(&entry)).unwrap();
                let texts: Vec<_> = texts.into_iter().map(|(path, text)| (short(&path), text)).collect();
                UnitSet::from_texts(&texts).map(drop)
            }
            false => parse(&short(&entry), &fs::read_to_string(&entry).unwrap()).map(drop),
        };
        let faults = faults.expect_err(&entry.display().to_string());
        for fault in &faults {
            let place = format!("{}:{}:{}", fault.path.display(), fault.line, fault.column);
            assert!(fault.to_string().contains(&place), "{place}: {fault}");
        }
        let said: String = faults.iter().map(|fault| format!("{fault}\n\n")).collect();
        expect(&entry.with_extension("expected"), &said);
    }
}

/// Ids, modes, sizes and times that other programs guessed about: taken exactly, or refused.
#[test]
fn numbers_are_taken_exactly_or_refused() {
    let long = "9".repeat(400);
    let guesses =
        ["0x0", "0X1F", "0o17", "+5", "-1", "1000 ", " 1000", "1 000", "1e3", "", "4294967296", "99999999999999999999", &long, "0\u{660}"];
    for (table, key) in
        [("user", "user"), ("user", "group"), ("service", "umask"), ("stop", "timeout"), ("restart", "delay"), ("limits", "nofile")]
    {
        for guess in guesses {
            let text = match table {
                "service" => format!("[service]\nexec = \"true\"\n{key} = {guess:?}\n"),
                _ => format!("[service]\nexec = \"true\"\n[{table}]\n{key} = {guess:?}\n"),
            };
            // A count of descriptors may be larger than an id; the kernel has the last word about that.
            let taken = table == "limits" && guess == "4294967296";
            assert_eq!(web(&text).is_ok(), taken, "{table}.{key} = {guess:?}");
        }
        for guess in ["0x0", "0o17", "0b1", "+5", "-1", "4294967296000000", "1.5"] {
            let taken = table == "limits" && guess == "4294967296000000";
            let text = format!("service.exec = \"true\"\n{table}.{key} = {guess}\n");
            assert_eq!(web(&text).is_ok(), taken, "{table}.{key} = {guess}");
        }
    }
    for guess in guesses {
        assert_eq!(native(&format!("[resources.memory]\nmax = {guess:?}")).is_ok(), guess == "4294967296", "memory.max = {guess:?}");
    }
}

#[test]
fn identities_are_exact() {
    let user = |value: &str| native(&format!("[isolation]\nuser = \"host\"\n[user]\nuser = {value}")).map(|unit| unit.user.user);
    let check = |value: &str, expected: Identity| assert_eq!(user(value).unwrap(), expected, "{value}");
    check("0", Identity::Id(0));
    check("\"0\"", Identity::Id(0));
    check("\"1000\"", Identity::Id(1000));
    check("4294967294", Identity::Id(4_294_967_294));
    check("\"root\"", Identity::Name("root".into()));
    check("\"_apt\"", Identity::Name("_apt".into()));
    for refused in [
        "65535",
        "\"65535\"",
        "4294967295",
        "\"007\"",
        "\"1000:\"",
        "\":5\"",
        "\"1000:1000\"",
        "\"root \"",
        "\"-root\"",
        "\"a/b\"",
        "\"\"",
        "true",
    ] {
        assert!(user(refused).is_err(), "{refused}");
    }
    assert!(user(&format!("\"{}\"", "a".repeat(33))).is_err());
}

#[test]
fn times_sizes_and_shares_are_what_they_say() {
    let timeout = |value: &str| native(&format!("[stop]\ntimeout = {value}")).map(|unit| unit.stop.timeout);
    let check = |value: &str, micros: u64| assert_eq!(timeout(value).unwrap(), Some(Duration::from_micros(micros)), "{value}");
    check("0", 0);
    check("90", 90_000_000);
    check("\"90\"", 90_000_000);
    check("\"1m30s\"", 90_000_000);
    check("\"1d2h3m4s5ms6us\"", 93_784_005_006);
    assert_eq!(timeout("\"infinity\"").unwrap(), None);
    for refused in [
        "\"1s1m\"",
        "\"1m 30s\"",
        "\"1.5s\"",
        "\"s\"",
        "\"1x\"",
        "\"1sec\"",
        "\"max\"",
        "\"1s1s\"",
        "3153600001",
        "1.0",
        "\"101000d\"",
        "\"99999999999999999d\"",
    ] {
        assert!(timeout(refused).is_err(), "{refused}");
    }

    let memory = |value: &str| native(&format!("[resources.memory]\nmax = {value}")).map(|unit| unit.resources.memory_max);
    let check = |value: &str, bytes: Option<u64>| assert_eq!(memory(value).unwrap(), bytes, "{value}");
    check("1048576", Some(1 << 20));
    check("\"64MiB\"", Some(64 << 20));
    check("\"64MB\"", Some(64_000_000));
    check("\"max\"", None);
    for refused in
        ["0", "\"64M\"", "\"64mib\"", "\"1.5GiB\"", "\"64 MiB\"", "\"infinity\"", "\"16777216TiB\"", "\"9223372036854775808\"", "1.0"]
    {
        assert!(memory(refused).is_err(), "{refused}");
    }

    let cpu = |value: &str| native(&format!("[resources.cpu]\nmax = {value}")).map(|unit| unit.resources.cpu_max_milli);
    let check = |value: &str, milli: Option<u32>| assert_eq!(cpu(value).unwrap(), milli, "{value}");
    check("\"150%\"", Some(1500));
    check("\"2.5%\"", Some(25));
    check("1.5", Some(1500));
    check("2", Some(2000));
    check("\"max\"", None);
    for refused in ["0", "0.001", "\"0%\"", "\"1.55%\"", "\"-5%\"", "\"%\"", "nan", "inf", "-1.0", "1e9", "\"1.5\""] {
        assert!(cpu(refused).is_err(), "{refused}");
    }
}

#[test]
fn signals_have_their_names() {
    let signal = |value: &str| native(&format!("[stop]\nsignal = \"{value}\"")).map(|unit| unit.stop.signal);
    for (name, number) in [("SIGHUP", 1), ("SIGSYS", 31), ("SIGRTMIN", 34), ("SIGRTMIN+3", 37), ("SIGRTMAX-1", 63), ("SIGRTMAX", 64)] {
        assert_eq!(signal(name).unwrap(), number, "{name}");
        let shown = signal_name(number);
        assert_eq!(signal(&shown).unwrap(), number, "{shown}");
    }
    for refused in ["TERM", "15", "sigterm", "SIGRTMIN+31", "SIGRTMIN+", "SIGRTMIN+-1", "SIGRTMAX-64", "SIGNONE", ""] {
        assert!(signal(refused).is_err(), "{refused}");
    }
}

/// xorshift64*: enough chance for a test that must repeat.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n.max(1)
    }
}

/// Bytes of the good files changed, cut, doubled and swapped: whatever comes of it, parsing returns, and so does rendering.
#[test]
fn no_mutation_of_a_good_file_makes_the_parser_panic() {
    const MUTATIONS: usize = 20_000;
    const BYTES: &[u8] = b"[]{}\"'=.,#\n\\ 0aZ-_\t\x00\xff\xc3";
    let texts: Vec<Vec<u8>> = good_texts().into_iter().map(|(_, text)| text.into_bytes()).collect();
    let mut dice = Dice(0x5EED);
    for _ in 0..MUTATIONS {
        let source = &texts[dice.below(texts.len())];
        // A window of a large file costs less than the whole of it, and its edges are mutations too.
        let start = dice.below(source.len());
        let end = (start + 40 + dice.below(400)).min(source.len());
        let mut bytes = source[start..end].to_vec();
        for _ in 0..=dice.below(4) {
            let at = dice.below(bytes.len());
            match dice.below(4) {
                0 => bytes.insert(at, BYTES[dice.below(BYTES.len())]),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.extend_from_within(at..),
                _ if bytes.is_empty() => {}
                _ => bytes[at] = BYTES[dice.below(BYTES.len())],
            }
        }
        if let Err(faults) = web(&String::from_utf8_lossy(&bytes)) {
            let one = &faults[dice.below(faults.len())];
            // Rendering costs more than parsing; a part of it is enough.
            assert!(dice.below(8) != 0 || one.to_string().contains("web.toml"));
        }
    }
}

#[test]
fn nothing_of_full_size_is_slow_or_overflows_the_stack() {
    let size = usize::try_from(cellinit::load::MAX_FILE_SIZE).unwrap();
    let fill = |piece: &str| piece.repeat(size / piece.len());
    let cases = [
        ("nested arrays", format!("x = {}", fill("["))),
        ("nested tables", format!("x = {}", fill("{a="))),
        ("a deep key", format!("{}x = 1", fill("a."))),
        ("a deep header", format!("[{}x]", fill("a."))),
        ("a deep private key", format!("x-a.{}x = 1", fill("a."))),
        ("deep keys", (0..400).map(|n| format!("k{n}.{}x = 1\n", "a.".repeat(300))).collect()),
        ("empty mounts", fill("[[mount]]\n")),
        ("unknown keys", (0..size / 12).map(|n| format!("k{n} = 1\n")).collect()),
        ("doubled keys", fill("a = 1\n")),
        ("one long line", format!("description = \"{}\"", fill("x"))),
        ("a long list", format!("service.exec = [{}]", fill("1,"))),
        ("unknown units", format!("unit.wants = [{}]", fill("\"q\","))),
        ("broken lines", fill("=\n")),
        ("quotes", fill("\"")),
        ("line ends", fill("\r\n")),
        ("zeros", fill("\0")),
    ];
    for (name, text) in cases {
        let begin = std::time::Instant::now();
        let Err(faults) = UnitSet::from_texts(&[("web.toml".into(), text)]) else {
            assert_eq!(name, "line ends");
            continue;
        };
        assert!(faults.len() <= 1000, "{name}: {} faults", faults.len());
        let rendered: usize = faults.iter().take(3).map(|fault| fault.to_string().len()).sum();
        let took = begin.elapsed();
        eprintln!("{name}: {} faults, {rendered} bytes, {took:?}", faults.len());
        assert!(took < Duration::from_secs(20), "{name}: {took:?}");
    }
}

#[test]
fn a_thousand_units_are_read_before_anyone_notices() {
    let texts: Vec<(PathBuf, String)> = (0..1000)
        .map(|n| {
            let after = if n == 0 { String::new() } else { format!("after = [\"unit-{}\"]\n", n - 1) };
            (format!("unit-{n}.toml").into(), format!("[unit]\ndescription = \"number {n}\"\n{after}[service]\nexec = \"/bin/true {n}\"\n[resources]\nmemory.max = \"64MiB\"\n"))
        })
        .collect();
    let begin = std::time::Instant::now();
    let set = UnitSet::from_texts(&texts).unwrap();
    eprintln!("{} units in {:?}", set.len(), begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(set.len(), 1001);
}

#[test]
fn a_folder_is_its_unit_files_in_order_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    put("web.toml", b"service.exec = \"true\"");
    put("api.toml", b"wasm.module = \"../api.wasm\"");
    put(".hidden.toml", b"nonsense");
    put("notes.md", b"nonsense");
    fs::create_dir(folder.path().join("deeper")).unwrap();
    fs::write(folder.path().join("deeper/other.toml"), "nonsense").unwrap();

    let set = load(folder.path()).unwrap();
    assert_eq!(set.iter().map(|unit| unit.name.as_str()).collect::<Vec<_>>(), ["api", "default", "web"]);
    let alone = cellinit::load::load_one(&folder.path().join("api.toml")).unwrap();
    assert_eq!(set.get("api"), Some(&alone));
    let Payload::Wasm(wasm) = alone.payload else { panic!("no guest") };
    assert_eq!(Path::new(&wasm.module), folder.path().parent().unwrap().join("api.wasm"), "relative to the unit file");
}

#[test]
fn what_cannot_be_read_is_refused_by_its_name() {
    use cellinit::load::{LoadError, MAX_FILE_SIZE};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.toml");
    let written = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        load(&file).unwrap_err()
    };
    assert!(matches!(written(b"service.exec = \"\xff\""), LoadError::NotUtf8 { .. }));
    assert!(matches!(written(&vec![b'\n'; MAX_FILE_SIZE as usize + 1]), LoadError::TooLarge { .. }));
    assert!(matches!(written(b"exce = 1"), LoadError::Refused(faults) if faults.len() == 1));
    assert!(matches!(load(Path::new("/dev/zero")), Err(LoadError::NotAFile { .. })));
    assert!(matches!(load(&folder.path().join("absent.toml")), Err(LoadError::Read { .. })));
    assert!(matches!(cellinit::load::load_one(&file), Err(LoadError::Refused(_))));
    assert!(load(&file).unwrap_err().to_string().contains("web.toml:1:1"));
}

#[test]
fn two_files_cannot_be_one_unit() {
    let texts = [("a/web.toml".into(), "service.exec = \"true\"".into()), ("b/web.toml".into(), "service.exec = \"true\"".into())];
    let faults = UnitSet::from_texts(&texts).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].message.contains("a/web.toml"), "{faults:?}");
}

#[test]
fn the_units_that_come_with_the_repository_are_good() {
    let set = load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/units"))).unwrap_or_else(|error| panic!("{error}"));
    assert!(set.len() > 1);
}

fn load(path: &Path) -> Result<UnitSet, cellinit::load::LoadError> {
    cellinit::load::load(&[path.to_owned()])
}

/// What a terminal shows has colours only when it is asked for.
#[test]
fn colours_are_asked_for() {
    let fault = web("exce = 1\n").unwrap_err().remove(0);
    assert!(!fault.to_string().contains('\x1b') && fault.render(true).contains('\x1b'));
    assert_eq!((fault.line, fault.column, fault.key.as_str()), (1, 1, "exce"));
}

/// A long line of text is not thrown at the reader whole, and control characters do not reach the terminal.
#[test]
fn a_hostile_line_is_shown_tamely() {
    let fault = web(&format!("colour = \"\u{202e}{}\"", "x".repeat(100_000))).unwrap_err().remove(0);
    assert!(fault.to_string().len() < 2000, "{}", fault.to_string().len());
    let fault = web("\"a\\u001b[31mb\" = 1\n").unwrap_err().remove(0);
    assert!(!fault.to_string().contains('\x1b'), "{fault}");
}
