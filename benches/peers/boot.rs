//! A machine's boot, from the moment at which its init is in control to the main() of the last of 50 trivial services.
//!
//! `cell boot` makes the image and runs it in QEMU without KVM, the same image for everyone: the kernel starts
//! `benches/stamp.c`, which notes the time and becomes the init that the kernel's command line names. Busybox's inittab has
//! nothing but the services: it mounts no file system and makes no cgroup, writes no log and takes no commands.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::{Bench, Outcome, compare, contender, installed};

const SERVICES: usize = 50;
/// Where the services say that they are up; `stamp` makes it.
const PIPE: &str = "/beats";
/// Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";
/// Until a machine that says nothing is stopped; a boot takes ten seconds or twenty.
const PATIENCE: &str = "120";

pub fn run(bench: &Bench) -> Outcome {
    if !installed("qemu-system-x86_64") || !Path::new(BUSYBOX).is_file() {
        println!("\nboot: left out, for want of qemu-system-x86 or busybox-static");
        return Ok(());
    }
    let home = bench.directory.join("boot");
    let (free, walled) = (home.join("free"), home.join("walled"));
    let beat = bench.beat.display();
    for (units, profile) in [(&free, "none"), (&walled, "default")] {
        fs::create_dir_all(units)?;
        for n in 0..SERVICES {
            let text = format!("[service]\nexec = [\"{beat}\", \"{PIPE}\"]\n[isolation]\nprofile = \"{profile}\"\n");
            fs::write(units.join(format!("u{n}.toml")), text)?;
        }
    }
    // Busybox takes lines that are alike for one; the service passes over the number.
    let lines: String = (0..SERVICES).map(|n| format!("::respawn:{beat} {PIPE} {n}\n")).collect();
    fs::write(home.join("inittab"), lines)?;

    let boot = |units: &Path, program: String, name: &'static str| {
        let (units, home) = (units.to_owned(), home.clone());
        move || timed(bench, &home, &units, &format!("{program} {name}"))
    };
    let contenders = vec![
        contender("busybox init", boot(&free, BUSYBOX.into(), "init")),
        contender("cellinit, unconfined units", boot(&free, "/init".into(), "init")),
        contender("cellinit, default cells", boot(&walled, "/init".into(), "init")),
        contender("fork and exec alone", boot(&free, beat.to_string(), "--floor")),
    ];
    let title = format!("init in control to {SERVICES} services up, QEMU without KVM");
    compare(&title, (bench.rounds / 12).max(5), contenders, Duration::ZERO, &["busybox init"])
}

/// One boot; what `stamp` said of it.
fn timed(bench: &Bench, home: &Path, units: &Path, init: &str) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut command = Command::new(&bench.cell);
    command.args(["boot", "--vm"]).arg(units).args(["--accel", "tcg", "--timeout", PATIENCE]);
    command.args(["--add", BUSYBOX, "--add"]).arg(format!("{}:/stamp", bench.stamp.display()));
    command.arg("--add").arg(format!("{}:/etc/inittab", home.join("inittab").display()));
    command.arg("--append").arg(format!("rdinit=/stamp -- {SERVICES} {PIPE} {init}"));
    let output = command.stdin(Stdio::null()).output()?;
    let console = String::from_utf8_lossy(&output.stdout);
    let told = console.lines().find_map(|line| line.strip_prefix("@@ boot ")?.trim().parse().ok());
    let last = || console.lines().rev().take(5).collect::<Vec<_>>().join(" | ");
    Ok(Duration::from_nanos(told.ok_or_else(|| format!("the machine said no time; its last lines, backwards: {}", last()))?))
}
