//! `Action::Changed`: an operator hears of it, in the event stream, in the unit's own log and on the console.

use super::clock;
use super::events::Entry;
use super::log::Logs;
use super::member::Member;
use super::shell::{Shell, index};
use crate::log::Content;
use crate::supervisor::{Change, Health, StateName, Time, UnitId, View};
use crate::unit::Enforce;

pub fn changed(shell: &mut Shell, change: &Change) {
    let view = shell.supervisor.view(change.unit);
    let Some(member) = shell.members.get(index(change.unit)) else { return };
    let pid = member.living().map(|alive| alive.pid);
    let text = sentence(change);
    let short = text.split_once(" -> ").map_or(text.as_str(), |(_, to)| to);
    match is_a_beginning(change) {
        true => tracing::debug!(target: "unit", "{}: {short}", view.name),
        false => tracing::info!(target: "unit", "{}: {short}", view.name),
    }
    let over = matches!(change.to, StateName::Stopped | StateName::Backoff | StateName::Failed | StateName::Completed);
    let content = if over { Content::Ended(text.clone()) } else { Content::Note(text.clone()) };
    if is_for_the_log(change, member) {
        shell.world.logs.note(&member.unit, content);
    }
    let state = (change.to, change.health);
    write(shell, change.at, view, state, pid, text);
}

/// What a service says of itself that changes no state.
pub fn said(shell: &mut Shell, unit: UnitId, text: &str) {
    let view = shell.supervisor.view(unit);
    let Some(member) = shell.members.get(index(unit)) else { return };
    let pid = member.living().map(|alive| alive.pid);
    tracing::info!(target: "unit", "{}: {text}", view.name);
    shell.world.logs.note(&member.unit, Content::Note(text.to_owned()));
    let state = (view.state, view.health);
    write(shell, clock::now(), view, state, pid, text.to_owned());
}

fn write(shell: &mut Shell, at: Time, view: View, (state, health): (StateName, Health), pid: Option<i32>, text: String) {
    shell.events.write(Entry {
        at: clock::wall_at(at),
        unit: view.name,
        state,
        health,
        ready: view.ready,
        pid,
        restarts: view.restarts,
        text,
    });
}

/// Which walls a start does without. Who said `best-effort` shall not have to look at the plan to learn it.
pub fn left_out(member: &Member, logs: &mut Logs) {
    for wall in member.ready.iter().flat_map(|ready| ready.left_out.iter()) {
        match member.unit.isolation.enforce {
            Enforce::BestEffort => tracing::warn!(target: "unit", "{}: starts without {wall}", member.unit.name),
            Enforce::Required => tracing::info!(target: "unit", "{}: starts without {wall}", member.unit.name),
        }
        logs.note(&member.unit, Content::Note(format!("starts without {wall}")));
    }
}

/// Targets write nothing, so they have no log.
fn is_for_the_log(change: &Change, member: &Member) -> bool {
    member.unit.kind != crate::unit::Kind::Target && !is_a_beginning(change)
}

/// What is told again as soon as it has come to something: running, or why not. `cell why` knows it meanwhile.
fn is_a_beginning(change: &Change) -> bool {
    matches!(change.to, StateName::Waiting | StateName::Starting) && change.from != change.to && change.cause.is_none()
}

/// `running -> backoff: exit status 3`. No pid: it would be the supervisor's own number, which is not everybody's.
fn sentence(change: &Change) -> String {
    let moved = if change.from == change.to {
        format!("{}, health {}", change.to.as_str(), change.health.as_str())
    } else {
        format!("{} -> {}", change.from.as_str(), change.to.as_str())
    };
    match &change.cause {
        Some(cause) => format!("{moved}: {cause}"),
        None => moved,
    }
}
