//! The kernel's own words out of TOML values: signals, capabilities, system calls, errors, limits, labels.

use toml::de::DeValue;

use super::caps::{CAPABILITIES, CapabilitySet};
use super::errno::ERRNOS;
use super::model::*;
use super::near::nearest;
use super::syscalls;
use super::values::*;

/// Longest SELinux level; the kernel takes a page for a whole label.
const MAX_LEVEL: usize = 3000;
/// First real-time signal that glibc leaves to programs, and the last.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

#[rustfmt::skip]
const SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", 1), ("SIGINT", 2), ("SIGQUIT", 3), ("SIGILL", 4), ("SIGTRAP", 5), ("SIGABRT", 6), ("SIGBUS", 7), ("SIGFPE", 8),
    ("SIGKILL", 9), ("SIGUSR1", 10), ("SIGSEGV", 11), ("SIGUSR2", 12), ("SIGPIPE", 13), ("SIGALRM", 14), ("SIGTERM", 15),
    ("SIGSTKFLT", 16), ("SIGCHLD", 17), ("SIGCONT", 18), ("SIGSTOP", 19), ("SIGTSTP", 20), ("SIGTTIN", 21), ("SIGTTOU", 22),
    ("SIGURG", 23), ("SIGXCPU", 24), ("SIGXFSZ", 25), ("SIGVTALRM", 26), ("SIGPROF", 27), ("SIGWINCH", 28), ("SIGIO", 29),
    ("SIGPWR", 30), ("SIGSYS", 31),
];

pub(super) fn signal(value: &DeValue<'_>) -> Parsed<i32> {
    let Some(name) = value.as_str() else {
        return match integer(value).ok().and_then(|n| SIGNALS.iter().find(|(_, number)| i64::from(*number) == n)) {
            Some((name, _)) => wrong_try("a signal is written by name", format!("\"{name}\"")),
            None => Err(Wrong::Type),
        };
    };
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let real_time = match (name, name.strip_prefix("SIGRTMIN+"), name.strip_prefix("SIGRTMAX-")) {
        ("SIGRTMIN", ..) => Some(SIGRTMIN),
        ("SIGRTMAX", ..) => Some(SIGRTMAX),
        (_, Some(up), _) => small(up).map(|n| SIGRTMIN + n),
        (_, _, Some(down)) => small(down).map(|n| SIGRTMAX - n),
        _ => None,
    };
    if let Some(number) = real_time.filter(|n| (SIGRTMIN..=SIGRTMAX).contains(n)) {
        return Ok(number);
    }
    let names = || SIGNALS.iter().map(|(name, _)| *name);
    let full = format!("SIG{}", name.to_ascii_uppercase().trim_start_matches("SIG"));
    match names().find(|known| *known == full).or_else(|| nearest(name, names())) {
        Some(near) => wrong_try(format!("\"{name}\" is not a signal"), format!("did you mean \"{near}\"?")),
        None => wrong_try(format!("\"{name}\" is not a signal"), "names as in signal(7), or \"SIGRTMIN+3\""),
    }
}

fn small(text: &str) -> Option<i32> {
    digits(text).and_then(|n| i32::try_from(n).ok()).filter(|n| *n < SIGRTMAX)
}

/// The name of a signal, for messages and status.
pub fn signal_name(number: i32) -> String {
    match SIGNALS.iter().find(|(_, n)| *n == number) {
        Some((name, _)) => (*name).to_owned(),
        None if (SIGRTMIN..=SIGRTMAX).contains(&number) => {
            format!("SIGRTMIN+{}", number - SIGRTMIN)
        }
        None => format!("signal {number}"),
    }
}

/// Exit statuses and signals; status 0 is always among them.
pub(super) fn statuses(value: &DeValue<'_>) -> Parsed<Vec<ExitMatch>> {
    let mut matches = each(value, |value| match value {
        DeValue::Integer(_) => Ok(ExitMatch::Status(i32::try_from(between(value, 0, 255)?).unwrap_or_default())),
        DeValue::String(_) => signal(value).map(ExitMatch::Signal),
        _ => Err(Wrong::Type),
    })?;
    if !matches.contains(&ExitMatch::Status(0)) {
        matches.insert(0, ExitMatch::Status(0));
    }
    Ok(matches)
}

pub(super) fn capabilities(value: &DeValue<'_>) -> Parsed<CapabilitySet> {
    match value {
        DeValue::String(word) if word == "all" => Ok(CapabilitySet::all()),
        DeValue::Array(array) if array.iter().any(|v| v.get_ref().as_str() == Some("all")) => Ok(CapabilitySet::all()),
        DeValue::Array(_) => Ok(each(value, capability)?.into_iter().collect()),
        _ => Err(Wrong::Type),
    }
}

fn capability(value: &DeValue<'_>) -> Parsed<&'static str> {
    let name = value.as_str().ok_or(Wrong::Type)?;
    let known = || CAPABILITIES.iter().copied();
    if let Some(known) = known().find(|known| *known == name) {
        return Ok(known);
    }
    let full = format!("CAP_{}", name.to_ascii_uppercase().trim_start_matches("CAP_"));
    match known().find(|cap| *cap == full).or_else(|| nearest(&full, known())) {
        Some(near) => wrong_try(format!("\"{name}\" is not a capability"), format!("did you mean \"{near}\"?")),
        None => wrong_try(format!("\"{name}\" is not a capability"), "names as in capabilities(7), for example \"CAP_NET_BIND_SERVICE\""),
    }
}

/// Names and `@groups`.
pub(super) fn syscall_names(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    each(value, |value| {
        let name = value.as_str().ok_or(Wrong::Type)?;
        let bare = name.strip_prefix('@').unwrap_or(name);
        if bare.contains(':') {
            return wrong(format!("an error of its own (`{name}`) is known, but not supported yet"));
        }
        if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b)) {
            return wrong_try(format!("{name:?} is not the name of a system call"), "\"mount\", or a group such as \"@network-io\"");
        }
        if !syscalls::is_known(name) {
            let what = if name.starts_with('@') { "no group of system calls" } else { "no system call" };
            let example = "names as in syscalls(2), or groups of systemd.exec(5)".to_owned();
            return wrong_try(
                format!("\"{name}\" is {what}"),
                syscalls::nearest(name).map_or(example, |near| format!("did you mean \"{near}\"?")),
            );
        }
        Ok(name.to_owned())
    })
}

pub(super) fn errno(value: &DeValue<'_>) -> Parsed<i32> {
    let name = value.as_str().ok_or(Wrong::Type)?;
    if let Some((number, ..)) = ERRNOS.iter().find(|(_, known, _)| *known == name) {
        return Ok(*number);
    }
    match nearest(name, ERRNOS.iter().map(|(_, name, _)| *name)) {
        Some(near) => wrong_try(format!("\"{name}\" is not an error that a call can answer"), format!("did you mean \"{near}\"?")),
        None => wrong_try(format!("\"{name}\" is not an error that a call can answer"), "a name as in errno(3), for example \"EPERM\""),
    }
}

/// An SELinux level such as `s0:c1,c2` or `s0-s0:c0.c1023`; whether the policy has it is told by the kernel.
pub(super) fn selinux_level(value: &DeValue<'_>) -> Parsed<String> {
    let level = value.as_str().ok_or(Wrong::Type)?;
    if !level.starts_with('s') || level.len() > MAX_LEVEL || !level.bytes().all(|b| b.is_ascii_alphanumeric() || b":,.-".contains(&b)) {
        return wrong_try(format!("{level:?} is not an SELinux level"), "for example \"s0:c1,c2\"");
    }
    Ok(level.to_owned())
}

/// One limit of `[limits]`: a value for both, or "soft:hard".
pub(super) fn rlimit(value: &DeValue<'_>, which: Rlimit) -> Parsed<RlimitValue> {
    let word = match value {
        DeValue::Integer(_) => integer(value)?.to_string(),
        DeValue::String(text) => text.to_string(),
        _ => return Err(Wrong::Type),
    };
    let (soft, hard) = word.split_once(':').unwrap_or((&word, &word));
    let (soft, hard) = (rlimit_side(soft, which)?, rlimit_side(hard, which)?);
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        return wrong(format!("the soft limit of \"{word}\" is above its hard limit"));
    }
    Ok(RlimitValue { soft, hard })
}

fn rlimit_side(text: &str, which: Rlimit) -> Parsed<Option<u64>> {
    use Rlimit::*;
    if text == "infinity" {
        return Ok(None);
    }
    let (parsed, expected) = match which {
        CpuTime => (digits(text).or_else(|| parse_duration(text).map(|d| d.as_secs())), "seconds, or a duration such as \"1m30s\""),
        Rttime => (
            digits(text).or_else(|| parse_duration(text).and_then(|d| u64::try_from(d.as_micros()).ok())),
            "microseconds, or a duration such as \"200ms\"",
        ),
        FileSize | Data | Stack | Core | Rss | AddressSpace | Memlock | Msgqueue => {
            (parse_size(text), "bytes, or a size such as \"64MiB\"")
        }
        Nice => (digits(text).filter(|n| *n <= 40), "0 to 40"),
        Rtprio => (digits(text).filter(|n| *n <= 99), "0 to 99"),
        Nofile | Nproc | Locks | Sigpending => (digits(text), "a whole number"),
    };
    match parsed {
        Some(limit) => Ok(Some(limit)),
        None => wrong_try(format!("`{text}` is not a limit"), format!("{expected}, or \"infinity\"")),
    }
}
