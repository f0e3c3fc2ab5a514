//! `docs/unit-file.md`, printed from the schema that the parser reads by.

use std::fmt::Write;

use super::choice::word;
use super::keys::TABLES;
use super::later;
use super::model::{Namespace, NetworkMode, Profile, SeccompPolicy};
use super::schema::{Absent, Key, Table, Type};
use super::walls;

/// The reference of unit files, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    types(&mut page);
    page.push_str("\n# Every key\n");
    TABLES.iter().for_each(|table| section(&mut page, table));
    profiles(&mut page);
    page.push_str(ONE_OF_TWO);
    not_yet(&mut page);
    page
}

const INTRODUCTION: &str = r#"<!-- Printed from src/unit/keys.rs by `UPDATE_DOCS=1 cargo test --test units`. Change it there. -->

# The unit file

A unit is one TOML file, and its name is the file's: `web.toml` is the unit `web`. A native program is two lines:

```toml
# my-server.toml
[service]
exec = ["/usr/bin/my-server", "--port", "8080"]
```

A WebAssembly component that serves HTTP is four:

```toml
# my-guest.toml
[wasm]
module = "/usr/lib/cells/greet.wasm"

[[socket]]
listen = "tcp://0.0.0.0:8080"
```

Both run in a cell with every wall up. What is not said here has the default of the tables below, and the defaults are the
safe ones. `cell check FILE` finds every fault of a file at once; `cell plan UNIT` prints what a start would do.

- A name that is not in this page is an error, with the nearest that is. So is a name of the dictionary that is not built
  yet: nothing is accepted and ignored. Your own notes go into tables whose names begin with `x-`.
- Two settings that contradict one another are refused; neither wins silently.
- Every unit that a file names must exist, wishes (`wants`) and orders (`after`) included: a typo would go unnoticed.
- Numbers are plain decimal: no sign, no blanks, no hexadecimal. `user = "0x0"` is an error and not root.
- `resources.memory = { max = "64MiB" }`, `resources.memory.max = "64MiB"` and a table `[resources.memory]` are the same
  thing to TOML, and so here.
- cgroup v2 is the model; hosts with version 1 are served by the same keys.
"#;

const ONE_OF_TWO: &str = r#"
# Where there were two words

The dictionary of names sometimes has two keys for nearly one thing. This is which was built.

| built | not built | why |
|---|---|---|
| `isolation.user` | `user.namespace` | all namespaces in one table |
| `isolation.net` and `network.mode` | | both, since both are guessed; saying both differently is refused |
| `service.start-timeout` | `service.ready.timeout` | one clock for the start |
| `service.exec` | `service.args`, `service.entrypoint` | there are no images to take the other half from yet |
| `restart.attempts`, `restart.window` | `unit.start-limit` | what limits restarts stands with the restarts |
| `restart.on`, `restart.never-on` | `restart.force-status`, `restart.prevent-status` | causes, not numbers |
| `unit.depends` | `unit.binds-to`, `unit.requisite` | a condition says what is waited for |
| `log.stdout`, `log.stderr` | `wasm.stdio` | one place for output, whatever the payload |
| `resources.pids.max` | | `limits.nproc` counts per user, not per cell; it is there for programs that look at it |
"#;

const PROFILES_HEADING: &str = r#"
# Profiles

What `isolation.profile` sets. Every line can be overridden by a key of its own. A Wasm unit has a derived filter in every
profile that has a filter.

"#;

fn types(page: &mut String) {
    const ROWS: &[(Type, &str)] = &[
        (Type::Text, "Text."),
        (Type::Int(0, i64::MAX), "Plain decimal; `_` between digits is allowed."),
        (Type::Duration, "Numbers with the units d, h, m, s, ms, us, largest first. A bare number is seconds."),
        (Type::Patience, "`\"infinity\"` waits for ever."),
        (Type::Size, "Bytes, or with a unit: kB, MB, GB, TB are of 1000; KiB, MiB, GiB, TiB of 1024."),
        (Type::Cpu, "Of one CPU in percent, or a number of CPUs (`1.5`), or `\"max\"`."),
        (Type::Percent, "With at most one digit after the point."),
        (Type::Mode, "Three or four octal digits in quotes."),
        (Type::Signal, "As in signal(7), with SIG; real-time ones are `SIGRTMIN+n`."),
        (Type::Identity, "A name, or a plain decimal id."),
        (Type::Argv, "A string is split at blanks by shell quoting rules; no shell runs."),
        (Type::Path, "Without `..`."),
        (Type::Limit, "A number, a size or a duration, or `\"infinity\"`."),
    ];
    page.push_str("\n# Types\n\n| type | for example | |\n|---|---|---|\n");
    for (ty, note) in ROWS {
        let _ = writeln!(page, "| {} | `{}` | {note} |", ty.name(), ty.example());
    }
}

fn section(page: &mut String, table: &Table) {
    let heading = match (table.path, table.repeated) {
        ("", _) => "The top of the file".into(),
        (path, true) => format!("[[{path}]]"),
        (path, false) => format!("[{path}]"),
    };
    let _ = write!(page, "\n## {heading}\n\n");
    let _ = write!(page, "{}\n\n", table.doc);
    if let Some((first, action)) = same_as_first_probe(table) {
        let _ = writeln!(page, "The keys of [{first}]; the default of `action` is {action}.");
        return;
    }
    page.push_str("| key | type | default | |\n|---|---|---|---|\n");
    for key in table.keys {
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", key.name, type_cell(key), default_cell(key), key.doc);
    }
}

/// The three probes have the same keys; printing them once is enough.
fn same_as_first_probe(table: &Table) -> Option<(&'static str, String)> {
    let first = TABLES.iter().find(|first| first.path.starts_with("health."))?;
    let action = table.keys.iter().find(|key| key.name == "action")?;
    (table.path != first.path).then(|| (first.path, default_cell(action)))
}

fn type_cell(key: &Key) -> String {
    let listed = |words: Vec<&str>| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match key.ty {
        Type::Choice(words) => listed((words.built)()),
        Type::Choices(words) => format!("list of {}", listed((words.built)())),
        _ => key.ty.name(),
    }
}

fn default_cell(key: &Key) -> String {
    match key.default {
        Absent::Is(value) => format!("`{value}`"),
        Absent::By(words) => words.into(),
        Absent::Unset => "none".into(),
        Absent::Required => "required".into(),
    }
}

/// The table of profiles, from the very function that resolves them.
fn profiles(page: &mut String) {
    const PROFILES: [Profile; 5] = [Profile::None, Profile::Host, Profile::Default, Profile::Strict, Profile::Wasm];
    page.push_str(PROFILES_HEADING);
    let mut row = |name: &str, cell: &dyn Fn(Profile, walls::Walls) -> String| {
        let cells: Vec<String> = PROFILES.iter().map(|profile| cell(*profile, walls::of_profile(*profile))).collect();
        let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
    };
    row("", &|profile, _| format!("`{}`", word(profile)));
    row("---", &|_, _| "---".into());
    row("namespaces", &|_, walls| match (walls.namespaces, walls.cgroup) {
        (Namespace::Private, _) => "user, mount, uts, ipc, pid, net, cgroup".into(),
        (Namespace::Host, Namespace::Private) => "cgroup".into(),
        (Namespace::Host, Namespace::Host) => "none".into(),
    });
    row("user", &|_, walls| match walls.namespaces {
        Namespace::Private => "unprivileged, in a range of its own".into(),
        Namespace::Host => "root".into(),
    });
    row("root", &|profile, _| match profile {
        Profile::None | Profile::Host => "the host's".into(),
        Profile::Default => "the host's, read-only, or `rootfs.path`".into(),
        Profile::Strict => "empty, or `rootfs.path`".into(),
        Profile::Wasm => "empty: the Wasm host and what is granted".into(),
    });
    row("capabilities", &|profile, walls| match (profile, walls.caps.iter().count()) {
        (_, 0) => "none".into(),
        (Profile::None, _) => "all".into(),
        (_, count) => format!("docker's {count}"),
    });
    row("no_new_privs", &|profile, _| if profile == Profile::None { "no" } else { "yes" }.into());
    row("seccomp", &|_, walls| match walls.seccomp {
        SeccompPolicy::Derived => "derived from the grants".into(),
        policy => format!("`{}`", word(policy)),
    });
    row("network", &|_, walls| match walls.network {
        NetworkMode::None => "own, loopback only".into(),
        NetworkMode::Host => "the host's".into(),
    });
    row("processes", &|_, walls| walls.pids_max.map_or("unlimited".into(), |max| max.to_string()));
}

fn not_yet(page: &mut String) {
    page.push_str(
        "\n# Known, not supported yet\n\nThese names are kept for what they will mean. Until then a file that says one is refused.\n\n",
    );
    for (table, names) in later::TABLES {
        let place = if table.is_empty() { "top of the file".into() } else { format!("`{table}`") };
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(page, "- {place}: {}", names.join(", "));
    }
    page.push_str("\nAnd these words:\n\n");
    for table in TABLES {
        for key in table.keys {
            let (Type::Choice(words) | Type::Choices(words)) = key.ty else {
                continue;
            };
            if !words.later.is_empty() {
                let later: Vec<String> = words.later.iter().map(|word| format!("`{word}`")).collect();
                let _ = writeln!(page, "- `{}.{}`: {}", table.path, key.name, later.join(", "));
            }
        }
    }
}
