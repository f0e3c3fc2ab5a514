//! HOST: the only room that knows wasmtime. It is the whole of the program `cell-wasm`, which runs inside a cell and never
//! beside PID 1: whatever a guest does to its host, it does to one cell.
//!
//! - `cell-wasm run SPEC [ARTIFACT]`: the last step of a Wasm cell. SPEC is a [`GuestSpec`] in JSON.
//! - `cell-wasm digest [--fuel] [-o FILE] MODULE`: what the machine code of a module is kept under, and what tells its file from
//!   others: `<sha256> <engine> <identity>`; what was hashed, to FILE or to descriptor 3. Run in a cell of its own.
//! - `cell-wasm compile [--fuel] [-o FILE] [MODULE]`: machine code of MODULE, or of what is on standard input, to FILE or to
//!   descriptor 3. Run in a cell of its own.
//!
//! The road of `run`: [`host::load`] maps the machine code, [`world::tell`] says what it is, then [`command::run`] or
//! [`http::serve`]; both build each instance with nothing but its [`grants`] and within its [`limits`], and end in an
//! [`End`]: an exit code, and a [`Cause`](cause::Cause) where the guest did not choose that code itself.

// Denied and not forbidden: `host::map_machine_code` is the one exception.
#![deny(unsafe_code)]

mod cause;
mod command;
mod compile;
mod crowd;
mod engine;
mod files;
mod grants;
mod host;
mod http;
mod limits;
mod linker;
mod notify;
mod patience;
mod request;
mod ticker;
mod world;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cellinit::plan::guest::{ARTIFACT_PATH, GuestSpec};

use cause::End;
use engine::Codegen;
use notify::Notify;

const USAGE: &str = "usage: cell-wasm run SPEC [ARTIFACT]
       cell-wasm compile [--fuel] [-o FILE] [MODULE]
       cell-wasm digest [--fuel] [-o FILE] MODULE";

/// Does what the arguments say and ends the process.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ! {
    match Verb::parse(arguments) {
        Some(Verb::Run { spec, artifact }) => run(&spec, &artifact),
        Some(Verb::Compile { codegen, module, output }) => compile::compile(codegen, module.as_deref(), output.as_deref()).leave(),
        Some(Verb::Digest { codegen, module, output }) => End::of(compile::digest(codegen, &module, output.as_deref())).leave(),
        None => End::usage(USAGE).leave(),
    }
}

fn run(spec: &str, artifact: &Path) -> ! {
    let notify = Notify::from_env();
    let end = match serde_json::from_str::<GuestSpec>(spec) {
        Ok(spec) => host::run(&spec, artifact, &notify),
        Err(error) => End::host_failure(format!("the guest's description cannot be read: {error}")),
    };
    end.tell_and_leave(&notify)
}

enum Verb {
    Run { spec: String, artifact: PathBuf },
    Compile { codegen: Codegen, module: Option<PathBuf>, output: Option<PathBuf> },
    Digest { codegen: Codegen, module: PathBuf, output: Option<PathBuf> },
}

impl Verb {
    /// By hand: the argument parser of `cell` would cost more than the rest of a start.
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Verb> {
        let verb = arguments.next()?;
        let mut fuel = false;
        let mut output = None;
        let mut words = Vec::new();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--fuel") => fuel = true,
                Some("-o") => output = Some(PathBuf::from(arguments.next()?)),
                _ => words.push(argument),
            }
        }
        let codegen = Codegen { fuel };
        let mut words = words.into_iter();
        let verb = match verb.to_str()? {
            "run" if !fuel && output.is_none() => {
                Verb::Run { spec: words.next()?.into_string().ok()?, artifact: words.next().unwrap_or_else(|| ARTIFACT_PATH.into()).into() }
            }
            "compile" => Verb::Compile { codegen, module: words.next().map(PathBuf::from), output },
            "digest" => Verb::Digest { codegen, module: words.next()?.into(), output },
            _ => return None,
        };
        words.next().is_none().then_some(verb)
    }
}
