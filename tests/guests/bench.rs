//! What the tests stand on: guests made ready once, a spec, a run and what it left.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use cellinit::plan::guest::{GuestHttp, GuestLimits, GuestSpec};
use cellinit::unit::World;

pub const CELL_WASM: &str = env!("CARGO_BIN_EXE_cell-wasm");

/// A guest from `guests/`, as WebAssembly.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests");
    BUILT.get_or_init(|| {
        let status = Command::new(root.join("build.sh")).status().expect("guests/build.sh");
        assert!(status.success(), "guests/build.sh failed");
    });
    root.join("target/wasm").join(format!("{name}.wasm"))
}

/// A guest written out in the text format.
pub fn text(name: &str, wat: &str) -> PathBuf {
    let path = scratch().join(name).with_extension("wasm");
    std::fs::write(&path, wat::parse_str(wat).expect("valid WAT")).expect("a module");
    path
}

/// Machine code, made once for each module and kind.
pub fn compiled(module: &Path, fuel: bool) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<BTreeMap<PathBuf, ()>> = Mutex::new(BTreeMap::new());
    let name = module.file_stem().expect("a name").to_string_lossy().replace('.', "-");
    let artifact = scratch().join(format!("{name}{}.cwasm", if fuel { ".fuel" } else { "" }));
    let mut made = ONE_AT_A_TIME.lock().expect("no panic while compiling");
    if made.insert(artifact.clone(), ()).is_none() {
        let mut command = Command::new(CELL_WASM);
        command.arg("compile").args(fuel.then_some("--fuel")).arg("-o").arg(&artifact).arg(module);
        assert!(command.status().expect("cell-wasm").success(), "compiling {}", module.display());
    }
    artifact
}

pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        std::fs::create_dir_all(&path).expect("a directory");
        path
    })
}

pub fn spec() -> GuestSpec {
    GuestSpec {
        unit: "test".into(),
        world: World::Auto,
        args: vec!["guest".into()],
        env: BTreeMap::new(),
        dirs: Vec::new(),
        limits: GuestLimits { memory: 64 << 20, deadline_ms: None, request_timeout_ms: 30_000, fuel: None },
        http: GuestHttp { listen_fd: None, max_concurrent: 16, max_connections: 32, max_body: 1 << 20 },
    }
}

pub fn args(words: &[&str]) -> Vec<String> {
    std::iter::once("guest").chain(words.iter().copied()).map(String::from).collect()
}

#[derive(Debug)]
pub struct Left {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    /// Every datagram on the notify socket, in order.
    pub told: Vec<String>,
}

pub fn run(module: &Path, spec: &GuestSpec) -> Left {
    run_artifact(&compiled(module, spec.limits.fuel.is_some()), spec)
}

pub fn run_artifact(artifact: &Path, spec: &GuestSpec) -> Left {
    let dir = tempfile::tempdir().expect("a directory");
    let (notify, path) = notify_socket(dir.path());
    let output = command(artifact, spec, &path).stdin(Stdio::null()).output().expect("cell-wasm");
    Left {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        told: received(&notify),
    }
}

pub fn command(artifact: &Path, spec: &GuestSpec, notify: &Path) -> Command {
    let mut command = Command::new(CELL_WASM);
    command.arg("run").arg(serde_json::to_string(spec).expect("JSON")).arg(artifact);
    // What the host process has is not the guest's.
    command.env("NOTIFY_SOCKET", notify).env("SECRET", "of the host");
    command
}

pub fn notify_socket(dir: &Path) -> (UnixDatagram, PathBuf) {
    let path = dir.join("notify");
    (UnixDatagram::bind(&path).expect("a socket"), path)
}

/// What has come so far.
pub fn received(notify: &UnixDatagram) -> Vec<String> {
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    notify.set_nonblocking(true).expect("fcntl");
    loop {
        match notify.recv(&mut buffer) {
            Ok(length) => told.push(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return told,
            Err(error) => panic!("{error}"),
        }
    }
}
