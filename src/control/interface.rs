//! The interface in Varlink's own language, for clients that ask what can be said here.

pub const INTERFACE: &str = "org.cellinit";
pub const VARLINK_INTERFACE: &str = "org.varlink.service";

/// <https://varlink.org/Interface-Definition>. `docs/control.md` explains it; a test keeps the two and the types together.
pub const DESCRIPTION: &str = "\
# The supervisor of one run directory.
interface org.cellinit

type Cause (kind: string, text: string)

type Waiting (unit: string, condition: (started, ready, healthy, completed, settled, stopped))

# `pid` is a number of the supervisor's pid namespace. `probes` and `walls` are in the answer to Status only.
type Unit (
  name: string,
  description: string,
  kind: (service, job, target),
  state: (stopped, waiting, starting, running, stopping, backoff, failed, completed),
  desired: (up, down),
  health: (none, starting, healthy, degraded, unhealthy),
  ready: bool,
  pid: ?int,
  restarts: int,
  since: string,
  cause: ?Cause,
  cgroup: ?string,
  memory: ?int,
  status_text: ?string,
  waiting_for: []Waiting,
  probes: ?object,
  walls: ?object
)

type Event (
  sequence: int,
  time: string,
  unit: string,
  state: string,
  health: string,
  ready: bool,
  pid: ?int,
  restarts: int,
  text: string
)

type Link (depth: int, unit: string, text: string)

type UnitFile (path: string, inode: int, size: int, modified: int)

method Ping() -> ()

method GetInfo() -> (
  version: string,
  pid: int,
  init: bool,
  run_dir: string,
  units: []string,
  since: string,
  state: (running, stopping)
)

# The unit files as they were when they were read: who looks at them knows whether they have changed.
method Files() -> (paths: []string, files: []UnitFile)

# Every unit, by name.
method List() -> (units: []Unit)

# One unit, with its walls as the kernel shows them.
method Status(unit: string) -> (unit: Unit)

# These answer as soon as the wish is taken down; Events tell what becomes of it.
method Start(unit: string) -> ()
method Stop(unit: string) -> ()
method Restart(unit: string) -> ()

# The last `backlog` events at once, and with `more` each later one as it happens.
method Events(unit: ?string, backlog: ?int) -> (events: []Event)

# What a start would do now: as an operator reads it, and as data.
method Plan(unit: string) -> (text: string, plan: object)

# From the unit asked about down to the root of the matter.
method Why(unit: string) -> (links: []Link)

# Every unit is stopped in order first.
method Poweroff() -> ()
method Reboot() -> ()
method Halt() -> ()

error NoSuchUnit (unit: string, nearest: ?string)
error NotAllowed (uid: int)
error NoPlan (unit: string, reason: string)
error BadRequest (reason: string)
error TooLarge (limit: int)
error ShuttingDown ()
error Busy (limit: int)
";

/// What every Varlink service says of itself.
pub const VARLINK_DESCRIPTION: &str = "\
# The Varlink service itself.
interface org.varlink.service

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)

method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error InvalidParameter (parameter: string)
";
