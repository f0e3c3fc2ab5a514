//! The one table of keys: what a unit file may say, of which type, with which default.
//! The parser reads keys only through it, and `docs/unit-file.md` is printed from it, so the two cannot drift apart.

use std::sync::LazyLock;

use toml::de::DeValue;

use super::choice::{self, Choice};
use super::keys::TABLES;

/// A table of the unit file, by its full name (`resources.memory`).
pub struct Table {
    pub path: &'static str,
    /// Written `[[path]]`, any number of times.
    pub repeated: bool,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

pub struct Key {
    pub name: &'static str,
    pub ty: Type,
    pub default: Absent,
    pub doc: &'static str,
}

/// What the absence of a key means.
#[derive(Clone, Copy)]
pub enum Absent {
    /// As the user would write it; the parser reads this very text when the key is absent.
    Is(&'static str),
    /// Told from other keys, in words.
    By(&'static str),
    /// Nothing: the feature is off.
    Unset,
    Required,
}

#[derive(Clone, Copy)]
pub enum Type {
    Text,
    Texts,
    Bool,
    Int(i64, i64),
    Float(f64, f64),
    Duration,
    Patience,
    Size,
    SizeOrMax,
    Count(i64, i64, &'static str),
    Cpu,
    Percent,
    Mode,
    Signal,
    Statuses,
    Identity,
    Choice(Words),
    Choices(Words),
    Argv,
    Path,
    File,
    EnvFiles,
    Map,
    Unit,
    Units,
    Dirs,
    Capabilities,
    Syscalls,
    Errno,
    Url,
    HostPort,
    Listen,
    Limit,
    Name,
}

/// The words of an enumeration, and those of the dictionary that it lacks yet.
#[derive(Clone, Copy)]
pub struct Words {
    pub built: fn() -> Vec<&'static str>,
    pub later: &'static [&'static str],
}

impl Words {
    pub const fn of<T: Choice>() -> Self {
        Self { built: choice::words::<T>, later: T::LATER }
    }
}

impl Type {
    /// What a value of this type is called in messages and in the reference.
    pub fn name(&self) -> String {
        match self {
            Type::Text | Type::Name => "string".into(),
            Type::Texts => "list of strings".into(),
            Type::Bool => "true or false".into(),
            Type::Int(_, i64::MAX) => "whole number".into(),
            Type::Int(low, high) => format!("whole number from {low} to {high}"),
            Type::Float(low, high) => format!("number from {low} to {high}"),
            Type::Duration => "duration".into(),
            Type::Patience => "duration or \"infinity\"".into(),
            Type::Size => "size".into(),
            Type::SizeOrMax => "size or \"max\"".into(),
            Type::Count(low, high, word) => {
                format!("whole number from {low} to {high}, or \"{word}\"")
            }
            Type::Cpu => "share of CPUs".into(),
            Type::Percent => "percentage".into(),
            Type::Mode => "octal mode".into(),
            Type::Signal => "signal name".into(),
            Type::Statuses => "list of exit statuses and signal names".into(),
            Type::Identity => "name or number".into(),
            Type::Choice(words) => format!("one of {}", quoted(&(words.built)())),
            Type::Choices(words) => format!("list of {}", quoted(&(words.built)())),
            Type::Argv => "command line: a list of strings, or one string".into(),
            Type::Path => "absolute path".into(),
            Type::File => "path".into(),
            Type::EnvFiles => "list of absolute paths, each with an optional leading \"?\"".into(),
            Type::Map => "table of strings".into(),
            Type::Unit => "unit name".into(),
            Type::Units => "list of unit names".into(),
            Type::Dirs => "relative path, or a list of them".into(),
            Type::Capabilities => "list of capabilities, or \"all\"".into(),
            Type::Syscalls => "list of system calls and @groups".into(),
            Type::Errno => "error name".into(),
            Type::Url => "http:// address".into(),
            Type::HostPort => "\"host:port\"".into(),
            Type::Listen => "address to listen on".into(),
            Type::Limit => "limit, or \"soft:hard\"".into(),
        }
    }

    /// A value of this type, as TOML.
    pub fn example(&self) -> String {
        match self {
            Type::Text => "\"Orders API\"".into(),
            Type::Name => "\"web\"".into(),
            Type::Texts => "[\"--port\", \"8080\"]".into(),
            Type::Bool => "true".into(),
            Type::Int(low, high) => low.midpoint(*high).min(low.saturating_add(10)).to_string(),
            Type::Float(low, _) => format!("{:?}", low + 1.0),
            Type::Duration | Type::Patience => "\"1m30s\"".into(),
            Type::Size | Type::SizeOrMax => "\"64MiB\"".into(),
            Type::Count(low, _, _) => low.saturating_add(9).to_string(),
            Type::Cpu => "\"150%\"".into(),
            Type::Percent => "\"10%\"".into(),
            Type::Mode => "\"0750\"".into(),
            Type::Signal => "\"SIGTERM\"".into(),
            Type::Statuses => "[0, \"SIGTERM\"]".into(),
            Type::Identity => "\"www-data\"".into(),
            Type::Choice(words) => format!("\"{}\"", (words.built)().first().unwrap_or(&"")),
            Type::Choices(words) => format!("[\"{}\"]", (words.built)().first().unwrap_or(&"")),
            Type::Argv => "[\"/usr/bin/my-server\", \"--port\", \"8080\"]".into(),
            Type::Path => "\"/srv/data\"".into(),
            Type::File => "\"/usr/lib/cells/greet.wasm\"".into(),
            Type::EnvFiles => "[\"/etc/default/web\", \"?/etc/web.env\"]".into(),
            Type::Map => "{ LANG = \"C.UTF-8\" }".into(),
            Type::Unit => "\"database\"".into(),
            Type::Units => "[\"database\"]".into(),
            Type::Dirs => "[\"web\"]".into(),
            Type::Capabilities => "[\"CAP_NET_BIND_SERVICE\"]".into(),
            Type::Syscalls => "[\"@network-io\", \"mount\"]".into(),
            Type::Errno => "\"EPERM\"".into(),
            Type::Url => "\"http://127.0.0.1:8080/health\"".into(),
            Type::HostPort => "\"127.0.0.1:5432\"".into(),
            Type::Listen => "\"tcp://0.0.0.0:8080\"".into(),
            Type::Limit => "\"1024:4096\"".into(),
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ")
}

/// The table of that full name.
pub(super) fn table(path: &str) -> Option<&'static Table> {
    TABLES.get(place(path)?)
}

/// Its place in [`TABLES`].
fn place(path: &str) -> Option<usize> {
    TABLES.iter().position(|table| table.path == path)
}

/// Whether a table of that full name may be written. It may have no keys of its own, but stand around others (`resources`).
pub(super) fn is_table(path: &str) -> bool {
    TABLES.iter().any(|table| table.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The names of the tables directly below `path` (`""` is the top of the file), without doubles.
pub(super) fn children(path: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = TABLES
        .iter()
        .filter_map(|t| if path.is_empty() { Some(t.path) } else { t.path.strip_prefix(path)?.strip_prefix('.') })
        .filter_map(|rest| rest.split('.').next().filter(|name| !name.is_empty()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A table with the defaults of its keys, in their order, each as the TOML value that the user would have written. They are parsed
/// once: most keys of most files are not said.
pub(super) fn table_with_defaults(path: &str) -> Option<(&'static Table, &'static [Option<DeValue<'static>>])> {
    static PARSED: LazyLock<Vec<Vec<Option<DeValue<'static>>>>> = LazyLock::new(|| {
        let parsed = |key: &Key| match key.default {
            Absent::Is(text) => Some(DeValue::parse(text).ok()?.into_inner()),
            Absent::By(_) | Absent::Unset | Absent::Required => None,
        };
        TABLES.iter().map(|table| table.keys.iter().map(parsed).collect()).collect()
    });
    let place = place(path)?;
    Some((TABLES.get(place)?, PARSED.get(place)?))
}
