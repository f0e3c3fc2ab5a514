//! `Action::Changed`: an operator hears of it, in the event stream, in the unit's own log and on the console.

use super::clock;
use super::member::Member;
use super::shell::{Shell, index};
use crate::control;
use crate::log::Content;
use crate::supervisor::{Change, StateName};

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
    shell.events.write(control::Event {
        sequence: 0,
        time: clock::wall_at(change.at).to_string(),
        unit: view.name,
        state: change.to.as_str().to_owned(),
        health: change.health.as_str().to_owned(),
        ready: view.ready,
        pid,
        restarts: view.restarts,
        text,
    });
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
