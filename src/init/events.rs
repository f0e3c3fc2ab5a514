//! What happened to units, numbered: the last of it for who asks later, and all of it as it happens for who listens.

use std::collections::VecDeque;

use tokio::sync::broadcast;

use crate::control::{EVENTS_KEPT, Event};

#[derive(Debug)]
pub struct EventBook {
    next: u64,
    kept: VecDeque<Event>,
    live: broadcast::Sender<Event>,
}

impl EventBook {
    pub fn new() -> Self {
        EventBook { next: 1, kept: VecDeque::with_capacity(EVENTS_KEPT), live: broadcast::Sender::new(EVENTS_KEPT) }
    }

    /// Gives the event its number, keeps it, tells it.
    pub fn write(&mut self, mut event: Event) {
        event.sequence = self.next;
        self.next += 1;
        if self.kept.len() == EVENTS_KEPT {
            self.kept.pop_front();
        }
        if self.live.receiver_count() > 0 {
            self.live.send(event.clone()).ok();
        }
        self.kept.push_back(event);
    }

    /// The last `count` of one unit or of all, the oldest first.
    pub fn last(&self, count: usize, unit: Option<&str>) -> Vec<Event> {
        let wanted = self.kept.iter().rev().filter(|event| unit.is_none_or(|unit| unit == event.unit));
        let mut events: Vec<Event> = wanted.take(count).cloned().collect();
        events.reverse();
        events
    }

    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.live.subscribe()
    }
}
