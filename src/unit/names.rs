//! Names out of TOML values: units, users, paths, signals, capabilities, errors, addresses. As strict as `values`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use toml::de::DeValue;

use super::model::*;
use super::near::nearest;
use super::values::*;
use super::words;

/// Longest unit name, in bytes: it becomes a cgroup, a file and part of a socket path (108 bytes).
pub(super) const MAX_UNIT_NAME: usize = 100;
/// HOST_NAME_MAX of Linux.
pub(super) const MAX_HOSTNAME: usize = 64;
/// PATH_MAX without its NUL.
const MAX_PATH: usize = 4095;
/// useradd(8).
const MAX_USER_NAME: usize = 32;
/// Length of `sun_path` without its NUL.
const MAX_UNIX_PATH: usize = 107;
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

/// capabilities(7), by number.
#[rustfmt::skip]
pub(super) const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
    "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
    "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
];

/// errno(3) on Linux, the ones that a denied call can reasonably answer.
#[rustfmt::skip]
const ERRNOS: &[(&str, i32)] = &[
    ("EPERM", 1), ("ENOENT", 2), ("EIO", 5), ("ENXIO", 6), ("EBADF", 9), ("EAGAIN", 11), ("ENOMEM", 12), ("EACCES", 13),
    ("EFAULT", 14), ("EBUSY", 16), ("EEXIST", 17), ("ENODEV", 19), ("EINVAL", 22), ("ENFILE", 23), ("EMFILE", 24), ("ENOTTY", 25),
    ("EFBIG", 27), ("ENOSPC", 28), ("EROFS", 30), ("EDOM", 33), ("ERANGE", 34), ("ENOSYS", 38), ("EPROTONOSUPPORT", 93),
    ("EOPNOTSUPP", 95), ("EAFNOSUPPORT", 97), ("ECONNREFUSED", 111),
];

pub(super) fn unit_name(value: &DeValue<'_>) -> Parsed<UnitName> {
    let name = value.as_str().ok_or(Wrong::Type)?;
    check_unit_name(name).map_or_else(wrong, |()| Ok(name.to_owned()))
}

pub(super) fn unit_names(value: &DeValue<'_>) -> Parsed<Vec<UnitName>> {
    each(value, unit_name)
}

/// Safe as a cgroup, as a file, in a log line and in a socket's path (systemd CVE-2026-29111 is why).
pub(super) fn check_unit_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_UNIT_NAME {
        return Err(format!("a unit's name has 1 to {MAX_UNIT_NAME} bytes"));
    }
    if name.starts_with(['.', '-']) {
        return Err(format!("the name `{}` begins with `{}`", name, &name[..1]));
    }
    match name
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !"_.:@-".contains(*c))
    {
        Some(c) => Err(format!(
            "the name {name:?} contains {c:?}; letters, digits and `_.:@-` are allowed"
        )),
        None => Ok(()),
    }
}

/// A name or a number that can be nobody else's: no sign, no blank, no other base, not 65535 or 4294967295 (which are -1).
pub(super) fn identity(value: &DeValue<'_>) -> Parsed<Identity> {
    let number = match value {
        DeValue::Integer(_) => integer(value).ok().and_then(|n| u64::try_from(n).ok()),
        DeValue::String(text) if text.starts_with(|c: char| c.is_ascii_digit()) => {
            digits(text).filter(|_| text == "0" || !text.starts_with('0'))
        }
        DeValue::String(text) => return user_name(text).map(Identity::Name),
        _ => return Err(Wrong::Type),
    };
    match number.and_then(|n| u32::try_from(n).ok()) {
        Some(id) if id != u32::MAX && id != u32::from(u16::MAX) => Ok(Identity::Id(id)),
        Some(id) => wrong(format!("{id} is the kernel's word for \"no such id\"")),
        None => wrong_try(
            "not a user or group id",
            "plain decimal digits, 0 to 4294967294, or a name",
        ),
    }
}

fn user_name(name: &str) -> Parsed<String> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let follows = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if begins && follows && name.len() <= MAX_USER_NAME {
        return Ok(name.to_owned());
    }
    wrong_try(
        format!("{name:?} is not the name of a user or group"),
        "a letter or `_`, then letters, digits and `_.-`; user and group are two keys",
    )
}

/// Octal, as chmod(1) takes it.
pub(super) fn mode(value: &DeValue<'_>) -> Parsed<u32> {
    let text = value.as_str().ok_or(Wrong::Type)?;
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match octal.then(|| u32::from_str_radix(text, 8).ok()).flatten() {
        Some(mode) => Ok(mode),
        None => wrong_try(
            format!("`{text}` is not an octal mode"),
            "three or four digits from 0 to 7: \"0750\"",
        ),
    }
}

/// An absolute path without `..`, in its shortest spelling.
pub(super) fn path(value: &DeValue<'_>) -> Parsed<String> {
    let path = text(value)?;
    if !path.starts_with('/') {
        return wrong_try(
            format!("{path:?} is a relative path"),
            "paths begin with `/` here",
        );
    }
    shortest(&path).map(|inner| format!("/{inner}"))
}

/// Components joined again, without empty ones and `.`.
fn shortest(path: &str) -> Parsed<String> {
    if path.len() > MAX_PATH {
        return wrong(format!("a path has at most {MAX_PATH} bytes"));
    }
    if path.contains(char::is_control) {
        return wrong("a path with control characters");
    }
    if path.split('/').any(|part| part == "..") {
        return wrong_try("`..` in a path", "write the path that is meant");
    }
    Ok(path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect::<Vec<_>>()
        .join("/"))
}

/// One relative path or a list of them.
pub(super) fn dirs(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    let relative = |value: &DeValue<'_>| {
        let path = text(value)?;
        match shortest(path.strip_suffix('/').unwrap_or(&path))? {
            _ if path.starts_with('/') => wrong_try(
                format!("{path:?} is an absolute path"),
                "these are names below /var/lib and /run in the cell",
            ),
            inner if inner.is_empty() => wrong("an empty name"),
            inner => Ok(inner),
        }
    };
    match value {
        DeValue::Table(_) => {
            wrong("a table of path, mode and quota is known, but not supported yet")
        }
        DeValue::Array(_) => each(value, relative),
        _ => relative(value).map(|dir| vec![dir]),
    }
}

pub(super) fn env_files(value: &DeValue<'_>) -> Parsed<Vec<EnvFile>> {
    each(value, |value| {
        let text = text(value)?;
        let (name, optional) = text
            .strip_prefix('?')
            .map_or((text.as_str(), false), |name| (name, true));
        Ok(EnvFile {
            path: path(&DeValue::String(name.into()))?,
            optional,
        })
    })
}

/// Environment variables.
pub(super) fn map(value: &DeValue<'_>) -> Parsed<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for (name, value) in value.as_table().ok_or(Wrong::Type)? {
        let name = name.get_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            return wrong(format!("{name:?} cannot be the name of a variable"));
        }
        match text(value.get_ref()) {
            Ok(value) => map.insert(name.to_string(), value),
            Err(Wrong::Type) => {
                return wrong_try(
                    format!("the value of `{name}` is not a string"),
                    format!("write it in quotes: {name} = \"...\""),
                );
            }
            Err(wrong) => return Err(wrong),
        };
    }
    Ok(map)
}

/// A command line: a list of words, or one string split by shell rules.
pub(super) fn argv(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    let argv = match value {
        DeValue::Array(_) => texts(value)?,
        _ => match words::split(&text(value)?) {
            Ok(words) => words,
            Err(message) => {
                return wrong_try(
                    message,
                    "write a list to pass it as it is, or name the shell: [\"/bin/sh\", \"-c\", \"...\"]",
                );
            }
        },
    };
    match argv.first().map(String::as_str) {
        None => wrong("an empty command line"),
        Some("") => wrong("the program's name is empty"),
        Some(program) if program.contains('/') && !program.starts_with('/') => wrong_try(
            format!("{program:?} is a relative path"),
            "an absolute path, or a bare name that is looked up in the cell's PATH",
        ),
        Some(program) if program.starts_with(['-', '@', '+', '!', ':']) => wrong_try(
            format!("{program:?} begins with one of systemd's prefixes"),
            "there are no prefixes here; every program runs inside its cell",
        ),
        Some(_) => Ok(argv),
    }
}

pub(super) fn signal(value: &DeValue<'_>) -> Parsed<i32> {
    let Some(name) = value.as_str() else {
        return match integer(value)
            .ok()
            .and_then(|n| SIGNALS.iter().find(|(_, number)| i64::from(*number) == n))
        {
            Some((name, _)) => wrong_try("a signal is written by name", format!("\"{name}\"")),
            None => Err(Wrong::Type),
        };
    };
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let real_time = match (
        name,
        name.strip_prefix("SIGRTMIN+"),
        name.strip_prefix("SIGRTMAX-"),
    ) {
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
    match names()
        .find(|known| *known == full)
        .or_else(|| nearest(name, names()))
    {
        Some(near) => wrong_try(
            format!("\"{name}\" is not a signal"),
            format!("did you mean \"{near}\"?"),
        ),
        None => wrong_try(
            format!("\"{name}\" is not a signal"),
            "names as in signal(7), or \"SIGRTMIN+3\"",
        ),
    }
}

fn small(text: &str) -> Option<i32> {
    digits(text)
        .and_then(|n| i32::try_from(n).ok())
        .filter(|n| *n < SIGRTMAX)
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
        DeValue::Integer(_) => Ok(ExitMatch::Status(
            i32::try_from(between(value, 0, 255)?).unwrap_or_default(),
        )),
        DeValue::String(_) => signal(value).map(ExitMatch::Signal),
        _ => Err(Wrong::Type),
    })?;
    if !matches.contains(&ExitMatch::Status(0)) {
        matches.insert(0, ExitMatch::Status(0));
    }
    Ok(matches)
}

/// `None` is "all".
pub(super) fn capabilities(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    let all = || CAPABILITIES.iter().map(|cap| (*cap).to_owned()).collect();
    match value {
        DeValue::String(word) if word == "all" => Ok(all()),
        DeValue::Array(array) if array.iter().any(|v| v.get_ref().as_str() == Some("all")) => {
            Ok(all())
        }
        DeValue::Array(_) => {
            let mut caps = each(value, capability)?;
            caps.sort();
            caps.dedup();
            Ok(caps)
        }
        _ => Err(Wrong::Type),
    }
}

fn capability(value: &DeValue<'_>) -> Parsed<String> {
    let name = value.as_str().ok_or(Wrong::Type)?;
    if CAPABILITIES.contains(&name) {
        return Ok(name.to_owned());
    }
    let full = format!(
        "CAP_{}",
        name.to_ascii_uppercase().trim_start_matches("CAP_")
    );
    match CAPABILITIES
        .iter()
        .copied()
        .find(|cap| *cap == full)
        .or_else(|| nearest(&full, CAPABILITIES.iter().copied()))
    {
        Some(near) => wrong_try(
            format!("\"{name}\" is not a capability"),
            format!("did you mean \"{near}\"?"),
        ),
        None => wrong_try(
            format!("\"{name}\" is not a capability"),
            "names as in capabilities(7), for example \"CAP_NET_BIND_SERVICE\"",
        ),
    }
}

/// Names and `@groups`. Whether the kernel has a call of that name is told when the plan is made.
pub(super) fn syscalls(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    each(value, |value| {
        let name = value.as_str().ok_or(Wrong::Type)?;
        let bare = name.strip_prefix('@').unwrap_or(name);
        if bare.contains(':') {
            return wrong(format!(
                "an error of its own (`{name}`) is known, but not supported yet"
            ));
        }
        if bare.is_empty()
            || !bare
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
        {
            return wrong_try(
                format!("{name:?} is not the name of a system call"),
                "\"mount\", or a group such as \"@network-io\"",
            );
        }
        Ok(name.to_owned())
    })
}

pub(super) fn errno(value: &DeValue<'_>) -> Parsed<i32> {
    let name = value.as_str().ok_or(Wrong::Type)?;
    match ERRNOS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(*number),
        None => match nearest(name, ERRNOS.iter().map(|(name, _)| *name)) {
            Some(near) => wrong_try(
                format!("\"{name}\" is not an error that a call can answer"),
                format!("did you mean \"{near}\"?"),
            ),
            None => wrong_try(
                format!("\"{name}\" is not an error that a call can answer"),
                "a name as in errno(3), for example \"EPERM\"",
            ),
        },
    }
}

/// A host name inside a cell, a socket's name: letters, digits and a few signs.
pub(super) fn plain_name(value: &DeValue<'_>) -> Parsed<String> {
    let name = value.as_str().ok_or(Wrong::Type)?;
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if name.is_empty()
        || name.len() > MAX_HOSTNAME
        || !name.bytes().all(fine)
        || name.starts_with(['.', '-'])
    {
        return wrong_try(
            format!("{name:?} cannot be a name here"),
            format!(
                "1 to {MAX_HOSTNAME} letters, digits and `_.-`, beginning with a letter or digit"
            ),
        );
    }
    Ok(name.to_owned())
}

/// An SELinux level such as `s0:c1,c2` or `s0-s0:c0.c1023`; whether the policy has it is told by the kernel.
pub(super) fn selinux_level(value: &DeValue<'_>) -> Parsed<String> {
    let level = value.as_str().ok_or(Wrong::Type)?;
    if !level.starts_with('s')
        || level.len() > MAX_PATH
        || !level
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b":,.-".contains(&b))
    {
        return wrong_try(
            format!("{level:?} is not an SELinux level"),
            "for example \"s0:c1,c2\"",
        );
    }
    Ok(level.to_owned())
}

/// `http://HOST[:PORT]/PATH`.
pub(super) fn url(value: &DeValue<'_>) -> Parsed<String> {
    let url = match value {
        DeValue::Table(_) => {
            return wrong("a table of url, method and headers is known, but not supported yet");
        }
        _ => text(value)?,
    };
    let Some(rest) = url.strip_prefix("http://") else {
        return wrong_try(
            format!("{url:?} is not an http:// address"),
            "probes stay inside the cell's network, so there is no https",
        );
    };
    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
    let port = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'))
        .map(|(_, port)| port);
    let fine = !authority.is_empty()
        && !authority.starts_with(':')
        && !authority.contains('@')
        && port.is_none_or(|p| port_number(p).is_some());
    if !fine
        || url.contains(|c: char| c.is_control() || c == ' ' || !c.is_ascii())
        || url.len() > MAX_PATH
    {
        return wrong_try(
            format!("{url:?} is not an http:// address"),
            "\"http://127.0.0.1:8080/health\"",
        );
    }
    Ok(url)
}

pub(super) fn host_port(value: &DeValue<'_>) -> Parsed<String> {
    let address = text(value)?;
    let fine = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        !bare.is_empty()
            && (!bare.contains(':') || host.starts_with('['))
            && bare.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
            && port_number(port).is_some()
    });
    if fine {
        Ok(address)
    } else {
        wrong_try(
            format!("{address:?} is not \"host:port\""),
            "\"127.0.0.1:5432\" or \"[::1]:5432\"",
        )
    }
}

fn port_number(text: &str) -> Option<u16> {
    digits(text)
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n != 0)
}

pub(super) fn listen(value: &DeValue<'_>) -> Parsed<Listen> {
    const LATER: &[&str] = &[
        "udp:",
        "unix-dgram:",
        "unix-seqpacket:",
        "vsock:",
        "fifo:",
        "mq:",
        "netlink:",
        "@",
    ];
    let address = text(value)?;
    if LATER.iter().any(|later| address.starts_with(later)) {
        return wrong(format!(
            "{address:?} is known, but not supported yet; tcp:// and unix: are"
        ));
    }
    if let Some(tcp) = address.strip_prefix("tcp://") {
        let spelled = tcp
            .strip_prefix(':')
            .map_or(tcp.to_owned(), |port| format!("0.0.0.0:{port}"));
        return match spelled.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Listen::Tcp(address)),
            _ => wrong_try(
                format!("{tcp:?} is not an address and port"),
                "numbers only: \"tcp://0.0.0.0:8080\" or \"tcp://[::1]:8080\"",
            ),
        };
    }
    match address.strip_prefix("unix:") {
        Some(name) if name.len() > MAX_UNIX_PATH => wrong(format!(
            "a unix socket's path has at most {MAX_UNIX_PATH} bytes"
        )),
        Some(name) => path(&DeValue::String(name.into())).map(Listen::Unix),
        None => wrong_try(
            format!("{address:?} is not an address to listen on"),
            "\"tcp://0.0.0.0:8080\" or \"unix:/run/web.sock\"",
        ),
    }
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
        return wrong(format!(
            "the soft limit of \"{word}\" is above its hard limit"
        ));
    }
    Ok(RlimitValue { soft, hard })
}

fn rlimit_side(text: &str, which: Rlimit) -> Parsed<Option<u64>> {
    use Rlimit::*;
    if text == "infinity" {
        return Ok(None);
    }
    let (parsed, expected) = match which {
        CpuTime => (
            digits(text).or_else(|| parse_duration(text).map(|d| d.as_secs())),
            "seconds, or a duration such as \"1m30s\"",
        ),
        Rttime => (
            digits(text)
                .or_else(|| parse_duration(text).and_then(|d| u64::try_from(d.as_micros()).ok())),
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
        None => wrong_try(
            format!("`{text}` is not a limit"),
            format!("{expected}, or \"infinity\""),
        ),
    }
}
