//! Making machine code, what it is kept under, and what is refused.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cellinit::sys::fd::identity;

use crate::bench::{CELL_WASM, compiled, guest, run_artifact, scratch, spec, text};

fn cell_wasm(verb: &str, words: &[&str], module: &Path) -> Output {
    Command::new(CELL_WASM).arg(verb).args(words).arg(module).output().expect("cell-wasm")
}

#[test]
fn the_same_module_gives_the_same_machine_code() {
    let module = guest("command-hello");
    let again = scratch().join("again.cwasm");
    let output = cell_wasm("compile", &["-o", &again.to_string_lossy()], &module);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(&again).expect("an artifact"), fs::read(compiled(&module, false)).expect("an artifact"));
}

/// As in the compiler's cell: the supervisor opens the file, the compiler has only its descriptor, and no path of a module.
#[test]
fn machine_code_goes_to_descriptor_3() {
    let artifact = scratch().join("three.cwasm");
    let output = Command::new("sh")
        .args(["-c", r#"exec "$0" compile <"$1" 3>"$2""#, CELL_WASM])
        .args([&guest("command-hello"), &artifact])
        .output()
        .expect("sh");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(run_artifact(&artifact, &spec()).code, Some(0));

    let output = cell_wasm("compile", &[], &guest("command-hello"));
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("descriptor 3"), "{output:?}");
}

#[test]
fn a_digest_names_the_module_and_the_engine() {
    let digest = |words: &[&str], module: &Path| {
        let copy = scratch().join("copy.wasm");
        let output = cell_wasm("digest", &[words, &["-o", &copy.to_string_lossy()]].concat(), module);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read(copy).expect("a copy"), fs::read(module).expect("a module"));
        let text = String::from_utf8(output.stdout).expect("text");
        let words: Vec<&str> = text.split_whitespace().collect();
        let [digest, engine, file] = words[..] else { panic!("three words: {text}") };
        assert_eq!(file, identity(&fs::metadata(module).expect("a module")));
        (digest.to_string(), engine.to_string())
    };
    let module = guest("command-hello");
    let (name, engine) = digest(&[], &module);
    let sum = Command::new("sha256sum").arg(&module).output().expect("sha256sum");
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(&name));
    assert_eq!(engine.len(), 16);
    assert_eq!(digest(&[], &guest("command-trap")).1, engine);
    // Fuel is counted in the machine code itself.
    let (same, other) = digest(&["--fuel"], &module);
    assert!(same == name && other != engine);
}

#[test]
fn machine_code_of_another_engine_is_refused() {
    let mut fuelled = spec();
    fuelled.limits.fuel = Some(1_000_000);
    let left = run_artifact(&compiled(&guest("command-hello"), false), &fuelled);
    assert_eq!(left.code, Some(196), "{left:#?}");
    assert!(left.err.contains("fuel"), "{left:#?}");
    assert!(left.told[0].starts_with("STATUS="), "{left:#?}");
}

#[test]
fn what_is_no_machine_code_is_refused() {
    let module = guest("command-hello");
    let torn = scratch().join("torn.cwasm");
    fs::write(&torn, &fs::read(compiled(&module, false)).expect("an artifact")[..4096]).expect("a file");
    let empty = scratch().join("empty.cwasm");
    File::create(&empty).expect("a file");
    for artifact in [&module, &torn, &empty, &scratch().join("missing.cwasm")] {
        let left = run_artifact(artifact, &spec());
        assert_eq!(left.code, Some(196), "{left:#?}");
        assert!(left.err.contains(&*artifact.to_string_lossy()), "{left:#?}");
    }
}

#[test]
fn what_is_no_module_is_not_compiled() {
    let bad = scratch().join("bad.wasm");
    for bytes in [&b"#!/bin/sh\n"[..], b"", b"\0asm", b"\0asm\x01\0\0\0\x07rest"] {
        fs::write(&bad, bytes).expect("a file");
        let output = cell_wasm("compile", &["-o", "/dev/null"], &bad);
        assert_eq!(output.status.code(), Some(1), "{bytes:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
    // The module's fault is told from ours, which may be gone at the next try.
    fs::copy(guest("command-hello"), &bad).expect("a file");
    let output = cell_wasm("compile", &["-o", "/dev/full"], &bad);
    assert_eq!(output.status.code(), Some(197), "{output:?}");
}

/// Two modules of the same name in one component, a shared memory, a start without an end: all refused or bounded by the compiler.
#[test]
fn a_shared_memory_is_refused() {
    let module = text("shared", r#"(module (memory 1 1 shared) (func (export "_start")))"#);
    let output = cell_wasm("compile", &["-o", &scratch().join("shared.cwasm").to_string_lossy()], &module);
    let left = if output.status.success() { run_artifact(&scratch().join("shared.cwasm"), &spec()).code } else { Some(196) };
    assert_eq!(left, Some(196));
}

#[test]
fn words_that_are_none_are_a_usage_error() {
    for words in [&[][..], &["walk"], &["run"], &["run", "{}", "a", "b"], &["compile", "-o"], &["digest", "-o", "x"], &["digest"]] {
        let output = Command::new(CELL_WASM).args(words).stdin(Stdio::null()).output().expect("cell-wasm");
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
    }
    let output = Command::new(CELL_WASM).args(["run", r#"{"unit":1}"#]).output().expect("cell-wasm");
    assert_eq!(output.status.code(), Some(197), "{output:?}");
}
