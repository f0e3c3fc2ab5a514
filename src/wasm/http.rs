//! Guests that serve HTTP: the listener the supervisor opened, hyper in front, one instance per request behind.
//!
//! One thread for everything but files. What comes from the network is bounded before a guest sees any of it: connections,
//! requests at once, heads, bodies, and the time that each may take.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, oneshot, watch};
use wasmtime::component::Component;
use wasmtime::{Result, error::Context};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{handler::ProxyPre, p2, p3};

use super::cause::{End, IMPORTS, WrongWorld, say};
use super::crowd::{Connection, Crowd, Staying};
use super::files::Files;
use super::grants::{self, FileAccess};
use super::host::Host;
use super::linker::linker;
use super::patience::Patience;
use super::request::{self, Guests};
use super::ticker::Ticker;
use super::world::Speaks;
use cellinit::sys::inherited::inherited;

/// Until the whole head of a request is there, in however small pieces it comes; it also ends connections that are kept alive for nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Until a client that reads nothing is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes and lines of a request's head.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
/// For requests in flight when the stop signal comes.
const DRAIN: Duration = Duration::from_secs(5);
/// After accept(2) failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Until it is said again that it did.
const ACCEPT_QUIET: Duration = Duration::from_secs(10);
/// Descriptors that are for no connection: files of guests, and our own.
const RESERVED: u64 = 256;
/// Turns of tasks between two looks at sockets and timers. A turn of a guest that computes takes a whole tick, so that the
/// runtime's own 61 would keep everybody else waiting for a third of a second.
const EVENT_INTERVAL: u32 = 4;
/// Threads for file operations of guests.
const FILE_THREADS: usize = 8;

/// Comes back only if there is nothing to serve; otherwise it ends the process after the stop signal.
pub fn serve(host: &Host<'_>, component: &Component, speaks: Speaks) -> Result<Infallible> {
    let spec = host.spec;
    let Some(fd) = spec.http.listen_fd else {
        return Err(WrongWorld(
            "the component serves HTTP and was given no socket to serve: say kind = \"service\" and add a [[socket]] to the unit",
        )
        .into());
    };
    if spec.limits.deadline_ms.is_some() {
        return Err(WrongWorld("wasm.limits.deadline is for commands; a component that serves HTTP has wasm.limits.request-timeout").into());
    }
    let stop = stop_signal()?;
    let linker = linker(&host.engine, component)?;
    let pre = linker.instantiate_pre(component).context(IMPORTS)?;
    let pre = match speaks {
        Speaks::Http3 => ProxyPre::P3(p3::bindings::ServicePre::new(pre)?),
        _ => ProxyPre::P2(p2::bindings::ProxyPre::new(pre)?),
    };
    // A grant that cannot be kept shows now, not at the first request.
    grants::wasi(spec, FileAccess::Aside)?;
    let guests = Arc::new(Guests {
        engine: host.engine.clone(),
        spec: spec.clone(),
        budget: host.budget.clone(),
        pre,
        ticker: Ticker::start(host.engine.clone())?,
        slots: Arc::new(Semaphore::new(spec.http.max_concurrent as usize)),
        files: Files::new(spec, host.notify),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .max_blocking_threads(FILE_THREADS)
        .build()?;
    let end = runtime.block_on(async {
        let listener = match Listener::from_fd(fd) {
            Ok(listener) => listener,
            Err(error) => return End::host_failure(format!("descriptor {fd} is no listener: {error}")),
        };
        host.notify.send("READY=1\nSTATUS=serving");
        accept_until(stop, listener, guests).await;
        End::exit(0)
    });
    // Not back to the caller: putting the runtime away would wait for file operations that hang.
    end.tell_and_leave(host.notify)
}

/// Accepts until the stop signal; then lets what is in flight end.
async fn accept_until(mut stop: oneshot::Receiver<()>, listener: Listener, guests: Arc<Guests>) {
    let crowd = Crowd::new(most_connections(guests.spec.http.max_connections));
    let (stopping, stopped) = watch::channel(false);
    let mut quiet_until = Instant::now();
    loop {
        // One is in our hand while it waits for a place; others wait in the listener's backlog.
        let accepted = async {
            match listener.accept().await {
                Ok(stream) => Ok((stream, crowd.admit().await)),
                Err(error) => Err(error),
            }
        };
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, place)) => drop(tokio::spawn(serve_connection(stream, place, guests.clone(), stopped.clone()))),
            Err(error) => {
                let now = Instant::now();
                if now >= quiet_until {
                    say(format_args!("accept: {error}"));
                    quiet_until = now + ACCEPT_QUIET;
                }
                crowd.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let _ = tokio::time::timeout(DRAIN, crowd.dispersed()).await;
}

/// As many as the unit says, as far as there are descriptors for them. The soft limit is for programs that use select(2).
fn most_connections(wanted: u32) -> u32 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((RESERVED, RESERVED));
    let limit = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    let most = u32::try_from(limit.saturating_sub(RESERVED)).unwrap_or(u32::MAX).max(1);
    if most < wanted {
        say(format_args!("{most} connections at once and not {wanted}: limits.nofile is {limit}"));
    }
    wanted.min(most)
}

async fn serve_connection(stream: Stream, place: Arc<Connection>, guests: Arc<Guests>, mut stopped: watch::Receiver<bool>) {
    let answers = place.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (guests, answering) = (guests.clone(), answers.answer());
        async move { Ok::<_, Infallible>(request::answer(guests, request).await.map(|body| Staying::new(body, answering))) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .keep_alive(true)
        .serve_connection(TokioIo::new(Patience::new(stream, WRITE_TIMEOUT)), service);
    let mut connection = pin!(connection);
    // What goes wrong on a connection is the client's affair: it went away, or it sent what is no HTTP and got a 400.
    tokio::select! {
        biased;
        // Before the connection gets to read the end of a head.
        () = place.gives_way() => return,
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Resolves with SIGTERM or SIGINT. They are blocked, here and so in every later thread, and a thread waits for them: a pid
/// namespace's first process is not even sent a signal that it neither handles nor blocks.
fn stop_signal() -> Result<oneshot::Receiver<()>> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block().context("sigprocmask")?;
    let (stop, stopped) = oneshot::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.wait().is_ok() {
            let _ = stop.send(());
        }
    })?;
    Ok(stopped)
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}
type Stream = Box<dyn Duplex>;

impl Listener {
    fn from_fd(fd: i32) -> io::Result<Self> {
        let fd: OwnedFd = inherited(fd)?;
        let tcp = std::net::TcpListener::from(fd);
        tcp.set_nonblocking(true)?;
        // Only an internet socket has an address that std::net can name.
        if tcp.local_addr().is_ok() {
            return Ok(Listener::Tcp(TcpListener::from_std(tcp)?));
        }
        Ok(Listener::Unix(UnixListener::from_std(OwnedFd::from(tcp).into())?))
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Heads and bodies are written as they come; waiting to fill a packet only adds to the answer's time.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Listener::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}
