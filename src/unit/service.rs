//! The sections that say what runs, when it counts as ready, how it ends and what happens then.

use std::sync::OnceLock;
use std::time::Duration;

use super::address::*;
use super::choice::ReadyBy;
use super::kernel::*;
use super::model::*;
use super::names::*;
use super::reader::{File, Reader};
use super::values::*;

pub(super) fn depends(file: &File<'_>) -> Vec<Depends> {
    file.tables("unit.depends").iter().map(depend).collect()
}

fn depend(r: &Reader<'_, '_>) -> Depends {
    Depends { unit: r.value("unit", unit_name), condition: r.choice("condition"), timeout: r.value("timeout", patience) }
}

/// A job says so, or is of type oneshot; a target has nothing that could run; the rest are services.
pub(super) fn kinds(file: &File<'_>, unit: &Reader<'_, '_>, service: &Reader<'_, '_>, is_wasm: bool) -> (Kind, ServiceType) {
    let said = service.read("type", one_of);
    let kind = match unit.read("kind", one_of) {
        Some(kind) => kind,
        None if said == Some(ServiceType::Oneshot) => Kind::Job,
        None if file.root().keys().all(|name| is_target_table(name.get_ref())) => Kind::Target,
        None => Kind::Service,
    };
    let by_kind = match kind {
        Kind::Job => ServiceType::Oneshot,
        _ if is_wasm => ServiceType::Notify,
        _ => ServiceType::Exec,
    };
    (kind, said.unwrap_or(by_kind))
}

/// May the table stand in a target's file?
pub(super) fn is_target_table(name: &str) -> bool {
    ["schema", "unit", "install"].contains(&name) || name.starts_with("x-")
}

pub(super) fn service(file: &File<'_>, r: &Reader<'_, '_>, kind: ServiceType) -> Service {
    Service {
        kind,
        ready: ready(file, kind),
        working_dir: r.value("working-dir", path),
        umask: r.value("umask", mode),
        start_timeout: r.value("start-timeout", patience),
        success_status: r.value("success-status", statuses),
    }
}

fn ready(file: &File<'_>, service_type: ServiceType) -> Ready {
    static UNSAID: OnceLock<(Option<ReadyBy>, Option<i32>, bool)> = OnceLock::new();
    let place = || file.places().of("service.ready.by");
    let (by, fd, has_fd) = file.section("service.ready", &UNSAID, || {
        let r = file.table("service.ready");
        (r.read("by", one_of), r.int("fd"), r.has("fd"))
    });
    match (by, fd) {
        (Some(ReadyBy::Fd) | None, Some(fd)) => return Ready::Fd(fd),
        (Some(ReadyBy::Fd), None) if !has_fd => {
            file.fault(place(), "service.ready.by", "`by = \"fd\"` without the descriptor", Some("fd = 3".into()));
        }
        (Some(by), fd) => {
            if fd.is_some() {
                file.fault(place(), "service.ready.by", "another rule, and yet an `fd`", Some("by = \"fd\"".into()));
            }
            match by {
                ReadyBy::Notify => return Ready::Notify,
                ReadyBy::Health => return Ready::Health,
                ReadyBy::Exec => return Ready::Exec,
                ReadyBy::Fd => {}
            }
        }
        (None, None) => {}
    }
    match service_type {
        ServiceType::Simple => Ready::Spawned,
        ServiceType::Exec => Ready::Exec,
        ServiceType::Notify => Ready::Notify,
        ServiceType::Oneshot => Ready::Completed,
    }
}

pub(super) fn env(file: &File<'_>) -> Env {
    static UNSAID: OnceLock<Env> = OnceLock::new();
    file.section("env", &UNSAID, || {
        let r = file.table("env");
        Env { set: r.value("set", map), files: r.value("files", env_files) }
    })
}

pub(super) fn user(file: &File<'_>) -> User {
    static UNSAID: OnceLock<User> = OnceLock::new();
    file.section("user", &UNSAID, || {
        let r = file.table("user");
        User { user: r.read("user", identity).unwrap_or(Identity::Dynamic), group: r.read("group", identity) }
    })
}

pub(super) fn stop(file: &File<'_>) -> Stop {
    static UNSAID: OnceLock<Stop> = OnceLock::new();
    file.section("stop", &UNSAID, || {
        let r = file.table("stop");
        Stop { signal: r.value("signal", signal), timeout: r.value("timeout", patience), mode: r.choice("mode") }
    })
}

pub(super) fn restart(file: &File<'_>) -> Restart {
    static UNSAID: OnceLock<Restart> = OnceLock::new();
    file.section("restart", &UNSAID, || {
        let r = file.table("restart");
        Restart {
            policy: r.choice("policy"),
            on: r.value("on", list_of),
            never_on: r.value("never-on", list_of),
            delay: r.value("delay", duration),
            factor: r.float("factor"),
            max_delay: r.value("max-delay", duration),
            jitter_permille: r.value("jitter", percent),
            reset_after: r.value("reset-after", duration),
            attempts: r.count("attempts"),
            window: r.value("window", positive),
        }
    })
}

pub(super) fn health(file: &File<'_>) -> Health {
    static UNSAID: OnceLock<Health> = OnceLock::new();
    file.section("health", &UNSAID, || {
        let probe = |path| probe(&file.table(path)).map(Box::new);
        Health { startup: probe("health.startup"), live: probe("health.live"), ready: probe("health.ready") }
    })
}

fn probe(r: &Reader<'_, '_>) -> Option<Probe> {
    if !r.said() {
        return None;
    }
    let http = r.read("http", url).map(|url| Check::Http { url });
    let tcp = r.read("tcp", host_port).map(|address| Check::Tcp { address });
    let exec = r.read("exec", argv).map(|argv| Check::Exec { argv });
    Some(Probe {
        // Which of the three were said, and that it was one, is checked by the rules.
        check: http.or(tcp).or(exec).unwrap_or(Check::Exec { argv: Vec::new() }),
        interval: r.value("interval", positive),
        timeout: r.value("timeout", positive),
        failures: r.int("failures").unwrap_or_default(),
        successes: r.int("successes").unwrap_or_default(),
        start_period: r.value("start-period", duration),
        action: r.choice("action"),
    })
}

pub(super) fn watchdog(file: &File<'_>) -> Option<Duration> {
    static UNSAID: OnceLock<Option<Duration>> = OnceLock::new();
    file.section("watchdog", &UNSAID, || file.table("watchdog").read("timeout", positive))
}

pub(super) fn log(file: &File<'_>) -> Log {
    static UNSAID: OnceLock<Log> = OnceLock::new();
    file.section("log", &UNSAID, || {
        let (r, rate) = (file.table("log"), file.table("log.rate"));
        Log {
            stdout: r.choice("stdout"),
            stderr: r.choice("stderr"),
            max_size: r.value("max-size", size),
            max_files: r.int("max-files").unwrap_or_default(),
            rate_burst: rate.int("burst").unwrap_or_default(),
            rate_interval: rate.value("interval", positive),
        }
    })
}
