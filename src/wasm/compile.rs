//! `compile` and `digest`: both read bytes that nobody vouches for, so each runs in a cell of its own, without a network and
//! with nothing but the module and one descriptor to write to.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Result, bail, error::Context};

use super::engine::{self, Codegen};
use cellinit::plan::guest::OUTPUT_FD;
use cellinit::sys::inherited::inherited;

/// A larger module is refused: Cranelift needs some ten times this much memory.
const MAX_MODULE: u64 = 256 << 20;
/// Bytes of the engine's hash that are shown; enough never to meet another by chance.
const ENGINE_HASH: usize = 8;
/// Offset of the layer field in the preamble: 0 is a core module, 1 a component.
const LAYER: usize = 6;

/// Writes machine code for the module or component at `module`.
pub fn compile(codegen: Codegen, module: &Path, output: Option<&Path>) -> Result<()> {
    let mut output = match output {
        Some(path) => File::create(path).with_context(|| path.display().to_string())?,
        None => File::from(inherited(OUTPUT_FD).with_context(|| format!("descriptor {OUTPUT_FD}"))?),
    };
    let bytes = read(module)?;
    let engine = engine::compiler(codegen)?;
    let code = match bytes.get(LAYER) {
        Some(0) => engine.precompile_module(&bytes)?,
        _ => engine.precompile_component(&bytes)?,
    };
    output.write_all(&code).context("writing the machine code")?;
    // Before whoever waits gives it its name: a name in the cache never stands for half of an artifact, even after a power cut.
    match output.sync_all() {
        Err(error) if error.kind() != ErrorKind::InvalidInput => Err(error).context("syncing the machine code"),
        // A pipe or a device has nothing to sync.
        _ => Ok(()),
    }
}

/// Prints what the machine code of the module at `module` is kept under.
pub fn digest(codegen: Codegen, module: &Path) -> Result<()> {
    let module = Sha256::digest(read(module)?);
    println!("{} {}", hex(&module), engine_hash(&engine::compiler(codegen)?));
    Ok(())
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

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(MAX_MODULE + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    if bytes.len() as u64 > MAX_MODULE {
        bail!("{} is larger than {} MiB", path.display(), MAX_MODULE >> 20);
    }
    if !bytes.starts_with(b"\0asm") {
        bail!("{} is not WebAssembly: it does not start with \\0asm", path.display());
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
