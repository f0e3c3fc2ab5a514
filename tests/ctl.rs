//! `cell` as a person and a script meet it: what it prints, and its exit codes.

#[path = "support/supervisor.rs"]
mod supervisor;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use cellinit::time::Utc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use supervisor::Supervisor;

const IDLE: &str = "[service]\nexec = [\"/bin/sh\", \"-c\", \"echo hello; sleep 1000\"]\n";
const DIES: &str =
    "[unit]\nkind = \"job\"\n[service]\nexec = [\"/bin/sh\", \"-c\", \"exit 3\"]\n[restart]\npolicy = \"no\"\n[install]\nwanted-by = []\n";

fn cell(run_dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cell"));
    command.args(words).env("CELLINIT_RUN_DIR", run_dir).stdin(Stdio::null()).output().unwrap()
}

/// Exit code, standard output, standard error.
fn said(run_dir: &Path, words: &[&str]) -> (i32, String, String) {
    let output = cell(run_dir, words);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let supervisor = Supervisor::start(&[("web", IDLE), ("dies", DIES)]);
    supervisor.wait_state("web", "running");
    let run = supervisor.run_dir();
    let nowhere = run.join("nowhere");
    for (run_dir, words, code, word) in [
        (&run, &["status"][..], 0, ""),
        (&run, &["dance"], 2, "dance"),
        (&run, &["start"], 2, "UNITS"),
        (&nowhere, &["status"], 3, "nothing is running there"),
        (&nowhere, &["logs", "web"], 3, "nothing is running there"),
        (&run, &["status", "wep"], 4, "did you mean `web`?"),
        (&run, &["start", "wep"], 4, "did you mean `web`?"),
        (&run, &["logs", "wep"], 4, "did you mean `web`?"),
        (&run, &["why", "../web"], 4, "no unit"),
        (&run, &["logs", "../web"], 4, "`/`"),
        (&run, &["start", "dies"], 1, "exit status 3"),
        (&run, &["stop", "web"], 0, ""),
        (&run, &["start", "web"], 0, ""),
        (&run, &["restart", "web"], 0, ""),
        (&run, &["plan", "web"], 0, ""),
        (&run, &["up", run.join("../units").to_str().unwrap()], 1, "--run-dir"),
    ] {
        let (got, out, err) = said(run_dir, words);
        assert_eq!(got, code, "{words:?}\n{out}{err}");
        assert!(err.contains(word), "{words:?}\n{err}");
        assert!(!format!("{out}{err}").contains('\x1b'), "colours without a terminal: {words:?}");
    }
    supervisor.stop();
}

#[test]
fn status_logs_and_events_for_programs() {
    let long = IDLE.replace("echo hello", "head -c 40000 /dev/zero | tr '\\\\0' x; echo");
    let supervisor = Supervisor::start(&[("web", IDLE), ("long", &long)]);
    supervisor.wait_state("web", "running");
    supervisor.until("a line", || supervisor.log("web").contains("hello"));
    let run = supervisor.run_dir();
    let all: Vec<Value> = serde_json::from_str(&said(&run, &["status", "--json"]).1).unwrap();
    let web = all.iter().find(|unit| unit["name"] == "web").unwrap();
    for field in ["name", "kind", "state", "desired", "health", "pid", "restarts", "since", "cause", "cgroup"] {
        assert!(web.get(field).is_some(), "{field}");
    }
    let one: Value = serde_json::from_str(&said(&run, &["status", "web", "--json"]).1).unwrap();
    assert_eq!(one["walls"]["seccomp"]["mode"], 2);
    let detail = said(&run, &["status", "web"]).1;
    assert!(detail.contains("walls, as the kernel shows them") && detail.contains("no_new_privs"), "{detail}");
    assert_eq!(one["walls"]["capabilities"]["names"], serde_json::json!([]));
    // Nobody gave this unit a limit of memory, whatever limit the supervisor itself has.
    assert!(one["walls"]["limits"].get("memory.limit_in_bytes").is_none(), "{one}");
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        assert!(detail.contains("none (the kernel has no SELinux)"), "{detail}");
    }

    let lines: Vec<Value> = said(&run, &["logs", "web", "--json"]).1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let hello = lines.iter().find(|line| line["text"] == "hello").unwrap();
    assert_eq!((&hello["unit"], &hello["stream"]), (&"web".into(), &"out".into()));
    assert!(hello["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(said(&run, &["logs", "web", "-n", "1"]).1.lines().count(), 1);

    // A long line comes in pieces that say so.
    supervisor.until("a long line", || supervisor.log("long").matches('x').count() == 40_000);
    let pieces: Vec<Value> = said(&run, &["logs", "long", "--json"]).1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pieces: Vec<&Value> = pieces.iter().filter(|piece| piece["stream"] == "out").collect();
    let (last, others) = pieces.split_last().unwrap();
    assert!(others.len() >= 2 && others.iter().all(|piece| piece["continues"] == true) && last.get("continues").is_none());

    let events = said(&run, &["events", "--no-follow", "--json"]).1;
    assert!(events.lines().any(|line| serde_json::from_str::<Value>(line).unwrap()["unit"] == "web"));
    supervisor.stop();
}

#[test]
fn up_shows_a_line_per_change_and_stops_in_order() {
    let dir = tempfile::tempdir_in("/run").unwrap();
    let units = dir.path().join("units");
    std::fs::create_dir(&units).unwrap();
    std::fs::write(units.join("web.toml"), IDLE).unwrap();
    let run = dir.path().join("run");
    let out = std::fs::File::create(dir.path().join("out")).unwrap();
    let mut up = Command::new(env!("CARGO_BIN_EXE_cell"));
    let mut up = up.arg("up").arg(&units).arg("--run-dir").arg(&run).stdin(Stdio::null()).stdout(out).spawn().unwrap();
    let shown = || std::fs::read_to_string(dir.path().join("out")).unwrap();
    for _ in 0..600 {
        if shown().contains("web starting -> running") {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // The supervisor is PID 1 of a namespace, and the pid of a unit is shown as it is out here.
    let web: Value = serde_json::from_str(&said(&run, &["status", "web", "--json"]).1).unwrap();
    let cgroup = std::fs::read_to_string(format!("{}/cgroup.procs", web["cgroup"].as_str().unwrap())).unwrap();
    assert!(cgroup.lines().any(|pid| web["pid"] == pid.parse::<i64>().unwrap_or(0)), "{web} is not in {cgroup}");
    // Events name the same process by the same number, and no text has another one.
    let events: Vec<Value> =
        said(&run, &["events", "web", "--no-follow", "--json"]).1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.iter().find(|event| event["state"] == "running").unwrap()["pid"], web["pid"]);
    assert!(!shown().contains("pid ") && !said(&run, &["logs", "web"]).1.contains("pid "), "{}", shown());
    kill(Pid::from_raw(up.id() as i32), Signal::SIGINT).unwrap();
    assert!(up.wait().unwrap().success(), "{}", shown());
    assert!(shown().contains("web stopping -> stopped"), "{}", shown());
    assert!(!run.join("control.sock").exists());
    assert!(said(&run, &["logs", "web"]).1.contains("hello"), "logs are read without a supervisor, too");
}

/// The second Ctrl-C says what the third one does, and then nothing is left but logs and state.
#[test]
fn up_kills_everything_for_who_insists() {
    let dir = tempfile::tempdir_in("/run").unwrap();
    let run = dir.path().join("run");
    let shown = || std::fs::read_to_string(dir.path().join("out")).unwrap();
    let script = "trap '' TERM; touch $RUNTIME_DIRECTORY/here; echo deaf; while :; do sleep 1; done";
    // With all that a unit may have in the run directory: a notify socket and a runtime directory.
    let rest = "[watchdog]\ntimeout = \"1000s\"\n[dirs]\nruntime = [\"deaf\"]\n";
    let file = dir.path().join("deaf.toml");
    std::fs::write(&file, format!("[service]\nexec = [\"/bin/sh\", \"-c\", {script:?}]\n{rest}")).unwrap();
    let out = std::fs::File::create(dir.path().join("out")).unwrap();
    let mut up = Command::new(env!("CARGO_BIN_EXE_cell"));
    up.arg("up").arg(&file).arg("--run-dir").arg(&run);
    let mut deaf = up.stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out).spawn().unwrap();
    let until = |what: &str, is: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !is() {
            assert!(std::time::Instant::now() < deadline, "waited for {what} in vain: {}", shown());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let interrupt = |up: &std::process::Child| kill(Pid::from_raw(up.id() as i32), Signal::SIGINT).unwrap();
    until("the trap", &|| said(&run, &["logs", "deaf"]).1.contains("deaf"));
    let unit: Value = serde_json::from_str(&said(&run, &["status", "deaf", "--json"]).1).unwrap();
    for words in ["deaf running -> stopping", "once more kills everything at once"] {
        interrupt(&deaf);
        until(words, &|| shown().contains(words));
    }
    assert!(deaf.try_wait().unwrap().is_none());
    interrupt(&deaf);
    assert_eq!(deaf.wait().unwrap().code(), Some(1), "{}", shown());
    assert!(
        shown().ends_with("cell: the units were not stopped in order: you asked a third time, so everything was killed at once\n"),
        "{}",
        shown()
    );
    let slice = Path::new(unit["cgroup"].as_str().unwrap()).parent().unwrap();
    assert!(!slice.exists(), "{}", slice.display());
    let mut left: Vec<_> = std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["cache", "log", "state"]);
    assert!(said(&run, &["logs", "deaf"]).1.contains("deaf"));
}

#[test]
fn a_socket_of_somebody_else_is_neither_believed_nor_waited_for() {
    let dir = tempfile::tempdir_in("/run").unwrap();
    // Nobody accepts there: connections queue up until the backlog is full, and then connect(2) itself waits.
    let silent = dir.path().join("silent");
    std::fs::create_dir(&silent).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(silent.join("control.sock")).unwrap();
    let (code, _, err) = said(&silent, &["status"]);
    assert!(code == 1 && err.contains("says nothing for 10s"), "{code} {err}");
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    for path in [dir.path(), &foreign] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut perl = Command::new("/usr/bin/perl");
    let listen = "$s = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 8) or die; sleep 1000";
    let socket = foreign.join("control.sock");
    let mut stranger = perl.args(["-MIO::Socket::UNIX", "-e", listen]).arg(socket).uid(65534).gid(65534).spawn().unwrap();
    for _ in 0..600 {
        // There is a moment between its bind(2) and its listen(2).
        if std::os::unix::net::UnixStream::connect(foreign.join("control.sock")).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (code, _, err) = said(&foreign, &["status"]);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(code == 1 && err.contains("uid 65534 listens there"), "{code} {err}");
}

#[test]
fn check_sees_what_stands_beside_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    file("web.toml", &format!("[unit]\nrequires = [\"db\"]\n{IDLE}"));
    file("db.toml", IDLE);
    let check = |name: &str| said(dir.path(), &["check", dir.path().join(name).to_str().unwrap()]);
    assert_eq!(check("web.toml").1, "1 unit is in order\n");
    // A neighbour's own faults are another question.
    file("db.toml", "nonsense");
    assert_eq!(check("web.toml").0, 0, "{}", check("web.toml").2);
    assert_eq!(check("db.toml").0, 1);
    file("web.toml", &format!("[unit]\nrequires = [\"gone\"]\n{IDLE}"));
    assert!(check("web.toml").2.contains("there is no unit `gone`"));
    let here = Command::new(env!("CARGO_BIN_EXE_cell")).args(["check", "web.toml"]).current_dir(dir.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&here.stderr).contains("there is no unit `gone`"), "{here:?}");
}

#[test]
fn a_name_where_a_path_is_needed_says_what_to_try() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("web.toml"), IDLE).unwrap();
    let said = |words: &[&str]| {
        let mut cell = Command::new(env!("CARGO_BIN_EXE_cell"));
        let output = cell.args(words).env("CELLINIT_RUN_DIR", dir.path()).current_dir(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&["check", "web"]).ends_with("try: web.toml\n"));
    assert!(said(&["check", "wep"]).ends_with("try: the path of a unit file, or of a folder of them\n"));
    let installed = "/etc/cellinit/units";
    if Path::new(installed).exists() {
        // On a host with units of its own the question is another one.
        return;
    }
    let nowhere = format!("no supervisor runs in {}, and there is no folder {installed}\n  try: ", dir.path().display());
    assert!(said(&["plan", "web"]).ends_with(&format!("{nowhere}cell plan web.toml\n")));
    assert!(
        said(&["plan", "wep"]).ends_with(&format!("{nowhere}`cell plan PATH/wep.toml` for a file, --units DIR for a unit of a folder\n"))
    );
}

#[test]
fn who_stops_a_target_hears_what_goes_on() {
    let supervisor = Supervisor::start(&[("web", IDLE), ("other", IDLE), ("dies", DIES)]);
    supervisor.wait_state("default", "running");
    let run = supervisor.run_dir();
    let stopped = |unit: &str| {
        let (code, out, err) = said(&run, &["stop", unit]);
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        err.lines().last().unwrap_or_default().to_owned()
    };
    let goes_on = |units: &str| format!("default is a target, and stops nobody: {units} here; cell stop UNIT...");
    assert_eq!(stopped("default"), goes_on("2 units go on"));
    assert!(!stopped("other").contains("target"));
    assert_eq!(stopped("default"), goes_on("1 unit goes on"));
    // Whoever is asked to stop beside it does not go on.
    let (code, _, err) = said(&run, &["stop", "default", "web"]);
    assert!(code == 0 && !err.contains("target"), "{err}");
    assert!(!stopped("default").contains("target"));
    supervisor.stop();
}

#[test]
fn an_edited_unit_file_is_pointed_out() {
    let supervisor = Supervisor::start(&[("web", IDLE), ("other", IDLE)]);
    supervisor.wait_state("web", "running");
    let run = supervisor.run_dir();
    let note = |words: &[&str]| said(&run, words).2.lines().find(|line| line.starts_with("note:")).unwrap_or_default().to_owned();
    assert_eq!(note(&["status"]), "");
    supervisor.add("web", &format!("{IDLE}# edited\n"));
    supervisor.add("late", IDLE);
    std::fs::remove_file(run.join("../units/other.toml")).unwrap();
    for words in
        [&["status"][..], &["status", "web", "--json"], &["why", "web"], &["start", "web"], &["restart", "web"], &["start", "late"]]
    {
        let note = note(words);
        assert!(
            note.contains("(changed: web.toml; new: late.toml; gone: other.toml)") && note.contains("started again"),
            "{words:?}: {note}"
        );
    }
    // Nobody is misled there.
    for words in [&["logs", "web"][..], &["events", "--no-follow"], &["stop", "web"]] {
        assert_eq!(note(words), "", "{words:?}");
    }
    supervisor.stop();
}

#[test]
fn an_image_is_its_owners_and_its_notes_are_true() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let program = dir.path().join("h");
    std::fs::copy("/bin/busybox", &program).unwrap();
    let units = dir.path().join("units");
    std::fs::create_dir(&units).unwrap();
    let unit = |path: &str| format!("[service]\nexec = [{path:?}, \"true\"]\n");
    std::fs::write(units.join("covered.toml"), unit(program.to_str().unwrap())).unwrap();
    std::fs::write(units.join("added.toml"), unit("/opt/h")).unwrap();
    let image = dir.path().join("image");
    std::fs::write(&image, "").unwrap();
    let add = format!("{}:/opt/h", program.display());
    let words = ["initramfs", units.to_str().unwrap(), "-o", image.to_str().unwrap(), "--add", &add];
    let (code, _, err) = said(dir.path(), &words);
    assert_eq!(code, 0, "{err}");
    assert_eq!(std::fs::metadata(&image).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(err.contains("unit covered") && err.contains("made anew at boot") && err.contains(":/opt/h)"), "{err}");
    assert!(!err.contains("unit added"), "{err}");
}

#[test]
fn up_shows_what_inherits_its_output() {
    let dir = tempfile::tempdir_in("/run").unwrap();
    let long = "x".repeat(10_000);
    let job = format!(
        "[unit]\nkind = \"job\"\n[service]\nexec = [\"/bin/sh\", \"-c\", \"echo to out; echo cellinit out; echo {long}; printf 'half \\\\033[2J'; echo to err >&2\"]\n\
         [log]\nstdout = \"inherit\"\nstderr = \"inherit\"\n"
    );
    std::fs::write(dir.path().join("job.toml"), job).unwrap();
    let out = std::fs::File::create(dir.path().join("out")).unwrap();
    let mut up = Command::new(env!("CARGO_BIN_EXE_cell"));
    let up = up.arg("up").arg(dir.path().join("job.toml")).arg("--run-dir").arg(dir.path().join("run"));
    let mut up = up.stdin(Stdio::null()).stdout(out).spawn().unwrap();
    let shown = || std::fs::read_to_string(dir.path().join("out")).unwrap();
    let has_all = || ["to out\n", "cellinit out\n", &long, "to err\n"].iter().all(|words| shown().contains(words));
    for _ in 0..600 {
        if has_all() && shown().contains("-> completed") {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Every change is told when it happens, not with the next one.
    assert!(has_all() && shown().contains("-> completed"), "{}", shown());
    kill(Pid::from_raw(up.id() as i32), Signal::SIGINT).unwrap();
    assert!(up.wait().unwrap().success(), "{}", shown());
    assert!(shown().contains("half \\u{1b}[2J\n") && is_harmless(&shown()), "{}", shown());
}

#[test]
fn check_finds_every_fault_and_plan_reads_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.toml");
    let bad = dir.path().join("bad.toml");
    std::fs::write(&good, IDLE).unwrap();
    std::fs::write(&bad, "[service]\nexce = [\"/bin/true\"]\n[stop]\ntimeout = \"soon\"\n").unwrap();
    let (code, out, err) = said(dir.path(), &["check", good.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, err) = said(dir.path(), &["check", dir.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    for word in ["bad.toml:2:1", "exec", "bad.toml:4:"] {
        assert!(err.contains(word), "{word} is not in\n{err}");
    }
    // What is not text hides nothing else, and whoever names it is not wrong.
    std::fs::write(dir.path().join("binary.toml"), b"\xff").unwrap();
    std::fs::write(&good, format!("[unit]\nwants = [\"binary\", \"nowhere\"]\n{IDLE}")).unwrap();
    let (code, _, err) = said(dir.path(), &["check", dir.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    for word in ["binary.toml: a unit file is text", "bad.toml:2:1", "there is no unit `nowhere`", ": 4 faults"] {
        assert!(err.contains(word), "{word} is not in\n{err}");
    }
    assert!(!err.contains("no unit `binary`"), "{err}");
    std::fs::write(&good, IDLE).unwrap();
    let (code, out, err) = said(dir.path(), &["plan", good.to_str().unwrap(), "--json"]);
    assert_eq!(code, 0, "{err}");
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert!(plan["steps"].as_array().unwrap().len() > 10);
}

#[test]
fn check_finds_all_that_this_host_lacks_and_where_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let web = dir.path().join("web.toml");
    let check = |text: &str| {
        std::fs::write(&web, text).unwrap();
        said(dir.path(), &["check", web.to_str().unwrap()])
    };
    let (code, out, err) = check(IDLE);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "1 unit is in order\n", ""));
    let (code, _, err) = check(&format!("{IDLE}[limits]\nnofile = \"1024:4000000000\"\n[user]\nuser = \"nobody-at-all\"\n"));
    assert_eq!(code, 1);
    for word in ["web.toml:4:10", "on this host: limits.nofile: 4000000000 is above", "web.toml:6:8", "no user nobody-at-all", "1 of 1"] {
        assert!(err.contains(word), "{word} is not in\n{err}");
    }
    // What is not there yet is said, and may come.
    let text = "[service]\nexec = [\"/no/such\"]\nworking-dir = \"/no/place\"\n[env]\nfiles = [\"/no/env\", \"?/no/matter\"]\n[[mount]]\nsource = \"/no/where\"\ntarget = \"/run/x\"\n";
    let (code, _, err) = check(text);
    assert_eq!(code, 0, "{err}");
    let warnings: Vec<&str> = err.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    let missing = ["where", "env", "such", "place"].map(|name| format!("{name} is not on this host"));
    assert_eq!(warnings, missing, "{err}");
    assert!(err.contains("web.toml:3:15: service.working-dir: /no/place"), "{err}");
    assert!(err.contains("web.toml:7:10: mount[0].source: /no/where"), "{err}");
    // What is made for the cell need not be on the host.
    for own in ["/var/lib/mine/deep", "/run/mine", "/srv/own/x"] {
        let (code, _, err) = check(&format!(
            "{}working-dir = {own:?}\n[dirs]\nstate = \"mine\"\nruntime = \"mine\"\n[[mount]]\nsource = \"/usr\"\ntarget = \"/srv/own\"\n",
            IDLE
        ));
        assert_eq!((code, err.as_str()), (0, ""), "{own}");
    }
}

#[test]
fn check_warns_of_what_the_program_will_not_find_in_its_cell() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let web = dir.path().join("web.toml");
    let here = dir.path().to_str().unwrap();
    // In the cell this leads nowhere, wherever the link itself is.
    let link = tempfile::tempdir_in("/usr/local").unwrap();
    std::os::unix::fs::symlink(&web, link.path().join("link")).unwrap();
    let link = link.path().join("link");
    let link = link.to_str().unwrap();
    let unit = |rest: &str| {
        let words = ["/bin/sh", "/root", here, link, "/no/such", "/tmp", "/usr", "/dev/null", "relative", "-/root"];
        format!("[service]\nexec = {words:?}\nworking-dir = {here:?}\n{rest}")
    };
    let warned = |text: &str| {
        std::fs::write(&web, text).unwrap();
        let (code, _, err) = said(dir.path(), &["check", web.to_str().unwrap()]);
        assert_eq!(code, 0, "{err}");
        err.lines().map(|line| line.strip_prefix("warning: ").unwrap().split_once(": ").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let lost = |key: &str, path: &str, at: &str| {
        format!("{key}: {path} is on this host, but not in the cell, where {at} is empty: a [[mount]] can show it there")
    };
    let [root, script, linked, place] = [
        lost("service.exec[1]", "/root", "/root"),
        lost("service.exec[2]", here, "/tmp"),
        lost("service.exec[3]", link, "/tmp"),
        lost("service.working-dir", here, "/tmp"),
    ];
    assert_eq!(warned(&unit("")), [root.clone(), script, linked, place]);
    assert_eq!(warned(&unit(&format!("[[mount]]\nsource = {here:?}\ntarget = {here:?}\n"))), [root]);
    assert!(warned(&unit("[isolation]\nprofile = \"none\"\n")).is_empty());
}

fn now() -> Utc {
    Utc(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as u64)
}

/// Nothing in it steers a terminal.
fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || ('\u{2028}'..='\u{202e}').contains(&c))
}

#[test]
fn what_others_wrote_does_not_steer_the_terminal() {
    let wild = "[unit]\ndescription = \"a\\u009b2J\"\n[service]\n\
        exec = [\"/bin/sh\", \"-c\", \"printf 'x\\\\033[2J\\\\302\\\\233\\\\342\\\\200\\\\256y\\\\n'; sleep 1000\", \"\\u001b[2J\\u009b\\u202e\"]\n\
        [env]\nset = { A = \"\\u001b\\u009b\\nforged line\" }\n";
    let supervisor = Supervisor::start(&[("wild", wild)]);
    supervisor.wait_state("wild", "running");
    supervisor.until("a line", || supervisor.log("wild").contains("x\x1b[2J"));
    let run = supervisor.run_dir();
    let file = supervisor.files().join("x\x1b.toml");
    std::fs::write(&file, "[service]\nexec = [\"/bin/true\"]\n\"\u{9b}k\" = 1\n").unwrap();
    let file = file.to_str().unwrap();
    for (words, shown) in [
        (&["plan", "wild"][..], "\\u{1b}[2J\\u{9b}\\u{202e}"),
        (&["plan", "wild"], "\\nforged line"),
        (&["plan", "wild", "--json"], "\\u009b\\u202e"),
        (&["check", file], "\\u{9b}k"),
        (&["check", file], "x\\u{1b}.toml"),
        (&["run", file], "\\u{9b}k"),
        (&["status"], "a\\u{9b}2J"),
        (&["status", "wild"], "a\\u{9b}2J"),
        (&["status", "--json"], "a\\u009b2J"),
        (&["logs", "wild"], "x\\u{1b}[2J\\u{9b}\\u{202e}y"),
        (&["logs", "wild", "--json"], "x\\u001b[2J\\u009b\\u202ey"),
        (&["start", "no\u{9b}ne"], "no\\u{9b}ne"),
    ] {
        let (_, out, err) = said(&run, words);
        assert!(is_harmless(&out) && is_harmless(&err), "{words:?}: {out:?}{err:?}");
        assert!(format!("{out}{err}").contains(shown), "{words:?}: {out}{err}");
    }
    let raw = said(&run, &["logs", "wild", "--raw"]).1;
    assert!(raw.contains("x\x1b[2J\u{9b}\u{202e}y"), "{raw:?}");
    assert_eq!(said(&run, &["logs", "wild", "--raw", "--json"]).0, 2);
    supervisor.stop();
}

#[test]
fn what_never_started_is_down_since_the_supervisor_began_and_nothing_is_cut_in_a_pipe() {
    let long = format!("[unit]\ndescription = \"{}\"\n[service]\nexec = [\"/bin/true\"]\n[install]\nwanted-by = []\n", "long ".repeat(40));
    let earlier = now();
    let supervisor = Supervisor::start(&[("down", &long)]);
    let since = Utc::parse(supervisor.unit("down")["since"].as_str().unwrap()).unwrap();
    assert!(earlier.0 <= since.0 && since.0 <= now().0, "{earlier} {since}");
    assert!(said(&supervisor.run_dir(), &["status"]).1.contains("long ".repeat(40).trim_end()));
    supervisor.stop();
}
