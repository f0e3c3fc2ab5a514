//! One connection to a supervisor.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::{Failure, NOT_RUNNING};
use super::pids::Pids;
use crate::control::{Answer, Call, End, Event, Events, FrameReader, Info, MAX_REPLY, Request, SOCKET, Status, Unit, Units, encode};

/// How long a supervisor may take to let us in, to hear a request and to answer it.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Client {
    path: PathBuf,
    stream: UnixStream,
    reader: FrameReader,
}

impl Client {
    /// Connects, or says that nobody is there.
    pub fn connect(run_dir: &Path) -> Result<Client, Failure> {
        let path = run_dir.join(SOCKET);
        let doing = || format!("cannot reach a supervisor at {}", path.display());
        match open(&path) {
            Ok(stream) => {
                is_trusted(&stream).map_err(|why| Failure::new(doing(), why))?;
                Ok(Client { stream, reader: FrameReader::new(MAX_REPLY), path })
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory) => {
                let hint = "`cell up DIR` starts one; --run-dir or CELLINIT_RUN_DIR names another";
                Err(Failure::new(doing(), "nothing is running there").code(NOT_RUNNING).hint(hint))
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(Failure::new(doing(), e).hint("run this as root")),
            Err(e) => Err(Failure::new(doing(), e)),
        }
    }

    /// Whether a supervisor answers there.
    pub fn is_running(run_dir: &Path) -> bool {
        open(&run_dir.join(SOCKET)).is_ok()
    }

    /// One question, one answer. `doing` is the beginning of the sentence should it fail.
    pub fn call<T: DeserializeOwned>(&mut self, request: Request, doing: &str) -> Result<T, Failure> {
        self.send(&Call::once(request), doing)?;
        let answer = self.receive(doing)?.ok_or_else(|| self.hung_up(doing))?;
        answer.into().map_err(|e| senseless(doing, &e))
    }

    /// A wish: the answer says only that it was taken down.
    pub fn ask(&mut self, request: Request, doing: &str) -> Result<(), Failure> {
        self.call::<Value>(request, doing).map(drop)
    }

    pub fn units(&mut self) -> Result<Vec<Unit>, Failure> {
        let mut units = self.units_inside()?;
        self.pids()?.translate(&mut units);
        Ok(units)
    }

    /// With pids as the supervisor numbers them.
    pub fn units_inside(&mut self) -> Result<Vec<Unit>, Failure> {
        let Units { units } = self.call(Request::List, "cannot list the units")?;
        Ok(units)
    }

    pub fn unit(&mut self, name: &str, doing: &str) -> Result<Unit, Failure> {
        let Status { mut unit } = self.call(Request::Status { unit: name.into() }, doing)?;
        self.pids()?.translate(std::slice::from_mut(&mut unit));
        Ok(unit)
    }

    /// From here on this connection gives events; the first call of [`next_events`](Self::next_events) gives the last `backlog`.
    pub fn subscribe(&mut self, unit: Option<String>, backlog: u32, doing: &str) -> Result<(), Failure> {
        self.send(&Call { request: Request::Events { unit, backlog: Some(backlog) }, more: true, oneway: false }, doing)
    }

    /// Waits for events; `None` when the supervisor is gone. The first answer comes at once, later ones when something happens.
    pub fn next_events(&mut self, doing: &str) -> Result<Option<Vec<Event>>, Failure> {
        let mut next = self.receive(doing)?;
        if next.is_none() {
            return Ok(None);
        }
        self.stream.set_read_timeout(None).map_err(|e| Failure::new(doing, e))?;
        let mut all = Vec::new();
        // Whatever came along with it is not announced by the stream again.
        while let Some(answer) = next {
            let Events { events } = answer.into().map_err(|e| senseless(doing, &e))?;
            all.extend(events);
            next = self.received(doing)?;
        }
        Ok(Some(all))
    }

    /// To be polled along with other things.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Waits until the supervisor hangs up.
    pub fn wait_for_end(mut self) {
        self.stream.set_read_timeout(None).ok();
        let mut scratch = [0; 4096];
        while self.stream.read(&mut scratch).is_ok_and(|n| n > 0) {}
    }

    pub fn pids(&mut self) -> Result<Pids, Failure> {
        let info: Info = self.call(Request::GetInfo, "cannot ask the supervisor about itself")?;
        let outside = getsockopt(&self.stream, PeerCredentials).map(|peer| peer.pid()).unwrap_or(info.pid);
        Ok(Pids::new(outside, info.pid))
    }

    fn send(&mut self, call: &Call, doing: &str) -> Result<(), Failure> {
        // A supervisor that refuses the connection says so and hangs up; then its words are worth more than our EPIPE.
        match self.stream.write_all(&encode(&call.to_value(), End::Nul)) {
            Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::new(doing, e)),
            _ => Ok(()),
        }
    }

    /// The next reply; `None` at the end of the connection.
    fn receive(&mut self, doing: &str) -> Result<Option<Answer>, Failure> {
        let mut chunk = [0; 64 * 1024];
        loop {
            if let Some(answer) = self.received(doing)? {
                return Ok(Some(answer));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(length) => self.reader.push(&chunk[..length]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Err(Failure::new(doing, format!("whoever listens at {} says nothing for {PATIENCE:?}", self.path.display())));
                }
                Err(e) => return Err(Failure::new(doing, e)),
            }
        }
    }

    /// A reply that has been read already.
    fn received(&mut self, doing: &str) -> Result<Option<Answer>, Failure> {
        let Some(frame) = self.reader.next_frame() else { return Ok(None) };
        let frame = frame.map_err(|_| Failure::new(doing, format!("the answer is longer than {MAX_REPLY} bytes")))?;
        match Answer::parse(&frame.bytes) {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) => Err(Failure::refused(doing, error)),
            Err(e) => Err(senseless(doing, &e)),
        }
    }

    fn hung_up(&self, doing: &str) -> Failure {
        Failure::new(doing, format!("the supervisor at {} hung up", self.path.display())).code(NOT_RUNNING)
    }
}

/// connect(2) waits as long as a write may take: a listener that accepts nobody must not hold us for ever.
fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, SendTimeout, &TimeVal::new(PATIENCE.as_secs() as i64, 0))?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Anybody may have bound a socket in a directory that anybody may write to. Whom we obey is root, or who we are.
fn is_trusted(stream: &UnixStream) -> Result<(), String> {
    let owner = getsockopt(stream, PeerCredentials).map_err(|e| e.to_string())?.uid();
    let own = nix::unistd::geteuid().as_raw();
    match owner == 0 || owner == own {
        true => Ok(()),
        false => Err(format!("uid {owner} listens there, who is neither root nor you (uid {own})")),
    }
}

fn senseless(doing: &str, error: &serde_json::Error) -> Failure {
    Failure::new(doing, format!("the answer makes no sense: {error}"))
}
