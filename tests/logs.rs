//! The log writer as a process: what it is given it keeps, whatever happens to it.

#[path = "support/supervisor.rs"]
mod supervisor;

use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cellinit::log::{self, Content, Line, Message, Settings, Stream, Writer};
use supervisor::Supervisor;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cellinit");
const PATIENCE: Duration = Duration::from_secs(30);

/// A unit with one pipe of which, like PID 1, it keeps both ends.
struct Unit {
    name: &'static str,
    settings: Settings,
    read: std::io::PipeReader,
    write: PipeWriter,
}

impl Unit {
    fn new(name: &'static str, settings: Settings) -> Self {
        let (read, write) = std::io::pipe().unwrap();
        Unit { name, settings, read, write }
    }

    fn message(&self, content: Content) -> Message {
        Message { unit: self.name.into(), settings: self.settings, content }
    }

    fn hand_over(&self, writer: &Writer) {
        log::send(writer.channel.as_fd(), &self.message(Content::Pipe(Stream::Out)), Some(self.read.as_fd())).unwrap();
    }

    fn tell(&self, writer: &Writer, content: Content) {
        log::send(writer.channel.as_fd(), &self.message(content), None).unwrap();
    }
}

fn unlimited() -> Settings {
    Settings { max_size: 1 << 40, max_files: 2, rate_burst: 0, rate_interval: Duration::from_secs(1) }
}

fn start(directory: &Path) -> Writer {
    log::start(Path::new(PROGRAM), directory).unwrap()
}

fn lines(directory: &Path, unit: &str) -> Vec<Line> {
    log::last_lines(directory, unit, usize::MAX).map(|(lines, _)| lines).unwrap_or_default()
}

fn texts(directory: &Path, unit: &str) -> Vec<(Stream, String)> {
    lines(directory, unit).into_iter().map(|l| (l.stream, String::from_utf8_lossy(&l.text).into_owned())).collect()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "still no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Closes the channel and waits for the writer, which must end by itself and well.
fn finish(writer: Writer) {
    drop(writer.channel);
    let mut child = writer.child;
    let status = wait_for("end of the writer", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn lines_notes_and_what_was_left_without_a_newline() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start(dir.path());
    let mut unit = Unit::new("web", unlimited());
    unit.hand_over(&writer);
    unit.write.write_all(b"one\ntwo\nthr").unwrap();
    wait_for("two lines", || (lines(dir.path(), "web").len() == 2).then_some(()));
    unit.tell(&writer, Content::Note("ready".into()));
    unit.write.write_all(b"ee\nleft over").unwrap();
    unit.tell(&writer, Content::Ended("exit status 0".into()));
    let expected = [
        (Stream::Out, "one"),
        (Stream::Out, "two"),
        (Stream::Sys, "ready"),
        (Stream::Out, "three"),
        (Stream::Out, "left over"),
        (Stream::Sys, "exit status 0"),
    ];
    // The note may come before or after "ee\n" is in the pipe; the order of each stream is what counts.
    let found = wait_for("six lines", || Some(texts(dir.path(), "web")).filter(|l| l.len() == 6));
    for stream in [Stream::Out, Stream::Sys] {
        let of = |l: &[(Stream, String)]| l.iter().filter(|(s, _)| *s == stream).map(|(_, t)| t.clone()).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|(s, t)| (*s, t.to_string())).collect();
        assert_eq!(of(&found), of(&expected));
    }
    assert_eq!(found[5].1, "exit status 0");
    finish(writer);
}

#[test]
fn the_writer_has_walls() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start(dir.path());
    let mut unit = Unit::new("web", unlimited());
    unit.hand_over(&writer);
    unit.write.write_all(b"one\n").unwrap();
    wait_for("a line", || (lines(dir.path(), "web").len() == 1).then_some(()));
    let status = std::fs::read_to_string(format!("/proc/{}/status", writer.child.id())).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
    assert_eq!((field("Seccomp"), field("NoNewPrivs"), field("Threads")), ("2", "1", "1"), "{status}");
    // Where this host lets us have it at all.
    let may = Command::new("/bin/sh").args(["-c", "echo -900 > /proc/self/oom_score_adj"]).status().unwrap().success();
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", writer.child.id())).unwrap();
    assert!(!may || score.trim() == "-900", "{score}");
    // CAP_DAC_OVERRIDE, at most.
    assert!(u64::from_str_radix(field("CapEff"), 16).unwrap() & !2 == 0, "{status}");
    finish(writer);
}

#[test]
fn any_byte_is_kept_and_long_lines_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start(dir.path());
    let mut unit = Unit::new("web", unlimited());
    unit.hand_over(&writer);
    let strange = b"\xff\xfe\0nul\r\x1b[31mred";
    let long = vec![b'x'; 40_000];
    unit.write.write_all(&[strange, &b"\n"[..], &long, b"\nafter\n"].concat()).unwrap();
    let found = wait_for("five lines", || Some(lines(dir.path(), "web")).filter(|l| l.len() == 5));
    assert_eq!(found[0].text, strange);
    let pieces: Vec<_> = found[1..4].iter().map(|l| (l.text.len(), l.continues)).collect();
    assert_eq!(pieces, [(16_384, true), (16_384, true), (7_232, false)]);
    assert_eq!(found[4].text, b"after");
    finish(writer);
}

/// Of a pipe that has room for a part of a line only, the part is taken at once: the other half waits for that.
#[test]
fn a_line_that_is_longer_than_its_pipe_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start(dir.path());
    let mut unit = Unit::new("web", unlimited());
    nix::fcntl::fcntl(&unit.write, nix::fcntl::FcntlArg::F_SETPIPE_SZ(8192)).unwrap();
    unit.hand_over(&writer);
    let long = vec![b'x'; 8192 * 200];
    unit.write.write_all(&[&long, &b"\n"[..]].concat()).unwrap();
    // A second for each pipe full of it would be more than anybody's patience.
    wait_for("the whole line", || {
        let lines = lines(dir.path(), "web");
        let whole =
            lines.last().is_some_and(|line| !line.continues) && lines.iter().map(|line| line.text.len()).sum::<usize>() == long.len();
        whole.then_some(())
    });
    finish(writer);
}

#[test]
fn a_writer_killed_in_a_flood_loses_nothing() {
    const LINES: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path());
    let unit = Unit::new("flood", unlimited());
    unit.hand_over(&writer);
    let mut service = unit.write.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        for n in 0..LINES {
            service.write_all(format!("line {n} {}\n", "x".repeat((n % 90) as usize)).as_bytes()).unwrap();
        }
    });
    let mut kills = 0;
    while !flood.is_finished() {
        // On a busy machine a writer may not even have begun after this long; more each time lets one get through.
        std::thread::sleep(Duration::from_millis(10 + kills));
        writer.child.kill().unwrap();
        writer.child.wait().unwrap();
        kills += 1;
        writer = start(dir.path());
        unit.hand_over(&writer);
    }
    flood.join().unwrap();
    finish(writer);
    assert!(kills > 3, "the flood was over after {kills} kills");

    // Every line, whole and in order; after a kill the last write may be there twice.
    let mut next = 0;
    for line in lines(dir.path(), "flood") {
        let text = String::from_utf8(line.text).unwrap();
        let mut words = text.splitn(3, ' ');
        let number: u64 = words.nth(1).unwrap().parse().unwrap();
        assert_eq!(words.next().unwrap().len() as u64, number % 90, "{text}");
        assert!(number <= next, "line {next} is missing before {number}");
        next = next.max(number + 1);
    }
    assert_eq!(next, LINES);
    let bytes = std::fs::read(dir.path().join("flood.log")).unwrap();
    assert!(bytes.split(|&b| b == b'\n').all(|l| l.is_empty() || Line::parse(l).is_some()), "a torn line");
}

#[test]
fn a_flood_is_limited_counted_and_does_not_hold_up_others() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start(dir.path());
    let limited = Settings { rate_burst: 1000, rate_interval: Duration::from_millis(500), ..unlimited() };
    let flood = Unit::new("flood", limited);
    let mut quiet = Unit::new("quiet", unlimited());
    flood.hand_over(&writer);
    quiet.hand_over(&writer);
    let mut service = flood.write.try_clone().unwrap();
    let written = std::thread::spawn(move || {
        let end = Instant::now() + Duration::from_secs(1);
        let mut written = 0u64;
        while Instant::now() < end {
            service.write_all(&b"flood\n".repeat(1000)).unwrap();
            written += 1000;
        }
        written
    });
    let asked = Instant::now();
    quiet.write.write_all(b"hello\n").unwrap();
    wait_for("the quiet line", || (!lines(dir.path(), "quiet").is_empty()).then_some(()));
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    let written = written.join().unwrap();
    finish(writer);

    let found = texts(dir.path(), "flood");
    let kept = found.iter().filter(|(s, _)| *s == Stream::Out).count() as u64;
    let dropped: u64 = found
        .iter()
        .filter(|(s, t)| *s == Stream::Sys && t.contains("lines dropped: more than 1000 in 0.5s"))
        .map(|(_, t)| t.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(written > 100_000, "the writer held up the service: {written} lines in a second");
    assert!(kept <= 4000, "{kept} lines kept");
    assert_eq!(kept + dropped, written);
}

#[test]
fn files_rotate_and_are_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start(dir.path());
    let mut unit = Unit::new("web", Settings { max_size: 20_000, max_files: 4, ..unlimited() });
    unit.hand_over(&writer);
    for n in 0..5000 {
        writeln!(unit.write, "line {n}").unwrap();
        if n % 100 == 0 {
            std::thread::sleep(Duration::from_millis(1)); // Many small turns of the writer, not one.
        }
    }
    finish(writer);
    let mut names: Vec<String> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["web.log", "web.log.1", "web.log.2", "web.log.3"]);
    let found = texts(dir.path(), "web");
    let first: usize = found[0].1.strip_prefix("line ").unwrap().parse().unwrap();
    let expected: Vec<String> = (first..5000).map(|n| format!("line {n}")).collect();
    assert_eq!(found.into_iter().map(|(_, t)| t).collect::<Vec<_>>(), expected);
}

#[test]
fn a_disk_that_is_full_costs_lines_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.log");
    std::fs::create_dir(&path).unwrap(); // A directory in its place: no write can succeed.
    let writer = start(dir.path());
    let mut unit = Unit::new("web", unlimited());
    unit.hand_over(&writer);
    for _ in 0..10 {
        unit.write.write_all(&b"lost\n".repeat(20_000)).unwrap(); // Far more than a pipe holds.
    }
    unit.tell(&writer, Content::Note("still here".into()));
    wait_for("an empty pipe", || {
        let mut probe = [nix::poll::PollFd::new(unit.read.as_fd(), nix::poll::PollFlags::POLLIN)];
        (nix::poll::poll(&mut probe, 0u8).unwrap() == 0).then_some(())
    });
    std::fs::remove_dir(&path).unwrap();
    unit.write.write_all(b"room again\n").unwrap();
    finish(writer);
    let found = texts(dir.path(), "web");
    assert!(found[0].1.contains("lines lost: "), "{found:?}");
    assert_eq!(found.last().unwrap().1, "room again");
}

/// Somebody who may write to the log directory, as an administrator's program, puts them there.
#[test]
fn what_is_no_file_in_the_place_of_a_log_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo.log");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/nowhere", dir.path().join("link.log")).unwrap();
    let writer = start(dir.path());
    let mut units = ["fifo", "link", "web"].map(|name| Unit::new(name, unlimited()));
    for unit in &mut units {
        unit.hand_over(&writer);
        unit.write.write_all(b"one\n").unwrap();
    }
    wait_for("a line", || (lines(dir.path(), "web").len() == 1).then_some(()));
    for name in ["fifo.log", "link.log"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    for unit in &mut units {
        unit.write.write_all(b"two\n").unwrap();
    }
    finish(writer);
    assert_eq!(texts(dir.path(), "web").len(), 2);
    for name in ["fifo", "link"] {
        let found = texts(dir.path(), name);
        assert_eq!(found[0].1, "1 lines lost: not a regular file", "{found:?}");
        assert_eq!(found[1].1, "two");
    }
}

/// Each write that succeeds in between makes the next failure a new one.
#[test]
fn a_disk_that_is_full_again_and_again_is_said_once() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    let (path, console) = (dir.path().join("web.log"), dir.path().join("console"));
    let (channel, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg0("cellinit").arg(log::ROLE).arg(dir.path()).stdin(theirs).stderr(File::create(&console).unwrap());
    let writer = Writer { channel, child: command.spawn().unwrap() };
    drop(command);
    let mut unit = Unit::new("web", unlimited());
    unit.hand_over(&writer);
    for round in 0..3 {
        std::fs::create_dir(&path).unwrap();
        unit.write.write_all(b"lost\n").unwrap();
        wait_for("an empty pipe", || {
            let mut probe = [nix::poll::PollFd::new(unit.read.as_fd(), nix::poll::PollFlags::POLLIN)];
            (nix::poll::poll(&mut probe, 0u8).unwrap() == 0).then_some(())
        });
        std::fs::remove_dir(&path).unwrap();
        unit.write.write_all(b"kept\n").unwrap();
        wait_for("the line after", || texts(dir.path(), "web").last().is_some_and(|(_, text)| text == "kept").then_some(()));
        assert!(texts(dir.path(), "web")[0].1.contains("1 lines lost"), "round {round}");
        std::fs::remove_file(&path).unwrap();
    }
    finish(writer);
    let said = std::fs::read_to_string(&console).unwrap();
    assert_eq!(said.matches("web.log: ").count(), 1, "{said}");
}

/// The first unit opens its own pipe and drains it between the writer's look and its read.
#[test]
fn a_service_that_reads_its_own_pipe_harms_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start(dir.path());
    let (thief, mut other) = (Unit::new("thief", unlimited()), Unit::new("other", unlimited()));
    thief.hand_over(&writer);
    other.hand_over(&writer);
    let path = format!("/proc/self/fd/{}", thief.write.as_raw_fd());
    let own = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 4096];
            let mut pauses = (0..400).step_by(7).cycle().map(Duration::from_micros);
            while !over.load(Ordering::Relaxed) {
                let _stolen = (&own).read(&mut bytes);
                // Always at once would be too early: the writer must have had its look.
                std::thread::sleep(pauses.next().unwrap());
            }
        });
        let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 0..500 {
                // No more until the other was heard: nothing wakes a writer that waits for what is gone.
                (&thief.write).write_all(b"stolen\n").unwrap();
                other.write.write_all(format!("{n}\n").as_bytes()).unwrap();
                wait_for("the other's line", || (lines(dir.path(), "other").len() > n).then_some(()));
            }
        }));
        over.store(true, Ordering::Relaxed);
        heard.unwrap();
    });
    finish(writer);
}

#[test]
fn garbage_on_the_channel_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start(dir.path());
    for garbage in [&b"nonsense"[..], b"{}", &[0xff; 8192], b"[[[[[["] {
        nix::sys::socket::send(std::os::fd::AsRawFd::as_raw_fd(&writer.channel), garbage, nix::sys::socket::MsgFlags::empty()).unwrap();
    }
    let unit = Unit::new("web", unlimited());
    unit.tell(&writer, Content::Pipe(Stream::Out)); // Without its pipe.
    unit.tell(&writer, Content::Note("x\u{1}".repeat(10_000)));
    unit.tell(&writer, Content::Note("alive".into()));
    finish(writer);
    assert_eq!(texts(dir.path(), "web").last().unwrap().1, "alive");
}

#[test]
fn a_prompt_is_seen_before_its_line_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start(dir.path());
    let mut unit = Unit::new("web", unlimited());
    unit.hand_over(&writer);
    unit.write.write_all(b"password: ").unwrap();
    let found = wait_for("the prompt", || Some(lines(dir.path(), "web")).filter(|l| !l.is_empty()));
    assert_eq!((&found[0].text[..], found[0].continues), (&b"password: "[..], true));
    unit.write.write_all(b"hunter2\n").unwrap();
    let found = wait_for("its rest", || Some(lines(dir.path(), "web")).filter(|l| l.len() == 2));
    assert_eq!((&found[1].text[..], found[1].continues), (&b"hunter2"[..], false));
    finish(writer);
}

/// The writer is a child of the supervisor; this is its pid.
fn writer_of(supervisor: &Supervisor) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", supervisor.pid())).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).find(|pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split(|&b| b == 0).nth(1) == Some(log::ROLE.as_bytes()))
    })
}

#[test]
fn the_supervisor_replaces_its_writer_and_no_line_is_lost() {
    let counting = "[service]\nexec = [\"/bin/sh\", \"-c\", \"i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.05; done; sleep 1000\"]\n";
    let flood = "[service]\nexec = [\"/bin/sh\", \"-c\", \"exec yes flood\"]\n[log]\nrate = { burst = 1000, interval = \"1s\" }\n";
    let supervisor = Supervisor::start(&[("counting", counting), ("flood", flood)]);
    let directory = supervisor.run_dir().join("log");
    let mut killed = 0;
    let counted = || {
        lines(&directory, "counting")
            .iter()
            .filter(|l| l.stream == Stream::Out)
            .filter_map(|l| std::str::from_utf8(&l.text).ok()?.parse().ok())
            .collect::<Vec<u64>>()
    };
    wait_for("the last number", || {
        if killed < 5
            && let Some(writer) = writer_of(&supervisor)
        {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(writer), nix::sys::signal::Signal::SIGKILL).unwrap();
            killed += 1;
            std::thread::sleep(Duration::from_millis(150));
        }
        counted().contains(&2999).then_some(())
    });
    assert_eq!(killed, 5);
    let mut seen = counted();
    seen.dedup();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..3000).collect::<Vec<_>>());
    // The flood is limited, and holds nobody up.
    let asked = Instant::now();
    supervisor.call("Ping", serde_json::json!({}));
    assert!(asked.elapsed() < Duration::from_secs(1));
    wait_for("a count of dropped lines", || supervisor.log("flood").contains("lines dropped: more than 1000 in 1s").then_some(()));
    supervisor.stop();
}
