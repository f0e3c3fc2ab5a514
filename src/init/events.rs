//! What happened to units, numbered: the last of it for who asks later, and all of it as it happens for who listens.

use std::collections::VecDeque;

use tokio::sync::broadcast;

use crate::control::{EVENTS_KEPT, Event};
use crate::supervisor::{Health, StateName};
use crate::time::Utc;

#[derive(Debug)]
pub struct EventBook {
    next: u64,
    kept: VecDeque<Entry>,
    live: broadcast::Sender<Event>,
}

/// An event of which nobody has asked for the words yet. Most are never asked for.
#[derive(Debug)]
pub struct Entry {
    pub at: Utc,
    pub unit: String,
    pub state: StateName,
    pub health: Health,
    pub ready: bool,
    pub pid: Option<i32>,
    pub restarts: u64,
    pub text: String,
}

impl EventBook {
    pub fn new() -> Self {
        EventBook { next: 1, kept: VecDeque::with_capacity(EVENTS_KEPT), live: broadcast::Sender::new(EVENTS_KEPT) }
    }

    /// Gives the event its number, keeps it, tells it.
    pub fn write(&mut self, entry: Entry) {
        if self.kept.len() == EVENTS_KEPT {
            self.kept.pop_front();
        }
        if self.live.receiver_count() > 0 {
            self.live.send(entry.tell(self.next)).ok();
        }
        self.next += 1;
        self.kept.push_back(entry);
    }

    /// The last `count` of one unit or of all, the oldest first.
    pub fn last(&self, count: usize, unit: Option<&str>) -> Vec<Event> {
        let numbered = self.kept.iter().rev().zip((0..self.next).rev());
        let wanted = numbered.filter(|(entry, _)| unit.is_none_or(|unit| unit == entry.unit));
        let mut events: Vec<Event> = wanted.take(count).map(|(entry, sequence)| entry.tell(sequence)).collect();
        events.reverse();
        events
    }

    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.live.subscribe()
    }
}

impl Entry {
    fn tell(&self, sequence: u64) -> Event {
        Event {
            sequence,
            time: self.at.to_string(),
            unit: self.unit.clone(),
            state: self.state.as_str().to_owned(),
            health: self.health.as_str().to_owned(),
            ready: self.ready,
            pid: self.pid,
            restarts: self.restarts,
            text: self.text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(unit: &str, n: u64) -> Entry {
        let (state, health) = (StateName::Running, Health::None);
        Entry { at: Utc(n), unit: unit.into(), state, health, ready: true, pid: None, restarts: 0, text: n.to_string() }
    }

    #[test]
    fn the_last_ones_are_kept_under_their_numbers() {
        let mut book = EventBook::new();
        let mut live = book.listen();
        let all = EVENTS_KEPT as u64 + 10;
        (1..=all).for_each(|n| book.write(entry(if n % 2 == 0 { "even" } else { "odd" }, n)));
        let last = |count, unit| book.last(count, unit).into_iter().map(|event| (event.sequence, event.text)).collect::<Vec<_>>();
        assert_eq!(last(2, None), [(all - 1, (all - 1).to_string()), (all, all.to_string())]);
        assert_eq!(last(1, Some("odd")), [(all - 1, (all - 1).to_string())]);
        assert_eq!(last(usize::MAX, None).len(), EVENTS_KEPT);
        assert_eq!(last(usize::MAX, None)[0].0, 11);
        drop(book);
        // The first ones were lost to this listener, who reads nothing until now.
        assert!(matches!(live.try_recv(), Err(broadcast::error::TryRecvError::Lagged(10))));
        assert_eq!(live.try_recv().map(|event| event.sequence), Ok(11));
    }
}
