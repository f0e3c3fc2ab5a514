//! File operations of a server's guests. Each has a thread while it lasts, of which there are few, and one that never comes back
//! outlives its request: the opening of a FIFO that nobody writes to, a read from a server that is gone. When all threads are
//! taken that way no guest reads a file any more, and only another process can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cause::End;
use super::notify::Notify;
use cellinit::plan::guest::GuestSpec;

/// Beyond the time that a request has: nothing that came of the operation then would be of use to anybody.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Files(Arc<Look>);

struct Look {
    limit: Duration,
    granted: bool,
    notify: Notify,
    /// Somebody is looking.
    looking: AtomicBool,
}

impl Files {
    pub fn new(spec: &GuestSpec, notify: &Notify) -> Files {
        let limit = Duration::from_millis(spec.limits.request_timeout_ms).saturating_add(PATIENCE);
        Files(Arc::new(Look { limit, granted: !spec.dirs.is_empty(), notify: notify.clone(), looking: AtomicBool::new(false) }))
    }

    /// A request took too long: is there still a thread that does what it is asked to? If not, the process ends, and the unit's
    /// policy decides what comes next.
    pub fn suspect(&self) {
        let Files(look) = self.clone();
        if !look.granted || look.looking.swap(true, Ordering::Relaxed) {
            return;
        }
        tokio::spawn(async move {
            let nothing = tokio::task::spawn_blocking(|| {});
            if tokio::time::timeout(look.limit, nothing).await.is_err() {
                let text = format!(
                    "no file operation has come back for {:?}: does a guest open a FIFO, or a file on a server that is gone?",
                    look.limit
                );
                End::host_failure(text).tell_and_leave_soon(&look.notify);
            }
            look.looking.store(false, Ordering::Relaxed);
        });
    }
}
