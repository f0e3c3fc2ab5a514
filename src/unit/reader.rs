//! Typed reading of one file's TOML, by the schema. Faults are collected, never thrown: one pass finds them all.

use std::borrow::Cow;
use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::choice::Choice;
use super::diagnostic::Diagnostic;
use super::keys::TABLES;
use super::schema::{self, Absent, Key, Table, Type};
use super::values::{Parsed, Wrong, between, count, float, one_of, wrong};

/// Faults kept per file; who has more will not read them all at once.
pub(super) const MAX_FAULTS: usize = 100;

/// Where in its file each key was said, by full name (`mount[0].target`). What was not said is not in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(BTreeMap<String, Range<usize>>);

impl Places {
    pub fn said(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The place of the key, or of the longest table around it that was said; else the file's beginning.
    pub fn of(&self, key: &str) -> Range<usize> {
        let mut key = key;
        loop {
            if let Some(span) = self.0.get(key) {
                return span.clone();
            }
            match key.rfind(['.', '[']) {
                Some(at) => key = &key[..at],
                None => return 0..0,
            }
        }
    }
}

/// One file while it is read.
pub(super) struct File<'a> {
    pub path: &'a Path,
    pub text: Arc<str>,
    root: &'a DeTable<'a>,
    faults: RefCell<Vec<Diagnostic>>,
    absences: RefCell<Vec<Diagnostic>>,
    places: RefCell<Places>,
}

impl<'a> File<'a> {
    pub fn new(path: &'a Path, text: Arc<str>, root: &'a DeTable<'a>) -> Self {
        Self { path, text, root, faults: RefCell::default(), absences: RefCell::default(), places: RefCell::default() }
    }

    pub fn root(&self) -> &'a DeTable<'a> {
        self.root
    }

    pub fn fault(&self, span: Range<usize>, key: impl Into<String>, message: impl Into<String>, help: Option<String>) {
        self.keep(&self.faults, span, key.into(), message.into(), help);
    }

    /// Something that should be there is not.
    pub fn absence(&self, span: Range<usize>, key: impl Into<String>, message: impl Into<String>, help: Option<String>) {
        self.keep(&self.absences, span, key.into(), message.into(), help);
    }

    fn keep(&self, list: &RefCell<Vec<Diagnostic>>, span: Range<usize>, key: String, message: String, help: Option<String>) {
        if list.borrow().len() < MAX_FAULTS {
            list.borrow_mut().push(Diagnostic::new(self.path, &self.text, span, key, message, help));
        }
    }

    /// Are there as many faults as are kept? Then further ones need not be looked into.
    pub fn is_full(&self) -> bool {
        self.faults.borrow().len() >= MAX_FAULTS
    }

    /// What was found, in the order of the file. An absence is only reported if the whole text could be read and no fault
    /// nearby explains it: `exce = ...` is one slip, not a wrong name and a missing program.
    pub fn finish(self, readable: bool) -> (Vec<Diagnostic>, Places) {
        let mut faults = self.faults.into_inner();
        if readable {
            let tables: Vec<String> = faults.iter().map(|fault| table_of(&fault.key)).collect();
            let explained = |absence: &Diagnostic| tables.iter().any(|table| table.is_empty() || *table == table_of(&absence.key));
            faults.extend(self.absences.into_inner().into_iter().filter(|absence| !explained(absence)));
        }
        faults.sort_by_key(|fault| (fault.line, fault.column));
        (faults, self.places.into_inner())
    }

    pub fn places(&self) -> Ref<'_, Places> {
        self.places.borrow()
    }

    /// Was anything written at `path` or below?
    pub fn has(&self, path: &str) -> bool {
        self.descend(path).is_some()
    }

    /// What `read` makes of all that is at `path` and below. Most tables of most files are not written: what is made of one then
    /// is the same for every file, and kept in `unsaid`.
    pub fn section<T: Clone>(&self, path: &'static str, unsaid: &OnceLock<T>, read: impl Fn() -> T) -> T {
        if self.has(path) { read() } else { unsaid.get_or_init(read).clone() }
    }

    /// A table that is written once, or not at all: then every key has its default.
    pub fn table(&self, path: &'static str) -> Reader<'_, 'a> {
        let found = self.descend(path).and_then(|value| Some((value.get_ref().as_table()?, value.span())));
        let entries = if path.is_empty() { Some((self.root, 0..0)) } else { found };
        self.reader(path, Cow::Borrowed(path), entries)
    }

    /// A table that is written any number of times.
    pub fn tables(&self, path: &'static str) -> Vec<Reader<'_, 'a>> {
        let Some(array) = self.descend(path).and_then(|value| value.get_ref().as_array()) else {
            return Vec::new();
        };
        let tables = array.iter().filter_map(|value| Some((value.get_ref().as_table()?, value.span())));
        tables.enumerate().map(|(n, entries)| self.reader(path, Cow::Owned(format!("{path}[{n}]")), Some(entries))).collect()
    }

    fn descend(&self, path: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let (mut table, mut found) = (Some(self.root), None);
        for name in path.split(['.']) {
            found = table?.get(name);
            table = found?.get_ref().as_table();
        }
        found
    }

    fn reader(&self, path: &'static str, name: Cow<'static, str>, entries: Option<(&'a DeTable<'a>, Range<usize>)>) -> Reader<'_, 'a> {
        let found = schema::table_with_defaults(path);
        debug_assert!(found.is_some(), "the schema has no table `{path}`");
        let (table, defaults) = found.unwrap_or((&TABLES[0], &[]));
        if let Some((_, span)) = &entries {
            self.places.borrow_mut().0.insert(name.clone().into_owned(), span.clone());
        }
        Reader { file: self, table, defaults, name, entries }
    }
}

type Found<'a> = (&'static Key, Option<&'a Spanned<DeValue<'a>>>, Option<&'static DeValue<'static>>);

/// One table while it is read.
pub(super) struct Reader<'f, 'a> {
    file: &'f File<'a>,
    table: &'static Table,
    /// Of its keys, in their order.
    defaults: &'static [Option<DeValue<'static>>],
    /// Its full name, with its number where there are several.
    name: Cow<'static, str>,
    entries: Option<(&'a DeTable<'a>, Range<usize>)>,
}

impl<'a> Reader<'_, 'a> {
    /// Was the table written at all?
    pub fn said(&self) -> bool {
        self.entries.is_some()
    }

    /// The key's value, or that of its default; `None` if there is neither, or the value is at fault.
    pub fn read<T>(&self, name: &'static str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> Option<T> {
        let (key, said, default) = self.find(name)?;
        if let Some(value) = said {
            match parse(value.get_ref()) {
                Ok(parsed) => return Some(parsed),
                Err(wrong) => self.explain(key, value, wrong),
            }
        }
        default.and_then(|default| parse(default).ok())
    }

    /// The key, what was said, and the default. Once for all types: what is made for each of them is run once in a boot.
    fn find(&self, name: &'static str) -> Option<Found<'a>> {
        let (key, default) = self.key_and_default(name)?;
        let said = self.entries.as_ref().and_then(|(entries, _)| entries.get(name));
        match said {
            Some(value) => self.note_places(key, value),
            None if matches!(key.default, Absent::Required) && self.said() => {
                let span = self.entries.as_ref().map_or(0..0, |(_, span)| span.clone());
                self.file.absence(span, self.full(name), format!("`{name}` is missing in this {}", self.header()), Some(example(key)));
            }
            None => {}
        }
        Some((key, said, default))
    }

    /// Was this key written?
    pub fn has(&self, name: &str) -> bool {
        self.entries.as_ref().is_some_and(|(entries, _)| entries.contains_key(name))
    }

    /// Like `read`, for keys that always have a value. The fallback is only ever seen beside a fault.
    pub fn value<T: Default>(&self, name: &'static str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> T {
        self.read(name, parse).unwrap_or_default()
    }

    /// An enumeration with a default.
    pub fn choice<T: Choice>(&self, name: &'static str) -> T {
        self.read(name, one_of).unwrap_or(T::ALL[0].1)
    }

    /// A whole number within the bounds that the schema gives.
    pub fn int<T: TryFrom<i64>>(&self, name: &'static str) -> Option<T> {
        let Type::Int(low, high) = self.key(name)?.ty else {
            debug_assert!(false, "{} is no whole number in the schema", self.full(name));
            return None;
        };
        self.read(name, |value| between(value, low, high)).and_then(|number| T::try_from(number).ok())
    }

    /// A number within the bounds that the schema gives.
    pub fn float(&self, name: &'static str) -> f64 {
        let Some(Key { ty: Type::Float(low, high), .. }) = self.key(name) else {
            debug_assert!(false, "{} is no number in the schema", self.full(name));
            return 0.0;
        };
        let within = |value: &DeValue<'_>| match float(value)? {
            number if (*low..=*high).contains(&number) => Ok(number),
            number => wrong(format!("{number} is out of range: {low} to {high}")),
        };
        self.value(name, within)
    }

    /// A whole number within the schema's bounds, or its word for "no bound" (`None`).
    pub fn count(&self, name: &'static str) -> Option<u32> {
        let Type::Count(low, high, word) = self.key(name)?.ty else {
            debug_assert!(false, "{} is no count in the schema", self.full(name));
            return None;
        };
        self.read(name, |value| count(value, low, high, word)).flatten()
    }

    fn key(&self, name: &'static str) -> Option<&'static Key> {
        self.key_and_default(name).map(|(key, _)| key)
    }

    fn key_and_default(&self, name: &'static str) -> Option<(&'static Key, Option<&'static DeValue<'static>>)> {
        let place = self.table.keys.iter().position(|key| key.name == name);
        debug_assert!(place.is_some(), "the schema has no key {}", self.full(name));
        #[cfg(test)]
        asked::note(self.table.path, name);
        let key = self.table.keys.get(place?)?;
        Some((key, self.defaults.get(place?).and_then(Option::as_ref)))
    }

    fn full(&self, name: &str) -> String {
        if self.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.name) }
    }

    fn header(&self) -> String {
        match self.table.repeated {
            true => format!("[[{}]]", self.table.path),
            false => format!("[{}]", self.table.path),
        }
    }

    /// The value's place; for lists that other files answer to, each element's as well.
    fn note_places(&self, key: &'static Key, value: &Spanned<DeValue<'_>>) {
        let (full, mut places) = (self.full(key.name), self.file.places.borrow_mut());
        if matches!(key.ty, Type::Units | Type::Dirs) {
            let elements = value.get_ref().as_array().into_iter().flatten().enumerate();
            places.0.extend(elements.map(|(n, element)| (format!("{full}[{n}]"), element.span())));
        }
        places.0.insert(full, value.span());
    }

    fn explain(&self, key: &'static Key, value: &Spanned<DeValue<'_>>, wrong: Wrong) {
        let takes = format!("`{}` takes: {}", key.name, key.ty.name());
        let (message, help) = match wrong {
            Wrong::Value { message, help } => (message, help),
            Wrong::Type => (format!("{takes}; found {}", found(value.get_ref())), Some(example(key))),
            Wrong::Elements(faults) => {
                return faults.into_iter().for_each(|(n, wrong)| {
                    if let Some(element) = nth(value.get_ref(), n) {
                        self.explain(key, element, wrong);
                    }
                });
            }
        };
        self.file.fault(value.span(), self.full(key.name), message, help);
    }
}

/// The element of a list or a table, by its number.
fn nth<'v, 'a>(value: &'v DeValue<'a>, n: usize) -> Option<&'v Spanned<DeValue<'a>>> {
    match value {
        DeValue::Table(table) => table.iter().nth(n).map(|(_, element)| element),
        list => list.as_array()?.get(n),
    }
}

/// The table that a key stands in, whichever of several it is: `mount` for `mount[0].target`.
fn table_of(key: &str) -> String {
    let table = key.rsplit_once('.').map_or("", |(table, _)| table);
    table.split('[').next().unwrap_or_default().to_owned()
}

fn example(key: &Key) -> String {
    format!("for example: {} = {}", key.name, key.ty.example())
}

/// What a value is, in words.
pub(super) fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a string".into(),
        DeValue::Integer(_) => "a whole number".into(),
        DeValue::Float(_) => "a number with a point".into(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// Which keys the parser has asked for: a key of the schema that nobody reads would be accepted and ignored.
#[cfg(test)]
pub(super) mod asked {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static ASKED: RefCell<BTreeSet<(&'static str, &'static str)>> = RefCell::default();
    }

    pub fn note(table: &'static str, key: &'static str) {
        ASKED.with_borrow_mut(|asked| asked.insert((table, key)));
    }

    pub fn all() -> BTreeSet<(&'static str, &'static str)> {
        ASKED.with_borrow(Clone::clone)
    }
}
