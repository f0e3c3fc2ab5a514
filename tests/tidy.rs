//! Keeps the house: the invariants of `src/lib.rs` and the arrows of `docs/ARCHITECTURE.md`, read from the sources themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A room, and the rooms it may look at. What is not named here is not a room.
const ROOMS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("unit", &[]),
    ("sys", &[]),
    ("plan", &["unit"]),
    ("supervisor", &["time", "unit"]),
    ("control", &["time", "unit", "plan"]),
    ("load", &["unit"]),
    ("log", &["time", "unit", "sys"]),
    ("cell", &["unit", "plan", "sys"]),
    ("places", &["plan", "control", "cell"]),
    ("wasm", &["time", "unit", "plan", "sys"]),
    ("image", &["unit", "plan", "sys"]),
    ("init", &["time", "unit", "plan", "supervisor", "control", "load", "log", "cell", "places", "sys"]),
    ("ctl", &["time", "unit", "plan", "supervisor", "control", "load", "log", "cell", "places", "image"]),
];

/// Rooms that see no clock, file, environment, pid table or random number.
const PURE: &[&str] = &["time", "unit", "plan", "supervisor", "control"];
/// How one gets at those. A hash map counts: its order is a random number.
const WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::os::unix::net",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "TcpStream",
    "File::open",
    "tokio::",
    "nix::",
    "libc::open",
    "libc::getpid",
    "libc::time",
];

/// Rooms whose death is the machine's: an error there is a value.
const NEVER_DIE: &[&str] = &["init", "supervisor", "control"];
const DEATHS: &[&str] = &[".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!("];

/// One heavy library, one room.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("toml::", &["unit"]),
    ("annotate_snippets", &["unit"]),
    ("libseccomp", &["cell"]),
    ("cgroups_rs", &["init"]),
    ("wasmtime", &["wasm"]),
    ("hyper", &["wasm"]),
    ("clap", &["ctl"]),
    ("tokio", &["init", "wasm", "sys"]),
];

/// What would give PID 1 a second thread, or a second place that waits for children.
const SECOND_THREADS: &[&str] = &["tokio::process", "spawn_blocking", "block_in_place", "new_multi_thread", "thread::spawn", "tokio::fs"];

/// Lines of code in one file: comments, blank lines and tests left out. Past this, look for the second noun.
const LONGEST_FILE: usize = 500;
/// The one exception to "unsafe only in sys": loading precompiled Wasm, with the functions named so.
const UNSAFE_IN_WASM: &str = "deserialize";

/// Licences that a static program may be made of. libseccomp itself, a C library, is LGPL-2.1 and linked statically: that is in
/// order because everything needed to link it anew is in this repository.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

#[test]
fn arrows_point_down() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some((_, below)) = ROOMS.iter().find(|(room, _)| *room == source.room) else {
            if !["lib", "bin"].contains(&source.room.as_str()) {
                faults.push(format!("{}: a room that tests/tidy.rs does not know", source.name));
            }
            continue;
        };
        for (line, text) in source.code_lines() {
            for used in rooms_used(text) {
                if used != source.room && !below.contains(&used) {
                    faults.push(format!("{}:{line}: {} may not look at {used}", source.name, source.room));
                }
            }
        }
    }
    none(faults);
}

#[test]
fn pure_rooms_see_nothing_of_the_world() {
    none(occurrences(PURE, WORLD));
}

#[test]
fn nothing_panics_in_the_rooms_of_pid_1() {
    none(occurrences(NEVER_DIE, DEATHS));
}

#[test]
fn pid_1_has_one_thread_and_waits_in_one_place() {
    none(occurrences(&["init", "cell", "supervisor", "control"], SECOND_THREADS));
    let waits = occurrences(&["init"], &["waitpid(", "waitid(", "wait4("]);
    assert!(waits.len() <= 1, "more than one wait for children:\n{}", waits.join("\n"));
}

#[test]
fn one_heavy_library_has_one_room() {
    let mut faults = Vec::new();
    for (library, rooms) in LIBRARIES {
        let others: Vec<&str> = ROOMS.iter().map(|(room, _)| *room).filter(|room| !rooms.contains(room)).collect();
        faults.extend(occurrences(&others, &[library]));
    }
    none(faults);
}

#[test]
fn unsafe_is_on_the_floor() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.room != "sys") {
        for (line, text) in source.code_lines() {
            let excepted = source.room == "wasm" && text.contains(UNSAFE_IN_WASM);
            if has_word(text, "unsafe") && !excepted {
                faults.push(format!("{}:{line}: unsafe", source.name));
            }
        }
        let is_entry = source.name == format!("src/{}/mod.rs", source.room) || source.name == format!("src/{}.rs", source.room);
        if is_entry && !["lib", "wasm"].contains(&source.room.as_str()) && !source.text.contains("#![forbid(unsafe_code)]") {
            faults.push(format!("{}: lacks #![forbid(unsafe_code)]", source.name));
        }
    }
    none(faults);
}

#[test]
fn files_are_small_and_finished() {
    let mut faults = Vec::new();
    for source in sources() {
        let lines = source.code_lines().filter(|(_, text)| !text.trim().is_empty()).count();
        if lines > LONGEST_FILE {
            faults.push(format!("{}: {lines} lines of code, and {LONGEST_FILE} is the most", source.name));
        }
        for (line, text) in source.text.lines().enumerate() {
            if ["TODO", "FIXME", "XXX", "HACK"].iter().any(|word| has_word(text, word)) {
                faults.push(format!("{}:{}: unfinished", source.name, line + 1));
            }
        }
    }
    none(faults);
}

/// A path of the machine that something was written on is of no use on the next.
#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let home_of_cargo = std::env::var("CARGO_HOME").unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap_or_default()));
    let machine = [env!("CARGO_MANIFEST_DIR").to_owned(), home_of_cargo];
    let mut faults = Vec::new();
    for path in tracked_files() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (line, content) in text.lines().enumerate() {
            if machine.iter().any(|place| content.contains(place.as_str())) {
                faults.push(format!("{}:{}: names this machine", path.display(), line + 1));
            }
        }
    }
    none(faults);
}

#[test]
fn the_architecture_page_knows_every_room() {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let declared = lib.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'));
    none(
        declared
            .filter(|room| !page.contains(&format!("`{room}/`")) && !page.contains(&format!("`{room}.rs`")))
            .map(|room| format!("docs/ARCHITECTURE.md does not mention {room}"))
            .collect(),
    );
}

#[test]
fn cellinit_is_static_and_knows_no_wasm() {
    let program = fs::read(env!("CARGO_BIN_EXE_cellinit")).expect("the cellinit program");
    let holds = |needle: &str| program.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(!holds("wasmtime"), "cellinit links wasmtime");
    assert!(!holds("cranelift"), "cellinit links Cranelift");
    assert!(!holds("/ld-linux"), "cellinit asks for a dynamic loader");
}

#[test]
fn licences_allow_what_is_built() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let licence = package["license"].as_str().unwrap_or("none named");
        if !permitted(licence) {
            faults.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    none(faults);
}

/// An SPDX expression: one side of an OR is enough, both sides of an AND are needed.
fn permitted(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    split_outside_parentheses(&expression, " OR ").iter().any(|choice| {
        split_outside_parentheses(choice, " AND ").iter().all(|part| {
            let part = part.trim();
            match part.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
                Some(inner) => permitted(inner),
                None => LICENCES.contains(&part),
            }
        })
    })
}

fn split_outside_parentheses<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0i32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b' ' if depth == 0 && at >= start && text[at..].starts_with(separator) => {
                parts.push(&text[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn the_reader_of_sources_reads_them_right() {
    assert_eq!(bare_code("a // unsafe\nb /* x\n/* y */ z */ c\n"), "a \nb \n c\n");
    assert_eq!(bare_code("let s = \"// unsafe \\\" x\"; d"), "let s = \"\"; d");
    assert_eq!(bare_code("r#\"a \" unsafe\"# 'x' '\"' &'a str"), "\"\" ' ' ' ' &'a str");
    assert!(permitted("(MIT OR GPL-3.0) AND Zlib") && !permitted("GPL-3.0 AND MIT") && permitted("MIT/Apache-2.0"));
    assert_eq!(rooms_used("use crate::{plan::Step, unit};"), ["plan", "unit"]);
}

struct Source {
    /// `src/unit/parse.rs`
    name: String,
    /// `unit`; `lib` for src/lib.rs
    room: String,
    text: String,
    /// Without comments, what strings say, and tests.
    code: String,
}

impl Source {
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, text)| (index + 1, text))
    }
}

fn sources() -> Vec<Source> {
    let mut found = BTreeMap::new();
    collect(&root().join("src"), &mut found);
    found
        .into_iter()
        .filter(|(path, _)| !path.ends_with("tests.rs"))
        .map(|(path, text)| {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            let room = name.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs").to_owned();
            let code = bare_code(&text);
            let code = code.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            Source { name, room, text, code }
        })
        .collect()
}

fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            found.insert(path, text);
        }
    }
}

/// Where any of these words stands in the code of these rooms.
fn occurrences(rooms: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| rooms.contains(&source.room.as_str())) {
        for (line, text) in source.code_lines() {
            for word in words.iter().filter(|word| stands_in(text, word)) {
                found.push(format!("{}:{line}: {word}", source.name));
            }
        }
    }
    found
}

/// `needle` stands there and is not the tail of a longer name.
fn stands_in(text: &str, needle: &str) -> bool {
    text.match_indices(needle).any(|(at, _)| !needle.starts_with(is_name) || !text[..at].ends_with(is_name))
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(is_name) && !text[at + word.len()..].starts_with(is_name))
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Rooms named after `crate::`, in the forms `crate::room` and `crate::{room::X, other}`.
fn rooms_used(code: &str) -> Vec<&str> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => used.extend(list.split([',', '}']).map(first_name)),
            None => used.push(first_name(rest)),
        }
    }
    used.retain(|name| ROOMS.iter().any(|(room, _)| room == name));
    used
}

fn first_name(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|letter| !is_name(letter)).unwrap_or(text.len())]
}

/// The code without comments and without what its strings say; lines keep their numbers.
fn bare_code(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if letter == '"' {
            bare.push_str("\"\"");
            1 + closing_quote(&rest[1..])
        } else if let Some(length) = raw_string(rest).filter(|_| !bare.ends_with(is_name)) {
            bare.push_str("\"\"");
            length
        } else if let Some(length) = character(rest) {
            bare.push_str("' '");
            length
        } else {
            bare.push(letter);
            rest = &rest[letter.len_utf8()..];
            continue;
        };
        bare.extend(rest[..skipped].chars().filter(|letter| *letter == '\n'));
        rest = &rest[skipped..];
    }
    bare
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    for (at, _) in text.char_indices() {
        if text[at..].starts_with("/*") {
            depth += 1;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            if depth == 0 {
                return at + 2;
            }
        }
    }
    text.len()
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.bytes().take_while(|byte| *byte == b'#').count();
    let body = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(2 + hashes + body.find(&end).map_or(body.len(), |at| at + end.len()))
}

/// A character literal; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let width = if body.starts_with('\\') { body[2..].find('\'')? + 2 } else { body.chars().next()?.len_utf8() };
    body[width..].starts_with('\'').then_some(width + 2)
}

fn tracked_files() -> Vec<PathBuf> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).split_terminator('\0').map(PathBuf::from).collect()
        }
        // Not a clone (an unpacked archive): what was written here by hand is under src and tests.
        _ => sources().into_iter().map(|source| PathBuf::from(source.name)).collect(),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
