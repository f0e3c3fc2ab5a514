//! Modules on their way to a cell, by the real supervisor: compiled once, shared, stopped in the middle, and cleared away.

#![cfg(feature = "wasm")]

#[path = "support/supervisor.rs"]
mod supervisor;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use supervisor::Supervisor;

/// More than a small module has, so that it waits for a compiler's place with all others.
const LARGE: usize = 1 << 20;

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

/// A unit that may write where another one's module is puts a link there, which root would follow: before the module is looked at,
/// or while it waits to be hashed.
#[test]
fn links_that_a_unit_planted_lead_to_no_module() {
    let texts = [
        ("planter", "[service]\nexec = [\"/bin/true\"]\n[[mount]]\nsource = \"@DIR@/w\"\ntarget = \"/run/w\"\nwritable = true\n[install]\nwanted-by = []\n".to_owned()),
        ("led", job("w/link.wasm")),
        ("plain", job("w/plain.wasm")),
        ("by-root", job("link.wasm")),
        ("maker", job("w/slow.wasm")),
        ("waiter", job("w/slow.wasm")),
    ];
    let supervisor = Supervisor::start(&texts.each_ref().map(|(unit, text)| (*unit, text.as_str())));
    let files = supervisor.files();
    fs::create_dir(files.join("w")).unwrap();
    fs::write(files.join("small.wasm"), module(1, 1)).unwrap();
    fs::write(files.join("w/plain.wasm"), module(1, 1)).unwrap();
    fs::write(files.join("w/slow.wasm"), module(8_000, 7)).unwrap();
    symlink("small.wasm", files.join("link.wasm")).unwrap();
    symlink("../small.wasm", files.join("w/link.wasm")).unwrap();
    for unit in ["plain", "by-root"] {
        begin(&supervisor, unit);
        supervisor.wait_state(unit, "completed");
    }
    // The cache knows what it leads to, and that makes no difference.
    begin(&supervisor, "led");
    let failed = supervisor.wait_state("led", "failed");
    assert!(failed["cause"]["text"].as_str().unwrap().contains("w/link.wasm is a link to ../small.wasm"), "{failed}");
    begin(&supervisor, "maker");
    supervisor.until("the compiler", || compilations(&supervisor) == 2);
    begin(&supervisor, "waiter");
    supervisor.wait_state("waiter", "starting");
    fs::remove_file(files.join("w/slow.wasm")).unwrap();
    symlink("../small.wasm", files.join("w/slow.wasm")).unwrap();
    supervisor.call("Stop", json!({ "unit": "maker" }));
    let failed = supervisor.wait_state("waiter", "failed");
    assert!(failed["cause"]["text"].as_str().unwrap().contains("link on the way to"), "{failed}");
    supervisor.stop();
}

/// A large module that is compiled in no time: what it does when it is run, and bytes.
fn padded(run: &str) -> Vec<u8> {
    let bytes = "x".repeat(LARGE);
    wat::parse_str(format!("(module (memory (export \"memory\") 32) (data (i32.const 0) \"{bytes}\") (func (export \"_start\") {run}))"))
        .unwrap()
}

/// Who may write to a module's file may change it at any time; the worst of them is between its digest and its compilation,
/// where it would become known as the machine code of the module that was hashed.
#[test]
fn what_was_hashed_is_what_is_compiled() {
    let places = std::thread::available_parallelism().unwrap().get();
    let slow: Vec<String> = (0..places).map(|number| format!("slow-{number}")).collect();
    let modules: Vec<String> = slow.iter().map(|name| format!("{name}.wasm")).collect();
    let mut units: Vec<(&str, &str)> = slow.iter().zip(&modules).map(|(unit, module)| (unit.as_str(), module.as_str())).collect();
    units.extend([("swapped", "swapped.wasm"), ("original", "original.wasm")]);
    let supervisor = start(&units);
    let mut bytes = module(8_000, 3);
    for name in &modules {
        // One more empty custom section makes it another module.
        bytes.extend([0, 1, 0]);
        fs::write(supervisor.files().join(name), &bytes).unwrap();
    }
    for name in ["swapped.wasm", "original.wasm"] {
        fs::write(supervisor.files().join(name), padded("")).unwrap();
    }
    for unit in &slow {
        begin(&supervisor, unit);
    }
    supervisor.until("compilers in all places", || compilations(&supervisor) == places);
    begin(&supervisor, "swapped");
    supervisor.until("its digest", || compilations(&supervisor) == places + 1);
    fs::write(supervisor.files().join("swapped.wasm"), padded("unreachable")).unwrap();
    for unit in &slow {
        supervisor.call("Stop", json!({ "unit": unit }));
    }
    supervisor.wait_state("swapped", "completed");
    begin(&supervisor, "original");
    supervisor.wait_state("original", "completed");
    assert_eq!(compilations(&supervisor), places + 1, "{}", supervisor.console());
    // The next start sees the file as it is now.
    begin(&supervisor, "swapped");
    let failed = supervisor.wait_state("swapped", "failed");
    assert!(failed["cause"]["text"].as_str().unwrap().contains("trap"), "{failed}");
    supervisor.stop();
}

#[test]
fn what_cannot_be_compiled_is_not_tried_again_until_it_is_another_module() {
    let supervisor = start(&[("bad", "bad.wasm"), ("same", "same.wasm")]);
    for name in ["bad.wasm", "same.wasm"] {
        fs::write(supervisor.files().join(name), b"\0asm\x01\0\0\0\x07rest").unwrap();
    }
    let refused = |unit: &str, words: &str| {
        begin(&supervisor, unit);
        supervisor.wait(unit, words, |unit| unit["cause"]["text"].as_str().is_some_and(|text| text.contains(words)));
    };
    refused("bad", "ended with status 1; its log says why");
    refused("same", "not tried again");
    refused("bad", "not tried again");
    assert_eq!(compilations(&supervisor), 1, "{}", supervisor.console());
    fs::write(supervisor.files().join("bad.wasm"), module(1, 1)).unwrap();
    begin(&supervisor, "bad");
    supervisor.wait_state("bad", "completed");
    supervisor.stop();
}

/// Whoever kills a compiler says nothing of its module.
#[test]
fn a_compiler_that_somebody_killed_is_started_again() {
    let supervisor = start(&[("slow", "slow.wasm")]);
    fs::write(supervisor.files().join("slow.wasm"), module(8_000, 5)).unwrap();
    let cache = supervisor.run_dir().join("cache/aot");
    begin(&supervisor, "slow");
    let mut compiler = None;
    supervisor.until("the compiler", || {
        compiler = processes_below(supervisor.pid()).into_iter().find(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(b"compile")
        });
        compiler.is_some()
    });
    kill(Pid::from_raw(compiler.unwrap()), Signal::SIGKILL).unwrap();
    let killed = supervisor.wait_state("slow", "failed");
    assert!(killed["cause"]["text"].as_str().unwrap().contains("by no limit that this host tells of"), "{killed}");
    begin(&supervisor, "slow");
    supervisor.until("another compiler", || compilations(&supervisor) == 2 && names(&cache, ".part").len() == 1);
    supervisor.call("Stop", json!({ "unit": "slow" }));
    supervisor.wait_state("slow", "stopped");
    supervisor.stop();
}

/// Its children.
fn processes_below(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// It would be the same module, and the same unit, every time.
#[test]
fn a_module_for_another_world_is_not_started_again() {
    let unit = "[unit]\nkind = \"job\"\n[wasm]\nmodule = \"@DIR@/empty.wasm\"\n[install]\nwanted-by = []\n";
    let supervisor = Supervisor::start(&[("empty", unit)]);
    fs::write(supervisor.files().join("empty.wasm"), wat::parse_str("(component)").unwrap()).unwrap();
    begin(&supervisor, "empty");
    let failed = supervisor.wait_state("empty", "failed");
    assert_eq!((&failed["cause"]["kind"], &failed["restarts"]), (&json!("world"), &json!(0)), "{failed}");
    assert!(failed["cause"]["text"].as_str().unwrap().contains("there is nothing to call"), "{failed}");
    supervisor.stop();
}
