//! The clock of epochs for a server: while guests run, each loses its turn once per tick, so that a guest that never calls out
//! holds up the others, and its own timeout, by one tick at most. While none runs, nothing ticks and the server sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::Engine;

const TICK: Duration = Duration::from_millis(5);

#[derive(Clone)]
pub struct Ticker {
    running: Arc<AtomicUsize>,
    thread: Thread,
}

/// Held while a guest runs.
pub struct Running(Arc<AtomicUsize>);

impl Ticker {
    pub fn start(engine: Engine) -> std::io::Result<Self> {
        let running = Arc::new(AtomicUsize::new(0));
        let seen = running.clone();
        let thread = std::thread::Builder::new().name("ticker".into()).spawn(move || {
            loop {
                while seen.load(Ordering::SeqCst) == 0 {
                    std::thread::park();
                }
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        })?;
        Ok(Ticker { running, thread: thread.thread().clone() })
    }

    pub fn running(&self) -> Running {
        if self.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.thread.unpark();
        }
        Running(self.running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
