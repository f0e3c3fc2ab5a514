//! A WebAssembly command that prints a line, from start to exit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::support::{Bench, Outcome, Runs, Supervisor, command, compare, contender};

/// Until the kernel has put a cell's namespaces away; otherwise whoever comes after a cell pays for it.
const AFTERMATH: Duration = Duration::from_millis(50);

pub fn run(bench: &Bench) -> Outcome {
    let module = guest("command-hello");
    let unit = format!("[unit]\nkind = \"job\"\n[wasm]\nmodule = \"{}\"\n", module.display());
    let supervisor = Supervisor::start(bench, "wasm", &[("hello".into(), unit.clone())])?;
    let mut resident = Runs::new(&supervisor, "hello")?;
    let file = bench.directory.join("hello.toml");
    fs::write(&file, unit)?;
    let artifact = bench.directory.join("hello.cwasm");
    let compiled = Command::new(&bench.cell_wasm).args(["compile", "-o"]).arg(&artifact).arg(&module).status()?;
    if !compiled.success() {
        return Err("cell-wasm compile failed".into());
    }
    let spec = json!({
        "unit": "hello", "world": "auto", "args": ["hello"], "env": {}, "dirs": [],
        "limits": { "memory": 256 << 20, "deadline_ms": null, "request_timeout_ms": 30_000, "fuel": null },
        "http": { "listen_fd": null, "max_concurrent": 1, "max_connections": 1, "max_body": 0 },
    })
    .to_string();
    let mut contenders = vec![
        contender("cellinit, resident, all walls", move || resident.once()),
        command("cell run (cold), all walls", || {
            let mut c = Command::new(&bench.cell);
            c.arg("run").arg(&file);
            c
        }),
        command("cell-wasm run, no walls", || {
            let mut c = Command::new(&bench.cell_wasm);
            c.arg("run").arg(&spec).arg(&artifact);
            c
        }),
    ];
    let theirs = bench.directory.join("hello-peer.cwasm");
    if let Some(wasmtime) = wasmtime() {
        let compiled = Command::new(&wasmtime).arg("compile").arg(&module).arg("-o").arg(&theirs).stderr(Stdio::null()).status()?;
        if compiled.success() {
            let theirs = theirs.clone();
            contenders.push(command("wasmtime run --allow-precompiled", move || {
                let mut c = Command::new(&wasmtime);
                c.args(["run", "--allow-precompiled"]).arg(&theirs);
                c
            }));
        }
    }
    compare("WebAssembly command, start to exit", bench.rounds, contenders, AFTERMATH, &["wasmtime run --allow-precompiled"])?;
    println!("\npeak memory of the process (VmHWM)");
    let mut figures = vec![("cell-wasm run, no walls", peak_kib(Command::new(&bench.cell_wasm).arg("run").arg(&spec).arg(&artifact))?)];
    if let Some(wasmtime) = wasmtime() {
        figures.push((
            "wasmtime run --allow-precompiled",
            peak_kib(Command::new(wasmtime).args(["run", "--allow-precompiled"]).arg(&theirs))?,
        ));
    }
    for (name, kib) in figures {
        println!("  {name:<34} {:>9.1} MiB", kib as f64 / 1024.0);
    }
    Ok(())
}

/// Peak resident memory, by GNU time: a process cannot ask that of one child among many.
fn peak_kib(command: &mut Command) -> Result<i64, Box<dyn std::error::Error>> {
    let timed = Command::new("/usr/bin/time")
        .args(["-f", "%M"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdout(Stdio::null())
        .output()?;
    Ok(String::from_utf8_lossy(&timed.stderr).lines().last().unwrap_or_default().trim().parse()?)
}

pub fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("guests/target/wasm/{name}.wasm"))
}

/// The peer's own program: where `.ci/setup bench` puts it, or on the PATH.
pub fn wasmtime() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/wasmtime");
    std::iter::once(built)
        .chain(std::env::var_os("PATH").iter().flat_map(std::env::split_paths).map(|d| d.join("wasmtime")))
        .find(|p| p.is_file())
}
