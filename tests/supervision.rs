//! The supervisor with real cells on this host's kernel: restarts, health, dependencies, sockets, notify, hostile payloads.

#[path = "support/supervisor.rs"]
mod supervisor;

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use nix::unistd::Pid;
use serde_json::json;
use supervisor::{Supervisor, is_alive};

const ROLE: &str = "CELLINIT_TEST_ROLE";

/// Not a test of its own: this program is also the payload of some units.
#[test]
fn payload() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let notify = |text: &[u8]| {
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(text, std::env::var("NOTIFY_SOCKET").unwrap()).unwrap();
    };
    match role.as_str() {
        "serve" => {
            // SAFETY: descriptor 3 is the listener that was handed over; nobody else here knows of it.
            let listener = unsafe { UnixListener::from_raw_fd(3) };
            let names = (std::env::var("LISTEN_FDS"), std::env::var("LISTEN_FDNAMES"), std::env::var("LISTEN_PID"));
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                write!(stream, "{names:?} {}", std::process::id()).unwrap();
            }
        }
        "notify" => {
            for garbage in [&b""[..], b"\0", b"READY", b"\xff=\xff", &[b'x'; 9000], b"MAINPID=99999", b"READY=0"] {
                notify(garbage);
            }
            sleep(Duration::from_millis(300));
            notify(b"STATUS=warming up");
            sleep(Duration::from_millis(300));
            notify(b"READY=1\nSTATUS=serving");
        }
        "flood" => {
            notify(b"READY=1");
            let socket = UnixDatagram::unbound().unwrap();
            socket.connect(std::env::var("NOTIFY_SOCKET").unwrap()).unwrap();
            loop {
                socket.send(b"WATCHDOG=1\nSTATUS=flood").ok();
                socket.send(b"").ok();
            }
        }
        "nonblock" => {
            use nix::fcntl::{FcntlArg, OFlag, fcntl};
            let out = std::io::stdout();
            println!("flags before: {}", fcntl(&out, FcntlArg::F_GETFL).unwrap());
            fcntl(&out, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
            std::process::exit(0);
        }
        "mains" => {
            #[expect(clippy::zombie_processes, reason = "it lives as long as the cell")]
            let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
            for _ in 0..2000 {
                for pid in [child.id(), std::process::id()] {
                    notify(format!("MAINPID={pid}\n").repeat(200).as_bytes());
                }
            }
            notify(b"READY=1\nSTATUS=both said");
        }
        "heir" => {
            #[expect(clippy::zombie_processes, reason = "its death is the cell's")]
            let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
            notify(format!("MAINPID={}\nREADY=1\nSTATUS=an heir is named", child.id()).as_bytes());
        }
        "reload" => {
            notify(b"READY=1\nSTATUS=serving");
            notify(b"RELOADING=1");
            notify(b"READY=1");
        }
        // Its listener becomes a connection, on which all that was sent is still on its way when it is closed.
        "linger" => {
            // SAFETY: descriptor 3 is the listener that was handed over; nobody else here knows of it.
            let stream = unsafe { TcpStream::from_raw_fd(3) };
            stream.shutdown(Shutdown::Read).unwrap();
            let peer = SockaddrStorage::from(std::env::var("PEER").unwrap().parse::<SocketAddr>().unwrap());
            nix::sys::socket::connect(3, &peer).unwrap();
            fill(&stream);
            println!("full");
            loop {
                sleep(Duration::from_secs(1000));
            }
        }
        // The only descriptor of such a connection is on its way to the supervisor, and another one is there when this ends.
        "smuggle" => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let smuggle = || {
                let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                fill(&stream);
                let socket = UnixDatagram::unbound().unwrap();
                socket.connect(std::env::var("NOTIFY_SOCKET").unwrap()).unwrap();
                let (words, descriptors) = ([IoSlice::new(b"STATUS=smuggled")], [stream.as_raw_fd()]);
                sendmsg::<()>(socket.as_raw_fd(), &words, &[ControlMessage::ScmRights(&descriptors)], MsgFlags::empty(), None).unwrap();
            };
            notify(b"READY=1");
            smuggle();
            notify(b"STATUS=heard");
            smuggle();
            smuggle();
            notify(b"STATUS=heard again");
            while !Path::new("/run/go/end").exists() {
                sleep(Duration::from_millis(10));
            }
            smuggle();
            std::process::exit(0);
        }
        "blame" => {
            notify(b"READY=1");
            notify(b"X_CELLINIT_CAUSE=world");
            std::process::exit(3);
        }
        "watchdog" => {
            notify(b"READY=1");
            for _ in 0..5 {
                sleep(Duration::from_millis(100));
                notify(b"WATCHDOG=1");
            }
        }
        other => panic!("{other}"),
    }
    loop {
        sleep(Duration::from_secs(1000));
    }
}

/// So much that close(2) would wait.
fn fill(stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    while (&mut &*stream).write(&[0; 65536]).is_ok() {}
    stream.set_nonblocking(false).unwrap();
    setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 120 }).unwrap();
}

/// A unit whose payload is [`payload`] in a role.
fn acting(role: &str, service: &str, rest: &str) -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "[service]\nexec = [\"/run/act\", \"--exact\", \"payload\", \"--nocapture\", \"--test-threads=1\"]\n{service}\n\
         [env]\nset = {{ {ROLE} = \"{role}\" }}\n\
         [[mount]]\nsource = {program:?}\ntarget = \"/run/act\"\nexec = true\n{rest}"
    )
}

fn shell(script: &str, rest: &str) -> String {
    format!("[service]\nexec = [\"/bin/sh\", \"-c\", {script:?}]\n{rest}")
}

#[test]
fn a_flaky_unit_is_restarted_with_growing_delay_and_then_given_up() {
    let text = shell("exit 3", "[restart]\ndelay = \"100ms\"\nfactor = 3.0\njitter = \"0%\"\nattempts = 3\nwindow = \"60s\"");
    let supervisor = Supervisor::start(&[("flaky", &text)]);
    let unit = supervisor.wait_state("flaky", "failed");
    assert_eq!(unit["restarts"], 3, "{unit}");
    assert_eq!(unit["pid"], json!(null));
    let why = supervisor.call("Why", json!({ "unit": "flaky" })).to_string();
    assert!(why.contains("exit status 3"), "{why}");
    // 100, 300 and 900 ms between a death and the next start.
    let times = |state: &str| -> Vec<f64> {
        let events = supervisor.events("flaky");
        events.iter().filter(|e| e["state"] == state).map(|e| seconds(e["time"].as_str().unwrap())).collect()
    };
    let pauses: Vec<f64> = times("backoff").iter().zip(times("starting").iter().skip(1)).map(|(died, started)| started - died).collect();
    assert_eq!(pauses.len(), 3);
    for (pause, least) in pauses.iter().zip([0.1, 0.3, 0.9]) {
        assert!(*pause >= least * 0.99 && *pause < least + 0.5, "{pauses:?}");
    }
    supervisor.stop();
}

/// Seconds of the day; no test runs over midnight.
fn seconds(time: &str) -> f64 {
    let clock = time.split(['T', 'Z']).nth(1).unwrap();
    clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

#[test]
fn a_killed_service_is_back_at_once() {
    let supervisor = Supervisor::start(&[("victim", &shell("exec sleep 1000", ""))]);
    let pid = supervisor.wait_state("victim", "running")["pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    let unit = supervisor.wait("victim", "back", |unit| unit["state"] == "running" && unit["pid"] != pid);
    assert_eq!(unit["restarts"], 1);
    assert_eq!(unit["cause"]["kind"], "signal", "{unit}");
    supervisor.stop();
}

#[test]
fn dependents_wait_until_a_unit_is_healthy() {
    let script = "mkdir /tmp/www; (sleep 1; echo ok > /tmp/www/ok) & exec busybox httpd -f -p 127.0.0.1:8080 -h /tmp/www";
    let web = shell(script, "[health.ready]\nhttp = \"http://127.0.0.1:8080/ok\"\ninterval = \"200ms\"");
    let user = format!("[unit]\ndepends = [{{ unit = \"web\", condition = \"healthy\" }}]\n{}", shell("exec sleep 1000", ""));
    let supervisor = Supervisor::start(&[("web", &web), ("user", &user)]);
    let waiting = supervisor.wait("user", "waits", |unit| unit["waiting_for"][0]["unit"] == "web");
    assert_eq!(waiting["state"], "waiting");
    assert_eq!(waiting["waiting_for"][0]["condition"], "healthy");
    supervisor.wait_state("user", "running");
    let web = supervisor.unit("web");
    assert_eq!((&web["health"], &web["ready"]), (&json!("healthy"), &json!(true)), "{web}");
    assert_eq!(web["walls"]["no_new_privs"], true);
    supervisor.stop();
}

#[test]
fn a_failing_ready_probe_holds_back_and_a_hung_one_times_out() {
    let closed = shell("exec sleep 1000", "[health.ready]\ntcp = \"127.0.0.1:1\"\ninterval = \"100ms\"");
    let hung = shell(
        "exec sleep 1000",
        "[health.live]\nexec = [\"sleep\", \"500\"]\ninterval = \"100ms\"\ntimeout = \"300ms\"\nfailures = 1\n[restart]\ndelay = \"50ms\"",
    );
    let user = format!("[unit]\ndepends = [{{ unit = \"closed\", condition = \"healthy\" }}]\n{}", shell("exec sleep 1000", ""));
    let supervisor = Supervisor::start(&[("closed", &closed), ("hung", &hung), ("user", &user)]);
    let hung = supervisor.wait("hung", "restarted", |unit| unit["restarts"].as_i64() >= Some(2));
    assert_eq!(hung["cause"]["kind"], "health", "{hung}");
    assert!(hung["cause"]["text"].as_str().unwrap().contains("no answer within 300ms"), "{hung}");
    let closed = supervisor.unit("closed");
    assert!(closed["probes"]["ready"].as_str().unwrap().contains("refused"), "{closed}");
    assert_eq!(supervisor.unit("user")["state"], "waiting");
    supervisor.stop();
}

#[test]
fn what_a_probe_said_goes_with_the_process_that_it_said_it_of() {
    let probed =
        |exec: &str, rest: &str| shell("exec sleep 1000", &format!("[health.live]\nexec = [{exec:?}]\ninterval = \"100ms\"\n{rest}"));
    let sick = probed("false", "failures = 1\naction = \"stop\"\n[restart]\npolicy = \"no\"");
    let supervisor = Supervisor::start(&[("well", &probed("true", "")), ("sick", &sick)]);
    let well = supervisor.wait("well", "passed", |unit| unit["health"] == "healthy");
    assert_eq!(well["probes"]["live"], "passed", "{well}");
    supervisor.call("Stop", json!({ "unit": "well" }));
    let well = supervisor.wait_state("well", "stopped");
    assert_eq!((&well["health"], well.get("probes")), (&json!("none"), None), "{well}");
    let sick = supervisor.wait("sick", "has ended", |unit| unit["pid"].is_null() && unit["cause"]["kind"] == "health");
    assert_eq!((&sick["health"], sick.get("probes")), (&json!("none"), None), "{sick}");
    assert!(sick["cause"]["text"].as_str().unwrap().contains("live"), "{sick}");
    let why = supervisor.call("Why", json!({ "unit": "sick" }))["parameters"]["links"].to_string();
    assert!(why.contains("live"), "{why}");
    supervisor.stop();
}

#[test]
fn why_says_which_probe_fails() {
    let probe =
        |kind, rest: &str| shell("exec sleep 1000", &format!("[health.{kind}]\ntcp = \"127.0.0.1:1\"\ninterval = \"100ms\"\n{rest}"));
    let user = format!("[unit]\ndepends = [{{ unit = \"closed\", condition = \"healthy\" }}]\n{}", shell("exec sleep 1000", ""));
    let units = [
        ("closed", probe("ready", "failures = 2")),
        ("degraded", probe("live", "failures = 1\naction = \"degrade\"")),
        ("patient", probe("live", "failures = 1000")),
        // Good the first time only: the directory is there then.
        ("waning", shell("exec sleep 1000", "[health.live]\nexec = [\"mkdir\", \"/tmp/once\"]\ninterval = \"100ms\"\nfailures = 1000")),
        ("user", user),
    ];
    let units: Vec<(&str, &str)> = units.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let supervisor = Supervisor::start(&units);
    supervisor.wait("closed", "fails", |unit| unit["health"] == "degraded");
    supervisor.wait("degraded", "fails", |unit| unit["health"] == "degraded");
    supervisor.wait("patient", "was asked", |unit| unit["probes"]["live"].is_string());
    supervisor.wait("waning", "fails", |unit| unit["probes"]["live"].as_str().is_some_and(|said| said.contains("exists")));
    let why = |unit: &str| supervisor.call("Why", json!({ "unit": unit }))["parameters"]["links"].to_string();
    for (unit, words) in [
        ("user", &["health.ready has failed", "times in a row, for", "refused"][..]),
        ("degraded", &["health.live has failed", "refused"]),
        ("patient", &["health.live has not passed yet, for", "refused"]),
        ("waning", &["health.live has failed", "File exists"]),
    ] {
        let text = why(unit);
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    supervisor.stop();
}

#[test]
fn an_exec_probe_runs_behind_the_walls_of_its_cell() {
    let script = "sleep 0.5; echo yes > /tmp/flag; exec sleep 1000";
    let probe = "[ \"$(id -u)\" = 61184 ] && [ \"$(hostname)\" = inside ] && [ -e /tmp/flag ] && [ -d /proc/1 ] && ! [ -e /home/* ]";
    let text = shell(
        script,
        &format!("[health.ready]\nexec = [\"/bin/sh\", \"-c\", {probe:?}]\ninterval = \"100ms\"\n[resources]\npids = {{ max = 40 }}"),
    );
    let supervisor = Supervisor::start(&[("inside", &text)]);
    supervisor.wait("inside", "healthy", |unit| unit["health"] == "healthy");
    supervisor.stop();
}

/// What a probe leaves behind would fill the cell's limit of processes; what it says is what an operator needs.
#[test]
fn a_probe_takes_along_what_it_started_and_its_last_words_are_told() {
    // The cell's first process is one that collects its orphans.
    let left = "(setsid sh -c 'sleep 347; true' &) ; sleep 347 & ";
    let probe = |script: &str, name: &str| {
        format!(
            "[health.{name}]\nexec = [\"/bin/sh\", \"-c\", {script:?}]\ninterval = \"50ms\"\ntimeout = \"500ms\"\naction = \"degrade\"\n"
        )
    };
    let hung = probe(&format!("{left} echo waiting for nobody; sleep 347; true"), "live");
    let flood =
        probe(&format!("{left} echo >> /run/go/rounds; head -c 400000 /dev/zero; echo; echo 'no\tdisk' >&2; echo; exit 7"), "ready");
    let supervisor = Supervisor::start(&[(
        "asked",
        &shell("sleep 1000; true", &format!("{hung}{flood}[dirs]\nruntime = \"go\"\n[resources]\npids = {{ max = 40 }}")),
    )]);
    let says = |unit: &serde_json::Value, probe: &str, words: &str| unit["probes"][probe].as_str().is_some_and(|said| said.contains(words));
    let last = supervisor.wait("asked", "has been asked", |unit| says(unit, "live", "500ms") && says(unit, "ready", "exit status"));
    assert!(says(&last, "live", "no answer within 500ms: waiting for nobody"), "{last}");
    assert!(says(&last, "ready", "exit status 7: nodisk"), "{last}");
    if fs::read_to_string("/proc/mounts").unwrap().contains(" cgroup2 ") {
        // As many rounds as would leave more processes than the cell may have.
        let cell = PathBuf::from(last["cgroup"].as_str().unwrap());
        let rounds = || find(&supervisor.run_dir(), "rounds").and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        supervisor.until("twenty rounds", || {
            let nodes = ["", "probe-live", "probe-ready"].map(|node| fs::read_to_string(cell.join(node).join("cgroup.procs")));
            let everyone: usize = nodes.iter().flatten().map(|procs| procs.lines().count()).sum();
            assert!(everyone <= 20, "{everyone} processes");
            rounds().lines().count() >= 20
        });
    }
    supervisor.stop();
}

#[test]
fn hostile_children_do_not_survive_a_stop() {
    // They ignore SIGTERM, leave the session, fork twice, and one forks on and on.
    let script = "trap '' TERM; \
        (setsid sh -c \"trap '' TERM HUP INT; (sh -c 'trap : TERM; while :; do sleep 0.1; done' &) ; while :; do sleep 0.1; done\" &) ; \
        (while :; do (sleep 0.2 &) ; sleep 0.05; done &) ; while :; do sleep 1; done";
    for profile in ["default", "none"] {
        let text =
            shell(script, &format!("[isolation]\nprofile = {profile:?}\n[stop]\ntimeout = \"500ms\"\n[resources]\npids = {{ max = 100 }}"));
        let supervisor = Supervisor::start(&[("hostile", &text)]);
        let unit = supervisor.wait_state("hostile", "running");
        let procs = format!("{}/cgroup.procs", unit["cgroup"].as_str().unwrap());
        supervisor.until("the children", || fs::read_to_string(&procs).is_ok_and(|text| text.lines().count() >= 5));
        let pids: Vec<i32> = fs::read_to_string(&procs).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        supervisor.call("Stop", json!({ "unit": "hostile" }));
        supervisor.wait_state("hostile", "stopped");
        assert!(!fs::exists(&procs).unwrap());
        assert!(!pids.iter().any(|pid| is_alive(*pid)), "{profile}: someone of {pids:?} lives");
        supervisor.stop();
    }
}

#[test]
fn environment_directories_and_limits() {
    let script = "echo \"$A $B $C$NOTIFY_SOCKET $HOME\"; echo \"$STATE_DIRECTORY $RUNTIME_DIRECTORY\"; echo kept > $STATE_DIRECTORY/f; echo x > $RUNTIME_DIRECTORY/f; exec sleep 1000";
    let rest = "[env]\nset = { A = \"1\", B = \"2\" }\nfiles = [\"@DIR@/env\", \"?@DIR@/none\"]\n\
        [dirs]\nstate = \"keep\"\nruntime = \"go\"\n[resources]\npids = { max = 33 }\n\
        [health.live]\nexec = [\"sh\", \"-c\", 'echo \"$A $B $C $NOTIFY_SOCKET\" > /run/go/probe']\ninterval = \"100ms\"";
    let late = shell(script, rest);
    let late = format!("[unit]\nwanted-by = []\n{late}").replace("[unit]\nwanted-by = []", "[install]\nwanted-by = []");
    let supervisor = Supervisor::start(&[("late", &late)]);
    fs::write(supervisor.files().join("env"), "# c\nB=from file\nC='three'\nHOME=/home\nSTATE_DIRECTORY=/wrong\nNOTIFY_SOCKET=/wrong\n")
        .unwrap();
    supervisor.call("Start", json!({ "unit": "late" }));
    let unit = supervisor.wait_state("late", "running");
    supervisor.until("the log", || supervisor.log("late").contains("/var/lib/keep /run/go"));
    assert!(supervisor.log("late").contains("out 1 2 three /home"), "{}", supervisor.log("late"));
    let limits = unit["walls"]["limits"].to_string();
    assert!(limits.contains("\"33\""), "{limits}");
    let runtime = |supervisor: &Supervisor| find(&supervisor.run_dir(), "go");
    assert!(runtime(&supervisor).is_some());
    supervisor.until("a probe with the same variables", || {
        let probe = find(&supervisor.run_dir(), "probe").and_then(|path| fs::read_to_string(path).ok());
        probe.is_some_and(|text| text == "1 2 three \n")
    });
    supervisor.call("Stop", json!({ "unit": "late" }));
    supervisor.wait_state("late", "stopped");
    assert_eq!(runtime(&supervisor), None);
    let state = find(&supervisor.run_dir().join("state"), "f").expect("the state stays");
    assert_eq!(fs::read_to_string(state).unwrap(), "kept\n");
    supervisor.stop();
}

#[test]
fn a_wall_that_is_left_out_is_told_at_each_start() {
    // No kernel has so many descriptors.
    let rest = "[isolation]\nenforce = \"best-effort\"\n[limits]\nnofile = \"1024:4000000000\"";
    let supervisor = Supervisor::start(&[("bare", &shell("exec sleep 1000", rest))]);
    let told = |times: usize| {
        supervisor.wait_state("bare", "running");
        supervisor
            .until("the note", || supervisor.log("bare").matches("starts without limits.nofile: 4000000000 is above").count() == times);
    };
    told(1);
    supervisor.call("Restart", json!({ "unit": "bare" }));
    told(2);
    assert!(supervisor.console().contains("bare: starts without limits.nofile"), "{}", supervisor.console());
    supervisor.stop();
}

#[test]
fn a_start_that_this_host_cannot_make_says_why_in_one_line() {
    let rest = "[restart]\npolicy = \"no\"\n[limits]\nnofile = \"1024:4000000000\"";
    let supervisor = Supervisor::start(&[("high", &shell("exec sleep 1000", rest))]);
    let unit = supervisor.wait_state("high", "failed");
    let cause = unit["cause"]["text"].as_str().unwrap();
    assert!(cause.starts_with("could not start: limits.nofile: 4000000000 is above this host's"), "{cause}");
    assert!(cause.contains("; take the key out, or say") && !cause.contains('\n'), "{cause}");
    supervisor.stop();
}

fn find(below: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    let entries = fs::read_dir(below).ok()?.flatten();
    entries.map(|entry| entry.path()).find_map(|path| {
        if path.file_name().is_some_and(|found| found == name) {
            Some(path)
        } else if path.is_symlink() {
            None
        } else {
            find(&path, name)
        }
    })
}

/// What waits for somebody who never comes keeps its own unit waiting, and nobody else.
#[test]
fn fifos_in_place_of_files() {
    let late =
        |rest: &str, script: &str| format!("[install]\nwanted-by = []\n{}", shell(script, &format!("[restart]\npolicy = \"no\"\n{rest}")));
    let environment = late("[env]\nfiles = [\"@DIR@/fifo\"]", "exit 0");
    let optional = late("[env]\nfiles = [\"?@DIR@/fifo\"]", "exit 0");
    let bound = late(
        "[[mount]]\nsource = \"@DIR@/fifo\"\ntarget = \"/run/fifo\"\nwritable = true",
        "[ -p /run/fifo ] && echo it is one; exec sleep 1000",
    );
    let socket = late("[[socket]]\nlisten = \"unix:@DIR@/fifo\"", "exec sleep 1000");
    let units = [("environment", &*environment), ("optional", &*optional), ("bound", &*bound), ("socket", &*socket)];
    let supervisor = Supervisor::start(&units);
    nix::unistd::mkfifo(&supervisor.files().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (unit, reason) in [("environment", "not a regular file"), ("optional", "not a regular file"), ("socket", "Address already in use")]
    {
        supervisor.call("Start", json!({ "unit": unit }));
        let failed = supervisor.wait_state(unit, "failed");
        let text = failed["cause"]["text"].as_str().unwrap();
        assert!(text.contains(reason) && text.contains("/fifo"), "{failed}");
    }
    supervisor.call("Start", json!({ "unit": "bound" }));
    supervisor.wait_state("bound", "running");
    supervisor.until("the log", || supervisor.log("bound").contains("it is one"));
    supervisor.stop();
}

#[test]
fn listeners_keep_their_order_and_files_go_with_the_supervisor() {
    let doors = tempfile::tempdir_in("/run").unwrap();
    let second = doors.path().join("deep/second");
    let text = shell(
        "echo \"$LISTEN_FDNAMES\"; exec sleep 1000",
        &format!(
            "[env]\nfiles = [\"?@DIR@/none\"]\n\
             [[socket]]\nlisten = \"tcp://127.37.0.1:18437\"\nname = \"first\"\n\
             [[socket]]\nlisten = \"unix:{}\"\nname = \"second\"\n\
             [[socket]]\nlisten = \"tcp://127.37.0.1:18438\"\nname = \"third\"",
            second.display()
        ),
    );
    let supervisor = Supervisor::start(&[("server", &text)]);
    supervisor.wait_state("server", "running");
    supervisor.until("the log", || supervisor.log("server").contains("first:second:third"));
    assert!(second.exists());
    supervisor.stop();
    assert!(!second.exists());
}

/// A file system whose server is gone: nobody ever reads from /dev/fuse. Whoever looks there waits.
struct DeadMount {
    path: PathBuf,
    _server: fs::File,
}

impl DeadMount {
    /// `None` on a host without FUSE.
    fn at(path: &Path) -> Option<DeadMount> {
        use std::os::fd::AsRawFd;
        fs::create_dir_all(path).unwrap();
        let server = fs::File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let mounted = nix::mount::mount(Some("dead"), path, Some("fuse"), nix::mount::MsFlags::empty(), Some(options.as_str()));
        mounted.ok().map(|()| DeadMount { path: path.to_owned(), _server: server })
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        nix::mount::umount2(&self.path, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_dead_mount_fails_the_starts_that_need_it_and_holds_up_nothing_else() {
    let late = |script: &str, service: &str, rest: &str| {
        let rest = format!("{service}\n[restart]\npolicy = \"no\"\n[install]\nwanted-by = []\n{rest}");
        shell(script, &rest)
    };
    let soon = "start-timeout = \"2s\"";
    let environment = late("exit 0", soon, "[env]\nfiles = [\"@DIR@/dead/env\"]");
    let bound = late("exit 0", soon, "[[mount]]\nsource = \"@DIR@/dead/x\"\ntarget = \"/run/x\"\nwritable = true");
    let socket = late("exit 0", soon, "[[socket]]\nlisten = \"unix:@DIR@/dead/door\"");
    let state = late("exit 0", soon, "[dirs]\nstate = \"mine\"");
    let patient = late("exit 0", "", "[env]\nfiles = [\"@DIR@/dead/env\"]");
    let calm = late("exec sleep 1000", "", "");
    let units = [
        ("environment", &*environment),
        ("bound", &*bound),
        ("socket", &*socket),
        ("state", &*state),
        ("patient", &*patient),
        ("calm", &*calm),
    ];
    let supervisor = Supervisor::start(&units);
    let Some(dead) = DeadMount::at(&supervisor.files().join("dead")) else {
        return supervisor.stop();
    };
    // A tree that is still to be given to its unit.
    let tree = DeadMount::at(&supervisor.run_dir().join("state/state/mine/dead"));
    for (unit, _) in units {
        supervisor.call("Start", json!({ "unit": unit }));
    }
    supervisor.wait_state("calm", "running");
    assert_eq!(supervisor.unit("patient")["state"], "starting");
    for (unit, path) in [("environment", "dead/env"), ("bound", "dead/x"), ("socket", "dead/door"), ("state", "state/mine")] {
        let failed = supervisor.wait_state(unit, "failed");
        let text = failed["cause"]["text"].as_str().unwrap();
        assert!(text.contains(path) && text.contains("no answer within 1s"), "{failed}");
    }
    // A stop does not wait either.
    supervisor.call("Stop", json!({ "unit": "patient" }));
    supervisor.wait_state("patient", "stopped");
    drop((dead, tree));
    supervisor.stop();
}

/// A socket that was bound for a start which comes to nothing: stopped while it waits, or failed by what it waits for.
#[test]
fn a_start_that_comes_to_nothing_leaves_no_socket() {
    let late = |name: &str, service: &str| {
        let mount = "[[mount]]\nsource = \"@DIR@/dead/x\"\ntarget = \"/run/x\"\nwritable = true";
        let socket = format!("[[socket]]\nlisten = \"unix:@DIR@/{name}\"\n{mount}");
        shell("exit 0", &format!("{service}\n[restart]\npolicy = \"no\"\n[install]\nwanted-by = []\n{socket}"))
    };
    let (stopped, failed) = (late("stopped.sock", ""), late("failed.sock", "start-timeout = \"2s\""));
    let supervisor = Supervisor::start(&[("stopped", &stopped), ("failed", &failed)]);
    let Some(dead) = DeadMount::at(&supervisor.files().join("dead")) else {
        return supervisor.stop();
    };
    for state in ["stopped", "failed"] {
        let socket = supervisor.files().join(format!("{state}.sock"));
        supervisor.call("Start", json!({ "unit": state }));
        supervisor.until("the socket", || socket.exists());
        if state == "stopped" {
            supervisor.call("Stop", json!({ "unit": state }));
        }
        supervisor.wait_state(state, state);
        supervisor.until("the socket to go", || !socket.exists());
    }
    drop(dead);
    supervisor.stop();
}

#[test]
fn a_root_on_a_dead_mount_does_not_hold_up_the_boot() {
    let directory = tempfile::tempdir_in("/run").unwrap();
    let Some(dead) = DeadMount::at(&directory.path().join("dead")) else { return };
    let root = format!("start-timeout = \"1s\"\n[rootfs]\npath = \"{}\"\n[restart]\npolicy = \"no\"", dead.path.display());
    let supervisor = Supervisor::start(&[("rooted", &shell("exit 0", &root)), ("calm", &shell("exec sleep 1000", ""))]);
    supervisor.wait_state("calm", "running");
    let failed = supervisor.wait_state("rooted", "failed");
    assert!(supervisor.console().contains("gives no answer"), "{}", supervisor.console());
    assert_eq!(failed["cause"]["kind"], "start-timeout", "{failed}");
    drop(dead);
    supervisor.stop();
}

#[test]
fn a_listener_outlives_its_service() {
    let text = acting("serve", "", "[[socket]]\nlisten = \"unix:@DIR@/door\"\nname = \"door\"\n[restart]\ndelay = \"300ms\"");
    let supervisor = Supervisor::start(&[("server", &text)]);
    let pid = supervisor.wait_state("server", "running")["pid"].as_i64().unwrap();
    let ask = || {
        let mut answer = String::new();
        UnixStream::connect(supervisor.files().join("door")).unwrap().read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(ask(), "(Ok(\"1\"), Ok(\"door\"), Ok(\"1\")) 1");
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    supervisor.wait_state("server", "backoff");
    // Nobody accepts now; the connection waits in the backlog for the next one.
    assert_eq!(ask(), "(Ok(\"1\"), Ok(\"door\"), Ok(\"1\")) 1");
    assert_eq!(supervisor.unit("server")["restarts"], 1);
    let door = supervisor.files().join("door");
    assert!(door.exists());
    supervisor.stop();
}

/// Over a restart connections wait; of who is down nobody is kept waiting.
/// What the Wasm host says of its guest's end is no word of other programs, who would be given up for it.
#[test]
fn a_native_program_names_no_cause() {
    let supervisor = Supervisor::start(&[("blame", &acting("blame", "type = \"notify\"", "[restart]\npolicy = \"no\"\n"))]);
    let unit = supervisor.wait_state("blame", "failed");
    assert_eq!(unit["cause"]["kind"], "exit", "{unit}");
    supervisor.stop();
}

/// A progress bar: each dot is looked at, and none of them ends a line.
#[test]
fn a_line_that_is_written_in_many_pieces_is_one_line() {
    let script = "i=0; while [ $i -lt 300 ]; do printf .; sleep 0.003; i=$((i + 1)); done; echo; echo whole";
    let job = format!("{}[restart]\npolicy = \"no\"\n", shell(script, "type = \"oneshot\"\n"));
    let supervisor = Supervisor::start(&[("dots", &format!("[unit]\nkind = \"job\"\n{job}"))]);
    supervisor.wait_state("dots", "completed");
    supervisor.until("the last line", || supervisor.log("dots").contains("whole"));
    assert!(supervisor.log("dots").matches('.').count() >= 300, "{}", supervisor.log("dots"));
    assert!(!supervisor.console().contains("log writer died"), "{}", supervisor.console());
    supervisor.stop();
}

/// The last close(2) of a socket may wait for two minutes, if its unit says so: it is not the supervisor's.
#[test]
fn no_socket_of_a_cell_holds_up_the_supervisor() {
    let peer = TcpListener::bind("127.37.0.4:0").unwrap();
    let address = peer.local_addr().unwrap();
    let linger = acting("linger", "", "[[socket]]\nlisten = \"tcp://127.37.0.4:18443\"\n")
        .replace("set = {", &format!("set = {{ PEER = \"{address}\", "));
    let directory = tempfile::tempdir_in("/run").unwrap();
    let go = format!("[[mount]]\nsource = {:?}\ntarget = \"/run/go\"\n[restart]\npolicy = \"no\"\n", directory.path());
    let supervisor = Supervisor::start(&[("linger", &linger), ("smuggle", &acting("smuggle", "type = \"notify\"", &go))]);
    supervisor.wait("smuggle", "heard again", |unit| unit["status_text"] == "heard again");
    fs::write(directory.path().join("end"), "").unwrap();
    supervisor.wait_state("smuggle", "stopped");
    supervisor.until("the connection is full", || supervisor.log("linger").contains("full"));
    supervisor.call("Stop", json!({ "unit": "linger" }));
    supervisor.wait_state("linger", "stopped");
    supervisor.until("whoever comes is refused", || TcpStream::connect("127.37.0.4:18443").is_err());
    supervisor.stop();
}

#[test]
fn the_listeners_of_a_unit_at_rest_are_closed() {
    let text =
        acting("serve", "", "[[socket]]\nlisten = \"unix:@DIR@/door\"\n[[socket]]\nlisten = \"tcp://127.37.0.2:18439\"\nname = \"port\"");
    let failing = shell("exit 3", "[restart]\npolicy = \"no\"\n[[socket]]\nlisten = \"unix:@DIR@/failing\"");
    let supervisor = Supervisor::start(&[("server", &text), ("failing", &failing)]);
    let (door, port) = (supervisor.files().join("door"), "127.37.0.2:18439");
    let ask = || {
        let mut answer = String::new();
        UnixStream::connect(&door).unwrap().read_to_string(&mut answer).unwrap();
        answer.contains("door") || answer.contains("socket")
    };
    supervisor.wait_state("server", "running");
    assert!(ask());
    supervisor.wait_state("failing", "failed");
    supervisor.until("the socket of who failed to go", || !supervisor.files().join("failing").exists());
    for _ in 0..3 {
        supervisor.call("Stop", json!({ "unit": "server" }));
        supervisor.wait_state("server", "stopped");
        assert_eq!(std::net::TcpStream::connect(port).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(UnixStream::connect(&door).is_err());
        supervisor.call("Start", json!({ "unit": "server" }));
        supervisor.wait_state("server", "running");
        assert!(ask() && std::net::TcpStream::connect(port).is_ok());
    }
    let file = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&door).unwrap());
    let (run, before) = (supervisor.unit("server")["pid"].clone(), file());
    supervisor.call("Restart", json!({ "unit": "server" }));
    supervisor.wait("server", "is another run", |unit| unit["state"] == "running" && unit["pid"] != run);
    assert!(ask() && file() == before);
    supervisor.call("Stop", json!({ "unit": "server" }));
    supervisor.wait_state("server", "stopped");
    supervisor.until("the file to go", || !door.exists());
    supervisor.stop();
}

/// A unit that may write to a directory puts links there, which another unit's socket and environment would follow as root.
#[test]
fn links_that_a_unit_planted_lead_nowhere() {
    let planter = shell(
        "ln -s @DIR@/../run /run/w/own; ln -s @DIR@ /run/w/out; exec sleep 1000",
        "[[mount]]\nsource = \"@DIR@/w\"\ntarget = \"/run/w\"\nwritable = true",
    );
    let late =
        |rest: &str| format!("[install]\nwanted-by = []\n{}", shell("exec sleep 1000", &format!("[restart]\npolicy = \"no\"\n{rest}")));
    let socket = late("[[socket]]\nlisten = \"unix:@DIR@/w/own/control.sock\"");
    let made = late("[[socket]]\nlisten = \"unix:@DIR@/w/out/made/door\"");
    let environment = late("[env]\nfiles = [\"@DIR@/w/out/secret\"]");
    let own = late("[[socket]]\nlisten = \"unix:@DIR@/back/door\"");
    // Root's own links go on working.
    let good = late("[[socket]]\nlisten = \"unix:@DIR@/link/door\"");
    let units =
        [("planter", &*planter), ("socket", &*socket), ("made", &*made), ("environment", &*environment), ("own", &*own), ("good", &*good)];
    let planter_later =
        units.map(|(name, text)| (name, if name == "planter" { format!("[install]\nwanted-by = []\n{text}") } else { text.to_owned() }));
    let units: Vec<(&str, &str)> = planter_later.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let supervisor = Supervisor::start(&units);
    let files = supervisor.files();
    for directory in ["w", "real"] {
        fs::create_dir(files.join(directory)).unwrap();
    }
    fs::write(files.join("secret"), "A=secret\n").unwrap();
    for (link, target) in [("link", "real"), ("back", "../run")] {
        std::os::unix::fs::symlink(target, files.join(link)).unwrap();
    }
    supervisor.call("Start", json!({ "unit": "planter" }));
    supervisor.until("the links", || files.join("w/out").is_symlink());
    for (unit, reason) in
        [("socket", "w/own is a link"), ("made", "w/out is a link"), ("environment", "w/out is a link"), ("own", "the supervisor's own")]
    {
        supervisor.call("Start", json!({ "unit": unit }));
        let failed = supervisor.wait_state(unit, "failed");
        assert!(failed["cause"]["text"].as_str().unwrap().contains(reason), "{failed}");
    }
    assert!(!files.join("made").exists());
    supervisor.call("Start", json!({ "unit": "good" }));
    supervisor.wait_state("good", "running");
    assert!(UnixStream::connect(files.join("real/door")).is_ok());
    supervisor.stop();
}

#[test]
fn notify_gates_dependents_and_garbage_is_harmless() {
    let service = "type = \"notify\"";
    let speaker = acting("notify", service, "");
    let user = format!("[unit]\ndepends = [{{ unit = \"speaker\", condition = \"ready\" }}]\n{}", shell("exec sleep 1000", ""));
    let flood = acting("flood", service, "[watchdog]\ntimeout = \"20s\"");
    let supervisor = Supervisor::start(&[("speaker", &speaker), ("user", &user), ("flood", &flood)]);
    supervisor.wait("speaker", "warms up", |unit| unit["status_text"] == "warming up" && unit["state"] == "starting");
    assert_eq!(supervisor.unit("user")["state"], "waiting");
    supervisor.wait("speaker", "serves", |unit| unit["status_text"] == "serving" && unit["state"] == "running");
    supervisor.wait_state("user", "running");
    supervisor.wait("flood", "floods", |unit| unit["status_text"] == "flood");
    // A stranger's word counts for nothing.
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.send_to(b"STATUS=stranger", supervisor.run_dir().join("notify/speaker")).unwrap();
    for _ in 0..20 {
        let asked = std::time::Instant::now();
        assert_eq!(supervisor.unit("speaker")["status_text"], "serving");
        assert!(asked.elapsed() < Duration::from_secs(1), "the flood holds up the supervisor");
    }
    supervisor.stop();
}

/// Whoever can write to a notify socket can fill it, and the service's own words have no room.
#[test]
fn a_notify_socket_is_out_of_reach_of_other_users() {
    let within = acting("notify", "type = \"notify\"", "");
    let role = format!("[env]\nset = {{ {ROLE} = \"notify\" }}\n[user]\nuser = 61000\ngroup = 61000\n[isolation]\nprofile = \"host\"\n");
    let beside = format!(
        "[service]\nexec = [\"@DIR@/act\", \"--exact\", \"payload\", \"--nocapture\", \"--test-threads=1\"]\ntype = \"notify\"\n\
         [install]\nwanted-by = []\n{role}"
    );
    let supervisor = Supervisor::start(&[("within", &within), ("beside", &beside)]);
    fs::copy(std::env::current_exe().unwrap(), supervisor.files().join("act")).unwrap();
    // Of the test's own directories, which are root's alone.
    let open = |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    open(supervisor.run_dir().parent().unwrap());
    supervisor.call("Start", json!({ "unit": "beside" }));
    for unit in ["within", "beside"] {
        supervisor.wait(unit, "serves", |unit| unit["status_text"] == "serving" && unit["state"] == "running");
    }
    let run = supervisor.run_dir();
    // Another user in this thread alone; it loses the capabilities over files as well.
    let refused = std::thread::spawn(move || {
        // SAFETY: takes a number.
        unsafe { libc::syscall(libc::SYS_setfsuid, 61_001) };
        ["notify/within", "notify-host/beside"]
            .map(|path| UnixDatagram::unbound().unwrap().send_to(b"x", run.join(path)).unwrap_err().kind())
    });
    assert_eq!(refused.join().unwrap(), [std::io::ErrorKind::PermissionDenied; 2]);
    supervisor.stop();
}

#[test]
fn a_main_process_that_is_named_to_and_fro_lives_on() {
    let supervisor = Supervisor::start(&[("mains", &acting("mains", "type = \"notify\"", "[restart]\npolicy = \"always\""))]);
    let unit = supervisor.wait("mains", "said everything", |unit| unit["status_text"] == "both said");
    sleep(Duration::from_millis(300));
    let after = supervisor.unit("mains");
    assert_eq!((after["state"].clone(), after["restarts"].clone()), (json!("running"), json!(0)), "{unit}");
    supervisor.stop();
}

#[test]
fn the_main_process_that_a_service_names_is_the_one_that_counts() {
    let text = acting("heir", "type = \"notify\"", "[restart]\ndelay = \"50ms\"\n[log]\nstderr = \"null\"");
    let supervisor = Supervisor::start(&[("heir", &text)]);
    let named = |unit: &serde_json::Value| unit["state"] == "running" && unit["status_text"] == "an heir is named";
    let unit = supervisor.wait("heir", "names an heir", named);
    let pid = unit["pid"].as_i64().unwrap() as i32;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(command.trim(), "sleep", "{unit}");
    let procs = fs::read_to_string(format!("{}/cgroup.procs", unit["cgroup"].as_str().unwrap())).unwrap();
    let first: Vec<i32> = procs.lines().map(|line| line.parse().unwrap()).filter(|found| *found != pid).collect();
    // It ends, and with it the whole cell, though the first process of the cell is still there.
    assert!(!first.is_empty() && first.iter().all(|pid| is_alive(*pid)));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let after = supervisor.wait("heir", "is restarted", |unit| unit["restarts"] == 1 && named(unit));
    assert_ne!(after["pid"], unit["pid"]);
    assert!(!first.iter().any(|pid| is_alive(*pid)));
    supervisor.stop();
}

#[test]
fn a_reload_is_told_and_ends_with_the_next_ready() {
    let supervisor = Supervisor::start(&[("loader", &acting("reload", "type = \"notify\"", ""))]);
    let told = || supervisor.events("loader").iter().map(|event| event["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    supervisor.until("the end of the reload", || told().iter().any(|text| text == "reloaded"));
    assert_eq!(told().iter().filter(|text| *text == "reloading").count(), 1);
    let unit = supervisor.unit("loader");
    assert_eq!((&unit["state"], &unit["status_text"]), (&json!("running"), &json!("serving")));
    supervisor.stop();
}

#[test]
fn a_newline_on_a_descriptor_says_ready() {
    let text = "[service]\nexec = [\"/bin/sh\", \"-c\", \"sleep 0.5; echo >&5; exec 5>&-; exec sleep 1000\"]\nready = { fd = 5 }\n";
    let socket = "[[socket]]\nlisten = \"unix:@DIR@/s\"";
    let supervisor = Supervisor::start(&[("steady", &format!("{text}{socket}"))]);
    assert_eq!(supervisor.wait("steady", "starts", |unit| unit["pid"].is_i64())["ready"], false);
    supervisor.wait("steady", "is ready", |unit| unit["ready"] == true && unit["state"] == "running");
    supervisor.stop();
}

/// A service that never says it must not keep the supervisor reading.
#[test]
fn a_flood_on_the_descriptor_of_ready_is_not_read_for_ever() {
    let text = "[service]\nexec = [\"/bin/sh\", \"-c\", \"cat /dev/zero >&3; echo refused; exec sleep 1000\"]\nready = { fd = 3 }\n";
    let supervisor = Supervisor::start(&[("zeros", text)]);
    supervisor.until("the end of the flood", || supervisor.log("zeros").contains("refused"));
    assert_eq!(supervisor.unit("zeros")["ready"], false);
    supervisor.stop();
}

#[test]
fn a_silent_watchdog_restarts() {
    let text = acting("watchdog", "type = \"notify\"", "[watchdog]\ntimeout = \"400ms\"");
    let supervisor = Supervisor::start(&[("dog", &text)]);
    let unit = supervisor.wait("dog", "restarted", |unit| unit["restarts"].as_i64() >= Some(1));
    assert_eq!(unit["cause"]["kind"], "watchdog", "{unit}");
    supervisor.stop();
}

#[test]
fn a_start_that_fails_says_where_and_leaves_nothing() {
    let missing = shell("", "[restart]\npolicy = \"no\"").replace("/bin/sh", "/no/such/program");
    let no_source = shell("exit 0", "[restart]\npolicy = \"no\"\n[[mount]]\nsource = \"@DIR@/nothing\"\ntarget = \"/mnt\"");
    let supervisor = Supervisor::start(&[("missing", &missing), ("source", &no_source), ("alive", &shell("exec sleep 1000", ""))]);
    for (unit, what) in [("missing", "/no/such/program"), ("source", "nothing")] {
        let unit = supervisor.wait_state(unit, "failed");
        assert_eq!(unit["cause"]["kind"], "start", "{unit}");
        let text = unit["cause"]["text"].as_str().unwrap();
        assert!(text.contains(what) && text.contains("No such file or directory"), "{text}");
        assert_eq!(unit["cgroup"], json!(null));
    }
    let alive = supervisor.wait_state("alive", "running");
    let slice = std::path::Path::new(alive["cgroup"].as_str().unwrap()).parent().unwrap().to_owned();
    let cells = fs::read_dir(slice).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(cells, 1);
    supervisor.stop();
}

/// On the short way, in the supervisor's memory: frozen at its birth and killed, it never said that it has descriptors of its own.
#[test]
fn a_start_that_dies_before_its_first_word_ends() {
    let free = "[isolation]\nprofile = \"none\"\n[restart]\npolicy = \"no\"\n";
    let held = shell("exec sleep 1000", &format!("{free}[install]\nwanted-by = []\n"))
        .replace("[service]", "[service]\nstart-timeout = \"300ms\"");
    let supervisor = Supervisor::start(&[("alive", &shell("exec sleep 1000", free)), ("held", &held)]);
    let alive = supervisor.wait_state("alive", "running");
    let slice = std::path::Path::new(alive["cgroup"].as_str().unwrap()).parent().unwrap().to_owned();
    fs::write(slice.join("cgroup.freeze"), "1").unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(supervisor.run_dir().join("control.sock")).unwrap();
    client.write_all(b"{\"method\":\"org.cellinit.Start\",\"parameters\":{\"unit\":\"held\"},\"oneway\":true}\n").unwrap();
    let failed = supervisor.wait_state("held", "failed");
    assert_eq!(failed["cause"]["kind"], "start-timeout", "{failed}");
    fs::write(slice.join("cgroup.freeze"), "0").unwrap();
    supervisor.stop();
}

/// The same, killed by somebody before its time is over: what never ran is not told as having run.
#[test]
fn a_start_that_is_killed_before_it_executes_has_failed() {
    let free = "[isolation]\nprofile = \"none\"\n[restart]\npolicy = \"no\"\n";
    let held = shell("exec sleep 1000", &format!("{free}[install]\nwanted-by = []\n"));
    let supervisor = Supervisor::start(&[("alive", &shell("exec sleep 1000", free)), ("held", &held)]);
    let alive = supervisor.wait_state("alive", "running");
    let slice = std::path::Path::new(alive["cgroup"].as_str().unwrap()).parent().unwrap().to_owned();
    fs::write(slice.join("cgroup.freeze"), "1").unwrap();
    supervisor.call("Start", json!({ "unit": "held" }));
    let mut pid = None;
    supervisor.until("the clone", || {
        pid = supervisor.unit("held")["pid"].as_i64();
        pid.is_some()
    });
    kill(Pid::from_raw(pid.unwrap() as i32), Signal::SIGKILL).unwrap();
    let failed = supervisor.wait_state("held", "failed");
    assert!(failed["cause"]["text"].as_str().unwrap().contains("killed by signal 9 before it executed the program"), "{failed}");
    assert!(supervisor.events("held").iter().all(|event| event["state"] != "running"), "{:?}", supervisor.events("held"));
    fs::write(slice.join("cgroup.freeze"), "0").unwrap();
    supervisor.stop();
}

fn writer_of(supervisor: &Supervisor) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", supervisor.pid())).unwrap();
    let is_writer = |pid: &&str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(10).any(|w| w == b"log-writer"));
    children.split_whitespace().find(is_writer).map(|pid| pid.parse().unwrap())
}

/// Each death in a row makes the pause before the next writer longer; the last one is longer than the stop.
#[test]
fn last_words_are_written_even_when_no_writer_lives_at_the_end() {
    let text = shell("echo begun; trap 'echo last words; exit 0' TERM; while :; do sleep 0.05; done", "");
    let supervisor = Supervisor::start(&[("talker", &text)]);
    supervisor.until("the first line", || supervisor.log("talker").contains("begun"));
    for _ in 0..6 {
        supervisor.until("a log writer", || writer_of(&supervisor).is_some());
        kill(Pid::from_raw(writer_of(&supervisor).unwrap()), Signal::SIGKILL).unwrap();
        supervisor.until("its death", || writer_of(&supervisor).is_none());
    }
    let mut log = fs::File::open(supervisor.run_dir().join("log/talker.log")).unwrap();
    let asked = std::time::Instant::now();
    supervisor.stop();
    assert!(asked.elapsed() < Duration::from_secs(4));
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert!(text.contains("out last words\n"), "{text}");
}

#[test]
fn a_dead_log_writer_loses_nothing() {
    let text = shell("i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; sleep 0.01; done; exec sleep 1000", "");
    let supervisor = Supervisor::start(&[("talker", &text)]);
    for _ in 0..3 {
        let already = supervisor.log("talker").lines().count();
        supervisor.until("more lines", || supervisor.log("talker").lines().count() > already + 10);
        let writer = writer_of(&supervisor).expect("a log writer");
        kill(Pid::from_raw(writer), Signal::SIGKILL).unwrap();
    }
    supervisor.until("the last line", || supervisor.log("talker").contains("line 300\n"));
    let log = supervisor.log("talker");
    for i in 1..=300 {
        assert!(log.contains(&format!("out line {i}\n")), "line {i} is lost");
    }
    supervisor.stop();
}

/// The kernel's O_LARGEFILE; the C library calls it 0 where it is always on.
const LARGEFILE: i32 = 0o100000;

/// The pipe outlives the runs: it must be neither readable to them nor remember what one of them did to it.
#[test]
fn a_cell_writes_to_its_log_pipe_and_does_nothing_else_with_it() {
    let script = "echo again > /proc/self/fd/1; read line < /proc/self/fd/1 && echo has read it; \
        echo done; exec sleep 1000";
    let nonblocking = acting("nonblock", "", "[restart]\npolicy = \"always\"\ndelay = \"10ms\"");
    let supervisor = Supervisor::start(&[("thief", &shell(script, "")), ("nonblock", &nonblocking)]);
    supervisor.until("the end of the script", || supervisor.log("thief").contains("out done\n"));
    let log = supervisor.log("thief");
    assert!(log.contains("out again\n") && !log.contains("has read it"), "{log}");
    supervisor.until("two runs", || supervisor.log("nonblock").matches("flags before: ").count() >= 3);
    let log = supervisor.log("nonblock");
    let flags = log.split("flags before: ").skip(1).filter_map(|rest| rest.lines().next()?.parse::<i32>().ok());
    // open(2) adds O_LARGEFILE, which is nothing to a pipe; pipe2(2) does not.
    let flags: Vec<i32> = flags.map(|flags| flags & !LARGEFILE).collect();
    assert!(flags.len() >= 2 && flags.iter().all(|flags| *flags == libc::O_WRONLY), "{log}");
    supervisor.stop();
}

#[test]
fn a_second_supervisor_is_refused_and_unfriendly_clients_harm_nobody() {
    let supervisor = Supervisor::start(&[("calm", &shell("exec sleep 1000", ""))]);
    let second = supervisor.second();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another supervisor runs here"));

    let socket = supervisor.run_dir().join("control.sock");
    let mut half = UnixStream::connect(&socket).unwrap();
    half.write_all(b"{\"method\":").unwrap();
    let mut garbage = UnixStream::connect(&socket).unwrap();
    garbage.write_all(b"\xff\xfe\0nonsense\n{}\n").unwrap();
    let mut endless = UnixStream::connect(&socket).unwrap();
    endless.write_all(&vec![b'x'; 70_000]).ok();
    let mut deaf = UnixStream::connect(&socket).unwrap();
    deaf.set_nonblocking(true).unwrap();
    for _ in 0..2000 {
        if deaf.write(b"{\"method\":\"org.cellinit.List\"}\n").is_err() {
            break;
        }
    }
    let crowd: Vec<UnixStream> = (0..58).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert_eq!(supervisor.wait_state("calm", "running")["restarts"], 0);
    drop((half, garbage, endless, deaf, crowd));
    let refused = supervisor.call("Status", json!({ "unit": "clam" }));
    assert_eq!(refused["error"], "org.cellinit.NoSuchUnit");
    assert_eq!(refused["parameters"]["nearest"], "calm");
    supervisor.stop();
}

#[test]
fn after_a_killed_supervisor_the_first_start_succeeds_and_every_unit_keeps_its_ids() {
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo kept >> $STATE_DIRECTORY/f; wait";
    let text = shell(script, "[dirs]\nstate = \"mine\"\n[restart]\npolicy = \"no\"");
    let mut supervisor = Supervisor::start(&[("mid", &text)]);
    let owner = |supervisor: &Supervisor| {
        let state = find(&supervisor.run_dir().join("state"), "mine").unwrap();
        (std::os::unix::fs::MetadataExt::uid(&fs::metadata(&state).unwrap()), fs::read_to_string(state.join("f")).unwrap_or_default())
    };
    let before = supervisor.wait_state("mid", "running")["pid"].as_i64().unwrap();
    supervisor.until("the file", || owner(&supervisor).1 == "kept\n");
    let (uid, _) = owner(&supervisor);
    // Comes before it in the order of names.
    supervisor.add("early", &shell("exec sleep 1000", ""));
    // The run directory's share of the ids is the same one, for nobody else holds it.
    supervisor.crash();
    let unit = supervisor.wait_state("mid", "running");
    assert_ne!(unit["pid"].as_i64(), Some(before));
    assert_eq!(unit["restarts"], 0, "{unit}");
    supervisor.until("the second line", || owner(&supervisor).1 == "kept\nkept\n");
    assert_eq!(owner(&supervisor).0, uid);
    supervisor.wait_state("early", "running");
    supervisor.stop();
}

#[test]
fn state_in_use_by_the_system_is_not_taken_into_the_foreground() {
    let directory = tempfile::tempdir_in("/run").unwrap();
    let file = directory.path().join("one.toml");
    fs::write(&file, shell("exit 0", "[dirs]\nstate = \"cellinit-test-state\"")).unwrap();
    // As if the system's supervisor were there; where it is, it holds the lock itself.
    fs::create_dir_all("/run/cellinit").unwrap();
    let lock = fs::File::create("/run/cellinit/lock").unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock);
    let output = Command::new(env!("CARGO_BIN_EXE_cellinit")).arg("run").arg(&file).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(125) && words.contains("say --run-dir"), "{output:?}");
    drop(lock);
    let own = directory.path().join("own");
    let output = Command::new(env!("CARGO_BIN_EXE_cellinit")).arg("run").arg(&file).arg("--run-dir").arg(own).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn in_the_foreground_the_exit_code_is_passed_on() {
    let directory = tempfile::tempdir_in("/run").unwrap();
    for (script, expected) in [("echo out; echo err >&2; exit 7", 7), ("exit 0", 0), ("kill -9 $$", 0), ("sh -c 'kill -9 $$'", 137)] {
        let file = directory.path().join("one.toml");
        fs::write(&file, shell(script, "")).unwrap();
        for program in [env!("CARGO_BIN_EXE_cellinit"), env!("CARGO_BIN_EXE_cell")] {
            let output = Command::new(program).arg("run").arg(&file).output().unwrap();
            assert_eq!(output.status.code(), Some(expected), "{script}: {output:?}");
            if expected == 7 {
                assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
            }
        }
    }
    // Whose mounts are the host's sees the host's own table, and none that the foreground has for itself.
    let file = directory.path().join("host.toml");
    fs::write(&file, shell("readlink /proc/self/ns/mnt", "[isolation]\nprofile = \"host\"\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cell")).arg("run").arg(&file).output().unwrap();
    let host = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), host.to_string_lossy(), "{output:?}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("cellinit-run"));
}

/// Also where only a v1 hierarchy counts, and the main process is none of those killed.
#[test]
fn a_child_that_was_killed_for_want_of_memory_is_noticed() {
    let script = "tail /dev/zero; exec sleep 1000";
    let limit =
        |policy: &str| format!("[resources]\nmemory = {{ max = \"8MiB\" }}\n[oom]\npolicy = {policy:?}\n[restart]\npolicy = \"no\"\n");
    let (cell, on) = (shell(script, &limit("kill-cell")), shell(script, &limit("continue")));
    let supervisor = Supervisor::start(&[("cell", &cell), ("on", &on)]);
    assert_eq!(supervisor.wait_state("cell", "failed")["cause"]["kind"], "oom");
    assert_eq!(supervisor.unit("on")["state"], "running");
    supervisor.stop();
}

#[test]
fn in_the_foreground_the_answer_to_a_signal_is_passed_on() {
    let directory = tempfile::tempdir_in("/run").unwrap();
    let trapped = |code: u32| format!("trap 'exit {code}' TERM; echo up; while :; do sleep 0.05; done");
    let deaf = "echo up; exec sleep 1000";
    let asked = directory.path().join("asked");
    for (script, rest, signal, expected) in [
        (&trapped(5), "", Signal::SIGTERM, 5),
        (&trapped(0), "", Signal::SIGINT, 0),
        (&deaf.to_owned(), "", Signal::SIGTERM, 143),
        (&deaf.to_owned(), "", Signal::SIGINT, 130),
        (&deaf.to_owned(), "[stop]\nsignal = \"SIGINT\"\n", Signal::SIGTERM, 143),
        // It does not listen, and its patience is over.
        (&"trap '' TERM; echo up; exec sleep 1000".to_owned(), "[stop]\ntimeout = \"100ms\"\n", Signal::SIGTERM, 137),
    ] {
        let file = directory.path().join("one.toml");
        // A shell catches SIGINT until it is another program.
        let program = if script.contains("exec sleep") { "sleep" } else { "sh" };
        fs::write(&file, shell(script, &format!("{rest}{}", asked_when(program, directory.path())))).unwrap();
        fs::remove_file(&asked).ok();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cell")).arg("run").arg(&file).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        while !asked.exists() {
            assert!(child.try_wait().unwrap().is_none(), "{script}");
            sleep(Duration::from_millis(10));
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(expected), "{script} {rest} {signal}");
    }
}

/// A startup probe that makes the file `asked` in `directory`: the supervisor knows then that the main process runs, and that is `program`.
fn asked_when(program: &str, directory: &Path) -> String {
    let script = format!("until grep -qx {program} /proc/1/comm; do sleep 0.01; done; echo > /run/files/asked");
    let mount = format!("[[mount]]\nsource = {directory:?}\ntarget = \"/run/files\"\nwritable = true\n");
    format!("[health.startup]\nexec = [\"/bin/sh\", \"-c\", {script:?}]\n{mount}")
}

/// Whoever insists changes nothing: the program has the time that its unit gives it.
#[test]
fn in_the_foreground_a_second_signal_cuts_no_stop_short() {
    let directory = tempfile::tempdir_in("/run").unwrap();
    let mount = format!("[[mount]]\nsource = {:?}\ntarget = \"/run/files\"", directory.path());
    let script = "trap 'echo asked; until [ -e /run/files/go ]; do sleep 0.05; done; exit 5' TERM; echo up; while :; do sleep 0.05; done";
    let file = directory.path().join("one.toml");
    fs::write(&file, shell(script, &mount)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cell")).arg("run").arg(&file).stdout(Stdio::piped()).spawn().unwrap();
    let (pid, mut out) = (Pid::from_raw(child.id() as i32), child.stdout.take().unwrap());
    let mut hear = |words: &str| {
        let mut heard = vec![0; words.len()];
        out.read_exact(&mut heard).unwrap();
        assert_eq!(heard, words.as_bytes());
    };
    hear("up\n");
    // It runs, though its supervisor may not have heard of that.
    kill(pid, Signal::SIGINT).unwrap();
    hear("asked\n");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        kill(pid, signal).unwrap();
    }
    fs::write(directory.path().join("go"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn in_the_foreground_what_is_not_started_is_told_by_its_code() {
    let directory = tempfile::tempdir_in("/run").unwrap();
    for (name, text, word) in [
        ("refused.toml", Some("[service]\nexce = 1\n"), "exec"),
        ("target.toml", Some("[unit]\nkind = \"target\"\n"), "nothing to run"),
        ("missing.toml", None, "No such file"),
    ] {
        let file = directory.path().join(name);
        text.map(|text| fs::write(&file, text)).transpose().unwrap();
        for (program, own_name) in [(env!("CARGO_BIN_EXE_cell"), "cell:"), (env!("CARGO_BIN_EXE_cellinit"), "cellinit:")] {
            let output = Command::new(program).arg("run").arg(&file).output().unwrap();
            let words = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(125), "{name}: {words}");
            assert!(words.starts_with(own_name) && words.contains(word), "{name}: {words}");
        }
    }
}

#[test]
fn in_the_foreground_whoever_is_out_of_memory_was_killed() {
    let directory = tempfile::tempdir_in("/run").unwrap();
    let file = directory.path().join("greedy.toml");
    // The shell that is asked for its exit code would end well: one of the cell is killed, and the cell with it.
    for script in ["exec tail /dev/zero", "tail /dev/zero; exit 0"] {
        fs::write(&file, shell(script, "[resources]\nmemory = { max = \"8MiB\" }\n")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_cellinit")).arg("run").arg(&file).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(137) && words.contains("killed for want of memory"), "{script}: {output:?}");
    }
}
