//! Words of systemd, Docker, Podman's Quadlet and the OCI runtime specification, and what they are called here.

/// (their word, our key). Compared without regard to case, blanks and dashes.
const WORDS: &[(&str, &str)] = &[
    // systemd.unit(5)
    ("After", "[unit] after"),
    ("Before", "[unit] before"),
    ("BindsTo", "[unit] requires"),
    ("Conflicts", "[unit] conflicts"),
    ("Description", "[unit] description"),
    ("Requires", "[unit] requires"),
    ("Wants", "[unit] wants"),
    ("WantedBy", "[install] wanted-by"),
    ("StartLimitBurst", "[restart] attempts"),
    ("StartLimitIntervalSec", "[restart] window"),
    // systemd.service(5)
    ("ExecStart", "[service] exec"),
    ("Type", "[service] type"),
    ("Restart", "[restart] policy"),
    ("RestartSec", "[restart] delay"),
    ("RestartMaxDelaySec", "[restart] max-delay"),
    ("RestartSteps", "[restart] factor"),
    ("RestartForceExitStatus", "[restart] on"),
    ("RestartPreventExitStatus", "[restart] never-on"),
    ("SuccessExitStatus", "[service] success-status"),
    ("TimeoutStartSec", "[service] start-timeout"),
    ("TimeoutStopSec", "[stop] timeout"),
    ("WatchdogSec", "[watchdog] timeout"),
    // systemd.exec(5), systemd.kill(5)
    ("AmbientCapabilities", "[security] caps"),
    ("BindPaths", "[[mount]] with writable = true"),
    ("BindReadOnlyPaths", "[[mount]]"),
    ("CapabilityBoundingSet", "[security] caps"),
    (
        "DynamicUser",
        "nothing to set: without [user] a cell runs as an unprivileged user of its own",
    ),
    ("Environment", "[env] set"),
    ("EnvironmentFile", "[env] files"),
    ("Group", "[user] group"),
    ("KillMode", "[stop] mode"),
    ("KillSignal", "[stop] signal"),
    ("LimitAS", "[limits] address-space"),
    ("LimitCORE", "[limits] core"),
    ("LimitCPU", "[limits] cpu-time"),
    ("LimitDATA", "[limits] data"),
    ("LimitFSIZE", "[limits] file-size"),
    ("LimitLOCKS", "[limits] locks"),
    ("LimitMEMLOCK", "[limits] memlock"),
    ("LimitMSGQUEUE", "[limits] msgqueue"),
    ("LimitNICE", "[limits] nice"),
    ("LimitNOFILE", "[limits] nofile"),
    ("LimitNPROC", "[limits] nproc"),
    ("LimitRSS", "[limits] rss"),
    ("LimitRTPRIO", "[limits] rtprio"),
    ("LimitRTTIME", "[limits] rttime"),
    ("LimitSIGPENDING", "[limits] sigpending"),
    ("LimitSTACK", "[limits] stack"),
    ("LogRateLimitBurst", "[log.rate] burst"),
    ("LogRateLimitIntervalSec", "[log.rate] interval"),
    (
        "NoNewPrivileges",
        "nothing to set: it is always on, except in profile `none`",
    ),
    ("OOMPolicy", "[oom] policy"),
    ("OOMScoreAdjust", "[oom] score"),
    (
        "PrivateDevices",
        "nothing to set: a cell has a minimal /dev of its own",
    ),
    ("PrivateIPC", "[isolation] ipc"),
    ("PrivateMounts", "[isolation] mount"),
    ("PrivateNetwork", "[network] mode"),
    ("PrivatePIDs", "[isolation] pid"),
    ("PrivateTmp", "nothing to set: a cell has a /tmp of its own"),
    ("PrivateUsers", "[isolation] user"),
    ("ProtectControlGroups", "[isolation] cgroup"),
    (
        "ProtectHome",
        "nothing to set: a cell does not see /home and /root",
    ),
    ("ProtectHostname", "[isolation] uts"),
    (
        "ProtectSystem",
        "[rootfs] writable; a cell's system is read-only",
    ),
    ("ReadOnlyPaths", "[[mount]]"),
    ("ReadWritePaths", "[[mount]] with writable = true"),
    ("RootDirectory", "[rootfs] path"),
    ("RuntimeDirectory", "[dirs] runtime"),
    ("SELinuxContext", "[selinux] type and level"),
    ("StandardError", "[log] stderr"),
    ("StandardOutput", "[log] stdout"),
    ("StateDirectory", "[dirs] state"),
    ("SystemCallErrorNumber", "[seccomp] errno"),
    ("SystemCallFilter", "[seccomp] allow and deny"),
    ("TemporaryFileSystem", "[[mount]] with type = \"tmpfs\""),
    ("UMask", "[service] umask"),
    ("User", "[user] user"),
    ("WorkingDirectory", "[service] working-dir"),
    // systemd.resource-control(5), systemd.socket(5)
    ("CPUQuota", "[resources] cpu.max"),
    ("CPUWeight", "[resources] cpu.weight"),
    ("IOWeight", "[resources] io.weight"),
    ("MemoryHigh", "[resources] memory.high"),
    ("MemoryLimit", "[resources] memory.max"),
    ("MemoryLow", "[resources] memory.low"),
    ("MemoryMax", "[resources] memory.max"),
    ("TasksMax", "[resources] pids.max"),
    ("Backlog", "[[socket]] backlog"),
    ("FileDescriptorName", "[[socket]] name"),
    ("ListenStream", "[[socket]] listen"),
    ("SocketMode", "[[socket]] mode"),
    // Docker, Compose, Quadlet, OCI, and what people guess
    ("AddCapability", "[security] caps"),
    ("cap-add", "[security] caps"),
    ("capabilities", "[security] caps"),
    ("cmd", "[service] exec"),
    ("command", "[service] exec"),
    (
        "ContainerName",
        "nothing to set: the file's name is the unit's name",
    ),
    ("cpus", "[resources] cpu.max"),
    ("cwd", "[service] working-dir"),
    ("depends-on", "[unit] depends"),
    ("environment", "[env] set"),
    ("env-file", "[env] files"),
    ("healthcheck", "[health.live] exec"),
    ("HealthCmd", "[health.live] exec"),
    ("HealthInterval", "[health.live] interval"),
    ("HealthRetries", "[health.live] failures"),
    ("HealthStartPeriod", "[health.live] start-period"),
    ("HealthTimeout", "[health.live] timeout"),
    ("HostName", "[isolation] hostname"),
    ("mem-limit", "[resources] memory.max"),
    ("mounts", "[[mount]]"),
    ("NetworkMode", "[network] mode"),
    ("PidsLimit", "[resources] pids.max"),
    ("ReadOnly", "[rootfs] writable, the other way round"),
    ("rlimits", "[limits]"),
    ("SeccompProfile", "[seccomp] policy"),
    ("SecurityLabelLevel", "[selinux] level"),
    ("SecurityLabelType", "[selinux] type"),
    ("stop-grace-period", "[stop] timeout"),
    ("StopSignal", "[stop] signal"),
    ("StopTimeout", "[stop] timeout"),
    ("Tmpfs", "[[mount]] with type = \"tmpfs\""),
    ("ulimits", "[limits]"),
    ("Ulimit", "[limits]"),
    ("volumes", "[[mount]]"),
    ("Volume", "[[mount]]"),
    ("workdir", "[service] working-dir"),
];

/// What to write in place of another program's word.
pub(super) fn replacement(word: &str) -> Option<String> {
    let folded = fold(word);
    let (theirs, ours) = WORDS.iter().find(|(theirs, _)| fold(theirs) == folded)?;
    Some(match ours.strip_prefix("nothing to set: ") {
        Some(reason) => format!("`{theirs}` needs no key here: {reason}"),
        None => format!("`{theirs}` is {ours} here"),
    })
}

fn fold(word: &str) -> String {
    word.chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Every key that is named as a replacement, for the test that they exist.
#[cfg(test)]
pub(super) fn targets() -> impl Iterator<Item = &'static str> {
    WORDS
        .iter()
        .map(|(_, ours)| *ours)
        .filter(|ours| ours.starts_with('['))
}
