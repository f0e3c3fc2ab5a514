//! The connections of a server, and who gives way when there is room for no more: the one that has kept us waiting longest, be
//! it idle between two requests or in the middle of a head. A client whose request is being answered never does.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

pub struct Crowd {
    most: u32,
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    /// Somebody has begun to wait.
    one_more: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Counts up, so the first of them has waited longest.
    next: u64,
    connections: BTreeMap<u64, Arc<Notify>>,
}

/// One that has a place, for as long as it lives.
pub struct Connection {
    crowd: Arc<Crowd>,
    /// Its number among those that wait.
    number: Mutex<Option<u64>>,
    gives_way: Arc<Notify>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Crowd {
    pub fn new(most: u32) -> Arc<Crowd> {
        let places = Arc::new(Semaphore::new(most as usize));
        Arc::new(Crowd { most, places, waiting: Mutex::default(), one_more: Notify::new() })
    }

    /// A place, for which another connection may have to go. When all of them are being answered, the first to be done leaves its own.
    pub async fn admit(self: &Arc<Self>) -> Arc<Connection> {
        let connection =
            Connection { crowd: self.clone(), number: Mutex::default(), gives_way: Arc::default(), _place: self.place().await };
        connection.wait();
        Arc::new(connection)
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        // An error only if somebody closed the semaphore, which nobody does.
        let place = async { self.places.clone().acquire_owned().await.ok() };
        let room = async {
            loop {
                let one_more = self.one_more.notified();
                if self.make_room() {
                    return;
                }
                one_more.await;
            }
        };
        let mut place = pin!(place);
        tokio::select! {
            biased;
            place = &mut place => return place,
            () = room => {}
        }
        place.await
    }

    /// Whoever has waited longest goes, if anybody waits.
    pub fn make_room(&self) -> bool {
        let first = held(&self.waiting).connections.pop_first();
        first.inspect(|(_, gives_way)| gives_way.notify_one()).is_some()
    }

    /// Resolves when the last connection has ended.
    pub async fn dispersed(&self) {
        let _ = self.places.acquire_many(self.most).await;
    }
}

impl Connection {
    /// Until it has to go.
    pub async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    /// From the end of a head to the end of the answer.
    pub fn answer(self: &Arc<Self>) -> Answering {
        self.leave();
        Answering(self.clone())
    }

    fn wait(&self) {
        let mut waiting = held(&self.crowd.waiting);
        let number = waiting.next;
        waiting.next += 1;
        waiting.connections.insert(number, self.gives_way.clone());
        *held(&self.number) = Some(number);
        self.crowd.one_more.notify_waiters();
    }

    fn leave(&self) {
        if let Some(number) = held(&self.number).take() {
            held(&self.crowd.waiting).connections.remove(&number);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Nothing here panics while it holds a lock.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this is held its connection stays.
pub struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// A body until whose end its connection stays.
pub struct Staying<B> {
    body: B,
    _answering: Answering,
}

impl<B> Staying<B> {
    pub fn new(body: B, answering: Answering) -> Self {
        Staying { body, _answering: answering }
    }
}

impl<B: Body + Unpin> Body for Staying<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
