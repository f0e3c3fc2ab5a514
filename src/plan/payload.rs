//! The last step: what is executed, with which arguments and environment.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::unit::{Identity, Namespace, Payload, Ready, ServiceType, Unit, Wasm};

use super::error::{PlanError, Shortcomings};
use super::guest::{GuestDir, GuestHttp, GuestLimits, GuestSpec, HOST_PATH, PREOPEN_DIR};
use super::identity::Who;
use super::root::{self, NOTIFY_PATH};
use super::{Facts, Step};

pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// sd_listen_fds(3).
pub const LISTEN_FDS_START: i32 = 3;

/// A Wasm host always says when its guest is there.
pub(super) fn wants_notify(unit: &Unit) -> bool {
    unit.service.kind == ServiceType::Notify
        || unit.service.ready == Ready::Notify
        || unit.watchdog.is_some()
        || matches!(unit.payload, Payload::Wasm(_))
}

/// Bytes of a socket's path; unix(7), less the NUL.
pub const SOCKET_PATH: usize = 107;

/// The notify socket is named after the unit, below the run directory.
pub(super) fn notify_fits(unit: &Unit, facts: &Facts, shortcomings: &Shortcomings<'_>) -> Result<(), PlanError> {
    let socket = root::notify_socket(unit, facts);
    let length = socket.as_os_str().len();
    if !wants_notify(unit) || length <= SOCKET_PATH {
        return Ok(());
    }
    Err(shortcomings.refuse(
        "unit.name",
        format!("its notify socket would be {}: {length} bytes, and the path of a socket has at most {SOCKET_PATH}", socket.display()),
        Some("a shorter name, or a shorter --run-dir".to_string()),
    ))
}

pub(super) fn execute(unit: &Unit, facts: &Facts, who: &Who, shortcomings: &Shortcomings<'_>) -> Result<Step, PlanError> {
    let environment = environment(unit, facts, who);
    let yielding = yielding(unit, &environment);
    let argv = match &unit.payload {
        Payload::Native { exec } => exec.clone(),
        Payload::Wasm(wasm) => {
            let spec = guest(unit, wasm, shortcomings)?;
            let spec = serde_json::to_string(&spec).map_err(|e| shortcomings.refuse("wasm", e.to_string(), None))?;
            vec![HOST_PATH.to_string(), "run".to_string(), spec]
        }
        // Refused as a contradiction before.
        Payload::None => Vec::new(),
    };
    command(argv, environment, yielding, shortcomings)
}

/// A name without a slash is looked for along the cell's PATH, at exec, by the cell: only there is it known what is in the root.
pub(super) fn command(
    argv: Vec<String>,
    environment: BTreeMap<String, String>,
    yielding: Vec<String>,
    shortcomings: &Shortcomings<'_>,
) -> Result<Step, PlanError> {
    let path = match argv.first() {
        Some(path) if !path.is_empty() => path.clone(),
        _ => {
            return Err(shortcomings.refuse("service.exec", "there is no program to execute", None));
        }
    };
    let search = match path.contains('/') {
        true => Vec::new(),
        false => environment
            .get("PATH")
            .map_or(DEFAULT_PATH, String::as_str)
            .split(':')
            .filter(|directory| directory.starts_with('/'))
            .map(ToString::to_string)
            .collect(),
    };
    Ok(Step::Execute { path, argv, environment: environment.into_iter().collect(), yielding, search })
}

/// What the supervisor says to the main process: nothing that a file says can stand for it.
pub(super) const SPOKEN: [&str; 5] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];
/// Set when nobody says otherwise.
const DEFAULTS: [&str; 4] = ["PATH", "HOME", "USER", "LOGNAME"];

/// Whether a start takes this variable from an environment file: what the plan has stands, but for what is `yielding` in it.
pub fn may_set(planned: &[(String, String)], yielding: &[String], key: &str) -> bool {
    let stands = planned.iter().any(|(name, _)| name == key) && !yielding.iter().any(|name| name == key);
    !stands && !SPOKEN.contains(&key)
}

/// The defaults that the unit's environment files may change: neither it nor a protocol has said them.
pub(super) fn yielding(unit: &Unit, environment: &BTreeMap<String, String>) -> Vec<String> {
    let said = |name: &&str| unit.env.set.contains_key(*name) || !environment.contains_key(*name);
    let defaults = DEFAULTS.iter().filter(|name| !unit.env.files.is_empty() && !said(name));
    defaults.map(ToString::to_string).collect()
}

/// As systemd.exec(5) has it, but that `set` is stronger than files. The unit's own variables win over ours, but not over what is a protocol.
pub(super) fn environment(unit: &Unit, facts: &Facts, who: &Who) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let mut set = |key: &str, value: String| environment.insert(key.to_string(), value);

    set("PATH", DEFAULT_PATH.to_string());
    set("HOME", who.home.clone());
    if let Some(name) = &who.name {
        set("USER", name.clone());
        set("LOGNAME", name.clone());
    }
    if !matches!(unit.payload, Payload::Wasm(_)) {
        for (key, value) in &unit.env.set {
            set(key, value.clone());
        }
    }
    let inside = |paths: Vec<(std::path::PathBuf, String)>| paths.into_iter().map(|(_, inside)| inside).collect::<Vec<_>>().join(":");
    if !unit.dirs.state.is_empty() {
        set("STATE_DIRECTORY", inside(unit.dirs.state.iter().map(|n| root::state_directory(unit, facts, n)).collect()));
    }
    if !unit.dirs.runtime.is_empty() {
        let paths = unit.dirs.runtime.iter().map(|n| root::runtime_directory(unit, facts, n)).collect();
        set("RUNTIME_DIRECTORY", inside(paths));
    }
    if wants_notify(unit) {
        let socket = match unit.isolation.mount {
            Namespace::Private => NOTIFY_PATH.to_string(),
            Namespace::Host => root::notify_socket(unit, facts).to_string_lossy().into_owned(),
        };
        set("NOTIFY_SOCKET", socket);
    }
    if let Some(watchdog) = unit.watchdog {
        set("WATCHDOG_USEC", watchdog.as_micros().to_string());
    }
    if !unit.sockets.is_empty() {
        let names: Vec<&str> = unit.sockets.iter().map(|socket| socket.name.as_str()).collect();
        set("LISTEN_FDS", names.len().to_string());
        set("LISTEN_FDNAMES", names.join(":"));
    }
    environment
}

/// What a guest is granted, in the words of its host.
pub(super) fn guest(unit: &Unit, wasm: &Wasm, shortcomings: &Shortcomings<'_>) -> Result<GuestSpec, PlanError> {
    let listen = match &wasm.http.listen {
        None => (!unit.sockets.is_empty()).then_some(0),
        Some(name) => match unit.sockets.iter().position(|socket| socket.name == *name) {
            Some(index) => Some(index),
            None => {
                return Err(shortcomings.refuse("wasm.http.listen", format!("no [[socket]] is named {name}"), None));
            }
        },
    };
    let program = Path::new(&wasm.module).file_name().map(|name| name.to_string_lossy().into_owned());
    let mut env = unit.env.set.clone();
    env.extend(wasm.env.clone());
    let dirs = wasm.dirs.iter().enumerate().map(|(index, dir)| GuestDir {
        guest: dir.guest.clone(),
        path: format!("{PREOPEN_DIR}/{index}"),
        writable: dir.writable,
    });
    // Directories of the unit's own are granted to the guest where a native program would see them.
    let own = |inside: String| GuestDir { guest: inside.clone(), path: inside, writable: true };
    let state = unit.dirs.state.iter().map(|name| own(format!("/var/lib/{name}")));
    let runtime = unit.dirs.runtime.iter().map(|name| own(format!("/run/{name}")));
    let limits = &wasm.limits;
    Ok(GuestSpec {
        unit: unit.name.clone(),
        world: wasm.world,
        args: program.into_iter().chain(wasm.args.iter().cloned()).collect(),
        env,
        dirs: dirs.chain(state).chain(runtime).collect(),
        limits: GuestLimits {
            memory: limits.memory,
            deadline_ms: limits.deadline.map(milliseconds),
            request_timeout_ms: milliseconds(limits.request_timeout),
            fuel: limits.fuel,
        },
        http: GuestHttp {
            listen_fd: listen.map(|index| LISTEN_FDS_START + index as i32),
            max_concurrent: wasm.http.max_concurrent,
            max_connections: wasm.http.max_connections,
            max_body: wasm.http.max_body,
        },
    })
}

/// At least one: a limit that is there never rounds to none.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What the walls of a Wasm cell contradict.
pub(super) fn contradictions(unit: &Unit, shortcomings: &Shortcomings<'_>) -> Result<(), PlanError> {
    let wasm = matches!(unit.payload, Payload::Wasm(_));
    let shares_mounts = unit.isolation.mount == Namespace::Host;
    let faults = [
        (unit.payload == Payload::None, "unit.kind", "a target has nothing to execute", "plan one of the units that it wants"),
        (
            wasm && shares_mounts,
            "isolation.mount",
            "a Wasm guest is granted directories by mounts of its own",
            "leave isolation.mount private",
        ),
        (
            shares_mounts && unit.rootfs.path.is_some(),
            "rootfs.path",
            "a cell that shares the host's mounts has the host's root",
            "say isolation.mount = \"private\"",
        ),
        (
            shares_mounts && !unit.mounts.is_empty(),
            "mount",
            "a cell that shares the host's mounts cannot mount anything of its own",
            "say isolation.mount = \"private\"",
        ),
        (wasm && !unit.mounts.is_empty(), "mount", "a guest sees only what [[wasm.dir]] grants", "use [[wasm.dir]]"),
        (wasm && unit.rootfs.path.is_some(), "rootfs.path", "a guest has no root file system", "use [[wasm.dir]]"),
        (wasm && !unit.env.files.is_empty(), "env.files", "the environment of a guest is fixed when its plan is built", "use [wasm.env]"),
        (
            wasm && unit.user.user != Identity::Dynamic,
            "user.user",
            "a guest has no user: its host runs as an unprivileged id of the cell's own",
            "leave [user] out",
        ),
    ];
    match faults.into_iter().find(|(fault, ..)| *fault) {
        Some((_, key, reason, help)) => Err(shortcomings.refuse(key, reason, Some(help.to_string()))),
        None => Ok(()),
    }
}
