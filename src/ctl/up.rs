//! `cell up DIR...`: a supervisor of its own, as PID 1 of a fresh pid namespace, and its units live in a table.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::Next;
use super::check;
use super::client::Client;
use super::events;
use super::failure::{FAILED, Failure};
use super::run::{missing, program};
use super::status::now;
use super::table;
use super::terminal::{self, Paint, clip};
use crate::control::{EVENTS_KEPT, Event, Request, Unit};
use crate::time::Utc;

/// The hidden verb that the first process of the namespace begins as.
pub const INSIDE: &str = "up-inside";
/// How long a supervisor may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is tried meanwhile.
const START_LOOK: Duration = Duration::from_millis(10);
/// The table is drawn this often when nothing happens, because ages and memory change; and no more often than `DRAW_PAUSE`.
const DRAW_EVERY: Duration = Duration::from_secs(1);
const DRAW_PAUSE: Duration = Duration::from_millis(100);
/// Events and warnings shown below the table.
const LAST_EVENTS: usize = 6;
/// The request to end that kills everything.
const KILLS: u32 = 3;
/// Lines of the supervisor's own output that are kept, to be shown when it fails.
const LAST_WORDS: usize = 40;

#[derive(Debug, Args)]
pub struct Up {
    /// Unit files, or folders of them
    #[arg(required = true)]
    units: Vec<PathBuf>,
}

impl Up {
    pub fn perform(self, run_dir: &Path) -> Result<Next, Failure> {
        check::read(&self.units)?;
        if Client::is_running(run_dir) {
            let why = format!("another supervisor runs in {}", run_dir.display());
            return Err(Failure::new("cannot bring the units up", why).hint("--run-dir DIR with a directory of its own"));
        }
        let signals = take_signals()?;
        let mut view = View::start(&self.units, run_dir)?;
        let mut client = view.connect(run_dir)?;
        let mut feed = Client::connect(run_dir)?;
        feed.subscribe(None, EVENTS_KEPT as u32, "cannot follow the events")?;
        let status = view.watch(&mut client, &mut feed, &signals)?;
        view.end(status)
    }
}

fn take_signals() -> Result<SignalFd, Failure> {
    let failed = |e| Failure::new("cannot take the signals", e);
    let mut mine = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGWINCH] {
        mine.add(signal);
    }
    mine.thread_block().map_err(failed)?;
    SignalFd::with_flags(&mine, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(failed)
}

struct View {
    supervisor: Child,
    /// Its standard output and error, of which units may have got copies (`stdout = "inherit"`).
    outputs: [Output; 2],
    /// The supervisor's own last lines, for when it fails.
    last_words: VecDeque<String>,
    terminal: bool,
    paint: Paint,
    run_dir: PathBuf,
    /// The last events, for below the table.
    recent: VecDeque<String>,
    /// What units wrote, for above the table: it stays there.
    above: Vec<String>,
    /// Lines of the table on the screen now.
    drawn: usize,
    units: Vec<Unit>,
    /// Times that we were asked to end.
    asked: u32,
}

impl View {
    /// The supervisor is a child in a new pid namespace. It stays there alone: this process keeps its own.
    fn start(units: &[PathBuf], run_dir: &Path) -> Result<View, Failure> {
        let doing = "cannot make a pid namespace";
        unshare(CloneFlags::CLONE_NEWPID).map_err(|e| Failure::new(doing, e.desc()).hint("run this as root"))?;
        let myself = std::env::current_exe().map_err(|e| Failure::new(doing, e))?;
        let mut command = Command::new(&myself);
        command.arg(INSIDE).arg("--").arg(program("cellinit"));
        for path in units {
            command.arg("--units").arg(path);
        }
        command.arg("--run-dir").arg(run_dir);
        // A group of its own: Ctrl-C is for us, and we ask for a stop in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut supervisor = command.spawn().map_err(|e| missing(&myself, e))?;
        let outputs = [supervisor.stdout.take().map(OwnedFd::from), supervisor.stderr.take().map(OwnedFd::from)].map(Output::new);
        Ok(View {
            supervisor,
            outputs,
            last_words: VecDeque::new(),
            terminal: std::io::stdout().is_terminal(),
            paint: Paint::for_stdout(),
            run_dir: run_dir.to_owned(),
            recent: VecDeque::new(),
            above: Vec::new(),
            drawn: 0,
            units: Vec::new(),
            asked: 0,
        })
    }

    fn connect(&mut self, run_dir: &Path) -> Result<Client, Failure> {
        let started = Instant::now();
        loop {
            if let Ok(client) = Client::connect(run_dir) {
                return Ok(client);
            }
            self.pass_on_outputs()?;
            if let Ok(Some(status)) = self.supervisor.try_wait() {
                return Err(self.failed(status));
            }
            if started.elapsed() > START_PATIENCE {
                let _ = self.supervisor.kill();
                return Err(Failure::new("cannot bring the units up", format!("the supervisor says nothing for {START_PATIENCE:?}")));
            }
            std::thread::sleep(START_LOOK);
        }
    }

    /// Until the supervisor has ended.
    fn watch(&mut self, client: &mut Client, feed: &mut Client, signals: &SignalFd) -> Result<ExitStatus, Failure> {
        let mut feeding = true;
        let mut dirty = true;
        let mut last_drawn: Option<Instant> = None;
        loop {
            if let Some(status) = self.supervisor.try_wait().map_err(|e| Failure::new("cannot wait for the supervisor", e))? {
                self.pass_on_outputs()?;
                self.draw(None)?;
                return Ok(status);
            }
            let wait = match last_drawn.map(|at| at.elapsed()) {
                None => Duration::ZERO,
                Some(since) if dirty => DRAW_PAUSE.saturating_sub(since),
                Some(since) => DRAW_EVERY.saturating_sub(since),
            };
            if self.terminal && wait.is_zero() {
                self.draw(Some(client))?;
                last_drawn = Some(Instant::now());
                dirty = false;
                continue;
            }
            let patience = if self.terminal { PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX) } else { PollTimeout::NONE };
            let [from_feed, from_signals, from_outputs] = wait_for(feed, feeding, signals, &self.outputs, patience)?;
            if from_feed {
                match feed.next_events("cannot follow the events") {
                    Ok(Some(events)) => self.take(&events)?,
                    Ok(None) | Err(_) => feeding = false,
                }
                dirty = true;
            }
            if from_outputs {
                dirty |= self.pass_on_outputs()?;
            }
            while from_signals && let Ok(Some(signal)) = signals.read_signal() {
                dirty = true;
                if [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].iter().any(|ours| *ours as u32 == signal.ssi_signo) {
                    self.stop(client)?;
                }
            }
        }
    }

    /// The first time in order; whoever insists a third time gets SIGKILL for everyone.
    fn stop(&mut self, client: &mut Client) -> Result<(), Failure> {
        self.asked += 1;
        let pid = Pid::from_raw(self.supervisor.id().cast_signed());
        match self.asked {
            1 => {
                self.say("stopping every unit in order".into())?;
                if client.ask(Request::Poweroff, "cannot stop the units").is_err() {
                    let _ = kill(pid, Signal::SIGTERM);
                }
                Ok(())
            }
            KILLS.. => {
                let _ = kill(pid, Signal::SIGKILL);
                Ok(())
            }
            _ => self.say("still stopping; once more kills everything at once".into()),
        }
    }

    fn take(&mut self, events: &[Event]) -> Result<(), Failure> {
        for event in events {
            // The rows follow the events, too, because at the very end there is nobody left to ask for rows.
            if let Some(unit) = self.units.iter_mut().find(|unit| unit.name == event.unit) {
                unit.state.clone_from(&event.state);
                unit.health.clone_from(&event.health);
                unit.since.clone_from(&event.time);
                if event.pid.is_none() {
                    (unit.pid, unit.memory) = (None, None);
                }
                unit.waiting_for.clear();
            }
            self.say(if self.terminal { events::show_short(event, self.paint) } else { events::show(event, self.paint) })?;
        }
        Ok(())
    }

    /// What units wrote to our output, and warnings of the supervisor itself; what that says of units, the events say too.
    fn pass_on_outputs(&mut self) -> Result<bool, Failure> {
        let [out, err] = self.outputs.each_mut().map(Output::read);
        let mut any = false;
        // The supervisor itself writes to its standard error only.
        for (line, may_be_own) in out.into_iter().map(|line| (line, false)).chain(err.into_iter().map(|line| (line, true))) {
            let level = own_level(&line).filter(|_| may_be_own);
            if level.is_some() {
                self.last_words.push_back(line.clone());
                if self.last_words.len() > LAST_WORDS {
                    self.last_words.pop_front();
                }
            }
            let line = terminal::harmless(&line);
            match level {
                None if self.terminal => self.above.push(line),
                None => terminal::write(line + "\n")?,
                Some("WARN" | "ERROR") => self.say(line)?,
                Some(_) => continue,
            }
            any = true;
        }
        Ok(any)
    }

    /// On a terminal it appears below the table; elsewhere it is a line.
    fn say(&mut self, line: String) -> Result<(), Failure> {
        if !self.terminal {
            return terminal::write(&(line + "\n"));
        }
        self.recent.push_back(line);
        if self.recent.len() > LAST_EVENTS {
            self.recent.pop_front();
        }
        Ok(())
    }

    /// Over the last one. `None` when there is nobody left to ask: the last known rows stay.
    fn draw(&mut self, client: Option<&mut Client>) -> Result<(), Failure> {
        if !self.terminal {
            return Ok(());
        }
        if let Some(client) = client
            && let Ok(units) = client.units()
        {
            self.units = units;
        }
        let (columns, rows) = terminal::size();
        let mut lines = vec![clip(&terminal::harmless(&self.headline()), columns)];
        lines.extend(table::render(&self.units, now(), columns, self.paint));
        // One row stays free for the cursor, and scrolling would break the counting.
        let room = rows.saturating_sub(LAST_EVENTS + 3).max(2);
        if lines.len() > room {
            let hidden = lines.len() - room + 1;
            lines.truncate(room - 1);
            lines.push(self.paint.dim(&clip(
                &terminal::harmless(&format!("... and {hidden} more: cell status --run-dir {}", self.run_dir.display())),
                columns,
            )));
        }
        lines.push(String::new());
        // Colours have no width, so a coloured line is cut by the terminal itself (no wrapping while we draw).
        lines.extend(self.recent.iter().cloned());
        lines.truncate(rows.saturating_sub(1).max(1));
        let up = if self.drawn > 0 { format!("\x1b[{}F", self.drawn) } else { String::new() };
        self.drawn = lines.len();
        let above: String = self.above.drain(..).map(|line| line + "\n").collect();
        terminal::write(format!("{up}\x1b[J{above}\x1b[?7l{}\n\x1b[?7h", lines.join("\n")))
    }

    fn headline(&self) -> String {
        let count = |state: &str| self.units.iter().filter(|unit| unit.state == state).count();
        let mut text = format!("{} units, {} running", self.units.len(), count("running"));
        for state in ["waiting", "starting", "backoff", "failed"] {
            if count(state) > 0 {
                text.push_str(&format!(", {} {state}", count(state)));
            }
        }
        let hint = if self.asked > 0 { "stopping" } else { "Ctrl-C stops everything in order" };
        format!("{text} in {}. {hint}.", self.run_dir.display())
    }

    fn end(&mut self, status: ExitStatus) -> Result<Next, Failure> {
        if status.success() {
            return Ok(Next::Exit(ExitCode::SUCCESS));
        }
        if self.asked < KILLS || status.signal() != Some(Signal::SIGKILL as i32) {
            return Err(self.failed(status));
        }
        let why = "you asked a third time, so everything was killed at once";
        eprint!("{}", Failure::new("the units were not stopped in order", why).render(Paint::for_stderr()));
        Ok(Next::Sweep { run_dir: self.run_dir.clone() })
    }

    fn failed(&mut self, status: ExitStatus) -> Failure {
        for line in &self.last_words {
            eprintln!("{}", terminal::harmless(line));
        }
        let why = match status.signal() {
            Some(signal) => format!("the supervisor was killed by signal {signal}"),
            None => format!("the supervisor ended with status {}", status.code().unwrap_or_default()),
        };
        Failure::new("the units are not up", why).code(FAILED)
    }
}

/// What of these has something to say: the events, the signals, the supervisor's output.
fn wait_for(feed: &Client, feeding: bool, signals: &SignalFd, outputs: &[Output; 2], patience: PollTimeout) -> Result<[bool; 3], Failure> {
    // A descriptor that has hung up would wake poll for ever: in its place stands one that is watched anyway.
    let fd = |fd: Option<_>| match fd {
        Some(fd) => PollFd::new(fd, PollFlags::POLLIN),
        None => PollFd::new(signals.as_fd(), PollFlags::empty()),
    };
    let [out, err] = outputs.each_ref().map(|output| fd(output.pipe.as_ref().map(AsFd::as_fd)));
    let mut watched = [fd(feeding.then(|| feed.stream().as_fd())), PollFd::new(signals.as_fd(), PollFlags::POLLIN), out, err];
    match poll(&mut watched, patience) {
        Ok(_) | Err(nix::Error::EINTR) => {
            let [feed, signals, out, err] = watched.map(|fd| fd.any().unwrap_or(false));
            Ok([feed, signals, out || err])
        }
        Err(e) => Err(Failure::new("cannot wait", e.desc())),
    }
}

/// The level of a line that the supervisor itself logged: `2026-11-22T10:00:00.123456Z  INFO unit: web: running`; none of these
/// levels for its last words, which are shown when it has failed. Other lines are some unit's.
fn own_level(line: &str) -> Option<&str> {
    if line.starts_with("cellinit") {
        return Some("");
    }
    let (time, rest) = line.split_at_checked(Utc::TEXT)?;
    Utc::parse(time)?;
    rest.split_whitespace().next().filter(|level| ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(level))
}

/// One of the supervisor's outputs: always read, so that nobody who writes there waits for us.
struct Output {
    /// None at its end.
    pipe: Option<File>,
    partial: Vec<u8>,
}

impl Output {
    fn new(pipe: Option<OwnedFd>) -> Self {
        Output { pipe: pipe.map(File::from), partial: Vec::new() }
    }

    /// The lines that came since the last call, the last one without its end when there is no more to come. What is longer than a
    /// piece is cut.
    fn read(&mut self) -> Vec<String> {
        const PIECE: usize = 16 * 1024;
        /// More than a pipe holds; a flood has to let the table be drawn in between.
        const PIECES: usize = 64;
        let mut lines = Vec::new();
        let mut chunk = [0; PIECE];
        for _ in 0..PIECES {
            let Some(pipe) = self.pipe.as_mut().filter(|pipe| is_readable(pipe)) else { break };
            match pipe.read(&mut chunk) {
                Ok(0) | Err(_) => self.pipe = None,
                Ok(length) => self.partial.extend_from_slice(&chunk[..length]),
            }
            while let Some(end) = self.partial.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.partial.len() > PIECE || self.pipe.is_none() && !self.partial.is_empty() {
                lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned());
            }
        }
        lines
    }
}

fn is_readable(pipe: &File) -> bool {
    let mut watched = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Becomes the supervisor, once /proc shows its namespace.
#[derive(Debug, Args)]
pub struct Inside {
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<std::ffi::OsString>,
}

impl Inside {
    pub fn perform(self) -> Result<ExitCode, Failure> {
        let call = |what: &'static str| move |e: nix::Error| Failure::new(what, e.desc());
        // When the one who watches dies, the units are stopped in order. It survives execve; prctl(2).
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(call("cannot ask for a signal at the parent's death"))?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(call("cannot make a mount namespace"))?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(call("cannot make the mounts private"))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(call("cannot mount /proc"))?;
        Err(missing(&self.program, Command::new(&self.program).args(&self.arguments).exec()))
    }
}
