//! 1, 100 and 1,000 trivial units: how long until all are up, and what the supervisor weighs then.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Bench, Outcome, Supervisor, installed, pss_kib};

pub fn run(bench: &Bench) -> Outcome {
    println!("\ntrivial unconfined units: time until every main() began, and the supervisor's memory (PSS) then");
    for count in [1, 100, 1000] {
        let home = bench.directory.join(format!("many-{count}"));
        fs::create_dir_all(&home)?;
        let beats = home.join("beats");
        let text = format!("[service]\nexec = [\"{}\", \"{}\"]\n[isolation]\nprofile = \"none\"\n", bench.beat.display(), beats.display());
        let units: Vec<_> = (0..count).map(|n| (format!("u{n}"), text.clone())).collect();
        let begun = Instant::now();
        let supervisor = Supervisor::start(bench, &format!("many-{count}"), &units)?;
        let up = all_up(&beats, count, begun)?;
        println!("  {:<34} {:>6} units {:>9.3} s {:>9.2} MiB", "cellinit", count, up.as_secs_f64(), supervisor.pss_kib() as f64 / 1024.0);
        drop(supervisor);
        for (name, scan, arguments) in [("s6", "s6-svscan", &["-c", "2000"][..]), ("runit", "runsvdir", &["-P"][..])] {
            if installed(scan) {
                peer(bench, name, scan, arguments, count)?;
            }
        }
    }
    Ok(())
}

fn peer(bench: &Bench, name: &str, scan: &str, arguments: &[&str], count: usize) -> Outcome {
    let home = bench.directory.join(format!("many-{name}-{count}"));
    let beats = home.join("beats");
    for n in 0..count {
        let service = home.join(format!("scan/u{n}"));
        fs::create_dir_all(&service)?;
        let run = service.join("run");
        fs::write(&run, format!("#!/bin/sh\nexec {} {}\n", bench.beat.display(), beats.display()))?;
        fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let begun = Instant::now();
    let mut child = Command::new(scan).args(arguments).arg(home.join("scan")).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let up = all_up(&beats, count, begun);
    let memory: u64 = family(child.id(), &bench.beat).into_iter().map(pss_kib).sum();
    kill(Pid::from_raw(child.id() as i32), if name == "runit" { Signal::SIGHUP } else { Signal::SIGTERM })?;
    child.wait()?;
    let _ = Command::new("pkill").args(["-f", &beats.display().to_string()]).status();
    println!("  {name:<34} {count:>6} units {:>9.3} s {:>9.2} MiB", up?.as_secs_f64(), memory as f64 / 1024.0);
    Ok(())
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

/// A peer's supervising processes: it and its descendants, but not the services.
fn family(root: u32, service: &Path) -> Vec<u32> {
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
