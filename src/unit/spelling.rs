//! Names that the schema does not know: a slip, a word of another program, a word of the dictionary that is not built yet.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::foreign;
use super::keys::TABLES;
use super::later;
use super::near::nearest;
use super::reader::{File, found};
use super::schema::{self, Table};

/// Tables whose name begins so are the user's own.
const PRIVATE_PREFIX: &str = "x-";

/// Reports every name below `entries`, the table called `path`, that is not in the schema.
pub(super) fn check(file: &File<'_>, entries: &DeTable<'_>, path: &str) {
    let keys = schema::table(path).map_or(&[][..], |table| table.keys);
    for (name, value) in entries {
        let is_private = name.get_ref().starts_with(PRIVATE_PREFIX) && value.get_ref().is_table();
        let is_key = keys.iter().any(|key| key.name == name.get_ref());
        if is_private || is_key {
            continue;
        }
        let full = join(path, name.get_ref());
        // `["resources.memory"]` is one name with a point in it, which is no table of ours.
        let is_one_word = !name.get_ref().is_empty() && !name.get_ref().contains('.');
        match is_one_word && schema::is_table(&full) {
            true => check_table(file, name, value, &full),
            false => unknown(file, name, path, &full),
        }
    }
}

fn check_table(file: &File<'_>, name: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>, full: &str) {
    let table = schema::table(full);
    let repeated = table.is_some_and(|t| t.repeated);
    match value.get_ref() {
        DeValue::Table(entries) if !repeated => check(file, entries, full),
        DeValue::Array(array) if repeated && array.iter().all(|v| v.get_ref().is_table()) => {
            array.iter().filter_map(|v| v.get_ref().as_table()).for_each(|entries| check(file, entries, full));
        }
        other => {
            let (message, help) = match repeated {
                true => (format!("`{full}` is a list of tables, found {}", found(other)), format!("write [[{full}]]")),
                false => (format!("`{full}` is a table, found {}", found(other)), table.map_or(String::new(), within)),
            };
            let span = if other.is_table() { name.span() } else { value.span() };
            file.fault(span, full, message, Some(help).filter(|help| !help.is_empty()));
        }
    }
}

fn within(table: &Table) -> String {
    match table.keys.first() {
        Some(key) => format!("for example: {}.{} = {}", table.path, key.name, key.ty.example()),
        None => String::new(),
    }
}

fn unknown(file: &File<'_>, name: &Spanned<std::borrow::Cow<'_, str>>, path: &str, full: &str) {
    if file.is_full() {
        return;
    }
    let word = name.get_ref().as_ref();
    if later::is_later(path, word) {
        return file.fault(name.span(), full, format!("`{full}` is known, but not supported yet"), None);
    }
    let place = if path.is_empty() { "at the top of a unit file".to_owned() } else { format!("in [{path}]") };
    file.fault(name.span(), full, format!("unknown name `{word}` {place}"), suggest(path, word));
}

fn suggest(path: &str, word: &str) -> Option<String> {
    if let Some(replacement) = foreign::replacement(word) {
        return Some(replacement);
    }
    let here = schema::table(path).into_iter().flat_map(|t| t.keys).map(|key| key.name).chain(schema::children(path));
    let names: Vec<&str> = here.collect();
    if let Some(near) = nearest(word, names.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let elsewhere: Vec<String> =
        TABLES.iter().filter(|t| t.path != path && t.keys.iter().any(|key| key.name == word)).map(|t| format!("[{}]", t.path)).collect();
    match elsewhere.is_empty() {
        false => Some(format!("`{word}` belongs in {}", elsewhere.join(" or "))),
        true => Some(format!("known here: {}", names.join(", "))),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
