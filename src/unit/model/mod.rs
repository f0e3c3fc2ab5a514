//! What a unit file says, after checking and with every default filled in.
//! Profiles are already resolved here: a reader of [`Unit`] never asks "which profile?" to learn a setting.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::caps::CapabilitySet;

mod cell;
pub use cell::*;

/// A unit's name: the file name without `.toml`. 1 to 100 bytes of `[A-Za-z0-9_.:@-]`, not starting with `.` or `-`,
/// so that it is safe as a cgroup, a file and a host name component (systemd 2026-29111 is why).
pub type UnitName = String;

/// One checked unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unit {
    pub name: UnitName,
    /// The file that it came from, for messages; empty for the `default` target when no file defines it.
    pub source: PathBuf,
    pub description: String,
    pub kind: Kind,
    /// Hard dependencies: started with it, and its failure keeps this unit from starting.
    pub requires: Vec<UnitName>,
    /// Soft dependencies: started with it; their failure does not matter.
    pub wants: Vec<UnitName>,
    /// Order only.
    pub after: Vec<UnitName>,
    /// Order only.
    pub before: Vec<UnitName>,
    /// Starting this stops them, and the other way round.
    pub conflicts: Vec<UnitName>,
    /// Dependencies by condition; each is a requirement and an order.
    pub depends: Vec<Depends>,
    /// Units (usually targets) that want this one; `["default"]` unless said otherwise.
    pub wanted_by: Vec<UnitName>,
    pub service: Service,
    pub payload: Payload,
    pub env: Env,
    pub user: User,
    pub stop: Stop,
    pub restart: Restart,
    pub health: Health,
    /// The service must send `WATCHDOG=1` this often; sd_notify(3).
    pub watchdog: Option<Duration>,
    pub isolation: Isolation,
    pub rootfs: Rootfs,
    pub mounts: Vec<Mount>,
    pub dirs: Dirs,
    /// Capabilities kept. Empty by default.
    pub caps: CapabilitySet,
    pub seccomp: Seccomp,
    pub selinux: Selinux,
    pub resources: Resources,
    pub limits: BTreeMap<Rlimit, RlimitValue>,
    /// oom_score_adj, -1000 to 1000; proc(5).
    pub oom_score: i32,
    pub oom_policy: OomPolicy,
    pub network: NetworkMode,
    pub sockets: Vec<Socket>,
    pub log: Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Service,
    Job,
    Target,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Depends {
    pub unit: UnitName,
    pub condition: Condition,
    /// How long to wait for the condition before the start fails; `None` is for ever.
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Its program runs.
    Started,
    /// It said that it is ready (by its `ready` rule).
    Ready,
    /// Ready, and its health probes pass.
    Healthy,
    /// A job that ended with success.
    Completed,
}

/// What the cell ends in.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// A target has none.
    None,
    /// `argv`; `argv[0]` is looked up in the cell's PATH unless it contains a slash.
    Native { exec: Vec<String> },
    /// In a box: most units are native ones, and would have room for it.
    Wasm(Box<Wasm>),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    pub kind: ServiceType,
    pub ready: Ready,
    /// Absolute path in the cell.
    pub working_dir: String,
    pub umask: u32,
    /// `None` is "infinity".
    pub start_timeout: Option<Duration>,
    /// Exit statuses and signals that count as success.
    pub success_status: Vec<ExitMatch>,
}

/// systemd.service(5) Type=.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceType {
    Simple,
    Exec,
    Notify,
    Oneshot,
}

/// When a starting unit counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// The clone exists (type = simple).
    Spawned,
    /// execve succeeded.
    Exec,
    /// `READY=1` on the notify socket.
    Notify,
    /// The first success of `[health.ready]`, or of `[health.startup]`.
    Health,
    /// A newline on this descriptor (s6's notification-fd).
    Fd(i32),
    /// The program ended with success (type = oneshot, jobs).
    Completed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitMatch {
    Status(i32),
    Signal(i32),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Env {
    pub set: BTreeMap<String, String>,
    /// Read at each start, on the host; `KEY=VALUE` lines as in systemd.exec(5) EnvironmentFile=.
    pub files: Vec<EnvFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnvFile {
    pub path: String,
    /// Written with a leading "?".
    pub optional: bool,
}

/// Whom the payload runs as. Ids are those seen inside the cell when it has a user namespace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct User {
    pub user: Identity,
    pub group: Option<Identity>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// Not said: an unprivileged id of the cell's own range, or root in profiles `none` and `host`.
    Dynamic,
    Id(u32),
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stop {
    pub signal: i32,
    /// `None` is "infinity": never killed.
    pub timeout: Option<Duration>,
    pub mode: StopMode,
}

/// Who gets the stop signal; whoever is left after the timeout is killed. systemd.kill(5) KillMode=.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopMode {
    /// Signal to everyone in the cell.
    Cell,
    /// Signal to the main process; SIGKILL to everyone left.
    Mixed,
    /// Signal and SIGKILL to the main process; what is left then is killed when the cell is torn down.
    Main,
    /// No signal: wait for the timeout, then SIGKILL.
    None,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restart {
    pub policy: RestartPolicy,
    /// Causes that restart whatever the policy says.
    pub on: Vec<CauseKind>,
    /// Causes that never restart; stronger than `on` and `policy`.
    pub never_on: Vec<CauseKind>,
    pub delay: Duration,
    pub factor: f64,
    pub max_delay: Duration,
    /// Per mille of the delay, added or taken at random. 100 is 10 %.
    pub jitter_permille: u32,
    /// After this long running (healthy, where there is health) the delay and the count start anew.
    pub reset_after: Duration,
    /// Restarts allowed within `window`; `None` is unlimited.
    pub attempts: Option<u32>,
    pub window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    No,
    Always,
    OnSuccess,
    OnFailure,
    OnAbnormal,
    UnlessStopped,
}

/// The kinds of death that `[restart] on` and `never-on` name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
    /// Ended with a status that is no success.
    Exit,
    /// Killed by a signal that nobody of ours sent.
    Signal,
    /// Killed for want of memory.
    Oom,
    /// A WebAssembly trap.
    Trap,
    /// Out of fuel.
    Fuel,
    /// Past `wasm.limits.deadline`.
    Deadline,
    /// The guest was refused memory by `wasm.limits.memory` and gave up.
    Memory,
    /// A WebAssembly module that is made for another world than its unit is for.
    World,
    /// A probe failed.
    Health,
    /// No `WATCHDOG=1` in time.
    Watchdog,
    /// Not ready within `start-timeout`.
    StartTimeout,
    /// Killed by its seccomp filter (SIGSYS).
    Seccomp,
    /// A unit it requires failed or went away.
    Dependency,
    /// A step of the start failed.
    Start,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Health {
    /// In boxes: most units have none of them.
    pub startup: Option<Box<Probe>>,
    pub live: Option<Box<Probe>>,
    pub ready: Option<Box<Probe>>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probe {
    pub check: Check,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures in a row that count.
    pub failures: u32,
    /// Successes in a row that count.
    pub successes: u32,
    /// Failures within this long of the start do not count.
    pub start_period: Duration,
    pub action: ProbeAction,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// GET; a status of 200 to 399 passes. Only `http://HOST[:PORT]/PATH`, in the cell's network.
    Http { url: String },
    /// `host:port` that accepts a connection.
    Tcp { address: String },
    /// Run in the cell, behind the same walls; status 0 passes.
    Exec { argv: Vec<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeAction {
    None,
    Restart,
    Stop,
    Kill,
    Degrade,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wasm {
    /// Path on the host, from the unit file's folder; absolute when the file's own path is (`UnitSet::anchored`).
    pub module: String,
    pub world: World,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub dirs: Vec<WasmDir>,
    pub limits: WasmLimits,
    pub http: WasmHttp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Told from the exports.
    Auto,
    Command,
    Http,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WasmDir {
    pub host: String,
    pub guest: String,
    pub writable: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WasmLimits {
    /// Bytes of linear memory in all; 256 MiB, or `memory.max`, unless said otherwise.
    pub memory: u64,
    /// Of the whole run of a command. `None` is no limit.
    pub deadline: Option<Duration>,
    /// Of one HTTP request.
    pub request_timeout: Duration,
    pub fuel: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WasmHttp {
    /// The name of the `[[socket]]` served; `None` is the first.
    pub listen: Option<String>,
    /// Requests in flight at once.
    pub max_concurrent: u32,
    pub max_connections: u32,
    /// Bytes.
    pub max_body: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Log {
    pub stdout: LogTarget,
    pub stderr: LogTarget,
    pub max_size: u64,
    /// Files kept, the current one included.
    pub max_files: u32,
    /// Lines per interval; the rest is counted and dropped.
    pub rate_burst: u32,
    pub rate_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    Log,
    Null,
    /// The supervisor's own stdout or stderr.
    Inherit,
}
