//! The `[wasm]` section.

use std::path::{Component, Path, PathBuf};

use toml::de::DeValue;

use super::model::*;
use super::names::*;
use super::reader::{File, Reader};
use super::values::*;

/// Linear memory of a guest whose cell has no memory limit either.
const DEFAULT_GUEST_MEMORY: u64 = 256 << 20;

/// What a Wasm host takes beside the linear memory of its guests: code, tables, descriptors, what guests have it hold for them.
const HOST_MEMORY: u64 = 64 << 20;
/// The same for each request at once: the stack that its guest runs on, buffers, and the beginning of a linear memory, which
/// stays when its request is gone.
const REQUEST_MEMORY: u64 = 256 << 10;

impl Unit {
    /// `resources.memory.max` of a unit that says nothing about memory. A guest has its host hold things for it that are in no
    /// linear memory, and whoever limits a guest's memory means those too.
    pub fn default_memory_max(&self) -> Option<u64> {
        let Payload::Wasm(wasm) = &self.payload else { return None };
        let requests = if self.sockets.is_empty() { 0 } else { u64::from(wasm.http.max_concurrent) };
        Some(wasm.limits.memory.saturating_add(HOST_MEMORY).saturating_add(requests * REQUEST_MEMORY))
    }
}

/// The guest; `None` when the file has no word about Wasm.
pub(super) fn wasm(file: &File<'_>, resources: &Resources) -> Option<Wasm> {
    let r = file.table("wasm");
    if !r.said() {
        return None;
    }
    let (limits, http) = (file.table("wasm.limits"), file.table("wasm.http"));
    Some(Wasm {
        module: r.value("module", |value| module(value, file.path)),
        world: r.choice("world"),
        args: r.value("args", texts),
        env: file.table("wasm.env").value("set", map),
        dirs: file.tables("wasm.dir").iter().map(dir).collect(),
        limits: WasmLimits {
            memory: limits.read("memory", size).or(resources.memory_max).unwrap_or(DEFAULT_GUEST_MEMORY),
            deadline: limits.value("deadline", patience),
            request_timeout: limits.value("request-timeout", positive),
            fuel: limits.int("fuel"),
        },
        http: WasmHttp {
            listen: http.read("listen", plain_name),
            max_concurrent: http.int("max-concurrent").unwrap_or_default(),
            max_connections: http.int("max-connections").unwrap_or_default(),
            max_body: http.value("max-body", size),
        },
    })
}

/// Relative to the unit file's folder, so that a folder of units and modules can be moved about.
fn module(value: &DeValue<'_>, unit_file: &Path) -> Parsed<String> {
    let name = text(value)?;
    if name.starts_with("oci:") || name.starts_with("https://") {
        return wrong(format!("{name:?}: only paths are supported yet"));
    }
    if name.is_empty() || name.contains(char::is_control) {
        return wrong(format!("{name:?} is not a path"));
    }
    Ok(anchored(&name, unit_file.parent().unwrap_or(Path::new(""))))
}

/// `path` seen from `folder`, without `.` and with as few `..` as possible.
pub(super) fn anchored(path: &str, folder: &Path) -> String {
    let mut short = PathBuf::new();
    for part in folder.join(path).components() {
        let below_a_name = matches!(short.components().next_back(), Some(Component::Normal(_)));
        match part {
            Component::CurDir => {}
            Component::ParentDir if below_a_name => {
                short.pop();
            }
            Component::ParentDir if short.has_root() => {}
            part => short.push(part),
        }
    }
    short.to_string_lossy().into_owned()
}

fn dir(r: &Reader<'_, '_>) -> WasmDir {
    let host = r.value("host", path);
    let guest = r.read("guest", guest_name).unwrap_or_else(|| host.clone());
    WasmDir { host, guest, writable: r.value("writable", boolean) }
}

fn guest_name(value: &DeValue<'_>) -> Parsed<String> {
    let name = text(value)?;
    match name.as_str() {
        "" => wrong("an empty name"),
        "." => Ok(name),
        _ if name.split('/').any(|part| part == "..") => wrong("`..` in a path"),
        "/" => Ok(name),
        _ => Ok(name.trim_end_matches('/').to_owned()),
    }
}
