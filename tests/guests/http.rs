//! Guests that serve HTTP, through a listener like the supervisor's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use cellinit::plan::guest::{GuestDir, GuestSpec};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{command, compiled, guest, notify_socket, received, spec};

struct Server {
    child: Child,
    address: SocketAddr,
    notify: UnixDatagram,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(name: &str, change: impl FnOnce(&mut GuestSpec)) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).expect("fcntl");
        let mut spec = spec();
        spec.http.listen_fd = Some(listener.as_raw_fd());
        change(&mut spec);
        let dir = tempfile::tempdir().expect("a directory");
        let (notify, path) = notify_socket(dir.path());
        let child = command(&compiled(&guest(name), spec.limits.fuel.is_some()), &spec, &path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cell-wasm");
        notify.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut buffer = [0; 256];
        let length = notify.recv(&mut buffer).expect("READY=1");
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), "READY=1\nSTATUS=serving");
        Server { child, address, notify, _dir: dir }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    }

    /// The whole of the answer, head and body as they came.
    fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
    }

    fn send(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("sent");
        rest(&mut stream)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("kill");
    }

    /// Stops it in order; what it wrote on stderr.
    fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let mut text = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
        let status = self.child.wait().expect("wait");
        assert_eq!(status.code(), Some(0), "{text}");
        assert!(received(&self.notify).is_empty(), "a request's end is not the server's");
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Until the other end closes, or breaks.
fn rest(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[track_caller]
fn status(answer: &str, code: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{code} wanted: {answer}");
}

#[test]
fn a_request_is_answered_by_the_guest() {
    let server = Server::start("http-hello", |spec| {
        spec.args = vec!["hello".into()];
        spec.env = [("KEY".into(), "value".into())].into();
    });
    let answer = server.get("/some/path?query");
    status(&answer, 200);
    assert!(answer.contains("Hello from /some/path?query\n"), "{answer}");
    let answer = server.get("/env");
    assert!(answer.contains(r#"["hello"] [("KEY", "value")]"#), "{answer}");
    let answer = server.get("/stream");
    assert_eq!(answer.matches('x').count(), 64 * 4096);
    assert!(answer.ends_with("0\r\n\r\n"), "a whole body");
    assert_eq!(server.stop(), "");
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let server = Server::start("http-hello", |_| {});
    let mut stream = server.connect();
    for i in 0..50 {
        write!(stream, "GET /{i} HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
        let wanted = format!("Hello from /{i}\n\r\n0\r\n\r\n");
        let mut text = String::new();
        while !text.ends_with(&wanted) {
            let mut buffer = [0; 1024];
            let length = stream.read(&mut buffer).expect("an answer");
            assert!(length > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }
    server.stop();
}

#[test]
fn a_unix_socket_serves_as_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("http");
    let listener = UnixListener::bind(&path).expect("a socket");
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).expect("fcntl");
    let server = Server::start("http-hello", |spec| spec.http.listen_fd = Some(listener.as_raw_fd()));
    let mut stream = UnixStream::connect(&path).expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
    status(&rest(&mut stream), 200);
    server.stop();
}

/// Each fails alone: the client is told, the log says why, the next one is served.
#[test]
fn what_a_guest_does_to_one_request_it_does_to_that_request() {
    let server = Server::start("http-crash", |spec| spec.limits.request_timeout_ms = 500);
    let cases = [
        ("/trap", 500, "GET /trap: wasm trap: wasm `unreachable` instruction executed, in http_crash::boom\n   0: http_crash::boom\n"),
        ("/spin", 504, "GET /spin: stopped after wasm.limits.request-timeout = 500 ms\n"),
        ("/sleep", 504, "GET /sleep: stopped after wasm.limits.request-timeout = 500 ms\n"),
        ("/grow", 500, "GET /grow: a memory of "),
        ("/exit", 500, "GET /exit: "),
        ("/silent", 500, "GET /silent: guest never invoked"),
        ("/error", 500, "GET /error: "),
    ];
    for (path, code, _) in cases {
        status(&server.get(path), code);
        status(&server.get("/fine"), 200);
    }
    let half = server.get("/half");
    assert!(!half.ends_with("0\r\n\r\n"), "a client can tell half an answer: {half}");
    status(&server.get("/fine"), 200);
    let log = server.stop();
    for (_, _, line) in cases {
        assert!(log.contains(line), "{line:?} in {log}");
    }
    assert!(log.contains("GET /half: wasm trap: "), "{log}");
}

/// Sets of headers lie in the host's memory, which no limit of the guest's own counts.
#[test]
fn what_the_host_holds_for_a_guest_has_a_bound() {
    let server = Server::start("http-crash", |_| {});
    status(&server.get("/fields"), 500);
    status(&server.get("/fine"), 200);
    let log = server.stop();
    assert!(log.contains("resource table has no free keys"), "{log}");
}

#[test]
fn a_request_has_its_own_fuel() {
    let server = Server::start("http-crash", |spec| spec.limits.fuel = Some(5_000_000));
    for _ in 0..3 {
        status(&server.get("/spin"), 500);
        status(&server.get("/fine"), 200);
    }
    assert_eq!(server.stop().matches("wasm.limits.fuel is used up").count(), 3);
}

#[test]
fn wasi_0_3_serves_as_well() {
    let server = Server::start("http3-hello", |spec| spec.limits.request_timeout_ms = 500);
    let answer = server.get("/three");
    status(&answer, 200);
    assert!(answer.contains("Hello from /three\n") && answer.ends_with("0\r\n\r\n"), "{answer}");
    status(&server.get("/spin"), 504);
    let half = server.get("/half");
    assert!(!half.ends_with("0\r\n\r\n"), "a client can tell half an answer: {half}");
    status(&server.get("/fine"), 200);
    let log = server.stop();
    assert!(log.contains("GET /half: wasm trap: "), "{log}");
}

/// One that computes and never calls out does not keep others waiting.
#[test]
fn a_guest_that_spins_shares_the_thread() {
    let server = Server::start("http-crash", |spec| spec.limits.request_timeout_ms = 3_000);
    let mut spinning: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for stream in &mut spinning {
        stream.write_all(b"GET /spin HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
    }
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    status(&server.get("/fine"), 200);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn one_too_many_at_once_is_told_to_come_back() {
    let server = Server::start("http-crash", |spec| {
        spec.http.max_concurrent = 2;
        spec.limits.request_timeout_ms = 1_000;
    });
    let mut busy: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for stream in &mut busy {
        stream.write_all(b"GET /sleep HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
    }
    std::thread::sleep(Duration::from_millis(200));
    let answer = server.get("/fine");
    status(&answer, 503);
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    for mut stream in busy {
        status(&rest(&mut stream), 504);
    }
    status(&server.get("/fine"), 200);
}

#[test]
fn one_connection_too_many_waits_its_turn() {
    let server = Server::start("http-crash", |spec| {
        spec.http.max_connections = 2;
        spec.limits.request_timeout_ms = 2_000;
    });
    let mut busy: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for stream in &mut busy {
        stream.write_all(b"GET /sleep HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
    }
    std::thread::sleep(Duration::from_millis(200));
    let mut waiting = server.connect();
    waiting.write_all(b"GET /fine HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
    waiting.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    assert_eq!(rest(&mut waiting), "", "nobody serves it yet");
    // Who is being answered is answered.
    for mut stream in busy {
        status(&rest(&mut stream), 504);
    }
    waiting.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    status(&rest(&mut waiting), 200);
}

/// One client that opens connections and says nothing must not keep everybody else out.
#[test]
fn who_has_kept_the_server_waiting_longest_gives_way() {
    let server = Server::start("http-hello", |spec| spec.http.max_connections = 4);
    let mut busy = server.connect();
    let head = "POST /body HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    busy.write_all(head.as_bytes()).expect("sent");
    // The guest wants the body: the request is in its hands.
    let mut wanted = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    busy.read_exact(&mut wanted).expect("100 Continue");
    let mut heads: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for head in &mut heads {
        // The server may have closed it already.
        let _ = head.write_all(b"GET / HTTP/1.1\r\nX-Slow: ");
    }
    status(&server.get("/"), 200);
    for head in &mut heads[..17] {
        assert_eq!(rest(head), "", "it gave way");
    }
    busy.write_all(b"body").expect("sent");
    let answer = rest(&mut busy);
    assert!(answer.contains("4 bytes"), "{answer}");
    // The soft limit of descriptors, for programs that use select(2), is none for a server.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).expect("limits");
    let files: Vec<&str> = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line").split_whitespace().collect();
    assert_eq!(files[3], files[4]);
    assert_eq!(server.stop().matches("accept").count(), 0);
}

/// A thread that opens a FIFO which nobody writes to never comes back, whatever becomes of the request.
#[test]
fn a_server_whose_files_are_stuck_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let mut server = Server::start("http-crash", |spec| {
        spec.dirs = vec![GuestDir { guest: "/data".into(), path: dir.path().to_string_lossy().into_owned(), writable: false }];
        spec.limits.request_timeout_ms = 1_000;
    });
    let ask = |server: &Server| {
        let mut stream = server.connect();
        stream.write_all(b"GET /fifo HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
        stream
    };
    // One is nobody's harm.
    status(&rest(&mut ask(&server)), 504);
    status(&server.get("/fine"), 200);
    let asked: Vec<_> = (0..8).map(|_| ask(&server)).collect();
    for mut stream in asked {
        status(&rest(&mut stream), 504);
    }
    let mut text = String::new();
    server.child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
    assert_eq!(server.child.wait().expect("wait").code(), Some(197), "{text}");
    assert!(text.contains("no file operation has come back"), "{text}");
}

#[test]
fn memory_is_shared_by_all_requests() {
    // Each instance begins with some 1.1 MiB.
    let server = Server::start("http-crash", |spec| {
        spec.limits.memory = 3 << 20;
        spec.limits.request_timeout_ms = 1_000;
    });
    let mut busy: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for stream in &mut busy {
        stream.write_all(b"GET /sleep HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
    }
    std::thread::sleep(Duration::from_millis(200));
    status(&server.get("/fine"), 500);
    for mut stream in busy {
        status(&rest(&mut stream), 504);
    }
    status(&server.get("/fine"), 200);
    assert!(server.stop().contains("GET /fine: a memory of "));
}

#[test]
fn who_names_no_host_is_told_so() {
    let server = Server::start("http-hello", |_| {});
    for version in ["1.0", "1.1"] {
        let answer = server.send(&format!("GET /fine HTTP/{version}\r\nConnection: close\r\n\r\n"));
        assert!(answer.contains(" 400 Bad Request") && answer.contains("names no host"), "{answer}");
    }
    assert_eq!(server.stop(), "");
}

#[test]
fn a_body_has_a_bound() {
    let server = Server::start("http-hello", |spec| spec.http.max_body = 1000);
    let post =
        |head: &str, body: &str| server.send(&format!("POST /body HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{head}\r\n\r\n{body}"));
    let fits = "x".repeat(1000);
    let answer = post("Content-Length: 1000", &fits);
    assert!(answer.contains("1000 bytes"), "{answer}");
    // Known from the head: the guest is not even asked.
    status(&post("Content-Length: 1001", &format!("{fits}x")), 413);
    // Found out on the way: the guest learns that its stream failed.
    let answer = post("Transfer-Encoding: chunked", &format!("3e8\r\n{fits}\r\n1\r\nx\r\n0\r\n\r\n"));
    status(&answer, 400);
    assert!(answer.contains("exceeds limit"), "{answer}");
}

#[test]
fn a_head_has_a_bound() {
    let server = Server::start("http-hello", |_| {});
    let line = format!("X-Long: {}\r\n", "x".repeat(256 << 10));
    status(&server.send(&format!("GET / HTTP/1.1\r\nHost: test\r\n{line}\r\n")), 431);
    let lines: String = (0..200).map(|i| format!("X-{i}: x\r\n")).collect();
    status(&server.send(&format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n")), 431);
    status(&server.send("this is no HTTP\r\n\r\n"), 400);
    status(&server.get("/"), 200);
}

#[test]
fn the_stop_signal_lets_requests_end() {
    let mut server = Server::start("http-crash", |spec| spec.limits.request_timeout_ms = 1_000);
    let mut idle = server.connect();
    idle.write_all(b"GET /fine HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
    let mut stream = server.connect();
    stream.write_all(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    server.signal(Signal::SIGTERM);
    // Kept alive for nothing, it is closed; in the midst of a request, it is answered.
    assert!(rest(&mut idle).starts_with("HTTP/1.1 200"));
    status(&rest(&mut stream), 504);
    assert_eq!(server.child.wait().expect("wait").code(), Some(0));
}

#[test]
fn the_stop_signal_waits_five_seconds_at_most() {
    let mut server = Server::start("http-crash", |_| {});
    let mut stream = server.connect();
    stream.write_all(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.child.wait().expect("wait").code(), Some(0));
    let took = start.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_server_needs_a_listener() {
    let no_start = |change: &dyn Fn(&mut GuestSpec), code, expected: &str| {
        let mut spec = spec();
        change(&mut spec);
        let left = crate::bench::run(&guest("http-hello"), &spec);
        assert_eq!(left.code, Some(code), "{left:#?}");
        assert!(left.err.contains(expected), "{left:#?}");
    };
    no_start(&|_| {}, 196, "add a [[socket]] to the unit");
    no_start(&|spec| spec.http.listen_fd = Some(77), 197, "descriptor 77 is no listener");
    no_start(&|spec| spec.limits.deadline_ms = Some(1), 196, "add a [[socket]]");
}
