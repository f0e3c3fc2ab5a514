//! All units of a host together: names, references, loops and what two units cannot both have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::guest::anchored;
use super::model::*;
use super::near::nearest;
use super::order;
use super::parse::{ParsedUnit, parse_with_places};

/// The target that is started at boot. It exists whether or not a file defines it.
pub const DEFAULT_TARGET: &str = "default";

/// Faults between units that are kept; see `reader::MAX_FAULTS` for those inside one.
const MAX_SET_FAULTS: usize = 1000;

/// Checked units, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnitSet {
    units: Vec<Unit>,
}

impl UnitSet {
    /// Parses all files and checks them against one another. On failure every fault of every file is returned, file by file.
    pub fn from_texts(files: &[(PathBuf, String)]) -> Result<UnitSet, Vec<Diagnostic>> {
        let mut draft = Draft::default();
        files.iter().for_each(|(path, text)| draft.add(path, text));
        draft.add_default_target();
        draft.check();
        draft.finish()
    }

    /// Every fault of these files, beside others that nobody could read: what those might say is held against no one.
    pub fn faults_beside(files: &[(PathBuf, String)], unread: &[&Path]) -> Vec<Diagnostic> {
        let mut draft = Draft::default();
        let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        draft.names.extend(unread.iter().map(|path| (stem(path), path.to_path_buf())));
        files.iter().for_each(|(path, text)| draft.add(path, text));
        draft.add_default_target();
        draft.check();
        draft.finish().err().unwrap_or_default()
    }

    /// The same units, with paths that are relative to their files seen from `folder`: a loader that was given relative
    /// names of files passes the folder that it stood in.
    pub fn anchored(mut self, folder: &Path) -> UnitSet {
        for unit in &mut self.units {
            if let Payload::Wasm(wasm) = &mut unit.payload {
                wasm.module = anchored(&wasm.module, folder);
            }
        }
        self
    }

    pub fn get(&self, name: &str) -> Option<&Unit> {
        self.units.get(place(&self.units, name)?)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Unit> + Clone {
        self.units.iter()
    }

    pub fn len(&self) -> usize {
        self.units.len()
    }

    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }
}

/// In the order of their names.
impl IntoIterator for UnitSet {
    type Item = Unit;
    type IntoIter = std::vec::IntoIter<Unit>;

    fn into_iter(self) -> Self::IntoIter {
        self.units.into_iter()
    }
}

fn place(units: &[Unit], name: &str) -> Option<usize> {
    units.binary_search_by(|unit| unit.name.as_str().cmp(name)).ok()
}

/// A fault that was found elsewhere, such as in what a host has, at its key in the text of the file.
pub fn fault_at(path: &Path, text: &str, key: &str, message: String, help: Option<String>) -> Diagnostic {
    match parse_with_places(path, text).0 {
        Some(parsed) => parsed.fault(key, message, help),
        None => Diagnostic::new(path, &text.into(), 0..0, key.to_owned(), message, help),
    }
}

/// The unit that was probably meant.
pub fn nearest_unit<'a>(name: &str, units: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let bare = [".service", ".target", ".socket", ".toml"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    units.clone().find(|unit| *unit == bare).or_else(|| nearest(bare, units))
}

/// The directories of the host that a unit may write to.
pub fn written(unit: &Unit) -> impl Iterator<Item = &str> {
    grants(unit).into_iter().filter(|(_, _, writable)| *writable).map(|(_, path, _)| path)
}

/// What a unit is shown of the host: the key that says so, the path, whether it may write there.
fn grants(unit: &Unit) -> Vec<(String, &str, bool)> {
    let mut grants: Vec<(String, &str, bool)> = Vec::new();
    grants.extend(unit.rootfs.path.as_deref().map(|path| ("rootfs.path".to_owned(), path, unit.rootfs.writable)));
    for (n, mount) in unit.mounts.iter().enumerate() {
        if let MountKind::Bind { source, .. } = &mount.kind {
            grants.push((format!("mount[{n}].source"), source, mount.writable));
        }
    }
    if let Payload::Wasm(wasm) = &unit.payload {
        grants.extend(wasm.dirs.iter().enumerate().map(|(n, dir)| (format!("wasm.dir[{n}].host"), dir.host.as_str(), dir.writable)));
    }
    grants
}

/// The set while it is checked.
#[derive(Default)]
pub(super) struct Draft {
    /// Also those whose files are at fault: what they say of other units is checked with all else.
    pub units: BTreeMap<UnitName, ParsedUnit>,
    /// Also of units whose files nobody could read: a reference to one of them is no fault.
    names: BTreeMap<UnitName, PathBuf>,
    faults: Vec<Diagnostic>,
}

impl Draft {
    fn add(&mut self, path: &Path, text: &str) {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(first) = self.names.get(&name) {
            let message = format!("a unit `{name}` exists already, in {}", first.display());
            return self.faults.push(Diagnostic::new(path, &text.into(), 0..0, String::new(), message, None));
        }
        self.names.insert(name, path.to_owned());
        let (parsed, faults) = parse_with_places(path, text);
        self.units.extend(parsed.map(|parsed| (parsed.unit.name.clone(), parsed)));
        self.faults.extend(faults);
    }

    /// Those whose every word counts.
    fn whole(&self) -> impl Iterator<Item = &ParsedUnit> + Clone {
        self.units.values().filter(|parsed| parsed.is_whole)
    }

    fn add_default_target(&mut self) {
        let is_written = self.names.contains_key(DEFAULT_TARGET);
        if !is_written {
            self.add(Path::new("default.toml"), "[unit]\nkind = \"target\"\ndescription = \"What starts at boot\"\n");
        }
        if let Some(default) = self.units.get_mut(DEFAULT_TARGET) {
            default.unit.wanted_by.retain(|name| name != DEFAULT_TARGET);
            if !is_written {
                // No file: whoever copies or shows the files of units must not find one that happens to be called so.
                default.unit.source = PathBuf::new();
            }
        }
    }

    fn check(&mut self) {
        let mut faults = Vec::new();
        for parsed in self.units.values() {
            self.references(parsed, &mut faults);
            self.conditions(parsed, &mut faults);
            self.conflicts(parsed, &mut faults);
        }
        self.own_directories(&mut faults);
        self.shared(&mut faults);
        self.nested(&mut faults);
        faults.extend(order::loops(self));
        self.faults.extend(faults);
    }

    fn references(&self, parsed: &ParsedUnit, faults: &mut Vec<Diagnostic>) {
        for (key, name) in references(&parsed.unit).into_iter().filter(|(_, name)| !name.is_empty()) {
            if name == parsed.unit.name {
                parsed.report(faults, &key, format!("`{name}` names itself"), None);
            } else if !self.names.contains_key(name) {
                let help = match nearest_unit(name, self.names.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "every unit that is named must exist, for wishes and orders too: a typo would go unnoticed".into(),
                };
                parsed.report(faults, &key, format!("there is no unit `{name}`"), Some(help));
            }
        }
    }

    fn conditions(&self, parsed: &ParsedUnit, faults: &mut Vec<Diagnostic>) {
        for (n, depends) in parsed.unit.depends.iter().enumerate() {
            let Some(other) = self.units.get(&depends.unit).filter(|other| other.is_whole) else {
                continue;
            };
            let key = format!("unit.depends[{n}].condition");
            let health = &other.unit.health;
            match depends.condition {
                Condition::Completed if other.unit.kind != Kind::Job => {
                    let message = format!("`{}` is no job, so it never completes", depends.unit);
                    parsed.report(faults, &key, message, Some("\"started\", \"ready\" or \"healthy\"".into()));
                }
                Condition::Healthy if health.startup.is_none() && health.live.is_none() && health.ready.is_none() => {
                    let message = format!("`{}` has no health probe, so nobody could tell", depends.unit);
                    parsed.report(faults, &key, message, Some(format!("add [health.ready] to `{}`, or wait for \"ready\"", depends.unit)));
                }
                _ => {}
            }
        }
    }

    /// A unit that needs, directly or through others, what it cannot run beside.
    fn conflicts(&self, parsed: &ParsedUnit, faults: &mut Vec<Diagnostic>) {
        let unit = &parsed.unit;
        if unit.conflicts.is_empty() {
            return;
        }
        let needed = self.needed_by(unit);
        for (n, name) in unit.conflicts.iter().enumerate().filter(|(_, name)| needed.contains(name.as_str())) {
            let message = format!("`{}` needs `{name}` and conflicts with it", unit.name);
            parsed.report(faults, &format!("unit.conflicts[{n}]"), message, None);
        }
        for needer in self.units.values().filter(|other| unit.conflicts.contains(&other.unit.name)) {
            if self.needed_by(&needer.unit).contains(unit.name.as_str()) {
                let n = unit.conflicts.iter().position(|name| *name == needer.unit.name).unwrap_or_default();
                let message = format!("`{}` needs `{}`, which conflicts with it", needer.unit.name, unit.name);
                parsed.report(faults, &format!("unit.conflicts[{n}]"), message, None);
            }
        }
    }

    fn needed_by<'a>(&'a self, unit: &'a Unit) -> BTreeSet<&'a str> {
        let (mut needed, mut open) = (BTreeSet::new(), vec![unit]);
        while let Some(unit) = open.pop() {
            let names = unit.requires.iter().chain(unit.depends.iter().map(|depends| &depends.unit));
            for name in names {
                if needed.insert(name.as_str()) {
                    open.extend(self.units.get(name).map(|parsed| &parsed.unit));
                }
            }
        }
        needed
    }

    /// State and runtime directories belong to one unit, and lie in no other's: who may write to one decides what is below it.
    fn own_directories(&self, faults: &mut Vec<Diagnostic>) {
        for (kind, of) in [("state", (|dirs| &dirs.state) as fn(&Dirs) -> &[String]), ("runtime", |dirs| &dirs.runtime)] {
            let all = || self.whole().flat_map(|parsed| of(&parsed.unit.dirs).iter().enumerate().map(move |(n, dir)| (parsed, n, dir)));
            let mut owners: BTreeMap<&Path, &str> = BTreeMap::new();
            for (parsed, n, dir) in all() {
                let name = parsed.unit.name.as_str();
                if let Some(other) = owners.insert(Path::new(dir), name).filter(|other| *other != name) {
                    let message = format!("the {kind} directory `{dir}` is `{other}`'s already");
                    parsed.report(faults, &format!("dirs.{kind}[{n}]"), message, None);
                }
            }
            for (parsed, n, dir) in all() {
                let above = Path::new(dir).ancestors().skip(1).filter_map(|above| Some((above, *owners.get(above)?)));
                if let Some((above, owner)) = above.into_iter().find(|(_, owner)| *owner != parsed.unit.name) {
                    let message = format!("`{dir}` is below `{}`, where `{owner}` may write and so decide what it is", above.display());
                    parsed.report(
                        faults,
                        &format!("dirs.{kind}[{n}]"),
                        message,
                        Some("take directories that lie beside each other".into()),
                    );
                }
            }
        }
    }

    /// Addresses belong to one unit.
    fn shared(&self, faults: &mut Vec<Diagnostic>) {
        let mut paths = BTreeMap::new();
        let mut ports: BTreeMap<u16, Vec<(SocketAddr, &str)>> = BTreeMap::new();
        for parsed in self.whole() {
            let name = parsed.unit.name.as_str();
            for (n, socket) in parsed.unit.sockets.iter().enumerate() {
                let other = match &socket.listen {
                    Listen::Unix(path) => paths.insert(path, name),
                    Listen::Tcp(address) => {
                        let taken = ports.entry(address.port()).or_default();
                        let other = taken.iter().find(|(other, _)| overlap(other, address)).map(|(_, other)| *other);
                        taken.push((*address, name));
                        other
                    }
                };
                if let Some(other) = other.filter(|other| *other != name) {
                    parsed.report(faults, &format!("socket[{n}].listen"), format!("`{other}` listens on that address already"), None);
                }
            }
        }
    }

    /// Who may write to a directory may put a symbolic link in the place of whatever is below it, and the next start of whoever is
    /// granted that would follow it, as root, anywhere on the host.
    fn nested(&self, faults: &mut Vec<Diagnostic>) {
        let granted = || self.whole().flat_map(|parsed| grants(&parsed.unit).into_iter().map(move |grant| (parsed, grant)));
        for (parsed, (key, path, _)) in granted() {
            let above = granted().find(|(_, (_, above, writable))| *writable && path != *above && Path::new(path).starts_with(above));
            if let Some((owner, (_, above, _))) = above {
                let message = format!("`{path}` is below `{above}`, where `{}` may write and so decide what it is", owner.unit.name);
                let help = Some("grant directories that lie beside each other".to_owned());
                parsed.report(faults, &key, message, help);
            }
        }
    }

    /// The units, with everyone who is wanted by a unit among its wants.
    fn finish(mut self) -> Result<UnitSet, Vec<Diagnostic>> {
        if !self.faults.is_empty() {
            self.faults.sort_by(|a, b| (&a.path, a.line, a.column).cmp(&(&b.path, b.line, b.column)));
            return Err(self.faults);
        }
        let mut units: Vec<Unit> = self.units.into_values().map(|parsed| parsed.unit).collect();
        for n in 0..units.len() {
            let (name, wanted_by) = (units[n].name.clone(), units[n].wanted_by.clone());
            for wanting in wanted_by.iter().filter_map(|by| place(&units, by)).collect::<Vec<_>>() {
                if !units[wanting].wants.contains(&name) {
                    units[wanting].wants.push(name.clone());
                }
            }
        }
        Ok(UnitSet { units })
    }
}

impl ParsedUnit {
    fn report(&self, faults: &mut Vec<Diagnostic>, key: &str, message: String, help: Option<String>) {
        if faults.len() < MAX_SET_FAULTS {
            faults.push(self.fault(key, message, help));
        }
    }

    pub(super) fn fault(&self, key: &str, message: String, help: Option<String>) -> Diagnostic {
        Diagnostic::new(&self.unit.source, &self.text, self.places.of(key), key.to_owned(), message, help)
    }
}

/// Two addresses of one port of which only one can be bound.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()))
}

/// Every other unit that `unit` names, with the key that does.
fn references(unit: &Unit) -> Vec<(String, &str)> {
    let lists = [
        ("unit.requires", &unit.requires),
        ("unit.wants", &unit.wants),
        ("unit.after", &unit.after),
        ("unit.before", &unit.before),
        ("unit.conflicts", &unit.conflicts),
        ("install.wanted-by", &unit.wanted_by),
    ];
    let listed =
        lists.into_iter().flat_map(|(key, names)| names.iter().enumerate().map(move |(n, name)| (format!("{key}[{n}]"), name.as_str())));
    let depends = unit.depends.iter().enumerate().map(|(n, depends)| (format!("unit.depends[{n}].unit"), depends.unit.as_str()));
    listed.chain(depends).collect()
}
