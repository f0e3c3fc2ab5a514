//! What a guest can reach. A new WASI context reaches nothing; this adds what the unit file grants, and that is all:
//! no environment, no directory and no network that is not named there.

use wasmtime::Result;
use wasmtime::error::Context;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::limits::MAX_RANDOM_BYTES;
use cellinit::plan::guest::GuestSpec;

/// Whether file operations may hold the thread: a command's own thread has nothing else to do, a server's has other requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FileAccess {
    OnThread,
    Aside,
}

pub fn wasi(spec: &GuestSpec, files: FileAccess) -> Result<WasiCtxBuilder> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.allow_blocking_current_thread(files == FileAccess::OnThread)
        .inherit_stdio()
        .args(&spec.args)
        .max_random_size(MAX_RANDOM_BYTES)
        // All three are the default already. They are said here since this is where a reader looks for them.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    for (name, value) in &spec.env {
        wasi.env(name, value);
    }
    for dir in &spec.dirs {
        // The second lock: what is not writable is mounted read-only in the cell as well.
        let permissions = if dir.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        wasi.preopened_dir(&dir.path, &dir.guest, permissions)
            .with_context(|| format!("the directory {} ({} to the guest)", dir.path, dir.guest))?;
    }
    Ok(wasi)
}
