//! The control socket of a real supervisor, and clients that mean harm.

#[path = "support/supervisor.rs"]
mod supervisor;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use cellinit::control::{self, Answer, Call, DESCRIPTION, EVENTS_KEPT, MAX_REQUEST, Request};
use serde_json::{Value, json};
use supervisor::Supervisor;

const IDLE: &str = "[service]\nexec = [\"/bin/sleep\", \"1000\"]\n";
const DOCUMENT: &str = include_str!("../docs/control.md");

fn connect(supervisor: &Supervisor) -> UnixStream {
    let stream = UnixStream::connect(supervisor.run_dir().join("control.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends bytes as they are, and reads one reply; empty when the supervisor hung up without a word.
fn exchange(supervisor: &Supervisor, bytes: &[u8]) -> String {
    let mut stream = connect(supervisor);
    // A refusal may come, and the connection be closed, before everything is written.
    stream.write_all(bytes).ok();
    let mut reply = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut reply).ok();
    String::from_utf8(reply).unwrap()
}

fn error(reply: &str) -> String {
    let reply: Value = serde_json::from_str(reply).unwrap_or_else(|e| panic!("{e}: {reply:?}"));
    reply["error"].as_str().unwrap_or("none").to_owned()
}

/// The supervisor answers others, every time: the client's own patience (a read that times out) is what a hang would cost.
fn is_well(supervisor: &Supervisor) {
    for _ in 0..200 {
        assert_eq!(supervisor.call("Ping", json!({}))["parameters"], json!({}));
    }
}

fn has_room(supervisor: &Supervisor) {
    supervisor.until("room for a client", || exchange(supervisor, b"{\"method\":\"org.cellinit.Ping\"}\n") == "{\"parameters\":{}}\n");
}

#[test]
fn every_method_answers_in_its_shape() {
    let supervisor = Supervisor::start(&[("web", IDLE), ("other", IDLE)]);
    supervisor.wait_state("web", "running");
    let info: control::Info = serde_json::from_value(supervisor.call("GetInfo", json!({}))["parameters"].clone()).unwrap();
    assert_eq!((info.pid, info.init, info.state.as_str()), (supervisor.pid(), false, "running"));
    let control::Units { units } = serde_json::from_value(supervisor.call("List", json!({}))["parameters"].clone()).unwrap();
    assert_eq!(units.iter().map(|unit| unit.name.as_str()).collect::<Vec<_>>(), ["default", "other", "web"]);
    let web = supervisor.unit("web");
    for field in
        ["name", "description", "kind", "state", "desired", "health", "ready", "pid", "restarts", "since", "cause", "cgroup", "memory"]
    {
        assert!(web.get(field).is_some(), "{field}");
    }
    assert_eq!(web["walls"]["no_new_privs"], true);
    let plan = supervisor.call("Plan", json!({ "unit": "web" }));
    assert!(plan["parameters"]["text"].as_str().unwrap().starts_with("plan of web"));
    assert_eq!(plan["parameters"]["plan"]["unit"], "web");
    let why = supervisor.call("Why", json!({ "unit": "web" }));
    assert_eq!(why["parameters"]["links"][0]["unit"], "web");
    let events = supervisor.events("web");
    assert!(events.iter().all(|event| event["unit"] == "web") && events.last().unwrap()["state"] == "running");
    let refused = supervisor.call("Start", json!({ "unit": "wep" }));
    assert_eq!(refused, json!({ "error": "org.cellinit.NoSuchUnit", "parameters": { "unit": "wep", "nearest": "web" } }));
    supervisor.stop();
}

#[test]
fn a_varlink_client_can_ask_what_there_is() {
    let supervisor = Supervisor::start(&[("web", IDLE)]);
    let mut stream = connect(&supervisor);
    stream.write_all(b"{\"method\":\"org.varlink.service.GetInfo\"}\0{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"org.cellinit\"}}\0").unwrap();
    let mut stream = BufReader::new(stream);
    let mut replies = [Vec::new(), Vec::new()];
    for reply in &mut replies {
        stream.read_until(0, reply).unwrap();
        assert_eq!(reply.pop(), Some(0), "a NUL is answered with a NUL");
    }
    let info: Value = serde_json::from_slice(&replies[0]).unwrap();
    assert_eq!(info["parameters"]["interfaces"], json!(["org.varlink.service", "org.cellinit"]));
    let description: Value = serde_json::from_slice(&replies[1]).unwrap();
    assert_eq!(description["parameters"]["description"], DESCRIPTION);
    supervisor.stop();
}

#[test]
fn what_is_no_request_is_refused_by_name() {
    let supervisor = Supervisor::start(&[("web", IDLE)]);
    let long_name = format!("{{\"method\":\"org.cellinit.Status\",\"parameters\":{{\"unit\":\"{}\"}}}}\n", "x".repeat(60_000));
    let nested = format!("{{\"method\":\"org.cellinit.Ping\",\"parameters\":{}\n", "[".repeat(60_000));
    for (frame, expected) in [
        ("nonsense\n", "org.cellinit.BadRequest"),
        ("{\"method\":\"org.cellinit.Dance\"}\n", "org.varlink.service.MethodNotFound"),
        ("{\"method\":\"org.cellinit.Status\"}\n", "org.varlink.service.InvalidParameter"),
        (
            "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"x\"}}\n",
            "org.varlink.service.InterfaceNotFound",
        ),
        (&long_name, "org.cellinit.NoSuchUnit"),
        (&nested, "org.cellinit.BadRequest"),
    ] {
        assert_eq!(error(&exchange(&supervisor, frame.as_bytes())), expected, "{frame:.60}");
    }
    // One byte less than the limit, the limit, one more.
    for (length, expected) in [(MAX_REQUEST - 1, "none"), (MAX_REQUEST, "none"), (MAX_REQUEST + 1, "org.cellinit.TooLarge")] {
        let mut frame = br#"{"method":"org.cellinit.Ping"}"#.to_vec();
        frame.resize(length, b' ');
        frame.push(b'\n');
        assert_eq!(error(&exchange(&supervisor, &frame)), expected, "{length}");
    }
    // 16 MiB without an end: it is not swallowed.
    let reply = exchange(&supervisor, &vec![b'x'; 16 << 20]);
    assert!(reply.is_empty() || error(&reply) == "org.cellinit.TooLarge", "{reply}");
    is_well(&supervisor);
    supervisor.stop();
}

#[test]
fn hostile_clients_hurt_only_themselves() {
    let supervisor = Supervisor::start(&[("web", IDLE)]);
    supervisor.wait_state("web", "running");
    // Half frames, and clients that ask and never read, each with a full pipe of requests.
    let half: Vec<UnixStream> = (0..15)
        .map(|_| {
            let mut stream = connect(&supervisor);
            stream.write_all(b"{\"method\":\"org.cellinit.").unwrap();
            stream
        })
        .collect();
    let deaf: Vec<UnixStream> = (0..15)
        .map(|_| {
            let mut stream = connect(&supervisor);
            stream.set_nonblocking(true).unwrap();
            while stream.write(&b"{\"method\":\"org.cellinit.List\"}\n".repeat(100)).is_ok() {}
            stream
        })
        .collect();
    is_well(&supervisor);
    // Garbage of every kind, from one seed.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..300 {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 32) as u8
        })
        .take(1 + round * 10)
        .collect();
        connect(&supervisor).write_all(&bytes).ok();
    }
    // So many at once may take every place until their ends are read.
    has_room(&supervisor);
    is_well(&supervisor);
    drop((half, deaf));
    assert_eq!(supervisor.unit("web")["state"], "running");
    supervisor.stop();
}

#[test]
fn too_many_clients_are_told_so_and_room_comes_back() {
    let supervisor = Supervisor::start(&[("web", IDLE)]);
    let mut crowd: Vec<UnixStream> = (0..200).map(|_| connect(&supervisor)).collect();
    let told: Vec<bool> = crowd
        .iter_mut()
        .map(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut reply = [0; 512];
            let length = stream.read(&mut reply).unwrap_or(0);
            String::from_utf8_lossy(&reply[..length]).contains("org.cellinit.Busy")
        })
        .collect();
    assert!(told.iter().filter(|told| **told).count() >= 100, "{told:?}");
    assert!(told.iter().filter(|told| !**told).count() >= 32, "{told:?}");
    drop(crowd);
    has_room(&supervisor);
    is_well(&supervisor);
    supervisor.stop();
}

#[test]
fn strangers_are_refused() {
    let supervisor = Supervisor::start(&[("web", IDLE)]);
    let socket = supervisor.run_dir().join("control.sock");
    let ask = || {
        let script = format!("echo '{{\"method\":\"org.cellinit.Ping\"}}' | socat - UNIX:{} 2>&1", socket.display());
        let output = Command::new("/bin/sh").args(["-c", &script]).uid(65534).gid(65534).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    std::fs::set_permissions(supervisor.run_dir().parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(ask().contains("Permission denied"), "the socket's mode keeps strangers out: {}", ask());
    // And were it open, the peer's credentials would.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    // Asked often: a socket that is closed before the question came would sometimes cost the answer.
    for _ in 0..20 {
        assert_eq!(error(&ask()), "org.cellinit.NotAllowed");
    }
    is_well(&supervisor);
    supervisor.stop();
}

#[test]
fn events_come_as_they_happen_to_those_who_ask_for_more() {
    let supervisor = Supervisor::start(&[("web", IDLE), ("other", IDLE)]);
    supervisor.wait_state("web", "running");
    supervisor.wait_state("other", "running");
    let mut stream = connect(&supervisor);
    stream.write_all(b"{\"method\":\"org.cellinit.Events\",\"parameters\":{\"unit\":\"web\",\"backlog\":1},\"more\":true}\n").unwrap();
    let mut stream = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let reply: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(reply["continues"], true);
        reply["parameters"]["events"].as_array().unwrap().clone()
    };
    assert_eq!(next().len(), 1);
    supervisor.call("Stop", json!({ "unit": "other" }));
    supervisor.call("Stop", json!({ "unit": "web" }));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &Value| event["state"] != "stopped") {
        seen.extend(next());
    }
    assert!(seen.iter().all(|event| event["unit"] == "web"));
    assert!(seen.windows(2).all(|pair| pair[0]["sequence"].as_u64() < pair[1]["sequence"].as_u64()));
    supervisor.stop();
}

#[test]
fn the_document_is_true() {
    // Every example is a request that is understood or a reply that can be read.
    let examples: Vec<&str> = DOCUMENT.lines().filter_map(|line| line.strip_prefix("    {")).collect();
    assert!(examples.len() >= 7);
    for example in examples {
        let example = format!("{{{example}");
        if example.starts_with("{\"method\"") {
            Call::parse(example.as_bytes()).unwrap_or_else(|e| panic!("{e}: {example}"));
            continue;
        }
        let value: Value = serde_json::from_str(&example).unwrap();
        match Answer::parse(example.as_bytes()).unwrap() {
            Err(_) => {}
            Ok(answer) if value["parameters"]["unit"].is_object() => {
                let control::Status { unit } = answer.into().unwrap();
                assert_eq!(serde_json::to_value(unit).unwrap(), value["parameters"]["unit"], "the example has every field");
            }
            Ok(answer) if value["parameters"]["events"].is_array() => drop(answer.into::<control::Events>().unwrap()),
            Ok(answer) => assert_eq!(answer.parameters, json!({})),
        }
    }
    // Every method and error of the interface is in the tables, and its bounds are the real ones.
    for line in DESCRIPTION.lines() {
        let Some(name) = line.strip_prefix("method ").or(line.strip_prefix("error ")) else { continue };
        let name = name.split(['(', ' ']).next().unwrap();
        assert!(
            DOCUMENT.contains(&format!("`org.cellinit.{name}`")) || DOCUMENT.contains(&format!("`{name}`")),
            "{name} is not documented"
        );
    }
    assert!(DOCUMENT.contains(&format!("{} KiB", MAX_REQUEST / 1024)) && DOCUMENT.contains(&format!("| {EVENTS_KEPT} |")));
    // The one-liner for socat is a request, too.
    let line = DOCUMENT.lines().find_map(|line| line.trim().strip_prefix("echo '")).unwrap();
    let request = line.split('\'').next().unwrap();
    assert_eq!(Call::parse(request.as_bytes()), Ok(Call::once(Request::Status { unit: "web".into() })));
}
