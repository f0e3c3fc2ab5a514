//! The one table of keys, in the order of the reference. To build a key is to write a line here and a line that reads it;
//! `schema_tests` refuses the one without the other.

use super::choice::{Choice, MountType, ReadyBy};
use super::model::{
    CauseKind, Condition, Enforce, Kind, LogTarget, Namespace, NetworkMode, OomPolicy, ProbeAction, Profile, RestartPolicy, SeccompPolicy,
    ServiceType, StopMode, World,
};
use super::schema::{Absent, Key, Table, Type, Words};

const fn key(name: &'static str, ty: Type, default: Absent, doc: &'static str) -> Key {
    Key { name, ty, default, doc }
}

const fn choice<T: Choice>() -> Type {
    Type::Choice(Words::of::<T>())
}

const fn choices<T: Choice>() -> Type {
    Type::Choices(Words::of::<T>())
}

const fn table_of(path: &'static str, doc: &'static str, keys: &'static [Key]) -> Table {
    Table { path, repeated: false, doc, keys }
}

const fn tables_of(path: &'static str, doc: &'static str, keys: &'static [Key]) -> Table {
    Table { path, repeated: true, doc, keys }
}

use Absent::{By, Is, Required, Unset};
use Type::*;

/// Largest count that the kernel files and our own counters take.
const MANY: i64 = i32::MAX as i64;

/// A probe's keys; the three probes differ in what a failure does.
#[rustfmt::skip]
macro_rules! probe {
    ($path:literal, $action:literal, $doc:literal) => {
        table_of(
            $path,
            $doc,
            &[
                key("http", Url, Unset, "GET this address; a status from 200 to 399 passes."),
                key("tcp", HostPort, Unset, "Connect; an accepted connection passes."),
                key("exec", Argv, Unset, "Run this in the cell, behind the same walls; status 0 passes."),
                key("interval", Duration, Is("\"10s\""), "Time between two probes."),
                key("timeout", Duration, Is("\"3s\""), "A probe that takes longer has failed."),
                key("failures", Int(1, MANY), Is("3"), "Failures in a row that count."),
                key("successes", Int(1, MANY), Is("1"), "Successes in a row that count."),
                key("start-period", Duration, Is("\"0\""), "Failures within this long of the start do not count."),
                key("action", choice::<ProbeAction>(), Is($action), "What is done when it counts as failed."),
            ],
        )
    };
}

/// Every table, in the order of the reference.
#[rustfmt::skip]
pub static TABLES: &[Table] = &[
    table_of("", "Before the first table.", &[key("schema", Int(1, 1), Is("1"), "The version of this dictionary.")]),
    table_of("unit", "What it is, and how it stands to others.", &[
        key("name", Name, By("the file's name without `.toml`"), "May be said, but only to repeat the file's name."),
        key("kind", choice::<Kind>(), By("`job` for `type = \"oneshot\"`, `target` without any program, else `service`"), "A service runs on, a job ends, a target only groups: whoever stops it stops nothing that it wants."),
        key("description", Text, Is("\"\""), "One line for people."),
        key("requires", Units, Is("[]"), "Started together with it, in no order: say `after` too, or `depends`, where one must be there first. If one has failed for good by the time this unit starts, this unit fails too; what runs already, runs on. An explicit stop or restart of one takes this unit along, which stops first."),
        key("wants", Units, Is("[]"), "Started together with it; their failure does not matter."),
        key("after", Units, Is("[]"), "Order only: if both start, this one waits until those are ready."),
        key("before", Units, Is("[]"), "Order only, the other way round."),
        key("conflicts", Units, Is("[]"), "Starting this one stops those, and the other way round."),
    ]),
    tables_of("unit.depends", "Requirements with a condition; usually written inline: `depends = [{ unit = \"db\", condition = \"healthy\" }]`.", &[
        key("unit", Unit, Required, "The unit that is required."),
        key("condition", choice::<Condition>(), Is("\"started\""), "What it must have reached: its program runs, it said that it is ready and its `ready` probe passes, all its health probes pass, or it is a job that ended well."),
        key("timeout", Patience, Is("\"infinity\""), "Waiting longer than this for the condition fails the start."),
    ]),
    table_of("install", "Who starts it.", &[key("wanted-by", Units, Is("[\"default\"]"), "Units that want this one as if their `wants` named it. The target `default` is what starts at boot.")]),
    table_of("service", "The native program.", &[
        key("exec", Argv, Unset, "The program and its arguments. No shell: one string is split at blanks by shell quoting rules. A first word without a slash is looked up in the cell's PATH."),
        key("type", choice::<ServiceType>(), By("`exec`; `oneshot` for jobs; `notify` for Wasm services"), "When it counts as ready: at once, when execve succeeded, when it said `READY=1`, when it ended well."),
        key("working-dir", Path, Is("\"/\""), "In the cell."),
        key("umask", Mode, Is("\"0022\""), "File mode creation mask."),
        key("start-timeout", Patience, Is("\"90s\""), "Not ready by then is a failed start."),
        key("success-status", Statuses, Is("[0, \"SIGTERM\", \"SIGINT\", \"SIGHUP\", \"SIGPIPE\"]"), "What counts as a good end. 0 always does."),
    ]),
    table_of("service.ready", "Another rule for readiness than that of `type`.", &[
        key("by", choice::<ReadyBy>(), By("`fd` if `fd` is said, else by `type`"), "`READY=1` on the notify socket (from any process of the cell, as every word of sd_notify(3)), a newline on a descriptor, the first good probe of [health.ready] or [health.startup], or execve."),
        key("fd", Int(3, 1023), Unset, "The descriptor for `by = \"fd\"`."),
    ]),
    table_of("env", "The environment. Nothing is inherited; PATH, HOME and what readiness and sockets need are set.", &[
        key("set", Map, Is("{}"), "Variables. Stronger than `files`."),
        key("files", EnvFiles, Is("[]"), "Files of KEY=VALUE lines on the host, read at every start; `#` and `;` begin comments, values may be quoted. A leading `?` allows one to be missing."),
    ]),
    table_of("user", "Whom the program runs as, inside the cell.", &[
        key("user", Identity, By("an unprivileged user of the cell's own; root in profiles `none` and `host`"), "A name is looked up in the host's passwd file; over a `rootfs.path`, which has users of its own, say the number (or `root`)."),
        key("group", Identity, By("the user's group"), "A name is looked up in the host's group file; over a `rootfs.path`, say the number (or `root`)."),
    ]),
    table_of("stop", "How it is stopped.", &[
        key("signal", Signal, Is("\"SIGTERM\""), "The first request."),
        key("timeout", Patience, Is("\"10s\""), "Whoever is left after this gets SIGKILL."),
        key("mode", choice::<StopMode>(), Is("\"mixed\""), "Who gets the signal: everyone in the cell; the main process, and SIGKILL for everyone left; the main process alone; nobody."),
    ]),
    table_of("restart", "What happens when it ends by itself.", &[
        key("policy", choice::<RestartPolicy>(), Is("\"on-failure\""), "Which ends are followed by a new start. `on-abnormal` is every cause but an exit status; `unless-stopped` is `always` until an operator stops it."),
        key("on", choices::<CauseKind>(), Is("[]"), "Causes that restart it whatever the policy says."),
        key("never-on", choices::<CauseKind>(), Is("[]"), "Causes that never do; stronger than `on` and `policy`."),
        key("delay", Duration, Is("\"100ms\""), "Before the first restart."),
        key("factor", Float(1.0, 100.0), Is("2.0"), "Each further restart waits so many times longer."),
        key("max-delay", Duration, Is("\"30s\""), "But never longer than this."),
        key("jitter", Percent, Is("\"10%\""), "So much of the delay is added or taken at random."),
        key("reset-after", Duration, Is("\"60s\""), "After running well for this long, the delay starts anew."),
        key("attempts", Count(1, MANY, "unlimited"), Is("\"unlimited\""), "Restarts allowed within `window`; one more is a failure for good."),
        key("window", Duration, Is("\"10s\""), "See `attempts`."),
    ]),
    probe!("health.startup", "\"restart\"", "Until this probe passes the unit is starting and the other probes wait."),
    probe!("health.live", "\"restart\"", "Is it alive?"),
    probe!("health.ready", "\"degrade\"", "Is it of use to others? While it fails, units that wait for `healthy` are held back."),
    table_of("watchdog", "A service that must say that it lives.", &[key("timeout", Duration, Unset, "It must send `WATCHDOG=1` at least this often; see sd_notify(3).")]),
    table_of("isolation", "The walls, by profile; each can be set on its own.", &[
        key("profile", choice::<Profile>(), By("`wasm` for Wasm units, else `default`"), "See the table of profiles."),
        key("user", choice::<Namespace>(), By("by profile"), "User and group ids."),
        key("mount", choice::<Namespace>(), By("by profile"), "File systems, and with it the root."),
        key("uts", choice::<Namespace>(), By("by profile"), "The host name."),
        key("ipc", choice::<Namespace>(), By("by profile"), "System V IPC and POSIX message queues."),
        key(
            "pid",
            choice::<Namespace>(),
            By("by profile"),
            "Processes seen. If private, the program is process 1 there: signals from inside the cell do nothing to it unless it handles them, not even `kill -KILL $$`, and abort(3) ends it by another signal than SIGABRT (SIGSEGV on x86-64); pid_namespaces(7).",
        ),
        key("net", choice::<Namespace>(), By("by [network] mode"), "Network; `[network] mode` says the same in more words."),
        key("cgroup", choice::<Namespace>(), By("by profile"), "The cgroup seen as root."),
        key("hostname", Name, By("the unit's name, when `uts` is private"), "The host name inside."),
        key("enforce", choice::<Enforce>(), Is("\"required\""), "`best-effort` leaves out what this host cannot do, and says so; otherwise that is a failed start."),
    ]),
    table_of("rootfs", "The cell's root.", &[
        key("path", Path, By("the host's tree, read-only; empty in profiles `strict` and `wasm`"), "A directory of the host that becomes the root."),
        key("writable", Bool, Is("false"), "May the cell write to the tree of `path`? Its owner appears as the unit's user and everybody else as themselves; for file systems without id-mapped mounts, see [[mount]]."),
    ]),
    tables_of("mount", "More of the host, or memory, in the cell.", &[
        key("target", Path, Required, "Where in the cell. It must be there in the cell's root, unless it lies in memory of the cell's own (`/tmp`, `/run`, a tmpfs): there it is made."),
        key("source", Path, By("`target`, for binds"), "Which path of the host a bind shows."),
        key("type", choice::<MountType>(), Is("\"bind\""), "A part of the host's tree, or an empty file system in memory."),
        key("writable", Bool, By("`false`; for tmpfs `true`"), "May the cell write there? The owner of what is bound appears as the unit's user; on a file system without id-mapped mounts (tmpfs before Linux 6.3) the user must be able to write there as it is."),
        key("exec", Bool, By("`true`; for tmpfs `false`"), "May programs be run from there?"),
        key("recursive", Bool, Is("true"), "A bind takes what is mounted below the source along."),
        key("size", Size, By("`resources.memory.max`, else an eighth of the machine's memory and at most 1GiB"), "Largest size of a tmpfs. `/tmp` and `/var/tmp` have the latter."),
        key("mode", Mode, Is("\"0755\""), "Mode of a tmpfs's root."),
    ]),
    table_of("dirs", "Directories of its own, made and owned for it.", &[
        key("state", Dirs, Is("[]"), "Kept for ever: `/var/lib/NAME` in the cell, and in STATE_DIRECTORY (several are separated by colons). On the host `/var/lib/cellinit/state/state/NAME`, or `state/state/NAME` below the run directory that the supervisor was given."),
        key("runtime", Dirs, Is("[]"), "Gone when it stops: `/run/NAME` in the cell, and in RUNTIME_DIRECTORY."),
    ]),
    table_of("security", "Privileges.", &[key("caps", Capabilities, By("none; docker's 14 in profile `host`, all in profile `none`"), "Capabilities kept. In a private user namespace they hold for what the cell owns.")]),
    table_of("seccomp", "Which system calls the kernel takes from it.", &[
        key("policy", choice::<SeccompPolicy>(), By("by profile"), "No filter; the default list, but what is not on it is only logged; the default list; only `allow`; derived from a Wasm unit's grants."),
        key("allow", Syscalls, Is("[]"), "Added to the list. `@` names systemd's groups. A call that the list allows with some arguments only (`clone`, `personality`, `socket`; `chmod`, `open`, `mkdir` and their kin without set-id modes) is allowed with all when it is named."),
        key("deny", Syscalls, Is("[]"), "Taken away; stronger than `allow`."),
        key("errno", Errno, Is("\"EPERM\""), "What a denied call answers. Calls that nobody knows answer ENOSYS."),
    ]),
    table_of("selinux", "Its label. Saying either makes SELinux a demand.", &[
        key("type", Name, By("the type for cells, where the host has SELinux"), "For example `container_t`."),
        key("level", Text, By("a pair of categories of its own"), "For example `s0:c1,c2`."),
    ]),
    table_of("resources.cpu", "Processors.", &[
        key("max", Cpu, Is("\"max\""), "At most so much: `\"150%\"` or `1.5` is one and a half CPUs."),
        key("weight", Int(1, 10000), By("the kernel's 100"), "Its share when CPUs are short."),
    ]),
    table_of("resources.memory", "Memory.", &[
        key("max", SizeOrMax, By("\"max\"; of a Wasm unit without this table, `wasm.limits.memory` + 64MiB, and + 256KiB for each of `wasm.http.max-concurrent` if it has a [[socket]]"), "Beyond this the kernel kills."),
        key("high", SizeOrMax, Is("\"max\""), "Beyond this it is slowed down and reclaimed from."),
        key("low", SizeOrMax, By("0"), "Below this it is left alone as long as others have memory to give."),
    ]),
    table_of("resources.pids", "Processes.", &[key("max", Count(1, 4_194_304, "max"), By("1024; unlimited in profiles `host` and `none`"), "Processes and threads in the cell.")]),
    table_of("resources.io", "Disks.", &[key("weight", Int(1, 10000), By("the kernel's 100"), "Its share when disks are busy.")]),
    table_of("limits", "setrlimit(2) for its processes: one value for both, or `\"soft:hard\"`; `\"infinity\"` is none.", &[
        key("cpu-time", Limit, Unset, "RLIMIT_CPU, seconds or a duration."),
        key("file-size", Limit, Unset, "RLIMIT_FSIZE, bytes or a size."),
        key("data", Limit, Unset, "RLIMIT_DATA, bytes or a size."),
        key("stack", Limit, Unset, "RLIMIT_STACK, bytes or a size."),
        key("core", Limit, Unset, "RLIMIT_CORE, bytes or a size."),
        key("rss", Limit, Unset, "RLIMIT_RSS, bytes or a size; without effect on Linux."),
        key("nofile", Limit, By("`\"1024:524288\"`; what the supervisor was given in profile `none`"), "RLIMIT_NOFILE, descriptors."),
        key("address-space", Limit, Unset, "RLIMIT_AS, bytes or a size. Not for Wasm units: the host reserves far more than it uses."),
        key("nproc", Limit, Unset, "RLIMIT_NPROC; `resources.pids.max` is what you want."),
        key("memlock", Limit, Unset, "RLIMIT_MEMLOCK, bytes or a size."),
        key("locks", Limit, Unset, "RLIMIT_LOCKS."),
        key("sigpending", Limit, Unset, "RLIMIT_SIGPENDING."),
        key("msgqueue", Limit, Unset, "RLIMIT_MSGQUEUE, bytes or a size."),
        key("nice", Limit, Unset, "RLIMIT_NICE, 0 to 40."),
        key("rtprio", Limit, Unset, "RLIMIT_RTPRIO, 0 to 99."),
        key("rttime", Limit, Unset, "RLIMIT_RTTIME, microseconds or a duration."),
    ]),
    table_of("oom", "When memory runs out.", &[
        key("score", Int(-1000, 1000), Is("0"), "oom_score_adj; see proc(5)."),
        key("policy", choice::<OomPolicy>(), By("`continue` in profile `none`, else `kill-cell`"), "After a kill for memory: go on if the main process lives, stop in order, or everyone in the cell dies together. On cgroup v2 memory is counted if any unit has another profile than `none`, a limit on memory, another policy than `continue`, or \"oom\" in [restart]; where it is not, a kill for memory looks like any other SIGKILL. On cgroup v1 only a unit with a memory limit is watched."),
    ]),
    table_of("network", "Which network it sees.", &[key("mode", choice::<NetworkMode>(), By("`none`; `host` in profiles `host` and `none`"), "`none` is loopback only: a server is reached through its [[socket]].")]),
    tables_of("socket", "Sockets that cellinit opens and hands over (LISTEN_FDS; Wasm servers get their requests from it).", &[
        key("listen", Listen, Required, "`tcp://ADDRESS:PORT` or `unix:/path`, on the host; folders on the way to the path are made. It stays open over restarts, and is closed when the unit is stopped or has failed: its clients are refused then."),
        key("name", Name, Is("\"socket\""), "LISTEN_FDNAMES. Two sockets need two names."),
        key("backlog", Int(1, 65535), Is("4096"), "Connections waiting to be accepted."),
        key("mode", Mode, Is("\"0666\""), "Mode of a unix socket."),
    ]),
    table_of("wasm", "The WebAssembly guest, in place of a native program. It sees only what is granted here.", &[
        key("module", File, Required, "A core module or a component, on the host; a relative path is from the unit file's folder. Compiled ahead of time and cached."),
        key("world", choice::<World>(), Is("\"auto\""), "A command that runs to its end, or a server of HTTP requests; told from its exports."),
        key("args", Texts, Is("[]"), "Arguments after its name."),
    ]),
    table_of("wasm.env", "Nothing of the host's environment is passed on.", &[key("set", Map, Is("{}"), "Environment variables of the guest.")]),
    tables_of("wasm.dir", "A directory that the guest may use.", &[
        key("host", Path, Required, "On the host."),
        key("guest", Text, By("`host`"), "How the guest calls it."),
        key("writable", Bool, Is("false"), "May it write there?"),
    ]),
    table_of("wasm.limits", "What it may use; each limit has a cause of its own in `cell why`.", &[
        key("memory", Size, By("`resources.memory.max`, else 256MiB"), "Linear memory in all; growth beyond it is refused. What the host holds for the guest comes on top, and `resources.memory.max` bounds both."),
        key("deadline", Patience, Is("\"infinity\""), "Of the whole run."),
        key("request-timeout", Duration, Is("\"30s\""), "Of one HTTP request. A server whose file operations have all been stuck for 5 s longer ends with status 197."),
        key("fuel", Int(1, i64::MAX), Unset, "Instructions, roughly; then it traps."),
    ]),
    table_of("wasm.http", "For servers of HTTP requests.", &[
        key("listen", Name, By("the first [[socket]]"), "The name of the [[socket]] that is served."),
        key("max-concurrent", Int(1, MANY), Is("1024"), "Requests in flight at once."),
        key("max-connections", Int(1, MANY), Is("4096"), "Connections at once, as far as `limits.nofile` goes. When there are as many, the one that has been idle or in its head for longest gives way to a new one."),
        key("max-body", Size, Is("\"10MiB\""), "Largest request body."),
    ]),
    table_of("log", "Where its output goes.", &[
        key("stdout", choice::<LogTarget>(), Is("\"log\""), "The unit's log, nowhere, or the supervisor's own output."),
        key("stderr", choice::<LogTarget>(), Is("\"log\""), "The same."),
        key("max-size", Size, Is("\"16MiB\""), "A file that has grown to this is rotated."),
        key("max-files", Int(1, 1000), Is("8"), "Files kept, the current one included."),
    ]),
    table_of("log.rate", "A service that floods loses lines, not the host its disk.", &[
        key("burst", Int(1, MANY), Is("10000"), "Lines per interval; further ones are counted and dropped."),
        key("interval", Duration, Is("\"30s\""), "See `burst`."),
    ]),
];
