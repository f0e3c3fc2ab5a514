//! Units for a machine that never sees a file: the smallest one, to be changed in place.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cellinit::unit::*;

pub fn unit(name: &str) -> Unit {
    Unit {
        name: name.to_owned(),
        source: PathBuf::from(format!("{name}.toml")),
        description: String::new(),
        kind: Kind::Service,
        requires: Vec::new(),
        wants: Vec::new(),
        after: Vec::new(),
        before: Vec::new(),
        conflicts: Vec::new(),
        depends: Vec::new(),
        wanted_by: Vec::new(),
        service: Service {
            kind: ServiceType::Exec,
            ready: Ready::Exec,
            working_dir: "/".to_owned(),
            umask: 0o022,
            start_timeout: Some(Duration::from_secs(90)),
            success_status: vec![ExitMatch::Status(0), ExitMatch::Signal(15)],
        },
        payload: Payload::Native { exec: vec!["/bin/true".to_owned()] },
        env: Env::default(),
        user: User { user: Identity::Dynamic, group: None },
        stop: Stop { signal: 15, timeout: Some(Duration::from_secs(10)), mode: StopMode::Mixed },
        restart: Restart {
            policy: RestartPolicy::OnFailure,
            on: Vec::new(),
            never_on: Vec::new(),
            delay: Duration::from_millis(100),
            factor: 2.0,
            max_delay: Duration::from_secs(30),
            jitter_permille: 0,
            reset_after: Duration::from_secs(60),
            attempts: None,
            window: Duration::from_secs(10),
        },
        health: Health::default(),
        watchdog: None,
        isolation: Isolation {
            profile: Profile::None,
            enforce: Enforce::Required,
            user: Namespace::Host,
            mount: Namespace::Host,
            uts: Namespace::Host,
            ipc: Namespace::Host,
            pid: Namespace::Host,
            net: Namespace::Host,
            cgroup: Namespace::Host,
            hostname: name.to_owned(),
        },
        rootfs: Rootfs::default(),
        mounts: Vec::new(),
        dirs: Dirs::default(),
        caps: Default::default(),
        seccomp: Seccomp { policy: SeccompPolicy::Off, allow: Vec::new(), deny: Vec::new(), errno: 1 },
        selinux: Selinux::default(),
        resources: Resources::default(),
        limits: BTreeMap::new(),
        oom_score: 0,
        oom_policy: OomPolicy::Stop,
        network: NetworkMode::Host,
        sockets: Vec::new(),
        log: Log {
            stdout: LogTarget::Log,
            stderr: LogTarget::Log,
            max_size: 0,
            max_files: 1,
            rate_burst: 0,
            rate_interval: Duration::ZERO,
        },
    }
}

pub fn probe(interval: Duration, timeout: Duration, failures: u32, successes: u32, action: ProbeAction) -> Probe {
    let check = Check::Tcp { address: "localhost:1".to_owned() };
    Probe { check, interval, timeout, failures, successes, start_period: Duration::ZERO, action }
}
