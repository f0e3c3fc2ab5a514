//! Contenders that take turns, a supervisor to drive, and tables.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub type Outcome = Result<(), Box<dyn Error>>;

/// How long any one thing may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bench {
    pub rounds: usize,
    pub directory: PathBuf,
    /// The static program that only exits.
    pub exits: PathBuf,
    /// The static program that says when it began.
    pub beat: PathBuf,
    pub floor: PathBuf,
    /// The first program of a machine, which times its init.
    pub stamp: PathBuf,
    pub cellinit: PathBuf,
    pub cell: PathBuf,
    pub cell_wasm: PathBuf,
}

impl Bench {
    /// Compiles the small C programs into a directory that the cells can see.
    pub fn new(rounds: usize) -> Result<Self, Box<dyn Error>> {
        let directory = PathBuf::from(format!("/opt/cellinit-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
        let build = |name: &str, flags: &[&str]| -> Result<PathBuf, Box<dyn Error>> {
            let program = directory.join(name);
            let built = Command::new("cc")
                .args(["-O2", "-static"])
                .args(flags)
                .arg("-o")
                .arg(&program)
                .arg(source.join(format!("{name}.c")))
                .status()?;
            built.success().then_some(program).ok_or_else(|| format!("cc could not build benches/{name}.c").into())
        };
        Ok(Bench {
            rounds,
            exits: build("true", &["-nostdlib"])?,
            beat: build("beat", &[])?,
            floor: build("floor", &[])?,
            stamp: build("stamp", &[])?,
            cellinit: env!("CARGO_BIN_EXE_cellinit").into(),
            cell: env!("CARGO_BIN_EXE_cell").into(),
            cell_wasm: env!("CARGO_BIN_EXE_cell-wasm").into(),
            directory,
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// One way of doing the thing that is measured. It gives its own time, so that set-up around it does not count.
pub struct Contender<'a> {
    pub name: String,
    pub once: Box<dyn FnMut() -> Result<Duration, Box<dyn Error>> + 'a>,
}

pub fn contender<'a>(name: &str, once: impl FnMut() -> Result<Duration, Box<dyn Error>> + 'a) -> Contender<'a> {
    Contender { name: name.to_owned(), once: Box::new(once) }
}

/// A whole command, from start to its end.
pub fn command<'a>(name: &str, build: impl Fn() -> Command + 'a) -> Contender<'a> {
    let name_for_error = name.to_owned();
    contender(name, move || {
        let mut command = build();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status()?;
        let took = start.elapsed();
        if status.success() { Ok(took) } else { Err(format!("{name_for_error} ended with {status}").into()) }
    })
}

/// Lets the contenders take turns and prints the median of each with its ratio to every peer in `against`.
pub fn compare(title: &str, rounds: usize, mut contenders: Vec<Contender<'_>>, pause: Duration, against: &[&str]) -> Outcome {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    let mut broken: Vec<Option<String>> = vec![None; contenders.len()];
    for round in 0..=rounds {
        for (index, contender) in contenders.iter_mut().enumerate() {
            if broken[index].is_some() {
                continue;
            }
            match (contender.once)() {
                Ok(_) if round == 0 => {} // The first round only warms up.
                Ok(took) => times[index].push(took.as_secs_f64()),
                Err(e) => broken[index] = Some(e.to_string()),
            }
            std::thread::sleep(pause);
        }
    }
    println!("\n{title}  ({rounds} rounds, taking turns{})", if pause.is_zero() { "" } else { ", with pauses" });
    let medians: Vec<f64> = times.iter_mut().map(|t| median(t)).collect();
    let base: Vec<(&str, f64)> = against
        .iter()
        .filter_map(|a| contenders.iter().position(|c| c.name == *a).map(|i| (*a, medians[i])))
        .filter(|(_, m)| m.is_finite())
        .collect();
    for (index, contender) in contenders.iter().enumerate() {
        if let Some(why) = &broken[index] {
            println!("  {:<34} left out: {why}", contender.name);
            continue;
        }
        let ratios: String = base
            .iter()
            .filter(|(name, _)| *name != contender.name)
            .map(|(name, m)| format!("   {:.2} x {name}", medians[index] / m))
            .collect();
        println!("  {:<34} {:>9.3} ms{ratios}", contender.name, medians[index] * 1e3);
    }
    Ok(())
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(program).is_file()))
}

/// A supervisor of its own for one measurement.
pub struct Supervisor {
    child: Child,
    pub run_dir: PathBuf,
}

impl Supervisor {
    pub fn start(bench: &Bench, name: &str, units: &[(String, String)]) -> Result<Self, Box<dyn Error>> {
        Supervisor::write(bench, name, units)?;
        Supervisor::with_written(bench, name)
    }

    /// Only the unit files.
    pub fn write(bench: &Bench, name: &str, units: &[(String, String)]) -> Outcome {
        let unit_dir = bench.directory.join(name).join("units");
        fs::create_dir_all(&unit_dir)?;
        for (unit, text) in units {
            fs::write(unit_dir.join(format!("{unit}.toml")), text)?;
        }
        Ok(())
    }

    pub fn with_written(bench: &Bench, name: &str) -> Result<Self, Box<dyn Error>> {
        let home = bench.directory.join(name);
        let (unit_dir, run_dir) = (home.join("units"), home.join("run"));
        let child = Command::new(&bench.cellinit)
            .arg("--units")
            .arg(&unit_dir)
            .arg("--run-dir")
            .arg(&run_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let supervisor = Supervisor { child, run_dir };
        let begun = Instant::now();
        while UnixStream::connect(supervisor.run_dir.join("control.sock")).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err("the supervisor does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(supervisor)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self) -> Result<Connection, Box<dyn Error>> {
        let stream = UnixStream::connect(self.run_dir.join("control.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { reader: BufReader::new(stream) })
    }

    pub fn pss_kib(&self) -> u64 {
        pss_kib(self.pid())
    }

    /// Waits until `done` says so of the list of units.
    pub fn wait(&self, done: impl Fn(&[Value]) -> bool) -> Outcome {
        let mut connection = self.connect()?;
        let begun = Instant::now();
        loop {
            let answer = connection.call("List", json!({}))?;
            if done(answer["units"].as_array().map(Vec::as_slice).unwrap_or_default()) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("waited too long; the last answer was {answer}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// CPU seconds that a process and everything it has reaped took.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks: u64 = stat.rsplit(") ").next().unwrap_or("").split(' ').skip(11).take(4).filter_map(|t| t.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

pub fn pss_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    rollup.lines().find_map(|l| l.strip_prefix("Pss:")).and_then(|v| v.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

pub struct Connection {
    reader: BufReader<UnixStream>,
}

impl Connection {
    pub fn send(&mut self, method: &str, parameters: Value, more: bool) -> Outcome {
        let mut text = json!({ "method": format!("org.cellinit.{method}"), "parameters": parameters, "more": more }).to_string();
        text.push('\n');
        self.reader.get_mut().write_all(text.as_bytes())?;
        Ok(())
    }

    pub fn receive(&mut self) -> Result<Value, Box<dyn Error>> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let reply: Value = serde_json::from_str(&line)?;
        match reply.get("error") {
            Some(e) => Err(format!("the supervisor answered {e}: {}", reply["parameters"]).into()),
            None => Ok(reply["parameters"].clone()),
        }
    }

    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Box<dyn Error>> {
        self.send(method, parameters, false)?;
        self.receive()
    }
}

/// One start of a job through the control socket, from the request to the event that it has completed and its cell is gone.
pub struct Runs {
    calls: Connection,
    events: Connection,
    unit: String,
}

impl Runs {
    pub fn new(supervisor: &Supervisor, unit: &str) -> Result<Self, Box<dyn Error>> {
        supervisor.wait(|units| units.iter().any(|u| u["name"] == unit && u["state"] == "completed"))?;
        let mut events = supervisor.connect()?;
        events.send("Events", json!({ "unit": unit, "backlog": 0 }), true)?;
        let mut calls = supervisor.connect()?;
        calls.call("Ping", json!({}))?;
        Ok(Runs { calls, events, unit: unit.to_owned() })
    }

    pub fn once(&mut self) -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        self.calls.send("Restart", json!({ "unit": self.unit }), false)?;
        loop {
            let answer = self.events.receive()?;
            for event in answer["events"].as_array().into_iter().flatten() {
                match event["state"].as_str() {
                    Some("completed") => {
                        let took = start.elapsed();
                        self.calls.receive()?;
                        return Ok(took);
                    }
                    Some("failed") => return Err(format!("the unit failed: {}", event["text"]).into()),
                    _ => {}
                }
            }
        }
    }
}
