//! Unit files as data: good ones are read as they are meant, bad ones are refused with the message that is written beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cellinit::unit::*;

const GOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/units/good");

fn good_texts() -> Vec<(PathBuf, String)> {
    cellinit::load::read(&[GOOD.into()]).unwrap()
}

fn good(name: &str) -> Unit {
    let text = fs::read_to_string(format!("{GOOD}/{name}.toml")).unwrap();
    parse(Path::new(&format!("{name}.toml")), &text).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The one unit of a text, which is called `web`.
fn web(text: &str) -> Result<Unit, Vec<Diagnostic>> {
    parse(Path::new("web.toml"), text)
}

fn native(rest: &str) -> Result<Unit, Vec<Diagnostic>> {
    web(&format!("[service]\nexec = \"true\"\n{rest}"))
}

#[test]
fn the_smallest_native_unit_has_the_defaults() {
    let unit = good("hello");
    assert_eq!(
        unit.payload,
        Payload::Native {
            exec: ["/usr/bin/my-server", "--port", "8080"]
                .map(String::from)
                .into()
        }
    );
    assert_eq!(
        (unit.kind, unit.service.kind, unit.service.ready),
        (Kind::Service, ServiceType::Exec, Ready::Exec)
    );
    assert_eq!(unit.isolation.profile, Profile::Default);
    assert_eq!(
        (unit.isolation.user, unit.isolation.net),
        (Namespace::Private, Namespace::Private)
    );
    assert_eq!(
        (unit.isolation.hostname.as_str(), unit.network),
        ("hello", NetworkMode::None)
    );
    assert_eq!(
        (unit.seccomp.policy, unit.seccomp.errno),
        (SeccompPolicy::Default, 1)
    );
    assert_eq!((unit.caps.len(), unit.resources.pids_max), (0, Some(1024)));
    assert_eq!(
        unit.user,
        User {
            user: Identity::Dynamic,
            group: None
        }
    );
    assert_eq!(unit.wanted_by, ["default"]);
    assert_eq!(
        unit.stop,
        Stop {
            signal: 15,
            timeout: Some(Duration::from_secs(10)),
            mode: StopMode::Mixed
        }
    );
    assert_eq!(
        (unit.restart.policy, unit.restart.attempts),
        (RestartPolicy::OnFailure, None)
    );
    assert_eq!(
        unit.limits[&Rlimit::Nofile],
        RlimitValue {
            soft: Some(1024),
            hard: Some(524_288)
        }
    );
}

#[test]
fn the_smallest_wasm_unit_has_the_defaults() {
    let unit = good("greet");
    let Payload::Wasm(wasm) = &unit.payload else {
        panic!("{:?}", unit.payload)
    };
    assert_eq!(
        (wasm.world, wasm.limits.memory, wasm.limits.deadline),
        (World::Auto, 256 << 20, None)
    );
    assert_eq!(
        (unit.service.kind, unit.service.ready),
        (ServiceType::Notify, Ready::Notify)
    );
    assert_eq!(
        (unit.isolation.profile, unit.seccomp.policy),
        (Profile::Wasm, SeccompPolicy::Derived)
    );
    assert_eq!(
        unit.sockets[0].listen,
        Listen::Tcp("0.0.0.0:8080".parse().unwrap())
    );
}

#[test]
fn the_good_folder_is_a_set() {
    let set = UnitSet::from_texts(&good_texts()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert!(set.iter().map(|unit| &unit.name).is_sorted());
    let default = set.get(DEFAULT_TARGET).unwrap();
    assert_eq!(
        default.wants,
        [
            "greet",
            "group",
            "hello",
            "last",
            "native-full",
            "prepare",
            "wasm-full"
        ]
    );
    assert_eq!(set.get("group").unwrap().wants, ["hello", "native-full"]);
    assert_eq!(set.nearest("native-ful.service"), Some("native-full"));
}
