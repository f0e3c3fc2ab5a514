//! The control socket. One task for each connection: it cuts frames, asks the loop, writes the answer. Whatever a client
//! does (garbage, half a frame, never reading), it can hold up its own task only, and that for a bounded time.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, oneshot};
use tokio::time::timeout;

use super::happening::{Happening, Mail};
use crate::control::{
    Call, End, Error, Event, Events, FrameReader, Interface, MAX_REQUEST, Oversized, Request, ServiceInfo, error_text, reply_text,
};

/// Connections at once.
const MAX_CLIENTS: usize = 64;
/// A frame that has begun must end, and a written answer be taken, within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection on which nothing was asked for this long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// Bytes read at once.
const READ: usize = 4096;
/// How long one that was turned away may take to hang up, and how many of them are waited for at once.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGERING: usize = 64;
/// The pause after accept(2) failed (EMFILE), so that it is not tried in a circle.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the loop answers.
#[derive(Debug)]
pub enum Reply {
    Once(Result<Value, Error>),
    /// First these, then what comes.
    Stream {
        unit: Option<String>,
        backlog: Vec<Event>,
        live: broadcast::Receiver<Event>,
    },
}

/// A listener that only its owner may connect to; who connects is checked again at each connection.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    fs::remove_file(path).ok();
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Until it is aborted. Whoever serves next takes the same listener, in whose backlog clients wait meanwhile.
pub async fn serve(listener: Rc<UnixListener>, mail: Mail) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    let lingering = Arc::new(Semaphore::new(MAX_LINGERING));
    let owner = nix::unistd::getuid().as_raw();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let uid = stream.peer_cred().map_or(u32::MAX, |peer| peer.uid());
        // The place is taken here and not in the task: many clients may be accepted before the first task runs.
        let place = if uid != 0 && uid != owner {
            Err(Error::NotAllowed { uid })
        } else {
            Arc::clone(&places).try_acquire_owned().map_err(|_| Error::Busy { limit: MAX_CLIENTS as u64 })
        };
        let place = match place {
            Ok(place) => place,
            Err(error) => {
                // A fresh socket has room for this line; a client that is not there to read it is gone anyway.
                stream.try_write(&error_text(&error, End::Newline)).ok();
                if let Ok(place) = Arc::clone(&lingering).try_acquire_owned() {
                    tokio::task::spawn_local(async move {
                        timeout(LINGER, linger(stream)).await.ok();
                        drop(place);
                    });
                }
                continue;
            }
        };
        let mail = mail.clone();
        tokio::task::spawn_local(async move {
            Client { stream, mail }.talk().await;
            drop(place);
        });
    }
}

/// Closes without hurting the answer: a client that is still writing its question when the socket goes would get EPIPE,
/// or ECONNRESET in place of an answer that it has not read. No more is taken from it than one honest question.
async fn linger(mut stream: UnixStream) {
    stream.shutdown().await.ok();
    tokio::io::copy(&mut stream.take(MAX_REQUEST as u64), &mut tokio::io::sink()).await.ok();
}

struct Client {
    stream: UnixStream,
    mail: Mail,
}

impl Client {
    /// Until the client hangs up, breaks the rules or loses our patience.
    async fn talk(mut self) -> Option<()> {
        let mut frames = FrameReader::new(MAX_REQUEST);
        let mut bytes = [0; READ];
        loop {
            while let Some(frame) = frames.next_frame() {
                match frame {
                    Ok(frame) => self.answer(&frame.bytes, frame.end).await?,
                    Err(Oversized) => {
                        let error = Error::TooLarge { limit: MAX_REQUEST as u64 };
                        self.write(&error_text(&error, End::Newline)).await?;
                        timeout(LINGER, linger(self.stream)).await.ok();
                        return None;
                    }
                }
            }
            let patience = if frames.is_partial() { PATIENCE } else { IDLE };
            let length = timeout(patience, self.stream.read(&mut bytes)).await.ok()?.ok()?;
            if length == 0 {
                return None;
            }
            frames.push(&bytes[..length]);
        }
    }

    async fn answer(&mut self, frame: &[u8], end: End) -> Option<()> {
        let call = match Call::parse(frame) {
            Ok(call) => call,
            Err(error) => return self.write(&error_text(&error, end)).await,
        };
        let (oneway, more) = (call.oneway, call.more);
        let reply = match call.request {
            Request::ServiceInfo => Reply::Once(value(&ServiceInfo::ours(env!("CARGO_PKG_VERSION")))),
            Request::InterfaceDescription { interface } => Reply::Once(Interface::named(&interface).and_then(|i| value(&i))),
            request => {
                let (sender, receiver) = oneshot::channel();
                self.mail.send(Happening::Asked { request, reply: sender }).await.ok()?;
                receiver.await.ok()?
            }
        };
        match reply {
            _ if oneway => Some(()),
            Reply::Once(Ok(value)) => self.write(&reply_text(&value, false, end)).await,
            Reply::Once(Err(error)) => self.write(&error_text(&error, end)).await,
            Reply::Stream { unit, backlog, live } => {
                self.write(&reply_text(&Events { events: backlog }, more, end)).await?;
                if more { self.stream(unit, live, end).await } else { Some(()) }
            }
        }
    }

    /// Events as they happen, until the client hangs up. One that reads too slowly finds a gap in the sequence numbers.
    async fn stream(&mut self, unit: Option<String>, mut live: broadcast::Receiver<Event>, end: End) -> Option<()> {
        let mut nothing = [0; 64];
        loop {
            tokio::select! {
                event = live.recv() => match event {
                    Ok(event) if unit.as_ref().is_none_or(|unit| *unit == event.unit) => {
                        self.write(&reply_text(&Events { events: vec![event] }, true, end)).await?;
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                // Whoever asked for a stream has nothing more to ask on this connection.
                _ = self.stream.read(&mut nothing) => return None,
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.ok()?.ok()
    }
}

/// A reply's type as the loop's answer.
pub fn value(reply: &impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(reply).map_err(|e| Error::BadRequest { reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncBufReadExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::init::happening;

    async fn ask(path: &Path) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(b"{\"method\":\"org.varlink.service.GetInfo\"}\n").await.unwrap();
        let mut line = String::new();
        tokio::io::BufReader::new(stream).read_line(&mut line).await.unwrap();
        line
    }

    #[test]
    fn a_server_that_panicked_is_reported_and_another_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = Rc::new(listen(&path).unwrap());
            let (mail, mut mailbox) = mpsc::channel(8);
            let (first, wanted) = (Rc::clone(&listener), path.clone());
            let server = serve(first, mail.clone());
            // The panic is ours, since the server has none.
            happening::spawn(&mail, Happening::Unserved, async move {
                tokio::select! {
                    () = server => {}
                    answer = ask(&wanted) => panic!("on purpose, after {answer}"),
                }
            });
            assert!(matches!(mailbox.recv().await, Some(Happening::Unserved)));
            happening::spawn(&mail, Happening::Unserved, serve(listener, mail.clone()));
            assert!(ask(&path).await.contains("org.cellinit"));
            assert!(mailbox.try_recv().is_err());
        });
    }
}
