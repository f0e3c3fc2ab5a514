//! 1, 100 and 1,000 trivial units: how long until all are up, and what the supervisor weighs then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Bench, Outcome, Supervisor, installed, pss_kib};

/// From when all are up until memory is looked at: what a supervisor does only at the beginning is over then.
const SETTLED: Duration = Duration::from_secs(2);

pub fn run(bench: &Bench) -> Outcome {
    println!("\ntrivial unconfined units: time until every main() began, and the supervisor's memory (PSS) then");
    for count in [1, 100, 1000] {
        let line = |name: &str, up: Duration, memory: u64| {
            println!("  {name:<34} {count:>6} units {:>9.3} s {:>9.2} MiB", up.as_secs_f64(), memory as f64 / 1024.0);
        };
        let (supervisor, up) = ours(bench, "many", count)?;
        std::thread::sleep(SETTLED);
        line("cellinit", up, supervisor.pss_kib());
        drop(supervisor);
        for (name, scan, arguments) in PEERS.into_iter().filter(|(_, scan, _)| installed(scan)) {
            let (peer, up) = Peer::start(bench, name, scan, arguments, count)?;
            std::thread::sleep(SETTLED);
            line(name, up, peer.processes().into_iter().map(pss_kib).sum());
        }
    }
    Ok(())
}

/// Cellinit with so many trivial units, and how long it took until all were up.
pub fn ours(bench: &Bench, part: &str, count: usize) -> Result<(Supervisor, Duration), Box<dyn std::error::Error>> {
    let name = format!("{part}-{count}");
    let home = bench.directory.join(&name);
    fs::create_dir_all(&home)?;
    let beats = home.join("beats");
    let text = format!("[service]\nexec = [\"{}\", \"{}\"]\n[isolation]\nprofile = \"none\"\n", bench.beat.display(), beats.display());
    let units: Vec<_> = (0..count).map(|n| (format!("u{n}"), text.clone())).collect();
    Supervisor::write(bench, &name, &units)?;
    // The peers' folders are written beforehand, too.
    let begun = Instant::now();
    let supervisor = Supervisor::with_written(bench, &name)?;
    let up = all_up(&beats, count, begun)?;
    Ok((supervisor, up))
}

/// Name, program, and what comes before the folder of services.
pub const PEERS: [(&str, &str, &[&str]); 2] = [("s6", "s6-svscan", &["-c", "2000"]), ("runit", "runsvdir", &["-P"])];

/// A peer with so many trivial services.
pub struct Peer {
    child: Child,
    service: PathBuf,
    beats: PathBuf,
    farewell: Signal,
}

impl Peer {
    pub fn start(
        bench: &Bench,
        name: &str,
        scan: &str,
        arguments: &[&str],
        count: usize,
    ) -> Result<(Peer, Duration), Box<dyn std::error::Error>> {
        let home = tempfile::tempdir_in(&bench.directory)?.keep();
        let beats = home.join("beats");
        for n in 0..count {
            let service = home.join(format!("scan/u{n}"));
            fs::create_dir_all(&service)?;
            let run = service.join("run");
            fs::write(&run, format!("#!/bin/sh\nexec {} {}\n", bench.beat.display(), beats.display()))?;
            fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        let begun = Instant::now();
        let child = Command::new(scan).args(arguments).arg(home.join("scan")).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let farewell = if name == "runit" { Signal::SIGHUP } else { Signal::SIGTERM };
        let peer = Peer { child, service: bench.beat.clone(), beats: beats.clone(), farewell };
        let up = all_up(&beats, count, begun)?;
        Ok((peer, up))
    }

    pub fn processes(&self) -> Vec<u32> {
        family(self.child.id(), &self.service)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), self.farewell);
        let _ = self.child.wait();
        let _ = Command::new("pkill").args(["-f", &self.beats.display().to_string()]).status();
    }
}

fn all_up(beats: &Path, count: usize, begun: Instant) -> Result<Duration, Box<dyn std::error::Error>> {
    while begun.elapsed() < Duration::from_secs(120) {
        if fs::read_to_string(beats).unwrap_or_default().lines().count() >= count {
            return Ok(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(format!("not all of {count} came up in two minutes").into())
}

/// Supervising processes: the root and its descendants, but not the services.
pub fn family(root: u32, service: &Path) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        found.extend(
            children
                .split_whitespace()
                .filter_map(|p| p.parse::<u32>().ok())
                .filter(|p| fs::read_link(format!("/proc/{p}/exe")).is_ok_and(|exe| exe != service)),
        );
    }
    found
}
