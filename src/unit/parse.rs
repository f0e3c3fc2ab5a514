//! One file's text into one [`Unit`].

use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::diagnostic::Diagnostic;
use super::model::*;
use super::names::{argv, check_unit_name, plain_name, unit_names};
use super::reader::{File, MAX_FAULTS, Places, Reader};
use super::values::text;
use super::{guest, rules, service, spelling, walls};

/// A unit, and where in its text each key was said: what the checks across units need for their messages.
pub(super) struct ParsedUnit {
    pub unit: Unit,
    /// Nothing in its file is at fault; else a default may stand in the place of what is.
    pub is_whole: bool,
    pub text: Arc<str>,
    pub places: Places,
}

/// Reads one unit file. On failure every fault of the file is returned, in the order of its lines.
pub fn parse(source: &Path, text: &str) -> Result<Unit, Vec<Diagnostic>> {
    match parse_with_places(source, text) {
        (Some(parsed), faults) if faults.is_empty() => Ok(parsed.unit),
        (_, faults) => Err(faults),
    }
}

/// No unit: the text is no TOML.
pub(super) fn parse_with_places(source: &Path, text: &str) -> (Option<ParsedUnit>, Vec<Diagnostic>) {
    let text: Arc<str> = text.into();
    let (root, syntax_errors) = DeTable::parse_recoverable(&text);
    let file = File::new(source, text.clone(), root.get_ref());

    spelling::check(&file, root.get_ref(), "");
    let unit = read(&file);
    let readable = syntax_errors.is_empty();
    if readable {
        rules::check(&file, &unit);
    }

    let (mut faults, places) = file.finish(readable);
    if !readable {
        faults = syntax_faults(source, &text, &syntax_errors, faults);
    }
    let parsed = readable.then_some(ParsedUnit { unit, is_whole: faults.is_empty(), text, places });
    (parsed, faults)
}

fn read(file: &File<'_>) -> Unit {
    let (r, services, isolation) = (file.table("unit"), file.table("service"), file.table("isolation"));
    let name = name(file, &r);
    let is_wasm = file.has("wasm");
    let (kind, service_type) = service::kinds(file, &r, &services, is_wasm);
    let profile = walls::profile(&isolation, is_wasm);
    let profile_walls = walls::of_profile(profile);
    let network = walls::network(file, &isolation, &profile_walls);
    let resources = walls::resources(file, &profile_walls);
    let (oom_score, oom_policy) = walls::oom(file, &profile_walls);
    file.table("").int::<i64>("schema");

    let mut unit = Unit {
        source: file.path.to_owned(),
        description: r.value("description", text),
        kind,
        requires: r.value("requires", unit_names),
        wants: r.value("wants", unit_names),
        after: r.value("after", unit_names),
        before: r.value("before", unit_names),
        conflicts: r.value("conflicts", unit_names),
        depends: service::depends(file),
        wanted_by: file.table("install").value("wanted-by", unit_names),
        service: service::service(file, &services, service_type),
        payload: payload(file, &services, &resources),
        env: service::env(file),
        user: service::user(file),
        stop: service::stop(file),
        restart: service::restart(file),
        health: service::health(file),
        watchdog: service::watchdog(file),
        isolation: walls::isolation(&isolation, profile, &profile_walls, network, &name),
        rootfs: walls::rootfs(file),
        mounts: walls::mounts(file),
        dirs: walls::own_dirs(file),
        caps: walls::caps(file, &profile_walls),
        seccomp: walls::seccomp(file, &profile_walls, is_wasm),
        selinux: walls::selinux(file),
        resources,
        limits: walls::limits(file),
        oom_score,
        oom_policy,
        network,
        sockets: walls::sockets(file),
        log: service::log(file),
        name,
    };
    // Who says anything about the cell's memory says all of it.
    if !file.has("resources.memory") {
        unit.resources.memory_max = unit.default_memory_max();
    }
    unit
}

/// The file's name without `.toml`; `[unit] name` may repeat it, so that a renamed copy is noticed.
fn name(file: &File<'_>, r: &Reader<'_, '_>) -> UnitName {
    let stem = file.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let name = stem.strip_suffix(".toml").unwrap_or(&stem).to_owned();
    if let Err(message) = check_unit_name(&name) {
        file.fault(0..0, "", format!("{message}; a unit is named by its file"), None);
    }
    if let Some(said) = r.read("name", plain_name).filter(|said| *said != name) {
        let place = file.places().of("unit.name");
        file.fault(
            place,
            "unit.name",
            format!("the file says `{name}`, the key says `{said}`"),
            Some("leave it out: a unit is named by its file".into()),
        );
    }
    name
}

fn payload(file: &File<'_>, service: &Reader<'_, '_>, resources: &Resources) -> Payload {
    let exec = service.read("exec", argv);
    match (guest::wasm(file, resources), exec) {
        (Some(wasm), _) => Payload::Wasm(Box::new(wasm)),
        (None, Some(exec)) => Payload::Native { exec },
        (None, None) => Payload::None,
    }
}

/// The faults of the syntax, one a line, and those others that are on none of their lines: where the text cannot be read,
/// what was made of it is not worth a second message.
fn syntax_faults(source: &Path, text: &Arc<str>, errors: &[toml::de::Error], others: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut faults: Vec<Diagnostic> = Vec::new();
    for error in errors.iter().take(MAX_FAULTS) {
        let span = error.span().unwrap_or(0..0);
        let fault = Diagnostic::new(source, text, span, String::new(), error.message().to_owned(), None);
        if faults.last().is_none_or(|last| last.line != fault.line) {
            faults.push(fault);
        }
    }
    let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
    // Where a value could not be read the recovery puts one without a place.
    let is_invented = |other: &Diagnostic| !other.key.is_empty() && !other.has_place();
    faults.extend(others.into_iter().filter(|other| !lines.contains(&other.line) && !is_invented(other)));
    faults.sort_by_key(|fault| (fault.line, fault.column));
    faults
}
