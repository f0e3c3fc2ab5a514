//! Every short order of events over two and three units, legal and not: the shell of these worlds may say that a cell is empty
//! before its program ended, or that a dead program is ready.

use std::rc::Rc;
use std::time::Duration;

use cellinit::supervisor::*;
use cellinit::unit::*;

use super::checker::{Units, Watched};
use super::units::unit;

/// One event, to be told of the run that lives at that time.
#[derive(Debug, Clone, Copy)]
enum Word {
    Start(u32),
    Stop(u32),
    Restart(u32),
    Shutdown,
    Timeout,
    SpawnFailed(u32),
    Executed(u32),
    Ready(u32),
    Exited(u32, i32),
    Emptied(u32),
}

pub fn two_units() -> u64 {
    pairs().into_iter().map(|(name, units)| all_orders(name, units, 6)).sum()
}

pub fn three_units() -> u64 {
    triples().into_iter().map(|(name, units)| all_orders(name, units, 6)).sum()
}

fn service(name: &str) -> Unit {
    let mut unit = unit(name);
    unit.restart.attempts = Some(1);
    unit
}

fn job(name: &str) -> Unit {
    let mut unit = service(name);
    unit.kind = Kind::Job;
    unit.service.ready = Ready::Completed;
    unit
}

fn target(name: &str) -> Unit {
    let mut unit = unit(name);
    unit.kind = Kind::Target;
    unit
}

fn depends(mut unit: Unit, on: &str, condition: Condition) -> Unit {
    let timeout = Some(Duration::from_secs(1));
    unit.depends.push(Depends { unit: on.to_owned(), condition, timeout });
    unit
}

fn requires(mut unit: Unit, on: &str) -> Unit {
    unit.requires.push(on.to_owned());
    unit
}

fn after(mut unit: Unit, on: &str) -> Unit {
    unit.wants.push(on.to_owned());
    unit.after.push(on.to_owned());
    unit
}

fn conflicts(mut unit: Unit, with: &str) -> Unit {
    unit.conflicts.push(with.to_owned());
    unit
}

/// The last unit is the one that an operator starts.
fn pairs() -> Vec<(&'static str, Vec<Unit>)> {
    let mut notify = service("a");
    notify.service.ready = Ready::Notify;
    vec![
        ("b requires a", vec![service("a"), requires(service("b"), "a")]),
        ("b depends on a, ready", vec![notify, depends(service("b"), "a", Condition::Ready)]),
        ("b depends on a, completed", vec![job("a"), depends(service("b"), "a", Condition::Completed)]),
        ("b after a", vec![service("a"), after(service("b"), "a")]),
        ("b conflicts with a", vec![service("a"), conflicts(service("b"), "a")]),
        ("they require each other", vec![requires(service("a"), "b"), requires(service("b"), "a")]),
    ]
}

fn triples() -> Vec<(&'static str, Vec<Unit>)> {
    let chain = depends(service("b"), "a", Condition::Started);
    vec![
        ("c depends on b depends on a", vec![service("a"), chain, depends(service("c"), "b", Condition::Ready)]),
        ("c requires a and b", vec![service("a"), service("b"), requires(requires(target("c"), "a"), "b")]),
        ("c requires b, a conflicts with b", vec![conflicts(service("a"), "b"), service("b"), requires(service("c"), "b")]),
    ]
}

fn all_orders(name: &str, list: Vec<Unit>, length: usize) -> u64 {
    let count = list.len() as u32;
    let mut words = vec![Word::Start(count - 1), Word::Stop(0), Word::Restart(0), Word::Shutdown, Word::Timeout];
    if list.iter().any(|unit| !unit.conflicts.is_empty()) {
        words.push(Word::Start(0));
    }
    for (unit, settings) in (0..).zip(&list) {
        if settings.kind != Kind::Target {
            words.extend([Word::SpawnFailed(unit), Word::Executed(unit), Word::Emptied(unit)]);
            words.extend([Word::Exited(unit, 0), Word::Exited(unit, 1)]);
        }
        if settings.service.ready == Ready::Notify {
            words.push(Word::Ready(unit));
        }
    }
    let acyclic = !list.iter().any(|unit| unit.name == "a" && !unit.requires.is_empty());
    let watched = Watched::new(Rc::new(Units { list, acyclic }), 1);
    let mut path = Vec::new();
    let mut orders = 0;
    if let Err(broken) = walk(&watched, &words, length, &mut path, &mut orders) {
        panic!("{name}: after {path:?}: {broken}");
    }
    orders
}

/// An event that changes nothing is not followed: the order without it is walked anyway.
fn walk(watched: &Watched, words: &[Word], left: usize, path: &mut Vec<Word>, orders: &mut u64) -> Result<(), String> {
    *orders += 1;
    if left == 0 {
        return Ok(());
    }
    for word in words {
        let mut next = watched.clone();
        path.push(*word);
        next.say(*word)?;
        if next.machine != watched.machine {
            walk(&next, words, left - 1, path, orders)?;
        }
        path.pop();
    }
    Ok(())
}

impl Watched {
    fn say(&mut self, word: Word) -> Result<(), String> {
        let now = self.now;
        let run = |unit: u32| (UnitId(unit), self.live_run(UnitId(unit)).unwrap_or(0));
        let event = match word {
            Word::Start(unit) => Event::Start(UnitId(unit)),
            Word::Stop(unit) => Event::Stop(UnitId(unit)),
            Word::Restart(unit) => Event::Restart(UnitId(unit)),
            Word::Shutdown => Event::Shutdown,
            Word::Timeout => {
                let Some(time) = self.machine.poll_timeout() else { return Ok(()) };
                return self.timeout(time).map(drop);
            }
            Word::SpawnFailed(unit) => {
                let (unit, run) = run(unit);
                let failure = StartFailure { step: "execve".to_owned(), message: "ENOENT".to_owned() };
                Event::SpawnFailed { unit, run, failure }
            }
            Word::Executed(unit) => {
                let (unit, run) = run(unit);
                Event::Executed { unit, run }
            }
            Word::Ready(unit) => {
                let (unit, run) = run(unit);
                Event::Ready { unit, run }
            }
            Word::Exited(unit, code) => {
                let (unit, run) = run(unit);
                Event::Exited { unit, run, exit: Exit::status(code) }
            }
            Word::Emptied(unit) => {
                let (unit, run) = run(unit);
                Event::Emptied { unit, run }
            }
        };
        self.event(now, event).map(drop)
    }
}
