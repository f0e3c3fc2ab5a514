//! `digest` and `compile`: both read bytes that nobody vouches for, so each runs in a cell of its own, without a network. The
//! first has the module's file and copies what it hashes; the second has that copy, and one descriptor to write to. The file may
//! be another one by then, which is why nobody opens it twice.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Error, Result, bail, error::Context};

use super::cause::End;
use super::engine::{self, Codegen};
use cellinit::plan::guest::{MAX_MODULE, OUTPUT_FD};
use cellinit::sys::fd::identity;
use cellinit::sys::inherited::inherited;

/// Bytes of the engine's hash that are shown; enough never to meet another by chance.
const ENGINE_HASH: usize = 8;
/// Offset of the layer field in the preamble: 0 is a core module, 1 a component.
const LAYER: usize = 6;

/// Writes machine code for the module or component at `module`, or on standard input. Its end tells the module's faults from
/// ours: those stay the same until there is another module.
pub fn compile(codegen: Codegen, module: Option<&Path>, output: Option<&Path>) -> End {
    let ours = |error: Error| End::host_failure(format!("{error:#}"));
    let mut output = match open(output) {
        Ok(output) => output,
        Err(error) => return ours(error),
    };
    match machine_code(codegen, module) {
        Ok(code) => keep(&mut output, &code).map_or_else(ours, |()| End::exit(0)),
        Err(error) => End::of(Err(error)),
    }
}

fn machine_code(codegen: Codegen, module: Option<&Path>) -> Result<Vec<u8>> {
    let bytes = match module {
        Some(path) => read(path, &File::open(path).with_context(|| path.display().to_string())?)?,
        None => read(Path::new("standard input"), &File::from(io::stdin().as_fd().try_clone_to_owned()?))?,
    };
    let engine = engine::compiler(codegen)?;
    match bytes.get(LAYER) {
        Some(0) => engine.precompile_module(&bytes),
        _ => engine.precompile_component(&bytes),
    }
}

fn keep(output: &mut File, code: &[u8]) -> Result<()> {
    output.write_all(code).context("writing the machine code")?;
    // Before whoever waits gives it its name: a name in the cache never stands for half of an artifact, even after a power cut.
    match output.sync_all() {
        Err(error) if error.kind() != ErrorKind::InvalidInput => Err(error).context("syncing the machine code"),
        // A pipe or a device has nothing to sync.
        _ => Ok(()),
    }
}

/// Prints what the machine code of the module at `module` is kept under and which file that was, and copies what it hashed.
pub fn digest(codegen: Codegen, module: &Path, output: Option<&Path>) -> Result<()> {
    let mut output = open(output)?;
    let file = File::open(module).with_context(|| module.display().to_string())?;
    let identity = identity(&file.metadata()?);
    let bytes = read(module, &file)?;
    output.write_all(&bytes).context("copying the module")?;
    println!("{} {} {identity}", hex(&Sha256::digest(&bytes)), engine_hash(&engine::compiler(codegen)?));
    Ok(())
}

fn open(output: Option<&Path>) -> Result<File> {
    match output {
        Some(path) => File::create(path).with_context(|| path.display().to_string()),
        None => Ok(File::from(inherited(OUTPUT_FD).with_context(|| format!("descriptor {OUTPUT_FD}"))?)),
    }
}

/// Everything that shapes machine code: the engine's settings, its version, this program's, and the processor it is for.
fn engine_hash(engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    hex(&hasher.0.finalize()[..ENGINE_HASH])
}

/// The standard library's hasher promises nothing about the next release, and this names files that outlive us.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

fn read(name: &Path, file: &File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_MODULE + 1).read_to_end(&mut bytes).with_context(|| name.display().to_string())?;
    if bytes.len() as u64 > MAX_MODULE {
        bail!("{} is larger than {} MiB", name.display(), MAX_MODULE >> 20);
    }
    if !bytes.starts_with(b"\0asm") {
        bail!("{} is not WebAssembly: it does not start with \\0asm", name.display());
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
