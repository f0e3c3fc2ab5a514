//! Schema, parser and reference say the same.

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeValue;

use super::keys::TABLES;
use super::schema::{self, Absent, Key, Table, Type};
use super::{Diagnostic, Unit, choice, foreign, later, parse, reader, walls};

fn keys() -> impl Iterator<Item = (&'static Table, &'static Key)> {
    TABLES.iter().flat_map(|table| table.keys.iter().map(move |key| (table, key)))
}

/// A unit file in which `key` has the value `text`, beside whatever its table cannot be without.
fn file_with(table: &Table, key: &Key, text: &str) -> String {
    let header = match (table.path, table.repeated) {
        ("", _) => String::new(),
        (path, true) => format!("[[{path}]]\n"),
        (path, false) => format!("[{path}]\n"),
    };
    let required = table.keys.iter().filter(|other| matches!(other.default, Absent::Required) && other.name != key.name);
    let beside: String = required.map(|other| format!("{} = {}\n", other.name, other.ty.example())).collect();
    format!("{header}{} = {text}\n{beside}", key.name)
}

fn parse_text(text: &str) -> Result<Unit, Vec<Diagnostic>> {
    parse(Path::new("web.toml"), text)
}

/// The faults that are about the form of `key`, not about what it contradicts.
fn form_faults(table: &Table, key: &Key, text: &str) -> Vec<Diagnostic> {
    let full = format!("{}.{}", table.path, key.name);
    let faults = parse_text(&file_with(table, key, text)).err().unwrap_or_default();
    faults.into_iter().filter(|fault| fault.key.replace("[0]", "") == full && fault.message.contains("takes:")).collect()
}

#[test]
fn every_key_of_the_schema_is_read() {
    let header = |table: &Table| if table.repeated { format!("[[{}]]\n", table.path) } else { format!("[{}]\n", table.path) };
    let _ = parse_text(&TABLES.iter().filter(|table| !table.path.is_empty()).map(header).collect::<String>());
    let asked = reader::asked::all();
    for (table, key) in keys() {
        assert!(asked.contains(&(table.path, key.name)), "[{}] {} is in the schema, and nobody reads it", table.path, key.name);
    }
}

#[test]
fn every_type_takes_its_own_example_and_nothing_of_another_type() {
    for (table, key) in keys() {
        let example = key.ty.example();
        let faults = form_faults(table, key, &example);
        assert!(faults.is_empty(), "[{}] {} = {example}: {faults:?}", table.path, key.name);
        let faults = form_faults(table, key, "1979-05-27");
        assert_eq!(faults.len(), usize::from(!table.path.is_empty()), "[{}] {} took a date", table.path, key.name);
    }
}

#[test]
fn a_default_written_out_gives_the_same_unit_as_one_left_out() {
    const NATIVE: &str = "[service]\nexec = \"true\"\n";
    const SERVER: &str = "[wasm]\nmodule = \"/m\"\n[[socket]]\nlisten = \"tcp://127.0.0.1:1\"\n";
    for (table, key) in keys() {
        let Absent::Is(default) = key.default else {
            continue;
        };
        // What the file must say besides, for the key to make sense: elsewhere, and in the same table.
        let (elsewhere, beside) = match (table.path, key.name) {
            ("service", _) => ("", "exec = \"true\"\n"),
            ("wasm", _) => ("", ""),
            (path, _) if path.starts_with("wasm.") => (SERVER, ""),
            (path, _) if path.starts_with("health.") => (NATIVE, "exec = \"true\"\n"),
            ("mount", "mode") => (NATIVE, "type = \"tmpfs\"\n"),
            _ => (NATIVE, ""),
        };
        let said = file_with(table, key, default).replace("tcp://0.0.0.0:8080", "unix:/s") + beside;
        let unsaid = said.replacen(&format!("{} = {default}\n", key.name), "", 1);
        let whole =
            |text: &str| parse_text(&if table.path.is_empty() { format!("{text}{elsewhere}") } else { format!("{elsewhere}{text}") });
        let said = whole(&said).unwrap_or_else(|faults| panic!("[{}] {}: {faults:?}", table.path, key.name));
        assert_eq!(said, whole(&unsaid).unwrap(), "[{}] {} = {default}", table.path, key.name);
    }
}

#[test]
fn profiles_are_what_their_words_say() {
    for (profile, namespaces, pids) in
        [("none", "host", None), ("host", "host", None), ("default", "private", Some(1024)), ("strict", "private", Some(1024))]
    {
        let unit = parse_text(&format!("service.exec = \"true\"\nisolation.profile = \"{profile}\"\n")).unwrap();
        assert_eq!(choice::word(unit.isolation.user), namespaces, "{profile}");
        assert_eq!(unit.resources.pids_max, pids, "{profile}");
        assert_eq!(unit.caps, walls::of_profile(unit.isolation.profile).caps);
    }
}

#[test]
fn built_and_not_yet_built_do_not_overlap_and_tables_exist() {
    for (path, names) in later::TABLES {
        assert!(path.is_empty() || schema::table(path).is_some() || schema::is_table(path), "[{path}]");
        assert!(names.is_sorted() && names.iter().collect::<BTreeSet<_>>().len() == names.len(), "[{path}] is not in order");
        let built = schema::table(path).into_iter().flat_map(|table| table.keys).map(|key| key.name).chain(schema::children(path));
        let both: Vec<&str> = built.filter(|name| names.contains(name)).collect();
        assert!(both.is_empty(), "[{path}] {both:?} is built and yet listed as not built");
    }
    for (_, key) in keys() {
        if let Type::Choice(words) | Type::Choices(words) = key.ty {
            assert!((words.built)().iter().all(|word| !choice::is_later(words.later, word)), "{}", key.name);
        }
    }
}

#[test]
fn foreign_words_lead_to_keys_that_exist() {
    for target in foreign::targets() {
        let target = target.split(['|', ';', ',']).next().unwrap();
        let (table, rest) = target.trim_start_matches('[').split_once(']').unwrap();
        let names = rest.trim_start_matches(']').split(" with ").next().unwrap();
        for name in names.split(" and ").map(str::trim).filter(|name| !name.is_empty()) {
            let (table, name) = name.rsplit_once('.').map_or((table.to_owned(), name), |(sub, name)| (format!("{table}.{sub}"), name));
            let is_key = schema::table(&table).is_some_and(|t| t.keys.iter().any(|key| key.name == name));
            assert!(is_key || schema::table(&format!("{table}.{name}")).is_some(), "{target}: no [{table}] {name}");
        }
        assert!(TABLES.iter().any(|t| t.path == table || t.path.starts_with(&format!("{table}."))), "{target}");
    }
}

#[test]
fn defaults_are_toml() {
    for (_, key) in keys() {
        if let Absent::Is(text) = key.default {
            assert!(DeValue::parse(text).is_ok(), "{} = {text}", key.name);
        }
        assert!(DeValue::parse(&key.ty.example()).is_ok(), "{}", key.name);
        assert!(key.doc.ends_with(['.', '?', ')']), "{}: {:?} is no sentence", key.name, key.doc);
    }
}
