//! Modules on their way to a cell, by the real supervisor: compiled once, shared, stopped in the middle, and cleared away.

#![cfg(feature = "wasm")]

#[path = "support/supervisor.rs"]
mod supervisor;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use supervisor::Supervisor;

/// A job that does nothing, after functions that give the compiler something to do.
fn module(functions: usize, seed: i64) -> Vec<u8> {
    use std::fmt::Write;
    let mut text = String::from("(module (memory (export \"memory\") 1) (func (export \"_start\"))\n");
    for number in 0..functions {
        let mut body = String::new();
        for step in 0..60 {
            write!(body, "(local.set 0 (i64.xor (i64.mul (local.get 0) (i64.const {})) (i64.load (i32.const {}))))", seed + step, step * 8)
                .unwrap();
        }
        writeln!(text, "(func (export \"f{number}\") (param i64) (result i64) {body} (local.get 0))").unwrap();
    }
    text.push(')');
    wat::parse_str(&text).unwrap()
}

/// For units that name `@DIR@/NAME`, and are started by hand once it is there.
fn job(name: &str) -> String {
    format!("[unit]\nkind = \"job\"\n[wasm]\nmodule = \"@DIR@/{name}\"\n[restart]\npolicy = \"no\"\n[install]\nwanted-by = []\n")
}

/// With a small module to begin with.
fn start(units: &[(&str, &str)]) -> Supervisor {
    let texts: Vec<(&str, String)> = units.iter().map(|(unit, module)| (*unit, job(module))).collect();
    let supervisor = Supervisor::start(&texts.iter().map(|(unit, text)| (*unit, text.as_str())).collect::<Vec<_>>());
    fs::write(supervisor.files().join("small.wasm"), module(1, 1)).unwrap();
    supervisor
}

fn begin(supervisor: &Supervisor, unit: &str) {
    assert_eq!(supervisor.call("Start", json!({ "unit": unit }))["error"], json!(null));
}

fn compilations(supervisor: &Supervisor) -> usize {
    supervisor.console().matches("compiling").count()
}

fn names(directory: &Path, extension: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let names = entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.ends_with(extension)).collect()
}

#[test]
fn units_that_share_a_module_wait_for_one_compilation() {
    let supervisor = start(&[("a", "m.wasm"), ("b", "m.wasm"), ("c", "m.wasm"), ("copy", "copy.wasm")]);
    fs::write(supervisor.files().join("m.wasm"), module(300, 2)).unwrap();
    fs::copy(supervisor.files().join("m.wasm"), supervisor.files().join("copy.wasm")).unwrap();
    for unit in ["a", "b", "c", "copy"] {
        begin(&supervisor, unit);
    }
    for unit in ["a", "b", "c", "copy"] {
        supervisor.wait_state(unit, "completed");
    }
    assert_eq!(compilations(&supervisor), 1, "{}", supervisor.console());
    let cache = supervisor.run_dir().join("cache/aot");
    assert_eq!(names(&cache, ".cwasm").len(), 1);
    assert_eq!(names(&cache.join("by-file"), "").len(), 2);
    supervisor.stop();
}

#[test]
fn a_start_that_waits_for_a_compiler_stops_at_once() {
    let supervisor = start(&[("maker", "slow.wasm"), ("waiter", "slow.wasm"), ("other", "small.wasm")]);
    fs::write(supervisor.files().join("slow.wasm"), module(8_000, 3)).unwrap();
    let cache = supervisor.run_dir().join("cache/aot");
    let wait_for_compiler = || supervisor.until("the compiler", || names(&cache, ".part").len() == 1);
    begin(&supervisor, "maker");
    wait_for_compiler();
    begin(&supervisor, "waiter");
    assert_eq!(supervisor.wait_state("waiter", "starting")["pid"], json!(null));
    supervisor.call("Stop", json!({ "unit": "waiter" }));
    supervisor.wait_state("waiter", "stopped");
    assert_eq!(supervisor.unit("maker")["state"], "starting", "it compiles longer than that");
    // Who compiles can be stopped, and who waits goes on in its place.
    begin(&supervisor, "waiter");
    supervisor.wait_state("waiter", "starting");
    supervisor.call("Stop", json!({ "unit": "maker" }));
    supervisor.wait_state("maker", "stopped");
    supervisor.until("the second compiler", || compilations(&supervisor) == 2);
    wait_for_compiler();
    supervisor.call("Stop", json!({ "unit": "waiter" }));
    supervisor.wait_state("waiter", "stopped");
    assert_eq!((names(&cache, ".part"), names(&cache, ".cwasm")), (Vec::new(), Vec::new()));
    // And nothing is held by them any more.
    begin(&supervisor, "other");
    supervisor.wait_state("other", "completed");
    supervisor.stop();
}

#[test]
fn what_an_earlier_supervisor_left_is_cleared_away() {
    let mut supervisor = start(&[("a", "small.wasm")]);
    begin(&supervisor, "a");
    supervisor.wait_state("a", "completed");
    let cache = supervisor.run_dir().join("cache/aot");
    fs::write(cache.join("half.cwasm.a.1-1.part"), "half").unwrap();
    symlink("../gone.cwasm", cache.join("by-file/gone")).unwrap();
    supervisor.crash();
    supervisor.until("an orderly cache", || names(&cache, ".part").is_empty() && names(&cache.join("by-file"), "").len() == 1);
    // What is of use has stayed.
    begin(&supervisor, "a");
    supervisor.wait_state("a", "completed");
    assert_eq!((names(&cache, ".cwasm").len(), compilations(&supervisor)), (1, 0), "{}", supervisor.console());
    supervisor.stop();
}

#[test]
fn a_module_is_a_file() {
    let supervisor = start(&[("fifo", "fifo.wasm"), ("directory", ".")]);
    nix::unistd::mkfifo(&supervisor.files().join("fifo.wasm"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for unit in ["fifo", "directory"] {
        begin(&supervisor, unit);
        let failed = supervisor.wait_state(unit, "failed");
        assert!(failed["cause"]["text"].as_str().unwrap().contains("not a regular file"), "{failed}");
    }
    supervisor.stop();
}
