//! Boots units in a virtual machine with `cell boot --vm`, as a person would, and reads the console.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A boot takes 15 to 25 seconds under TCG on an idle machine.
const DEADLINE: Duration = Duration::from_secs(180);

/// Machines take a processor each: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A machine that is running.
pub struct Machine {
    child: Child,
    output: Receiver<Vec<u8>>,
    console: String,
    until: Instant,
    _turn: MutexGuard<'static, ()>,
}

/// A machine that has ended, and all that its console said.
pub struct Ended {
    pub status: ExitStatus,
    pub console: String,
}

/// A folder below tests/boot.
pub fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot").join(name)
}

/// Boots these units with Debian's kernel.
pub fn boot(units: &Path, options: &[&str]) -> Machine {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cell"));
    command.args(["boot", "--vm"]).arg(units).args(["--accel", "tcg"]).args(options);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("cell boot");
    let (sender, output) = channel();
    let streams: [Box<dyn Read + Send>; 2] =
        [Box::new(child.stdout.take().expect("stdout")), Box::new(child.stderr.take().expect("stderr"))];
    for mut stream in streams {
        let sender = sender.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    Machine { child, output, console: String::new(), until: Instant::now() + DEADLINE, _turn: turn }
}

impl Machine {
    /// Reads on until the console has said this.
    pub fn wait_for(&mut self, words: &str) -> &mut Self {
        while !self.console.contains(words) {
            assert!(self.read(), "the machine ended before it said {words:?}; it said:\n{}", self.console);
        }
        self
    }

    /// What Ctrl-C does.
    pub fn interrupt(&mut self) -> &mut Self {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("SIGINT to cell boot");
        self
    }

    /// Reads on to the end.
    pub fn end(mut self) -> Ended {
        while self.read() {}
        let status = self.child.wait().expect("the end of cell boot");
        Ended { status, console: std::mem::take(&mut self.console) }
    }

    /// False at the end.
    fn read(&mut self) -> bool {
        match self.output.recv_timeout(self.until.saturating_duration_since(Instant::now())) {
            Ok(bytes) => self.console.push_str(&String::from_utf8_lossy(&bytes)),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => panic!("no end after {DEADLINE:?}; the console said:\n{}", self.console),
        }
        true
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The machine goes with it: QEMU gets a signal when its parent dies.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// What was told on lines `@@ NAME text`, put together.
    pub fn told(&self, name: &str) -> String {
        let lines = self.console.lines().filter_map(|line| line.split_once("@@ ")?.1.strip_prefix(name)?.strip_prefix(' '));
        lines.map(|line| line.trim_end_matches('\r')).collect()
    }

    /// The same as JSON.
    pub fn told_json(&self, name: &str) -> serde_json::Value {
        let text = self.told(name);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text:?}; the console said:\n{}", self.console))
    }

    /// Where on the console these words are first.
    pub fn place(&self, words: &str) -> usize {
        self.console.find(words).unwrap_or_else(|| panic!("the console never said {words:?}; it said:\n{}", self.console))
    }
}
