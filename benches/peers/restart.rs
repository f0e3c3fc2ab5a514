//! From SIGKILL to the successor's `main()`.
//!
//! The service writes the moment at which its main() began; a peer's `run` file is the usual two-line
//! script. The service is left alone for more than a second between deaths, since peers hold back what died young.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::support::{Bench, Outcome, Supervisor, compare, contender, installed};

const REST: Duration = Duration::from_millis(1200);

pub fn run(bench: &Bench) -> Outcome {
    let home = bench.directory.join("restart");
    let unit = |profile: &str, directory: &Path, more: &str| {
        format!(
            "[service]\nexec = [\"{}\", \"{d}/beats\"]\n[restart]\npolicy = \"always\"\ndelay = 0\n[isolation]\nprofile = \"{profile}\"\n{more}",
            bench.beat.display(),
            d = directory.display()
        )
    };
    let (free, walled) = (home.join("free"), home.join("walled"));
    let mount = format!("[[mount]]\nsource = \"{d}\"\ntarget = \"{d}\"\nwritable = true\n", d = walled.display());
    for directory in [&free, &walled] {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    }
    let units = [("free".to_owned(), unit("none", &free, "")), ("walled".to_owned(), unit("default", &walled, &mount))];
    let _supervisor = Supervisor::start(bench, "restarts", &units)?;
    let mut peers = Vec::new();
    let mut contenders = vec![contender("cellinit, unconfined", deaths(free)), contender("cellinit, default cell", deaths(walled))];
    for (name, scan, arguments) in [("runit", "runsvdir", &["-P"][..]), ("s6", "s6-svscan", &[][..])] {
        if !installed(scan) {
            continue;
        }
        let directory = home.join(name);
        let service = directory.join("service");
        fs::create_dir_all(&service)?;
        // A run file gets no arguments, so it is what people write: a script that executes the program.
        fs::write(service.join("run"), format!("#!/bin/sh\nexec {} {}/beats\n", bench.beat.display(), directory.display()))?;
        fs::set_permissions(service.join("run"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        peers.push(Peer(Command::new(scan).args(arguments).arg(&directory).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?));
        contenders.push(contender(name, deaths(directory)));
    }
    compare("SIGKILL to the successor's main()", (bench.rounds / 6).max(5), contenders, Duration::ZERO, &["runit"])
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(300));
        let _ = Command::new("pkill").args(["-P", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// Kills the service that last said that it began, and waits for the next to say so.
fn deaths(directory: PathBuf) -> impl FnMut() -> Result<Duration, Box<dyn std::error::Error>> {
    move || {
        let file = directory.join("beats");
        let before = wait(&file, 0)?;
        std::thread::sleep(REST);
        // Found before the clock starts: reading all of /proc is none of the supervisors' work.
        let found = processes(&file);
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        for process in found {
            kill(Pid::from_raw(process), Signal::SIGKILL)?;
        }
        let after = wait(&file, before.0)?;
        let killed = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
        Ok(Duration::from_nanos(after.1.saturating_sub(killed)))
    }
}

/// Waits for more than `seen` lines; gives how many there are and when the last one's main() began.
fn wait(file: &Path, seen: usize) -> Result<(usize, u64), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().count();
        if lines > seen && text.ends_with('\n') {
            let moment = text.lines().last().and_then(|l| l.split(' ').next()).ok_or("an empty line")?;
            return Ok((lines, moment.parse()?));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Err(format!("{} got no new line in 20 s", file.display()).into())
}

/// Processes whose arguments name the file: their own numbers may be those of another pid namespace.
fn processes(file: &Path) -> Vec<i32> {
    let wanted = file.as_os_str().as_encoded_bytes();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.split(|b| *b == 0).any(|a| a == wanted)))
        .collect()
}
