//! The process that writes the files.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::rate::Rate;
use super::split::{Rest, split};
use super::{Content, Line, MAX_MESSAGE, Message, Settings, Stream, file};
use crate::sys::caps;
use crate::time::Utc;

/// Bytes of one stream looked at in one turn; then the next stream has its turn.
const CHUNK: usize = 64 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 64;
/// Messages taken from the channel before the pipes have their turn.
const MESSAGES: usize = 64;
/// Turns for one stream before a note is written: a pipe of 1 MiB, the most that an unprivileged service can make it.
const TURNS_BEFORE_NOTE: usize = 16;
/// The beginning of a line is left in its pipe for this long, because a writer that dies does not lose it there.
const LINE_PATIENCE: Duration = Duration::from_secs(1);
/// How soon a pipe with the beginning of a line is looked at again; twice as long each time.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// How often it is said of one unit that its lines cannot be written.
const COMPLAINT: Duration = Duration::from_secs(60);
/// Whoever eats the memory dies before the writer, which holds little and is missed by all; proc_pid_oom_score_adj(5).
const OOM_SCORE: &str = "-900";
/// A log directory may be somebody else's: Debian's /var/log belongs to several groups.
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
/// The channel's key among the streams.
const CHANNEL: u64 = 0;

/// Writes logs into `directory` until the channel on standard input is closed and the pipes are empty. `last_wall` is put up when
/// everything is ready, and before anything is read.
pub fn run(directory: &Path, last_wall: impl FnOnce()) -> io::Result<()> {
    confine();
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    last_wall();
    let stdin = io::stdin();
    let mut writer = Writer::new(directory, stdin.as_fd())?;
    writer.serve()
}

/// This process reads what services wrote. It keeps its user, because the directory is that user's, and gives up what it can:
/// a network, all capabilities but the one to write where files are, new ones by execve, and every signal that could end it in the middle of a line (SIGKILL may: see `mend`).
fn confine() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let _ = nix::sys::prctl::set_no_new_privs();
    let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET | nix::sched::CloneFlags::CLONE_NEWIPC);
    if let Ok(permitted) = caps::permitted() {
        let kept = caps::Set(permitted.0 & CAP_DAC_OVERRIDE);
        let _ = caps::capset(kept, kept, caps::Set(0));
    }
    let _ = nix::sys::signal::SigSet::all().thread_block();
    // Two pipes for each unit.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

struct Writer<'a> {
    directory: &'a Path,
    channel: BorrowedFd<'a>,
    epoll: Epoll,
    /// By epoll key; keys are never used again.
    pipes: BTreeMap<u64, Pipe>,
    next_key: u64,
    /// Streams whose pipe holds the beginning of a line. The kernel wakes nobody when a service that was blocked on its full
    /// pipe goes on writing into one that was not empty (pipe_write() in fs/pipe.c), so these are looked at by the clock.
    begun: BTreeMap<u64, Begun>,
    /// Streams with bytes left from their last turn. Edge-triggered: the kernel says each thing once.
    ready: VecDeque<u64>,
    units: BTreeMap<String, Unit>,
    /// Our own pipe, into which bytes are duplicated to be looked at. Always empty between turns.
    peek_in: io::PipeReader,
    peek_out: io::PipeWriter,
    peek_capacity: usize,
    scratch: Vec<u8>,
}

struct Pipe {
    unit: String,
    stream: Stream,
    end: OwnedFd,
    /// Bytes that it has room for: 64 KiB, but two pages where a user without CAP_SYS_RESOURCE has many pipes; pipe(7).
    capacity: usize,
    /// Nobody can write any more.
    hung_up: bool,
    /// Its key is in `ready`.
    queued: bool,
}

/// The beginning of a line.
struct Begun {
    seen: Instant,
    look_again: Instant,
    wait: Duration,
}

struct Unit {
    settings: Settings,
    rate: Rate,
    /// Lines that could not be written, and why.
    failed: Option<(u64, String)>,
    /// When that was last said on the console.
    complained: Option<Instant>,
}

/// What one turn with a stream left behind.
#[derive(PartialEq)]
enum Turn {
    More,
    Idle,
    Finished,
}

impl<'a> Writer<'a> {
    fn new(directory: &'a Path, channel: BorrowedFd<'a>) -> io::Result<Self> {
        let (peek_in, peek_out) = io::pipe()?;
        fcntl(&peek_in, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let peek_capacity = usize::try_from(fcntl(&peek_in, FcntlArg::F_GETPIPE_SZ)?).unwrap_or(CHUNK);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(channel, EpollEvent::new(EpollFlags::EPOLLIN, CHANNEL))?;
        Ok(Writer {
            directory,
            channel,
            epoll,
            pipes: BTreeMap::new(),
            next_key: CHANNEL + 1,
            begun: BTreeMap::new(),
            ready: VecDeque::new(),
            units: BTreeMap::new(),
            peek_in,
            peek_out,
            peek_capacity,
            scratch: vec![0; CHUNK],
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(e) => return Err(e.into()),
            };
            for event in &events[..count] {
                if event.data() == CHANNEL {
                    if !self.listen()? {
                        self.finish();
                        return Ok(());
                    }
                } else {
                    if event.events().contains(EpollFlags::EPOLLHUP)
                        && let Some(pipe) = self.pipes.get_mut(&event.data())
                    {
                        pipe.hung_up = true;
                    }
                    self.queue(event.data());
                }
            }
            let now = Instant::now();
            let due: Vec<u64> = self.begun.iter().filter(|(_, begun)| begun.look_again <= now).map(|(key, _)| *key).collect();
            for key in due {
                self.queue(key);
            }
            for _ in 0..self.ready.len() {
                let Some(key) = self.ready.pop_front() else { break };
                let more = self.turn(key, Rest::Keep)? == Turn::More;
                if let Some(pipe) = self.pipes.get_mut(&key) {
                    pipe.queued = more;
                    self.ready.extend(more.then_some(key));
                }
            }
            self.report(false);
        }
    }

    fn queue(&mut self, key: u64) {
        if let Some(pipe) = self.pipes.get_mut(&key)
            && !std::mem::replace(&mut pipe.queued, true)
        {
            self.ready.push_back(key);
        }
    }

    /// How long to sleep: not at all with work left, else until a begun line or a count of dropped lines is due.
    fn patience(&self) -> EpollTimeout {
        if !self.ready.is_empty() {
            return EpollTimeout::ZERO;
        }
        let reports = self.units.values().filter_map(|unit| unit.rate.due(&unit.settings));
        let Some(due) = reports.chain(self.begun.values().map(|begun| begun.look_again)).min() else {
            return EpollTimeout::NONE;
        };
        let milliseconds = due.saturating_duration_since(Instant::now()).as_millis() + 1;
        EpollTimeout::try_from(milliseconds.min(i32::MAX as u128) as i32).unwrap_or(EpollTimeout::NONE)
    }

    /// Takes messages; `false` when the supervisor has closed the channel.
    fn listen(&mut self) -> io::Result<bool> {
        let mut buffer = [0; MAX_MESSAGE];
        for _ in 0..MESSAGES {
            let (length, descriptor) = match crate::sys::rights::receive(self.channel, &mut buffer) {
                Ok((0, None)) => return Ok(false),
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(true),
                Err(Errno::ECONNRESET | Errno::EPIPE) => return Ok(false),
                Err(e) => {
                    eprintln!("cellinit log-writer: a message could not be taken: {e}");
                    return Ok(true);
                }
            };
            match serde_json::from_slice::<Message>(&buffer[..length]) {
                Ok(message) => self.obey(message, descriptor)?,
                Err(e) => eprintln!("cellinit log-writer: a message could not be read: {e}"),
            }
        }
        Ok(true)
    }

    fn obey(&mut self, message: Message, descriptor: Option<OwnedFd>) -> io::Result<()> {
        let Message { unit, settings, content } = message;
        if !self.units.contains_key(&unit)
            && let Err(e) = file::mend(self.directory, &unit)
        {
            eprintln!("cellinit log-writer: {unit}: the end of its log could not be looked at: {e}");
        }
        let known = self.units.entry(unit.clone()).or_insert_with(|| Unit {
            settings,
            rate: Rate::new(Instant::now()),
            failed: None,
            complained: None,
        });
        known.settings = settings;
        match (content, descriptor) {
            (Content::Pipe(stream), Some(end)) => self.adopt(unit, stream, end)?,
            (Content::Pipe(_), None) => eprintln!("cellinit log-writer: {unit}: a pipe was announced and none came"),
            (Content::Note(text), _) => self.note(&unit, &text, Rest::Keep)?,
            (Content::Ended(text), _) => self.note(&unit, &text, Rest::Line)?,
        }
        Ok(())
    }

    fn adopt(&mut self, unit: String, stream: Stream, end: OwnedFd) -> io::Result<()> {
        let key = self.next_key;
        self.next_key += 1;
        // The sender's end is shared: whatever happens to what is in it, we never wait for more.
        fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let capacity = fcntl(&end, FcntlArg::F_GETPIPE_SZ)?;
        // Edge-triggered, because the beginning of a line stays in the pipe until its end is there.
        self.epoll.add(&end, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, key))?;
        self.pipes
            .insert(key, Pipe { unit, stream, end, capacity: usize::try_from(capacity).unwrap_or(CHUNK), hung_up: false, queued: true });
        self.ready.push_back(key);
        Ok(())
    }

    /// A line of the supervisor's own, after everything that the service wrote before it.
    fn note(&mut self, unit: &str, text: &str, rest: Rest) -> io::Result<()> {
        let keys: Vec<u64> = self.pipes.iter().filter(|(_, pipe)| pipe.unit == unit).map(|(key, _)| *key).collect();
        for key in keys {
            for _ in 0..TURNS_BEFORE_NOTE {
                if self.turn(key, rest)? != Turn::More {
                    break;
                }
            }
        }
        let time = now();
        let mut lines = Vec::new();
        for text in text.split('\n') {
            Line::write(&mut lines, &time, Stream::Sys, false, text.as_bytes());
        }
        self.store(unit, &lines);
        Ok(())
    }

    /// Looks at what a pipe holds, writes the whole lines of it, and takes exactly those out of the pipe.
    fn turn(&mut self, key: u64, rest: Rest) -> io::Result<Turn> {
        let Some(pipe) = self.pipes.get(&key) else { return Ok(Turn::Finished) };
        let available = match tee(&pipe.end, &self.peek_out, CHUNK, SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(0) => return Ok(self.forget(key)),
            Ok(available) => available,
            Err(Errno::EAGAIN) => {
                self.begun.remove(&key);
                return Ok(Turn::Idle);
            }
            Err(Errno::EINTR) => return Ok(Turn::More),
            Err(e) => {
                eprintln!("cellinit log-writer: {} {}: its pipe cannot be read: {e}", pipe.unit, pipe.stream.name());
                return Ok(self.forget(key));
            }
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        self.peek_in.read_exact(&mut scratch[..available])?;

        let (moment, time) = (Instant::now(), now());
        let overdue = self.begun.get(&key).is_some_and(|begun| moment >= begun.seen + LINE_PATIENCE);
        let rest = match rest {
            _ if pipe.hung_up => Rest::Line,
            Rest::Keep if overdue => Rest::Piece,
            asked => asked,
        };
        let (mut pieces, mut taken) = split(&scratch[..available], rest);
        let full = available.saturating_add(libc::PIPE_BUF) > pipe.capacity.min(self.peek_capacity);
        if taken == 0 && full {
            // The end of this line has no room: whoever writes it waits for us.
            (pieces, taken) = split(&scratch[..available], Rest::Piece);
        }
        let (unit, stream) = (pipe.unit.clone(), pipe.stream);
        let mut lines = Vec::with_capacity(taken + pieces.len() * (Utc::TEXT + 8));
        if let Some(known) = self.units.get_mut(&unit) {
            for piece in &pieces {
                if known.rate.admit(&known.settings, moment) {
                    Line::write(&mut lines, &time, stream, piece.continues, piece.text);
                }
            }
        }
        self.store(&unit, &lines);

        if let Some(pipe) = self.pipes.get(&key) {
            take_out(&pipe.end, &mut scratch[..taken]);
        }
        self.scratch = scratch;
        if taken > 0 {
            self.begun.remove(&key);
            return Ok(Turn::More);
        }
        let begun = self.begun.entry(key).or_insert(Begun { seen: moment, look_again: moment, wait: FIRST_LOOK });
        begun.look_again = (moment + begun.wait).min(begun.seen + LINE_PATIENCE);
        begun.wait = begun.wait.saturating_mul(2).min(LINE_PATIENCE);
        Ok(Turn::Idle)
    }

    fn forget(&mut self, key: u64) -> Turn {
        self.pipes.remove(&key);
        self.begun.remove(&key);
        Turn::Finished
    }

    /// A full disk costs lines, which are counted and mentioned when there is room again; it never stops a service.
    fn store(&mut self, unit: &str, lines: &[u8]) {
        let Some(known) = self.units.get_mut(unit) else { return };
        if lines.is_empty() {
            return;
        }
        let mut kept = Ok(());
        if let Some((lost, why)) = &known.failed {
            let mut confession = Vec::new();
            Line::write(&mut confession, &now(), Stream::Sys, false, format!("{lost} lines lost: {why}").as_bytes());
            kept = file::append(self.directory, unit, &known.settings, &confession).map_err(|(_, e)| (0, e));
            if kept.is_ok() {
                known.failed = None;
            }
        }
        if let Err((kept, e)) = kept.and_then(|()| file::append(self.directory, unit, &known.settings, lines)) {
            let lost = lines[kept..].iter().filter(|&&b| b == b'\n').count() as u64;
            let before = known.failed.take().map_or(0, |(lost, _)| lost);
            // A disk that is almost full takes every other line: each of them would begin anew.
            let due = known.complained.is_none_or(|last| last.elapsed() >= COMPLAINT);
            if before == 0 && due {
                known.complained = Some(Instant::now());
                eprintln!("cellinit log-writer: {}: {e}", file::current(self.directory, unit).display());
            }
            known.failed = Some((before + lost, e.to_string()));
        }
    }

    fn report(&mut self, at_once: bool) {
        let moment = Instant::now();
        let due: Vec<(String, String)> = self
            .units
            .iter_mut()
            .filter_map(|(name, unit)| Some((name.clone(), unit.rate.report(&unit.settings, moment, at_once)?)))
            .collect();
        for (unit, text) in due {
            let mut line = Vec::new();
            Line::write(&mut line, &now(), Stream::Sys, false, text.as_bytes());
            self.store(&unit, &line);
        }
    }

    /// The supervisor is gone or is done with us. What is in the pipes now is written; what comes later is for the next writer.
    fn finish(&mut self) {
        let keys: Vec<u64> = self.pipes.keys().copied().collect();
        for key in keys {
            for _ in 0..TURNS_BEFORE_NOTE {
                if !matches!(self.turn(key, Rest::Keep), Ok(Turn::More)) {
                    break;
                }
            }
        }
        self.report(true);
    }
}

/// Takes these bytes out of their pipe, which may be empty by now: a service that can open its own pipe for reading may have been
/// faster. That costs the service its lines; it must not cost us a wait.
fn take_out(end: &OwnedFd, bytes: &mut [u8]) {
    let mut taken = 0;
    // A pipe of packets gives them one by one; pipe(2).
    while let Some(rest) = bytes.get_mut(taken..).filter(|rest| !rest.is_empty()) {
        match nix::unistd::read(end, rest) {
            Ok(0) | Err(_) => return,
            Ok(length) => taken += length,
        }
    }
}

fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Utc(since.as_micros() as u64).to_string()
}
