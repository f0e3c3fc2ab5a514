//! Settings that contradict one another inside one file. Each is refused with its reason: guessing which of the two
//! was meant is how walls come to be missing.

use std::cell::Ref;
use std::collections::BTreeSet;

use super::model::*;
use super::reader::{File, Places};
use super::service::is_target_table;

/// A private user namespace has so many ids.
const IDS_IN_CELL: u32 = 65_536;

pub(super) fn check(file: &File<'_>, unit: &Unit) {
    let rules = Rules { file, unit, places: file.places() };
    if unit.kind == Kind::Target {
        return rules.target();
    }
    rules.payload();
    rules.readiness();
    rules.health();
    rules.ending();
    rules.walls();
    rules.privileges();
    rules.mounts();
    rules.resources();
    rules.sockets();
    if let Payload::Wasm(wasm) = &unit.payload {
        rules.guest(wasm);
    }
}

struct Rules<'f, 'a> {
    file: &'f File<'a>,
    unit: &'f Unit,
    places: Ref<'f, Places>,
}

impl Rules<'_, '_> {
    fn said(&self, key: &str) -> bool {
        self.places.said(key)
    }

    fn refuse(&self, key: &str, reason: impl Into<String>, help: &str) {
        let help = (!help.is_empty()).then(|| help.to_owned());
        self.file.fault(self.places.of(key), key, reason, help);
    }

    /// Refuses each of the keys that was said.
    fn refuse_said(&self, keys: &[&str], reason: &str, help: &str) {
        keys.iter().filter(|key| self.said(key)).for_each(|key| self.refuse(key, format!("`{key}` {reason}"), help));
    }

    fn is_wasm(&self) -> bool {
        matches!(self.unit.payload, Payload::Wasm(_))
    }

    fn target(&self) {
        for (name, value) in self.file.root() {
            if !is_target_table(name.get_ref()) {
                let reason = format!("a target runs nothing, so [{}] means nothing", name.get_ref());
                self.file.fault(value.span(), name.get_ref().as_ref(), reason, Some("leave it out, or drop `kind = \"target\"`".into()));
            }
        }
    }

    fn payload(&self) {
        match (self.said("service.exec"), self.said("wasm")) {
            (true, true) => {
                self.refuse("service.exec", "both a program and a [wasm] guest: a cell ends in one of them", "two units can do both")
            }
            (false, false) => {
                let help = "[service] exec = [\"/usr/bin/my-server\"], or [wasm] module = \"/usr/lib/cells/my.wasm\"";
                self.file.absence(
                    self.places.of("service"),
                    "service.exec",
                    "nothing to run: neither `service.exec` nor [wasm]",
                    Some(help.into()),
                );
            }
            _ => {}
        }
        match (self.unit.kind, self.unit.service.kind) {
            (Kind::Job, ServiceType::Oneshot) | (Kind::Service, ServiceType::Simple | ServiceType::Exec | ServiceType::Notify) => {}
            (Kind::Job, other) => {
                let other = super::choice::word(other);
                self.refuse(
                    "service.type",
                    format!("a job is ready when it has ended, so its type cannot be \"{other}\""),
                    "leave the type out, or drop `kind = \"job\"`",
                );
            }
            _ => self.refuse(
                "service.type",
                "type \"oneshot\" is what a job has, and this is a service",
                "leave `kind` out, or say `kind = \"job\"`",
            ),
        }
    }

    fn readiness(&self) {
        let has_probe = self.unit.health.ready.is_some() || self.unit.health.startup.is_some();
        if self.unit.service.ready == Ready::Health && !has_probe {
            self.refuse("service.ready.by", "ready by health, but no probe to tell", "add [health.ready] or [health.startup]");
        }
        if self.unit.kind == Kind::Job {
            self.refuse_said(&["service.ready"], "contradicts the job: a job is ready when it has ended", "");
        }
    }

    fn health(&self) {
        let probes = [("startup", &self.unit.health.startup), ("live", &self.unit.health.live), ("ready", &self.unit.health.ready)];
        for (name, _) in probes.into_iter().filter(|(_, probe)| probe.is_some()) {
            let table = format!("health.{name}");
            let said: Vec<String> =
                ["http", "tcp", "exec"].iter().map(|check| format!("{table}.{check}")).filter(|key| self.said(key)).collect();
            match said.as_slice() {
                [] => self.file.absence(
                    self.places.of(&table),
                    format!("{table}.http"),
                    format!("[{table}] asks nothing: `http`, `tcp` or `exec` is missing"),
                    None,
                ),
                [_, second, ..] => self.refuse(
                    second,
                    format!("[{table}] has two questions; a probe asks one"),
                    "the three probes can ask different things",
                ),
                _ => {}
            }
            if self.is_wasm() {
                self.refuse_said(&[&format!("{table}.exec")], "would run a program, and a Wasm cell has none", "use http or tcp");
            }
        }
        if self.unit.kind == Kind::Job {
            self.refuse_said(
                &["health.startup", "health.ready"],
                "contradicts the job: a job is ready when it has ended",
                "[health.live] may watch it",
            );
        }
    }

    fn ending(&self) {
        let (restart, stop) = (&self.unit.restart, &self.unit.stop);
        if let Some(cause) = restart.on.iter().find(|cause| restart.never_on.contains(cause)) {
            let cause = super::choice::word(*cause);
            self.refuse("restart.never-on", format!("\"{cause}\" is both in `on` and in `never-on`"), "");
        }
        if restart.delay > restart.max_delay {
            let key = if self.said("restart.max-delay") { "restart.max-delay" } else { "restart.delay" };
            self.refuse(key, "`delay` is longer than `max-delay`", "");
        }
        let runs_again_after_success =
            matches!(restart.policy, RestartPolicy::Always | RestartPolicy::OnSuccess | RestartPolicy::UnlessStopped);
        if self.unit.kind == Kind::Job && runs_again_after_success {
            self.refuse("restart.policy", "a job that is started again after a good end never completes", "\"on-failure\" or \"no\"");
        }
        if stop.mode == StopMode::None {
            self.refuse_said(&["stop.signal"], "is never sent: `mode` is \"none\"", "");
            if stop.timeout.is_none() {
                self.refuse("stop.timeout", "no signal and no SIGKILL: it could never be stopped", "");
            }
        }
    }

    fn walls(&self) {
        let isolation = &self.unit.isolation;
        if isolation.user == Namespace::Host && matches!(isolation.profile, Profile::Strict | Profile::Wasm) {
            let profile = super::choice::word(isolation.profile);
            self.refuse(
                "isolation.user",
                format!("profile \"{profile}\" promises ids of the cell's own"),
                "choose profile \"default\" for the host's ids",
            );
        }
        if isolation.profile == Profile::Wasm && !self.is_wasm() {
            self.refuse(
                "isolation.profile",
                "profile \"wasm\" is for Wasm units: its filter and root are made for the Wasm host",
                "\"strict\" is its like for native programs",
            );
        }
        if isolation.uts == Namespace::Host {
            self.refuse_said(
                &["isolation.hostname"],
                "needs a private `uts`: the host's name is not changed",
                "isolation.uts = \"private\"",
            );
        }
        if isolation.user == Namespace::Private {
            let ids = [("user.user", Some(&self.unit.user.user)), ("user.group", self.unit.user.group.as_ref())];
            for (key, id) in ids {
                if let Some(Identity::Id(id)) = id.filter(|id| matches!(id, Identity::Id(n) if *n >= IDS_IN_CELL)) {
                    self.refuse(
                        key,
                        format!("{id} is outside the cell: a private user namespace has the ids 0 to 65534"),
                        "isolation.user = \"host\" for the host's ids",
                    );
                }
            }
        }
    }

    fn privileges(&self) {
        let seccomp = &self.unit.seccomp;
        match seccomp.policy {
            SeccompPolicy::Off => {
                let keys = ["seccomp.allow", "seccomp.deny", "seccomp.errno"];
                self.refuse_said(&keys, "means nothing without a filter: the policy is \"off\"", "");
            }
            SeccompPolicy::Log => self.refuse_said(&["seccomp.errno"], "means nothing: the policy \"log\" denies nothing", ""),
            SeccompPolicy::AllowList if self.is_wasm() => {
                self.refuse(
                    "seccomp.policy",
                    "a list of one's own would name the system calls of the Wasm host, which change with it",
                    "leave it at \"derived\"; `allow` and `deny` still work",
                );
            }
            SeccompPolicy::AllowList if seccomp.allow.is_empty() => {
                self.refuse(
                    "seccomp.policy",
                    "an allow-list with nothing on it: no program could run",
                    "seccomp.allow = [\"@system-service\"]",
                );
            }
            SeccompPolicy::Derived if !self.is_wasm() => {
                self.refuse("seccomp.policy", "\"derived\" is from the grants of a Wasm unit; this is none", "\"default\"");
            }
            _ => {}
        }
        if self.unit.isolation.mount == Namespace::Host {
            let keys = ["rootfs.path", "rootfs.writable", "mount"];
            self.refuse_said(&keys, "needs mounts of the cell's own, and `isolation.mount` is \"host\"", "");
            if !self.unit.mounts.is_empty() {
                self.refuse("mount[0]", "[[mount]] needs mounts of the cell's own, and `isolation.mount` is \"host\"", "");
            }
        }
    }

    fn mounts(&self) {
        if self.unit.rootfs.writable && self.unit.rootfs.path.is_none() && self.unit.isolation.mount == Namespace::Private {
            self.refuse(
                "rootfs.writable",
                "the host's own tree is not for a cell to write to",
                "a tree of the unit's own in rootfs.path; or [dirs], or a [[mount]] with writable = true",
            );
        }
        let mut targets = BTreeSet::new();
        for (n, mount) in self.unit.mounts.iter().enumerate() {
            let key = |name: &str| format!("mount[{n}].{name}");
            if mount.target == "/" {
                self.refuse(&key("target"), "the root itself is not a mount target", "[rootfs] path");
            }
            if !mount.target.is_empty() && !targets.insert(&mount.target) {
                self.refuse(&key("target"), format!("{:?} is mounted twice", mount.target), "");
            }
            match mount.kind {
                MountKind::Tmpfs { .. } => self.refuse_said(&[&key("source"), &key("recursive")], "means nothing for a tmpfs", ""),
                MountKind::Bind { .. } => self.refuse_said(&[&key("size"), &key("mode")], "is for `type = \"tmpfs\"`", ""),
            }
        }
        for (key, dirs) in [("dirs.state", &self.unit.dirs.state), ("dirs.runtime", &self.unit.dirs.runtime)] {
            let distinct: BTreeSet<&String> = dirs.iter().collect();
            if distinct.len() != dirs.len() {
                self.refuse(key, format!("`{key}` names a directory twice"), "");
            }
        }
    }

    fn resources(&self) {
        let r = &self.unit.resources;
        let max = r.memory_max.unwrap_or(u64::MAX);
        if r.memory_max == Some(0) {
            self.refuse("resources.memory.max", "no program runs without memory", "");
        } else if r.memory_high.is_some_and(|high| high > max) {
            self.refuse("resources.memory.high", "`high` is above `max`, so it would never be felt", "");
        } else if r.memory_low.is_some_and(|low| low > max) {
            self.refuse("resources.memory.low", "`low` is above `max`: more is protected than may be used", "");
        }
    }

    fn sockets(&self) {
        if self.unit.kind == Kind::Job && !self.unit.sockets.is_empty() {
            self.refuse("socket[0]", "a job takes no connections, so [[socket]] means nothing", "");
        }
        let (mut names, mut addresses) = (BTreeSet::new(), Vec::new());
        for (n, socket) in self.unit.sockets.iter().enumerate() {
            if !names.insert(&socket.name) {
                self.refuse(&format!("socket[{n}].name"), format!("two sockets are called \"{}\"", socket.name), "give each a `name`");
            }
            if addresses.contains(&&socket.listen) {
                self.refuse(&format!("socket[{n}].listen"), "two sockets on one address", "");
            }
            addresses.push(&socket.listen);
            if matches!(socket.listen, Listen::Tcp(_)) {
                self.refuse_said(&[&format!("socket[{n}].mode")], "is for unix sockets", "");
            }
        }
    }

    fn guest(&self, wasm: &Wasm) {
        let native = ["service.working-dir", "env", "rootfs", "dirs", "security.caps"];
        self.refuse_said(
            &native,
            "is for native programs; a Wasm guest would not see it",
            "a guest's own: wasm.env, wasm.args, [[wasm.dir]]",
        );
        if !self.unit.mounts.is_empty() {
            self.refuse("mount[0]", "[[mount]] is for native programs; a Wasm guest would not see it", "[[wasm.dir]]");
        }
        if matches!(self.unit.service.kind, ServiceType::Simple | ServiceType::Exec) {
            self.refuse("service.type", "the Wasm host says when its guest is ready, so the type is \"notify\"", "leave it out");
        }
        if matches!(self.unit.service.ready, Ready::Exec | Ready::Fd(_)) && self.said("service.ready") {
            self.refuse("service.ready", "a Wasm guest is ready by \"notify\" or \"health\"", "");
        }
        if self.said("watchdog.timeout") {
            self.refuse(
                "watchdog.timeout",
                "a watchdog for Wasm units is known, but not supported yet",
                "[health.live], or wasm.limits.deadline",
            );
        }
        if self.said("limits.address-space") {
            self.refuse(
                "limits.address-space",
                "the Wasm host reserves far more address space than it uses, so this would kill it",
                "wasm.limits.memory",
            );
        }
        if self.unit.resources.memory_max.is_some_and(|max| wasm.limits.memory > max) {
            self.refuse("wasm.limits.memory", "more than the cell's `resources.memory.max`", "");
        }
        if self.unit.sockets.is_empty() {
            let served = "there is no [[socket]] to serve";
            if wasm.world == World::Http {
                self.refuse("wasm.world", served, "[[socket]] listen = \"tcp://0.0.0.0:8080\"");
            }
            if self.said("wasm.http") {
                self.refuse("wasm.http", served, "[[socket]] listen = \"tcp://0.0.0.0:8080\"");
            }
        } else if let Some(name) = &wasm.http.listen
            && !self.unit.sockets.iter().any(|socket| socket.name == *name)
        {
            self.refuse("wasm.http.listen", format!("no [[socket]] is called \"{name}\""), "");
        }
        if wasm.world == World::Command && !self.unit.sockets.is_empty() {
            self.refuse("wasm.world", "a command serves nothing, and there is a [[socket]]", "");
        }
        let mut guests = BTreeSet::new();
        for (n, dir) in wasm.dirs.iter().enumerate() {
            if !guests.insert(&dir.guest) {
                self.refuse(&format!("wasm.dir[{n}].guest"), format!("{:?} is granted twice", dir.guest), "");
            }
        }
    }
}
