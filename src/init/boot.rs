//! The init of a machine: from the kernel's hand-over to the first unit. Every step is one that an init must make itself,
//! because nobody else is there; one that fails is said on the console, and the machine goes on with what it has.

use std::fs::File;
use std::io::{self, Read};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{reboot, set_cad_enabled};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, chroot, dup2_stderr, dup2_stdin, dup2_stdout, mkdir, sethostname};
use tracing_subscriber::filter::LevelFilter;

use super::shutdown::Goal;
use super::supervise::{Setup, speak, supervise};
use super::{patience, selinux, signals};
use crate::load::load_stamped;
use crate::places::{Places, RUN_DIR};
use crate::sys;
use crate::unit::UnitSet;

const UNITS: &str = "/etc/cellinit/units";
/// Bytes of the kernel's command line, and of /etc/hostname, that are read.
const COMMAND_LINE: u64 = 8192;
const HOST_NAME: u64 = 64;

/// The nice value until the first units are on their way: they need the processor too, but none of them before all are.
const FIRST_WAVE: i32 = -20;

/// Between two looks around, when signals cannot be read.
const RESCUE_PAUSE: Duration = Duration::from_secs(1);

/// What, where, which options: file systems that the kernel makes up. Those that the kernel or an initramfs has mounted are left.
const MOUNTS: [(&str, &str, MsFlags, &str); 8] = [
    ("proc", "/proc", STRICT, ""),
    ("sysfs", "/sys", STRICT, ""),
    ("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755"),
    ("devpts", "/dev/pts", MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC), "mode=0620,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV), "mode=1777"),
    ("tmpfs", "/run", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV), "mode=0755"),
    ("tmpfs", "/tmp", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV), "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", STRICT, "nsdelegate"),
];
const STRICT: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NODEV);

/// What devtmpfs does not make.
const LINKS: [(&str, &str); 4] = [("/proc/self/fd", "/dev/fd"), ("fd/0", "/dev/stdin"), ("fd/1", "/dev/stdout"), ("fd/2", "/dev/stderr")];

/// linux/magic.h; an initramfs is one of the two.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

pub fn main() -> ExitCode {
    let (reason, goal) = catch_unwind(run).unwrap_or_else(|_| ("PID 1 panicked".to_owned(), None));
    rescue(&reason, goal)
}

/// Comes back with why it can go on no longer, and with what shall be done about it.
fn run() -> (String, Option<Goal>) {
    let mut complaints = Complaints::default();
    complaints.note("a root that can be pivoted", leave_rootfs());
    for (kind, target, flags, options) in MOUNTS {
        complaints.note(target, mount_there(kind, target, flags, options));
    }
    for (target, link) in LINKS {
        std::os::unix::fs::symlink(target, link).ok();
    }
    complaints.note("/dev/console", take_console());
    let command_line = CommandLine::read();
    speak(command_line.level);
    complaints.note("priority", sys::process::set_nice(FIRST_WAVE));
    complaints.note("loopback", sys::net::loopback_up());
    complaints.note("hostname", set_host_name());
    // From now on ctrl-alt-del is a SIGINT to us, and no reboot on the spot; reboot(2).
    complaints.note("ctrl-alt-del", set_cad_enabled(false));
    complaints.say();
    if let Err(error) = selinux::start(&command_line.text) {
        tracing::error!("{error}");
        if selinux::is_enforcing_asked(&command_line.text) {
            return ("a machine that was told to enforce does not run without".to_owned(), Some(Goal::PowerOff));
        }
    }

    sys::memory::return_large_blocks();
    let (set, files) = load_stamped(&command_line.units);
    let set = set.unwrap_or_else(|error| {
        tracing::error!("no unit is started:\n{error}");
        UnitSet::default()
    });
    let setup = Setup { places: Places::of(Path::new(RUN_DIR)), set, units: command_line.units, files, machine: true };
    match supervise(setup) {
        Ok(goal) => (format!("{goal:?} came back"), None),
        Err(reason) => (reason, None),
    }
}

/// Nothing more can be supervised. A kernel whose PID 1 ends panics, so it stays: it reaps, and does what ctrl-alt-del and the
/// power button ask.
fn rescue(reason: &str, at_once: Option<Goal>) -> ExitCode {
    tracing::error!("{reason}");
    sys::process::set_nice(0).ok();
    let all = SigSet::all();
    all.thread_set_mask().ok();
    // Not sigwait(3), with which nix panics on a real-time signal.
    let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC);
    let mut goal = at_once;
    loop {
        if let Some(goal) = goal.take() {
            patience::sync();
            reboot(goal.mode()).ok();
        }
        let signal = signals.as_ref().ok().and_then(|signals| signals.read_signal().ok()?);
        goal = match signal.and_then(|info| i32::try_from(info.ssi_signo).ok()) {
            Some(signal) => signals::goal_of_machine(signal),
            // Without a signalfd (no descriptor left) a slow look around has to do.
            None => {
                std::thread::sleep(RESCUE_PAUSE);
                None
            }
        };
        while let Ok(Some(pid)) = sys::wait::peek() {
            sys::wait::collect(pid).ok();
        }
    }
}

/// An initramfs is the one root that pivot_root(2) refuses, which every cell needs. A bind mount of it, moved over it, is a
/// root like any other; the trick of switch_root(8).
fn leave_rootfs() -> nix::Result<()> {
    let kind = statfs("/")?.filesystem_type();
    if kind != TMPFS_MAGIC && kind.0 != RAMFS_MAGIC {
        return Ok(());
    }
    const BESIDE: &str = "/run";
    mkdir(BESIDE, Mode::from_bits_truncate(0o755)).ok();
    mount(Some("/"), BESIDE, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    chdir(BESIDE)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")
}

fn mount_there(kind: &str, target: &str, flags: MsFlags, options: &str) -> nix::Result<()> {
    // What is above it is there, mounted by a line before, or it is the root.
    mkdir(target, Mode::from_bits_truncate(0o755)).ok();
    match mount(Some(kind), target, Some(kind), flags, Some(options).filter(|o| !o.is_empty())) {
        // It is there already.
        Err(Errno::EBUSY) => Ok(()),
        other => other,
    }
}

/// The console as our three streams, whatever the kernel found to give us.
fn take_console() -> nix::Result<()> {
    let console = open("/dev/console", OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&console)?;
    dup2_stdout(&console)?;
    dup2_stderr(&console)
}

fn set_host_name() -> io::Result<()> {
    let text = read("/etc/hostname", HOST_NAME)?;
    let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    name.map_or(Ok(()), |name| Ok(sethostname(name)?))
}

fn read(path: &str, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the kernel was told and left to us.
#[derive(Debug, PartialEq)]
struct CommandLine {
    text: String,
    units: Vec<PathBuf>,
    level: LevelFilter,
}

impl CommandLine {
    fn read() -> Self {
        CommandLine::parse(read("/proc/cmdline", COMMAND_LINE).unwrap_or_default())
    }

    /// `cellinit.units=PATH` (again for more than one) and `cellinit.log=error|warn|info|debug|trace|off`.
    fn parse(text: String) -> Self {
        let values = |key: &str| {
            let words = text.split_whitespace().filter_map(|word| word.split_once('='));
            words.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        let mut units: Vec<PathBuf> = values("cellinit.units").into_iter().map(PathBuf::from).collect();
        if units.is_empty() {
            units.push(UNITS.into());
        }
        let level = values("cellinit.log").pop().and_then(|word| word.parse().ok()).unwrap_or(LevelFilter::INFO);
        CommandLine { text, units, level }
    }
}

/// What went wrong before there was a console to say it on.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn note<E: std::fmt::Display>(&mut self, what: &str, result: Result<(), E>) {
        self.0.extend(result.err().map(|error| format!("{what}: {error}")));
    }

    fn say(self) {
        self.0.iter().for_each(|complaint| tracing::warn!("{complaint}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let parse = |text: &str| {
            let line = CommandLine::parse(text.into());
            (line.units, line.level)
        };
        assert_eq!(parse("quiet panic=-1"), (vec![UNITS.into()], LevelFilter::INFO));
        let two = vec!["/a".into(), "/b".into()];
        assert_eq!(parse("cellinit.units=/a cellinit.log=debug x cellinit.units=/b"), (two, LevelFilter::DEBUG));
        assert_eq!(parse("cellinit.log=loud\n").1, LevelFilter::INFO);
    }
}
