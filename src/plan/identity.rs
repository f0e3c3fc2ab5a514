//! Who the payload is: ids, home, capabilities.

use crate::unit::{CapabilitySet, Identity, Namespace, Unit, nearest};

use super::error::{PlanError, Shortcomings};
use super::{Facts, ID_BASE, ID_RANGE, IdMap, SLOTS, Slot, Step};

/// The id of a payload that names none: the first of systemd's range for dynamic users, so that no real user has it.
pub const DYNAMIC_ID: u32 = 61_184;

/// Ids as the payload sees them, and how they map.
pub(super) struct Who {
    pub uid: u32,
    pub gid: u32,
    pub map: Option<IdMap>,
    /// `USER` and `LOGNAME`, when the unit names somebody.
    pub name: Option<String>,
    pub home: String,
}

impl Who {
    /// The payload that names nobody, in a cell with ids of its own.
    pub fn dynamic(slot: Slot, shortcomings: &Shortcomings<'_>) -> Result<Who, PlanError> {
        let map = Some(range(slot, shortcomings)?);
        Ok(Who { uid: DYNAMIC_ID, gid: DYNAMIC_ID, map, name: None, home: "/".to_string() })
    }

    /// The id that the host knows an id of the cell by.
    pub fn on_host(&self, id: u32) -> u32 {
        self.map.map_or(id, |map| map.base + id)
    }
}

pub(super) fn resolve(unit: &Unit, facts: &Facts, slot: Slot, shortcomings: &Shortcomings<'_>) -> Result<Who, PlanError> {
    let map = match unit.isolation.user {
        Namespace::Host => None,
        Namespace::Private => Some(range(slot, shortcomings)?),
    };
    let (uid, primary, name, home) = match &unit.user.user {
        Identity::Dynamic => match map {
            Some(_) => (DYNAMIC_ID, DYNAMIC_ID, None, None),
            None => (0, 0, None, home_of(facts, 0)),
        },
        Identity::Id(uid) => {
            let known = facts.users.iter().find(|user| user.uid == *uid);
            (*uid, known.map_or(*uid, |user| user.gid), None, known.map(|user| user.home.clone()))
        }
        Identity::Name(name) => {
            names_are_of_the_host(unit, "user.user", name, shortcomings)?;
            let Some(user) = facts.users.iter().find(|user| user.name == *name) else {
                let near = nearest(name, facts.users.iter().map(|user| user.name.as_str()));
                return Err(unknown("user.user", "user", name, near, shortcomings));
            };
            (user.uid, user.gid, Some(name.clone()), Some(user.home.clone()))
        }
    };
    let gid = match &unit.user.group {
        None | Some(Identity::Dynamic) => primary,
        Some(Identity::Id(gid)) => *gid,
        Some(Identity::Name(name)) => {
            names_are_of_the_host(unit, "user.group", name, shortcomings)?;
            let Some(group) = facts.groups.iter().find(|group| group.name == *name) else {
                let near = nearest(name, facts.groups.iter().map(|group| group.name.as_str()));
                return Err(unknown("user.group", "group", name, near, shortcomings));
            };
            group.gid
        }
    };
    if let Some(map) = map {
        for (key, id) in [("user.user", uid), ("user.group", gid)] {
            if id >= map.size {
                return Err(shortcomings.refuse(
                    key,
                    format!("id {id} is outside of the cell's ids, 0 to {}", map.size - 1),
                    Some("take a smaller id, or share the host's ids with isolation.user = \"host\"".to_string()),
                ));
            }
        }
    }
    Ok(Who { uid, gid, map, name, home: home.unwrap_or_else(|| "/".to_string()) })
}

fn range(slot: Slot, shortcomings: &Shortcomings<'_>) -> Result<IdMap, PlanError> {
    if slot.index >= SLOTS {
        return Err(shortcomings.refuse(
            "isolation.user",
            format!("all {SLOTS} id ranges of this host are taken"),
            Some("share the host's ids with isolation.user = \"host\"".to_string()),
        ));
    }
    Ok(IdMap { base: ID_BASE + slot.index * ID_RANGE, size: ID_RANGE })
}

fn home_of(facts: &Facts, uid: u32) -> Option<String> {
    facts.users.iter().find(|user| user.uid == uid).map(|user| user.home.clone())
}

/// A tree of its own has its own `/etc/passwd`, which nobody outside of the cell may trust; only root is root everywhere.
fn names_are_of_the_host(unit: &Unit, key: &str, name: &str, shortcomings: &Shortcomings<'_>) -> Result<(), PlanError> {
    match &unit.rootfs.path {
        Some(path) if name != "root" => Err(shortcomings.refuse(
            key,
            format!("{name} is looked up on the host, which says nothing about the users of {path}"),
            Some("say the number".to_string()),
        )),
        _ => Ok(()),
    }
}

fn unknown(key: &str, kind: &str, name: &str, near: Option<&str>, shortcomings: &Shortcomings<'_>) -> PlanError {
    let help = near.map(|near| format!("did you mean {near}?"));
    shortcomings.refuse(key, format!("this host has no {kind} {name}"), help)
}

/// `LimitCapabilities`: also when nothing is kept, since root without a bounding set would get everything back at exec.
pub(super) fn capabilities(unit: &Unit, facts: &Facts, shortcomings: &mut Shortcomings<'_>) -> Step {
    let last = facts.last_capability;
    // In a user namespace of its own a cell starts with all of them; on the host's, it gets what the supervisor has.
    let available = match unit.isolation.user {
        Namespace::Private => u64::MAX,
        Namespace::Host => facts.capabilities,
    };
    let is_there = |number: u32| number <= last && available & (1 << number) != 0;
    let (there, missing): (Vec<_>, Vec<_>) = unit.caps.iter().partition(|(number, _)| is_there(*number));
    if !missing.is_empty() {
        let names: Vec<&str> = missing.into_iter().map(|(_, name)| name).collect();
        let reason = format!("the supervisor itself has no {}", names.join(", "));
        match unit.caps == CapabilitySet::all() {
            true => shortcomings.note("security.caps", reason),
            false => shortcomings.cannot("security.caps", reason),
        }
    }
    Step::LimitCapabilities { keep: there.into_iter().map(|(number, _)| number).collect(), last }
}
