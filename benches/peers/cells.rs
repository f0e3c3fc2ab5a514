//! A native cell of the default profile around a program that only exits.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Bench, Contender, Outcome, Runs, Supervisor, command, compare, contender, cpu_seconds, installed};

pub fn run(bench: &Bench) -> Outcome {
    let unit =
        format!("[unit]\nkind = \"job\"\n[service]\nexec = [\"{}\"]\n[resources]\nmemory = {{ max = \"64MiB\" }}\n", bench.exits.display());
    let plain = unit.split("[resources]").next().unwrap_or_default().to_owned();
    let supervisor = Supervisor::start(bench, "cells", &[("limited".into(), unit.clone()), ("plain".into(), plain.clone())])?;
    for (title, pause) in [("default native cell, start to exit, back to back", 0), ("default native cell, start to exit, lone starts", 40)]
    {
        let mut limited = Runs::new(&supervisor, "limited")?;
        let mut default = Runs::new(&supervisor, "plain")?;
        let file = bench.directory.join("cold.toml");
        fs::write(&file, &plain)?;
        let mut contenders = vec![
            floor(bench, &supervisor)?,
            contender("cellinit, resident", move || default.once()),
            contender("cellinit, resident, memory limit too", move || limited.once()),
            command("cell run (cold)", || {
                let mut c = Command::new(&bench.cell);
                c.arg("run").arg(&file);
                c
            }),
        ];
        for runtime in ["crun", "runc"] {
            contenders.extend(oci(bench, runtime)?.map(|mut shell| contender(runtime, move || shell.whole())));
        }
        if installed("bwrap") {
            contenders.push(bubblewrap(bench));
        }
        let rounds = if pause == 0 { bench.rounds } else { bench.rounds / 2 };
        compare(title, rounds, contenders, Duration::from_millis(pause), &["floor", "crun", "bwrap (no seccomp, no cgroup)"])?;
    }
    cpu(bench, &supervisor)
}

/// CPU time of everything that a start costs, us and crun, over many starts.
fn cpu(bench: &Bench, supervisor: &Supervisor) -> Outcome {
    let mut runs = Runs::new(supervisor, "plain")?;
    let before = cpu_seconds(supervisor.pid());
    for _ in 0..200 {
        runs.once()?;
    }
    let ours = (cpu_seconds(supervisor.pid()) - before) / 200.0;
    println!("\nCPU of one start, user and system\n  {:<34} {:>9.3} ms", "cellinit, resident", ours * 1e3);
    if let Some(mut shell) = oci(bench, "crun")? {
        let before = cpu_seconds(shell.child.id());
        for _ in 0..50 {
            shell.whole()?;
        }
        let theirs = (cpu_seconds(shell.child.id()) - before) / 50.0;
        println!("  {:<34} {:>9.3} ms   cellinit is {:.2} x of it", "crun", theirs * 1e3, ours / theirs);
    }
    Ok(())
}

fn floor<'a>(bench: &'a Bench, supervisor: &Supervisor) -> Result<Contender<'a>, Box<dyn std::error::Error>> {
    let filter = bench.directory.join("default.bpf");
    let unit =
        cellinit::unit::parse(std::path::Path::new("/floor.toml"), "[service]\nexec = [\"/true\"]\n").map_err(|e| format!("{e:?}"))?;
    let program = cellinit::cell::seccomp::compile(&unit.seccomp)?;
    let bytes = |i: &libc::sock_filter| [i.code.to_ne_bytes().to_vec(), vec![i.jt, i.jf], i.k.to_ne_bytes().to_vec()].concat();
    fs::write(&filter, program.instructions().iter().flat_map(bytes).collect::<Vec<u8>>())?;
    let cgroup =
        ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].into_iter().find(|d| fs::exists(format!("{d}/cgroup.procs")).unwrap_or(false));
    let template = supervisor.run_dir.join("template");
    let mut process = Resident::start(
        Command::new(&bench.floor)
            .arg(&bench.exits)
            .arg(&filter)
            .arg(cgroup.unwrap_or("-"))
            .arg(template.join("dev"))
            .arg(template.join("sys")),
    )?;
    Ok(contender("floor", move || process.once()))
}

/// A program that measures by itself: a line in, nanoseconds out.
struct Resident {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Resident {
    fn start(command: &mut Command) -> Result<Self, Box<dyn std::error::Error>> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Resident { child, answers })
    }

    fn once(&mut self) -> Result<Duration, Box<dyn std::error::Error>> {
        self.child.stdin.as_mut().ok_or("no stdin")?.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(Duration::from_nanos(line.trim().parse().map_err(|_| "it ended")?))
    }

    /// The same, for one that leaves the measuring to us.
    fn whole(&mut self) -> Result<Duration, Box<dyn std::error::Error>> {
        let start = std::time::Instant::now();
        self.once()?;
        Ok(start.elapsed())
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A bundle as Docker would write it: all namespaces, the same list of system calls, a pids limit, masked paths.
fn oci(bench: &Bench, runtime: &str) -> Result<Option<Resident>, Box<dyn std::error::Error>> {
    if !installed(runtime) {
        return Ok(None);
    }
    let bundle = bench.directory.join(format!("bundle-{runtime}"));
    fs::create_dir_all(bundle.join("rootfs"))?;
    fs::copy(&bench.exits, bundle.join("rootfs/true"))?;
    if !bundle.join("config.json").exists() {
        let made = Command::new(runtime).arg("spec").current_dir(&bundle).status()?;
        if !made.success() {
            return Err(format!("{runtime} spec failed").into());
        }
        let mut config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
        config["process"]["args"] = json!(["/true"]);
        config["process"]["terminal"] = json!(false);
        // A host without CAP_SYS_RESOURCE may not raise what `spec` suggests.
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }]);
        config["linux"]["resources"] = json!({ "pids": { "limit": 1024 } });
        let unit =
            cellinit::unit::parse(std::path::Path::new("/peer.toml"), "[service]\nexec = [\"/true\"]\n").map_err(|e| format!("{e:?}"))?;
        let filter = cellinit::plan::syscalls::resolve(&unit.seccomp).map_err(|e| format!("{e:?}"))?;
        let names: Vec<&str> = filter.rules.iter().map(|rule| rule.name).collect();
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        });
        fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    }
    // crun refuses hybrid hosts: a shell in a mount namespace without the v2 tree runs it there, with the v1 controllers alone.
    let script = format!(
        "umount /sys/fs/cgroup/unified 2>/dev/null; n=0\n\
         while read -r _; do n=$((n + 1)); {runtime} run --bundle {} bench-$$-$n </dev/null >/dev/null 2>&1 || exit; echo 0; done",
        bundle.display()
    );
    Ok(Some(Resident::start(Command::new("unshare").args(["-m", "sh", "-c", &script]))?))
}

fn bubblewrap(bench: &Bench) -> Contender<'_> {
    command("bwrap (no seccomp, no cgroup)", || {
        let mut c = Command::new("bwrap");
        c.args([
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--tmpfs",
            "/run",
        ]);
        c.arg(&bench.exits);
        c
    })
}
