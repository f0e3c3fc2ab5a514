//! The virtual machine: QEMU in the foreground, its console on our output, our signals an ordered stop inside.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::tree::about;

const QEMU: &str = "qemu-system-x86_64";
/// How long an ordered stop may take before the machine is switched off; units may have 90 s each to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);
const PRESS_INTERVAL: Duration = Duration::from_secs(2);
/// How long QEMU may take to answer on its monitor, and a kernel to say its first word under KVM.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);
/// The end of a machine is read from its last lines; a longer line is no such line.
const MAX_LINE: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    /// QEMU's own translation: slow, and works everywhere.
    Tcg,
}

#[derive(Debug)]
pub struct Settings {
    pub kernel: PathBuf,
    pub image: PathBuf,
    /// As QEMU's -m takes it.
    pub memory: String,
    pub accelerator: Accelerator,
    /// For the kernel's command line, after our own words.
    pub append: String,
    /// Then the units are stopped in order.
    pub timeout: Option<Duration>,
    /// A folder of our own, for the monitor's socket.
    pub scratch: PathBuf,
}

/// How it ended, as its console told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `poweroff`, `reboot` (which here ends the machine, too) or `halt`: in order.
    Ordered,
    Panic,
    /// It did not stop in time when it was asked to.
    GivenUp,
    /// Somebody did not want to wait for that.
    SwitchedOff,
    /// QEMU ended without a last word from the kernel.
    Lost,
}

/// Runs the machine to its end.
pub fn run(settings: &Settings, console: &mut dyn Write) -> io::Result<End> {
    // From here on signals are read, not delivered: the first asks for an ordered stop, the second switches off.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

    let monitor = settings.scratch.join("monitor");
    let mut machine = Machine::start(settings, &monitor)?;
    let started = Instant::now();
    let mut last_words = LastWords::default();
    let mut stopping: Option<Stopping> = None;
    loop {
        let deadline = match &stopping {
            Some(stopping) => Some(stopping.press_at.min(stopping.give_up_at)),
            None => settings.timeout.map(|timeout| started + timeout),
        };
        let ready = wait(&[machine.console.as_fd(), signals.as_fd()], deadline)?;
        if ready[0] && !machine.forward(console, &mut last_words)? {
            machine.child.wait()?;
            return Ok(last_words.end.unwrap_or(End::Lost));
        }
        if last_words.halted {
            // A halted machine waits for ever with its power on.
            machine.switch_off()?;
            return Ok(End::Ordered);
        }
        let asked = ready[1] && signals.read_signal()?.is_some();
        let now = Instant::now();
        let expired = deadline.is_some_and(|deadline| now >= deadline);
        match &mut stopping {
            None if asked || expired => {
                eprintln!("stopping the units (once more: switch the machine off)");
                stopping = Some(Stopping { press_at: now, give_up_at: now + STOP_TIMEOUT });
            }
            Some(_) if asked => {
                machine.switch_off()?;
                return Ok(End::SwitchedOff);
            }
            Some(stopping) if now >= stopping.give_up_at => {
                machine.switch_off()?;
                return Ok(End::GivenUp);
            }
            Some(stopping) if expired => {
                // A machine that has just ended does not answer; the end of its console comes next.
                press_ctrl_alt_delete(&monitor).ok();
                stopping.press_at = now + PRESS_INTERVAL;
            }
            _ => {}
        }
    }
}

/// It was asked to stop. A kernel that has not found its keyboard yet does not hear that, so it is asked again and again.
struct Stopping {
    press_at: Instant,
    give_up_at: Instant,
}

/// KVM where an ordinary kernel starts under it. A /dev/kvm that opens is no proof, so one is started and listened to.
pub fn best_accelerator(kernel: &Path) -> Accelerator {
    let opens = File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if opens && speaks_under_kvm(kernel).unwrap_or(false) { Accelerator::Kvm } else { Accelerator::Tcg }
}

fn speaks_under_kvm(kernel: &Path) -> io::Result<bool> {
    let mut command = qemu(Accelerator::Kvm, "128M", kernel);
    command.args(["-append", "console=ttyS0 panic=-1"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut machine = Machine::of(command)?;
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let mut heard = Vec::new();
    while Instant::now() < deadline {
        if wait(&[machine.console.as_fd()], Some(deadline))?[0] {
            let mut bytes = [0; 4096];
            match machine.console.read(&mut bytes)? {
                0 => break,
                count => heard.extend_from_slice(&bytes[..count]),
            }
            if String::from_utf8_lossy(&heard).contains("Linux version") {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Switched off when it goes out of scope.
struct Machine {
    child: Child,
    console: std::process::ChildStdout,
}

impl Machine {
    fn start(settings: &Settings, monitor: &Path) -> io::Result<Self> {
        let mut command = qemu(settings.accelerator, &settings.memory, &settings.kernel);
        let words = format!("console=ttyS0 panic=-1 quiet ctrlaltdel=poweroff {}", settings.append);
        command.arg("-initrd").arg(&settings.image).args(["-append", words.trim_end()]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", monitor.display())).stdout(Stdio::piped());
        Machine::of(command)
    }

    fn of(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => about(Path::new(QEMU), io::Error::other("not installed (Debian: apt-get install qemu-system-x86)")),
            _ => about(Path::new(QEMU), error),
        })?;
        let console = child.stdout.take().ok_or_else(|| io::Error::other("QEMU has no console"))?;
        Ok(Machine { child, console })
    }

    /// Passes on what the console says. False at its end.
    fn forward(&mut self, console: &mut dyn Write, last_words: &mut LastWords) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        let count = self.console.read(&mut bytes)?;
        last_words.hear(&bytes[..count]);
        console.write_all(&bytes[..count])?;
        console.flush()?;
        Ok(count > 0)
    }

    fn switch_off(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.switch_off();
    }
}

/// The machine without its disk: one processor, a console, a keyboard. setpriv ties its life to ours, whatever ends us;
/// a process group of its own keeps a terminal's Ctrl-C from it.
fn qemu(accelerator: Accelerator, memory: &str, kernel: &Path) -> Command {
    let (name, processor) = match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg", "max"),
    };
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", QEMU, "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.args(["-accel", name, "-cpu", processor, "-m", memory, "-kernel"]).arg(kernel);
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// The kernel asks PID 1 with SIGINT then: the one request that needs no driver beyond the keyboard's.
fn press_ctrl_alt_delete(monitor: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(monitor).map_err(|error| about(monitor, error))?;
    stream.set_read_timeout(Some(MONITOR_TIMEOUT))?;
    let mut replies = BufReader::new(stream.try_clone()?).lines();
    let keys = ["ctrl", "alt", "delete"].map(|key| serde_json::json!({"type": "qcode", "data": key}));
    let requests =
        [serde_json::json!({"execute": "qmp_capabilities"}), serde_json::json!({"execute": "send-key", "arguments": {"keys": keys}})];
    // The monitor speaks first, and then answers each request.
    replies.next().transpose()?;
    for request in requests {
        (&stream).write_all(format!("{request}\n").as_bytes())?;
        replies.next().transpose()?;
    }
    Ok(())
}

/// Which of these can be read, or none of them at the deadline.
fn wait<const N: usize>(sources: &[BorrowedFd<'_>; N], deadline: Option<Instant>) -> io::Result<[bool; N]> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // Rounded up, so that a deadline has passed when the wait for it is over.
    let timeout = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX));
    let mut polled = sources.map(|source| PollFd::new(source, PollFlags::POLLIN));
    match poll(&mut polled, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(polled.map(|one| one.any().unwrap_or(false))),
        Err(error) => Err(error.into()),
    }
}

/// Reads the end of a machine from its console.
#[derive(Default)]
struct LastWords {
    line: Vec<u8>,
    end: Option<End>,
    halted: bool,
}

impl LastWords {
    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.read_line();
                self.line.clear();
            } else if self.line.len() < MAX_LINE {
                self.line.push(*byte);
            }
        }
    }

    fn read_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        if line.contains("Kernel panic") {
            self.end = Some(End::Panic);
        } else if ["reboot: Power down", "reboot: Restarting system"].iter().any(|words| line.contains(words)) {
            self.end.get_or_insert(End::Ordered);
        } else if line.contains("reboot: System halted") {
            self.halted = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_from_the_console() {
        let end = |said: &str| {
            let mut words = LastWords::default();
            words.hear(said.as_bytes());
            words.end
        };
        assert_eq!(end("[   8.1] reboot: Power down\r\n"), Some(End::Ordered));
        assert_eq!(end("[   8.1] Kernel panic - not syncing: x\r\n[   9] reboot: Restarting system\r\n"), Some(End::Panic));
        assert_eq!(end("web: reboot: no\n"), None);
    }
}
