//! The `[wasm]` section.

use super::model::*;
use super::names::*;
use super::reader::{File, Reader};
use super::values::*;

/// Linear memory of a guest whose cell has no memory limit either.
const DEFAULT_GUEST_MEMORY: u64 = 256 << 20;

/// The guest; `None` when the file has no word about Wasm.
pub(super) fn wasm(file: &File<'_>, resources: &Resources) -> Option<Wasm> {
    let r = file.table("wasm");
    let (limits, http) = (file.table("wasm.limits"), file.table("wasm.http"));
    let wasm = Wasm {
        module: r.value("module", module),
        world: r.choice("world"),
        args: r.value("args", texts),
        env: file.table("wasm.env").value("set", map),
        dirs: file.tables("wasm.dir").iter().map(dir).collect(),
        limits: WasmLimits {
            memory: limits
                .read("memory", size)
                .or(resources.memory_max)
                .unwrap_or(DEFAULT_GUEST_MEMORY),
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
    };
    r.said().then_some(wasm)
}

fn module(value: &toml::de::DeValue<'_>) -> Parsed<String> {
    match value.as_str() {
        Some(name) if name.starts_with("oci:") || name.starts_with("https://") => {
            wrong(format!("{name:?}: only paths are supported yet"))
        }
        _ => path(value),
    }
}

fn dir(r: &Reader<'_, '_>) -> WasmDir {
    let host = r.value("host", path);
    let guest = r.read("guest", guest_name).unwrap_or_else(|| host.clone());
    WasmDir {
        host,
        guest,
        writable: r.value("writable", boolean),
    }
}

fn guest_name(value: &toml::de::DeValue<'_>) -> Parsed<String> {
    let name = text(value)?;
    match name.as_str() {
        "" => wrong("an empty name"),
        "." => Ok(name),
        _ if name.split('/').any(|part| part == "..") => wrong("`..` in a path"),
        "/" => Ok(name),
        _ => Ok(name.trim_end_matches('/').to_owned()),
    }
}
