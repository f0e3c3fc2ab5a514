//! The words that enumerations have in unit files: one list for parser, suggestions and reference.

use super::model::*;

/// An enumeration that a unit file spells as one word.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every word and what it means, in the order of the reference.
    const ALL: &'static [(&'static str, Self)];
    /// Words of the dictionary that are not built yet. One that ends in `:` stands for all that begin so.
    const LATER: &'static [&'static str];
}

/// The words of `T`.
pub(super) fn words<T: Choice>() -> Vec<&'static str> {
    T::ALL.iter().map(|(word, _)| *word).collect()
}

/// The word of `value`.
pub(super) fn word<T: Choice>(value: T) -> &'static str {
    T::ALL.iter().find(|(_, v)| *v == value).map_or("", |(word, _)| word)
}

/// Is `word` in the dictionary, but not built yet?
pub(super) fn is_later(later: &[&str], word: &str) -> bool {
    later.iter().any(|l| *l == word || (l.ends_with(':') && word.starts_with(l)))
}

/// How `[service] ready.by` spells the rules of [`Ready`]; the descriptor of `fd` is a key of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ReadyBy {
    Notify,
    Fd,
    Health,
    Exec,
}

/// How `[[mount]] type` spells [`MountKind`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum MountType {
    Bind,
    Tmpfs,
}

macro_rules! choices {
    ($($type:ty { $($word:literal = $value:expr),* $(,)? } later [ $($later:literal),* ];)*) => {$(
        impl Choice for $type {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, $value)),*];
            const LATER: &'static [&'static str] = &[$($later),*];
        }
    )*};
}

choices! {
    Kind { "service" = Kind::Service, "job" = Kind::Job, "target" = Kind::Target }
        later ["group", "socket", "timer", "path", "mount", "network"];
    Condition { "started" = Condition::Started, "ready" = Condition::Ready, "healthy" = Condition::Healthy, "completed" = Condition::Completed }
        later ["failed", "stopped"];
    ServiceType { "simple" = ServiceType::Simple, "exec" = ServiceType::Exec, "notify" = ServiceType::Notify, "oneshot" = ServiceType::Oneshot }
        later ["notify-reload", "forking"];
    ReadyBy { "notify" = ReadyBy::Notify, "fd" = ReadyBy::Fd, "health" = ReadyBy::Health, "exec" = ReadyBy::Exec }
        later ["listen", "log", "timeout"];
    StopMode { "cell" = StopMode::Cell, "mixed" = StopMode::Mixed, "main" = StopMode::Main, "none" = StopMode::None }
        later [];
    RestartPolicy {
        "no" = RestartPolicy::No, "always" = RestartPolicy::Always, "on-success" = RestartPolicy::OnSuccess,
        "on-failure" = RestartPolicy::OnFailure, "on-abnormal" = RestartPolicy::OnAbnormal, "unless-stopped" = RestartPolicy::UnlessStopped,
    } later [];
    CauseKind {
        "exit" = CauseKind::Exit, "signal" = CauseKind::Signal, "oom" = CauseKind::Oom, "trap" = CauseKind::Trap, "fuel" = CauseKind::Fuel,
        "deadline" = CauseKind::Deadline, "memory" = CauseKind::Memory, "world" = CauseKind::World, "health" = CauseKind::Health, "watchdog" = CauseKind::Watchdog,
        "start-timeout" = CauseKind::StartTimeout, "seccomp" = CauseKind::Seccomp, "dependency" = CauseKind::Dependency, "start" = CauseKind::Start,
    } later [];
    ProbeAction { "none" = ProbeAction::None, "restart" = ProbeAction::Restart, "stop" = ProbeAction::Stop, "kill" = ProbeAction::Kill, "degrade" = ProbeAction::Degrade }
        later ["reboot", "rollback"];
    Profile { "none" = Profile::None, "host" = Profile::Host, "default" = Profile::Default, "strict" = Profile::Strict, "wasm" = Profile::Wasm }
        later [];
    Enforce { "required" = Enforce::Required, "best-effort" = Enforce::BestEffort }
        later [];
    Namespace { "private" = Namespace::Private, "host" = Namespace::Host }
        later ["unit:", "path:"];
    MountType { "bind" = MountType::Bind, "tmpfs" = MountType::Tmpfs }
        later ["overlay", "volume", "image", "proc", "sysfs", "devpts", "mqueue", "cgroup", "secret"];
    SeccompPolicy {
        "off" = SeccompPolicy::Off, "log" = SeccompPolicy::Log, "default" = SeccompPolicy::Default,
        "allow-list" = SeccompPolicy::AllowList, "derived" = SeccompPolicy::Derived,
    } later ["file"];
    OomPolicy { "continue" = OomPolicy::Continue, "stop" = OomPolicy::Stop, "kill-cell" = OomPolicy::KillCell }
        later [];
    NetworkMode { "none" = NetworkMode::None, "host" = NetworkMode::Host }
        later ["bridge", "macvlan", "ipvlan", "unit:", "path:"];
    World { "auto" = World::Auto, "command" = World::Command, "http" = World::Http }
        later ["reactor"];
    LogTarget { "log" = LogTarget::Log, "null" = LogTarget::Null, "inherit" = LogTarget::Inherit }
        later ["console", "file:", "append:", "socket", "fd:"];
}
