//! What one guest may hold. Each bound is a number with a name; what the unit file sets is in [`GuestLimits`](cellinit::plan::guest::GuestLimits).
//!
//! Linear memory is a [`Budget`] for the whole process, since `wasm.limits.memory` says "in all": a server's instances share it.
//! Growth beyond it is refused, not trapped, as a guest may well get by with less; the refusal is kept for the cause of death.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::{ResourceLimiter, Result, Store};

/// Elements of all tables of one guest together; 8 bytes each. Python and JavaScript need some 20,000.
pub const MAX_TABLE_ELEMENTS: usize = 1 << 20;
/// Core instances, tables and memories of one guest. Components made by composition have tens.
const MAX_INSTANCES: usize = 1000;
const MAX_TABLES: usize = 1000;
const MAX_MEMORIES: usize = 100;
/// Files, streams, pollables, sets of HTTP headers and the like that a guest holds at once. As many as it may have descriptors.
pub const MAX_RESOURCES: usize = 1024;
/// Handles that components hold on one another's and the host's resources.
const MAX_COMPONENT_HANDLES: usize = 100_000;
/// Bytes that one call out of a component may hand to the host.
const MAX_HOSTCALL_BYTES: usize = 32 << 20;
/// Bytes that one call may ask of the random number generator.
pub const MAX_RANDOM_BYTES: u64 = 16 << 20;
/// Bytes of one set of HTTP headers that a guest builds, as they lie in memory; twice what most clients take.
pub const MAX_FIELD_BYTES: usize = 32 << 10;

/// Linear memory that all instances of this process share.
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Budget { limit: usize::try_from(limit).unwrap_or(usize::MAX), used: AtomicUsize::new(0) })
    }

    fn take(&self, bytes: usize) -> bool {
        let take = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Memory that a guest asked for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    wanted: usize,
    /// Of which it did not have this yet.
    more: usize,
    limit: usize,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a memory of {} bytes was refused by wasm.limits.memory = {} bytes", self.wanted, self.limit)
    }
}

/// Sits in a guest's store and answers each wish to grow.
pub struct Limiter {
    budget: Arc<Budget>,
    /// What this guest took of the budget; given back when its store goes.
    held: usize,
    /// What the growth in progress took, should the system then refuse it.
    last: usize,
    table_elements: usize,
    refused: Option<Refusal>,
}

impl Limiter {
    pub fn new(budget: &Arc<Budget>) -> Self {
        Limiter { budget: budget.clone(), held: 0, last: 0, table_elements: 0, refused: None }
    }

    pub fn refused(&self) -> Option<Refusal> {
        self.refused
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let more = desired.saturating_sub(current);
        // Beyond what the module itself declares: its own affair, and no refusal of ours.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let granted = self.budget.take(more);
        if granted {
            self.held += more;
            self.last = more;
            // As much as it was refused before: what it dies of now is something else.
            self.refused = self.refused.filter(|refused| more < refused.more);
        } else {
            self.refused = Some(Refusal { wanted: desired, more, limit: self.budget.limit });
        }
        Ok(granted)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        let last = std::mem::take(&mut self.last);
        self.held -= last;
        self.budget.give_back(last);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let sum = self.table_elements.saturating_add(desired.saturating_sub(current));
        let granted = sum <= MAX_TABLE_ELEMENTS;
        if granted {
            self.table_elements = sum;
        }
        Ok(granted)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

/// Puts a fresh store behind its bounds. `limiter` finds the guest's [`Limiter`] in the store.
pub fn bound<T: 'static>(store: &mut Store<T>, fuel: Option<u64>, limiter: fn(&mut T) -> &mut Limiter) -> Result<()> {
    store.limiter(move |guest| limiter(guest));
    store.set_hostcall_fuel(MAX_HOSTCALL_BYTES);
    store.set_max_component_handles(MAX_COMPONENT_HANDLES);
    if let Some(fuel) = fuel {
        store.set_fuel(fuel)?;
    }
    Ok(())
}
