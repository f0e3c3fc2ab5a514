//! Names out of TOML values: units, users, paths, command lines. As strict as `values`.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::model::*;
use super::values::*;
use super::words;

/// Longest unit name, in bytes: it becomes a cgroup, a file and part of a socket path (108 bytes).
pub(super) const MAX_UNIT_NAME: usize = 100;
/// HOST_NAME_MAX of Linux.
pub(super) const MAX_HOSTNAME: usize = 64;
/// PATH_MAX without its NUL.
pub(super) const MAX_PATH: usize = 4095;
/// useradd(8).
const MAX_USER_NAME: usize = 32;

pub(super) fn unit_name(value: &DeValue<'_>) -> Parsed<UnitName> {
    let name = value.as_str().ok_or(Wrong::Type)?;
    check_unit_name(name).map_or_else(wrong, |()| Ok(name.to_owned()))
}

pub(super) fn unit_names(value: &DeValue<'_>) -> Parsed<Vec<UnitName>> {
    each(value, unit_name)
}

/// Safe as a cgroup, as a file, in a log line and in a socket's path (systemd CVE-2026-29111 is why).
pub(super) fn check_unit_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_UNIT_NAME {
        return Err(format!("a unit's name has 1 to {MAX_UNIT_NAME} bytes"));
    }
    if name.starts_with(['.', '-']) {
        return Err(format!("the name `{}` begins with `{}`", name, &name[..1]));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !"_.:@-".contains(*c)) {
        Some(c) => Err(format!("the name {name:?} contains {c:?}; letters, digits and `_.:@-` are allowed")),
        None => Ok(()),
    }
}

/// A name or a number that can be nobody else's: no sign, no blank, no other base, not 65535 or 4294967295 (which are -1).
pub(super) fn identity(value: &DeValue<'_>) -> Parsed<Identity> {
    let number = match value {
        DeValue::Integer(_) => integer(value).ok().and_then(|n| u64::try_from(n).ok()),
        DeValue::String(text) if text.starts_with(|c: char| c.is_ascii_digit()) => {
            digits(text).filter(|_| text == "0" || !text.starts_with('0'))
        }
        DeValue::String(text) => return user_name(text).map(Identity::Name),
        _ => return Err(Wrong::Type),
    };
    match number.and_then(|n| u32::try_from(n).ok()) {
        Some(id) if id != u32::MAX && id != u32::from(u16::MAX) => Ok(Identity::Id(id)),
        Some(id) => wrong(format!("{id} is the kernel's word for \"no such id\"")),
        None => wrong_try("not a user or group id", "plain decimal digits, 0 to 4294967294, or a name"),
    }
}

fn user_name(name: &str) -> Parsed<String> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let follows = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if begins && follows && name.len() <= MAX_USER_NAME {
        return Ok(name.to_owned());
    }
    wrong_try(
        format!("{name:?} is not the name of a user or group"),
        "a letter or `_`, then letters, digits and `_.-`; user and group are two keys",
    )
}

/// Octal, as chmod(1) takes it.
pub(super) fn mode(value: &DeValue<'_>) -> Parsed<u32> {
    let text = value.as_str().ok_or(Wrong::Type)?;
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match octal.then(|| u32::from_str_radix(text, 8).ok()).flatten() {
        Some(mode) => Ok(mode),
        None => wrong_try(format!("`{text}` is not an octal mode"), "three or four digits from 0 to 7: \"0750\""),
    }
}

/// An absolute path without `..`, in its shortest spelling.
pub(super) fn path(value: &DeValue<'_>) -> Parsed<String> {
    let path = text(value)?;
    if !path.starts_with('/') {
        return wrong_try(format!("{path:?} is a relative path"), "paths begin with `/` here");
    }
    shortest(&path).map(|inner| format!("/{inner}"))
}

/// Components joined again, without empty ones and `.`.
fn shortest(path: &str) -> Parsed<String> {
    if path.len() > MAX_PATH {
        return wrong(format!("a path has at most {MAX_PATH} bytes"));
    }
    if path.contains(char::is_control) {
        return wrong("a path with control characters");
    }
    if path.split('/').any(|part| part == "..") {
        return wrong_try("`..` in a path", "write the path that is meant");
    }
    Ok(path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/"))
}

/// One relative path or a list of them.
pub(super) fn dirs(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    let relative = |value: &DeValue<'_>| {
        let path = text(value)?;
        match shortest(path.strip_suffix('/').unwrap_or(&path))? {
            _ if path.starts_with('/') => {
                wrong_try(format!("{path:?} is an absolute path"), "these are names below /var/lib and /run in the cell")
            }
            inner if inner.is_empty() => wrong("an empty name"),
            inner => Ok(inner),
        }
    };
    match value {
        DeValue::Table(_) => wrong("a table of path, mode and quota is known, but not supported yet"),
        DeValue::Array(_) => each(value, relative),
        _ => relative(value).map(|dir| vec![dir]),
    }
}

pub(super) fn env_files(value: &DeValue<'_>) -> Parsed<Vec<EnvFile>> {
    each(value, |value| {
        let text = text(value)?;
        let (name, optional) = text.strip_prefix('?').map_or((text.as_str(), false), |name| (name, true));
        Ok(EnvFile { path: path(&DeValue::String(name.into()))?, optional })
    })
}

/// Environment variables.
pub(super) fn map(value: &DeValue<'_>) -> Parsed<BTreeMap<String, String>> {
    let (mut map, mut faults) = (BTreeMap::new(), Vec::new());
    for (n, (name, value)) in value.as_table().ok_or(Wrong::Type)?.iter().enumerate() {
        match variable(name.get_ref(), value.get_ref()) {
            Ok(value) => drop(map.insert(name.get_ref().to_string(), value)),
            Err(wrong) => faults.push((n, wrong)),
        }
    }
    if faults.is_empty() { Ok(map) } else { Err(Wrong::Elements(faults)) }
}

fn variable(name: &str, value: &DeValue<'_>) -> Parsed<String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return wrong(format!("{name:?} cannot be the name of a variable"));
    }
    match text(value) {
        Err(Wrong::Type) => wrong_try(format!("the value of `{name}` is not a string"), format!("write it in quotes: {name} = \"...\"")),
        parsed => parsed,
    }
}

/// A command line: a list of words, or one string split by shell rules.
pub(super) fn argv(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    let argv = match value {
        DeValue::Array(_) => texts(value)?,
        _ => match words::split(&text(value)?) {
            Ok(words) => words,
            Err(message) => {
                return wrong_try(message, "write a list to pass it as it is, or name the shell: [\"/bin/sh\", \"-c\", \"...\"]");
            }
        },
    };
    match argv.first().map(String::as_str) {
        None => wrong("an empty command line"),
        Some("") => wrong("the program's name is empty"),
        Some(program) if program.contains('/') && !program.starts_with('/') => {
            wrong_try(format!("{program:?} is a relative path"), "an absolute path, or a bare name that is looked up in the cell's PATH")
        }
        Some(program) if program.starts_with(['-', '@', '+', '!', ':']) => wrong_try(
            format!("{program:?} begins with one of systemd's prefixes"),
            "there are no prefixes here; every program runs inside its cell",
        ),
        Some(_) => Ok(argv),
    }
}

/// A host name inside a cell, a socket's name: letters, digits and a few signs.
pub(super) fn plain_name(value: &DeValue<'_>) -> Parsed<String> {
    let name = value.as_str().ok_or(Wrong::Type)?;
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if name.is_empty() || name.len() > MAX_HOSTNAME || !name.bytes().all(fine) || name.starts_with(['.', '-']) {
        return wrong_try(
            format!("{name:?} cannot be a name here"),
            format!("1 to {MAX_HOSTNAME} letters, digits and `_.-`, beginning with a letter or digit"),
        );
    }
    Ok(name.to_owned())
}
