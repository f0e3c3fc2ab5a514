//! Programs that were compiled before, for the policies that most units have: libseccomp needs milliseconds for each, which is
//! most of the CPU time of a cold `cell run`. They are files beside this one, made and held by a test (tests/seccomp.rs), and not
//! a cache on some disk: a filter is a wall, and nobody can write to this program who could not as well write to the walls.
//!
//! A file is a digest and a program. The digest is of everything that libseccomp would be told, so a program that is out of date,
//! or of a build that hashes otherwise, is not found; what is not found is compiled.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use super::Orders;
use crate::sys::seccomp::Program;

/// The default of native units, what Wasm hosts have (without a grant, with directories, with sockets, with both), and the log
/// writer's.
const READY: [&[u8]; 6] = [
    include_bytes!("ready/default.bpf"),
    include_bytes!("ready/wasm.bpf"),
    include_bytes!("ready/wasm-write.bpf"),
    include_bytes!("ready/wasm-listen.bpf"),
    include_bytes!("ready/wasm-write-listen.bpf"),
    include_bytes!("ready/log-writer.bpf"),
];

pub(super) fn find(orders: &Orders) -> Option<Program> {
    let key = digest(orders);
    let program = READY.into_iter().find_map(|file| file.strip_prefix(&key))?;
    Program::from_bytes(program)
}

pub(super) fn file(orders: &Orders, program: &Program) -> Vec<u8> {
    let mut bytes = digest(orders).to_vec();
    for instruction in program.instructions() {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}

fn digest(orders: &Orders) -> [u8; 32] {
    let mut hasher = Sha(Sha256::new());
    orders.hash(&mut hasher);
    hasher.0.finalize().into()
}

/// What `derive(Hash)` writes, hashed so that nobody finds two that are alike.
struct Sha(Sha256);

impl Hasher for Sha {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest is taken whole, by [`digest`].
    fn finish(&self) -> u64 {
        0
    }
}
