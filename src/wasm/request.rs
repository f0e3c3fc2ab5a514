//! One request: an instance of its own, a time limit around all of it, and an answer whatever the guest does.
//!
//! The instance lives until the guest has returned and the work that it left behind is done, which may be long after the
//! answer's head is on its way; all that time it counts as one of `max-concurrent`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::http::HeaderValue;
use hyper::{Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi_http::handler::{Prepared, ProxyPre};
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttpView};

use super::cause::{End, say};
use super::files::Files;
use super::grants::FileAccess;
use super::host::{self, Guest};
use super::limits::Budget;
use super::ticker::Ticker;
use cellinit::plan::guest::GuestSpec;

/// What makes instances.
pub struct Guests {
    pub engine: Engine,
    pub spec: GuestSpec,
    pub budget: Arc<Budget>,
    pub pre: ProxyPre<Guest>,
    pub ticker: Ticker,
    pub slots: Arc<Semaphore>,
    pub files: Files,
}

/// Epochs until a running guest loses its turn.
const TURN: u64 = 1;

/// How an instance's life ended.
enum Outcome {
    Returned,
    TimedOut,
    Failed,
}

pub async fn answer(guests: Arc<Guests>, request: Request<Incoming>) -> Response<WasiBody> {
    let Ok(slot) = guests.slots.clone().try_acquire_owned() else {
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n");
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    };
    // RFC 9112, 3.2: that is the client's fault, and no guest could be asked without.
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        return plain(StatusCode::BAD_REQUEST, "the request names no host\n");
    }
    let most = guests.spec.http.max_body;
    if request.body().size_hint().lower() > most {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too large\n");
    }
    let what = format!("{} {}", request.method(), request.uri().path());
    let request = request.map(|body| limited(body, most));
    let broken = Arc::new(AtomicBool::new(false));
    let (answer, answered) = oneshot::channel();
    let run = tokio::spawn(run(guests, slot, what.clone(), request, answer, broken.clone()));
    let refusal = match answered.await {
        Ok(Ok(response)) => return response.map(|body| Whole { body, broken }.boxed_unsync()),
        Ok(Err(error)) => Some(error),
        Err(oneshot::Canceled) => None,
    };
    // No answer: why, the end of the run tells first.
    match (run.await, refusal) {
        (Ok(Outcome::TimedOut), _) => return plain(StatusCode::GATEWAY_TIMEOUT, "the guest did not answer in time\n"),
        // It came back without an answer, or with an error in place of one.
        (Ok(Outcome::Returned), Some(error)) => log(&what, &format!("{error:#}")),
        _ => {}
    }
    plain(StatusCode::INTERNAL_SERVER_ERROR, "the guest failed\n")
}

type Answer = oneshot::Sender<Result<Response<WasiBody>>>;

async fn run(
    guests: Arc<Guests>,
    slot: OwnedSemaphorePermit,
    what: String,
    request: Request<WasiBody>,
    answer: Answer,
    broken: Arc<AtomicBool>,
) -> Outcome {
    let limit = Duration::from_millis(guests.spec.limits.request_timeout_ms);
    let ticking = guests.ticker.running();
    let outcome = match host::store(&guests.engine, &guests.spec, &guests.budget, FileAccess::Aside) {
        Ok(mut store) => {
            let outcome = match tokio::time::timeout(limit, call(&guests.pre, &mut store, request, answer)).await {
                Ok(Ok(())) => Outcome::Returned,
                Ok(Err(error)) => {
                    log(&what, End::of_guest(&error, store.data().limiter.refused()).detail().unwrap_or("the guest exited"));
                    Outcome::Failed
                }
                Err(_) => {
                    log(&what, &format!("stopped after wasm.limits.request-timeout = {} ms", limit.as_millis()));
                    guests.files.suspect();
                    Outcome::TimedOut
                }
            };
            // Before the store goes, and the writing end of the answer's body with it.
            broken.store(!matches!(outcome, Outcome::Returned), Ordering::Relaxed);
            outcome
        }
        Err(error) => {
            log(&what, &format!("{error:#}"));
            Outcome::Failed
        }
    };
    drop((ticking, slot));
    outcome
}

/// The body of an answer. To hyper, a body whose writer is gone has ended well; a client must be able to tell half an answer
/// from a whole one, so the end of a body counts only if its guest did not fail.
struct Whole {
    body: WasiBody,
    broken: Arc<AtomicBool>,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<std::result::Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(None) if self.broken.load(Ordering::Relaxed) => Poll::Ready(Some(Err(HttpError::HttpResponseIncomplete))),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// From an empty store to a guest that has returned and left nothing undone.
async fn call(pre: &ProxyPre<Guest>, store: &mut Store<Guest>, request: Request<WasiBody>, answer: Answer) -> Result<()> {
    store.set_epoch_deadline(TURN);
    store.epoch_deadline_async_yield_and_update(TURN);
    let proxy = pre.instantiate_async(&mut *store).await?;
    store
        .run_concurrent(async |accessor| {
            let prepared = accessor.with(|mut store| {
                use wasmtime::AsContextMut;
                Prepared::new(store.as_context_mut(), &proxy, request, Guest::http, answer)
            })?;
            prepared.run(accessor, std::future::pending()).await?;
            std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            Ok(())
        })
        .await
        .flatten()
}

fn limited(body: Incoming, most: u64) -> WasiBody {
    Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX))
        .map_err(move |error| match error.downcast::<hyper::Error>() {
            Ok(error) => HttpError::Hyper(*error),
            Err(error) if error.is::<LengthLimitError>() => HttpError::HttpRequestBodySize(Some(most)),
            Err(error) => HttpError::InternalError(Some(error.to_string())),
        })
        .boxed_unsync()
}

fn plain(status: StatusCode, text: &'static str) -> Response<WasiBody> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).map_err(HttpError::from).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn log(what: &str, text: &str) {
    say(format_args!("{what}: {text}"));
}
